/* Samples with open sizes as ONNX models: one graph, run at the sample's sizes and at larger ones. What was baked in
 * shows at the second. The folder is as that of `export` (export.c). */
#include "tests/samples/exporting.h"

#include "jit/graph.h"
#include "ops/op.h"

#include <string.h>

static const int opsets[] = {13, 18, 23}; /* one for each sample, in turn */
static const int64_t growths[] = {0, 1, 3};
enum { OPSETS = sizeof opsets / sizeof opsets[0], GROWTHS = sizeof growths / sizeof growths[0] };

/* Which dims are open: all of more than one element, or one of the first three and what is as large. Equal sizes are one. */
enum { ALL_DIMS = -1, MOST_DIM = 2 };
static bool is_open(cr_tensor *const *inputs, int i, int d, int which) {
    const int64_t size = cr_size(inputs[i], d);
    if (size < 2) return false;
    if (which == ALL_DIMS) return true;
    return cr_ndim(inputs[0]) > which && size == cr_size(inputs[0], which);
}

/* "0.0=n4 0.2=n7"; false where no dim is open. */
static bool name_dims(cr_tensor *const *inputs, int count, int which, char *text, size_t capacity) {
    size_t length = 0;
    for (int i = 0; i < count; i++)
        for (int d = 0; d < cr_ndim(inputs[i]) && length < capacity; d++)
            if (is_open(inputs, i, d, which))
                length += (size_t)snprintf(text + length, capacity - length, "%d.%d=n%lld ", i, d,
                                           (long long)cr_size(inputs[i], d));
    return length > 0 && length < capacity;
}

/* The operands with open dims some elements longer: their first ones again. */
static bool grow(cr_tensor *const *inputs, int count, int which, int64_t by, cr_tensor **grown) {
    for (int i = 0; i < count; i++) {
        grown[i] = inputs[i];
        for (int d = 0; d < cr_ndim(inputs[i]); d++) {
            const int64_t size = cr_size(inputs[i], d);
            if (!is_open(inputs, i, d, which)) continue;
            cr_tensor *places = cr_remainder_scalar(cr_arange(CR_I64, 0, (double)(size + by), 1, CR_CPU), (double)size);
            grown[i] = cr_index_select(grown[i], d, places);
        }
        if (!(grown[i] = cr_contiguous(grown[i]))) return false;
    }
    return true;
}

/* One file, with operands and what the op itself gives for each size. */
static void export_sizes(exporting *x, const sample *s, cr_graph *graph, traced_sample *t, cr_tensor *const *inputs,
                         int count, int which, bool is_random) {
    for (int i = 0; i < GROWTHS; i++) {
        cr_tensor *grown[SAMPLE_INPUTS], *results[SAMPLE_RESULTS], *plain[SAMPLE_RESULTS];
        exported_case c = {s, grown, results, count, t->outputs, is_random};
        if (!grow(inputs, count, which, growths[i], grown) ||
            !cr_jit_run(graph, grown, count, plain, t->outputs) || /* a size that the graph refuses */
            !traced_call(t, grown, count, results, t->outputs)) {
            cr_clear_error();
            continue;
        }
        export_case(x, &c, graph, &opsets[x->sample_count % OPSETS], 1);
    }
}

void export_open_sample(exporting *x, const sample *s, const cr_op_description *row, int outputs) {
    cr_tensor *inputs[SAMPLE_INPUTS];
    traced_sample t = {s, outputs, false};
    const int count = traced_operands(s, inputs);
    if (++x->sample_count % 4 && cr_op_find(s->op)->pointwise) return; /* a quarter of these says it */
    for (int which = ALL_DIMS; which <= MOST_DIM; which++) {
        char dims[512];
        if (count <= 0 || !name_dims(inputs, count, which, dims, sizeof dims)) continue;
        cr_graph *graph =
            cr_jit_trace_function(traced_call, &t, inputs, count, NULL, outputs, NULL, 0, .dynamic = dims);
        if (!graph) { /* attributes that hold for the sample's sizes alone */
            cr_clear_error();
            continue;
        }
        export_sizes(x, s, graph, &t, inputs, count, which, row->is_random);
        cr_jit_free(graph);
        if (which == ALL_DIMS) break;
    }
}
