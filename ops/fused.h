/* A fused node's program: pointwise instructions over the elements of one shape, made by the JIT. It runs tile by tile
 * through the loops of the pointwise ops, or as a compiled function once there is one. Both round each result to its
 * own dtype, so that fusing changes no bit. */
#ifndef CRESSET_OPS_FUSED_H
#define CRESSET_OPS_FUSED_H

#include "ops/convolution.h"
#include "ops/pointwise.h"

#include <math.h>

enum { CR_FUSED_OPERANDS = 20, CR_FUSED_INSTRUCTIONS = 40 };

typedef struct cr_fused_instruction {
    const cr_pointwise_info *info;
    double numbers[2];
    cr_compute compute; /* of its expression */
    cr_dtype dtype;     /* of its result */
    int operand_count;
    int operands[3]; /* slots: the inputs, then the results of the instructions */
} cr_fused_instruction;

/* Rows [begin, end) of the iteration, or elements where it has one dim. `data` and `strides` are by operand: outputs,
 * then inputs; strides and sizes are over the merged dims, the last being 1, 0 or another as the source was made
 * for. */
typedef void (*cr_fused_function)(char *const *data, const int64_t *sizes, const int64_t (*strides)[CR_MAX_DIMS],
                                  const double *numbers, int64_t begin, int64_t end);

typedef struct cr_fused_program {
    cr_shape shape; /* of the elements */
    int input_count, output_count, instruction_count;
    cr_dtype inputs[CR_FUSED_OPERANDS];
    int outputs[CR_FUSED_OPERANDS]; /* slots */
    cr_fused_instruction instructions[CR_FUSED_INSTRUCTIONS];
    double numbers[2 * CR_FUSED_INSTRUCTIONS]; /* of the instructions, for the compiled function */
    const struct cr_op *reduction; /* of fused_reduction: takes in the first output, which never is whole … */
    cr_dims reduced;               /* … over these dims */
    /* The geometry that `compiled` was made for. */
    int ndim;
    int8_t inner[CR_FUSED_OPERANDS];     /* stride of the last dim: 0, 1, or 2 for others */
    cr_fused_function _Atomic *compiled; /* where the function appears when it is ready, or NULL */
} cr_fused_program;

/* Dtype of the results' elements in slot `slot`. */
static inline cr_dtype cr_fused_dtype(const cr_fused_program *program, int slot) {
    return slot < program->input_count ? program->inputs[slot]
                                       : program->instructions[slot - program->input_count].dtype;
}

/* The attributes of fused rows end in the program, which could not be written down: a row's `program_at` says where. */
typedef struct cr_fused_options {
    size_t size;
    const cr_fused_program *program;
} cr_fused_options;

/* What a fused_reduction's first output would be as a tensor, without memory: of the dtype that its program gives, and
 * laid out as the op before the reduction would have done. NULL and an error on failure. */
cr_tensor *cr_fused_unreduced(const cr_fused_program *program, cr_tensor *const *inputs, int input_count);

/* Fills ndim and inner from a call's tensors, as the kernel will see them. */
void cr_fused_geometry(cr_fused_program *program, cr_tensor *const *outputs, cr_tensor *const *inputs);

/* ---------------------------------------------------------------- layers with an epilogue
 * fused_convolution, fused_channels_last_convolution, fused_bottleneck, fused_linear and fused_matmul compute and then, while a
 * part of the result is in the cache, run a program over it in place: operand 0 of the program is the result, the others
 * follow the layer's own three. The weight may be packed once and for all: pack_convolution, pack_channels_last and
 * pack_columns. */
enum { CR_LAYER_OPERANDS = 3 };

#define CR_FUSED_CONVOLUTION_ATTRIBUTES(A, op)                                                                         \
    CR_CONVOLUTION_ATTRIBUTES(A, op) A(op, DIMS, packed, CR_ALL_DIMS) /* the weight's shape before it was packed */
typedef struct cr_fused_convolution_options {
    size_t size;
    CR_FUSED_CONVOLUTION_ATTRIBUTES(CR_FIELD_, fused_convolution)
    const cr_fused_program *program;
} cr_fused_convolution_options;

#define CR_FUSED_PRODUCT_ATTRIBUTES(A, op) A(op, INT, packed, 0) /* columns of the packed right side; 0: not packed */
typedef struct cr_fused_product_options {
    size_t size;
    CR_FUSED_PRODUCT_ATTRIBUTES(CR_FIELD_, fused_product)
    const cr_fused_program *program;
} cr_fused_product_options;

/* fused_bottleneck: channels-last convolutions of 1×1 (or none), depthwise 3×3 with a padding of 1, and 1×1, one after the
 * other by rows. Its weight is one tensor, of what the three had packed and of their biases (zeros for none), in the order
 * in which they run; what stands for each hidden channel is filled up to a multiple of CR_BOTTLENECK_STEP. */
enum { CR_BOTTLENECK_STEP = 32, CR_BOTTLENECK_WIDTH = 4 /* of the result at least */ };
#define CR_FUSED_BOTTLENECK_ATTRIBUTES(A, op)                                                                          \
    A(op, INT, hidden, 0)               /* channels of the depthwise convolution */                                    \
    A(op, BOOL, expands, false)         /* there is a first 1×1 */                                                    \
    A(op, INT, stride, 1)               /* 1 or 2 */                                                                   \
    A(op, FLOAT, expand_low, -INFINITY) /* results of the first two are brought within these */                        \
    A(op, FLOAT, expand_high, INFINITY)                                                                                \
    A(op, FLOAT, depth_low, -INFINITY)                                                                                 \
    A(op, FLOAT, depth_high, INFINITY)
typedef struct cr_fused_bottleneck_options {
    size_t size;
    CR_FUSED_BOTTLENECK_ATTRIBUTES(CR_FIELD_, fused_bottleneck)
    const cr_fused_program *program;
} cr_fused_bottleneck_options;

/* A result as [images][rows][columns] of merged dims. */
typedef struct cr_parts {
    int image_dims, row_dims; /* the columns are the rest */
} cr_parts;
cr_parts cr_layer_parts(const struct cr_op *op, int result_dims);
/* Steps from one image, row and column of the result to the next in operand t, which broadcasts to it; false where dims
 * that are one in the result are not one in t. */
bool cr_part_strides(const cr_tensor *t, cr_shape result, cr_parts parts, int64_t strides[3]);

/* Elements of a packed weight, as this processor's kernels want it; 0: they want it as it is. */
int64_t cr_packed_convolution(const cr_convolution *problem, cr_dtype dtype, bool transposed);
int64_t cr_packed_columns(int64_t m, int64_t n, int64_t k, cr_dtype dtype, bool transposed);
/* What each instruction set's kernels say of themselves. */
typedef struct cr_variant_functions {
    void (*fused_geometry)(cr_fused_program *program, cr_tensor *const *outputs, cr_tensor *const *inputs);
    int64_t (*packed_convolution)(const cr_convolution *problem, cr_dtype dtype, bool transposed);
    int64_t (*packed_columns)(int64_t m, int64_t n, int64_t k, cr_dtype dtype, bool transposed);
    int64_t (*packed_channels_last)(const cr_convolution *problem);
    int integer_columns; /* ops/integer.h */
    bool (*integer_has_bytes)(void);
} cr_variant_functions;

/* The attributes of the ops that pack: the layer's sizes, on which the way of computing depends. */
#define CR_PACK_CONVOLUTION_ATTRIBUTES(A, op) CR_CONVOLUTION_ATTRIBUTES(A, op) A(op, DIMS, input, CR_ALL_DIMS)
CR_OPTIONS(pack_convolution, CR_PACK_CONVOLUTION_ATTRIBUTES)
#define CR_PACK_COLUMNS_ATTRIBUTES(A, op) A(op, INT, rows, 1) A(op, BOOL, transposed, false)
CR_OPTIONS(pack_columns, CR_PACK_COLUMNS_ATTRIBUTES)
/* The problem of a convolution from `input` to `output`, with a weight of shape `weight`. */
cr_convolution cr_layer_convolution(cr_shape input, cr_shape weight, cr_shape output, const void *options);

#endif
