/* A caching allocator for host memory.
 *
 * Sizes are rounded up to classes: multiples of 64 up to 512 bytes, then four classes for each power of two. Small
 * freed blocks stay with their thread, without a lock; the rest go to lists that all threads share. Blocks of a middle
 * size are cut from regions of huge pages, and large ones come from the system on huge-page boundaries, since page
 * faults cost more than most kernels (docs/performance.md). */
#define _GNU_SOURCE
#include "core/allocator.h"
#include "core/regions.h"
#include "core/thread.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    ALIGNMENT = 64,
    LINEAR_LIMIT = 512,
    LINEAR_CLASSES = LINEAR_LIMIT / ALIGNMENT,
    CLASS_COUNT = LINEAR_CLASSES + 4 * 40,
    THREAD_CACHE_BLOCKS = 512,    /* per class */
    THREAD_CACHE_BYTES = 1 << 20, /* per thread */
    SETTLE_BYTES = 64 << 10,      /* the peak may be off by this much for each thread but one */
    HUGE_PAGE = 2 << 20,
    CACHE_FLOOR = 64 << 20 /* the shared cache may always hold this much */
};
static const size_t MOST_BYTES = (size_t)1 << 48; /* the address space; the classes reach further */

/* What threads have settled; the rest stands with each thread (cr_thread_account), so that small blocks cost no locked
 * instruction. */
static struct {
    atomic_int_fast64_t live_bytes, peak_bytes, cached_bytes, allocations, ends, system_allocations;
    atomic_int_fast64_t limit, fail_countdown, fail_seen;
    atomic_bool fail_armed;
} counters;

static pthread_mutex_t shared_lock = PTHREAD_MUTEX_INITIALIZER;
static cr_free_list shared_lists[CLASS_COUNT];
static uint64_t shared_used[CLASS_COUNT], shared_clock; /* when each list last gave or took */
static pthread_mutex_t threads_lock = PTHREAD_MUTEX_INITIALIZER;
static cr_thread *threads; /* all that have an account */

#define COUNT(counter, amount) atomic_fetch_add_explicit(&counters.counter, amount, memory_order_relaxed)
#define READ(counter)          atomic_load_explicit(&counters.counter, memory_order_relaxed)

/* ---------------------------------------------------------------- size classes */
static inline int class_of(size_t bytes) {
    if (__builtin_expect(bytes <= LINEAR_LIMIT, 1)) return (int)((bytes - (bytes > 0)) / ALIGNMENT);
    const int log2_floor = 63 - __builtin_clzll((unsigned long long)(bytes - 1)); /* 2^log2 <= bytes-1 */
    const int quarter = (int)(((bytes - 1) >> (log2_floor - 2)) & 3);
    return LINEAR_CLASSES + 4 * (log2_floor - 9) + quarter;
}

static inline size_t class_bytes(int size_class) {
    if (size_class < LINEAR_CLASSES) return (size_t)(size_class + 1) * ALIGNMENT;
    const int above = size_class - LINEAR_CLASSES;
    return (size_t)(5 + above % 4) << (above / 4 + 9 - 2);
}

/* ---------------------------------------------------------------- accounting */
/* A thread's own counters: only it writes them, others may look. */
#define OWN(counter)             atomic_load_explicit(&(counter), memory_order_relaxed)
#define OWN_SET(counter, value)  atomic_store_explicit(&(counter), value, memory_order_relaxed)
#define OWN_ADD(counter, amount) OWN_SET(counter, OWN(counter) + (amount))

static void raise_peak(int64_t live) {
    int64_t peak = READ(peak_bytes);
    while (live > peak && !atomic_compare_exchange_weak(&counters.peak_bytes, &peak, live)) {
    }
}

/* Moves this thread's account to the common one. */
static __attribute__((noinline)) void settle(cr_thread_account *account) {
    const int64_t bytes = OWN(account->live_bytes), high = OWN(account->high_bytes);
    OWN_SET(account->live_bytes, 0);
    OWN_SET(account->high_bytes, 0);
    const int64_t before = COUNT(live_bytes, bytes);
    raise_peak(before + (high > bytes ? high : bytes));
    COUNT(allocations, OWN(account->allocations));
    OWN_SET(account->allocations, 0);
    COUNT(ends, OWN(account->ends));
    OWN_SET(account->ends, 0);
}

cr_memory_stats_t cr_memory_stats(void) {
    settle(&cr_thread_self()->account);
    pthread_mutex_lock(&threads_lock);
    cr_memory_stats_t stats = {.live_bytes = READ(live_bytes),
                               .cached_bytes = READ(cached_bytes),
                               .allocations = READ(allocations),
                               .system_allocations = READ(system_allocations)};
    int64_t ends = READ(ends);
    for (cr_thread *thread = threads; thread; thread = thread->next) {
        stats.live_bytes += OWN(thread->account.live_bytes);
        stats.allocations += OWN(thread->account.allocations);
        ends += OWN(thread->account.ends);
        stats.cached_bytes += OWN(thread->cache_bytes);
    }
    pthread_mutex_unlock(&threads_lock);
    stats.live_blocks = stats.allocations - ends;
    raise_peak(stats.live_bytes);
    stats.peak_bytes = READ(peak_bytes);
    return stats;
}

void cr_allocator_thread_enter(cr_thread *thread) {
    pthread_mutex_lock(&threads_lock);
    thread->next = threads;
    threads = thread;
    pthread_mutex_unlock(&threads_lock);
}

static void leave(cr_thread *thread) {
    pthread_mutex_lock(&threads_lock);
    cr_thread **link = &threads;
    while (*link && *link != thread)
        link = &(*link)->next;
    if (*link) *link = thread->next;
    settle(&thread->account);
    pthread_mutex_unlock(&threads_lock);
}

static bool out_of_memory(size_t bytes, const char *why) {
    const cr_memory_stats_t stats = cr_memory_stats();
    return cr_fail(CR_ERROR_MEMORY, "cannot allocate %zu bytes: %s (live %lld, cached %lld)", bytes, why,
                   (long long)stats.live_bytes, (long long)stats.cached_bytes);
}

static bool fault_injected(void) {
    COUNT(fail_seen, 1);
    return atomic_fetch_sub_explicit(&counters.fail_countdown, 1, memory_order_relaxed) == 1;
}

static bool is_past_limit(size_t bytes, int64_t limit) {
    if (cr_memory_stats().live_bytes + (int64_t)bytes <= limit) return false;
    char why[64];
    snprintf(why, sizeof why, "the limit is %lld bytes", (long long)limit);
    out_of_memory(bytes, why);
    return true;
}

/* Whether someone wants to see each allocation: a limit, or the fault hook. */
static bool is_watched(void) { return READ(fail_armed) || READ(limit) > 0; }

static __attribute__((noinline)) bool may_allocate(size_t bytes) {
    if (READ(fail_armed) && fault_injected()) return out_of_memory(bytes, "made to fail by a test");
    const int64_t limit = READ(limit);
    return limit <= 0 || !is_past_limit(bytes, limit);
}

static inline void note_live(cr_thread_account *account, int64_t live) {
    OWN_SET(account->live_bytes, live);
    if (__builtin_expect(live > SETTLE_BYTES || live < -SETTLE_BYTES, 0)) settle(account);
}
static inline void note_allocation(cr_thread_account *account, size_t bytes) {
    OWN_ADD(account->allocations, 1);
    note_live(account, OWN(account->live_bytes) + (int64_t)bytes);
}
/* Live bytes have a peak where they are about to fall, so it is enough to look then (and when someone asks). */
static inline void note_release(cr_thread_account *account, size_t bytes) {
    const int64_t live = OWN(account->live_bytes);
    if (live > OWN(account->high_bytes)) OWN_SET(account->high_bytes, live);
    OWN_ADD(account->ends, 1);
    note_live(account, live - (int64_t)bytes);
}

bool cr_account_allocate(size_t bytes) {
    if (is_watched() && !may_allocate(bytes)) return false;
    note_allocation(&cr_thread_self()->account, bytes);
    return true;
}
void cr_account_cancel(size_t bytes) {
    cr_thread_account *account = &cr_thread_self()->account;
    OWN_ADD(account->ends, 1);
    note_live(account, OWN(account->live_bytes) - (int64_t)bytes);
}
void cr_account_release(size_t bytes) { note_release(&cr_thread_self()->account, bytes); }

/* ---------------------------------------------------------------- free lists */
static void *list_pop(cr_free_list *list) {
    void *block = list->head;
    if (block) {
        memcpy(&list->head, block, sizeof list->head);
        list->count--;
    }
    return block;
}
static void list_push(cr_free_list *list, void *block) {
    memcpy(block, &list->head, sizeof list->head);
    list->head = block;
    list->count++;
}

/* A block of this class that the thread holds. */
static inline void *take_cached(cr_thread *thread, int size_class) {
    cr_free_list *list = &thread->cache[size_class];
    void *block = list->head;
    memcpy(&list->head, block, sizeof list->head);
    list->count--;
    OWN_ADD(thread->cache_bytes, -(int64_t)class_bytes(size_class));
    return block;
}

static void *system_allocate(size_t bytes) {
    COUNT(system_allocations, 1);
    void *block = cr_region_allocate(bytes);
    if (block) return block;
    if (bytes < 2 * (size_t)HUGE_PAGE) return aligned_alloc(ALIGNMENT, bytes);
    if (bytes > SIZE_MAX / 2) return NULL;
    const size_t rounded = (bytes + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    block = aligned_alloc(HUGE_PAGE, rounded);
    if (block) madvise(block, rounded, MADV_HUGEPAGE);
    return block;
}

static void system_free(void *block, size_t bytes) {
    if (!cr_region_free(block, bytes)) free(block);
}

static void drop_cache(cr_thread *thread) {
    for (int c = 0; c < CR_CACHE_CLASSES; c++)
        for (void *block; (block = list_pop(&thread->cache[c]));)
            free(block);
    OWN_SET(thread->cache_bytes, 0);
}

/* Frees blocks of the sizes that were asked for longest ago, while what is live and what is cached make more than one and
 * a half of the most that was ever live: with less room a training step gives back what it soon wants again. Where the
 * system is about to be asked for much, as for a plan's arena, which takes the place of many blocks, they may make no
 * more than that most. Call with shared_lock. */
static void shrink_cache(size_t wanted) {
    const int64_t live = READ(live_bytes), peak = READ(peak_bytes) > live ? READ(peak_bytes) : live;
    const int64_t most = (int64_t)wanted < peak / 16 ? peak + peak / 2 : peak;
    const int64_t unused = most - live, allowance = unused > CACHE_FLOOR ? unused : CACHE_FLOOR;
    while (READ(cached_bytes) > allowance) {
        int oldest = -1;
        for (int c = 0; c < CLASS_COUNT; c++)
            if (shared_lists[c].count && (oldest < 0 || shared_used[c] < shared_used[oldest])) oldest = c;
        if (oldest < 0) return;
        system_free(list_pop(&shared_lists[oldest]), class_bytes(oldest));
        COUNT(cached_bytes, -(int64_t)class_bytes(oldest));
    }
}

void cr_memory_trim(void) {
    pthread_mutex_lock(&shared_lock);
    for (int c = 0; c < CLASS_COUNT; c++) {
        for (void *block; (block = list_pop(&shared_lists[c]));) {
            COUNT(cached_bytes, -(int64_t)class_bytes(c));
            system_free(block, class_bytes(c));
        }
    }
    pthread_mutex_unlock(&shared_lock);
    drop_cache(cr_thread_self());
}

/* A block that the thread does not hold, or must ask for. */
static __attribute__((noinline)) void *allocate_block(size_t bytes) {
    if (bytes > MOST_BYTES) {
        out_of_memory(bytes, "more than the address space");
        return NULL;
    }
    if (!cr_account_allocate(bytes)) return NULL;
    const int size_class = class_of(bytes);
    const size_t rounded = class_bytes(size_class);
    cr_thread *thread = cr_thread_self();
    if (size_class < CR_CACHE_CLASSES && thread->cache[size_class].head) return take_cached(thread, size_class);
    pthread_mutex_lock(&shared_lock);
    void *block = list_pop(&shared_lists[size_class]);
    shared_used[size_class] = ++shared_clock;
    if (block)
        COUNT(cached_bytes, -(int64_t)rounded);
    else
        shrink_cache(rounded);
    pthread_mutex_unlock(&shared_lock);
    if (block) return block;
    block = system_allocate(rounded);
    if (!block) { /* the cache may hold what the system lacks */
        cr_memory_trim();
        block = system_allocate(rounded);
    }
    if (!block) {
        cr_account_cancel(bytes);
        out_of_memory(bytes, "the system has no more");
    }
    return block;
}

void *cr_block_allocate(size_t bytes) {
    cr_thread *thread = cr_thread_self();
    const int size_class = class_of(bytes);
    if (size_class >= CR_CACHE_CLASSES || !thread->cache[size_class].head || is_watched()) return allocate_block(bytes);
    note_allocation(&thread->account, bytes);
    return take_cached(thread, size_class);
}

static __attribute__((noinline)) void share_block(void *block, int size_class) {
    pthread_mutex_lock(&shared_lock);
    list_push(&shared_lists[size_class], block);
    shared_used[size_class] = ++shared_clock;
    COUNT(cached_bytes, (int64_t)class_bytes(size_class));
    shrink_cache(0);
    pthread_mutex_unlock(&shared_lock);
}

static inline void recycle(cr_thread *thread, void *block, size_t bytes) {
    const int size_class = class_of(bytes);
    if (size_class < CR_CACHE_CLASSES && thread->cache[size_class].count < THREAD_CACHE_BLOCKS) {
        const int64_t held = OWN(thread->cache_bytes) + (int64_t)class_bytes(size_class);
        if (held <= THREAD_CACHE_BYTES) {
            list_push(&thread->cache[size_class], block);
            OWN_SET(thread->cache_bytes, held);
            return;
        }
    }
    share_block(block, size_class);
}

void cr_block_recycle(void *block, size_t bytes) { recycle(cr_thread_self(), block, bytes); }

void cr_block_free(void *block, size_t bytes) {
    if (!block) return;
    cr_thread *thread = cr_thread_self();
    note_release(&thread->account, bytes);
    recycle(thread, block, bytes);
}

void cr_allocator_thread_exit(cr_thread *thread) {
    drop_cache(thread);
    leave(thread);
}

/* ---------------------------------------------------------------- malloc's family: the size stands before the block */
void *cr_malloc(size_t bytes) {
    if (bytes > MOST_BYTES) { /* and so the sum below cannot wrap */
        out_of_memory(bytes, "more than the address space");
        return NULL;
    }
    char *block = cr_block_allocate(bytes + ALIGNMENT);
    if (!block) return NULL;
    memcpy(block, &bytes, sizeof bytes);
    return block + ALIGNMENT;
}

static size_t size_of_block(const void *block) {
    size_t bytes;
    memcpy(&bytes, (const char *)block - ALIGNMENT, sizeof bytes);
    return bytes;
}

void *cr_calloc(size_t count, size_t bytes) {
    size_t total;
    if (__builtin_mul_overflow(count, bytes, &total)) {
        cr_record_error(CR_ERROR_MEMORY, "cannot allocate %zu objects of %zu bytes: more than the address space", count,
                        bytes);
        return NULL;
    }
    void *block = cr_malloc(total);
    return block ? memset(block, 0, total) : NULL;
}

void *cr_realloc(void *block, size_t bytes) {
    if (!block) return cr_malloc(bytes);
    const size_t old_bytes = size_of_block(block);
    if (bytes <= old_bytes && bytes * 2 >= old_bytes) return block;
    void *moved = cr_malloc(bytes);
    if (!moved) return NULL;
    memcpy(moved, block, old_bytes < bytes ? old_bytes : bytes);
    cr_free(block);
    return moved;
}

char *cr_strdup(const char *text) {
    if (!text) {
        cr_record_error(CR_ERROR_ARGUMENT, "strdup: NULL text");
        return NULL;
    }
    const size_t bytes = strlen(text) + 1;
    char *copy = cr_malloc(bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

void cr_free(void *block) {
    if (block) cr_block_free((char *)block - ALIGNMENT, size_of_block(block) + ALIGNMENT);
}

/* ---------------------------------------------------------------- peak, limit, fault hook */
void cr_memory_reset_peak(void) { atomic_store(&counters.peak_bytes, cr_memory_stats().live_bytes); }

void cr_memory_set_limit(int64_t bytes) { atomic_store(&counters.limit, bytes > 0 ? bytes : 0); }

void cr_memory_fail_nth(int64_t n) {
    atomic_store(&counters.fail_seen, 0);
    atomic_store(&counters.fail_countdown, n > 0 ? n : 0);
    atomic_store(&counters.fail_armed, n > 0);
}

int64_t cr_memory_fail_seen(void) { return READ(fail_seen); }
