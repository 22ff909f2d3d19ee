/* cr_onnx_register: the list of such operators, writing them, and reading them. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/custom.h"

#include "core/text.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Entries are added at its head and stay: readers need no lock. They live outside of the counted memory, as the table does. */
static _Atomic(const cr_onnx_custom *) registered;

const cr_onnx_custom *cr_onnx_custom_of(const cr_op *op) {
    const cr_onnx_custom *c = atomic_load(&registered);
    while (c && c->op != op)
        c = c->next;
    return c;
}

const cr_onnx_custom *cr_onnx_custom_named(const char *domain, const char *name) {
    const cr_onnx_custom *c = atomic_load(&registered);
    while (c && (strcmp(c->domain, domain) != 0 || strcmp(c->name, name) != 0))
        c = c->next;
    return c;
}

bool cr_onnx_register(const char *op, const char *domain, const char *name) {
    const cr_op *row = op ? cr_op_find(op) : NULL;
    if (!row || !domain || !name || !*name)
        return cr_fail(CR_ERROR_ARGUMENT, "onnx_register: there is no op \"%s\", or domain or name are missing",
                       op ? op : "NULL");
    if (!*domain || !strcmp(domain, "ai.onnx"))
        return cr_fail(CR_ERROR_ARGUMENT,
                       "onnx_register: \"%s\" in the main domain; take one of your own, as \"com.example\"", name);
    const char *own_domain = cr_intern(domain), *own_name = cr_intern(name);
    cr_onnx_custom *entry = malloc(sizeof *entry);
    if (!own_domain || !own_name || !entry) {
        free(entry);
        return cr_ok() && cr_fail(CR_ERROR_MEMORY, "onnx_register: no memory");
    }
    *entry = (cr_onnx_custom){atomic_load(&registered), row, own_domain, own_name};
    while (!atomic_compare_exchange_weak(&registered, &entry->next, (const cr_onnx_custom *)entry)) {
    }
    return true;
}

/* ---------------------------------------------------------------- writing */
static void set_attribute(cr_onnx_emitter *e, const cr_attribute *attribute, const void *field) {
    switch (attribute->kind) {
    case CR_ATTRIBUTE_INT: cr_onnx_set_int(e, attribute->name, *(const int64_t *)field); break;
    case CR_ATTRIBUTE_BOOL: cr_onnx_set_int(e, attribute->name, *(const bool *)field); break;
    case CR_ATTRIBUTE_FLOAT: cr_onnx_set_float(e, attribute->name, *(const double *)field); break;
    case CR_ATTRIBUTE_DTYPE: cr_onnx_set_int(e, attribute->name, cr_onnx_dtype_number(*(const cr_dtype *)field)); break;
    case CR_ATTRIBUTE_TEXT: cr_onnx_set_text(e, attribute->name, *(const char *const *)field); break;
    case CR_ATTRIBUTE_DIMS: {
        const cr_dims *dims = field;
        cr_onnx_set_ints(e, attribute->name, dims->at, dims->count);
        break;
    }
    case CR_ATTRIBUTE_DEVICE:
    case CR_ATTRIBUTE_GENERATOR: break; /* where it runs, and what it draws from, are the runtime's */
    }
}

bool cr_onnx_write_custom(cr_onnx_emitter *e, const cr_graph_node *node, const cr_onnx_custom *custom) {
    const char *operands[CR_MAX_INPUTS], *results[CR_MAX_OUTPUTS];
    for (int i = 0; i < node->input_count; i++)
        operands[i] = cr_onnx_optional(e, node, i);
    if (!cr_onnx_add_node(e, custom->name, operands, node->input_count, results, node->output_count)) return false;
    e->last->domain = (char *)(uintptr_t)custom->domain;
    for (int i = 0; i < node->op->attribute_count; i++)
        set_attribute(e, &node->op->attributes[i], (const char *)node->attributes + node->op->attributes[i].offset);
    for (int i = 0; i < node->output_count; i++)
        if (!cr_onnx_name(e, node, i, results[i])) return false;
    return true;
}

/* ---------------------------------------------------------------- reading */
/* name=value, as cr_op_call reads it; nothing where the node does not say. */
static void add_attribute(const cr_onnx_call *call, const cr_attribute *attribute, cr_text *text) {
    const CrOnnx__AttributeProto *given = cr_onnx_attribute(call, attribute->name);
    cr_dtype dtype;
    if (!given) return;
    switch (attribute->kind) {
    case CR_ATTRIBUTE_INT: cr_text_add(text, "%s=%lld ", attribute->name, (long long)given->i); break;
    case CR_ATTRIBUTE_BOOL: cr_text_add(text, "%s=%s ", attribute->name, given->i ? "true" : "false"); break;
    case CR_ATTRIBUTE_FLOAT: cr_text_add(text, "%s=%.9g ", attribute->name, (double)given->f); break;
    case CR_ATTRIBUTE_DTYPE:
        if (cr_onnx_dtype((int)given->i, &dtype)) cr_text_add(text, "%s=%s ", attribute->name, cr_dtype_name(dtype));
        break;
    case CR_ATTRIBUTE_TEXT:
        cr_text_add(text, "%s=\"%s\" ", attribute->name, cr_onnx_text(call, attribute->name, ""));
        break;
    case CR_ATTRIBUTE_DIMS:
        cr_text_add(text, "%s=[", attribute->name);
        for (size_t i = 0; i < given->n_ints; i++)
            cr_text_add(text, "%s%lld", i ? "," : "", (long long)given->ints[i]);
        cr_text_add(text, "] ");
        break;
    case CR_ATTRIBUTE_DEVICE:
    case CR_ATTRIBUTE_GENERATOR: break;
    }
}

bool cr_onnx_run_custom(cr_onnx_call *call, const cr_onnx_custom *custom) {
    cr_tensor *inputs[CR_ONNX_MOST_OPERANDS], *outputs[CR_MAX_OUTPUTS] = {NULL};
    cr_text text = {0};
    cr_text_add(&text, "%s", "");
    for (int i = 0; i < custom->op->attribute_count; i++)
        add_attribute(call, &custom->op->attributes[i], &text);
    char *attributes = cr_text_end(&text);
    for (int i = 0; i < call->input_count; i++)
        inputs[i] = cr_onnx_input(call, i);
    const int count = call->output_count < custom->op->output_total ? call->output_count : custom->op->output_total;
    bool done = attributes && cr_op_call(custom->op->name, inputs, call->input_count, attributes, outputs, count);
    for (int i = 0; done && i < count; i++)
        done = cr_onnx_give_at(call, i, outputs[i]);
    cr_free(attributes);
    return done;
}
#endif
