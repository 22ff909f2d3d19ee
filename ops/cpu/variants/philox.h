/* Philox blocks in bulk: as cr_philox_block, several counters at a time where the processor multiplies in lanes. */
#ifndef CRESSET_OPS_CPU_PHILOX_H
#define CRESSET_OPS_CPU_PHILOX_H

#include "core/random.h"

#include <string.h>

enum { PHILOX_GROUP = 8 };

#if defined(__AVX2__)
/* Four lanes of 64 bits, of which the low 32 are a word. */
typedef uint64_t philox_lanes __attribute__((vector_size(32)));
typedef int32_t philox_words __attribute__((vector_size(32)));

static inline philox_lanes philox_product(philox_lanes words, uint64_t factor) {
    const philox_lanes factors = {factor, factor, factor, factor};
    return (philox_lanes)__builtin_ia32_pmuludq256((philox_words)words, (philox_words)factors);
}

static inline void philox_group(cr_generator_state state, uint64_t first, uint32_t numbers[4 * PHILOX_GROUP]) {
    philox_lanes c0[2], c1[2], c2[2], c3[2];
    for (int v = 0; v < 2; v++) {
        const philox_lanes counters = (philox_lanes){0, 1, 2, 3} + (state.offset + first + 4 * (uint64_t)v);
        c0[v] = counters & 0xffffffffu;
        c1[v] = counters >> 32;
        c2[v] = c3[v] = (philox_lanes){0, 0, 0, 0};
    }
    uint64_t k0 = (uint32_t)state.seed, k1 = state.seed >> 32;
    for (int round = 0; round < 10; round++) {
        for (int v = 0; v < 2;
             v++) { /* above a word the lanes of c1 and c3 hold what the products leave: no one reads it */
            const philox_lanes product0 = philox_product(c0[v], 0xD2511F53u),
                               product1 = philox_product(c2[v], 0xCD9E8D57u);
            c0[v] = product1 >> 32 ^ c1[v] ^ k0;
            c2[v] = product0 >> 32 ^ c3[v] ^ k1;
            c1[v] = product1;
            c3[v] = product0;
        }
        k0 = (uint32_t)(k0 + 0x9E3779B9u);
        k1 = (uint32_t)(k1 + 0xBB67AE85u);
    }
    for (int v = 0; v < 2; v++) {
        const philox_lanes head = (c0[v] & 0xffffffffu) | c1[v] << 32, tail = (c2[v] & 0xffffffffu) | c3[v] << 32;
        for (int l = 0; l < 4; l++) {
            const uint64_t block[2] = {head[l], tail[l]};
            memcpy(numbers + 16 * v + 4 * l, block, sizeof block);
        }
    }
}
#else
static inline void philox_group(cr_generator_state state, uint64_t first, uint32_t numbers[4 * PHILOX_GROUP]) {
    for (int i = 0; i < PHILOX_GROUP; i++)
        cr_philox_block(state, first + (uint64_t)i, numbers + 4 * i);
}
#endif

/* `groups` groups of blocks from block `first` on: numbers[4 · PHILOX_GROUP · groups]. */
static inline void philox_fill(cr_generator_state state, uint64_t first, int64_t groups, uint32_t *numbers) {
    for (int64_t g = 0; g < groups; g++)
        philox_group(state, first + (uint64_t)g * PHILOX_GROUP, numbers + 4 * PHILOX_GROUP * g);
}

#endif
