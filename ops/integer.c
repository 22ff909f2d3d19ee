/* Rows of integer layers: checks, sizes of packed weights, and which way a layer goes. */
#include "ops/integer.h"

#include "ops/pooling.h"

#include <stdlib.h>

CR_ATTRIBUTES(integer_layer, CR_INTEGER_LAYER_ATTRIBUTES)
CR_ATTRIBUTES(pack_integer, CR_PACK_INTEGER_ATTRIBUTES)
CR_ATTRIBUTES(integer_pool, CR_INTEGER_POOL_ATTRIBUTES)
_Static_assert(offsetof(cr_integer_layer_options, transposed) == offsetof(cr_convolution_options, transposed),
               "the options begin with the convolution's");
_Static_assert(offsetof(cr_integer_pool_options, ceil_mode) == offsetof(cr_max_pool_options, ceil_mode),
               "the options begin with the maximum's");

/* ---------------------------------------------------------------- weights */
int64_t cr_integer_depth(cr_shape weight, int way) {
    const bool is_image = weight.count == 4;
    const int64_t lines = is_image ? weight.at[2] : 1, line = weight.at[1] * (is_image ? weight.at[3] : 1);
    return way == CR_INTEGER_BYTES ? lines * ((line + 3) / 4 * 4) : (lines * line + 1) / 2 * 2;
}

int64_t cr_packed_integer(cr_shape weight, int way) {
    const int64_t columns = cr_integer_columns();
    int64_t all;
    if (weight.count != 2 && weight.count != 4) return 0;
    const int64_t taps = weight.count == 4 ? weight.at[2] * weight.at[3] : 1;
    if (columns < 1 || !cr_shape_numel(weight, &all) || all < 1 || all > INT64_C(1) << 40) return 0;
    const int64_t strips = (weight.at[0] + columns - 1) / columns;
    if (way == CR_INTEGER_EACH)
        return weight.at[1] == 1 && weight.count == 4 && taps <= CR_INTEGER_TAPS ? taps * strips * columns : 0;
    if (way == CR_INTEGER_BYTES && !cr_integer_has_bytes()) return 0;
    if (way == CR_INTEGER_DIRECT || way == CR_INTEGER_BYTES) return strips * cr_integer_depth(weight, way) * columns;
    if (way != CR_INTEGER_WINOGRAD || weight.count != 4 || weight.at[2] != 3 || weight.at[3] != 3) return 0;
    return CR_INTEGER_TILE * strips * ((weight.at[1] + 1) / 2) * columns * 2;
}

static cr_dtype packed_dtype(int64_t way) { return way == CR_INTEGER_BYTES ? CR_I8 : CR_I16; }

static bool infer_pack_integer(cr_call *call) {
    const cr_pack_integer_options *o = call->attributes;
    const int64_t numbers = cr_packed_integer(cr_tensor_shape(call->inputs[0]), (int)o->way);
    if (call->inputs[0]->dtype != CR_I8) return cr_fail_call(call, CR_ERROR_DTYPE, "takes an i8 weight");
    if (!numbers) return cr_fail_call(call, CR_ERROR_ARGUMENT, "this weight cannot be packed in this way");
    cr_spec_set(call, 0, packed_dtype(o->way), CR_SHAPE(numbers));
    return true;
}
CR_OP(pack_integer, .inputs = "weight", .outputs = "packed", CR_ROW_ATTRIBUTES(pack_integer),
      .flags = CR_OP_NO_GRADIENT, .infer = infer_pack_integer,
      .doc = "An integer layer's weight in the order in which this processor's kernel reads it.")

/* Sums of 255 · 127 · this many stay below 2^31, with as much again for the bias. */
enum { MOST_TAPS = 32768 };

/* Sums of u8 by each output's weights stay within ±2^25, whatever the input. */
static bool stays_small(const cr_tensor *weight) {
    const int64_t features = weight->sizes[0], each = weight->numel / features;
    const int8_t *w = cr_tensor_address(weight);
    for (int64_t k = 0; k < features; k++) {
        int64_t up = 0, down = 0;
        for (int64_t i = 0; i < each; i++)
            *(w[k * each + i] > 0 ? &up : &down) += w[k * each + i];
        if (up * 255 >= 1 << 25 || down * 255 <= -(1 << 25)) return false;
    }
    return true;
}

/* Tiles that pay for reading four times as much weight, and channels that pay for the transforms. */
enum { LEAST_TILES = 4, LEAST_TILES_OF_BYTES = 32, LEAST_CHANNELS = 24 };

/* Lines of the kernel are packed as runs of bytes, which dilation takes apart between fours only; the rows of a linear layer
 * are read where they lie. */
static bool bytes_fit(const cr_convolution *p, cr_shape weight) {
    const bool is_whole = weight.at[1] % 4 == 0;
    return cr_integer_has_bytes() && (is_whole || (weight.count == 4 && p->dilation[2] == 1));
}

int cr_integer_way_for(const cr_convolution *p, const cr_tensor *weight) {
    const cr_shape shape = cr_tensor_shape(weight);
    const bool has_bytes = bytes_fit(p, shape);
    if (p->groups > 1) {
        if (p->channels != 1 || p->features != 1 || !cr_packed_integer(shape, CR_INTEGER_EACH)) return -1;
        return cr_integer_has_bytes() ? CR_INTEGER_BYTES : CR_INTEGER_EACH;
    }
    if (p->channels * cr_product3(p->kernel) > MOST_TAPS || !cr_packed_integer(shape, CR_INTEGER_DIRECT)) return -1;
    const int64_t tiles = p->batch * ((p->out[1] + 3) / 4) * ((p->out[2] + 3) / 4);
    const bool pays = tiles >= (has_bytes ? LEAST_TILES_OF_BYTES : LEAST_TILES) && p->channels >= LEAST_CHANNELS &&
                      p->features >= LEAST_CHANNELS;
    if (!pays || cr_product3(p->stride) != 1 || cr_product3(p->dilation) != 1 ||
        !cr_packed_integer(shape, CR_INTEGER_WINOGRAD) || !stays_small(weight))
        return has_bytes ? CR_INTEGER_BYTES : CR_INTEGER_DIRECT;
    return CR_INTEGER_WINOGRAD;
}

/* ---------------------------------------------------------------- layers */
static bool check_numbers(const cr_call *call) {
    const cr_integer_layer_options *o = call->attributes;
    const int64_t features = o->weight.at[0];
    if (call->inputs[0]->dtype != CR_U8 || call->inputs[1]->dtype != packed_dtype(o->way) ||
        call->inputs[2]->dtype != CR_F32 || call->inputs[3]->dtype != CR_I32)
        return cr_fail_call(call, CR_ERROR_DTYPE, "takes u8, a packed weight, scales of f32 and biases of i32");
    if (call->inputs[1]->numel != cr_packed_integer(o->weight, (int)o->way) || call->inputs[1]->numel == 0)
        return cr_fail_call(call, CR_ERROR_SHAPE, "the weight is not packed in this way");
    if (call->inputs[2]->numel != features || call->inputs[3]->numel != features)
        return cr_fail_call(call, CR_ERROR_SHAPE, "scales and biases are one for each output channel");
    if (o->least < 0 || o->most > 255 || o->least > o->most || o->output_zero < 0 || o->output_zero > 255 ||
        o->input_zero < 0 || o->input_zero > 255)
        return cr_fail_call(call, CR_ERROR_ARGUMENT, "zero points and limits are between 0 and 255");
    return true;
}

static bool infer_integer_layer(cr_call *call) {
    const cr_integer_layer_options *o = call->attributes;
    const cr_tensor *x = call->inputs[0], *residual = call->input_count > 4 ? call->inputs[4] : NULL;
    cr_shape shape = cr_tensor_shape(x);
    if (o->weight.count != 2 && o->weight.count != 4)
        return cr_fail_call(call, CR_ERROR_ARGUMENT, "the weight had 2 or 4 dims");
    if (!check_numbers(call)) return false;
    if (o->weight.count == 2) {
        if (x->ndim < 1 || x->sizes[x->ndim - 1] != o->weight.at[1])
            return cr_fail_call(call, CR_ERROR_SHAPE, "the input's last size is not the weight's");
        shape.at[shape.count - 1] = o->weight.at[0];
    } else {
        const bool is_each = o->groups > 1 || o->way == CR_INTEGER_EACH;
        const bool fits = o->groups == o->weight.at[0] && cr_packed_integer(o->weight, CR_INTEGER_EACH) &&
                          (o->way == CR_INTEGER_EACH || o->way == CR_INTEGER_BYTES);
        if (x->ndim != 4 || o->transposed || (is_each && !fits))
            return cr_fail_call(call, CR_ERROR_ARGUMENT,
                                "takes a batch of images, and one group or one for each channel");
        if (!cr_convolution_output(call, (const void *)o, cr_tensor_shape(x), o->weight, &shape)) return false;
        const cr_convolution p = cr_convolution_describe(cr_tensor_shape(x), o->weight, shape, (const void *)o);
        for (int d = 1; d < CR_SPATIAL_DIMS; d++)
            if (o->way == CR_INTEGER_WINOGRAD && (p.stride[d] != 1 || p.dilation[d] != 1))
                return cr_fail_call(call, CR_ERROR_ARGUMENT, "this way has no strides and dilations");
        if (o->way == CR_INTEGER_BYTES && !is_each && !bytes_fit(&p, o->weight))
            return cr_fail_call(call, CR_ERROR_ARGUMENT, "this way takes fours of channels where it is dilated");
    }
    if (residual && (residual->dtype != CR_U8 || !cr_shape_equal(cr_tensor_shape(residual), shape)))
        return cr_fail_call(call, CR_ERROR_SHAPE, "the residual is u8 in the result's shape");
    cr_spec_set(call, 0, o->is_floating ? CR_F32 : CR_U8, shape);
    call->specs[0].channels_last = o->weight.count == 4;
    return true;
}
static double flops_integer_layer(const cr_call *call) {
    const cr_integer_layer_options *o = call->attributes;
    return cr_convolution_flops(call->outputs[0], o->weight);
}
CR_OP(integer_layer, .inputs = "input weight scale bias residual?", CR_ROW_ATTRIBUTES(integer_layer),
      .flags = CR_OP_NO_GRADIENT, .infer = infer_integer_layer, .flops = flops_integer_layer,
      .doc = "A convolution or linear layer of u8 by i8, and its result as u8 or f32.")

/* ---------------------------------------------------------------- pools */
static bool infer_integer_pool(cr_call *call) {
    const cr_integer_pool_options *o = call->attributes;
    const cr_tensor *x = call->inputs[0];
    cr_shape shape = cr_tensor_shape(x);
    if (x->dtype != CR_U8 || x->ndim != 4 || o->kernel_sizes.count != 2)
        return cr_fail_call(call, CR_ERROR_DTYPE, "takes a batch of images in u8");
    if (!cr_max_pool_output(call, (const void *)o, shape, &shape)) return false;
    cr_spec_set(call, 0, CR_U8, shape);
    call->specs[0].channels_last = true;
    return true;
}
CR_OP(integer_pool, .inputs = "input", CR_ROW_ATTRIBUTES(integer_pool), .flags = CR_OP_NO_GRADIENT,
      .infer = infer_integer_pool, .flops = cr_flops_each_input, .doc = "The maximum or mean of each window, in u8.")
