/* Convolution of channels-last tensors as a product of gathered rows: a pixel's channels under each tap of the kernel
 * are a row, and no copy of the image is made. Positions in the padding are a row of zeros.
 *
 * A task makes a block of pixels, or some of its columns. Pixels under few channels, as those of a picture, are read
 * from a padded copy, in which the taps of a kernel's row lie side by side and count as one. */
#include "ops/cpu/variants/channels_last_panel.h"
#include "ops/cpu/variants/copy.h"

enum {
    PIXELS = 48,
    MOST_PIXELS = 96,
    BLOCK_TAPS = 32,
    FEW_CHANNELS = 16,
    NEAR_WEIGHTS = 1 << 18 /* floats that stay in a cache from one block to the next */
};

typedef struct direct_job {
    const float *image, *packed, *bias, *zeros, *added;
    float *y;
    const cr_epilogue *epilogue;
    float low, high;
    int64_t in[2], out[2], taps[2], stride[2], padding[2], dilation[2];
    int64_t image_step, row_step, pixel_step; /* of the image */
    int64_t channels, depth, columns, panels, pixels;
    int64_t block_channels, block_taps, block_pixels, column_parts;
    bool reads_once; /* pixel after pixel of the image */
} direct_job;

/* Some pixels of the result, one after the other. */
typedef struct direct_pixels {
    int64_t first, count;
} direct_pixels;

/* rows[tap][pixel] for taps [first, first + count): in stretches of one row of the image. */
static void find_rows(const direct_job *j, const direct_pixels *pixels, int64_t first, int64_t count,
                      const float **rows) {
    for (int64_t t = first; t < first + count; t++, rows += MOST_PIXELS) {
        const int64_t down = t / j->taps[1] * j->dilation[0] - j->padding[0],
                      right = t % j->taps[1] * j->dilation[1] - j->padding[1];
        int64_t column = pixels->first % j->out[1], line = pixels->first / j->out[1];
        for (int64_t i = 0, end; i < pixels->count; i = end, column = 0, line++) {
            const int64_t h = line % j->out[0] * j->stride[0] + down, rest = j->out[1] - column;
            const float *row = j->image + line / j->out[0] * j->image_step + h * j->row_step;
            end = rest < pixels->count - i ? i + rest : pixels->count;
            int64_t w = column * j->stride[1] + right;
            const int64_t last = w + (end - i - 1) * j->stride[1], step = j->stride[1] * j->pixel_step;
            const float *at = row + w * j->pixel_step;
            if (h >= 0 && h < j->in[0] && w >= 0 && last < j->in[1]) {
                for (int64_t k = i; k < end; k++)
                    rows[k] = at + (k - i) * step;
                continue;
            }
            for (int64_t k = i; k < end; k++, w += j->stride[1], at = next_row(at, step))
                rows[k] = (uint64_t)h < (uint64_t)j->in[0] && (uint64_t)w < (uint64_t)j->in[1] ? at : j->zeros;
        }
    }
}

/* The share of panel p of what the next block of pixels reads, adds, and writes. */
static wanted_memory wanted_next(const direct_job *j, const direct_pixels *pixels, int64_t p) {
    const int64_t next = pixels->first + pixels->count;
    const struct {
        const float *from;
        int64_t row;
    } regions[] = {{j->image + next * j->channels, j->reads_once ? j->channels : 0},
                   {j->added + next * j->columns, j->added ? j->columns : 0},
                   {j->y + next * j->columns, j->columns}};
    const int64_t share = pixels->count * (regions[0].row + regions[1].row + regions[2].row) / j->panels;
    int64_t at = p * share;
    for (int i = 0; i < 3; i++) {
        const int64_t size = pixels->count * regions[i].row;
        if (at < size)
            return (wanted_memory){.from = regions[i].from + at,
                                   .bytes = (share < size - at ? share : size - at) * (int64_t)sizeof(float)};
        at -= size;
    }
    return (wanted_memory){0};
}

/* That is fetched in place of the next panel where the weight is near after the first block, or else beside it. */
static void look_ahead(const direct_job *j, const direct_pixels *pixels, int64_t p, panel_product *product) {
    const int64_t weight = j->depth * j->columns;
    const wanted_memory next = wanted_next(j, pixels, p);
    product->ahead = (wanted_memory){.from = product->panel + j->depth * COLUMNS};
    product->beside = (wanted_memory){0};
    if (weight > NEAR_WEIGHTS || weight > j->pixels * j->columns)
        product->beside = next;
    else if (next.bytes)
        product->ahead = next;
}

/* One block of the depth: taps [tap, tap + taps), channels [channel, channel + channels). */
static void multiply_depth(const direct_job *j, const direct_pixels *pixels, const float *const *rows, int64_t tap,
                           int64_t taps, int64_t channel, int64_t channels, int64_t panel, int64_t panels) {
    const int64_t at = tap * j->channels + channel;
    panel_product product = {.rows = rows,
                             .count = pixels->count,
                             .taps = taps,
                             .tap_step = MOST_PIXELS,
                             .first_channel = channel,
                             .channels = channels,
                             .target_row = j->columns,
                             .adds = at > 0,
                             .is_last = at + (taps - 1) * j->channels + channels == j->depth,
                             .low = j->low,
                             .high = j->high};
    for (int64_t p = panel; p < panel + panels; p++) {
        product.panel = j->packed + (p * j->depth + at) * COLUMNS;
        look_ahead(j, pixels, p, &product);
        product.start = j->bias ? j->bias + p * COLUMNS : NULL;
        product.target = j->y + pixels->first * j->columns + p * COLUMNS;
        product.added = j->added ? j->added + (product.target - j->y) : NULL;
        multiply_panel(&product, j->columns - p * COLUMNS);
    }
}

static void run_direct_task(const direct_job *j, int64_t first, int64_t count, int64_t panel, int64_t panels) {
    const float *rows[BLOCK_TAPS * MOST_PIXELS];
    const direct_pixels pixels = {first, count};
    const int64_t taps = j->taps[0] * j->taps[1];
    for (int64_t tap = 0; tap < taps; tap += j->block_taps) {
        const int64_t together = taps - tap < j->block_taps ? taps - tap : j->block_taps;
        find_rows(j, &pixels, tap, together, rows);
        for (int64_t c = 0; c < j->channels; c += j->block_channels)
            multiply_depth(j, &pixels, rows, tap, together, c,
                           j->channels - c < j->block_channels ? j->channels - c : j->block_channels, panel, panels);
    }
    const int64_t column = panel * COLUMNS, end = (panel + panels) * COLUMNS;
    if (j->epilogue)
        cr_epilogue_run(j->epilogue, 0, first, count, column, (end < j->columns ? end : j->columns) - column);
}

static void run_direct_tasks(void *context, int64_t begin, int64_t end) {
    const direct_job *j = context;
    for (int64_t task = begin; task < end; task++) {
        const int64_t first = task / j->column_parts * j->block_pixels, part = task % j->column_parts;
        const int64_t panel = part * j->panels / j->column_parts, next = (part + 1) * j->panels / j->column_parts;
        const int64_t count = j->pixels - first < j->block_pixels ? j->pixels - first : j->block_pixels;
        run_direct_task(j, first, count, panel, next - panel);
    }
}

/* ---------------------------------------------------------------- few channels: a padded copy */
typedef struct padded_copy {
    const float *from;
    const int64_t *strides; /* of x */
    float *to;
    int64_t channels, in[2], padding[2], sizes[2]; /* sizes: of the copy */
} padded_copy;

/* A picture's: to[w][3] from three planes. */
static void interleave_three(const float *restrict red, const float *restrict green, const float *restrict blue,
                             int64_t count, float *restrict to) {
    for (int64_t w = 0; w < count; w++) {
        to[3 * w] = red[w];
        to[3 * w + 1] = green[w];
        to[3 * w + 2] = blue[w];
    }
}

static void copy_padded_rows(void *context, int64_t begin, int64_t end) {
    const padded_copy *p = context;
    for (int64_t at = begin; at < end; at++) {
        const int64_t image = at / p->sizes[0], h = at % p->sizes[0] - p->padding[0];
        const bool is_inside = h >= 0 && h < p->in[0];
        const int64_t row = p->sizes[1] * p->channels, margin = is_inside ? p->padding[1] * p->channels : row;
        float *to = p->to + at * row;
        memset(to, 0, (size_t)margin * sizeof(float));
        if (!is_inside) continue;
        memset(to + row - margin, 0, (size_t)margin * sizeof(float));
        to += margin;
        const float *from = p->from + image * p->strides[0] + h * p->strides[1];
        if (p->channels == 3 && p->strides[2] == 1) {
            interleave_three(from, from + p->strides[3], from + 2 * p->strides[3], p->in[1], to);
            continue;
        }
        for (int64_t c = 0; c < p->channels; c++)
            for (int64_t w = 0; w < p->in[1]; w++)
                to[w * p->channels + c] = from[w * p->strides[2] + c * p->strides[3]];
    }
}

static bool takes_padded_copy(const cr_convolution *p) {
    return p->groups == 1 && p->channels < FEW_CHANNELS && p->dilation[2] == 1;
}

/* ---------------------------------------------------------------- the whole */
static int64_t direct_packed_elements(const cr_convolution *p) {
    return divide_up(p->features, COLUMNS) * p->kernel[1] * p->kernel[2] * p->channels * COLUMNS;
}

/* Reads all, in order, as memory is read fastest, so that it is in the cache for those who jump about. */
static void fetch(const volatile float *from, int64_t count) {
    enum { LINE = 16 };
    for (int64_t i = 0; i < count; i += LINE)
        (void)from[i];
}

/* [panel][tap][channel][COLUMNS] from [feature][channel][tap]: transposed some rows at a time, and these put in place. */
static void pack_direct_panels(void *context, int64_t begin, int64_t end) {
    enum { PACKED_ROWS = 128 };
    const channels_last_layer *l = context;
    const cr_convolution *p = l->problem;
    const int64_t taps = p->kernel[1] * p->kernel[2], depth = taps * p->channels;
    float rows[PACKED_ROWS * COLUMNS];
    for (int64_t panel = begin; panel < end; panel++) {
        const int64_t first = panel * COLUMNS, columns = p->features - first < COLUMNS ? p->features - first : COLUMNS;
        float *to = l->y + first * depth;
        fetch(l->x + first * depth, columns * depth);
        if (columns < COLUMNS) memset(rows, 0, sizeof rows);
        for (int64_t done = 0; done < depth; done += PACKED_ROWS) {
            const int64_t count = depth - done < PACKED_ROWS ? depth - done : PACKED_ROWS;
            cr_transpose_f32(rows, COLUMNS, l->x + first * depth + done, depth, count, columns);
            for (int64_t i = 0; i < count; i++) {
                const int64_t channel = (done + i) / taps, tap = (done + i) % taps;
                memcpy(to + (tap * p->channels + channel) * COLUMNS, rows + i * COLUMNS, COLUMNS * sizeof(float));
            }
        }
    }
}

/* So many blocks of pixels that none is small, and alike for several threads; their columns are shared out where threads
 * would have nothing to do. */
static int64_t plan_direct_tasks(direct_job *j) {
    const int64_t threads = cr_num_threads(), wanted = 4 * threads;
    int64_t blocks = (j->pixels + PIXELS / 2) / PIXELS;
    if (blocks < 1) blocks = 1;
    if (blocks > threads) blocks = round_up(blocks, threads);
    j->block_pixels = divide_up(j->pixels, blocks);
    if (threads == 1) j->block_pixels = round_up(j->block_pixels, ROWS);
    blocks = divide_up(j->pixels, j->block_pixels);
    j->column_parts = threads > 1 && blocks < wanted ? divide_up(wanted, blocks) : 1;
    if (j->column_parts > j->panels) j->column_parts = j->panels;
    return blocks * j->column_parts;
}

/* `strides` are x's, in elements. */
static bool run_direct(const channels_last_layer *l, const int64_t strides[4]) {
    const cr_convolution *p = l->problem;
    const int64_t taps = p->kernel[1] * p->kernel[2];
    scratch memory = {0};
    direct_job j = {.image = l->x,
                    .packed = l->packed,
                    .y = l->y,
                    .epilogue = l->epilogue,
                    .added = l->added,
                    .low = l->low,
                    .high = l->high,
                    .in = {p->in[1], p->in[2]},
                    .out = {p->out[1], p->out[2]},
                    .taps = {p->kernel[1], p->kernel[2]},
                    .stride = {p->stride[1], p->stride[2]},
                    .padding = {p->padding[1], p->padding[2]},
                    .dilation = {p->dilation[1], p->dilation[2]},
                    .image_step = p->in[1] * p->in[2] * p->channels,
                    .row_step = p->in[2] * p->channels,
                    .pixel_step = p->channels,
                    .channels = p->channels,
                    .depth = taps * p->channels,
                    .columns = p->features,
                    .panels = divide_up(p->features, COLUMNS),
                    .pixels = p->batch * p->out[1] * p->out[2]};
    if (takes_padded_copy(p)) {
        padded_copy copy = {.from = l->x,
                            .strides = strides,
                            .channels = p->channels,
                            .in = {j.in[0], j.in[1]},
                            .padding = {j.padding[0], j.padding[1]},
                            .sizes = {j.in[0] + 2 * j.padding[0], j.in[1] + 2 * j.padding[1]}};
        const int64_t rows = p->batch * copy.sizes[0], row = copy.sizes[1] * p->channels;
        copy.to = scratch_take(&memory, (size_t)(rows * row) * sizeof(float));
        if (!copy.to) return scratch_drop(&memory);
        cr_parallel_for(rows, 1 + CR_GRAIN_ELEMENTS / row, copy_padded_rows, &copy);
        j.image = copy.to;
        j.image_step = copy.sizes[0] * row;
        j.row_step = row;
        j.in[0] = copy.sizes[0];
        j.in[1] = copy.sizes[1];
        j.padding[0] = j.padding[1] = 0;
        j.channels *= j.taps[1];
        j.taps[1] = 1;
    }
    float *zeros = scratch_take(&memory, (size_t)j.channels * sizeof(float));
    j.bias = padded_bias(&memory, l->bias, j.columns);
    if (!zeros || (l->bias && !j.bias)) return scratch_drop(&memory);
    memset(zeros, 0, (size_t)j.channels * sizeof(float));
    j.zeros = zeros;
    j.reads_once = taps == 1 && p->stride[1] == 1 && p->stride[2] == 1 && j.padding[0] == 0 && j.padding[1] == 0;
    j.block_channels = depth_block(j.channels);
    j.block_taps = j.channels < DEPTH ? DEPTH / j.channels : 1;
    if (j.block_taps > BLOCK_TAPS) j.block_taps = BLOCK_TAPS;
    cr_parallel_for(plan_direct_tasks(&j), 1, run_direct_tasks, &j);
    scratch_drop(&memory);
    return true;
}
