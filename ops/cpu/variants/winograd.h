/* Winograd's minimal filtering, F(2×2, r×r): a correlation with r×r taps as products in a transformed domain, one for
 * each of (r+1)² points, with fewer multiplications: 9 in place of 16 with 2×2 taps, 16 in place of 36 with 3×3. (Lavin
 * and Gray, "Fast algorithms for convolutional neural networks", 2015.) The points are 0, 1, -1 and ∞, so that
 * transforms only add, and errors stay those of the direct sum; an infinity or NaN may reach its whole tile.
 *
 * A convolution whose kernel is r times its stride falls apart into such correlations: forward, each phase of x is a
 * channel of its own; backward, each phase of x is a result of its own. So k4 s2 p1 and k3 s1 p1 both come here.
 *
 * Tiles are columns: a vector holds one value of neighbouring tiles, which the padded copy, split by twice the stride,
 * has side by side.
 *
 * A template: include it with T and NAMED(name) defined, after convolution_data.h. */

/* ---------------------------------------------------------------- the transforms of one dim, on every step-th
 * element */
#define TRANSFORM static inline __attribute__((always_inline)) void

TRANSFORM NAMED(transform_input)(const int r, NAMED(vector) * d, const int step) {
    const NAMED(vector) d0 = d[0], d1 = d[step], d2 = d[2 * step];
    if (r == 2) {
        d[0] = d0 - d1;
        d[2 * step] = d2 - d1;
    } else {
        const NAMED(vector) d3 = d[3 * step];
        d[0] = d0 - d2;
        d[step] = d1 + d2;
        d[2 * step] = d2 - d1;
        d[3 * step] = d1 - d3;
    }
}

TRANSFORM NAMED(transform_output)(const int r, NAMED(vector) * d, const int step) {
    const NAMED(vector) d0 = d[0], d1 = d[step], d2 = d[2 * step];
    d[0] = r == 2 ? d0 + d1 : d0 + d1 + d2;
    d[step] = r == 2 ? d1 + d2 : d1 - d2 - d[3 * step];
}

/* g[0 … r-1] (each ROWS numbers) to r + 1 points. */
TRANSFORM NAMED(transform_weight)(const int r, const T (*g)[ROWS], T (*u)[ROWS], const int from_step,
                                  const int to_step) {
    for (int i = 0; i < ROWS; i++) {
        const T g0 = g[0][i], g1 = g[from_step][i], g2 = r == 3 ? g[2 * from_step][i] : 0;
        u[0][i] = g0;
        if (r == 2) {
            u[to_step][i] = g0 + g1;
            u[2 * to_step][i] = g1;
        } else {
            u[to_step][i] = (g0 + g2 + g1) * (T)0.5;
            u[2 * to_step][i] = (g0 + g2 - g1) * (T)0.5;
            u[3 * to_step][i] = g2;
        }
    }
}

/* ---------------------------------------------------------------- the problem */
/* result[n][row][o] = bias[row] + sum over v and taps q of weight(row, v, q) padded[n][v][o + q], over one plane (dims
 * 1, 2). */
typedef struct NAMED(winograd) {
    int r;                       /* taps in each dim; m is 2 */
    int64_t rows, depth, images; /* depth: how many v */
    int64_t split;               /* stride of the input phases: v = (channel·split + phase1)·split + phase2 */
    NAMED(padded) pad;           /* its step is 2·split; sizes are set here */
    int64_t all_channels;        /* of an image */
    /* weight(row, v, q) = w[row·weight_row + channel·weight_channel + tap(phase, q)] */
    const T *w;
    int64_t weight_row, weight_channel, kernel_width, tap_step;
    int64_t tap_start[2]; /* backward: the result's phase */
    bool flipped;
    T *target;
    const T *bias;
    int64_t target_image, target_row, target_step[2], size[2]; /* of results: steps and counts in both dims */
    int64_t tiles[2], column_panels, row_panels;
    int64_t shift[2];                   /* where the first tile begins in the padded copy */
    int64_t target_start;               /* of the first result in the image */
    int64_t right_point, product_point; /* elements from one point to the next: an odd number of cache lines, so that
                                         * the points do not fall into one set of the cache */
    bool accumulate;                    /* the products add to what is there */
    const T *packed;                    /* the transformed weights */
    T *weights, *right, *products;      /* weights: where they are made */
} NAMED(winograd);

/* ---------------------------------------------------------------- weights: [point][row panel][v][ROWS] */
TRANSFORM NAMED(transform_weights_at)(const NAMED(winograd) * j, const int r, int64_t panel, int64_t v) {
    enum { MOST = 4 };
    T g[9][ROWS], half[MOST * 3][ROWS], u[MOST * MOST][ROWS];
    const int points = r + 1;
    const int64_t phase2 = v % j->split, phase1 = v / j->split % j->split, channel = v / j->split / j->split;
    const int64_t start = (j->tap_start[0] + phase1) * j->kernel_width + j->tap_start[1] + phase2;
    for (int a = 0; a < r; a++)
        for (int b = 0; b < r; b++) {
            const int qa = j->flipped ? r - 1 - a : a, qb = j->flipped ? r - 1 - b : b;
            const T *w = j->w + channel * j->weight_channel + start + (qa * j->kernel_width + qb) * j->tap_step;
            for (int i = 0; i < ROWS; i++)
                g[a * r + b][i] = panel * ROWS + i < j->rows ? w[(panel * ROWS + i) * j->weight_row] : 0;
        }
    for (int a = 0; a < r; a++)
        NAMED(transform_weight)(r, (const T(*)[ROWS]) & g[a * r], &half[a * points], 1, 1);
    for (int b = 0; b < points; b++)
        NAMED(transform_weight)(r, (const T(*)[ROWS]) & half[b], &u[b], points, points);
    for (int p = 0; p < points * points; p++)
        memcpy(j->weights + ((p * j->row_panels + panel) * j->depth + v) * ROWS, u[p], sizeof u[p]);
}

static void NAMED(transform_weights)(void *context, int64_t begin, int64_t end) {
    const NAMED(winograd) *j = context;
    for (int64_t i = begin; i < end; i++)
        if (j->r == 2)
            NAMED(transform_weights_at)(j, 2, i / j->depth, i % j->depth);
        else
            NAMED(transform_weights_at)(j, 3, i / j->depth, i % j->depth);
}

/* ---------------------------------------------------------------- input: [point][column panel][v][COLUMNS] */
/* Tiles of one panel as runs: in the padded copy, and in the result. */
static int NAMED(find_tile_runs)(const NAMED(winograd) * j, int64_t panel, column_run *runs) {
    const NAMED(product) tiles = {.grid = {1, j->images, j->tiles[0], j->tiles[1]},
                                  .source_step = {0, j->all_channels * j->pad.item_target, j->pad.size[2], 1},
                                  .target_step = {0, j->target_image, 2 * j->target_step[0], 2 * j->target_step[1]}};
    const int64_t first = panel * COLUMNS, left = j->images * j->tiles[0] * j->tiles[1] - first;
    return NAMED(find_runs)(&tiles, first, left < COLUMNS ? left : COLUMNS, runs);
}

/* Where a panel's tiles lie in the padded copy: each vector of them side by side, or each four, or in runs that must be
 * gathered first. */
enum { NAMED(FOURS) = NAMED(LANES) / 4 };
typedef struct NAMED(tile_panel) {
    column_run runs[NAMED(COLUMNS)];
    int run_count;
    bool by_vectors, by_fours;
    int64_t fours[2 * NAMED(FOURS)]; /* where each four begin */
} NAMED(tile_panel);

static void NAMED(find_tile_panel)(const NAMED(winograd) * j, int64_t panel, NAMED(tile_panel) * t) {
    t->run_count = NAMED(find_tile_runs)(j, panel, t->runs);
    t->by_vectors = t->by_fours = true;
    int run = 0;
    for (int i = 0; i < 2 * NAMED(FOURS); i++) {
        while (run + 1 < t->run_count && t->runs[run + 1].at <= 4 * i)
            run++;
        t->by_fours &= run + 1 == t->run_count || t->runs[run + 1].at >= 4 * i + 4;
        t->fours[i] = t->runs[run].source + 4 * i - t->runs[run].at;
        if (4 * i >= t->runs[run].at + t->runs[run].count) t->fours[i] = i ? t->fours[i - 1] + 4 : t->runs[run].source;
        t->by_vectors &= i % NAMED(FOURS) == 0 || t->fours[i] == t->fours[i - 1] + 4;
    }
    t->by_vectors &= t->by_fours;
}

/* One value of a panel's tiles: where it lies, or gathered in `buffer`. */
static inline __attribute__((always_inline)) const T *NAMED(gather_tiles)(const T *from, const NAMED(tile_panel) * t,
                                                                          T *buffer) {
    if (t->by_fours) return from;
    for (int i = 0; i < t->run_count; i++) {
        NAMED(copy_vector)(buffer + t->runs[i].at, from + t->runs[i].source);
        if (t->runs[i].count > LANES)
            NAMED(copy_vector)(buffer + t->runs[i].at + LANES, from + t->runs[i].source + LANES);
    }
    return buffer;
}

/* A vector of what was gathered. */
static inline __attribute__((always_inline)) NAMED(vector)
    NAMED(load_tiles)(const T *from, const NAMED(tile_panel) * t, int half) {
    const int64_t *fours = t->fours + half * NAMED(FOURS);
    if (!t->by_fours) return *(const NAMED(loose_vector) *)(from + half * LANES);
#if defined(__AVX__)
    if (!t->by_vectors) {
        const NAMED(quad) a = *(const NAMED(quad) *)(from + fours[0]), b = *(const NAMED(quad) *)(from + fours[1]);
#if defined(__AVX512F__)
        const NAMED(quad) c = *(const NAMED(quad) *)(from + fours[2]), d = *(const NAMED(quad) *)(from + fours[3]);
        return __builtin_shufflevector(__builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7),
                                       __builtin_shufflevector(c, d, 0, 1, 2, 3, 4, 5, 6, 7), 0, 1, 2, 3, 4, 5, 6, 7, 8,
                                       9, 10, 11, 12, 13, 14, 15);
#else
        return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
#endif
    }
#endif
    return *(const NAMED(loose_vector) *)(from + fours[0]);
}

/* Writes the points of v's tiles to out, out + point_step, …, COLUMNS numbers each. */
TRANSFORM NAMED(transform_input_tiles)(const NAMED(winograd) * j, const int r, int64_t v, const NAMED(tile_panel) * t,
                                       T *out, int64_t point_step) {
    const int points = r + 1;
    const int64_t plane = j->pad.size[1] * j->pad.size[2], sides = 2 * j->split;
    const int64_t phase2 = v % j->split, phase1 = v / j->split % j->split, channel = v / j->split / j->split;
    const T *image = j->pad.target + channel * j->pad.item_target, *from[4 * 4];
    _Alignas(64) T buffer[4 * 4][4 * LANES]; /* wider than a panel: runs are copied by whole vectors */
    for (int a = 0; a < points; a++)
        for (int b = 0; b < points; b++) {
            const int64_t l1 = a + j->shift[0], l2 = b + j->shift[1];
            const int64_t place = (l1 % 2 * j->split + phase1) * sides + l2 % 2 * j->split + phase2;
            from[a * points + b] = NAMED(gather_tiles)(image + place * plane + l1 / 2 * j->pad.size[2] + l2 / 2, t,
                                                       buffer[a * points + b]);
        }
    for (int half = 0; half < 2; half++) {
        NAMED(vector) d[4 * 4];
        for (int p = 0; p < points * points; p++)
            d[p] = NAMED(load_tiles)(from[p], t, half);
        for (int a = 0; a < points; a++)
            NAMED(transform_input)(r, &d[a * points], 1);
        for (int b = 0; b < points; b++)
            NAMED(transform_input)(r, &d[b], points);
        for (int p = 0; p < points * points; p++)
            *(NAMED(vector) *)(void *)(out + p * point_step + half * LANES) = d[p];
    }
}

static void NAMED(transform_inputs)(void *context, int64_t begin, int64_t end) {
    const NAMED(winograd) *j = context;
    NAMED(tile_panel) tiles;
    int64_t known = -1;
    for (int64_t i = begin; i < end; i++) {
        if (i / j->depth != known) NAMED(find_tile_panel)(j, known = i / j->depth, &tiles);
        T *out = j->right + i * COLUMNS;
        if (j->r == 2)
            NAMED(transform_input_tiles)(j, 2, i % j->depth, &tiles, out, j->right_point);
        else
            NAMED(transform_input_tiles)(j, 3, i % j->depth, &tiles, out, j->right_point);
    }
}

/* ---------------------------------------------------------------- products: [point][row panel][column
 * panel][ROWS][COLUMNS] */
enum { NAMED(PANELS_TOGETHER) = BLOCK_BYTES / (2 * VECTOR_BYTES) };

static void NAMED(multiply_points)(void *context, int64_t begin, int64_t end) {
    const NAMED(winograd) *j = context;
    const int64_t row_blocks = (j->row_panels + 15) / 16,
                  column_blocks = (j->column_panels + NAMED(PANELS_TOGETHER) - 1) / NAMED(PANELS_TOGETHER);
    for (int64_t i = begin; i < end; i++) {
        const int64_t row_block = i % row_blocks, column_block = i / row_blocks % column_blocks,
                      point = i / row_blocks / column_blocks;
        const int64_t row_end = (row_block + 1) * 16 < j->row_panels ? (row_block + 1) * 16 : j->row_panels;
        const int64_t first = column_block * NAMED(PANELS_TOGETHER);
        const int64_t last =
            first + NAMED(PANELS_TOGETHER) < j->column_panels ? first + NAMED(PANELS_TOGETHER) : j->column_panels;
        for (int64_t k = 0; k < j->depth; k += DEPTH)
            for (int64_t row = row_block * 16; row < row_end; row++)
                for (int64_t c = first; c < last; c++)
                    NAMED(multiply)
        (ROWS, j->depth - k < DEPTH ? j->depth - k : DEPTH,
         j->packed + ((point * j->row_panels + row) * j->depth + k) * ROWS,
         j->right + point * j->right_point + (c * j->depth + k) * COLUMNS, NULL,
         j->products + point * j->product_point + (row * j->column_panels + c) * ROWS * COLUMNS,
         k > 0 || j->accumulate);
    }
}

/* ---------------------------------------------------------------- results */
/* Two neighbouring results of each of `count` tiles. */
static void NAMED(write_pairs)(T *restrict to, int64_t step, const T *restrict first, const T *restrict second,
                               int64_t count, T bias) {
    if (step == 1)
        for (int64_t i = 0; i < count; i++) {
            to[2 * i] = first[i] + bias;
            to[2 * i + 1] = second[i] + bias;
        }
    else
        for (int64_t i = 0; i < count; i++) {
            to[2 * i * step] = first[i] + bias;
            to[2 * i * step + step] = second[i] + bias;
        }
}

/* The 2×2 results of a panel's tiles in one row; outside the result nothing is written. */
static void NAMED(write_tiles)(const NAMED(winograd) * j, int64_t panel, T *to, const T (*values)[2 * LANES], T bias,
                               const column_run *runs, int run_count) {
    const bool whole = j->size[0] % 2 == 0 && j->size[1] % 2 == 0;
    for (int r = 0; r < run_count; r++) {
        const int64_t tile = panel * COLUMNS + runs[r].at;
        for (int a = 0; a < 2; a++) {
            T *start = to + runs[r].target + a * j->target_step[0];
            const T *first = values[2 * a] + runs[r].at, *second = values[2 * a + 1] + runs[r].at;
            if (whole) {
                NAMED(write_pairs)(start, j->target_step[1], first, second, runs[r].count, bias);
                continue;
            }
            for (int i = 0; i < runs[r].count; i++) {
                const int64_t column = (tile + i) % j->tiles[1], row = (tile + i) / j->tiles[1] % j->tiles[0];
                if (row * 2 + a >= j->size[0]) continue;
                start[i * 2 * j->target_step[1]] = first[i] + bias;
                if (column * 2 + 1 < j->size[1]) start[(i * 2 + 1) * j->target_step[1]] = second[i] + bias;
            }
        }
    }
}

TRANSFORM NAMED(transform_outputs_at)(const NAMED(winograd) * j, const int r, int64_t row, int64_t panel,
                                      const column_run *runs, int run_count) {
    const int points = r + 1;
    _Alignas(64) T values[4][2 * LANES];
    const T *from = j->products + ((row / ROWS * j->column_panels + panel) * ROWS + row % ROWS) * COLUMNS;
    for (int half = 0; half < 2; half++) {
        NAMED(vector) d[4 * 4];
        for (int p = 0; p < points * points; p++)
            d[p] = *(const NAMED(vector) *)(const void *)(from + p * j->product_point + half * LANES);
        for (int a = 0; a < points; a++)
            NAMED(transform_output)(r, &d[a * points], 1);
        for (int b = 0; b < 2; b++)
            NAMED(transform_output)(r, &d[b], points);
        for (int a = 0; a < 2; a++)
            for (int b = 0; b < 2; b++)
                *(NAMED(vector) *)(void *)(values[2 * a + b] + half * LANES) = d[a * points + b];
    }
    NAMED(write_tiles)
    (j, panel, j->target + row * j->target_row, (const T(*)[2 * LANES]) values, j->bias ? j->bias[row] : 0, runs,
     run_count);
}

static void NAMED(transform_outputs)(void *context, int64_t begin, int64_t end) {
    const NAMED(winograd) *j = context;
    column_run runs[NAMED(COLUMNS)];
    for (int64_t i = begin; i < end; i++) { /* a row panel by a column panel */
        const int64_t panel = i % j->column_panels, first = i / j->column_panels * ROWS;
        const int run_count = NAMED(find_tile_runs)(j, panel, runs);
        for (int64_t row = first; row < first + ROWS && row < j->rows; row++)
            if (j->r == 2)
                NAMED(transform_outputs_at)(j, 2, row, panel, runs, run_count);
            else
                NAMED(transform_outputs_at)(j, 3, row, panel, runs, run_count);
    }
}

/* ---------------------------------------------------------------- running */
static int64_t NAMED(odd_lines)(int64_t elements) {
    const int64_t line = 64 / (int64_t)sizeof(T);
    return (round_up(elements, line) / line | 1) * line;
}

/* Sizes of the padded copy that all of the `count` correlations read, and of their tiles. */
static void NAMED(lay_out)(NAMED(winograd) * j, int count, const int64_t *phases) {
    static const int64_t one_phase[1] = {0};
    NAMED(padded) *pad = &j[0].pad;
    pad->size[0] = pad->step[0] = pad->phase_count[0] = 1;
    pad->phases[0] = one_phase;
    for (int d = 0; d < 2; d++) {
        pad->size[d + 1] = 0;
        pad->step[d + 1] = pad->phase_count[d + 1] = 2 * j->split;
        pad->phases[d + 1] = phases;
        for (int i = 0; i < count; i++) {
            j[i].tiles[d] = (j[i].size[d] + 1) / 2;
            const int64_t size = j[i].tiles[d] + (j->r + j[i].shift[d]) / 2;
            if (size > pad->size[d + 1]) pad->size[d + 1] = size;
        }
    }
    pad->item_target = pad->phase_count[1] * pad->phase_count[2] * pad->size[1] * pad->size[2];
}

static void NAMED(multiply_all_points)(NAMED(winograd) * j) {
    const int64_t points = (j->r + 1) * (j->r + 1), together = NAMED(PANELS_TOGETHER);
    cr_parallel_for(points * ((j->row_panels + 15) / 16) * ((j->column_panels + together - 1) / together), 1,
                    NAMED(multiply_points), j);
}

static void NAMED(run_correlation)(NAMED(winograd) * j, int64_t images, T *target) {
    const int64_t points = (j->r + 1) * (j->r + 1);
    j->images = images;
    j->column_panels = (images * j->tiles[0] * j->tiles[1] + COLUMNS - 1) / COLUMNS;
    j->right_point = NAMED(odd_lines)(j->column_panels * j->depth * COLUMNS);
    j->product_point = NAMED(odd_lines)(j->row_panels * j->column_panels * ROWS * COLUMNS);
    j->target = target + j->target_start;
    cr_parallel_for(j->column_panels * j->depth, 1 + CR_GRAIN_ELEMENTS / (points * COLUMNS * 4),
                    NAMED(transform_inputs), j);
    NAMED(multiply_all_points)(j);
    cr_parallel_for(j->row_panels * j->column_panels, 1 + CR_GRAIN_ELEMENTS / (points * ROWS * COLUMNS),
                    NAMED(transform_outputs), j);
}

/* One range of images after the other, each slot by itself: threads meet once and not after every step. A single slot
 * shares each step out instead. */
typedef struct NAMED(winograd_slots) {
    const NAMED(winograd) * correlations;
    int count;
    const T *source;
    T *target;
    const cr_epilogue *epilogue;
    int64_t batch, slots, chunk, right_elements, product_elements, copy_elements; /* the last three: of a slot */
} NAMED(winograd_slots);

static void NAMED(run_winograd_slots)(void *context, int64_t begin, int64_t end) {
    const NAMED(winograd_slots) *all = context;
    NAMED(winograd) j[16];
    for (int64_t slot = begin; slot < end; slot++) {
        memcpy(j, all->correlations, (size_t)all->count * sizeof j[0]);
        j->pad.target += slot * all->copy_elements;
        for (int i = 0; i < all->count; i++) {
            j[i].pad = j->pad;
            j[i].right += slot * all->right_elements;
            j[i].products += slot * all->product_elements;
        }
        const int64_t last = (slot + 1) * all->batch / all->slots;
        for (int64_t first = slot * all->batch / all->slots; first < last; first += all->chunk) {
            const int64_t images = last - first < all->chunk ? last - first : all->chunk;
            j->pad.items = images * j->all_channels;
            j->pad.source = all->source + first * j->all_channels * j->pad.item_source;
            NAMED(pad)(&j->pad);
            for (int i = 0; i < all->count; i++)
                NAMED(run_correlation)(&j[i], images, all->target + first * j->target_image);
            cr_epilogue_images(all->epilogue, first, images);
        }
    }
}

/* Elements of the transformed weights of one correlation. */
static int64_t NAMED(weight_elements)(const NAMED(winograd) * j) {
    return (j->r + 1) * (j->r + 1) * round_up(j->rows, ROWS) * j->depth;
}

/* What the tiles of a chunk of images may take: little enough to stay in the cache, but no less than the weights, which
 * each chunk reads again, as far as caches go. */
static int64_t NAMED(chunk_bytes)(int64_t weight_elements) {
    enum { LEAST = 3 << 20, MOST = 12 << 20 };
    const int64_t bytes = weight_elements * (int64_t)sizeof(T);
    return bytes < LEAST ? LEAST : bytes > MOST ? MOST : bytes;
}

static void NAMED(pack_winograd)(NAMED(winograd) * j, int count, T *weights) {
    const int64_t points = (j->r + 1) * (j->r + 1);
    for (int i = 0; i < count; i++) {
        j[i].row_panels = (j->rows + ROWS - 1) / ROWS;
        j[i].weights = weights + i * NAMED(weight_elements)(j);
        cr_parallel_for(j[i].row_panels * j->depth, 1 + CR_GRAIN_ELEMENTS / (points * ROWS * 4),
                        NAMED(transform_weights), &j[i]);
    }
}

/* Correlations of one source that differ in weights, shift and target. */
static bool NAMED(run_winograd)(NAMED(winograd) * j, int count, const T *source, T *target, int64_t batch,
                                const layer *extra) {
    enum { SLOT_TILES = 96 }; /* fewer tiles than that do not use what a product reads */
    const int64_t phases[] = {0, 1, 2, 3, 4, 5, 6, 7}, points = (j->r + 1) * (j->r + 1), threads = cr_num_threads();
    NAMED(lay_out)(j, count, phases);
    const int64_t row_panels = (j->rows + ROWS - 1) / ROWS;
    int64_t tiles = 1;
    for (int i = 0; i < count; i++)
        if (j[i].tiles[0] * j[i].tiles[1] > tiles) tiles = j[i].tiles[0] * j[i].tiles[1];
    NAMED(winograd_slots)
    all = {.correlations = j,
           .count = count,
           .source = source,
           .target = target,
           .epilogue = extra->epilogue,
           .batch = batch};
    all.slots = batch * tiles >= threads * SLOT_TILES && batch >= threads ? threads : 1;
    const int64_t image_bytes = points * (j->depth + row_panels * ROWS) * tiles * (int64_t)sizeof(T);
    const int64_t fitting = NAMED(chunk_bytes)(count * NAMED(weight_elements)(j)) / all.slots / image_bytes,
                  share = (batch + all.slots - 1) / all.slots;
    const int64_t enough = all.slots > 1 ? (SLOT_TILES + tiles - 1) / tiles : 1,
                  wanted = fitting > enough ? fitting : enough;
    all.chunk = wanted < share ? wanted : share;
    const int64_t panels = (all.chunk * tiles + COLUMNS - 1) / COLUMNS;
    all.right_elements = points * NAMED(odd_lines)(panels * j->depth * COLUMNS);
    all.product_elements = points * NAMED(odd_lines)(panels * row_panels * ROWS * COLUMNS);
    all.copy_elements = NAMED(odd_lines)(all.chunk * j->all_channels * j->pad.item_target + 2 * COLUMNS);
    scratch memory = {0};
    const T *packed = extra->packed;
    T *weights = packed ? NULL : scratch_take(&memory, (size_t)(count * NAMED(weight_elements)(j)) * sizeof(T));
    T *right = scratch_take(&memory, (size_t)(all.slots * all.right_elements) * sizeof(T));
    T *products = scratch_take(&memory, (size_t)(all.slots * all.product_elements) * sizeof(T));
    j->pad.target = scratch_take(&memory, (size_t)(all.slots * all.copy_elements) * sizeof(T));
    if ((!packed && !weights) || !right || !products || !j->pad.target) return scratch_drop(&memory);
    if (!packed) NAMED(pack_winograd)(j, count, weights);
    for (int i = 0; i < count; i++) {
        j[i].row_panels = row_panels;
        j[i].packed = (packed ? packed : weights) + i * NAMED(weight_elements)(j);
        j[i].right = right;
        j[i].products = products;
    }
    cr_parallel_for(all.slots, 1, NAMED(run_winograd_slots), &all);
    scratch_drop(&memory);
    return true;
}

/* Taps in each dim of the correlations that the problem falls into; 0 where Winograd does not apply or does not pay: few
 * tiles do not, unless the weights were transformed before. */
static int NAMED(winograd_taps)(const cr_convolution *p, int64_t rows, int64_t depth, int64_t tiles, bool packed) {
    const int64_t r = p->kernel[2] / p->stride[2];
    if (p->kernel[0] != 1 || p->in[0] != 1 || p->stride[0] != 1 || p->padding[0] != 0 || p->groups != 1) return 0;
    if (p->dilation[1] != 1 || p->dilation[2] != 1 || p->kernel[1] != p->kernel[2] || p->stride[1] != p->stride[2])
        return 0;
    if ((r != 2 && r != 3) || r * p->stride[2] != p->kernel[2] || p->stride[2] > 4) return 0;
    return rows >= 32 && depth >= 32 && tiles >= (packed ? COLUMNS : 4 * COLUMNS) ? (int)r : 0;
}

static NAMED(winograd) NAMED(forward_correlation)(const cr_convolution *p, int r) {
    const int64_t s = p->stride[2], taps = p->kernel[1] * p->kernel[2];
    return (NAMED(winograd)){.r = r,
                             .rows = p->features,
                             .depth = p->channels * s * s,
                             .split = s,
                             .all_channels = p->channels,
                             .pad = {.item_source = cr_product3(p->in),
                                     .in = {1, p->in[1], p->in[2]},
                                     .padding = {0, p->padding[1], p->padding[2]}},
                             .weight_row = p->channels * taps,
                             .weight_channel = taps,
                             .kernel_width = p->kernel[2],
                             .tap_step = s,
                             .target_image = p->features * cr_product3(p->out),
                             .target_row = cr_product3(p->out),
                             .target_step = {p->out[2], 1},
                             .size = {p->out[1], p->out[2]}};
}

/* The correlations of y = x * w, and of x from y: one, with flipped taps, for each phase of x. How many; 0 where the
 * problem does not allow it or it does not pay. */
static int NAMED(forward_correlations)(const cr_convolution *p, bool packed, NAMED(winograd) * j) {
    const int64_t s = p->stride[2], tiles = p->batch * ((p->out[1] + 1) / 2) * ((p->out[2] + 1) / 2);
    const int r = NAMED(winograd_taps)(p, p->features, p->channels * s * s, tiles, packed);
    if (r) j[0] = NAMED(forward_correlation)(p, r);
    return r != 0;
}

static int NAMED(data_correlations)(const cr_convolution *p, bool packed, NAMED(winograd) * all) {
    const int64_t s = p->stride[2], taps = p->kernel[1] * p->kernel[2];
    const int64_t tiles = p->batch * ((p->in[1] / s + 1) / 2) * ((p->in[2] / s + 1) / 2);
    const int r = NAMED(winograd_taps)(p, p->channels, p->features, tiles, packed);
    if (!r) return 0;
    int count = 0;
    int64_t least[2] = {INT64_MAX, INT64_MAX}; /* where the first of the phases begins */
    for (int d = 0; d < 2; d++)
        for (int64_t f = 0; f < s; f++) {
            const phase_range range = cr_range_of_phase(p, d + 1, f);
            if (range.count && range.first < least[d]) least[d] = range.first;
        }
    for (int64_t f1 = 0; f1 < s; f1++)
        for (int64_t f2 = 0; f2 < s; f2++) {
            const phase_range rows = cr_range_of_phase(p, 1, f1), columns = cr_range_of_phase(p, 2, f2);
            if (!rows.count || !columns.count) continue;
            all[count++] = (NAMED(winograd)){.r = r,
                                             .rows = p->channels,
                                             .depth = p->features,
                                             .split = 1,
                                             .all_channels = p->features,
                                             .pad = {.item_source = cr_product3(p->out),
                                                     .in = {1, p->out[1], p->out[2]},
                                                     .padding = {0, r - 1 - least[0], r - 1 - least[1]}},
                                             .weight_row = taps,
                                             .weight_channel = p->channels * taps,
                                             .kernel_width = p->kernel[2],
                                             .tap_step = s,
                                             .tap_start = {f1, f2},
                                             .flipped = true,
                                             .shift = {rows.first - least[0], columns.first - least[1]},
                                             .target_start = rows.start * p->in[2] + columns.start,
                                             .target_image = p->channels * cr_product3(p->in),
                                             .target_row = cr_product3(p->in),
                                             .target_step = {s * p->in[2], s},
                                             .size = {rows.count, columns.count}};
        }
    return count;
}

/* Either, where it applies; `*applies` says whether. */
static bool NAMED(run_correlations)(NAMED(winograd) * j, int count, const T *source, const T *w, const T *bias,
                                    T *target, int64_t batch, const layer *extra, bool *applies) {
    *applies = count > 0;
    for (int i = 0; i < count; i++) {
        j[i].w = w;
        j[i].bias = bias;
    }
    return count == 0 || NAMED(run_winograd)(j, count, source, target, batch, extra);
}

static bool NAMED(forward_winograd)(const cr_convolution *p, const T *x, const T *w, const T *bias, T *y,
                                    const layer *extra, bool *applies) {
    NAMED(winograd) j[1];
    const int count = NAMED(forward_correlations)(p, extra->packed != NULL, j);
    return NAMED(run_correlations)(j, count, x, w, bias, y, p->batch, extra, applies);
}

static bool NAMED(data_winograd)(const cr_convolution *p, const T *y, const T *w, const T *bias, T *x,
                                 const layer *extra, bool *applies) {
    NAMED(winograd) j[16];
    const int count = NAMED(data_correlations)(p, extra->packed != NULL, j);
    return NAMED(run_correlations)(j, count, y, w, bias, x, p->batch, extra, applies);
}

/* ---------------------------------------------------------------- weights packed once */
/* Elements that the weight of a layer packs to; 0: it does not. */
static int64_t NAMED(packed_elements)(const cr_convolution *p, bool transposed) {
    NAMED(winograd) j[16];
    const int count = transposed ? NAMED(data_correlations)(p, true, j) : NAMED(forward_correlations)(p, true, j);
    if (count) return count * NAMED(weight_elements)(j);
    return transposed ? 0 : NAMED(forward_packed)(p);
}

static bool NAMED(pack_layer)(const cr_convolution *p, bool transposed, const T *w, T *packed) {
    NAMED(winograd) j[16];
    const int count = transposed ? NAMED(data_correlations)(p, true, j) : NAMED(forward_correlations)(p, true, j);
    if (!count) return NAMED(pack_forward)(p, w, packed);
    for (int i = 0; i < count; i++)
        j[i].w = w;
    NAMED(pack_winograd)(j, count, packed);
    return true;
}
