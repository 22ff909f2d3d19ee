/* What Winograd's algorithm computes, a correlation of r taps in each dim, and its transformed weights
 * (channels_last_winograd.h says how they are used). */
#include "ops/cpu/variants/channels_last_panel.h"
#include "ops/cpu/variants/copy.h"

enum { MOST_POINTS = 6, MOST_RESULTS = 4, MOST_PHASES = 16, MOST_TAPS = 9 * MOST_PHASES };

#define NEAR_POINT 0.70710678f
#define FAR_POINT  1.41421356f

/* result[o] = sum over taps q, phases f, channels c of w[q, f, c] x[start + split (o + q) + f, c], in both dims; it lies at
 * first + step · o in y. */
typedef struct correlation {
    int r; /* taps */
    int64_t split, step, start[2], size[2], first[2];
} correlation;

/* Phases have places in the depth. Of two by two those at places 0 and 1 are the first of the rows, and those at 1 and 2 the
 * first of the columns. */
static int64_t phase_at(const correlation *at, int64_t place) {
    return at->split == 2 && place < 2 ? 1 - place : place;
}

/* A convolution as one correlation. */
static correlation forward_correlation(const cr_convolution *p) {
    return (correlation){.r = (int)divide_up(p->kernel[2], p->stride[2]),
                         .split = p->stride[2],
                         .step = 1,
                         .start = {-p->padding[1], -p->padding[2]},
                         .size = {p->out[1], p->out[2]}};
}

/* ---------------------------------------------------------------- weights */
/* Tap q of phase f of a feature's channel is w[feature · feature_step + channel · channel_step + place(f, q)], where each
 * dim is at tap_first + f + tap_step · q, or with q counted from the end where it is flipped. */
typedef struct winograd_weights {
    const cr_convolution *problem;
    correlation at;
    const float *w;
    float *packed;
    int m;
    int64_t feature_step, channel_step, kernel_width, tap_step, tap_first[2];
    bool flipped;
} winograd_weights;

static int64_t winograd_packed_elements(const cr_convolution *p, const correlation *at, int m) {
    const int64_t n = m + at->r - 1;
    return n * n * divide_up(p->features, COLUMNS) * COLUMNS * at->split * at->split * p->channels;
}

static winograd_weights forward_weights(const cr_convolution *p, const correlation *at, const float *w, float *packed,
                                        int m) {
    const int64_t taps = p->kernel[1] * p->kernel[2];
    return (winograd_weights){.problem = p,
                              .at = *at,
                              .w = w,
                              .packed = packed,
                              .m = m,
                              .feature_step = p->channels * taps,
                              .channel_step = taps,
                              .kernel_width = p->kernel[2],
                              .tap_step = at->split};
}

/* The features of a panel side by side. */
typedef float wide __attribute__((vector_size(COLUMNS * sizeof(float))));

static inline __attribute__((always_inline)) void transform_weight(const int m, const int r, const wide *g,
                                                                   const int step, wide *to, const int to_step) {
    const wide g0 = g[0], *rest = r == 3 ? g + step : g, g1 = rest[0], g2 = rest[step];
    if (r == 3) {
        to[0] = g0;
        to += to_step;
    }
    if (m == 2) {
        to[0] = 0.5f * (g0 + g1 + g2);
        to[to_step] = 0.5f * (g0 - g1 + g2);
        to[2 * to_step] = g2;
        return;
    }
    const wide near_even = r == 3 ? g0 + 0.5f * g2 : 0.5f * g2, near_odd = NEAR_POINT * g1,
               far_even = r == 3 ? g0 + 2.0f * g2 : 2.0f * g2, far_odd = FAR_POINT * g1;
    to[0] = (-1.0f / 1.5f) * (near_even + near_odd);
    to[to_step] = (-1.0f / 1.5f) * (near_even - near_odd);
    to[2 * to_step] = (1.0f / 6.0f) * (far_even + far_odd);
    to[3 * to_step] = (1.0f / 6.0f) * (far_even - far_odd);
    to[4 * to_step] = g2;
}

/* One panel's features of a channel in one phase, of whose kernel all taps are given. */
static inline __attribute__((always_inline)) void pack_winograd_taps(const int m, const int r,
                                                                     const winograd_weights *job, const wide *kernel,
                                                                     int64_t channel, int64_t place, float *to,
                                                                     int64_t point_step) {
    const cr_convolution *p = job->problem;
    const int n = m + r - 1;
    const int64_t width = r * job->tap_step, phase = phase_at(&job->at, place);
    const wide *first =
        kernel + (job->tap_first[0] + phase / job->at.split) * width + job->tap_first[1] + phase % job->at.split;
    wide g[9], half[3 * MOST_POINTS], made[MOST_POINTS];
    for (int t = 0; t < r * r; t++) {
        const int q = job->flipped ? r * r - 1 - t : t;
        g[t] = first[(q / r * width + q % r) * job->tap_step];
    }
    for (int column = 0; column < r; column++)
        transform_weight(m, r, g + column, r, half + column, r);
    for (int row = 0; row < n; row++) {
        transform_weight(m, r, half + row * r, 1, made, 1);
        for (int k = 0; k < n; k++)
            memcpy(to + (row * n + k) * point_step + (place * p->channels + channel) * COLUMNS, &made[k],
                   sizeof made[k]);
    }
}

/* A feature's taps of a channel lie side by side; here, those of a panel's features do, for `count` channels one after the
 * other. A kernel that is less than r times its stride wide is filled up with zeros. */
static void gather_kernels(const winograd_weights *job, int64_t panel, int64_t channel, int64_t count, wide *kernels) {
    const int64_t taps = job->kernel_width * job->kernel_width, width = job->at.r * job->tap_step,
                  rest = job->problem->features - panel * COLUMNS;
    const float *from = job->w + panel * COLUMNS * job->feature_step + channel * job->channel_step;
    if (width == job->kernel_width && rest >= COLUMNS) {
        const int64_t together = job->channel_step == taps ? count : 1;
        for (int64_t c = 0; c < count; c += together)
            cr_transpose_f32((float *)(kernels + c * taps), COLUMNS, from + c * job->channel_step, job->feature_step,
                             together * taps, COLUMNS);
        return;
    }
    memset(kernels, 0, (size_t)(count * width * width) * sizeof *kernels);
    for (int64_t i = 0; i < COLUMNS && i < rest; i++, from += job->feature_step)
        for (int64_t c = 0; c < count; c++)
            for (int64_t t = 0; t < taps; t++)
                kernels[(c * width + t / job->kernel_width) * width + t % job->kernel_width][i] =
                    from[c * job->channel_step + t];
}

/* Channels of a panel, `count` of them: their phases at `to`, their points point_step apart. */
static void pack_winograd_run(const winograd_weights *job, int64_t panel, int64_t channel, int64_t count, float *to,
                              int64_t point_step) {
    const int64_t phases = job->at.split * job->at.split, width = job->at.r * job->tap_step,
                  at_once = MOST_TAPS / (width * width);
    wide kernels[MOST_TAPS];
    for (int64_t i = 0; i < count * phases; i++) {
        const int64_t c = i / phases, place = i % phases;
        const wide *kernel = kernels + c % at_once * width * width;
        if (c % at_once == 0 && place == 0)
            gather_kernels(job, panel, channel + c, count - c < at_once ? count - c : at_once, kernels);
        if (job->m == 2)
            pack_winograd_taps(2, 3, job, kernel, channel + c, place, to, point_step);
        else if (job->at.r == 2)
            pack_winograd_taps(4, 2, job, kernel, channel + c, place, to, point_step);
        else
            pack_winograd_taps(4, 3, job, kernel, channel + c, place, to, point_step);
    }
}

static int64_t panel_elements(const winograd_weights *job) {
    return job->at.split * job->at.split * job->problem->channels * COLUMNS;
}

/* One panel: [point][channel][COLUMNS]. */
static void pack_winograd_panel(const winograd_weights *job, int64_t panel, float *to) {
    pack_winograd_run(job, panel, 0, job->problem->channels, to, panel_elements(job));
}

/* Channels [begin, end), counted through all panels. */
static void pack_winograd_channels(void *context, int64_t begin, int64_t end) {
    const winograd_weights *job = context;
    const int64_t channels = job->problem->channels, elements = panel_elements(job),
                  point_step = divide_up(job->problem->features, COLUMNS) * elements;
    for (int64_t at = begin, count; at < end; at += count) {
        const int64_t panel = at / channels, channel = at % channels;
        count = channels - channel < end - at ? channels - channel : end - at;
        pack_winograd_run(job, panel, channel, count, job->packed + panel * elements, point_step);
    }
}

/* All: [point][panel][channel][COLUMNS]. */
static void pack_winograd(winograd_weights *job) {
    const cr_convolution *p = job->problem;
    cr_parallel_for(divide_up(p->features, COLUMNS) * p->channels, 64, pack_winograd_channels, job);
}
