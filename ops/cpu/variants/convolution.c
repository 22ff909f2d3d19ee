/* Convolution and its gradients on the CPU, in f32 and f64, by gathered matrix products. */
#include "ops/convolution.h"
#include "ops/cpu/convolution_plan.h"
#include "ops/cpu/variants/epilogue.h"
#include "ops/cpu/variants/planes.h"
#include "ops/cpu/variants/scratch.h"

/* What a fused layer brings along. */
typedef struct layer {
    const void *packed;          /* the weight, packed before; NULL: to be packed now */
    const cr_epilogue *epilogue; /* NULL: none */
} layer;

#define T           double
#define NAMED(name) name##_f64
#include "ops/cpu/variants/convolution_all.h"
#undef LANES
#undef COLUMNS
#undef T
#undef NAMED
#define T           float
#define NAMED(name) name##_f32
#include "ops/cpu/variants/convolution_all.h"
#include "ops/cpu/variants/winograd.h"
#include "ops/cpu/variants/winograd_weights.h"
#include "ops/cpu/variants/convolution_direct.h"
#include "ops/cpu/variants/convolution_dots.h"

/* ---------------------------------------------------------------- simpler problems that are the same */
/* An output of one position, where the kernel covers the input: taps become channels. A 1×1 kernel: all positions are
 * one dim. */
static cr_convolution simplify(cr_convolution p) {
    bool covers = true, points = true;
    for (int d = 0; d < CR_SPATIAL_DIMS; d++) {
        covers &=
            p.out[d] == 1 && p.kernel[d] == p.in[d] && p.padding[d] == 0 && (p.dilation[d] == 1 || p.kernel[d] == 1);
        points &= p.kernel[d] == 1 && p.stride[d] == 1 && p.padding[d] == 0 && p.in[d] == p.out[d];
    }
    if (!covers && !points) return p;
    if (covers) p.channels *= cr_product3(p.in);
    const int64_t in = covers ? 1 : cr_product3(p.in);
    for (int d = 0; d < CR_SPATIAL_DIMS; d++) {
        p.in[d] = p.out[d] = d == CR_SPATIAL_DIMS - 1 ? in : 1;
        p.kernel[d] = p.stride[d] = p.dilation[d] = 1;
    }
    return p;
}

/* ---------------------------------------------------------------- operands */
typedef enum direction { FORWARD, DATA, WEIGHTS } direction;

static bool run_f64(direction way, const cr_convolution *p, const double *a, const double *b, const double *bias,
                    const layer *extra, double *target) {
    return way == FORWARD ? forward_f64(p, a, b, bias, target, extra)
           : way == DATA  ? data_f64(p, a, b, bias, target, extra)
                          : weights_f64(p, a, b, target);
}

/* Winograd's algorithm where it pays, in tiles of 4×4 or of 2×2; else by images as lanes, or plane by plane, where that
 * pays; else products. */
static bool run_f32(direction way, const cr_convolution *p, const float *a, const float *b, const float *bias,
                    const layer *extra, float *target) {
    bool applies = false, done = true;
    if (way == WEIGHTS) {
        done = cr_pixel_weights(p, a, b, target, &applies);
        if (done && !applies) done = cr_winograd_weights(p, a, b, target, &applies);
    } else if (!extra->packed) {
        done = cr_winograd_planes(p, way == DATA, a, b, bias, target, &applies);
        if (done && applies) cr_epilogue_images(extra->epilogue, 0, p->batch);
    }
    if (done && !applies)
        done = way == FORWARD ? forward_winograd_f32(p, a, b, bias, target, extra, &applies)
               : way == DATA  ? data_winograd_f32(p, a, b, bias, target, extra, &applies)
                              : weights_winograd_f32(p, a, b, target, &applies);
    if (done && !applies && !extra->packed)
        done = way == WEIGHTS ? cr_image_lanes_weights(p, a, b, target, &applies)
                              : cr_image_lanes(p, way == DATA, a, b, bias, extra->epilogue, target, &applies);
    if (done && !applies && !extra->packed)
        done = way == WEIGHTS ? weights_dots_f32(p, a, b, target, &applies)
                              : direct_f32(p, way == DATA, a, b, bias, target, extra, &applies);
    if (done && !applies && way == FORWARD && !extra->packed) {
        done = cr_convolve_features(p, a, b, bias, target, &applies);
        if (done && applies) cr_epilogue_images(extra->epilogue, 0, p->batch);
    }
    if (!done || applies) return done;
    return way == FORWARD ? forward_f32(p, a, b, bias, target, extra)
           : way == DATA  ? data_f32(p, a, b, bias, target, extra)
                          : weights_f32(p, a, b, target);
}

static bool run_dense(direction way, const cr_convolution *p, const cr_tensor *a, const cr_tensor *b,
                      const cr_tensor *bias, const layer *extra, cr_tensor *out) {
    const void *pa = cr_tensor_address(a), *pb = cr_tensor_address(b), *pbias = bias ? cr_tensor_address(bias) : NULL;
    void *target = cr_tensor_address(out);
    return out->dtype == CR_F64 ? run_f64(way, p, pa, pb, pbias, extra, target)
                                : run_f32(way, p, pa, pb, pbias, extra, target);
}

/* Each number `times` times: the bias of channels that stand for a channel's taps. */
static cr_tensor *repeat_each(cr_tensor *t, int64_t times) {
    cr_tensor *result = cr_empty((cr_dtype)t->dtype, CR_SHAPE(t->numel * times), t->device);
    if (!result) return NULL;
    const size_t size = cr_dtype_size((cr_dtype)t->dtype);
    char *to = cr_tensor_address(result);
    for (int64_t i = 0; i < result->numel; i++)
        memcpy(to + (size_t)i * size, (const char *)cr_tensor_address(t) + (size_t)(i / times) * size, size);
    return result;
}

/* A dense operand of the compute dtype. */
static cr_tensor *operand(cr_tensor *t, cr_dtype compute) { return t ? cr_contiguous(cr_cast(t, compute)) : NULL; }

/* Runs one direction: operands (x, w), (y, w) or (x, y). f16 and bf16 go through f32. */
static bool run(cr_call *call, direction way, cr_convolution p, cr_tensor *a, cr_tensor *b, cr_tensor *bias,
                const layer *extra) {
    cr_tensor *output = call->outputs[0];
    if (output->numel == 0) return true;
    const cr_dtype compute = output->dtype == CR_F64 ? CR_F64 : CR_F32;
    cr_tensor *dense = output->dtype == (int8_t)compute && cr_is_contiguous(output)
                           ? output
                           : cr_empty(compute, cr_tensor_shape(output), output->device);
    cr_tensor *left = operand(a, compute), *right = operand(b, compute), *shift = operand(bias, compute);
    if (!dense || !left || !right || (bias && !shift)) return false;
    const int64_t channels = p.channels;
    p = simplify(p);
    if (shift && way == DATA && p.channels != channels && !(shift = repeat_each(shift, p.channels / channels)))
        return false;
    const bool done =
        way == WEIGHTS && p.batch == 0 ? cr_zero_(dense) != NULL : run_dense(way, &p, left, right, shift, extra, dense);
    if (!done) return false;
    return dense == output || cr_copy_(output, dense) != NULL;
}

CR_KERNEL(convolution) {
    const cr_convolution_options *o = call->attributes;
    cr_tensor *input = call->inputs[0], *weight = call->inputs[1],
              *bias = call->input_count > 2 ? call->inputs[2] : NULL;
    const cr_shape in = cr_tensor_shape(input), out = cr_tensor_shape(call->outputs[0]),
                   kernel = cr_tensor_shape(weight);
    const cr_convolution p = cr_convolution_describe(o->transposed ? out : in, kernel, o->transposed ? in : out, o);
    return run(call, o->transposed ? DATA : FORWARD, p, input, weight, bias, &(layer){0});
}

/* The epilogue runs over the result's dense memory: the plan gives no other. */
CR_KERNEL(fused_convolution) {
    const cr_fused_convolution_options *o = call->attributes;
    const cr_shape kernel = o->packed.count ? o->packed : cr_tensor_shape(call->inputs[1]);
    cr_epilogue epilogue;
    if (call->outputs[0]->numel == 0) return true;
    if (!cr_epilogue_begin(&epilogue, call, o->program)) return false;
    const layer extra = {o->packed.count ? cr_tensor_address(call->inputs[1]) : NULL, &epilogue};
    const cr_convolution p =
        cr_layer_convolution(cr_tensor_shape(call->inputs[0]), kernel, cr_tensor_shape(call->outputs[0]), o);
    return run(call, o->transposed ? DATA : FORWARD, p, call->inputs[0], call->inputs[1], call->inputs[2], &extra);
}

int64_t CR_NAME(cr_packed_convolution)(const cr_convolution *problem, cr_dtype dtype, bool transposed);
int64_t CR_NAME(cr_packed_convolution)(const cr_convolution *problem, cr_dtype dtype, bool transposed) {
    const cr_convolution p = simplify(*problem);
    if (problem->batch == 0 || (transposed && p.channels != problem->channels)) return 0;
    if (dtype == CR_F64) return transposed ? 0 : forward_packed_f64(&p);
    return packed_elements_f32(&p, transposed);
}

CR_KERNEL(pack_convolution) {
    const cr_pack_convolution_options *o = call->attributes;
    cr_tensor *weight = cr_contiguous(call->inputs[0]);
    if (!weight) return false;
    cr_shape output;
    if (!cr_convolution_output(call, (const void *)o, o->input, cr_tensor_shape(weight), &output)) return false;
    const cr_convolution p = simplify(cr_layer_convolution(o->input, cr_tensor_shape(weight), output, o));
    void *to = cr_tensor_address(call->outputs[0]);
    return weight->dtype == CR_F64 ? pack_forward_f64(&p, cr_tensor_address(weight), to)
                                   : pack_layer_f32(&p, o->transposed, cr_tensor_address(weight), to);
}

CR_KERNEL(convolution_grad_input) {
    const cr_convolution_options *o = call->attributes;
    cr_tensor *grad = call->inputs[0], *weight = call->inputs[1];
    const cr_shape from = cr_tensor_shape(grad), to = cr_tensor_shape(call->outputs[0]),
                   kernel = cr_tensor_shape(weight);
    const cr_convolution p = cr_convolution_describe(o->transposed ? from : to, kernel, o->transposed ? to : from, o);
    return run(call, o->transposed ? FORWARD : DATA, p, grad, weight, NULL, &(layer){0});
}

CR_KERNEL(convolution_grad_weight) {
    const cr_convolution_options *o = call->attributes;
    cr_tensor *grad = call->inputs[0], *input = call->inputs[1];
    cr_tensor *x = o->transposed ? grad : input, *y = o->transposed ? input : grad;
    const cr_convolution p =
        cr_convolution_describe(cr_tensor_shape(x), cr_tensor_shape(call->outputs[0]), cr_tensor_shape(y), o);
    return run(call, WEIGHTS, p, x, y, NULL, &(layer){0});
}
