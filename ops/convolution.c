/* Convolution: one row for 1 to 3 spatial dims, plain and transposed, and a row for each of its two gradients.
 *
 * convolution(x, w), grad_input(g, w) and grad_weight(g, x) are all linear in both operands, and the gradient of each
 * is made of the other two. */
#include "ops/convolution.h"

#include <string.h>

CR_ATTRIBUTES(convolution, CR_CONVOLUTION_ATTRIBUTES)
CR_ATTRIBUTES(convolution_grad, CR_CONVOLUTION_GRAD_ATTRIBUTES)
_Static_assert(offsetof(cr_convolution_options, transposed) == offsetof(cr_convolution_grad_options, transposed),
               "the gradients' options begin with the convolution's");

/* ---------------------------------------------------------------- checks */
bool cr_spatial_check(const cr_call *call, const cr_dims *list, const char *name, int spatial, int64_t minimum) {
    if (list->count != 0 && list->count != 1 && list->count != spatial)
        return cr_fail_call(call, CR_ERROR_ARGUMENT,
                            "%s has %d numbers for %d spatial dims; give one for each, or one for all", name,
                            list->count, spatial);
    for (int i = 0; i < list->count; i++)
        if (list->at[i] < minimum || list->at[i] > INT32_MAX)
            return cr_fail_call(call, CR_ERROR_ARGUMENT, "%s is %lld; it must be %lld or more%s", name,
                                (long long)list->at[i], (long long)minimum,
                                list->at[i] > INT32_MAX ? ", and below 2^31" : "");
    return true;
}

static bool check_settings(const cr_call *call, const cr_convolution_options *o, int spatial) {
    if (o->groups < 1)
        return cr_fail_call(call, CR_ERROR_ARGUMENT, "groups is %lld; it must be 1 or more", (long long)o->groups);
    return cr_spatial_check(call, &o->strides, "stride", spatial, 1) &&
           cr_spatial_check(call, &o->paddings, "padding", spatial, 0) &&
           cr_spatial_check(call, &o->dilations, "dilation", spatial, 1) &&
           cr_spatial_check(call, &o->output_paddings, "output_padding", spatial, 0);
}

/* One spatial size of the result, or an error. Sizes are below 2^40 and settings below 2^31, so int64 holds all of it
 * once dilation times kernel is known to. */
static bool output_size(const cr_call *call, const cr_convolution_options *o, int i, int64_t in, int64_t kernel,
                        int64_t *out) {
    const int64_t stride = cr_spatial_setting(&o->strides, i, 1), padding = cr_spatial_setting(&o->paddings, i, 0);
    const int64_t dilation = cr_spatial_setting(&o->dilations, i, 1),
                  extra = cr_spatial_setting(&o->output_paddings, i, 0);
    if (kernel < 1) return cr_fail_call(call, CR_ERROR_SHAPE, "the weight's spatial dim %d is empty", i);
    int64_t reach, steps;
    if (__builtin_mul_overflow(dilation, kernel - 1, &reach) || reach > INT64_MAX / 4 || in > INT64_MAX / 4 ||
        __builtin_mul_overflow(in - 1, stride, &steps) || steps > INT64_MAX / 4)
        return cr_fail_call(call, CR_ERROR_SHAPE, "sizes are past int64 in spatial dim %d", i);
    if (!o->transposed) {
        if (extra) return cr_fail_call(call, CR_ERROR_ARGUMENT, "output_padding is for transposed convolutions only");
        if (in + 2 * padding < reach + 1)
            return cr_fail_call(call, CR_ERROR_SHAPE,
                                "spatial dim %d has size %lld with its padding, smaller than the kernel, which "
                                "spans %lld",
                                i, (long long)(in + 2 * padding), (long long)(reach + 1));
        *out = (in + 2 * padding - reach - 1) / stride + 1;
        return true;
    }
    if (extra >= stride && extra >= dilation)
        return cr_fail_call(call, CR_ERROR_ARGUMENT,
                            "output_padding %lld must be smaller than stride %lld or dilation %lld", (long long)extra,
                            (long long)stride, (long long)dilation);
    *out = steps - 2 * padding + reach + extra + 1;
    if (*out < 1)
        return cr_fail_call(call, CR_ERROR_SHAPE, "the result's spatial dim %d would have size %lld; use less padding",
                            i, (long long)*out);
    return true;
}

bool cr_convolution_output(const cr_call *call, const cr_convolution_options *o, cr_shape input, cr_shape weight,
                           cr_shape *output) {
    const int spatial = weight.count - 2;
    if (spatial < 1 || spatial > CR_SPATIAL_DIMS)
        return cr_fail_call(call, CR_ERROR_SHAPE,
                            "the weight has %d dims; it needs 3 to 5: two for channels, 1 to 3 spatial", weight.count);
    if (input.count != spatial + 2 && input.count != spatial + 1)
        return cr_fail_call(call, CR_ERROR_SHAPE,
                            "with a weight of %d dims the input needs %d dims (or %d without a batch), it has %d",
                            weight.count, spatial + 2, spatial + 1, input.count);
    if (!check_settings(call, o, spatial)) return false;
    const int batched = input.count == spatial + 2;
    const int64_t channels = input.at[batched];
    const int64_t expected = o->transposed ? weight.at[0] : weight.at[1] * o->groups;
    if (channels != expected)
        return cr_fail_call(call, CR_ERROR_SHAPE, "the input has %lld channels, the weight%s expects %lld",
                            (long long)channels, o->groups > 1 ? " with its groups" : "", (long long)expected);
    if (weight.at[0] % o->groups)
        return cr_fail_call(call, CR_ERROR_SHAPE, "the weight's first size %lld is not a multiple of groups %lld",
                            (long long)weight.at[0], (long long)o->groups);
    *output = input;
    output->at[batched] = o->transposed ? weight.at[1] * o->groups : weight.at[0];
    for (int i = 0; i < spatial; i++)
        if (!output_size(call, o, i, input.at[batched + 1 + i], weight.at[2 + i], &output->at[batched + 1 + i]))
            return false;
    return true;
}

static bool check_dtypes(const cr_call *call) {
    const cr_dtype dtype = (cr_dtype)call->inputs[0]->dtype;
    if (!cr_dtype_is_floating(dtype))
        return cr_fail_call(call, CR_ERROR_DTYPE, "takes floating dtypes; cast the operands");
    for (int i = 1; i < call->input_count; i++)
        if (call->inputs[i] && call->inputs[i]->dtype != (int8_t)dtype)
            return cr_fail_call(call, CR_ERROR_DTYPE, "operands have different dtypes; cast them to one");
    return true;
}

/* The result keeps its operand's channels-last layout. */
static bool keeps_channels_last(const cr_tensor *t) { return cr_is_channels_last(t) && !cr_is_contiguous(t); }

/* ---------------------------------------------------------------- infer */
static bool infer_convolution(cr_call *call) {
    const cr_convolution_options *o = call->attributes;
    const cr_tensor *input = call->inputs[0], *bias = call->input_count > 2 ? call->inputs[2] : NULL;
    cr_shape shape;
    if (!check_dtypes(call) ||
        !cr_convolution_output(call, o, cr_tensor_shape(input), cr_tensor_shape(call->inputs[1]), &shape))
        return false;
    const int64_t features = shape.at[shape.count - call->inputs[1]->ndim + 1];
    if (bias && (bias->ndim != 1 || bias->sizes[0] != features))
        return cr_fail_call(call, CR_ERROR_SHAPE, "the bias must have shape [%lld], one number for each output channel",
                            (long long)features);
    cr_spec_set(call, 0, (cr_dtype)input->dtype, shape);
    call->specs[0].channels_last = input->ndim == call->inputs[1]->ndim && keeps_channels_last(input);
    return true;
}

static bool check_grad_shape(const cr_call *call, cr_shape expected) {
    char text[192];
    if (cr_shape_equal(expected, cr_tensor_shape(call->inputs[0]))) return true;
    return cr_fail_call(call, CR_ERROR_SHAPE, "the gradient must have the convolution's shape %s",
                        cr_shape_format(expected, text));
}

static bool check_sizes(const cr_call *call, const cr_dims *sizes, const char *what) {
    int64_t numel;
    return sizes->count ? cr_shape_numel(*sizes, &numel)
                        : cr_fail_call(call, CR_ERROR_ARGUMENT, "`sizes` must be the shape of the %s", what);
}

static bool infer_grad_input(cr_call *call) {
    const cr_convolution_grad_options *o = call->attributes;
    cr_shape shape;
    if (!check_dtypes(call) || !check_sizes(call, &o->sizes, "input")) return false;
    if (!cr_convolution_output(call, (const cr_convolution_options *)(const void *)o, o->sizes,
                               cr_tensor_shape(call->inputs[1]), &shape))
        return false;
    cr_spec_set(call, 0, (cr_dtype)call->inputs[0]->dtype, o->sizes);
    call->specs[0].channels_last = o->sizes.count == call->inputs[1]->ndim && keeps_channels_last(call->inputs[0]);
    return check_grad_shape(call, shape);
}

static bool infer_grad_weight(cr_call *call) {
    const cr_convolution_grad_options *o = call->attributes;
    cr_shape shape;
    if (!check_dtypes(call) || !check_sizes(call, &o->sizes, "weight")) return false;
    if (!cr_convolution_output(call, (const cr_convolution_options *)(const void *)o, cr_tensor_shape(call->inputs[1]),
                               o->sizes, &shape))
        return false;
    cr_spec_set(call, 0, (cr_dtype)call->inputs[0]->dtype, o->sizes);
    return check_grad_shape(call, shape);
}

/* ---------------------------------------------------------------- gradients */
static cr_convolution_options options_of(const void *attributes) { /* of any of the three rows */
    cr_convolution_options options;
    memcpy(&options, attributes, sizeof options);
    options.size = sizeof options;
    return options;
}

static cr_convolution_grad_options grad_options_of(const void *attributes, cr_shape sizes) {
    cr_convolution_grad_options options = {0};
    const cr_convolution_options begin = options_of(attributes);
    memcpy(&options, &begin, sizeof begin);
    options.size = sizeof options;
    options.sizes = sizes;
    return options;
}

static cr_tensor *convolve(const cr_vjp *v, cr_tensor *input, cr_tensor *weight) {
    const cr_convolution_options options = options_of(v->attributes);
    return cr_convolution_with(input, weight, NULL, &options);
}
static cr_tensor *grad_input(const cr_vjp *v, cr_tensor *grad, cr_tensor *weight, cr_shape sizes) {
    const cr_convolution_grad_options options = grad_options_of(v->attributes, sizes);
    return cr_convolution_grad_input_with(grad, weight, &options);
}
static cr_tensor *grad_weight(const cr_vjp *v, cr_tensor *grad, cr_tensor *input, cr_shape sizes) {
    const cr_convolution_grad_options options = grad_options_of(v->attributes, sizes);
    return cr_convolution_grad_weight_with(grad, input, &options);
}

/* A bias is added at every position of its channel. */
static cr_tensor *grad_bias(cr_tensor *grad, bool batched) {
    cr_dims dims = {0};
    for (int i = 0; i < cr_ndim(grad); i++)
        if (i != (int)batched) dims.at[dims.count++] = i;
    return cr_sum(grad, .dims = dims);
}

static bool vjp_convolution(cr_vjp *v) {
    cr_tensor *g = v->grads[0], *input = v->inputs[0], *weight = v->inputs[1];
    const cr_shape in = v->input_specs[0].shape, kernel = v->input_specs[1].shape;
    if (v->needs[0] && !cr_vjp_set(v, 0, grad_input(v, g, weight, in))) return false;
    if (v->needs[1] && !cr_vjp_set(v, 1, grad_weight(v, g, input, kernel))) return false;
    return !(v->input_count > 2 && v->needs[2]) || cr_vjp_set(v, 2, grad_bias(g, in.count == kernel.count));
}

/* r = grad_input(g, w): linear in g, whose gradient is convolution(r', w), and in w, whose gradient is grad_weight(g,
 * r'). */
static bool vjp_grad_input(cr_vjp *v) {
    if (v->needs[0] && !cr_vjp_set(v, 0, convolve(v, v->grads[0], v->inputs[1]))) return false;
    return !v->needs[1] || cr_vjp_set(v, 1, grad_weight(v, v->inputs[0], v->grads[0], v->input_specs[1].shape));
}

/* r = grad_weight(g, x): by g convolution(x, r'), by x grad_input(g, r'). */
static bool vjp_grad_weight(cr_vjp *v) {
    if (v->needs[0] && !cr_vjp_set(v, 0, convolve(v, v->inputs[1], v->grads[0]))) return false;
    return !v->needs[1] || cr_vjp_set(v, 1, grad_input(v, v->inputs[0], v->grads[0], v->input_specs[1].shape));
}

/* ---------------------------------------------------------------- arithmetic */
static bool is_transposed(const cr_call *call) {
    return ((const cr_convolution_options *)call->attributes)->transposed;
}
static double flops_convolution(const cr_call *call) {
    const cr_tensor *y = is_transposed(call) ? call->inputs[0] : call->outputs[0];
    return cr_convolution_flops(y, cr_tensor_shape(call->inputs[1])) +
           (call->inputs[2] ? (double)call->outputs[0]->numel : 0);
}
static double flops_grad_input(const cr_call *call) {
    return cr_convolution_flops(is_transposed(call) ? call->outputs[0] : call->inputs[0],
                                cr_tensor_shape(call->inputs[1]));
}
static double flops_grad_weight(const cr_call *call) {
    return cr_convolution_flops(is_transposed(call) ? call->inputs[1] : call->inputs[0],
                                cr_tensor_shape(call->outputs[0]));
}

CR_OP(convolution, .inputs = "input weight bias?", CR_ROW_ATTRIBUTES(convolution),
      .saves = CR_SAVE_INPUT(0) | CR_SAVE_INPUT(1), .infer = infer_convolution, .vjp = vjp_convolution,
      .flops = flops_convolution, .doc = "Cross-correlation in 1 to 3 dims, plain or transposed.")
CR_OP(convolution_grad_input, .inputs = "grad weight", CR_ROW_ATTRIBUTES(convolution_grad),
      .saves = CR_SAVE_INPUT(0) | CR_SAVE_INPUT(1), .infer = infer_grad_input, .vjp = vjp_grad_input,
      .flops = flops_grad_input, .doc = "The gradient of a convolution by its input.")
CR_OP(convolution_grad_weight, .inputs = "grad input", CR_ROW_ATTRIBUTES(convolution_grad),
      .saves = CR_SAVE_INPUT(0) | CR_SAVE_INPUT(1), .infer = infer_grad_weight, .vjp = vjp_grad_weight,
      .flops = flops_grad_weight, .doc = "The gradient of a convolution by its weight.")

/* ---------------------------------------------------------------- the canonical problem */
cr_convolution cr_convolution_describe(cr_shape x, cr_shape w, cr_shape y, const cr_convolution_options *o) {
    const int spatial = w.count - 2, batched = x.count == w.count, front = CR_SPATIAL_DIMS - spatial;
    cr_convolution p = {
        .batch = batched ? x.at[0] : 1, .groups = o->groups, .channels = w.at[1], .features = w.at[0] / o->groups};
    for (int i = 0; i < CR_SPATIAL_DIMS; i++) {
        const bool given = i >= front;
        p.in[i] = given ? x.at[batched + 1 + i - front] : 1;
        p.out[i] = given ? y.at[batched + 1 + i - front] : 1;
        p.kernel[i] = given ? w.at[2 + i - front] : 1;
        p.stride[i] = given ? cr_spatial_setting(&o->strides, i - front, 1) : 1;
        p.padding[i] = given ? cr_spatial_setting(&o->paddings, i - front, 0) : 0;
        p.dilation[i] = given ? cr_spatial_setting(&o->dilations, i - front, 1) : 1;
    }
    return p;
}

/* ---------------------------------------------------------------- functions */
cr_tensor *cr_convolution_with(cr_tensor *input, cr_tensor *weight, cr_tensor *bias,
                               const cr_convolution_options *options) {
    cr_convolution_options storage;
    return CR_RUN(convolution, cr_options_complete(&cr_op_convolution, options, &storage), input, weight, bias);
}
cr_tensor *cr_convolution_grad_input_with(cr_tensor *grad, cr_tensor *weight,
                                          const cr_convolution_grad_options *options) {
    cr_convolution_grad_options storage;
    return CR_RUN(convolution_grad_input, cr_options_complete(&cr_op_convolution_grad_input, options, &storage), grad,
                  weight);
}
cr_tensor *cr_convolution_grad_weight_with(cr_tensor *grad, cr_tensor *input,
                                           const cr_convolution_grad_options *options) {
    cr_convolution_grad_options storage;
    return CR_RUN(convolution_grad_weight, cr_options_complete(&cr_op_convolution_grad_weight, options, &storage), grad,
                  input);
}

static cr_tensor *conv(const char *name, int spatial, bool transposed, cr_tensor *input, cr_tensor *weight,
                       cr_tensor *bias, const cr_conv_options *given) {
    cr_conv_options o = {.size = sizeof o, CR_CONV_ATTRIBUTES(CR_DEFAULT_, conv)};
    if (given) memcpy(&o, given, given->size < sizeof o ? given->size : sizeof o);
    if (weight && cr_tensor_check(weight, name) && weight->ndim != spatial + 2) {
        char text[224];
        cr_record_error(CR_ERROR_SHAPE, "%s: the weight needs %d dims (two for channels, %d spatial); weight is %s",
                        name, spatial + 2, spatial, cr_describe(weight, text));
        return NULL;
    }
    const cr_convolution_options options = {
        .size = sizeof options,
        .strides = cr_spatial_list(o.stride, o.strides),
        .paddings = cr_spatial_list(o.padding, o.paddings),
        .dilations = cr_spatial_list(o.dilation, o.dilations),
        .output_paddings = cr_spatial_list(o.output_padding, o.output_paddings),
        .groups = o.groups,
        .transposed = transposed,
    };
    return cr_convolution_with(input, weight, bias, &options);
}

#define CONV(name, spatial, transposed)                                                                                \
    cr_tensor *cr_##name##_with(cr_tensor *input, cr_tensor *weight, cr_tensor *bias,                                  \
                                const cr_conv_options *options) {                                                      \
        return conv(#name, spatial, transposed, input, weight, bias, options);                                         \
    }
CONV(conv1d, 1, false)
CONV(conv2d, 2, false)
CONV(conv3d, 3, false)
CONV(conv_transpose1d, 1, true)
CONV(conv_transpose2d, 2, true)
CONV(conv_transpose3d, 3, true)
