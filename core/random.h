/* The Philox 4x32-10 block function, inline for kernels. */
#ifndef CRESSET_CORE_RANDOM_H
#define CRESSET_CORE_RANDOM_H

#include <cresset/core.h>

/* Key = seed, counter = offset + block: ten rounds of two 32 x 32 -> 64 bit products. */
static inline void cr_philox_block(cr_generator_state state, uint64_t block, uint32_t numbers[4]) {
    const uint64_t counter = state.offset + block;
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = 0, c3 = 0;
    uint32_t k0 = (uint32_t)state.seed, k1 = (uint32_t)(state.seed >> 32);
    for (int round = 0; round < 10; round++) {
        const uint64_t product0 = (uint64_t)0xD2511F53u * c0, product1 = (uint64_t)0xCD9E8D57u * c2;
        const uint32_t n0 = (uint32_t)(product1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(product0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)product1;
        c3 = (uint32_t)product0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u; /* golden ratio */
        k1 += 0xBB67AE85u; /* sqrt(3) - 1 */
    }
    numbers[0] = c0;
    numbers[1] = c1;
    numbers[2] = c2;
    numbers[3] = c3;
}

/* 24 bits to [0, 1). */
static inline float cr_uniform_f32(uint32_t bits) { return (float)(bits >> 8) * 0x1p-24f; }
/* 53 bits to [0, 1). */
static inline double cr_uniform_f64(uint32_t high, uint32_t low) {
    return (double)((((uint64_t)high << 32) | low) >> 11) * 0x1p-53;
}

#endif
