/* Pooling: maximum and mean over windows, of a fixed or an adaptive size, in 1 to 3 spatial dims.
 *
 * A mean is linear: its gradient spreads, and the gradient of spreading is the mean. A maximum is a choice: its
 * gradient adds to the chosen positions (max_pool_grad), and the gradient of that reads them (max_pool_gather). */
#include "ops/pooling.h"

#include <string.h>

CR_ATTRIBUTES(max_pool, CR_MAX_POOL_ATTRIBUTES)
CR_ATTRIBUTES(avg_pool, CR_AVG_POOL_ATTRIBUTES)
CR_ATTRIBUTES(avg_pool_grad, CR_AVG_POOL_GRAD_ATTRIBUTES)
CR_ATTRIBUTES(adaptive_pool, CR_ADAPTIVE_POOL_ATTRIBUTES)
CR_ATTRIBUTES(pool_grad, CR_POOL_GRAD_ATTRIBUTES)
_Static_assert(offsetof(cr_avg_pool_options, divisor_override) == offsetof(cr_avg_pool_grad_options, divisor_override),
               "the gradient's options begin with the pool's");

/* ---------------------------------------------------------------- checks */
static bool check_shape(const cr_call *call, cr_shape shape, int spatial) {
    if (spatial < 1 || spatial > CR_SPATIAL_DIMS)
        return cr_fail_call(call, CR_ERROR_ARGUMENT, "%d sizes are given; 1 to 3, one for each spatial dim, are needed",
                            spatial);
    if (shape.count != spatial + 2 && shape.count != spatial + 1)
        return cr_fail_call(call, CR_ERROR_SHAPE,
                            "with %d spatial dims the input needs %d dims (or %d without a batch), it has %d", spatial,
                            spatial + 2, spatial + 1, shape.count);
    for (int i = shape.count == spatial + 2; i < shape.count; i++) /* an empty batch is fine */
        if (shape.at[i] < 1) return cr_fail_call(call, CR_ERROR_SHAPE, "dim %d of the input is empty", i);
    return true;
}

/* One spatial size of the result (PyTorch's rule for ceil_mode: the last window begins inside the input or its left
 * padding). */
static bool pooled_size(const cr_call *call, const cr_max_pool_options *o, int i, int64_t in, int64_t *out) {
    const int64_t kernel = o->kernel_sizes.at[i], stride = cr_spatial_setting(&o->strides, i, kernel);
    const int64_t padding = cr_spatial_setting(&o->paddings, i, 0), dilation = cr_spatial_setting(&o->dilations, i, 1);
    if (2 * padding > kernel)
        return cr_fail_call(call, CR_ERROR_ARGUMENT, "padding %lld is more than half of the kernel's %lld",
                            (long long)padding, (long long)kernel);
    const int64_t room = in + 2 * padding - dilation * (kernel - 1) - 1; /* settings are below 2^31 */
    if (in > INT64_MAX / 4) return cr_fail_call(call, CR_ERROR_SHAPE, "sizes are past int64 in spatial dim %d", i);
    *out = room < 0 && !o->ceil_mode
               ? 0
               : (room < 0 ? -(-room / stride) : (room + (o->ceil_mode ? stride - 1 : 0)) / stride) + 1;
    if (o->ceil_mode && (*out - 1) * stride >= in + padding) --*out;
    if (*out < 1)
        return cr_fail_call(call, CR_ERROR_SHAPE,
                            "spatial dim %d has size %lld with its padding, smaller than the window, which spans %lld",
                            i, (long long)(in + 2 * padding), (long long)(dilation * (kernel - 1) + 1));
    return true;
}

bool cr_max_pool_output(const cr_call *call, const cr_max_pool_options *o, cr_shape input, cr_shape *output) {
    const int spatial = o->kernel_sizes.count;
    if (!check_shape(call, input, spatial) || !cr_spatial_check(call, &o->kernel_sizes, "kernel_sizes", spatial, 1) ||
        !cr_spatial_check(call, &o->strides, "stride", spatial, 1) ||
        !cr_spatial_check(call, &o->paddings, "padding", spatial, 0) ||
        !cr_spatial_check(call, &o->dilations, "dilation", spatial, 1))
        return false;
    *output = input;
    for (int i = 0; i < spatial; i++)
        if (!pooled_size(call, o, i, input.at[input.count - spatial + i], &output->at[input.count - spatial + i]))
            return false;
    return true;
}

static bool check_floating(const cr_call *call) {
    return cr_dtype_is_floating((cr_dtype)call->inputs[0]->dtype) ||
           cr_fail_call(call, CR_ERROR_DTYPE, "takes floating dtypes; cast the operand");
}
static bool check_operand(const cr_call *call, cr_shape shape, int spatial) {
    return check_floating(call) && check_shape(call, shape, spatial);
}
static bool pooled_shape(const cr_call *call, const cr_max_pool_options *o, cr_shape input, cr_shape *output) {
    return check_floating(call) && cr_max_pool_output(call, o, input, output);
}

static void set_spec(cr_call *call, int index, cr_dtype dtype, cr_shape shape, int spatial) {
    const cr_tensor *t = call->inputs[0];
    cr_spec_set(call, index, dtype, shape);
    call->specs[index].channels_last = t->ndim == spatial + 2 && cr_is_channels_last(t) && !cr_is_contiguous(t);
}

/* A mean's windows as a maximum's, for the checks. */
static cr_max_pool_options windows_of(const cr_avg_pool_options *o) {
    return (cr_max_pool_options){
        sizeof(cr_max_pool_options), o->kernel_sizes, o->strides, o->paddings, CR_ALL_DIMS, o->ceil_mode};
}

bool cr_avg_pool_output(const cr_call *call, const cr_avg_pool_options *o, cr_shape input, cr_shape *output) {
    const cr_max_pool_options windows = windows_of(o);
    return pooled_shape(call, &windows, input, output);
}

static bool check_grad_shape(const cr_call *call, cr_shape expected) {
    char text[192];
    if (cr_shape_equal(expected, cr_tensor_shape(call->inputs[0]))) return true;
    return cr_fail_call(call, CR_ERROR_SHAPE, "the gradient must have the pool's shape %s",
                        cr_shape_format(expected, text));
}

/* ---------------------------------------------------------------- infer */
static bool infer_max_pool(cr_call *call) {
    const cr_max_pool_options *o = call->attributes;
    cr_shape shape;
    if (!pooled_shape(call, o, cr_tensor_shape(call->inputs[0]), &shape)) return false;
    set_spec(call, 0, (cr_dtype)call->inputs[0]->dtype, shape, o->kernel_sizes.count);
    set_spec(call, 1, CR_I64, shape, o->kernel_sizes.count);
    return true;
}

static bool infer_avg_pool(cr_call *call) {
    const cr_avg_pool_options *o = call->attributes;
    cr_shape shape;
    if (!cr_avg_pool_output(call, o, cr_tensor_shape(call->inputs[0]), &shape)) return false;
    set_spec(call, 0, (cr_dtype)call->inputs[0]->dtype, shape, o->kernel_sizes.count);
    return true;
}

static bool infer_avg_pool_grad(cr_call *call) {
    const cr_avg_pool_grad_options *o = call->attributes;
    cr_shape shape;
    if (!cr_avg_pool_output(call, (const cr_avg_pool_options *)(const void *)o, o->sizes, &shape) ||
        !check_grad_shape(call, shape))
        return false;
    set_spec(call, 0, (cr_dtype)call->inputs[0]->dtype, o->sizes, o->kernel_sizes.count);
    return true;
}

static bool infer_adaptive(cr_call *call) {
    const cr_adaptive_pool_options *o = call->attributes;
    const int spatial = o->sizes.count;
    cr_shape shape = cr_tensor_shape(call->inputs[0]);
    if (!check_operand(call, shape, spatial)) return false;
    for (int i = 0; i < spatial; i++) {
        if (o->sizes.at[i] == -1) continue;
        if (o->sizes.at[i] < 1 || o->sizes.at[i] > INT32_MAX)
            return cr_fail_call(call, CR_ERROR_ARGUMENT,
                                "the size asked for in spatial dim %d is %lld; it must be 1 or more, or -1", i,
                                (long long)o->sizes.at[i]);
        shape.at[shape.count - spatial + i] = o->sizes.at[i];
    }
    for (int i = 0; i < call->output_count; i++)
        set_spec(call, i, i ? CR_I64 : (cr_dtype)call->inputs[0]->dtype, shape, spatial);
    return true;
}

/* A gradient's operand against the shape of the pool's input: the same dims up to the spatial ones. */
static bool check_pooled(const cr_call *call, cr_shape input, cr_shape pooled, int64_t spatial) {
    int64_t numel;
    char text[192];
    if (spatial < 1 || spatial > CR_SPATIAL_DIMS)
        return cr_fail_call(call, CR_ERROR_ARGUMENT, "spatial is %lld; it must be 1 to 3", (long long)spatial);
    if (!check_operand(call, input, (int)spatial) || !cr_shape_numel(input, &numel)) return false;
    for (int i = 0; i < input.count; i++)
        if (input.count != pooled.count || (i < input.count - spatial ? input.at[i] != pooled.at[i] : pooled.at[i] < 1))
            return cr_fail_call(call, CR_ERROR_SHAPE,
                                "the pooled shape does not go with the input's %s and %lld spatial dims",
                                cr_shape_format(input, text), (long long)spatial);
    return true;
}

static bool check_indices(const cr_call *call) {
    const cr_tensor *indices = call->inputs[1];
    return indices->dtype == CR_I64 || cr_fail_call(call, CR_ERROR_DTYPE, "the indices must be i64");
}

static bool infer_adaptive_grad(cr_call *call) {
    const cr_pool_grad_options *o = call->attributes;
    if (!check_pooled(call, o->sizes, cr_tensor_shape(call->inputs[0]), o->spatial)) return false;
    set_spec(call, 0, (cr_dtype)call->inputs[0]->dtype, o->sizes, (int)o->spatial);
    return true;
}

static bool infer_max_pool_grad(cr_call *call) {
    return check_indices(call) && infer_adaptive_grad(call) &&
           (cr_shape_equal(cr_tensor_shape(call->inputs[0]), cr_tensor_shape(call->inputs[1])) ||
            cr_fail_call(call, CR_ERROR_SHAPE, "the gradient and the indices must have one shape"));
}

static bool infer_max_pool_gather(cr_call *call) {
    const cr_pool_grad_options *o = call->attributes;
    const cr_tensor *input = call->inputs[0];
    const cr_shape pooled = cr_tensor_shape(call->inputs[1]);
    if (!check_indices(call) || !check_pooled(call, cr_tensor_shape(input), pooled, o->spatial)) return false;
    set_spec(call, 0, (cr_dtype)input->dtype, pooled, (int)o->spatial);
    return true;
}

/* ---------------------------------------------------------------- gradients: op rows follow below */
#define CR_POOL_ROW(name) extern cr_op cr_op_##name;
CR_POOL_ROW(avg_pool)
CR_POOL_ROW(avg_pool_grad)
CR_POOL_ROW(adaptive_avg_pool)
CR_POOL_ROW(adaptive_avg_pool_grad)
CR_POOL_ROW(max_pool_grad)
CR_POOL_ROW(max_pool_gather)
#undef CR_POOL_ROW

static cr_tensor *max_pool_grad(cr_tensor *grad, cr_tensor *indices, cr_shape sizes, int64_t spatial) {
    const cr_pool_grad_options options = {sizeof options, sizes, spatial};
    return CR_RUN(max_pool_grad, &options, grad, indices);
}

static bool vjp_max_pool(cr_vjp *v) {
    const cr_max_pool_options *o = v->attributes;
    return cr_vjp_set(v, 0, max_pool_grad(v->grads[0], v->outputs[1], v->input_specs[0].shape, o->kernel_sizes.count));
}
static bool vjp_adaptive_max_pool(cr_vjp *v) {
    const cr_adaptive_pool_options *o = v->attributes;
    return cr_vjp_set(v, 0, max_pool_grad(v->grads[0], v->outputs[1], v->input_specs[0].shape, o->sizes.count));
}
static bool vjp_max_pool_grad(cr_vjp *v) {
    const cr_pool_grad_options *o = v->attributes; /* max_pool_gather reads `spatial` only */
    return !v->needs[0] || cr_vjp_set(v, 0, CR_RUN(max_pool_gather, o, v->grads[0], v->inputs[1]));
}
static bool vjp_max_pool_gather(cr_vjp *v) {
    const cr_pool_grad_options *o = v->attributes;
    return !v->needs[0] ||
           cr_vjp_set(v, 0, max_pool_grad(v->grads[0], v->inputs[1], v->input_specs[0].shape, o->spatial));
}

static bool vjp_avg_pool(cr_vjp *v) {
    cr_avg_pool_grad_options options = {0};
    memcpy(&options, v->attributes, sizeof(cr_avg_pool_options));
    options.size = sizeof options;
    options.sizes = v->input_specs[0].shape;
    return cr_vjp_set(v, 0, CR_RUN(avg_pool_grad, &options, v->grads[0]));
}
static bool vjp_avg_pool_grad(cr_vjp *v) {
    cr_avg_pool_options windows;
    memcpy(&windows, v->attributes, sizeof windows);
    windows.size = sizeof windows;
    return cr_vjp_set(v, 0, CR_RUN(avg_pool, &windows, v->grads[0]));
}

static bool vjp_adaptive_avg_pool(cr_vjp *v) {
    const cr_adaptive_pool_options *o = v->attributes;
    const cr_pool_grad_options options = {sizeof options, v->input_specs[0].shape, o->sizes.count};
    return cr_vjp_set(v, 0, CR_RUN(adaptive_avg_pool_grad, &options, v->grads[0]));
}
static bool vjp_adaptive_avg_pool_grad(cr_vjp *v) {
    const cr_pool_grad_options *o = v->attributes;
    const cr_shape shape = v->input_specs[0].shape;
    cr_adaptive_pool_options options = {sizeof options, {.count = (int)o->spatial}};
    for (int i = 0; i < options.sizes.count; i++)
        options.sizes.at[i] = shape.at[shape.count - options.sizes.count + i];
    return cr_vjp_set(v, 0, CR_RUN(adaptive_avg_pool, &options, v->grads[0]));
}

/* ---------------------------------------------------------------- rows */
/* One for each position of each window. */
static double flops_windows(const cr_call *call, const cr_tensor *pooled) {
    const cr_dims *kernel = &((const cr_max_pool_options *)call->attributes)->kernel_sizes; /* avg_pool's begin alike */
    double window = 1;
    for (int i = 0; i < kernel->count; i++)
        window *= (double)kernel->at[i];
    return window * (double)pooled->numel;
}
static double flops_pool(const cr_call *call) { return flops_windows(call, call->outputs[0]); }
static double flops_pool_grad(const cr_call *call) { return flops_windows(call, call->inputs[0]); }
CR_OP(max_pool, .inputs = "input", .outputs = "values indices", CR_ROW_ATTRIBUTES(max_pool), .saves = CR_SAVE_OUTPUT(1),
      .infer = infer_max_pool, .flops = flops_pool, .vjp = vjp_max_pool,
      .doc = "The greatest value of each window, and its position.")
CR_OP(adaptive_max_pool, .inputs = "input", .outputs = "values indices", CR_ROW_ATTRIBUTES(adaptive_pool),
      .saves = CR_SAVE_OUTPUT(1), .infer = infer_adaptive, .flops = cr_flops_each_input, .vjp = vjp_adaptive_max_pool,
      .doc = "The greatest value of each of a given number of windows.")
CR_OP(max_pool_grad, .inputs = "grad indices", CR_ROW_ATTRIBUTES(pool_grad), .saves = CR_SAVE_INPUT(1),
      .infer = infer_max_pool_grad, .flops = cr_flops_each_input, .vjp = vjp_max_pool_grad,
      .doc = "Adds each number to its position: the gradient of max_pool.")
CR_OP(max_pool_gather, .inputs = "input indices", CR_ROW_ATTRIBUTES(pool_grad), .saves = CR_SAVE_INPUT(1),
      .infer = infer_max_pool_gather, .vjp = vjp_max_pool_gather, .doc = "Reads the positions that max_pool chose.")
CR_OP(avg_pool, .inputs = "input", CR_ROW_ATTRIBUTES(avg_pool), .infer = infer_avg_pool, .flops = flops_pool,
      .vjp = vjp_avg_pool, .doc = "The mean of each window.")
CR_OP(avg_pool_grad, .inputs = "grad", CR_ROW_ATTRIBUTES(avg_pool_grad), .infer = infer_avg_pool_grad,
      .flops = flops_pool_grad, .vjp = vjp_avg_pool_grad,
      .doc = "Spreads each number over its window: the gradient of avg_pool.")
CR_OP(adaptive_avg_pool, .inputs = "input", CR_ROW_ATTRIBUTES(adaptive_pool), .infer = infer_adaptive,
      .flops = cr_flops_each_input, .vjp = vjp_adaptive_avg_pool,
      .doc = "The mean of each of a given number of windows.")
CR_OP(adaptive_avg_pool_grad, .inputs = "grad", CR_ROW_ATTRIBUTES(pool_grad), .infer = infer_adaptive_grad,
      .flops = cr_flops_each_input, .vjp = vjp_adaptive_avg_pool_grad, .doc = "The gradient of adaptive_avg_pool.")

/* ---------------------------------------------------------------- the canonical problem */
cr_pooling cr_pool_describe(cr_shape input, cr_shape output, int spatial, const cr_max_pool_options *max,
                            const cr_avg_pool_options *avg) {
    const int batched = input.count == spatial + 2, front = CR_SPATIAL_DIMS - spatial;
    cr_pooling p = {.batch = batched ? input.at[0] : 1,
                    .channels = input.at[batched],
                    .adaptive = !max && !avg,
                    .count_include_pad = avg && avg->count_include_pad,
                    .divisor_override = avg ? avg->divisor_override : 0};
    const cr_max_pool_options windows = max ? *max : avg ? windows_of(avg) : (cr_max_pool_options){0};
    for (int i = 0; i < CR_SPATIAL_DIMS; i++) {
        const bool given = i >= front, fixed = given && !p.adaptive;
        p.in[i] = given ? input.at[batched + 1 + i - front] : 1;
        p.out[i] = given ? output.at[batched + 1 + i - front] : 1;
        p.kernel[i] = fixed ? windows.kernel_sizes.at[i - front] : 1;
        p.stride[i] = fixed ? cr_spatial_setting(&windows.strides, i - front, p.kernel[i]) : 1;
        p.padding[i] = fixed ? cr_spatial_setting(&windows.paddings, i - front, 0) : 0;
        p.dilation[i] = fixed ? cr_spatial_setting(&windows.dilations, i - front, 1) : 1;
    }
    return p;
}

/* ---------------------------------------------------------------- functions */
/* One number for all dims as a list of `spatial`. */
static cr_dims list_of(int64_t number, cr_dims list, int spatial) {
    cr_dims dims = list;
    if (list.count) return list;
    dims.count = spatial;
    for (int i = 0; i < spatial; i++)
        dims.at[i] = number;
    return dims;
}

static cr_pool_options complete(const cr_pool_options *given) {
    cr_pool_options o = {.size = sizeof o, CR_POOL_ATTRIBUTES(CR_DEFAULT_, pool)};
    if (given) memcpy(&o, given, given->size < sizeof o ? given->size : sizeof o);
    return o;
}

static cr_max_pool_options max_options(int spatial, int64_t kernel, const cr_pool_options *given) {
    const cr_pool_options o = complete(given);
    return (cr_max_pool_options){
        .size = sizeof(cr_max_pool_options),
        .kernel_sizes = list_of(kernel, o.kernel_sizes, spatial),
        .strides = o.stride ? cr_spatial_list(o.stride, o.strides) : o.strides,
        .paddings = cr_spatial_list(o.padding, o.paddings),
        .dilations = cr_spatial_list(o.dilation, o.dilations),
        .ceil_mode = o.ceil_mode,
    };
}

static cr_tensor *avg_pool(int spatial, cr_tensor *input, int64_t kernel, const cr_pool_options *given) {
    const cr_pool_options o = complete(given);
    const cr_max_pool_options windows = max_options(spatial, kernel, given);
    const cr_avg_pool_options options = {sizeof options,    windows.kernel_sizes, windows.strides,   windows.paddings,
                                         windows.ceil_mode, o.count_include_pad,  o.divisor_override};
    return CR_RUN(avg_pool, &options, input);
}

static cr_tensor *max_pool(int spatial, cr_tensor *input, int64_t kernel, const cr_pool_options *given) {
    const cr_max_pool_options options = max_options(spatial, kernel, given);
    return CR_RUN(max_pool, &options, input);
}

bool cr_max_pool_with_indices(cr_tensor *input, int spatial, int64_t kernel, const cr_pool_options *given,
                              cr_tensor **values, cr_tensor **indices) {
    cr_tensor *outputs[2] = {NULL};
    if (spatial < 1 || spatial > CR_SPATIAL_DIMS)
        return cr_fail(CR_ERROR_ARGUMENT, "max_pool: %d spatial dims; 1 to 3 can be had", spatial);
    const cr_max_pool_options options = max_options(spatial, kernel, given);
    const bool done = cr_run_all(&cr_op_max_pool, &input, 1, &options, outputs, 2);
    if (values) *values = outputs[0];
    if (indices) *indices = outputs[1];
    return done;
}

#define POOL(kind, spatial)                                                                                            \
    cr_tensor *cr_##kind##spatial##d_with(cr_tensor *input, int64_t kernel, const cr_pool_options *options) {          \
        return kind(spatial, input, kernel, options);                                                                  \
    }
POOL(max_pool, 1)
POOL(max_pool, 2)
POOL(max_pool, 3)
POOL(avg_pool, 1)
POOL(avg_pool, 2)
POOL(avg_pool, 3)

cr_tensor *cr_adaptive_avg_pool(cr_tensor *input, cr_dims sizes) {
    const cr_adaptive_pool_options options = {sizeof options, sizes};
    return CR_RUN(adaptive_avg_pool, &options, input);
}
cr_tensor *cr_adaptive_max_pool(cr_tensor *input, cr_dims sizes) {
    const cr_adaptive_pool_options options = {sizeof options, sizes};
    return CR_RUN(adaptive_max_pool, &options, input);
}
