#include "jit/pool.h"

#include <string.h>

typedef struct cr_pool_chunk {
    struct cr_pool_chunk *next;
    size_t size; /* of what follows */
    _Alignas(16) char data[];
} cr_pool_chunk;

enum { CHUNK = 32 * 1024 };

void *cr_pool_allocate(cr_pool *pool, size_t bytes) {
    bytes = (bytes + 15) & ~(size_t)15;
    if (!pool->chunks || pool->used + bytes > pool->chunks->size) {
        const size_t size = bytes > CHUNK ? bytes : CHUNK;
        cr_pool_chunk *chunk = cr_malloc(sizeof *chunk + size);
        if (!chunk) return NULL;
        chunk->next = pool->chunks;
        chunk->size = size;
        pool->chunks = chunk;
        pool->used = 0;
    }
    void *block = pool->chunks->data + pool->used;
    pool->used += bytes;
    return memset(block, 0, bytes);
}

void *cr_pool_grow(cr_pool *pool, void *list, int count, size_t element) {
    const bool is_full = count == 0 || (count & (count - 1)) == 0;
    if (!is_full) return list;
    void *grown = cr_pool_allocate(pool, (size_t)(count ? 2 * count : 1) * element);
    if (grown && count) memcpy(grown, list, (size_t)count * element);
    return grown;
}

void cr_pool_free(cr_pool *pool) {
    while (pool->chunks) {
        cr_pool_chunk *next = pool->chunks->next;
        cr_free(pool->chunks);
        pool->chunks = next;
    }
    pool->used = 0;
}
