/* Cresset quantize: a trained f32 program becomes one whose convolutions and linear layers multiply 8-bit integers.
 *
 *     bool read(void *context, int64_t batch, cr_tensor **inputs, int input_count);
 *     cr_graph *small = cr_jit_quantize(graph, read, context, .method = "mse");
 *     cr_jit_save(small, "net-int8.safetensors");
 *
 * The graph is run over some batches of real data, and how large its values become is counted. Each layer's weight
 * is then stored as i8, symmetric, with a scale for each output channel; what layers read becomes u8 with one scale
 * and zero point, by quantize and dequantize nodes around the layers: what ONNX calls QDQ, and is exported as. When it
 * is run, these nodes and the layer between become one integer layer (docs/quantization.md). */
#ifndef CRESSET_QUANTIZE_H
#define CRESSET_QUANTIZE_H

#include <cresset/jit.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Gives the inputs of batch `batch` = 0, 1, …; inputs[0] = NULL behind the last one. False and an error on failure. It is
 * asked for the same batches again where a function says so. */
typedef bool (*cr_quantize_source)(void *context, int64_t batch, cr_tensor **inputs, int input_count);

/* method       how the range of a value is chosen from what was counted: "mse" has the least mean squared error,
 *              "percentile" leaves out the rarest, "minmax" nothing
 * percentile   of the numbers that are inside, for that method
 * per_channel  weights have a scale for each output channel; else one
 * keep         layers that stay in f32: module paths or weights' names, separated by commas; a path stands for all under
 *              it; "layer1.0,fc" */
#define CR_JIT_QUANTIZE_OPTIONS(A, op)                                                                                 \
    A(op, TEXT, method, "mse") A(op, FLOAT, percentile, 99.99) A(op, BOOL, per_channel, true) A(op, TEXT, keep, NULL)
CR_OPTIONS(jit_quantize, CR_JIT_QUANTIZE_OPTIONS)

/* A new graph, frozen; the old one stays as it is. NULL and an error: a graph that updates its state, that is quantised
 * already or has no layer to quantise, data that are missing or not finite. */
CR_API cr_graph *cr_jit_quantize_with(const cr_graph *graph, cr_quantize_source source, void *context,
                                      const cr_jit_quantize_options *options);
#ifndef __cplusplus
#define cr_jit_quantize(graph, source, ...) cr_jit_quantize_((graph), (source), __VA_ARGS__, )
#define cr_jit_quantize_(graph, source, context, ...)                                                                  \
    cr_jit_quantize_with(graph, source, context, CR_WITH(jit_quantize, CR_JIT_QUANTIZE_OPTIONS, __VA_ARGS__))
#endif
typedef struct cr_quantize_array {
    cr_tensor *const *batches;
    int64_t count;
} cr_quantize_array;
/* A source over an array of batches: context is a cr_quantize_array, the graph has one input. */
CR_API bool cr_quantize_from_array(void *context, int64_t batch, cr_tensor **inputs, int input_count);

/* ------------------------------------------------------------------ weights alone
 * Weights in half or a quarter of their bytes; no data are needed, and all arithmetic stays f32. Generating text word by
 * word is as much faster as fewer bytes are read; products of many rows are not, and take as little memory.
 * dtype   CR_BF16: the upper half of each f32, rounded to nearest, to 8 significant bits. CR_I8: symmetric, max |w| / 127 for
 *         each output of a layer, each row of a table
 * keep    layers that stay in f32, as above */
#define CR_JIT_QUANTIZE_WEIGHTS_OPTIONS(A, op) A(op, DTYPE, dtype, CR_BF16) A(op, TEXT, keep, NULL)
CR_OPTIONS(jit_quantize_weights, CR_JIT_QUANTIZE_WEIGHTS_OPTIONS)

/* A new graph, frozen, in which the f32 weights of linear and convolutional layers, of products with a matrix that never
 * changes and of embeddings are narrow; the old one stays as it is. It may update states of its own, as a cache of keys and
 * values. It is saved and exported to ONNX (Cast, DequantizeLinear) like any other. NULL and an error: a graph that leaves
 * gradients, one without such a weight, another dtype, weights that are not finite (i8). */
CR_API cr_graph *cr_jit_quantize_weights_with(const cr_graph *graph, const cr_jit_quantize_weights_options *options);
#ifndef __cplusplus
#define cr_jit_quantize_weights(graph, ...)                                                                            \
    cr_jit_quantize_weights_with((graph), CR_WITH(jit_quantize_weights, CR_JIT_QUANTIZE_WEIGHTS_OPTIONS, __VA_ARGS__))
#endif

/* ------------------------------------------------------------------ what it cost */
typedef struct cr_quantize_layer {
    const char *name;    /* the module's path, or the weight's name */
    const char *op;      /* "convolution" or "linear" */
    bool is_quantized;   /* false: it was kept */
    double weight_error; /* |W - W'| / |W| over all its numbers (root of sums of squares); 0 where kept */
    double result_error; /* the same of its results, with all that came before it quantised as well */
} cr_quantize_layer;

typedef struct cr_quantize_report {
    int layer_count;
    cr_quantize_layer *layers;
    double output_error;    /* of the graph's first output */
    int64_t rows, agreeing; /* rows along the first output's last dim, and those whose greatest element is the same */
} cr_quantize_report;

/* Runs both graphs over the data and compares layer by layer. NULL and an error where the graphs do not fit together. */
CR_API cr_quantize_report *cr_jit_quantize_compare(const cr_graph *graph, const cr_graph *quantized,
                                                   cr_quantize_source source, void *context);
CR_API void cr_quantize_report_free(cr_quantize_report *report); /* NULL is ignored */

#ifdef __cplusplus
}
#endif
#endif
