/* Winograd's F(4x4, 3x3) in integers, exact: 36 multiplications make 16 results of 144 (Winograd, "Arithmetic complexity of
 * computations", 1980; Lavin and Gray, 2016). Included by integer.c.
 *
 * Y = A'ᵀ [(G' g G'ᵀ) ⊙ (Bᵀ d B)] A' is 576 times the result S where G' has the rows of G without their fractions,
 *     (1,0,0) (1,1,1) (1,-1,1) (1,2,4) (1,-2,4) (0,0,1),
 * and A' takes 24 times the fractions: 6, -4, -4, 1, 1, 24. Of u8 and i8, Bᵀ d B is within ±17340 and G' g G'ᵀ within ±6272,
 * so that both are s16. Their sums overflow s32, which does no harm: all is right modulo 2^32, 576 = 9 · 64, 9 has an
 * inverse modulo 2^32, and S is what is left of 64 S above its lower 6 bits, as long as |S| < 2^25. Whether it is follows
 * from the weight: cr_integer_way_for. */

enum { TILE = 4, POINTS = CR_INTEGER_TILE, TILES_MOST = 30, TILES_BYTES = 384 * 1024 };
#define INVERSE_OF_9 954437177 /* modulo 2^32 */

/* ---------------------------------------------------------------- 6 numbers to 6, and 6 to 4 */
static inline __attribute__((always_inline)) void to_points(const vec_s d[6], vec_s t[6]) {
    const vec_s a = d[4] - 4 * d[2], b = d[3] - 4 * d[1], c = d[4] - d[2], e = 2 * (d[3] - d[1]);
    t[0] = 4 * d[0] - 5 * d[2] + d[4];
    t[1] = a + b;
    t[2] = a - b;
    t[3] = c + e;
    t[4] = c - e;
    t[5] = 4 * d[1] - 5 * d[3] + d[5];
}

static inline __attribute__((always_inline)) void from_points(const vec_i m[6], vec_i y[4]) {
    const vec_i a = m[1] + m[2], b = m[1] - m[2], c = m[3] + m[4], e = m[3] - m[4];
    y[0] = 6 * m[0] - 4 * a + c;
    y[1] = 2 * e - 4 * b;
    y[2] = 4 * (c - a);
    y[3] = 8 * e - 4 * b + 24 * m[5];
}

/* ---------------------------------------------------------------- tiles */
typedef struct tiles {
    int64_t down, across, total; /* of an image; of the batch */
    int64_t stride;              /* from one tile's channels to the next one's */
    int64_t pairs;               /* of channels, as they are multiplied */
} tiles;

static tiles tiles_of(const layer *l) {
    const int64_t down = (l->p.out[1] + TILE - 1) / TILE, across = (l->p.out[2] + TILE - 1) / TILE;
    return (tiles){down, across, l->p.batch * down * across, (l->channels + 2 * LANES - 1) / (2 * LANES) * 2 * LANES,
                   (l->channels + 1) / 2};
}

/* Tile `which` in the points' order: to[point][tile][channel], points `apart`. `edge` stands for what lies outside. */
static void transform_tile(const layer *l, const tiles *t, int64_t which, const uint8_t *edge, int16_t *to,
                           int64_t apart) {
    const cr_convolution *p = &l->p;
    const int64_t x0 = which % t->across * TILE - p->padding[2],
                  y0 = which / t->across % t->down * TILE - p->padding[1];
    const uint8_t *image = l->x + which / (t->across * t->down) * p->in[1] * p->in[2] * l->channels, *from[POINTS];
    for (int i = 0; i < POINTS; i++) {
        const int64_t y = y0 + i / 6, x = x0 + i % 6;
        const bool inside = y >= 0 && y < p->in[1] && x >= 0 && x < p->in[2];
        from[i] = inside ? image + (y * p->in[2] + x) * l->channels : edge;
    }
    for (int64_t c = 0; c < l->channels; c += 2 * LANES) {
        vec_s rows[6][6], d[6], made[6];
        for (int i = 0; i < 6; i++) {
#pragma GCC unroll 6
            for (int k = 0; k < 6; k++) {
                const uint8_t *at = from[6 * i + k] + c;
                const int64_t left = l->x_end - at; /* the edge has room enough */
                wide_u bytes = {0};
                if (from[6 * i + k] == edge || left >= 2 * LANES)
                    memcpy(&bytes, at, sizeof bytes);
                else
                    memcpy(&bytes, at, (size_t)left);
                d[k] = vec_widen(bytes);
            }
            to_points(d, rows[i]);
        }
        for (int k = 0; k < 6; k++) {
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++)
                d[i] = rows[i][k];
            to_points(d, made);
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++)
                memcpy(to + (6 * i + k) * apart + c, &made[i], sizeof made[i]);
        }
    }
}

/* The results of a tile in one strip, from sums [point][tile], points `apart`. */
static void finish_tile(const layer *l, const tiles *t, int64_t which, vec_i (*from)[2], int64_t apart, int64_t strip) {
    const cr_convolution *p = &l->p;
    const int64_t x0 = which % t->across * TILE, y0 = which / t->across % t->down * TILE;
    const int64_t first = (which / (t->across * t->down) * p->out[1] + y0) * p->out[2] + x0;
    vec_i results[TILE][TILE][2];
    for (int half = 0; half < 2; half++) {
        vec_i rows[6][4], m[6], y[4];
        for (int i = 0; i < 6; i++) {
#pragma GCC unroll 6
            for (int k = 0; k < 6; k++)
                m[k] = from[(6 * i + k) * apart][half];
            from_points(m, rows[i]);
        }
        for (int k = 0; k < TILE; k++) {
#pragma GCC unroll 6
            for (int i = 0; i < 6; i++)
                m[i] = rows[i][k];
            from_points(m, y);
#pragma GCC unroll 4
            for (int i = 0; i < TILE; i++)
                results[i][k][half] = (y[i] * INVERSE_OF_9) >> 6;
        }
    }
    const int64_t across = p->out[2] - x0 < TILE ? p->out[2] - x0 : TILE;
    for (int64_t i = 0; i < TILE && y0 + i < p->out[1]; i++)
        finish_block(l, results[i], first + i * p->out[2], across, strip * COLUMNS);
}

/* ---------------------------------------------------------------- the layer */
static void run_tiles(void *context, int64_t begin, int64_t end) {
    layer *l = context;
    const tiles t = tiles_of(l);
    const int place = take_panel(l);
    const int64_t apart = l->block_rows * t.stride;
    int16_t *panel = l->panels + place * l->panel_numbers;
    vec_i(*sums)[2] = (void *)(panel + POINTS * apart);
    uint8_t *edge = (uint8_t *)(sums + POINTS * l->block_rows);
    memset(edge, l->input_zero, (size_t)t.stride);
    for (int64_t item = begin, gathered = -1; item < end; item++) {
        const int64_t which = item / l->strip_blocks, tile = which * l->block_rows;
        const int64_t count = t.total - tile < l->block_rows ? t.total - tile : l->block_rows;
        for (int64_t i = 0; which != gathered && i < count; i++)
            transform_tile(l, &t, tile + i, edge, panel + i * t.stride, apart);
        gathered = which;
        const int64_t first = item % l->strip_blocks * l->block_strips;
        for (int64_t s = first; s < l->strips && s < first + l->block_strips; s++) {
            const int16_t *weight = (const int16_t *)l->weight + s * POINTS * t.pairs * 2 * COLUMNS;
            for (int i = 0; i < POINTS; i++)
                for (int64_t r = 0; r < count; r += ROWS)
                    l->multiply(panel + i * apart + r * t.stride, t.stride, weight + i * t.pairs * 2 * COLUMNS,
                                2 * t.pairs, sums + i * l->block_rows + r);
            for (int64_t i = 0; i < count; i++)
                finish_tile(l, &t, tile + i, sums + i, l->block_rows, s);
        }
    }
    atomic_flag_clear(&l->taken[place]);
}

static bool run_winograd(layer *l) {
    const tiles t = tiles_of(l);
    const int64_t fits = TILES_BYTES / (POINTS * t.stride * 2) / ROWS * ROWS, limit = fits < ROWS         ? ROWS
                                                                                      : fits > TILES_MOST ? TILES_MOST
                                                                                                          : fits;
    const int64_t room = POINTS * t.stride * 2 + POINTS * COLUMNS * 4; /* bytes of a tile */
    return run_blocked(l, t.total, limit, ROWS, room, t.stride, POINTS * t.pairs * 2, run_tiles);
}
