/* Cresset nn: modules with named parameters, their state on disk, and the usual layers.
 *
 * A module owns its children, parameters and buffers; cr_nn_free(root) ends them all. A module that could not be made
 * is NULL, and a NULL child makes forward return NULL, so a model is written straight down and checked once. Names of
 * parameters are PyTorch's ("main.0.weight"), so state dicts move both ways. */
#ifndef CRESSET_NN_H
#define CRESSET_NN_H

#include <cresset/core.h>
#include <cresset/ops.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cr_nn_module cr_nn_module;
typedef cr_tensor *(*cr_nn_forward_function)(cr_nn_module *self, cr_tensor *input);

/* ------------------------------------------------------------------ modules of one's own */
/* A module of type `type` ("mlp") with `bytes` of zeroed memory of its own (cr_nn_self) and a forward function. */
CR_API cr_nn_module *cr_nn_module_new(const char *type, size_t bytes, cr_nn_forward_function forward);
CR_API void *cr_nn_self(const cr_nn_module *module);
/* Gives `child` to `parent` under a name without dots; returns child. On failure child is freed and NULL returned. */
CR_API cr_nn_module *cr_nn_register(cr_nn_module *parent, const char *name, cr_nn_module *child);
/* Gives a tensor to the module (one more owner) as a parameter, which requires gradients; returns it. */
CR_API cr_tensor *cr_nn_register_parameter(cr_nn_module *module, const char *name, cr_tensor *parameter);
/* The same for a tensor that is state but not trained; `persistent` ones are part of the state dict. */
CR_API cr_tensor *cr_nn_register_buffer(cr_nn_module *module, const char *name, cr_tensor *buffer, bool persistent);
/* Runs before the module's own memory goes, to end what that holds. */
CR_API void cr_nn_on_free(cr_nn_module *module, void (*release)(void *self));
/* One line for printing: "3, 64, kernel_size=4". */
CR_API bool cr_nn_set_description(cr_nn_module *module, const char *format, ...) CR_PRINTF(2, 3);
CR_API void cr_nn_free(cr_nn_module *module);

/* ------------------------------------------------------------------ using modules */
/* The module's result for `input`, past its hooks; NULL and an error on failure. It runs in a scope of its own, which hands the
 * result out: what else a forward function or a hook makes is gone afterwards, unless it is retained. */
CR_API cr_tensor *cr_nn_forward(cr_nn_module *module, cr_tensor *input);
/* Training or evaluation mode, for the module and all below it; modules start in training mode. Returns module. */
CR_API cr_nn_module *cr_nn_train(cr_nn_module *module, bool training);
CR_API cr_nn_module *cr_nn_eval(cr_nn_module *module);
CR_API bool cr_nn_is_training(const cr_nn_module *module);
/* Moves all parameters and buffers; the tensors stay the same objects, so optimizers keep working. */
CR_API bool cr_nn_to(cr_nn_module *module, cr_device device);
/* Casts the floating ones. */
CR_API bool cr_nn_to_dtype(cr_nn_module *module, cr_dtype dtype);
CR_API bool cr_nn_requires_grad_(cr_nn_module *module, bool requires_grad);
CR_API void cr_nn_zero_grad(cr_nn_module *module);

/* ------------------------------------------------------------------ looking inside */
/* What a module is and holds; NULL and an error for an index out of range. */
CR_API const char *cr_nn_type(const cr_nn_module *module); /* "conv2d" */
CR_API int cr_nn_child_count(const cr_nn_module *module);
CR_API cr_nn_module *cr_nn_child(const cr_nn_module *module, int index);
CR_API const char *cr_nn_child_name(const cr_nn_module *module, int index);
/* A module by its path ("layer1.0.conv1"), or NULL without an error. */
CR_API cr_nn_module *cr_nn_find(cr_nn_module *module, const char *path);
/* The module's own parameter or buffer by path ("weight", "main.0.weight"), or NULL without an error. */
CR_API cr_tensor *cr_nn_tensor(cr_nn_module *module, const char *path);

/* Named tensors, borrowed from the module they were asked of, until it changes, is asked again, or goes. */
typedef struct cr_nn_tensors {
    cr_tensor *const *at;
    const char *const *names;
    int count;
} cr_nn_tensors;
/* All parameters below, in the order of registration; a tensor shared by two modules comes once. */
CR_API cr_nn_tensors cr_nn_parameters(cr_nn_module *module);
CR_API cr_nn_tensors cr_nn_buffers(cr_nn_module *module);
/* Parameters and persistent buffers, in PyTorch's order: the state dict. */
CR_API cr_nn_tensors cr_nn_state(cr_nn_module *module);
CR_API int64_t cr_nn_parameter_count(cr_nn_module *module); /* elements */

/* Calls visit(module, path, context) for the module (path "") and all below, parents first; stops at false. */
CR_API bool cr_nn_apply(cr_nn_module *module, bool (*visit)(cr_nn_module *module, const char *path, void *context),
                        void *context);

/* Sees each forward of the module; returns output or a replacement (NULL: an error). */
typedef cr_tensor *(*cr_nn_hook)(cr_nn_module *module, cr_tensor *input, cr_tensor *output, void *context);
/* A handle above 0 for cr_nn_remove_hook; 0 and an error on failure. */
CR_API int cr_nn_register_forward_hook(cr_nn_module *module, cr_nn_hook hook, void *context);
CR_API bool cr_nn_remove_hook(cr_nn_module *module, int handle);

/* The tree as PyTorch prints it. */
CR_API bool cr_nn_print(FILE *out, cr_nn_module *module);
/* A table of layers, output shapes and parameter counts, from one forward of zeros of `input_shape` (f32). */
CR_API bool cr_nn_summary(FILE *out, cr_nn_module *module, cr_shape input_shape);

/* ------------------------------------------------------------------ state on disk */
/* The state dict as a safetensors file, whole or not at all. */
CR_API bool cr_nn_save(cr_nn_module *module, const char *path);
/* Reads one. strict: an error that lists missing and unexpected names; else they are left alone. Shapes must fit;
 * dtypes are cast. On failure the module is unchanged. */
CR_API bool cr_nn_load(cr_nn_module *module, const char *path, bool strict);
/* Copies parameters and buffers from one module to another of the same structure. */
CR_API bool cr_nn_copy_state(cr_nn_module *to, cr_nn_module *from);

/* ------------------------------------------------------------------ containers */
/* Runs its children one after the other; they are named "0", "1", … */
CR_API cr_nn_module *cr_nn_sequential_of(cr_nn_module *const *children, int count);
#define cr_nn_sequential(...)                                                                                          \
    cr_nn_sequential_of((cr_nn_module *const[]){__VA_ARGS__},                                                          \
                        (int)(sizeof((cr_nn_module *const[]){__VA_ARGS__}) / sizeof(cr_nn_module *)))
/* Adds to a sequential or a list; returns child. */
CR_API cr_nn_module *cr_nn_append(cr_nn_module *container, cr_nn_module *child);
/* Holds children "0", "1", … and has no forward of its own. */
CR_API cr_nn_module *cr_nn_module_list(void);
/* Any function of one tensor as a module. */
CR_API cr_nn_module *cr_nn_function(const char *type, cr_tensor *(*function)(cr_tensor *));
CR_API cr_nn_module *cr_nn_identity(void);

/* ------------------------------------------------------------------ layers
 * Names, parameters and initial values as in torch.nn. `device` and `dtype` of parameters: .device = CR_CPU, .dtype =
 * CR_F32. */
#define CR_NN_LINEAR_OPTIONS(A, op) A(op, BOOL, bias, true) A(op, DTYPE, dtype, CR_F32) A(op, DEVICE, device, CR_CPU)
CR_OPTIONS(nn_linear, CR_NN_LINEAR_OPTIONS)
/* y = x Wᵀ + b; weight [out, in], bias [out]; x: [*, in]. */
CR_API cr_nn_module *cr_nn_linear_with(int64_t in, int64_t out, const cr_nn_linear_options *options);

/* One number for every spatial dim, or a list for each (count 0: the number). */
/* clang-format off */
#define CR_NN_CONV_OPTIONS(A, op) \
    A(op, INT, stride, 1) \
    A(op, INT, padding, 0) \
    A(op, INT, dilation, 1) \
    A(op, INT, groups, 1) \
    A(op, INT, output_padding, 0) \
    A(op, BOOL, bias, true) \
    A(op, DIMS, kernel_sizes, CR_SHAPE_0D) \
    A(op, DIMS, strides, CR_SHAPE_0D) \
    A(op, DIMS, paddings, CR_SHAPE_0D) \
    A(op, DIMS, dilations, CR_SHAPE_0D) \
    A(op, DIMS, output_paddings, CR_SHAPE_0D) \
    A(op, DTYPE, dtype, CR_F32) \
    A(op, DEVICE, device, CR_CPU)
/* clang-format on */
CR_OPTIONS(nn_conv, CR_NN_CONV_OPTIONS)
/* weight [out, in / groups, k…] for conv, [in, out / groups, k…] for conv_transpose. */
CR_API cr_nn_module *cr_nn_conv1d_with(int64_t in, int64_t out, int64_t kernel_size, const cr_nn_conv_options *options);
CR_API cr_nn_module *cr_nn_conv2d_with(int64_t in, int64_t out, int64_t kernel_size, const cr_nn_conv_options *options);
CR_API cr_nn_module *cr_nn_conv3d_with(int64_t in, int64_t out, int64_t kernel_size, const cr_nn_conv_options *options);
CR_API cr_nn_module *cr_nn_conv_transpose1d_with(int64_t in, int64_t out, int64_t kernel_size,
                                                 const cr_nn_conv_options *options);
CR_API cr_nn_module *cr_nn_conv_transpose2d_with(int64_t in, int64_t out, int64_t kernel_size,
                                                 const cr_nn_conv_options *options);
CR_API cr_nn_module *cr_nn_conv_transpose3d_with(int64_t in, int64_t out, int64_t kernel_size,
                                                 const cr_nn_conv_options *options);

#define CR_NN_BATCH_NORM_OPTIONS(A, op)                                                                                \
    A(op, FLOAT, eps, 1e-5)                                                                                            \
    A(op, FLOAT, momentum, 0.1)                                                                                        \
    A(op, BOOL, affine, true)                                                                                          \
    A(op, BOOL, track_running_stats, true) A(op, DTYPE, dtype, CR_F32) A(op, DEVICE, device, CR_CPU)
CR_OPTIONS(nn_batch_norm, CR_NN_BATCH_NORM_OPTIONS)
/* weight, bias, running_mean, running_var [features], num_batches_tracked; the same op for [N, C(, L)], [N, C, H, W]
 * and [N, C, D, H, W]. Without `affine` no weight and bias, without `track_running_stats` always the batch's
 * statistics. */
CR_API cr_nn_module *cr_nn_batch_norm1d_with(int64_t features, const cr_nn_batch_norm_options *options);
CR_API cr_nn_module *cr_nn_batch_norm2d_with(int64_t features, const cr_nn_batch_norm_options *options);
CR_API cr_nn_module *cr_nn_batch_norm3d_with(int64_t features, const cr_nn_batch_norm_options *options);

#define CR_NN_NORM_OPTIONS(A, op)                                                                                      \
    A(op, FLOAT, eps, 1e-5)                                                                                            \
    A(op, BOOL, affine, true) A(op, BOOL, bias, true) A(op, DTYPE, dtype, CR_F32) A(op, DEVICE, device, CR_CPU)
CR_OPTIONS(nn_norm, CR_NN_NORM_OPTIONS)
/* Over the last dims, which must be `normalized_shape` (Ba et al. 2016); over groups of channels (Wu, He 2018). weight
 * and bias: [normalized_shape], and [channels]. */
CR_API cr_nn_module *cr_nn_layer_norm_with(cr_shape normalized_shape, const cr_nn_norm_options *options);
CR_API cr_nn_module *cr_nn_group_norm_with(int64_t groups, int64_t channels, const cr_nn_norm_options *options);

#define CR_NN_EMBEDDING_OPTIONS(A, op)                                                                                 \
    A(op, INT, padding_idx, -1) A(op, DTYPE, dtype, CR_F32) A(op, DEVICE, device, CR_CPU)
CR_OPTIONS(nn_embedding, CR_NN_EMBEDDING_OPTIONS)
/* weight [count, size], N(0, 1); x holds indices (i64). The row padding_idx (-1: none) is zero and is not trained. */
CR_API cr_nn_module *cr_nn_embedding_with(int64_t count, int64_t size, const cr_nn_embedding_options *options);

/* clang-format off */
#define CR_NN_LSTM_OPTIONS(A, op) \
    A(op, INT, num_layers, 1) \
    A(op, BOOL, bias, true) \
    A(op, BOOL, batch_first, false) \
    A(op, FLOAT, dropout, 0) \
    A(op, BOOL, bidirectional, false) \
    A(op, DTYPE, dtype, CR_F32) \
    A(op, DEVICE, device, CR_CPU)
/* clang-format on */
CR_OPTIONS(nn_lstm, CR_NN_LSTM_OPTIONS)
/* Parameters weight_ih_l0 [4H, in], weight_hh_l0 [4H, H], bias_ih_l0, bias_hh_l0, …_reverse; gates in the order i f g
 * o. */
CR_API cr_nn_module *cr_nn_lstm_with(int64_t input_size, int64_t hidden_size, const cr_nn_lstm_options *options);
/* x: [T, B, in]; h, c: [layers · directions, B, H] or NULL for zeros. Returns [T, B, directions · H]; h_n and c_n may
 * be NULL. */
CR_API cr_tensor *cr_nn_lstm_forward(cr_nn_module *lstm, cr_tensor *x, cr_tensor *h, cr_tensor *c, cr_tensor **h_n,
                                     cr_tensor **c_n);

/* clang-format off */
#define CR_NN_ATTENTION_OPTIONS(A, op) \
    A(op, BOOL, bias, true) \
    A(op, BOOL, is_causal, false) \
    A(op, FLOAT, dropout, 0) \
    A(op, DTYPE, dtype, CR_F32) \
    A(op, DEVICE, device, CR_CPU)
#define CR_NN_TRANSFORMER_OPTIONS(A, op) \
    A(op, INT, hidden, 0) \
    A(op, BOOL, is_causal, false) \
    A(op, BOOL, norm_first, false) \
    A(op, BOOL, gelu, false) \
    A(op, FLOAT, dropout, 0) \
    A(op, BOOL, bias, true) \
    A(op, DTYPE, dtype, CR_F32) \
    A(op, DEVICE, device, CR_CPU)
/* clang-format on */
CR_OPTIONS(nn_attention, CR_NN_ATTENTION_OPTIONS)
CR_OPTIONS(nn_transformer, CR_NN_TRANSFORMER_OPTIONS)
/* Attention over `heads` heads of width / heads (Vaswani et al. 2017), x: [batch, length, width]; parameters as in
 * torch.nn.MultiheadAttention: in_proj_weight [3 width, width], in_proj_bias, out_proj. is_causal: a word sees itself
 * and those before it. dropout: of the weights, in training. forward is self-attention; the other function takes
 * queries, keys and values apart, and a mask as cr_scaled_dot_product_attention or NULL. */
CR_API cr_nn_module *cr_nn_multihead_attention_with(int64_t width, int64_t heads,
                                                    const cr_nn_attention_options *options);
CR_API cr_tensor *cr_nn_multihead_attention_forward(cr_nn_module *attention, cr_tensor *query, cr_tensor *key,
                                                    cr_tensor *value, cr_tensor *mask);
/* torch.nn.TransformerEncoderLayer (batch first): self_attn, linear1 [hidden, width], linear2, norm1, norm2. hidden 0:
 * 4 width; norm_first: norms before attention and linear layers, not behind the sums; gelu: in place of relu. */
CR_API cr_nn_module *cr_nn_transformer_layer_with(int64_t width, int64_t heads,
                                                  const cr_nn_transformer_options *options);

/* Token by token: gives each causal attention below `module` memory for the keys and values of `capacity` words in each
 * of `batch` sequences (buffers keys, values, position; not part of the state dict). From then on forward, in evaluation
 * mode, takes the words that follow those it has seen, one or many, and fails beyond the capacity. Whoever traces the
 * module gets the buffers as state: one graph with a dynamic length takes a prompt, then word for word. */
CR_API bool cr_nn_cache_begin(cr_nn_module *module, int64_t batch, int64_t capacity);
/* Forgets the words from `position` on; 0: all. */
CR_API bool cr_nn_cache_rewind(cr_nn_module *module, int64_t position);
/* The count of words so far, i64, of the first attention that has a cache, to add to positions; NULL where there is none.
 * It changes in place with each forward. */
CR_API cr_tensor *cr_nn_cache_position(cr_nn_module *module);
/* Ends the caches; forward takes whole sequences again. NULL is ignored. */
CR_API void cr_nn_cache_end(cr_nn_module *module);

#define CR_NN_POOL_OPTIONS(A, op)                                                                                      \
    A(op, INT, stride, 0)                                                                                              \
    A(op, INT, padding, 0) A(op, INT, dilation, 1) A(op, BOOL, ceil_mode, false) A(op, BOOL, count_include_pad, true)
CR_OPTIONS(nn_pool, CR_NN_POOL_OPTIONS)
/* stride 0: the kernel's size. */
CR_API cr_nn_module *cr_nn_max_pool1d_with(int64_t kernel_size, const cr_nn_pool_options *options);
CR_API cr_nn_module *cr_nn_max_pool2d_with(int64_t kernel_size, const cr_nn_pool_options *options);
CR_API cr_nn_module *cr_nn_max_pool3d_with(int64_t kernel_size, const cr_nn_pool_options *options);
CR_API cr_nn_module *cr_nn_avg_pool1d_with(int64_t kernel_size, const cr_nn_pool_options *options);
CR_API cr_nn_module *cr_nn_avg_pool2d_with(int64_t kernel_size, const cr_nn_pool_options *options);
CR_API cr_nn_module *cr_nn_avg_pool3d_with(int64_t kernel_size, const cr_nn_pool_options *options);
CR_API cr_nn_module *cr_nn_adaptive_avg_pool2d(int64_t height, int64_t width);
CR_API cr_nn_module *cr_nn_adaptive_max_pool2d(int64_t height, int64_t width);

/* In training: elements, or whole channels of [N, C, H, W], are zeroed with probability p, the others scaled by
 * 1 / (1 - p) (Srivastava et al. 2014). */
CR_API cr_nn_module *cr_nn_dropout(double p);
CR_API cr_nn_module *cr_nn_dropout2d(double p);
/* Dims start_dim … end_dim as one; one dim as several of these sizes. */
CR_API cr_nn_module *cr_nn_flatten_with(int start_dim, int end_dim);
#define cr_nn_flatten() cr_nn_flatten_with(1, -1)
CR_API cr_nn_module *cr_nn_unflatten(int dim, cr_shape sizes);
/* Along one dim. */
CR_API cr_nn_module *cr_nn_softmax(int dim);
CR_API cr_nn_module *cr_nn_log_softmax(int dim);

/* The ops of the same names, element by element; formulas: pointwise.def. */
CR_API cr_nn_module *cr_nn_relu(void);
CR_API cr_nn_module *cr_nn_relu6(void);
CR_API cr_nn_module *cr_nn_leaky_relu(double negative_slope);
CR_API cr_nn_module *cr_nn_elu(double alpha);
CR_API cr_nn_module *cr_nn_selu(void);
CR_API cr_nn_module *cr_nn_celu(double alpha);
CR_API cr_nn_module *cr_nn_gelu(void);
CR_API cr_nn_module *cr_nn_gelu_tanh(void);
CR_API cr_nn_module *cr_nn_silu(void);
CR_API cr_nn_module *cr_nn_mish(void);
CR_API cr_nn_module *cr_nn_sigmoid(void);
CR_API cr_nn_module *cr_nn_log_sigmoid(void);
CR_API cr_nn_module *cr_nn_tanh(void);
CR_API cr_nn_module *cr_nn_softplus(double beta, double threshold);
CR_API cr_nn_module *cr_nn_softsign(void);
CR_API cr_nn_module *cr_nn_hardtanh(double min, double max);
CR_API cr_nn_module *cr_nn_hardsigmoid(void);
CR_API cr_nn_module *cr_nn_hardswish(void);

#ifndef __cplusplus
#define cr_nn_linear(in, out, ...)         cr_nn_linear_with(in, out, CR_WITH(nn_linear, CR_NN_LINEAR_OPTIONS, __VA_ARGS__))
#define CR_NN_CONV_(...)                   CR_WITH(nn_conv, CR_NN_CONV_OPTIONS, __VA_ARGS__)
#define cr_nn_conv1d(in, out, kernel, ...) cr_nn_conv1d_with(in, out, kernel, CR_NN_CONV_(__VA_ARGS__))
#define cr_nn_conv2d(in, out, kernel, ...) cr_nn_conv2d_with(in, out, kernel, CR_NN_CONV_(__VA_ARGS__))
#define cr_nn_conv3d(in, out, kernel, ...) cr_nn_conv3d_with(in, out, kernel, CR_NN_CONV_(__VA_ARGS__))
#define cr_nn_conv_transpose1d(in, out, kernel, ...)                                                                   \
    cr_nn_conv_transpose1d_with(in, out, kernel, CR_NN_CONV_(__VA_ARGS__))
#define cr_nn_conv_transpose2d(in, out, kernel, ...)                                                                   \
    cr_nn_conv_transpose2d_with(in, out, kernel, CR_NN_CONV_(__VA_ARGS__))
#define cr_nn_conv_transpose3d(in, out, kernel, ...)                                                                   \
    cr_nn_conv_transpose3d_with(in, out, kernel, CR_NN_CONV_(__VA_ARGS__))
#define CR_NN_BATCH_NORM_(...)            CR_WITH(nn_batch_norm, CR_NN_BATCH_NORM_OPTIONS, __VA_ARGS__)
#define cr_nn_batch_norm1d(features, ...) cr_nn_batch_norm1d_with(features, CR_NN_BATCH_NORM_(__VA_ARGS__))
#define cr_nn_batch_norm2d(features, ...) cr_nn_batch_norm2d_with(features, CR_NN_BATCH_NORM_(__VA_ARGS__))
#define cr_nn_batch_norm3d(features, ...) cr_nn_batch_norm3d_with(features, CR_NN_BATCH_NORM_(__VA_ARGS__))
#define cr_nn_layer_norm(shape, ...)      cr_nn_layer_norm_with(shape, CR_WITH(nn_norm, CR_NN_NORM_OPTIONS, __VA_ARGS__))
#define cr_nn_group_norm(groups, channels, ...)                                                                        \
    cr_nn_group_norm_with(groups, channels, CR_WITH(nn_norm, CR_NN_NORM_OPTIONS, __VA_ARGS__))
#define cr_nn_embedding(count, width, ...)                                                                             \
    cr_nn_embedding_with(count, width, CR_WITH(nn_embedding, CR_NN_EMBEDDING_OPTIONS, __VA_ARGS__))
#define cr_nn_lstm(in, hidden, ...) cr_nn_lstm_with(in, hidden, CR_WITH(nn_lstm, CR_NN_LSTM_OPTIONS, __VA_ARGS__))
#define cr_nn_multihead_attention(width, heads, ...)                                                                   \
    cr_nn_multihead_attention_with(width, heads, CR_WITH(nn_attention, CR_NN_ATTENTION_OPTIONS, __VA_ARGS__))
#define cr_nn_transformer_layer(width, heads, ...)                                                                     \
    cr_nn_transformer_layer_with(width, heads, CR_WITH(nn_transformer, CR_NN_TRANSFORMER_OPTIONS, __VA_ARGS__))
#define CR_NN_POOL_(...)              CR_WITH(nn_pool, CR_NN_POOL_OPTIONS, __VA_ARGS__)
#define cr_nn_max_pool1d(kernel, ...) cr_nn_max_pool1d_with(kernel, CR_NN_POOL_(__VA_ARGS__))
#define cr_nn_max_pool2d(kernel, ...) cr_nn_max_pool2d_with(kernel, CR_NN_POOL_(__VA_ARGS__))
#define cr_nn_max_pool3d(kernel, ...) cr_nn_max_pool3d_with(kernel, CR_NN_POOL_(__VA_ARGS__))
#define cr_nn_avg_pool1d(kernel, ...) cr_nn_avg_pool1d_with(kernel, CR_NN_POOL_(__VA_ARGS__))
#define cr_nn_avg_pool2d(kernel, ...) cr_nn_avg_pool2d_with(kernel, CR_NN_POOL_(__VA_ARGS__))
#define cr_nn_avg_pool3d(kernel, ...) cr_nn_avg_pool3d_with(kernel, CR_NN_POOL_(__VA_ARGS__))
#endif

/* ------------------------------------------------------------------ initial values: in place, return t; as
 * torch.nn.init */
CR_API cr_tensor *cr_nn_init_constant_(cr_tensor *t, double value);
CR_API cr_tensor *cr_nn_init_uniform_(cr_tensor *t, double low, double high);
CR_API cr_tensor *cr_nn_init_normal_(cr_tensor *t, double mean, double std);
/* Normal, cut off at mean ± 2 std by drawing again. */
CR_API cr_tensor *cr_nn_init_trunc_normal_(cr_tensor *t, double mean, double std);
/* Glorot, Bengio 2010. */
CR_API cr_tensor *cr_nn_init_xavier_uniform_(cr_tensor *t, double gain);
CR_API cr_tensor *cr_nn_init_xavier_normal_(cr_tensor *t, double gain);
/* He et al. 2015; bound = gain · sqrt(3 / fan_in), gain = sqrt(2 / (1 + negative_slope²)). */
CR_API cr_tensor *cr_nn_init_kaiming_uniform_(cr_tensor *t, double negative_slope);
CR_API cr_tensor *cr_nn_init_kaiming_normal_(cr_tensor *t, double negative_slope);

/* ------------------------------------------------------------------ gradients of many parameters */
/* Scales all gradients so that their joint 2-norm is at most max_norm; returns the norm before; NaN and an error on
 * failure. */
CR_API double cr_nn_clip_grad_norm_(cr_nn_tensors parameters, double max_norm);
CR_API bool cr_nn_clip_grad_value_(cr_nn_tensors parameters, double limit);

#ifdef __cplusplus
}
#endif
#endif
