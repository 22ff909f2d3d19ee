/* The order of an epoch, as samplers write it and the loader reads it. */
#ifndef CRESSET_DATA_SAMPLER_H
#define CRESSET_DATA_SAMPLER_H

#include <cresset/data.h>

struct cr_data_order {
    int64_t *indices;
    int64_t count, capacity;
    int64_t *ends; /* where each batch ends in `indices`; none: the loader cuts the batches */
    int64_t batches, batch_capacity;
};

void cr_data_order_clear(cr_data_order *order); /* frees what it holds */
/* Cuts the indices into batches. */
bool cr_data_order_cut(cr_data_order *order, int64_t batch_size, bool drop_last);
/* Writes an epoch's order and checks every index against the dataset's length. */
bool cr_data_sampler_write(cr_data_sampler *sampler, int64_t dataset_length, uint64_t seed, int64_t epoch,
                           cr_data_order *order);

/* The stream of an epoch's order. */
static inline cr_generator_state cr_data_order_random(uint64_t seed, int64_t epoch) {
    return cr_data_random_for(seed, epoch, -1);
}
/* Fisher and Yates: a uniformly random order of `indices`. */
void cr_data_shuffle(cr_generator_state *random, int64_t *indices, int64_t count);

#endif
