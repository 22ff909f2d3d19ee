/* Attention by tiles: scores never lie in memory at once (Dao et al., "FlashAttention", 2022). A task is a block of
 * queries of one batch, or in the gradient a range of keys of one batch; cuts depend on shapes only. f16 and bf16
 * compute in f32. */
#include "core/allocator.h"
#include "core/dtype.h"
#include "core/parallel.h"
#include "ops/cpu/variant.h"
#include "ops/math.h"

#include <stdatomic.h>
#include <string.h>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

enum {
    ROWS = 6,
    TILE = 192,        /* queries and keys of a tile: a multiple of ROWS and of two vectors */
    STRIPE = 4 * ROWS, /* queries whose scores are made and used at once */
    FEW_ROWS = 3,      /* up to so many queries meet keys as they lie */
    FEW_BATCHES = 8    /* below it the gradient cuts the keys of a batch as well */
};

typedef struct attention_job {
    const cr_tensor *q, *k, *v,
        *mask; /* neighbours in the last dim; mask: expanded, bool or the compute type, or NULL */
    const cr_tensor *grad, *output, *log_sum;
    cr_tensor *out, *out_log_sum, *grad_q, *grad_k, *grad_v;
    int64_t batches, rows, keys, width, value_width; /* of q [batches, rows, width], v [batches, keys, value_width] */
    int64_t parts;                                   /* tasks of each batch */
    int64_t tasks, slots, slot_bytes;
    atomic_int_fast64_t next; /* the task that nobody has begun */
    char *scratch;
    void *partials; /* gradient: [batches, parts, rows, width] of grad_q where parts > 1 */
    double scale;
    bool is_causal;
    int64_t before; /* keys that stand before the first query's own */
} attention_job;

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t round_up(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

/* Of the keys key … key + keys - 1, so many the query at `row` sees, and each later one more if causal; < 1: none. */
static inline int64_t keys_seen(const attention_job *job, int64_t row, int64_t key, int64_t keys) {
    return job->is_causal ? job->before + row - key + 1 : keys;
}

/* So many keys of a tile are computed for the block of ROWS queries that holds `row`, where the tile's first query sees `seen`
 * of them and each one more: all that they see, and those of a block of keys that begins with one of these. */
static inline int64_t reach(int64_t seen, int64_t row, int64_t keys, int64_t columns) {
    const int64_t most = seen + row / ROWS * ROWS + 2 * ROWS - 1;
    return round_up(most < 1 ? 1 : least(most, keys), columns);
}

/* Where the matrix of a batch begins, in elements. */
static int64_t batch_offset(const cr_tensor *t, int64_t batch) {
    int64_t offset = 0;
    for (int d = t->ndim - 3; d >= 0; d--) {
        offset += batch % t->sizes[d] * t->strides[d];
        batch /= t->sizes[d];
    }
    return offset;
}

#pragma GCC optimize("fp-contract=fast")

#define T           float
#define LANE_INDEX  int32_t
#define LANES       (VECTOR_BYTES / 4)
#define NAMED(x)    attention_f32_##x
#define EXPONENTIAL cr_exp_normal_f32
#define IS_SINGLE   1
#include "ops/cpu/variants/attention_template.h"
#undef T
#undef LANE_INDEX
#undef LANES
#undef NAMED
#undef EXPONENTIAL
#undef IS_SINGLE
#define T           double
#define LANE_INDEX  int64_t
#define LANES       (VECTOR_BYTES / 8)
#define NAMED(x)    attention_f64_##x
#define EXPONENTIAL exp
#define IS_SINGLE   0
#include "ops/cpu/variants/attention_template.h"

/* ---------------------------------------------------------------- kernels */
/* t, or a copy whose last dim has neighbours. */
static cr_tensor *with_dense_rows(cr_tensor *t) {
    return t->strides[t->ndim - 1] == 1 || t->sizes[t->ndim - 1] == 1 ? t : cr_contiguous(t);
}

/* The operands that both directions share. */
static bool begin_job(attention_job *job, cr_tensor *const *operands, cr_tensor *mask, bool is_causal, double scale) {
    cr_tensor *q = with_dense_rows(operands[0]), *k = with_dense_rows(operands[1]), *v = with_dense_rows(operands[2]);
    if (!q || !k || !v) return false;
    *job = (attention_job){.q = q,
                           .k = k,
                           .v = v,
                           .rows = q->sizes[q->ndim - 2],
                           .keys = k->sizes[k->ndim - 2],
                           .width = q->sizes[q->ndim - 1],
                           .value_width = v->sizes[v->ndim - 1],
                           .batches = 1,
                           .is_causal = is_causal,
                           .scale = scale};
    for (int d = 0; d < q->ndim - 2; d++)
        job->batches *= q->sizes[d];
    if (!mask) return true;
    cr_shape shape = cr_tensor_shape(q);
    shape.at[shape.count - 1] = job->keys;
    if (mask->dtype != CR_BOOL) mask = cr_cast(mask, q->dtype == CR_F64 ? CR_F64 : CR_F32);
    return (job->mask = cr_expand(mask, shape)) != NULL;
}

/* Each slot, which one thread runs at a time, has memory of its own. */
static bool run_tasks(attention_job *job, int64_t slot_bytes, void (*run_slots)(void *, int64_t, int64_t)) {
    job->tasks = job->batches * job->parts;
    job->slots = least(cr_num_threads(), job->tasks);
    if (job->tasks * TILE * job->keys * job->width < CR_GRAIN_ELEMENTS) job->slots = least(1, job->tasks);
    job->slot_bytes = round_up(slot_bytes, 64);
    if (job->slots == 0) return true;
    const size_t bytes = (size_t)(job->slots * job->slot_bytes);
    job->next = 0;
    if (!(job->scratch = cr_block_allocate(bytes))) return false;
    cr_parallel_for(job->slots, 1, run_slots, job);
    cr_block_free(job->scratch, bytes);
    return true;
}

static bool run_forward(attention_job *job, cr_tensor *out, cr_tensor *log_sum) {
    job->out = out;
    job->out_log_sum = log_sum;
    job->parts = (job->rows + TILE - 1) / TILE;
    if (job->q->dtype == CR_F64) return run_tasks(job, attention_f64_forward_bytes(job), attention_f64_run_slots);
    return run_tasks(job, attention_f32_forward_bytes(job), attention_f32_run_slots);
}

/* The attributes of flash_attention and its gradient. */
static bool begin_flash(attention_job *job, const cr_call *call, cr_tensor *const *operands, cr_tensor *mask) {
    const char *attributes = call->attributes;
    return begin_job(job, operands, mask, *(const bool *)(attributes + call->op->attributes[0].offset),
                     *(const double *)(attributes + call->op->attributes[1].offset));
}

CR_KERNEL(flash_attention) {
    attention_job job;
    if (call->outputs[1]->numel == 0) return true;
    return begin_flash(&job, call, call->inputs, call->inputs[3]) &&
           run_forward(&job, call->outputs[0], call->outputs[1]);
}

CR_KERNEL(cached_attention) {
    attention_job job;
    cr_tensor *q = call->inputs[0], *operands[3] = {q};
    int64_t *position = cr_tensor_address(call->inputs[5]);
    const int64_t length = q->sizes[q->ndim - 2], end = *position + length,
                  capacity = call->inputs[3]->sizes[q->ndim - 2];
    const double scale = *(const double *)((const char *)call->attributes + call->op->attributes[0].offset);
    if (*position < 0 || end > capacity)
        return cr_fail_call(call, CR_ERROR_STATE, "%lld words behind %lld do not fit into caches for %lld",
                            (long long)length, (long long)*position, (long long)capacity);
    for (int i = 1; i < 3; i++) {
        cr_tensor *cache = call->inputs[i + 2];
        if (!cr_copy_(cr_narrow(cache, -2, *position, length), call->inputs[i])) return false;
        operands[i] = cr_narrow(cache, -2, 0, end);
    }
    if (call->outputs[0]->numel &&
        (!begin_job(&job, operands, NULL, true, scale != 0 ? scale : 1 / sqrt((double)q->sizes[q->ndim - 1]))))
        return false;
    job.before = *position;
    if (call->outputs[0]->numel && !run_forward(&job, call->outputs[0], NULL)) return false;
    *position = end;
    return true;
}

static bool run_gradient(attention_job *job) {
    const bool is_double = job->q->dtype == CR_F64;
    if (job->parts > 1) {
        cr_tensor *partials =
            cr_empty(is_double ? CR_F64 : CR_F32, CR_SHAPE(job->batches, job->parts, job->rows, job->width), CR_CPU);
        if (!partials) return false;
        job->partials = cr_tensor_address(partials);
    }
    const bool done = is_double ? run_tasks(job, attention_f64_backward_bytes(job), attention_f64_run_slots)
                                : run_tasks(job, attention_f32_backward_bytes(job), attention_f32_run_slots);
    if (done && job->parts > 1)
        cr_parallel_for(job->batches, 1, is_double ? attention_f64_join : attention_f32_join, job);
    return done;
}

CR_KERNEL(flash_attention_grad) {
    attention_job job;
    cr_tensor **in = call->inputs;
    if (!begin_flash(&job, call, in + 1, in[4])) return false;
    job.grad = with_dense_rows(in[0]);
    job.output = with_dense_rows(in[5]);
    job.log_sum = cr_contiguous(in[6]);
    if (!job.grad || !job.output || !job.log_sum) return false;
    job.grad_q = call->outputs[0];
    job.grad_k = call->outputs[1];
    job.grad_v = call->outputs[2];
    const int64_t key_tiles = (job.keys + TILE - 1) / TILE;
    job.parts = job.batches && job.batches < FEW_BATCHES ? least(key_tiles, FEW_BATCHES / job.batches) : 1;
    if (job.parts < 1) job.parts = 1;
    return run_gradient(&job);
}
