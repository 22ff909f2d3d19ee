/* Shared by the benchmarks. */
#ifndef CRESSET_BENCHMARKS_BENCH_H
#define CRESSET_BENCHMARKS_BENCH_H

#include <cresset.h>

/* Seconds of wall time, and of this thread's own processor time. */
double wall_seconds(void);
double thread_seconds(void);

/* Prints one line of JSON: seconds of one turn, and what a turn must at least compute and move (0: not known). */
void report(const char *name, double seconds, double flops, double bytes);

/* The median over turns of `step` for about `budget` seconds, after two turns that do not count; reported. */
void measure(const char *name, bool (*step)(void *), void *context, double budget, double flops);

void measure_small_ops(void);
void measure_layers(void);
/* What this machine gives with `threads` threads: multiply-adds in registers, and reading and writing long arrays. */
double peak_flops(void);
double peak_bandwidth(void);

#endif
