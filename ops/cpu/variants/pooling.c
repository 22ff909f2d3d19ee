/* Pooling and its gradients on the CPU, in f32 and f64; f16 and bf16 go through f32. */
#include "core/allocator.h"
#include "core/parallel.h"
#include "ops/cpu/variant.h"
#include "ops/pooling.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

typedef enum pool_kind { MAXIMUM, MEAN, SPREAD } pool_kind;

enum { MOST_TAPS = 64 }; /* of windows whose maxima are found several at a time */

/* Reads (gather) or adds to the positions of each plane. */
typedef struct position_job {
    const int64_t *positions;
    const void *source;
    void *target;
    int64_t in_plane, out_plane;
    bool gather;
    atomic_bool is_outside; /* a position, of its plane */
} position_job;

/* Without branches: the sign of a position or of what is left behind it. */
static bool are_inside(const int64_t *positions, int64_t count, int64_t plane) {
    uint64_t signs = 0;
    for (int64_t i = 0; i < count; i++)
        signs |= (uint64_t)positions[i] | ((uint64_t)plane - 1 - (uint64_t)positions[i]);
    return signs >> 63 == 0;
}

#define T           float
#define PLACE       int32_t
#define NAMED(name) name##_f32
#include "ops/cpu/variants/pooling_template.h"
#define T           double
#define PLACE       int64_t
#define NAMED(name) name##_f64
#include "ops/cpu/variants/pooling_template.h"

/* ---------------------------------------------------------------- operands as dense f32 or f64, and back */
/* Planes too large for positions of 32 bits go through f64, where they have 64. */
static cr_dtype compute_dtype(const cr_tensor *t) {
    return t->dtype == CR_F64 || (t->ndim > 1 && t->numel / t->sizes[0] > INT32_MAX) ? CR_F64 : CR_F32;
}
static cr_tensor *dense_operand(cr_tensor *t) { return cr_contiguous(cr_cast(t, compute_dtype(t))); }
/* The output itself, or a tensor to compute in. */
static cr_tensor *dense_target(cr_tensor *output, cr_dtype dtype) {
    return output->dtype == (int8_t)dtype && cr_is_contiguous(output)
               ? output
               : cr_empty(dtype, cr_tensor_shape(output), output->device);
}
static bool deliver(cr_tensor *output, cr_tensor *computed) {
    return computed == output || cr_copy_(output, computed) != NULL;
}

static bool run_pool(cr_call *call, const cr_pooling *p, pool_kind kind) {
    if (call->outputs[0]->numel == 0) return true;
    cr_tensor *source = dense_operand(call->inputs[0]),
              *target = dense_target(call->outputs[0], compute_dtype(call->inputs[0]));
    cr_tensor *positions = kind == MAXIMUM ? dense_target(call->outputs[1], CR_I64) : NULL;
    if (!source || !target || (kind == MAXIMUM && !positions)) return false;
    int64_t *at = positions ? cr_tensor_address(positions) : NULL;
    const bool done = source->dtype == CR_F64
                          ? pool_f64(p, kind, cr_tensor_address(source), cr_tensor_address(target), at)
                          : pool_f32(p, kind, cr_tensor_address(source), cr_tensor_address(target), at);
    return done && deliver(call->outputs[0], target) && (!positions || deliver(call->outputs[1], positions));
}

/* ---------------------------------------------------------------- kernels */
static bool run_forward(cr_call *call, int spatial, const cr_max_pool_options *max, const cr_avg_pool_options *avg) {
    const cr_pooling p =
        cr_pool_describe(cr_tensor_shape(call->inputs[0]), cr_tensor_shape(call->outputs[0]), spatial, max, avg);
    return run_pool(call, &p, call->output_count == 2 ? MAXIMUM : MEAN);
}

CR_KERNEL(max_pool) {
    const cr_max_pool_options *o = call->attributes;
    return run_forward(call, o->kernel_sizes.count, o, NULL);
}
CR_KERNEL(avg_pool) {
    const cr_avg_pool_options *o = call->attributes;
    return run_forward(call, o->kernel_sizes.count, NULL, o);
}
CR_KERNEL(adaptive_max_pool) {
    return run_forward(call, ((const cr_adaptive_pool_options *)call->attributes)->sizes.count, NULL, NULL);
}
CR_KERNEL(adaptive_avg_pool) {
    return run_forward(call, ((const cr_adaptive_pool_options *)call->attributes)->sizes.count, NULL, NULL);
}

CR_KERNEL(avg_pool_grad) {
    const cr_avg_pool_options *o = call->attributes; /* the gradient's options begin with them */
    const cr_pooling p = cr_pool_describe(cr_tensor_shape(call->outputs[0]), cr_tensor_shape(call->inputs[0]),
                                          o->kernel_sizes.count, NULL, o);
    return run_pool(call, &p, SPREAD);
}
CR_KERNEL(adaptive_avg_pool_grad) {
    const cr_pool_grad_options *o = call->attributes;
    const cr_pooling p = cr_pool_describe(cr_tensor_shape(call->outputs[0]), cr_tensor_shape(call->inputs[0]),
                                          (int)o->spatial, NULL, NULL);
    return run_pool(call, &p, SPREAD);
}

/* ---------------------------------------------------------------- positions */
static bool fail_outside(const cr_tensor *positions, int64_t plane) {
    const int64_t *at = cr_tensor_address(positions);
    int64_t i = 0;
    while ((uint64_t)at[i] < (uint64_t)plane)
        i++;
    return cr_fail(CR_ERROR_INDEX, "position %lld (element %lld of the indices) is outside the input's plane of %lld",
                   (long long)at[i], (long long)i, (long long)plane);
}

static bool run_positions(cr_call *call, bool gather) {
    const cr_pool_grad_options *o = call->attributes;
    if (call->outputs[0]->numel == 0) return true;
    cr_tensor *source = dense_operand(call->inputs[0]), *positions = cr_contiguous(call->inputs[1]);
    cr_tensor *target = dense_target(call->outputs[0], compute_dtype(call->inputs[0]));
    if (!source || !positions || !target) return false;
    const cr_shape input = cr_tensor_shape(gather ? source : target), pooled = cr_tensor_shape(positions);
    position_job job = {.positions = cr_tensor_address(positions),
                        .source = cr_tensor_address(source),
                        .target = cr_tensor_address(target),
                        .in_plane = 1,
                        .out_plane = 1,
                        .gather = gather};
    for (int i = input.count - (int)o->spatial; i < input.count; i++) {
        job.in_plane *= input.at[i];
        job.out_plane *= pooled.at[i];
    }
    cr_parallel_for(positions->numel / job.out_plane, 1 + CR_GRAIN_ELEMENTS / (job.in_plane + job.out_plane),
                    source->dtype == CR_F64 ? move_planes_f64 : move_planes_f32, &job);
    if (atomic_load_explicit(&job.is_outside, memory_order_relaxed)) return fail_outside(positions, job.in_plane);
    return deliver(call->outputs[0], target);
}

CR_KERNEL(max_pool_grad) { return run_positions(call, false); }
CR_KERNEL(max_pool_gather) { return run_positions(call, true); }
