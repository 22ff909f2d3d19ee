/* Pooling loops for one dtype: include it with T, PLACE (an integer of T's size, for positions in a plane) and
 * NAMED(name) defined; it undefines them.
 *
 * A plane (a channel of an image) belongs to one thread. A tap of the window is applied to a whole row of results at
 * once, reading with the stride, which vectorises for the usual strides. */

/* ---------------------------------------------------------------- a tap applied to many results */
#define EACH_STEP(...)                                                                                                 \
    do {                                                                                                               \
        if (step == 1) {                                                                                               \
            enum { STEP = 1 };                                                                                         \
            __VA_ARGS__                                                                                                \
        } else if (step == 2) {                                                                                        \
            enum { STEP = 2 };                                                                                         \
            __VA_ARGS__                                                                                                \
        } else {                                                                                                       \
            const int64_t STEP = step;                                                                                 \
            __VA_ARGS__                                                                                                \
        }                                                                                                              \
    } while (0)

/* Keeps the greater value (NaN above all, the last of several) and its position. */
static void NAMED(take_greater)(T *restrict best, PLACE *restrict position, const T *restrict source, int64_t count,
                                int64_t step, PLACE first, PLACE position_step) {
    EACH_STEP(for (int64_t i = 0; i < count; i++) {
        const T value = source[i * STEP];
        const T so_far = best[i];
        /* Without branches, and with both stored always: stores under a mask are slow. */
        const PLACE take = -(PLACE)(!(value <= so_far) & !((so_far != so_far) & (value == value)));
        best[i] = take ? value : so_far;
        position[i] = (take & (first + (PLACE)i * position_step)) | (~take & position[i]);
    });
}

static void NAMED(take_sum)(T *restrict sum, const T *restrict source, int64_t count, int64_t step) {
    EACH_STEP(for (int64_t i = 0; i < count; i++) sum[i] += source[i * STEP];);
}

static void NAMED(give_share)(T *restrict target, const T *restrict share, int64_t count, int64_t step) {
    EACH_STEP(for (int64_t i = 0; i < count; i++) target[i * STEP] += share[i];);
}

/* ---------------------------------------------------------------- the job */
typedef struct NAMED(pool_job) {
    const cr_pooling *p;
    pool_kind kind;
    const T *source; /* values, or for SPREAD the gradient */
    T *target;
    int64_t *positions; /* MAXIMUM only */
    T *shares;          /* SPREAD only: the gradient, divided */
    int64_t in_plane, out_plane;
    PLACE taps[MOST_TAPS]; /* MAXIMUM of small windows: offsets in the plane */
    int64_t tap_count;
    int64_t whole_from[CR_SPATIAL_DIMS], whole_to[CR_SPATIAL_DIMS]; /* results whose windows lie inside the input */
} NAMED(pool_job);

static T NAMED(share_of)(const cr_pooling *p, const cr_window w[CR_SPATIAL_DIMS]) {
    return (T)(p->divisor_override ? p->divisor_override : w[0].extent * w[1].extent * w[2].extent);
}

/* ---------------------------------------------------------------- rows of results */
/* Results low … high-1 of a row have tap t of the last dim inside the input. */
static void NAMED(row_range)(const cr_pooling *p, int64_t t, int64_t *low, int64_t *high) {
    const int64_t shift = t * p->dilation[2] - p->padding[2], stride = p->stride[2], last = p->in[2] - 1 - shift;
    *low = shift >= 0 ? 0 : (-shift + stride - 1) / stride;
    *high = last < 0 ? 0 : last / stride + 1;
    if (*high > p->out[2]) *high = p->out[2];
}

/* One row of input under one row of results. */
static void NAMED(row_tap)(const NAMED(pool_job) * job, const T *row_in, T *row_out, PLACE *row_position, int64_t first,
                           T *spread_to) {
    const cr_pooling *p = job->p;
    if (p->adaptive) {
        for (int64_t o = 0; o < p->out[2]; o++) {
            const cr_window w = cr_pool_window(p, 2, o);
            for (int64_t i = w.begin; i < w.end; i++) {
                if (job->kind == MAXIMUM)
                    NAMED(take_greater)(row_out + o, row_position + o, row_in + i, 1, 1, (PLACE)(first + i), 0);
                else if (job->kind == MEAN)
                    row_out[o] += row_in[i];
                else
                    spread_to[i] += row_out[o];
            }
        }
        return;
    }
    for (int64_t t = 0; t < p->kernel[2]; t++) {
        int64_t low, high;
        NAMED(row_range)(p, t, &low, &high);
        if (low >= high) continue;
        const int64_t i = low * p->stride[2] + t * p->dilation[2] - p->padding[2];
        if (job->kind == MAXIMUM) NAMED(take_greater)
        (row_out + low, row_position + low, row_in + i, high - low, p->stride[2], (PLACE)(first + i),
         (PLACE)p->stride[2]);
        else if (job->kind == MEAN) NAMED(take_sum)(row_out + low, row_in + i, high - low, p->stride[2]);
        else NAMED(give_share)(spread_to + i, row_out + low, high - low, p->stride[2]);
    }
}

/* One row of results: row_out holds sums or maxima, or for SPREAD the shares to give. */
static void NAMED(plane_row)(const NAMED(pool_job) * job, const T *in, T *row_out, PLACE *row_position, int64_t o0,
                             int64_t o1, T *spread_to) {
    const cr_pooling *p = job->p;
    cr_window w[CR_SPATIAL_DIMS] = {cr_pool_window(p, 0, o0), cr_pool_window(p, 1, o1)};
    for (int64_t i0 = w[0].begin; i0 < w[0].end; i0 += p->dilation[0])
        for (int64_t i1 = w[1].begin; i1 < w[1].end; i1 += p->dilation[1]) {
            const int64_t first = (i0 * p->in[1] + i1) * p->in[2];
            NAMED(row_tap)
            (job, in ? in + first : NULL, row_out, row_position, first, spread_to ? spread_to + first : NULL);
        }
}

static void NAMED(divide_row)(const cr_pooling *p, const T *from, T *to, int64_t o0, int64_t o1) {
    cr_window w[CR_SPATIAL_DIMS] = {cr_pool_window(p, 0, o0), cr_pool_window(p, 1, o1)};
    for (int64_t o = 0; o < p->out[2]; o++) {
        w[2] = cr_pool_window(p, 2, o);
        to[o] = from[o] / NAMED(share_of)(p, w);
    }
}

/* The position that a window starts from where nothing is greater than -infinity. */
static void NAMED(start_row)(const cr_pooling *p, T *row_out, PLACE *row_position, int64_t o0, int64_t o1) {
    const int64_t begin = (cr_pool_window(p, 0, o0).begin * p->in[1] + cr_pool_window(p, 1, o1).begin) * p->in[2];
    for (int64_t o = 0; o < p->out[2]; o++) {
        row_out[o] = -(T)INFINITY;
        row_position[o] = (PLACE)(begin + cr_pool_window(p, 2, o).begin);
    }
}

/* Positions stand as PLACEs at the beginning of their row's memory: spread from the end, none is lost. */
static void NAMED(widen_row)(int64_t *row, int64_t count) {
    for (int64_t o = count; o-- > 0;) {
        PLACE place;
        memcpy(&place, (const char *)row + o * (int64_t)sizeof place, sizeof place);
        row[o] = place;
    }
}

/* ---------------------------------------------------------------- maxima of small windows, several at a time */
#define WIDTH         4
#define WINDOWS(name) NAMED(name##_4)
#include "ops/cpu/variants/pooling_windows.h"
#ifdef __AVX__
#define WIDTH         8
#define WINDOWS(name) NAMED(name##_8)
#include "ops/cpu/variants/pooling_windows.h"
#endif

/* One window at the border. */
static void NAMED(greatest_one)(const cr_pooling *p, const T *in, T *out, int64_t *position, int64_t o0, int64_t o1,
                                int64_t o2) {
    const cr_window w[CR_SPATIAL_DIMS] = {cr_pool_window(p, 0, o0), cr_pool_window(p, 1, o1), cr_pool_window(p, 2, o2)};
    T best = -(T)INFINITY;
    int64_t place = (w[0].begin * p->in[1] + w[1].begin) * p->in[2] + w[2].begin;
    for (int64_t i0 = w[0].begin; i0 < w[0].end; i0 += p->dilation[0])
        for (int64_t i1 = w[1].begin; i1 < w[1].end; i1 += p->dilation[1])
            for (int64_t i2 = w[2].begin; i2 < w[2].end; i2 += p->dilation[2]) {
                const int64_t at = (i0 * p->in[1] + i1) * p->in[2] + i2;
                if (in[at] <= best || (best != best && in[at] == in[at])) continue;
                best = in[at];
                place = at;
            }
    *out = best;
    *position = place;
}

/* The rows of results of plane o0 whose windows lie inside in all other dims; out and positions: of row 0. */
static void NAMED(greatest_rows)(const NAMED(pool_job) * job, const T *in, T *out, int64_t *positions, int64_t o0) {
    const cr_pooling *p = job->p;
    const int64_t first = job->whole_from[1], rows = job->whole_to[1] - first, row = p->out[2],
                  begin = ((o0 * p->stride[0] - p->padding[0]) * p->in[1] + first * p->stride[1] - p->padding[1]) *
                              p->in[2] -
                          p->padding[2];
#ifdef __AVX__
    if (sizeof(T) == sizeof(float) && job->whole_to[2] - job->whole_from[2] >= 8)
        NAMED(greatest_windows_8)(job, in, begin, rows, out + first * row, positions + first * row);
    else
#endif
        NAMED(greatest_windows_4)(job, in, begin, rows, out + first * row, positions + first * row);
    for (int64_t o1 = first; o1 < first + rows; o1++)
        for (int64_t o = 0; o < row; o++) {
            if (o == job->whole_from[2]) o = job->whole_to[2];
            if (o < row) NAMED(greatest_one)(p, in, out + o1 * row + o, positions + o1 * row + o, o0, o1, o);
        }
}

/* The taps of a window, where windows are small and most lie inside the input; else none. */
static void NAMED(find_taps)(const cr_pooling *p, NAMED(pool_job) * job) {
    if (p->adaptive || cr_product3(p->kernel) > MOST_TAPS) return;
    for (int d = 0; d < CR_SPATIAL_DIMS; d++) {
        const int64_t last = p->in[d] - 1 - (p->kernel[d] - 1) * p->dilation[d] + p->padding[d];
        job->whole_from[d] = (p->padding[d] + p->stride[d] - 1) / p->stride[d];
        job->whole_to[d] = last < 0 ? 0 : last / p->stride[d] + 1;
        if (job->whole_to[d] > p->out[d]) job->whole_to[d] = p->out[d];
    }
    if (job->whole_to[2] - job->whole_from[2] < 4) return;
    for (int64_t t = 0; t < cr_product3(p->kernel); t++) {
        const int64_t t2 = t % p->kernel[2], t1 = t / p->kernel[2] % p->kernel[1], t0 = t / p->kernel[2] / p->kernel[1];
        job->taps[job->tap_count++] =
            (PLACE)((t0 * p->dilation[0] * p->in[1] + t1 * p->dilation[1]) * p->in[2] + t2 * p->dilation[2]);
    }
}

static bool NAMED(is_whole_row)(const NAMED(pool_job) * job, int64_t o0, int64_t o1) {
    return job->tap_count > 0 && o0 >= job->whole_from[0] && o0 < job->whole_to[0] && o1 >= job->whole_from[1] &&
           o1 < job->whole_to[1];
}

static void NAMED(pool_plane)(const NAMED(pool_job) * job, int64_t plane) {
    const cr_pooling *p = job->p;
    for (int64_t o0 = 0; o0 < p->out[0]; o0++)
        for (int64_t o1 = 0; o1 < p->out[1]; o1++) {
            const int64_t row = (o0 * p->out[1] + o1) * p->out[2] + plane * job->out_plane;
            if (job->kind == SPREAD) {
                NAMED(divide_row)(p, job->source + row, job->shares + row, o0, o1);
                NAMED(plane_row)(job, NULL, job->shares + row, NULL, o0, o1, job->target + plane * job->in_plane);
                continue;
            }
            T *out = job->target + row;
            if (NAMED(is_whole_row)(job, o0, o1)) {
                if (o1 > job->whole_from[1]) continue; /* done with the first one */
                const int64_t before = o1 * p->out[2];
                NAMED(greatest_rows)
                (job, job->source + plane * job->in_plane, out - before, job->positions + row - before, o0);
                continue;
            }
            PLACE *position = job->kind == MAXIMUM ? (PLACE *)(void *)(job->positions + row) : NULL;
            if (job->kind == MAXIMUM)
                NAMED(start_row)(p, out, position, o0, o1);
            else
                memset(out, 0, (size_t)p->out[2] * sizeof(T));
            NAMED(plane_row)(job, job->source + plane * job->in_plane, out, position, o0, o1, NULL);
            if (job->kind == MEAN) NAMED(divide_row)(p, out, out, o0, o1);
            if (job->kind == MAXIMUM) NAMED(widen_row)(job->positions + row, p->out[2]);
        }
}

static void NAMED(pool_planes)(void *context, int64_t begin, int64_t end) {
    const NAMED(pool_job) *job = context;
    if (job->kind == SPREAD)
        memset(job->target + begin * job->in_plane, 0, (size_t)((end - begin) * job->in_plane) * sizeof(T));
    for (int64_t plane = begin; plane < end; plane++)
        NAMED(pool_plane)(job, plane);
}

/* All operands dense, channels first. */
static bool NAMED(pool)(const cr_pooling *p, pool_kind kind, const T *source, T *target, int64_t *positions) {
    NAMED(pool_job)
    job = {.p = p,
           .kind = kind,
           .source = source,
           .target = target,
           .positions = positions,
           .in_plane = cr_product3(p->in),
           .out_plane = cr_product3(p->out)};
    if (kind == MAXIMUM) NAMED(find_taps)(p, &job);
    const int64_t planes = p->batch * p->channels;
    const size_t bytes = kind == SPREAD ? (size_t)(planes * job.out_plane) * sizeof(T) : 0;
    if (bytes && !(job.shares = cr_block_allocate(bytes))) return false;
    cr_parallel_for(planes, 1 + CR_GRAIN_ELEMENTS / (job.in_plane + job.out_plane), NAMED(pool_planes), &job);
    cr_block_free(job.shares, bytes);
    return true;
}

/* ---------------------------------------------------------------- positions */
static void NAMED(move_planes)(void *context, int64_t begin, int64_t end) {
    position_job *job = context;
    const int64_t in = job->in_plane, out = job->out_plane;
    for (int64_t plane = begin; plane < end; plane++) {
        const int64_t *positions = job->positions + plane * out;
        const T *source = (const T *)job->source + plane * (job->gather ? in : out);
        T *target = (T *)job->target + plane * (job->gather ? out : in);
        if (!are_inside(positions, out, in)) {
            atomic_store_explicit(&job->is_outside, true, memory_order_relaxed);
            return;
        }
        if (job->gather) {
            for (int64_t i = 0; i < out; i++)
                target[i] = source[positions[i]];
            continue;
        }
        memset(target, 0, (size_t)in * sizeof(T));
        for (int64_t i = 0; i < out; i++)
            target[positions[i]] += source[i];
    }
}
#undef EACH_STEP
#undef T
#undef PLACE
#undef NAMED
