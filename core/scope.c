/* Ownership: reference counts, and the stack of scopes that hold the tensors a thread makes.
 *
 * All scopes of a thread share one stack of tensor pointers; a scope is the part from its mark upward. Bit 0 of an
 * entry marks a kept tensor: closing the scope moves it down into the next one out. */
#include "core/allocator.h"
#include "core/tensor.h"

#include <stdlib.h>
#include <string.h>

#define KEPT             ((uintptr_t)1)
#define TENSOR_OF(entry) ((cr_tensor *)((entry) & ~KEPT))

#ifdef CRESSET_DEBUG
/* Debug builds keep the headers of closed tensors for a while, so that a later use is reported and not read. */
enum { QUARANTINE = 4096 };
#include <pthread.h>
static pthread_mutex_t quarantine_lock = PTHREAD_MUTEX_INITIALIZER;
static cr_tensor *quarantine[QUARANTINE];
static size_t quarantine_next;
static _Thread_local struct grave {
    const char *file; /* NULL: no scope is being closed */
    int line;
} closing_scope;

static void bury(cr_tensor *t) {
    pthread_mutex_lock(&quarantine_lock);
    cr_tensor *oldest = quarantine[quarantine_next];
    t->offset = closing_scope.line;
    t->autograd = (void *)(uintptr_t)closing_scope.file;
    quarantine[quarantine_next] = t;
    quarantine_next = (quarantine_next + 1) % QUARANTINE;
    pthread_mutex_unlock(&quarantine_lock);
    cr_account_release(sizeof *t); /* counted as gone at once */
    if (oldest) cr_block_recycle(oldest, sizeof *oldest);
}
#else
static void bury(cr_tensor *t) { cr_block_free(t, sizeof *t); }
#endif

bool cr_tensor_check(const cr_tensor *t, const char *name) {
    if (__builtin_expect(t && t->magic == CR_TENSOR_ALIVE, 1)) return true;
    if (!t) return cr_fail(CR_ERROR_ARGUMENT, "%s: the tensor is NULL", name);
#ifdef CRESSET_DEBUG
    if (t->magic == CR_TENSOR_DEAD && t->autograd)
        return cr_fail(CR_ERROR_STATE, "%s: the tensor went when its scope, opened at %s:%d, closed; cr_keep it there",
                       name, (const char *)t->autograd, (int)t->offset);
#endif
    return cr_fail(CR_ERROR_STATE,
                   "%s: the tensor is gone: its scope has closed, or it was released; cr_keep or cr_retain it", name);
}

/* ---------------------------------------------------------------- reference counts */
cr_tensor *cr_retain(cr_tensor *t) {
    if (t && cr_tensor_check(t, "retain")) atomic_fetch_add_explicit(&t->references, 1, memory_order_relaxed);
    return t;
}

void cr_release(cr_tensor *t) {
    if (!t || !cr_tensor_check(t, "release")) return;
    if (!cr_reference_drop(&t->references)) return;
    if (t->node || t->autograd) cr_tensor_autograd_free(t);
    t->magic = CR_TENSOR_DEAD;
    cr_storage *storage = t->storage;
    bury(t);
    cr_storage_release(storage);
}

/* ---------------------------------------------------------------- scopes */
static size_t slot_of(const cr_tensor *t) { return atomic_load_explicit(&t->scope_slot, memory_order_relaxed); }
static void set_slot(cr_tensor *t, size_t slot) { atomic_store_explicit(&t->scope_slot, slot, memory_order_relaxed); }

cr_tensor *cr_scope_adopt(cr_thread *thread, cr_tensor *t) {
    if (thread->owned_count == thread->owned_capacity) {
        const size_t capacity = thread->owned_capacity ? thread->owned_capacity * 2 : 256;
        uintptr_t *grown = realloc(thread->owned, capacity * sizeof *grown);
        if (!grown) {
            cr_record_error(CR_ERROR_MEMORY, "cannot grow the scope to %zu tensors", capacity);
            cr_release(t);
            return NULL;
        }
        thread->owned = grown;
        thread->owned_capacity = capacity;
    }
    set_slot(t, thread->owned_count);
    thread->owned[thread->owned_count++] = (uintptr_t)t;
    return t;
}

/* The entry of this thread's scopes that holds t, or NULL. A tensor that several scopes hold, or other threads' scopes,
 * remembers only its latest slot: then the entries are searched, the newest first. */
static uintptr_t *entry_of(cr_thread *thread, const cr_tensor *t) {
    const size_t slot = slot_of(t);
    if (slot < thread->owned_count && TENSOR_OF(thread->owned[slot]) == t) return &thread->owned[slot];
    for (size_t i = thread->owned_count; i-- > 0;)
        if (TENSOR_OF(thread->owned[i]) == t) return &thread->owned[i];
    return NULL;
}

cr_scope_mark cr_scope_open(const char *file, int line) {
    cr_thread *thread = cr_thread_self();
    const cr_scope_mark mark = {thread->scope_start, file, line};
    thread->scope_start = thread->owned_count;
    return mark;
}

void cr_scope_close(cr_scope_mark *mark) {
    cr_thread *thread = cr_thread_self();
    const size_t start = thread->scope_start, end = thread->owned_count;
    size_t kept = start;
    for (size_t i = start; i < end; i++) { /* move what is kept down first: releasing may run the user's code */
        const uintptr_t entry = thread->owned[i];
        if (!(entry & KEPT)) continue;
        thread->owned[i] = thread->owned[kept];
        if (TENSOR_OF(thread->owned[i])) set_slot(TENSOR_OF(thread->owned[i]), i);
        set_slot(TENSOR_OF(entry), kept);
        thread->owned[kept++] = entry & ~KEPT;
    }
#ifdef CRESSET_DEBUG
    const struct grave outer = closing_scope;
    closing_scope = (struct grave){mark->file, mark->line};
#endif
    while (thread->owned_count > kept) {
        cr_tensor *t = TENSOR_OF(thread->owned[--thread->owned_count]);
        if (t) cr_release(t);
    }
#ifdef CRESSET_DEBUG
    closing_scope = outer;
#endif
    thread->scope_start = mark->depth;
}

cr_tensor *cr_keep(cr_tensor *t) {
    if (!t || !cr_tensor_check(t, "keep")) return NULL;
    cr_thread *thread = cr_thread_self();
    uintptr_t *entry = entry_of(thread, t);
    if (entry && (size_t)(entry - thread->owned) >= thread->scope_start) *entry |= KEPT;
    return t;
}

cr_tensor *cr_give(cr_tensor *t) {
    if (!t || !cr_tensor_check(t, "give")) return NULL;
    cr_thread *thread = cr_thread_self();
    uintptr_t *entry = entry_of(thread, t);
    if (entry && (size_t)(entry - thread->owned) >= thread->scope_start) { /* this scope holds it already */
        cr_release(t);
        return t;
    }
    return cr_scope_adopt(thread, t);
}

void cr_discard(cr_tensor *t) {
    if (!t || !cr_tensor_check(t, "discard")) return;
    cr_thread *thread = cr_thread_self();
    uintptr_t *entry = entry_of(thread, t);
    if (!entry) return;
    *entry = 0;
    while (thread->owned_count > thread->scope_start && !thread->owned[thread->owned_count - 1])
        thread->owned_count--;
    cr_release(t);
}

void cr_scope_clear(void) {
    cr_thread *thread = cr_thread_self();
    if (thread->scope_start != 0) return; /* a scope is open: its tensors lie above the outermost ones */
    cr_scope_mark outermost = {0, "the thread's outermost scope", 0};
    for (size_t i = 0; i < thread->owned_count; i++)
        thread->owned[i] &= ~KEPT;
    cr_scope_close(&outermost);
}

void cr_scope_thread_exit(cr_thread *thread) {
    thread->scope_start = 0;
    cr_scope_clear();
    free(thread->owned);
    thread->owned = NULL;
    thread->owned_count = thread->owned_capacity = 0;
}
