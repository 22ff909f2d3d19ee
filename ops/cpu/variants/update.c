/* Optimizer updates in one pass over memory: f32 and f64 tensors that lie alike; all else runs by the decompositions.
 * Each rounding as in the chain of ops, so that both ways of running give the same bits (no contraction:
 * -ffp-contract=off). */
#include "core/loops.h"
#include "core/parallel.h"
#include "ops/cpu/variant.h"

#include <math.h>

/* f32 or f64, and the same strides without gaps, so that one run covers all. */
static bool lie_alike(const cr_call *call, int count) {
    const cr_tensor *first = call->inputs[0];
    if (first->dtype != CR_F32 && first->dtype != CR_F64) return false;
    if (!cr_is_contiguous(first) && !cr_is_channels_last(first)) return false;
    for (int i = 1; i < count; i++) {
        const cr_tensor *t = call->inputs[i];
        for (int d = 0; t && d < first->ndim; d++)
            if (t->strides[d] != first->strides[d] && first->sizes[d] != 1) return false;
    }
    return true;
}

/* A tensor of one number, where ops on it would cost more than a small update. */
static double *number_f64(const cr_tensor *t) { return t->dtype == CR_F64 ? cr_tensor_address(t) : NULL; }
static float *number_f32(const cr_tensor *t) { return t->dtype == CR_F32 ? cr_tensor_address(t) : NULL; }
static double number_of(cr_tensor *t) {
    return number_f64(t) ? *number_f64(t) : number_f32(t) ? (double)*number_f32(t) : cr_item(t);
}
/* Counts a step, and says which one it is. */
static bool count_step(cr_tensor *step, double *now) {
    if (number_f64(step))
        *number_f64(step) += 1;
    else if (number_f32(step))
        *number_f32(step) += 1;
    else if (!cr_add_scalar_(step, 1))
        return false;
    *now = number_of(step);
    return true;
}

static void *address_or_null(const cr_tensor *t) { return t ? cr_tensor_address(t) : NULL; }

_Static_assert(CR_LOOP_BYTES >= 13 * 8, "the longest job fits a collected loop");

/* ---------------------------------------------------------------- Adam */
typedef struct adam_job {
    void *parameter, *average, *square, *maximum;
    const void *gradient;
    double beta1, beta2, eps, decay, shrink, rate, root_scale, sign;
} adam_job;

#define ADAM_LOOP(T, square_root)                                                                                      \
    static void adam_range_##T(void *context, int64_t begin, int64_t end) {                                            \
        const adam_job *job = context;                                                                                 \
        T *const p = job->parameter, *const m = job->average, *const v = job->square, *const most = job->maximum;      \
        const T *const gradient = job->gradient;                                                                       \
        const T beta1 = (T)job->beta1, rest1 = (T)(1 - job->beta1), beta2 = (T)job->beta2,                             \
                rest2 = (T)(1 - job->beta2);                                                                           \
        const T eps = (T)job->eps, decay = (T)job->decay, shrink = (T)job->shrink, rate = (T)job->rate;                \
        const T root_scale = (T)job->root_scale, sign = (T)job->sign;                                                  \
        _Pragma("GCC ivdep") for (int64_t i = begin; i < end; i++) {                                                   \
            const T g = gradient[i] * sign + p[i] * decay;                                                             \
            const T kept = p[i] - p[i] * shrink;                                                                       \
            m[i] = m[i] * beta1 + g * rest1;                                                                           \
            v[i] = v[i] * beta2 + g * g * rest2;                                                                       \
            T top = v[i];                                                                                              \
            if (most) top = most[i] = most[i] > top ? most[i] : top;                                                   \
            p[i] = kept - m[i] / (square_root(top) / root_scale + eps) * rate;                                         \
        }                                                                                                              \
    }
ADAM_LOOP(float, sqrtf)
ADAM_LOOP(double, sqrt)

CR_KERNEL(adam_update) {
    const cr_adam_update_options *o = call->attributes;
    cr_tensor **in = call->inputs;
    if (!lie_alike(call, 5)) return call->op->decompose(call);
    double step, lr = number_of(in[6]);
    if (!count_step(in[5], &step)) return false;
    adam_job job = {.parameter = cr_tensor_address(in[0]),
                    .gradient = cr_tensor_address(in[1]),
                    .average = cr_tensor_address(in[2]),
                    .square = cr_tensor_address(in[3]),
                    .maximum = address_or_null(in[4]),
                    .beta1 = o->beta1,
                    .beta2 = o->beta2,
                    .eps = o->eps,
                    .decay = o->decoupled ? 0 : o->weight_decay,
                    .shrink = o->decoupled ? lr * o->weight_decay : 0,
                    .rate = lr / (1 - pow(o->beta1, step)),
                    .root_scale = sqrt(1 - pow(o->beta2, step)),
                    .sign = o->maximize ? -1 : 1};
    cr_loop_run(in[0]->numel, CR_GRAIN_ELEMENTS / 2, in[0]->dtype == CR_F32 ? adam_range_float : adam_range_double,
                &job, sizeof job);
    return true;
}

/* ---------------------------------------------------------------- SGD */
typedef struct sgd_job {
    void *parameter, *buffer;
    const void *gradient;
    double momentum, share, decay, rate, sign;
    bool nesterov;
} sgd_job;

#define SGD_LOOP(T)                                                                                                    \
    static void sgd_range_##T(void *context, int64_t begin, int64_t end) {                                             \
        const sgd_job *job = context;                                                                                  \
        T *const p = job->parameter, *const b = job->buffer;                                                           \
        const T *const gradient = job->gradient;                                                                       \
        const T momentum = (T)job->momentum, share = (T)job->share, decay = (T)job->decay, rate = (T)job->rate;        \
        const T sign = (T)job->sign;                                                                                   \
        const bool decays = decay != 0, nesterov = job->nesterov;                                                      \
        _Pragma("GCC ivdep") for (int64_t i = begin; i < end; i++) {                                                   \
            T g = gradient[i] * sign;                                                                                  \
            if (decays) g = g + p[i] * decay;                                                                          \
            if (b) {                                                                                                   \
                b[i] = b[i] * momentum + g * share;                                                                    \
                g = nesterov ? g + b[i] * momentum : b[i];                                                             \
            }                                                                                                          \
            p[i] = p[i] - g * rate;                                                                                    \
        }                                                                                                              \
    }
SGD_LOOP(float)
SGD_LOOP(double)

CR_KERNEL(sgd_update) {
    const cr_sgd_update_options *o = call->attributes;
    cr_tensor **in = call->inputs;
    if (!lie_alike(call, 3)) return call->op->decompose(call);
    double step;
    if (!count_step(in[3], &step)) return false;
    sgd_job job = {.parameter = cr_tensor_address(in[0]),
                   .gradient = cr_tensor_address(in[1]),
                   .buffer = address_or_null(in[2]),
                   .momentum = o->momentum,
                   .share = step <= 1 ? 1 : 1 - o->dampening,
                   .decay = o->weight_decay,
                   .rate = number_of(in[4]),
                   .sign = o->maximize ? -1 : 1,
                   .nesterov = o->nesterov};
    cr_loop_run(in[0]->numel, CR_GRAIN_ELEMENTS, in[0]->dtype == CR_F32 ? sgd_range_float : sgd_range_double, &job,
                sizeof job);
    return true;
}

/* ---------------------------------------------------------------- RMSprop */
typedef struct rmsprop_job {
    void *parameter, *square, *mean, *buffer;
    const void *gradient;
    double alpha, momentum, eps, decay, rate, sign;
} rmsprop_job;

#define RMSPROP_LOOP(T, square_root)                                                                                   \
    static void rmsprop_range_##T(void *context, int64_t begin, int64_t end) {                                         \
        const rmsprop_job *job = context;                                                                              \
        T *const p = job->parameter, *const v = job->square, *const m = job->mean, *const b = job->buffer;             \
        const T *const gradient = job->gradient;                                                                       \
        const T alpha = (T)job->alpha, rest = (T)(1 - job->alpha), momentum = (T)job->momentum, eps = (T)job->eps;     \
        const T decay = (T)job->decay, rate = (T)job->rate, sign = (T)job->sign;                                       \
        const bool decays = decay != 0;                                                                                \
        _Pragma("GCC ivdep") for (int64_t i = begin; i < end; i++) {                                                   \
            T g = gradient[i] * sign;                                                                                  \
            if (decays) g = g + p[i] * decay;                                                                          \
            v[i] = v[i] * alpha + g * g * rest;                                                                        \
            T variance = v[i];                                                                                         \
            if (m) {                                                                                                   \
                m[i] = m[i] * alpha + g * rest;                                                                        \
                variance = v[i] - m[i] * m[i];                                                                         \
            }                                                                                                          \
            T change = g / (square_root(variance) + eps);                                                              \
            if (b) change = b[i] = b[i] * momentum + change;                                                           \
            p[i] = p[i] - change * rate;                                                                               \
        }                                                                                                              \
    }
RMSPROP_LOOP(float, sqrtf)
RMSPROP_LOOP(double, sqrt)

CR_KERNEL(rmsprop_update) {
    const cr_rmsprop_update_options *o = call->attributes;
    cr_tensor **in = call->inputs;
    if (!lie_alike(call, 5)) return call->op->decompose(call);
    double step;
    if (!count_step(in[5], &step)) return false;
    rmsprop_job job = {.parameter = cr_tensor_address(in[0]),
                       .gradient = cr_tensor_address(in[1]),
                       .square = cr_tensor_address(in[2]),
                       .mean = address_or_null(in[3]),
                       .buffer = address_or_null(in[4]),
                       .alpha = o->alpha,
                       .momentum = o->momentum,
                       .eps = o->eps,
                       .decay = o->weight_decay,
                       .rate = number_of(in[6]),
                       .sign = o->maximize ? -1 : 1};
    cr_loop_run(in[0]->numel, CR_GRAIN_ELEMENTS / 2,
                in[0]->dtype == CR_F32 ? rmsprop_range_float : rmsprop_range_double, &job, sizeof job);
    return true;
}
