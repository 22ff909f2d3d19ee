/* A depthwise 3×3 convolution between two of 1×1 (the first may be missing), row by row: what the first makes is kept
 * for as many rows as the second needs, so that the widest tensors of such a network never reach memory (Sandler et al.,
 * "MobileNetV2: Inverted Residuals and Linear Bottlenecks", 2018).
 *
 * A task makes some rows of an image. For each RING_CHANNELS of the hidden channels their expanded rows lie in a ring, each
 * between two pixels of zeros, with a row of zeros for what is above and below the image: these rows are still in the
 * nearest cache when they are weighed. Where nothing is expanded the input's own rows are read. */
#include "ops/cpu/variants/channels_last_windows.h"
#include "ops/fused.h"

enum {
    RING_CHANNELS = CR_BOTTLENECK_STEP,
    BOTTLENECK_PIXELS = 28 /* made together at least: the weights are read once for them */,
    BLOCK_PIXELS = 96
};

typedef struct bottleneck_job {
    const cr_fused_bottleneck_options *o;
    const float *x, *expand, *expand_bias, *depth, *depth_bias, *project, *project_bias;
    float *y;
    const cr_epilogue *epilogue;
    const float *added; /* to the result, or NULL */
    float low, high;    /* of the sum */
    int64_t images, in[2], out[2], channels, hidden, features;
    int64_t step;                /* from one pixel to the next of the depthwise results: `hidden`, rounded up */
    int64_t panels;              /* of hidden channels */
    int64_t together;            /* rows of results */
    bool reads_input;            /* its rows are weighed where they lie: there are no rings */
    int64_t ring_rows, ring_row; /* of a ring: how many, and the elements of one */
    int64_t parts;               /* of an image */
    float *memory;               /* of each slot: the rings, a row of zeros, the depthwise results */
    int64_t slot_elements;
    atomic_llong next;
} bottleneck_job;

/* ---------------------------------------------------------------- sizes */
static int64_t bottleneck_step(int64_t hidden) { return round_up(hidden, CR_BOTTLENECK_STEP); }

/* Where each part of the packed weights begins. */
static void find_bottleneck_weights(bottleneck_job *j, const float *packed) {
    if (j->o->expands) {
        j->expand = packed;
        j->expand_bias = packed += round_up(j->hidden, COLUMNS) * j->channels;
        packed += j->step;
    }
    j->depth = packed;
    j->depth_bias = packed += 9 * j->step;
    j->project = packed += j->step;
    j->project_bias = packed + round_up(j->features, COLUMNS) * j->hidden;
}

static void plan_bottleneck(bottleneck_job *j) {
    const int64_t threads = cr_num_threads();
    j->together = divide_up(BOTTLENECK_PIXELS, j->out[1]);
    if (j->together > j->out[0]) j->together = j->out[0];
    j->reads_input = !j->o->expands && j->channels % LANES == 0;
    j->ring_rows = j->reads_input ? 0 : (j->together - 1) * j->o->stride + 3;
    j->ring_row = (j->in[1] + 2) * (j->reads_input ? j->channels : RING_CHANNELS);
    j->panels = divide_up(j->hidden, RING_CHANNELS);
    j->slot_elements = (j->panels * j->ring_rows + 1) * j->ring_row + j->together * j->out[1] * j->step;
    /* Neighbouring parts make the rows between them twice: only where threads would have nothing to do. */
    j->parts = j->images % threads == 0 || j->images >= 4 * threads ? 1 : threads;
    if (j->parts > j->out[0]) j->parts = j->out[0];
}

/* ---------------------------------------------------------------- products */
/* y[pixel] = x[pixel] · packed + bias for `count` pixels that follow each other. */
typedef struct bottleneck_product {
    const float *x, *packed, *bias;
    float *y;
    int64_t x_step, y_step, depth, columns;
    const float *added; /* as y lies, or NULL */
    float low, high;
} bottleneck_product;

static void multiply_pixels(const bottleneck_product *b, int64_t first, int64_t count) {
    const float *rows[BLOCK_PIXELS];
    for (int64_t i = 0; i < count; i++)
        rows[i] = b->x + (first + i) * b->x_step;
    const int64_t block = depth_block(b->depth);
    panel_product p = {
        .rows = rows, .count = count, .taps = 1, .target_row = b->y_step, .low = b->low, .high = b->high};
    for (int64_t k = 0; k < b->depth; k += block) {
        p.first_channel = k;
        p.channels = b->depth - k < block ? b->depth - k : block;
        p.adds = k > 0;
        p.is_last = k + p.channels == b->depth;
        for (int64_t column = 0; column < b->columns; column += COLUMNS) {
            p.panel = b->packed + column * b->depth + k * COLUMNS;
            p.ahead = (wanted_memory){.from = p.panel + b->depth * COLUMNS};
            p.start = b->bias + column;
            p.target = b->y + first * b->y_step + column;
            p.added = b->added ? b->added + first * b->y_step + column : NULL;
            multiply_panel(&p, b->columns - column);
        }
    }
}

/* ---------------------------------------------------------------- the three layers */
static float *ring_row(const bottleneck_job *j, float *rings, int64_t panel, int64_t h) {
    return rings + (panel * j->ring_rows + h % j->ring_rows) * j->ring_row;
}

/* Channels of a panel, in whole vectors. */
static int64_t panel_width(const bottleneck_job *j, int64_t panel) {
    const int64_t rest = round_up(j->hidden - panel * RING_CHANNELS, LANES);
    return rest < RING_CHANNELS ? rest : RING_CHANNELS;
}

static void copy_row(const bottleneck_job *j, const float *x, int64_t panel, float *to) {
    for (int64_t i = 0; i < j->in[1]; i++, x += j->channels, to += RING_CHANNELS)
        for (int64_t c = panel * RING_CHANNELS, at = 0; at < RING_CHANNELS && c < j->channels; at += LANES, c += LANES)
            store(to + at, load_lanes(x + c, j->channels - c < LANES ? j->channels - c : LANES));
}

/* Row h of the image into a panel's ring. */
static void expand_row(const bottleneck_job *j, int64_t image, int64_t h, int64_t panel, float *rings) {
    const float *x = j->x + (image * j->in[0] + h) * j->in[1] * j->channels;
    float *to = ring_row(j, rings, panel, h) + RING_CHANNELS;
    if (!j->o->expands) {
        copy_row(j, x, panel, to);
        return;
    }
    const bottleneck_product product = {.x = x,
                                        .packed = j->expand + panel * RING_CHANNELS * j->channels,
                                        .bias = j->expand_bias + panel * RING_CHANNELS,
                                        .y = to,
                                        .x_step = j->channels,
                                        .y_step = RING_CHANNELS,
                                        .depth = j->channels,
                                        .columns = panel_width(j, panel),
                                        .low = (float)j->o->expand_low,
                                        .high = (float)j->o->expand_high};
    for (int64_t i = 0; i < j->in[1]; i += BLOCK_PIXELS)
        multiply_pixels(&product, i, j->in[1] - i < BLOCK_PIXELS ? j->in[1] - i : BLOCK_PIXELS);
}

static void weigh_panel(const bottleneck_job *j, int64_t image, int64_t row, int64_t panel, float *rings,
                        const float *zeros, float *y) {
    const float *x = j->x + (image * j->in[0] * j->in[1] - 1) * j->channels + panel * RING_CHANNELS;
    weighed_row w = {.weights = j->depth + panel * RING_CHANNELS,
                     .start = j->depth_bias + panel * RING_CHANNELS,
                     .y = y + panel * RING_CHANNELS,
                     .pixels = j->out[1],
                     .channels = panel_width(j, panel),
                     .x_step = j->reads_input ? j->channels : RING_CHANNELS,
                     .y_step = j->step,
                     .weight_step = j->step,
                     .low = (float)j->o->depth_low,
                     .high = (float)j->o->depth_high,
                     .begins_before = j->reads_input,
                     .ends_behind = j->reads_input && (j->out[1] - 1) * j->o->stride + 2 > j->in[1]};
    for (int r = 0; r < 3; r++) {
        const int64_t h = row * j->o->stride - 1 + r;
        w.rows[r] = h < 0 || h >= j->in[0] ? zeros
                    : j->reads_input       ? x + h * j->in[1] * j->channels
                                           : ring_row(j, rings, panel, h);
    }
    weigh_row(&w, j->o->stride);
}

static void project_rows(const bottleneck_job *j, int64_t image, int64_t row, int64_t rows, const float *made) {
    const int64_t first = (image * j->out[0] + row) * j->out[1], count = rows * j->out[1];
    const bottleneck_product product = {.x = made,
                                        .packed = j->project,
                                        .bias = j->project_bias,
                                        .y = j->y + first * j->features,
                                        .x_step = j->step,
                                        .y_step = j->features,
                                        .depth = j->hidden,
                                        .columns = j->features,
                                        .added = j->added ? j->added + first * j->features : NULL,
                                        .low = j->low,
                                        .high = j->high};
    for (int64_t i = 0; i < count; i += BLOCK_PIXELS)
        multiply_pixels(&product, i, count - i < BLOCK_PIXELS ? count - i : BLOCK_PIXELS);
    if (j->epilogue) cr_epilogue_run(j->epilogue, 0, first, count, 0, j->features);
}

/* ---------------------------------------------------------------- tasks */
static void run_bottleneck_part(const bottleneck_job *j, int64_t image, int64_t begin, int64_t end, float *memory) {
    float *rings = memory, *zeros = rings + j->panels * j->ring_rows * j->ring_row, *made = zeros + j->ring_row;
    int64_t next = begin * j->o->stride - 1;
    if (next < 0) next = 0;
    for (int64_t row = begin; row < end; row += j->together) {
        const int64_t rows = end - row < j->together ? end - row : j->together;
        int64_t last = (row + rows - 1) * j->o->stride + 1;
        if (last >= j->in[0]) last = j->in[0] - 1;
        for (int64_t panel = 0; panel < j->panels; panel++) {
            for (int64_t h = next; h <= last && !j->reads_input; h++)
                expand_row(j, image, h, panel, rings);
            for (int64_t r = 0; r < rows; r++)
                weigh_panel(j, image, row + r, panel, rings, zeros, made + r * j->out[1] * j->step);
        }
        next = last + 1;
        project_rows(j, image, row, rows, made);
    }
}

/* The pixels left and right of each row, and the row behind them all. */
static void clear_margins(const bottleneck_job *j, float *rings) {
    const int64_t rows = j->panels * j->ring_rows;
    for (int64_t row = 0; row < rows; row++) {
        float *left = rings + row * j->ring_row;
        memset(left, 0, RING_CHANNELS * sizeof(float));
        memset(left + j->ring_row - RING_CHANNELS, 0, RING_CHANNELS * sizeof(float));
    }
    memset(rings + rows * j->ring_row, 0, (size_t)j->ring_row * sizeof(float));
}

static void run_bottleneck_slots(void *context, int64_t begin, int64_t end) {
    bottleneck_job *j = context;
    for (int64_t slot = begin; slot < end; slot++) {
        float *memory = j->memory + slot * j->slot_elements;
        clear_margins(j, memory);
        for (int64_t task; (task = atomic_fetch_add(&j->next, 1)) < j->images * j->parts;) {
            const int64_t part = task % j->parts;
            run_bottleneck_part(j, task / j->parts, part * j->out[0] / j->parts, (part + 1) * j->out[0] / j->parts,
                                memory);
        }
    }
}

static bool run_bottleneck(bottleneck_job *j, const float *packed) {
    scratch memory = {0};
    j->step = bottleneck_step(j->hidden);
    find_bottleneck_weights(j, packed);
    plan_bottleneck(j);
    int64_t slots = cr_num_threads();
    if (slots > j->images * j->parts) slots = j->images * j->parts;
    j->memory = scratch_take(&memory, (size_t)(slots * j->slot_elements) * sizeof(float));
    if (!j->memory) return false;
    cr_parallel_for(slots, 1, run_bottleneck_slots, j);
    scratch_drop(&memory);
    return true;
}
