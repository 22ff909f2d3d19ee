/* Copies between two layouts of one dtype: rows by memcpy, transposes by blocks. */
#ifndef CRESSET_OPS_CPU_COPY_H
#define CRESSET_OPS_CPU_COPY_H

#include "ops/cpu/variants/tile.h"

#define cr_copy_elements CR_NAME(cr_copy_elements)

/* operands[0] = operands[1], which have one dtype; a merged iteration of at least one element. */
void cr_copy_elements(const cr_iteration *it);

#endif
