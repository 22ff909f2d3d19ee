/* From random bits to numbers: the transforms that every device shares. Only +, ·, /, sqrt and integers, and no fused
 * multiply-add, so that every CPU gives the same bits. Branch-free, so that loops over them vectorise.
 * Polynomials follow Cephes (Moshier, "Methods and Programs for Mathematical Functions", 1989). */
#ifndef CRESSET_OPS_RANDOM_H
#define CRESSET_OPS_RANDOM_H

#include "ops/math.h"

/* ---------------------------------------------------------------- f32 */
/* log(u) for u in [2^-32, 1], normal numbers only: e · ln2 + log(1 + m) with 1 + m in [sqrt(1/2), sqrt(2)). */
CR_MATH float cr_random_log_f32(float u) {
    const uint32_t shifted = cr_bits_from_f32(u) - 0x3f3504f3u; /* sqrt(1/2) */
    const float e = (float)((int32_t)shifted >> 23);
    const float m = cr_bits_to_f32((shifted & 0x007fffffu) + 0x3f3504f3u) - 1.0f, z = m * m;
    float p = 7.0376836292e-2f;
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    const float y = p * m * z - e * 2.12194440e-4f - 0.5f * z;
    return m + y + e * 0.693359375f;
}

/* Two independent standard normal numbers of 64 random bits: radius · (cos, sin) of a random angle. */
CR_MATH void cr_normal_pair_f32(uint32_t bits0, uint32_t bits1, float *x, float *y) {
    const float u = (float)(int32_t)(bits0 >> 1) * 0x1p-31f + 0x1p-32f; /* (0, 1] */
    const float radius = sqrtf(-2.0f * cr_random_log_f32(u));
    /* bits1 / 2^32 of a turn: quadrant q, and t within π/4 of its axis */
    const uint32_t q = (bits1 + 0x20000000u) >> 30;
    const float t = (float)(int32_t)(bits1 - (q << 30)) * 1.46291807926715968e-9f, z = t * t; /* 2π / 2^32 */
    const float sine = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * t + t;
    const float cosine =
        ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1.0f;
    const float along = q & 1 ? sine : cosine, across = q & 1 ? cosine : sine;
    *x = radius * cr_bits_to_f32(cr_bits_from_f32(along) ^ ((q + 1) & 2) << 30);
    *y = radius * cr_bits_to_f32(cr_bits_from_f32(across) ^ (q & 2) << 30);
}

/* ---------------------------------------------------------------- f64 */
CR_MATH double cr_bits_to_f64(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
CR_MATH uint64_t cr_bits_from_f64(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}
/* 52 bits to (0, 1]. */
CR_MATH double cr_random_unit_f64(uint64_t bits) { return 2.0 - cr_bits_to_f64(bits >> 12 | 0x3ff0000000000000u); }

/* log(u) for u in [2^-52, 1]. */
CR_MATH double cr_random_log_f64(double u) {
    const uint64_t shifted = cr_bits_from_f64(u) - 0x3fe6a09e667f3bcdu; /* sqrt(1/2) */
    const double e = (double)((int32_t)(shifted >> 32) >> 20);
    const double m = cr_bits_to_f64((shifted & 0x000fffffffffffffu) + 0x3fe6a09e667f3bcdu) - 1.0, z = m * m;
    double p = 1.01875663804580931796e-4;
    p = p * m + 4.97494994976747001425e-1;
    p = p * m + 4.70579119878881725854e0;
    p = p * m + 1.44989225341610930846e1;
    p = p * m + 1.79368678507819816313e1;
    p = p * m + 7.70838733755885391666e0;
    double q = m + 1.12873587189167450590e1;
    q = q * m + 4.52279145837532221105e1;
    q = q * m + 8.29875266912776603211e1;
    q = q * m + 7.11544750618563894466e1;
    q = q * m + 2.31251620126765340583e1;
    const double y = m * z * (p / q) - e * 2.121944400546905827679e-4 - 0.5 * z;
    return m + y + e * 0.693359375;
}

CR_MATH void cr_normal_pair_f64(uint64_t bits0, uint64_t bits1, double *x, double *y) {
    const double radius = sqrt(-2.0 * cr_random_log_f64(cr_random_unit_f64(bits0)));
    const uint64_t q = (bits1 + 0x2000000000000000u) >> 62;
    const double t = (double)(int64_t)(bits1 - (q << 62)) * 3.40612158008655459e-19, z = t * t; /* 2π / 2^64 */
    double sine = 1.58962301576546568060e-10;
    sine = sine * z - 2.50507477628578072866e-8;
    sine = sine * z + 2.75573136213857245213e-6;
    sine = sine * z - 1.98412698295895385996e-4;
    sine = sine * z + 8.33333333332211858878e-3;
    sine = sine * z - 1.66666666666666307295e-1;
    sine = sine * z * t + t;
    double cosine = -1.13585365213876817300e-11;
    cosine = cosine * z + 2.08757008419747316778e-9;
    cosine = cosine * z - 2.75573141792967388112e-7;
    cosine = cosine * z + 2.48015872888517045348e-5;
    cosine = cosine * z - 1.38888888888730564116e-3;
    cosine = cosine * z + 4.16666666666665929218e-2;
    cosine = cosine * z * z - 0.5 * z + 1.0;
    const double along = q & 1 ? sine : cosine, across = q & 1 ? cosine : sine;
    *x = radius * cr_bits_to_f64(cr_bits_from_f64(along) ^ ((q + 1) & 2) << 62);
    *y = radius * cr_bits_to_f64(cr_bits_from_f64(across) ^ (q & 2) << 62);
}

/* ---------------------------------------------------------------- integers */
/* The high half of bits · range: 0 … range-1. */
CR_MATH uint64_t cr_random_below(uint64_t bits, uint64_t range) {
    const uint64_t low = (bits & 0xffffffffu) * (range & 0xffffffffu);
    const uint64_t middle = (bits >> 32) * (range & 0xffffffffu) + (low >> 32);
    const uint64_t other = (bits & 0xffffffffu) * (range >> 32) + (middle & 0xffffffffu);
    return (bits >> 32) * (range >> 32) + (middle >> 32) + (other >> 32);
}

#endif
