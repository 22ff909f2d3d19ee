/* Products of f32 rows with weights of fewer bits, [n][k] of bf16 or i8, which become f32 as they are read: few rows wait for
 * memory, and this is less of it. For gemm.c. */

typedef int32_t narrow_words __attribute__((vector_size(VECTOR_BYTES)));
typedef int32_t narrow_loose __attribute__((vector_size(VECTOR_BYTES), aligned(1), may_alias));
enum {
    NARROW_LANES = VECTOR_BYTES / 4,
    NARROW_COLUMNS = 2 * NARROW_LANES,
    NARROW_FEW_ROWS = 8,   /* more pay for widening */
    LONG_LINE = 4096,      /* bytes */
    NARROW_GROUP_ROWS = 96 /* panels of a task */
};

/* How many neighbours a word of 32 bits holds. `dtype` is a constant after inlining, here and below. */
static inline __attribute__((always_inline)) int64_t narrow_parts(const cr_dtype dtype) {
    return dtype == CR_BF16 ? 2 : 4;
}
/* How many lines of the weight are read in turns. Two with vectors of 64 bytes: the row stays in the nearest cache. */
static inline __attribute__((always_inline)) int lines_at_once(const cr_dtype dtype) {
    return dtype == CR_BF16 && VECTOR_BYTES == 64 ? 2 : COLUMNS_AT_ONCE;
}
static inline __attribute__((always_inline)) float widened(const cr_dtype dtype, const char *from, int64_t at) {
    return dtype == CR_BF16 ? cr_bf16_to_f32(((const uint16_t *)(const void *)from)[at])
                            : (float)((const int8_t *)from)[at];
}

/* ---------------------------------------------------------------- few rows */
/* Part `part` of each word: bf16 is the upper half of an f32. */
static inline __attribute__((always_inline)) gemm_f32_vector narrow_part(const cr_dtype dtype, narrow_words words,
                                                                         const int part) {
    if (dtype == CR_BF16) return (gemm_f32_vector)(part ? words & (int32_t)0xffff0000 : words << 16);
    return __builtin_convertvector((part < 3 ? words << (24 - 8 * part) : words) >> 24, gemm_f32_vector);
}

/* A row in the order in which words of the weight are taken apart: of a vector's words the first parts, then the second
 * ones, …. What fills no vector stays. */
static void narrow_order(const float *from, int64_t count, int64_t parts, float *to) {
    const int64_t block = parts * NARROW_LANES, whole = count / block * block;
    for (int64_t at = 0; at < whole; at += block)
        for (int64_t part = 0; part < parts; part++)
            for (int64_t word = 0; word < NARROW_LANES; word++)
                to[at + part * NARROW_LANES + word] = from[at + word * parts + part];
    for (int64_t at = whole; at < count; at++)
        to[at] = from[at];
}

/* sums[i] = Σ_k a[k] · b[i][k] of COLUMNS_AT_ONCE lines of the weight; a in narrow_order. */
static inline __attribute__((always_inline)) void narrow_dots(const cr_dtype dtype, const float *a,
                                                              const char *const b[COLUMNS_AT_ONCE], int64_t count,
                                                              float sums[COLUMNS_AT_ONCE]) {
    const int64_t parts = narrow_parts(dtype), block = parts * NARROW_LANES;
    gemm_f32_vector vectors[COLUMNS_AT_ONCE][2] = {{{0}}}, joined[COLUMNS_AT_ONCE];
    int64_t k = 0;
#pragma GCC unroll 2
    for (int first = 0; first < COLUMNS_AT_ONCE; first += lines_at_once(dtype))
        for (k = 0; k + block <= count; k += block) {
#pragma GCC unroll 4
            for (int i = first; i < first + lines_at_once(dtype); i++) {
                const narrow_words words = *(const narrow_loose *)(b[i] + k * (4 / parts));
#pragma GCC unroll 4
                for (int part = 0; part < parts; part++)
                    vectors[i][part % 2] +=
                        gemm_f32_load_vector(a + k + part * NARROW_LANES) * narrow_part(dtype, words, part);
            }
        }
#pragma GCC unroll 4
    for (int i = 0; i < COLUMNS_AT_ONCE; i++)
        joined[i] = vectors[i][0] + vectors[i][1];
    gemm_f32_fold_four(joined, false, sums);
    for (int i = 0; i < COLUMNS_AT_ONCE; i++)
        for (int64_t rest = k; rest < count; rest++)
            sums[i] += a[rest] * widened(dtype, b[i], rest);
}

static void bf16_dots(const void *row, const char *const b[COLUMNS_AT_ONCE], int64_t count, float *sums) {
    narrow_dots(CR_BF16, row, b, count, sums);
}
static void i8_dots(const void *row, const char *const b[COLUMNS_AT_ONCE], int64_t count, float *sums) {
    narrow_dots(CR_I8, row, b, count, sums);
}

typedef struct narrow_rows {
    const product *p;
    void (*dots)(const void *row, const char *const b[COLUMNS_AT_ONCE], int64_t count, float *sums);
    const void *rows[NARROW_FEW_ROWS]; /* as `dots` wants them */
} narrow_rows;

/* Columns begin … end-1 of every row: lines of the weight from places far from each other, as in f32, but long ones from no
 * more places than are read at once. */
static void narrow_few_rows(void *context, int64_t begin, int64_t end) {
    const narrow_rows *job = context;
    const product *p = job->p;
    const int64_t line = p->b.column * 4 / narrow_parts(p->weight),
                  places = line > LONG_LINE ? lines_at_once(p->weight) : COLUMNS_AT_ONCE,
                  gap = (end - begin + places - 1) / places;
    const float *bias = (const float *)(const void *)p->bias;
    for (int64_t first = begin; first < begin + gap; first += COLUMNS_AT_ONCE / places) {
        const char *b[COLUMNS_AT_ONCE];
        int64_t columns[COLUMNS_AT_ONCE];
        for (int i = 0; i < COLUMNS_AT_ONCE; i++) {
            const int64_t column = first + i / places + i % places * gap;
            columns[i] = column < end ? column : end - 1;
            b[i] = p->b.data + columns[i] * line;
        }
        for (int64_t row = 0; row < p->m; row++) {
            float sums[COLUMNS_AT_ONCE], *c = (float *)(void *)p->c + row * p->n;
            job->dots(job->rows[row], b, p->k, sums);
            for (int i = 0; i < COLUMNS_AT_ONCE; i++)
                c[columns[i]] = sums[i] + (bias ? bias[columns[i]] : 0);
        }
    }
    if (p->epilogue && begin < end) cr_epilogue_run(p->epilogue, p->image, 0, p->m, begin, end - begin);
}

#include "ops/cpu/variants/narrow_bytes.h"

static const float *narrow_row(const product *p, int64_t row) {
    return (const float *)(const void *)p->a.data + row * p->a.row;
}

static bool run_narrow_few(const product *p) {
    float largest[NARROW_FEW_ROWS] = {0};
    bool by_digits = p->weight == CR_I8 && multiplies_digits(p->k);
    for (int64_t row = 0; by_digits && row < p->m; row++)
        by_digits = has_even_sizes(narrow_row(p, row), p->k, &largest[row]);
    const size_t each = by_digits ? digit_row_bytes(p->k) : ((size_t)p->k * sizeof(float) + 63) / 64 * 64,
                 bytes = (size_t)p->m * each + 1;
    narrow_rows job = {p, by_digits ? digit_dots : p->weight == CR_BF16 ? bf16_dots : i8_dots, {NULL}};
    char *memory = cr_block_allocate(bytes);
    if (!memory) return false;
    for (int64_t row = 0; row < p->m; row++) {
        void *to = memory + (size_t)row * each;
        if (by_digits)
            make_digits(narrow_row(p, row), p->k, largest[row], to);
        else
            narrow_order(narrow_row(p, row), p->k, narrow_parts(p->weight), to);
        job.rows[row] = to;
    }
    cr_parallel_for(p->n, CR_GRAIN_ELEMENTS * 2 / (p->m * (p->k + 1)) + NARROW_LANES, narrow_few_rows, &job);
    cr_block_free(memory, bytes);
    return true;
}

/* ---------------------------------------------------------------- many rows */
/* A task makes a packed panel of DEPTH_BLOCK steps of the weight, in f32, and multiplies some panels of rows by it. */
typedef struct narrow_job {
    const product *p;
    gemm_f32_gemm gemm;
    int64_t row_groups, tasks, slot_elements;
    atomic_int_fast64_t *next; /* the task that nobody has begun */
    float *memory;             /* [slots][slot_elements] */
} narrow_job;

/* Whether all lines are whole words that can be read as such. */
static bool is_of_words(const product *p) {
    const int64_t parts = narrow_parts(p->weight);
    return (uintptr_t)p->b.data % 4 == 0 && p->b.column % parts == 0 && p->k % parts == 0;
}

/* words [count][NARROW_COLUMNS], each of neighbours along k, as steps of a panel. */
static inline __attribute__((always_inline)) void take_apart(const cr_dtype dtype, const float *words, int64_t count,
                                                             float *panel) {
    const int64_t parts = narrow_parts(dtype);
    for (int64_t i = 0; i < count; i++, words += NARROW_COLUMNS, panel += parts * NARROW_COLUMNS)
#pragma GCC unroll 2
        for (int64_t at = 0; at < NARROW_COLUMNS; at += NARROW_LANES)
#pragma GCC unroll 4
            for (int part = 0; part < parts; part++)
                *(gemm_f32_loose *)(panel + part * NARROW_COLUMNS + at) =
                    narrow_part(dtype, (narrow_words)gemm_f32_load_vector(words + at), part);
}

/* Steps start … start+depth-1 of columns first … first+columns-1 as one packed panel. spare: as large. Words are transposed
 * before they are taken apart: fewer steps. */
static void narrow_pack(const product *p, int64_t first, int64_t columns, int64_t start, int64_t depth, float *spare,
                        float *panel) {
    const int64_t parts = narrow_parts(p->weight), at = first * p->b.column + start;
    const char *from = p->b.data + at * 4 / parts;
    if (is_of_words(p)) {
        gemm_f32_side words = {
            (const float *)(const void *)from, columns, p->b.column / parts, 1, depth / parts, spare, 0};
        gemm_f32_pack_b(&words, 0, 1);
        if (p->weight == CR_BF16)
            take_apart(CR_BF16, spare, depth / 2, panel);
        else
            take_apart(CR_I8, spare, depth / 4, panel);
        return;
    }
    gemm_f32_side side = {spare, columns, depth, 1, depth, panel, 0};
    for (int64_t i = 0; i < columns; i++)
        for (int64_t k = 0; k < depth; k++)
            spare[i * depth + k] = p->weight == CR_BF16 ? widened(CR_BF16, p->b.data, at + i * p->b.column + k)
                                                        : widened(CR_I8, p->b.data, at + i * p->b.column + k);
    gemm_f32_pack_b(&side, 0, 1);
}

/* One of `count` equal shares of what is packed next, which comes from memory: lines of the weight from column `first` on. */
static void narrow_prefetch(const product *p, int64_t first, int64_t start, int64_t share, int64_t count) {
    const int64_t parts = narrow_parts(p->weight), last = first + NARROW_COLUMNS < p->n ? first + NARROW_COLUMNS : p->n,
                  bytes = (p->k - start < DEPTH_BLOCK ? p->k - start : DEPTH_BLOCK) * 4 / parts;
    for (int64_t i = first + share; i < last; i += count)
        for (int64_t at = 0; at < bytes; at += 64)
            cr_prefetch(p->b.data + (i * p->b.column + start) * 4 / parts + at);
}

static void narrow_task(const narrow_job *job, int64_t task, float *memory) {
    const product *p = job->p;
    const gemm_f32_gemm *g = &job->gemm;
    const int64_t panels = gemm_f32_panels(g->m, ROWS), group = task % job->row_groups,
                  row = group * panels / job->row_groups, row_end = (group + 1) * panels / job->row_groups;
    const int64_t panel = task / job->row_groups, column = panel * NARROW_COLUMNS,
                  columns = g->n - column < NARROW_COLUMNS ? g->n - column : NARROW_COLUMNS;
    float *packed = memory + NARROW_COLUMNS * DEPTH_BLOCK;
    for (int64_t start = 0; start < g->k || (start == 0 && g->k == 0); start += DEPTH_BLOCK) {
        const int64_t depth = g->k - start < DEPTH_BLOCK ? g->k - start : DEPTH_BLOCK;
        narrow_pack(p, column, columns, start, depth, memory, packed);
        const bool is_last = start + depth >= g->k;
        for (int64_t r = row; r < row_end; r++) {
            narrow_prefetch(p, is_last ? column + NARROW_COLUMNS : column, is_last ? 0 : start + depth, r - row,
                            row_end - row);
            gemm_f32_run_tile(g, r, panel, start, depth, NULL, packed, NARROW_COLUMNS);
        }
    }
    const int64_t first = gemm_f32_first_row(g->m, row), last = gemm_f32_first_row(g->m, row_end);
    if (p->epilogue) cr_epilogue_run(p->epilogue, p->image, first, last - first, column, columns);
}

static void narrow_slots(void *context, int64_t begin, int64_t end) {
    const narrow_job *job = context;
    for (int64_t slot = begin, task; slot < end; slot++)
        while ((task = atomic_fetch_add_explicit(job->next, 1, memory_order_relaxed)) < job->tasks)
            narrow_task(job, task, job->memory + slot * job->slot_elements);
}

/* p->a and p->b in rows along k, p->c dense. */
static bool run_narrow(const product *p) {
    if (p->m == 0 || p->n == 0) return true;
    if (p->m <= NARROW_FEW_ROWS) return run_narrow_few(p);
    atomic_int_fast64_t next = 0;
    const int64_t panels = gemm_f32_panels(p->m, ROWS);
    narrow_job job = {.p = p, .gemm = GEMM(float, gemm_f32_, p), .next = &next};
    job.row_groups = (panels + NARROW_GROUP_ROWS - 1) / NARROW_GROUP_ROWS;
    job.tasks = gemm_f32_panels(p->n, NARROW_COLUMNS) * job.row_groups;
    job.slot_elements = 2 * NARROW_COLUMNS * DEPTH_BLOCK + 64;
    const bool is_small = (double)p->m * (double)p->n * (double)p->k < 16.0 * CR_GRAIN_ELEMENTS;
    const int64_t slots = is_small ? 1 : p->threads < job.tasks ? p->threads : job.tasks;
    const size_t bytes = (size_t)(slots * job.slot_elements) * sizeof(float);
    if (!(job.memory = cr_block_allocate(bytes))) return false;
    cr_parallel_for(slots, 1, narrow_slots, &job);
    cr_block_free(job.memory, bytes);
    return true;
}
