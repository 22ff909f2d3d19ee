/* Single ops: small ones, called one after the other; long arrays; matrix products; attention; a step of an LSTM. */
#include "worker.h"

typedef bool (*function)(void *context, cr_tensor *const *in, int input_count, cr_tensor **out, int output_count);

static bool begin_function(function f, const cr_shape *shapes, int count) {
    cr_tensor *inputs[4];
    for (int i = 0; i < count; i++)
        inputs[i] = numbers(shapes[i], (unsigned)i + 1);
    return prepare_graph(cr_jit_trace_function(f, NULL, inputs, count, NULL, 1, NULL, 0), inputs, count, 1);
}

#define FUNCTION(name, expression)                                                                                     \
    static bool name(void *context, cr_tensor *const *in, int input_count, cr_tensor **out, int output_count) {        \
        (void)context, (void)input_count, (void)output_count;                                                          \
        return (out[0] = (expression)) != NULL;                                                                        \
    }
FUNCTION(chain, cr_mul(cr_tanh(cr_add(cr_mul(in[0], in[1]), in[2])), cr_sigmoid(in[3])))
FUNCTION(total, cr_sum(in[0]))
FUNCTION(softmax, cr_softmax(in[0], -1))
FUNCTION(layer_norm, cr_layer_norm(in[0], CR_SHAPE(1024), NULL, NULL, 1e-5))
FUNCTION(product, cr_matmul(in[0], in[1]))
FUNCTION(attention, cr_scaled_dot_product_attention(in[0], in[1], in[2], NULL))

static bool begin_chain(const work *w, const char *folder) {
    const cr_shape s = CR_SHAPE(w->size[0]);
    (void)folder;
    return begin_function(chain, (const cr_shape[]){s, s, s, s}, 4);
}
#define BEGIN(f, shape, count)                                                                                         \
    static bool begin_##f(const work *w, const char *folder) {                                                         \
        const cr_shape s = shape;                                                                                      \
        (void)folder, (void)w;                                                                                         \
        return begin_function(f, (const cr_shape[]){s, s, s}, count);                                                  \
    }
BEGIN(softmax, CR_SHAPE(w->size[0], w->size[1]), 1)
BEGIN(layer_norm, CR_SHAPE(w->size[0], w->size[1]), 1)
/* Of numbers of both signs the sum is nearly nothing, and rounding most of it. */
static bool begin_total(const work *w, const char *folder) {
    cr_tensor *input = cr_abs(numbers(CR_SHAPE(w->size[0]), 1));
    (void)folder;
    return prepare_graph(cr_jit_trace_function(total, NULL, &input, 1, NULL, 1, NULL, 0), &input, 1, 1);
}
/* Square matrices, of another dtype where size[1] names one. */
static bool begin_product(const work *w, const char *folder) {
    const cr_shape s = CR_SHAPE(w->size[0], w->size[0]);
    const cr_dtype dtype = w->size[1] ? (cr_dtype)w->size[1] : CR_F32;
    cr_tensor *inputs[] = {cr_cast(numbers(s, 1), dtype), cr_cast(numbers(s, 2), dtype)};
    (void)folder;
    return prepare_graph(cr_jit_trace_function(product, NULL, inputs, 2, NULL, 1, NULL, 0), inputs, 2, 1);
}
BEGIN(attention, CR_SHAPE(8, 8, 512, 64), 3)

/* ---------------------------------------------------------------- small ops, eagerly */
enum { SMALL_CALLS = 1000, PER_SCOPE = 100 };
static cr_tensor *small[2];

static bool begin_small(const work *w, const char *folder) {
    (void)folder;
    for (int i = 0; i < 2; i++)
        small[i] = cr_retain(numbers(CR_SHAPE(8), (unsigned)i + 1));
    if (w->size[0]) cr_requires_grad_(small[0], true);
    return cr_ok();
}
static bool small_step(void) {
    for (int scope = 0; scope < SMALL_CALLS / PER_SCOPE; scope++)
        CR_SCOPE {
            for (int i = 0; i < PER_SCOPE; i++)
                cr_add(small[0], small[1]);
        }
    return cr_ok();
}
static void end_small(void) {
    cr_release(small[0]);
    cr_release(small[1]);
}

#define GRAPH run_graph, drop_graph
const work op_works[] = {{"small add", {0}, SMALL_CALLS, begin_small, small_step, end_small},
                         {"small add, recorded", {1}, SMALL_CALLS, begin_small, small_step, end_small},
                         {"chain, 16 M floats", {16 << 20}, 0, begin_chain, GRAPH},
                         {"sum, 16 M floats", {16 << 20}, 0, begin_total, GRAPH},
                         {"softmax, 4096 x 1024", {4096, 1024}, 0, begin_softmax, GRAPH},
                         {"layer norm, 4096 x 1024", {4096, 1024}, 0, begin_layer_norm, GRAPH},
                         {"matmul, 64", {64}, 0, begin_product, GRAPH},
                         {"matmul, 256", {256}, 0, begin_product, GRAPH},
                         {"matmul, 512", {512}, 0, begin_product, GRAPH},
                         {"matmul, 1024", {1024}, 0, begin_product, GRAPH},
                         {"matmul, 2048", {2048}, 0, begin_product, GRAPH},
                         {"matmul, 1024, f64", {1024, CR_F64}, 0, begin_product, GRAPH},
                         {"matmul, 1024, f16", {1024, CR_F16}, 0, begin_product, GRAPH},
                         {"matmul, 1024, bf16", {1024, CR_BF16}, 0, begin_product, GRAPH},
                         {"attention, 8 x 8 x 512 x 64", {0}, 0, begin_attention, GRAPH},
                         {NULL}};
