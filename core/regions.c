/* A region is 32 MB on huge pages, cut into units; a block is a run of them, the first that is free. On a virtual machine
 * memory costs 1 ms a megabyte by pages of 4 KB, and 0.15 by huge ones (docs/performance.md). */
#define _GNU_SOURCE
#include "core/regions.h"

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { HUGE_PAGE = 2 << 20, UNIT = 64 << 10, REGION_BYTES = 32 << 20, UNITS = REGION_BYTES / UNIT };

typedef struct region {
    struct region *next;
    char *memory;
    int taken;
    uint64_t is_taken[UNITS / 64];
} region;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static region *regions;

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define IS_WATCHED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(IS_WATCHED)
static const bool is_watched = true; /* by a tool that knows malloc's blocks only */
#else
static const bool is_watched = false;
#endif

static int units_of(size_t bytes) { return (int)((bytes + UNIT - 1) / UNIT); }

static int find(const region *r, int count) {
    for (int unit = 0, found = 0; unit < UNITS; unit++) {
        found = r->is_taken[unit / 64] >> (unit % 64) & 1 ? 0 : found + 1;
        if (found == count) return unit - count + 1;
    }
    return -1;
}

/* Takes free units, or gives taken ones back. */
static void turn(region *r, int first, int count) {
    for (int unit = first; unit < first + count; unit++)
        r->is_taken[unit / 64] ^= (uint64_t)1 << (unit % 64);
}

/* Gives the system those huge pages among these units that hold no block any more. */
static void give_back(region *r, int first, int count) {
    enum { PAGE_UNITS = HUGE_PAGE / UNIT };
    for (int page = first / PAGE_UNITS; page <= (first + count - 1) / PAGE_UNITS; page++)
        if (!(uint32_t)(r->is_taken[page * PAGE_UNITS / 64] >> (page * PAGE_UNITS % 64)))
            madvise(r->memory + (size_t)page * HUGE_PAGE, HUGE_PAGE, MADV_DONTNEED);
}

static region *new_region(void) {
    region *r = calloc(1, sizeof *r);
    if (!r || !(r->memory = aligned_alloc(HUGE_PAGE, REGION_BYTES))) {
        free(r);
        return NULL;
    }
    madvise(r->memory, REGION_BYTES, MADV_HUGEPAGE);
    r->next = regions;
    return regions = r;
}

void *cr_region_allocate(size_t bytes) {
    if (is_watched || bytes < CR_REGION_LEAST || bytes > CR_REGION_MOST) return NULL;
    const int count = units_of(bytes);
    int first = -1;
    pthread_mutex_lock(&lock);
    region *r = regions;
    while (r && (UNITS - r->taken < count || (first = find(r, count)) < 0))
        r = r->next;
    if (!r && (r = new_region())) first = 0;
    if (r) {
        turn(r, first, count);
        r->taken += count;
    }
    pthread_mutex_unlock(&lock);
    return r ? r->memory + (size_t)first * UNIT : NULL;
}

bool cr_region_free(void *block, size_t bytes) {
    if (bytes < CR_REGION_LEAST || bytes > CR_REGION_MOST) return false;
    const uintptr_t at = (uintptr_t)block;
    pthread_mutex_lock(&lock);
    region **link = &regions;
    while (*link && at - (uintptr_t)(*link)->memory >= REGION_BYTES)
        link = &(*link)->next;
    region *r = *link;
    if (r) {
        const int first = (int)((at - (uintptr_t)r->memory) / UNIT), count = units_of(bytes);
        turn(r, first, count);
        r->taken -= count;
        if (r->taken) {
            give_back(r, first, count);
        } else {
            *link = r->next;
            free(r->memory);
            free(r);
        }
    }
    pthread_mutex_unlock(&lock);
    return r != NULL;
}
