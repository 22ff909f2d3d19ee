/* The threads behind cr_parallel_for. */
#ifndef CRESSET_CORE_POOL_H
#define CRESSET_CORE_POOL_H

#include <stdint.h>

enum { CR_POOL_PARTS = 256 }; /* the most parts of a job */

/* Runs part(context, 0 … parts-1), each once, by the calling thread and up to threads - 1 others; returns when all are
 * done. Several threads may call it at once, and parts may not. */
void cr_pool_run(int parts, int threads, void (*part)(void *context, int index), void *context);
/* Between two looks of a thread that waits for others: pauses, or sleeps where they seem to wait for a processor. `until`
 * is 0 at first. */
void cr_pool_wait(int64_t *until);
/* Ends the threads; the next call starts them again. */
void cr_pool_shutdown(void);

#endif
