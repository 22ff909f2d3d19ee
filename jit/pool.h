/* Memory that is given back all at once: a graph's nodes, values and texts. */
#ifndef CRESSET_JIT_POOL_H
#define CRESSET_JIT_POOL_H

#include <cresset/core.h>

typedef struct cr_pool {
    struct cr_pool_chunk *chunks; /* the newest first */
    size_t used;                  /* of the newest */
} cr_pool;

/* Zeroed and aligned for any type; NULL and an error on failure. */
void *cr_pool_allocate(cr_pool *pool, size_t bytes);
/* A list that grew from `count` (a power of two, or 0) is moved to one of twice its size. */
void *cr_pool_grow(cr_pool *pool, void *list, int count, size_t element);
void cr_pool_free(cr_pool *pool);

#endif
