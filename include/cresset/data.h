/* Datasets, samplers and the loader (torch.utils.data).
 *
 * A dataset gives samples by index, a sampler gives the order of an epoch, a loader turns both into batches with worker
 * threads. What a batch holds depends on the loader's seed, the epoch and the position only: never on the number of
 * workers, so a run that stopped can be resumed at any step.
 *
 * Whoever is given a dataset, a sampler or a transform owns it from then on, also where the call fails. So calls nest:
 * cr_data_loader_new(cr_data_subset(cr_vision_mnist("data"), indices, 100), .batch_size = 10). */
#ifndef CRESSET_DATA_H
#define CRESSET_DATA_H

#include <cresset/core.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { CR_DATA_MAX_FIELDS = 4 };

/* One sample: an ordered list of tensors, by custom the input and the target. They belong to the innermost scope. */
typedef struct cr_data_sample {
    int count;
    cr_tensor *fields[CR_DATA_MAX_FIELDS];
} cr_data_sample;

/* ------------------------------------------------------------------ random numbers of a sample
 * Every sample has random numbers of its own, from the loader's seed, the epoch and the sample's index. Each draw moves
 * `random` on. */
CR_API double cr_data_random_uniform(cr_generator_state *random, double low, double high);    /* [low, high) */
CR_API int64_t cr_data_random_integer(cr_generator_state *random, int64_t low, int64_t high); /* low … high-1 */
/* The stream of one sample. */
CR_API cr_generator_state cr_data_random_for(uint64_t seed, int64_t epoch, int64_t index);

/* ------------------------------------------------------------------ datasets */
typedef struct cr_data_dataset cr_data_dataset;

/* What a kind of dataset must provide. `get` is called from several threads at once and must not change `self` without
 * a lock. It fills `sample` with CPU tensors of the innermost scope, or records an error and returns false. */
typedef struct cr_data_dataset_table {
    const char *name;
    int64_t (*length)(void *self);
    bool (*get)(void *self, int64_t index, cr_generator_state *random, cr_data_sample *sample);
    void (*free)(void *self); /* (optional) */
} cr_data_dataset_table;

/* A dataset of the user's own: `table` must outlive it; `self` is given to its functions and freed by its `free`, also
 * where this call fails. */
CR_API cr_data_dataset *cr_data_dataset_new(const cr_data_dataset_table *table, void *self);
/* One more owner (two loaders over one dataset); returns `dataset`. */
CR_API cr_data_dataset *cr_data_dataset_retain(cr_data_dataset *dataset);
/* One owner less; the last one frees it. NULL is ignored. */
CR_API void cr_data_dataset_free(cr_data_dataset *dataset);
/* Number of samples; -1 for NULL. */
CR_API int64_t cr_data_dataset_length(const cr_data_dataset *dataset);
CR_API const char *cr_data_dataset_name(const cr_data_dataset *dataset);
/* The `self` of a dataset made with `table`; NULL and an error for another kind. */
CR_API void *cr_data_dataset_self(const cr_data_dataset *dataset, const cr_data_dataset_table *table);
/* One sample. `random` may be NULL: then the stream of (0, 0, index). CR_ERROR_INDEX outside 0 … length-1. */
CR_API bool cr_data_dataset_get(cr_data_dataset *dataset, int64_t index, cr_generator_state *random,
                                cr_data_sample *sample);

/* 1 to 4 tensors with equal first sizes; sample i is their i-th slices (views). The tensors are retained. */
CR_API cr_data_dataset *cr_data_tensor_dataset_of(cr_tensor *const *tensors, int count);
/* The given samples of a dataset, in this order; indices are checked at once and copied. */
CR_API cr_data_dataset *cr_data_subset(cr_data_dataset *dataset, const int64_t *indices, int64_t count);
/* The samples of one dataset after those of another. */
CR_API cr_data_dataset *cr_data_concat_of(cr_data_dataset *const *datasets, int count);
/* Parts of the given lengths, in an order that `seed` decides; the lengths must sum up to the dataset's. Fills
 * parts[0 … count-1]; on failure they are NULL. */
CR_API bool cr_data_random_split(cr_data_dataset *dataset, const int64_t *lengths, int count, uint64_t seed,
                                 cr_data_dataset **parts);
typedef bool (*cr_data_map_function)(void *context, cr_generator_state *random, cr_data_sample *sample);
/* A dataset whose samples go through `function`, which may replace and drop fields. Called from several threads at
 * once. `context` is freed with `free_context` (may be NULL), also where this call fails. */
CR_API cr_data_dataset *cr_data_map(cr_data_dataset *dataset, cr_data_map_function function, void *context,
                                    void (*free_context)(void *context));

#ifndef __cplusplus
/* cr_data_tensor_dataset(x, y), cr_data_concat(a, b, c) */
#define cr_data_tensor_dataset(...)                                                                                    \
    cr_data_tensor_dataset_of((cr_tensor *const[]){__VA_ARGS__},                                                       \
                              (int)(sizeof((cr_tensor *const[]){__VA_ARGS__}) / sizeof(cr_tensor *)))
#define cr_data_concat(...)                                                                                            \
    cr_data_concat_of((cr_data_dataset *const[]){__VA_ARGS__},                                                         \
                      (int)(sizeof((cr_data_dataset *const[]){__VA_ARGS__}) / sizeof(cr_data_dataset *)))
#endif

/* ------------------------------------------------------------------ samplers */
typedef struct cr_data_sampler cr_data_sampler;

/* The order of one epoch, being written by a sampler. */
typedef struct cr_data_order cr_data_order;
/* Appends a sample's index. */
CR_API bool cr_data_order_add(cr_data_order *order, int64_t index);
/* Ends a batch after the indices added so far. A sampler that calls this decides the batches itself; the loader's
 * batch_size and drop_last then say nothing. */
CR_API bool cr_data_order_end_batch(cr_data_order *order);

/* What a kind of sampler must provide: `write` adds the indices of an epoch. The same seed, epoch and length must give
 * the same order: that is what makes resuming exact. */
typedef struct cr_data_sampler_table {
    const char *name;
    bool (*write)(void *self, int64_t dataset_length, uint64_t seed, int64_t epoch, cr_data_order *order);
    void (*free)(void *self); /* (optional) */
} cr_data_sampler_table;

/* A sampler of the user's own; `self` is freed by the table's `free`, also where this call fails. */
CR_API cr_data_sampler *cr_data_sampler_new(const cr_data_sampler_table *table, void *self);
CR_API void cr_data_sampler_free(cr_data_sampler *sampler);
/* The order of one epoch into memory from cr_malloc, for cr_free; returns how many, or -1. */
CR_API int64_t cr_data_sampler_indices(cr_data_sampler *sampler, int64_t dataset_length, uint64_t seed, int64_t epoch,
                                       int64_t **indices);

/* 0 … length-1. */
CR_API cr_data_sampler *cr_data_sequential_sampler(void);
/* A permutation; with `count` > 0 so many of them (with replacement: independent draws; more than the length without
 * it: further permutations follow). */
CR_API cr_data_sampler *cr_data_random_sampler(bool replacement, int64_t count);
/* `count` draws, index i with a probability proportional to weights[i] (at least 0, finite, not all 0). Without
 * replacement: `count` at most as many as there are weights above 0. */
CR_API cr_data_sampler *cr_data_weighted_random_sampler(const double *weights, int64_t weight_count, int64_t count,
                                                        bool replacement);
/* The given indices in random order, without replacement. */
CR_API cr_data_sampler *cr_data_subset_random_sampler(const int64_t *indices, int64_t count);
/* Another sampler's order, cut into batches. */
CR_API cr_data_sampler *cr_data_batch_sampler(cr_data_sampler *sampler, int64_t batch_size, bool drop_last);
/* Every `replicas`-th index from `rank` on, of a permutation where `shuffle`; all ranks get equally many: the order is
 * filled up from its start, or cut with `drop_last`. All ranks must use one seed. */
CR_API cr_data_sampler *cr_data_distributed_sampler(int replicas, int rank, bool shuffle, bool drop_last);

/* ------------------------------------------------------------------ the loader */
typedef struct cr_data_loader cr_data_loader;

/* Makes a batch from samples: the tensors belong to the innermost scope. Called from worker threads. */
typedef bool (*cr_data_collate)(void *context, const cr_data_sample *samples, int64_t count, cr_data_sample *batch);
/* The default: field by field, a new first dim: [3,64,64] x 8 becomes [8,3,64,64]. Shapes and dtypes must agree. */
CR_API bool cr_data_default_collate(void *context, const cr_data_sample *samples, int64_t count, cr_data_sample *batch);

typedef struct cr_data_loader_options {
    size_t size;
    cr_data_dataset *dataset; /* owned by the loader */
    int64_t batch_size;       /* 1 */
    bool shuffle;             /* a random sampler where no sampler is given */
    bool drop_last;           /* leave out the last batch where it is smaller */
    int workers;              /* threads that prepare batches; 0: the caller's thread does */
    int prefetch;             /* batches in preparation for each worker: 2 */
    int64_t seed;             /* -1: drawn from the default generator (cr_manual_seed) when the loader is made */
    double timeout;           /* seconds to wait for a batch before that is an error; 0: no limit */
    cr_data_sampler *sampler; /* owned by the loader */
    cr_data_collate collate;  /* cr_data_default_collate */
    void *collate_context;
} cr_data_loader_options;

/* NULL and an error for a NULL dataset, sizes below 1, more than 256 workers, shuffle together with a sampler. */
CR_API cr_data_loader *cr_data_loader_new_with(const cr_data_loader_options *options);
#ifndef __cplusplus
/* cr_data_loader_new(dataset, .batch_size = 64, .shuffle = true, .workers = 2) */
#define cr_data_loader_new(...)                                                                                        \
    cr_data_loader_new_with(&(cr_data_loader_options){                                                                 \
        .size = sizeof(cr_data_loader_options), .batch_size = 1, .prefetch = 2, .seed = -1, .dataset = __VA_ARGS__})
#endif
/* Stops the workers (each finishes the sample it is at), frees the dataset and the sampler. NULL is ignored. */
CR_API void cr_data_loader_free(cr_data_loader *loader);
/* Still owned by the loader. */
CR_API cr_data_dataset *cr_data_loader_dataset(const cr_data_loader *loader);
/* Batches in the current epoch (in the next one between epochs); -1 and an error where the sampler fails. */
CR_API int64_t cr_data_loader_length(cr_data_loader *loader);

/* Where a loader stands, for checkpoints: position counts the batches of `epoch` that were handed out. */
typedef struct cr_data_loader_state {
    uint64_t seed;
    int64_t epoch, position;
} cr_data_loader_state;
/* For NULL: zeros. */
CR_API cr_data_loader_state cr_data_loader_get_state(const cr_data_loader *loader);
/* The next CR_FOR_BATCHES goes on from there. */
CR_API bool cr_data_loader_set_state(cr_data_loader *loader, cr_data_loader_state state);
/* The next CR_FOR_BATCHES begins this epoch. Without it each loop begins the epoch after the last one, from 0. */
CR_API bool cr_data_loader_set_epoch(cr_data_loader *loader, int64_t epoch);
/* The next CR_FOR_BATCHES leaves out this many batches at its start. */
CR_API bool cr_data_loader_skip(cr_data_loader *loader, int64_t batches);

/* Since the start of the current (or last) epoch: where the time went. */
typedef struct cr_data_loader_stats {
    int64_t batches, samples;
    double wait_seconds; /* the loop waited for data */
    double work_seconds; /* the loop's body ran */
} cr_data_loader_stats;
/* For NULL: zeros. */
CR_API cr_data_loader_stats cr_data_loader_get_stats(const cr_data_loader *loader);

/* One turn of a loop over a loader. */
typedef struct cr_data_batch {
    cr_tensor *input, *target; /* fields[0] and fields[1]; NULL where there are fewer */
    cr_tensor *fields[CR_DATA_MAX_FIELDS];
    int count;
    int64_t index;   /* of the batch in its epoch, from 0 */
    int64_t samples; /* how many it holds */
    int64_t epoch;
    cr_data_loader *loader;
    cr_scope_mark scope; /* the turn's scope */
    bool is_open;
    const char *file;
    int line;
} cr_data_batch;

/* What CR_FOR_BATCHES is made of. begin starts an epoch; next ends the turn's scope and opens the next one's, or
 * returns false at the end and on an error; end is safe to call at any moment. */
CR_API cr_data_batch cr_data_batch_begin(cr_data_loader *loader, const char *file, int line);
CR_API bool cr_data_batch_next(cr_data_batch *batch);
CR_API void cr_data_batch_end(cr_data_batch *batch);

/* CR_FOR_BATCHES(batch, loader) { … batch.input … }: one epoch. Each turn is a scope: its tensors go at its end, also
 * on break, continue, return and goto. The loop ends early where this thread has an error recorded: check cr_ok() after
 * it. One loop at a time over a loader. */
#if defined(__GNUC__)
#define CR_FOR_BATCHES(batch, loader)                                                                                  \
    for (cr_data_batch batch                                                                                           \
         __attribute__((cleanup(cr_data_batch_end))) = cr_data_batch_begin((loader), __FILE__, __LINE__);              \
         cr_data_batch_next(&batch);)
#endif

#ifdef __cplusplus
}
#endif
#endif
