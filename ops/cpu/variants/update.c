/* Adam in one pass over memory: f32 and f64 tensors that lie alike; all else runs by the decomposition. */
#include "core/parallel.h"
#include "ops/cpu/variant.h"

#include <math.h>

typedef struct adam_job {
    void *parameter, *average, *square, *maximum;
    const void *gradient;
    double beta1, beta2, eps, decay, shrink, rate, root_scale, sign;
} adam_job;

/* Each rounding as in the chain of ops, so that both ways of running give the same bits (no contraction: -ffp-contract=off). */
#define ADAM_LOOP(T, square_root)                                                                                      \
    static void adam_range_##T(void *context, int64_t begin, int64_t end) {                                            \
        const adam_job *job = context;                                                                                 \
        T *const p = job->parameter, *const m = job->average, *const v = job->square, *const most = job->maximum;      \
        const T *const gradient = job->gradient;                                                                       \
        const T beta1 = (T)job->beta1, rest1 = (T)(1 - job->beta1), beta2 = (T)job->beta2, rest2 = (T)(1 - job->beta2); \
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

/* The same strides without gaps, so that one run covers all. */
static bool lie_alike(const cr_call *call, int count) {
    const cr_tensor *first = call->inputs[0];
    if (!cr_is_contiguous(first) && !cr_is_channels_last(first)) return false;
    for (int i = 1; i < count; i++) {
        const cr_tensor *t = call->inputs[i];
        for (int d = 0; t && d < first->ndim; d++)
            if (t->strides[d] != first->strides[d] && first->sizes[d] != 1) return false;
    }
    return true;
}

CR_KERNEL(adam_update) {
    const cr_adam_update_options *o = call->attributes;
    cr_tensor **in = call->inputs;
    const cr_dtype dtype = (cr_dtype)in[0]->dtype;
    if ((dtype != CR_F32 && dtype != CR_F64) || !lie_alike(call, 5)) return call->op->decompose(call);
    if (!cr_add_scalar_(in[5], 1)) return false;
    const double step = cr_item(in[5]), lr = cr_item(in[6]);
    adam_job job = {.parameter = cr_tensor_address(in[0]),
                    .gradient = cr_tensor_address(in[1]),
                    .average = cr_tensor_address(in[2]),
                    .square = cr_tensor_address(in[3]),
                    .maximum = in[4] ? cr_tensor_address(in[4]) : NULL,
                    .beta1 = o->beta1,
                    .beta2 = o->beta2,
                    .eps = o->eps,
                    .decay = o->decoupled ? 0 : o->weight_decay,
                    .shrink = o->decoupled ? lr * o->weight_decay : 0,
                    .rate = lr / (1 - pow(o->beta1, step)),
                    .root_scale = sqrt(1 - pow(o->beta2, step)),
                    .sign = o->maximize ? -1 : 1};
    cr_parallel_for(in[0]->numel, CR_GRAIN_ELEMENTS / 4, dtype == CR_F32 ? adam_range_float : adam_range_double, &job);
    return true;
}
