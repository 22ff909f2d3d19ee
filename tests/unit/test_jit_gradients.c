/* Gradients that a traced function leaves on parameters, against the function itself: cleared first, added up, and
 * there before the trace. And .check, which must tell a graph that froze a decision. */
#include "tests/unit/testing.h"

typedef struct subject {
    cr_nn_module *net;
    bool clears;
} subject;

static bool step(void *context, cr_tensor *const *in, int input_count, cr_tensor **out, int output_count) {
    const subject *s = context;
    (void)input_count, (void)output_count;
    if (s->clears) cr_nn_zero_grad(s->net);
    out[0] = cr_cross_entropy(cr_nn_forward(s->net, in[0]), in[1]);
    return cr_backward(out[0]);
}

static cr_nn_module *new_net(void) { return cr_nn_sequential(cr_nn_linear(8, 8), cr_nn_relu(), cr_nn_linear(8, 10)); }

static void fresh_batch(cr_tensor **batch) {
    batch[0] = cr_randn(CR_F32, CR_SHAPE(4, 8), CR_CPU);
    batch[1] = cr_randint(0, 10, CR_SHAPE(4), CR_CPU);
}

static void assert_same_gradients(cr_nn_module *a, cr_nn_module *b) {
    for (int i = 0; i < cr_nn_parameters(a).count; i++) {
        cr_tensor *x = cr_grad_of(cr_nn_parameters(a).at[i]), *y = cr_grad_of(cr_nn_parameters(b).at[i]);
        assert_non_null(x);
        assert_non_null(y);
        assert_memory_equal(cr_data(x), cr_data(y), (size_t)cr_numel(x) * sizeof(float));
        assert_true(cr_item(cr_amax(cr_abs(y))) > 0);
    }
}

/* Three runs, the gradients cleared by hand before the last one. */
static void check_runs(bool clears, bool has_gradients_before) {
    cr_nn_module *ours = new_net(), *plain = new_net();
    assert_true(cr_nn_copy_state(plain, ours));
    CR_SCOPE {
        subject a = {ours, clears}, b = {plain, clears};
        cr_tensor *batch[2], *loss;
        fresh_batch(batch);
        if (has_gradients_before) assert_true(step(&a, batch, 2, &loss, 1) && step(&b, batch, 2, &loss, 1));
        cr_graph *graph = cr_jit_trace_function(step, &a, batch, 2, &loss, 1, &ours, 1);
        assert_cr_ok();
        assert_true(step(&b, batch, 2, &loss, 1));
        assert_same_gradients(ours, plain);
        for (int run = 0; run < 3; run++) {
            fresh_batch(batch);
            if (run == 2) cr_nn_zero_grad(ours), cr_nn_zero_grad(plain);
            assert_true(cr_jit_run(graph, batch, 2, &loss, 1));
            assert_true(step(&b, batch, 2, &loss, 1));
            assert_same_gradients(ours, plain);
        }
        cr_jit_free(graph);
    }
    cr_nn_free(ours);
    cr_nn_free(plain);
    assert_cr_ok();
}

static void gradients_that_are_cleared_first(void **state) {
    (void)state;
    check_runs(true, false);
    check_runs(true, true);
}

static void gradients_that_add_up(void **state) {
    (void)state;
    check_runs(false, false);
    check_runs(false, true);
}

static void gradients_survive_text(void **state) {
    (void)state;
    cr_nn_module *net = new_net();
    CR_SCOPE {
        subject s = {net, false};
        cr_tensor *batch[2], *loss;
        fresh_batch(batch);
        for (int before = 0; before < 2; before++) {
            cr_graph *graph = cr_jit_trace_function(step, &s, batch, 2, &loss, 1, &net, 1);
            char *text = cr_jit_text(graph);
            cr_graph *read = cr_jit_parse(text);
            char *again = cr_jit_text(read);
            assert_cr_ok();
            assert_string_equal(text, again);
            assert_non_null(strstr(text, before ? "gradient of" : "added to"));
            cr_free(text);
            cr_free(again);
            cr_jit_free(read);
            cr_jit_free(graph);
        }
    }
    cr_nn_free(net);
}

/* Another way for other values: a trace freezes the example's. */
static bool decide(void *context, cr_tensor *const *in, int input_count, cr_tensor **out, int output_count) {
    (void)context, (void)input_count, (void)output_count;
    out[0] = cr_item(cr_amax(cr_abs(in[0]))) > 0.95 ? cr_neg(in[0]) : cr_exp(in[0]);
    return out[0] != NULL;
}

static void a_frozen_decision_is_told(void **state) {
    (void)state;
    CR_SCOPE {
        cr_tensor *x = cr_full(CR_F32, CR_SHAPE(64), 0.9, CR_CPU);
        cr_graph *graph = cr_jit_trace_function(decide, NULL, &x, 1, NULL, 1, NULL, 0);
        assert_true(cr_jit_warning_count(graph) == 1 && strstr(cr_jit_warning(graph, 0), "cr_item"));
        cr_jit_free(graph);
        assert_null(cr_jit_trace_function(decide, NULL, &x, 1, NULL, 1, NULL, 0, .check = true));
        assert_cr_error(CR_ERROR_NUMERIC, ".check");
    }
}

static int nothing_lives(void **state) {
    (void)state;
    cr_scope_clear();
    return cr_memory_stats().live_bytes == 0 ? 0 : -1;
}

int main(void) {
    cr_manual_seed(5);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(gradients_that_are_cleared_first),
        cmocka_unit_test(gradients_that_add_up),
        cmocka_unit_test(gradients_survive_text),
        cmocka_unit_test(a_frozen_decision_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, nothing_lives);
}
