/* y = x * w as products: the left side is the weight, the right side is gathered from a padded copy of x, split by
 * stride into phases. A chunk of images at a time, so that the copy stays in the cache.
 *
 * A template: include it with T and NAMED(name) defined, after convolution_image.h. */

/* How many images fit a chunk of the padded copy. */
static int64_t NAMED(chunk_of)(const cr_convolution *p, int64_t image_elements) {
    enum { CHUNK_BYTES = 8 << 20 };
    const int64_t fitting = CHUNK_BYTES / ((int64_t)sizeof(T) * image_elements + 1);
    return fitting < 1 ? 1 : fitting < p->batch ? fitting : p->batch;
}

/* Elements of the packed weight, and packing it. */
static int64_t NAMED(forward_packed)(const cr_convolution *p) {
    return p->groups * round_up(p->features, ROWS) * p->channels * cr_product3(p->kernel);
}

static bool NAMED(pack_forward)(const cr_convolution *p, const T *w, T *packed) {
    const int64_t depth = p->channels * cr_product3(p->kernel);
    scratch memory = {0};
    NAMED(left_side) *sides = scratch_take(&memory, (size_t)p->groups * sizeof *sides);
    if (!sides) return scratch_drop(&memory);
    for (int64_t g = 0; g < p->groups; g++)
        sides[g] = (NAMED(left_side)){w + g * p->features * depth,
                                      p->features,
                                      depth,
                                      1,
                                      0,
                                      depth,
                                      NULL,
                                      packed + g * round_up(p->features, ROWS) * depth};
    NAMED(pack_left)(sides, p->groups);
    scratch_drop(&memory);
    return true;
}

/* The padded copy of x, split by stride, that y = x * w reads. */
static NAMED(padded) NAMED(forward_copy)(const cr_convolution *p, const phase_split split[CR_SPATIAL_DIMS]) {
    NAMED(padded) pad = {.item_source = cr_product3(p->in), .item_target = 1};
    for (int d = 0; d < CR_SPATIAL_DIMS; d++) {
        int64_t farthest = 0;
        for (int64_t t = 0; t < p->kernel[d]; t++)
            if (split[d].quotient[t] > farthest) farthest = split[d].quotient[t];
        pad.in[d] = p->in[d];
        pad.step[d] = p->stride[d];
        pad.padding[d] = p->padding[d];
        pad.size[d] = p->out[d] + farthest;
        pad.phase_count[d] = split[d].count;
        pad.phases[d] = split[d].remainders;
        pad.item_target *= pad.size[d] * pad.phase_count[d];
    }
    return pad;
}

static bool NAMED(forward)(const cr_convolution *p, const T *x, const T *w, const T *bias, T *y, const layer *extra) {
    const int64_t groups = p->groups, taps = cr_product3(p->kernel), depth = p->channels * taps,
                  spatial = cr_product3(p->out);
    scratch memory = {0};
    int64_t *storage = scratch_take(&memory, (size_t)(cr_phase_storage(p) + depth) * sizeof *storage);
    const int64_t panel_elements = round_up(p->features, ROWS) * depth;
    NAMED(product) *products = scratch_take(&memory, (size_t)groups * sizeof *products);
    const T *left = extra->packed;
    if (!left) {
        T *packed = scratch_take(&memory, (size_t)NAMED(forward_packed)(p) * sizeof(T));
        if (!packed || !NAMED(pack_forward)(p, w, packed)) return scratch_drop(&memory);
        left = packed;
    }
    if (!storage || !products) return scratch_drop(&memory);

    phase_split split[CR_SPATIAL_DIMS];
    cr_split_all_phases(p, storage, split);
    NAMED(padded) pad = NAMED(forward_copy)(p, split);
    bool direct = true; /* x needs no copy; where more of it is given than is read, it is not laid out as the copy is */
    for (int d = 0; d < CR_SPATIAL_DIMS; d++)
        direct &= p->stride[d] == 1 && p->padding[d] == 0 && p->in[d] == pad.size[d];
    int64_t *offsets = storage + cr_phase_storage(p);
    cr_forward_offsets(p, split, pad.size, pad.item_target, offsets);

    const int64_t image = groups * p->channels * pad.item_target, chunk = direct ? p->batch : NAMED(chunk_of)(p, image);
    if (!direct && !(pad.target = scratch_take(&memory, (size_t)(chunk * image + COLUMNS) * sizeof(T))))
        return scratch_drop(&memory);

    bool done = true;
    for (int64_t first = 0; done && first < p->batch; first += chunk) {
        const int64_t images = p->batch - first < chunk ? p->batch - first : chunk;
        const T *base = x + first * image;
        if (!direct) {
            pad.source = x + first * groups * p->channels * pad.item_source;
            pad.items = images * groups * p->channels;
            NAMED(pad)(&pad);
            base = pad.target;
        }
        for (int64_t g = 0; g < groups; g++)
            products[g] =
                (NAMED(product)){.rows = p->features,
                                 .depth = depth,
                                 .left = left + g * panel_elements,
                                 .image = base + g * p->channels * pad.item_target,
                                 .image_end = base + images * image + (direct ? 0 : COLUMNS),
                                 .depth_offsets = offsets,
                                 .columns = images * spatial,
                                 .grid = {images, p->out[0], p->out[1], p->out[2]},
                                 .source_step = {image, pad.size[1] * pad.size[2], pad.size[2], 1},
                                 .target_step = {groups * p->features * spatial, p->out[1] * p->out[2], p->out[2], 1},
                                 .target = y + (first * groups + g) * p->features * spatial,
                                 .target_row = spatial,
                                 .bias = bias ? bias + g * p->features : NULL,
                                 .epilogue = extra->epilogue,
                                 .first_image = first,
                                 .first_row = g * p->features};
        done = NAMED(run_products)(products, groups);
    }
    scratch_drop(&memory);
    return done;
}
