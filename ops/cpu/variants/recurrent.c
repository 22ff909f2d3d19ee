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

typedef struct lstm_job {
    const void *gates, *weight, *initial_c;         /* forward: before activation; gradient: as activated */
    const void *h_before, *c_before, *cells, *grad; /* of the step at hand */
    const void *later;                              /* gradient: grad_gates of the step that came after it, or NULL */
    void *activated, *h, *c;                        /* forward: results of the step; gradient: grad_gates of the step */
    void *dh, *dc;                                  /* gradient: [batch, hidden], moving with the steps */
    void *packed;
    int64_t batch, hidden;
} lstm_job;

static inline int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t round_up(int64_t x, int64_t multiple) { return (x + multiple - 1) / multiple * multiple; }

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

CR_KERNEL(lstm_sequence) {
    cr_tensor *in[4];
    const cr_dtype dtype = (cr_dtype)call->inputs[0]->dtype;
    if ((dtype != CR_F32 && dtype != CR_F64) || call->outputs[0]->numel == 0) return run_parts(call);
    if (!make_dense(call, in)) return false;
    return dtype == CR_F32 ? lstm_f32_forward(in, call->outputs, is_reverse(call))
                           : lstm_f64_forward(in, call->outputs, is_reverse(call));
}

CR_KERNEL(lstm_sequence_grad) {
    cr_tensor *in[9];
    const cr_dtype dtype = (cr_dtype)call->inputs[3]->dtype;
    if ((dtype != CR_F32 && dtype != CR_F64) || call->inputs[0]->numel == 0) return run_parts(call);
    if (!make_dense(call, in)) return false;
    const bool reverse = is_reverse(call);
    if (!(dtype == CR_F32 ? lstm_f32_backward(in, call->outputs, reverse)
                          : lstm_f64_backward(in, call->outputs, reverse)))
        return false;
    /* Σ_t grad_gates[t]ᵀ h[t - 1] as one product over all steps */
    const int64_t length = in[5]->sizes[0];
    cr_tensor *first = cr_unsqueeze(in[6], 0), *rest = cr_narrow(in[5], 0, reverse, length - 1);
    cr_tensor *const order[2] = {reverse ? rest : first, reverse ? first : rest};
    cr_tensor *before = cr_flatten(cr_cat(order, 2, 0), 0, 1);
    return cr_copy_(call->outputs[3], cr_matmul(cr_transpose(cr_flatten(call->outputs[0], 0, 1), 0, 1), before)) !=
           NULL;
}
