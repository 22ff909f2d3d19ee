/* Images made ready for products: padded, and split by stride so that neighbours in the result are neighbours in
 * memory.
 *
 * A template: include it with T and NAMED(name) defined, after product.h. */

/* A padded copy, [item][phase0][phase1][phase2][size0][size1][size2]: element l of phase f is x[l·step + f - padding],
 * 0 outside. Items are the channels of a range of images. */
typedef struct NAMED(padded) {
    const T *source;
    T *target;
    int64_t items, item_source; /* elements from one item to the next */
    int64_t in[CR_SPATIAL_DIMS], step[CR_SPATIAL_DIMS], padding[CR_SPATIAL_DIMS], size[CR_SPATIAL_DIMS];
    int64_t phase_count[CR_SPATIAL_DIMS];
    const int64_t *phases[CR_SPATIAL_DIMS]; /* the f of each phase */
    int64_t item_target;
} NAMED(padded);

static void NAMED(pad_row)(const T *source, T *target, int64_t in, int64_t step, int64_t shift, int64_t size) {
    /* l·step + shift in 0 … in-1 */
    int64_t low = shift >= 0 ? 0 : (-shift + step - 1) / step,
            high = in - 1 - shift < 0 ? 0 : (in - 1 - shift) / step + 1;
    if (low > size) low = size;
    if (high > size) high = size;
    if (high < low) high = low;
    for (int64_t l = 0; l < low; l++)
        target[l] = 0;
    const T *from = source + low * step + shift;
    if (step == 1)
        for (int64_t l = low; l < high; l++)
            target[l] = from[l - low];
    else if (step == 2)
        for (int64_t l = low; l < high; l++)
            target[l] = from[2 * (l - low)];
    else if (step == 4)
        for (int64_t l = low; l < high; l++)
            target[l] = from[4 * (l - low)];
    else
        for (int64_t l = low; l < high; l++)
            target[l] = from[step * (l - low)];
    for (int64_t l = high; l < size; l++)
        target[l] = 0;
}

static void NAMED(pad_plane)(const NAMED(padded) * p, const T *source, T *target, int64_t f0, int64_t f1, int64_t f2) {
    for (int64_t l0 = 0; l0 < p->size[0]; l0++) {
        const int64_t i0 = l0 * p->step[0] + f0 - p->padding[0];
        for (int64_t l1 = 0; l1 < p->size[1]; l1++, target += p->size[2]) {
            const int64_t i1 = l1 * p->step[1] + f1 - p->padding[1];
            if (i0 < 0 || i0 >= p->in[0] || i1 < 0 || i1 >= p->in[1])
                for (int64_t l = 0; l < p->size[2]; l++)
                    target[l] = 0;
            else
                NAMED(pad_row)
            (source + (i0 * p->in[1] + i1) * p->in[2], target, p->in[2], p->step[2], f2 - p->padding[2], p->size[2]);
        }
    }
}

/* ---------------------------------------------------------------- all phases of a row at once */
enum { NAMED(ROW_ELEMENTS) = 1024, NAMED(ROWS_TOGETHER) = 4 };
typedef T NAMED(quad) __attribute__((vector_size(4 * sizeof(T)), aligned(sizeof(T)), may_alias));

/* to[c][l] = from[l·step + c] for four l; step is 1, 2 or 4. */
static inline __attribute__((always_inline)) void NAMED(split_four)(const T *from, T *to, int64_t plane, int step) {
    typedef NAMED(quad) quad;
    const quad *in = (const quad *)from;
    const quad a = in[0];
    if (step == 1) {
        *(quad *)to = a;
        return;
    }
    const quad b = in[1];
    if (step == 2) {
        *(quad *)to = __builtin_shufflevector(a, b, 0, 2, 4, 6);
        *(quad *)(to + plane) = __builtin_shufflevector(a, b, 1, 3, 5, 7);
        return;
    }
    const quad c = in[2], d = in[3];
    const quad ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    *(quad *)to = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    *(quad *)(to + plane) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    const quad ab_end = __builtin_shufflevector(a, b, 2, 6, 3, 7), cd_end = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(quad *)(to + 2 * plane) = __builtin_shufflevector(ab_end, cd_end, 0, 1, 4, 5);
    *(quad *)(to + 3 * plane) = __builtin_shufflevector(ab_end, cd_end, 2, 3, 6, 7);
}

/* The last four overlap the ones before, so that nothing past the row is written. */
static inline __attribute__((always_inline)) void NAMED(split_row)(const T *from, T *to, int64_t plane, int64_t size,
                                                                   int step) {
    int64_t l = 0;
    for (; l + 4 <= size; l += 4)
        NAMED(split_four)(from + l * step, to + l, plane, step);
    if (l == size) return;
    if (size >= 4)
        NAMED(split_four)(from + (size - 4) * step, to + size - 4, plane, step);
    else
        for (; l < size; l++)
            for (int c = 0; c < step; c++)
                to[c * plane + l] = from[l * step + c];
}

static inline __attribute__((always_inline)) void NAMED(copy_row)(const T *from, T *to, int64_t count) {
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES)
        NAMED(copy_vector)(to + i, from + i);
    if (i < count && count >= LANES)
        NAMED(copy_vector)(to + count - LANES, from + count - LANES);
    else
        for (; i < count; i++)
            to[i] = from[i];
}

/* A plane through a buffer of a few rows whose borders are zero and stay so. */
static inline __attribute__((always_inline)) void NAMED(split_plane)(const NAMED(padded) * p, const T *source,
                                                                     T *target, const int step,
                                                                     T (*rows)[NAMED(ROW_ELEMENTS)]) {
    const int64_t plane = p->size[1] * p->size[2], wide = p->size[2] * step, height = p->size[1] * p->phase_count[1];
    int64_t count = wide - p->padding[2];
    if (count > p->in[2]) count = p->in[2];
    for (int64_t first = 0; first < height; first += NAMED(ROWS_TOGETHER)) {
        const int64_t last = first + NAMED(ROWS_TOGETHER) < height ? first + NAMED(ROWS_TOGETHER) : height;
        const T *from[NAMED(ROWS_TOGETHER)];
        for (int64_t i = first; i < last; i++) {
            const int64_t phase = p->phases[1][i % p->phase_count[1]];
            const int64_t i1 = i / p->phase_count[1] * p->step[1] + phase - p->padding[1];
            const bool inside = i1 >= 0 && i1 < p->in[1];
            from[i - first] = inside ? rows[i - first] : rows[NAMED(ROWS_TOGETHER)];
            if (inside) NAMED(copy_row)(source + i1 * p->in[2], rows[i - first] + p->padding[2], count);
        }
        for (int64_t i = first; i < last; i++)
            NAMED(split_row)
        (from[i - first], target + i % p->phase_count[1] * step * plane + i / p->phase_count[1] * p->size[2], plane,
         p->size[2], step);
    }
}

static bool NAMED(splits_rows)(const NAMED(padded) * p) {
    const int64_t step = p->step[2];
    return p->size[0] == 1 && p->in[0] == 1 && p->phase_count[0] == 1 && p->padding[0] == 0 && p->phases[0][0] == 0 &&
           (step == 1 || step == 2 || step == 4) && p->phase_count[2] == step && p->phases[2][0] == 0 &&
           p->padding[2] < p->size[2] * step && p->size[2] * step <= NAMED(ROW_ELEMENTS);
}

static void NAMED(split_range)(void *context, int64_t begin, int64_t end) {
    const NAMED(padded) *p = context;
    _Alignas(64) T rows[NAMED(ROWS_TOGETHER) + 1][NAMED(ROW_ELEMENTS)]; /* the last one: outside the image */
    for (int i = 0; i <= NAMED(ROWS_TOGETHER); i++)
        memset(rows[i], 0, (size_t)(p->size[2] * p->step[2]) * sizeof(T));
    for (int64_t item = begin; item < end; item++) {
        const T *source = p->source + item * p->item_source;
        T *target = p->target + item * p->item_target;
        if (p->step[2] == 1)
            NAMED(split_plane)(p, source, target, 1, rows);
        else if (p->step[2] == 2)
            NAMED(split_plane)(p, source, target, 2, rows);
        else
            NAMED(split_plane)(p, source, target, 4, rows);
    }
}

/* ---------------------------------------------------------------- any padded copy */
static void NAMED(pad_range)(void *context, int64_t begin, int64_t end) {
    const NAMED(padded) *p = context;
    const int64_t plane = cr_product3(p->size);
    for (int64_t item = begin; item < end; item++) {
        T *target = p->target + item * p->item_target;
        for (int64_t a = 0; a < p->phase_count[0]; a++)
            for (int64_t b = 0; b < p->phase_count[1]; b++)
                for (int64_t c = 0; c < p->phase_count[2]; c++, target += plane)
                    NAMED(pad_plane)
        (p, p->source + item * p->item_source, target, p->phases[0][a], p->phases[1][b], p->phases[2][c]);
    }
}

static void NAMED(pad)(NAMED(padded) * p) {
    cr_parallel_for(p->items, 1 + CR_GRAIN_ELEMENTS / (p->item_target + 1),
                    NAMED(splits_rows)(p) ? NAMED(split_range) : NAMED(pad_range), p);
}

/* A padded copy with channels fastest: [group][image][size0][size1][size2][channels]. */
typedef struct NAMED(channels_fastest) {
    const T *source; /* [image][group][channel][in…] */
    T *target;
    int64_t images, groups, channels;
    int64_t in[CR_SPATIAL_DIMS], padding[CR_SPATIAL_DIMS], size[CR_SPATIAL_DIMS];
} NAMED(channels_fastest);

/* target[l][c] = source[c][l]: by blocks, which the compiler keeps in registers. */
static void NAMED(transpose)(const T *source, int64_t source_row, T *target, int64_t channels, int64_t count) {
    enum { SIDE = 8 };
    int64_t l = 0;
    for (; l + SIDE <= count; l += SIDE) {
        int64_t c = 0;
        for (; c + SIDE <= channels; c += SIDE)
            for (int i = 0; i < SIDE; i++)
                for (int j = 0; j < SIDE; j++)
                    target[(l + i) * channels + c + j] = source[(c + j) * source_row + l + i];
        for (; c < channels; c++)
            for (int i = 0; i < SIDE; i++)
                target[(l + i) * channels + c] = source[c * source_row + l + i];
    }
    for (; l < count; l++)
        for (int64_t c = 0; c < channels; c++)
            target[l * channels + c] = source[c * source_row + l];
}

static void NAMED(channels_fastest_range)(void *context, int64_t begin, int64_t end) {
    const NAMED(channels_fastest) *p = context;
    const int64_t plane = cr_product3(p->in), row = p->size[2] * p->channels;
    for (int64_t item = begin; item < end; item++) { /* one row of pixels */
        const int64_t l1 = item % p->size[1], l0 = item / p->size[1] % p->size[0],
                      image = item / p->size[1] / p->size[0];
        const int64_t group = image / p->images, n = image % p->images;
        const int64_t i0 = l0 - p->padding[0], i1 = l1 - p->padding[1];
        T *target = p->target + item * row;
        if (i0 < 0 || i0 >= p->in[0] || i1 < 0 || i1 >= p->in[1]) {
            memset(target, 0, (size_t)row * sizeof(T));
            continue;
        }
        int64_t count = p->size[2] - p->padding[2];
        if (count > p->in[2]) count = p->in[2];
        if (count < 0) count = 0;
        const int64_t before = p->padding[2] < p->size[2] ? p->padding[2] : p->size[2];
        memset(target, 0, (size_t)(before * p->channels) * sizeof(T));
        memset(target + (before + count) * p->channels, 0,
               (size_t)((p->size[2] - before - count) * p->channels) * sizeof(T));
        NAMED(transpose)
        (p->source + (n * p->groups + group) * p->channels * plane + (i0 * p->in[1] + i1) * p->in[2], plane,
         target + before * p->channels, p->channels, count);
    }
}

static void NAMED(make_channels_fastest)(NAMED(channels_fastest) * p) {
    cr_parallel_for(p->groups * p->images * p->size[0] * p->size[1],
                    1 + CR_GRAIN_ELEMENTS / (p->size[2] * p->channels + 1), NAMED(channels_fastest_range), p);
}
