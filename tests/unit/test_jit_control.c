/* Control flow that stays open in a trace: runs decide anew, and agree with the plain functions bit for bit. */
#include "tests/unit/testing.h"

#include <stdlib.h>

#include <cresset/jit.h>

#define FUNCTION(name)                                                                                                 \
    static bool name(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count)
#define UNUSED ((void)context, (void)in, (void)in_count, (void)out, (void)out_count)

FUNCTION(grow) {
    UNUSED;
    return (out[0] = cr_exp(cr_mul_scalar(in[0], 0.5))) != NULL;
}
FUNCTION(shrink) {
    UNUSED;
    return (out[0] = cr_sub(in[0], cr_mean(in[0]))) != NULL;
}
FUNCTION(choose) {
    UNUSED;
    cr_tensor *x = cr_add_scalar(in[0], 1);
    return cr_cond(cr_gt_scalar(cr_sum(in[0]), 0), grow, shrink, NULL, &x, 1, out, 1);
}

FUNCTION(is_small) {
    UNUSED;
    return (out[0] = cr_lt_scalar(cr_sum(cr_abs(in[0])), 100)) != NULL;
}
FUNCTION(twice) {
    UNUSED;
    return (out[0] = cr_mul_scalar(in[0], 2)) && (out[1] = cr_add_scalar(in[1], 1)) != NULL;
}
FUNCTION(grow_until_large) {
    UNUSED;
    cr_tensor *state[] = {in[0], cr_zeros(CR_I64, CR_SHAPE_0D, CR_CPU)};
    return cr_while_loop(is_small, twice, NULL, state, 2, out);
}

FUNCTION(cell) { /* h = tanh(x + w h), y = 2 h */
    (void)in_count, (void)out_count;
    return (out[0] = cr_tanh(cr_add(in[1], cr_matmul(in[0], context)))) && (out[1] = cr_mul_scalar(out[0], 2)) != NULL;
}
FUNCTION(recurrence) {
    UNUSED;
    cr_tensor *operands[] = {cr_zeros(CR_F32, CR_SHAPE(3, 4), CR_CPU), in[0]};
    return cr_scan(cell, context, operands, 1, 1, out, 2);
}
FUNCTION(choose_in_scan_step) {
    UNUSED;
    if (!choose(context, in, 1, out, 1)) return false;
    return (out[1] = out[0]) != NULL;
}
FUNCTION(nested) {
    UNUSED;
    cr_tensor *operands[] = {cr_zeros(CR_F32, CR_SHAPE_0D, CR_CPU), in[0]};
    return cr_scan(choose_in_scan_step, NULL, operands, 1, 1, out, 2);
}

static void check(cr_jit_function function, void *context, cr_shape shape, int outputs) {
    CR_SCOPE {
        cr_tensor *x = cr_randn(CR_F32, shape, CR_CPU), *expected[2] = {NULL}, *given[2] = {NULL};
        cr_graph *graph = cr_jit_trace_function(function, context, &x, 1, NULL, outputs, NULL, 0);
        assert_cr_ok();
        assert_int_equal(cr_jit_warning_count(graph), 0);
        for (int round = 0; round < 8; round++) {
            x = cr_add_scalar(cr_randn(CR_F32, shape, CR_CPU), round % 2 ? -2 : 2); /* one way, then the other */
            assert_true(function(context, &x, 1, expected, outputs));
            cr_jit_run(graph, &x, 1, given, outputs);
            assert_cr_ok();
            for (int i = 0; i < outputs; i++) {
                cr_tensor *a = cr_contiguous(given[i]), *b = cr_contiguous(expected[i]);
                assert_int_equal(cr_numel(a), cr_numel(b));
                assert_memory_equal(cr_data(a), cr_data(b), (size_t)cr_numel(a) * cr_dtype_size(cr_dtype_of(a)));
            }
        }
        char *text = cr_jit_text(graph), *again;
        cr_graph *read = cr_jit_parse(text);
        assert_cr_ok();
        again = cr_jit_text(read);
        assert_string_equal(text, again);
        cr_free(text);
        cr_free(again);
        cr_jit_free(read);
        cr_jit_free(graph);
    }
    cr_scope_clear();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static void branches_are_chosen_in_every_run(void **state) {
    (void)state;
    check(choose, NULL, CR_SHAPE(5), 1);
}
static void loops_run_as_often_as_their_condition_says(void **state) {
    (void)state;
    check(grow_until_large, NULL, CR_SHAPE(4), 2);
}
static void scans_carry_and_stack(void **state) {
    (void)state;
    float numbers[16];
    for (int i = 0; i < 16; i++)
        numbers[i] = (float)(i % 5) * 0.1f;
    cr_tensor *weight = cr_retain(cr_from_data(CR_F32, CR_SHAPE(4, 4), numbers));
    const int64_t own = cr_memory_stats().live_bytes;
    cr_tensor *x, *expected[2], *given[2];
    CR_SCOPE {
        x = cr_randn(CR_F32, CR_SHAPE(6, 3, 4), CR_CPU);
        cr_graph *graph = cr_jit_trace_function(recurrence, weight, &x, 1, NULL, 2, NULL, 0);
        assert_cr_ok();
        assert_true(cr_jit_run(graph, &x, 1, given, 2) && recurrence(weight, &x, 1, expected, 2));
        for (int i = 0; i < 2; i++)
            assert_true(cr_item(cr_amax(cr_abs(cr_sub(given[i], expected[i])))) == 0);
        cr_jit_free(graph);
    }
    assert_int_equal(cr_memory_stats().live_bytes, own);
    cr_release(weight);
    cr_scope_clear();
}
static void blocks_nest(void **state) {
    (void)state;
    check(nested, NULL, CR_SHAPE(6), 2);
}

int main(void) {
    setenv("CR_CC", "none", 1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(branches_are_chosen_in_every_run),
                                       cmocka_unit_test(loops_run_as_often_as_their_condition_says),
                                       cmocka_unit_test(scans_carry_and_stack), cmocka_unit_test(blocks_nest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
