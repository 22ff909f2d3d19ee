/* Matrix products whose right side is gathered from an image: the engine under all convolutions.
 *
 *   target[m][j] (+)= bias[m] + sum over k of left[m][k] * image[depth_offset[k] + source(j)]
 *
 * The left side is packed beforehand into panels of ROWS rows. A task packs a block of the right side, DEPTH deep, into
 * panels of COLUMNS columns that stay in the second-level cache, and runs the micro-kernel over all pairs of panels.
 * Each result is summed in the same order whatever the blocks and threads.
 *
 * A template: include it with T (float or double) and NAMED(name) defined. */
#include "core/allocator.h"
#include "core/parallel.h"
#include "ops/cpu/variants/epilogue.h"

#include <stdatomic.h>
#include <string.h>

#ifndef CR_PRODUCT_CONSTANTS
#define CR_PRODUCT_CONSTANTS
#if defined(__AVX512F__)
enum { VECTOR_BYTES = 64, ROWS = 12 };
#elif defined(__AVX__)
enum { VECTOR_BYTES = 32, ROWS = 6 };
#else
enum { VECTOR_BYTES = 16, ROWS = 6 };
#endif
/* multiplications that are worth sharing */
#define LEAST_SHARED (16.0 * CR_GRAIN_ELEMENTS)
enum { DEPTH = 384, BLOCK_BYTES = 768, /* of one row of a task's columns */ BLOCK_ROWS = 768, COLUMN_DIMS = 4 };

/* Columns at, at+1, … of a panel that lie side by side in the image. */
typedef struct column_run {
    int32_t at, count;
    int64_t source, target;
} column_run;

static inline int64_t round_up(int64_t count, int64_t multiple) { return (count + multiple - 1) / multiple * multiple; }
#endif

enum { NAMED(LANES) = VECTOR_BYTES / (int)sizeof(T), NAMED(COLUMNS) = 2 * NAMED(LANES) };
#define LANES   NAMED(LANES)
#define COLUMNS NAMED(COLUMNS)

typedef T NAMED(vector) __attribute__((vector_size(VECTOR_BYTES)));
typedef T NAMED(loose_vector) __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(T)), may_alias));

typedef struct NAMED(product) {
    int64_t rows, depth;
    const T *left; /* panels: [ceil(rows / ROWS)][depth][ROWS] */
    const T *image, *image_end;
    const int64_t *depth_offsets;
    int64_t columns; /* product of grid: a column's number counts through it, the last dim fastest */
    int64_t grid[COLUMN_DIMS], source_step[COLUMN_DIMS], target_step[COLUMN_DIMS]; /* source_step[3] is 1 */
    T *target;
    int64_t target_row;
    const T *bias; /* one for each row, or NULL */
    bool add;      /* to what target holds */
    /* What is done to the target at once, where its columns are the pixels of one image after the other; or NULL. */
    const cr_epilogue *epilogue;
    int64_t first_image, first_row; /* of the target, for the epilogue */
} NAMED(product);

/* ---------------------------------------------------------------- packing the left side */
/* Element (m, k = outer·inner_count + inner) is source[m·row + outer·outer_step + inner_offsets[inner]]. */
typedef struct NAMED(left_side) {
    const T *source;
    int64_t rows, row, outer_count, outer_step, inner_count;
    const int64_t *inner_offsets; /* NULL: 0, 1, 2, … */
    T *packed;
} NAMED(left_side);

static void NAMED(pack_left_panel)(const NAMED(left_side) * left, int64_t panel) {
    const int64_t first = panel * ROWS, rows = left->rows - first < ROWS ? left->rows - first : ROWS;
    T *target = left->packed + panel * ROWS * left->outer_count * left->inner_count;
    for (int64_t outer = 0; outer < left->outer_count; outer++) {
        const T *source = left->source + first * left->row + outer * left->outer_step;
        for (int64_t inner = 0; inner < left->inner_count; inner++, target += ROWS) {
            const T *from = source + (left->inner_offsets ? left->inner_offsets[inner] : inner);
            if (rows == ROWS)
                for (int i = 0; i < ROWS; i++)
                    target[i] = from[i * left->row];
            else
                for (int i = 0; i < ROWS; i++)
                    target[i] = i < rows ? from[i * left->row] : 0;
        }
    }
}

typedef struct NAMED(left_job) {
    const NAMED(left_side) * sides;
    int64_t panels; /* of each */
} NAMED(left_job);

static void NAMED(pack_left_range)(void *context, int64_t begin, int64_t end) {
    const NAMED(left_job) *job = context;
    for (int64_t i = begin; i < end; i++)
        NAMED(pack_left_panel)(&job->sides[i / job->panels], i % job->panels);
}

/* Packs left sides of the same number of rows. */
static void NAMED(pack_left)(const NAMED(left_side) * sides, int64_t count) {
    if (count == 0) return;
    NAMED(left_job) job = {sides, (sides->rows + ROWS - 1) / ROWS};
    int64_t most = 1;
    for (int64_t i = 0; i < count; i++)
        if (sides[i].outer_count * sides[i].inner_count > most) most = sides[i].outer_count * sides[i].inner_count;
    cr_parallel_for(count * job.panels, 1 + CR_GRAIN_ELEMENTS / (most * ROWS), NAMED(pack_left_range), &job);
}

/* ---------------------------------------------------------------- packing the right side */
/* The runs of columns first … first+count-1; returns how many. */
static int NAMED(find_runs)(const NAMED(product) * p, int64_t first, int64_t count, column_run *runs) {
    int64_t index[COLUMN_DIMS], source = 0, target = 0, rest = first;
    int found = 0;
    for (int d = COLUMN_DIMS - 1; d >= 0; d--) {
        index[d] = rest % p->grid[d];
        rest /= p->grid[d];
        source += index[d] * p->source_step[d];
        target += index[d] * p->target_step[d];
    }
    for (int64_t at = 0; at < count;) {
        const int64_t left = p->grid[3] - index[3], length = left < count - at ? left : count - at;
        column_run *last = found ? &runs[found - 1] : NULL;
        if (last && last->source + last->count == source && last->target + last->count * p->target_step[3] == target)
            last->count += (int32_t)length;
        else
            runs[found++] = (column_run){(int32_t)at, (int32_t)length, source, target};
        at += length;
        source -= index[3] * p->source_step[3];
        target -= index[3] * p->target_step[3];
        index[3] = 0;
        for (int d = COLUMN_DIMS - 2; d >= 0; d--) {
            source += p->source_step[d];
            target += p->target_step[d];
            if (++index[d] < p->grid[d]) break;
            source -= index[d] * p->source_step[d];
            target -= index[d] * p->target_step[d];
            index[d] = 0;
        }
    }
    return found;
}

static inline void NAMED(copy_vector)(T *to, const T *from) {
    *(NAMED(loose_vector) *)to = *(const NAMED(loose_vector) *)from;
}

/* Packs depth_count rows of one panel. A run is copied by whole vectors: what that writes too far right, the next run
 * or row overwrites (there is room behind the last one). `exact` near the image's end, where no vector may reach
 * beyond. */
static void NAMED(pack_right_panel)(const T *image, const int64_t *offsets, int64_t depth_count, const column_run *runs,
                                    int run_count, bool exact, T *to) {
    if (exact) {
        for (int64_t k = 0; k < depth_count; k++, to += COLUMNS)
            for (int r = 0; r < run_count; r++)
                memcpy(to + runs[r].at, image + offsets[k] + runs[r].source, (size_t)runs[r].count * sizeof(T));
        return;
    }
    if (run_count == 1) {
        for (int64_t k = 0; k < depth_count; k++, to += COLUMNS) {
            const T *from = image + offsets[k] + runs[0].source;
            NAMED(copy_vector)(to, from);
            NAMED(copy_vector)(to + LANES, from + LANES);
        }
        return;
    }
    for (int64_t k = 0; k < depth_count; k++, to += COLUMNS)
        for (int r = 0; r < run_count; r++) {
            const T *from = image + offsets[k] + runs[r].source;
            T *start = to + runs[r].at;
            NAMED(copy_vector)(start, from);
            if (runs[r].count > LANES) NAMED(copy_vector)(start + LANES, from + LANES);
        }
}

/* ---------------------------------------------------------------- the micro-kernel */
/* tile[rows][COLUMNS] = (or +=) sum over k of left[k][rows] ⊗ right[k][COLUMNS], where row k of the right side is
 * packed, or lies at offsets[k] in the image. `rows` is a constant after inlining. */
static inline __attribute__((always_inline)) void NAMED(multiply_rows)(const int rows, int64_t depth, const T *left,
                                                                       const T *right, const int64_t *offsets, T *tile,
                                                                       bool add) {
    typedef NAMED(vector) vector;
    typedef NAMED(loose_vector) loose_vector;
    vector sums[ROWS][2];
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
        sums[i][0] = sums[i][1] = (vector){0};
    for (int64_t k = 0; k < depth; k++) {
        const loose_vector *from = (const loose_vector *)(right + (offsets ? offsets[k] : k * COLUMNS));
        const vector r0 = from[0], r1 = from[1];
#pragma GCC unroll 12
        for (int i = 0; i < rows; i++) {
            const T l = left[k * ROWS + i];
            sums[i][0] += r0 * l;
            sums[i][1] += r1 * l;
        }
    }
    vector *out = (vector *)(void *)tile;
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++) {
        out[2 * i] = add ? out[2 * i] + sums[i][0] : sums[i][0];
        out[2 * i + 1] = add ? out[2 * i + 1] + sums[i][1] : sums[i][1];
    }
}

/* One copy for each number of rows that pays: few output channels, and groups of one channel, are common. */
#define MULTIPLY(rows)                                                                                                 \
    static void NAMED(multiply_##rows)(int64_t depth, const T *left, const T *right, const int64_t *offsets, T *tile,  \
                                       bool add) {                                                                     \
        if (offsets)                                                                                                   \
            NAMED(multiply_rows)(rows, depth, left, right, offsets, tile, add);                                        \
        else                                                                                                           \
            NAMED(multiply_rows)(rows, depth, left, right, NULL, tile, add);                                           \
    }
MULTIPLY(1)
MULTIPLY(2)
MULTIPLY(3)
MULTIPLY(4)
MULTIPLY(6)
MULTIPLY(12)
#undef MULTIPLY

static void NAMED(multiply)(int64_t rows, int64_t depth, const T *left, const T *right, const int64_t *offsets, T *tile,
                            bool add) {
    if (rows > 4) {
        if (rows > 6)
            NAMED(multiply_12)(depth, left, right, offsets, tile, add);
        else
            NAMED(multiply_6)(depth, left, right, offsets, tile, add);
        return;
    }
    static void (*const few[])(int64_t, const T *, const T *, const int64_t *, T *, bool) = {
        NULL, NAMED(multiply_1), NAMED(multiply_2), NAMED(multiply_3), NAMED(multiply_4)};
    few[rows](depth, left, right, offsets, tile, add);
}

/* ---------------------------------------------------------------- a task: a block of rows by a block of columns */
typedef struct NAMED(job) {
    const NAMED(product) * products;
    int64_t product_count, column_blocks, row_blocks, block_columns, block_rows;
    int64_t slots, tasks, slot_elements;
    atomic_int_fast64_t next; /* the task that nobody has begun */
    T *scratch;
} NAMED(job);

static void NAMED(write_tile_row)(const NAMED(product) * p, int64_t row, const T *tile, const column_run *runs,
                                  int run_count) {
    const T bias = p->bias ? p->bias[row] : 0;
    const int64_t step = p->target_step[3];
    for (int r = 0; r < run_count; r++) {
        T *to = p->target + row * p->target_row + runs[r].target;
        const T *from = tile + runs[r].at;
        const int count = runs[r].count;
        if (p->add)
            for (int i = 0; i < count; i++)
                to[i * step] += from[i];
        else if (step == 1)
            for (int i = 0; i < count; i++)
                to[i] = from[i] + bias;
        else
            for (int i = 0; i < count; i++)
                to[i * step] = from[i] + bias;
    }
}

typedef struct NAMED(block) {
    const NAMED(product) * product;
    int64_t first_row, rows, row_panels, first_column, columns, column_panels;
    T *right, *tiles; /* right: [column_panels][DEPTH][COLUMNS]; tiles: [row_panels][column_panels][ROWS][COLUMNS] */
    int64_t reach;    /* farthest source of all runs */
    bool packs[BLOCK_BYTES / (2 * VECTOR_BYTES)]; /* is the panel packed, or read from the image? */
    int run_counts[BLOCK_BYTES / (2 * VECTOR_BYTES)];
    column_run runs[BLOCK_BYTES / (2 * VECTOR_BYTES)][NAMED(COLUMNS)];
} NAMED(block);

static void NAMED(find_block_runs)(NAMED(block) * b) {
    b->reach = 0;
    for (int64_t c = 0; c < b->column_panels; c++) {
        const int64_t rest = b->columns - c * COLUMNS;
        b->run_counts[c] =
            NAMED(find_runs)(b->product, b->first_column + c * COLUMNS, rest < COLUMNS ? rest : COLUMNS, b->runs[c]);
        for (int r = 0; r < b->run_counts[c]; r++)
            if (b->runs[c][r].source > b->reach) b->reach = b->runs[c][r].source;
    }
}

static void NAMED(pack_block)(NAMED(block) * b, int64_t k, int64_t depth) {
    const NAMED(product) *p = b->product;
    int64_t farthest = 0;
    for (int64_t i = k; i < k + depth; i++)
        if (p->depth_offsets[i] > farthest) farthest = p->depth_offsets[i];
    const bool exact = p->image_end - p->image < farthest + b->reach + COLUMNS;
    for (int64_t c = 0; c < b->column_panels; c++) {
        T *panel = b->right + c * depth * COLUMNS;
        b->packs[c] = exact || b->run_counts[c] > 1 || b->row_panels > 2; /* few rows do not pay for packing */
        if (!b->packs[c]) continue;
        if (exact && b->columns - c * COLUMNS < COLUMNS) memset(panel, 0, (size_t)(depth * COLUMNS) * sizeof(T));
        NAMED(pack_right_panel)(p->image, p->depth_offsets + k, depth, b->runs[c], b->run_counts[c], exact, panel);
    }
}

static void NAMED(multiply_block)(const NAMED(block) * b, int64_t k, int64_t depth) {
    for (int64_t r = 0; r < b->row_panels; r++) {
        const T *left = b->product->left + ((b->first_row / ROWS + r) * b->product->depth + k) * ROWS;
        T *tiles = b->tiles + r * b->column_panels * ROWS * COLUMNS;
        const int64_t rest = b->rows - r * ROWS, rows = rest < ROWS ? rest : ROWS;
        for (int64_t c = 0; c < b->column_panels; c++) {
            const T *right = b->packs[c] ? b->right + c * depth * COLUMNS : b->product->image + b->runs[c][0].source;
            NAMED(multiply)
            (rows, depth, left, right, b->packs[c] ? NULL : b->product->depth_offsets + k, tiles + c * ROWS * COLUMNS,
             k > 0);
        }
    }
}

static void NAMED(run_epilogue)(const NAMED(block) * b) {
    const NAMED(product) *p = b->product;
    for (int64_t at = b->first_column, end = at + b->columns; at < end;) {
        const int64_t pixels = p->epilogue->columns, first = at % pixels,
                      count = pixels - first < end - at ? pixels - first : end - at;
        cr_epilogue_run(p->epilogue, p->first_image + at / pixels, p->first_row + b->first_row, b->rows, first, count);
        at += count;
    }
}

static void NAMED(run_task)(const NAMED(job) * job, int64_t task, T *memory) {
    NAMED(block) b;
    const int64_t place =
        task / job->product_count; /* products of the same columns follow each other: they share the image */
    b.product = &job->products[task % job->product_count];
    b.first_column = place / job->row_blocks * job->block_columns;
    b.first_row = place % job->row_blocks * job->block_rows;
    b.columns = b.product->columns - b.first_column;
    b.rows = b.product->rows - b.first_row;
    if (b.columns <= 0 || b.rows <= 0) return;
    if (b.columns > job->block_columns) b.columns = job->block_columns;
    if (b.rows > job->block_rows) b.rows = job->block_rows;
    b.column_panels = (b.columns + COLUMNS - 1) / COLUMNS;
    b.row_panels = (b.rows + ROWS - 1) / ROWS;
    b.right = memory;
    b.tiles = memory + job->block_columns * DEPTH + COLUMNS;
    NAMED(find_block_runs)(&b);
    const int64_t depth = b.product->depth;
    if (depth == 0) memset(b.tiles, 0, (size_t)(b.row_panels * b.column_panels * ROWS * COLUMNS) * sizeof(T));
    for (int64_t k = 0; k < depth; k += DEPTH) {
        const int64_t count = depth - k < DEPTH ? depth - k : DEPTH;
        NAMED(pack_block)(&b, k, count);
        NAMED(multiply_block)(&b, k, count);
    }
    for (int64_t r = 0; r < b.rows; r++)
        for (int64_t c = 0; c < b.column_panels; c++)
            NAMED(write_tile_row)
    (b.product, b.first_row + r, b.tiles + (r / ROWS * b.column_panels + c) * ROWS * COLUMNS + r % ROWS * COLUMNS,
     b.runs[c], b.run_counts[c]);
    if (b.product->epilogue) NAMED(run_epilogue)(&b);
}

static void NAMED(run_slots)(void *context, int64_t begin, int64_t end) {
    NAMED(job) *job = context;
    for (int64_t slot = begin, task; slot < end; slot++)
        while ((task = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed)) < job->tasks)
            NAMED(run_task)(job, task, job->scratch + slot * job->slot_elements);
}

/* Blocks: as wide as fits the cache, but small enough that every thread gets several. */
static void NAMED(choose_blocks)(NAMED(job) * job, int64_t rows, int64_t columns, int64_t threads) {
    const int64_t widest = BLOCK_BYTES / (int64_t)sizeof(T), wanted = threads > 1 ? 8 * threads : 1,
                  count = job->product_count;
    job->column_blocks = (columns + widest - 1) / widest;
    job->block_rows = round_up(rows < BLOCK_ROWS ? rows : BLOCK_ROWS, ROWS);
    while (count * job->column_blocks * ((rows + job->block_rows - 1) / job->block_rows) < wanted &&
           job->block_rows > 12 * ROWS)
        job->block_rows = round_up(job->block_rows / 2, ROWS);
    job->row_blocks = (rows + job->block_rows - 1) / job->block_rows;
    while (count * job->column_blocks * job->row_blocks < wanted && columns / job->column_blocks > 4 * COLUMNS)
        job->column_blocks *= 2;
    job->block_columns = round_up((columns + job->column_blocks - 1) / job->column_blocks, COLUMNS);
    job->column_blocks = (columns + job->block_columns - 1) / job->block_columns;
    job->tasks = count * job->column_blocks * job->row_blocks;
}

/* Runs products that have the same number of rows. */
static bool NAMED(run_products)(const NAMED(product) * products, int64_t count) {
    int64_t columns = 0, depth = 1;
    for (int64_t i = 0; i < count; i++) {
        if (products[i].columns > columns) columns = products[i].columns;
        if (products[i].depth > depth) depth = products[i].depth;
    }
    const int64_t rows = count ? products[0].rows : 0;
    if (columns == 0 || rows == 0) return true;
    const bool small = (double)columns * (double)count * (double)rows * (double)depth < LEAST_SHARED;
    const int64_t threads = small ? 1 : cr_num_threads();
    NAMED(job) job = {.products = products, .product_count = count};
    NAMED(choose_blocks)(&job, rows, columns, threads);
    job.slots = threads < job.tasks ? threads : job.tasks;
    job.slot_elements = round_up(job.block_columns * DEPTH + COLUMNS, 64) + job.block_columns * job.block_rows;
    const size_t bytes = (size_t)(job.slots * job.slot_elements) * sizeof(T);
    job.scratch = cr_block_allocate(bytes);
    if (!job.scratch) return false;
    cr_parallel_for(job.slots, 1, NAMED(run_slots), &job);
    cr_block_free(job.scratch, bytes);
    return true;
}
