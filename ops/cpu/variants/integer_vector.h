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

/* clamp(round(v) + zero, least, …) as bytes, for v up to `most`: what is above that, and zero, are done by saturating. Rounds
 * to the nearest whole number, halves to even. */
static inline wide_u vec_quantize(vec_f a, vec_f b, float most, int32_t zero, uint8_t least) {
#if defined(__AVX512BW__)
    const __m512 high = _mm512_set1_ps(most);
    const __m512i words = _mm512_packs_epi32(_mm512_cvtps_epi32(_mm512_min_ps(high, (__m512)a)),
                                             _mm512_cvtps_epi32(_mm512_min_ps(high, (__m512)b)));
    const __m512i sums = _mm512_adds_epi16(words, _mm512_set1_epi16((short)zero));
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 0, 4, 8, 12, 1, 5, 9, 13);
    const __m512i bytes = _mm512_permutexvar_epi32(order, _mm512_packus_epi16(sums, sums));
    return (wide_u)_mm256_max_epu8(_mm512_castsi512_si256(bytes), _mm256_set1_epi8((char)least));
#elif defined(__AVX2__)
    const __m256 high = _mm256_set1_ps(most);
    const __m256i words = _mm256_packs_epi32(_mm256_cvtps_epi32(_mm256_min_ps(high, (__m256)a)),
                                             _mm256_cvtps_epi32(_mm256_min_ps(high, (__m256)b)));
    const __m256i sums = _mm256_adds_epi16(words, _mm256_set1_epi16((short)zero));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 0, 4, 1, 5);
    const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(sums, sums), order);
    return (wide_u)_mm_max_epu8(_mm256_castsi256_si128(bytes), _mm_set1_epi8((char)least));
#elif defined(__SSE2__)
    const __m128 high = _mm_set1_ps(most);
    const __m128i words =
        _mm_packs_epi32(_mm_cvtps_epi32(_mm_min_ps(high, (__m128)a)), _mm_cvtps_epi32(_mm_min_ps(high, (__m128)b)));
    const __m128i sums = _mm_adds_epi16(words, _mm_set1_epi16((short)zero));
    const __m128i bytes = _mm_max_epu8(_mm_packus_epi16(sums, sums), _mm_set1_epi8((char)least));
    wide_u v;
    memcpy(&v, &bytes, sizeof v);
    return v;
#else
    wide_u v;
    for (int i = 0; i < 2 * LANES; i++) {
        const float x = i < LANES ? a[i] : b[i - LANES], low = (float)(least - zero);
        const float inside = !(x > low) ? low : x > most ? most : x;
        v[i] = (uint8_t)((int32_t)(inside + 12582912.0F - 12582912.0F) + zero); /* 1.5 · 2^23: its last bit is 1 */
    }
    return v;
#endif
}

/* The first `count` of 2 · LANES bytes; the others are 0. */
static inline wide_u vec_load_first(const uint8_t *from, int64_t count) {
#if defined(__AVX512BW__)
    return (wide_u)_mm256_maskz_loadu_epi8((__mmask32)((UINT64_C(1) << count) - 1), from);
#else
    wide_u bytes = {0};
    memcpy(&bytes, from, (size_t)count);
    return bytes;
#endif
}
static inline void vec_store_first(uint8_t *to, wide_u bytes, int64_t count) {
#if defined(__AVX512BW__)
    _mm256_mask_storeu_epi8(to, (__mmask32)((UINT64_C(1) << count) - 1), (__m256i)bytes);
#else
    memcpy(to, &bytes, (size_t)count);
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

#endif
