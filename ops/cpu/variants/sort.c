/* sort, argsort, topk. Elements become unsigned keys of the same order (NaN above all, both zeros equal, turned round
 * for a descending order), and each line's keys, with their places, are sorted or selected as integers. The order of
 * places is unique (equal keys keep theirs), so neither threads nor the algorithm show in the result. */
#include "core/dtype.h"
#include "core/parallel.h"
#include "ops/cpu/variant.h"
#include "ops/indexing.h"
#include "ops/math.h"

#include <string.h>

enum { CHUNK = 256, SHORT = 16, ROOM = 64 };

typedef struct sort_job {
    const char *source;
    size_t bytes; /* of an element */
    cr_dtype dtype;
    bool descending;
    int64_t length, kept, inner; /* of a line; of its sorted elements; between its elements */
    int64_t lines, slots;        /* slots: threads that share the lines out */
    int64_t room;                /* items in one of a slot's two buffers */
    char *scratch, *values;      /* values: NULL where only places are wanted */
    int64_t *indices;
} sort_job;

static inline void move_element(const sort_job *job, int64_t to, const char *line, int64_t from) {
    switch (job->bytes) {
    case 1: ((uint8_t *)job->values)[to] = ((const uint8_t *)line)[from]; break;
    case 2: ((uint16_t *)(void *)job->values)[to] = ((const uint16_t *)(const void *)line)[from]; break;
    case 4: ((uint32_t *)(void *)job->values)[to] = ((const uint32_t *)(const void *)line)[from]; break;
    default: ((uint64_t *)(void *)job->values)[to] = ((const uint64_t *)(const void *)line)[from]; break;
    }
}

/* ---------------------------------------------------------------- keys */
static inline uint32_t key_of_f32(float x) {
    const uint32_t bits = x == 0 ? 0 : cr_bits_from_f32(x);
    const uint32_t key = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return x != x ? UINT32_MAX : key;
}
static inline uint64_t key_of_f64(double x) {
    uint64_t bits;
    memcpy(&bits, &x, sizeof bits);
    bits = x == 0 ? 0 : bits;
    const uint64_t key = bits >> 63 ? ~bits : bits | 0x8000000000000000u;
    return x != x ? UINT64_MAX : key;
}
#define KEY_F16(x)       key_of_f32(cr_f16_to_f32(x))
#define KEY_BF16(x)      key_of_f32(cr_bf16_to_f32(x))
#define KEY_BOOL(x)      ((x) != 0)
#define KEY_SIGNED_32(x) ((uint32_t)(int32_t)(x) ^ 0x80000000u)
#define KEY_SIGNED_64(x) ((uint64_t)(x) ^ 0x8000000000000000u)
#define KEY_SAME(x)      (x)
#define READ_KEYS(T, key_of)                                                                                           \
    {                                                                                                                  \
        const T *const from = (const T *)(const void *)line + start * job->inner;                                      \
        if (job->inner == 1)                                                                                           \
            for (int64_t i = 0; i < count; i++)                                                                        \
                keys[i] = key_of(from[i]) ^ turn;                                                                      \
        else                                                                                                           \
            for (int64_t i = 0; i < count; i++)                                                                        \
                keys[i] = key_of(from[i * job->inner]) ^ turn;                                                         \
        break;                                                                                                         \
    }

static void read_keys_32(const sort_job *job, const char *line, int64_t start, int64_t count, uint32_t *keys) {
    const uint32_t turn = job->descending ? UINT32_MAX : 0;
    switch (job->dtype) {
    case CR_F32: READ_KEYS(float, key_of_f32)
    case CR_F16: READ_KEYS(uint16_t, KEY_F16)
    case CR_BF16: READ_KEYS(uint16_t, KEY_BF16)
    case CR_I32: READ_KEYS(int32_t, KEY_SIGNED_32)
    case CR_I16: READ_KEYS(int16_t, KEY_SIGNED_32)
    case CR_I8: READ_KEYS(int8_t, KEY_SIGNED_32)
    case CR_U8: READ_KEYS(uint8_t, KEY_SAME)
    default: READ_KEYS(uint8_t, KEY_BOOL)
    }
}
static void read_keys_64(const sort_job *job, const char *line, int64_t start, int64_t count, uint64_t *keys) {
    const uint64_t turn = job->descending ? UINT64_MAX : 0;
    switch (job->dtype) {
    case CR_F64: READ_KEYS(double, key_of_f64)
    default: READ_KEYS(int64_t, KEY_SIGNED_64)
    }
}

/* ---------------------------------------------------------------- items of both widths */
typedef unsigned __int128 wide_item;
#define ITEM       uint64_t
#define KEY        uint32_t
#define SUFFIX     32
#define INDEX_BITS 32
#include "ops/cpu/variants/sort_template.h"
#define ITEM       wide_item
#define KEY        uint64_t
#define SUFFIX     64
#define INDEX_BITS 64
#include "ops/cpu/variants/sort_template.h"

/* ---------------------------------------------------------------- the driver */
/* Sorts the lines of `dim`, of which the outputs keep the first as many as they have room for. */
static bool run_sort(cr_call *call, int dim, bool descending, cr_tensor *values, cr_tensor *indices) {
    cr_tensor *input = cr_contiguous(call->inputs[0]);
    if (!input) return false;
    if (indices->numel == 0) return true;
    sort_job job = {.source = cr_tensor_address(input),
                    .dtype = (cr_dtype)input->dtype,
                    .bytes = cr_dtype_size((cr_dtype)input->dtype),
                    .descending = descending,
                    .length = 1,
                    .kept = 1,
                    .inner = 1,
                    .values = values ? cr_tensor_address(values) : NULL,
                    .indices = cr_tensor_address(indices)};
    if (input->ndim) {
        job.length = input->sizes[dim];
        job.kept = indices->sizes[dim];
        for (int d = dim + 1; d < input->ndim; d++)
            job.inner *= input->sizes[d];
    }
    if (job.length > UINT32_MAX)
        return cr_fail_call(call, CR_ERROR_UNSUPPORTED, "lines of more than 2^32 - 1 elements");
    const bool is_wide = job.bytes == 8;
    job.lines = input->numel / job.length;
    const bool is_short = job.lines * job.length < CR_GRAIN_ELEMENTS / 8;
    job.slots = is_short ? 1 : cr_num_threads() < job.lines ? cr_num_threads() : job.lines;
    job.room = job.kept == job.length ? job.length : job.kept * 2 > ROOM ? job.kept * 2 : ROOM;
    const int64_t item_bytes = is_wide ? (int64_t)sizeof(wide_item) : (int64_t)sizeof(uint64_t);
    cr_tensor *scratch = cr_empty(CR_U8, CR_SHAPE(2 * job.slots * job.room, item_bytes), CR_CPU);
    if (!scratch) return false;
    job.scratch = cr_tensor_address(scratch);
    cr_parallel_for(job.slots, 1, is_wide ? sort_slots_64 : sort_slots_32, &job);
    return true;
}

static int dim_of(const cr_call *call, int64_t dim) { return (int)(dim < 0 ? dim + call->inputs[0]->ndim : dim); }

CR_KERNEL(argsort) {
    const cr_sort_options *o = call->attributes;
    return run_sort(call, dim_of(call, o->dim), o->descending, NULL, call->outputs[0]);
}
CR_KERNEL(sort) {
    const cr_sort_options *o = call->attributes;
    return run_sort(call, dim_of(call, o->dim), o->descending, call->outputs[0], call->outputs[1]);
}
CR_KERNEL(topk) {
    const cr_topk_options *o = call->attributes;
    return run_sort(call, dim_of(call, o->dim), o->largest, call->outputs[0], call->outputs[1]);
}
