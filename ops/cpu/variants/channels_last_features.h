/* Convolutions of planes whose weight is given as it is, as in eager calls: features are the rows of a product, and read where
 * they lie; the right side is gathered, a panel of positions at a time.
 *
 *   y[feature][position] = bias[feature] + sum over k of w[feature][k] · image[offset[k] + place(position)]
 *
 * with k = (channel, tap). The image is x itself for kernels of one tap, else a padded copy, each row of it split by the
 * stride, so that neighbours in the result are neighbours in memory. */
#include "ops/cpu/variants/channels_last_panel.h"
#include "ops/cpu/variants/planes.h"

enum {
    BLOCK_FEATURES = 256 /* whose weights for a block of the depth stay in the cache */,
    LEAST_FEATURES = 64 /* of a thread: each gathers all panels */,
    GROUP_PANELS = 8,
    LEAST_WORK = 16 * CR_GRAIN_ELEMENTS /* multiplications that are worth sharing */,
    COPY_FLOATS = 1 << 20 /* of images at a time */
};

typedef struct plane_product {
    const cr_convolution *problem;
    const float *x, *w, *bias; /* x: of some images; bias: NULL for none */
    float *y, *copy;           /* copy: of these images, padded; NULL where x is read */
    int64_t *offsets;          /* of each k */
    int64_t depth, positions;
    int64_t phase, row, channel; /* elements from one to the next in the image */
    int64_t row_parts, groups;   /* parts of the features, groups of panels: a task is one of each */
} plane_product;

/* ---------------------------------------------------------------- the image */
static bool is_point(const cr_convolution *p) {
    return p->kernel[1] == 1 && p->kernel[2] == 1 && p->stride[1] == 1 && p->stride[2] == 1 && p->padding[1] == 0 &&
           p->padding[2] == 0;
}

/* to[i] = row[i·stride + first], zeros where the row of `count` ends. */
static void copy_phase(const float *row, int64_t count, int64_t first, int64_t stride, int64_t size, float *to) {
    int64_t begin = first < 0 ? divide_up(-first, stride) : 0,
            end = count > first ? divide_up(count - first, stride) : 0;
    if (begin > size) begin = size;
    if (end > size) end = size;
    const float *from = row + first;
    for (int64_t i = 0; i < begin; i++)
        to[i] = 0;
    if (stride == 1)
        for (int64_t i = begin; i < end; i++)
            to[i] = from[i];
    else if (stride == 2)
        for (int64_t i = begin; i < end; i++)
            to[i] = from[2 * i];
    else
        for (int64_t i = begin; i < end; i++)
            to[i] = from[stride * i];
    for (int64_t i = end > begin ? end : begin; i < size; i++)
        to[i] = 0;
}

/* Rows of the copy, counted through all channels. */
static void copy_plane_rows(void *context, int64_t begin, int64_t end) {
    const plane_product *j = context;
    const cr_convolution *p = j->problem;
    const int64_t rows = j->channel / j->row, stride = p->stride[2];
    for (int64_t at = begin; at < end; at++) {
        const int64_t h = at % rows - p->padding[1];
        float *to = j->copy + at * j->row;
        if (h < 0 || h >= p->in[1])
            memset(to, 0, (size_t)j->row * sizeof(float));
        else
            for (int64_t f = 0; f < stride; f++, to += j->phase)
                copy_phase(j->x + (at / rows * p->in[1] + h) * p->in[2], p->in[2], f - p->padding[2], stride, j->phase,
                           to);
    }
}

static void find_offsets(const plane_product *j) {
    const cr_convolution *p = j->problem;
    int64_t *to = j->offsets;
    for (int64_t c = 0; c < p->channels; c++)
        for (int64_t h = 0; h < p->kernel[1]; h++)
            for (int64_t w = 0; w < p->kernel[2]; w++) {
                const int64_t right = w * p->dilation[2];
                *to++ = c * j->channel + h * p->dilation[1] * j->row + right % p->stride[2] * j->phase +
                        right / p->stride[2];
            }
}

/* ---------------------------------------------------------------- panels */
/* Positions of a panel that lie side by side in the image. */
typedef struct stretch {
    int64_t at, count, place;
} stretch;

static int find_stretches(const plane_product *j, int64_t first, int64_t count, stretch *stretches) {
    const cr_convolution *p = j->problem;
    int found = 0;
    for (int64_t at = 0, size; at < count; at += size) {
        const int64_t column = (first + at) % p->out[2], line = (first + at) / p->out[2], rest = p->out[2] - column;
        size = rest < count - at ? rest : count - at;
        stretches[found++] = (stretch){at, size, line * p->stride[1] * j->row + column};
    }
    return found;
}

/* panel[k][COLUMNS] for k in [begin, end). Stretches are copied by whole vectors: what that writes too much the next one
 * overwrites, or the next k. Of x, behind which there may be nothing, no more than the stretch is read. */
static void gather_panel(const plane_product *j, int64_t image, int64_t first, int64_t count, int64_t begin,
                         int64_t end, float *panel) {
    stretch stretches[COLUMNS];
    const int found = find_stretches(j, first, count, stretches);
    const float *source = (j->copy ? j->copy : j->x) + image * j->problem->channels * j->channel;
    for (int64_t k = begin; k < end && stretches[0].count == COLUMNS; k++, panel += COLUMNS) {
        const float *from = source + j->offsets[k] + stretches[0].place;
        store(panel, load(from));
        store(panel + LANES, load(from + LANES));
    }
    if (stretches[0].count == COLUMNS) return;
    for (int64_t k = begin; k < end; k++, panel += COLUMNS)
        for (int i = 0; i < found; i++) {
            const float *from = source + j->offsets[k] + stretches[i].place;
            float *to = panel + stretches[i].at;
            if (!j->copy) {
                memcpy(to, from, (size_t)stretches[i].count * sizeof(float));
                continue;
            }
            store(to, load(from));
            if (stretches[i].count > LANES) store(to + LANES, load(from + LANES));
        }
}

/* ---------------------------------------------------------------- products */
/* A block of the depth of some features and some panels. */
static void multiply_features(const plane_product *j, int64_t image, int64_t feature, int64_t features, int64_t panel,
                              int64_t panels, int64_t begin, int64_t end, float *memory) {
    const float *rows[BLOCK_FEATURES + ROWS];
    for (int64_t i = 0; i < features; i++)
        rows[i] = j->w + (feature + i) * j->depth;
    panel_product product = {.rows = rows,
                             .count = features,
                             .taps = 1,
                             .first_channel = begin,
                             .channels = end - begin,
                             .panel = memory,
                             .target_row = j->positions,
                             .adds = begin > 0 || j->bias,
                             .low = -INFINITY,
                             .high = INFINITY};
    for (int64_t first = panel * COLUMNS; first < (panel + panels) * COLUMNS; first += COLUMNS) {
        const int64_t rest = j->positions - first;
        gather_panel(j, image, first, rest < COLUMNS ? rest : COLUMNS, begin, end, memory);
        product.ahead = (wanted_memory){.from = memory};
        product.target = j->y + (image * j->problem->features + feature) * j->positions + first;
        multiply_panel(&product, rest);
    }
}

static void multiply_feature_tasks(void *context, int64_t task, int64_t last) {
    _Alignas(64) float memory[(DEPTH + 1) * COLUMNS] = {0};
    const plane_product *j = context;
    const int64_t features = j->problem->features, panels = divide_up(j->positions, COLUMNS),
                  block = depth_block(j->depth);
    for (; task < last; task++) {
        const int64_t part = task % j->row_parts, group = task / j->row_parts % j->groups,
                      image = task / j->row_parts / j->groups;
        const int64_t feature = part * features / j->row_parts, next_feature = (part + 1) * features / j->row_parts;
        const int64_t panel = group * panels / j->groups, next_panel = (group + 1) * panels / j->groups;
        const int64_t first = panel * COLUMNS,
                      end = next_panel * COLUMNS < j->positions ? next_panel * COLUMNS : j->positions;
        float *y = j->y + image * features * j->positions;
        for (int64_t f = feature; j->bias && f < next_feature; f++)
            for (int64_t i = first; i < end; i++)
                y[f * j->positions + i] = j->bias[f];
        for (int64_t k = 0; k < j->depth; k += block)
            multiply_features(j, image, feature, next_feature - feature, panel, next_panel - panel, k,
                              k + block < j->depth ? k + block : j->depth, memory);
    }
}

/* ---------------------------------------------------------------- the whole */
/* Groups of panels, or parts of the features where panels are few. Returns how many tasks an image is. */
static int64_t plan_feature_tasks(plane_product *j) {
    const int64_t threads = cr_num_threads(), features = j->problem->features,
                  panels = divide_up(j->positions, COLUMNS), wanted = divide_up(4 * threads, j->problem->batch);
    j->row_parts = divide_up(features, BLOCK_FEATURES);
    j->groups = divide_up(panels, GROUP_PANELS);
    if (threads == 1 || j->row_parts * j->groups >= wanted) return j->row_parts * j->groups;
    if (features >= LEAST_FEATURES * threads)
        j->row_parts = round_up(j->row_parts, threads);
    else
        j->groups = panels < wanted ? panels : wanted;
    return j->row_parts * j->groups;
}

/* Not where an image's last vector would be mostly empty, which those of a batch could share; nor where the copy would hold
 * more of a row than is read. */
static bool takes_features(const cr_convolution *p) {
    enum { LEAST_ROWS = 16 };
    const int64_t positions = p->out[1] * p->out[2], spare = p->batch == 1 ? 8 : 32;
    return p->groups == 1 && p->channels > 0 && p->in[0] == 1 && p->kernel[0] == 1 && p->padding[0] == 0 &&
           p->features >= LEAST_ROWS && spare * round_up(positions, LANES) <= (spare + 1) * positions &&
           p->kernel[1] >= p->stride[1] && p->kernel[2] >= p->stride[2];
}

/* Some images at a time, whose copies stay in the cache. */
static void run_feature_tasks(plane_product *j, int64_t chunk) {
    const cr_convolution *p = j->problem;
    const int64_t tasks = plan_feature_tasks(j), rows = p->in[1] + 2 * p->padding[1],
                  work = p->features * j->positions * j->depth / tasks;
    for (int64_t first = 0; first < p->batch; first += chunk) {
        const int64_t images = p->batch - first < chunk ? p->batch - first : chunk;
        if (j->copy) cr_parallel_for(images * p->channels * rows, 1 + CR_GRAIN_ELEMENTS / j->row, copy_plane_rows, j);
        cr_parallel_for(images * tasks, 1 + LEAST_WORK / work, multiply_feature_tasks, j);
        j->x += images * p->channels * p->in[1] * p->in[2];
        j->y += images * p->features * j->positions;
    }
}

bool cr_convolve_features(const cr_convolution *p, const float *x, const float *w, const float *bias, float *y,
                          bool *applies) {
    *applies = takes_features(p);
    if (!*applies) return true;
    scratch memory = {0};
    plane_product j = {.problem = p, .x = x, .w = w, .bias = bias, .y = y, .positions = p->out[1] * p->out[2]};
    const bool copies = !is_point(p);
    j.depth = p->channels * p->kernel[1] * p->kernel[2];
    j.phase = copies ? divide_up(p->in[2] + 2 * p->padding[2], p->stride[2]) : p->in[2];
    j.row = j.phase * p->stride[2];
    j.channel = j.row * (p->in[1] + 2 * p->padding[1]);
    const int64_t image = p->channels * j.channel;
    int64_t chunk = copies ? COPY_FLOATS / image : p->batch;
    chunk = chunk < 1 ? 1 : chunk < p->batch ? chunk : p->batch;
    if (copies) j.copy = scratch_take(&memory, (size_t)(chunk * image + COLUMNS) * sizeof(float));
    j.offsets = scratch_take(&memory, (size_t)j.depth * sizeof *j.offsets);
    if (!j.offsets || (copies && !j.copy)) return scratch_drop(&memory);
    if (copies) memset(j.copy + chunk * image, 0, COLUMNS * sizeof(float));
    find_offsets(&j);
    run_feature_tasks(&j, chunk);
    scratch_drop(&memory);
    return true;
}
