/* Samplers: the order of an epoch, written as a function of (seed, epoch). */
#include "data/sampler.h"

#include <string.h>

struct cr_data_sampler {
    const cr_data_sampler_table *table;
    void *self;
};

/* ---------------------------------------------------------------- the order */
/* Makes room for one more entry. */
static bool reserve(int64_t **list, int64_t count, int64_t *capacity) {
    if (count < *capacity) return true;
    const int64_t larger = *capacity ? *capacity * 2 : 256;
    int64_t *grown = cr_realloc(*list, (size_t)larger * sizeof **list);
    if (!grown) return false;
    *list = grown;
    *capacity = larger;
    return true;
}

bool cr_data_order_add(cr_data_order *order, int64_t index) {
    if (!order) return cr_fail(CR_ERROR_ARGUMENT, "order_add: NULL order");
    if (!reserve(&order->indices, order->count, &order->capacity)) return false;
    order->indices[order->count++] = index;
    return true;
}

bool cr_data_order_end_batch(cr_data_order *order) {
    if (!order) return cr_fail(CR_ERROR_ARGUMENT, "order_end_batch: NULL order");
    if (order->count == (order->batches ? order->ends[order->batches - 1] : 0)) return true; /* no empty batches */
    if (!reserve(&order->ends, order->batches, &order->batch_capacity)) return false;
    order->ends[order->batches++] = order->count;
    return true;
}

void cr_data_order_clear(cr_data_order *order) {
    cr_free(order->indices);
    cr_free(order->ends);
    *order = (cr_data_order){0};
}

bool cr_data_order_cut(cr_data_order *order, int64_t batch_size, bool drop_last) {
    const int64_t count = order->count;
    order->batches = 0;
    for (int64_t begin = 0; begin < count; begin += batch_size) {
        const bool is_whole = count - begin >= batch_size;
        if (!is_whole && drop_last) break;
        order->count = is_whole ? begin + batch_size : count;
        if (!cr_data_order_end_batch(order)) return false;
    }
    order->count = order->batches ? order->ends[order->batches - 1] : 0;
    return true;
}

/* Adds a permutation's first `count` indices; past the length another permutation follows. */
static bool add_permutations(cr_data_order *order, cr_generator_state *random, int64_t length, int64_t count) {
    while (count > 0) {
        const int64_t begin = order->count;
        for (int64_t i = 0; i < length; i++)
            if (!cr_data_order_add(order, i)) return false;
        cr_data_shuffle(random, order->indices + begin, length);
        if (count < length) order->count = begin + count;
        count -= length;
    }
    return true;
}

/* ---------------------------------------------------------------- the handle */
cr_data_sampler *cr_data_sampler_new(const cr_data_sampler_table *table, void *self) {
    cr_data_sampler *sampler = NULL;
    if (!table || !table->write)
        cr_record_error(CR_ERROR_ARGUMENT, "sampler: a table with write is needed");
    else
        sampler = cr_malloc(sizeof *sampler);
    if (sampler)
        *sampler = (cr_data_sampler){table, self};
    else if (table && table->free)
        table->free(self);
    return sampler;
}

void cr_data_sampler_free(cr_data_sampler *sampler) {
    if (!sampler) return;
    if (sampler->table->free) sampler->table->free(sampler->self);
    cr_free(sampler);
}

bool cr_data_sampler_write(cr_data_sampler *sampler, int64_t dataset_length, uint64_t seed, int64_t epoch,
                           cr_data_order *order) {
    const char *name = sampler->table->name ? sampler->table->name : "sampler";
    if (!sampler->table->write(sampler->self, dataset_length, seed, epoch, order))
        return cr_ok() ? cr_fail(CR_ERROR_STATE, "%s: failed without saying why", name) : false;
    for (int64_t i = 0; i < order->count; i++)
        if (order->indices[i] < 0 || order->indices[i] >= dataset_length)
            return cr_fail(CR_ERROR_INDEX, "%s: index %lld; the dataset has %lld samples", name,
                           (long long)order->indices[i], (long long)dataset_length);
    return true;
}

int64_t cr_data_sampler_indices(cr_data_sampler *sampler, int64_t dataset_length, uint64_t seed, int64_t epoch,
                                int64_t **indices) {
    cr_data_order order = {0};
    if (!sampler || !indices) {
        cr_record_error(CR_ERROR_ARGUMENT, "sampler: a sampler and room for its indices are needed");
        return -1;
    }
    *indices = NULL;
    if (!cr_data_sampler_write(sampler, dataset_length, seed, epoch, &order)) {
        cr_data_order_clear(&order);
        return -1;
    }
    *indices = order.indices;
    order.indices = NULL;
    const int64_t count = order.count;
    cr_data_order_clear(&order);
    return count;
}

/* ---------------------------------------------------------------- sequential */
static bool sequential_write(void *self, int64_t length, uint64_t seed, int64_t epoch, cr_data_order *order) {
    (void)self, (void)seed, (void)epoch;
    for (int64_t i = 0; i < length; i++)
        if (!cr_data_order_add(order, i)) return false;
    return true;
}
cr_data_sampler *cr_data_sequential_sampler(void) {
    static const cr_data_sampler_table table = {"sequential_sampler", sequential_write, NULL};
    return cr_data_sampler_new(&table, NULL);
}

/* ---------------------------------------------------------------- random */
typedef struct random_sampler {
    bool replacement;
    int64_t count;
} random_sampler;

static bool random_write(void *self, int64_t length, uint64_t seed, int64_t epoch, cr_data_order *order) {
    const random_sampler *sampler = self;
    const int64_t count = sampler->count > 0 ? sampler->count : length;
    cr_generator_state random = cr_data_order_random(seed, epoch);
    if (length <= 0) return true;
    if (!sampler->replacement) return add_permutations(order, &random, length, count);
    for (int64_t i = 0; i < count; i++)
        if (!cr_data_order_add(order, cr_data_random_integer(&random, 0, length))) return false;
    return true;
}
cr_data_sampler *cr_data_random_sampler(bool replacement, int64_t count) {
    static const cr_data_sampler_table table = {"random_sampler", random_write, cr_free};
    random_sampler *self = cr_malloc(sizeof *self);
    if (!self) return NULL;
    *self = (random_sampler){replacement, count};
    return cr_data_sampler_new(&table, self);
}

/* ---------------------------------------------------------------- random subset */
typedef struct index_list {
    int64_t count;
    int64_t at[];
} index_list;

static bool subset_write(void *self, int64_t length, uint64_t seed, int64_t epoch, cr_data_order *order) {
    (void)length;
    const index_list *list = self;
    cr_generator_state random = cr_data_order_random(seed, epoch);
    for (int64_t i = 0; i < list->count; i++)
        if (!cr_data_order_add(order, list->at[i])) return false;
    cr_data_shuffle(&random, order->indices, order->count);
    return true;
}
cr_data_sampler *cr_data_subset_random_sampler(const int64_t *indices, int64_t count) {
    static const cr_data_sampler_table table = {"subset_random_sampler", subset_write, cr_free};
    if (count < 0 || (count > 0 && !indices)) {
        cr_record_error(CR_ERROR_ARGUMENT, "subset_random_sampler: %lld indices at %p", (long long)count,
                        (const void *)indices);
        return NULL;
    }
    index_list *self = cr_malloc(sizeof *self + (size_t)count * sizeof self->at[0]);
    if (!self) return NULL;
    self->count = count;
    if (count) memcpy(self->at, indices, (size_t)count * sizeof self->at[0]);
    return cr_data_sampler_new(&table, self);
}

/* ---------------------------------------------------------------- batches of another sampler */
typedef struct batch_sampler {
    cr_data_sampler *inner;
    int64_t batch_size;
    bool drop_last;
} batch_sampler;

static bool batch_write(void *self, int64_t length, uint64_t seed, int64_t epoch, cr_data_order *order) {
    const batch_sampler *sampler = self;
    return cr_data_sampler_write(sampler->inner, length, seed, epoch, order) &&
           cr_data_order_cut(order, sampler->batch_size, sampler->drop_last);
}
static void batch_free(void *self) {
    cr_data_sampler_free(((batch_sampler *)self)->inner);
    cr_free(self);
}
cr_data_sampler *cr_data_batch_sampler(cr_data_sampler *sampler, int64_t batch_size, bool drop_last) {
    static const cr_data_sampler_table table = {"batch_sampler", batch_write, batch_free};
    batch_sampler *self = NULL;
    if (!sampler || batch_size < 1)
        cr_record_error(CR_ERROR_ARGUMENT,
                        "batch_sampler: a sampler and a batch size of at least 1 are needed, got %p and %lld",
                        (void *)sampler, (long long)batch_size);
    else
        self = cr_malloc(sizeof *self);
    if (!self) {
        cr_data_sampler_free(sampler);
        return NULL;
    }
    *self = (batch_sampler){sampler, batch_size, drop_last};
    return cr_data_sampler_new(&table, self);
}

/* ---------------------------------------------------------------- distributed */
typedef struct distributed_sampler {
    int replicas, rank;
    bool shuffle, drop_last;
} distributed_sampler;

static bool distributed_write(void *self, int64_t length, uint64_t seed, int64_t epoch, cr_data_order *order) {
    const distributed_sampler *sampler = self;
    if (length <= 0) return true;
    cr_data_order all = {0};
    cr_generator_state random = cr_data_order_random(seed, epoch);
    bool done = sampler->shuffle ? add_permutations(&all, &random, length, length)
                                 : sequential_write(NULL, length, seed, epoch, &all);
    const int64_t replicas = sampler->replicas;
    const int64_t count = sampler->drop_last ? length / replicas : (length + replicas - 1) / replicas;
    for (int64_t i = 0; i < count && done; i++)
        done = cr_data_order_add(order, all.indices[(sampler->rank + i * replicas) % length]);
    cr_data_order_clear(&all);
    return done;
}
cr_data_sampler *cr_data_distributed_sampler(int replicas, int rank, bool shuffle, bool drop_last) {
    static const cr_data_sampler_table table = {"distributed_sampler", distributed_write, cr_free};
    if (replicas < 1 || rank < 0 || rank >= replicas) {
        cr_record_error(CR_ERROR_ARGUMENT, "distributed_sampler: rank %d of %d replicas", rank, replicas);
        return NULL;
    }
    distributed_sampler *self = cr_malloc(sizeof *self);
    if (!self) return NULL;
    *self = (distributed_sampler){replicas, rank, shuffle, drop_last};
    return cr_data_sampler_new(&table, self);
}
