/* The weighted random sampler: index i comes with a probability proportional to its weight. */
#include "data/sampler.h"

#include <math.h>
#include <stdlib.h>

typedef struct weighted_sampler {
    bool replacement;
    int64_t count, weight_count;
    double at[]; /* with replacement: running sums of the weights; without: the weights */
} weighted_sampler;

/* The first index whose running sum lies above a uniform draw. */
static bool draw_with_replacement(const weighted_sampler *sampler, cr_generator_state *random, cr_data_order *order) {
    const double total = sampler->at[sampler->weight_count - 1];
    for (int64_t i = 0; i < sampler->count; i++) {
        const double place = cr_data_random_uniform(random, 0, total);
        int64_t low = 0, high = sampler->weight_count - 1;
        while (low < high) {
            const int64_t middle = low + (high - low) / 2;
            if (sampler->at[middle] > place)
                high = middle;
            else
                low = middle + 1;
        }
        if (!cr_data_order_add(order, low)) return false;
    }
    return true;
}

typedef struct keyed_index {
    double key;
    int64_t index;
} keyed_index;

static int by_key(const void *a, const void *b) {
    const keyed_index *x = a, *y = b;
    if (x->key != y->key) return x->key < y->key ? -1 : 1;
    return x->index < y->index ? -1 : x->index > y->index;
}

/* Efraimidis and Spirakis, "Weighted random sampling with a reservoir", 2006: the smallest -log(u) / weight win. */
static bool draw_without_replacement(const weighted_sampler *sampler, cr_generator_state *random,
                                     cr_data_order *order) {
    keyed_index *keys = cr_malloc((size_t)sampler->weight_count * sizeof *keys);
    if (!keys) return false;
    for (int64_t i = 0; i < sampler->weight_count; i++) {
        const double uniform = 1.0 - cr_data_random_uniform(random, 0, 1); /* (0, 1] */
        keys[i] = (keyed_index){sampler->at[i] > 0 ? -log(uniform) / sampler->at[i] : INFINITY, i};
    }
    qsort(keys, (size_t)sampler->weight_count, sizeof *keys, by_key);
    bool done = true;
    for (int64_t i = 0; i < sampler->count && done; i++)
        done = cr_data_order_add(order, keys[i].index);
    cr_free(keys);
    return done;
}

static bool weighted_write(void *self, int64_t length, uint64_t seed, int64_t epoch, cr_data_order *order) {
    const weighted_sampler *sampler = self;
    cr_generator_state random = cr_data_order_random(seed, epoch);
    if (sampler->weight_count != length)
        return cr_fail(CR_ERROR_SHAPE, "weighted_random_sampler: %lld weights for a dataset of %lld samples",
                       (long long)sampler->weight_count, (long long)length);
    return sampler->replacement ? draw_with_replacement(sampler, &random, order)
                                : draw_without_replacement(sampler, &random, order);
}

static bool check_weights(const double *weights, int64_t weight_count, int64_t count, bool replacement) {
    if (!weights || weight_count < 1 || count < 1)
        return cr_fail(CR_ERROR_ARGUMENT,
                       "weighted_random_sampler: %lld weights and %lld draws; at least 1 of each is needed",
                       (long long)weight_count, (long long)count);
    int64_t positive = 0;
    for (int64_t i = 0; i < weight_count; i++) {
        if (!(weights[i] >= 0) || isinf(weights[i]))
            return cr_fail(CR_ERROR_ARGUMENT,
                           "weighted_random_sampler: weight %lld is %g; finite ones of at least 0 are needed",
                           (long long)i, weights[i]);
        if (weights[i] > 0) positive++;
    }
    if (positive == 0 || (!replacement && count > positive))
        return cr_fail(CR_ERROR_ARGUMENT, "weighted_random_sampler: %lld draws, but %lld weights are above 0",
                       (long long)count, (long long)positive);
    return true;
}

cr_data_sampler *cr_data_weighted_random_sampler(const double *weights, int64_t weight_count, int64_t count,
                                                 bool replacement) {
    static const cr_data_sampler_table table = {"weighted_random_sampler", weighted_write, cr_free};
    if (!check_weights(weights, weight_count, count, replacement)) return NULL;
    weighted_sampler *self = cr_malloc(sizeof *self + (size_t)weight_count * sizeof self->at[0]);
    if (!self) return NULL;
    self->replacement = replacement;
    self->count = count;
    self->weight_count = weight_count;
    double sum = 0;
    for (int64_t i = 0; i < weight_count; i++) {
        sum += weights[i];
        self->at[i] = replacement ? sum : weights[i];
    }
    return cr_data_sampler_new(&table, self);
}
