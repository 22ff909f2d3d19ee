/* The direct way by products of bytes: AVX-512 VNNI's vpdpbusd multiplies u8 by i8, four neighbours at a time, and adds them
 * to s32 without saturating. Twice as many products as of 16 bits, and rows and weights half as long. Included by
 * integer.c. */
#if defined(__AVX512BW__)

enum { BYTE_ROWS = 8 }; /* 16 sums in registers: with 14 rows products are 2 % faster, and what is left over slower */
#define WITH_BYTES __attribute__((target("avx512vnni")))

/* a: rows of `depth` bytes, a multiple of 4, `stride` apart; b: a strip. */
static inline WITH_BYTES __attribute__((always_inline)) void
multiply_bytes(const uint8_t *a, int64_t stride, const int8_t *b, int64_t depth, vec_i sums[][2], const int rows) {
    vec_i made[BYTE_ROWS][2];
    const uint8_t *from[2] = {a, a + 4 * stride};
#pragma GCC unroll 16
    for (int i = 0; i < 2 * rows; i++)
        made[i / 2][i % 2] = (vec_i){0};
    for (int64_t k = 0; k < depth; k += 4, b += 4 * COLUMNS) {
        const vec_i b0 = vec_load(b), b1 = vec_load(b + 4 * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, from[r / 4] + r % 4 * stride + k, sizeof four);
            const __m512i x = _mm512_set1_epi32(four);
            made[r][0] = (vec_i)_mm512_dpbusd_epi32((__m512i)made[r][0], x, (__m512i)b0);
            made[r][1] = (vec_i)_mm512_dpbusd_epi32((__m512i)made[r][1], x, (__m512i)b1);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < 2 * rows; i++) /* not memcpy, which would keep them in memory all along */
        sums[i / 2][i % 2] = made[i / 2][i % 2];
}

#define MULTIPLY_BYTES(rows)                                                                                           \
    static WITH_BYTES void multiply_bytes_##rows(const uint8_t *a, int64_t stride, const int8_t *b, int64_t depth,     \
                                                 vec_i sums[][2]) {                                                    \
        multiply_bytes(a, stride, b, depth, sums, rows);                                                               \
    }
MULTIPLY_BYTES(1)
MULTIPLY_BYTES(2)
MULTIPLY_BYTES(3)
MULTIPLY_BYTES(4)
MULTIPLY_BYTES(5)
MULTIPLY_BYTES(6)
MULTIPLY_BYTES(7)
MULTIPLY_BYTES(8)

/* `rows` positions in one strip, cut evenly. */
static void byte_strip(const layer *l, const void *from, int64_t row, int64_t rows, int64_t strip) {
    static void (*const multiply[])(const uint8_t *, int64_t, const int8_t *, int64_t, vec_i[][2]) = {
        multiply_bytes_1, multiply_bytes_2, multiply_bytes_3, multiply_bytes_4,
        multiply_bytes_5, multiply_bytes_6, multiply_bytes_7, multiply_bytes_8};
    const int8_t *b = (const int8_t *)l->weight + strip * l->depth * COLUMNS;
    const uint8_t *a = from;
    vec_i sums[BYTE_ROWS][2];
    for (int64_t groups = (rows + BYTE_ROWS - 1) / BYTE_ROWS; groups > 0; groups--) {
        const int64_t count = (rows + groups - 1) / groups;
        fetch_residual(l, row, count, strip);
        multiply[count - 1](a, l->depth, b, l->depth, sums);
        finish_block(l, sums, row, count, strip * COLUMNS);
        a += count * l->depth;
        row += count;
        rows -= count;
    }
}

static void gather_bytes(const layer *l, int64_t row, int64_t rows, void *to) { gather(l, row, rows, to, true); }

static bool run_bytes(layer *l) {
    l->gather = l->is_plain ? NULL : gather_bytes;
    l->multiply_strip = byte_strip;
    return run_direct(l);
}
static bool has_bytes(void) { return __builtin_cpu_supports("avx512vnni"); }

#else
static bool run_bytes(layer *l) { return run_direct(l); }
static bool has_bytes(void) { return false; }
#endif

bool CR_NAME(cr_integer_has_bytes)(void);
bool CR_NAME(cr_integer_has_bytes)(void) { return has_bytes(); }
