/* benchmark_jit [threads]: the same work eagerly and traced, one line of JSON for each. compare.py runs it beside
 * PyTorch. */
#define _GNU_SOURCE
#include "../eager/models.h"

#include <stdlib.h>
#include <unistd.h>

/* ---------------------------------------------------------------- a chain of pointwise ops over long arrays */
enum { FLOATS = 16 << 20 };

static bool chain(void *context, cr_tensor *const *in, int input_count, cr_tensor **out, int output_count) {
    (void)context, (void)input_count, (void)output_count;
    return (out[0] = cr_mul(cr_tanh(cr_add(cr_mul(in[0], in[1]), in[2])), cr_sigmoid(in[3]))) != NULL;
}

typedef struct chain_work {
    cr_graph *graph;
    cr_tensor *inputs[4];
    cr_tensor *copies[4];
} chain_work;

static bool chain_eager(void *context) {
    chain_work *w = context;
    cr_tensor *out;
    CR_SCOPE
        chain(NULL, w->inputs, 4, &out, 1);
    return cr_ok();
}
static bool chain_traced(void *context) {
    chain_work *w = context;
    cr_tensor *out;
    CR_SCOPE
        cr_jit_run(w->graph, w->inputs, 4, &out, 1);
    return cr_ok();
}
/* As many bytes as the chain reads and writes at least: 2.5 copies. Half of one is a copy of half of an array. */
static bool chain_floor(void *context) {
    chain_work *w = context;
    CR_SCOPE {
        cr_copy_(w->copies[0], w->inputs[0]);
        cr_copy_(w->copies[1], w->inputs[1]);
        cr_copy_(cr_slice(w->copies[2], 0, 0, FLOATS / 2, 1), cr_slice(w->inputs[2], 0, 0, FLOATS / 2, 1));
    }
    return cr_ok();
}

static void measure_chain(void) {
    CR_SCOPE {
        chain_work w = {0};
        for (int i = 0; i < 4; i++) {
            w.inputs[i] = cr_randn(CR_F32, CR_SHAPE(FLOATS), CR_CPU);
            w.copies[i] = cr_zeros(CR_F32, CR_SHAPE(FLOATS), CR_CPU);
        }
        w.graph = cr_jit_trace_function(chain, NULL, w.inputs, 4, NULL, 1, NULL, 0);
        if (!w.graph || !chain_traced(&w)) break;
        cr_jit_wait();
        measure("tanh(a·b + c)·sigmoid(d), eager", chain_eager, &w, 2, 0);
        measure("tanh(a·b + c)·sigmoid(d), traced", chain_traced, &w, 2, 0);
        measure("copies of as many bytes", chain_floor, &w, 2, 0);
        cr_jit_free(w.graph);
    }
}

/* ---------------------------------------------------------------- whole training steps */
typedef struct step_work {
    const training_work *work;
    void *context;
    cr_graph *graph;
} step_work;

static bool call_step(void *context, cr_tensor *const *in, int input_count, cr_tensor **out, int output_count) {
    step_work *s = context;
    (void)in, (void)input_count, (void)out, (void)output_count;
    return s->work->step(s->context);
}
static bool run_step(void *context) { return cr_jit_run(((step_work *)context)->graph, NULL, 0, NULL, 0); }

static void measure_steps(void) {
    for (int i = 0; i < training_work_count; i++) {
        char name[96];
        step_work s = {.work = &training_works[i]};
        CR_SCOPE {
            if (!(s.context = s.work->begin())) break;
            snprintf(name, sizeof name, "%s, eager", s.work->name);
            measure(name, s.work->step, s.context, s.work->budget, s.work->flops);
            s.graph = cr_jit_trace_function(call_step, &s, NULL, 0, NULL, 0, NULL, 0);
            snprintf(name, sizeof name, "%s, traced", s.work->name);
            if (s.graph && run_step(&s)) {
                cr_jit_wait();
                measure(name, run_step, &s, s.work->budget, s.work->flops);
            }
            cr_jit_free(s.graph);
            s.work->end(s.context);
        }
    }
}

/* ---------------------------------------------------------------- inference of ResNet-50, and from file to first
 * result */
typedef struct inference {
    cr_nn_module *net;
    cr_graph *graph;
    cr_tensor *x;
    char path[64];
} inference;

static bool infer_eager(void *context) {
    inference *w = context;
    CR_SCOPE {
        CR_NO_GRAD cr_nn_forward(w->net, w->x);
    }
    return cr_ok();
}
static bool infer_traced(void *context) {
    inference *w = context;
    CR_SCOPE
        cr_jit_forward(w->graph, w->x);
    return cr_ok();
}
static bool load_and_infer(void *context) {
    inference *w = context;
    cr_graph *graph = cr_jit_load(w->path, CR_CPU);
    CR_SCOPE
        cr_jit_forward(graph, w->x);
    cr_jit_free(graph);
    return cr_ok();
}

static void measure_inference(void) {
    CR_SCOPE {
        inference w = {.net = cr_nn_eval(cr_vision_resnet50(1000)),
                       .x = cr_randn(CR_F32, CR_SHAPE(1, 3, 224, 224), CR_CPU)};
        snprintf(w.path, sizeof w.path, "benchmark-%d.safetensors", (int)getpid());
        w.graph = cr_jit_trace(w.net, w.x, .freeze = true);
        if (!w.graph || !infer_traced(&w) || !cr_jit_save(w.graph, w.path)) break;
        cr_jit_wait();
        const double work = 2 * 4.089e9;
        measure("ResNet-50, one image, eager", infer_eager, &w, 5, work);
        measure("ResNet-50, one image, traced", infer_traced, &w, 5, work);
        measure("ResNet-50, from file to first result", load_and_infer, &w, 5, work);
        unlink(w.path);
        cr_jit_free(w.graph);
        cr_nn_free(w.net);
    }
}

int main(int argc, char **argv) {
    if (argc > 1) cr_set_num_threads(atoi(argv[1]));
    cr_manual_seed(0);
    report("peak_flops", 1 / peak_flops(), 0, 0);
    report("peak_bandwidth", 1 / peak_bandwidth(), 0, 0);
    measure_chain();
    measure_steps();
    measure_inference();
    cr_shutdown();
    return cr_report(stderr);
}
