/* Random numbers: tiles of Philox bits, turned into numbers by ops/random.h. Element i takes number i of the drawn
 * blocks: four 32-bit numbers to a block, or two of 64 bits. */
#include "core/dtype.h"
#include "core/parallel.h"
#include "ops/cpu/variants/philox.h"
#include "ops/cpu/variants/tile.h"
#include "ops/random.h"

#include <float.h>

typedef struct draw draw;
struct draw {
    /* `count` values from random numbers; the tile starts at element `start`. False on a bad operand. */
    bool (*fill)(const draw *job, const uint32_t *numbers, int64_t start, int64_t count, void *values);
    cr_generator_state state;
    cr_compute compute; /* of the values; CR_COMPUTE_COUNT: bool */
    int per_block;      /* elements that a block makes */
    double a, b;        /* low and width, mean and std, or p */
    double most;        /* the largest value below `high` */
    int64_t low;
    uint64_t range;
    cr_iteration iteration;
    atomic_bool failed;
};

/* ---------------------------------------------------------------- transforms */
static bool fill_uniform_f32(const draw *job, const uint32_t *numbers, int64_t start, int64_t count, void *values) {
    const cr_dtype dtype = job->iteration.operands[0].dtype;
    const uint32_t dropped = dtype == CR_F16 ? 21 : dtype == CR_BF16 ? 24 : 8; /* as many bits as the dtype holds */
    const float unit = dtype == CR_F16 ? 0x1p-11f : dtype == CR_BF16 ? 0x1p-8f : 0x1p-24f;
    const float low = (float)job->a, width = (float)job->b, most = (float)job->most;
    float *const out = values;
    (void)start;
    for (int64_t i = 0; i < count; i++) {
        const float x = low + (float)(int32_t)(numbers[i] >> dropped) * unit * width;
        out[i] = x < most ? x : most;
    }
    return true;
}
static bool fill_uniform_f64(const draw *job, const uint32_t *numbers, int64_t start, int64_t count, void *values) {
    double *const out = values;
    (void)start;
    for (int64_t i = 0; i < count; i++) {
        const double x = job->a + cr_uniform_f64(numbers[2 * i], numbers[2 * i + 1]) * job->b;
        out[i] = x < job->most ? x : job->most;
    }
    return true;
}

/* Pairs; one of an odd count's last pair goes unused. */
static bool fill_normal_f32(const draw *job, const uint32_t *numbers, int64_t start, int64_t count, void *values) {
    const float mean = (float)job->a, std = (float)job->b;
    float *const out = values, x, y;
    (void)start;
    for (int64_t i = 0; i < count / 2; i++) {
        cr_normal_pair_f32(numbers[2 * i], numbers[2 * i + 1], &x, &y);
        out[2 * i] = mean + std * x;
        out[2 * i + 1] = mean + std * y;
    }
    if (count % 2) {
        cr_normal_pair_f32(numbers[count - 1], numbers[count], &x, &y);
        out[count - 1] = mean + std * x;
    }
    return true;
}
static uint64_t bits_64(const uint32_t *numbers, int64_t i) {
    return (uint64_t)numbers[2 * i] << 32 | numbers[2 * i + 1];
}
static bool fill_normal_f64(const draw *job, const uint32_t *numbers, int64_t start, int64_t count, void *values) {
    double *const out = values, x, y;
    (void)start;
    for (int64_t i = 0; i < count; i += 2) {
        cr_normal_pair_f64(bits_64(numbers, i), bits_64(numbers, i + 1), &x, &y);
        out[i] = job->a + job->b * x;
        if (i + 1 < count) out[i + 1] = job->a + job->b * y;
    }
    return true;
}

static bool fill_randint(const draw *job, const uint32_t *numbers, int64_t start, int64_t count, void *values) {
    int64_t *const out = values;
    (void)start;
    for (int64_t i = 0; i < count; i++)
        out[i] = (int64_t)((uint64_t)job->low + cr_random_below(bits_64(numbers, i), job->range));
    return true;
}

static bool fill_bernoulli(const draw *job, const uint32_t *numbers, int64_t start, int64_t count, void *values) {
    uint8_t *const out = values;
    (void)start;
    const uint32_t bound =
        job->a >= 1 ? UINT32_MAX : (uint32_t)(job->a * 0x1p32); /* number < bound; at p = 1 also the last */
    const bool always = job->a >= 1;
    for (int64_t i = 0; i < count; i++)
        out[i] = (numbers[i] < bound) | always;
    return true;
}
static bool fill_bernoulli_each(const draw *job, const uint32_t *numbers, int64_t start, int64_t count, void *values) {
    _Alignas(64) double buffer[CR_TILE];
    const double *p = cr_tile_load(&job->iteration, 1, start, count, CR_COMPUTE_F64, buffer);
    uint8_t *const out = values;
    bool good = true;
    for (int64_t i = 0; i < count; i++) {
        good &= (p[i] >= 0) & (p[i] <= 1);
        out[i] = (double)numbers[i] < p[i] * 0x1p32;
    }
    return good;
}

/* ---------------------------------------------------------------- the driver */
static void draw_tiles(void *context, int64_t begin, int64_t end) {
    draw *job = context;
    _Alignas(64) uint32_t numbers[2 * CR_TILE];
    _Alignas(64) char buffer[CR_TILE * 8];
    const int blocks = CR_TILE / job->per_block;
    for (int64_t tile = begin; tile < end; tile++) {
        const int64_t start = tile * CR_TILE, rest = job->iteration.numel - start,
                      count = rest < CR_TILE ? rest : CR_TILE;
        const int64_t needed = (count + job->per_block - 1) / job->per_block;
        philox_fill(job->state, (uint64_t)(tile * blocks), (needed + PHILOX_GROUP - 1) / PHILOX_GROUP, numbers);
        void *values = cr_tile_target(&job->iteration, 0, start, count, job->compute, buffer);
        if (!job->fill(job, numbers, start, count, values)) atomic_store(&job->failed, true);
        cr_tile_store(&job->iteration, 0, start, count, job->compute, values, buffer);
    }
}

/* Fills the output, by way of dense memory where it is strided: numbers follow the row-major order of elements. */
static bool run_draw(cr_call *call, draw *job, cr_generator *generator) {
    cr_tensor *out = call->outputs[0];
    if (out->numel == 0) return true;
    cr_tensor *dense = cr_is_contiguous(out) ? out : cr_empty((cr_dtype)out->dtype, cr_tensor_shape(out), CR_CPU);
    cr_tensor *operand = dense && call->input_count && call->inputs[0] ? cr_contiguous(call->inputs[0]) : NULL;
    if (!dense || (call->input_count && call->inputs[0] && !operand)) return false;
    cr_iteration_begin(&job->iteration, dense);
    if (operand) cr_iteration_add(&job->iteration, operand);
    cr_iteration_merge(&job->iteration);
    const uint64_t per_block = (uint64_t)job->per_block;
    job->state = cr_generator_reserve(generator, ((uint64_t)out->numel + per_block - 1) / per_block);
    cr_parallel_for((out->numel + CR_TILE - 1) / CR_TILE, CR_GRAIN_ELEMENTS / CR_TILE / 2, draw_tiles, job);
    if (atomic_load(&job->failed)) return cr_fail_call(call, CR_ERROR_ARGUMENT, "a probability is not within 0 to 1");
    return dense == out || cr_copy_(out, dense) != NULL;
}

CR_KERNEL(uniform) {
    const cr_uniform_options *o = call->attributes;
    const cr_dtype dtype = (cr_dtype)call->outputs[0]->dtype;
    draw job = {.fill = dtype == CR_F64 ? fill_uniform_f64 : fill_uniform_f32,
                .compute = cr_compute_of(dtype),
                .per_block = dtype == CR_F64 ? 2 : 4,
                .a = o->low,
                .b = o->high - o->low,
                .most = cr_largest_below(dtype, o->low, o->high)};
    return run_draw(call, &job, o->generator);
}

CR_KERNEL(normal) {
    const cr_normal_options *o = call->attributes;
    const cr_dtype dtype = (cr_dtype)call->outputs[0]->dtype;
    draw job = {.fill = dtype == CR_F64 ? fill_normal_f64 : fill_normal_f32,
                .compute = cr_compute_of(dtype),
                .per_block = dtype == CR_F64 ? 2 : 4,
                .a = o->mean,
                .b = o->std};
    return run_draw(call, &job, o->generator);
}

CR_KERNEL(randint) {
    const cr_randint_options *o = call->attributes;
    draw job = {.fill = fill_randint,
                .compute = CR_COMPUTE_I64,
                .per_block = 2,
                .low = o->low,
                .range = (uint64_t)o->high - (uint64_t)o->low};
    return run_draw(call, &job, o->generator);
}

CR_KERNEL(bernoulli) {
    const cr_bernoulli_options *o = call->attributes;
    const bool each = call->input_count && call->inputs[0];
    draw job = {
        .fill = each ? fill_bernoulli_each : fill_bernoulli, .compute = CR_COMPUTE_COUNT, .per_block = 4, .a = o->p};
    return run_draw(call, &job, o->generator);
}
