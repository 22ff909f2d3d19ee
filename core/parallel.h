/* Threads: how many, and the grain below which work stays on one. */
#ifndef CRESSET_CORE_PARALLEL_H
#define CRESSET_CORE_PARALLEL_H

#include <cresset/core.h>

/* A fork and join costs about as much as 4 µs of work: this many f32 elements of streaming arithmetic
 * (measured; docs/performance.md). */
enum { CR_GRAIN_ELEMENTS = 16 * 1024 };

/* Runs body over 0 … count-1 in each of `steps` steps, all of a step before any of the next. Threads stay for all steps,
 * each with the items that it had in the step before unless another is free sooner: what those read stays in its cache. */
void cr_parallel_steps(int64_t steps, int64_t count, int64_t grain,
                       void (*body)(void *context, int64_t step, int64_t begin, int64_t end), void *context);

/* Limits operations that this thread starts (loader workers: 1). 0: the process-wide number again. */
void cr_thread_set_num_threads(int count);

#endif
