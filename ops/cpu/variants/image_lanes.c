/* Convolutions of small planes, and their gradients by the input, with the images of a batch as lanes:
 *
 *   result[row][position] = bias[row] + sum over channels c and taps t of w[row][c][t] source[c][position + t]
 *
 * A thread lays a group of images out in its cache ([channel][row][column][images]), where each product is a number of the
 * weight by a full vector, and lays the results out as planes again. Taps outside the image are left out. Where Winograd's
 * tiles pay, each of their points is a sum of one row of taps, of rows of tiles in place of rows of the image. */
#include "ops/cpu/variants/image_lanes.h"
#include "ops/cpu/variants/image_lanes_winograd.h"
#include "ops/cpu/variants/planes.h"
#include "ops/cpu/variants/scratch.h"

enum {
    PANEL = VECTOR_BYTES == 64 ? 12 : 6, /* rows of a tile */
    MOST_PHASES = 16,
    MOST_STRIDE = 4,
    STRIP_BYTES = 48 << 10 /* results that wait for being laid out as planes */
};

/* The results of one phase by stride in each dim: forward there is one. */
typedef struct lane_phase {
    cr_axis rows, columns;
    const cr_span *row_taps, *pair_taps; /* of each row, unless rows are of tiles; of each pair of columns */
    const float *weights;                /* [group][panel][tap row or point][channel][tap column][PANEL] */
    int64_t weight_row;                  /* whole vectors */
} lane_phase;

typedef struct lane_job {
    lane_copy copy;
    float *target;
    int64_t groups, rows, height, width; /* of results; rows: of a group */
    const float *bias;                   /* [groups][rows], rows rounded up to whole panels */
    float low, high;
    lane_phase phases[MOST_PHASES];
    int phase_count;
    const lane_winograd *tiles;                     /* NULL: sums as they are */
    int64_t tile_rows, tile_source, point_elements; /* source: the row of the copy where the first tile begins */
    int64_t source_channel; /* of the copy, or of the points: [point][channel][tile row][column][LANES] */
    int64_t panels, strip, strips, shares; /* strip: its rows; shares: tasks of a group's panels and strips */
    int64_t slots, copy_elements, slot_elements, tasks;
    float *memory;
    atomic_int_fast64_t next;
} lane_job;

/* ---------------------------------------------------------------- two columns of results */
typedef struct lane_tile {
    const float *weights, *source;
    int64_t channels, tap_rows, tap_columns;
    int64_t weight_channel, weight_row;
    int64_t source_channel, source_row, source_column, source_distance; /* distance: between the two columns */
    float *target;
    int64_t target_row, target_distance;
    const float *bias;
    float low, high;
} lane_tile;

static inline __attribute__((always_inline)) void multiply_rows(const int rows, const lane_tile *t) {
    vector sums[PANEL][2];
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++)
        sums[i][0] = sums[i][1] = (vector){0} + t->bias[i];
    for (int64_t c = 0; c < t->channels; c++)
        for (int64_t r = 0; r < t->tap_rows; r++) {
            const float *weights = t->weights + c * t->weight_channel + r * t->weight_row;
            const float *source = t->source + c * t->source_channel + r * t->source_row;
            for (int64_t k = 0; k < t->tap_columns; k++, weights += PANEL, source += t->source_column) {
                const vector s0 = held(load(source)), s1 = held(load(source + t->source_distance));
#pragma GCC unroll 12
                for (int i = 0; i < rows; i++) {
                    sums[i][0] += s0 * weights[i];
                    sums[i][1] += s1 * weights[i];
                }
            }
        }
    float *target = t->target;
    const int64_t row = t->target_row, distance = t->target_distance;
    const float low = t->low, high = t->high;
#pragma GCC unroll 12
    for (int i = 0; i < rows; i++, target += row) {
        store(target, clamped(sums[i][0], low, high));
        store(target + distance, clamped(sums[i][1], low, high));
    }
}

#define MULTIPLY(rows)                                                                                                 \
    static void multiply_##rows(const lane_tile *t) { multiply_rows(rows, t); }
MULTIPLY(1)
MULTIPLY(2)
MULTIPLY(3)
MULTIPLY(4)
MULTIPLY(6)
#if defined(__AVX512F__)
MULTIPLY(8)
MULTIPLY(12)
#endif
#undef MULTIPLY

static void multiply(int64_t rows, const lane_tile *t) {
    static void (*const of_rows[])(const lane_tile *) = {
        NULL,
        multiply_1,
        multiply_2,
        multiply_3,
        multiply_4,
        multiply_6,
        multiply_6,
#if defined(__AVX512F__)
        multiply_8,
        multiply_8,
        multiply_12,
        multiply_12,
        multiply_12,
        multiply_12,
#endif
    };
    of_rows[rows](t);
}

/* ---------------------------------------------------------------- a strip of results */
/* Two columns of a row of tiles: the products of all points, and the results that they make. */
static void multiply_tiles(const lane_job *job, lane_tile t, int64_t rows, int64_t wanted) {
    enum { ROW = 2 * LANES, POINT = PANEL * ROW };
    static const float no_bias[PANEL] = {0};
    _Alignas(64) float products[LANE_POINTS * POINT];
    const lane_winograd *tiles = job->tiles;
    lane_results results = {.to = t.target,
                            .wanted = wanted,
                            .step = job->width * LANES,
                            .next = t.target_distance,
                            .low = t.low,
                            .high = t.high};
    const float *bias = t.bias;
    const int64_t target_row = t.target_row;
    t.bias = no_bias;
    t.low = -INFINITY;
    t.high = INFINITY;
    t.target_row = ROW;
    t.target_distance = LANES;
    for (int64_t point = 0; point < tiles->points; point++) {
        t.target = products + point * POINT;
        multiply(rows, &t);
        t.weights += t.weight_row;
        t.source += job->point_elements;
    }
    for (int64_t i = 0; i < rows; i++, results.to += target_row) {
        results.bias = bias[i];
        cr_lane_gather(tiles->result, tiles->points, products + i * ROW, POINT, 2, &results);
    }
}

static cr_span taps_of_row(const lane_job *job, const lane_phase *phase, int64_t m) {
    return job->tiles ? (cr_span){0, 1} : phase->row_taps[m];
}

/* The strip's results that belong to row m of a phase, into `strip`: [row of the panel][position of the strip][LANES]. */
static void multiply_row(const lane_job *job, const lane_phase *phase, int64_t m, lane_tile t, int64_t rows) {
    const lane_copy *copy = &job->copy;
    const cr_axis *a = &phase->rows, *b = &phase->columns;
    const cr_span inside = taps_of_row(job, phase, m);
    const int64_t pitch = lane_pitch(copy), below = job->height - m * a->step;
    const float *weights = t.weights + inside.begin * phase->weight_row,
                *source = t.source + (m * a->source_step + a->shift + inside.begin * a->shift_step) * pitch +
                          (copy->left + b->shift) * LANES;
    float *target = t.target;
    t.channels = copy->channels;
    t.tap_rows = inside.end - inside.begin;
    t.weight_row = phase->weight_row;
    t.weight_channel = b->taps * PANEL;
    t.source_channel = job->source_channel;
    t.source_row = a->shift_step * pitch;
    t.source_column = b->shift_step * LANES;
    t.source_distance = b->count > 1 ? b->source_step * LANES : 0;
    t.target_distance = b->count > 1 ? b->step * LANES : 0;
    for (int64_t pair = 0; 2 * pair < b->count; pair++) {
        const int64_t n = 2 * pair + 1 < b->count || pair == 0 ? 2 * pair : b->count - 2;
        const cr_span taps = phase->pair_taps[pair];
        t.tap_columns = taps.end - taps.begin;
        t.weights = weights + taps.begin * PANEL;
        t.source = source + (n * b->source_step + taps.begin * b->shift_step) * LANES;
        t.target = target + (b->first + n * b->step) * LANES;
        if (job->tiles)
            multiply_tiles(job, t, rows, below < a->step ? below : a->step);
        else
            multiply(rows, &t);
    }
}

/* source: [rows][positions][LANES], one after the other; each goes `target_row` behind the one before, in every image. */
static void lay_out_as_planes(const float *source, int64_t rows, int64_t positions, float *target, int64_t target_row,
                              int64_t target_image, int64_t images) {
    _Alignas(64) float part[LANES * LANES];
    const int64_t used = positions < LANES ? positions : LANES;
    const bool whole = images == LANES && used == LANES;
    for (int64_t r = 0; r < rows; r++, source += positions * LANES, target += target_row)
        for (int64_t at = 0; at < positions; at += LANES) {
            const int64_t begin = at + LANES <= positions || positions < LANES ? at : positions - LANES;
            vector v[LANES];
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                v[i] = load(source + (begin + i) * LANES);
            images_transpose_vectors(v);
            float *to = whole ? target + begin : part;
            const int64_t step = whole ? target_image : LANES;
#pragma GCC unroll 16
            for (int l = 0; l < LANES; l++)
                store(to + l * step, v[l]);
            for (int64_t l = 0; l < images && !whole; l++)
                memcpy(target + begin + l * target_image, part + l * LANES, (size_t)used * sizeof(float));
        }
}

static int64_t panel_elements(const lane_job *job, const lane_phase *phase) {
    return (job->tiles ? job->tiles->points : phase->rows.taps) * phase->weight_row;
}

/* Rows `begin` … end-1 of the results of a panel, of the group of images whose copy, or points, `source` is. */
static void run_strip(const lane_job *job, int64_t first, int64_t group, int64_t panel, int64_t begin, int64_t end,
                      const float *source, float *strip) {
    const int64_t row = panel * PANEL, rows = job->rows - row < PANEL ? job->rows - row : PANEL,
                  positions = (end - begin) * job->width, plane = job->height * job->width;
    for (int i = 0; i < job->phase_count; i++) {
        const lane_phase *phase = &job->phases[i];
        const cr_axis *a = &phase->rows;
        const float *weights = phase->weights + (group * job->panels + panel) * panel_elements(job, phase);
        for (int64_t m = begin > a->first ? divide_up(begin - a->first, a->step) : 0;
             m < a->count && a->first + m * a->step < end; m++)
            multiply_row(job, phase, m,
                         (lane_tile){.weights = weights,
                                     .source = source,
                                     .target = strip + (a->first + m * a->step - begin) * job->width * LANES,
                                     .target_row = positions * LANES,
                                     .bias = job->bias + (group * job->panels + panel) * PANEL,
                                     .low = job->low,
                                     .high = job->high},
                         rows);
    }
    const int64_t images = job->copy.images - first < LANES ? job->copy.images - first : LANES,
                  image = job->groups * job->rows * plane;
    float *target = job->target + first * image + (group * job->rows + row) * plane + begin * job->width;
    if (positions == plane)
        lay_out_as_planes(strip, 1, rows * plane, target, 0, image, images);
    else
        lay_out_as_planes(strip, rows, positions, target, plane, image, images);
}

/* The points of all tiles of a copy. */
static void spread_tiles(const lane_job *job, const float *copy, float *points) {
    const lane_winograd *tiles = job->tiles;
    const int64_t pitch = lane_pitch(&job->copy), plane = lane_plane(&job->copy);
    for (int64_t c = 0; c < job->copy.channels; c++)
        for (int64_t m = 0; m < job->tile_rows; m++, points += pitch)
            cr_lane_spread(tiles->source, tiles->points, tiles->points,
                           copy + c * plane + (job->tile_source + m * tiles->results) * pitch, pitch, points,
                           job->point_elements, pitch / LANES);
}

static void run_slots(void *context, int64_t begin, int64_t end) {
    lane_job *job = context;
    for (int64_t slot = begin, task; slot < end; slot++) {
        float *copy = job->memory + slot * job->slot_elements, *points = copy + job->copy_elements,
              *strip = points + (job->tiles ? job->tiles->points * job->point_elements : 0);
        int64_t copied = -1;
        while ((task = atomic_fetch_add_explicit(&job->next, 1, memory_order_relaxed)) < job->tasks) {
            const int64_t share = task % job->shares, part = task / job->shares, group = part % job->groups,
                          first = part / job->groups * LANES, units = job->panels * job->strips;
            if (copied < 0) memset(copy, 0, (size_t)job->copy_elements * sizeof(float));
            if (copied != part) {
                copy_lanes(&job->copy, first, group, 0, job->copy.channels, copy);
                if (job->tiles) spread_tiles(job, copy, points);
            }
            copied = part;
            for (int64_t unit = units * share / job->shares; unit < units * (share + 1) / job->shares; unit++) {
                const int64_t top = unit % job->strips * job->strip,
                              bottom = top + job->strip < job->height ? top + job->strip : job->height;
                run_strip(job, first, group, unit / job->strips, top, bottom, job->tiles ? points : copy, strip);
            }
        }
    }
}

/* ---------------------------------------------------------------- the plan */
/* The taps of each pair of columns, and the columns of zeros that they reach. */
static void plan_pairs(lane_job *job, const cr_axis *a, cr_span *pairs) {
    for (int64_t pair = 0; 2 * pair < a->count; pair++) {
        const int64_t n = 2 * pair + 1 < a->count || pair == 0 ? 2 * pair : a->count - 2, last = n + (a->count > 1);
        cr_span one = cr_taps_inside(a, n), other = cr_taps_inside(a, last);
        if (one.begin == one.end) one = other;
        if (other.begin == other.end) other = one;
        pairs[pair] =
            (cr_span){one.begin < other.begin ? one.begin : other.begin, one.end > other.end ? one.end : other.end};
        for (int32_t tap = pairs[pair].begin; tap < pairs[pair].end; tap++) {
            const int64_t low = n * a->source_step + a->shift + tap * a->shift_step,
                          high = low + (last - n) * a->source_step - (a->source_count - 1);
            if (-low > job->copy.left) job->copy.left = -low;
            if (high > job->copy.right) job->copy.right = high;
        }
    }
}

/* Phases without weights; false and an error on failure. */
static bool plan_phases(lane_job *job, const cr_convolution *p, bool by_input, scratch *memory) {
    cr_axis rows[MOST_STRIDE], columns[MOST_STRIDE];
    const int64_t row_phases = cr_plan_axis(p, 1, by_input, rows),
                  column_phases = cr_plan_axis(p, 2, by_input, columns);
    cr_span *spans = scratch_take(memory, (size_t)(job->height + job->width + MOST_STRIDE) * sizeof *spans);
    if (!spans) return false;
    for (int64_t i = 0; i < row_phases; i++) {
        for (int64_t j = 0; j < column_phases; j++)
            job->phases[i * column_phases + j] =
                (lane_phase){.rows = rows[i], .columns = columns[j], .row_taps = spans};
        for (int64_t m = 0; m < rows[i].count; m++)
            *spans++ = cr_taps_inside(&rows[i], m);
    }
    for (int64_t j = 0; j < column_phases; j++) {
        for (int64_t i = 0; i < row_phases; i++)
            job->phases[i * column_phases + j].pair_taps = spans;
        plan_pairs(job, &columns[j], spans);
        spans += divide_up(columns[j].count, 2);
    }
    job->phase_count = (int)(row_phases * column_phases);
    return true;
}

/* Rows of tiles in place of rows of results, where the kernel has tiles and the points stay in a cache. */
static bool plan_tiles(lane_job *job, const cr_convolution *p, bool by_input, lane_winograd *tiles) {
    enum { MOST_BYTES = 4 << 20 };
    if (!cr_plan_lane_winograd(p, tiles)) return false;
    const int64_t rows = divide_up(job->height, tiles->results), last_tap = by_input ? tiles->taps - 1 : 0,
                  begin = job->phases[0].rows.shift - last_tap,
                  behind = begin + (rows - 1) * tiles->results + tiles->points - job->copy.height;
    for (int i = 0; i < job->phase_count; i++)
        job->phases[i].rows = (cr_axis){.count = rows,
                                        .step = tiles->results,
                                        .source_step = 1,
                                        .taps = 1,
                                        .tap = last_tap,
                                        .tap_step = by_input ? -1 : 1};
    job->tiles = tiles;
    job->tile_rows = rows;
    job->tile_source = begin > 0 ? begin : 0;
    job->copy.above = begin < 0 ? -begin : 0;
    job->copy.below = behind > 0 ? behind : 0;
    job->source_channel = rows * lane_pitch(&job->copy);
    job->point_elements = job->copy.channels * job->source_channel;
    return (job->copy.channels * lane_plane(&job->copy) + tiles->points * job->point_elements) *
               (int64_t)sizeof(float) <=
           MOST_BYTES;
}

/* Of an image, to the points and from them: multiplications, loads and stores. */
static double cost_of_transforms(const lane_job *job) {
    const lane_winograd *tiles = job->tiles;
    if (!tiles) return 0;
    const int64_t columns = lane_pitch(&job->copy) / LANES;
    const double points = (double)tiles->points, results = (double)tiles->results;
    return (double)(job->groups * job->tile_rows) *
           ((double)(job->copy.channels * columns) * points * (points / 2 + 5) +
            (double)(job->rows * job->width) * points * (results / 2 + 5));
}

/* What the products of an image cost, those of a tile of one or two rows being slow. */
static double cost_of_products(const lane_job *job) {
    enum { LEAST_ROWS = VECTOR_BYTES == 64 ? 2 : 4 };
    const double tile = job->tiles ? 60 : 35 /* of each call */, points = job->tiles ? (double)job->tiles->points : 1;
    const int64_t rest = job->rows % PANEL;
    const double rows = (double)(job->rows + (rest > 0 && rest < LEAST_ROWS ? LEAST_ROWS - rest : 0));
    double sum = 0, tiles = 0;
    for (int i = 0; i < job->phase_count; i++) {
        const cr_axis *a = &job->phases[i].rows, *b = &job->phases[i].columns;
        int64_t row_taps = 0, column_taps = 0;
        for (int64_t m = 0; m < a->count; m++) {
            const cr_span inside = taps_of_row(job, &job->phases[i], m);
            row_taps += inside.end - inside.begin;
        }
        for (int64_t pair = 0; 2 * pair < b->count; pair++)
            column_taps += 2 * (job->phases[i].pair_taps[pair].end - job->phases[i].pair_taps[pair].begin);
        sum += points * (double)(row_taps * column_taps);
        tiles += points * (double)(a->count * divide_up(b->count, 2));
    }
    return (double)job->groups * (1.2 * rows * (double)job->copy.channels * sum + tile * (double)job->panels * tiles) +
           cost_of_transforms(job);
}

static double elements_of_image(const lane_job *job) {
    return (double)(job->groups * (job->copy.group + job->rows * job->height * job->width));
}

/* What the better of the other ways costs: products of a gathered image, or of one that is read where it lies, in panels of
 * columns of which some are in vain (convolution_direct.h). */
static double cost_of_others(const lane_job *job) {
    enum { COLUMNS = 2 * LANES, PANEL_COST = 50 * LANES, LINE_COST = 360 }; /* line: of an image, to or from a copy */
    double asked = 0, made = 0, panels = 0;
    for (int i = 0; i < job->phase_count; i++) {
        const cr_axis *a = &job->phases[i].rows, *b = &job->phases[i].columns;
        const int64_t reach = (b->taps - 1) * (b->shift_step < 0 ? -b->shift_step : b->shift_step),
                      pitch = b->count + reach / b->source_step,
                      over_planes = divide_up((a->count - 1) * pitch + b->count, COLUMNS),
                      by_rows = a->count * divide_up(b->count, COLUMNS),
                      count = over_planes < by_rows ? over_planes : by_rows;
        const double depth = (double)(a->taps * b->taps * job->copy.channels * job->rows * job->groups);
        asked += depth * (double)(a->count * b->count);
        made += depth * (double)(count * COLUMNS);
        panels += (double)(count * job->panels * job->groups);
    }
    const double lines = (double)(job->groups * (job->copy.channels * job->copy.height + job->rows * job->height)),
                 direct = 0.95 * made + PANEL_COST * panels + LINE_COST * lines,
                 gathered = (1.35 + 11 / (double)job->rows) * asked + 20 * elements_of_image(job);
    return direct < gathered ? direct : gathered;
}

/* Whether it is ahead of the other ways, in multiplications of an image (all measured; a group that is not full costs as
 * much as a full one). The copy must stay in the cache, unless there are tiles (plan_tiles). */
static bool pays(const lane_job *job, double others) {
    enum { COPY_BYTES = 640 << 10 };
    const double images = (double)job->copy.images, lanes = (double)(divide_up(job->copy.images, LANES) * LANES);
    if (!job->tiles && job->copy.channels * lane_plane(&job->copy) * (int64_t)sizeof(float) > COPY_BYTES) return false;
    return lanes * (cost_of_products(job) + 9 * elements_of_image(job)) < images * others;
}

/* [group][panel][tap row][channel][tap column][PANEL], zeros where there are fewer rows. */
static void pack_weights(const lane_job *job, const lane_phase *phase, const float *w, int64_t tap_rows,
                         int64_t kernel_width, int64_t row_step, int64_t channel_step, int64_t group_step, float *to) {
    const cr_axis *a = &phase->rows, *b = &phase->columns;
    memset(to, 0, (size_t)(job->groups * job->panels * tap_rows * phase->weight_row) * sizeof(float));
    for (int64_t panel = 0; panel < job->groups * job->panels; panel++)
        for (int64_t i = 0; i < tap_rows; i++, to += phase->weight_row)
            for (int64_t c = 0; c < job->copy.channels; c++)
                for (int64_t j = 0; j < b->taps; j++) {
                    const int64_t row = panel % job->panels * PANEL,
                                  tap = (a->tap + i * a->tap_step) * kernel_width + b->tap + j * b->tap_step;
                    const float *from = w + panel / job->panels * group_step + row * row_step + c * channel_step + tap;
                    for (int64_t r = 0; r < PANEL && row + r < job->rows; r++)
                        to[(c * b->taps + j) * PANEL + r] = from[r * row_step];
                }
}

static bool prepare_weights(lane_job *job, const cr_convolution *p, bool by_input, const float *w, const float *bias,
                            scratch *memory) {
    const int64_t taps = p->kernel[1] * p->kernel[2], feature = p->channels * taps, panels = job->groups * job->panels,
                  rows = panels * PANEL;
    float *shift = scratch_take(memory, (size_t)rows * sizeof(float));
    if (!shift) return false;
    for (int64_t i = 0; i < rows; i++) {
        const int64_t row = i % (job->panels * PANEL);
        shift[i] = bias && row < job->rows ? bias[i / (job->panels * PANEL) * job->rows + row] : 0;
    }
    job->bias = shift;
    int64_t packed_elements = 0, elements = 0;
    for (int i = 0; i < job->phase_count; i++) {
        lane_phase *phase = &job->phases[i];
        phase->weight_row = round_up(job->copy.channels * phase->columns.taps * PANEL, LANES);
        packed_elements += panels * (job->tiles ? job->tiles->taps : phase->rows.taps) * phase->weight_row;
        elements += panels * panel_elements(job, phase);
    }
    float *packed = scratch_take(memory, (size_t)packed_elements * sizeof(float)),
          *points = job->tiles ? scratch_take(memory, (size_t)elements * sizeof(float)) : packed;
    if (!packed || !points) return false;
    for (int i = 0; i < job->phase_count; i++) {
        lane_phase *phase = &job->phases[i];
        const int64_t tap_rows = job->tiles ? job->tiles->taps : phase->rows.taps, row = phase->weight_row;
        phase->weights = points;
        pack_weights(job, phase, w, tap_rows, p->kernel[2], by_input ? taps : feature, by_input ? feature : taps,
                     p->features * feature, packed);
        for (int64_t panel = 0; panel < panels && job->tiles; panel++)
            cr_lane_spread(job->tiles->kernel, job->tiles->points, tap_rows, packed + panel * tap_rows * row, row,
                           points + panel * panel_elements(job, phase), row, row / LANES);
        packed += panels * tap_rows * row;
        points += panels * panel_elements(job, phase);
    }
    return true;
}

/* A strip, of whole tiles, is what fits the cache; few images are cut into more, to be shared. */
static void choose_strips(lane_job *job) {
    enum { LEAST_UNITS = 8 };
    const int64_t units = divide_up(job->copy.images, LANES) * job->groups * job->panels,
                  fitting = STRIP_BYTES / (PANEL * job->width * VECTOR_BYTES),
                  shared = divide_up(job->height, divide_up(LEAST_UNITS, units)),
                  step = job->tiles ? job->tiles->results : 1;
    job->strip = (fitting < shared ? fitting : shared) / step * step;
    if (job->strip < step) job->strip = step;
    job->strips = divide_up(job->height, job->strip);
}

static bool run_lanes(lane_job *job, scratch *memory) {
    const bool small = cost_of_products(job) * (double)job->copy.images < 16.0 * CR_GRAIN_ELEMENTS;
    const int64_t threads = small ? 1 : cr_num_threads(), parts = divide_up(job->copy.images, LANES) * job->groups,
                  units = job->panels * job->strips;
    job->shares = parts >= 2 * threads ? 1 : divide_up(4 * threads, parts);
    if (job->shares > units) job->shares = units;
    job->tasks = parts * job->shares;
    job->slots = threads < job->tasks ? threads : job->tasks;
    job->copy_elements = round_up(job->copy.channels * lane_plane(&job->copy), 16);
    job->slot_elements = job->copy_elements + (job->tiles ? job->tiles->points * job->point_elements : 0) +
                         (PANEL * job->strip * job->width + LANES) * LANES;
    job->memory = scratch_take(memory, (size_t)(job->slots * job->slot_elements) * sizeof(float));
    int32_t *places = scratch_take(memory, (size_t)count_places(&job->copy) * sizeof *places);
    if (!job->memory || !places) return false;
    find_places(&job->copy, places);
    job->copy.places = places;
    cr_parallel_for(job->slots, 1, run_slots, job);
    return true;
}

static bool fits_lanes(const cr_convolution *p) {
    const bool is_plane = p->in[0] == 1 && p->kernel[0] == 1 && p->padding[0] == 0;
    return is_plane && p->kernel[1] * p->kernel[2] > 1 && p->stride[1] <= MOST_STRIDE && p->stride[2] <= MOST_STRIDE;
}

bool cr_image_lanes(const cr_convolution *p, bool by_input, const float *x, const float *w, const float *bias,
                    const cr_epilogue *epilogue, float *y, bool *applies) {
    const int64_t *from = by_input ? p->out : p->in, *to = by_input ? p->in : p->out,
                  channels = by_input ? p->features : p->channels, group = channels * from[1] * from[2];
    const bool is_simple = epilogue && epilogue->is_simple && !epilogue->added;
    *applies = false;
    if (!fits_lanes(p)) return true;
    lane_job job = {.copy = {.source = x,
                             .images = p->batch,
                             .image = p->groups * group,
                             .group = group,
                             .channels = channels,
                             .height = from[1],
                             .width = from[2]},
                    .target = y,
                    .groups = p->groups,
                    .rows = by_input ? p->channels : p->features,
                    .height = to[1],
                    .width = to[2],
                    .low = is_simple ? epilogue->low : -INFINITY,
                    .high = is_simple ? epilogue->high : INFINITY};
    job.panels = divide_up(job.rows, PANEL);
    scratch memory = {0};
    bool done = plan_phases(&job, p, by_input, &memory);
    job.source_channel = lane_plane(&job.copy);
    const double others = done ? cost_of_others(&job) : 0;
    lane_winograd tiles;
    lane_job with_tiles = job;
    if (done && plan_tiles(&with_tiles, p, by_input, &tiles) && cost_of_products(&with_tiles) < cost_of_products(&job))
        job = with_tiles;
    choose_strips(&job);
    *applies = done && pays(&job, others);
    if (*applies) done = prepare_weights(&job, p, by_input, w, bias, &memory) && run_lanes(&job, &memory);
    scratch_drop(&memory);
    if (done && *applies && !is_simple) cr_epilogue_images(epilogue, 0, p->batch);
    return done;
}
