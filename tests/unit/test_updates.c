/* Optimizer updates: the kernel and the chain of ops that it stands for give the same bits. */
#include "tests/unit/testing.h"

#include "ops/op.h"

enum { SIZE = 1003, STATES = 4, STEPS = 3 };

typedef struct run_state {
    cr_tensor *tensors[1 + STATES]; /* parameter, then up to three states */
    cr_tensor *step, *lr;
} run_state;

static cr_tensor *wave(cr_dtype dtype, double frequency, double lift) {
    return cr_cast(cr_add_scalar(cr_sin(cr_mul_scalar(cr_arange(CR_F64, 0, SIZE, 1, CR_CPU), frequency)), lift), dtype);
}

/* `states` says which optional ones are there: a bit each. */
static run_state begin(cr_dtype dtype, unsigned states) {
    run_state s = {.step = cr_zeros(CR_F32, CR_SHAPE(), CR_CPU), .lr = cr_scalar(0.01, CR_F64)};
    s.tensors[0] = wave(dtype, 0.37, 0);
    for (int i = 1; i <= STATES; i++)
        if (states >> (i - 1) & 1) s.tensors[i] = cr_zeros(dtype, CR_SHAPE(SIZE), CR_CPU);
    return s;
}

static void expect_same_bits(cr_tensor *a, cr_tensor *b) {
    if (!a) return;
    assert_memory_equal(cr_data(a), cr_data(b), (size_t)cr_numel(a) * cr_dtype_size(cr_dtype_of(a)));
}

/* Runs STEPS of an op with states between gradient and step, by its kernel or without it. */
static void run_steps(cr_op *op, const void *options, run_state *s, int states, bool by_kernel) {
    const cr_kernel kernel = atomic_load(&op->kernels[CR_DEVICE_CPU]);
    assert_true(kernel != NULL);
    if (!by_kernel) atomic_store(&op->kernels[CR_DEVICE_CPU], NULL);
    for (int step = 0; step < STEPS; step++) {
        cr_tensor *inputs[2 + STATES + 2] = {s->tensors[0], wave(cr_dtype_of(s->tensors[0]), 0.11 + step, 0.1)};
        for (int i = 0; i < states; i++)
            inputs[2 + i] = s->tensors[1 + i];
        inputs[2 + states] = s->step;
        inputs[3 + states] = s->lr;
        assert_true(cr_run_all(op, inputs, states + 4, options, NULL, 0));
    }
    atomic_store(&op->kernels[CR_DEVICE_CPU], kernel);
    assert_true(cr_item(s->step) == STEPS);
}

static void expect_kernel_equals_chain(const char *name, const void *options, unsigned present, int states) {
    static const cr_dtype dtypes[] = {CR_F32, CR_F64};
    for (int d = 0; d < 2; d++)
        CR_SCOPE {
            run_state fused = begin(dtypes[d], present), chain = begin(dtypes[d], present);
            cr_op *op = cr_op_find(name);
            assert_non_null(op);
            run_steps(op, options, &fused, states, true);
            run_steps(op, options, &chain, states, false);
            for (int i = 0; i <= states; i++)
                expect_same_bits(fused.tensors[i], chain.tensors[i]);
        }
}

static void sgd_in_one_pass_is_the_chain(void **state) {
    (void)state;
    cr_sgd_update_options o = {.size = sizeof o};
    expect_kernel_equals_chain("sgd_update", &o, 0, 1);
    o.weight_decay = 0.1;
    o.maximize = true;
    expect_kernel_equals_chain("sgd_update", &o, 0, 1);
    o.momentum = 0.9;
    o.dampening = 0.2;
    expect_kernel_equals_chain("sgd_update", &o, 1, 1);
    o.nesterov = true;
    expect_kernel_equals_chain("sgd_update", &o, 1, 1);
}

static void rmsprop_in_one_pass_is_the_chain(void **state) {
    (void)state;
    cr_rmsprop_update_options o = {.size = sizeof o, .alpha = 0.99, .eps = 1e-8};
    for (unsigned present = 1; present < 8; present += 2)
        expect_kernel_equals_chain("rmsprop_update", &o, present, 3);
    o.momentum = 0.9;
    o.weight_decay = 0.1;
    o.maximize = true;
    for (unsigned present = 1; present < 8; present += 2)
        expect_kernel_equals_chain("rmsprop_update", &o, present, 3);
}

static void tensors_that_lie_differently_are_updated_too(void **state) {
    (void)state;
    const cr_sgd_update_options o = {.size = sizeof o, .momentum = 0.9};
    CR_SCOPE {
        cr_tensor *p = cr_ones(CR_F32, CR_SHAPE(3, 5), CR_CPU),
                  *b = cr_transpose(cr_zeros(CR_F32, CR_SHAPE(5, 3), CR_CPU), 0, 1);
        cr_tensor *g = cr_expand(cr_ones(CR_F32, CR_SHAPE(3, 1), CR_CPU), CR_SHAPE(3, 5));
        assert_true(cr_sgd_update(p, g, b, cr_zeros(CR_F32, CR_SHAPE(), CR_CPU), cr_scalar(0.25, CR_F64), &o));
        assert_true(cr_item(cr_amax(p)) == 0.75 && cr_item(cr_amin(p)) == 0.75 && cr_item(cr_amin(b)) == 1);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sgd_in_one_pass_is_the_chain),
        cmocka_unit_test(rmsprop_in_one_pass_is_the_chain),
        cmocka_unit_test(tensors_that_lie_differently_are_updated_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
