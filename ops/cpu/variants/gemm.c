/* Matrix products: matmul over batches, and linear. f32 and f64 by packed panels; bf16 too where the processor multiplies
 * it, otherwise bf16 and f16 through f32; integers plainly. */
#include "core/allocator.h"
#include "core/dtype.h"
#include "core/parallel.h"
#include "core/pool.h"
#include "ops/cpu/variants/epilogue.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

enum {
    ROWS = 6,
    DEPTH_BLOCK = 512,
    GROUP_ROWS = 24,
    GROUP_COLUMNS = 8,
    FEW_ROWS = 3,
    COLUMNS_AT_ONCE = 4, /* of a product of few rows */
    AHEAD_BYTES = 1024,  /* what such a product fetches ahead of what it reads */
    WIDE_GROUP = 512,    /* columns */
    FEW_PANELS = 4,
    SMALL_PRODUCT = 8 * 8 * 8,
    LEAST_BF16 = 32 * 32 * 32, /* more than SMALL_PRODUCT pairs */
    SMALL_SIDE_BYTES = 16 << 10
};

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

#define T          float
#define LANE_INDEX int32_t
#define LANES      (VECTOR_BYTES / 4)
#define NAMED(x)   gemm_f32_##x
#define PACKED(x)  gemm_f32_##x
#include "ops/cpu/variants/gemm_template.h"
#undef T
#undef LANE_INDEX
#undef LANES
#undef COLUMNS
#undef NAMED
#undef PACKED
#if defined(__AVX512F__) && !defined(__clang__) /* whose assembler wants the whole file compiled for it */
#define MULTIPLIES_BF16 __builtin_cpu_supports("avx512bf16")
#define PAIRS
#define T          float
#define LANE_INDEX int32_t
#define LANES      (VECTOR_BYTES / 4)
#define NAMED(x)   gemm_pairs_##x
#define PACKED(x)  gemm_f32_##x
#include "ops/cpu/variants/gemm_template.h"
#undef PAIRS
#undef T
#undef LANE_INDEX
#undef LANES
#undef COLUMNS
#undef NAMED
#undef PACKED
#endif
#define T          double
#define LANE_INDEX int64_t
#define LANES      (VECTOR_BYTES / 8)
#define NAMED(x)   gemm_f64_##x
#define PACKED(x)  gemm_f64_##x
#include "ops/cpu/variants/gemm_template.h"
#undef T
#undef LANE_INDEX
#undef LANES
#undef COLUMNS
#undef NAMED
#undef PACKED

/* ---------------------------------------------------------------- one product of any type */
typedef struct matrix {
    const char *data;
    int64_t row, column; /* strides in elements */
} matrix;

typedef struct product {
    cr_dtype dtype;
    int64_t m, n, k;
    matrix a, b;
    char *c; /* dense */
    const char *bias;
    const void *packed;          /* b, packed before; or NULL */
    const cr_epilogue *epilogue; /* NULL: none */
    int64_t image;
    int64_t threads; /* that may work on it */
    bool is_bf16;    /* a and b are; c is f32 */
    cr_dtype weight; /* of b, where it is narrower than `dtype` */
} product;

/* Integers wrap as in C; every sum is exact modulo 2^64. */
static void integer_product(const product *p) {
    for (int64_t r = 0; r < p->m; r++) {
        for (int64_t c = 0; c < p->n; c++) {
            int64_t total = 0;
            for (int64_t k = 0; k < p->k; k++)
                total += ((const int64_t *)p->a.data)[r * p->a.row + k * p->a.column] *
                         ((const int64_t *)p->b.data)[k * p->b.row + c * p->b.column];
            ((int64_t *)p->c)[r * p->n + c] = total;
        }
    }
}

#define GEMM(T, prefix, p)                                                                                             \
    (prefix##gemm) {                                                                                                   \
        .m = (p)->m, .n = (p)->n, .k = (p)->k, .a = (const T *)(p)->a.data, .b = (const T *)(p)->b.data,               \
        .a_row = (p)->a.row, .a_column = (p)->a.column, .b_row = (p)->b.row, .b_column = (p)->b.column,                \
        .c = (T *)(p)->c, .c_row = (p)->n, .bias = (const T *)(p)->bias, .packed_b = (const T *)(p)->packed,           \
        .epilogue = (p)->epilogue, .image = (p)->image, .slots = (p)->threads                                          \
    }

/* ---------------------------------------------------------------- bf16: two neighbours along k are one element */
#ifdef MULTIPLIES_BF16
typedef struct pairing {
    const uint16_t *from; /* [k][lines], rows `along` apart */
    uint32_t *to;         /* [k / 2][lines] */
    int64_t lines, along;
} pairing;

static void pair_rows(void *context, int64_t begin, int64_t end) {
    const pairing *job = context;
    for (int64_t k = begin; k < end; k++) {
        const uint16_t *low = job->from + 2 * k * job->along, *high = low + job->along;
        uint32_t *to = job->to + k * job->lines;
        for (int64_t i = 0; i < job->lines; i++)
            to[i] = (uint32_t)high[i] << 16 | low[i];
    }
}

/* A side of `depth` steps along k. Where they are neighbours it is read as pairs where it lies, else made of them in
 * `memory`. */
static const float *paired(const char *data, int64_t lines, int64_t depth, int64_t along, char *memory) {
    pairing job = {(const uint16_t *)(const void *)data, (uint32_t *)(void *)memory, lines, along};
    if (along == 1) return (const float *)(const void *)data;
    cr_parallel_for(depth / 2, CR_GRAIN_ELEMENTS / (lines + 1) + 1, pair_rows, &job);
    return (const float *)(const void *)memory;
}
static size_t pair_bytes(int64_t lines, int64_t depth, int64_t along) {
    return along == 1 ? 0 : (size_t)(lines * (depth / 2) * 4 + 63) / 64 * 64;
}

static gemm_pairs_gemm gemm_of_pairs(const product *p) {
    gemm_pairs_gemm g = GEMM(float, gemm_pairs_, p);
    const bool pairs_a = p->a.column != 1, pairs_b = p->b.row != 1;
    g.k = p->k / 2;
    g.a_row = pairs_a ? 1 : p->a.row / 2;
    g.a_column = pairs_a ? p->m : 1;
    g.b_column = pairs_b ? 1 : p->b.column / 2;
    g.b_row = pairs_b ? p->n : 1;
    return g;
}

static size_t bf16_product_bytes(const product *p) {
    const gemm_pairs_gemm g = gemm_of_pairs(p);
    return pair_bytes(p->m, p->k, p->a.column) + pair_bytes(p->n, p->k, p->b.row) +
           (size_t)gemm_pairs_memory(&g) * sizeof(float);
}

static void run_bf16_product(const product *p, char *memory) {
    gemm_pairs_gemm g = gemm_of_pairs(p);
    char *right = memory + pair_bytes(p->m, p->k, p->a.column), *rest = right + pair_bytes(p->n, p->k, p->b.row);
    g.a = paired(p->a.data, p->m, p->k, p->a.column, memory);
    g.b = paired(p->b.data, p->n, p->k, p->b.row, right);
    gemm_pairs_run(&g, (float *)(void *)rest);
}
#else
#define MULTIPLIES_BF16 false
static size_t bf16_product_bytes(const product *p) { return (void)p, 0; }
static void run_bf16_product(const product *p, char *memory) { (void)p, (void)memory; }
#endif

#include "ops/cpu/variants/narrow.h"

/* Memory that run_product needs. */
static size_t product_bytes(const product *p) {
    if (p->is_bf16) return bf16_product_bytes(p);
    if (p->dtype == CR_F32) return (size_t)gemm_f32_memory(&GEMM(float, gemm_f32_, p)) * sizeof(float);
    if (p->dtype == CR_F64) return (size_t)gemm_f64_memory(&GEMM(double, gemm_f64_, p)) * sizeof(double);
    return 0;
}

static void run_product(const product *p, void *memory) {
    if (p->is_bf16)
        run_bf16_product(p, memory);
    else if (p->dtype == CR_F32)
        gemm_f32_run(&GEMM(float, gemm_f32_, p), memory);
    else if (p->dtype == CR_F64)
        gemm_f64_run(&GEMM(double, gemm_f64_, p), memory);
    else
        integer_product(p);
}

/* As many as a job has parts are the most that can be at work. */
static int64_t most_threads(void) { return cr_num_threads() < CR_POOL_PARTS ? cr_num_threads() : CR_POOL_PARTS; }

static cr_dtype product_dtype(cr_dtype dtype) {
    return dtype == CR_F64 ? CR_F64 : cr_dtype_is_floating(dtype) ? CR_F32 : CR_I64;
}

/* Strides that a packed product can read: any but those of expanded rows and columns cost nothing. */
static matrix matrix_of(const cr_tensor *t, int row_dim, int column_dim) {
    return (matrix){cr_tensor_address(t), t->sizes[row_dim] == 1 ? t->sizes[column_dim] : t->strides[row_dim],
                    t->sizes[column_dim] == 1 ? 1 : t->strides[column_dim]};
}

/* Whether pairs along k lie where they can be read as one element, or in two rows that can be made into one. */
static bool pairs_up(const cr_tensor *t, int64_t across, int64_t along) {
    int64_t strides = across | (int64_t)((uintptr_t)cr_tensor_address(t) / 2);
    for (int d = 0; d < t->ndim - 2; d++)
        strides |= t->strides[d];
    return along == 1 ? strides % 2 == 0 : across == 1;
}

/* Whether operands of bf16 are multiplied as they are. */
static bool stays_bf16(const cr_call *call, bool is_linear) {
    const cr_tensor *a = call->inputs[0], *b = call->inputs[1];
    if (!MULTIPLIES_BF16 || a->dtype != CR_BF16 || b->dtype != CR_BF16 || a->ndim < 2 || b->ndim < 2) return false;
    const matrix left = matrix_of(a, a->ndim - 2, a->ndim - 1), right = matrix_of(b, b->ndim - 2, b->ndim - 1);
    const int64_t rows = a->sizes[a->ndim - 2], k = a->sizes[a->ndim - 1];
    return rows > FEW_ROWS && k % 2 == 0 && call->outputs[0]->numel * k > LEAST_BF16 &&
           pairs_up(a, left.row, left.column) &&
           (is_linear ? pairs_up(b, right.row, right.column) : pairs_up(b, right.column, right.row));
}

/* The right side in the product's dtype, or in its own where a linear layer's becomes f32 as it is read. */
static cr_tensor *right_side(const cr_call *call, cr_dtype dtype, bool is_linear) {
    cr_tensor *b = call->inputs[1];
    const bool is_narrow = is_linear && call->inputs[0]->dtype == CR_F32 && (b->dtype == CR_I8 || b->dtype == CR_BF16);
    if (!is_narrow) return cr_cast(b, dtype);
    return b->strides[1] == 1 || b->sizes[1] == 1 ? b : cr_contiguous(b);
}

/* The operands in the product's dtype, and what a fused layer brings along. */
typedef struct layer {
    cr_tensor *a, *b, *bias, *c;
    int64_t packed; /* columns of b, which is packed; 0: it is not */
    const cr_epilogue *epilogue;
} layer;

static bool multiply_linear(const layer *l);

/* Runs f over the result in the product's dtype, and casts it into the output where that has another one. */
static bool with_output(cr_call *call, bool (*f)(const layer *l), int64_t packed, const cr_epilogue *epilogue) {
    cr_tensor *out = call->outputs[0], *bias = call->input_count > 2 ? call->inputs[2] : NULL;
    const cr_dtype dtype = product_dtype((cr_dtype)out->dtype);
    const bool is_linear = f == multiply_linear, is_bf16 = !packed && !epilogue && stays_bf16(call, is_linear);
    const layer l = {.a = is_bf16 ? call->inputs[0] : cr_cast(call->inputs[0], dtype),
                     .b = is_bf16 ? call->inputs[1] : right_side(call, dtype, is_linear),
                     .bias = bias ? cr_contiguous(cr_cast(bias, dtype)) : NULL,
                     .c = out->dtype == (int8_t)dtype ? out : cr_empty(dtype, cr_tensor_shape(out), CR_CPU),
                     .packed = packed,
                     .epilogue = epilogue};
    if (!l.a || !l.b || !l.c || (!l.bias && bias) || !f(&l)) return false;
    return l.c == out || cr_copy_(out, l.c);
}

static bool with_epilogue(cr_call *call, bool (*f)(const layer *l)) {
    const cr_fused_product_options *o = call->attributes;
    cr_epilogue epilogue;
    if (call->outputs[0]->numel == 0) return true;
    return cr_epilogue_begin(&epilogue, call, o->program) && with_output(call, f, o->packed, &epilogue);
}

typedef struct batches_job {
    const layer *layer;
    product first;
    int64_t batches, slots;
    atomic_int_fast64_t *next; /* the batch that nobody has begun */
    size_t slot_bytes;
    char *memory;
} batches_job;

/* Where the operand's matrix of a batch begins, in elements; dims of 1 are the same for all batches. */
static int64_t batch_offset(const cr_tensor *t, const cr_tensor *c, int64_t batch) {
    int64_t offset = 0;
    for (int d = c->ndim - 3; d >= 0; batch /= c->sizes[d], d--) {
        const int own = d - (c->ndim - t->ndim);
        if (own >= 0 && t->sizes[own] != 1) offset += batch % c->sizes[d] * t->strides[own];
    }
    return offset;
}

static void run_batch(const batches_job *job, int64_t batch, void *memory) {
    const layer *l = job->layer;
    const int64_t size = (int64_t)cr_dtype_size((cr_dtype)l->a->dtype);
    product p = job->first;
    p.a.data += batch_offset(l->a, l->c, batch) * size;
    if (!l->packed) p.b.data += batch_offset(l->b, l->c, batch) * size;
    p.c += batch * p.m * p.n * (int64_t)cr_dtype_size(p.dtype);
    p.image = batch;
    run_product(&p, memory);
}

static void run_slots(void *context, int64_t begin, int64_t end) {
    const batches_job *job = context;
    const int64_t chunk = job->batches / job->slots / 8 + 1;
    for (int64_t slot = begin; slot < end; slot++)
        for (int64_t at; (at = atomic_fetch_add_explicit(job->next, chunk, memory_order_relaxed)) < job->batches;)
            for (int64_t batch = at; batch < at + chunk && batch < job->batches; batch++)
                run_batch(job, batch, job->memory + slot * (int64_t)job->slot_bytes);
}

/* Many products: each thread runs whole ones. Few: each is cut. */
static bool multiply_batches(const layer *l) {
    const cr_tensor *a = l->a, *b = l->b, *c = l->c;
    const int batch_dims = c->ndim - 2;
    atomic_int_fast64_t next = 0;
    batches_job job = {.layer = l, .batches = 1, .slots = 1, .next = &next};
    job.first = (product){.dtype = (cr_dtype)c->dtype,
                          .m = c->sizes[batch_dims],
                          .n = c->sizes[batch_dims + 1],
                          .k = a->sizes[a->ndim - 1],
                          .a = matrix_of(a, a->ndim - 2, a->ndim - 1),
                          .b = l->packed ? (matrix){cr_tensor_address(b), l->packed, 1}
                                         : matrix_of(b, b->ndim - 2, b->ndim - 1),
                          .c = cr_tensor_address(c),
                          .packed = l->packed ? cr_tensor_address(b) : NULL,
                          .epilogue = l->epilogue,
                          .threads = most_threads(),
                          .is_bf16 = a->dtype == CR_BF16};
    if (c->numel == 0) return true;
    for (int d = 0; d < batch_dims; d++)
        job.batches *= c->sizes[d];
    const int64_t slots = job.first.threads;
    if (slots > 1 && job.batches >= 2 * slots && (double)c->numel * (double)job.first.k > 16.0 * CR_GRAIN_ELEMENTS)
        job.slots = slots, job.first.threads = 1;
    job.slot_bytes = (product_bytes(&job.first) + 63) / 64 * 64;
    const size_t bytes = job.slot_bytes * (size_t)job.slots;
    if (bytes && !(job.memory = cr_block_allocate(bytes))) return false;
    if (job.slots == 1)
        run_slots(&job, 0, 1);
    else
        cr_parallel_for(job.slots, 1, run_slots, &job);
    if (bytes) cr_block_free(job.memory, bytes);
    return true;
}

CR_KERNEL(matmul) { return with_output(call, multiply_batches, 0, NULL); }
CR_KERNEL(fused_matmul) { return with_epilogue(call, multiply_batches); }

static bool multiply_linear(const layer *l) {
    cr_tensor *x = cr_contiguous(l->a);
    if (!x) return false;
    const int64_t in = x->sizes[x->ndim - 1], out = l->c->sizes[l->c->ndim - 1];
    const product p = {.dtype = (cr_dtype)l->c->dtype,
                       .m = out ? l->c->numel / out : 0,
                       .n = out,
                       .k = in,
                       .a = {cr_tensor_address(x), in, 1},
                       .b = l->packed ? (matrix){cr_tensor_address(l->b), 1, in} : matrix_of(l->b, 1, 0),
                       .c = cr_tensor_address(l->c),
                       .bias = l->bias ? cr_tensor_address(l->bias) : NULL,
                       .packed = l->packed ? cr_tensor_address(l->b) : NULL,
                       .epilogue = l->epilogue,
                       .threads = most_threads(),
                       .is_bf16 = x->dtype == CR_BF16,
                       .weight = (cr_dtype)l->b->dtype};
    if (p.weight != p.dtype && !p.is_bf16) return run_narrow(&p);
    const size_t bytes = product_bytes(&p);
    void *memory = bytes ? cr_block_allocate(bytes) : NULL;
    if (bytes && !memory) return false;
    run_product(&p, memory);
    if (bytes) cr_block_free(memory, bytes);
    return true;
}
CR_KERNEL(linear) { return with_output(call, multiply_linear, 0, NULL); }
CR_KERNEL(narrow_linear) { return with_output(call, multiply_linear, 0, NULL); }
CR_KERNEL(fused_linear) { return with_epilogue(call, multiply_linear); }

/* ---------------------------------------------------------------- right sides packed once */
#define PACKED_ELEMENTS(prefix)                                                                                        \
    {                                                                                                                  \
        const prefix##gemm g = {.m = m, .n = n, .k = k, .b_column = transposed ? k : 1};                               \
        return prefix##tiles(&g) ? prefix##b_elements(&g) : 0;                                                         \
    }
int64_t CR_NAME(cr_packed_columns)(int64_t m, int64_t n, int64_t k, cr_dtype dtype, bool transposed);
int64_t CR_NAME(cr_packed_columns)(int64_t m, int64_t n, int64_t k, cr_dtype dtype, bool transposed) {
    if (dtype == CR_F64) PACKED_ELEMENTS(gemm_f64_)
    PACKED_ELEMENTS(gemm_f32_)
}

#define PACK(T, prefix)                                                                                                \
    {                                                                                                                  \
        prefix##gemm g = {.n = n, .k = k, .b = cr_tensor_address(b), .b_row = side.row, .b_column = side.column};      \
        prefix##pack_all_b(&g, (T *)cr_tensor_address(call->outputs[0]));                                              \
        return true;                                                                                                   \
    }
CR_KERNEL(pack_columns) {
    const cr_pack_columns_options *o = call->attributes;
    const cr_tensor *b = call->inputs[0];
    const int rows = o->transposed ? 1 : 0;
    const int64_t k = b->sizes[rows], n = b->sizes[1 - rows];
    const matrix side = matrix_of(b, rows, 1 - rows);
    if (b->dtype == CR_F64) PACK(double, gemm_f64_)
    PACK(float, gemm_f32_)
}
