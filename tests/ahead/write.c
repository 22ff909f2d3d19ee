/* ahead_write FOLDER FILE…: compiles samples (tests/samples) and whole models ahead, as programs in FOLDER with a
 * program that runs them all. */
#include "tests/ahead/write.h"
#include "tests/samples/traced.h"

#include "ops/op.h"

#include <string.h>

typedef struct selection {
    case_writer *to;
    char last[64];  /* op of the sample before */
    int of_op;      /* how many of its samples were taken */
    int64_t every;  /* of pointwise ops */
    int skipped, failed;
    char refused[1024];
} selection;

/* Samples of pointwise ops stand for many: the first (dense f32), one that is broadcast, one of another dtype. Whole
 * kernels are small; large operands are for speed and rounding, which other tests see. */
static bool is_chosen(selection *to, const sample *s, const cr_op *op) {
    int64_t numel = 0;
    if (strcmp(to->last, s->op) != 0) to->of_op = 0;
    memcpy(to->last, s->op, sizeof to->last);
    for (int i = 0; i < s->input_count; i++) {
        int64_t own = 0;
        if (!s->inputs[i].is_absent) cr_shape_numel(s->inputs[i].shape, &own);
        numel += own;
    }
    if (numel > 20000 || s->expects_error || (op->flags & CR_OP_READS_HOST)) return false;
    const int n = to->of_op++;
    return op->flags & CR_OP_POINTWISE ? n == 0 || n == 5 : n < 7;
}

static bool write_way(selection *to, traced_sample *t, int output_count, double tolerance) {
    cr_tensor *inputs[SAMPLE_INPUTS], *expected[CR_MAX_INPUTS] = {NULL};
    char title[300];
    const cr_jit_compile_options options = {.size = sizeof options, .train = true};
    int count = traced_operands(t->s, inputs);
    cr_manual_seed(11);
    if (count < 0 || !traced_call(t, inputs, count, expected, output_count)) return false;
    traced_operands(t->s, inputs);
    cr_graph *graph = cr_jit_trace_function(traced_call, t, inputs, count, NULL, output_count, NULL, 0);
    traced_operands(t->s, inputs);
    snprintf(title, sizeof title, "%.200s%s", t->s->line, t->is_gradient ? " (gradient)" : "");
    const case_run run = {inputs, expected};
    const bool done = graph && write_case(to->to, graph, title, &run, 1, &options, tolerance, false, NULL, NULL, 0);
    cr_jit_free(graph);
    return done;
}

static void note_failure(selection *to, const sample *s) {
    printf("%s: %s\n", s->line, cr_last_error()->message);
    to->failed++;
    cr_clear_error();
}

static bool write_sample(const sample *s, void *context) {
    selection *to = context;
    const cr_op *op = cr_op_find(s->op);
    cr_op_description row;
    if (!op || !sample_describe(s->op, &row) || !is_chosen(to, s, op)) {
        to->skipped++;
        return true;
    }
    CR_SCOPE {
        traced_sample t = {s, sample_output_count(&row), false};
        int gradients = 0;
        if (!write_way(to, &t, t.outputs, s->tolerance)) note_failure(to, s);
        for (int i = 0; i < s->input_count; i++)
            gradients += traced_takes_gradient(&s->inputs[i]);
        const bool wanted = gradients && !s->no_gradient && row.has_gradient && !row.is_random && !op->mutates &&
                            (to->of_op < 4 || !(op->flags & CR_OP_POINTWISE));
        t.is_gradient = true;
        if (wanted && !(op->flags & CR_OP_POINTWISE && to->of_op > 1) && !write_way(to, &t, gradients, s->tolerance * 10))
            note_failure(to, s);
    }
    return true;
}

static bool open_files(case_writer *to) {
    char path[512];
    snprintf(path, sizeof path, "%s/cases.c", to->folder);
    to->cases = fopen(path, "w");
    snprintf(path, sizeof path, "%s/data", to->folder);
    to->data = fopen(path, "wb");
    to->calls = tmpfile();
    return to->cases && to->data && to->calls;
}

static bool close_files(case_writer *to) {
    int c;
    fprintf(to->cases, "int main(int argc, char **argv) {\n    if (argc != 4 || !(data = fopen(argv[1], \"rb\"))) return 2;\n");
    for (rewind(to->calls); (c = fgetc(to->calls)) != EOF;)
        fputc(c, to->cases);
    fprintf(to->cases, "    printf(\"%%lld comparisons of tensors, %%lld elements, %%lld failures\\n\", comparisons, elements, failures);\n"
                       "    if (comparisons < atoll(argv[3])) printf(\"fewer than %%s\\n\", argv[3]);\n"
                       "    return failures || comparisons < atoll(argv[3]);\n}\n");
    return !fclose(to->cases) & !fclose(to->data) & !fclose(to->calls);
}

int main(int argc, char **argv) {
    static selection chosen;
    case_writer to = {.folder = argc > 1 ? argv[1] : NULL};
    chosen.to = &to;
    if (argc < 2 || !open_files(&to)) {
        fprintf(stderr, "usage: ahead_write FOLDER FILE…\n");
        return 2;
    }
    fprintf(to.cases, "#include \"check.h\"\n");
    for (int i = 2; i < argc; i++)
        if (!samples_read(argv[i], write_sample, &chosen)) return 2;
    const int samples = to.count;
    bool done = write_models(&to);
    if (!done) cr_report(stdout);
    done = close_files(&to) && done;
    cr_scope_clear();
    printf("%d programs of samples, %d of models; %d samples left out, %d failed\n", samples, to.count - samples,
           chosen.skipped, chosen.failed);
    return done && !chosen.failed ? 0 : 1;
}
