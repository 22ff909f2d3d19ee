/* Vectors of f32, as wide as the instruction set has them. */
#ifndef CRESSET_OPS_CPU_VECTORS_H
#define CRESSET_OPS_CPU_VECTORS_H

#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
enum { VECTOR_BYTES = 64 };
#elif defined(__AVX__)
enum { VECTOR_BYTES = 32 };
#else
enum { VECTOR_BYTES = 16 };
#endif
enum { LANES = VECTOR_BYTES / (int)sizeof(float) };

typedef float vector __attribute__((vector_size(VECTOR_BYTES)));
typedef float loose_vector __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(float)), may_alias));

static inline vector load(const float *from) { return *(const loose_vector *)from; }
static inline vector load_or_zero(const float *from) { return from ? load(from) : (vector){0}; }
static inline void store(float *to, vector value) { *(loose_vector *)to = value; }

/* Keeps a vector in a register: one that is read from memory wherever it is used takes as many loads as products. */
static inline vector held(vector x) {
#if defined(__AVX512F__)
    __asm__("" : "+v"(x));
#endif
    return x;
}

/* The first `lanes` of a vector, zeros behind them; nothing else is read, or written. */
static inline vector load_lanes(const float *from, int64_t lanes) {
    if (lanes == LANES) return load(from);
#if defined(__AVX512F__)
    return (vector)_mm512_maskz_loadu_ps((__mmask16)((1 << lanes) - 1), from);
#else
    vector loaded = {0};
    memcpy(&loaded, from, (size_t)lanes * sizeof(float));
    return loaded;
#endif
}
static inline void store_lanes(float *to, vector value, int64_t lanes) {
    if (lanes == LANES)
        store(to, value);
    else
#if defined(__AVX512F__)
        _mm512_mask_storeu_ps(to, (__mmask16)((1 << lanes) - 1), (__m512)value);
#else
        memcpy(to, &value, (size_t)lanes * sizeof(float));
#endif
}

/* NaN stays. */
static inline vector at_least(vector x, float low) {
#if defined(__AVX512F__)
    return (vector)_mm512_max_ps(_mm512_set1_ps(low), (__m512)x);
#elif defined(__AVX__)
    return __builtin_ia32_maxps256((vector){0} + low, x);
#else
    for (int i = 0; i < LANES; i++)
        x[i] = x[i] < low ? low : x[i];
    return x;
#endif
}
static inline vector at_most(vector x, float high) {
#if defined(__AVX512F__)
    return (vector)_mm512_min_ps(_mm512_set1_ps(high), (__m512)x);
#elif defined(__AVX__)
    return __builtin_ia32_minps256((vector){0} + high, x);
#else
    for (int i = 0; i < LANES; i++)
        x[i] = x[i] > high ? high : x[i];
    return x;
#endif
}
static inline vector clamped(vector x, float low, float high) { return at_most(at_least(x, low), high); }

static inline int64_t divide_up(int64_t count, int64_t by) { return (count + by - 1) / by; }
static inline int64_t round_up(int64_t count, int64_t multiple) { return divide_up(count, multiple) * multiple; }

#endif
