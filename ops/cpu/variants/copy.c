/* Copies between two layouts of one dtype. The work is cut into blocks of two dims: `b`, the output's innermost, and
 * `a`, along which the input is dense (a transpose) or the next one out (rows). */
#include "ops/cpu/variants/copy.h"
#include "core/dtype.h"
#include "core/parallel.h"

#include <string.h>

enum { BLOCK_ELEMENTS = 16 * 1024, BLOCK_COLUMNS = 256, TILE = 8, LINE = 16 };

typedef struct plane {
    char *out;
    const char *in;
    int64_t rows, columns;                          /* a, b */
    int64_t out_row, out_column, in_row, in_column; /* strides in elements */
} plane;

typedef struct copy_job {
    plane whole; /* at the first element of the outer dims */
    void (*copy)(const plane *p);
    int64_t block_rows, block_columns, row_blocks, column_blocks;
    size_t size; /* of an element */
    int outer;
    int64_t sizes[CR_MAX_DIMS], out_strides[CR_MAX_DIMS], in_strides[CR_MAX_DIMS];
} copy_job;

/* ---------------------------------------------------------------- strided planes of any element size */
#define COPY_STRIDED(T)                                                                                                \
    static void copy_strided_##T(const plane *p) {                                                                     \
        for (int64_t a = 0; a < p->rows; a++) {                                                                        \
            T *const out = (T *)(void *)p->out + a * p->out_row;                                                       \
            const T *const in = (const T *)(const void *)p->in + a * p->in_row;                                        \
            const int64_t to = p->out_column, from = p->in_column;                                                     \
            if (to == 1 && from == 0)                                                                                  \
                for (int64_t b = 0; b < p->columns; b++)                                                               \
                    out[b] = in[0];                                                                                    \
            else if (to == 1 && from == 1)                                                                             \
                for (int64_t b = 0; b < p->columns; b++)                                                               \
                    out[b] = in[b];                                                                                    \
            else                                                                                                       \
                for (int64_t b = 0; b < p->columns; b++)                                                               \
                    out[b * to] = in[b * from];                                                                        \
        }                                                                                                              \
    }
COPY_STRIDED(uint8_t)
COPY_STRIDED(uint16_t)
COPY_STRIDED(uint32_t)
COPY_STRIDED(uint64_t)

/* Where the output lies just ahead of the input within a page (4 KiB), processors take each load for one of what was
 * just stored, and wait: such rows are copied from their end. */
static void copy_row(char *out, const char *in, size_t bytes) {
    enum { PAGE = 4096, NEAR = 512, PIECE = 128 };
    const size_t ahead = ((uintptr_t)out - (uintptr_t)in) % PAGE;
    if (ahead > 0 && ahead < NEAR)
        for (; bytes >= PIECE; bytes -= PIECE)
            memcpy(out + bytes - PIECE, in + bytes - PIECE, PIECE);
    memcpy(out, in, bytes);
}

#define COPY_ROWS(T)                                                                                                   \
    static void copy_rows_##T(const plane *p) {                                                                        \
        for (int64_t a = 0; a < p->rows; a++)                                                                          \
            copy_row(p->out + (size_t)(a * p->out_row) * sizeof(T), p->in + (size_t)(a * p->in_row) * sizeof(T),       \
                     (size_t)p->columns * sizeof(T));                                                                  \
    }
COPY_ROWS(uint8_t)
COPY_ROWS(uint16_t)
COPY_ROWS(uint32_t)
COPY_ROWS(uint64_t)

/* ---------------------------------------------------------------- transposes: out is dense along b, in along a */
typedef uint32_t words __attribute__((vector_size(32)));

static inline words load_words(const uint32_t *from) {
    words w;
    memcpy(&w, from, sizeof w);
    return w;
}

/* TILE x TILE words: pairs, then pairs of pairs, then halves change places. */
static inline void transpose_tile(uint32_t *out, int64_t out_stride, const uint32_t *in, int64_t in_stride) {
    words r[TILE], s[TILE];
    for (int i = 0; i < TILE; i++)
        r[i] = load_words(in + i * in_stride);
    for (int i = 0; i < TILE; i += 2) {
        s[i] = __builtin_shufflevector(r[i], r[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
        s[i + 1] = __builtin_shufflevector(r[i], r[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
    }
    for (int i = 0; i < TILE; i += 4) {
        r[i] = __builtin_shufflevector(s[i], s[i + 2], 0, 1, 8, 9, 4, 5, 12, 13);
        r[i + 1] = __builtin_shufflevector(s[i], s[i + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        r[i + 2] = __builtin_shufflevector(s[i + 1], s[i + 3], 0, 1, 8, 9, 4, 5, 12, 13);
        r[i + 3] = __builtin_shufflevector(s[i + 1], s[i + 3], 2, 3, 10, 11, 6, 7, 14, 15);
    }
    for (int i = 0; i < TILE / 2; i++) {
        s[i] = __builtin_shufflevector(r[i], r[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        s[i + 4] = __builtin_shufflevector(r[i], r[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    for (int i = 0; i < TILE; i++)
        memcpy(out + i * out_stride, &s[i], sizeof s[i]);
}

static void transpose_line(uint32_t *out, int64_t out_stride, const uint32_t *in, int64_t in_stride) {
    for (int a = 0; a < LINE; a += TILE)
        for (int b = 0; b < LINE; b += TILE)
            transpose_tile(out + a * out_stride + b, out_stride, in + b * in_stride + a, in_stride);
}

/* LINE columns at a time: as many streams of the input, read line by line, fill whole lines of the output. */
#define COPY_TRANSPOSED(T)                                                                                             \
    static void copy_transposed_##T(const plane *p) {                                                                  \
        T *const out = (T *)(void *)p->out;                                                                            \
        const T *const in = (const T *)(const void *)p->in;                                                            \
        const int64_t to = p->out_row, from = p->in_column;                                                            \
        for (int64_t b = 0; b < p->columns; b += LINE) {                                                               \
            const int64_t b_end = b + LINE < p->columns ? b + LINE : p->columns;                                       \
            int64_t a = 0;                                                                                             \
            for (; sizeof(T) == 4 && b_end - b == LINE && a + LINE <= p->rows; a += LINE)                              \
                transpose_line((uint32_t *)(void *)(out + a * to + b), to,                                             \
                               (const uint32_t *)(const void *)(in + b * from + a), from);                             \
            for (; a < p->rows; a++)                                                                                   \
                for (int64_t k = b; k < b_end; k++)                                                                    \
                    out[a * to + k] = in[k * from + a];                                                                \
        }                                                                                                              \
    }
COPY_TRANSPOSED(uint8_t)
COPY_TRANSPOSED(uint16_t)
COPY_TRANSPOSED(uint32_t)
COPY_TRANSPOSED(uint64_t)

void cr_transpose_f32(float *to, int64_t to_row, const float *from, int64_t from_row, int64_t rows, int64_t columns) {
    copy_transposed_uint32_t(&(plane){(char *)to, (const char *)from, rows, columns, to_row, 1, 1, from_row});
}

/* ---------------------------------------------------------------- the driver */
static void copy_blocks(void *context, int64_t begin, int64_t end) {
    const copy_job *job = context;
    for (int64_t unit = begin; unit < end; unit++) {
        const int64_t block = unit % (job->row_blocks * job->column_blocks);
        const int64_t a = block / job->column_blocks * job->block_rows,
                      b = block % job->column_blocks * job->block_columns;
        int64_t rest = unit / (job->row_blocks * job->column_blocks);
        plane p = job->whole;
        int64_t out = a * p.out_row + b * p.out_column, in = a * p.in_row + b * p.in_column;
        for (int d = job->outer - 1; d >= 0; d--) {
            out += rest % job->sizes[d] * job->out_strides[d];
            in += rest % job->sizes[d] * job->in_strides[d];
            rest /= job->sizes[d];
        }
        p.out += out * (int64_t)job->size;
        p.in += in * (int64_t)job->size;
        if (p.rows - a < job->block_rows)
            p.rows -= a;
        else
            p.rows = job->block_rows;
        if (p.columns - b < job->block_columns)
            p.columns -= b;
        else
            p.columns = job->block_columns;
        job->copy(&p);
    }
}

/* Which dim, other than the innermost, the input is dense along; -1: none. */
static int dense_dim(const cr_iteration *it) {
    for (int d = it->ndim - 2; d >= 0; d--)
        if (it->operands[1].strides[d] == 1) return d;
    return -1;
}

static void choose_copy(copy_job *job, bool is_transpose) {
    typedef void (*copier)(const plane *);
    static const copier strided[] = {copy_strided_uint8_t, copy_strided_uint16_t, copy_strided_uint32_t,
                                     copy_strided_uint64_t};
    static const copier rows[] = {copy_rows_uint8_t, copy_rows_uint16_t, copy_rows_uint32_t, copy_rows_uint64_t};
    static const copier transposed[] = {copy_transposed_uint8_t, copy_transposed_uint16_t, copy_transposed_uint32_t,
                                        copy_transposed_uint64_t};
    const int width = job->size == 1 ? 0 : job->size == 2 ? 1 : job->size == 4 ? 2 : 3;
    const plane *p = &job->whole;
    const bool are_rows = p->out_column == 1 && p->in_column == 1;
    if (is_transpose)
        job->copy = transposed[width];
    else
        job->copy = are_rows && p->columns * (int64_t)job->size >= 128 ? rows[width] : strided[width];
    /* a block of a transpose is no wider than what the caches hold of both sides, unless there are few rows */
    const int64_t most_columns = is_transpose ? BLOCK_COLUMNS : BLOCK_ELEMENTS;
    job->block_columns = p->columns < most_columns ? p->columns : most_columns;
    job->block_rows = BLOCK_ELEMENTS / job->block_columns < p->rows ? BLOCK_ELEMENTS / job->block_columns : p->rows;
    const int64_t columns = BLOCK_ELEMENTS / job->block_rows;
    job->block_columns = p->columns < columns ? p->columns : columns;
    job->row_blocks = (p->rows + job->block_rows - 1) / job->block_rows;
    job->column_blocks = (p->columns + job->block_columns - 1) / job->block_columns;
}

void cr_copy_elements(const cr_iteration *it) {
    const cr_tile_operand *out = &it->operands[0], *in = &it->operands[1];
    const int inner = it->ndim - 1, dense = out->strides[inner] == 1 && in->strides[inner] != 1 ? dense_dim(it) : -1;
    const int row = dense >= 0 ? dense : inner - 1; /* -1: one row */
    copy_job job = {.size = cr_dtype_size(out->dtype)};
    job.whole = (plane){out->data, in->data, 1, it->sizes[inner], 0, out->strides[inner], 0, in->strides[inner]};
    if (row >= 0) {
        job.whole.rows = it->sizes[row];
        job.whole.out_row = out->strides[row];
        job.whole.in_row = in->strides[row];
    }
    int64_t units = 1;
    for (int d = 0; d < inner; d++) {
        if (d == row) continue;
        job.sizes[job.outer] = it->sizes[d];
        job.out_strides[job.outer] = out->strides[d];
        job.in_strides[job.outer++] = in->strides[d];
        units *= it->sizes[d];
    }
    choose_copy(&job, dense >= 0);
    units *= job.row_blocks * job.column_blocks;
    const int64_t block = job.block_rows * job.block_columns;
    cr_parallel_for(units, block >= CR_GRAIN_ELEMENTS ? 1 : CR_GRAIN_ELEMENTS / block, copy_blocks, &job);
}
