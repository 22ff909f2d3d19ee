/* Collected loops: one parallel-for over the elements of all. */
#include "core/loops.h"

#include "core/parallel.h"
#include "core/thread.h"

#include <string.h>

/* Elements begin … end-1, counted through all loops of the list. */
static void run_range(void *context, int64_t begin, int64_t end) {
    cr_loop_list *list = context;
    int64_t first = 0;
    for (int i = 0; i < list->count && first < end; first += list->loops[i].count, i++) {
        cr_loop *loop = &list->loops[i];
        const int64_t from = begin > first ? begin - first : 0,
                      to = end - first < loop->count ? end - first : loop->count;
        if (from < to) loop->body(loop->context, from, to);
    }
}

static void run(cr_loop_list *list) {
    int64_t total = 0;
    for (int i = 0; i < list->count; i++)
        total += list->loops[i].count;
    cr_parallel_for(total, list->grain, run_range, list);
    list->count = 0;
}

void cr_loops_begin(cr_loop_list *list) {
    cr_thread *thread = cr_thread_self();
    list->outer = thread->loops;
    list->count = 0;
    thread->loops = list;
}

void cr_loops_end(cr_loop_list *list) {
    cr_thread_self()->loops = list->outer;
    run(list);
}

void cr_loop_run(int64_t count, int64_t grain, void (*body)(void *context, int64_t begin, int64_t end), void *context,
                 size_t context_bytes) {
    cr_loop_list *list = cr_thread_self()->loops;
    if (!list || context_bytes > CR_LOOP_BYTES) {
        cr_parallel_for(count, grain, body, context);
        return;
    }
    if (list->count == CR_LOOPS) run(list);
    if (list->count == 0 || grain < list->grain) list->grain = grain;
    cr_loop *loop = &list->loops[list->count++];
    loop->body = body;
    loop->count = count;
    memcpy(loop->context, context, context_bytes);
}
