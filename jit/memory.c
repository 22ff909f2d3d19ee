/* Places in the arena. Storages whose lives overlap must not share bytes; the largest is placed first, each in the
 * smallest gap that holds it among those placed before (Pisarchyk and Lee, "Efficient Memory Management for Deep Neural
 * Net Inference", 2020: greedy by size). */
#include "jit/plan.h"

#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64 };

static int by_size(const void *a, const void *b) {
    const cr_plan_storage *x = *(cr_plan_storage *const *)a, *y = *(cr_plan_storage *const *)b;
    if (x->bytes != y->bytes) return x->bytes > y->bytes ? -1 : 1;
    return x->first != y->first ? (x->first < y->first ? -1 : 1) : (x < y ? -1 : 1);
}

static bool live_together(const cr_plan_storage *a, const cr_plan_storage *b) {
    return a->first <= b->last && b->first <= a->last;
}

static size_t padded(size_t bytes) { return (bytes + ALIGNMENT - 1) & ~(size_t)(ALIGNMENT - 1); }

/* `placed` is sorted by offset. */
static size_t best_gap(cr_plan_storage *const *placed, int count, const cr_plan_storage *storage) {
    const size_t bytes = padded(storage->bytes);
    size_t end = 0, best = SIZE_MAX, best_size = SIZE_MAX;
    for (int i = 0; i < count; i++) {
        if (!live_together(placed[i], storage)) continue;
        if (placed[i]->offset >= end) {
            const size_t gap = placed[i]->offset - end;
            if (gap >= bytes && gap < best_size) {
                best = end;
                best_size = gap;
            }
        }
        const size_t past = placed[i]->offset + padded(placed[i]->bytes);
        if (past > end) end = past;
    }
    return best == SIZE_MAX ? end : best;
}

static void insert(cr_plan_storage **placed, int count, cr_plan_storage *storage) {
    int at = count;
    for (; at > 0 && placed[at - 1]->offset > storage->offset; at--)
        placed[at] = placed[at - 1];
    placed[at] = storage;
}

/* The most bytes that are alive at one node. */
static bool measure_bound(cr_plan *plan) {
    int64_t *change = cr_calloc((size_t)plan->time_count + 2, sizeof *change), alive = 0;
    if (!change) return false;
    for (int i = 0; i < plan->storage_count; i++) {
        const cr_plan_storage *s = &plan->storages[i];
        if (s->place != CR_PLACE_ARENA) continue;
        plan->naive_bytes += s->bytes;
        change[s->first] += (int64_t)s->bytes;
        change[s->last + 1] -= (int64_t)s->bytes;
    }
    for (int i = 0; i <= plan->time_count; i++) {
        alive += change[i];
        if ((size_t)alive > plan->bound_bytes) plan->bound_bytes = (size_t)alive;
    }
    cr_free(change);
    return true;
}

bool cr_plan_memory(cr_plan *plan) {
    cr_plan_storage **order = cr_calloc(2 * (size_t)plan->storage_count + 1, sizeof *order),
                    **placed = order + plan->storage_count;
    int count = 0;
    if (!order) return false;
    for (int i = 0; i < plan->storage_count; i++)
        if (plan->storages[i].place == CR_PLACE_ARENA) order[count++] = &plan->storages[i];
    qsort(order, (size_t)count, sizeof *order, by_size);
    for (int i = 0; i < count; i++) {
        order[i]->offset = best_gap(placed, i, order[i]);
        insert(placed, i, order[i]);
        const size_t end = order[i]->offset + padded(order[i]->bytes);
        if (end > plan->arena_bytes) plan->arena_bytes = end;
    }
    cr_free(order);
    return measure_bound(plan);
}
