/* Integer layers (ops/integer.h): rows of u8 are gathered into panels, widened where the processor multiplies 16 bits,
 * which a micro-kernel multiplies by packed weights; sums leave its registers as u8. And pools. */
#include "ops/integer.h"
#include "core/allocator.h"
#include "core/parallel.h"
#include "ops/cpu/variant.h"
#include "ops/cpu/variants/integer_vector.h"
#include "ops/pooling.h"

#include <stdatomic.h>

enum { ROWS = 6, COLUMNS = 2 * LANES, PANEL_BYTES = 192 * 1024, SLACK = 4 * LANES, THREADS = 64 };

typedef struct layer layer;
struct layer {
    cr_convolution p;
    const uint8_t *x, *x_end, *residual;
    const void *weight;
    const float *scale;  /* up to a whole strip */
    const int32_t *bias; /* likewise */
    void *y;
    bool is_floating, is_bytes, is_plain; /* the result; the products; positions are read as they lie */
    int64_t channels, features, strips;   /* of images; of the result */
    int64_t rows, depth;                  /* positions of the result; taps · channels of each, whole lanes */
    int16_t input_zero;
    int32_t output_zero, residual_zero;
    float most, residual_scale; /* most: without the zero point */
    uint8_t least;
    void (*multiply)(const int16_t *a, int64_t stride, const int16_t *b, int64_t depth, vec_i sums[][2]);
    void (*gather)(const layer *l, int64_t row, int64_t rows, void *to); /* NULL: rows are multiplied where they lie */
    void (*multiply_strip)(const layer *l, const void *from, int64_t row, int64_t rows, int64_t strip);
    /* Where bytes are read: from a position, a line of taps, a run of them to the next; a run's bytes, whole lanes. */
    int64_t position, lines_apart, runs_apart, runs, run;
    /* How the work is cut. */
    int64_t block_rows, block_strips, strip_blocks;
    int16_t *panels;
    int64_t panel_numbers;
    int places; /* panels, each of one thread at a time */
    atomic_flag taken[THREADS];
};

/* ---------------------------------------------------------------- what becomes of sums */
static inline vec_f add_residual(vec_f v, vec_i r, int32_t zero, float scale) {
    return v + __builtin_convertvector(r - zero, vec_f) * scale;
}

/* Sums of `count` positions in a strip, of which `width` columns are there. */
static inline __attribute__((always_inline)) void finish_rows(const layer *l, vec_i sums[][2], int64_t row,
                                                              int64_t count, int64_t column, const int64_t width,
                                                              const bool has_residual) {
    const vec_i b0 = vec_load(l->bias + column), b1 = vec_load(l->bias + column + LANES);
    const vec_f s0 = (vec_f)vec_load(l->scale + column), s1 = (vec_f)vec_load(l->scale + column + LANES);
    const int32_t zero = l->output_zero, residual_zero = l->residual_zero;
    const float most = l->most, residual_scale = l->residual_scale;
    const uint8_t least = l->least, *residual = l->residual;
    const int64_t features = l->features;
    for (int64_t r = 0, at = row * features + column; r < count; r++, at += features) {
        vec_f v0 = __builtin_convertvector(sums[r][0] + b0, vec_f) * s0,
              v1 = __builtin_convertvector(sums[r][1] + b1, vec_f) * s1;
        if (has_residual) {
            const wide_u bytes = vec_load_first(residual + at, width);
            v0 = add_residual(v0, vec_bytes(&bytes), residual_zero, residual_scale);
            v1 = add_residual(v1, vec_bytes((const uint8_t *)&bytes + LANES), residual_zero, residual_scale);
        }
        if (l->is_floating) {
            const vec_f both[2] = {v0, v1};
            memcpy((float *)l->y + at, both, (size_t)width * sizeof(float));
        } else {
            vec_store_first((uint8_t *)l->y + at, vec_quantize(v0, v1, most, zero, least), width);
        }
    }
}

static void finish_block(const layer *l, vec_i sums[][2], int64_t row, int64_t count, int64_t column) {
    const int64_t left = l->features - column;
    if (left < COLUMNS || l->is_floating)
        finish_rows(l, sums, row, count, column, left < COLUMNS ? left : COLUMNS, l->residual);
    else if (l->residual)
        finish_rows(l, sums, row, count, column, COLUMNS, true);
    else
        finish_rows(l, sums, row, count, column, COLUMNS, false);
}

/* ---------------------------------------------------------------- the micro-kernel */
/* a: rows of `depth` numbers, `stride` apart; b: a strip. */
#define MULTIPLY(rows, step)                                                                                           \
    vec_i made[rows][2];                                                                                               \
    _Pragma("GCC unroll 12") for (int i = 0; i < 2 * (rows); i++) made[i / 2][i % 2] = (vec_i){0};                     \
    for (int64_t k = 0; k < depth; k += 2) {                                                                           \
        const vec_i b0 = vec_load(b + k * COLUMNS), b1 = vec_load(b + k * COLUMNS + 2 * LANES);                        \
        _Pragma("GCC unroll 6") for (int r = 0; r < (rows); r++) {                                                     \
            const vec_i pair = vec_pair(a + r * stride + k);                                                           \
            made[r][0] = step(made[r][0], pair, b0);                                                                   \
            made[r][1] = step(made[r][1], pair, b1);                                                                   \
        }                                                                                                              \
    }                                                                                                                  \
    _Pragma("GCC unroll 12") for (int i = 0; i < 2 * (rows); i++) sums[i / 2][i % 2] = made[i / 2][i % 2]

static void multiply_rows(const int16_t *a, int64_t stride, const int16_t *b, int64_t depth, vec_i sums[ROWS][2]) {
    MULTIPLY(ROWS, vec_multiply);
}
static void multiply_row(const int16_t *a, const int16_t *b, int64_t depth, vec_i sums[ROWS][2]) {
    const int64_t stride = 0;
    MULTIPLY(1, vec_multiply);
}
#if defined(__AVX512BW__)
static __attribute__((target("avx512vnni"))) void multiply_rows_vnni(const int16_t *a, int64_t stride, const int16_t *b,
                                                                     int64_t depth, vec_i sums[ROWS][2]) {
#define STEP(sum, x, y) ((vec_i)_mm512_dpwssd_epi32((__m512i)(sum), (__m512i)(x), (__m512i)(y)))
    MULTIPLY(ROWS, STEP);
#undef STEP
}
#endif

typedef void row_product(const int16_t *a, int64_t stride, const int16_t *b, int64_t depth, vec_i sums[][2]);
/* The fastest that this processor has. */
static row_product *best_product(void) {
#if defined(__AVX512BW__)
    if (__builtin_cpu_supports("avx512vnni")) return multiply_rows_vnni;
#endif
    return multiply_rows;
}

static void wide_strip(const layer *l, const void *from, int64_t row, int64_t rows, int64_t strip) {
    const int16_t *a = from, *b = (const int16_t *)l->weight + strip * l->depth * COLUMNS;
    vec_i sums[ROWS][2];
    for (int64_t r = 0; r < rows; r += ROWS) {
        const int64_t count = rows - r < ROWS ? rows - r : ROWS;
        if (count == 1)
            multiply_row(a + r * l->depth, b, l->depth, sums);
        else
            l->multiply(a + r * l->depth, l->depth, b, l->depth, sums);
        finish_block(l, sums, row + r, count, strip * COLUMNS);
    }
}

/* ---------------------------------------------------------------- gathering */
/* Widens a run; gives the place behind it. What is written too much, by up to SLACK bytes, is written again by the next. */
static inline int16_t *widen(const uint8_t *from, const uint8_t *end, int64_t count, int16_t *to) {
    for (int64_t i = 0; i < count; i += 2 * LANES) {
        wide_u bytes = {0};
        if (end - from - i >= 2 * LANES)
            memcpy(&bytes, from + i, sizeof bytes);
        else
            memcpy(&bytes, from + i, (size_t)(end - from - i));
        const vec_s wide = vec_widen(bytes);
        memcpy(to + i, &wide, sizeof wide);
    }
    return to + count;
}

static inline int16_t *fill(int16_t value, int64_t count, int16_t *to) {
    for (int64_t i = 0; i < count; i++)
        to[i] = value;
    return to + count;
}

/* A position of the result, [kernel height][kernel width][channels], from the image whose corner it has at (y0, x0). */
static inline void gather_position(const layer *l, const uint8_t *image, int64_t y0, int64_t x0, int16_t *to) {
    const cr_convolution *p = &l->p;
    const int64_t runs = p->dilation[2] == 1 ? 1 : p->kernel[2], run = p->kernel[2] / runs; /* taps side by side */
    for (int64_t ky = 0; ky < p->kernel[1]; ky++)
        for (int64_t k = 0; k < runs; k++) {
            const int64_t y = y0 + ky * p->dilation[1], x = x0 + k * p->dilation[2];
            const int64_t begin = x < 0 ? -x : 0, end = x + run > p->in[2] ? p->in[2] - x : run;
            if (y < 0 || y >= p->in[1] || begin >= end) {
                to = fill(l->input_zero, run * l->channels, to);
                continue;
            }
            to = fill(l->input_zero, begin * l->channels, to);
            to = widen(image + (y * p->in[2] + x + begin) * l->channels, l->x_end, (end - begin) * l->channels, to);
            to = fill(l->input_zero, (run - end) * l->channels, to);
        }
}

static void gather(const layer *l, int64_t row, int64_t rows, void *to) {
    const cr_convolution *p = &l->p;
    int16_t *at = to;
    if (l->is_plain) {
        widen(l->x + row * l->channels, l->x_end, rows * l->channels, at);
        return;
    }
    int64_t ox = row % p->out[2], oy = row / p->out[2] % p->out[1], image = row / (p->out[2] * p->out[1]);
    for (int64_t r = 0; r < rows; r++, at += l->depth) {
        gather_position(l, l->x + image * p->in[1] * p->in[2] * l->channels, oy * p->stride[1] - p->padding[1],
                        ox * p->stride[2] - p->padding[2], at);
        if (++ox < p->out[2]) continue;
        ox = 0;
        if (++oy < p->out[1]) continue;
        oy = 0;
        image++;
    }
}

static int take_panel(layer *l) {
    for (int i = 0;; i = (i + 1) % l->places)
        if (!atomic_flag_test_and_set(&l->taken[i])) return i;
}

static void run_blocks(void *context, int64_t begin, int64_t end) {
    layer *l = context;
    const int place = take_panel(l);
    int16_t *panel = l->panels + place * l->panel_numbers;
    for (int64_t item = begin, gathered = -1; item < end; item++) {
        const int64_t which = item / l->strip_blocks, row = which * l->block_rows;
        const int64_t rows = l->rows - row < l->block_rows ? l->rows - row : l->block_rows;
        if (which != gathered && l->gather) l->gather(l, row, rows, panel);
        gathered = which;
        const int64_t first = item % l->strip_blocks * l->block_strips;
        for (int64_t s = first; s < l->strips && s < first + l->block_strips; s++)
            l->multiply_strip(l, l->gather ? (const void *)panel : l->x + row * l->depth, row, rows, s);
    }
    atomic_flag_clear(&l->taken[place]);
}

/* Blocks of at most `limit` rows, which fit in the cache; where there are few, each is cut into groups of strips. Rows are
 * multiplied `together` at a time: what stands behind the last one as well, and nobody looks at it. A row of a panel takes
 * `room` bytes, a panel `slack` more; `depth` multiplications make a number of a row. */
static bool run_blocked(layer *l, int64_t rows, int64_t limit, int64_t together, int64_t room, int64_t slack,
                        int64_t depth, void (*run)(void *context, int64_t begin, int64_t end)) {
    const int threads = cr_num_threads() < THREADS ? cr_num_threads() : THREADS;
    int64_t blocks = (rows + limit - 1) / limit;
    if (blocks > 1) blocks = (blocks + threads - 1) / threads * threads;
    l->block_rows = ((rows + blocks - 1) / blocks + together - 1) / together * together;
    blocks = (rows + l->block_rows - 1) / l->block_rows;
    const int64_t wanted = 2 * threads; /* each item gathers its rows anew */
    l->places = threads;
    l->block_strips = blocks < wanted && threads > 1 ? (l->strips * blocks + wanted - 1) / wanted : l->strips;
    l->strip_blocks = (l->strips + l->block_strips - 1) / l->block_strips;
    l->panel_numbers = (l->block_rows * room + slack + 63) / 64 * 32;
    const size_t bytes = (size_t)(threads * l->panel_numbers) * sizeof *l->panels;
    if (!(l->panels = cr_block_allocate(bytes))) return false;
    const int64_t work = l->block_rows * depth * l->block_strips * COLUMNS / 16;
    cr_parallel_for(blocks * l->strip_blocks, CR_GRAIN_ELEMENTS / (work + 1), run, l);
    cr_block_free(l->panels, bytes);
    return true;
}

static bool run_direct(layer *l) {
    const int64_t fits = PANEL_BYTES / (l->depth * 2) / ROWS * ROWS;
    return run_blocked(l, l->rows,
                       fits < ROWS ? ROWS
                       : fits > 96 ? 96
                                   : fits,
                       ROWS, l->depth * 2, SLACK, l->depth, run_blocks);
}

#include "ops/cpu/variants/integer_bytes.h"
#include "ops/cpu/variants/integer_each.h"
#include "ops/cpu/variants/integer_winograd.h"

/* ---------------------------------------------------------------- the kernel */
static cr_convolution problem_of(const cr_call *call) {
    const cr_integer_layer_options *o = call->attributes;
    const cr_tensor *x = call->inputs[0];
    if (o->weight.count == 4)
        return cr_convolution_describe(cr_tensor_shape(x), o->weight, cr_tensor_shape(call->outputs[0]),
                                       (const void *)o);
    const int64_t rows = o->weight.at[1] ? x->numel / o->weight.at[1] : 0;
    return (cr_convolution){1,         1,         o->weight.at[1], o->weight.at[0], {1, 1, rows}, {1, 1, rows},
                            {1, 1, 1}, {1, 1, 1}, {0, 0, 0},       {1, 1, 1}};
}

/* Scales and biases with zeros up to a whole strip: [2][features]. */
static bool pad_numbers(layer *l, const cr_call *call, int32_t *to) {
    const size_t bytes = (size_t)l->features * sizeof *to, whole = (size_t)(l->strips * COLUMNS);
    cr_tensor *scale = cr_dense(call->inputs[2]), *bias = cr_dense(call->inputs[3]);
    if (!scale || !bias) return false;
    memset(to, 0, 2 * whole * sizeof *to);
    memcpy(to, cr_tensor_address(scale), bytes);
    memcpy(to + whole, cr_tensor_address(bias), bytes);
    l->scale = (const float *)(const void *)to;
    l->bias = to + whole;
    return true;
}

/* Where a tensor's bytes lie as [images][positions][channels]. */
static cr_tensor *in_rows(cr_tensor *t, bool is_image) { return is_image ? cr_channels_last(t) : cr_dense(t); }

CR_KERNEL(integer_layer) {
    const cr_integer_layer_options *o = call->attributes;
    cr_tensor *result = call->outputs[0], *residual = call->input_count > 4 ? call->inputs[4] : NULL;
    const bool is_image = o->weight.count == 4;
    cr_tensor *x = in_rows(call->inputs[0], is_image), *weight = cr_dense(call->inputs[1]);
    cr_tensor *y = in_rows(result, is_image); /* the result itself but in calls by name */
    if (residual) residual = in_rows(residual, is_image);
    if (!x || !weight || !y || (call->input_count > 4 && call->inputs[4] && !residual)) return false;
    if (result->numel == 0) return true;
    layer l = {.p = problem_of(call),
               .x = cr_tensor_address(x),
               .x_end = (const uint8_t *)cr_tensor_address(x) + x->numel,
               .residual = residual ? cr_tensor_address(residual) : NULL,
               .weight = cr_tensor_address(weight),
               .y = cr_tensor_address(y),
               .is_floating = o->is_floating,
               .is_bytes = o->way == CR_INTEGER_BYTES,
               .input_zero = (int16_t)o->input_zero,
               .output_zero = (int32_t)o->output_zero,
               .residual_zero = (int32_t)o->residual_zero,
               .residual_scale = (float)o->residual_scale,
               .multiply = best_product(),
               .gather = gather,
               .multiply_strip = wide_strip,
               .least = (uint8_t)o->least,
               .most = (float)(o->most - o->output_zero)};
    l.channels = l.p.groups * l.p.channels;
    l.features = o->weight.at[0];
    l.strips = (l.features + COLUMNS - 1) / COLUMNS;
    l.rows = l.p.batch * cr_product3(l.p.out);
    l.depth = cr_integer_depth(o->weight, (int)o->way);
    l.is_plain = l.depth == l.channels && cr_product3(l.p.stride) == 1 && l.p.padding[1] == 0 && l.p.padding[2] == 0;
    for (int i = 0; i < THREADS; i++)
        atomic_flag_clear(&l.taken[i]);
    const size_t bytes = (size_t)(l.strips * COLUMNS) * 2 * sizeof(int32_t);
    int32_t *numbers = cr_block_allocate(bytes);
    bool done = numbers && pad_numbers(&l, call, numbers);
    if (done && (l.p.groups > 1 || o->way == CR_INTEGER_EACH))
        done = run_depthwise(&l);
    else if (done && l.is_bytes)
        done = run_bytes(&l);
    else if (done)
        done = o->way == CR_INTEGER_WINOGRAD ? run_winograd(&l) : run_direct(&l);
    cr_block_free(numbers, bytes);
    return done && (y == result || cr_copy_(result, y));
}

/* ---------------------------------------------------------------- pools */
typedef struct pool {
    cr_pooling p;
    const uint8_t *x;
    uint8_t *y;
    bool is_mean;
    float scale, most;
    int32_t input_zero, output_zero;
} pool;

/* Channels c … c + count - 1 of the positions in a window. */
static inline vec_b pool_most(const pool *job, const uint8_t *image, cr_window wy, cr_window wx, int64_t c,
                              size_t count) {
    const cr_pooling *p = &job->p;
    vec_b most = {0};
    for (int64_t y = wy.begin; y < wy.end; y += p->dilation[1])
        for (int64_t x = wx.begin; x < wx.end; x += p->dilation[2]) {
            const uint8_t *from = image + (y * p->in[2] + x) * p->channels + c;
            vec_b bytes = {0};
            if (count == sizeof bytes)
                memcpy(&bytes, from, sizeof bytes);
            else
                memcpy(&bytes, from, count);
            most = vec_most(most, bytes);
        }
    return most;
}

static void pool_mean(const pool *job, const uint8_t *image, cr_window wy, cr_window wx, int64_t c, size_t count,
                      uint8_t *to) {
    const cr_pooling *p = &job->p;
    int32_t sums[4 * LANES] = {0}, taps = 0;
    for (int64_t y = wy.begin; y < wy.end; y += p->dilation[1])
        for (int64_t x = wx.begin; x < wx.end; x += p->dilation[2], taps++) {
            const uint8_t *from = image + (y * p->in[2] + x) * p->channels + c;
            for (size_t i = 0; i < count; i++)
                sums[i] += from[i];
        }
    vec_f v[4];
    for (int64_t i = 0; i < 4; i++)
        v[i] = __builtin_convertvector(vec_load(sums + i * LANES) - taps * job->input_zero, vec_f) * job->scale;
    const wide_u bytes[2] = {vec_quantize(v[0], v[1], job->most, job->output_zero, 0),
                             vec_quantize(v[2], v[3], job->most, job->output_zero, 0)};
    memcpy(to, bytes, count);
}

static void run_pool(void *context, int64_t begin, int64_t end) {
    const pool *job = context;
    const cr_pooling *p = &job->p;
    for (int64_t row = begin; row < end; row++) {
        const int64_t ox = row % p->out[2], oy = row / p->out[2] % p->out[1], which = row / (p->out[2] * p->out[1]);
        const cr_window wy = cr_pool_window(p, 1, oy), wx = cr_pool_window(p, 2, ox);
        const uint8_t *image = job->x + which * p->in[1] * p->in[2] * p->channels;
        for (int64_t c = 0; c < p->channels; c += 4 * LANES) {
            const size_t count = p->channels - c < 4 * LANES ? (size_t)(p->channels - c) : 4 * LANES;
            uint8_t *to = job->y + row * p->channels + c;
            if (job->is_mean) {
                pool_mean(job, image, wy, wx, c, count, to);
                continue;
            }
            const vec_b most = pool_most(job, image, wy, wx, c, count);
            memcpy(to, &most, count);
        }
    }
}

CR_KERNEL(integer_pool) {
    const cr_integer_pool_options *o = call->attributes;
    cr_tensor *result = call->outputs[0], *x = cr_channels_last(call->inputs[0]);
    cr_tensor *y = cr_channels_last(result);
    if (!x || !y) return false;
    if (result->numel == 0) return true;
    const cr_shape in = cr_tensor_shape(x), out = cr_tensor_shape(result);
    pool job = {.p = cr_pool_describe(in, out, 2, (const void *)o, NULL),
                .x = cr_tensor_address(x),
                .y = cr_tensor_address(y),
                .is_mean = o->is_mean,
                .scale = (float)o->scale,
                .most = (float)(255 - o->output_zero),
                .input_zero = (int32_t)o->input_zero,
                .output_zero = (int32_t)o->output_zero};
    const int64_t each = job.p.channels * cr_product3(job.p.kernel);
    cr_parallel_for(job.p.batch * cr_product3(job.p.out), CR_GRAIN_ELEMENTS / (each + 1), run_pool, &job);
    return y == result || cr_copy_(result, y);
}
