/* Whole training steps as graphs: a hundred of them against the plain ones; what a plan takes of memory; every
 * allocation failing. */
#include "tests/unit/testing.h"
#include "tests/unit/temporary_folder.h"

#include <math.h>
#include <stdlib.h>

#include <cresset/jit.h>

#include <cresset/models.h>

/* ---------------------------------------------------------------- steps */
typedef struct trainer {
    cr_nn_module *net, *critic; /* critic: the discriminator of a GAN */
    cr_optim *optim, *critic_optim;
    cr_optim_schedule *schedule;
} trainer;

typedef cr_optim *(*make_optim)(cr_nn_tensors parameters);
static cr_optim *sgd(cr_nn_tensors p) {
    return cr_optim_sgd(p, .lr = 0.05, .momentum = 0.9, .weight_decay = 1e-3, .nesterov = true);
}
static cr_optim *plain_sgd(cr_nn_tensors p) { return cr_optim_sgd(p, .lr = 0.05); }
static cr_optim *adam(cr_nn_tensors p) { return cr_optim_adam(p, .lr = 1e-2, .beta1 = 0.5, .weight_decay = 1e-3); }
static cr_optim *amsgrad(cr_nn_tensors p) { return cr_optim_adam(p, .lr = 1e-2, .amsgrad = true); }
static cr_optim *adamw(cr_nn_tensors p) { return cr_optim_adamw(p, .lr = 1e-2); }
static cr_optim *rmsprop(cr_nn_tensors p) { return cr_optim_rmsprop(p, .lr = 1e-3, .momentum = 0.5, .centered = true); }

static bool classify_step(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    trainer *t = context;
    (void)in_count, (void)out_count;
    cr_optim_zero_grad(t->optim);
    out[0] = cr_cross_entropy(cr_nn_forward(t->net, in[0]), in[1]);
    return cr_backward(out[0]) && cr_optim_step(t->optim);
}

static bool lstm_step(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    trainer *t = context;
    (void)in_count, (void)out_count;
    cr_optim_zero_grad(t->optim);
    cr_tensor *h = cr_nn_lstm_forward(t->net, in[0], NULL, NULL, NULL, NULL);
    out[0] = cr_mean(cr_square(cr_sub(h, in[1])));
    return cr_backward(out[0]) && cr_optim_step(t->optim);
}

static bool gan_step(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    trainer *t = context;
    (void)in_count, (void)out_count;
    cr_tensor *yes = cr_ones(CR_F32, CR_SHAPE(4, 1, 1, 1), CR_CPU), *no = cr_zeros_like(yes);
    cr_tensor *fake = cr_nn_forward(t->net, cr_randn(CR_F32, CR_SHAPE(4, 8, 1, 1), CR_CPU));
    cr_optim_zero_grad(t->critic_optim);
    out[0] = cr_add(cr_bce_with_logits(cr_nn_forward(t->critic, in[0]), yes),
                    cr_bce_with_logits(cr_nn_forward(t->critic, cr_detach(fake)), no));
    if (!cr_backward(out[0]) || !cr_optim_step(t->critic_optim)) return false;
    cr_optim_zero_grad(t->optim);
    out[1] = cr_bce_with_logits(cr_nn_forward(t->critic, fake), yes);
    return cr_backward(out[1]) && cr_optim_step(t->optim);
}

/* ---------------------------------------------------------------- two trainers side by side */
static void free_trainer(trainer *t) {
    cr_optim_schedule_free(t->schedule);
    cr_optim_free(t->optim);
    cr_optim_free(t->critic_optim);
    cr_nn_free(t->net);
    cr_nn_free(t->critic);
}

static double difference(cr_tensor *a, cr_tensor *b) {
    double most = 0;
    CR_SCOPE {
        CR_NO_GRAD {
            most = cr_numel(a) ? cr_item(cr_amax(cr_abs(cr_sub(cr_cast(a, CR_F64), cr_cast(b, CR_F64))))) : 0;
        }
    }
    return isnan(most) ? INFINITY : most;
}

static double worst_state(trainer *a, trainer *b) {
    double worst = 0;
    cr_nn_module *nets[][2] = {{a->net, b->net}, {a->critic, b->critic}};
    for (int k = 0; k < 2 && nets[k][0]; k++) {
        const cr_nn_tensors x = cr_nn_state(nets[k][0]), y = cr_nn_state(nets[k][1]);
        for (int i = 0; i < x.count; i++)
            worst = fmax(worst, difference(x.at[i], y.at[i]));
    }
    return worst;
}

/* 100 steps of the graph beside 100 plain ones, on other data each; the learning rate falls on the way. Returns the
 * largest difference of a loss or of a tensor of state. */
static double compare_training(cr_jit_function step, trainer *plain, trainer *traced,
                               cr_tensor *(*make_input)(int which), int outputs) {
    cr_tensor *in[2] = {make_input(0), make_input(1)}, *expected[2], *given[2];
    cr_nn_module *modules[] = {traced->net, traced->critic};
    double worst = 0;
    cr_manual_seed(100);
    cr_graph *graph = cr_jit_trace_function(step, traced, in, 2, given, outputs, modules, traced->critic ? 2 : 1);
    assert_cr_ok();
    assert_int_equal(cr_jit_warning_count(graph), 0);
    cr_manual_seed(100);
    assert_true(step(plain, in, 2, expected, outputs));
    for (int i = 1; i < 100; i++) {
        CR_SCOPE {
            for (int k = 0; k < 2; k++)
                in[k] = make_input(k);
            cr_manual_seed((uint64_t)i);
            step(plain, in, 2, expected, outputs);
            cr_manual_seed((uint64_t)i);
            cr_jit_run(graph, in, 2, given, outputs);
            assert_cr_ok();
            for (int k = 0; k < outputs; k++)
                worst = fmax(worst, difference(expected[k], given[k]));
            if (plain->schedule)
                assert_true(cr_optim_schedule_step(plain->schedule, 0) && cr_optim_schedule_step(traced->schedule, 0));
        }
    }
    worst = fmax(worst, worst_state(plain, traced));
    cr_jit_free(graph);
    return worst;
}

/* ---------------------------------------------------------------- the trainings */
static cr_tensor *vectors(int which) {
    return which ? cr_randint(0, 5, CR_SHAPE(16), CR_CPU) : cr_randn(CR_F32, CR_SHAPE(16, 12), CR_CPU);
}
static cr_tensor *pictures(int which) {
    return which ? cr_randint(0, 5, CR_SHAPE(4), CR_CPU) : cr_randn(CR_F32, CR_SHAPE(4, 3, 16, 16), CR_CPU);
}
static cr_tensor *sequences(int which) {
    return cr_randn(CR_F32, which ? CR_SHAPE(6, 4, 5) : CR_SHAPE(6, 4, 3), CR_CPU);
}

static trainer perceptron(make_optim make) {
    trainer t = {0};
    cr_manual_seed(1);
    t.net = cr_nn_sequential(cr_nn_linear(12, 32), cr_nn_batch_norm1d(32), cr_nn_gelu(), cr_nn_dropout(0.2),
                             cr_nn_linear(32, 5));
    t.optim = make(cr_nn_parameters(t.net));
    t.schedule = cr_optim_step_schedule(t.optim, 10, 0.8);
    return t;
}

static void an_mlp_trains_the_same_under_every_optimizer(void **state) {
    (void)state;
    static const make_optim makers[] = {plain_sgd, sgd, adam, amsgrad, adamw, rmsprop};
    for (size_t k = 0; k < sizeof makers / sizeof makers[0]; k++) {
        CR_SCOPE {
            trainer plain = perceptron(makers[k]), traced = perceptron(makers[k]);
            const double worst = compare_training(classify_step, &plain, &traced, vectors, 1);
            if (worst != 0) fail_msg("optimizer %zu: a difference of %g", k, worst);
            assert_true(cr_optim_lr(traced.optim) == cr_optim_lr(plain.optim) &&
                        cr_optim_lr(plain.optim) < 0.02); /* it fell */
            free_trainer(&plain);
            free_trainer(&traced);
        }
    }
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static trainer convnet(void) {
    trainer t = {0};
    cr_manual_seed(2);
    t.net = cr_nn_sequential(cr_nn_conv2d(3, 8, 3, .padding = 1), cr_nn_batch_norm2d(8), cr_nn_relu(),
                             cr_nn_max_pool2d(2), cr_nn_conv2d(8, 8, 3, .stride = 2), cr_nn_group_norm(2, 8),
                             cr_nn_silu(), cr_nn_flatten(), cr_nn_linear(8 * 3 * 3, 5));
    t.optim = sgd(cr_nn_parameters(t.net));
    return t;
}
static void a_convolutional_net_trains_the_same(void **state) {
    (void)state;
    CR_SCOPE {
        trainer plain = convnet(), traced = convnet();
        const double worst = compare_training(classify_step, &plain, &traced, pictures, 1);
        if (worst != 0) fail_msg("a difference of %g", worst);
        free_trainer(&plain);
        free_trainer(&traced);
    }
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static trainer recurrent(void) {
    trainer t = {0};
    cr_manual_seed(3);
    t.net = cr_nn_lstm(3, 5);
    t.optim = rmsprop(cr_nn_parameters(t.net));
    return t;
}
static void an_lstm_trains_the_same(void **state) {
    (void)state;
    CR_SCOPE {
        trainer plain = recurrent(), traced = recurrent();
        const double worst = compare_training(lstm_step, &plain, &traced, sequences, 1);
        if (worst != 0) fail_msg("a difference of %g", worst);
        free_trainer(&plain);
        free_trainer(&traced);
    }
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

static trainer gan(void) {
    trainer t = {0};
    cr_manual_seed(4);
    t.net = cr_vision_dcgan_generator(.latent = 8, .features = 4, .image_size = 16);
    t.critic = cr_vision_dcgan_discriminator(.features = 4, .image_size = 16);
    t.optim = adam(cr_nn_parameters(t.net));
    t.critic_optim = adam(cr_nn_parameters(t.critic));
    return t;
}
static void a_dcgan_trains_the_same(void **state) {
    (void)state;
    CR_SCOPE {
        trainer plain = gan(), traced = gan();
        const double worst = compare_training(gan_step, &plain, &traced, pictures, 2);
        if (worst != 0) fail_msg("a difference of %g", worst);
        free_trainer(&plain);
        free_trainer(&traced);
    }
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

/* ---------------------------------------------------------------- memory */
static void check_plan(cr_nn_module *net, cr_tensor *x, const char *what) {
    cr_jit_memory memory;
    cr_graph *graph = cr_jit_trace(net, x);
    assert_cr_ok();
    assert_true(cr_jit_memory_of(graph, NULL, 0, &memory));
    if ((double)memory.planned_bytes > 1.1 * (double)memory.bound_bytes || memory.planned_bytes < memory.bound_bytes)
        fail_msg("%s: planned %lld, bound %lld, naive %lld", what, (long long)memory.planned_bytes,
                 (long long)memory.bound_bytes, (long long)memory.naive_bytes);
    assert_true(memory.naive_bytes > memory.planned_bytes);
    assert_true(memory.state_bytes > 0);
    CR_NO_GRAD { assert_true(difference(cr_jit_forward(graph, x), cr_nn_forward(net, x)) < 1e-4); }
    CR_SCOPE {
        cr_jit_forward(graph, x);
    }
    const int64_t before = cr_memory_stats().live_bytes;
    CR_SCOPE {
        cr_jit_forward(graph, x);
    }
    assert_int_equal(cr_memory_stats().live_bytes, before); /* runs keep nothing */
    cr_jit_free(graph);
}

static cr_tensor *encoder_forward(cr_nn_module *self, cr_tensor *x) {
    const cr_shape s = cr_shape_of(x), heads = CR_SHAPE(s.at[0], s.at[1], 4, s.at[2] / 4);
    cr_tensor *h = cr_nn_forward(cr_nn_find(self, "norm1"), x), *parts[3];
    static const char *const names[] = {"q", "k", "v"};
    for (int i = 0; i < 3; i++)
        parts[i] = cr_transpose(cr_reshape(cr_nn_forward(cr_nn_find(self, names[i]), h), heads), 1, 2);
    cr_tensor *scores = cr_softmax(cr_mul_scalar(cr_matmul(parts[0], cr_transpose(parts[1], 2, 3)), 0.25), -1);
    h = cr_reshape(cr_transpose(cr_matmul(scores, parts[2]), 1, 2), s);
    x = cr_add(x, cr_nn_forward(cr_nn_find(self, "out"), h));
    h = cr_gelu(cr_nn_forward(cr_nn_find(self, "up"), cr_nn_forward(cr_nn_find(self, "norm2"), x)));
    return cr_add(x, cr_nn_forward(cr_nn_find(self, "down"), h));
}
static cr_nn_module *encoder_layer(int64_t width) {
    cr_nn_module *layer = cr_nn_module_new("encoder_layer", 0, encoder_forward);
    cr_nn_register(layer, "norm1", cr_nn_layer_norm(CR_SHAPE(width)));
    cr_nn_register(layer, "norm2", cr_nn_layer_norm(CR_SHAPE(width)));
    static const char *const names[] = {"q", "k", "v", "out"};
    for (int i = 0; i < 4; i++)
        cr_nn_register(layer, names[i], cr_nn_linear(width, width));
    cr_nn_register(layer, "up", cr_nn_linear(width, 4 * width));
    cr_nn_register(layer, "down", cr_nn_linear(4 * width, width));
    return layer;
}

static void plans_take_hardly_more_than_the_bound(void **state) {
    (void)state;
    CR_SCOPE {
        cr_nn_module *encoder = cr_nn_sequential(encoder_layer(64), encoder_layer(64), encoder_layer(64));
        check_plan(encoder, cr_randn(CR_F32, CR_SHAPE(2, 48, 64), CR_CPU), "a Transformer encoder");
        cr_nn_free(encoder);
        cr_nn_module *resnet = cr_nn_eval(cr_vision_resnet50(1000));
        check_plan(resnet, cr_randn(CR_F32, CR_SHAPE(1, 3, 64, 64), CR_CPU), "ResNet-50");
        cr_nn_free(resnet);
    }
    assert_cr_ok();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

/* ---------------------------------------------------------------- failing */
/* All of it; false where something said so. */
static bool whole_life(void) {
    bool done = false;
    CR_SCOPE {
        cr_manual_seed(6);
        trainer t = {.net = cr_nn_sequential(cr_nn_linear(4, 6), cr_nn_batch_norm1d(6), cr_nn_dropout(0.2),
                                             cr_nn_tanh(), cr_nn_linear(6, 3))};
        t.optim = cr_optim_adam(cr_nn_parameters(t.net));
        cr_tensor *in[2] = {cr_randn(CR_F32, CR_SHAPE(5, 4), CR_CPU), cr_zeros(CR_I64, CR_SHAPE(5), CR_CPU)}, *out[1];
        cr_graph *step = cr_jit_trace_function(classify_step, &t, in, 2, out, 1, &t.net, 1);
        done = step && cr_jit_run(step, in, 2, out, 1);
        cr_nn_eval(t.net);
        cr_graph *net = cr_jit_trace(t.net, in[0], .dynamic_batch = true), *loaded = NULL;
        done = done && net && cr_jit_forward(net, in[0]) && cr_jit_save(net, in_folder("net"));
        done = done && (loaded = cr_jit_load(in_folder("net"), CR_CPU)) && cr_jit_forward(loaded, in[0]);
        cr_jit_free(loaded);
        cr_jit_free(net);
        cr_jit_free(step);
        free_trainer(&t);
    }
    cr_scope_clear();
    return done;
}

static void every_allocation_may_fail(void **state) {
    (void)state;
    assert_true(whole_life());
    cr_memory_fail_nth(INT64_MAX);
    assert_true(whole_life());
    const int64_t allocations = cr_memory_fail_seen();
    cr_memory_fail_nth(0);
    assert_cr_ok();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
    for (int64_t n = 1; n <= allocations; n++) {
        cr_memory_fail_nth(n);
        const bool done = whole_life();
        cr_memory_fail_nth(0);
        if (cr_ok())
            fail_msg("allocation %lld of %lld failed without an error (%s)", (long long)n, (long long)allocations,
                     done ? "done" : "not done");
        if (cr_last_error()->code != CR_ERROR_MEMORY)
            fail_msg("allocation %lld: %s", (long long)n, cr_last_error()->message);
        cr_clear_error();
        if (cr_memory_stats().live_bytes)
            fail_msg("allocation %lld left %lld bytes", (long long)n, (long long)cr_memory_stats().live_bytes);
    }
    assert_true(whole_life());
}

int main(void) {
    setenv("CR_CC", "none", 1); /* interpreted fused nodes have the ops' bits */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_mlp_trains_the_same_under_every_optimizer),
        cmocka_unit_test(a_convolutional_net_trains_the_same),
        cmocka_unit_test(an_lstm_trains_the_same),
        cmocka_unit_test(a_dcgan_trains_the_same),
        cmocka_unit_test(plans_take_hardly_more_than_the_bound),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, make_temporary_folder, remove_temporary_folder);
}
