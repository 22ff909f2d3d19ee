/* Cresset core: errors, devices, dtypes, shapes, tensors, scopes, memory, threads, random numbers.
 *
 * Plain C99, usable from C++. Every function that can fail returns NULL (or false) and records the
 * first error of its thread; nothing here aborts or prints. See docs/architecture.md. */
#ifndef CRESSET_CORE_H
#define CRESSET_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define CR_API                                  __attribute__((visibility("default")))
#define CR_PRINTF(format_index, first_argument) __attribute__((format(printf, format_index, first_argument)))
#else
#define CR_API
#define CR_PRINTF(format_index, first_argument)
#endif

/* Named options (.stride = 2) stand behind their defaults in one initializer and override them: that is meant, so the
 * compiler is asked not to speak of it. It would, under -Wextra, even though these are system headers. */
#if defined(__clang__)
#pragma clang diagnostic ignored "-Winitializer-overrides"
#elif defined(__GNUC__) && !defined(__cplusplus)
#pragma GCC diagnostic ignored "-Woverride-init"
#endif

#define CR_VERSION_MAJOR 0
#define CR_VERSION_MINOR 1
#define CR_VERSION_PATCH 0

/* "0.1.0". */
CR_API const char *cr_version(void);

/* ------------------------------------------------------------------ errors
 * Each thread keeps its FIRST error until it is cleared. A call that fails returns NULL or false;
 * a call that is given the NULL of an earlier failure returns NULL and leaves the record alone, so a
 * whole model is checked once, at the end. */
typedef enum cr_error_code {
    CR_ERROR_NONE = 0,
    CR_ERROR_ARGUMENT,    /* a value, name or NULL that cannot be used */
    CR_ERROR_SHAPE,       /* sizes that do not fit each other */
    CR_ERROR_DTYPE,       /* a dtype that the operation does not take */
    CR_ERROR_DEVICE,      /* a device that is absent, or two devices in one operation */
    CR_ERROR_MEMORY,      /* out of memory, or past cr_memory_set_limit */
    CR_ERROR_INDEX,       /* an index outside its dimension */
    CR_ERROR_IO,          /* the operating system refused a read or a write */
    CR_ERROR_FORMAT,      /* a file whose bytes are not what its format says */
    CR_ERROR_UNSUPPORTED, /* well-formed, but not something that this build can do */
    CR_ERROR_STATE,       /* a call out of order: backward twice, a value overwritten, a closed scope */
    CR_ERROR_NUMERIC,     /* NaN or infinity where the caller asked to be told */
    CR_ERROR_INTERRUPTED  /* the caller asked to stop */
} cr_error_code;

typedef struct cr_error {
    cr_error_code code;
    const char *message; /* what was given, what was expected, what to do */
    const char *chain;   /* the calls that led there, innermost first: "conv2d < nn.conv2d main.0" */
} cr_error;

/* True while this thread has no recorded error. */
CR_API bool cr_ok(void);
/* The recorded error, or NULL. Valid until the next cr_clear_error or cr_report of this thread. */
CR_API const cr_error *cr_last_error(void);
/* "shape", "memory", … */
CR_API const char *cr_error_code_name(cr_error_code code);
CR_API void cr_clear_error(void);
/* Writes the recorded error to `out` (nothing when there is none), clears it, and returns a program's exit
 * status: 0 without an error, 1 with one. `out` may be NULL. */
CR_API int cr_report(FILE *out);
/* Records an error as the library does, for the user's own modules and functions. */
CR_API void cr_record_error(cr_error_code code, const char *format, ...) CR_PRINTF(2, 3);
/* cr_fail(code, format, …): the same, as an expression that is false: `return cr_fail(CR_ERROR_SHAPE, "…");`. */
#define cr_fail(...) (cr_record_error(__VA_ARGS__), false)

/* ------------------------------------------------------------------ dtypes */
typedef enum cr_dtype {
    CR_BOOL = 0,
    CR_U8,
    CR_I8,
    CR_I16,
    CR_I32,
    CR_I64,
    CR_F16,
    CR_BF16,
    CR_F32,
    CR_F64,
    CR_DTYPE_COUNT,
    CR_DTYPE_DEFAULT = -1 /* in options: "choose for me" (f32, or the input's dtype) */
} cr_dtype;

/* Bytes of one element: 1, 2, 4 or 8; 0 for a value outside the enum. */
CR_API size_t cr_dtype_size(cr_dtype dtype);
/* "f32", "bool", …; "?" for a value outside the enum. */
CR_API const char *cr_dtype_name(cr_dtype dtype);
/* Accepts our names and PyTorch's ("float32", "half", "int64", …). */
CR_API bool cr_dtype_parse(const char *text, cr_dtype *dtype);
CR_API bool cr_dtype_is_floating(cr_dtype dtype);
CR_API bool cr_dtype_is_integral(cr_dtype dtype); /* u8 … i64; not bool */
/* PyTorch's promotion of two tensors of at least one dimension: bool < integers < floats;
 * f16 with bf16 is f32, u8 with i8 is i16. */
CR_API cr_dtype cr_dtype_promote(cr_dtype a, cr_dtype b);

/* ------------------------------------------------------------------ devices */
typedef enum cr_device_type { CR_DEVICE_CPU = 0, CR_DEVICE_CUDA = 1, CR_DEVICE_TYPE_COUNT = 4 } cr_device_type;

typedef struct cr_device {
    int16_t type;  /* a cr_device_type */
    int16_t index; /* 0 for the first */
} cr_device;

#ifdef __cplusplus
#define CR_CPU     (cr_device{0, 0})
#define CR_CUDA(i) (cr_device{1, (int16_t)(i)})
#else
#define CR_CPU     ((cr_device){0, 0})
#define CR_CUDA(i) ((cr_device){1, (int16_t)(i)})
#endif

/* cuda:0 where the CUDA plug-in finds a device, else the CPU. */
CR_API cr_device cr_device_best(void);
/* "cpu", "cpu:1", "cuda", "cuda:3". Fails with CR_ERROR_DEVICE when there is no such device here. */
CR_API bool cr_device_parse(const char *text, cr_device *device);
/* Writes "cpu" or "cuda:1" into `text` (at least 16 bytes) and returns it. */
CR_API char *cr_device_name(cr_device device, char text[16]);
/* How many devices of a type this process can use; 0 where the plug-in or driver is absent. */
CR_API int cr_device_count(cr_device_type type);
/* Why cr_device_count is 0 ("libcresset_cuda.so: cannot open…"), or NULL. */
CR_API const char *cr_device_absence(cr_device_type type);
CR_API bool cr_device_equal(cr_device a, cr_device b);
/* Waits until all work queued on the device is done. */
CR_API bool cr_device_synchronize(cr_device device);
/* Virtual CPU devices cpu:0 … cpu:n-1, to exercise multi-device code on one machine. 1 at start. */
CR_API bool cr_cpu_set_device_count(int count);

/* ------------------------------------------------------------------ shapes */
#define CR_MAX_DIMS 8

/* A short list of integers by value: a tensor's sizes, or a list of dims. */
typedef struct cr_shape {
    int count;
    int64_t at[CR_MAX_DIMS];
} cr_shape;
typedef cr_shape cr_dims;

/* CR_SHAPE(2, 3): a list of up to 8; CR_SHAPE_0D: the shape of a scalar. More than 8 does not compile. */
#define CR_COUNT_ARGUMENTS_(...) ((int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)))
#ifdef __cplusplus
#define CR_SHAPE(...) (cr_shape{CR_COUNT_ARGUMENTS_(__VA_ARGS__), {__VA_ARGS__}})
#define CR_SHAPE_0D   (cr_shape{0, {0}})
#else
#define CR_SHAPE(...) ((cr_shape){CR_COUNT_ARGUMENTS_(__VA_ARGS__), {__VA_ARGS__}})
#define CR_SHAPE_0D   ((cr_shape){0, {0}})
#endif
#define CR_DIMS(...) CR_SHAPE(__VA_ARGS__)
/* An empty list of dims: in reductions it means "all". */
#define CR_ALL_DIMS CR_SHAPE_0D

/* Product of the sizes (1 for 0-d). Fails on a negative size or past int64. */
CR_API bool cr_shape_numel(cr_shape shape, int64_t *numel);
CR_API bool cr_shape_equal(cr_shape a, cr_shape b);
/* The broadcast of two shapes by NumPy's rule. */
CR_API bool cr_shape_broadcast(cr_shape a, cr_shape b, cr_shape *result);
/* Writes "[2,3]" into `text` (at least 192 bytes) and returns it. */
CR_API char *cr_shape_format(cr_shape shape, char text[192]);

/* ------------------------------------------------------------------ memory */
typedef struct cr_memory_stats_t {
    int64_t live_bytes;         /* asked for and not given back, all kinds of objects */
    int64_t live_blocks;        /* blocks behind live_bytes */
    int64_t peak_bytes;         /* highest live_bytes since start or cr_memory_reset_peak */
    int64_t cached_bytes;       /* held by the allocator, free for reuse */
    int64_t allocations;        /* since start */
    int64_t system_allocations; /* of those, how many went to the operating system */
} cr_memory_stats_t;

/* Counters over all devices of the process. After everything is released live_bytes is exactly 0. */
CR_API cr_memory_stats_t cr_memory_stats(void);
CR_API void cr_memory_reset_peak(void);
/* An allocation that would take live_bytes past this limit is an error; 0: no limit. */
CR_API void cr_memory_set_limit(int64_t bytes);
/* Gives cached blocks back to the operating system. */
CR_API void cr_memory_trim(void);
/* Makes the n-th allocation from now fail (1: the next), once; 0 turns it off. For tests. */
CR_API void cr_memory_fail_nth(int64_t n);
/* How many allocations the fault hook has seen since it was last set. */
CR_API int64_t cr_memory_fail_seen(void);

/* Counted memory for the user's own objects: 64-byte aligned, NULL and an error on failure. */
CR_API void *cr_malloc(size_t bytes);
CR_API void *cr_calloc(size_t count, size_t bytes);
CR_API void *cr_realloc(void *block, size_t bytes);
CR_API char *cr_strdup(const char *text);
CR_API void cr_free(void *block);

/* ------------------------------------------------------------------ tensors */
typedef struct cr_tensor cr_tensor;

/* Uninitialised, contiguous. */
CR_API cr_tensor *cr_empty(cr_dtype dtype, cr_shape shape, cr_device device);
/* Uninitialised with strides in elements; the storage is as large as the strides reach. */
CR_API cr_tensor *cr_empty_strided(cr_dtype dtype, cr_shape shape, cr_shape strides, cr_device device);
/* A copy of `count of shape` elements of host memory, contiguous, on the CPU. */
CR_API cr_tensor *cr_from_data(cr_dtype dtype, cr_shape shape, const void *data);
/* Wraps the caller's host memory without copying. `release(context)` runs when the last view goes; on failure it
 * does not run. `release` may be NULL. */
CR_API cr_tensor *cr_from_blob(cr_dtype dtype, cr_shape shape, void *data, void (*release)(void *), void *context);
/* A 0-d tensor on the CPU. */
CR_API cr_tensor *cr_scalar(double value, cr_dtype dtype);
CR_API cr_tensor *cr_scalar_i64(int64_t value);

/* What a tensor is; for NULL the values named, without an error. */
CR_API cr_dtype cr_dtype_of(const cr_tensor *t); /* CR_DTYPE_DEFAULT for NULL */
CR_API cr_device cr_device_of(const cr_tensor *t);
CR_API int cr_ndim(const cr_tensor *t);      /* -1 for NULL */
CR_API int64_t cr_numel(const cr_tensor *t); /* -1 for NULL */
/* Size of one dim; negative dims count from the end; -1 and an error outside. */
CR_API int64_t cr_size(const cr_tensor *t, int dim);
CR_API cr_shape cr_shape_of(const cr_tensor *t);
CR_API cr_shape cr_strides_of(const cr_tensor *t); /* in elements */
CR_API bool cr_is_contiguous(const cr_tensor *t);
/* True for a 4-d (NHWC in memory) or 5-d (NDHWC) tensor whose channels vary fastest. */
CR_API bool cr_is_channels_last(const cr_tensor *t);
/* True where both look at the same storage. */
CR_API bool cr_shares_storage(const cr_tensor *a, const cr_tensor *b);
/* Counts in-place writes to the storage; views share it. */
CR_API uint64_t cr_version_of(const cr_tensor *t);

/* The first element's address; NULL for an empty tensor, a tensor on another device, or NULL. Elements lie at
 * the tensor's strides. A write through it is not seen by the version counter: call cr_touch after it. */
CR_API void *cr_data(const cr_tensor *t);
CR_API float *cr_data_f32(const cr_tensor *t);   /* NULL and an error for another dtype */
CR_API int64_t *cr_data_i64(const cr_tensor *t); /* likewise */
CR_API void cr_touch(cr_tensor *t);
/* The value of a one-element tensor of any dtype on any device; NaN (or 0) and an error otherwise. */
CR_API double cr_item(const cr_tensor *t);
CR_API int64_t cr_item_i64(const cr_tensor *t);
/* One element by its indices (index.count == cr_ndim). Slow: for tests and printing. */
CR_API double cr_at(const cr_tensor *t, cr_shape index);
/* Copies all elements in row-major order to host memory of exactly `bytes` bytes. */
CR_API bool cr_copy_to_host(const cr_tensor *t, void *data, size_t bytes);

/* ------------------------------------------------------------------ scopes and references
 * A tensor that a function returns belongs to the innermost open scope of its thread and goes when that
 * scope closes. Without an open scope it lives until cr_scope_clear or the end of its thread. */
typedef struct cr_scope_mark {
    size_t depth;
    const char *file;
    int line;
} cr_scope_mark;

/* Opens a scope of this thread (file and line for messages), and closes it with all that were opened inside. CR_SCOPE
 * does both. */
CR_API cr_scope_mark cr_scope_open(const char *file, int line);
CR_API void cr_scope_close(cr_scope_mark *mark);
/* CR_SCOPE { … }: closes at the end of the block, also on break, continue, return and goto.
 * `break` and `continue` leave the block itself. */
#if defined(__GNUC__)
#define CR_SCOPE                                                                                                       \
    for (cr_scope_mark cr_scope_mark_ __attribute__((cleanup(cr_scope_close))) = cr_scope_open(__FILE__, __LINE__),    \
                                      *cr_scope_once_ = &cr_scope_mark_;                                               \
         cr_scope_once_; cr_scope_once_ = NULL)
#endif
/* Hands `t` from the innermost scope to the next one out, and returns it. */
CR_API cr_tensor *cr_keep(cr_tensor *t);
/* One more owner outside all scopes; returns t. Pair with cr_release. NULL is ignored. */
CR_API cr_tensor *cr_retain(cr_tensor *t);
CR_API void cr_release(cr_tensor *t);
/* Makes the innermost scope of this thread own one reference that the caller holds; returns t. */
CR_API cr_tensor *cr_give(cr_tensor *t);
/* Drops `t` from its scope now and not at the scope's end. */
CR_API void cr_discard(cr_tensor *t);
/* Releases all that this thread's outermost (implicit) scope holds. Open scopes stay. */
CR_API void cr_scope_clear(void);

/* ------------------------------------------------------------------ text and files */
/* Prints like PyTorch, with our dtype names: aligned columns, summarised past 1000 elements; a newline at the end. */
CR_API bool cr_print(FILE *out, const cr_tensor *t);
/* The same text without the newline, in memory from cr_malloc, for cr_free; NULL and an error on failure. */
CR_API char *cr_format(const cr_tensor *t);
/* "f32[2,3] cpu": for messages. Writes into `text` (at least 224 bytes) and returns it. */
CR_API char *cr_describe(const cr_tensor *t, char text[224]);

/* NumPy's .npy (format 1.0 to 3.0, little-endian; Fortran order is read into row-major). */
CR_API cr_tensor *cr_npy_load(const char *path);
CR_API bool cr_npy_save(const char *path, const cr_tensor *t);

/* A safetensors file, mapped: tensors look into the mapping (copy on write, never back to the file) and keep it
 * alive. */
typedef struct cr_safetensors cr_safetensors;
/* The header is checked whole before this returns; NULL and an error where it is not sound. Closing leaves tensors that
 * were taken out as they are. */
CR_API cr_safetensors *cr_safetensors_open(const char *path);
CR_API void cr_safetensors_close(cr_safetensors *file);
/* Its tensors by name (cr_safetensors_tensor: NULL and an error where there is none), and its metadata. */
CR_API int cr_safetensors_count(const cr_safetensors *file);
CR_API const char *cr_safetensors_name(const cr_safetensors *file, int index); /* in the header's order */
CR_API cr_tensor *cr_safetensors_tensor(cr_safetensors *file, const char *name);
CR_API bool cr_safetensors_has(const cr_safetensors *file, const char *name);
CR_API const char *cr_safetensors_metadata(const cr_safetensors *file, const char *key); /* NULL: no such key */
typedef struct cr_named_tensor {
    const char *name;
    const cr_tensor *tensor;
} cr_named_tensor;
typedef struct cr_text_pair {
    const char *key, *value;
} cr_text_pair;
/* Writes a temporary file beside `path`, syncs it, renames it over `path`, and syncs the folder: whoever looks, at
 * any moment, sees the old file or the new one, whole. */
CR_API bool cr_safetensors_save(const char *path, const cr_named_tensor *tensors, int count,
                                const cr_text_pair *metadata, int metadata_count);

/* DLPack (https://dmlc.github.io/dlpack): memory shared with other frameworks without copying. The struct is DLPack's
 * DLManagedTensor; include their header, or ours (cresset/dlpack.h), to look inside. */
struct DLManagedTensor;
/* Hands out a tensor (one more owner, until the consumer calls the deleter); NULL and an error on failure. */
CR_API struct DLManagedTensor *cr_to_dlpack(cr_tensor *t);
/* Takes ownership of `managed` (its deleter runs when the last view goes) unless it fails. */
CR_API cr_tensor *cr_from_dlpack(struct DLManagedTensor *managed);

/* ------------------------------------------------------------------ threads */
/* Threads that one operation may use. At start: OMP_NUM_THREADS, else the processors that the affinity mask and the
 * cgroup's quota allow. Results do not depend on it, bit for bit. */
CR_API int cr_num_threads(void);
CR_API bool cr_set_num_threads(int count);
/* "avx512", "avx2", "baseline": the kernels in use; the variable CR_CPU chooses a lower one at start. */
CR_API const char *cr_cpu_capability(void);
/* Calls body(context, begin, end) over disjoint ranges of 0 … count-1, in parallel where count > grain: up to four ranges
 * for each thread, each thread taking the next that nobody has begun. */
CR_API void cr_parallel_for(int64_t count, int64_t grain, void (*body)(void *context, int64_t begin, int64_t end),
                            void *context);

/* ------------------------------------------------------------------ random numbers
 * Philox 4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", 2011). A draw of n numbers takes a
 * range of the counter, so the same seed gives the same numbers on any device and for any number of threads. */
typedef struct cr_generator cr_generator;
typedef struct cr_generator_state {
    uint64_t seed;
    uint64_t offset; /* next unused 128-bit counter */
} cr_generator_state;

/* Seeds the default generator. */
CR_API void cr_manual_seed(uint64_t seed);
CR_API cr_generator *cr_generator_default(void);
CR_API cr_generator *cr_generator_new(uint64_t seed);
CR_API void cr_generator_free(cr_generator *generator);                          /* not the default one */
CR_API cr_generator_state cr_generator_get_state(const cr_generator *generator); /* NULL: the default one */
CR_API void cr_generator_set_state(cr_generator *generator, cr_generator_state state);
/* Takes `blocks` counters of four 32-bit numbers each; returns the state to draw them from. Thread-safe. */
CR_API cr_generator_state cr_generator_reserve(cr_generator *generator, uint64_t blocks);
/* The four numbers of block `block` of a reserved state. */
CR_API void cr_philox(cr_generator_state state, uint64_t block, uint32_t numbers[4]);

/* What this build is: pairs such as {"compiler", "gcc 12.2.0"}, {"threads", "OpenMP"}; `count` takes how many. */
CR_API const cr_text_pair *cr_build_info(int *count);

/* Frees every cache and closes plug-ins. Optional; after it the library may be used again. */
CR_API void cr_shutdown(void);

#ifdef __cplusplus
}
#endif
#endif
