/* Blocks of a middle size, cut from huge pages. */
#ifndef CRESSET_CORE_REGIONS_H
#define CRESSET_CORE_REGIONS_H

#include <stdbool.h>
#include <stddef.h>

/* Sizes that come from regions: smaller ones are malloc's, larger ones fill huge pages of their own. */
enum { CR_REGION_LEAST = 256 << 10, CR_REGION_MOST = 4 << 20 };

/* A block of CR_REGION_LEAST … CR_REGION_MOST bytes, or NULL where there is none. */
void *cr_region_allocate(size_t bytes);
/* Takes it back; false where the block comes from elsewhere. */
bool cr_region_free(void *block, size_t bytes);

#endif
