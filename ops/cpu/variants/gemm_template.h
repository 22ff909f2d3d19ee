/* C = A B + bias for one element type: define T, LANE_INDEX, LANES, NAMED(x) and PACKED(x) before including
 * it. PACKED names what packs: pairs are moved by what moves f32.
 *
 * A is packed into panels of ROWS rows and B into panels of COLUMNS columns, whatever their strides; small ones are read
 * where they lie. B is packed before all else, A a block at a time by the task that uses it, so that it never leaves that
 * thread's cache. A micro-kernel keeps a ROWS x COLUMNS block of C in registers over DEPTH_BLOCK steps (Goto, van de Geijn,
 * "Anatomy of high-performance matrix multiplication", 2008). Every element of C is summed in the same order for any
 * number of threads. */

#ifdef PAIRS
#include "ops/cpu/variants/block_template.h"
#else
#include "ops/cpu/variants/packing_template.h"
#endif

typedef struct NAMED(gemm) {
    int64_t m, n, k;
    const T *a, *b;
    int64_t a_row, a_column, b_row, b_column; /* strides */
    T *c;                                     /* [m, n], rows c_row apart */
    int64_t c_row;
    const T *bias;                     /* [n] or NULL */
    const T *packed_b;                 /* given, or packed here; NULL: B is read where it lies */
    const cr_epilogue *epilogue;       /* what is done to C, or NULL */
    int64_t image;                     /* which of its images C is */
    int64_t row_groups, column_groups; /* the tasks: panels shared out evenly */
    T *blocks;                         /* [slots][a_elements] of packed A; NULL: A is read where it lies */
    atomic_uchar *busy;                /* [slots] */
    int64_t slots;                     /* as many as can be at work at once */
} NAMED(gemm);

/* ---------------------------------------------------------------- packing */
static int64_t NAMED(panels)(int64_t lines, int64_t width) { return (lines + width - 1) / width; }

/* Panels begin … end-1 of A, depth steps from `start` on. */
static void NAMED(pack_block_of_a)(const NAMED(gemm) * g, int64_t begin, int64_t end, int64_t start, int64_t depth,
                                   T *to) {
    const PACKED(side)
        block = {g->a + start * g->a_column, g->m, g->a_row, g->a_column, depth, to, NAMED(panels)(g->m, ROWS)};
    PACKED(pack_a)(&block, begin, end);
}

/* ---------------------------------------------------------------- the micro-kernel */
/* A tile's operands: panels, or what lies in the matrices themselves. */
typedef struct NAMED(tile) {
    const T *a, *b;
    int64_t a_row, a_step, b_row, depth; /* from row to row of A, from k to k + 1 in A and B */
    T *c;
    int64_t c_row;
    const T *first; /* what the sums begin with: rows first_row apart; NULL: zeros */
    int64_t first_row;
} NAMED(tile);

#define MULTIPLY(rows)                                                                                                 \
    static void NAMED(multiply_##rows)(const NAMED(tile) * t) {                                                        \
        if (t->a_row == 1 && t->a_step == ROWS)                                                                        \
            NAMED(block)(rows, t->depth, t->a, 1, ROWS, t->b, t->b_row, t->first, t->first_row, t->c, t->c_row);       \
        else                                                                                                           \
            NAMED(block)                                                                                               \
        (rows, t->depth, t->a, t->a_row, t->a_step, t->b, t->b_row, t->first, t->first_row, t->c, t->c_row);           \
    }
MULTIPLY(1)
MULTIPLY(2)
MULTIPLY(3)
MULTIPLY(4)
MULTIPLY(5)
MULTIPLY(6)
#undef MULTIPLY

static void NAMED(multiply)(int64_t rows, const NAMED(tile) * t) {
    static void (*const by_rows[])(const NAMED(tile) *) = {NAMED(multiply_1), NAMED(multiply_2), NAMED(multiply_3),
                                                           NAMED(multiply_4), NAMED(multiply_5), NAMED(multiply_6)};
    by_rows[rows - 1](t);
}

/* Fewer columns than a tile has go through a copy. */
static void NAMED(multiply_edge)(int64_t rows, int64_t columns, const NAMED(tile) * t) {
    T edge[ROWS * COLUMNS] = {0};
    NAMED(tile) whole = *t;
    whole.c = edge;
    whole.c_row = COLUMNS;
    whole.first = edge;
    whole.first_row = COLUMNS;
    for (int64_t r = 0; t->first && r < rows; r++)
        memcpy(edge + r * COLUMNS, t->first + r * t->first_row, (size_t)columns * sizeof(T));
    NAMED(multiply)(rows, &whole);
    for (int64_t r = 0; r < rows; r++)
        memcpy(t->c + r * t->c_row, edge + r * COLUMNS, (size_t)columns * sizeof(T));
}

static int64_t NAMED(first_row)(int64_t rows, int64_t panel) { return panel * rows / NAMED(panels)(rows, ROWS); }

/* packed: the panel of A, or NULL. b: that of B from `start` on, its rows b_row apart. */
static void NAMED(run_tile)(const NAMED(gemm) * g, int64_t row_panel, int64_t column_panel, int64_t start,
                            int64_t depth, const T *packed, const T *b, int64_t b_row) {
    const int64_t row = NAMED(first_row)(g->m, row_panel), column = column_panel * COLUMNS;
    const int64_t rows = NAMED(first_row)(g->m, row_panel + 1) - row,
                  columns = g->n - column < COLUMNS ? g->n - column : COLUMNS;
    NAMED(tile) t = {.b = b, .b_row = b_row, .depth = depth, .c = g->c + row * g->c_row + column, .c_row = g->c_row};
    t.a_row = packed ? 1 : g->a_row;
    t.a_step = packed ? ROWS : g->a_column;
    t.a = packed ? packed : g->a + row * g->a_row + start * g->a_column;
    t.first = start ? t.c : g->bias ? g->bias + column : NULL;
    t.first_row = start ? g->c_row : 0;
    if (columns == COLUMNS)
        NAMED(multiply)(rows, &t);
    else
        NAMED(multiply_edge)(rows, columns, &t);
}

/* One of `parts` equal parts of the panel of B behind this one, which is wanted when all parts are through: a weight comes
 * from memory, and the processor's own prefetching ends with each page. Where a step takes as long as with vectors of 64
 * bytes, that is enough. */
static inline void NAMED(prefetch)(const NAMED(gemm) * g, int64_t part, int64_t parts, int64_t column_panel,
                                   int64_t start, int64_t depth) {
    if (VECTOR_BYTES == 64 || !g->packed_b || parts < FEW_PANELS) return;
    const T *next = g->packed_b + start * NAMED(panels)(g->n, COLUMNS) * COLUMNS + (column_panel + 1) * COLUMNS * depth;
    const int64_t line = 64 / sizeof(T), lines = depth * COLUMNS / line;
    for (int64_t at = part * lines / parts, end = (part + 1) * lines / parts; at < end; at++)
        cr_prefetch(next + at * line);
}

/* A task is some panels of A, which stay in the cache, times some of B. block: memory for the panels, or NULL. */
static void NAMED(run_task)(const NAMED(gemm) * g, int64_t task, T *block) {
    const int64_t row_panels = NAMED(panels)(g->m, ROWS), column_panels = NAMED(panels)(g->n, COLUMNS);
    const int64_t row_group = task % g->row_groups, column_group = task / g->row_groups;
    const int64_t row = row_group * row_panels / g->row_groups, row_end = (row_group + 1) * row_panels / g->row_groups;
    const int64_t column = column_group * column_panels / g->column_groups,
                  column_end = (column_group + 1) * column_panels / g->column_groups;
    for (int64_t start = 0; start < g->k || (start == 0 && g->k == 0); start += DEPTH_BLOCK) {
        const int64_t depth = g->k - start < DEPTH_BLOCK ? g->k - start : DEPTH_BLOCK;
        if (block) NAMED(pack_block_of_a)(g, row, row_end, start, depth, block);
        for (int64_t c = column; c < column_end; c++) {
            const T *b = g->packed_b ? g->packed_b + (start * column_panels + c * depth) * COLUMNS
                                     : g->b + c * COLUMNS + start * g->b_row;
            for (int64_t r = row; r < row_end; r++) {
                NAMED(prefetch)(g, r - row, row_end - row, c, start, depth);
                NAMED(run_tile)
                (g, r, c, start, depth, block ? block + (r - row) * ROWS * depth : NULL, b,
                 g->packed_b ? COLUMNS : g->b_row);
            }
        }
    }
    if (g->epilogue) {
        const int64_t first_row = NAMED(first_row)(g->m, row), last_row = NAMED(first_row)(g->m, row_end),
                      first = column * COLUMNS, last = column_end * COLUMNS < g->n ? column_end * COLUMNS : g->n;
        cr_epilogue_run(g->epilogue, g->image, first_row, last_row - first_row, first, last - first);
    }
}

/* ---------------------------------------------------------------- few rows: no packing */
static inline __attribute__((always_inline)) NAMED(vector)
    NAMED(plus)(NAMED(vector) a, NAMED(vector) b, const bool integers) {
    return integers ? (NAMED(vector))((NAMED(lanes))a + (NAMED(lanes))b) : a + b;
}

/* sums[i] = the sum of v[i]'s lanes, which may hold integers. Of four vectors together: halves of two fill one vector, halves
 * of two such another. */
static inline __attribute__((always_inline)) void NAMED(fold_four)(const NAMED(vector) v[4], const bool integers,
                                                                   T sums[4]) {
    enum { HALF = LANES / 2, QUARTER = LANES < 4 ? 1 : LANES / 4 };
    NAMED(vector) pairs[2], all;
    NAMED(lanes) low, high;
    T lanes[LANES];
#pragma GCC unroll 16
    for (int j = 0; j < LANES; j++) {
        low[j] = j < HALF ? j : j + HALF;
        high[j] = low[j] + HALF;
    }
#pragma GCC unroll 2
    for (int i = 0; i < 2; i++)
        pairs[i] = NAMED(plus)(NAMED(shuffled)(v[2 * i], v[2 * i + 1], low),
                               NAMED(shuffled)(v[2 * i], v[2 * i + 1], high), integers);
    if (LANES < 4) {
        memcpy(sums, pairs, 4 * sizeof(T));
        return;
    }
#pragma GCC unroll 16
    for (int j = 0; j < LANES; j++) {
        low[j] = j / QUARTER * HALF + j % QUARTER;
        high[j] = low[j] + QUARTER;
    }
    all = NAMED(plus)(NAMED(shuffled)(pairs[0], pairs[1], low), NAMED(shuffled)(pairs[0], pairs[1], high), integers);
    if (QUARTER > 2) all = NAMED(plus)(all, NAMED(swapped)(all, 2), integers);
    if (QUARTER > 1) all = NAMED(plus)(all, NAMED(swapped)(all, 1), integers);
    *(NAMED(loose) *)lanes = all;
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        sums[i] = lanes[i * QUARTER];
}

/* sums[i] = Σ_k a[k] · b[i][k] for COLUMNS_AT_ONCE columns; of neighbours by vectors, folded as a tree. */
static void NAMED(dots)(const T *a, int64_t a_step, const T *const b[COLUMNS_AT_ONCE], int64_t b_step, int64_t count,
                        T sums[COLUMNS_AT_ONCE]) {
    NAMED(vector) vectors[COLUMNS_AT_ONCE][2] = {{{0}}}, folded[COLUMNS_AT_ONCE];
    int64_t k = 0;
    if (a_step == 1 && b_step == 1)
        for (; k + COLUMNS <= count; k += COLUMNS) {
#pragma GCC unroll 4
            for (int i = 0; VECTOR_BYTES == 64 && i < COLUMNS_AT_ONCE; i++)
                cr_prefetch((const char *)(b[i] + k) + AHEAD_BYTES);
#pragma GCC unroll 2
            for (int part = 0; part < 2; part++) { /* a line of each: two of one after the other are read more slowly */
                const NAMED(vector) x = NAMED(load_vector)(a + k + part * LANES);
#pragma GCC unroll 4
                for (int i = 0; i < COLUMNS_AT_ONCE; i++)
                    vectors[i][part] += x * NAMED(load_vector)(b[i] + k + part * LANES);
            }
        }
#pragma GCC unroll 4
    for (int i = 0; i < COLUMNS_AT_ONCE; i++)
        folded[i] = vectors[i][0] + vectors[i][1];
    NAMED(fold_four)(folded, false, sums);
    for (int i = 0; i < COLUMNS_AT_ONCE; i++)
        for (int64_t rest = k; rest < count; rest++)
            sums[i] += a[rest * a_step] * b[i][rest * b_step];
}

/* Columns begin … end-1 where k runs along B's memory: from places far from each other at once, for one stream alone
 * takes two thirds of the bandwidth. */
static void NAMED(few_rows_by_dots)(const NAMED(gemm) * g, int64_t begin, int64_t end) {
    const int64_t gap = NAMED(panels)(end - begin, COLUMNS_AT_ONCE);
    for (int64_t first = begin; first < begin + gap; first++) {
        const T *b[COLUMNS_AT_ONCE];
        int64_t columns[COLUMNS_AT_ONCE];
        for (int i = 0; i < COLUMNS_AT_ONCE; i++) {
            columns[i] = first + i * gap < end ? first + i * gap : end - 1;
            b[i] = g->b + columns[i] * g->b_column;
        }
        for (int64_t row = 0; row < g->m; row++) {
            T sums[COLUMNS_AT_ONCE];
            NAMED(dots)(g->a + row * g->a_row, g->a_column, b, g->b_row, g->k, sums);
            for (int i = 0; i < COLUMNS_AT_ONCE; i++)
                g->c[row * g->c_row + columns[i]] = sums[i] + (g->bias ? g->bias[columns[i]] : 0);
        }
    }
}

/* Columns begin … end-1 of every row; a row of B at a time where its columns are neighbours, else sums along k. */
static void NAMED(few_rows)(void *context, int64_t begin, int64_t end) {
    const NAMED(gemm) *g = context;
    if (g->b_column != 1) NAMED(few_rows_by_dots)(g, begin, end);
    for (int64_t row = 0; g->b_column == 1 && row < g->m; row++) {
        T *c = g->c + row * g->c_row;
        for (int64_t i = begin; i < end; i++)
            c[i] = g->bias ? g->bias[i] : 0;
        for (int64_t k = 0; k < g->k; k++) {
            const T factor = g->a[row * g->a_row + k * g->a_column], *b = g->b + k * g->b_row;
            for (int64_t i = begin; i < end; i++)
                c[i] += factor * b[i];
        }
    }
    if (g->epilogue && begin < end) cr_epilogue_run(g->epilogue, g->image, 0, g->m, begin, end - begin);
}

/* Whether the product runs by tiles: not where there are few rows, nor where it is tiny. */
static bool NAMED(tiles)(const NAMED(gemm) * g) {
    return g->m > FEW_ROWS && !(g->m * g->n * g->k <= SMALL_PRODUCT && g->b_column == 1);
}

/* A side that stays in the first-level cache together with the other one is read where it lies. */
static bool NAMED(is_small)(int64_t lines, int64_t depth) {
    return lines * depth * (int64_t)sizeof(T) <= SMALL_SIDE_BYTES;
}

/* Rows that lie in one piece are read as they lie: the micro-kernel's six streams cost nothing. So do columns in steps of
 * 64 bytes, which leave time for one line more from the second level, unless they fall on few of its sets. */
static bool NAMED(packs_a)(const NAMED(gemm) * g) {
    const bool spreads = g->a_column * (int64_t)sizeof(T) % 2048 != 0;
    const bool is_readable = g->a_column == 1 || (VECTOR_BYTES == 64 && g->a_row == 1 && spreads);
    return NAMED(tiles)(g) && !is_readable && !NAMED(is_small)(g->m, g->k);
}
static bool NAMED(packs_b)(const NAMED(gemm) * g) {
    const bool is_readable = g->b_column == 1 && g->n % COLUMNS == 0;
    return NAMED(tiles)(g) && !g->packed_b && !(is_readable && NAMED(is_small)(g->n, g->k));
}

/* Elements that a block of A and all of B take when they are packed. */
static int64_t NAMED(a_elements)(const NAMED(gemm) * g) {
    const int64_t panels = NAMED(panels)(g->m, ROWS), most = panels < GROUP_ROWS ? panels : GROUP_ROWS;
    return most * ROWS * (g->k < DEPTH_BLOCK ? g->k : DEPTH_BLOCK) + 64 / (int64_t)sizeof(T);
}
static int64_t NAMED(b_elements)(const NAMED(gemm) * g) {
    return NAMED(panels)(g->n, COLUMNS) * COLUMNS * g->k + 64 / (int64_t)sizeof(T);
}

/* b as panels in `to`. */
static void NAMED(pack_all_b)(NAMED(gemm) * g, T *to) {
    PACKED(side) b = {g->b, g->n, g->b_column, g->b_row, g->k, to, 0};
    g->packed_b = to;
    cr_parallel_for(NAMED(panels)(g->n, COLUMNS), CR_GRAIN_ELEMENTS / (COLUMNS * g->k + 1), PACKED(pack_b), &b);
}

/* How many elements of memory `run` needs. */
static int64_t NAMED(memory)(const NAMED(gemm) * g) {
    return (NAMED(packs_a)(g) ? NAMED(a_elements)(g) * g->slots : 0) + (NAMED(packs_b)(g) ? NAMED(b_elements)(g) : 0);
}

/* Whether threads that take tasks in their order have as much to do: row groups are the inner ones. */
static bool NAMED(is_even)(const NAMED(gemm) * g, int64_t columns, int64_t threads) {
    return g->column_groups % threads == 0 ||
           (columns % g->column_groups == 0 && g->row_groups * g->column_groups % threads == 0);
}

/* Some tasks for each thread, of even shares; wide ones where A must be packed for them. */
static void NAMED(cut)(NAMED(gemm) * g) {
    const int64_t rows = NAMED(panels)(g->m, ROWS), columns = NAMED(panels)(g->n, COLUMNS), threads = cr_num_threads(),
                  wanted = threads > 1 ? 3 * threads : 1, narrowest = NAMED(panels)(columns, 2);
    g->row_groups = NAMED(panels)(rows, GROUP_ROWS);
    g->column_groups = NAMED(panels)(columns, g->blocks ? WIDE_GROUP / COLUMNS : GROUP_COLUMNS);
    while (g->blocks && g->row_groups * g->column_groups < wanted && rows / g->row_groups > 8)
        g->row_groups++;
    while (g->column_groups < narrowest &&
           (g->row_groups * g->column_groups < wanted || !NAMED(is_even)(g, columns, threads)))
        g->column_groups++;
}

static void NAMED(tasks)(void *context, int64_t begin, int64_t end) {
    const NAMED(gemm) *g = context;
    int64_t slot = 0;
    while (g->blocks && atomic_exchange(&g->busy[slot], 1))
        slot = (slot + 1) % g->slots;
    for (int64_t task = begin; task < end; task++)
        NAMED(run_task)(g, task, g->blocks ? g->blocks + slot * NAMED(a_elements)(g) : NULL);
    if (g->blocks) atomic_store(&g->busy[slot], 0);
}

static void NAMED(run)(NAMED(gemm) * g, T *memory) {
    if (g->m == 0 || g->n == 0) return;
    if (!NAMED(tiles)(g)) {
        const int64_t each = g->m * (g->k + 1);
        cr_parallel_for(g->n, CR_GRAIN_ELEMENTS * 2 / each + LANES, NAMED(few_rows), g);
        return;
    }
    if (NAMED(packs_b)(g)) {
        NAMED(pack_all_b)(g, memory);
        memory += NAMED(b_elements)(g);
    }
    atomic_uchar busy[CR_POOL_PARTS];
    if (NAMED(packs_a)(g)) {
        for (int64_t slot = 0; slot < g->slots; slot++)
            atomic_init(&busy[slot], 0);
        g->busy = busy;
        g->blocks = memory;
    }
    NAMED(cut)(g);
    const int64_t tasks = g->row_groups * g->column_groups;
    cr_parallel_for(tasks, CR_GRAIN_ELEMENTS / (g->m * g->n * (g->k + 1) / tasks / 16 + 1), NAMED(tasks), g);
}
