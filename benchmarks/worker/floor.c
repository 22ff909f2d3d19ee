/* What the machine can do at best: the floor under every time. */
#include "worker.h"

enum { LANES = 8, SUMS = 10, STEPS = 20000000, FLOATS = 1 << 26, APART = 9 * 1024 + 16 };
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));
typedef float loose __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float)), may_alias));

#if defined(__x86_64__)
#define AVX2 __attribute__((target("avx2,fma")))
#else
#define AVX2
#endif

/* x = x · a + b, ten independent chains of eight lanes. The compiler must not know the factor: it finds the chain whose number
 * stays as it is, and leaves it out. */
AVX2 static void multiply_add(void *context, int64_t begin, int64_t end) {
    const volatile float factor = 0.999f;
    lanes sums[SUMS], total = {0};
    for (int k = 0; k < SUMS; k++)
        sums[k] = total + (float)k;
    const lanes a = total + factor, b = total + 1e-3f;
    for (int step = 0; step < STEPS / 8; step++)
        for (int k = 0; k < SUMS; k++)
            sums[k] = sums[k] * a + b;
    for (int k = 0; k < SUMS; k++)
        total += sums[k];
    ((lanes *)context)[begin] = total;
    (void)end;
}

double peak_flops(void) {
    static _Alignas(64) lanes results[256];
    double best = 1e9;
    const int threads = cr_num_threads() < 256 ? cr_num_threads() : 256;
    for (int round = 0; round < 3; round++) {
        const double start = wall_seconds();
        cr_parallel_for(threads, 1, multiply_add, results);
        const double seconds = wall_seconds() - start;
        best = seconds < best ? seconds : best;
    }
    return 2.0 * threads * STEPS / 8.0 * SUMS * LANES / best;
}

/* The arrays are eight times a large cache, and the second begins where no power of two would put it. */
AVX2 static void read_array(void *context, int64_t begin, int64_t end) {
    const float *x = context;
    lanes sums[8] = {{0}}, total = {0};
    for (int64_t i = begin; i + 8 * LANES <= end; i += 8 * LANES)
        for (int k = 0; k < 8; k++)
            sums[k] += *(const loose *)(x + i + k * LANES);
    for (int k = 0; k < 8; k++)
        total += sums[k];
    volatile float kept = total[0];
    (void)kept;
}

AVX2 static void add_arrays(void *context, int64_t begin, int64_t end) {
    float *a = context, *b = a + FLOATS + APART;
    for (int64_t i = begin; i + LANES <= end; i += LANES)
        *(loose *)(a + i) += *(const loose *)(b + i);
}

/* The least seconds of a pass over what two arrays of FLOATS hold. */
static double shortest_pass(void (*pass)(void *, int64_t, int64_t), int64_t floats) {
    float *arrays = cr_malloc((2 * (size_t)FLOATS + APART) * sizeof *arrays);
    double best = 1e9;
    for (int64_t i = 0; arrays && i < 2 * (int64_t)FLOATS + APART; i++)
        arrays[i] = 1; /* what was never written may be one page, again and again */
    for (int round = 0; arrays && round < 7; round++) {
        const double start = wall_seconds();
        cr_parallel_for(floats, FLOATS / 64, pass, arrays);
        const double seconds = wall_seconds() - start;
        best = seconds < best ? seconds : best;
    }
    cr_free(arrays);
    return best;
}

double peak_bandwidth(void) { return 3.0 * FLOATS * sizeof(float) / shortest_pass(add_arrays, FLOATS); }
double peak_reading(void) { return 2.0 * FLOATS * sizeof(float) / shortest_pass(read_array, 2 * (int64_t)FLOATS); }
