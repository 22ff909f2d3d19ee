/* Threads: how many, and the grain below which work stays on one. */
#ifndef CRESSET_CORE_PARALLEL_H
#define CRESSET_CORE_PARALLEL_H

#include <cresset/core.h>

/* A fork and join costs about as much as 4 µs of work: this many f32 elements of streaming arithmetic
 * (measured; docs/performance.md). */
enum { CR_GRAIN_ELEMENTS = 16 * 1024 };

/* Limits operations that this thread starts (loader workers: 1). 0: the process-wide number again. */
void cr_thread_set_num_threads(int count);

#endif
