/* Whole models, training steps and control flow. */
#include "tests/ahead/write.h"

#include <cresset/models.h>

#include <string.h>

enum { RUNS = 5, STATES = 128, MOST = 8 };

#define FUNCTION(name)                                                                                                 \
    static bool name(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count)
#define UNUSED (void)context, (void)in_count, (void)out_count

/* ---------------------------------------------------------------- a case from runs of a graph's function */
typedef struct subject {
    const char *title;
    cr_graph *graph;
    cr_jit_function function;
    void *context;
    cr_shape input;   /* of the first operand: normal numbers */
    cr_tensor *other; /* the second, the same in all runs, or NULL */
    int outputs, runs;
    const char *weights, *sizes;
    bool trains;
} subject;

static void copy_states(cr_graph *graph, cr_tensor **copies, bool restores) {
    CR_NO_GRAD {
        for (int i = 0; i < cr_jit_state_count(graph) && i < STATES; i++) {
            if (restores)
                cr_copy_(cr_jit_state(graph, i), copies[i]);
            else
                copies[i] = cr_clone(cr_jit_state(graph, i));
        }
    }
}

static bool same_values(cr_tensor *a, cr_tensor *b) { return cr_item(cr_all(cr_eq(a, b), .dims = CR_ALL_DIMS)) != 0; }

/* Runs the function as it is, then writes the program from the states before. */
static bool write_subject(case_writer *to, const subject *s) {
    cr_tensor *before[STATES], *after[STATES], *changed[STATES], *inputs[RUNS][2], *outputs[RUNS][MOST];
    const char *titles[MOST], *names[STATES];
    case_run runs[RUNS];
    program_case given = {.graph = s->graph,
                          .titles = titles,
                          .runs = runs,
                          .run_count = s->runs,
                          .real = true,
                          .states = names,
                          .state_values = changed};
    const cr_jit_compile_options options = {
        .size = sizeof options, .weights = s->weights, .sizes = s->sizes, .train = s->trains};
    if (!s->graph) return false;
    given.options = &options;
    for (int i = 0; i < s->outputs; i++)
        titles[i] = s->title;
    copy_states(s->graph, before, false);
    cr_manual_seed(5);
    for (int r = 0; r < s->runs; r++) {
        inputs[r][0] = cr_add_scalar(cr_randn(CR_F32, s->input, CR_CPU), s->runs > 1 && r % 2 ? 1 : 0);
        inputs[r][1] = s->other;
        runs[r] = (case_run){inputs[r], outputs[r]};
    }
    cr_manual_seed(11);
    for (int r = 0; r < s->runs; r++)
        if (!s->function(s->context, inputs[r], s->other ? 2 : 1, outputs[r], s->outputs)) return false;
    copy_states(s->graph, after, false);
    for (int i = 0; s->trains && i < cr_jit_state_count(s->graph) && i < STATES; i++) {
        if (same_values(before[i], after[i])) continue;
        names[given.state_count] = cr_jit_state_name(s->graph, i);
        changed[given.state_count++] = after[i];
    }
    copy_states(s->graph, before, true);
    return cr_ok() && write_case(to, &given);
}

/* ---------------------------------------------------------------- models that infer */
FUNCTION(forward) {
    UNUSED;
    return (out[0] = cr_nn_forward(context, in[0])) != NULL;
}

static bool write_module(case_writer *to, const char *title, cr_nn_module *net, cr_shape example, cr_shape input,
                         const char *weights, const char *sizes) {
    bool done = false;
    cr_nn_eval(net);
    CR_NO_GRAD {
        subject s = {.title = title,
                     .function = forward,
                     .context = net,
                     .input = input,
                     .outputs = 1,
                     .runs = 2,
                     .weights = weights,
                     .sizes = sizes};
        s.graph = cr_jit_trace(net, cr_zeros(CR_F32, example, CR_CPU), .dynamic_batch = sizes != NULL);
        done = write_subject(to, &s);
        cr_jit_free(s.graph);
    }
    cr_nn_free(net);
    return done;
}

typedef struct transformer {
    cr_nn_module *first_norm, *qkv, *project, *second_norm, *widen, *narrow;
} transformer;

/* A block of GPT-2 with two heads: x [batch, time, 16]. */
FUNCTION(transform) {
    const transformer *t = context;
    (void)in_count, (void)out_count;
    const int64_t batch = cr_size(in[0], 0), time = cr_size(in[0], 1), width = 16;
    cr_tensor *all =
        cr_reshape(cr_nn_forward(t->qkv, cr_nn_forward(t->first_norm, in[0])), CR_SHAPE(batch, time, 3, 2, width / 2));
    cr_tensor *heads = cr_permute(all, CR_DIMS(2, 0, 3, 1, 4));
    cr_tensor *seen = cr_scaled_dot_product_attention(cr_select(heads, 0, 0), cr_select(heads, 0, 1),
                                                      cr_select(heads, 0, 2), NULL, .is_causal = true);
    cr_tensor *joined = cr_reshape(cr_permute(seen, CR_DIMS(0, 2, 1, 3)), CR_SHAPE(batch, time, width));
    cr_tensor *x = cr_add(in[0], cr_nn_forward(t->project, joined));
    cr_tensor *wide = cr_gelu(cr_nn_forward(t->widen, cr_nn_forward(t->second_norm, x)));
    return (out[0] = cr_add(x, cr_nn_forward(t->narrow, wide))) != NULL;
}

static bool write_transformer(case_writer *to) {
    transformer t = {cr_nn_layer_norm(CR_SHAPE(16)), cr_nn_linear(16, 48), cr_nn_linear(16, 16),
                     cr_nn_layer_norm(CR_SHAPE(16)), cr_nn_linear(16, 64), cr_nn_linear(64, 16)};
    cr_nn_module *modules[] = {t.first_norm, t.qkv, t.project, t.second_norm, t.widen, t.narrow};
    bool done = false;
    CR_NO_GRAD {
        cr_tensor *example = cr_randn(CR_F32, CR_SHAPE(2, 9, 16), CR_CPU);
        subject s = {.title = "transformer",
                     .function = transform,
                     .context = &t,
                     .input = CR_SHAPE(2, 9, 16),
                     .outputs = 1,
                     .runs = 2};
        s.graph = cr_jit_trace_function(transform, &t, &example, 1, NULL, 1, modules, 6);
        done = write_subject(to, &s);
        cr_jit_free(s.graph);
    }
    for (int i = 0; i < 6; i++)
        cr_nn_free(modules[i]);
    return done;
}

FUNCTION(remember) {
    UNUSED;
    return (out[0] = cr_nn_lstm_forward(context, in[0], NULL, NULL, &out[1], &out[2])) != NULL;
}

static bool write_lstm(case_writer *to) {
    cr_nn_module *lstm = cr_nn_lstm(6, 8, .num_layers = 2, .bidirectional = true);
    bool done = false;
    CR_NO_GRAD {
        cr_tensor *example = cr_randn(CR_F32, CR_SHAPE(7, 3, 6), CR_CPU);
        subject s = {.title = "lstm",
                     .function = remember,
                     .context = lstm,
                     .input = CR_SHAPE(7, 3, 6),
                     .outputs = 3,
                     .runs = 2};
        s.graph = cr_jit_trace_function(remember, lstm, &example, 1, NULL, 3, &lstm, 1);
        done = write_subject(to, &s);
        cr_jit_free(s.graph);
    }
    cr_nn_free(lstm);
    return done;
}

/* ---------------------------------------------------------------- training */
typedef struct trainer {
    cr_nn_module *net, *critic;
    cr_optim *optim, *critic_optim;
} trainer;

FUNCTION(classify) {
    trainer *t = context;
    (void)in_count, (void)out_count;
    cr_optim_zero_grad(t->optim);
    out[0] = cr_cross_entropy(cr_nn_forward(t->net, in[0]), in[1]);
    return cr_backward(out[0]) && cr_optim_step(t->optim);
}

FUNCTION(compete) {
    trainer *t = context;
    UNUSED;
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

static bool write_trainer(case_writer *to, const char *title, cr_jit_function function, trainer *t, cr_shape input,
                          cr_tensor *other, int outputs, const char *weights) {
    cr_nn_module *modules[] = {t->net, t->critic};
    cr_tensor *examples[] = {cr_randn(CR_F32, input, CR_CPU), other};
    subject s = {.title = title,
                 .function = function,
                 .context = t,
                 .input = input,
                 .other = other,
                 .outputs = outputs,
                 .runs = RUNS,
                 .weights = weights,
                 .trains = true};
    s.graph = cr_jit_trace_function(function, t, examples, other ? 2 : 1, NULL, outputs, modules, t->critic ? 2 : 1);
    const bool done = write_subject(to, &s);
    cr_jit_free(s.graph);
    cr_optim_free(t->optim);
    cr_optim_free(t->critic_optim);
    cr_nn_free(t->net);
    cr_nn_free(t->critic);
    return done;
}

static bool write_classifier(case_writer *to, bool with_adam) {
    trainer t = {.net = cr_nn_sequential(cr_nn_linear(12, 16, .bias = false), cr_nn_batch_norm1d(16), cr_nn_relu(),
                                         cr_nn_dropout(0.25), cr_nn_linear(16, 5))};
    t.optim = with_adam ? cr_optim_adam(cr_nn_parameters(t.net), .lr = 0.01)
                        : cr_optim_sgd(cr_nn_parameters(t.net), .lr = 0.05, .momentum = 0.9, .nesterov = true);
    return write_trainer(to, with_adam ? "classifier with Adam" : "classifier with SGD", classify, &t, CR_SHAPE(6, 12),
                         cr_randint(0, 5, CR_SHAPE(6), CR_CPU), 1, with_adam ? NULL : "file");
}

static bool write_gan(case_writer *to) {
    trainer t = {.net = cr_vision_dcgan_generator(.latent = 8, .features = 4, .image_size = 16),
                 .critic = cr_vision_dcgan_discriminator(.features = 4, .image_size = 16)};
    t.optim = cr_optim_rmsprop(cr_nn_parameters(t.net), .lr = 1e-3);
    t.critic_optim = cr_optim_sgd(cr_nn_parameters(t.critic), .lr = 1e-2);
    return write_trainer(to, "DCGAN step", compete, &t, CR_SHAPE(4, 3, 16, 16), NULL, 2, NULL);
}

/* ---------------------------------------------------------------- control flow */
FUNCTION(grow) {
    UNUSED;
    return (out[0] = cr_mul_scalar(in[0], 3)) != NULL;
}
FUNCTION(shrink) {
    UNUSED;
    return (out[0] = cr_transpose(cr_mul_scalar(cr_transpose(in[0], 0, 1), 0.5), 0, 1)) != NULL;
}
FUNCTION(choose) {
    UNUSED;
    return cr_cond(cr_gt_scalar(cr_mean(in[0]), 0.5), grow, shrink, NULL, in, 1, out, 1);
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
FUNCTION(cell) { /* h = tanh(x + w h) or a choice of it, y = 2 h */
    (void)in_count, (void)out_count;
    cr_tensor *sum = cr_add(in[1], cr_matmul(in[0], context));
    return choose(NULL, &sum, 1, out, 1) && (out[0] = cr_tanh(out[0])) && (out[1] = cr_mul_scalar(out[0], 2)) != NULL;
}
FUNCTION(recur) {
    UNUSED;
    cr_tensor *operands[] = {cr_zeros(CR_F32, CR_SHAPE(3, 4), CR_CPU), in[0]};
    return cr_scan(cell, context, operands, 1, 1, out, 2);
}

static bool write_control(case_writer *to, const char *title, cr_jit_function function, void *context, cr_shape input,
                          int outputs) {
    cr_tensor *example = cr_randn(CR_F32, input, CR_CPU);
    subject s = {
        .title = title, .function = function, .context = context, .input = input, .outputs = outputs, .runs = 4};
    s.graph = cr_jit_trace_function(function, context, &example, 1, NULL, outputs, NULL, 0);
    const bool done = write_subject(to, &s);
    cr_jit_free(s.graph);
    return done;
}

/* ---------------------------------------------------------------- all */
bool write_models(case_writer *to) {
    bool done = false;
    CR_SCOPE {
        cr_manual_seed(3);
        cr_tensor *matrix = cr_randn(CR_F32, CR_SHAPE(4, 4), CR_CPU);
        done = write_module(to, "LeNet", cr_vision_lenet(10), CR_SHAPE(1, 1, 28, 28), CR_SHAPE(3, 1, 28, 28), "inline",
                            "batch=3") &&
               write_module(to, "ResNet-18", cr_vision_resnet18(10), CR_SHAPE(1, 3, 32, 32), CR_SHAPE(1, 3, 32, 32),
                            "file", NULL) &&
               write_module(to, "DCGAN", cr_vision_dcgan_generator(.latent = 16, .features = 8), CR_SHAPE(2, 16, 1, 1),
                            CR_SHAPE(2, 16, 1, 1), "file", NULL) &&
               write_transformer(to) && write_lstm(to) && write_classifier(to, true) && write_classifier(to, false) &&
               write_gan(to) && write_control(to, "cond", choose, NULL, CR_SHAPE(3, 4), 1) &&
               write_control(to, "while_loop", grow_until_large, NULL, CR_SHAPE(3, 4), 2) &&
               write_control(to, "scan", recur, matrix, CR_SHAPE(6, 3, 4), 2);
    }
    return done;
}
