/* Weights of a program: arrays in the file, or bytes in a file beside it. */
#include "jit/ahead/program.h"

#include "core/file.h"

static bool is_used(const cr_plan *plan, int state) { return plan->states[state] >= 0; }

size_t cr_ahead_padded(size_t bytes) {
    return (bytes + CR_AHEAD_ALIGNMENT - 1) / CR_AHEAD_ALIGNMENT * CR_AHEAD_ALIGNMENT;
}

/* States are dense tensors of their own by now. */
static size_t state_bytes(const cr_state *state) {
    return (size_t)state->tensor->numel * cr_dtype_size((cr_dtype)state->tensor->dtype);
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
        *bytes += cr_ahead_padded(state_bytes(&graph->states[i]));
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

static void add_array(cr_text *file, const cr_state *state, int index) {
    const cr_dtype dtype = (cr_dtype)state->tensor->dtype;
    const int64_t numel = state->tensor->numel;
    const char *type = cr_ahead_type(dtype);
    cr_text_add(file, "/* %s */\nstatic const %s weights_%d[%lld] = {\n    ", state->name, type, index,
                (long long)(numel ? numel : 1));
    for (int64_t i = 0; i < numel; i++)
        add_element(file, cr_tensor_address(state->tensor), dtype, i);
    cr_text_add(file, "%s};\n", numel ? "" : "0");
}

/* Whether the steps name the array, or a context begins with it. */
static bool is_named(const cr_ahead *a, const char *steps, int state) {
    char name[32];
    const int length = snprintf(name, sizeof name, "weights_%d", state);
    if (a->plan->graph->states[state].update) return true;
    for (const char *at = strstr(steps, name); at; at = strstr(at + 1, name))
        if (at[length] < '0' || at[length] > '9') return true;
    return false;
}

void cr_ahead_add_weights(cr_text *file, const cr_ahead *a, const char *steps) {
    const cr_graph *graph = a->plan->graph;
    for (int i = 0; i < graph->state_count && a->inline_weights; i++)
        if (is_used(a->plan, i) && is_named(a, steps, i)) add_array(file, &graph->states[i], i);
}

/* ---------------------------------------------------------------- the file beside
 * "cresset weights\n", the number of bytes that follow and their sum (FNV-1a), both in 8 bytes from the lowest; then
 * the weights, and what the states that a run changes begin with. */
static void add_to_sum(uint64_t *sum, const unsigned char *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        *sum = (*sum ^ data[i]) * UINT64_C(1099511628211);
}

/* Adds a state's bytes and their padding to `to` or, without one, to the sum. */
static void write_padded(cr_file_writer *to, const cr_tensor *t, uint64_t *sum) {
    static const unsigned char zeros[CR_AHEAD_ALIGNMENT];
    const size_t bytes = (size_t)t->numel * cr_dtype_size((cr_dtype)t->dtype), rest = cr_ahead_padded(bytes) - bytes;
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
                write_padded(to, graph->states[i].tensor, sum);
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
