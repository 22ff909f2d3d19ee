/* Layers on channels-last tensors on the CPU, f32: which way a convolution is computed, and the kernels. */
#include "ops/channels_last.h"
#include "ops/cpu/variants/channels_last_bottleneck.h"
#include "ops/cpu/variants/channels_last_direct.h"
#include "ops/cpu/variants/channels_last_features.h"
#include "ops/cpu/variants/channels_last_pixels.h"
#include "ops/cpu/variants/planes.h"
#include "ops/fused.h"

/* ---------------------------------------------------------------- which way */
typedef enum convolution_way { DEPTHWISE, DIRECT, WINOGRAD_2, WINOGRAD_4 } convolution_way;

/* Arithmetic of a product that reads its weight once, or what could be done while the weight comes from memory. */
static double product_cost(double rows, double depth, double columns) {
    enum { FLOPS_PER_BYTE = 4 }; /* done while a byte comes, where others use the memory as well */
    const double flops = 2 * rows * depth * columns, reading = FLOPS_PER_BYTE * sizeof(float) * depth * columns;
    return flops > reading ? flops : reading;
}

/* Points of all tiles along a dim: the last ones are short of one where results are. */
static double points_along(const cr_convolution *p, int d, int m, int n) {
    const int64_t tiles = divide_up(p->out[d], m), beyond = tiles * m - p->out[d];
    return (double)(tiles * n - (beyond < tiles ? beyond : tiles));
}

static double winograd_cost(const cr_convolution *p, int m) {
    enum { TRANSFORM = 12 }; /* in flops, for each element at each point */
    const correlation at = forward_correlation(p);
    const int n = m + (int)at.r - 1;
    const double points = (double)p->batch * points_along(p, 1, m, n) * points_along(p, 2, m, n),
                 phases = (double)at.split - (at.split == 2 && p->kernel[2] % 2 ? 1.0 / n : 0), /* in each dim */
        depth = phases * phases * (double)p->channels, features = (double)p->features;
    return n * n * product_cost(points / (n * n), depth, features) + TRANSFORM * points * (depth + features);
}

/* Two or three taps in each phase of a stride of at most 2, and whole vectors. */
static bool takes_winograd(const cr_convolution *p) {
    const int64_t kernel = p->kernel[2], stride = p->stride[2], r = divide_up(kernel, stride);
    return (r == 2 || r == 3) && stride <= 2 && p->kernel[1] == kernel && p->stride[1] == stride &&
           p->dilation[1] == 1 && p->dilation[2] == 1 && p->channels % LANES == 0 && p->features % LANES == 0 &&
           p->channels >= 4 * LANES && p->features >= 4 * LANES;
}

/* From the sizes alone, so that the weight can be packed before. */
static convolution_way way_of(const cr_convolution *p) {
    if (p->groups > 1) return DEPTHWISE;
    if (!takes_winograd(p)) return DIRECT;
    const double pixels = (double)(p->batch * p->out[1] * p->out[2]),
                 depth = (double)(p->kernel[1] * p->kernel[2] * p->channels),
                 direct = product_cost(pixels, depth, (double)p->features), four = winograd_cost(p, 4),
                 two = p->kernel[2] == 3 && p->stride[2] == 1 ? winograd_cost(p, 2) : INFINITY;
    if (direct <= two && direct <= four) return DIRECT;
    return two <= four ? WINOGRAD_2 : WINOGRAD_4;
}
static int results_of(convolution_way way) { return way == WINOGRAD_4 ? 4 : 2; }

/* ---------------------------------------------------------------- weights */
int64_t CR_NAME(cr_packed_channels_last)(const cr_convolution *p);
int64_t CR_NAME(cr_packed_channels_last)(const cr_convolution *p) {
    const convolution_way way = way_of(p);
    if (way == DEPTHWISE) return depthwise_packed_elements(p);
    const correlation at = forward_correlation(p);
    return way == DIRECT ? direct_packed_elements(p) : winograd_packed_elements(p, &at, results_of(way));
}

static void pack(const cr_convolution *p, const float *w, float *packed) {
    const convolution_way way = way_of(p);
    if (way == DEPTHWISE) {
        pack_depthwise(p, w, packed);
    } else if (way == DIRECT) {
        channels_last_layer l = {.problem = p, .x = w, .y = packed};
        cr_parallel_for(divide_up(p->features, COLUMNS), 1, pack_direct_panels, &l);
    } else {
        const correlation at = forward_correlation(p);
        winograd_weights job = forward_weights(p, &at, w, packed, results_of(way));
        pack_winograd(&job);
    }
}

static cr_convolution describe(cr_shape input, cr_shape weight, cr_shape output, const void *options) {
    return cr_convolution_describe(cr_to_channels_first(input), weight, cr_to_channels_first(output), options);
}

CR_KERNEL(pack_channels_last) {
    const cr_pack_convolution_options *o = call->attributes;
    cr_tensor *weight = cr_contiguous(call->inputs[0]);
    cr_shape output;
    if (!weight ||
        !cr_convolution_output(call, (const void *)o, cr_to_channels_first(o->input), cr_tensor_shape(weight), &output))
        return false;
    const cr_convolution p =
        cr_convolution_describe(cr_to_channels_first(o->input), cr_tensor_shape(weight), output, (const void *)o);
    pack(&p, cr_tensor_address(weight), cr_tensor_address(call->outputs[0]));
    return true;
}

/* ---------------------------------------------------------------- convolution */
/* Into the output's dense memory. */
static bool run_layer(channels_last_layer *l, cr_tensor *input, cr_tensor *bias) {
    const cr_convolution *p = l->problem;
    const convolution_way way = way_of(p);
    cr_tensor *x = way == DIRECT && takes_padded_copy(p) ? input : cr_contiguous(input),
              *shift = bias ? cr_contiguous(bias) : NULL;
    if (!x || (bias && !shift)) return false;
    l->x = cr_tensor_address(x);
    l->bias = shift ? cr_tensor_address(shift) : NULL;
    l->low = -INFINITY;
    l->high = INFINITY;
    if (l->epilogue && l->epilogue->is_simple && (way != DEPTHWISE || !l->epilogue->added)) {
        l->added = l->epilogue->added;
        l->low = l->epilogue->low;
        l->high = l->epilogue->high;
        l->epilogue = NULL;
    }
    if (way == DIRECT) return run_direct(l, x->strides);
    if (way == DEPTHWISE) return run_depthwise(l);
    const correlation at = forward_correlation(p);
    return run_winograd(l, &at, results_of(way), NULL);
}

CR_KERNEL(channels_last_convolution) {
    cr_tensor *output = call->outputs[0], *weight = cr_contiguous(call->inputs[1]);
    if (output->numel == 0) return true;
    cr_tensor *y = cr_is_contiguous(output) ? output : cr_empty(CR_F32, cr_tensor_shape(output), output->device);
    if (!y || !weight) return false;
    const cr_convolution p =
        describe(cr_tensor_shape(call->inputs[0]), cr_tensor_shape(weight), cr_tensor_shape(output), call->attributes);
    scratch memory = {0};
    float *packed = scratch_take(&memory, (size_t)CR_NAME(cr_packed_channels_last)(&p) * sizeof(float));
    if (!packed) return false;
    pack(&p, cr_tensor_address(weight), packed);
    channels_last_layer l = {.problem = &p, .packed = packed, .y = cr_tensor_address(y)};
    const bool done = run_layer(&l, call->inputs[0], call->input_count > 2 ? call->inputs[2] : NULL);
    scratch_drop(&memory);
    return done && (y == output || cr_copy_(output, y) != NULL);
}

/* The plan gives a dense output, and a packed weight. */
CR_KERNEL(fused_channels_last_convolution) {
    const cr_fused_convolution_options *o = call->attributes;
    cr_epilogue epilogue;
    if (call->outputs[0]->numel == 0) return true;
    if (!cr_epilogue_begin(&epilogue, call, o->program)) return false;
    const cr_convolution p =
        describe(cr_tensor_shape(call->inputs[0]), o->packed, cr_tensor_shape(call->outputs[0]), o);
    channels_last_layer l = {.problem = &p,
                             .packed = cr_tensor_address(call->inputs[1]),
                             .y = cr_tensor_address(call->outputs[0]),
                             .epilogue = &epilogue};
    return run_layer(&l, call->inputs[0], call->inputs[2]);
}

/* ---------------------------------------------------------------- bottlenecks */
CR_KERNEL(fused_bottleneck) {
    const cr_fused_bottleneck_options *o = call->attributes;
    const cr_tensor *output = call->outputs[0];
    cr_tensor *x = cr_contiguous(call->inputs[0]);
    cr_epilogue epilogue;
    if (output->numel == 0) return true;
    if (!x || !cr_epilogue_begin(&epilogue, call, o->program)) return false;
    bottleneck_job j = {.o = o,
                        .x = cr_tensor_address(x),
                        .y = cr_tensor_address(output),
                        .epilogue = epilogue.is_simple ? NULL : &epilogue,
                        .added = epilogue.is_simple ? epilogue.added : NULL,
                        .low = epilogue.is_simple ? epilogue.low : -INFINITY,
                        .high = epilogue.is_simple ? epilogue.high : INFINITY,
                        .images = x->sizes[0],
                        .in = {x->sizes[1], x->sizes[2]},
                        .out = {output->sizes[1], output->sizes[2]},
                        .channels = x->sizes[3],
                        .hidden = o->hidden,
                        .features = output->sizes[3]};
    return run_bottleneck(&j, cr_tensor_address(call->inputs[1]));
}

/* ---------------------------------------------------------------- pools */
static bool run_pool(cr_call *call, const cr_max_pool_options *max, const cr_avg_pool_options *avg) {
    cr_tensor *output = call->outputs[0], *x = cr_contiguous(call->inputs[0]);
    if (output->numel == 0) return true;
    cr_tensor *y = cr_is_contiguous(output) ? output : cr_empty(CR_F32, cr_tensor_shape(output), output->device);
    if (!x || !y) return false;
    window_job j = {.kind = max ? GREATEST : MEAN,
                    .x = cr_tensor_address(x),
                    .y = cr_tensor_address(y),
                    .low = -INFINITY,
                    .high = INFINITY};
    j.geometry = cr_pool_describe(cr_to_channels_first(cr_tensor_shape(x)), cr_to_channels_first(cr_tensor_shape(y)), 2,
                                  max, avg);
    run_windows(&j);
    return y == output || cr_copy_(output, y) != NULL;
}
CR_KERNEL(channels_last_max_pool) { return run_pool(call, call->attributes, NULL); }
CR_KERNEL(channels_last_avg_pool) { return run_pool(call, NULL, call->attributes); }
