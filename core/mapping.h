/* A file in memory, shared by a reader's handle and by the tensors that look into it. */
#ifndef CRESSET_CORE_MAPPING_H
#define CRESSET_CORE_MAPPING_H

#include <cresset/core.h>

#include <stdatomic.h>

typedef struct cr_mapping {
    atomic_int references;
    char *address;
    size_t bytes; /* at least 1 */
} cr_mapping;

/* Private and copy on write: nothing goes back to the file. NULL and an error where it has fewer than `least` bytes (1 or
 * more), which is then not `what` ("a safetensors file"). */
cr_mapping *cr_mapping_open(const char *path, int64_t least, const char *what);
void cr_mapping_retain(cr_mapping *mapping);
/* A cr_mapping as void *, for cr_from_blob; NULL is ignored. */
void cr_mapping_release(void *mapping);

#endif
