/* x from y: the gradient of a convolution by its input, and transposed convolution.
 *
 *   x[i] = sum over taps t of w[t] y[o] where o·stride + t·dilation = i + padding
 *
 * The positions i fall into phases by (i + padding) mod stride; each has its own taps and is one product whose right
 * side is gathered from a padded copy of y, and whose result is spread over x by the stride. Nothing is multiplied by
 * zero.
 *
 * A template: include it with T and NAMED(name) defined, after convolution_forward.h. */

/* x = bias everywhere: for positions that no tap reaches. */
static void NAMED(fill_with_bias)(const cr_convolution *p, const T *bias, T *x) {
    const int64_t plane = cr_product3(p->in), channels = p->groups * p->channels;
    for (int64_t i = 0; i < p->batch * channels; i++)
        for (int64_t j = 0; j < plane; j++)
            x[i * plane + j] = bias ? bias[i % channels] : 0;
}

typedef struct NAMED(data_job) {
    const cr_convolution *p;
    const T *w;
    NAMED(padded) pad;
    int64_t *taps, *tap_offsets, *depth_offsets; /* the last: [features][taps] of each phase, one after the other */
    T *packed;
    NAMED(product) * products; /* [phase][group]; image and target are set for each chunk */
    NAMED(left_side) * sides;  /* likewise */
    int64_t *starts;           /* of each product: where its target begins in an image of x */
    int64_t count;
} NAMED(data_job);

/* Adds the products of one phase, one for each group. */
static void NAMED(add_phase)(NAMED(data_job) * job, const phase_split split[CR_SPATIAL_DIMS],
                             const int64_t place[CR_SPATIAL_DIMS]) {
    const cr_convolution *p = job->p;
    phase_range range[CR_SPATIAL_DIMS];
    for (int d = 0; d < CR_SPATIAL_DIMS; d++) {
        range[d] = cr_range_of_phase(p, d, split[d].remainders[place[d]]);
        if (!range[d].count) return;
    }
    const int64_t count =
        cr_taps_of_phase(p, split, place, range, job->pad.padding, job->pad.size, job->taps, job->tap_offsets);
    const int64_t all_taps = cr_product3(p->kernel), depth = p->features * count, item = job->pad.item_target;
    for (int64_t f = 0; f < p->features; f++)
        for (int64_t t = 0; t < count; t++)
            job->depth_offsets[f * count + t] = f * item + job->tap_offsets[t];
    for (int64_t g = 0; g < p->groups; g++) {
        job->sides[job->count] = (NAMED(left_side)){job->w + g * p->features * p->channels * all_taps,
                                                    p->channels,
                                                    all_taps,
                                                    p->features,
                                                    p->channels * all_taps,
                                                    count,
                                                    job->taps,
                                                    job->packed};
        job->starts[job->count] = g * p->channels * cr_product3(p->in) +
                                  (range[0].start * p->in[1] + range[1].start) * p->in[2] + range[2].start;
        job->products[job->count++] = (NAMED(product)){
            .rows = p->channels,
            .depth = depth,
            .left = job->packed,
            .depth_offsets = job->depth_offsets,
            .grid = {0, range[0].count, range[1].count, range[2].count},
            .source_step = {p->groups * p->features * item, job->pad.size[1] * job->pad.size[2], job->pad.size[2], 1},
            .target_step = {p->groups * p->channels * cr_product3(p->in), p->stride[0] * p->in[1] * p->in[2],
                            p->stride[1] * p->in[2], p->stride[2]},
            .target_row = cr_product3(p->in)};
        job->packed += round_up(p->channels, ROWS) * depth;
    }
    job->depth_offsets += depth;
    job->taps += count;
}

static bool NAMED(run_data_chunks)(NAMED(data_job) * job, const T *y, const T *bias, T *x, bool direct, int64_t chunk,
                                   const layer *extra) {
    const cr_convolution *p = job->p;
    const int64_t features = p->groups * p->features, image = features * job->pad.item_target;
    bool done = true;
    for (int64_t first = 0; done && first < p->batch; first += chunk) {
        const int64_t images = p->batch - first < chunk ? p->batch - first : chunk;
        const T *base = y + first * image;
        if (!direct) {
            job->pad.source = y + first * features * job->pad.item_source;
            job->pad.items = images * features;
            NAMED(pad)(&job->pad);
            base = job->pad.target;
        }
        for (int64_t i = 0; i < job->count; i++) {
            NAMED(product) *product = &job->products[i];
            const int64_t g = i % p->groups;
            product->image = base + g * p->features * job->pad.item_target;
            product->image_end = base + images * image + (direct ? 0 : COLUMNS);
            product->grid[0] = images;
            product->columns = images * product->grid[1] * product->grid[2] * product->grid[3];
            product->target = x + first * p->groups * p->channels * cr_product3(p->in) + job->starts[i];
            product->bias = bias ? bias + g * p->channels : NULL;
        }
        done = NAMED(run_products)(job->products, job->count);
        if (done) cr_epilogue_images(extra->epilogue, first, images);
    }
    return done;
}

/* The padded copy of y that the phases of x read; is every x reached by a phase? */
static NAMED(padded)
    NAMED(data_copy)(const cr_convolution *p, const phase_split split[CR_SPATIAL_DIMS], bool *covered) {
    static const int64_t one_phase[1] = {0};
    NAMED(padded) pad = {.item_source = cr_product3(p->out)};
    *covered = true;
    for (int d = 0; d < CR_SPATIAL_DIMS; d++) {
        int64_t reached;
        cr_data_extent(p, d, &split[d], &pad.padding[d], &pad.size[d], &reached);
        pad.in[d] = p->out[d];
        pad.step[d] = pad.phase_count[d] = 1;
        pad.phases[d] = one_phase;
        *covered &= reached == p->in[d];
    }
    pad.item_target = cr_product3(pad.size);
    return pad;
}

static bool NAMED(data)(const cr_convolution *p, const T *y, const T *w, const T *bias, T *x, const layer *extra) {
    const int64_t all_taps = cr_product3(p->kernel);
    scratch memory = {0};
    int64_t *storage = scratch_take(&memory, (size_t)cr_phase_storage(p) * sizeof *storage);
    if (!storage) return scratch_drop(&memory);
    phase_split split[CR_SPATIAL_DIMS];
    cr_split_all_phases(p, storage, split);
    bool direct = true, covered; /* y needs no copy */
    NAMED(data_job) job = {.p = p, .w = w, .pad = NAMED(data_copy)(p, split, &covered)};
    for (int d = 0; d < CR_SPATIAL_DIMS; d++)
        direct &= job.pad.padding[d] == 0 && job.pad.size[d] == p->out[d];
    const int64_t phases = split[0].count * split[1].count * split[2].count,
                  image = p->groups * p->features * job.pad.item_target;
    const int64_t chunk = direct ? p->batch : NAMED(chunk_of)(p, image);
    job.products = scratch_take(&memory, (size_t)(phases * p->groups) * sizeof *job.products);
    job.starts = scratch_take(&memory, (size_t)(phases * p->groups) * sizeof *job.starts);
    job.taps = scratch_take(&memory, (size_t)(2 * all_taps + p->features * all_taps) * sizeof *job.taps);
    job.sides = scratch_take(&memory, (size_t)(phases * p->groups) * sizeof *job.sides);
    job.packed =
        scratch_take(&memory, (size_t)(p->groups * round_up(p->channels, ROWS) * p->features * all_taps) * sizeof(T));
    if (!job.products || !job.starts || !job.taps || !job.sides || !job.packed) return scratch_drop(&memory);
    if (!direct && !(job.pad.target = scratch_take(&memory, (size_t)(chunk * image + COLUMNS) * sizeof(T))))
        return scratch_drop(&memory);
    job.tap_offsets = job.taps + all_taps;
    job.depth_offsets = job.tap_offsets + all_taps;
    if (!covered) NAMED(fill_with_bias)(p, bias, x);
    int64_t place[CR_SPATIAL_DIMS];
    for (place[0] = 0; place[0] < split[0].count; place[0]++)
        for (place[1] = 0; place[1] < split[1].count; place[1]++)
            for (place[2] = 0; place[2] < split[2].count; place[2]++)
                NAMED(add_phase)(&job, split, place);
    NAMED(pack_left)(job.sides, job.count);
    const bool done = NAMED(run_data_chunks)(&job, y, bias, x, direct, chunk, extra);
    scratch_drop(&memory);
    return done;
}
