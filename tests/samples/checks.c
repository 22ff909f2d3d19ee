/* Every check that needs no reference: two ways to compute the same must agree, and gradients must match
 * differences. */
#include "tests/samples/checks.h"

#include "ops/op.h"

#include <math.h>
#include <string.h>

static const char *const kind_names[CHECK_KINDS] = {[CHECK_DECOMPOSITION] = "kernel / decomposition",
                                                    [CHECK_STRIDES] = "dense / strided",
                                                    [CHECK_THREADS] = "1 thread / 3 threads",
                                                    [CHECK_IN_PLACE] = "in place / out of place",
                                                    [CHECK_GRADIENT] = "gradcheck",
                                                    [CHECK_SECOND] = "gradgradcheck",
                                                    [CHECK_ERROR] = "errors",
                                                    [CHECK_GRAPH] = "graph / plain call",
                                                    [CHECK_GRAPH_GRADIENT] = "graph of the gradient",
                                                    [CHECK_GRAPH_TEXT] = "graph / graph read as text"};
const char *check_kind_name(check_kind kind) { return kind_names[kind]; }

void fail_sample(const sample *s, check_totals *totals, check_kind kind, const char *what) {
    const cr_error *error = cr_last_error();
    printf("FAILED %s:%d (%s) %s: %s%s%s\n", s->file, s->line_number, kind_names[kind], s->line, what,
           error ? ": " : "", error ? error->message : "");
    totals->failed++;
    cr_clear_error();
}

/* ---------------------------------------------------------------- comparing tensors */
static double tolerance_of(const sample *s, cr_dtype dtype) {
    if (!cr_dtype_is_floating(dtype) || s->is_exact) return 0;
    if (s->tolerance > 0) return s->tolerance;
    return dtype == CR_F64 ? 1e-10 : dtype == CR_F32 ? 2e-5 : dtype == CR_F16 ? 4e-3 : 3e-2;
}

/* NaN equals NaN; infinities must agree; a difference counts against the larger magnitude and 1. */
static bool same_values(cr_tensor *a, cr_tensor *b, double tolerance, char *what, size_t size) {
    if (cr_dtype_of(a) != cr_dtype_of(b) || !cr_shape_equal(cr_shape_of(a), cr_shape_of(b))) {
        char x[224], y[224];
        snprintf(what, size, "%s beside %s", cr_describe(a, x), cr_describe(b, y));
        return false;
    }
    cr_tensor *wide_a = cr_contiguous(cr_cast(a, CR_F64)), *wide_b = cr_contiguous(cr_cast(b, CR_F64));
    const double *x = wide_a ? cr_data(wide_a) : NULL, *y = wide_b ? cr_data(wide_b) : NULL;
    for (int64_t i = 0; i < cr_numel(a); i++) {
        const bool both_nan = isnan(x[i]) && isnan(y[i]);
        if (both_nan || x[i] == y[i]) continue;
        if (isfinite(x[i]) && isfinite(y[i]) && fabs(x[i] - y[i]) <= tolerance * fmax(1, fmax(fabs(x[i]), fabs(y[i]))))
            continue;
        snprintf(what, size, "element %lld is %.9g and %.9g", (long long)i, x[i], y[i]);
        return false;
    }
    return cr_ok();
}

void compare_results(const sample *s, check_totals *totals, check_kind kind, cr_tensor **a, cr_tensor **b, int count,
                     bool bitwise) {
    char what[512] = "";
    for (int i = 0; i < count; i++) {
        if (!a[i] || !b[i] ||
            !same_values(a[i], b[i], bitwise ? 0 : tolerance_of(s, cr_dtype_of(a[i])), what, sizeof what)) {
            fail_sample(s, totals, kind, what);
            return;
        }
        totals->comparisons++;
        totals->by_kind[kind]++;
        totals->elements += cr_numel(a[i]);
    }
    totals->passed++;
}

/* ---------------------------------------------------------------- running an op in several ways */
typedef struct subject {
    const sample *s;
    cr_op_description row;
    int outputs, results; /* of the op; with the operands that it writes */
} subject;

static bool run(const subject *j, cr_tensor *const *operands, cr_tensor **results) {
    return sample_run(j->s, operands, results);
}

static bool run_decomposed(const subject *j, cr_tensor *const *operands, cr_tensor **outputs) {
    cr_op *op = cr_op_find(j->s->op);
    const cr_kernel kernel = atomic_load(&op->kernels[CR_DEVICE_CPU]);
    atomic_store(&op->kernels[CR_DEVICE_CPU], NULL);
    const bool done = run(j, operands, outputs);
    atomic_store(&op->kernels[CR_DEVICE_CPU], kernel);
    return done;
}

static void check_decomposition(const subject *j, cr_tensor *const *operands, cr_tensor **expected,
                                check_totals *totals) {
    cr_tensor *other[SAMPLE_RESULTS] = {NULL};
    const cr_op *op = cr_op_find(j->s->op);
    if (!op->decompose || !atomic_load(&op->kernels[CR_DEVICE_CPU]) || j->row.is_random) return;
    run_decomposed(j, operands, other);
    compare_results(j->s, totals, CHECK_DECOMPOSITION, expected, other, j->results, false);
}

static void check_strides(const subject *j, cr_tensor **expected, check_totals *totals) {
    cr_tensor *operands[SAMPLE_INPUTS], *other[SAMPLE_RESULTS] = {NULL};
    if (!sample_operands(j->s, operands, true, false) || !run(j, operands, other)) {
        fail_sample(j->s, totals, CHECK_STRIDES, "strided operands");
        return;
    }
    compare_results(j->s, totals, CHECK_STRIDES, expected, other, j->results, false);
}

static void check_threads(const subject *j, cr_tensor *const *operands, check_totals *totals) {
    cr_tensor *one[SAMPLE_RESULTS] = {NULL}, *three[SAMPLE_RESULTS] = {NULL};
    const int threads = cr_num_threads();
    cr_set_num_threads(1);
    run(j, operands, one);
    cr_set_num_threads(3);
    run(j, operands, three);
    cr_set_num_threads(threads);
    compare_results(j->s, totals, CHECK_THREADS, one, three, j->results, true);
}

static void check_in_place(const subject *j, cr_tensor *const *operands, cr_tensor **expected, check_totals *totals) {
    if (!j->row.is_pointwise || cr_dtype_of(expected[0]) != cr_dtype_of(operands[0]) ||
        !cr_shape_equal(cr_shape_of(expected[0]), cr_shape_of(operands[0])))
        return;
    cr_tensor *inputs[SAMPLE_INPUTS];
    memcpy(inputs, operands, sizeof inputs);
    inputs[0] = cr_clone(operands[0]);
    cr_op *op = cr_op_find(j->s->op);
    _Alignas(16) char attributes[256];
    if (!inputs[0] || !cr_attributes_parse(op, j->s->attributes, attributes)) return;
    cr_tensor *written = cr_run_in_place(op, inputs[0], inputs, j->s->input_count, attributes);
    compare_results(j->s, totals, CHECK_IN_PLACE, expected, &written, 1, true);
}

/* ---------------------------------------------------------------- gradients */
static bool call_subject(void *context, cr_tensor *const *inputs, int input_count, cr_tensor **outputs,
                         int output_count) {
    const subject *j = context;
    cr_tensor *results[SAMPLE_RESULTS] = {NULL};
    (void)input_count;
    if (!run(j, inputs, results)) return false;
    memcpy(outputs, results, (size_t)output_count * sizeof *outputs);
    return true;
}

static bool has_floating_output(cr_tensor *const *outputs, int count) {
    for (int i = 0; i < count; i++)
        if (cr_dtype_is_floating(cr_dtype_of(outputs[i]))) return true;
    return false;
}

static int require_gradients(cr_tensor **operands, int count) {
    int required = 0;
    for (int i = 0; i < count; i++)
        if (operands[i] && cr_dtype_is_floating(cr_dtype_of(operands[i])))
            required += cr_requires_grad_(operands[i], true) != NULL;
    return required;
}

static int64_t elements_of(cr_tensor *const *tensors, int count) {
    int64_t total = 0;
    for (int i = 0; i < count; i++)
        total += tensors[i] ? cr_numel(tensors[i]) : 0;
    return total;
}

static void check_gradients(subject *j, cr_tensor *const *outputs, check_totals *totals) {
    cr_tensor *operands[SAMPLE_INPUTS];
    const sample *s = j->s;
    if (s->no_gradient || !j->row.has_gradient || j->row.is_random || !has_floating_output(outputs, j->outputs)) return;
    for (int i = 0; i < s->input_count; i++) /* one dtype is enough: differences are taken in f64 */
        if (!s->inputs[i].is_absent && cr_dtype_is_floating(s->inputs[i].dtype) && s->inputs[i].dtype != CR_F64) return;
    if (elements_of(outputs, j->outputs) > 300) return;
    if (!sample_operands(s, operands, false, true) || elements_of(operands, s->input_count) > 400) return;
    if (!require_gradients(operands, s->input_count)) return;
    if (cr_op_find(s->op)->constant_outputs) j->outputs = 1; /* the others are kept for backward only */
    const check_kind kinds[] = {CHECK_GRADIENT, CHECK_SECOND};
    for (int order = 0; order < 2; order++) {
        if (order == 1 && (s->no_second || elements_of(operands, s->input_count) > 80)) break;
        const bool same = order ? cr_gradgradcheck(call_subject, j, operands, s->input_count, j->outputs, NULL)
                                : cr_gradcheck(call_subject, j, operands, s->input_count, j->outputs, NULL);
        if (!same) {
            fail_sample(s, totals, kinds[order], "");
            return;
        }
        totals->passed++;
        totals->comparisons++;
        totals->by_kind[kinds[order]]++;
    }
}

/* ---------------------------------------------------------------- errors */
static void check_error(subject *j, check_totals *totals) {
    cr_tensor *operands[SAMPLE_INPUTS], *outputs[SAMPLE_RESULTS] = {NULL};
    const sample *s = j->s;
    if (!sample_operands(s, operands, false, false)) {
        fail_sample(s, totals, CHECK_ERROR, "operands");
        return;
    }
    const bool done = run(j, operands, outputs);
    const cr_error *error = cr_last_error();
    if (done || !error || strcmp(cr_error_code_name(error->code), s->error_code) != 0 ||
        !strstr(error->message, s->error_part)) {
        fail_sample(s, totals, CHECK_ERROR, done ? "no error" : "another error");
        return;
    }
    cr_clear_error();
    totals->passed++;
    totals->comparisons++;
    totals->by_kind[CHECK_ERROR]++;
}

/* ---------------------------------------------------------------- one sample */
static void check_values(subject *j, check_totals *totals) {
    cr_tensor *operands[SAMPLE_INPUTS], *outputs[SAMPLE_RESULTS] = {NULL};
    if (!sample_operands(j->s, operands, false, false) || !run(j, operands, outputs)) {
        fail_sample(j->s, totals, CHECK_STRIDES, "the op failed");
        return;
    }
    check_graph(j->s, &j->row, j->outputs, totals);
    if (j->row.is_random) {
        totals->skipped++;
        return;
    }
    check_decomposition(j, operands, outputs, totals);
    if (!j->s->only_dense) check_strides(j, outputs, totals);
    check_threads(j, operands, totals);
    check_in_place(j, operands, outputs, totals);
    check_gradients(j, outputs, totals);
}

void check_sample(const sample *s, check_totals *totals) {
    totals->samples++;
    CR_SCOPE {
        subject j = {.s = s};
        if (!sample_describe(s->op, &j.row)) {
            printf("FAILED %s:%d there is no op %s\n", s->file, s->line_number, s->op);
            totals->failed++;
            break;
        }
        j.outputs = sample_output_count(&j.row);
        j.results = sample_result_count(s, j.outputs);
        if (s->expects_error)
            check_error(&j, totals);
        else
            check_values(&j, totals);
        if (!cr_ok()) {
            fail_sample(s, totals, CHECK_STRIDES, "an error is left");
        }
    }
}
