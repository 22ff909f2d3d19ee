/* Creates and ends the per-thread record. */
#include "core/thread.h"

#include <pthread.h>
#include <stdlib.h>

_Thread_local cr_thread *cr_thread_pointer __attribute__((tls_model("initial-exec"))) = NULL;

static pthread_key_t exit_key;
static pthread_once_t exit_key_once = PTHREAD_ONCE_INIT;
static bool exit_key_made;
static cr_thread emergency; /* errors can be recorded even when nothing can be allocated */

static void on_thread_exit(void *record) {
    cr_thread *thread = record;
    cr_thread_pointer = thread;
    cr_scope_thread_exit(thread);
    cr_allocator_thread_exit(thread);
    cr_thread_pointer = NULL;
    free(thread);
}

static void prepare(void) {
    exit_key_made = pthread_key_create(&exit_key, on_thread_exit) == 0;
    cr_allocator_thread_enter(&emergency);
}

cr_thread *cr_thread_create(void) {
    pthread_once(&exit_key_once, prepare);
    cr_thread *thread = calloc(1, sizeof *thread);
    if (!thread) return &emergency;
    thread->error = (cr_error){CR_ERROR_NONE, "", ""};
    cr_thread_pointer = thread;
    cr_allocator_thread_enter(thread);
    if (exit_key_made) pthread_setspecific(exit_key, thread);
    return thread;
}
