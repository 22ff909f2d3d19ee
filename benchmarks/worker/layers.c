/* Convolutions as they occur in ResNet-50, MobileNetV2 and DCGAN, forward, with the weight as an input. */
#include "worker.h"

typedef struct convolution {
    int64_t batch, in, out, side, kernel, stride, padding, groups;
    bool transposed;
} convolution;

/* In the order of layer_works; opponents.py has the same numbers by name. */
static const convolution convolutions[] = {
    {1, 3, 64, 224, 7, 2, 3, 1, false},     {1, 128, 128, 28, 3, 1, 1, 1, false}, {1, 1024, 256, 14, 1, 1, 0, 1, false},
    {1, 144, 144, 56, 3, 1, 1, 144, false}, {64, 64, 128, 32, 4, 2, 1, 1, false}, {64, 256, 128, 8, 4, 2, 1, 1, true},
};
static const convolution *current;

static bool convolve(void *context, cr_tensor *const *in, int input_count, cr_tensor **out, int output_count) {
    const convolution *c = current;
    (void)context, (void)input_count, (void)output_count;
    out[0] = c->transposed
                 ? cr_conv_transpose2d(in[0], in[1], NULL, .stride = c->stride, .padding = c->padding)
                 : cr_conv2d(in[0], in[1], NULL, .stride = c->stride, .padding = c->padding, .groups = c->groups);
    return out[0] != NULL;
}

static bool begin_convolution(const work *w, const char *folder) {
    const convolution *c = current = &convolutions[w->size[0]];
    (void)folder;
    cr_tensor *inputs[2] = {
        numbers(CR_SHAPE(c->batch, c->in, c->side, c->side), 1),
        c->transposed ? numbers(CR_SHAPE(c->in, c->out, c->kernel, c->kernel), 2)
                      : numbers(CR_SHAPE(c->out, c->in / c->groups, c->kernel, c->kernel), 2),
    };
    return prepare_graph(cr_jit_trace_function(convolve, NULL, inputs, 2, NULL, 1, NULL, 0), inputs, 2, 1);
}

#define CONVOLUTION(name, index)                                                                                       \
    { name, {index}, 0, begin_convolution, run_graph, drop_graph }
const work layer_works[] = {CONVOLUTION("conv, ResNet-50 first 7x7", 0),
                            CONVOLUTION("conv, ResNet-50 3x3 of 28", 1),
                            CONVOLUTION("conv, ResNet-50 1x1 of 14", 2),
                            CONVOLUTION("conv, MobileNet depthwise of 56", 3),
                            CONVOLUTION("conv, DCGAN down 4x4", 4),
                            CONVOLUTION("conv, DCGAN up 4x4", 5),
                            {NULL}};
