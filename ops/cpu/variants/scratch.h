/* Scratch memory of one kernel call: a few blocks that go together. */
#ifndef CRESSET_OPS_CPU_SCRATCH_H
#define CRESSET_OPS_CPU_SCRATCH_H

#include "core/allocator.h"

enum { SCRATCH_BLOCKS = 12 };

typedef struct scratch {
    void *blocks[SCRATCH_BLOCKS];
    size_t bytes[SCRATCH_BLOCKS];
    int count;
} scratch;

/* Uninitialised, 64-byte aligned; NULL and an error on failure. At most SCRATCH_BLOCKS times. */
static inline void *scratch_take(scratch *memory, size_t bytes) {
    void *block = cr_block_allocate(bytes);
    if (!block) return NULL;
    memory->blocks[memory->count] = block;
    memory->bytes[memory->count++] = bytes;
    return block;
}

/* Gives everything back; false, for `return scratch_drop(&memory);` after a failure. */
static inline bool scratch_drop(scratch *memory) {
    while (memory->count > 0) {
        memory->count--;
        cr_block_free(memory->blocks[memory->count], memory->bytes[memory->count]);
    }
    return false;
}

#endif
