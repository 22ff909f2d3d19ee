/* C = A B + bias for one element type: define T, LANE_INDEX (an integer of T's size), LANES and NAMED(x) before including it.
 *
 * A is packed into panels of TILE_ROWS rows and B into panels of TILE_COLUMNS columns, whatever their strides; a
 * micro-kernel keeps a TILE_ROWS x TILE_COLUMNS block of C in registers over DEPTH_BLOCK steps (Goto, van de Geijn,
 * "Anatomy of high-performance matrix multiplication", 2008). Every element of C is summed in the same order for any
 * number of threads. */

typedef T NAMED(vector) __attribute__((vector_size(LANES * sizeof(T))));
typedef LANE_INDEX NAMED(lanes) __attribute__((vector_size(LANES * sizeof(T))));
typedef T NAMED(loose) __attribute__((vector_size(LANES * sizeof(T)), aligned(sizeof(T)), may_alias));

typedef struct NAMED(gemm) {
    int64_t m, n, k;
    const T *a, *b;
    int64_t a_row, a_column, b_row, b_column; /* strides */
    T *c;                                     /* [m, n], rows c_row apart */
    int64_t c_row;
    const T *bias; /* [n] or NULL */
    const T *packed_a;
    const T *packed_b;           /* given, or NULL: b is packed */
    const cr_epilogue *epilogue; /* what is done to C, or NULL */
    int64_t image;               /* which of its images C is */
} NAMED(gemm);

static inline NAMED(vector) NAMED(load)(const T *from) { return *(const NAMED(loose) *)from; }

/* ---------------------------------------------------------------- packing */
/* One exchange of blocks of h × h around the diagonal; all of them, from LANES / 2 down to 1, transpose v (Eklundh,
 * 1972). */
static inline __attribute__((always_inline)) void NAMED(exchange)(NAMED(vector) v[LANES], const int h) {
    NAMED(lanes) low, high;
#pragma GCC unroll 16
    for (int j = 0; j < LANES; j++) {
        low[j] = j & h ? LANES + j - h : j;
        high[j] = j & h ? LANES + j : j + h;
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) {
        if (i & h) continue;
        const NAMED(vector) upper = v[i], lower = v[i + h];
        v[i] = __builtin_shuffle(upper, lower, low);
        v[i + h] = __builtin_shuffle(upper, lower, high);
    }
}

/* Lines that lie `across` apart become columns, and zeros up to `width` of them: to[k][width] for k up to depth, LANES
 * of them at a time. Returns how many were done. */
static inline __attribute__((always_inline)) int64_t
NAMED(pack_transposed)(const T *from, int64_t lines, int64_t across, int64_t depth, const int width, T *to) {
    int64_t k = 0;
    for (; k + LANES <= depth; k += LANES) {
#pragma GCC unroll 4
        for (int first = 0; first < width; first += LANES) {
            const int count = width - first < LANES ? width - first : LANES;
            NAMED(vector) v[LANES];
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                v[i] =
                    i < count && first + i < lines ? NAMED(load)(from + (first + i) * across + k) : (NAMED(vector)){0};
            if (LANES > 8) NAMED(exchange)(v, 8);
            if (LANES > 4) NAMED(exchange)(v, 4);
            if (LANES > 2) NAMED(exchange)(v, 2);
            NAMED(exchange)(v, 1);
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                memcpy(to + (k + i) * width + first, &v[i], (size_t)count * sizeof(T));
        }
    }
    return k;
}

/* One side of the product, cut into panels of `width` lines, the last one filled up with zeros: to[panel][depth][width].
 * Element k of a line is `along` behind the one before, lines are `across` apart. */
typedef struct NAMED(side) {
    const T *from;
    int64_t lines, across, along, depth;
    T *to;
} NAMED(side);

static inline __attribute__((always_inline)) void NAMED(pack)(const NAMED(side) * s, const int width, int64_t begin,
                                                              int64_t end) {
    const int64_t whole = s->lines / width < end ? s->lines / width : end;
    if (s->across == 1) { /* a few cache lines at a time, each for all panels: they may fall on one set of the cache */
        for (int64_t first = 0; first < s->depth; first += 8) {
            const int64_t last = first + 8 < s->depth ? first + 8 : s->depth;
            for (int64_t p = begin; p < whole; p++)
                for (int64_t k = first; k < last; k++)
                    memcpy(s->to + (p * s->depth + k) * width, s->from + p * width + k * s->along,
                           sizeof(T) * (size_t)width);
        }
    }
    for (int64_t p = s->across == 1 && begin < whole ? whole : begin; p < end; p++) {
        const T *from = s->from + p * width * s->across;
        T *to = s->to + p * width * s->depth;
        const int64_t lines = p < whole ? width : s->lines - p * width;
        int64_t k = s->along == 1 ? NAMED(pack_transposed)(from, lines, s->across, s->depth, width, to) : 0;
        for (; k < s->depth; k++)
            for (int64_t i = 0; i < width; i++)
                to[k * width + i] = i < lines ? from[i * s->across + k * s->along] : 0;
    }
}

static void NAMED(pack_a)(void *context, int64_t begin, int64_t end) { NAMED(pack)(context, TILE_ROWS, begin, end); }
static void NAMED(pack_b)(void *context, int64_t begin, int64_t end) { NAMED(pack)(context, 2 * LANES, begin, end); }

static int64_t NAMED(panels)(int64_t lines, int64_t width) { return (lines + width - 1) / width; }

/* ---------------------------------------------------------------- the micro-kernel */
/* block[r] (+)= Σ_k a[k][r] · b[k][:] */
static inline __attribute__((always_inline)) void NAMED(micro)(const T *a, const T *b, int64_t depth,
                                                               NAMED(vector) block[TILE_ROWS][2]) {
    for (int64_t k = 0; k < depth; k++, a += TILE_ROWS, b += 2 * LANES) {
        const NAMED(vector) b0 = NAMED(load)(b), b1 = NAMED(load)(b + LANES);
#pragma GCC unroll 12
        for (int r = 0; r < TILE_ROWS; r++) {
            const NAMED(vector) ar = a[r] - (NAMED(vector)){0};
            block[r][0] += ar * b0;
            block[r][1] += ar * b1;
        }
    }
}

/* What the sums begin with: what is there, or the bias of each column, or zero. */
static inline __attribute__((always_inline)) void NAMED(begin_tile)(const T *c, int64_t c_row, bool adds, const T *bias,
                                                                    NAMED(vector) block[TILE_ROWS][2]) {
    const NAMED(vector) zero = {0};
#pragma GCC unroll 12
    for (int r = 0; r < TILE_ROWS; r++) {
        const T *from = adds ? c + r * c_row : bias;
        block[r][0] = from ? NAMED(load)(from) : zero;
        block[r][1] = from ? NAMED(load)(from + LANES) : zero;
    }
}

static inline __attribute__((always_inline)) void NAMED(end_tile)(NAMED(vector) block[TILE_ROWS][2], T *c,
                                                                  int64_t c_row) {
#pragma GCC unroll 12
    for (int r = 0; r < TILE_ROWS; r++) {
        *(NAMED(loose) *)(c + r * c_row) = block[r][0];
        *(NAMED(loose) *)(c + r * c_row + LANES) = block[r][1];
    }
}

static void NAMED(tile)(const NAMED(gemm) * g, int64_t row_panel, int64_t column_panel, int64_t start, int64_t depth) {
    enum { COLUMNS = 2 * LANES };
    NAMED(vector) block[TILE_ROWS][2];
    const int64_t row = row_panel * TILE_ROWS, column = column_panel * COLUMNS;
    const int64_t rows = g->m - row < TILE_ROWS ? g->m - row : TILE_ROWS,
                  columns = g->n - column < COLUMNS ? g->n - column : COLUMNS;
    const T *a = g->packed_a + row_panel * TILE_ROWS * g->k + start * TILE_ROWS;
    const T *b = g->packed_b + column_panel * COLUMNS * g->k + start * COLUMNS;
    T *c = g->c + row * g->c_row + column;
    if (rows == TILE_ROWS && columns == COLUMNS) {
        NAMED(begin_tile)(c, g->c_row, start > 0, g->bias ? g->bias + column : NULL, block);
        NAMED(micro)(a, b, depth, block);
        NAMED(end_tile)(block, c, g->c_row);
        return;
    }
    T edge[TILE_ROWS * COLUMNS] = {0}, bias[COLUMNS] = {0};
    if (g->bias) memcpy(bias, g->bias + column, (size_t)columns * sizeof(T));
    for (int64_t r = 0; start && r < rows; r++)
        memcpy(edge + r * COLUMNS, c + r * g->c_row, (size_t)columns * sizeof(T));
    NAMED(begin_tile)(edge, COLUMNS, start > 0, bias, block);
    NAMED(micro)(a, b, depth, block);
    NAMED(end_tile)(block, edge, COLUMNS);
    for (int64_t r = 0; r < rows; r++)
        memcpy(c + r * g->c_row, edge + r * COLUMNS, (size_t)columns * sizeof(T));
}

/* A task is GROUP_ROWS panels of A times GROUP_COLUMNS panels of B: B's part stays in the cache over the rows. */
static void NAMED(tasks)(void *context, int64_t begin, int64_t end) {
    const NAMED(gemm) *g = context;
    const int64_t row_panels = (g->m + TILE_ROWS - 1) / TILE_ROWS, column_panels = (g->n + 2 * LANES - 1) / (2 * LANES);
    const int64_t row_groups = (row_panels + GROUP_ROWS - 1) / GROUP_ROWS;
    for (int64_t task = begin; task < end; task++) {
        const int64_t row = task % row_groups * GROUP_ROWS, column = task / row_groups * GROUP_COLUMNS;
        const int64_t row_end = row + GROUP_ROWS < row_panels ? row + GROUP_ROWS : row_panels;
        const int64_t column_end = column + GROUP_COLUMNS < column_panels ? column + GROUP_COLUMNS : column_panels;
        for (int64_t start = 0; start < g->k || (start == 0 && g->k == 0); start += DEPTH_BLOCK) {
            const int64_t depth = g->k - start < DEPTH_BLOCK ? g->k - start : DEPTH_BLOCK;
            for (int64_t c = column; c < column_end; c++)
                for (int64_t r = row; r < row_end; r++)
                    NAMED(tile)(g, r, c, start, depth);
        }
        if (g->epilogue) {
            const int64_t first_row = row * TILE_ROWS, first = column * 2 * LANES;
            const int64_t last_row = row_end * TILE_ROWS < g->m ? row_end * TILE_ROWS : g->m,
                          last = column_end * 2 * LANES < g->n ? column_end * 2 * LANES : g->n;
            cr_epilogue_run(g->epilogue, g->image, first_row, last_row - first_row, first, last - first);
        }
    }
}

/* ---------------------------------------------------------------- few rows: no packing */
/* Columns begin … end-1 of every row; a row of B at a time where its columns are neighbours, else sums along k. */
static void NAMED(few_rows)(void *context, int64_t begin, int64_t end) {
    const NAMED(gemm) *g = context;
    for (int64_t row = 0; row < g->m; row++) {
        const T *a = g->a + row * g->a_row;
        T *c = g->c + row * g->c_row;
        if (g->b_column == 1) {
            for (int64_t i = begin; i < end; i++)
                c[i] = g->bias ? g->bias[i] : 0;
            for (int64_t k = 0; k < g->k; k++) {
                const T factor = a[k * g->a_column], *b = g->b + k * g->b_row;
                for (int64_t i = begin; i < end; i++)
                    c[i] += factor * b[i];
            }
            continue;
        }
        for (int64_t i = begin; i < end; i++) {
            const T *b = g->b + i * g->b_column;
            T sums[4 * LANES] = {0}, total = g->bias ? g->bias[i] : 0;
            int64_t k = 0;
            if (g->b_row == 1 && g->a_column == 1)
                for (; k + 4 * LANES <= g->k; k += 4 * LANES)
                    for (int l = 0; l < 4 * LANES; l++)
                        sums[l] += a[k + l] * b[k + l];
            for (int l = 0; k < g->k; k++, l = (l + 1) % (4 * LANES))
                sums[l] += a[k * g->a_column] * b[k * g->b_row];
            for (int l = 0; l < 4 * LANES; l++)
                total += sums[l];
            c[i] = total;
        }
    }
    if (g->epilogue && begin < end) cr_epilogue_run(g->epilogue, g->image, 0, g->m, begin, end - begin);
}

/* Whether A and B are packed: not for few rows, nor for products so small that packing is most of the work. */
static bool NAMED(packs)(const NAMED(gemm) * g) {
    return g->m > FEW_ROWS && !(g->m * g->n * g->k <= SMALL_PRODUCT && g->b_column == 1);
}

static int64_t NAMED(b_elements)(const NAMED(gemm) * g) {
    return (g->n + 2 * LANES - 1) / (2 * LANES) * 2 * LANES * g->k + 64 / (int64_t)sizeof(T);
}

/* b as panels in `to`. */
static void NAMED(pack_all_b)(NAMED(gemm) * g, T *to) {
    NAMED(side) b = {g->b, g->n, g->b_column, g->b_row, g->k, to};
    g->packed_b = to;
    cr_parallel_for(NAMED(panels)(g->n, 2 * LANES), CR_GRAIN_ELEMENTS / (2 * LANES * g->k + 1), NAMED(pack_b), &b);
}

static void NAMED(pack_all_a)(NAMED(gemm) * g, T *to) {
    NAMED(side) a = {g->a, g->m, g->a_row, g->a_column, g->k, to};
    g->packed_a = to;
    cr_parallel_for(NAMED(panels)(g->m, TILE_ROWS), CR_GRAIN_ELEMENTS / (TILE_ROWS * g->k + 1), NAMED(pack_a), &a);
}

static bool NAMED(run)(NAMED(gemm) * g) {
    if (g->m == 0 || g->n == 0) return true;
    if (!NAMED(packs)(g)) {
        const int64_t each = g->m * (g->k + 1);
        cr_parallel_for(g->n, CR_GRAIN_ELEMENTS * 2 / each + LANES, NAMED(few_rows), g);
        return true;
    }
    const int64_t row_panels = NAMED(panels)(g->m, TILE_ROWS), column_panels = NAMED(panels)(g->n, 2 * LANES);
    scratch memory = {0};
    T *a = scratch_take(&memory, (size_t)(row_panels * TILE_ROWS * g->k + LANES) * sizeof(T));
    T *b = g->packed_b ? NULL : scratch_take(&memory, (size_t)NAMED(b_elements)(g) * sizeof(T));
    if (!a || (!b && !g->packed_b)) return scratch_drop(&memory);
    NAMED(pack_all_a)(g, a);
    if (b) NAMED(pack_all_b)(g, b);
    const int64_t groups = NAMED(panels)(row_panels, GROUP_ROWS) * NAMED(panels)(column_panels, GROUP_COLUMNS);
    const int64_t work = GROUP_ROWS * TILE_ROWS * GROUP_COLUMNS * 2 * LANES * (g->k + 1) / 16;
    cr_parallel_for(groups, CR_GRAIN_ELEMENTS / work, NAMED(tasks), g);
    scratch_drop(&memory);
    return true;
}
