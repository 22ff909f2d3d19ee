/* LSTM's recurrence and its gradient: for each step one pass over the hidden units, in which a panel of units makes its
 * part of the recurrent product and then its cells. Weights are packed once for all steps. f32 and f64; the rest by
 * decompositions. */
#include "core/allocator.h"
#include "core/parallel.h"
#include "ops/cpu/variant.h"
#include "ops/math.h"

#include <string.h>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

enum {
    UNPACKED_ROWS = 2, /* samples up to which the weight is read as it lies */
    ROWS = 6,
    ROW_BLOCK = 48,   /* samples whose sums of one panel lie in the first cache */
    DEPTH_BLOCK = 256 /* rows of a packed panel that stay there meanwhile */
};

/* A sequence's operands and results; a gradient's have their places too. Each of all steps but where it says otherwise. */
typedef struct lstm_job {
    const void *gates;    /* [batch, 4 hidden]; forward: before activation; gradient: as activated */
    const void *h0, *c0;  /* of no step: [batch, hidden] */
    const void *weight;   /* [4 hidden, hidden] */
    const void *grad;     /* gradient: [batch, hidden] of the output */
    void *output, *cells; /* [batch, hidden]; cells NULL: only the last is kept, in c */
    void *activated;      /* [batch, 4 hidden]; forward: gates, or NULL; gradient: their gradients */
    void *c, *dh, *dc;    /* [batch, hidden], moving with the steps */
    void *packed;         /* the weight, or NULL */
    int64_t length, batch, hidden;
    bool reverse;
} lstm_job;

/* What one step reads and writes. */
typedef struct lstm_step {
    const void *gates, *h_before, *c_before, *grad;
    const void *later; /* gradient: of the gates of the step that came after it, or NULL */
    void *activated, *h, *c;
} lstm_step;

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* `elements` of each step, at step t. NULL stays NULL. */
static inline void *at_step(const void *all, int64_t t, int64_t elements, size_t size) {
    return all ? (char *)(uintptr_t)all + t * elements * (int64_t)size : NULL;
}

static lstm_step forward_step(const lstm_job *job, int64_t index, size_t size) {
    const int64_t t = job->reverse ? job->length - 1 - index : index, before = job->reverse ? t + 1 : t - 1,
                  state = job->batch * job->hidden;
    return (lstm_step){.gates = at_step(job->gates, t, 4 * state, size),
                       .h_before = index ? at_step(job->output, before, state, size) : job->h0,
                       .c_before = !job->cells ? job->c
                                   : index     ? at_step(job->cells, before, state, size)
                                               : job->c0,
                       .activated = at_step(job->activated, t, 4 * state, size),
                       .h = at_step(job->output, t, state, size),
                       .c = job->cells ? at_step(job->cells, t, state, size) : job->c};
}

/* The index-th step from the end of the recurrence; behind all of them the product alone is left. */
static lstm_step backward_step(const lstm_job *job, int64_t index, size_t size) {
    const int64_t i = job->length - 1 - index, t = job->reverse ? index : i, before = job->reverse ? t + 1 : t - 1,
                  after = job->reverse ? t - 1 : t + 1, state = job->batch * job->hidden;
    const void *later = index ? at_step(job->activated, after, 4 * state, size) : NULL;
    if (i < 0) return (lstm_step){.later = later};
    return (lstm_step){.gates = at_step(job->gates, t, 4 * state, size),
                       .c_before = i ? at_step(job->cells, before, state, size) : job->c0,
                       .grad = at_step(job->grad, t, state, size),
                       .later = later,
                       .activated = at_step(job->activated, t, 4 * state, size),
                       .c = at_step(job->cells, t, state, size)};
}

#pragma GCC optimize("fp-contract=fast")

#define T          float
#define LANE_INDEX int32_t
#define LANES      (VECTOR_BYTES / 4)
#define NAMED(x)   lstm_f32_##x
#define WORD(x)    cr_##x##_f32
#include "ops/cpu/variants/recurrent_template.h"
#undef T
#undef LANE_INDEX
#undef LANES
#undef NAMED
#undef WORD
#define T          double
#define LANE_INDEX int64_t
#define LANES      (VECTOR_BYTES / 8)
#define NAMED(x)   lstm_f64_##x
#define WORD(x)    cr_##x##_f64
#include "ops/cpu/variants/recurrent_template.h"

/* ---------------------------------------------------------------- kernels */
static bool is_reverse(const cr_call *call) {
    return *(const bool *)((const char *)call->attributes + call->op->attributes[0].offset);
}

/* Runs the decomposition in place of a kernel, filling the outputs that the dispatcher made. */
static bool run_parts(cr_call *call) {
    cr_tensor *made[CR_MAX_OUTPUTS];
    memcpy(made, call->outputs, (size_t)call->output_count * sizeof made[0]);
    bool done = call->op->decompose(call);
    for (int i = 0; i < call->output_count; i++) {
        done = done && cr_copy_(made[i], call->outputs[i]);
        call->outputs[i] = made[i];
    }
    return done;
}

/* Dense operands; false where one cannot be made. */
static bool make_dense(const cr_call *call, cr_tensor **dense) {
    for (int i = 0; i < call->input_count; i++)
        if (!(dense[i] = cr_contiguous(call->inputs[i]))) return false;
    return true;
}

static void copy_state(void *to, const void *from, const cr_tensor *like) {
    memcpy(to, from, (size_t)like->numel * cr_dtype_size((cr_dtype)like->dtype));
}

/* in: gates h0 c0; output: output h_n c_n. */
static lstm_job job_of(cr_tensor *const *in, cr_tensor *const *out, bool reverse) {
    return (lstm_job){.gates = cr_tensor_address(in[0]),
                      .h0 = cr_tensor_address(in[1]),
                      .c0 = cr_tensor_address(in[2]),
                      .output = cr_tensor_address(out[0]),
                      .length = in[0]->sizes[0],
                      .batch = in[0]->sizes[1],
                      .hidden = in[1]->sizes[1],
                      .reverse = reverse};
}

/* The output's last step. */
static void give_last(const lstm_job *job, const void *all, const cr_tensor *to) {
    const int64_t last = job->reverse ? 0 : job->length - 1;
    copy_state(cr_tensor_address(to), at_step(all, last, to->numel, cr_dtype_size((cr_dtype)to->dtype)), to);
}

CR_KERNEL(lstm_sequence) {
    cr_tensor *in[4], *const *out = call->outputs;
    const cr_dtype dtype = (cr_dtype)call->inputs[0]->dtype;
    if ((dtype != CR_F32 && dtype != CR_F64) || out[0]->numel == 0) return run_parts(call);
    if (!make_dense(call, in)) return false;
    lstm_job job = job_of(in, out, is_reverse(call));
    job.weight = cr_tensor_address(in[3]);
    job.activated = cr_tensor_address(out[3]);
    job.cells = cr_tensor_address(out[4]);
    if (!(dtype == CR_F32 ? lstm_f32_forward(&job) : lstm_f64_forward(&job))) return false;
    give_last(&job, job.output, out[1]);
    give_last(&job, job.cells, out[2]);
    return true;
}

CR_KERNEL(packed_lstm_sequence) {
    cr_tensor *in[4], *const *out = call->outputs;
    if (!make_dense(call, in)) return false;
    lstm_job job = job_of(in, out, is_reverse(call));
    job.packed = cr_tensor_address(in[3]);
    job.c = cr_tensor_address(out[2]);
    copy_state(job.c, job.c0, out[2]);
    if (job.length == 0)
        copy_state(cr_tensor_address(out[1]), job.h0, out[1]);
    else if (out[0]->numel > 0 && lstm_f32_forward(&job))
        give_last(&job, job.output, out[1]);
    return true;
}

CR_KERNEL(pack_recurrent) {
    cr_tensor *weight = cr_contiguous(call->inputs[0]);
    if (!weight) return false;
    const lstm_job job = {
        .weight = cr_tensor_address(weight), .packed = cr_tensor_address(call->outputs[0]), .hidden = weight->sizes[1]};
    lstm_f32_pack(&job);
    return true;
}

CR_KERNEL(lstm_sequence_grad) {
    enum { GRAD, GRAD_H, GRAD_C, GATES, CELLS, OUTPUT, H0, C0, WEIGHT, OPERANDS };
    cr_tensor *in[OPERANDS], *const *out = call->outputs;
    const cr_dtype dtype = (cr_dtype)call->inputs[GATES]->dtype;
    if ((dtype != CR_F32 && dtype != CR_F64) || call->inputs[GRAD]->numel == 0) return run_parts(call);
    if (!make_dense(call, in)) return false;
    lstm_job job = {.gates = cr_tensor_address(in[GATES]),
                    .c0 = cr_tensor_address(in[C0]),
                    .weight = cr_tensor_address(in[WEIGHT]),
                    .grad = cr_tensor_address(in[GRAD]),
                    .cells = cr_tensor_address(in[CELLS]),
                    .activated = cr_tensor_address(out[0]),
                    .dh = cr_tensor_address(out[1]),
                    .dc = cr_tensor_address(out[2]),
                    .length = in[GATES]->sizes[0],
                    .batch = in[GATES]->sizes[1],
                    .hidden = in[WEIGHT]->sizes[1],
                    .reverse = is_reverse(call)};
    copy_state(job.dh, cr_tensor_address(in[GRAD_H]), out[1]);
    copy_state(job.dc, cr_tensor_address(in[GRAD_C]), out[2]);
    if (!(dtype == CR_F32 ? lstm_f32_backward(&job) : lstm_f64_backward(&job))) return false;
    /* Σ_t grad_gates[t]ᵀ h[t - 1] as one product over all steps */
    cr_tensor *first = cr_unsqueeze(in[H0], 0), *rest = cr_narrow(in[OUTPUT], 0, job.reverse, job.length - 1);
    cr_tensor *const order[2] = {job.reverse ? rest : first, job.reverse ? first : rest};
    cr_tensor *before = cr_flatten(cr_cat(order, 2, 0), 0, 1);
    return cr_copy_(out[3], cr_matmul(cr_transpose(cr_flatten(out[0], 0, 1), 0, 1), before)) != NULL;
}
