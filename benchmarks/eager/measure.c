/* Clocks, medians, and the lines that the scripts read. */
#define _GNU_SOURCE
#include "bench.h"

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

void measure(const char *name, bool (*step)(void *), void *context, double budget, double flops) {
    enum { MOST = 500, LEAST = 3 };
    double times[MOST];
    int count = 0;
    const double begin = wall_seconds();
    if (!step(context) || !step(context)) return;
    while (count < MOST && (count < LEAST || wall_seconds() - begin < budget)) {
        const double start = wall_seconds();
        if (!step(context)) return;
        const double seconds = wall_seconds() - start;
        int at = count++;
        for (; at > 0 && times[at - 1] > seconds; at--)
            times[at] = times[at - 1];
        times[at] = seconds;
    }
    report(name, times[count / 2], flops, 0);
}
