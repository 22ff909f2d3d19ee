/* The emitter's tools: names, nodes, attributes, constants. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/emit.h"

#include <stdarg.h>
#include <string.h>

/* ---------------------------------------------------------------- names */
static uint32_t hash_bytes(const void *bytes, size_t count) {
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < count; i++)
        hash = (hash ^ ((const unsigned char *)bytes)[i]) * 16777619u;
    return hash;
}

static bool grow_names(cr_onnx_emitter *e) {
    struct cr_onnx_names *n = e->names;
    if (2 * n->count < n->capacity) return true;
    const struct cr_onnx_names old = *n;
    n->capacity = old.capacity ? 2 * old.capacity : 256;
    if (!(n->at = cr_pool_allocate(e->pool, (size_t)n->capacity * sizeof *n->at))) {
        *n = old;
        return false;
    }
    for (int i = 0; i < old.capacity; i++) {
        if (!old.at[i]) continue;
        uint32_t at = hash_bytes(old.at[i], strlen(old.at[i])) & (uint32_t)(n->capacity - 1);
        while (n->at[at])
            at = (at + 1) & (uint32_t)(n->capacity - 1);
        n->at[at] = old.at[i];
    }
    return true;
}

static bool claim(cr_onnx_emitter *e, const char *name) {
    struct cr_onnx_names *n = e->names;
    uint32_t at = hash_bytes(name, strlen(name)) & (uint32_t)(n->capacity - 1);
    for (; n->at[at]; at = (at + 1) & (uint32_t)(n->capacity - 1))
        if (!strcmp(n->at[at], name)) return false;
    n->at[at] = name;
    n->count++;
    return true;
}

const char *cr_onnx_text_of(cr_onnx_emitter *e, const char *format, ...) {
    char text[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format,
              arguments); /* NOLINT(clang-analyzer-valist.Uninitialized): it is started above */
    va_end(arguments);
    const size_t bytes = strlen(text) + 1;
    char *copy = cr_pool_allocate(e->pool, bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

const char *cr_onnx_unique(cr_onnx_emitter *e, const char *base) {
    if (!grow_names(e)) return NULL;
    const char *name = cr_onnx_text_of(e, "%s", base);
    for (int i = 1; name && !claim(e, name); i++)
        name = cr_onnx_text_of(e, "%s_%d", base, e->names->number++);
    return name;
}

/* ---------------------------------------------------------------- lists in the pool */
bool cr_onnx_push(cr_onnx_emitter *e, void ***list, size_t *count, void *item) {
    void **grown = item ? cr_pool_grow(e->pool, *list, (int)*count, sizeof *grown) : NULL;
    if (!grown) return false;
    *list = grown;
    grown[(*count)++] = item;
    return true;
}
#define PUSH(e, list, count, item) cr_onnx_push(e, (void ***)(list), count, (void *)(uintptr_t)(item))

void *cr_onnx_new_message(cr_onnx_emitter *e, const ProtobufCMessageDescriptor *type) {
    void *message = cr_pool_allocate(e->pool, type->sizeof_message);
    if (message) type->message_init(message);
    return message;
}

/* ---------------------------------------------------------------- nodes */
/* "main.0/convolution": the module and op that the node is of; else its operator. */
static const char *node_name(cr_onnx_emitter *e, const char *operator) {
    const cr_graph_node *node = e->node;
    cr_text module = {0};
    if (!node) return cr_onnx_unique(e, operator);
    if (node->source) cr_graph_add_module(&module, node->source);
    const char *name =
        cr_onnx_text_of(e, "%s%s%s", module.at ? module.at : "", module.at && *module.at ? "/" : "", node->op->name);
    cr_free(module.at);
    return name ? cr_onnx_unique(e, name) : NULL;
}

/* The first result is called as the node is. */
const char *cr_onnx_add_result(cr_onnx_emitter *e) {
    CrOnnx__NodeProto *last = e->last;
    const char *name = !last ? NULL : !last->n_output ? last->name : cr_onnx_unique(e, last->name);
    return name && PUSH(e, &last->output, &last->n_output, name) ? name : NULL;
}

bool cr_onnx_add_node(cr_onnx_emitter *e, const char *operator, const char * const * operands, int operand_count,
                      const char **results, int result_count) {
    CrOnnx__NodeProto *node = cr_onnx_new_message(e, &cr_onnx__node_proto__descriptor);
    e->last = NULL;
    for (int i = 0; i < operand_count; i++)
        if (!operands[i] || !node || !PUSH(e, &node->input, &node->n_input, operands[i])) return false;
    while (node && node->n_input && !*node->input[node->n_input - 1]) /* absent ones at the end are not named */
        node->n_input--;
    if (!node || !PUSH(e, &e->target->node, &e->target->n_node, node)) return false;
    node->op_type = (char *)(uintptr_t) operator;
    if (!(node->name = (char *)(uintptr_t)node_name(e, operator))) return false;
    e->last = node;
    for (int i = 0; i < result_count; i++)
        if (!(results[i] = cr_onnx_add_result(e))) return false;
    return true;
}

const char *cr_onnx_add_list(cr_onnx_emitter *e, const char *const *list) {
    const char *result = NULL;
    int count = 0;
    while (list[count + 1] != CR_ONNX_END)
        count++;
    return cr_onnx_add_node(e, list[0], list + 1, count, &result, 1) ? result : NULL;
}

/* ---------------------------------------------------------------- attributes: failures show when the node is done */
static CrOnnx__AttributeProto *add_attribute(cr_onnx_emitter *e, const char *name,
                                             CrOnnx__AttributeProto__AttributeType type) {
    CrOnnx__AttributeProto *attribute = cr_onnx_new_message(e, &cr_onnx__attribute_proto__descriptor);
    if (!attribute || !e->last || !PUSH(e, &e->last->attribute, &e->last->n_attribute, attribute)) {
        e->failed = true;
        return NULL;
    }
    attribute->name = (char *)(uintptr_t)name;
    attribute->has_type = true;
    attribute->type = type;
    return attribute;
}

void cr_onnx_set_int(cr_onnx_emitter *e, const char *name, int64_t value) {
    CrOnnx__AttributeProto *a = add_attribute(e, name, CR_ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INT);
    if (a) a->has_i = true, a->i = value;
}

void cr_onnx_set_float(cr_onnx_emitter *e, const char *name, double value) {
    CrOnnx__AttributeProto *a = add_attribute(e, name, CR_ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__FLOAT);
    if (a) a->has_f = true, a->f = (float)value;
}

void cr_onnx_set_text(cr_onnx_emitter *e, const char *name, const char *value) {
    CrOnnx__AttributeProto *a = add_attribute(e, name, CR_ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__STRING);
    const char *copy = cr_onnx_text_of(e, "%s", value);
    if (a && copy) a->has_s = true, a->s = (ProtobufCBinaryData){strlen(copy), (uint8_t *)(uintptr_t)copy};
    e->failed |= !copy;
}

void cr_onnx_set_ints(cr_onnx_emitter *e, const char *name, const int64_t *values, int count) {
    CrOnnx__AttributeProto *a = add_attribute(e, name, CR_ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__INTS);
    int64_t *copy = cr_pool_allocate(e->pool, (size_t)(count + 1) * sizeof *copy);
    e->failed |= !copy;
    if (!a || !copy) return;
    memcpy(copy, values, (size_t)count * sizeof *copy);
    a->ints = copy;
    a->n_ints = (size_t)count;
}

void cr_onnx_set_graph(cr_onnx_emitter *e, const char *name, CrOnnx__GraphProto *graph) {
    CrOnnx__AttributeProto *a = add_attribute(e, name, CR_ONNX__ATTRIBUTE_PROTO__ATTRIBUTE_TYPE__GRAPH);
    if (a) a->g = graph;
}

/* ---------------------------------------------------------------- operands and results */
const char *cr_onnx_value(cr_onnx_emitter *e, const cr_graph_node *node, int i) {
    (void)e;
    return i < node->input_count && node->inputs[i] ? node->inputs[i]->note : NULL;
}

const char *cr_onnx_optional(cr_onnx_emitter *e, const cr_graph_node *node, int i) {
    return i < node->input_count && node->inputs[i] ? cr_onnx_value(e, node, i) : "";
}

bool cr_onnx_name(cr_onnx_emitter *e, const cr_graph_node *node, int i, const char *name) {
    (void)e;
    if (!name) return false;
    if (i < node->output_count && node->outputs[i]) node->outputs[i]->note = (void *)(uintptr_t)name;
    return true;
}

bool cr_onnx_cannot(cr_onnx_emitter *e, const cr_graph_node *node, const char *format, ...) {
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format,
              arguments); /* NOLINT(clang-analyzer-valist.Uninitialized): it is started above */
    va_end(arguments);
    return cr_fail(CR_ERROR_UNSUPPORTED, "onnx_export: %s (%s) at opset %d: %s", node->op->name,
                   node->source ? node->source : "no source", e->opset, text);
}

/* ---------------------------------------------------------------- constants */
static bool same_constant(const CrOnnx__TensorProto *t, int type, const cr_shape *shape, const void *data,
                          size_t bytes) {
    return t->data_type == type && t->n_dims == (size_t)shape->count && t->raw_data.len == bytes &&
           !memcmp(t->dims, shape->at, t->n_dims * sizeof *t->dims) && !memcmp(t->raw_data.data, data, bytes);
}

CrOnnx__TensorProto *cr_onnx_tensor_message(cr_onnx_emitter *e, const char *name, cr_dtype dtype, const cr_shape *shape,
                                            const void *data, size_t bytes) {
    CrOnnx__TensorProto *t = cr_onnx_new_message(e, &cr_onnx__tensor_proto__descriptor);
    int64_t *dims = cr_pool_allocate(e->pool, sizeof shape->at);
    if (!t || !dims) return NULL;
    memcpy(dims, shape->at, sizeof shape->at);
    t->name = (char *)(uintptr_t)name;
    t->dims = dims;
    t->n_dims = (size_t)shape->count;
    t->has_data_type = t->has_raw_data = true;
    t->data_type = cr_onnx_dtype_number(dtype);
    t->raw_data = (ProtobufCBinaryData){bytes, (uint8_t *)(uintptr_t)data};
    return t;
}

/* Small ones are looked for among those that are there; a table by hash would be faster, and is not worth it. */
const char *cr_onnx_constant(cr_onnx_emitter *e, cr_dtype dtype, const cr_shape *shape, const void *data,
                             size_t bytes) {
    struct cr_onnx_names *n = e->names;
    const uint32_t place = hash_bytes(data, bytes) % CR_ONNX_CONSTANTS;
    CrOnnx__TensorProto *known = n->constants[place];
    if (known && same_constant(known, cr_onnx_dtype_number(dtype), shape, data, bytes)) return known->name;
    void *copy = cr_pool_allocate(e->pool, bytes + 1);
    const char *name = cr_onnx_unique(e, "constant");
    if (!copy || !name) return NULL;
    if (bytes) memcpy(copy, data, bytes);
    CrOnnx__TensorProto *t = cr_onnx_tensor_message(e, name, dtype, shape, copy, bytes);
    if (!t || !PUSH(e, &e->main->initializer, &e->main->n_initializer, t)) return NULL;
    n->constants[place] = t;
    return name;
}

const char *cr_onnx_scalar(cr_onnx_emitter *e, cr_dtype dtype, double value) {
    const char *name = NULL;
    const cr_shape shape = CR_SHAPE_0D;
    CR_SCOPE {
        cr_tensor *t = cr_scalar(value, dtype);
        if (t) name = cr_onnx_constant(e, dtype, &shape, cr_data(t), cr_dtype_size(dtype));
    }
    return name;
}

const char *cr_onnx_i64s(cr_onnx_emitter *e, const int64_t *values, int count) {
    const cr_shape shape = CR_SHAPE(count);
    return cr_onnx_constant(e, CR_I64, &shape, values, (size_t)count * sizeof *values);
}

const char *cr_onnx_i64(cr_onnx_emitter *e, int64_t value) { return cr_onnx_i64s(e, &value, 1); }

const char *cr_onnx_cast(cr_onnx_emitter *e, const char *x, cr_dtype from, cr_dtype to) {
    if (from == to || !x) return x;
    const char *y = cr_onnx_add(e, "Cast", x);
    cr_onnx_set_int(e, "to", cr_onnx_dtype_number(to));
    return y;
}
#endif
