/* C = A B + bias for one element type: define T, LANES and NAMED(x) before including it.
 *
 * A is packed into panels of TILE_ROWS rows and B into panels of TILE_COLUMNS columns, whatever their strides; a
 * micro-kernel keeps a TILE_ROWS x TILE_COLUMNS block of C in registers over DEPTH_BLOCK steps (Goto, van de Geijn,
 * "Anatomy of high-performance matrix multiplication", 2008). Every element of C is summed in the same order for any
 * number of threads. */

typedef T NAMED(vector) __attribute__((vector_size(LANES * sizeof(T))));
typedef T NAMED(loose) __attribute__((vector_size(LANES * sizeof(T)), aligned(sizeof(T)), may_alias));

typedef struct NAMED(gemm) {
    int64_t m, n, k;
    const T *a, *b;
    int64_t a_row, a_column, b_row, b_column; /* strides */
    T *c;                                     /* [m, n], rows c_row apart */
    int64_t c_row;
    const T *bias; /* [n] or NULL */
    T *packed_a;
    const T *packed_b;           /* given, or NULL: b is packed */
    T *packing;                  /* where */
    const cr_epilogue *epilogue; /* what is done to C, or NULL */
    int64_t image;               /* which of its images C is */
} NAMED(gemm);

/* ---------------------------------------------------------------- packing */
/* Panel p of A: [k][TILE_ROWS], rows past the end are zero. */
static void NAMED(pack_a)(void *context, int64_t begin, int64_t end) {
    const NAMED(gemm) *g = context;
    for (int64_t p = begin; p < end; p++) {
        T *to = g->packed_a + p * TILE_ROWS * g->k;
        const int64_t first = p * TILE_ROWS, rows = g->m - first < TILE_ROWS ? g->m - first : TILE_ROWS;
        const T *from = g->a + first * g->a_row;
        for (int64_t r = 0; r < TILE_ROWS; r++)
            for (int64_t k = 0; k < g->k; k++)
                to[k * TILE_ROWS + r] = r < rows ? from[r * g->a_row + k * g->a_column] : 0;
    }
}

/* Panel p of B: [k][TILE_COLUMNS]. */
static void NAMED(pack_b)(void *context, int64_t begin, int64_t end) {
    const NAMED(gemm) *g = context;
    enum { COLUMNS = 2 * LANES };
    for (int64_t p = begin; p < end; p++) {
        T *to = g->packing + p * COLUMNS * g->k;
        const int64_t first = p * COLUMNS, columns = g->n - first < COLUMNS ? g->n - first : COLUMNS;
        const T *from = g->b + first * g->b_column;
        if (g->b_column == 1 && columns == COLUMNS) {
            for (int64_t k = 0; k < g->k; k++)
                memcpy(to + k * COLUMNS, from + k * g->b_row, sizeof(T) * COLUMNS);
        } else if (g->b_row == 1) { /* B is a transposed view: read along its rows */
            for (int64_t c = 0; c < COLUMNS; c++)
                for (int64_t k = 0; k < g->k; k++)
                    to[k * COLUMNS + c] = c < columns ? from[c * g->b_column + k] : 0;
        } else {
            for (int64_t k = 0; k < g->k; k++)
                for (int64_t c = 0; c < COLUMNS; c++)
                    to[k * COLUMNS + c] = c < columns ? from[k * g->b_row + c * g->b_column] : 0;
        }
    }
}

/* ---------------------------------------------------------------- the micro-kernel */
/* block[r] (+)= Σ_k a[k][r] · b[k][:] */
static inline __attribute__((always_inline)) void NAMED(micro)(const T *a, const T *b, int64_t depth,
                                                               NAMED(vector) block[TILE_ROWS][2]) {
    for (int64_t k = 0; k < depth; k++, a += TILE_ROWS, b += 2 * LANES) {
        const NAMED(vector) b0 = *(const NAMED(loose) *)b, b1 = *(const NAMED(loose) *)(b + LANES);
        for (int r = 0; r < TILE_ROWS; r++) {
            const NAMED(vector) ar = a[r] - (NAMED(vector)){0};
            block[r][0] += ar * b0;
            block[r][1] += ar * b1;
        }
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
    T edge[TILE_ROWS * COLUMNS], *c = g->c + row * g->c_row + column;
    const bool whole = rows == TILE_ROWS && columns == COLUMNS;
    for (int64_t r = 0; r < TILE_ROWS; r++) {
        T first[COLUMNS];
        for (int64_t i = 0; i < COLUMNS; i++) {
            const bool inside = r < rows && i < columns;
            first[i] = !inside ? 0 : start ? c[r * g->c_row + i] : g->bias ? g->bias[column + i] : 0;
        }
        block[r][0] = *(const NAMED(loose) *)first;
        block[r][1] = *(const NAMED(loose) *)(first + LANES);
    }
    NAMED(micro)(a, b, depth, block);
    T *to = whole ? c : edge;
    const int64_t step = whole ? g->c_row : COLUMNS;
    for (int64_t r = 0; r < TILE_ROWS; r++) {
        *(NAMED(loose) *)(to + r * step) = block[r][0];
        *(NAMED(loose) *)(to + r * step + LANES) = block[r][1];
    }
    for (int64_t r = 0; !whole && r < rows; r++)
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

static void NAMED(pack_all_b)(NAMED(gemm) * g, T *to) {
    g->packing = to;
    g->packed_b = to;
    cr_parallel_for((g->n + 2 * LANES - 1) / (2 * LANES), CR_GRAIN_ELEMENTS / (2 * LANES * g->k + 1), NAMED(pack_b), g);
}

static bool NAMED(run)(NAMED(gemm) * g) {
    if (g->m == 0 || g->n == 0) return true;
    if (!NAMED(packs)(g)) {
        const int64_t each = g->m * (g->k + 1);
        cr_parallel_for(g->n, CR_GRAIN_ELEMENTS * 2 / each + LANES, NAMED(few_rows), g);
        return true;
    }
    const int64_t row_panels = (g->m + TILE_ROWS - 1) / TILE_ROWS, column_panels = (g->n + 2 * LANES - 1) / (2 * LANES);
    scratch memory = {0};
    g->packed_a = scratch_take(&memory, (size_t)(row_panels * TILE_ROWS * g->k + LANES) * sizeof(T));
    T *b = g->packed_b ? NULL : scratch_take(&memory, (size_t)NAMED(b_elements)(g) * sizeof(T));
    if (!g->packed_a || (!b && !g->packed_b)) return scratch_drop(&memory);
    cr_parallel_for(row_panels, CR_GRAIN_ELEMENTS / (TILE_ROWS * g->k + 1), NAMED(pack_a), g);
    if (b) NAMED(pack_all_b)(g, b);
    const int64_t groups =
        ((row_panels + GROUP_ROWS - 1) / GROUP_ROWS) * ((column_panels + GROUP_COLUMNS - 1) / GROUP_COLUMNS);
    const int64_t work = GROUP_ROWS * TILE_ROWS * GROUP_COLUMNS * 2 * LANES * (g->k + 1) / 16;
    cr_parallel_for(groups, CR_GRAIN_ELEMENTS / work, NAMED(tasks), g);
    scratch_drop(&memory);
    return true;
}
