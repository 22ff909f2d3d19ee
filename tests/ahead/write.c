/* ahead_write FOLDER FILE…: compiles samples (tests/samples) and whole models ahead, as programs in FOLDER with a
 * program that runs them all. */
#include "tests/ahead/write.h"
#include "tests/samples/traced.h"

#include "ops/op.h"

#include <string.h>

/* Samples that become one program: a compiler starts once for all of them. */
enum { BATCH = 16, BATCH_OPERANDS = 40 };
typedef struct batch {
    sample samples[BATCH];
    traced_sample parts[BATCH];
    int outputs[BATCH], count, input_count, output_count;
} batch;

typedef struct selection {
    case_writer *to;
    batch batch;
    char last[64]; /* op of the sample before */
    int of_op;     /* how many of its samples were taken */
    int skipped, failed;
} selection;

/* ---------------------------------------------------------------- a batch */
static int present(const sample *s) {
    int count = 0;
    for (int i = 0; i < s->input_count; i++)
        count += !s->inputs[i].is_absent;
    return count;
}

static bool call_batch(void *context, cr_tensor *const *inputs, int input_count, cr_tensor **outputs,
                       int output_count) {
    batch *b = context;
    (void)input_count, (void)output_count;
    for (int i = 0; i < b->count; i++) {
        if (!traced_call(&b->parts[i], inputs, present(&b->samples[i]), outputs, b->outputs[i])) return false;
        inputs += present(&b->samples[i]);
        outputs += b->outputs[i];
    }
    return true;
}

static bool make_inputs(const batch *b, cr_tensor **inputs) {
    for (int i = 0; i < b->count; i++) {
        if (traced_operands(&b->samples[i], inputs) < 0) return false;
        inputs += present(&b->samples[i]);
    }
    return true;
}

static bool compile_batch(case_writer *to, batch *b) {
    cr_tensor *inputs[CR_MAX_INPUTS], *expected[CR_MAX_INPUTS] = {NULL};
    const char *titles[CR_MAX_INPUTS];
    double tolerances[CR_MAX_INPUTS];
    const cr_jit_compile_options options = {.size = sizeof options, .train = true};
    int at = 0;
    for (int i = 0; i < b->count; i++)
        for (int k = 0; k < b->outputs[i]; k++, at++) {
            titles[at] = b->samples[i].line;
            tolerances[at] = b->samples[i].tolerance * (b->parts[i].is_gradient ? 10 : 1);
        }
    cr_manual_seed(11);
    if (!make_inputs(b, inputs) || !call_batch(b, inputs, b->input_count, expected, b->output_count)) return false;
    cr_graph *graph = make_inputs(b, inputs)
                          ? cr_jit_trace_function(call_batch, b, inputs, b->input_count, NULL, b->output_count, NULL, 0)
                          : NULL;
    const case_run run = {inputs, expected};
    const program_case given = {
        .graph = graph, .titles = titles, .tolerances = tolerances, .runs = &run, .run_count = 1, .options = &options};
    const bool done = graph && make_inputs(b, inputs) && write_case(to, &given);
    cr_jit_free(graph);
    return done;
}

static void flush(selection *to) {
    batch *b = &to->batch;
    if (!b->count) return;
    CR_SCOPE {
        if (!compile_batch(to->to, b)) {
            printf("%s and %d others: %s\n", b->samples[0].line, b->count - 1, cr_last_error()->message);
            to->failed++;
            cr_clear_error();
        }
    }
    memset(b, 0, sizeof *b);
}

static void add_to_batch(selection *to, const sample *s, int outputs, int results, bool is_gradient) {
    batch *b = &to->batch;
    if (b->count == BATCH || b->input_count + s->input_count > BATCH_OPERANDS ||
        b->output_count + results > BATCH_OPERANDS)
        flush(to);
    b->samples[b->count] = *s;
    b->parts[b->count] = (traced_sample){&b->samples[b->count], outputs, is_gradient};
    b->outputs[b->count++] = results;
    b->input_count += present(s);
    b->output_count += results;
}

/* ---------------------------------------------------------------- which samples */
/* What optimised graphs alone have: programs are compiled ahead from the graph before. */
static bool is_of_passes(const cr_op *op) {
    static const char *const prefixes[] = {"integer_", "channels_last_", "pack_"};
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (!strncmp(op->name, prefixes[i], strlen(prefixes[i]))) return true;
    return false;
}

/* Samples of pointwise ops stand for many: the first (dense f32), and another. Large operands are for speed and
 * rounding, which other tests see. */
static bool is_chosen(selection *to, const sample *s, const cr_op *op) {
    int64_t numel = 0;
    if (strcmp(to->last, s->op) != 0) to->of_op = 0;
    memcpy(to->last, s->op, sizeof to->last);
    for (int i = 0; i < s->input_count; i++) {
        int64_t own = 0;
        if (!s->inputs[i].is_absent) cr_shape_numel(s->inputs[i].shape, &own);
        numel += own;
    }
    if (numel > 20000 || s->expects_error || is_of_passes(op) || (op->flags & CR_OP_READS_HOST)) return false;
    const int n = to->of_op++;
    return op->flags & CR_OP_POINTWISE ? n == 0 || n == 5 : n < 7;
}

static bool write_sample(const sample *s, void *context) {
    selection *to = context;
    const cr_op *op = cr_op_find(s->op);
    cr_op_description row;
    if (!op || !sample_describe(s->op, &row) || !is_chosen(to, s, op)) {
        to->skipped++;
        return true;
    }
    const int outputs = sample_output_count(&row);
    int gradients = 0;
    add_to_batch(to, s, outputs, sample_result_count(s, outputs), false);
    for (int i = 0; i < s->input_count; i++)
        gradients += traced_takes_gradient(&s->inputs[i]);
    if (gradients && !s->no_gradient && row.has_gradient && !row.is_random && to->of_op < 3 &&
        !(op->flags & CR_OP_POINTWISE && to->of_op > 1))
        add_to_batch(to, s, outputs, gradients, true);
    return true;
}

/* ---------------------------------------------------------------- the program that runs them */
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
    fprintf(to->cases,
            "int main(int argc, char **argv) {\n    if (argc != 3 || !(data = fopen(argv[1], \"rb\"))) return 2;\n");
    for (rewind(to->calls); (c = fgetc(to->calls)) != EOF;)
        fputc(c, to->cases);
    fprintf(to->cases, "    printf(\"%%lld comparisons of tensors, %%lld elements, %%lld failures\\n\", comparisons, "
                       "elements, failures);\n"
                       "    if (comparisons < atoll(argv[2])) printf(\"fewer than %%s\\n\", argv[2]);\n"
                       "    return failures || comparisons < atoll(argv[2]);\n}\n");
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
    flush(&chosen);
    const int samples = to.count;
    bool done = write_models(&to);
    if (!done) cr_report(stdout);
    done = close_files(&to) && done;
    cr_scope_clear();
    printf("%d programs of samples, %d of models; %d samples left out, %d failed\n", samples, to.count - samples,
           chosen.skipped, chosen.failed);
    return done && !chosen.failed ? 0 : 1;
}
