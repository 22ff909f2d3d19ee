/* multinomial: rows of weights are few and short beside what is drawn with rand and randn; plain loops do. */
#include "core/random.h"
#include "ops/cpu/variant.h"
#include "ops/random.h"

/* Weights are finite, 0 or more, and enough of them are not 0. Leaves the running sums in `sums` where it is not
 * NULL. */
static bool read_row(const cr_call *call, const double *weights, int64_t categories, int64_t needed, double *sums) {
    double sum = 0;
    int64_t positive = 0;
    for (int64_t i = 0; i < categories; i++) {
        if (!(weights[i] >= 0 && weights[i] < INFINITY))
            return cr_fail_call(call, CR_ERROR_ARGUMENT, "weight %lld is %g; weights are finite and 0 or more",
                                (long long)i, weights[i]);
        positive += weights[i] > 0;
        sum += weights[i];
        if (sums) sums[i] = sum;
    }
    if (positive >= needed && sum < INFINITY) return true;
    return cr_fail_call(call, CR_ERROR_ARGUMENT, "%lld weights are above 0, %lld are needed (and a finite sum)",
                        (long long)positive, (long long)needed);
}

/* The first category whose running sum exceeds `target`; the last with any weight where rounding left none. */
static int64_t find_category(const double *sums, int64_t categories, double target) {
    int64_t low = 0, high = categories - 1;
    if (!(target < sums[high])) target = nextafter(sums[high], 0);
    while (low < high) {
        const int64_t middle = low + (high - low) / 2;
        if (sums[middle] > target)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

static bool draw_with_replacement(cr_call *call, const cr_tensor *weights, cr_generator *generator) {
    const cr_tensor *out = call->outputs[0];
    const int64_t categories = weights->sizes[weights->ndim - 1], rows = weights->numel / categories;
    const int64_t count = out->sizes[out->ndim - 1];
    const cr_tensor *running = cr_empty(CR_F64, CR_SHAPE(categories), CR_CPU);
    if (!running) return false;
    double *sums = cr_tensor_address(running);
    int64_t *to = cr_tensor_address(out);
    const cr_generator_state state = cr_generator_reserve(generator, (uint64_t)(rows * count));
    for (int64_t r = 0; r < rows; r++) {
        if (!read_row(call, (const double *)cr_tensor_address(weights) + r * categories, categories, 1, sums))
            return false;
        for (int64_t i = 0; i < count; i++) {
            uint32_t numbers[4];
            cr_philox_block(state, (uint64_t)(r * count + i), numbers);
            to[r * count + i] =
                find_category(sums, categories, cr_uniform_f64(numbers[0], numbers[1]) * sums[categories - 1]);
        }
    }
    return true;
}

/* Each category waits an exponential time of rate weight; the first `count` to come are the draw, in their order. */
static bool draw_without_replacement(cr_call *call, const cr_tensor *weights, cr_generator *generator) {
    const cr_tensor *out = call->outputs[0];
    const int64_t categories = weights->sizes[weights->ndim - 1], rows = weights->numel / categories;
    const int64_t count = out->sizes[out->ndim - 1];
    cr_tensor *times = cr_empty(CR_F64, cr_tensor_shape(weights), CR_CPU), *first = NULL;
    if (!times) return false;
    double *time = cr_tensor_address(times);
    const double *weight = cr_tensor_address(weights);
    const cr_generator_state state = cr_generator_reserve(generator, (uint64_t)(rows * categories));
    for (int64_t r = 0; r < rows; r++)
        if (!read_row(call, weight + r * categories, categories, count, NULL)) return false;
    for (int64_t i = 0; i < weights->numel; i++) {
        uint32_t numbers[4];
        cr_philox_block(state, (uint64_t)i, numbers);
        const double wait = -cr_random_log_f64(cr_random_unit_f64((uint64_t)numbers[0] << 32 | numbers[1]));
        time[i] = weight[i] > 0 ? wait / weight[i] : NAN; /* NaN sorts last, behind an infinite quotient */
    }
    return cr_topk(times, count, -1, false, &first) && cr_copy_(call->outputs[0], first);
}

CR_KERNEL(multinomial) {
    const cr_multinomial_options *o = call->attributes;
    cr_tensor *weights = cr_contiguous(cr_cast(call->inputs[0], CR_F64));
    if (!weights) return false;
    return o->replacement ? draw_with_replacement(call, weights, o->generator)
                          : draw_without_replacement(call, weights, o->generator);
}
