/* Every allocation in one DCGAN step fails once in turn: always an error, never a crash, and nothing is left. */
#include "tests/unit/testing.h"

/* Makes both networks and their optimizers, takes one step of each, and frees all. */
static void dcgan_step(void) {
    cr_manual_seed(1);
    CR_SCOPE {
        cr_nn_module *generator = cr_vision_dcgan_generator(.latent = 4, .features = 2, .image_size = 16);
        cr_nn_module *discriminator = cr_vision_dcgan_discriminator(.features = 2, .image_size = 16);
        cr_optim *generator_optim = cr_optim_adam(cr_nn_parameters(generator), .lr = 2e-4, .beta1 = 0.5);
        cr_optim *discriminator_optim = cr_optim_adam(cr_nn_parameters(discriminator), .lr = 2e-4, .beta1 = 0.5);
        cr_tensor *real = cr_randn(CR_F32, CR_SHAPE(2, 3, 16, 16), CR_CPU);
        cr_tensor *yes = cr_ones(CR_F32, CR_SHAPE(2, 1, 1, 1), CR_CPU), *no = cr_zeros_like(yes);
        cr_tensor *fake = cr_nn_forward(generator, cr_randn(CR_F32, CR_SHAPE(2, 4, 1, 1), CR_CPU));
        cr_tensor *on_real = cr_bce_with_logits(cr_nn_forward(discriminator, real), yes);
        cr_tensor *on_fake = cr_bce_with_logits(cr_nn_forward(discriminator, cr_detach(fake)), no);
        cr_backward(cr_add(on_real, on_fake));
        cr_optim_step(discriminator_optim);
        cr_optim_zero_grad(generator_optim);
        cr_backward(cr_bce_with_logits(cr_nn_forward(discriminator, fake), yes));
        cr_optim_step(generator_optim);
        cr_optim_free(generator_optim);
        cr_optim_free(discriminator_optim);
        cr_nn_free(generator);
        cr_nn_free(discriminator);
    }
    cr_scope_clear();
}

static void every_allocation_of_a_dcgan_step_may_fail(void **state) {
    (void)state;
    dcgan_step();
    assert_cr_ok();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
    cr_memory_fail_nth(INT64_MAX);
    dcgan_step();
    const int64_t allocations = cr_memory_fail_seen();
    cr_memory_fail_nth(0);
    assert_cr_ok();
    assert_true(allocations > 100);
    for (int64_t n = 1; n <= allocations; n++) {
        cr_memory_fail_nth(n);
        dcgan_step();
        cr_memory_fail_nth(0);
        if (cr_ok()) fail_msg("allocation %lld of %lld failed without an error", (long long)n, (long long)allocations);
        if (cr_last_error()->code != CR_ERROR_MEMORY)
            fail_msg("allocation %lld: expected a memory error, got %s", (long long)n, cr_last_error()->message);
        cr_clear_error();
        if (cr_memory_stats().live_bytes)
            fail_msg("allocation %lld left %lld bytes", (long long)n, (long long)cr_memory_stats().live_bytes);
    }
    dcgan_step();
    assert_cr_ok();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_allocation_of_a_dcgan_step_may_fail)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
