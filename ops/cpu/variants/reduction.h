/* Reductions of elements that never lie in memory: made a part at a time while they are reduced. */
#ifndef CRESSET_OPS_CPU_REDUCTION_H
#define CRESSET_OPS_CPU_REDUCTION_H

#include "ops/cpu/variant.h"

/* Makes elements start … start + count - 1, counted as a dense tensor would have them in memory. Each element is asked
 * for once, by one of the threads. */
typedef struct cr_reduction_source {
    void (*make)(void *context, int64_t start, int64_t count, void *buffer);
    void *context;
} cr_reduction_source;

#define cr_reduce_made CR_NAME(cr_reduce_made)
/* out = op (sum, prod, amax, amin) over dims of what `source` makes, which has the geometry of `of` (dense in some order
 * of dims, f32, f64 or i64, not empty, with a dim to reduce) and is read nowhere else. The bits are those of the op on a
 * tensor. */
bool cr_reduce_made(const cr_op *op, const cr_dims *dims, const cr_tensor *of, const cr_reduction_source *source,
                    cr_tensor *out);

#endif
