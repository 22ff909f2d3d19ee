/* Vectors of 32-bit integers and what integer kernels do with them, as wide as the instruction set's registers.
 *
 * The product is s16 by s16, two at a time into s32 (pmaddwd): it holds u8 by s8 exactly. pmaddubsw multiplies twice as
 * many bytes but saturates its s16 sums, and needs another multiplication to widen them: no faster, and not exact.
 * AVX-512 VNNI's vpdpwssd is pmaddwd and the addition in one. */
#ifndef CRESSET_OPS_CPU_INTEGER_VECTOR_H
#define CRESSET_OPS_CPU_INTEGER_VECTOR_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512BW__)
#include <immintrin.h>
enum { LANES = 16 };
#elif defined(__AVX2__)
#include <immintrin.h>
enum { LANES = 8 };
#else
#if defined(__SSE2__)
#include <emmintrin.h>
#endif
enum { LANES = 4 };
#endif

typedef int32_t vec_i __attribute__((vector_size(4 * LANES)));
typedef float vec_f __attribute__((vector_size(4 * LANES)));
typedef int16_t vec_s __attribute__((vector_size(4 * LANES)));
typedef int16_t half_s __attribute__((vector_size(2 * LANES))); /* as many as vec_i has */
typedef uint8_t vec_u __attribute__((vector_size(LANES)));
typedef uint8_t wide_u __attribute__((vector_size(2 * LANES)));
typedef uint8_t vec_b __attribute__((vector_size(4 * LANES)));

static inline vec_i vec_load(const void *from) {
    vec_i v;
    memcpy(&v, from, sizeof v);
    return v;
}

/* a + the sums of x · y, two by two. */
static inline vec_i vec_multiply(vec_i a, vec_i x, vec_i y) {
#if defined(__AVX512BW__)
    return a + (vec_i)_mm512_madd_epi16((__m512i)x, (__m512i)y);
#elif defined(__AVX2__)
    return a + (vec_i)_mm256_madd_epi16((__m256i)x, (__m256i)y);
#elif defined(__SSE2__)
    return a + (vec_i)_mm_madd_epi16((__m128i)x, (__m128i)y);
#else
    const vec_s p = (vec_s)x, q = (vec_s)y;
    for (int i = 0; i < LANES; i++)
        a[i] += p[2 * i] * q[2 * i] + p[2 * i + 1] * q[2 * i + 1];
    return a;
#endif
}

/* Two neighbours of s16 in all lanes. */
static inline vec_i vec_pair(const int16_t *from) {
    int32_t pair;
    memcpy(&pair, from, sizeof pair);
#if defined(__AVX512BW__)
    return (vec_i)_mm512_set1_epi32(pair);
#elif defined(__AVX2__)
    return (vec_i)_mm256_set1_epi32(pair);
#else
    return pair - (vec_i){0};
#endif
}

static inline vec_f vec_clamp(vec_f v, float least, float most) {
    const vec_f low = least - (vec_f){0}, high = most - (vec_f){0};
#if defined(__AVX512BW__)
    return (vec_f)_mm512_min_ps(_mm512_max_ps((__m512)v, (__m512)low), (__m512)high);
#elif defined(__AVX2__)
    return (vec_f)_mm256_min_ps(_mm256_max_ps((__m256)v, (__m256)low), (__m256)high);
#elif defined(__SSE2__)
    return (vec_f)_mm_min_ps(_mm_max_ps((__m128)v, (__m128)low), (__m128)high);
#else
    for (int i = 0; i < LANES; i++)
        v[i] = v[i] < low[i] ? low[i] : v[i] > high[i] ? high[i] : v[i];
    return v;
#endif
}

static inline vec_b vec_most(vec_b a, vec_b b) {
#if defined(__AVX512BW__)
    return (vec_b)_mm512_max_epu8((__m512i)a, (__m512i)b);
#elif defined(__AVX2__)
    return (vec_b)_mm256_max_epu8((__m256i)a, (__m256i)b);
#elif defined(__SSE2__)
    return (vec_b)_mm_max_epu8((__m128i)a, (__m128i)b);
#else
    for (int i = 0; i < 4 * LANES; i++)
        a[i] = a[i] > b[i] ? a[i] : b[i];
    return a;
#endif
}

/* Numbers within 0 … 255 as bytes. */
static inline wide_u vec_narrow(vec_i a, vec_i b) {
#if defined(__AVX512BW__)
    const __m256i v = _mm256_set_m128i(_mm512_cvtepi32_epi8((__m512i)b), _mm512_cvtepi32_epi8((__m512i)a));
    return (wide_u)v;
#elif defined(__AVX2__)
    const __m256i words = _mm256_packus_epi32((__m256i)a, (__m256i)b), bytes = _mm256_packus_epi16(words, words);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5);
    return (wide_u)_mm256_castsi256_si128(_mm256_permutevar8x32_epi32(bytes, order));
#elif defined(__SSE2__)
    const __m128i words = _mm_packs_epi32((__m128i)a, (__m128i)b), bytes = _mm_packus_epi16(words, words);
    wide_u v;
    memcpy(&v, &bytes, sizeof v);
    return v;
#else
    const vec_u low = __builtin_convertvector(a, vec_u), high = __builtin_convertvector(b, vec_u);
    wide_u v;
    memcpy(&v, &low, sizeof low);
    memcpy((char *)&v + sizeof low, &high, sizeof high);
    return v;
#endif
}

/* LANES bytes from memory as s32. */
static inline vec_i vec_bytes(const void *from) {
#if defined(__AVX512BW__)
    return (vec_i)_mm512_cvtepu8_epi32(_mm_loadu_si128(from));
#elif defined(__AVX2__)
    return (vec_i)_mm256_cvtepu8_epi32(_mm_loadl_epi64(from));
#else
    vec_u bytes;
    memcpy(&bytes, from, sizeof bytes);
    return __builtin_convertvector(bytes, vec_i);
#endif
}

/* LANES numbers of s16 from memory as s32. */
static inline vec_i vec_shorts(const void *from) {
#if defined(__AVX512BW__)
    return (vec_i)_mm512_cvtepi16_epi32(_mm256_loadu_si256(from));
#elif defined(__AVX2__)
    return (vec_i)_mm256_cvtepi16_epi32(_mm_loadu_si128(from));
#else
    half_s v;
    memcpy(&v, from, sizeof v);
    return __builtin_convertvector(v, vec_i);
#endif
}

static inline vec_s vec_widen(wide_u bytes) {
#if defined(__AVX512BW__)
    return (vec_s)_mm512_cvtepu8_epi16((__m256i)bytes);
#elif defined(__AVX2__)
    return (vec_s)_mm256_cvtepu8_epi16((__m128i)bytes);
#else
    return __builtin_convertvector(bytes, vec_s);
#endif
}

/* Rounds |v| < 2^22 to the nearest whole number, halves to even: in the sum with 1.5 · 2^23 its last bit is 1. */
static inline vec_i vec_round(vec_f v) { return (vec_i)(v + 12582912.0F) - 0x4b400000; }

#endif
