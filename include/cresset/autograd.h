/* Cresset autograd: gradients by reverse-mode differentiation of what ran.
 *
 * A tensor that requires gradients makes every floating result of an op on it remember how it was made; cr_backward
 * walks that graph from the end and adds the gradient of each leaf into cr_grad_of(leaf). Gradients are computed with
 * ops, so they can be differentiated again (.create_graph). */
#ifndef CRESSET_AUTOGRAD_H
#define CRESSET_AUTOGRAD_H

#include <cresset/core.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ tensors that take part */
/* Makes a floating leaf require gradients, or stop to; returns t. An error for a non-leaf or another dtype. */
CR_API cr_tensor *cr_requires_grad_(cr_tensor *t, bool requires_grad);
CR_API bool cr_requires_grad(const cr_tensor *t);
/* True for a tensor that no recorded op made. */
CR_API bool cr_is_leaf(const cr_tensor *t);
/* The gradient collected so far, borrowed from t, or NULL. */
CR_API cr_tensor *cr_grad_of(const cr_tensor *t);
/* Replaces the gradient (NULL: none): same shape, dtype and device as t. */
CR_API bool cr_set_grad(cr_tensor *t, cr_tensor *gradient);
/* Makes a non-leaf keep its gradient too. */
CR_API bool cr_retain_grad(cr_tensor *t);
/* The same values outside the graph; shares storage. */
CR_API cr_tensor *cr_detach(cr_tensor *t);
/* The name of the op that made t ("matmul"), or NULL for a leaf. */
CR_API const char *cr_grad_op(const cr_tensor *t);

/* ------------------------------------------------------------------ backward */
typedef struct cr_backward_options {
    size_t size;
    cr_tensor *gradient; /* of the root; NULL: 1, for a root of one element */
    bool retain_graph;   /* keep what the graph saved, for another backward through it */
    bool create_graph;   /* record the gradients' own graph; implies retain_graph */
} cr_backward_options;

/* Adds d root / d leaf into the gradient of every leaf that root depends on. False and an error where the root requires
 * no gradient, a saved value was overwritten in place, or the graph was already consumed. */
CR_API bool cr_backward_with(cr_tensor *root, const cr_backward_options *options);
#ifndef __cplusplus
/* cr_backward(loss); cr_backward(y, .gradient = g, .retain_graph = true) */
#define cr_backward(root, ...)                                                                                         \
    cr_backward_with(root, &(cr_backward_options){.size = sizeof(cr_backward_options), __VA_ARGS__})
#endif
/* Several roots at once; gradients (or any of them) may be NULL for roots of one element. */
CR_API bool cr_backward_many(cr_tensor *const *roots, cr_tensor *const *gradients, int count,
                             const cr_backward_options *options);

typedef struct cr_grad_options {
    size_t size;
    cr_tensor *const *gradients; /* of the outputs; NULL: ones, for outputs of one element */
    bool retain_graph, create_graph;
    bool allow_unused; /* an input that does not reach the outputs gets NULL in place of an error */
} cr_grad_options;

/* d outputs / d inputs, summed over outputs, into results[i] (owned by the innermost scope). Leaves' own gradients are
 * left alone. Inputs may be any tensors of the graph. */
CR_API bool cr_grad(cr_tensor *const *outputs, int output_count, cr_tensor *const *inputs, int input_count,
                    cr_tensor **results, const cr_grad_options *options);

/* ------------------------------------------------------------------ modes of this thread */
/* Switches recording; returns what it was. */
CR_API bool cr_set_grad_enabled(bool enabled);
CR_API bool cr_grad_enabled(void);
/* Inference mode: nothing is recorded, and tensors made in it can never enter a graph. Returns what it was. */
CR_API bool cr_set_inference(bool enabled);
/* Anomaly mode, for the whole process: the first op whose result is NaN where its operands are not, forward or
 * backward, is an error that names it and the calls that led to it. Slow. Returns what it was. */
CR_API bool cr_set_anomaly_detection(bool enabled);

typedef struct cr_grad_mode {
    bool enabled, inference;
} cr_grad_mode;
/* What stands behind the blocks below: enter sets both modes of this thread and returns what they were, leave puts that
 * back. */
CR_API cr_grad_mode cr_grad_mode_enter(bool enabled, bool inference);
CR_API void cr_grad_mode_leave(cr_grad_mode *previous);
#if defined(__GNUC__)
#define CR_GRAD_MODE_(enabled_, inference_)                                                                            \
    for (cr_grad_mode cr_grad_mode_                                                                                    \
         __attribute__((cleanup(cr_grad_mode_leave))) = cr_grad_mode_enter(enabled_, inference_),                      \
         *cr_grad_once_ = &cr_grad_mode_;                                                                              \
         cr_grad_once_; cr_grad_once_ = NULL)
/* CR_NO_GRAD { … }, CR_ENABLE_GRAD { … }, CR_INFERENCE { … }: until the end of the block, however it is left. */
#define CR_NO_GRAD     CR_GRAD_MODE_(false, false)
#define CR_ENABLE_GRAD CR_GRAD_MODE_(true, false)
#define CR_INFERENCE   CR_GRAD_MODE_(false, true)
#endif

/* ------------------------------------------------------------------ hooks */
/* Sees the gradient of a tensor when it is complete, before it is used; returns it or a replacement, or NULL on an
 * error. */
typedef cr_tensor *(*cr_tensor_hook)(cr_tensor *gradient, void *context);
/* Returns a handle above 0 for cr_remove_hook; 0 and an error on failure. */
CR_API int cr_register_hook(cr_tensor *t, cr_tensor_hook hook, void *context);
typedef bool (*cr_leaf_hook)(cr_tensor *leaf, void *context);
/* Runs after a leaf's gradient has been added into cr_grad_of(leaf), once for each backward. Returns a handle likewise.
 */
CR_API int cr_register_post_accumulate_hook(cr_tensor *leaf, cr_leaf_hook hook, void *context);
/* Takes a hook of either kind off; false and an error where the tensor has none of this handle. */
CR_API bool cr_remove_hook(cr_tensor *t, int handle);

/* ------------------------------------------------------------------ functions of the user's own */
typedef struct cr_function_call cr_function_call;

/* A differentiable function in C. forward runs with recording off; backward fills the gradient of each input (NULL:
 * none), written with ops where it shall be differentiable again. Both return false with an error recorded on
 * failure. */
typedef struct cr_function {
    const char *name;
    bool (*forward)(cr_function_call *call, cr_tensor *const *inputs, cr_tensor **outputs);
    bool (*backward)(cr_function_call *call, cr_tensor *const *output_gradients, cr_tensor **input_gradients);
    size_t context_bytes;           /* size of a zeroed struct of the function's own: cr_function_context */
    void (*release)(void *context); /* (optional) ends what the struct holds */
} cr_function;

/* Runs it; fills outputs. Inputs may be NULL where the function allows it. */
CR_API bool cr_function_apply(const cr_function *function, cr_tensor *const *inputs, int input_count,
                              cr_tensor **outputs, int output_count, const void *context);
/* The zeroed struct of context_bytes, the same in forward and backward, and how many operands and results there are. */
CR_API void *cr_function_context(cr_function_call *call);
CR_API int cr_function_input_count(const cr_function_call *call);
CR_API int cr_function_output_count(const cr_function_call *call);
/* Whether input i wants a gradient. */
CR_API bool cr_function_needs(const cr_function_call *call, int input);
/* In forward: keeps a tensor (an input, an output, or any other) for backward, up to 16. False and an error when
 * full. */
CR_API bool cr_function_save(cr_function_call *call, cr_tensor *t);
/* In backward: the index-th saved tensor; NULL and an error where it was overwritten in place since. */
CR_API cr_tensor *cr_function_saved(cr_function_call *call, int index);

typedef cr_tensor *(*cr_checkpoint_function)(void *context, cr_tensor *const *inputs, int input_count);
/* Runs `function` without keeping its inner values, and again during backward (Chen et al., "Training deep nets with
 * sublinear memory cost", 2016). Random numbers of the default generator repeat. `context` must live until backward. */
CR_API cr_tensor *cr_checkpoint(cr_checkpoint_function function, void *context, cr_tensor *const *inputs,
                                int input_count);

/* ------------------------------------------------------------------ checking gradients */
typedef bool (*cr_check_function)(void *context, cr_tensor *const *inputs, int input_count, cr_tensor **outputs,
                                  int output_count);
typedef struct cr_gradcheck_options {
    size_t size;
    double step;               /* of the central difference: 1e-6 */
    double absolute, relative; /* tolerance: |analytic - numeric| <= absolute + relative · |numeric|: 1e-5, 1e-3 */
} cr_gradcheck_options;

/* Compares every entry of the Jacobian with central differences, in f64: inputs must be f64 (others are left alone),
 * and those that require gradients are checked. False and an error that names input, element, and both values. */
CR_API bool cr_gradcheck(cr_check_function function, void *context, cr_tensor *const *inputs, int input_count,
                         int output_count, const cr_gradcheck_options *options);
/* The same for the gradients as functions of the inputs and of the outputs' gradients. */
CR_API bool cr_gradgradcheck(cr_check_function function, void *context, cr_tensor *const *inputs, int input_count,
                             int output_count, const cr_gradcheck_options *options);

#ifdef __cplusplus
}
#endif
#endif
