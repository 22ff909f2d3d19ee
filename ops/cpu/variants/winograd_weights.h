/* The gradient by the weight in Winograd's domain: where y = A'[(G g G') ⊙ (B' d B)]A,
 *   dg = G'[ sum over tiles of (A dy A') ⊙ (B' d B) ]G,
 * at each point one product over the tiles. The transformed tiles are turned, so that channels lie side by side.
 *
 * A template: include it with T and NAMED(name) defined, after winograd.h. */

typedef struct NAMED(winograd_weights) {
    NAMED(winograd) x;       /* the input's tiles */
    NAMED(winograd) dy;      /* the result's gradient: its pad splits by 2 */
    NAMED(winograd) product; /* depth: tiles; columns: v; rows: features */
    int64_t tile_panels;
    T *dw;
} NAMED(winograd_weights);

/* Two results to the points, transposed output transform. */
TRANSFORM NAMED(spread_output)(const int r, NAMED(vector) * d, const int step) {
    const NAMED(vector) d0 = d[0], d1 = d[step];
    d[step] = d0 + d1;
    d[2 * step] = r == 2 ? d1 : d0 - d1;
    if (r == 3) d[3 * step] = -d1;
}

TRANSFORM NAMED(transform_gradient_tiles)(const NAMED(winograd) * j, const int r, int64_t row,
                                          const NAMED(tile_panel) * t, T *out, int64_t point_step) {
    const int points = r + 1;
    const int64_t plane = j->pad.size[1] * j->pad.size[2];
    const T *from[4];
    _Alignas(64) T buffer[4][4 * LANES];
    for (int i = 0; i < 4; i++)
        from[i] = NAMED(gather_tiles)(j->pad.target + row * j->pad.item_target + i * plane, t, buffer[i]);
    for (int half = 0; half < 2; half++) {
        NAMED(vector) d[4 * 4];
        for (int a = 0; a < 2; a++)
            for (int b = 0; b < 2; b++)
                d[a * points + b] = NAMED(load_tiles)(from[2 * a + b], t, half);
        for (int a = 0; a < 2; a++)
            NAMED(spread_output)(r, &d[a * points], 1);
        for (int b = 0; b < points; b++)
            NAMED(spread_output)(r, &d[b], points);
        for (int p = 0; p < points * points; p++)
            *(NAMED(vector) *)(void *)(out + p * point_step + half * LANES) = d[p];
    }
}

/* target[tile][width] = source[width][COLUMNS] for the first `tiles` tiles. */
static inline __attribute__((always_inline)) void NAMED(turn)(const T *source, const int width, T *target,
                                                              int64_t tiles) {
    for (int64_t t = 0; t < tiles; t++)
        for (int i = 0; i < width; i++)
            target[t * width + i] = source[i * COLUMNS + t];
}

static int64_t NAMED(tiles_of_panel)(const NAMED(winograd_weights) * j, int64_t panel) {
    const int64_t rest = j->product.depth - panel * COLUMNS;
    return rest < COLUMNS ? rest : COLUMNS;
}

/* Right side: [point][panel of v][tile][COLUMNS]. */
static void NAMED(turn_inputs)(void *context, int64_t begin, int64_t end) {
    const NAMED(winograd_weights) *j = context;
    const int64_t points = (j->x.r + 1) * (j->x.r + 1), point_step = COLUMNS * COLUMNS;
    NAMED(tile_panel) tiles;
    _Alignas(64) T block[4 * 4][NAMED(COLUMNS) * NAMED(COLUMNS)];
    for (int64_t i = begin; i < end; i++) {
        const int64_t panel = i % j->tile_panels, first = i / j->tile_panels * COLUMNS;
        NAMED(find_tile_panel)(&j->x, panel, &tiles);
        for (int64_t v = 0; v < COLUMNS; v++) {
            const int64_t real =
                first + v < j->x.depth ? first + v : j->x.depth - 1; /* columns past the last are not used */
            if (j->x.r == 2)
                NAMED(transform_input_tiles)(&j->x, 2, real, &tiles, block[0] + v * COLUMNS, point_step);
            else
                NAMED(transform_input_tiles)(&j->x, 3, real, &tiles, block[0] + v * COLUMNS, point_step);
        }
        for (int64_t p = 0; p < points; p++)
            NAMED(turn)
        (block[p], COLUMNS,
         j->product.right + p * j->product.right_point + (first * j->product.depth + panel * COLUMNS * COLUMNS),
         NAMED(tiles_of_panel)(j, panel));
    }
}

/* Left side: [point][panel of rows][tile][ROWS]. */
static void NAMED(turn_gradients)(void *context, int64_t begin, int64_t end) {
    const NAMED(winograd_weights) *j = context;
    const int64_t points = (j->x.r + 1) * (j->x.r + 1), point_step = ROWS * COLUMNS;
    NAMED(tile_panel) tiles;
    _Alignas(64) T block[4 * 4][ROWS * NAMED(COLUMNS)];
    for (int64_t i = begin; i < end; i++) {
        const int64_t panel = i % j->tile_panels, first = i / j->tile_panels * ROWS;
        NAMED(find_tile_panel)(&j->dy, panel, &tiles);
        for (int64_t row = 0; row < ROWS; row++) {
            const int64_t real =
                first + row < j->product.rows ? first + row : j->product.rows - 1; /* rows past the last are not used */
            if (j->x.r == 2)
                NAMED(transform_gradient_tiles)(&j->dy, 2, real, &tiles, block[0] + row * COLUMNS, point_step);
            else
                NAMED(transform_gradient_tiles)(&j->dy, 3, real, &tiles, block[0] + row * COLUMNS, point_step);
        }
        for (int64_t p = 0; p < points; p++)
            NAMED(turn)
        (block[p], ROWS,
         j->product.weights + ((p * j->product.row_panels + first / ROWS) * j->product.depth + panel * COLUMNS) * ROWS,
         NAMED(tiles_of_panel)(j, panel));
    }
}

/* G' w G for one row and v, into the weight's layout. */
TRANSFORM NAMED(finish_weight)(const NAMED(winograd_weights) * j, const int r, int64_t row, int64_t v) {
    const int points = r + 1;
    const int64_t s = j->x.split, phase2 = v % s, phase1 = v / s % s, channel = v / s / s;
    const T *from = j->product.products + (row / ROWS * j->product.column_panels + v / COLUMNS) * ROWS * COLUMNS +
                    row % ROWS * COLUMNS + v % COLUMNS;
    T w[4][4], half[3][4];
    for (int p = 0; p < points * points; p++)
        w[p / points][p % points] = from[p * j->product.product_point];
    for (int b = 0; b < points; b++) {
        half[0][b] = r == 2 ? w[0][b] + w[1][b] : w[0][b] + (w[1][b] + w[2][b]) * (T)0.5;
        half[1][b] = r == 2 ? w[1][b] + w[2][b] : (w[1][b] - w[2][b]) * (T)0.5;
        if (r == 3) half[2][b] = (w[1][b] + w[2][b]) * (T)0.5 + w[3][b];
    }
    T *to = j->dw + row * j->x.weight_row + channel * j->x.weight_channel + phase1 * j->x.kernel_width + phase2;
    for (int a = 0; a < r; a++, to += s * j->x.kernel_width) {
        const T *h = half[a];
        to[0] = r == 2 ? h[0] + h[1] : h[0] + (h[1] + h[2]) * (T)0.5;
        to[s] = r == 2 ? h[1] + h[2] : (h[1] - h[2]) * (T)0.5;
        if (r == 3) to[2 * s] = (h[1] + h[2]) * (T)0.5 + h[3];
    }
}

static void NAMED(finish_weights)(void *context, int64_t begin, int64_t end) {
    const NAMED(winograd_weights) *j = context;
    for (int64_t row = begin; row < end; row++)
        for (int64_t v = 0; v < j->x.depth; v++)
            if (j->x.r == 2)
                NAMED(finish_weight)(j, 2, row, v);
            else
                NAMED(finish_weight)(j, 3, row, v);
}
#undef TRANSFORM

static void NAMED(run_weights_tiles)(NAMED(winograd_weights) * j, int64_t images) {
    const int64_t points = (j->x.r + 1) * (j->x.r + 1);
    j->x.images = j->dy.images = images;
    j->product.depth = images * j->x.tiles[0] * j->x.tiles[1];
    j->product.right_point = NAMED(odd_lines)(j->product.column_panels * j->product.depth * COLUMNS);
    j->tile_panels = (j->product.depth + COLUMNS - 1) / COLUMNS;
    cr_parallel_for(j->product.column_panels * j->tile_panels, 1 + CR_GRAIN_ELEMENTS / (points * COLUMNS * COLUMNS),
                    NAMED(turn_inputs), j);
    cr_parallel_for(j->product.row_panels * j->tile_panels, 1 + CR_GRAIN_ELEMENTS / (points * ROWS * COLUMNS),
                    NAMED(turn_gradients), j);
    NAMED(multiply_all_points)(&j->product);
    j->product.accumulate = true;
}

static bool NAMED(weights_winograd)(const cr_convolution *p, const T *x, const T *dy, T *dw, bool *applies) {
    const int64_t phases[] = {0, 1, 2, 3, 4, 5, 6, 7}, s = p->stride[2], depth = p->channels * s * s;
    const int64_t all_tiles = p->batch * ((p->out[1] + 1) / 2) * ((p->out[2] + 1) / 2);
    const int r = NAMED(winograd_taps)(p, p->features, depth, all_tiles, false);
    *applies = r != 0;
    if (!r) return true;
    NAMED(winograd_weights) j = {.x = NAMED(forward_correlation)(p, r), .dw = dw};
    j.dy = (NAMED(winograd)){.split = 1,
                             .all_channels = p->features,
                             .size = {p->out[1], p->out[2]},
                             .pad = {.item_source = cr_product3(p->out), .in = {1, p->out[1], p->out[2]}}};
    NAMED(lay_out)(&j.x, 1, phases);
    NAMED(lay_out)(&j.dy, 1, phases);
    const int64_t points = (r + 1) * (r + 1), tiles = j.x.tiles[0] * j.x.tiles[1];
    j.product = (NAMED(winograd)){.r = r,
                                  .rows = p->features,
                                  .row_panels = (p->features + ROWS - 1) / ROWS,
                                  .column_panels = (depth + COLUMNS - 1) / COLUMNS};
    j.product.product_point = NAMED(odd_lines)(j.product.row_panels * j.product.column_panels * ROWS * COLUMNS);
    const int64_t rows = j.product.row_panels * ROWS, columns = j.product.column_panels * COLUMNS;
    const int64_t fitting =
        NAMED(chunk_bytes)(points * rows * columns) / (points * (rows + columns) * tiles * (int64_t)sizeof(T));
    const int64_t chunk = fitting < 1 ? 1 : fitting < p->batch ? fitting : p->batch;
    scratch memory = {0};
    j.product.weights = scratch_take(&memory, (size_t)(points * rows * chunk * tiles) * sizeof(T));
    j.product.packed = j.product.weights;
    j.product.right = scratch_take(&memory, (size_t)(points * NAMED(odd_lines)(columns * chunk * tiles)) * sizeof(T));
    j.product.products = scratch_take(&memory, (size_t)(points * j.product.product_point) * sizeof(T));
    j.x.pad.target =
        scratch_take(&memory, (size_t)(chunk * p->channels * j.x.pad.item_target + 2 * COLUMNS) * sizeof(T));
    j.dy.pad.target =
        scratch_take(&memory, (size_t)(chunk * p->features * j.dy.pad.item_target + 2 * COLUMNS) * sizeof(T));
    if (!j.product.weights || !j.product.right || !j.product.products || !j.x.pad.target || !j.dy.pad.target)
        return scratch_drop(&memory);
    for (int64_t first = 0; first < p->batch; first += chunk) {
        const int64_t images = p->batch - first < chunk ? p->batch - first : chunk;
        j.x.pad.items = images * p->channels;
        j.x.pad.source = x + first * p->channels * j.x.pad.item_source;
        j.dy.pad.items = images * p->features;
        j.dy.pad.source = dy + first * p->features * j.dy.pad.item_source;
        NAMED(pad)(&j.x.pad);
        NAMED(pad)(&j.dy.pad);
        NAMED(run_weights_tiles)(&j, images);
    }
    cr_parallel_for(p->features, 1 + CR_GRAIN_ELEMENTS / (2 * points * depth), NAMED(finish_weights), &j);
    scratch_drop(&memory);
    return true;
}
