/* What the machine can do at best: the floor under every time. */
#include "worker.h"

enum { LANES = 8, SUMS = 10, STEPS = 20000000, FLOATS = 1 << 24 };
typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

/* x = x · a + b, ten independent chains of eight lanes. */
#if defined(__x86_64__)
__attribute__((target("avx2,fma")))
#endif
static void
multiply_add(void *context, int64_t begin, int64_t end) {
    lanes sums[SUMS], total = {0};
    for (int k = 0; k < SUMS; k++)
        sums[k] = total + (float)k;
    const lanes a = total + 0.999f, b = total + 1e-3f;
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

static void add_arrays(void *context, int64_t begin, int64_t end) {
    float *a = context, *b = a + FLOATS;
    for (int64_t i = begin; i < end; i++)
        a[i] += b[i];
}

double peak_bandwidth(void) {
    float *arrays = cr_calloc(2 * (size_t)FLOATS, sizeof *arrays);
    double best = 1e9;
    for (int round = 0; arrays && round < 5; round++) {
        const double start = wall_seconds();
        cr_parallel_for(FLOATS, FLOATS / 16, add_arrays, arrays);
        const double seconds = wall_seconds() - start;
        best = seconds < best ? seconds : best;
    }
    cr_free(arrays);
    return 3.0 * FLOATS * sizeof(float) / best;
}
