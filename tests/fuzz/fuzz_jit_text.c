/* libFuzzer's way into the reader of programs: whatever the bytes are, they are refused with an error or are a graph
 * that prints, reads back, and runs or refuses to. Nothing may be left. */
#include <cresset.h>

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool make_inputs(const cr_graph *graph, cr_tensor **inputs) {
    for (int i = 0; i < cr_jit_input_count(graph); i++) {
        cr_shape shape = cr_jit_input_shape(graph, i);
        int64_t numel;
        for (int d = 0; d < shape.count; d++)
            if (shape.at[d] < 0) shape.at[d] = 3;
        if (i == 8 || !cr_shape_numel(shape, &numel) || numel > 1000) return false;
        if (!(inputs[i] = cr_ones(cr_jit_input_dtype(graph, i), shape, CR_CPU))) return false;
    }
    return true;
}

static void use(cr_graph *graph, const char *text) {
    cr_tensor *inputs[8], *outputs[64];
    char *printed = cr_jit_text(graph), *again = NULL;
    cr_graph *read = printed ? cr_jit_parse(printed) : NULL;
    if (read) again = cr_jit_text(read);
    if (cr_ok() && strcmp(printed, again) != 0) abort();
    if (!strstr(text, "while_loop") && cr_jit_output_count(graph) <= 64 && make_inputs(graph, inputs))
        cr_jit_run(graph, inputs, cr_jit_input_count(graph), outputs, cr_jit_output_count(graph));
    cr_free(printed);
    cr_free(again);
    cr_jit_free(read);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char *text = calloc(1, size + 1);
    memcpy(text, data, size);
    setenv("CR_CC", "none", 1);
    cr_memory_set_limit(64 << 20);
    CR_SCOPE {
        cr_graph *graph = cr_jit_parse(text);
        if (!graph && cr_ok()) abort();
        if (graph) use(graph, text);
        cr_jit_free(graph);
    }
    cr_clear_error();
    if (cr_memory_stats().live_bytes) abort();
    free(text);
    return 0;
}
