/* Cresset jit: functions and modules traced into static graphs, optimised, saved, and run without the model's source.
 *
 *     cr_graph *graph = cr_jit_trace(net, cr_zeros(CR_F32, CR_SHAPE(1, 3, 224, 224), CR_CPU), .dynamic_batch = true);
 *     cr_tensor *y = cr_jit_forward(graph, x);
 *     cr_jit_save(graph, "net.safetensors");
 *
 * Tracing runs the function once on example inputs and writes down every op. What the function only reads or writes
 * besides its inputs (parameters, running statistics, an optimizer's averages) becomes the graph's state: a run uses
 * and updates the very same tensors. Random ops stay random. A C `if` on a tensor's value is not seen: the way taken by
 * the example is frozen, and cr_jit_warning tells of it; cr_cond, cr_while_loop and cr_scan are ways that stay open. */
#ifndef CRESSET_JIT_H
#define CRESSET_JIT_H

#include <cresset/core.h>
#include <cresset/nn.h>
#include <cresset/ops.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cr_graph cr_graph;

/* A function of tensors: fills `outputs` and returns true, or false with an error. */
typedef bool (*cr_jit_function)(void *context, cr_tensor *const *inputs, int input_count, cr_tensor **outputs,
                                int output_count);

/* ------------------------------------------------------------------ tracing
 * dynamic        sizes that may differ from the example's: "0.0=batch 0.1=time 1.0=batch" names dim 0 of input 0
 *                "batch", and so on. One name is one size. The function is then also run on other sizes, without
 *                computing (its host code runs some ten times), to find how the sizes inside follow from the inputs'.
 * dynamic_batch  the same as naming dim 0 of every input "batch"
 * freeze         parameters and buffers are constants from now on: batch norm folds into convolutions, and so on.
 *                Later changes of the module may or may not be seen.
 * check          runs the graph on fresh inputs beside the function and fails where they differ by more than rounding
 * input_names, output_names   "image,mask"; the default is input0, …, output0, … */
#define CR_JIT_TRACE_OPTIONS(A, op)                                                                                    \
    A(op, TEXT, dynamic, NULL)                                                                                         \
    A(op, BOOL, dynamic_batch, false)                                                                                  \
    A(op, BOOL, freeze, false) A(op, BOOL, check, false) A(op, TEXT, input_names, NULL) A(op, TEXT, output_names, NULL)
CR_OPTIONS(jit_trace, CR_JIT_TRACE_OPTIONS)

/* The graph of a module's forward (in the mode that it is in) from an example input. NULL and an error on failure. */
CR_API cr_graph *cr_jit_trace_with(cr_nn_module *module, cr_tensor *example, const cr_jit_trace_options *options);
/* The graph of any function with up to 64 inputs and outputs: a loss, a whole training step. The function runs for
 * real, and its results go to `results` (NULL: dropped). `modules` (may be NULL) give the tensors inside their
 * names. */
CR_API cr_graph *cr_jit_trace_function_with(cr_jit_function function, void *context, cr_tensor *const *examples,
                                            int example_count, cr_tensor **results, int result_count,
                                            cr_nn_module *const *modules, int module_count,
                                            const cr_jit_trace_options *options);
#ifndef __cplusplus
#define cr_jit_trace(module, ...) cr_jit_trace_((module), __VA_ARGS__, )
#define cr_jit_trace_(module, example, ...)                                                                            \
    cr_jit_trace_with(module, example, CR_WITH(jit_trace, CR_JIT_TRACE_OPTIONS, __VA_ARGS__))
#define cr_jit_trace_function(function, context, examples, example_count, results, result_count, modules, ...)         \
    cr_jit_trace_function_(function, context, examples, example_count, results, result_count, modules, __VA_ARGS__, )
#define cr_jit_trace_function_(function, context, examples, example_count, results, result_count, modules,             \
                               module_count, ...)                                                                      \
    cr_jit_trace_function_with(function, context, examples, example_count, results, result_count, modules,             \
                               module_count, CR_WITH(jit_trace, CR_JIT_TRACE_OPTIONS, __VA_ARGS__))
#endif
/* Waits for nothing: runs of other threads must be over. NULL is ignored. */
CR_API void cr_jit_free(cr_graph *graph);

/* What tracing froze, and where: "item of a traced value (nn.gate main.2 < main): the example's way is frozen". */
CR_API int cr_jit_warning_count(const cr_graph *graph);
CR_API const char *cr_jit_warning(const cr_graph *graph, int index);

/* ------------------------------------------------------------------ running
 * A graph may be run by any number of threads at once; each run has memory of its own. Runs that update the same state
 * must not overlap. Inputs must have the traced dtypes, and sizes that fit; an error names the input, what it is and
 * what it must be. */
CR_API bool cr_jit_run(cr_graph *graph, cr_tensor *const *inputs, int input_count, cr_tensor **outputs,
                       int output_count);
/* A graph of one input and one output. */
CR_API cr_tensor *cr_jit_forward(cr_graph *graph, cr_tensor *input);

/* How many inputs and outputs a graph has (0 for NULL), and their names; NULL and an error for an index out of
 * range. */
CR_API int cr_jit_input_count(const cr_graph *graph);
CR_API int cr_jit_output_count(const cr_graph *graph);
CR_API const char *cr_jit_input_name(const cr_graph *graph, int index);
CR_API const char *cr_jit_output_name(const cr_graph *graph, int index);
/* The traced dtype, and the sizes with -1 for those that may differ. */
CR_API cr_dtype cr_jit_input_dtype(const cr_graph *graph, int index);
CR_API cr_shape cr_jit_input_shape(const cr_graph *graph, int index);
/* The same as text, with the names of sizes that may differ: "f32[batch,3,32,32]". From cr_malloc, for cr_free. */
CR_API char *cr_jit_input_type(const cr_graph *graph, int index);
CR_API char *cr_jit_output_type(const cr_graph *graph, int index);
/* Sizes that may differ: how many there are, their names, what they were in the example (-1 and an error for an index out
 * of range), and which of them dim `dim` of an input is: -1 for a size that is fixed. */
CR_API int cr_jit_symbol_count(const cr_graph *graph);
CR_API const char *cr_jit_symbol_name(const cr_graph *graph, int index);
CR_API int64_t cr_jit_symbol_value(const cr_graph *graph, int index);
CR_API int cr_jit_input_symbol(const cr_graph *graph, int index, int dim);
/* Parameters, buffers and constants: their names and tensors, borrowed from the graph. */
CR_API int cr_jit_state_count(const cr_graph *graph);
CR_API const char *cr_jit_state_name(const cr_graph *graph, int index);
CR_API cr_tensor *cr_jit_state(const cr_graph *graph, int index);
/* "parameter", "buffer" or "constant". */
CR_API const char *cr_jit_state_kind(const cr_graph *graph, int index);
/* True where a run changes state or leaves gradients: such runs must not overlap. */
CR_API bool cr_jit_updates_state(const cr_graph *graph);

/* Bytes that a run needs for the sizes of `inputs` (NULL: the example's). */
typedef struct cr_jit_memory {
    int64_t naive_bytes;   /* every intermediate in a place of its own */
    int64_t planned_bytes; /* the arena */
    int64_t bound_bytes;   /* the most that is alive at once: no plan can do better */
    int64_t state_bytes;
} cr_jit_memory;
/* Plans the run; false and an error where the inputs do not fit. */
CR_API bool cr_jit_memory_of(cr_graph *graph, cr_tensor *const *inputs, int input_count, cr_jit_memory *memory);

/* ------------------------------------------------------------------ a profile
 * What each step of the planned run costs. A step is a node of the optimised graph, or a copy that the plan added; a
 * node with control flow inside is one step. Arithmetic is counted from sizes: a multiply-add is two, a pointwise op one
 * for each element; bytes are the operands and results, each once. */
typedef struct cr_jit_profile_step {
    const char *op;       /* "convolution"; of a fused node "mul add tanh" */
    const char *source;   /* the calls that led there: "nn.conv2d main.0"; "" */
    const char *module;   /* its module's path: "main.0"; "" where there is none */
    const char *result;   /* "f32[8,64,32,32]" */
    double seconds;       /* of all runs */
    double least_seconds; /* of the run in which it was fastest: what other programs disturb least */
    double share;         /* of the time of all steps, 0 … 1 */
    double flops, bytes;  /* of one run */
} cr_jit_profile_step;

typedef struct cr_jit_profile {
    int runs;
    double seconds;      /* of all runs: the steps, and what lies between them */
    double flops, bytes; /* of one run */
    double bytes_read;   /* of bytes, those of operands */
    int step_count;
    cr_jit_profile_step *steps;
    int timed_runs; /* the first ones, whose times are kept */
    const double
        *times; /* of step i of run r: begin and end at [2 * (r * step_count + i)], seconds since the first run */
} cr_jit_profile;

/* Runs the graph `runs` times, after its fused kernels are compiled, and times each step; state is updated as by
 * cr_jit_run. With 0 runs nothing is run or timed, and `inputs` may be NULL (the example's sizes). NULL and an error on
 * failure. */
CR_API cr_jit_profile *cr_jit_profile_new(cr_graph *graph, cr_tensor *const *inputs, int input_count, int runs);
CR_API void cr_jit_profile_free(cr_jit_profile *profile); /* NULL is ignored */
/* A table, a line for each step: its share, the mean and the least time of a run, and by the least GFLOP/s and GB/s. With
 * what the machine can do at most (0: not known) also the time that the step must take at least, max(flops / peak,
 * bytes / bandwidth), and how near it comes. */
CR_API bool cr_jit_profile_print(FILE *out, const cr_jit_profile *profile, double gflops_per_second,
                                 double gbytes_per_second);
/* The timed runs as Chrome's trace events, for chrome://tracing or ui.perfetto.dev. */
CR_API bool cr_jit_profile_save_trace(const cr_jit_profile *profile, const char *path);

/* Where compiled kernels are kept ($CR_CACHE_DIR, …), from cr_malloc, for cr_free; NULL and an error where no folder is
 * known. And the compiler's name, NULL with CR_CC=none. */
CR_API char *cr_jit_cache_folder(void);
CR_API const char *cr_jit_compiler(void);

/* Plans' fused kernels are compiled in the background, and interpreted until then; this waits until all are there (or
 * have failed). Never for ever: a compiler that hangs is killed after a minute ($CR_CC_SECONDS) and not called again. */
CR_API void cr_jit_wait(void);

/* ------------------------------------------------------------------ adopting it function by function
 * cr_jit_wrap gives a function that traces itself: the first call with a signature (dtypes, sizes, devices, whether
 * gradients are recorded) runs it and traces it, later ones run the plan. At most `capacity` graphs are kept; the one
 * used longest ago goes first. `modules` are those that the function uses; they must outlive the wrapped one. A
 * function whose trace warns (it decides by a tensor's value) is simply called, and cr_jit_wrap_reason says why.
 * CR_JIT=0 in the environment makes every call a plain one. Results of a plan carry no gradients: wrap a whole step
 * with its cr_backward, or use it under CR_NO_GRAD. */
typedef struct cr_jit_wrapped cr_jit_wrapped;
/* A wrapped function, a call of it, why it is not traced (see above), and its end (NULL is ignored). */
CR_API cr_jit_wrapped *cr_jit_wrap(cr_jit_function function, void *context, cr_nn_module *const *modules,
                                   int module_count, int capacity);
CR_API bool cr_jit_call(cr_jit_wrapped *wrapped, cr_tensor *const *inputs, int input_count, cr_tensor **outputs,
                        int output_count);
CR_API const char *cr_jit_wrap_reason(const cr_jit_wrapped *wrapped); /* NULL: all is traced */
CR_API void cr_jit_unwrap(cr_jit_wrapped *wrapped);

/* ------------------------------------------------------------------ control flow that stays open in a trace
 * Outside a trace these just run, with gradients. In a trace each becomes one node with the functions' graphs inside,
 * and every run decides anew. A function uses its operands, and whatever else it likes, but writes to nothing from
 * outside. Where gradients are recorded through them, a trace of cr_scan is unrolled, and the way of the others is
 * frozen with a warning. */
/* outputs = then(operands) where the condition (one element of any dtype) is not 0, else otherwise(operands); both give
 * the same dtypes and shapes. */
CR_API bool cr_cond(cr_tensor *condition, cr_jit_function then, cr_jit_function otherwise, void *context,
                    cr_tensor *const *operands, int count, cr_tensor **outputs, int output_count);
/* outputs = state; while condition(outputs) gives not 0: outputs = body(outputs). Dtypes and shapes stay. */
CR_API bool cr_while_loop(cr_jit_function condition, cr_jit_function body, void *context, cr_tensor *const *state,
                          int count, cr_tensor **outputs);
/* For each t: body(carry…, x[t]…) gives carry…, y…; x are `scanned` operands behind `carried` ones, taken apart along
 * dim 0. outputs: the last carry, then the y of all t stacked along dim 0. (JAX's lax.scan.) */
CR_API bool cr_scan(cr_jit_function body, void *context, cr_tensor *const *operands, int carried, int scanned,
                    cr_tensor **outputs, int output_count);

/* ------------------------------------------------------------------ text and files */
/* The graph as text that cr_jit_parse reads back, exactly. From cr_malloc, for cr_free. */
CR_API char *cr_jit_text(const cr_graph *graph);
/* The optimised graph, for the sizes of `inputs` (NULL: the example's). */
CR_API char *cr_jit_optimized_text(cr_graph *graph, cr_tensor *const *inputs, int input_count);
CR_API cr_graph *cr_jit_parse(const char *text);
/* Graphviz's language: `dot -Tsvg`. */
CR_API char *cr_jit_dot(const cr_graph *graph);
/* prepare  sets of sizes, "batch=1;batch=16 time=20" (sizes that are not named are the example's; "" is the example), for
 *          which the file gets what a plan computes from the weights, packed for this processor's kernels: a program that
 *          is loaded starts at once, from pages that all its processes share. The file grows by as much. Runs give the
 *          same bits as without. For other sizes, on other processors, and with other kernels in the library, weights
 *          are packed when a plan is made, as ever (cr_jit_warning of the loaded graph tells). Weights that a run
 *          updates, as in a training step, are never packed: nothing is added for them. */
#define CR_JIT_SAVE_OPTIONS(A, op) A(op, TEXT, prepare, NULL)
CR_OPTIONS(jit_save, CR_JIT_SAVE_OPTIONS)
/* A safetensors file: the state as tensors, the text as metadata "cresset.graph". Written whole or not at all. */
CR_API bool cr_jit_save_with(const cr_graph *graph, const char *path, const cr_jit_save_options *options);
#ifndef __cplusplus
#define cr_jit_save(graph, ...) cr_jit_save_((graph), __VA_ARGS__, )
#define cr_jit_save_(graph, path, ...)                                                                                 \
    cr_jit_save_with(graph, path, CR_WITH(jit_save, CR_JIT_SAVE_OPTIONS, __VA_ARGS__))
#endif
/* Reads one; weights are mapped, not copied, where they stay on the CPU. The graph is frozen unless a run updates its
 * state. */
CR_API cr_graph *cr_jit_load(const char *path, cr_device device);

/* ------------------------------------------------------------------ ahead of time
 * Writes the graph as one file of C99 that needs nothing but the C library, and says at its top how to use it: a
 * context with all memory in it, NAME_init, NAME_run, NAME_state, NAME_seed. The same graph gives the same text.
 * name      what the file's functions begin with; a C identifier
 * sizes     values for the graph's symbols, "batch=8 time=20"; the default are the example's
 * weights   "inline": arrays in the file (NULL too). "file": a file beside it, whose name ends in ".weights" in place of
 *           ".c", for NAME_init to read
 * train     the program updates its state as runs of the graph do: parameters, averages, statistics, gradients.
 *           Without it a graph that does is an error, and weights are constants: batch norm folds, and so on.
 * CR_ERROR_UNSUPPORTED names an op that has no C. Example: docs/ahead-of-time.md. */
#define CR_JIT_COMPILE_OPTIONS(A, op)                                                                                  \
    A(op, TEXT, name, "model") A(op, TEXT, sizes, NULL) A(op, TEXT, weights, NULL) A(op, BOOL, train, false)
CR_OPTIONS(jit_compile, CR_JIT_COMPILE_OPTIONS)
/* False and an error where it fails; whatever stood at `path` stays then. */
CR_API bool cr_jit_compile_with(cr_graph *graph, const char *path, const cr_jit_compile_options *options);
#ifndef __cplusplus
#define cr_jit_compile(graph, ...) cr_jit_compile_((graph), __VA_ARGS__, )
#define cr_jit_compile_(graph, path, ...)                                                                              \
    cr_jit_compile_with(graph, path, CR_WITH(jit_compile, CR_JIT_COMPILE_OPTIONS, __VA_ARGS__))
#endif

#ifdef __cplusplus
}
#endif
#endif
