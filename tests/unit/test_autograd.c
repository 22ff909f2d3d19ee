/* Autograd: the driver, modes, hooks, views and in-place writes, functions of the user's own, checkpoints, deep
 * graphs, leaves that threads share.
 * Labels: threads */
#include "tests/unit/testing.h"
#include "tests/unit/memory_checks.h"

#include <math.h>
#include <pthread.h>

static cr_tensor *leaf(int64_t n, double first) {
    cr_tensor *t = cr_empty(CR_F64, CR_SHAPE(n), CR_CPU);
    for (int64_t i = 0; i < n; i++)
        ((double *)cr_data(t))[i] = first + (double)i;
    return cr_requires_grad_(t, true);
}

static double at(cr_tensor *t, int64_t i) { return cr_at(t, CR_SHAPE(i)); }

static void gradients_add_up_over_uses(void **state) {
    (void)state;
    cr_tensor *x = leaf(3, 1);
    cr_tensor *y = cr_sum(cr_add(cr_mul(x, x), x)); /* d/dx = 2x + 1 */
    assert_true(cr_backward(y));
    for (int i = 0; i < 3; i++)
        assert_true(at(cr_grad_of(x), i) == 2 * (1 + i) + 1);
    assert_true(cr_backward(cr_sum(x)));
    assert_true(at(cr_grad_of(x), 0) == 4);
    assert_cr_ok();
}

/* Gradients of windows are written into the sum of what came before, which here is none, an expanded number, a window's,
 * or a tensor of the caller's, and with a graph of gradients never. */
static void windows_share_the_gradient_of_the_whole(void **state) {
    (void)state;
    const double expected[] = {2 + 7, 2 + 3 + 5 + 7, 2 + 7, 3 + 7};
    for (int way = 0; way < 4; way++) {
        const bool sum_is_first = way % 2;
        cr_tensor *leaves = leaf(4, 1), *x = cr_mul_scalar(leaves, 1), *gradient = NULL;
        cr_tensor *early = sum_is_first ? NULL : cr_mul_scalar(cr_sum(x), 7);
        cr_tensor *loss = cr_add(cr_mul_scalar(cr_sum(cr_slice(x, 0, 0, 3, 1)), 2),
                                 cr_mul_scalar(cr_sum(cr_slice(x, 0, 1, 4, 2)), 3));
        loss = cr_add(loss, cr_mul_scalar(cr_select(x, 0, 1), 5));
        loss = cr_add(loss, early ? early : cr_mul_scalar(cr_sum(x), 7));
        const cr_grad_options options = {.size = sizeof options, .create_graph = way / 2};
        assert_true(cr_grad(&loss, 1, &leaves, 1, &gradient, &options));
        for (int i = 0; i < 4; i++)
            assert_true(at(gradient, i) == expected[i]);
    }
    cr_tensor *leaves = leaf(2, 1), *x = cr_mul_scalar(leaves, 1), *roots[] = {x, cr_select(x, 0, 1)};
    cr_tensor *given[] = {cr_ones_like(x), cr_ones_like(roots[1])}, *gradient = NULL;
    const cr_grad_options options = {.size = sizeof options, .gradients = given};
    assert_true(cr_grad(roots, 2, &leaves, 1, &gradient, &options));
    assert_true(at(gradient, 0) == 1 && at(gradient, 1) == 2 && at(given[0], 1) == 1);
    assert_cr_ok();
}

/* The first gradient that comes is a part of another tensor, which nobody else has any more. */
static void a_window_finds_its_place_in_a_part(void **state) {
    (void)state;
    cr_tensor *leaves = leaf(4, 1), *x = cr_mul_scalar(leaves, 1), *window = cr_mul_scalar(cr_select(x, 0, 1), 5);
    cr_tensor *parts[] = {cr_zeros(CR_F64, CR_SHAPE(3), CR_CPU), x};
    assert_true(cr_backward(cr_add(window, cr_sum(cr_square(cr_cat(parts, 2, 0))))));
    for (int i = 0; i < 4; i++)
        assert_true(at(cr_grad_of(leaves), i) == 2 * (i + 1) + (i == 1 ? 5 : 0));
}

static void a_graph_is_used_once_unless_kept(void **state) {
    (void)state;
    cr_tensor *x = leaf(2, 1), *y = cr_sum(cr_exp(x));
    assert_true(cr_backward(y, .retain_graph = true));
    assert_true(cr_backward(y));
    assert_false(cr_backward(y));
    assert_cr_error(CR_ERROR_STATE, "used up");
}

static void a_root_without_a_graph_is_an_error(void **state) {
    (void)state;
    assert_false(cr_backward(cr_zeros(CR_F32, CR_SHAPE_0D, CR_CPU)));
    assert_cr_error(CR_ERROR_STATE, "does not require gradients");
    cr_tensor *x = leaf(2, 1);
    assert_false(cr_backward(cr_exp(x)));
    assert_cr_error(CR_ERROR_SHAPE, "one element");
}

static void derivatives_of_any_order(void **state) {
    (void)state;
    cr_tensor *x = leaf(1, 2), *y = cr_mul(cr_square(x), cr_square(x)); /* x^4: 32, 48, 48, 24 */
    const double expected[] = {32, 48, 48, 24};
    for (int order = 0; order < 4; order++) {
        cr_tensor *gradient = NULL;
        const cr_grad_options options = {.size = sizeof options, .create_graph = true};
        assert_true(cr_grad(&y, 1, &x, 1, &gradient, &options));
        assert_true(fabs(at(gradient, 0) - expected[order]) < 1e-9);
        y = gradient;
    }
    assert_null(cr_grad_of(x));
}

static void in_place_writes_move_the_history(void **state) {
    (void)state;
    cr_tensor *x = leaf(4, 1), *y = cr_mul_scalar(x, 3);
    cr_mul_scalar_(y, 2);
    cr_add_(y, x);
    assert_true(cr_backward(cr_sum(y)));
    assert_true(at(cr_grad_of(x), 2) == 7);
    assert_cr_ok();
}

static void an_overwritten_value_is_refused(void **state) {
    (void)state;
    cr_tensor *x = leaf(2, 1), *y = cr_exp(x);
    cr_tensor *z = cr_mul(y, y); /* keeps y */
    cr_add_scalar_(y, 1);
    assert_false(cr_backward(cr_sum(z)));
    assert_cr_error(CR_ERROR_STATE, "overwritten in place");
}

static void a_leaf_is_not_written_in_place(void **state) {
    (void)state;
    cr_tensor *x = leaf(2, 1);
    assert_null(cr_add_scalar_(x, 1));
    assert_cr_error(CR_ERROR_STATE, "leaf");
    CR_NO_GRAD { assert_non_null(cr_add_scalar_(x, 1)); }
    assert_true(at(x, 0) == 2);
}

/* y = 2x; y[1:3] += w through a view: y = (2x0, 2x1 + w0, 2x2 + w1, 2x3). */
static void writing_a_view_changes_its_base(void **state) {
    (void)state;
    cr_tensor *x = leaf(4, 1), *w = leaf(2, 5), *y = cr_mul_scalar(x, 2);
    cr_tensor *middle = cr_as_strided(y, CR_SHAPE(2), CR_SHAPE(1), 1);
    cr_tensor *same_place = cr_as_strided(y, CR_SHAPE(1), CR_SHAPE(1), 2);
    assert_non_null(cr_add_(middle, w));
    assert_true(at(y, 1) == 9 && at(same_place, 0) == 12);
    assert_true(cr_backward(cr_sum(cr_add(cr_square(y), cr_sum(same_place)))));
    /* sum(y²) + 4·y2, as the number broadcasts over four elements */
    assert_true(at(cr_grad_of(x), 0) == 2 * 2 * 2);
    assert_true(at(cr_grad_of(x), 1) == 2 * 9 * 2);
    assert_true(at(cr_grad_of(x), 2) == (2 * 12 + 4) * 2);
    assert_true(at(cr_grad_of(w), 0) == 2 * 9);
    assert_true(at(cr_grad_of(w), 1) == 2 * 12 + 4);
    assert_cr_ok();
}

/* A view of a tensor that required nothing comes to require gradients with its base. */
static void a_plain_base_joins_the_graph(void **state) {
    (void)state;
    cr_tensor *w = leaf(2, 5), *y = cr_zeros(CR_F64, CR_SHAPE(4), CR_CPU);
    cr_tensor *part = cr_as_strided(y, CR_SHAPE(2), CR_SHAPE(2), 0);
    assert_non_null(cr_copy_(part, w));
    assert_true(cr_requires_grad(y));
    assert_true(cr_backward(cr_sum(cr_square(y))));
    assert_true(at(cr_grad_of(w), 1) == 12);
    assert_cr_ok();
}

static cr_tensor *double_it(cr_tensor *gradient, void *context) {
    ++*(int *)context;
    return cr_mul_scalar(gradient, 2);
}
static bool note_leaf(cr_tensor *t, void *context) {
    *(double *)context = at(cr_grad_of(t), 0);
    return true;
}

static void hooks_see_and_change_gradients(void **state) {
    (void)state;
    int calls = 0;
    double seen = 0;
    cr_tensor *x = leaf(2, 1), *y = cr_mul_scalar(x, 3);
    const int handle = cr_register_hook(y, double_it, &calls);
    assert_true(handle > 0);
    assert_true(cr_register_post_accumulate_hook(x, note_leaf, &seen) > 0);
    assert_true(cr_retain_grad(y));
    cr_tensor *sum = cr_sum(y);
    assert_true(cr_backward(sum, .retain_graph = true));
    assert_int_equal(calls, 1);
    assert_true(seen == 6);
    assert_true(at(cr_grad_of(y), 0) == 2);
    assert_true(cr_remove_hook(y, handle));
    assert_true(cr_backward(sum));
    assert_int_equal(calls, 1);
    assert_true(seen == 9);
    assert_cr_ok();
}

static void modes_stop_recording(void **state) {
    (void)state;
    cr_tensor *x = leaf(2, 1);
    CR_NO_GRAD {
        assert_false(cr_requires_grad(cr_exp(x)));
        CR_ENABLE_GRAD { assert_true(cr_requires_grad(cr_exp(x))); }
    }
    cr_tensor *made = NULL;
    CR_INFERENCE { made = cr_exp(x); }
    assert_null(cr_mul(made, x));
    assert_cr_error(CR_ERROR_STATE, "inference");
    assert_false(cr_requires_grad(cr_detach(cr_exp(x))));
}

/* ---------------------------------------------------------------- functions of one's own */
static bool cube_forward(cr_function_call *call, cr_tensor *const *inputs, cr_tensor **outputs) {
    outputs[0] = cr_mul(inputs[0], cr_square(inputs[0]));
    return outputs[0] && cr_function_save(call, inputs[0]);
}
static bool cube_backward(cr_function_call *call, cr_tensor *const *output_gradients, cr_tensor **input_gradients) {
    cr_tensor *x = cr_function_saved(call, 0);
    input_gradients[0] = cr_mul(output_gradients[0], cr_mul_scalar(cr_square(x), 3));
    return input_gradients[0] != NULL;
}
static const cr_function cube = {"cube", cube_forward, cube_backward, 0, NULL};

static bool apply_cube(void *context, cr_tensor *const *inputs, int input_count, cr_tensor **outputs,
                       int output_count) {
    (void)context;
    return cr_function_apply(&cube, inputs, input_count, outputs, output_count, NULL);
}

static void own_functions_are_differentiated_twice(void **state) {
    (void)state;
    cr_tensor *x = leaf(3, 0.5);
    assert_true(cr_gradcheck(apply_cube, NULL, &x, 1, 1, NULL));
    assert_true(cr_gradgradcheck(apply_cube, NULL, &x, 1, 1, NULL));
    assert_cr_ok();
}

static bool wrong_backward(cr_function_call *call, cr_tensor *const *output_gradients, cr_tensor **input_gradients) {
    (void)call;
    input_gradients[0] = cr_mul_scalar(output_gradients[0], 7);
    return true;
}
static const cr_function wrong = {"wrong", cube_forward, wrong_backward, 0, NULL};
static bool apply_wrong(void *context, cr_tensor *const *inputs, int input_count, cr_tensor **outputs,
                        int output_count) {
    (void)context;
    return cr_function_apply(&wrong, inputs, input_count, outputs, output_count, NULL);
}

static void gradcheck_catches_a_wrong_rule(void **state) {
    (void)state;
    cr_tensor *x = leaf(3, 0.5);
    assert_false(cr_gradcheck(apply_wrong, NULL, &x, 1, 1, NULL));
    assert_cr_error(CR_ERROR_NUMERIC, "by differences");
}

/* ---------------------------------------------------------------- checkpoints */
static cr_tensor *layers(void *context, cr_tensor *const *inputs, int input_count) {
    (void)input_count;
    return cr_tanh(cr_mul(cr_exp(inputs[0]), context));
}

static void checkpoints_give_the_same_gradients(void **state) {
    (void)state;
    cr_tensor *x = leaf(3, 0.1), *w = leaf(3, 0.2);
    assert_true(cr_backward(cr_sum(layers(w, &x, 1))));
    const double plain_x = at(cr_grad_of(x), 1), plain_w = at(cr_grad_of(w), 1);
    cr_set_grad(x, NULL);
    cr_set_grad(w, NULL);
    assert_true(cr_backward(cr_sum(cr_checkpoint(layers, w, &x, 1))));
    assert_true(at(cr_grad_of(x), 1) == plain_x && at(cr_grad_of(w), 1) == plain_w);
    assert_cr_ok();
}

static void anomalies_name_the_op(void **state) {
    (void)state;
    cr_set_anomaly_detection(true);
    cr_tensor *x = leaf(2, -1);
    assert_null(cr_log(x));
    assert_cr_error(CR_ERROR_NUMERIC, "log");
    cr_tensor *y = cr_sum(cr_sqrt(cr_mul_scalar(x, 0))); /* 0 · inf in backward */
    assert_false(cr_backward(y));
    assert_cr_error(CR_ERROR_NUMERIC, "backward of");
    cr_set_anomaly_detection(false);
}

static void a_million_nodes_need_no_stack(void **state) {
    (void)state;
    cr_tensor *x = leaf(1, 1), *y = x;
    CR_SCOPE {
        for (int i = 0; i < 1000000; i++) {
            cr_tensor *next = cr_add_scalar(y, 1);
            if (i) cr_discard(y);
            y = next;
        }
        assert_true(cr_backward(y));
    }
    assert_true(at(cr_grad_of(x), 0) == 1);
}

static void several_roots_go_back_at_once(void **state) {
    (void)state;
    cr_tensor *x = leaf(2, 1), *square = cr_square(x), *sum = cr_sum(x);
    cr_tensor *gradients[] = {cr_from_data(CR_F64, CR_SHAPE(2), (double[]){10, 100}), NULL};
    assert_true(cr_backward_many((cr_tensor *const[]){square, sum}, gradients, 2, NULL));
    assert_true(at(cr_grad_of(x), 0) == 21 && at(cr_grad_of(x), 1) == 401);
    assert_true(cr_is_leaf(x) && !cr_is_leaf(sum) && !cr_grad_op(x));
    assert_string_equal(cr_grad_op(square), "square");
}

static void modes_come_back_as_they_were(void **state) {
    (void)state;
    assert_true(cr_grad_enabled());
    cr_grad_mode outer = cr_grad_mode_enter(false, true);
    assert_false(cr_grad_enabled());
    CR_ENABLE_GRAD assert_true(cr_grad_enabled());
    assert_false(cr_grad_enabled());
    cr_tensor *made = cr_ones(CR_F64, CR_SHAPE(1), CR_CPU);
    cr_grad_mode_leave(&outer);
    assert_true(cr_grad_enabled());
    assert_null(cr_requires_grad_(made, true));
    assert_cr_error(CR_ERROR_STATE, "inference");
    assert_true(cr_set_grad_enabled(false) && !cr_set_grad_enabled(true));
    assert_false(cr_set_inference(true));
    assert_true(cr_set_inference(false));
}

/* ax + by for numbers of its own; tells what it was asked. */
typedef struct blend {
    double a, b;
    int *seen; /* inputs · 10 + outputs, then which inputs wanted gradients, a bit each */
} blend;
static bool blend_forward(cr_function_call *call, cr_tensor *const *inputs, cr_tensor **outputs) {
    const blend *own = cr_function_context(call);
    own->seen[0] = cr_function_input_count(call) * 10 + cr_function_output_count(call);
    own->seen[1] = cr_function_needs(call, 0) | cr_function_needs(call, 1) << 1 | cr_function_needs(call, 2) << 2;
    return (outputs[0] = cr_add(cr_mul_scalar(inputs[0], own->a), cr_mul_scalar(inputs[1], own->b))) != NULL;
}
static bool blend_backward(cr_function_call *call, cr_tensor *const *output_gradients, cr_tensor **input_gradients) {
    const blend *own = cr_function_context(call);
    if (cr_function_needs(call, 0)) input_gradients[0] = cr_mul_scalar(output_gradients[0], own->a);
    if (cr_function_needs(call, 1)) input_gradients[1] = cr_mul_scalar(output_gradients[0], own->b);
    return cr_ok();
}

static void own_functions_have_a_context(void **state) {
    (void)state;
    static const cr_function row = {"blend", blend_forward, blend_backward, sizeof(blend), NULL};
    int seen[2] = {0, 0};
    cr_tensor *x = leaf(2, 1), *y = cr_detach(leaf(2, 5)), *z;
    assert_true(cr_function_apply(&row, (cr_tensor *const[]){x, y}, 2, &z, 1, &(blend){3, 4, seen}));
    assert_true(at(z, 0) == 23 && seen[0] == 21 && seen[1] == 1);
    assert_true(cr_backward(cr_sum(z)));
    assert_true(at(cr_grad_of(x), 1) == 3 && !cr_grad_of(y));
}

/* The graph holds the leaf, and the leaf its hook, when nobody else does. */
static cr_tensor *count_in(cr_tensor *gradient, void *context) {
    *(int *)context += (int)at(gradient, 0);
    return gradient;
}
static void a_graph_keeps_its_leaves(void **state) {
    (void)state;
    cr_tensor *y = NULL;
    int seen = 0;
    CR_SCOPE {
        cr_tensor *x = leaf(2, 1);
        assert_true(cr_register_hook(x, count_in, &seen));
        y = cr_keep(cr_sum(cr_mul_scalar(x, 7)));
    }
    assert_true(cr_backward(y) && seen == 7);
}

static void a_retained_gradient_follows_its_tensor(void **state) {
    (void)state;
    cr_tensor *x = leaf(2, 1), *y = cr_mul_scalar(x, 2);
    assert_true(cr_retain_grad(y));
    assert_ptr_equal(cr_add_(y, x), y); /* 3 x, whose gradient is kept in place of 2 x's */
    assert_true(cr_backward(cr_sum(cr_mul_scalar(y, 5))));
    assert_true(at(cr_grad_of(y), 0) == 5 && at(cr_grad_of(y), 1) == 5);
}

/* Threads record ops of one leaf, and look through their graphs, all at once. */
static void *differentiate_often(void *shared) {
    cr_tensor *x = shared;
    bool right = true;
    for (int i = 0; i < 300 && right; i++)
        CR_SCOPE {
            cr_tensor *y = cr_sum(cr_mul(x, cr_mul_scalar(x, i))), *gradient = NULL; /* i x^2: 2 i x */
            const cr_grad_options options = {.size = sizeof options};
            right = cr_grad(&y, 1, &x, 1, &gradient, &options) && at(gradient, 1) == 4 * i;
        }
    return right && cr_ok() ? x : NULL;
}
static void threads_share_a_leaf(void **state) {
    (void)state;
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    cr_tensor *x = leaf(2, 1);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, differentiate_often, x), 0);
    for (int i = 0; i < THREADS; i++) {
        void *result;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_ptr_equal(result, x);
    }
    assert_null(cr_grad_of(x));
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, nothing_is_left)
    const struct CMUnitTest tests[] = {
        TEST(gradients_add_up_over_uses),
        TEST(windows_share_the_gradient_of_the_whole),
        TEST(a_window_finds_its_place_in_a_part),
        TEST(a_graph_is_used_once_unless_kept),
        TEST(a_root_without_a_graph_is_an_error),
        TEST(derivatives_of_any_order),
        TEST(in_place_writes_move_the_history),
        TEST(an_overwritten_value_is_refused),
        TEST(a_leaf_is_not_written_in_place),
        TEST(writing_a_view_changes_its_base),
        TEST(a_plain_base_joins_the_graph),
        TEST(hooks_see_and_change_gradients),
        TEST(modes_stop_recording),
        TEST(several_roots_go_back_at_once),
        TEST(modes_come_back_as_they_were),
        TEST(own_functions_have_a_context),
        TEST(own_functions_are_differentiated_twice),
        TEST(gradcheck_catches_a_wrong_rule),
        TEST(checkpoints_give_the_same_gradients),
        TEST(anomalies_name_the_op),
        TEST(a_million_nodes_need_no_stack),
        TEST(a_graph_keeps_its_leaves),
        TEST(a_retained_gradient_follows_its_tensor),
        TEST(threads_share_a_leaf),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
