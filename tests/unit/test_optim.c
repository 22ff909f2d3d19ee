/* Optimizers against numbers from PyTorch 1.13, groups, schedules, and state that survives the disk bit for bit. */
#include "tests/unit/testing.h"
#include "tests/unit/memory_checks.h"
#include "tests/unit/temporary_folder.h"

#include <math.h>

/* f(w) = Σ k · w² - w³ / 3 over three weights: gradients that change from step to step. */
static cr_tensor *weights;
static const char *const weight_name = "w";

static cr_nn_tensors start(void) {
    weights = cr_requires_grad_(cr_from_data(CR_F64, CR_SHAPE(3), (double[]){1, -2, 0.5}), true);
    return (cr_nn_tensors){&weights, &weight_name, 1};
}
static void step(cr_optim *optim) {
    CR_SCOPE {
        cr_tensor *k = cr_from_data(CR_F64, CR_SHAPE(3), (double[]){1, 2, 3});
        cr_tensor *loss =
            cr_sum(cr_sub(cr_mul(k, cr_square(weights)), cr_div_scalar(cr_mul(weights, cr_square(weights)), 3)));
        cr_optim_zero_grad(optim);
        assert_true(cr_backward(loss));
        assert_true(cr_optim_step(optim));
    }
}
static void expect(double a, double b, double c) {
    const double *w = cr_data(weights), expected[] = {a, b, c};
    assert_cr_ok();
    for (int i = 0; i < 3; i++)
        if (!(fabs(w[i] - expected[i]) <= 1e-9))
            fail_msg("weight %d is %.12f, PyTorch's is %.12f", i, w[i], expected[i]);
}

static void updates_are_pytorchs(void **state) {
    (void)state;
#define CHECK(make, ...)                                                                                               \
    {                                                                                                                  \
        cr_optim *optim = make;                                                                                        \
        for (int i = 0; i < 5; i++)                                                                                    \
            step(optim);                                                                                               \
        expect(__VA_ARGS__);                                                                                           \
        cr_optim_free(optim);                                                                                          \
    }
    CHECK(cr_optim_sgd(start(), .lr = 0.05), 0.753704776971, -0.449413437409, 0.093022575554)
    CHECK(cr_optim_sgd(start(), .lr = 0.02, .momentum = 0.9, .dampening = 0.1, .weight_decay = 0.01), 0.753978102106,
          0.142093026007, -0.031664867038)
    CHECK(cr_optim_sgd(start(), .lr = 0.02, .momentum = 0.9, .nesterov = true), 0.667719398470, 0.315085426530,
          -0.088843243202)
    CHECK(cr_optim_adam(start(), .lr = 0.1), 0.501750657486, -1.504118096148, 0.025883948803)
    CHECK(cr_optim_adam(start(), .lr = 0.1, .beta1 = 0.5, .weight_decay = 0.1, .amsgrad = true), 0.511012968705,
          -1.518429685356, 0.074171171208)
    CHECK(cr_optim_adam(start(), .lr = 0.1, .maximize = true), 1.498249342514, -2.501892709141, 1.002025228330)
    CHECK(cr_optim_adamw(start(), .lr = 0.1, .weight_decay = 0.2), 0.426093554649, -1.333709395467, 0.001616388574)
    CHECK(cr_optim_rmsprop(start(), .lr = 0.05), 0.003375957627, -0.737036282267, 0.000000000002)
    CHECK(cr_optim_rmsprop(start(), .lr = 0.05, .momentum = 0.9, .centered = true, .weight_decay = 0.01),
          -0.418769066105, 1.287864930697, 0.164804181300)
}

/* The one-pass kernel and the chain of ops must agree; f32 and tensors of odd strides take different ways. */
static void strided_parameters_take_the_same_steps(void **state) {
    (void)state;
    cr_tensor *storage = cr_zeros(CR_F64, CR_SHAPE(3, 2), CR_CPU);
    CR_NO_GRAD { cr_copy_(cr_select(storage, 1, 0), cr_from_data(CR_F64, CR_SHAPE(3), (double[]){1, -2, 0.5})); }
    cr_optim *dense = cr_optim_adam(start(), .lr = 0.1, .weight_decay = 0.1);
    for (int i = 0; i < 5; i++)
        step(dense);
    cr_tensor *expected = weights;
    weights = cr_requires_grad_(cr_detach(cr_select(storage, 1, 0)), true);
    cr_optim *strided = cr_optim_adam(((cr_nn_tensors){&weights, &weight_name, 1}), .lr = 0.1, .weight_decay = 0.1);
    for (int i = 0; i < 5; i++)
        step(strided);
    assert_true(cr_item(cr_amax(cr_abs(cr_sub(cr_detach(weights), cr_detach(expected))))) < 1e-12);
    cr_optim_free(dense);
    cr_optim_free(strided);
}

static void a_run_resumes_bit_for_bit(void **state) {
    (void)state;
    cr_optim *optim = cr_optim_adam(start(), .lr = 0.1, .amsgrad = true);
    cr_optim_schedule *schedule = cr_optim_step_schedule(optim, 2, 0.5);
    for (int i = 0; i < 3; i++)
        step(optim), assert_true(cr_optim_schedule_step(schedule, 0));
    assert_true(cr_optim_save(optim, in_folder("optim.safetensors")));
    cr_tensor *saved = cr_clone(cr_detach(weights)), *position = cr_optim_schedule_state(schedule);
    for (int i = 0; i < 3; i++)
        step(optim), assert_true(cr_optim_schedule_step(schedule, 0));
    cr_tensor *end = weights;
    cr_optim *again = cr_optim_adam(start());
    cr_optim_schedule *later = cr_optim_step_schedule(again, 2, 0.5);
    CR_NO_GRAD { cr_copy_(weights, saved); }
    assert_true(cr_optim_load(again, in_folder("optim.safetensors")));
    assert_true(cr_optim_schedule_restore(later, position));
    for (int i = 0; i < 3; i++)
        step(again), assert_true(cr_optim_schedule_step(later, 0));
    assert_memory_equal(cr_data(weights), cr_data(end), 3 * sizeof(double));
    assert_cr_ok();
    cr_optim_schedule_free(schedule);
    cr_optim_schedule_free(later);
    cr_optim_free(optim);
    cr_optim_free(again);
}

static void a_state_may_stand_beside_others_in_one_file(void **state) {
    (void)state;
    cr_optim *optim = cr_optim_sgd(start(), .lr = 0.25, .momentum = 0.9);
    step(optim);
    const cr_nn_tensors own = cr_optim_state(optim);
    cr_named_tensor rows[16];
    char names[16][64];
    assert_in_range(own.count, 3, 15);
    for (int i = 0; i < own.count; i++) {
        snprintf(names[i], sizeof names[i], "optim.%s", own.names[i]);
        rows[i] = (cr_named_tensor){names[i], own.at[i]};
    }
    rows[own.count] = (cr_named_tensor){"other", weights};
    assert_true(cr_safetensors_save(in_folder("all.safetensors"), rows, own.count + 1, NULL, 0));
    cr_optim *again = cr_optim_sgd(((cr_nn_tensors){&weights, &weight_name, 1}));
    cr_safetensors *file = cr_safetensors_open(in_folder("all.safetensors"));
    assert_true(cr_optim_restore(again, file, "optim."));
    assert_true(cr_optim_lr(again) == 0.25 && cr_optim_get(again, 0, "momentum") == 0.9);
    assert_int_equal(cr_optim_state(again).count, own.count);
    cr_safetensors_close(file);
    cr_optim_free(optim);
    cr_optim_free(again);
}

static void a_file_that_does_not_fit_changes_nothing(void **state) {
    (void)state;
    cr_optim *optim = cr_optim_adam(start(), .lr = 0.1);
    step(optim);
    assert_true(cr_optim_save(optim, in_folder("three.safetensors")));
    cr_tensor *other[] = {cr_requires_grad_(cr_zeros(CR_F64, CR_SHAPE(3), CR_CPU), true),
                          cr_requires_grad_(cr_zeros(CR_F64, CR_SHAPE(2), CR_CPU), true)};
    const char *const names[] = {"fits", "does_not"};
    cr_optim *longer = cr_optim_adam(((cr_nn_tensors){other, names, 1}), .lr = 0.7);
    assert_int_equal(cr_optim_add_group(longer, (cr_nn_tensors){other + 1, names + 1, 1}), 1);
    assert_false(cr_optim_load(longer, in_folder("three.safetensors")));
    assert_cr_error(CR_ERROR_FORMAT, "groups.1.lr");
    assert_true(cr_optim_lr(longer) == 0.7);
    assert_int_equal(cr_optim_state(longer).count, 2 * 7); /* settings only: no parameter has a state */
    cr_optim *shorter = cr_optim_adam(((cr_nn_tensors){other + 1, names + 1, 1}), .lr = 0.7);
    assert_false(cr_optim_load(shorter, in_folder("three.safetensors")));
    assert_cr_error(CR_ERROR_SHAPE, "exp_avg is f64[3]");
    assert_true(cr_optim_lr(shorter) == 0.7);
    cr_optim *sgd = cr_optim_sgd(((cr_nn_tensors){other, names, 1}), .lr = 0.7);
    assert_false(cr_optim_load(sgd, in_folder("three.safetensors")));
    assert_cr_error(CR_ERROR_FORMAT, "not the state of this optim_sgd");
    assert_true(cr_optim_lr(sgd) == 0.7);
    cr_optim_free(optim);
    cr_optim_free(longer);
    cr_optim_free(shorter);
    cr_optim_free(sgd);
}

static void schedules_follow_their_formulas(void **state) {
    (void)state;
    cr_optim *optim = cr_optim_sgd(start(), .lr = 1);
    cr_optim_schedule *cosine = cr_optim_cosine_schedule(optim, 4, 0.2);
    for (int i = 0; i < 2; i++)
        assert_true(cr_optim_schedule_step(cosine, 0));
    assert_true(fabs(cr_optim_lr(optim) - 0.6) < 1e-12);
    for (int i = 0; i < 2; i++)
        assert_true(cr_optim_schedule_step(cosine, 0));
    assert_true(fabs(cr_optim_lr(optim) - 0.2) < 1e-12);
    cr_optim_schedule_free(cosine);
    assert_true(cr_optim_set(optim, -1, "lr", 1));
    cr_optim_schedule *plateau = cr_optim_plateau_schedule(optim, .factor = 0.5, .patience = 1);
    const double metrics[] = {3, 2, 2, 2, 2, 1}, rates[] = {1, 1, 1, 0.5, 0.5, 0.5};
    for (int i = 0; i < 6; i++) {
        assert_true(cr_optim_schedule_step(plateau, metrics[i]));
        assert_true(cr_optim_lr(optim) == rates[i]);
    }
    cr_optim_schedule_free(plateau);
    cr_optim_free(optim);
}

static void groups_have_settings_of_their_own(void **state) {
    (void)state;
    cr_optim *optim = cr_optim_sgd(start(), .lr = 0.5);
    cr_tensor *other = cr_requires_grad_(cr_zeros(CR_F64, CR_SHAPE(2), CR_CPU), true);
    assert_int_equal(cr_optim_add_group(optim, (cr_nn_tensors){&other, &weight_name, 1}), 1);
    assert_true(cr_optim_set(optim, 1, "lr", 0.1));
    assert_int_equal(cr_optim_group_count(optim), 2);
    assert_true(cr_optim_get(optim, 0, "lr") == 0.5 && cr_optim_get(optim, 1, "lr") == 0.1);
    assert_int_equal(cr_optim_add_group(optim, (cr_nn_tensors){&other, &weight_name, 1}), -1);
    assert_cr_error(CR_ERROR_ARGUMENT, "group already");
    assert_false(cr_optim_set(optim, 0, "beta1", 0.5));
    assert_cr_error(CR_ERROR_ARGUMENT, "no setting");
    assert_null(cr_optim_sgd(start(), .lr = -1));
    assert_cr_error(CR_ERROR_ARGUMENT, "learning rate");
    cr_optim_free(optim);
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, nothing_is_left)
    const struct CMUnitTest tests[] = {TEST(updates_are_pytorchs),
                                       TEST(strided_parameters_take_the_same_steps),
                                       TEST(a_run_resumes_bit_for_bit),
                                       TEST(schedules_follow_their_formulas),
                                       TEST(groups_have_settings_of_their_own),
                                       TEST(a_state_may_stand_beside_others_in_one_file),
                                       TEST(a_file_that_does_not_fit_changes_nothing)};
    return cmocka_run_group_tests(tests, make_temporary_folder, remove_temporary_folder);
}
