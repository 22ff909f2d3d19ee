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
                (source + (i0 * p->in[1] + i1) * p->in[2], target, p->in[2], p->step[2], f2 - p->padding[2],
                 p->size[2]);
        }
    }
}

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
    cr_parallel_for(p->items, 1 + CR_GRAIN_ELEMENTS / (p->item_target + 1), NAMED(pad_range), p);
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
