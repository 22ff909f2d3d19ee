/* Random ops: rows and public functions. Without a gradient: what is written in place forgets its history. */
#include "ops/op.h"

#include <math.h>

CR_ATTRIBUTES(uniform, CR_UNIFORM_ATTRIBUTES)
CR_ATTRIBUTES(normal, CR_NORMAL_ATTRIBUTES)
CR_ATTRIBUTES(randint, CR_RANDINT_ATTRIBUTES)
CR_ATTRIBUTES(bernoulli, CR_BERNOULLI_ATTRIBUTES)
CR_ATTRIBUTES(multinomial, CR_MULTINOMIAL_ATTRIBUTES)
CR_ATTRIBUTES(randperm, CR_RANDPERM_ATTRIBUTES)
#define NORMAL_FROM_ATTRIBUTES(A, op) A(op, GENERATOR, generator, NULL)
CR_OPTIONS(normal_from, NORMAL_FROM_ATTRIBUTES)
CR_ATTRIBUTES(normal_from, NORMAL_FROM_ATTRIBUTES)

static bool vjp_zero(cr_vjp *v) { return v != NULL; }

static bool set_output(cr_call *call, cr_dtype dtype, cr_shape shape, cr_device device) {
    if ((unsigned)dtype >= CR_DTYPE_COUNT) return cr_fail(CR_ERROR_DTYPE, "%d is not a dtype", (int)dtype);
    call->device = device;
    cr_spec_set(call, 0, dtype, shape);
    return cr_device_check(device);
}

static bool check_floating(cr_dtype dtype) {
    return cr_dtype_is_floating(dtype) ||
           cr_fail(CR_ERROR_DTYPE, "makes floating numbers, not %s", cr_dtype_name(dtype));
}

/* ---------------------------------------------------------------- uniform, normal */
static bool infer_uniform(cr_call *call) {
    const cr_uniform_options *o = call->attributes;
    if (!(o->low <= o->high) || !isfinite(o->high - o->low))
        return cr_fail(CR_ERROR_ARGUMENT, "numbers from %g to %g; both finite, and the first not above the second",
                       o->low, o->high);
    return set_output(call, o->dtype, o->shape, o->device) && check_floating(o->dtype);
}
CR_OP(uniform, .inputs = "", CR_ROW_ATTRIBUTES(uniform), .flags = CR_OP_RANDOM, .infer = infer_uniform, .vjp = vjp_zero,
      .doc = "Numbers spread evenly between two.")

static bool infer_normal(cr_call *call) {
    const cr_normal_options *o = call->attributes;
    if (!(o->std >= 0)) return cr_fail(CR_ERROR_ARGUMENT, "a standard deviation of %g; it must be 0 or more", o->std);
    return set_output(call, o->dtype, o->shape, o->device) && check_floating(o->dtype);
}
CR_OP(normal, .inputs = "", CR_ROW_ATTRIBUTES(normal), .flags = CR_OP_RANDOM, .infer = infer_normal, .vjp = vjp_zero,
      .doc = "Normal numbers of one mean and standard deviation.")

static bool infer_normal_from(cr_call *call) {
    cr_tensor *mean = call->inputs[0], *std = call->inputs[1];
    cr_shape shape;
    const cr_dtype dtype = cr_dtype_promote((cr_dtype)mean->dtype, (cr_dtype)std->dtype);
    if (!check_floating(dtype) || !cr_shape_broadcast(cr_tensor_shape(mean), cr_tensor_shape(std), &shape))
        return false;
    cr_spec_set(call, 0, dtype, shape);
    return true;
}
static bool decompose_normal_from(cr_call *call) {
    const cr_normal_from_options *o = call->attributes;
    cr_tensor *mean = call->inputs[0], *std = call->inputs[1];
    if (!cr_tensor_is_hollow(std)) { /* values to look at: not where the op is only taken apart */
        cr_tensor *is_negative = cr_any(cr_lt_scalar(std, 0));
        if (!is_negative) return false;
        if (cr_item(is_negative) != 0) return cr_fail_call(call, CR_ERROR_ARGUMENT, "a standard deviation is negative");
    }
    cr_tensor *numbers = cr_randn(call->specs[0].dtype, call->specs[0].shape, call->device, .generator = o->generator);
    return (call->outputs[0] = cr_cast(cr_add(mean, cr_mul(std, numbers)), call->specs[0].dtype)) != NULL;
}
CR_OP(normal_from, .inputs = "mean std", CR_ROW_ATTRIBUTES(normal_from), .flags = CR_OP_RANDOM,
      .infer = infer_normal_from, .decompose = decompose_normal_from, .vjp = vjp_zero,
      .doc = "Normal numbers, each with its own mean and standard deviation.")

/* ---------------------------------------------------------------- integers */
/* The largest n for which all integers -n … n (0 … n where unsigned) are exact in a dtype. */
static bool holds(cr_dtype dtype, int64_t low, int64_t last) {
    switch (dtype) {
    case CR_BOOL: return low >= 0 && last <= 1;
    case CR_U8: return low >= 0 && last <= UINT8_MAX;
    case CR_I8: return low >= INT8_MIN && last <= INT8_MAX;
    case CR_I16: return low >= INT16_MIN && last <= INT16_MAX;
    case CR_I32: return low >= INT32_MIN && last <= INT32_MAX;
    case CR_I64: return true;
    default: break;
    }
    const int digits = dtype == CR_F64 ? 53 : dtype == CR_F32 ? 24 : dtype == CR_F16 ? 11 : 8;
    return low >= -((int64_t)1 << digits) && last <= (int64_t)1 << digits;
}

static bool infer_randint(cr_call *call) {
    const cr_randint_options *o = call->attributes;
    if (!set_output(call, o->dtype, o->shape, o->device)) return false;
    if (o->low >= o->high)
        return cr_fail(CR_ERROR_ARGUMENT, "integers from %lld to below %lld: there are none", (long long)o->low,
                       (long long)o->high);
    return holds(o->dtype, o->low, o->high - 1) ||
           cr_fail(CR_ERROR_ARGUMENT, "%s does not hold every integer from %lld to below %lld", cr_dtype_name(o->dtype),
                   (long long)o->low, (long long)o->high);
}
CR_OP(randint, .inputs = "", CR_ROW_ATTRIBUTES(randint), .flags = CR_OP_RANDOM, .infer = infer_randint, .vjp = vjp_zero,
      .doc = "Integers from one to below another, all equally likely.")

static bool infer_randperm(cr_call *call) {
    const cr_randperm_options *o = call->attributes;
    if (o->count < 0) return cr_fail(CR_ERROR_ARGUMENT, "a permutation of %lld numbers", (long long)o->count);
    if (!set_output(call, o->dtype, CR_SHAPE(o->count), o->device)) return false;
    return holds(o->dtype, 0, o->count - 1) || cr_fail(CR_ERROR_ARGUMENT, "%s does not hold every number below %lld",
                                                       cr_dtype_name(o->dtype), (long long)o->count);
}
/* The order of random keys. Of 48 bits each, so that equal ones, which keep their order, are rare and cost no pass
 * more. */
static bool decompose_randperm(cr_call *call) {
    const cr_randperm_options *o = call->attributes;
    cr_tensor *keys = cr_randint(0, (int64_t)1 << 48, CR_SHAPE(o->count), call->device, .generator = o->generator);
    return (call->outputs[0] = cr_cast(cr_argsort(keys, 0, false), o->dtype)) != NULL;
}
CR_OP(randperm, .inputs = "", CR_ROW_ATTRIBUTES(randperm), .flags = CR_OP_RANDOM | CR_OP_NO_GRADIENT,
      .infer = infer_randperm, .decompose = decompose_randperm, .doc = "The numbers below `count` in random order.")

/* ---------------------------------------------------------------- bernoulli, multinomial */
static bool infer_bernoulli(cr_call *call) {
    const cr_bernoulli_options *o = call->attributes;
    const cr_tensor *p = call->input_count ? call->inputs[0] : NULL;
    if (p) {
        cr_spec_set(call, 0, (cr_dtype)p->dtype, cr_tensor_shape(p));
        return check_floating((cr_dtype)p->dtype);
    }
    return set_output(call, o->dtype, o->shape, o->device) &&
           ((o->p >= 0 && o->p <= 1) || cr_fail(CR_ERROR_ARGUMENT, "a probability of %g; it must be 0 to 1", o->p));
}
CR_OP(bernoulli, .inputs = "probabilities?", CR_ROW_ATTRIBUTES(bernoulli), .flags = CR_OP_RANDOM,
      .infer = infer_bernoulli, .vjp = vjp_zero, .doc = "1 with a probability, else 0.")

static bool infer_multinomial(cr_call *call) {
    const cr_multinomial_options *o = call->attributes;
    const cr_tensor *weights = call->inputs[0];
    if (weights->ndim < 1 || weights->ndim > 2)
        return cr_fail_call(call, CR_ERROR_SHAPE, "weights are [n] or [rows, n]");
    if (!check_floating((cr_dtype)weights->dtype)) return false;
    cr_shape shape = cr_tensor_shape(weights);
    const int64_t categories = shape.at[shape.count - 1];
    if (o->count < 1 || categories < 1 || (!o->replacement && o->count > categories))
        return cr_fail_call(call, CR_ERROR_ARGUMENT, "%lld draws of %lld categories %s replacement",
                            (long long)o->count, (long long)categories, o->replacement ? "with" : "without");
    shape.at[shape.count - 1] = o->count;
    cr_spec_set(call, 0, CR_I64, shape);
    return true;
}
CR_OP(multinomial, .inputs = "weights", CR_ROW_ATTRIBUTES(multinomial), .flags = CR_OP_RANDOM | CR_OP_NO_GRADIENT,
      .infer = infer_multinomial, .doc = "Indices drawn in proportion to weights.")

/* ---------------------------------------------------------------- public functions */
#define COMPLETE(name)                                                                                                 \
    cr_##name##_options storage;                                                                                       \
    const cr_##name##_options *complete = cr_options_complete(&cr_op_##name, options, &storage)
/* The same draw with t's dtype, shape and device, written to t. */
#define INTO(name, t)                                                                                                  \
    COMPLETE(name);                                                                                                    \
    if (!cr_tensor_check(t, #name)) return cr_run_in_place(&cr_op_##name, t, NULL, 0, complete);                       \
    cr_##name##_options own = *complete;                                                                               \
    own.dtype = (cr_dtype)t->dtype;                                                                                    \
    own.shape = cr_tensor_shape(t);                                                                                    \
    own.device = t->device;                                                                                            \
    return cr_run_in_place(&cr_op_##name, t, NULL, 0, &own)

cr_tensor *cr_uniform_with(const cr_uniform_options *options) {
    COMPLETE(uniform);
    return cr_run(&cr_op_uniform, NULL, 0, complete);
}
cr_tensor *cr_uniform_with_(cr_tensor *t, const cr_uniform_options *options) { INTO(uniform, t); }
cr_tensor *cr_normal_with(const cr_normal_options *options) {
    COMPLETE(normal);
    return cr_run(&cr_op_normal, NULL, 0, complete);
}
cr_tensor *cr_normal_with_(cr_tensor *t, const cr_normal_options *options) { INTO(normal, t); }
cr_tensor *cr_randint_with(const cr_randint_options *options) {
    COMPLETE(randint);
    return cr_run(&cr_op_randint, NULL, 0, complete);
}
cr_tensor *cr_randint_with_(cr_tensor *t, const cr_randint_options *options) { INTO(randint, t); }
cr_tensor *cr_bernoulli_with(cr_tensor *probabilities, const cr_bernoulli_options *options) {
    COMPLETE(bernoulli);
    if (!probabilities && !cr_ok()) return NULL; /* the NULL of an earlier failure */
    return cr_run(&cr_op_bernoulli, &probabilities, probabilities ? 1 : 0, complete);
}
cr_tensor *cr_bernoulli_with_(cr_tensor *t, const cr_bernoulli_options *options) { INTO(bernoulli, t); }

cr_tensor *cr_multinomial_with(cr_tensor *weights, const cr_multinomial_options *options) {
    COMPLETE(multinomial);
    return CR_RUN(multinomial, complete, weights);
}
cr_tensor *cr_randperm_with(const cr_randperm_options *options) {
    COMPLETE(randperm);
    return cr_run(&cr_op_randperm, NULL, 0, complete);
}
cr_tensor *cr_normal_from(cr_tensor *mean, cr_tensor *std, cr_generator *generator) {
    const cr_normal_from_options options = {sizeof options, generator};
    return CR_RUN(normal_from, &options, mean, std);
}
cr_tensor *cr_rand_like(const cr_tensor *t) {
    return cr_tensor_check(t, "rand_like") ? cr_rand((cr_dtype)t->dtype, cr_tensor_shape(t), t->device) : NULL;
}
cr_tensor *cr_randn_like(const cr_tensor *t) {
    return cr_tensor_check(t, "randn_like") ? cr_randn((cr_dtype)t->dtype, cr_tensor_shape(t), t->device) : NULL;
}
