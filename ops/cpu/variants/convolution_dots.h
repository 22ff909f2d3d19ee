/* The gradient of a convolution by its weight as dot products of planes, for problems too small to gather for products:
 *
 *   dw[f][c][t] = sum over images n and positions o of dy[n][f][o] x[n][c][o·stride + t·dilation - padding]
 *
 * dy is copied with the rows of x's padded copy, zeros behind each: so a tap is one offset for the whole plane, and a
 * plane is one run of vectors. (Zeros meet numbers of other columns: an infinity in x may make more taps NaN than it
 * reaches.) Images are dealt to a number of parts that depends on the problem alone, and the parts are added in order.
 *
 * A template: include it with T and NAMED(name) defined, after convolution_weights.h. */

enum { DOT_ROWS = 3, DOT_COLUMNS = 4 };

typedef struct NAMED(dots_job) {
    const cr_convolution *p;
    const T *x, *dy;
    NAMED(padded) x_pad, dy_pad;       /* their items: the channels of one group in a few images */
    int64_t parts, chunk, vectors;     /* images that are copied at once; vectors of a plane of dy */
    int64_t x_elements, slot_elements; /* of the copy of x, of both copies */
    int64_t *offsets;                  /* of each column (c, t) in an image's copy; the last one repeated */
    T *memory, *results;               /* copies of each slot; [part][group] weights */
    int64_t slots;
    atomic_int_fast64_t next;
} NAMED(dots_job);

/* The sums of the lanes of four vectors. */
static inline __attribute__((always_inline)) NAMED(quad) NAMED(sum_lanes)(const NAMED(vector) * v) {
    typedef NAMED(quad) quad;
    quad q[DOT_COLUMNS];
#pragma GCC unroll 4
    for (int i = 0; i < DOT_COLUMNS; i++) {
        const quad *from = (const quad *)(const void *)&v[i];
        q[i] = from[0];
#pragma GCC unroll 4
        for (int l = 1; l < LANES / 4; l++)
            q[i] += from[l];
    }
    const quad ab = __builtin_shufflevector(q[0], q[1], 0, 4, 1, 5) + __builtin_shufflevector(q[0], q[1], 2, 6, 3, 7);
    const quad cd = __builtin_shufflevector(q[2], q[3], 0, 4, 1, 5) + __builtin_shufflevector(q[2], q[3], 2, 6, 3, 7);
    return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

/* sums[rows][DOT_COLUMNS] of some images; `rows` is a constant after inlining. */
static inline __attribute__((always_inline)) void NAMED(dot_rows)(const int rows, const NAMED(dots_job) * job,
                                                                  const T *x, const int64_t *offsets, const T *dy,
                                                                  int64_t images, NAMED(quad) * sums) {
    typedef volatile NAMED(loose_vector) once; /* else the compiler loads again for each use */
    const int64_t x_image = job->p->channels * job->x_pad.item_target, plane = job->dy_pad.item_target,
                  dy_image = job->p->features * plane, elements = job->vectors * LANES;
    NAMED(vector) all[DOT_ROWS][DOT_COLUMNS] = {{{0}}};
    for (int64_t n = 0; n < images; n++, x += x_image, dy += dy_image) {
        const T *from[DOT_COLUMNS] = {x + offsets[0], x + offsets[1], x + offsets[2], x + offsets[3]};
        for (int64_t i = 0; i < elements; i += LANES) {
            NAMED(vector) left[DOT_ROWS];
#pragma GCC unroll 3
            for (int r = 0; r < rows; r++)
                left[r] = *(const once *)(dy + r * plane + i);
#pragma GCC unroll 4
            for (int c = 0; c < DOT_COLUMNS; c++) {
                const NAMED(vector) right = *(const once *)(from[c] + i);
#pragma GCC unroll 3
                for (int r = 0; r < rows; r++)
                    all[r][c] += left[r] * right;
            }
        }
    }
#pragma GCC unroll 3
    for (int r = 0; r < rows; r++)
        sums[r] = NAMED(sum_lanes)(all[r]);
}

/* Adds some images, copied, to the weights of one part and group. */
static void NAMED(dot_images)(const NAMED(dots_job) * job, const T *x, const T *dy, int64_t images, T *result) {
    const int64_t features = job->p->features, columns = job->p->channels * cr_product3(job->p->kernel);
    for (int64_t c = 0; c < columns; c += DOT_COLUMNS) {
        const int64_t count = columns - c < DOT_COLUMNS ? columns - c : DOT_COLUMNS;
        for (int64_t f = 0, rows; f < features; f += rows) {
            const int64_t left = features - f;
            rows = left > 4 || left == DOT_ROWS ? DOT_ROWS : left == 1 ? 1 : 2;
            NAMED(quad) sums[DOT_ROWS];
            const T *from = dy + f * job->dy_pad.item_target;
            if (rows == 3)
                NAMED(dot_rows)(3, job, x, job->offsets + c, from, images, sums);
            else if (rows == 2)
                NAMED(dot_rows)(2, job, x, job->offsets + c, from, images, sums);
            else
                NAMED(dot_rows)(1, job, x, job->offsets + c, from, images, sums);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t i = 0; i < count; i++)
                    result[(f + r) * columns + c + i] += sums[r][i];
        }
    }
}

static void NAMED(run_dots)(const NAMED(dots_job) * job, int64_t task, T *memory) {
    const cr_convolution *p = job->p;
    const int64_t group = task % p->groups, part = task / p->groups, begin = p->batch * part / job->parts,
                  end = p->batch * (part + 1) / job->parts,
                  elements = p->features * p->channels * cr_product3(p->kernel);
    const int64_t x_image = p->groups * p->channels * job->x_pad.item_source,
                  dy_image = p->groups * p->features * job->dy_pad.item_source;
    T *x = memory, *dy = memory + job->x_elements, *result = job->results + task * elements;
    memset(result, 0, (size_t)elements * sizeof(T));
    for (int64_t n = begin; n < end; n += job->chunk) {
        const int64_t images = end - n < job->chunk ? end - n : job->chunk;
        for (int64_t i = 0; i < images; i++) {
            NAMED(pad_zeroed)
            (&job->x_pad, job->x + (n + i) * x_image + group * p->channels * job->x_pad.item_source,
             x + i * p->channels * job->x_pad.item_target, p->channels);
            NAMED(pad_zeroed)
            (&job->dy_pad, job->dy + (n + i) * dy_image + group * p->features * job->dy_pad.item_source,
             dy + i * p->features * job->dy_pad.item_target, p->features);
        }
        NAMED(dot_images)(job, x, dy, images, result);
    }
}

static void NAMED(run_dot_slots)(void *context, int64_t begin, int64_t end) {
    NAMED(dots_job) *job = context;
    for (int64_t slot = begin, task; slot < end; slot++) {
        T *memory = job->memory + slot * job->slot_elements;
        memset(memory, 0, (size_t)job->slot_elements * sizeof(T)); /* what lies behind planes stays so */
        while ((task = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed)) < job->parts * job->p->groups)
            NAMED(run_dots)(job, task, memory);
    }
}

/* The copies' sizes; nothing is allocated. */
static void NAMED(lay_out_dots)(NAMED(dots_job) * job, const phase_split split[CR_SPATIAL_DIMS]) {
    static const int64_t one_phase[1] = {0};
    enum { COPIED_BYTES = 64 << 10, WANTED_TASKS = 16 };
    const cr_convolution *p = job->p;
    job->x_pad = NAMED(forward_copy)(p, split);
    for (int d = 0; d < CR_SPATIAL_DIMS; d++) {
        job->dy_pad.in[d] = p->out[d];
        job->dy_pad.step[d] = job->dy_pad.phase_count[d] = 1;
        job->dy_pad.phases[d] = one_phase;
        job->dy_pad.size[d] = d == 0 ? p->out[d] : job->x_pad.size[d];
    }
    if (p->out[0] == 1) job->dy_pad.size[1] = p->out[1];
    job->dy_pad.item_source = cr_product3(p->out);
    job->dy_pad.item_target = round_up(cr_product3(job->dy_pad.size), LANES);
    job->vectors = job->dy_pad.item_target / LANES;
    job->parts = (WANTED_TASKS + p->groups - 1) / p->groups;
    if (job->parts > p->batch) job->parts = p->batch;
    const int64_t image = p->channels * job->x_pad.item_target + p->features * job->dy_pad.item_target;
    job->chunk = 1 + COPIED_BYTES / (image * (int64_t)sizeof(T));
    job->x_elements =
        round_up(job->chunk * p->channels * job->x_pad.item_target + job->x_pad.size[2] + LANES, LANES); /* tails */
    job->slot_elements = round_up(job->x_elements + job->chunk * p->features * job->dy_pad.item_target, 64);
}

/* Whether dot products are ahead of gathering and packing, in multiplications for each position (measured). Both copies of
 * an image must stay in the cache, and there must be images or groups enough to share, unless all is too small for that. */
static bool NAMED(dots_pay)(const NAMED(dots_job) * job) {
    enum { IMAGE_BYTES = 384 << 10, LEAST_TASKS = 8 };
    const cr_convolution *p = job->p;
    const double columns = (double)(p->channels * cr_product3(p->kernel)), features = (double)p->features,
                 positions = (double)cr_product3(p->out), side = (double)(p->channels * p->kernel[2]);
    const double packing =
        columns * (8 + 200 / side) + features * 25; /* columns lie in runs of one row of the kernel */
    const double dots = 1.35 * columns * features * (double)(job->vectors * LANES) / positions;
    if (dots > 1.15 * columns * features + packing) return false;
    if ((job->x_elements + p->features * job->dy_pad.item_target) * (int64_t)sizeof(T) > IMAGE_BYTES * job->chunk)
        return false;
    return job->parts * p->groups >= LEAST_TASKS || columns * features * positions * (double)p->batch < LEAST_SHARED;
}

static bool NAMED(weights_dots)(const cr_convolution *p, const T *x, const T *dy, T *dw, bool *applies) {
    const int64_t columns = p->channels * cr_product3(p->kernel), elements = p->groups * p->features * columns;
    scratch memory = {0};
    int64_t *storage = scratch_take(&memory, (size_t)(cr_phase_storage(p) + columns + DOT_COLUMNS) * sizeof *storage);
    if (!storage) return scratch_drop(&memory);
    phase_split split[CR_SPATIAL_DIMS];
    cr_split_all_phases(p, storage, split);
    NAMED(dots_job) job = {.p = p, .x = x, .dy = dy, .offsets = storage + cr_phase_storage(p)};
    NAMED(lay_out_dots)(&job, split);
    *applies = NAMED(dots_pay)(&job);
    if (!*applies) {
        scratch_drop(&memory);
        return true;
    }
    cr_forward_offsets(p, split, job.x_pad.size, job.x_pad.item_target, job.offsets);
    for (int i = 0; i < DOT_COLUMNS; i++)
        job.offsets[columns + i] = job.offsets[columns - 1];
    const int64_t threads = cr_num_threads(), tasks = job.parts * p->groups;
    job.slots = threads < tasks ? threads : tasks;
    job.memory = scratch_take(&memory, (size_t)(job.slots * job.slot_elements) * sizeof(T));
    job.results = job.parts > 1 ? scratch_take(&memory, (size_t)(job.parts * elements) * sizeof(T)) : dw;
    if (!job.memory || !job.results) return scratch_drop(&memory);
    cr_parallel_for(job.slots, 1, NAMED(run_dot_slots), &job);
    if (job.parts > 1)
        cr_parallel_for(elements, CR_GRAIN_ELEMENTS, NAMED(sum_parts),
                        &(NAMED(sum_job)){dw, job.results, job.parts, elements});
    scratch_drop(&memory);
    return true;
}
