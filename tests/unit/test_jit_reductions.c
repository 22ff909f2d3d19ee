/* Reductions of what pointwise ops give, in one node: against loops in C, and bit for bit against the same ops run
 * eagerly, for every set of dims, several layouts and dtypes, interpreted and compiled. */
#include "tests/unit/testing.h"

#include <math.h>
#include <string.h>

#include "jit/pass.h"

typedef enum reduction_kind { SUM, PROD, AMAX, AMIN, KINDS } reduction_kind;
typedef enum layout { PLAIN, PERMUTED, BROADCAST, SLICED, LAYOUTS } layout;

typedef struct problem {
    reduction_kind kind;
    cr_dims dims;
    bool keepdim, keeps_elements; /* the elements are a result, too */
} problem;

static cr_tensor *reduce(const problem *p, cr_tensor *v) {
    switch (p->kind) {
    case SUM: return cr_sum(v, .dims = p->dims, .keepdim = p->keepdim);
    case PROD: return cr_prod(v, .dims = p->dims, .keepdim = p->keepdim);
    case AMAX: return cr_amax(v, .dims = p->dims, .keepdim = p->keepdim);
    default: return cr_amin(v, .dims = p->dims, .keepdim = p->keepdim);
    }
}

/* v = x·y + 1 */
static bool run_problem(void *context, cr_tensor *const *in, int input_count, cr_tensor **out, int output_count) {
    const problem *p = context;
    (void)input_count;
    cr_tensor *v = cr_add_scalar(cr_mul(in[0], in[1]), 1);
    if (output_count == 2) out[1] = v;
    return (out[0] = reduce(p, v)) != NULL;
}

/* ---------------------------------------------------------------- the truth */
typedef struct element {
    double real;
    int64_t integer;
} element;

static void take(element *total, element v, reduction_kind kind, bool is_first) {
    const bool is_better = kind == AMAX ? v.real > total->real : v.real < total->real;
    if (is_first || (kind >= AMAX && is_better)) {
        *total = v;
    } else if (kind == SUM) {
        total->real += v.real;
        total->integer = (int64_t)((uint64_t)total->integer + (uint64_t)v.integer);
    } else if (kind == PROD) {
        total->real *= v.real;
        total->integer = (int64_t)((uint64_t)total->integer * (uint64_t)v.integer);
    }
}

/* Element by element through the public accessors; totals has room for every result. */
static void reduce_plainly(const problem *p, cr_tensor *x, cr_tensor *y, element *totals, bool *begun) {
    const cr_tensor *a = cr_contiguous(cr_cast(x, CR_F64)),
                    *b = cr_contiguous(cr_cast(cr_expand(y, cr_tensor_shape(x)), CR_F64));
    const double *va = cr_data((cr_tensor *)(uintptr_t)a), *vb = cr_data((cr_tensor *)(uintptr_t)b);
    for (int64_t i = 0; i < x->numel; i++) {
        int64_t rest = i, at = 0, step = 1;
        for (int d = x->ndim - 1; d >= 0; rest /= x->sizes[d], d--) {
            bool is_reduced = p->dims.count == 0;
            for (int k = 0; k < p->dims.count; k++)
                is_reduced |= p->dims.at[k] == d;
            if (is_reduced) continue;
            at += rest % x->sizes[d] * step;
            step *= x->sizes[d];
        }
        const element v = {va[i] * vb[i] + 1, (int64_t)va[i] * (int64_t)vb[i] + 1};
        take(&totals[at], v, p->kind, !begun[at]);
        begun[at] = true;
    }
}

static double worst_difference(const problem *p, cr_tensor *x, cr_tensor *y, cr_tensor *got) {
    static element totals[1 << 16];
    static bool begun[1 << 16];
    double worst = 0;
    memset(begun, 0, sizeof begun);
    assert_true(got->numel <= 1 << 16);
    reduce_plainly(p, x, y, totals, begun);
    cr_tensor *dense = cr_contiguous(got);
    for (int64_t i = 0; i < got->numel; i++) {
        assert_true(begun[i]);
        double found;
        if (got->dtype == CR_I64)
            found = ((const int64_t *)cr_data(dense))[i] != totals[i].integer;
        else if (got->dtype == CR_F64)
            found = fabs(((const double *)cr_data(dense))[i] - totals[i].real) / (1 + fabs(totals[i].real));
        else
            found = fabs((double)((const float *)cr_data(dense))[i] - totals[i].real) / (1 + fabs(totals[i].real));
        if (!(found <= worst)) worst = found;
    }
    return worst;
}

/* ---------------------------------------------------------------- one problem */
static int comparisons, joined;

static bool same_bits(cr_tensor *a, cr_tensor *b) {
    cr_tensor *da = cr_contiguous(a), *db = cr_contiguous(b);
    return a->dtype == b->dtype && cr_shape_equal(cr_tensor_shape(a), cr_tensor_shape(b)) &&
           !memcmp(cr_data(da), cr_data(db), (size_t)a->numel * cr_dtype_size((cr_dtype)a->dtype));
}

/* `exact`: the graph sees the memory as eager does, and so adds in the same order. */
static void check(problem *p, cr_tensor *x, cr_tensor *y, bool exact, const char *name) {
    cr_tensor *in[] = {x, y}, *expected[2], *got[2];
    const int outputs = p->keeps_elements ? 2 : 1;
    assert_true(run_problem(p, in, 2, expected, outputs));
    const double found = worst_difference(p, x, y, expected[0]);
    const double most = x->dtype == CR_F64 ? 1e-13 : p->kind == PROD ? 2e-4 : 2e-6;
    if (!(found <= most)) fail_msg("%s: eager differs from the loop by %g", name, found);
    cr_graph *graph = cr_jit_trace_function(run_problem, p, in, 2, NULL, outputs, NULL, 0);
    if (!graph) fail_msg("%s: %s", name, cr_last_error()->message);
    char *text = cr_jit_optimized_text(graph, NULL, 0);
    joined += strstr(text, "fused_reduction") != NULL;
    cr_free(text);
    for (int round = 0; round < 3; round++) { /* interpreted or not, compiled, compiled with other threads */
        cr_set_num_threads(round == 2 ? 3 : 1);
        if (!cr_jit_run(graph, in, 2, got, outputs)) fail_msg("%s: %s", name, cr_last_error()->message);
        const double differs = worst_difference(p, x, y, got[0]);
        if (!(differs <= most)) fail_msg("%s, round %d: differs from the loop by %g", name, round, differs);
        for (int i = exact ? 0 : 1; i < outputs; i++, comparisons++)
            if (!same_bits(expected[i], got[i])) fail_msg("%s, round %d: result %d has other bits", name, round, i);
        cr_jit_wait();
    }
    cr_jit_free(graph);
}

/* Small numbers, so that products of thousands stay numbers; integers from -1 to 1. */
static cr_tensor *numbers(cr_dtype dtype, cr_shape shape) {
    if (dtype == CR_I64) return cr_randint(-1, 2, shape, CR_CPU);
    return cr_mul_scalar(cr_randn(dtype, shape, CR_CPU), 0.05);
}

static cr_tensor *laid_out(cr_dtype dtype, cr_shape shape, layout how) {
    if (how == PERMUTED)
        return cr_permute(numbers(dtype, CR_SHAPE(shape.at[2], shape.at[0], shape.at[1])), CR_DIMS(1, 2, 0));
    if (how == SLICED)
        return cr_slice(numbers(dtype, CR_SHAPE(shape.at[0], shape.at[1], 2 * shape.at[2])), 2, 1, 2 * shape.at[2], 2);
    return numbers(dtype, shape);
}

static void reductions_equal_their_eager_ops(void **state) {
    (void)state;
    static const cr_dtype dtypes[] = {CR_F32, CR_F64, CR_I64};
    static const int64_t sizes[][3] = {{7, 33, 50}, {3, 1100, 5}, {2, 17, 2300}, {1, 1, 9000}};
    int turn = 0;
    cr_manual_seed(3);
    for (int s = 0; s < 4; s++)
        for (unsigned mask = 0; mask < 8; mask++)
            for (layout how = PLAIN; how < LAYOUTS; how++) {
                const cr_dtype dtype = dtypes[turn % 3];
                problem p = {
                    .kind = (reduction_kind)(turn / 3 % KINDS), .keepdim = turn % 2, .keeps_elements = turn % 5 == 0};
                turn++;
                for (int d = 0; d < 3; d++)
                    if (mask >> d & 1) p.dims.at[p.dims.count++] = d;
                char name[96];
                snprintf(name, sizeof name, "shape %d, dims %u, layout %d, dtype %d, kind %d", s, mask, (int)how,
                         (int)dtype, (int)p.kind);
                CR_SCOPE {
                    const cr_shape shape = CR_SHAPE(sizes[s][0], sizes[s][1], sizes[s][2]);
                    cr_tensor *x = laid_out(dtype, shape, how);
                    cr_tensor *y =
                        how == BROADCAST ? numbers(dtype, CR_SHAPE(shape.at[1], 1)) : laid_out(dtype, shape, how);
                    check(&p, x, y, true, name);
                }
            }
    print_message("%d comparisons, %d of %d graphs with the reduction in the node\n", comparisons, joined, turn);
    assert_true(comparisons >= 400);
    assert_true(joined >= turn * 9 / 10);
}

/* The elements lie channels-last, the reduction may add them in another order. */
static void channels_last_stays(void **state) {
    (void)state;
    CR_SCOPE {
        problem p = {.kind = SUM, .dims = CR_DIMS(0, 2, 3), .keeps_elements = true};
        cr_tensor *x = cr_channels_last(numbers(CR_F32, CR_SHAPE(3, 5, 6, 7)));
        check(&p, x, x, false, "channels last");
    }
}

static int reset(void **state) {
    (void)state;
    return cr_set_num_threads(1) ? 0 : -1;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(reductions_equal_their_eager_ops, reset),
        cmocka_unit_test_setup(channels_last_stays, reset),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
