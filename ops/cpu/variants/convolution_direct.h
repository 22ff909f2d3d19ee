/* Convolution, and its gradient by the input, image by image without gathering, for few channels:
 *
 *   result[row][position] = bias[row] + sum over taps t and channels c of w[row][c][t] image[c][position + t]
 *
 * A thread makes the padded copy of one image, split by stride, in its own cache. There a tap is one offset for all
 * positions, so a panel of neighbouring columns is read where it lies. Panels begin with each row of results, or follow
 * each other over the plane in the copy's pitch, whichever are fewer; what stands between rows is computed in vain.
 * Taps that lie above or below the image for a whole panel are left out. The gradient by the input falls into phases by
 * stride, as in convolution_data.h.
 *
 * A template: include it with T and NAMED(name) defined, after convolution_data.h. */

enum { DIRECT_PHASES = 16 };

typedef struct NAMED(direct_job) {
    const cr_convolution *p;
    const T *source, *w, *bias;
    T *target;
    const layer *extra;
    int64_t rows, channels, row_step, channel_step; /* of a group; steps in the weight */
    int64_t plane, target_step[CR_SPATIAL_DIMS];    /* of results */
    NAMED(padded) pad;
    direct_phase phases[DIRECT_PHASES];
    int64_t phase_count;
    T *packed; /* [phase][group] panels */
    int64_t slots, slot_elements;
    T *memory; /* of each slot: the copy of a group's channels */
    atomic_int_fast64_t next;
} NAMED(direct_job);

/* ---------------------------------------------------------------- one image of one group */
/* One image's channels into memory that is zero wherever the copy is: so nothing but rows of the image is written. */
static void NAMED(pad_zeroed)(const NAMED(padded) * pad, const T *source, T *target, int64_t items) {
    NAMED(padded) p = *pad;
    bool whole = true; /* one phase */
    for (int d = 0; d < CR_SPATIAL_DIMS; d++)
        whole &= p.step[d] == 1 && p.padding[d] + p.in[d] <= p.size[d];
    if (!whole) {
        p.source = source;
        p.target = target;
        (NAMED(splits_rows)(&p) ? NAMED(split_range) : NAMED(pad_range))(&p, 0, items);
        return;
    }
    for (int64_t item = 0; item < items; item++, target += p.item_target)
        for (int64_t i0 = 0; i0 < p.in[0]; i0++) {
            T *to = target + ((i0 + p.padding[0]) * p.size[1] + p.padding[1]) * p.size[2] + p.padding[2];
            for (int64_t i1 = 0; i1 < p.in[1]; i1++, source += p.in[2], to += p.size[2])
                NAMED(copy_row)(source, to, p.in[2]);
        }
}

/* Stores count <= COLUMNS neighbours, plus the bias, by vectors that may overlap. */
static inline __attribute__((always_inline)) void NAMED(store_run)(T *to, const T *from, int64_t count, T bias) {
    typedef NAMED(loose_vector) loose_vector;
    typedef NAMED(quad) quad;
    if (count >= LANES) {
        *(loose_vector *)to = *(const loose_vector *)from + bias;
        *(loose_vector *)(to + count - LANES) = *(const loose_vector *)(from + count - LANES) + bias;
        return;
    }
    int64_t i = 0;
    for (; i + 4 <= count; i += 4)
        *(quad *)(to + i) = *(const quad *)(from + i) + bias;
    for (; i < count; i++)
        to[i] = from[i] + bias;
}

static inline __attribute__((always_inline)) void NAMED(store_tile)(const NAMED(direct_job) * job,
                                                                    const direct_run *runs, int64_t run_count,
                                                                    const T *tile, int64_t rows, const T *bias,
                                                                    T *target) {
    const int64_t step = job->target_step[2];
    for (int64_t i = 0; i < run_count; i++)
        for (int64_t r = 0; r < rows; r++) {
            const T *from = tile + r * COLUMNS + runs[i].at, shift = bias ? bias[r] : 0;
            T *to = target + r * job->plane + runs[i].target;
            if (step == 1)
                NAMED(store_run)(to, from, runs[i].count, shift);
            else
                for (int64_t c = 0; c < runs[i].count; c++)
                    to[c * step] = from[c] + shift;
        }
}

static void NAMED(run_direct_image)(const NAMED(direct_job) * job, int64_t image, int64_t group, T *memory) {
    _Alignas(64) T tile[ROWS * COLUMNS];
    const int64_t groups = job->p->groups, row_panels = (job->rows + ROWS - 1) / ROWS;
    NAMED(pad_zeroed)
    (&job->pad, job->source + (image * groups + group) * job->channels * job->pad.item_source, memory, job->channels);
    T *target = job->target + (image * groups + group) * job->rows * job->plane;
    const T *packed = job->packed;
    for (int64_t i = 0; i < job->phase_count; i++) {
        const direct_phase *phase = &job->phases[i];
        const int64_t depth = phase->tap_count * job->channels;
        for (int64_t r = 0; r < row_panels; r++) {
            const int64_t first = r * ROWS, rows = job->rows - first < ROWS ? job->rows - first : ROWS;
            const T *left = packed + (group * row_panels + r) * depth * ROWS;
            for (int64_t n = 0; n < phase->panel_count; n++) {
                const direct_panel *panel = &phase->panels[n];
                NAMED(multiply)
                (rows, panel->depth, left + panel->first * ROWS, memory + panel->source, phase->offsets + panel->first,
                 tile, false);
                NAMED(store_tile)
                (job, phase->runs + panel->run, panel->runs, tile, rows,
                 job->bias ? job->bias + group * job->rows + first : NULL, target + first * job->plane);
            }
        }
        packed += groups * row_panels * depth * ROWS;
    }
    if (job->extra->epilogue) cr_epilogue_run(job->extra->epilogue, image, group * job->rows, job->rows, 0, job->plane);
}

static void NAMED(run_direct_slots)(void *context, int64_t begin, int64_t end) {
    NAMED(direct_job) *job = context;
    const int64_t groups = job->p->groups;
    for (int64_t slot = begin, task; slot < end; slot++)
        while ((task = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed)) < job->p->batch * groups)
            NAMED(run_direct_image)(job, task / groups, task % groups, job->memory + slot * job->slot_elements);
}

/* ---------------------------------------------------------------- the whole */
/* Packs the weight for each phase and group. */
static bool NAMED(pack_direct)(const NAMED(direct_job) * job, scratch *memory) {
    const int64_t groups = job->p->groups, panel_rows = round_up(job->rows, ROWS);
    NAMED(left_side) *sides = scratch_take(memory, (size_t)groups * sizeof *sides);
    if (!sides) return false;
    T *packed = job->packed;
    for (int64_t i = 0; i < job->phase_count; i++) {
        const direct_phase *phase = &job->phases[i];
        const int64_t depth = phase->tap_count * job->channels;
        for (int64_t g = 0; g < groups; g++, packed += panel_rows * depth)
            sides[g] =
                (NAMED(left_side)){job->w + g * job->p->features * job->p->channels * cr_product3(job->p->kernel),
                                   job->rows,
                                   job->row_step,
                                   1,
                                   0,
                                   depth,
                                   phase->weights,
                                   packed};
        NAMED(pack_left)(sides, groups);
    }
    return true;
}

/* Multiplications of an image's group: those that are asked for, and those that the panels make. */
static double NAMED(asked)(const NAMED(direct_job) * job) {
    double sum = 0;
    for (int64_t i = 0; i < job->phase_count; i++)
        sum += (double)(cr_product3(job->phases[i].count) * job->phases[i].tap_count);
    return sum * (double)(job->channels * job->rows);
}
static double NAMED(made)(const NAMED(direct_job) * job) {
    double sum = 0;
    for (int64_t i = 0; i < job->phase_count; i++)
        for (int64_t n = 0; n < job->phases[i].panel_count; n++)
            sum += (double)(job->phases[i].panels[n].depth * COLUMNS);
    return sum * (double)job->rows;
}

/* Whether it is ahead of gathering, in multiplications of an image's group (measured). The copy must stay in the cache,
 * and there must be images or groups enough to share, unless all is too small for that. */
static bool NAMED(direct_pays)(const NAMED(direct_job) * job) {
    enum { IMAGE_BYTES = 2 << 20, GATHERED = 5, COPIED = 6, LEAST_TASKS = 8 };
    const int64_t copied = job->channels * job->pad.item_target, tasks = job->p->batch * job->p->groups;
    const double asked = NAMED(asked)(job), gathered = (1.15 + GATHERED / (double)job->rows) * asked;
    bool copies = job->pad.item_target != job->pad.item_source; /* does gathering need a copy, too? */
    for (int d = 0; d < CR_SPATIAL_DIMS; d++)
        copies |= job->pad.padding[d] > 0;
    if (1.2 * NAMED(made)(job) + (copies ? 0 : COPIED * (double)copied) > gathered) return false;
    return copied * (int64_t)sizeof(T) <= IMAGE_BYTES && (tasks >= LEAST_TASKS || asked * (double)tasks < LEAST_SHARED);
}

static bool NAMED(run_direct)(NAMED(direct_job) * job, scratch *memory) {
    const cr_convolution *p = job->p;
    const int64_t threads = cr_num_threads(), tasks = p->batch * p->groups;
    job->slots = NAMED(asked)(job) * (double)tasks < LEAST_SHARED ? 1 : threads < tasks ? threads : tasks;
    job->slot_elements = round_up(job->channels * job->pad.item_target + COLUMNS, 64);
    job->memory = scratch_take(memory, (size_t)(job->slots * job->slot_elements) * sizeof(T));
    job->packed = scratch_take(
        memory, (size_t)(p->groups * round_up(job->rows, ROWS) * job->channels * cr_product3(p->kernel)) * sizeof(T));
    if (!job->memory || !job->packed || !NAMED(pack_direct)(job, memory)) return false;
    memset(job->memory, 0, (size_t)(job->slots * job->slot_elements) * sizeof(T));
    cr_parallel_for(job->slots, 1, NAMED(run_direct_slots), job);
    return true;
}

/* y = x * w, or (`by_input`) x from y; `source` is what is read. */
static bool NAMED(direct)(const cr_convolution *p, bool by_input, const T *source, const T *w, const T *bias, T *target,
                          const layer *extra, bool *applies) {
    const int64_t taps = cr_product3(p->kernel), *to = by_input ? p->in : p->out;
    NAMED(direct_job)
    job = {.p = p,
           .source = source,
           .w = w,
           .bias = bias,
           .target = target,
           .extra = extra,
           .rows = by_input ? p->channels : p->features,
           .channels = by_input ? p->features : p->channels,
           .row_step = by_input ? taps : p->channels * taps,
           .channel_step = by_input ? p->channels * taps : taps,
           .plane = cr_product3(to),
           .target_step = {to[1] * to[2], to[2], 1}};
    for (int d = 0; by_input && d < CR_SPATIAL_DIMS; d++)
        job.target_step[d] *= p->stride[d];
    scratch memory = {0};
    bool done = true, covered = true;
    *applies = false;
    int64_t *storage = scratch_take(&memory, (size_t)(cr_phase_storage(p) + 2 * taps) * sizeof *storage);
    direct_tap *all = scratch_take(&memory, (size_t)taps * sizeof *all);
    if (!storage || !all) return scratch_drop(&memory);
    phase_split split[CR_SPATIAL_DIMS];
    cr_split_all_phases(p, storage, split);
    job.pad = by_input ? NAMED(data_copy)(p, split, &covered) : NAMED(forward_copy)(p, split);
    if (covered && split[0].count * split[1].count * split[2].count <= DIRECT_PHASES) {
        job.phase_count =
            by_input ? cr_plan_direct_data(p, split, job.pad.padding, job.pad.size, storage + cr_phase_storage(p), all,
                                           job.phases)
                     : cr_plan_direct_forward(p, split, job.pad.size, storage + cr_phase_storage(p), all, job.phases);
        const panel_plan plan = {job.pad.size, job.target_step, job.channels, COLUMNS};
        done =
            cr_plan_direct_panels(&plan, job.phases, job.phase_count, job.channel_step, job.pad.item_target, &memory);
        *applies = done && NAMED(direct_pays)(&job);
        if (*applies) done = NAMED(run_direct)(&job, &memory);
    }
    scratch_drop(&memory);
    return done;
}
