/* Depthwise convolution and pools of channels-last tensors: each channel by itself, a vector of them at a time. A row of
 * results is made in up to three stretches: in the middle the windows lie inside the input and have the same taps. */
#include "ops/cpu/variants/channels_last_panel.h"
#include "ops/pooling.h"

enum { WINDOW_TAPS = 64 /* more go in parts */ };

typedef enum window_kind { WEIGHTED, GREATEST, MEAN } window_kind;

typedef struct window_job {
    window_kind kind;
    const float *x, *weight, *bias; /* weight: [taps][channels] */
    float *y;
    const cr_epilogue *epilogue;
    float low, high; /* of depthwise convolutions */
    cr_pooling geometry;
} window_job;

/* The taps of a stretch of results, which are all of the same shape. */
typedef struct window_stretch {
    int64_t offsets[WINDOW_TAPS]; /* in x, from the first result's window */
    const float *weights[WINDOW_TAPS];
    const float *x, *start; /* start: NULL for nothing */
    float *y;
    int64_t taps, pixels, x_step, channels;
    float scale; /* of a mean */
    float low, high;
    bool goes_on; /* from what y holds */
} window_stretch;

/* NaN wins, as everywhere. */
static inline vector greater(vector a, vector b) {
    typedef int32_t mask __attribute__((vector_size(VECTOR_BYTES)));
    const mask takes_b = (b > a) | (b != b);
    return (vector)((takes_b & (mask)b) | (~takes_b & (mask)a));
}

/* One vector of channels of all pixels. `kind`, `taps` (0: as many as there are) and `lanes` are constants after
 * inlining. */
static inline __attribute__((always_inline)) void make_channels(const window_kind kind, const int known_taps,
                                                                const window_stretch *s, int64_t c, const int lanes) {
    const int64_t taps = known_taps ? known_taps : s->taps;
    vector weights[9] = {{0}};
    int64_t known_offsets[9] = {0};
    for (int t = 0; t < known_taps && kind == WEIGHTED; t++) {
        weights[t] = load_lanes(s->weights[t] + c, lanes);
        known_offsets[t] = s->offsets[t];
    }
    const float *x = s->x + c;
    float *y = s->y + c;
    const vector start = s->start ? load_lanes(s->start + c, lanes) : (vector){0};
    for (int64_t i = 0; i < s->pixels; i++, x += s->x_step, y += s->channels) {
        vector sum = s->goes_on         ? load_lanes(y, lanes)
                     : kind == GREATEST ? load_lanes(x + s->offsets[0], lanes)
                                        : start;
#pragma GCC unroll 9
        for (int64_t t = 0; t < taps; t++) {
            const vector from = load_lanes(x + (known_taps ? known_offsets[t] : s->offsets[t]), lanes);
            if (kind == WEIGHTED) sum += from * (known_taps ? weights[t] : load_lanes(s->weights[t] + c, lanes));
            if (kind == GREATEST) sum = greater(sum, from);
            if (kind == MEAN) sum += from;
        }
        if (kind == MEAN) sum *= s->scale;
        if (kind == WEIGHTED) sum = clamped(sum, s->low, s->high);
        store_lanes(y, sum, lanes);
    }
}

/* A row of results of a depthwise 3×3, from three rows that may be of zeros. Windows reach one pixel beyond them at most. */
typedef struct weighed_row {
    const float *rows[3], *weights, *start; /* weights: [9][weight_step]; start: NULL for nothing */
    float *y;
    int64_t pixels, channels /* of whole vectors */, x_step, y_step,
        weight_step; /* from one pixel, or tap, to the next */
    float low, high;
    bool begins_before, ends_behind; /* does the first window begin a pixel before the rows, the last one end behind? */
} weighed_row;

/* Windows side by side: an input that several of the results need is loaded once. `stride` is a constant after
 * inlining. */
enum {
    TOGETHER = 4,
    /* Of the input, which stay in the nearest cache for all channels; all, where no two vectors share a line of it. */
    NEAR_FLOATS = VECTOR_BYTES < 64 ? 4096 : 1 << 30
};
static inline __attribute__((always_inline)) void weigh_together(const int stride, const weighed_row *w, int64_t c,
                                                                 int64_t begin, int64_t end) {
    static const float outside[LANES];
    const int last = (TOGETHER - 1) * stride + 2; /* of the columns that they read */
    vector weights[9];
    const int64_t x_step = w->x_step, y_step = w->y_step;
    const float low = w->low, high = w->high;
    const vector start = load_or_zero(w->start ? w->start + c : NULL);
    for (int t = 0; t < 9; t++)
        weights[t] = load(w->weights + t * w->weight_step + c);
    for (int64_t i = begin; i < end; i += TOGETHER) {
        if (i + TOGETHER > w->pixels) i = w->pixels - TOGETHER; /* some are made again */
        vector sums[TOGETHER] = {start, start, start, start};
        const bool lacks_first = i == 0 && w->begins_before, lacks_last = i + TOGETHER == w->pixels && w->ends_behind;
#pragma GCC unroll 3
        for (int r = 0; r < 3; r++) {
            const float *x = w->rows[r] + c + i * stride * x_step;
#pragma GCC unroll 9
            for (int column = 0; column <= last; column++, x = next_row(x, x_step)) {
                const bool lacks = (column == 0 && lacks_first) || (column == last && lacks_last);
                const vector from = held(load(lacks ? outside : x));
#pragma GCC unroll 4
                for (int k = 0; k < TOGETHER; k++) {
                    const int tap = column - k * stride;
                    if (tap >= 0 && tap < 3) sums[k] += from * weights[r * 3 + tap];
                }
            }
        }
        float *y = w->y + c + i * y_step;
#pragma GCC unroll 4
        for (int k = 0; k < TOGETHER; k++)
            store(y + k * y_step, clamped(sums[k], low, high));
    }
}

/* `pixels` is TOGETHER at least, the stride 1 or 2. */
static void weigh_row(const weighed_row *w, int64_t stride) {
    int64_t part = NEAR_FLOATS / (3 * stride * w->x_step) / TOGETHER * TOGETHER;
    if (part < 2 * TOGETHER) part = 2 * TOGETHER;
    for (int64_t begin = 0; begin < w->pixels; begin += part)
        for (int64_t c = 0, end = begin + part < w->pixels ? begin + part : w->pixels; c < w->channels; c += LANES)
            if (stride == 1)
                weigh_together(1, w, c, begin, end);
            else
                weigh_together(2, w, c, begin, end);
}

static inline __attribute__((always_inline)) void make_all_channels(const window_kind kind, const int taps,
                                                                    const window_stretch *s) {
    int64_t c = 0;
    for (; c + LANES <= s->channels; c += LANES)
        make_channels(kind, taps, s, c, LANES);
    if (c < s->channels) make_channels(kind, 0, s, c, (int)(s->channels - c));
}
static void weigh_9(const window_stretch *s) { make_all_channels(WEIGHTED, 9, s); }
static void weigh_any(const window_stretch *s) { make_all_channels(WEIGHTED, 0, s); }

/* Pixel by pixel: no weights have to be held, and memory is read as it lies. */
static inline __attribute__((always_inline)) void pool_pixels(const window_kind kind, const window_stretch *s) {
    window_stretch pixel = *s;
    pixel.pixels = 1;
    for (int64_t i = 0; i < s->pixels; i++, pixel.x += s->x_step, pixel.y += s->channels)
        make_all_channels(kind, 0, &pixel);
}
static void take_greatest(const window_stretch *s) { pool_pixels(GREATEST, s); }
static void take_mean(const window_stretch *s) { pool_pixels(MEAN, s); }

/* What is left of a window without taps. */
static float bounded(const window_job *j, int64_t c) {
    const float bias = j->bias ? j->bias[c] : 0.0f;
    return bias < j->low ? j->low : bias > j->high ? j->high : bias;
}

/* Taps rows × columns of the windows of pixels [column, column + pixels) in one row of results. */
static void make_stretch(const window_job *j, int64_t image, int64_t row, int64_t column, int64_t pixels) {
    const cr_pooling *g = &j->geometry;
    const cr_window down = cr_pool_window(g, 1, row), right = cr_pool_window(g, 2, column);
    const int64_t first_row = row * g->stride[1] - g->padding[1], first_column = column * g->stride[2] - g->padding[2];
    const int64_t extent = down.extent * right.extent;
    window_stretch s = {.x = j->x + ((image * g->in[1] + down.begin) * g->in[2] + right.begin) * g->channels,
                        .y = j->y + ((image * g->out[1] + row) * g->out[2] + column) * g->channels,
                        .start = j->bias,
                        .pixels = pixels,
                        .x_step = g->stride[2] * g->channels,
                        .channels = g->channels,
                        .scale = 1.0f,
                        .low = -__builtin_inff(),
                        .high = __builtin_inff()};
    for (int64_t h = down.begin; h < down.end; h += g->dilation[1])
        for (int64_t w = right.begin; w < right.end; w += g->dilation[2]) {
            const int64_t tap = (h - first_row) / g->dilation[1] * g->kernel[2] + (w - first_column) / g->dilation[2];
            s.offsets[s.taps] = ((h - down.begin) * g->in[2] + w - right.begin) * g->channels;
            s.weights[s.taps++] = j->weight ? j->weight + tap * g->channels : NULL;
            const bool is_last = h + g->dilation[1] >= down.end && w + g->dilation[2] >= right.end;
            if (s.taps < WINDOW_TAPS && !is_last) continue;
            if (is_last) {
                s.low = j->low;
                s.high = j->high;
            }
            if (is_last && j->kind == MEAN)
                s.scale = 1.0f / (float)(g->divisor_override ? g->divisor_override : extent);
            (j->kind == GREATEST ? take_greatest : j->kind == MEAN ? take_mean : s.taps == 9 ? weigh_9 : weigh_any)(&s);
            s.taps = 0;
            s.goes_on = true;
        }
    for (int64_t i = 0; i < pixels && !s.goes_on; i++) /* a window in the padding alone */
        for (int64_t c = 0; c < g->channels; c++)
            s.y[i * g->channels + c] = j->kind == GREATEST ? -__builtin_inff() : bounded(j, c);
}

/* Whether the window in dim d begins and ends inside the input. */
static bool lies_inside(const cr_pooling *g, int d, int64_t at) {
    const int64_t begin = at * g->stride[d] - g->padding[d];
    return begin >= 0 && begin + (g->kernel[d] - 1) * g->dilation[d] < g->in[d];
}

/* Results first … last-1 of a row have their windows' columns inside. */
static void find_inner_columns(const cr_pooling *g, int64_t *first, int64_t *last) {
    *first = 0;
    *last = g->out[2];
    while (*first < *last && !lies_inside(g, 2, *first))
        ++*first;
    while (*last > *first && !lies_inside(g, 2, *last - 1))
        --*last;
}

static void make_rows(void *context, int64_t begin, int64_t end) {
    const window_job *j = context;
    const cr_pooling *g = &j->geometry;
    int64_t first, last;
    find_inner_columns(g, &first, &last);
    for (int64_t at = begin; at < end; at++) {
        const int64_t image = at / g->out[1], row = at % g->out[1];
        for (int64_t column = 0, pixels; column < g->out[2]; column += pixels) {
            pixels = column == first && last > first ? last - first : 1;
            make_stretch(j, image, row, column, pixels);
        }
        if (j->epilogue) cr_epilogue_run(j->epilogue, 0, at * g->out[2], g->out[2], 0, g->channels);
    }
}

static void run_windows(window_job *j) {
    const cr_pooling *g = &j->geometry;
    const int64_t work = g->out[2] * g->channels * g->kernel[1] * g->kernel[2] / 4;
    cr_parallel_for(g->batch * g->out[1], 1 + CR_GRAIN_ELEMENTS / (work + 1), make_rows, j);
}

/* ---------------------------------------------------------------- depthwise convolution */
/* 3×3 with whole vectors of channels: rows above and below the image are rows of zeros. */
typedef struct depthwise_rows {
    const window_job *windows;
    const float *zeros;
} depthwise_rows;

/* Pixels of the last window of a row behind the image. */
static int64_t reaches_beyond(const cr_pooling *g) {
    return (g->out[2] - 1) * g->stride[2] - g->padding[2] + 3 - g->in[2];
}

static void weigh_rows(void *context, int64_t begin, int64_t end) {
    const depthwise_rows *d = context;
    const window_job *j = d->windows;
    const cr_pooling *g = &j->geometry;
    const int64_t channels = g->channels, stride = g->stride[2];
    for (int64_t at = begin; at < end; at++) {
        const int64_t image = at / g->out[1], top = at % g->out[1] * g->stride[1] - g->padding[1];
        weighed_row w = {.weights = j->weight,
                         .start = j->bias,
                         .y = j->y + at * g->out[2] * channels,
                         .pixels = g->out[2],
                         .channels = channels,
                         .x_step = channels,
                         .y_step = channels,
                         .weight_step = channels,
                         .low = j->low,
                         .high = j->high,
                         .begins_before = g->padding[2] > 0,
                         .ends_behind = reaches_beyond(g) > 0};
        for (int r = 0; r < 3; r++) {
            const int64_t h = top + r;
            const float *row = h < 0 || h >= g->in[1] ? d->zeros : j->x + (image * g->in[1] + h) * g->in[2] * channels;
            w.rows[r] = row - g->padding[2] * channels;
        }
        weigh_row(&w, stride);
        if (j->epilogue) cr_epilogue_run(j->epilogue, 0, at * g->out[2], g->out[2], 0, channels);
    }
}

static bool run_depthwise(const channels_last_layer *l) {
    const cr_convolution *p = l->problem;
    window_job j = {.kind = WEIGHTED,
                    .x = l->x,
                    .weight = l->packed,
                    .bias = l->bias,
                    .y = l->y,
                    .epilogue = l->epilogue,
                    .low = l->low,
                    .high = l->high};
    j.geometry = (cr_pooling){.batch = p->batch, .channels = p->groups};
    for (int d = 0; d < CR_SPATIAL_DIMS; d++) {
        j.geometry.in[d] = p->in[d];
        j.geometry.out[d] = p->out[d];
        j.geometry.kernel[d] = p->kernel[d];
        j.geometry.stride[d] = p->stride[d];
        j.geometry.padding[d] = p->padding[d];
        j.geometry.dilation[d] = p->dilation[d];
    }
    depthwise_rows d = {.windows = &j};
    if (p->kernel[1] != 3 || p->kernel[2] != 3 || p->dilation[1] != 1 || p->dilation[2] != 1 || p->stride[2] > 2 ||
        p->groups % LANES || p->out[2] < TOGETHER || p->padding[2] > 1 || reaches_beyond(&j.geometry) > 1) {
        run_windows(&j);
        return true;
    }
    scratch memory = {0};
    const size_t bytes = (size_t)(p->in[2] * p->groups) * sizeof(float);
    float *zeros = scratch_take(&memory, bytes);
    if (!zeros) return false;
    memset(zeros, 0, bytes);
    d.zeros = zeros;
    cr_parallel_for(p->batch * p->out[1], 1 + CR_GRAIN_ELEMENTS / (2 * p->out[2] * p->groups), weigh_rows, &d);
    scratch_drop(&memory);
    return true;
}

static int64_t depthwise_packed_elements(const cr_convolution *p) { return p->groups * p->kernel[1] * p->kernel[2]; }

/* [tap][channel] from [channel][tap]. */
static void pack_depthwise(const cr_convolution *p, const float *w, float *packed) {
    const int64_t taps = p->kernel[1] * p->kernel[2];
    for (int64_t t = 0; t < taps; t++)
        for (int64_t c = 0; c < p->groups; c++)
            *packed++ = w[c * taps + t];
}
