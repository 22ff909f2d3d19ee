/* The rows of layers on channels-last tensors, f32 in two dims; their fused form is in ops/fused.c. */
#include "ops/channels_last.h"
#include "ops/fused.h"
#include "ops/pooling.h"

static bool check_input(const cr_call *call) {
    const cr_tensor *input = call->inputs[0];
    return (input->ndim == 4 && input->dtype == CR_F32) ||
           cr_fail_call(call, CR_ERROR_SHAPE, "takes f32 of [batch, height, width, channels]");
}

/* ---------------------------------------------------------------- convolution */
CR_ATTRIBUTES(convolution, CR_CONVOLUTION_ATTRIBUTES)
CR_ATTRIBUTES(pack_convolution, CR_PACK_CONVOLUTION_ATTRIBUTES)

static bool check_weight(const cr_call *call, const cr_convolution_options *o, const cr_tensor *weight) {
    return (weight->dtype == CR_F32 && !o->transposed && cr_channels_last_takes(cr_tensor_shape(weight), o->groups)) ||
           cr_fail_call(call, CR_ERROR_UNSUPPORTED,
                        "takes an f32 weight of 4 dims, in one group or one channel in each");
}

static bool infer_convolution(cr_call *call) {
    const cr_convolution_options *o = call->attributes;
    const cr_tensor *weight = call->inputs[1], *bias = call->input_count > 2 ? call->inputs[2] : NULL;
    cr_shape shape;
    if (!check_input(call) || !check_weight(call, o, weight)) return false;
    if (!cr_convolution_output(call, o, cr_to_channels_first(cr_tensor_shape(call->inputs[0])), cr_tensor_shape(weight),
                               &shape))
        return false;
    if (bias && (bias->dtype != CR_F32 || bias->ndim != 1 || bias->sizes[0] != shape.at[1]))
        return cr_fail_call(call, CR_ERROR_SHAPE, "the bias must be f32 of [%lld], one number for each output channel",
                            (long long)shape.at[1]);
    cr_spec_set(call, 0, CR_F32, cr_to_channels_last(shape));
    return true;
}
static double flops_convolution(const cr_call *call) {
    return cr_convolution_flops(call->outputs[0], cr_tensor_shape(call->inputs[1])) +
           (call->inputs[2] ? (double)call->outputs[0]->numel : 0);
}
CR_OP(channels_last_convolution, .inputs = "input weight bias?", CR_ROW_ATTRIBUTES(convolution),
      .flags = CR_OP_NO_GRADIENT, .infer = infer_convolution, .flops = flops_convolution,
      .doc = "A convolution in two dims of channels-last tensors; the weight lies as that of convolution.")

static bool infer_pack(cr_call *call) {
    const cr_pack_convolution_options *o = call->attributes;
    const cr_convolution_options *settings = (const void *)o;
    const cr_shape weight = cr_tensor_shape(call->inputs[0]);
    cr_shape output;
    int64_t numel;
    if (o->input.count != 4 || !cr_shape_numel(o->input, &numel))
        return cr_fail_call(call, CR_ERROR_SHAPE, "the input has the sizes batch, height, width and channels");
    const cr_shape input = cr_to_channels_first(o->input);
    if (!check_weight(call, settings, call->inputs[0]) ||
        !cr_convolution_output(call, settings, input, weight, &output))
        return false;
    const cr_convolution problem = cr_convolution_describe(input, weight, output, settings);
    cr_spec_set(call, 0, CR_F32, CR_SHAPE(cr_packed_channels_last(&problem)));
    return true;
}
CR_OP(pack_channels_last, .inputs = "weight", .outputs = "packed", CR_ROW_ATTRIBUTES(pack_convolution),
      .flags = CR_OP_NO_GRADIENT, .infer = infer_pack,
      .doc = "The weight of channels_last_convolution in the order in which this processor's kernel reads it.")

/* ---------------------------------------------------------------- pools */
CR_ATTRIBUTES(max_pool, CR_MAX_POOL_ATTRIBUTES)
CR_ATTRIBUTES(avg_pool, CR_AVG_POOL_ATTRIBUTES)

static bool check_windows(const cr_call *call, const cr_dims *kernel_sizes) {
    return check_input(call) &&
           (kernel_sizes->count == 2 ||
            cr_fail_call(call, CR_ERROR_ARGUMENT, "kernel_sizes has %d numbers; it needs 2", kernel_sizes->count));
}
static bool infer_max_pool(cr_call *call) {
    cr_shape shape;
    if (!check_windows(call, &((const cr_max_pool_options *)call->attributes)->kernel_sizes) ||
        !cr_max_pool_output(call, call->attributes, cr_to_channels_first(cr_tensor_shape(call->inputs[0])), &shape))
        return false;
    cr_spec_set(call, 0, CR_F32, cr_to_channels_last(shape));
    return true;
}
static bool infer_avg_pool(cr_call *call) {
    cr_shape shape;
    if (!check_windows(call, &((const cr_avg_pool_options *)call->attributes)->kernel_sizes) ||
        !cr_avg_pool_output(call, call->attributes, cr_to_channels_first(cr_tensor_shape(call->inputs[0])), &shape))
        return false;
    cr_spec_set(call, 0, CR_F32, cr_to_channels_last(shape));
    return true;
}
static double flops_pool(const cr_call *call) { /* the kernel's sizes are what both rows begin with */
    const cr_dims *kernel = &((const cr_max_pool_options *)call->attributes)->kernel_sizes;
    return (double)call->outputs[0]->numel * (double)(kernel->at[0] * kernel->at[1]);
}
_Static_assert(offsetof(cr_max_pool_options, kernel_sizes) == offsetof(cr_avg_pool_options, kernel_sizes), "see above");
CR_OP(channels_last_max_pool, .inputs = "input", CR_ROW_ATTRIBUTES(max_pool), .flags = CR_OP_NO_GRADIENT,
      .infer = infer_max_pool, .flops = flops_pool,
      .doc = "The greatest value of each window of a channels-last tensor.")
CR_OP(channels_last_avg_pool, .inputs = "input", CR_ROW_ATTRIBUTES(avg_pool), .flags = CR_OP_NO_GRADIENT,
      .infer = infer_avg_pool, .flops = flops_pool, .doc = "The mean of each window of a channels-last tensor.")
