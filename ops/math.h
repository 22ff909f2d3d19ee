/* The words of pointwise expressions, for three compute types: f32, f64, i64. Before an expression, CR_T names the
 * type's suffix and T is the type. Plain C that also compiles as C++ and CUDA; branch-free where loops should
 * vectorise. Polynomials for f32 follow Cephes (Moshier, "Methods and Programs for Mathematical Functions", 1989). */
#ifndef CRESSET_OPS_MATH_H
#define CRESSET_OPS_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__)
#define CR_MATH static __host__ __device__ __forceinline__
#else
#define CR_MATH static inline __attribute__((always_inline, unused))
#endif

/* ---------------------------------------------------------------- the words */
#define CR_WORD_(function, suffix) cr_##function##_##suffix
#define CR_WORD(function, suffix)  CR_WORD_(function, suffix)
#define NUMBER(value)              ((T)(value))
#define ATTRIBUTE(x)               CR_WORD(attribute, CR_T)(x)
#define SELECT(condition, x, y)    ((condition) ? (x) : (y))
#define ISNAN(x)                   CR_WORD(isnan, CR_T)(x)
#define ISINF(x)                   CR_WORD(isinf, CR_T)(x)
#define ABS(x)                     CR_WORD(abs, CR_T)(x)
#define FLOOR(x)                   CR_WORD(floor, CR_T)(x)
#define CEIL(x)                    CR_WORD(ceil, CR_T)(x)
#define ROUND(x)                   CR_WORD(round, CR_T)(x)
#define TRUNC(x)                   CR_WORD(trunc, CR_T)(x)
#define FLOOR_DIVIDE(x, y)         CR_WORD(floor_divide, CR_T)(x, y)
#define TRUNC_DIVIDE(x, y)         CR_WORD(trunc_divide, CR_T)(x, y)
#define REMAINDER(x, y)            CR_WORD(remainder, CR_T)(x, y)
#define FMOD(x, y)                 CR_WORD(fmod, CR_T)(x, y)
#define POW(x, y)                  CR_WORD(pow, CR_T)(x, y)
#define SQRT(x)                    CR_WORD(sqrt, CR_T)(x)
#define EXP(x)                     CR_WORD(exp, CR_T)(x)
#define EXP2(x)                    CR_WORD(exp2, CR_T)(x)
#define EXPM1(x)                   CR_WORD(expm1, CR_T)(x)
#define LOG(x)                     CR_WORD(log, CR_T)(x)
#define LOG2(x)                    CR_WORD(log2, CR_T)(x)
#define LOG10(x)                   CR_WORD(log10, CR_T)(x)
#define LOG1P(x)                   CR_WORD(log1p, CR_T)(x)
#define SIN(x)                     CR_WORD(sin, CR_T)(x)
#define COS(x)                     CR_WORD(cos, CR_T)(x)
#define TAN(x)                     CR_WORD(tan, CR_T)(x)
#define ASIN(x)                    CR_WORD(asin, CR_T)(x)
#define ACOS(x)                    CR_WORD(acos, CR_T)(x)
#define ATAN(x)                    CR_WORD(atan, CR_T)(x)
#define ATAN2(x, y)                CR_WORD(atan2, CR_T)(x, y)
#define HYPOT(x, y)                CR_WORD(hypot, CR_T)(x, y)
#define SINH(x)                    CR_WORD(sinh, CR_T)(x)
#define COSH(x)                    CR_WORD(cosh, CR_T)(x)
#define TANH(x)                    CR_WORD(tanh, CR_T)(x)
#define ASINH(x)                   CR_WORD(asinh, CR_T)(x)
#define ACOSH(x)                   CR_WORD(acosh, CR_T)(x)
#define ATANH(x)                   CR_WORD(atanh, CR_T)(x)
#define SIGMOID(x)                 CR_WORD(sigmoid, CR_T)(x)
#define ERF(x)                     CR_WORD(erf, CR_T)(x)
#define ERFC(x)                    CR_WORD(erfc, CR_T)(x)
#define ERFINV(x)                  CR_WORD(erfinv, CR_T)(x)
#define NORMAL_CDF(x)              CR_WORD(normal_cdf, CR_T)(x)
#define NORMAL_PDF(x)              CR_WORD(normal_pdf, CR_T)(x)
#define BITWISE_NOT(x)             (~(x))
#define SHIFT_LEFT(x, y)           CR_WORD(shift_left, CR_T)(x, y)
#define SHIFT_RIGHT(x, y)          CR_WORD(shift_right, CR_T)(x, y)

/* ---------------------------------------------------------------- bits */
CR_MATH float cr_bits_to_f32(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}
CR_MATH uint32_t cr_bits_from_f32(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* A number among an op's attributes, in the compute type. */
CR_MATH float cr_attribute_f32(double x) { return (float)x; }
CR_MATH double cr_attribute_f64(double x) { return x; }
CR_MATH int64_t cr_attribute_i64(double x) {
    return x >= 9223372036854775808.0 ? INT64_MAX : x < -9223372036854775808.0 ? INT64_MIN : x != x ? 0 : (int64_t)x;
}

/* One rounding where the processor has it. */
CR_MATH float cr_fma_f32(float a, float b, float c) {
#if defined(__FMA__) || defined(__CUDA_ARCH__) || defined(__ARM_FEATURE_FMA)
    return fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

/* ---------------------------------------------------------------- f32: exponential family */
/* The bound of a clamp. gcc makes one instruction of `low > x ? low : x` where it cannot see what the bound is, and else
 * a comparison and a blend, which take as long as two multiplications. */
#if defined(__CUDACC__)
#define CR_BOUND(name, value) static const float name = value
#else
#define CR_BOUND(name, value) __attribute__((used)) static float name = value
#endif

/* x - n · ln2, with ln2 in two parts of which the first has few bits. */
CR_MATH float cr_exp_rest_f32(float x, float n) {
    return cr_fma_f32(n, 2.12194440e-4f, cr_fma_f32(n, -0.693359375f, x));
}
/* e^r - 1 for |r| <= ln2 / 2, off by 6e-9 at most, in few steps that wait for each other. */
CR_MATH float cr_exp_part_f32(float r) {
    const float z = r * r, low = cr_fma_f32(1.666653156e-1f, r, 0.5f);
    const float high = cr_fma_f32(1.394125749e-3f, z, cr_fma_f32(8.367696777e-3f, r, 4.166639596e-2f));
    return cr_fma_f32(cr_fma_f32(high, z, low), z, r);
}
/* scale · e^r + addend, for a scale that is a power of 2, in the fewest steps. */
CR_MATH float cr_exp_whole_f32(float r, float scale, float addend) {
    float p = 1.394125749e-3f * scale;
    p = cr_fma_f32(p, r, 8.367696777e-3f * scale);
    p = cr_fma_f32(p, r, 4.166639596e-2f * scale);
    p = cr_fma_f32(p, r, 1.666653156e-1f * scale);
    p = cr_fma_f32(p, r, 0.5f * scale);
    p = cr_fma_f32(p, r, scale);
    return cr_fma_f32(p, r, addend);
}

/* x within [low, high]; NaN stays. */
CR_MATH float cr_clamp_f32(float x, float low, float high) {
    const float above = low > x ? low : x;
    return high < above ? high : above;
}

/* p 2^n, given the bits of 1.5 · 2^23 + 254 + n: the power of 2 in two factors, so that results below 2^-126 and near
 * 2^128 come out right. */
CR_MATH float cr_scaled_f32(float p, uint32_t exponents) {
    const uint32_t half = exponents >> 1;
    return p * cr_bits_to_f32(half << 23) * cr_bits_to_f32((exponents - half) << 23);
}
CR_BOUND(cr_exp_low_f32, -104.0f);
CR_BOUND(cr_exp_high_f32, 90.0f);
/* e^x 2^shift = 2^(n + shift) · e^r with |r| <= ln2 / 2. */
CR_MATH float cr_exp_shifted_f32(float x, int32_t shift) {
    const float bounded = cr_clamp_f32(x, cr_exp_low_f32, cr_exp_high_f32);
    const float turned = cr_fma_f32(bounded, 1.44269504088896341f, 12583166.0f);
    const float p = cr_exp_whole_f32(cr_exp_rest_f32(bounded, turned - 12583166.0f), 1.0f, 1.0f);
    return cr_scaled_f32(p, cr_bits_from_f32(turned) + (uint32_t)shift);
}
CR_MATH float cr_exp_f32(float x) { return cr_exp_shifted_f32(x, 0); }
CR_BOUND(cr_exp_normal_low_f32, -88.0f);
/* e^x for x <= 88, as softmax asks for it: one factor 2^n, which for n = -127, where all lower x end, is 0. */
CR_MATH float cr_exp_normal_f32(float x) {
    const float bounded = cr_exp_normal_low_f32 > x ? cr_exp_normal_low_f32 : x;
    const float turned = cr_fma_f32(bounded, 1.44269504088896341f, 12583039.0f);
    const float p = cr_exp_whole_f32(cr_exp_rest_f32(bounded, turned - 12583039.0f), 1.0f, 1.0f);
    return p * cr_bits_to_f32(cr_bits_from_f32(turned) << 23);
}

CR_BOUND(cr_exp2_low_f32, -151.0f);
CR_BOUND(cr_exp2_high_f32, 129.0f);
/* 2^x = 2^n · e^(r ln2) with |r| <= 1/2. */
CR_MATH float cr_exp2_f32(float x) {
    const float bounded = cr_clamp_f32(x, cr_exp2_low_f32, cr_exp2_high_f32), turned = bounded + 12583166.0f;
    const float r = (bounded - (turned - 12583166.0f)) * 0.693147180559945309f;
    return cr_scaled_f32(cr_exp_whole_f32(r, 1.0f, 1.0f), cr_bits_from_f32(turned));
}

CR_BOUND(cr_expm1_low_f32, -18.0f);
CR_BOUND(cr_expm1_high_f32, 89.0f);
/* e^x - 1 = 2 (t (e^r - 1) + (t - 1/2)) with t = 2^(n - 1), which is finite up to n = 128; its sign is that of x. */
CR_MATH float cr_expm1_f32(float x) {
    const float bounded = cr_clamp_f32(x, cr_expm1_low_f32, cr_expm1_high_f32);
    const float turned = cr_fma_f32(bounded, 1.44269504088896341f, 12583038.0f); /* 1.5 · 2^23 + 126 + n */
    const float t = cr_bits_to_f32(cr_bits_from_f32(turned) << 23);
    const float p = cr_exp_part_f32(cr_exp_rest_f32(bounded, turned - 12583038.0f));
    return copysignf(2.0f * cr_fma_f32(t, p, t - 0.5f), x); /* also for -0 */
}

/* x = 2^e (1 + m) with m in [sqrt(1/2) - 1, sqrt(2) - 1), and log(1 + m) = m + rest. For positive x. */
CR_MATH void cr_log_parts_f32(float x, float *e, float *m, float *rest) {
    const float scaled = x < 1.17549435e-38f ? x * 8388608.0f : x; /* a denormal: times 2^23 */
    const float rescale = x < 1.17549435e-38f ? -23.0f : 0.0f;
    const uint32_t shifted = cr_bits_from_f32(scaled) - 0x3f3504f3u; /* sqrt(1/2) */
    const float t = cr_bits_to_f32((shifted & 0x007fffffu) + 0x3f3504f3u) - 1.0f, z = t * t;
    float p = 7.0376836292e-2f;
    p = cr_fma_f32(p, t, -1.1514610310e-1f);
    p = cr_fma_f32(p, t, 1.1676998740e-1f);
    p = cr_fma_f32(p, t, -1.2420140846e-1f);
    p = cr_fma_f32(p, t, 1.4249322787e-1f);
    p = cr_fma_f32(p, t, -1.6668057665e-1f);
    p = cr_fma_f32(p, t, 2.0000714765e-1f);
    p = cr_fma_f32(p, t, -2.4999993993e-1f);
    p = cr_fma_f32(p, t, 3.3333331174e-1f);
    *e = (float)((int32_t)shifted >> 23) + rescale;
    *m = t;
    *rest = p * t * z;
}
/* The result of a logarithm, or what it is where x is no positive number. */
CR_MATH float cr_log_edges_f32(float x, float result) {
    const float edge = x < 0.0f || x != x ? NAN : x == 0.0f ? -INFINITY : INFINITY;
    return x > 0.0f && x < INFINITY ? result : edge;
}
CR_MATH float cr_log_f32(float x) {
    float e, m, y;
    cr_log_parts_f32(x, &e, &m, &y);
    y = cr_fma_f32(e, -2.12194440e-4f, y);
    y = cr_fma_f32(-0.5f, m * m, y);
    return cr_log_edges_f32(x, cr_fma_f32(e, 0.693359375f, m + y));
}
/* e + log(1 + m) / log 2, with the factor 1 + 0.4427. */
CR_MATH float cr_log2_f32(float x) {
    float e, m, y;
    cr_log_parts_f32(x, &e, &m, &y);
    y = cr_fma_f32(-0.5f, m * m, y);
    const float small = cr_fma_f32(m, 0.44269504088896341f, cr_fma_f32(y, 0.44269504088896341f, y));
    return cr_log_edges_f32(x, (small + m) + e);
}
/* Factors log10(e) and log10(2) in two parts, of which the first has few bits. */
CR_MATH float cr_log10_f32(float x) {
    float e, m, y;
    cr_log_parts_f32(x, &e, &m, &y);
    y = cr_fma_f32(-0.5f, m * m, y);
    float small = cr_fma_f32(m, 7.00731903251827651e-4f, y * 7.00731903251827651e-4f);
    small = cr_fma_f32(e, 2.48745663981195214e-4f, small);
    small = cr_fma_f32(y, 4.3359375e-1f, small);
    small = cr_fma_f32(m, 4.3359375e-1f, small);
    return cr_log_edges_f32(x, cr_fma_f32(e, 3.0078125e-1f, small));
}

/* log u with u = 1 + x as rounded, and the first term of what rounding lost. */
CR_MATH float cr_log1p_f32(float x) {
    const float u = 1.0f + x, lost = x - (u - 1.0f), log_u = cr_log_f32(u);
    return u == 1.0f ? x : u > 0.0f && u < INFINITY ? log_u + lost / u : log_u;
}

CR_BOUND(cr_tanh_high_f32, 18.2f);
/* tanh = q / (q + 2) with q = e^2|x| - 1 = s (e^r - 1) + (s - 1) and s = 2^n, so that nothing cancels near 0; further
 * away it matters little that ln2 has one part. 1.5 · 2^23 + 127 + n has in its last bits what the exponent of s is. */
CR_MATH float cr_tanh_f32(float x) {
    const float twice = fabsf(x + x), bounded = cr_tanh_high_f32 < twice ? cr_tanh_high_f32 : twice;
    const float turned = cr_fma_f32(bounded, 1.44269504088896341f, 12583039.0f);
    const float s = cr_bits_to_f32(cr_bits_from_f32(turned) << 23);
    const float p = cr_exp_part_f32(cr_fma_f32(turned - 12583039.0f, -0.693147180559945309f, bounded));
    const float q = cr_fma_f32(s, p, s - 1.0f);
    return copysignf(q / (q + 2.0f), x); /* also for -0 */
}
/* (e^x ∓ e^-x) / 2 from half of e^|x|, which is finite where the result is; sinh below 1 an odd polynomial. */
CR_MATH float cr_sinh_f32(float x) {
    const float z = x * x, half = cr_exp_shifted_f32(fabsf(x), -1);
    const float p = cr_fma_f32(cr_fma_f32(2.03721912945e-4f, z, 8.33028376239e-3f), z, 1.66667160211e-1f);
    const float small = cr_fma_f32(p * z, x, x), large = half - 0.25f / half;
    return copysignf(z < 1.0f ? small : large, x);
}
CR_MATH float cr_cosh_f32(float x) {
    const float half = cr_exp_shifted_f32(fabsf(x), -1);
    return half + 0.25f / half;
}
CR_BOUND(cr_sigmoid_low_f32, -18.0f);
CR_BOUND(cr_sigmoid_high_f32, 104.0f);
/* 1 / (1 + e^-x) = s / (s + 2^24 e^r) with e^-x = 2^n e^r and s = 2^(24 - n), which is a normal number where the result
 * is the smallest denormal; that s + 2^24 is rounded matters nowhere. */
CR_MATH float cr_sigmoid_f32(float x) {
    const float bounded = cr_clamp_f32(-x, cr_sigmoid_low_f32, cr_sigmoid_high_f32);
    const float turned = cr_fma_f32(bounded, -1.44269504088896341f, 12583063.0f); /* 1.5 · 2^23 + 127 + 24 - n */
    const float s = cr_bits_to_f32(cr_bits_from_f32(turned) << 23);
    return s / cr_exp_whole_f32(cr_exp_rest_f32(bounded, 12583063.0f - turned), 0x1p24f, 0x1p24f + s);
}
CR_MATH double cr_sigmoid_f64(double x) {
    const double e = exp(-fabs(x));
    return (x < 0.0 ? e : 1.0) / (1.0 + e);
}

/* erf: an odd polynomial below 475/512, 1 - e^(a polynomial) above (coefficients: N. Juffa, "a faster, less inaccurate
 * erff", 2016). */
CR_MATH float cr_erf_f32(float x) {
    const float t = fabsf(x), z = x * x;
    float r = cr_fma_f32(-1.72853470e-5f, t, 3.83197126e-4f);
    r = cr_fma_f32(r, z, cr_fma_f32(-3.88396438e-3f, t, 2.42546219e-2f));
    r = cr_fma_f32(r, t, -1.06777877e-1f);
    r = cr_fma_f32(r, t, -6.34846687e-1f);
    r = cr_fma_f32(r, t, -1.28717512e-1f);
    const float large = 1.0f - cr_exp_normal_f32(cr_fma_f32(r, t, -t));
    float p = -5.96761703e-4f;
    p = cr_fma_f32(p, z, 4.99119423e-3f);
    p = cr_fma_f32(p, z, -2.67681349e-2f);
    p = cr_fma_f32(p, z, 1.12819925e-1f);
    p = cr_fma_f32(p, z, -3.76125336e-1f);
    p = cr_fma_f32(p, z, 1.28379166e-1f);
    const float small = cr_fma_f32(p, t, t);
    return copysignf(t > 0.927734375f ? large : small, x);
}
CR_MATH double cr_erf_f64(double x) { return erf(x); }

/* ---------------------------------------------------------------- the standard normal distribution */
/* e^(-x²/2): one for density and distribution where both are asked for. */
CR_MATH float cr_bell_f32(float x) { return cr_exp_normal_f32(x * x * -0.5f); }
CR_MATH float cr_normal_pdf_f32(float x) { return cr_bell_f32(x) * 0.39894228f; }
/* The part below -|x| is e^(-x²/2) times Mills' ratio, a smooth function, as a polynomial in |x| that is fitted so that
 * the product is off by 2e-8 at most; to 1e-7 with rounding. */
CR_MATH float cr_normal_cdf_f32(float x) {
    const float t = fabsf(x) < 16.0f ? fabsf(x) : 16.0f;
    float p = -3.15550722e-7f;
    p = cr_fma_f32(p, t, 7.70893803e-6f);
    p = cr_fma_f32(p, t, -8.47723932e-5f);
    p = cr_fma_f32(p, t, 5.63659647e-4f);
    p = cr_fma_f32(p, t, -2.59011146e-3f);
    p = cr_fma_f32(p, t, 9.00388882e-3f);
    p = cr_fma_f32(p, t, -2.54718680e-2f);
    p = cr_fma_f32(p, t, 6.19239733e-2f);
    p = cr_fma_f32(p, t, -1.32805809e-1f);
    p = cr_fma_f32(p, t, 2.49972582e-1f);
    p = cr_fma_f32(p, t, -3.98940593e-1f);
    p = cr_fma_f32(p, t, 4.99999970e-1f);
    const float below = p * cr_bell_f32(x);
    return x > 0.0f ? 1.0f - below : below;
}
CR_MATH double cr_normal_pdf_f64(double x) { return 0.39894228040143267794 * exp(-0.5 * x * x); }
CR_MATH double cr_normal_cdf_f64(double x) { return 0.5 * (1.0 + erf(x * 0.70710678118654752440)); }

/* ---------------------------------------------------------------- f32: sine, cosine, tangent */
/* x - n π/2 for the nearest n, in f64 with π/2 in two parts, the first of 25 bits, so that n times it is exact (Cody,
 * Waite, "Software Manual for the Elementary Functions", 1980). For |x| up to CR_TURNS_LIMIT. */
#define CR_TURNS_LIMIT 268435456.0f
CR_MATH double cr_quarter_turns_f32(float x, int32_t *n) {
    const double turns = ((double)x * 0.63661977236758134308 + 6755399441055744.0) - 6755399441055744.0;
    *n = (int32_t)turns;
    return ((double)x - turns * 1.57079631090164184570) - turns * 1.58932547735281966916e-8;
}
/* For |r| <= π/4. */
CR_MATH float cr_sin_part_f32(float r) {
    const float z = r * r;
    const float p = cr_fma_f32(cr_fma_f32(-1.9515295891e-4f, z, 8.3321608736e-3f), z, -1.6666654611e-1f);
    return cr_fma_f32(p * z, r, r);
}
CR_MATH float cr_cos_part_f32(float r) {
    const float z = r * r;
    const float p = cr_fma_f32(cr_fma_f32(2.443315711809948e-5f, z, -1.388731625493765e-3f), z, 4.166664568298827e-2f);
    return cr_fma_f32(p, z * z, cr_fma_f32(-0.5f, z, 1.0f));
}
/* Sine of n quarter turns and r. */
CR_MATH float cr_sin_of_turns_f32(float r, int32_t n) {
    const float magnitude = n & 1 ? cr_cos_part_f32(r) : cr_sin_part_f32(r);
    return n & 2 ? -magnitude : magnitude;
}

/* Within CR_TURNS_LIMIT and branch-free, for loops that have checked their arguments. */
CR_MATH float cr_bounded_sin_f32(float x) {
    int32_t n;
    const float r = (float)cr_quarter_turns_f32(x, &n), result = cr_sin_of_turns_f32(r, n);
    return x == 0.0f ? x : result; /* also -0 */
}
CR_MATH float cr_bounded_cos_f32(float x) {
    int32_t n;
    const float r = (float)cr_quarter_turns_f32(x, &n);
    return cr_sin_of_turns_f32(r, n + 1);
}
CR_MATH float cr_bounded_tan_f32(float x) {
    int32_t n;
    const double wide = cr_quarter_turns_f32(x, &n);
    const float r = (float)wide, z = r * r;
    float p = 9.38540185543e-3f;
    p = cr_fma_f32(p, z, 3.11992232697e-3f);
    p = cr_fma_f32(p, z, 2.44301354525e-2f);
    p = cr_fma_f32(p, z, 5.34112807005e-2f);
    p = cr_fma_f32(p, z, 1.33387994085e-1f);
    p = cr_fma_f32(p, z, 3.33331568548e-1f);
    const double t = wide + (double)(p * z * r), result = n & 1 ? -1.0 / t : t;
    return x == 0.0f ? x : (float)result;
}
/* Any x: beyond the limit libm reduces with as many bits of π as it takes (Payne, Hanek, 1983). */
#define CR_PERIODIC(word)                                                                                              \
    CR_MATH float cr_##word##_f32(float x) {                                                                           \
        return fabsf(x) <= CR_TURNS_LIMIT ? cr_bounded_##word##_f32(x) : word##f(x);                                   \
    }                                                                                                                  \
    CR_MATH double cr_##word##_f64(double x) { return word(x); }
CR_PERIODIC(sin)
CR_PERIODIC(cos)
CR_PERIODIC(tan)

/* ---------------------------------------------------------------- f32: inverse circular functions */
/* atan(t) = π/2 + atan(-1/t) above tan(3π/8), π/4 + atan((t - 1) / (t + 1)) above tan(π/8). */
CR_MATH float cr_atan_f32(float x) {
    const float t = fabsf(x);
    const int large = t > 2.41421356237309505f, middle = t > 0.41421356237309505f;
    const float above = large ? -1.0f : middle ? t - 1.0f : t, below = large ? t : middle ? t + 1.0f : 1.0f;
    const float base = large ? 1.57079632679489662f : middle ? 0.78539816339744831f : 0.0f;
    const float r = above / below, z = r * r;
    float p = 8.05374449538e-2f;
    p = cr_fma_f32(p, z, -1.38776856032e-1f);
    p = cr_fma_f32(p, z, 1.99777106478e-1f);
    p = cr_fma_f32(p, z, -3.33329491539e-1f);
    const float rest = base * -2.78275255e-8f; /* what rounding added to the base */
    return copysignf(base + (r + cr_fma_f32(p * z, r, rest)), x);
}
/* asin(s) - s for s from 0 to 1/2 and z = s². */
CR_MATH float cr_asin_rest_f32(float s, float z) {
    float p = 4.2163199048e-2f;
    p = cr_fma_f32(p, z, 2.4181311049e-2f);
    p = cr_fma_f32(p, z, 4.5470025998e-2f);
    p = cr_fma_f32(p, z, 7.4953002686e-2f);
    p = cr_fma_f32(p, z, 1.6666752422e-1f);
    return p * z * s;
}
/* Up to 1/2 asin(|x|), above it 2 asin(sqrt((1 - |x|) / 2)) = acos(|x|). */
CR_MATH double cr_asin_folded_f32(float x) {
    const float t = fabsf(x), far = 0.5f * (1.0f - t);
    const double s = t > 0.5f ? sqrt((double)far) : (double)t;
    const double angle = s + (double)cr_asin_rest_f32((float)s, t > 0.5f ? far : t * t);
    return t > 0.5f ? 2.0 * angle : angle;
}
CR_MATH float cr_asin_f32(float x) {
    const double angle = cr_asin_folded_f32(x);
    return copysignf((float)(fabsf(x) > 0.5f ? 1.57079632679489661923 - angle : angle), x);
}
CR_MATH float cr_acos_f32(float x) {
    const double angle = cr_asin_folded_f32(x), right = 1.57079632679489661923;
    const double above = x < 0.0f ? 2.0 * right - angle : angle, below = x < 0.0f ? right + angle : right - angle;
    return (float)(fabsf(x) > 0.5f ? above : below);
}

/* ---------------------------------------------------------------- both float types, from libm */
#define CR_FROM_LIBM(word, f32_function, f64_function)                                                                 \
    CR_MATH float cr_##word##_f32(float x) { return f32_function(x); }                                                 \
    CR_MATH double cr_##word##_f64(double x) { return f64_function(x); }
#define CR_FROM_LIBM_2(word, f32_function, f64_function)                                                               \
    CR_MATH float cr_##word##_f32(float x, float y) { return f32_function(x, y); }                                     \
    CR_MATH double cr_##word##_f64(double x, double y) { return f64_function(x, y); }
CR_FROM_LIBM(abs, fabsf, fabs)
CR_FROM_LIBM(floor, floorf, floor)
CR_FROM_LIBM(ceil, ceilf, ceil)
CR_FROM_LIBM(round, rintf, rint)
CR_FROM_LIBM(trunc, truncf, trunc)
CR_FROM_LIBM(sqrt, sqrtf, sqrt)
CR_FROM_LIBM(asinh, asinhf, asinh)
CR_FROM_LIBM(acosh, acoshf, acosh)
CR_FROM_LIBM(atanh, atanhf, atanh)
CR_FROM_LIBM(erfc, erfcf, erfc)
CR_FROM_LIBM_2(fmod, fmodf, fmod)
CR_FROM_LIBM_2(pow, powf, pow)
CR_FROM_LIBM_2(atan2, atan2f, atan2)
CR_FROM_LIBM_2(hypot, hypotf, hypot)
CR_MATH double cr_exp_f64(double x) { return exp(x); }
CR_MATH double cr_exp2_f64(double x) { return exp2(x); }
CR_MATH double cr_expm1_f64(double x) { return expm1(x); }
CR_MATH double cr_log_f64(double x) { return log(x); }
CR_MATH double cr_log2_f64(double x) { return log2(x); }
CR_MATH double cr_log10_f64(double x) { return log10(x); }
CR_MATH double cr_log1p_f64(double x) { return log1p(x); }
CR_MATH double cr_asin_f64(double x) { return asin(x); }
CR_MATH double cr_acos_f64(double x) { return acos(x); }
CR_MATH double cr_atan_f64(double x) { return atan(x); }
CR_MATH double cr_sinh_f64(double x) { return sinh(x); }
CR_MATH double cr_cosh_f64(double x) { return cosh(x); }
CR_MATH double cr_tanh_f64(double x) { return tanh(x); }

CR_MATH int cr_isnan_f32(float x) { return x != x; }
CR_MATH int cr_isnan_f64(double x) { return x != x; }
CR_MATH int cr_isinf_f32(float x) { return (x == INFINITY) | (x == -INFINITY); }
CR_MATH int cr_isinf_f64(double x) { return (x == INFINITY) | (x == -INFINITY); }

/* Python's remainder: the sign of the divisor. */
#define CR_DIVISIONS(suffix, type, floor_function, trunc_function, fmod_function)                                      \
    CR_MATH type cr_trunc_divide_##suffix(type x, type y) { return trunc_function(x / y); }                            \
    CR_MATH type cr_remainder_##suffix(type x, type y) {                                                               \
        const type rest = fmod_function(x, y);                                                                         \
        return rest != 0 && ((rest < 0) != (y < 0)) ? rest + y : rest;                                                 \
    }                                                                                                                  \
    CR_MATH type cr_floor_divide_##suffix(type x, type y) {                                                            \
        const type rest = fmod_function(x, y), exact = (x - rest) / y;                                                 \
        const type quotient = rest != 0 && ((rest < 0) != (y < 0)) ? exact - 1 : exact;                                \
        const type whole = floor_function(quotient);                                                                   \
        return y == 0 ? x / y : quotient - whole > (type)0.5 ? whole + 1 : whole;                                      \
    }
CR_DIVISIONS(f32, float, floorf, truncf, fmodf)
CR_DIVISIONS(f64, double, floor, trunc, fmod)

/* Inverse error function: Giles' approximation ("Approximating the erfinv function", 2010) and two Newton steps. */
CR_MATH double cr_erfinv_f64(double x) {
    const double w = -log((1.0 - x) * (1.0 + x));
    double p;
    if (w < 5.0) {
        const double v = w - 2.5;
        p = 2.81022636e-08;
        p = 3.43273939e-07 + p * v;
        p = -3.5233877e-06 + p * v;
        p = -4.39150654e-06 + p * v;
        p = 0.00021858087 + p * v;
        p = -0.00125372503 + p * v;
        p = -0.00417768164 + p * v;
        p = 0.246640727 + p * v;
        p = 1.50140941 + p * v;
    } else {
        const double v = sqrt(w) - 3.0;
        p = -0.000200214257;
        p = 0.000100950558 + p * v;
        p = 0.00134934322 + p * v;
        p = -0.00367342844 + p * v;
        p = 0.00573950773 + p * v;
        p = -0.0076224613 + p * v;
        p = 0.00943887047 + p * v;
        p = 1.00167406 + p * v;
        p = 2.83297682 + p * v;
    }
    double y = p * x;
    if (x == 1.0 || x == -1.0) return x * INFINITY;
    for (int step = 0; step < 2; step++) {
        const double miss = x < -0.5 ? erfc(-y) - (1.0 + x) : x > 0.5 ? (1.0 - x) - erfc(y) : erf(y) - x;
        y -= miss / (1.12837916709551257390 * exp(-y * y));
    }
    return y;
}
CR_MATH float cr_erfinv_f32(float x) { return (float)cr_erfinv_f64((double)x); }

/* ---------------------------------------------------------------- integers; a division by zero gives 0 */
CR_MATH int cr_isnan_i64(int64_t x) { return (void)x, 0; }
CR_MATH int cr_isinf_i64(int64_t x) { return (void)x, 0; }
CR_MATH int64_t cr_abs_i64(int64_t x) { return x < 0 ? (int64_t)(0 - (uint64_t)x) : x; }
CR_MATH int64_t cr_floor_i64(int64_t x) { return x; }
CR_MATH int64_t cr_ceil_i64(int64_t x) { return x; }
CR_MATH int64_t cr_round_i64(int64_t x) { return x; }
CR_MATH int64_t cr_trunc_i64(int64_t x) { return x; }
CR_MATH int64_t cr_trunc_divide_i64(int64_t x, int64_t y) {
    return y == 0 ? 0 : y == -1 ? (int64_t)(0 - (uint64_t)x) : x / y;
}
CR_MATH int64_t cr_fmod_i64(int64_t x, int64_t y) { return y == 0 || y == -1 ? 0 : x % y; }
CR_MATH int64_t cr_remainder_i64(int64_t x, int64_t y) {
    const int64_t rest = cr_fmod_i64(x, y);
    return rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest;
}
CR_MATH int64_t cr_floor_divide_i64(int64_t x, int64_t y) {
    return cr_trunc_divide_i64(x, y) - (cr_remainder_i64(x, y) != cr_fmod_i64(x, y));
}
/* Negative exponents: 1 and -1 have reciprocals; all else truncates to 0. */
CR_MATH int64_t cr_pow_i64(int64_t base, int64_t exponent) {
    if (exponent < 0) return base == 1 ? 1 : base == -1 ? (exponent % 2 ? -1 : 1) : 0;
    uint64_t result = 1, power = (uint64_t)base;
    for (; exponent > 0; exponent >>= 1, power *= power)
        if (exponent & 1) result *= power;
    return (int64_t)result;
}
CR_MATH int64_t cr_shift_left_i64(int64_t x, int64_t y) { return y < 0 || y > 63 ? 0 : (int64_t)((uint64_t)x << y); }
CR_MATH int64_t cr_shift_right_i64(int64_t x, int64_t y) { return x >> (y < 0 || y > 63 ? 63 : y); }

#endif
