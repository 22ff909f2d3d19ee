/* All per-thread state in one record behind one thread-local pointer: the recorded error, the stack of scopes, the call
 * chain, the allocator's cache, and the modes that upper floors keep (grad mode, tracing). */
#ifndef CRESSET_CORE_THREAD_H
#define CRESSET_CORE_THREAD_H

#include <cresset/core.h>

#include <stdatomic.h>

enum { CR_MESSAGE_BYTES = 1024, CR_CHAIN_BYTES = 512, CR_CACHE_CLASSES = 40 };

/* One link of the call chain; lives on the C stack of the function that pushed it. */
typedef struct cr_frame {
    const char *name;   /* "conv2d", "nn.linear" */
    const char *detail; /* a module's path, or NULL */
    struct cr_frame *outer;
} cr_frame;

/* Free blocks of one size class, linked through their first word. */
typedef struct cr_free_list {
    void *head;
    int count;
} cr_free_list;

/* Memory that a thread has asked for and given back since it last settled with the common counters. */
typedef struct cr_thread_account {
    atomic_int_fast64_t live_bytes, allocations, ends; /* ends: blocks given back, or never had after all */
    atomic_int_fast64_t high_bytes;                    /* the highest live_bytes */
} cr_thread_account;

typedef struct cr_thread {
    cr_error error;
    char message[CR_MESSAGE_BYTES];
    char chain[CR_CHAIN_BYTES];
    cr_frame *frame;

    uintptr_t *owned; /* tensors that scopes own, oldest first; bit 0 marks a kept one */
    size_t owned_count, owned_capacity;
    size_t scope_start; /* where the innermost scope's tensors begin */

    cr_free_list cache[CR_CACHE_CLASSES];
    atomic_int_fast64_t cache_bytes;
    cr_thread_account account;
    struct cr_thread *next; /* in the allocator's list */

    int num_threads;            /* > 0: this thread's own limit (loader workers: 1) */
    struct cr_loop_list *loops; /* where loops over elements are collected, or NULL: they run at once */
    bool in_parallel;           /* inside a parallel-for body: nested ones run serially */
    bool grad_disabled;         /* autograd's no-grad mode */
    bool inference;             /* autograd's inference mode */
    bool listeners_paused;      /* the dispatcher runs a decomposition that is recorded as one op */
    void *tracer;               /* the trace being recorded by this thread, or NULL */
    bool dry_run;               /* ops give hollow tensors: sizes, but no values */
    uint64_t next_serial;       /* of the next storage made here; the high bits are the thread's */
} cr_thread;

extern _Thread_local cr_thread *cr_thread_pointer __attribute__((tls_model("initial-exec")));

/* Makes this thread's record (never NULL: a shared emergency record stands in when memory is gone). */
cr_thread *cr_thread_create(void);

static inline cr_thread *cr_thread_self(void) {
    cr_thread *self = cr_thread_pointer;
    return __builtin_expect(self != NULL, 1) ? self : cr_thread_create();
}

static inline void cr_frame_push(cr_thread *thread, cr_frame *frame, const char *name, const char *detail) {
    frame->name = name;
    frame->detail = detail;
    frame->outer = thread->frame;
    thread->frame = frame;
}
static inline void cr_frame_pop(cr_thread *thread, cr_frame *frame) { thread->frame = frame->outer; }

/* Between these two a trace that goes on neither sees nor owns what is made: state that a function makes on its first
 * call. */
typedef struct cr_outside {
    uint64_t next_serial;
    bool listeners_paused, dry_run;
} cr_outside;
static inline cr_outside cr_outside_enter(cr_thread *thread) {
    const cr_outside before = {thread->next_serial, thread->listeners_paused, thread->dry_run};
    if (thread->tracer) thread->next_serial = 0; /* serials of another block */
    thread->listeners_paused = true;
    thread->dry_run = false;
    return before;
}
static inline void cr_outside_leave(cr_thread *thread, cr_outside before) {
    if (thread->tracer) thread->next_serial = before.next_serial;
    thread->listeners_paused = before.listeners_paused;
    thread->dry_run = before.dry_run;
}

/* Called by cr_thread's destructor. */
void cr_scope_thread_exit(cr_thread *thread);
void cr_allocator_thread_enter(cr_thread *thread); /* when it is made */
void cr_allocator_thread_exit(cr_thread *thread);

#endif
