/* Memory of the library: counted, limited, made to fail on request, 64-byte aligned, cached by size class. */
#ifndef CRESSET_CORE_ALLOCATOR_H
#define CRESSET_CORE_ALLOCATOR_H

#include <cresset/core.h>

/* Host memory whose size the caller remembers. NULL and an error on failure. Uninitialised. */
void *cr_block_allocate(size_t bytes);
void cr_block_free(void *block, size_t bytes);
/* The second half of cr_block_free, for a block that cr_account_release has been told of. */
void cr_block_recycle(void *block, size_t bytes);

/* For device back ends: counts `bytes` as asked for, and checks the limit and the fault hook (false and an error).
 * cr_account_release takes them back; cr_account_cancel where the device then had no memory after all. */
bool cr_account_allocate(size_t bytes);
void cr_account_cancel(size_t bytes);
void cr_account_release(size_t bytes);

#endif
