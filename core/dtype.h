/* Conversions between f16, bf16 and f32, shared by printing, files and kernels. */
#ifndef CRESSET_CORE_DTYPE_H
#define CRESSET_CORE_DTYPE_H

#include <cresset/core.h>
#include <string.h>

static inline uint32_t cr_bits_of_float(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
static inline float cr_float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* bf16 is the upper half of an f32; rounding is to nearest, ties to even; NaN stays NaN. */
static inline float cr_bf16_to_f32(uint16_t half) { return cr_float_of_bits((uint32_t)half << 16); }
static inline uint16_t cr_f32_to_bf16(float value) {
    uint32_t bits = cr_bits_of_float(value);
    uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    return (uint16_t)((bits & 0x7fffffffu) > 0x7f800000u ? (bits >> 16) | 0x40u : rounded);
}

/* IEEE binary16, branch-free: a denormal half is scaled through a float multiplication. */
static inline float cr_f16_to_f32(uint16_t half) {
    const uint32_t magnitude = (uint32_t)(half & 0x7fffu) << 13;
    const float scaled = cr_float_of_bits(magnitude) * 0x1p112f; /* rebias the exponent: 127 - 15 */
    const uint32_t special = (half & 0x7c00u) == 0x7c00u ? 0x7f800000u | magnitude : cr_bits_of_float(scaled);
    return cr_float_of_bits(special | (uint32_t)(half & 0x8000u) << 16);
}
static inline uint16_t cr_f32_to_f16(float value) {
    const uint32_t bits = cr_bits_of_float(value), sign = (bits >> 16) & 0x8000u, magnitude = bits & 0x7fffffffu;
    /* normal halves: rebias, round to nearest even; denormal ones: let a float addition do the rounding */
    const uint32_t normal = (magnitude - 0x38000000u + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
    const uint32_t denormal = cr_bits_of_float(cr_float_of_bits(magnitude) + 0.5f) - 0x3f000000u;
    uint32_t half = magnitude < 0x38800000u ? denormal : normal;
    half = magnitude >= 0x47800000u ? 0x7c00u : half; /* 65536 and above; normal rounds 65520 … up itself */
    half = magnitude > 0x7f800000u ? 0x7e00u : half;
    return (uint16_t)(half | sign);
}

/* The largest number of a floating dtype below `high`, or `low` where there is none between: what a uniform draw is at
 * most. */
double cr_largest_below(cr_dtype dtype, double low, double high);

#endif
