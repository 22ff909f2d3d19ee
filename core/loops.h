/* Loops over elements that are collected and then run as one parallel job: many short ones cost one fork and join, and
 * long ones are shared out evenly beside them. */
#ifndef CRESSET_CORE_LOOPS_H
#define CRESSET_CORE_LOOPS_H

#include <stddef.h>
#include <stdint.h>

enum { CR_LOOPS = 64, CR_LOOP_BYTES = 128 };

typedef struct cr_loop {
    void (*body)(void *context, int64_t begin, int64_t end);
    int64_t count;
    _Alignas(16) char context[CR_LOOP_BYTES];
} cr_loop;

typedef struct cr_loop_list {
    struct cr_loop_list *outer;
    int count;
    int64_t grain; /* the least of theirs */
    cr_loop loops[CR_LOOPS];
} cr_loop_list;

/* From here on this thread's loops are collected: they must not depend on each other, nor may anything that happens
 * before the end depend on them. When the list is full it is run. */
void cr_loops_begin(cr_loop_list *list);
/* Runs what is collected. */
void cr_loops_end(cr_loop_list *list);
/* cr_parallel_for, or where loops are collected a note to do it, with a copy of the context (at most CR_LOOP_BYTES). */
void cr_loop_run(int64_t count, int64_t grain, void (*body)(void *context, int64_t begin, int64_t end), void *context,
                 size_t context_bytes);

#endif
