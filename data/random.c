/* Random numbers of a sample and of an epoch's order: streams of Philox named by (seed, epoch, index). */
#include "core/random.h"
#include "data/sampler.h"

#include <string.h>

cr_generator_state cr_data_random_for(uint64_t seed, int64_t epoch, int64_t index) {
    const cr_generator_state key = {seed, (uint64_t)epoch << 40}; /* 2^40 samples an epoch before streams meet */
    uint32_t numbers[4];
    cr_philox_block(key, (uint64_t)index, numbers);
    return (cr_generator_state){(uint64_t)numbers[0] << 32 | numbers[1], 0};
}

static void draw(cr_generator_state *random, uint32_t numbers[4]) {
    if (!random) {
        cr_record_error(CR_ERROR_ARGUMENT, "data_random: NULL stream of numbers");
        memset(numbers, 0, 4 * sizeof *numbers);
        return;
    }
    cr_philox_block(*random, 0, numbers);
    random->offset++;
}

double cr_data_random_uniform(cr_generator_state *random, double low, double high) {
    uint32_t numbers[4];
    draw(random, numbers);
    return low + (high - low) * cr_uniform_f64(numbers[0], numbers[1]);
}

int64_t cr_data_random_integer(cr_generator_state *random, int64_t low, int64_t high) {
    uint32_t numbers[4];
    draw(random, numbers);
    if (high <= low) return low;
    const uint64_t range = (uint64_t)high - (uint64_t)low, bits = (uint64_t)numbers[0] << 32 | numbers[1];
    return low + (int64_t)(uint64_t)(((unsigned __int128)bits * range) >> 64);
}

void cr_data_shuffle(cr_generator_state *random, int64_t *indices, int64_t count) {
    for (int64_t i = count - 1; i > 0; i--) {
        const int64_t other = cr_data_random_integer(random, 0, i + 1), index = indices[i];
        indices[i] = indices[other];
        indices[other] = index;
    }
}
