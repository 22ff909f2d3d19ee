/* Samples as graphs: each op, and its gradient, is traced, planned and run, and must give what the plain call gives;
 * the text of its graph must be read back exactly. */
#include "tests/samples/checks.h"
#include "tests/samples/traced.h"

#include "ops/op.h"

#include <cresset/jit.h>

#include <string.h>

/* printed -> read -> printed is the same text; the graph that was read, or NULL. */
static cr_graph *reread(const char *text, const char **what) {
    cr_graph *graph = text ? cr_jit_parse(text) : NULL;
    char *again = graph ? cr_jit_text(graph) : NULL;
    const bool same = again && !strcmp(text, again);
    if (!same)
        *what = !text    ? "no text"
                : !graph ? "its own text is not read"
                         : "the text changes when it is read and printed";
    cr_free(again);
    if (same) return graph;
    cr_jit_free(graph);
    return NULL;
}

static bool check_texts(cr_graph *graph, cr_tensor *const *inputs, int input_count, cr_tensor **outputs,
                        int output_count, const char **what) {
    char *text = cr_jit_text(graph), *optimized = cr_jit_optimized_text(graph, NULL, 0);
    cr_graph *read = reread(text, what), *read_optimized = read ? reread(optimized, what) : NULL;
    bool same = read && read_optimized;
    if (same && cr_jit_state_count(graph) == 0) { /* without tensors of its own, the text is the whole program */
        cr_manual_seed(11);
        same = cr_jit_run(read, inputs, input_count, outputs, output_count);
        if (!same) *what = "the graph that was read does not run";
    }
    cr_jit_free(read);
    cr_jit_free(read_optimized);
    cr_free(text);
    cr_free(optimized);
    return same;
}

/* Plain call, run of the graph, run of the graph that was read from text: three lists of results. */
static bool run_in_ways(traced_sample *t, int output_count, cr_tensor **plain, cr_tensor **run, cr_tensor **read,
                        const char **what) {
    cr_tensor *inputs[SAMPLE_INPUTS];
    cr_graph *graph = NULL;
    int count = traced_operands(t->s, inputs);
    cr_manual_seed(11);
    bool done = count >= 0 && traced_call(t, inputs, count, plain, output_count);
    *what = "the plain call fails";
    if (done) {
        *what = "it cannot be traced";
        traced_operands(t->s, inputs);
        graph = cr_jit_trace_function(traced_call, t, inputs, count, NULL, output_count, NULL, 0);
        done = graph != NULL;
    }
    if (done) {
        *what = "the graph does not run";
        traced_operands(t->s, inputs);
        cr_manual_seed(11);
        done = cr_jit_run(graph, inputs, count, run, output_count);
    }
    done = done && check_texts(graph, inputs, count, read, output_count, what);
    cr_jit_free(graph);
    return done;
}

static void compare_ways(traced_sample *t, int output_count, bool bitwise, check_kind kind, check_totals *totals) {
    cr_tensor *plain[CR_MAX_INPUTS] = {NULL}, *run[CR_MAX_INPUTS] = {NULL}, *read[CR_MAX_INPUTS] = {NULL};
    const char *what = "";
    if (!run_in_ways(t, output_count, plain, run, read, &what)) {
        fail_sample(t->s, totals, kind, what);
        return;
    }
    compare_results(t->s, totals, kind, plain, run, output_count, bitwise);
    if (read[0]) compare_results(t->s, totals, CHECK_GRAPH_TEXT, run, read, output_count, true);
}

/* Sizes that follow from values: no graph can hold them, and it says so. */
static void check_refused(traced_sample *t, check_totals *totals) {
    cr_tensor *inputs[SAMPLE_INPUTS], *outputs[CR_MAX_OUTPUTS];
    const int count = traced_operands(t->s, inputs);
    cr_graph *graph = cr_jit_trace_function(traced_call, t, inputs, count, NULL, t->outputs, NULL, 0);
    const bool done = graph && cr_jit_run(graph, inputs, count, outputs, t->outputs);
    const bool refused = !done && !cr_ok() && cr_last_error()->code == CR_ERROR_UNSUPPORTED;
    cr_jit_free(graph);
    if (!refused) {
        fail_sample(t->s, totals, CHECK_GRAPH, "a graph whose sizes depend on values should be refused as unsupported");
        return;
    }
    cr_clear_error();
    totals->passed++;
}

void check_graph(const sample *s, const cr_op_description *row, int outputs, check_totals *totals) {
    const cr_op *op = cr_op_find(s->op);
    traced_sample t = {s, outputs, false};
    if (op->flags & CR_OP_READS_HOST) {
        check_refused(&t, totals);
        return;
    }
    compare_ways(&t, sample_result_count(s, outputs), !op->decompose, CHECK_GRAPH, totals);
    int gradients = 0;
    for (int i = 0; i < s->input_count; i++)
        gradients += traced_takes_gradient(&s->inputs[i]);
    if (!gradients || s->no_gradient || !row->has_gradient || row->is_random || !cr_ok()) return;
    t.is_gradient = true;
    compare_ways(&t, gradients, false, CHECK_GRAPH_GRADIENT, totals);
}
