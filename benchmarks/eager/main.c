/* benchmark_eager [threads] [small|models]: one line of JSON for each measurement. compare.py runs it beside PyTorch. */
#define _GNU_SOURCE
#include "bench.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static double seconds_of(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
double wall_seconds(void) { return seconds_of(CLOCK_MONOTONIC); }
double thread_seconds(void) { return seconds_of(CLOCK_THREAD_CPUTIME_ID); }

void report(const char *name, double seconds, double flops, double bytes) {
    printf("{\"name\": \"%s\", \"seconds\": %.9g, \"flops\": %g, \"bytes\": %g}\n", name, seconds, flops, bytes);
    fflush(stdout);
}

int main(int argc, char **argv) {
    const char *part = argc > 2 ? argv[2] : "all";
    if (argc > 1) cr_set_num_threads(atoi(argv[1]));
    cr_manual_seed(0);
    if (strcmp(part, "models") != 0) measure_small_ops();
    if (strcmp(part, "small") != 0) {
        report("peak_flops", 1 / peak_flops(), 0, 0);
        report("peak_bandwidth", 1 / peak_bandwidth(), 0, 0);
        measure_models();
    }
    cr_shutdown();
    return cr_report(stderr);
}
