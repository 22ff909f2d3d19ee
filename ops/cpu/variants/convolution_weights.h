/* The gradient of a convolution by its weight:
 *
 *   dw[f][c][t] = sum over images n and positions o of dy[n][f][o] x[n][c][o·stride + t·dilation - padding]
 *
 * as products over k = (n, o): the left side is dy, the right side is gathered from a padded copy of x with channels
 * fastest. Few results mean few tasks: then the images, and where those are few their positions, are dealt to a number of
 * parts that depends on the problem alone, and the parts are added in order, so that the sum does not depend on the threads.
 *
 * A template: include it with T and NAMED(name) defined, after convolution_data.h. */

/* Parts that a chunk of images is dealt to: a number of images, or a number of pieces of each. */
static int64_t NAMED(parts_of)(const cr_convolution *p, int64_t chunk) {
    enum { WANTED_TASKS = 16, MOST_ELEMENTS = 1 << 20 };
    const int64_t columns = p->channels * cr_product3(p->kernel), results = p->groups * p->features * columns;
    const int64_t blocks =
        p->groups * ((columns + 4 * COLUMNS - 1) / (4 * COLUMNS)) * ((p->features + 12 * ROWS - 1) / (12 * ROWS));
    int64_t parts = (WANTED_TASKS + blocks - 1) / blocks;
    if (parts * results > MOST_ELEMENTS) parts = MOST_ELEMENTS / results;
    if (parts > chunk) parts -= parts % chunk;
    return parts < 1 ? 1 : parts;
}

typedef struct NAMED(sum_job) {
    T *target;
    const T *parts;
    int64_t count, elements;
} NAMED(sum_job);

static void NAMED(sum_parts)(void *context, int64_t begin, int64_t end) {
    const NAMED(sum_job) *job = context;
    for (int64_t i = begin; i < end; i++)
        job->target[i] = job->parts[i];
    for (int64_t part = 1; part < job->count; part++)
        for (int64_t i = begin; i < end; i++)
            job->target[i] += job->parts[part * job->elements + i];
}

typedef struct NAMED(weights_job) {
    const cr_convolution *p;
    const T *x, *dy;
    NAMED(channels_fastest) copy;
    int64_t chunk, parts;
    int64_t *offsets;
    T *packed, *results; /* packed: [group][part]…; results: [part] weights */
    NAMED(product) * products;
    NAMED(left_side) * sides;
} NAMED(weights_job);

/* One chunk of images: each part takes an equal share. */
static bool NAMED(run_weights_chunk)(NAMED(weights_job) * job, int64_t first, int64_t images) {
    const cr_convolution *p = job->p;
    const int64_t spatial = cr_product3(p->out), taps = cr_product3(p->kernel), columns = p->channels * taps;
    const int64_t *size = job->copy.size, image = cr_product3(size) * p->channels;
    const int64_t pieces = job->parts > job->chunk ? job->parts / job->chunk : 1, shares = job->parts / pieces;
    T *packed = job->packed;
    int64_t count = 0;
    job->copy.images = images;
    job->copy.source = job->x + first * p->groups * p->channels * cr_product3(p->in);
    NAMED(make_channels_fastest)(&job->copy);
    for (int64_t g = 0; g < p->groups; g++)
        for (int64_t part = 0; part < job->parts; part++) {
            const int64_t begin = images * (part / pieces) / shares,
                          share = images * (part / pieces + 1) / shares - begin;
            const int64_t piece = spatial * (part % pieces) / pieces,
                          positions = spatial * (part % pieces + 1) / pieces - piece;
            if (share * positions == 0 && first > 0) continue;
            const T *dy = job->dy + ((first + begin) * p->groups + g) * p->features * spatial + piece;
            job->sides[count] = (NAMED(left_side)){
                dy, p->features, spatial, share, p->groups * p->features * spatial, positions, NULL, packed};
            job->products[count++] = (NAMED(product)){
                .rows = p->features,
                .depth = share * positions,
                .left = packed,
                .image = job->copy.target + (g * images + begin) * image,
                .image_end = job->copy.target + p->groups * images * image + COLUMNS,
                .depth_offsets = job->offsets + piece,
                .columns = columns,
                .grid = {p->kernel[0], p->kernel[1], p->kernel[2], p->channels},
                .source_step = {p->dilation[0] * size[1] * size[2] * p->channels,
                                p->dilation[1] * size[2] * p->channels, p->dilation[2] * p->channels, 1},
                .target_step = {p->kernel[1] * p->kernel[2], p->kernel[2], 1, taps},
                .target = job->results + (part * p->groups + g) * p->features * columns,
                .target_row = columns,
                .add = first > 0};
            packed += round_up(p->features, ROWS) * share * positions;
        }
    NAMED(pack_left)(job->sides, count);
    return NAMED(run_products)(job->products, count);
}

static bool NAMED(weights)(const cr_convolution *p, const T *x, const T *dy, T *dw) {
    const int64_t spatial = cr_product3(p->out),
                  elements = p->groups * p->features * p->channels * cr_product3(p->kernel);
    NAMED(weights_job) job = {.p = p, .x = x, .dy = dy, .copy = {.groups = p->groups, .channels = p->channels}};
    for (int d = 0; d < CR_SPATIAL_DIMS; d++) {
        job.copy.in[d] = p->in[d];
        job.copy.padding[d] = p->padding[d];
        job.copy.size[d] = (p->out[d] - 1) * p->stride[d] + (p->kernel[d] - 1) * p->dilation[d] + 1;
    }
    const int64_t image = p->groups * cr_product3(job.copy.size) * p->channels,
                  left = p->groups * round_up(p->features, ROWS) * spatial;
    job.chunk = NAMED(chunk_of)(p, image + left);
    job.parts = NAMED(parts_of)(p, job.chunk);
    scratch memory = {0};
    job.copy.target = scratch_take(&memory, (size_t)(job.chunk * image + COLUMNS) * sizeof(T));
    job.packed = scratch_take(&memory, (size_t)(job.chunk * left) * sizeof(T));
    job.offsets = scratch_take(&memory, (size_t)(job.chunk * spatial) * sizeof *job.offsets);
    job.products = scratch_take(&memory, (size_t)(p->groups * job.parts) * sizeof *job.products);
    job.sides = scratch_take(&memory, (size_t)(p->groups * job.parts) * sizeof *job.sides);
    job.results = job.parts > 1 ? scratch_take(&memory, (size_t)(job.parts * elements) * sizeof(T)) : dw;
    if (!job.copy.target || !job.packed || !job.offsets || !job.products || !job.sides || !job.results)
        return scratch_drop(&memory);
    cr_weight_offsets(p, job.copy.size, job.chunk, job.offsets);
    bool done = true;
    for (int64_t first = 0; done && first < p->batch; first += job.chunk)
        done = NAMED(run_weights_chunk)(&job, first, p->batch - first < job.chunk ? p->batch - first : job.chunk);
    if (done && job.parts > 1)
        cr_parallel_for(elements, CR_GRAIN_ELEMENTS, NAMED(sum_parts),
                        &(NAMED(sum_job)){dw, job.results, job.parts, elements});
    scratch_drop(&memory);
    return done;
}
