/* The loops of every pointwise op, made from pointwise.def, and the one kernel that drives them tile by tile. */
#include "core/parallel.h"
#include "ops/cpu/variants/copy.h"
#include "ops/cpu/variants/tile.h"
#include "ops/math.h"

/* ---------------------------------------------------------------- loops: loop_add_f32, loop_add_f64, loop_add_i64 */
#define POINTERS_1          const T *const pa = operands[0];
#define POINTERS_2          POINTERS_1 const T *const pb = operands[1];
#define POINTERS_3          POINTERS_2 const T *const pc = operands[2];
#define ATTRIBUTE_NUMBER(i) numbers[i]
#define LOOP(name, result_type, count_of_operands, numbers_, ...)                                                      \
    static void PASTE(name, CR_T)(const void *const *operands, void *result, const double *numbers, int64_t count) {   \
        result_type *const out = result;                                                                               \
        (void)numbers;                                                                                                 \
        POINTERS_##count_of_operands numbers_ _Pragma("GCC ivdep") for (int64_t i = 0; i < count; i++) {               \
            VALUES_##count_of_operands out[i] = (result_type)(__VA_ARGS__);                                            \
        }                                                                                                              \
    }
#include "ops/pointwise_rows.h"

/* ---------------------------------------------------------------- the table of loops */
#define ROW_ANY(name)                                     {loop_##name##_f32, loop_##name##_f64, loop_##name##_i64},
#define ROW_SIGNED                                        ROW_ANY
#define ROW_MASK_A                                        ROW_ANY
#define ROW_MASK_B                                        ROW_ANY
#define ROW_COMPARE                                       ROW_ANY
#define ROW_REAL(name)                                    {loop_##name##_f32, loop_##name##_f64, NULL},
#define ROW_INTEGER(name)                                 {NULL, NULL, loop_##name##_i64},
#define CR_POINTWISE_1(name, class, ...)                  ROW_##class(name)
#define CR_POINTWISE_1_P(name, p, pd, class, ...)         ROW_##class(name)
#define CR_POINTWISE_1_PQ(name, p, pd, q, qd, class, ...) ROW_##class(name)
#define CR_POINTWISE_2                                    CR_POINTWISE_1
#define CR_POINTWISE_2_P                                  CR_POINTWISE_1_P
#define CR_POINTWISE_2_PQ                                 CR_POINTWISE_1_PQ
#define CR_POINTWISE_3                                    CR_POINTWISE_1
#define CR_POINTWISE_3_P                                  CR_POINTWISE_1_P
static const cr_pointwise_loop loops[CR_POINTWISE_COUNT][CR_COMPUTE_COUNT] = {
#include <cresset/pointwise.def>
};
#include <cresset/pointwise_undef.h>

/* ---------------------------------------------------------------- periodic functions in f32 */
/* Blocks whose arguments are all within the limit run without a branch; the others by the word, which is the same
 * there. */
#define PERIODIC_LOOP(name)                                                                                            \
    static void periodic_##name(const void *const *operands, void *result, const double *numbers, int64_t count) {     \
        const float *const x = operands[0];                                                                            \
        float *const out = result;                                                                                     \
        for (int64_t start = 0; start < count; start += PERIODIC_BLOCK) {                                              \
            const int64_t end = start + PERIODIC_BLOCK < count ? start + PERIODIC_BLOCK : count;                       \
            int beyond = 0;                                                                                            \
            for (int64_t i = start; i < end; i++)                                                                      \
                beyond |= !(cr_abs_f32(x[i]) <= CR_TURNS_LIMIT);                                                       \
            if (beyond)                                                                                                \
                loop_##name##_f32((const void *const[]){x + start}, out + start, numbers, end - start);                \
            else                                                                                                       \
                _Pragma("GCC ivdep") for (int64_t i = start; i < end; i++) out[i] = cr_bounded_##name##_f32(x[i]);     \
        }                                                                                                              \
    }
enum { PERIODIC_BLOCK = 512 };
PERIODIC_LOOP(sin)
PERIODIC_LOOP(cos)
PERIODIC_LOOP(tan)
static const cr_pointwise_loop periodic[CR_POINTWISE_COUNT] = {[CR_POINTWISE_INDEX_sin] = periodic_sin,
                                                               [CR_POINTWISE_INDEX_cos] = periodic_cos,
                                                               [CR_POINTWISE_INDEX_tan] = periodic_tan};

cr_pointwise_loop cr_pointwise_loop_of(int index, cr_compute compute) {
    return compute == CR_COMPUTE_F32 && periodic[index] ? periodic[index] : loops[index][compute];
}

/* ---------------------------------------------------------------- the kernel */
typedef struct pointwise_job {
    cr_iteration iteration;
    cr_pointwise_loop loop;
    cr_compute compute, result; /* result: CR_COMPUTE_COUNT stands for bool */
    const double *numbers;
    bool low_bit; /* integers that go to bool: their lowest bit */
    bool one_run; /* everything dense and of the compute type: no tiles */
    bool copies;  /* the identity: elements of one dtype are moved as they are */
} pointwise_job;

static bool is_one_run(const pointwise_job *job) {
    const cr_iteration *it = &job->iteration;
    static const cr_dtype dtypes[] = {CR_F32, CR_F64, CR_I64, CR_BOOL};
    if (it->ndim != 1) return false;
    for (int k = 0; k < it->operand_count; k++)
        if (it->operands[k].strides[0] != 1 || it->operands[k].dtype != dtypes[k ? job->compute : job->result])
            return false;
    return true;
}

static void run_dense(const pointwise_job *job, int64_t begin, int64_t end) {
    const cr_iteration *it = &job->iteration;
    const void *operands[3] = {NULL};
    for (int k = 1; k < it->operand_count; k++)
        operands[k - 1] = it->operands[k].data + (size_t)begin * cr_dtype_size(it->operands[k].dtype);
    job->loop(operands, it->operands[0].data + (size_t)begin * cr_dtype_size(it->operands[0].dtype), job->numbers,
              end - begin);
}

static void run_tiles(const pointwise_job *job, int64_t begin, int64_t end) {
    _Alignas(64) char buffers[4][CR_TILE * 8];
    const cr_iteration *it = &job->iteration;
    const void *operands[3] = {NULL};
    int64_t uniform_filled[3] = {0}; /* a number's buffer stays filled from tile to tile */
    for (int64_t start = begin; start < end;) {
        const int64_t count = cr_tile_length(it, start, end);
        for (int k = 1; k < it->operand_count; k++) {
            const bool is_uniform = it->ndim == 1 && it->operands[k].strides[0] == 0;
            if (is_uniform && uniform_filled[k - 1] >= count) continue;
            operands[k - 1] = cr_tile_load(it, k, start, count, job->compute, buffers[k]);
            if (is_uniform) uniform_filled[k - 1] = count;
        }
        void *target = cr_tile_target(it, 0, start, count, job->result, buffers[0]);
        job->loop(operands, target, job->numbers, count);
        for (int64_t i = 0; job->low_bit && i < count; i++)
            ((int64_t *)target)[i] &= 1;
        cr_tile_store(it, 0, start, count, job->result, target, buffers[0]);
        start += count;
    }
}

static void run_range(void *context, int64_t begin, int64_t end) {
    const pointwise_job *job = context;
    if (job->one_run)
        run_dense(job, begin, end);
    else
        run_tiles(job, begin, end);
}

/* Operands laid out as the output is, without gaps: one run, whatever their dims. */
static bool is_alike(const cr_call *call) {
    const cr_tensor *out = call->outputs[0];
    if (!cr_is_contiguous(out)) return false;
    for (int i = 0; i < call->input_count; i++) {
        const cr_tensor *t = call->inputs[i];
        if (!cr_tensor_same_sizes(t, out)) return false;
        for (int d = 0; d < t->ndim; d++)
            if (t->strides[d] != out->strides[d]) return false;
    }
    return true;
}

static void set_run(cr_iteration *it, int index, const cr_tensor *t) {
    it->operands[index].data = cr_tensor_address(t);
    it->operands[index].dtype = (cr_dtype)t->dtype;
    it->operands[index].strides[0] = 1;
}

static void begin_alike(cr_iteration *it, const cr_call *call) {
    it->ndim = 1;
    it->sizes[0] = it->numel = call->outputs[0]->numel;
    it->operand_count = 1 + call->input_count;
    set_run(it, 0, call->outputs[0]);
    for (int i = 0; i < call->input_count; i++)
        set_run(it, i + 1, call->inputs[i]);
}

static bool run_loop(cr_call *call, pointwise_job *job) {
    cr_iteration *it = &job->iteration;
    if (call->outputs[0]->numel == 0) return true;
    if (is_alike(call)) {
        begin_alike(it, call);
    } else {
        cr_iteration_begin(it, call->outputs[0]);
        for (int i = 0; i < call->input_count; i++)
            cr_iteration_add(it, call->inputs[i]);
        cr_iteration_merge(it);
    }
    if (job->copies && call->input_count == 1 && it->operands[0].dtype == it->operands[1].dtype) {
        cr_copy_elements(it);
        return true;
    }
    job->one_run = is_one_run(job);
    if (it->numel <= CR_GRAIN_ELEMENTS)
        run_range(job, 0, it->numel);
    else
        cr_parallel_for(it->numel, CR_GRAIN_ELEMENTS, run_range, job);
    return true;
}

bool CR_NAME(cr_pointwise_kernel)(cr_call *call);
bool CR_NAME(cr_pointwise_kernel)(cr_call *call) {
    const cr_pointwise_info *info = call->op->pointwise;
    cr_dtype dtype = cr_pointwise_promote(call);
    if (info->class == CR_CLASS_REAL && !cr_dtype_is_floating(dtype)) dtype = CR_F32;
    pointwise_job job;
    job.compute = cr_compute_of(dtype);
    job.result = info->class == CR_CLASS_COMPARE ? CR_COMPUTE_COUNT : job.compute;
    job.loop = cr_pointwise_loop_of(info->index, job.compute);
    job.low_bit = info->class == CR_CLASS_INTEGER && dtype == CR_BOOL;
    job.numbers = ((const cr_pointwise_attributes *)call->attributes)->value;
    job.copies = info->index == CR_POINTWISE_INDEX_identity;
    if (!job.loop) return cr_fail_call(call, CR_ERROR_DTYPE, "does not take %s", cr_dtype_name(dtype));
    return run_loop(call, &job);
}

/* Casts and copies are the identity between two dtypes. f32 holds every f16, bf16, i8, i16 exactly; integers go as
 * i64. */
CR_KERNEL(cast) {
    pointwise_job job;
    const cr_dtype from = (cr_dtype)call->inputs[0]->dtype, to = (cr_dtype)call->outputs[0]->dtype;
    const bool through_f64 = from == CR_F64 || (to == CR_F64 && cr_dtype_is_floating(from));
    job.compute = through_f64 ? CR_COMPUTE_F64 : cr_compute_of(from);
    job.result = job.compute;
    job.loop = loops[CR_POINTWISE_INDEX_identity][job.compute];
    job.low_bit = false;
    job.numbers = NULL;
    job.copies = true;
    return run_loop(call, &job);
}
