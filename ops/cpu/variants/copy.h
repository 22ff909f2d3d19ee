/* Copies between two layouts of one dtype: rows by memcpy, transposes by blocks. */
#ifndef CRESSET_OPS_CPU_COPY_H
#define CRESSET_OPS_CPU_COPY_H

#include "ops/cpu/variants/tile.h"

#define cr_copy_elements CR_NAME(cr_copy_elements)

/* operands[0] = operands[1], which have one dtype; a merged iteration of at least one element. */
void cr_copy_elements(const cr_iteration *it);

#define cr_transpose_f32 CR_NAME(cr_transpose_f32)
/* to[r][c] = from[c][r] for r < rows, c < columns; by the calling thread alone. Rows are `to_row` and `from_row` apart. */
void cr_transpose_f32(float *to, int64_t to_row, const float *from, int64_t from_row, int64_t rows, int64_t columns);

#endif
