/* The rows of fused nodes: they are in graphs only, and their meaning is in the blocks of their nodes. */
#include "ops/fused.h"

#include <string.h>

static const cr_fused_options fused_defaults = {sizeof fused_defaults, NULL};

/* Fused nodes are planned from their blocks; a call by name has none. */
static bool infer_fused(cr_call *call) {
    return cr_fail_call(call, CR_ERROR_UNSUPPORTED, "is a node of optimised graphs, not an op to call");
}

/* Of a plan's call: what its program does to each element of the results. */
static double flops_program(const cr_call *call) {
    const cr_fused_program *program;
    memcpy(&program, (const char *)call->attributes + call->op->program_at, sizeof(void *));
    double each = 0;
    for (int i = 0; program && i < program->instruction_count; i++)
        each += cr_pointwise_flops(program->instructions[i].info);
    return each * (double)call->outputs[0]->numel;
}

CR_OP(fused, .inputs = "operands*", .outputs = "", .attribute_bytes = sizeof(cr_fused_options),
      .defaults = &fused_defaults, .program_at = offsetof(cr_fused_options, program),
      .flags = CR_OP_BLOCKS | CR_OP_NO_GRADIENT, .infer = infer_fused, .flops = flops_program,
      .doc = "Pointwise ops in one pass over memory.")

CR_OP(fused_reduction, .inputs = "operands*", .outputs = "", .attribute_bytes = sizeof(cr_fused_options),
      .defaults = &fused_defaults, .program_at = offsetof(cr_fused_options, program),
      .flags = CR_OP_BLOCKS | CR_OP_NO_GRADIENT, .infer = infer_fused,
      .doc = "Pointwise ops and a reduction of what they give, in one pass over memory.")

cr_tensor *cr_fused_unreduced(const cr_fused_program *program, cr_tensor *const *inputs, int input_count) {
    const cr_call call = {.inputs = (cr_tensor **)(uintptr_t)inputs, .input_count = input_count};
    cr_shape strides;
    const bool last = cr_pointwise_keeps_channels_last(&call, &program->shape);
    if (last) cr_channels_last_strides(program->shape, &strides);
    return cr_empty_hollow(cr_fused_dtype(program, program->outputs[0]), program->shape, last ? &strides : NULL,
                           CR_CPU);
}

/* ---------------------------------------------------------------- layers with an epilogue */
CR_ATTRIBUTES(fused_convolution, CR_FUSED_CONVOLUTION_ATTRIBUTES)
CR_ATTRIBUTES(fused_product, CR_FUSED_PRODUCT_ATTRIBUTES)
CR_ATTRIBUTES(fused_bottleneck, CR_FUSED_BOTTLENECK_ATTRIBUTES)
_Static_assert(offsetof(cr_fused_convolution_options, transposed) == offsetof(cr_convolution_options, transposed),
               "the options begin with the convolution's");

static double flops_fused_convolution(const cr_call *call) {
    const cr_fused_convolution_options *o = call->attributes;
    const cr_shape weight = o->packed.count ? o->packed : cr_tensor_shape(call->inputs[1]);
    return cr_convolution_flops(o->transposed ? call->inputs[0] : call->outputs[0], weight) +
           (call->inputs[2] ? (double)call->outputs[0]->numel : 0) + flops_program(call);
}
static double flops_fused_linear(const cr_call *call) {
    return cr_flops_product(call) + (call->inputs[2] ? (double)call->outputs[0]->numel : 0) + flops_program(call);
}

static double flops_fused_bottleneck(const cr_call *call) {
    const cr_fused_bottleneck_options *o = call->attributes;
    const cr_tensor *x = call->inputs[0], *y = call->outputs[0];
    const double hidden = (double)o->hidden, pixels = (double)(y->numel / y->sizes[3]),
                 expand = o->expands ? 2 * hidden * (double)x->numel : 0;
    return expand + pixels * hidden * (18 + 2 * (double)y->sizes[3]) + flops_program(call);
}

#define LAYER(options)                                                                                                 \
    .outputs = "", CR_ROW_ATTRIBUTES(options), .program_at = offsetof(cr_##options##_options, program),                \
    .flags = CR_OP_BLOCKS | CR_OP_NO_GRADIENT, .infer = infer_fused
CR_OP(fused_convolution, .inputs = "input weight bias? operands*", LAYER(fused_convolution),
      .flops = flops_fused_convolution, .doc = "A convolution, and pointwise ops on its result.")
CR_OP(fused_channels_last_convolution, .inputs = "input weight bias? operands*", LAYER(fused_convolution),
      .flops = flops_fused_convolution, .doc = "A channels-last convolution, and pointwise ops on its result.")
CR_OP(fused_bottleneck, .inputs = "input weight none? operands*", LAYER(fused_bottleneck),
      .flops = flops_fused_bottleneck, .doc = "Channels-last convolutions of 1x1, depthwise 3x3 and 1x1, by rows.")
CR_OP(fused_linear, .inputs = "input weight bias? operands*", LAYER(fused_product), .flops = flops_fused_linear,
      .doc = "A linear layer, and pointwise ops on its result.")
CR_OP(fused_matmul, .inputs = "a b none? operands*", LAYER(fused_product), .flops = flops_fused_linear,
      .doc = "A matrix product, and pointwise ops on its result.")

cr_parts cr_layer_parts(const cr_op *op, int result_dims) {
    if (op == &cr_op_fused_convolution) return (cr_parts){1, 1};
    return op == &cr_op_fused_matmul ? (cr_parts){result_dims - 2, 1} : (cr_parts){0, result_dims - 1};
}

/* One step through dims begin … end-1 of the result, taken together, in t. */
static bool part_stride(const cr_tensor *t, cr_shape result, int begin, int end, int64_t *step) {
    int64_t next = -1;
    *step = 0;
    for (int d = end - 1; d >= begin; d--) {
        if (result.at[d] == 1) continue;
        const int own = d - (result.count - t->ndim);
        const int64_t stride = own < 0 || t->sizes[own] == 1 ? 0 : t->strides[own];
        if (next < 0)
            *step = stride;
        else if (stride != next)
            return false;
        next = stride * result.at[d];
    }
    return true;
}

bool cr_part_strides(const cr_tensor *t, cr_shape result, cr_parts parts, int64_t strides[3]) {
    const int rows = parts.image_dims, columns = rows + parts.row_dims;
    return part_stride(t, result, 0, rows, &strides[0]) && part_stride(t, result, rows, columns, &strides[1]) &&
           part_stride(t, result, columns, result.count, &strides[2]);
}

/* ---------------------------------------------------------------- weights packed once */
CR_ATTRIBUTES(pack_convolution, CR_PACK_CONVOLUTION_ATTRIBUTES)
CR_ATTRIBUTES(pack_columns, CR_PACK_COLUMNS_ATTRIBUTES)
_Static_assert(offsetof(cr_pack_convolution_options, transposed) == offsetof(cr_convolution_options, transposed),
               "the options begin with the convolution's");

cr_convolution cr_layer_convolution(cr_shape input, cr_shape weight, cr_shape output, const void *options) {
    const cr_convolution_options *o = options;
    return o->transposed ? cr_convolution_describe(output, weight, input, o)
                         : cr_convolution_describe(input, weight, output, o);
}

static bool set_packed(cr_call *call, int64_t elements) {
    if (elements <= 0) return cr_fail_call(call, CR_ERROR_UNSUPPORTED, "this weight is used as it is");
    cr_spec_set(call, 0, (cr_dtype)call->inputs[0]->dtype, CR_SHAPE(elements));
    return true;
}

static bool check_packable(const cr_call *call, int least_dims) {
    const cr_tensor *weight = call->inputs[0];
    return (weight->ndim >= least_dims && (weight->dtype == CR_F32 || weight->dtype == CR_F64)) ||
           cr_fail_call(call, CR_ERROR_DTYPE, "takes an f32 or f64 weight of at least %d dims", least_dims);
}

static bool infer_pack_convolution(cr_call *call) {
    const cr_pack_convolution_options *o = call->attributes;
    const cr_shape weight = cr_tensor_shape(call->inputs[0]);
    cr_shape output, input = o->input;
    int64_t numel;
    if (!check_packable(call, 3) || !cr_convolution_output(call, (const void *)o, input, weight, &output)) return false;
    if (input.count != weight.count || !cr_shape_numel(input, &numel) || !cr_shape_numel(output, &numel))
        return cr_fail_call(call, CR_ERROR_SHAPE, "the input has a batch, and sizes within int64");
    const cr_convolution problem = cr_layer_convolution(input, weight, output, o);
    return set_packed(call, cr_packed_convolution(&problem, (cr_dtype)call->inputs[0]->dtype, o->transposed));
}
CR_OP(pack_convolution, .inputs = "weight", .outputs = "packed", CR_ROW_ATTRIBUTES(pack_convolution),
      .flags = CR_OP_NO_GRADIENT, .infer = infer_pack_convolution,
      .doc = "A convolution's weight in the order in which this processor's kernel reads it.")

static bool infer_pack_columns(cr_call *call) {
    const cr_pack_columns_options *o = call->attributes;
    const cr_tensor *weight = call->inputs[0];
    if (!check_packable(call, 2)) return false;
    const int columns = o->transposed ? 0 : 1;
    return set_packed(call, weight->ndim != 2
                                ? 0
                                : cr_packed_columns(o->rows, weight->sizes[columns], weight->sizes[1 - columns],
                                                    (cr_dtype)weight->dtype, o->transposed));
}
CR_OP(pack_columns, .inputs = "weight", .outputs = "packed", CR_ROW_ATTRIBUTES(pack_columns),
      .flags = CR_OP_NO_GRADIENT, .infer = infer_pack_columns,
      .doc = "A product's right side in the order in which this processor's kernel reads it.")
