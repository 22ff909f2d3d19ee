/* Weights of a program: arrays in the file, or bytes in a file beside it. */
#include "jit/ahead/program.h"

#include "core/file.h"

static bool is_used(const cr_plan *plan, int state) { return plan->states[state] >= 0; }

size_t cr_ahead_padded(size_t bytes) {
    return (bytes + CR_AHEAD_ALIGNMENT - 1) / CR_AHEAD_ALIGNMENT * CR_AHEAD_ALIGNMENT;
}

/* A state's elements as they lie: from the tensor's first one, as far as its strides reach. */
static size_t state_bytes(const cr_plan *plan, int state) {
    return plan->storages[plan->tensors[plan->states[state]].storage].bytes;
}

size_t cr_ahead_value_bytes(const cr_value *value) {
    size_t numel = 1;
    for (int d = 0; d < value->shape.count; d++)
        numel *= (size_t)value->shape.at[d];
    return cr_ahead_padded(numel * cr_dtype_size(value->dtype));
}

size_t cr_ahead_gradient_bytes(const cr_ahead *a) {
    size_t bytes = 0;
    for (int i = 0; i < a->plan->graph->gradient_count; i++)
        bytes += cr_ahead_value_bytes(a->plan->graph->gradients[i].value);
    return bytes;
}

void cr_ahead_place_states(cr_ahead *a, size_t *offsets) {
    const cr_graph *graph = a->plan->graph;
    a->state_offsets = offsets;
    for (int i = 0; i < graph->state_count; i++) {
        if (!is_used(a->plan, i)) continue;
        size_t *bytes = graph->states[i].update ? &a->changing_bytes : &a->weight_bytes;
        offsets[i] = *bytes;
        *bytes += cr_ahead_padded(state_bytes(a->plan, i));
    }
}

/* ---------------------------------------------------------------- arrays */
static void add_element(cr_text *file, const void *data, cr_dtype dtype, int64_t i) {
    switch (dtype) {
    case CR_F32: cr_ahead_number(file, (double)((const float *)data)[i]); break;
    case CR_F64: cr_ahead_number(file, ((const double *)data)[i]); break;
    case CR_I64:
        if (((const int64_t *)data)[i] == INT64_MIN)
            cr_text_add(file, "INT64_MIN");
        else
            cr_text_add(file, "INT64_C(%lld)", (long long)((const int64_t *)data)[i]);
        break;
    case CR_I32: cr_text_add(file, "INT32_C(%d)", ((const int32_t *)data)[i]); break;
    case CR_I16: cr_text_add(file, "%d", ((const int16_t *)data)[i]); break;
    case CR_I8: cr_text_add(file, "%d", ((const int8_t *)data)[i]); break;
    case CR_F16:
    case CR_BF16: cr_text_add(file, "%u", ((const uint16_t *)data)[i]); break;
    default: cr_text_add(file, "%u", ((const uint8_t *)data)[i]); break;
    }
    cr_text_add(file, i % 8 == 7 ? ",\n    " : ", ");
}

static void add_array(cr_text *file, const cr_plan *plan, int index, const char *prefix) {
    const cr_state *state = &plan->graph->states[index];
    const cr_dtype dtype = (cr_dtype)state->tensor->dtype;
    const int64_t count = (int64_t)(state_bytes(plan, index) / cr_dtype_size(dtype));
    cr_text_add(file, "/* ");
    cr_ahead_add_comment_text(file, state->name);
    cr_text_add(file, " */\nstatic const %s %sweights_%d[%lld] = {\n    ", cr_ahead_type(dtype), prefix, index,
                (long long)(count ? count : 1));
    for (int64_t i = 0; i < count; i++)
        add_element(file, cr_tensor_address(state->tensor), dtype, i);
    cr_text_add(file, "%s};\n", count ? "" : "0");
}

/* Whether the steps name the array. */
static bool is_named(const char *prefix, const char *steps, int state) {
    char name[64];
    const int length = snprintf(name, sizeof name, "%sweights_%d", prefix, state);
    for (const char *at = steps ? strstr(steps, name) : NULL; at; at = strstr(at + 1, name))
        if (at[length] < '0' || at[length] > '9') return true;
    return false;
}

void cr_ahead_add_weights(cr_text *file, const cr_ahead *a, const char *steps) {
    const cr_graph *graph = a->plan->graph;
    for (int i = 0; i < graph->state_count; i++)
        if (is_used(a->plan, i) && (graph->states[i].update || is_named(a->prefix, steps, i)))
            add_array(file, a->plan, i, a->prefix);
}

/* ---------------------------------------------------------------- the file beside
 * "cresset weights\n", the number of bytes that follow and their sum (FNV-1a), both in 8 bytes from the lowest; then
 * the weights, and what the states that a run changes begin with. */
static void add_to_sum(uint64_t *sum, const unsigned char *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        *sum = (*sum ^ data[i]) * UINT64_C(1099511628211);
}

/* Adds a state's bytes and their padding to `to` or, without one, to the sum. */
static void write_padded(cr_file_writer *to, const cr_tensor *t, size_t bytes, uint64_t *sum) {
    static const unsigned char zeros[CR_AHEAD_ALIGNMENT];
    const size_t rest = cr_ahead_padded(bytes) - bytes;
    const unsigned char *data = bytes ? cr_tensor_address(t) : zeros;
    if (to) {
        cr_file_writer_write(to, data, bytes);
        cr_file_writer_write(to, zeros, rest);
    } else {
        add_to_sum(sum, data, bytes);
        add_to_sum(sum, zeros, rest);
    }
}

static void write_states(cr_file_writer *to, const cr_ahead *a, uint64_t *sum) {
    const cr_graph *graph = a->plan->graph;
    for (int changing = 0; changing < 2; changing++)
        for (int i = 0; i < graph->state_count; i++)
            if (is_used(a->plan, i) && (graph->states[i].update != NULL) == changing)
                write_padded(to, graph->states[i].tensor, state_bytes(a->plan, i), sum);
}

uint64_t cr_ahead_weights_sum(const cr_ahead *a) {
    uint64_t sum = UINT64_C(14695981039346656037);
    write_states(NULL, a, &sum);
    return sum;
}

bool cr_ahead_write_weights(const cr_ahead *a, const char *path) {
    const uint64_t head[2] = {a->weight_bytes + a->changing_bytes, cr_ahead_weights_sum(a)};
    unsigned char bytes[16];
    cr_file_writer *to = cr_file_writer_begin(path);
    if (!to) return false;
    for (int i = 0; i < 16; i++)
        bytes[i] = (unsigned char)(head[i / 8] >> 8 * (i % 8));
    cr_file_writer_write(to, "cresset weights\n", 16);
    cr_file_writer_write(to, bytes, sizeof bytes);
    write_states(to, a, NULL);
    return cr_file_writer_commit(to);
}
