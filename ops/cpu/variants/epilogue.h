/* What a layer does to its result while a part of it is in the cache: a fused program, in place, over rows and columns
 * of one image. The result is [images][rows][columns] of merged dims, contiguous. */
#ifndef CRESSET_OPS_CPU_EPILOGUE_H
#define CRESSET_OPS_CPU_EPILOGUE_H

#include "ops/cpu/variants/tile.h"
#include "ops/fused.h"

typedef struct cr_epilogue {
    const cr_fused_program *program;
    cr_fused_function compiled; /* NULL: interpreted */
    int64_t rows, columns;      /* of an image */
    int operand_count;          /* the result as output, as input, and what else the program reads */
    char *data[CR_FUSED_OPERANDS];
    cr_dtype dtypes[CR_FUSED_OPERANDS];
    int64_t strides[CR_FUSED_OPERANDS][3]; /* in elements: image, row, column */
    /* It is no more than a sum with what is laid out like the result (NULL: nothing) and bounds, in f32: a kernel may see
     * to that itself. */
    bool is_simple;
    const float *added;
    float low, high;
} cr_epilogue;

#define cr_epilogue_begin  CR_NAME(cr_epilogue_begin)
#define cr_epilogue_run    CR_NAME(cr_epilogue_run)
#define cr_epilogue_images CR_NAME(cr_epilogue_images)

/* Of a fused layer's call; false and an error on failure. An epilogue of no instructions does nothing. */
bool cr_epilogue_begin(cr_epilogue *epilogue, cr_call *call, const cr_fused_program *program);
/* Over rows [row, row + rows) and columns [column, column + columns) of an image; by the calling thread alone. */
void cr_epilogue_run(const cr_epilogue *epilogue, int64_t image, int64_t row, int64_t rows, int64_t column,
                     int64_t columns);
/* Over whole images, by all threads. NULL does nothing. */
void cr_epilogue_images(const cr_epilogue *epilogue, int64_t first, int64_t images);

#endif
