/* A few f32 rows by weights of i8 as products of bytes, where the processor has AVX-512 VNNI. A row becomes integers of 24
 * bits, in steps of 2^-23 of a power of two above its largest number, and each byte of these multiplies the weights, exactly:
 *     x = X · step,  X + 2^23 = d0 + 2^8 d1 + 2^16 d2,    Σ X w = Σ_j 2^8j Σ d_j w - 2^23 Σ w
 * No weight is widened, which took longer than reading it. Included by narrow.h. */
#if defined(__AVX512BW__) && !defined(__clang__) /* whose assembler wants the whole file compiled for it */
#include <immintrin.h>

enum {
    DIGITS = 3,
    DIGIT_BITS = 23,
    DIGIT_LANES = 64,
    MOST_DIGITS = 1 << 16, /* of which sums stay within 32 bits */
    MOST_APART = 8
};

/* A row, and behind it X [k] and the digits [DIGITS][whole], of whole vectors. */
typedef struct digit_row {
    double step;
    int64_t whole;
    int32_t *numbers;
    uint8_t *digits;
} digit_row;

static int64_t whole_digits(int64_t count) { return count / DIGIT_LANES * DIGIT_LANES; }
static size_t digit_row_bytes(int64_t count) {
    return (sizeof(digit_row) + (size_t)count * 4 + (size_t)(DIGITS * whole_digits(count)) + 63) / 64 * 64;
}

static bool multiplies_digits(int64_t count) { return count <= MOST_DIGITS && __builtin_cpu_supports("avx512vnni"); }

/* Finite, and the exponent of *largest is so near the mean of all that the others keep enough of the bits. */
static bool has_even_sizes(const float *x, int64_t count, float *largest) {
    uint32_t most = 0;
    int32_t exponents = 0, counted = 0;
    for (int64_t k = 0; k < count; k++) {
        const uint32_t bits = cr_bits_of_float(x[k]) & 0x7fffffff;
        most = bits > most ? bits : most;
        exponents += (int32_t)(bits >> 23);
        counted += bits != 0;
    }
    *largest = cr_float_of_bits(most);
    return most < 0x7f800000 && (int64_t)(most >> 23) * counted - exponents <= (int64_t)MOST_APART * counted;
}

static void make_digits(const float *x, int64_t count, float largest, digit_row *row) {
    const __m512i most_number = _mm512_set1_epi32((1 << DIGIT_BITS) - 1), offset = _mm512_set1_epi32(1 << DIGIT_BITS);
    const int64_t whole = whole_digits(count);
    int exponent = 0;
    frexpf(largest, &exponent);
    row->step = ldexp(1, exponent - DIGIT_BITS);
    row->whole = whole;
    row->numbers = (int32_t *)(row + 1);
    row->digits = (uint8_t *)(row->numbers + count);
    const __m512 scale = _mm512_set1_ps((float)(DIGIT_BITS - exponent));
    for (int64_t k = 0; k < count; k += 16) {
        const int64_t left = count - k;
        const __mmask16 lanes = left < 16 ? (__mmask16)((1U << left) - 1) : 0xffff;
        const __m512i rounded = _mm512_cvtps_epi32(_mm512_scalef_ps(_mm512_maskz_loadu_ps(lanes, x + k), scale)),
                      n = _mm512_min_epi32(rounded, most_number), u = _mm512_add_epi32(n, offset);
        _mm512_mask_storeu_epi32(row->numbers + k, lanes, n);
        for (int d = 0; k < whole && d < DIGITS; d++)
            _mm_storeu_si128((__m128i *)(void *)(row->digits + d * whole + k),
                             _mm512_cvtepi32_epi8(_mm512_srli_epi32(u, (unsigned)(8 * d))));
    }
}

/* By hand, since gcc copies each sum before it adds to it. */
static inline __attribute__((always_inline)) void add_products(gemm_f32_vector *sum, __m512i digits, __m512i weights) {
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sum) : "v"(digits), "v"(weights));
}

enum { DIGIT_SUMS = DIGITS + 1 }; /* of d_j w, and of w alone */

/* sums[j][i] of COLUMNS_AT_ONCE lines. As a function of its own, in which all stays in registers. */
static __attribute__((noinline)) void digit_sums(const uint8_t *digits, const char *const w[COLUMNS_AT_ONCE],
                                                 int64_t whole, gemm_f32_vector sums[DIGIT_SUMS][COLUMNS_AT_ONCE]) {
    const __m512i ones = _mm512_set1_epi8(1);
    gemm_f32_vector made[DIGIT_SUMS * COLUMNS_AT_ONCE];
#pragma GCC unroll 16
    for (int i = 0; i < DIGIT_SUMS * COLUMNS_AT_ONCE; i++)
        made[i] = (gemm_f32_vector){0};
    for (int64_t k = 0; k < whole; k += DIGIT_LANES) {
        __m512i weights[COLUMNS_AT_ONCE];
#pragma GCC unroll 4
        for (int i = 0; i < COLUMNS_AT_ONCE; i++)
            weights[i] = _mm512_loadu_si512(w[i] + k);
#pragma GCC unroll 4
        for (int j = 0; j < DIGIT_SUMS; j++) {
            const __m512i d = j < DIGITS ? _mm512_loadu_si512(digits + j * whole + k) : ones;
#pragma GCC unroll 4
            for (int i = 0; i < COLUMNS_AT_ONCE; i++)
                add_products(&made[j * COLUMNS_AT_ONCE + i], d, weights[i]);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < DIGIT_SUMS * COLUMNS_AT_ONCE; i++)
        sums[i / COLUMNS_AT_ONCE][i % COLUMNS_AT_ONCE] = made[i];
}

/* Four sums as f64, in which all that follows is exact: less than 2^16 numbers of 24 bits times 8. */
typedef int32_t four_sums __attribute__((vector_size(16)));
typedef double four_numbers __attribute__((vector_size(32)));
static inline four_numbers fold_digits(const gemm_f32_vector v[COLUMNS_AT_ONCE]) {
    float folded[COLUMNS_AT_ONCE];
    four_sums sums;
    gemm_f32_fold_four(v, true, folded);
    memcpy(&sums, folded, sizeof sums);
    return __builtin_convertvector(sums, four_numbers);
}

/* sums[i] = Σ_k x[k] · w[i][k] of COLUMNS_AT_ONCE lines of the weight. */
static void digit_dots(const void *x, const char *const w[COLUMNS_AT_ONCE], int64_t count, float *sums) {
    const digit_row *row = x;
    gemm_f32_vector made[DIGIT_SUMS][COLUMNS_AT_ONCE];
    digit_sums(row->digits, w, row->whole, made);
    four_numbers sum = fold_digits(made[DIGITS]) * -(1 << DIGIT_BITS);
#pragma GCC unroll 3
    for (int j = 0; j < DIGITS; j++)
        sum += fold_digits(made[j]) * (1 << 8 * j);
    for (int64_t k = row->whole; k < count; k++)
        for (int i = 0; i < COLUMNS_AT_ONCE; i++)
            sum[i] += (double)(row->numbers[k] * ((const int8_t *)w[i])[k]);
    sum *= row->step;
    for (int i = 0; i < COLUMNS_AT_ONCE; i++)
        sums[i] = (float)sum[i];
}
#else
static bool multiplies_digits(int64_t count) { return (void)count, false; }
static bool has_even_sizes(const float *x, int64_t count, float *largest) {
    return (void)x, (void)count, (void)largest, false;
}
static size_t digit_row_bytes(int64_t count) { return (size_t)count; }
static void make_digits(const float *x, int64_t count, float largest, void *row) {
    (void)x, (void)count, (void)largest, (void)row;
}
static void digit_dots(const void *x, const char *const w[COLUMNS_AT_ONCE], int64_t count, float *sums) {
    (void)x, (void)w, (void)count, (void)sums;
}
#endif
