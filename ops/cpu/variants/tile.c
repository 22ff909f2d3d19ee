/* Merging dims, and loading and storing tiles. See tile.h. */
#include "ops/cpu/variants/tile.h"
#include "core/dtype.h"

#include <string.h>

/* ---------------------------------------------------------------- iterations */
/* Dims of the output from the largest stride to the smallest: its memory order. */
static void order_dims(const cr_tensor *output, int order[CR_MAX_DIMS]) {
    for (int i = 0; i < output->ndim; i++) {
        int at = i;
        for (; at > 0 && output->strides[order[at - 1]] < output->strides[i] && output->sizes[i] > 1; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
}

void cr_iteration_begin(cr_iteration *it, const cr_tensor *output) {
    int order[CR_MAX_DIMS];
    order_dims(output, order);
    it->ndim = output->ndim;
    it->numel = output->numel;
    it->operand_count = 1;
    it->operands[0].data = cr_tensor_address(output);
    it->operands[0].dtype = (cr_dtype)output->dtype;
    for (int d = 0; d < it->ndim; d++) {
        it->sizes[d] = output->sizes[order[d]];
        it->operands[0].strides[d] = output->strides[order[d]];
    }
    /* operands are added in the output's dims and then brought into this order: remember it behind the last operand */
    for (int d = 0; d < it->ndim; d++)
        it->operands[CR_TILE_OPERANDS - 1].strides[d] = order[d];
}

void cr_iteration_add(cr_iteration *it, const cr_tensor *input) {
    const int64_t *order = it->operands[CR_TILE_OPERANDS - 1].strides;
    cr_tile_operand *operand = &it->operands[it->operand_count++];
    operand->data = cr_tensor_address(input);
    operand->dtype = (cr_dtype)input->dtype;
    for (int d = 0; d < it->ndim; d++) {
        const int64_t dim = order[d] - (it->ndim - input->ndim);
        operand->strides[d] = dim < 0 || input->sizes[dim] == 1 ? 0 : input->strides[dim];
    }
}

void cr_iteration_merge(cr_iteration *it) {
    int last = -1; /* the merged dim that the next one may join */
    for (int d = 0; d < it->ndim; d++) {
        if (it->sizes[d] == 1) continue;
        bool joins = last >= 0;
        for (int k = 0; joins && k < it->operand_count; k++)
            joins = it->operands[k].strides[last] == it->operands[k].strides[d] * it->sizes[d];
        if (joins) {
            it->sizes[last] *= it->sizes[d];
        } else {
            it->sizes[++last] = it->sizes[d];
        }
        for (int k = 0; k < it->operand_count; k++)
            it->operands[k].strides[last] = it->operands[k].strides[d];
    }
    if (last < 0) { /* one element */
        last = 0;
        it->sizes[0] = 1;
        for (int k = 0; k < it->operand_count; k++)
            it->operands[k].strides[0] = 1;
    }
    it->ndim = last + 1;
}

int64_t cr_tile_length(const cr_iteration *it, int64_t start, int64_t end) {
    int64_t length = end - start < CR_TILE ? end - start : CR_TILE;
    const int64_t row = it->sizes[it->ndim - 1];
    if (row >= CR_TILE / 4) { /* long rows: tiles that stay inside one need no gathering */
        const int64_t rest = row - start % row;
        if (length > rest) length = rest;
    }
    return length;
}

/* ---------------------------------------------------------------- runs of one stride */
/* Element converters named like the types, so that one macro makes all the loops. */
#define FROM_BOOL(x) ((x) != 0)
#define FROM_SAME(x) (x)
#define TO_BOOL(x)   ((x) != 0)
#define TO_SAME(x)   (x)
/* Past the range of int64 the result is INT64_MIN, as the x86 instruction gives. */
static inline int64_t integer_of_f64(double x) { return x >= -0x1p63 && x < 0x1p63 ? (int64_t)x : INT64_MIN; }
static inline int64_t integer_of_f32(float x) { return x >= -0x1p63f && x < 0x1p63f ? (int64_t)x : INT64_MIN; }

#define LOAD_RUN(T, source_type, convert)                                                                              \
    {                                                                                                                  \
        const source_type *const from = (const source_type *)source;                                                   \
        if (stride == 1)                                                                                               \
            for (int64_t i = 0; i < count; i++)                                                                        \
                ((T *)target)[i] = (T)convert(from[i]);                                                                \
        else                                                                                                           \
            for (int64_t i = 0; i < count; i++)                                                                        \
                ((T *)target)[i] = (T)convert(from[i * stride]);                                                       \
        break;                                                                                                         \
    }
#define LOAD_CASES(T)                                                                                                  \
    switch (dtype) {                                                                                                   \
    case CR_BOOL: LOAD_RUN(T, uint8_t, FROM_BOOL)                                                                      \
    case CR_U8: LOAD_RUN(T, uint8_t, FROM_SAME)                                                                        \
    case CR_I8: LOAD_RUN(T, int8_t, FROM_SAME)                                                                         \
    case CR_I16: LOAD_RUN(T, int16_t, FROM_SAME)                                                                       \
    case CR_I32: LOAD_RUN(T, int32_t, FROM_SAME)                                                                       \
    case CR_I64: LOAD_RUN(T, int64_t, FROM_SAME)                                                                       \
    case CR_F16: LOAD_RUN(T, uint16_t, cr_f16_to_f32)                                                                  \
    case CR_BF16: LOAD_RUN(T, uint16_t, cr_bf16_to_f32)                                                                \
    case CR_F32: LOAD_RUN(T, float, FROM_SAME)                                                                         \
    case CR_F64: LOAD_RUN(T, double, FROM_SAME)                                                                        \
    default: break;                                                                                                    \
    }

static void load_run_f32(const char *source, cr_dtype dtype, int64_t stride, int64_t count, void *target) {
    LOAD_CASES(float)
}
static void load_run_f64(const char *source, cr_dtype dtype, int64_t stride, int64_t count, void *target) {
    LOAD_CASES(double)
}
static void load_run_i64(const char *source, cr_dtype dtype, int64_t stride, int64_t count, void *target) {
    LOAD_CASES(int64_t)
}

#define STORE_RUN(T, target_type, convert)                                                                             \
    {                                                                                                                  \
        target_type *const to = (target_type *)(void *)target;                                                         \
        for (int64_t i = 0; i < count; i++)                                                                            \
            to[i * stride] = (target_type)convert(((const T *)source)[i]);                                             \
        break;                                                                                                         \
    }
/* With a loop for neighbours alone, where compilers leave the loop of any stride scalar. */
#define STORE_RUN_OR_NEIGHBOURS(T, target_type, convert)                                                               \
    {                                                                                                                  \
        target_type *const near = (target_type *)(void *)target;                                                       \
        for (int64_t i = 0; i < count && stride == 1; i++)                                                             \
            near[i] = (target_type)convert(((const T *)source)[i]);                                                    \
        if (stride != 1) STORE_RUN(T, target_type, convert)                                                            \
        break;                                                                                                         \
    }
#define STORE_CASES(T, TO_INTEGER, TO_F32)                                                                             \
    switch (dtype) {                                                                                                   \
    case CR_BOOL: STORE_RUN(T, uint8_t, TO_BOOL)                                                                       \
    case CR_U8: STORE_RUN(T, uint8_t, TO_INTEGER)                                                                      \
    case CR_I8: STORE_RUN(T, int8_t, TO_INTEGER)                                                                       \
    case CR_I16: STORE_RUN(T, int16_t, TO_INTEGER)                                                                     \
    case CR_I32: STORE_RUN(T, int32_t, TO_INTEGER)                                                                     \
    case CR_I64: STORE_RUN(T, int64_t, TO_INTEGER)                                                                     \
    case CR_F16: STORE_RUN_OR_NEIGHBOURS(T, uint16_t, cr_f32_to_f16)                                                   \
    case CR_BF16: STORE_RUN(T, uint16_t, cr_f32_to_bf16)                                                               \
    case CR_F32: STORE_RUN(T, float, FROM_SAME)                                                                        \
    case CR_F64: STORE_RUN(T, double, FROM_SAME)                                                                       \
    default: break;                                                                                                    \
    }

static void store_run_f32(const void *source, cr_dtype dtype, int64_t stride, int64_t count, char *target) {
    STORE_CASES(float, integer_of_f32, )
}
static void store_run_f64(const void *source, cr_dtype dtype, int64_t stride, int64_t count, char *target) {
    STORE_CASES(double, integer_of_f64, )
}
static void store_run_i64(const void *source, cr_dtype dtype, int64_t stride, int64_t count, char *target) {
    STORE_CASES(int64_t, FROM_SAME, )
}
static void store_run_bool(const void *source, cr_dtype dtype, int64_t stride, int64_t count, char *target) {
    STORE_CASES(uint8_t, FROM_SAME, )
}

typedef void (*load_function)(const char *, cr_dtype, int64_t, int64_t, void *);
typedef void (*store_function)(const void *, cr_dtype, int64_t, int64_t, char *);
static const load_function load_runs[] = {load_run_f32, load_run_f64, load_run_i64};
static const store_function store_runs[] = {store_run_f32, store_run_f64, store_run_i64, store_run_bool};
static const size_t compute_bytes[] = {4, 8, 8, 1};
static const cr_dtype compute_dtypes[] = {CR_F32, CR_F64, CR_I64, CR_BOOL};

/* ---------------------------------------------------------------- tiles over all dims */
/* A position in the iteration, by dims. */
typedef struct cursor {
    int64_t index[CR_MAX_DIMS];
    int64_t offset; /* of the operand, in elements */
} cursor;

static cursor cursor_at(const cr_iteration *it, const cr_tile_operand *operand, int64_t start) {
    cursor at = {.offset = 0};
    for (int d = it->ndim - 1; d > 0; d--) {
        at.index[d] = start % it->sizes[d];
        start /= it->sizes[d];
        at.offset += at.index[d] * operand->strides[d];
    }
    at.index[0] = start;
    at.offset += start * operand->strides[0];
    return at;
}

/* To the first element of the next innermost row. */
static void next_row(const cr_iteration *it, const cr_tile_operand *operand, cursor *at) {
    int d = it->ndim - 1;
    at->offset -= at->index[d] * operand->strides[d];
    at->index[d] = 0;
    for (d--; d >= 0; d--) {
        at->offset += operand->strides[d];
        if (++at->index[d] < it->sizes[d]) return;
        at->offset -= it->sizes[d] * operand->strides[d];
        at->index[d] = 0;
    }
}

/* The address of a dense run of the right type, or NULL where elements must be moved. */
static char *dense_run(const cr_iteration *it, const cr_tile_operand *operand, int64_t start, int64_t count,
                       cr_dtype dtype) {
    const int inner = it->ndim - 1;
    if (operand->dtype != dtype || (operand->strides[inner] != 1 && count > 1)) return NULL;
    const size_t bytes = cr_dtype_size(dtype);
    if (inner == 0) return operand->data + (size_t)start * bytes;
    if (start % it->sizes[inner] + count > it->sizes[inner]) return NULL;
    return operand->data + (size_t)cursor_at(it, operand, start).offset * bytes;
}

const void *cr_tile_load(const cr_iteration *it, int index, int64_t start, int64_t count, cr_compute compute,
                         void *buffer) {
    const cr_tile_operand *operand = &it->operands[index];
    const char *dense = dense_run(it, operand, start, count, compute_dtypes[compute]);
    if (dense) return dense;
    const size_t bytes = cr_dtype_size(operand->dtype);
    const int inner = it->ndim - 1;
    cursor at = cursor_at(it, operand, start);
    for (int64_t done = 0; done < count;) {
        const int64_t rest = it->sizes[inner] - at.index[inner], run = count - done < rest ? count - done : rest;
        load_runs[compute](operand->data + at.offset * (int64_t)bytes, operand->dtype, operand->strides[inner], run,
                           (char *)buffer + (size_t)done * compute_bytes[compute]);
        done += run;
        if (done < count) next_row(it, operand, &at);
    }
    return buffer;
}

void *cr_tile_target(const cr_iteration *it, int index, int64_t start, int64_t count, cr_compute compute,
                     void *buffer) {
    char *dense = dense_run(it, &it->operands[index], start, count, compute_dtypes[compute]);
    return dense ? dense : buffer;
}

void cr_tile_store(const cr_iteration *it, int index, int64_t start, int64_t count, cr_compute compute,
                   const void *source, const void *buffer) {
    if (source != buffer) return;
    const cr_tile_operand *operand = &it->operands[index];
    const size_t bytes = cr_dtype_size(operand->dtype);
    const int inner = it->ndim - 1;
    cursor at = cursor_at(it, operand, start);
    for (int64_t done = 0; done < count;) {
        const int64_t rest = it->sizes[inner] - at.index[inner], run = count - done < rest ? count - done : rest;
        store_runs[compute]((const char *)source + (size_t)done * compute_bytes[compute], operand->dtype,
                            operand->strides[inner], run, operand->data + at.offset * (int64_t)bytes);
        done += run;
        if (done < count) next_row(it, operand, &at);
    }
}
