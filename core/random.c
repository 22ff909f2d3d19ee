/* Philox 4x32-10 and generators.
 * Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011. */
#include "core/random.h"
#include "core/allocator.h"

#include <pthread.h>

struct cr_generator {
    pthread_mutex_t lock;
    cr_generator_state state;
};

static cr_generator default_generator = {PTHREAD_MUTEX_INITIALIZER, {0x5eedc0de, 0}};

static cr_generator *or_default(const cr_generator *generator) {
    return generator ? (cr_generator *)(uintptr_t)generator : &default_generator;
}

cr_generator *cr_generator_default(void) { return &default_generator; }

cr_generator *cr_generator_new(uint64_t seed) {
    cr_generator *generator = cr_block_allocate(sizeof *generator);
    if (!generator) return NULL;
    pthread_mutex_init(&generator->lock, NULL);
    generator->state = (cr_generator_state){seed, 0};
    return generator;
}

void cr_generator_free(cr_generator *generator) {
    if (!generator || generator == &default_generator) return;
    pthread_mutex_destroy(&generator->lock);
    cr_block_free(generator, sizeof *generator);
}

cr_generator_state cr_generator_get_state(const cr_generator *generator) {
    cr_generator *g = or_default(generator);
    pthread_mutex_lock(&g->lock);
    const cr_generator_state state = g->state;
    pthread_mutex_unlock(&g->lock);
    return state;
}

void cr_generator_set_state(cr_generator *generator, cr_generator_state state) {
    cr_generator *g = or_default(generator);
    pthread_mutex_lock(&g->lock);
    g->state = state;
    pthread_mutex_unlock(&g->lock);
}

void cr_manual_seed(uint64_t seed) { cr_generator_set_state(NULL, (cr_generator_state){seed, 0}); }

cr_generator_state cr_generator_reserve(cr_generator *generator, uint64_t blocks) {
    cr_generator *g = or_default(generator);
    pthread_mutex_lock(&g->lock);
    const cr_generator_state state = g->state;
    g->state.offset += blocks;
    pthread_mutex_unlock(&g->lock);
    return state;
}

void cr_philox(cr_generator_state state, uint64_t block, uint32_t numbers[4]) {
    if (numbers) cr_philox_block(state, block, numbers);
}
