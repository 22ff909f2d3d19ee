/* Tiles: strided operands of any dtype as short dense runs of a compute type, and back.
 *
 * An iteration runs over the elements of an output in its memory order. Dims are merged where all operands allow it, so
 * that most calls become one long run. Everything pointwise (also copies, casts and fused nodes) works tile by tile. */
#ifndef CRESSET_OPS_CPU_TILE_H
#define CRESSET_OPS_CPU_TILE_H

#include "ops/cpu/variant.h"
#include "ops/pointwise.h"

enum { CR_TILE = 1024, CR_TILE_OPERANDS = 24 };

typedef struct cr_tile_operand {
    char *data;
    cr_dtype dtype;
    int64_t strides[CR_MAX_DIMS]; /* in elements, over the merged dims */
} cr_tile_operand;

typedef struct cr_iteration {
    int ndim;
    int64_t sizes[CR_MAX_DIMS]; /* merged, outermost first; at least one dim */
    int64_t numel;
    int operand_count; /* operands[0] is the output */
    cr_tile_operand operands[CR_TILE_OPERANDS];
} cr_iteration;

#define cr_iteration_begin CR_NAME(cr_iteration_begin)
#define cr_iteration_add   CR_NAME(cr_iteration_add)
#define cr_iteration_merge CR_NAME(cr_iteration_merge)
#define cr_tile_length     CR_NAME(cr_tile_length)
#define cr_tile_load       CR_NAME(cr_tile_load)
#define cr_tile_target     CR_NAME(cr_tile_target)
#define cr_tile_store      CR_NAME(cr_tile_store)

/* The loop of a pointwise op over dense runs of a compute type; comparisons give bool. NULL: it does not take the
 * type. */
typedef void (*cr_pointwise_loop)(const void *const *operands, void *result, const double *numbers, int64_t count);
#define cr_pointwise_loop_of CR_NAME(cr_pointwise_loop_of)
cr_pointwise_loop cr_pointwise_loop_of(int index, cr_compute compute);

/* An iteration over `output`; then add the inputs (broadcast to its shape), then merge. */
void cr_iteration_begin(cr_iteration *it, const cr_tensor *output);
void cr_iteration_add(cr_iteration *it, const cr_tensor *input);
void cr_iteration_merge(cr_iteration *it);

/* Elements of the next tile that starts at `start` and ends at `end` or before. */
int64_t cr_tile_length(const cr_iteration *it, int64_t start, int64_t end);
/* Elements start … start+count-1 of an operand as a dense run of the compute type: in place where possible, else in
 * `buffer` (CR_TILE elements of 8 bytes). */
const void *cr_tile_load(const cr_iteration *it, int index, int64_t start, int64_t count, cr_compute compute,
                         void *buffer);
/* Where results of `compute` type (bool for comparisons: compute COUNT) for output `index` go: itself or `buffer`. */
void *cr_tile_target(const cr_iteration *it, int index, int64_t start, int64_t count, cr_compute compute, void *buffer);
/* Converts and scatters what cr_tile_target put into `buffer`; nothing to do where it was the output itself. */
void cr_tile_store(const cr_iteration *it, int index, int64_t start, int64_t count, cr_compute compute,
                   const void *source, const void *buffer);

#endif
