/* The loader, the consumer's side: epochs, batches, resuming, statistics. */
#include "data/loader.h"
#include "core/tensor.h"

#include <string.h>
#include <time.h>

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* ---------------------------------------------------------------- making */
static bool check_options(const cr_data_loader_options *options) {
    if (!options->dataset) return cr_fail(CR_ERROR_ARGUMENT, "loader: the dataset is NULL");
    if (options->batch_size < 1)
        return cr_fail(CR_ERROR_ARGUMENT, "loader: batch_size %lld; at least 1 is needed",
                       (long long)options->batch_size);
    if (options->workers < 0 || options->workers > 256 || options->prefetch < 1 || options->prefetch > 1024)
        return cr_fail(CR_ERROR_ARGUMENT, "loader: %d workers with prefetch %d; 0 to 256 and 1 to 1024 can be had",
                       options->workers, options->prefetch);
    if (options->shuffle && options->sampler)
        return cr_fail(CR_ERROR_ARGUMENT,
                       "loader: shuffle and a sampler; the sampler decides the order, leave shuffle out");
    if (!(options->timeout >= 0)) return cr_fail(CR_ERROR_ARGUMENT, "loader: timeout %g seconds", options->timeout);
    return true;
}

static uint64_t seed_from_default_generator(void) {
    uint32_t numbers[4];
    cr_philox(cr_generator_reserve(NULL, 1), 0, numbers);
    return ((uint64_t)numbers[0] << 32 | numbers[1]) >> 1; /* as a .seed it would be at least 0 too */
}

static bool make_workers_state(cr_data_loader *loader) {
    const cr_data_loader_options *options = &loader->options;
    const int64_t parcel_count = (int64_t)options->workers * options->prefetch;
    if (options->workers == 0) return true;
    loader->parcels = cr_calloc((size_t)parcel_count, sizeof *loader->parcels);
    if (loader->parcels) loader->parcel_count = parcel_count;
    loader->threads = cr_calloc((size_t)options->workers, sizeof *loader->threads);
    return loader->parcels && loader->threads;
}

cr_data_loader *cr_data_loader_new_with(const cr_data_loader_options *given) {
    cr_data_loader_options options = {.size = sizeof options, .batch_size = 1, .prefetch = 2, .seed = -1};
    if (given) memcpy(&options, given, given->size < sizeof options ? given->size : sizeof options);
    cr_data_loader *loader = check_options(&options) ? cr_calloc(1, sizeof *loader) : NULL;
    if (loader && !options.sampler)
        options.sampler = options.shuffle ? cr_data_random_sampler(false, 0) : cr_data_sequential_sampler();
    if (!loader || !options.sampler) {
        cr_free(loader);
        cr_data_sampler_free(options.sampler);
        cr_data_dataset_free(options.dataset);
        return NULL;
    }
    if (!options.collate) options.collate = cr_data_default_collate;
    loader->options = options;
    loader->seed = options.seed >= 0 ? (uint64_t)options.seed : seed_from_default_generator();
    loader->order_epoch = -1;
    loader->is_placed = true;
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&loader->lock, NULL);
    pthread_cond_init(&loader->work, &monotonic);
    pthread_cond_init(&loader->done, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (make_workers_state(loader)) return loader;
    cr_data_loader_free(loader);
    return NULL;
}

void cr_data_loader_free(cr_data_loader *loader) {
    if (!loader) return;
    cr_data_workers_stop(loader);
    cr_data_order_clear(&loader->order);
    cr_data_sampler_free(loader->options.sampler);
    cr_data_dataset_free(loader->options.dataset);
    pthread_cond_destroy(&loader->done);
    pthread_cond_destroy(&loader->work);
    pthread_mutex_destroy(&loader->lock);
    cr_free(loader->parcels);
    cr_free(loader->threads);
    cr_free(loader);
}

cr_data_dataset *cr_data_loader_dataset(const cr_data_loader *loader) {
    return loader ? loader->options.dataset : NULL;
}

/* ---------------------------------------------------------------- where it stands */
static int64_t next_epoch(const cr_data_loader *loader) {
    return loader->is_running || loader->is_placed ? loader->epoch : loader->epoch + 1;
}

/* Writes the order of `epoch`, unless it is there already. */
static bool prepare_order(cr_data_loader *loader, int64_t epoch) {
    if (loader->order_epoch == epoch) return true;
    const cr_data_loader_options *options = &loader->options;
    cr_data_workers_wait(loader);
    loader->order_epoch = -1;
    cr_data_order_clear(&loader->order);
    const int64_t length = cr_data_dataset_length(options->dataset);
    cr_data_order *order = &loader->order;
    if (!cr_data_sampler_write(options->sampler, length, loader->seed, epoch, order)) return false;
    if (!(order->batches ? cr_data_order_end_batch(order)
                         : cr_data_order_cut(order, options->batch_size, options->drop_last)))
        return false;
    loader->order_epoch = epoch;
    return true;
}

int64_t cr_data_loader_length(cr_data_loader *loader) {
    if (!loader) return -1;
    return prepare_order(loader, next_epoch(loader)) ? loader->order.batches : -1;
}

cr_data_loader_state cr_data_loader_get_state(const cr_data_loader *loader) {
    if (!loader) return (cr_data_loader_state){0};
    return (cr_data_loader_state){loader->seed, loader->epoch, loader->position};
}

bool cr_data_loader_set_state(cr_data_loader *loader, cr_data_loader_state state) {
    if (!loader) return cr_fail(CR_ERROR_ARGUMENT, "loader: NULL");
    if (loader->is_running) return cr_fail(CR_ERROR_STATE, "loader: its place cannot be set while a loop runs over it");
    if (state.epoch < 0 || state.position < 0)
        return cr_fail(CR_ERROR_ARGUMENT, "loader: epoch %lld, position %lld; both start at 0", (long long)state.epoch,
                       (long long)state.position);
    cr_data_workers_wait(loader); /* the last ones still read what changes here */
    if (state.seed != loader->seed) loader->order_epoch = -1;
    loader->seed = state.seed;
    loader->epoch = state.epoch;
    loader->position = state.position;
    loader->is_placed = true;
    return true;
}

bool cr_data_loader_set_epoch(cr_data_loader *loader, int64_t epoch) {
    return cr_data_loader_set_state(loader, (cr_data_loader_state){loader ? loader->seed : 0, epoch, 0});
}

bool cr_data_loader_skip(cr_data_loader *loader, int64_t batches) {
    if (!loader || batches < 0) return cr_fail(CR_ERROR_ARGUMENT, "loader: skip %lld batches", (long long)batches);
    const int64_t position = loader->is_placed ? loader->position : 0;
    return cr_data_loader_set_state(loader,
                                    (cr_data_loader_state){loader->seed, next_epoch(loader), position + batches});
}

cr_data_loader_stats cr_data_loader_get_stats(const cr_data_loader *loader) {
    return loader ? loader->stats : (cr_data_loader_stats){0};
}

/* ---------------------------------------------------------------- a loop over an epoch */
static bool begin(cr_data_loader *loader) {
    if (loader->is_running) return cr_fail(CR_ERROR_STATE, "loader: a loop runs over it already; make a second loader");
    const int64_t epoch = next_epoch(loader);
    cr_data_workers_wait(loader);
    if (!prepare_order(loader, epoch)) return false;
    if (!loader->is_placed) loader->position = 0;
    loader->epoch = epoch;
    loader->is_placed = true;
    loader->stats = (cr_data_loader_stats){0};
    if (loader->options.workers > 0) {
        if (!cr_data_workers_start(loader)) return false;
        cr_data_workers_begin(loader, loader->position, loader->order.batches);
    }
    loader->is_running = true;
    return true;
}

cr_data_batch cr_data_batch_begin(cr_data_loader *loader, const char *file, int line) {
    cr_data_batch batch = {.file = file, .line = line};
    if (!loader && cr_ok()) cr_record_error(CR_ERROR_ARGUMENT, "loader: the loop's loader is NULL (%s:%d)", file, line);
    if (loader && cr_ok() && begin(loader)) batch.loader = loader;
    return batch;
}

/* Puts a prepared batch into the turn's scope. */
static bool hand_over(cr_data_batch *batch, cr_data_parcel *parcel) {
    batch->scope = cr_scope_open(batch->file, batch->line);
    batch->is_open = true;
    batch->count = parcel->batch.count;
    bool done = true;
    for (int i = 0; i < batch->count; i++) {
        batch->fields[i] = cr_give(parcel->batch.fields[i]);
        if (!batch->fields[i]) done = false;
    }
    batch->input = batch->fields[0];
    batch->target = batch->fields[1];
    return done;
}

/* The next batch from the workers, or made here. */
static bool take(cr_data_loader *loader, cr_data_parcel *parcel) {
    if (loader->options.workers > 0) {
        if (!cr_data_workers_take(loader, parcel)) return false;
    } else {
        cr_data_prepare(loader, loader->position, atomic_load(&loader->run), parcel);
    }
    return parcel->code == CR_ERROR_NONE || cr_fail(parcel->code, "%s", parcel->message);
}

static bool next(cr_data_batch *batch) {
    cr_data_loader *loader = batch->loader;
    if (!cr_ok()) return false;
    if (loader->position >= loader->order.batches) { /* the epoch is over: the next loop begins the next one */
        loader->epoch++;
        loader->position = 0;
        return false;
    }
    cr_data_parcel parcel;
    if (!take(loader, &parcel)) return false;
    const int64_t index = loader->position, *ends = loader->order.ends;
    batch->index = index;
    batch->epoch = loader->epoch;
    batch->samples = ends[index] - (index ? ends[index - 1] : 0);
    loader->position++;
    loader->is_placed = false;
    loader->stats.batches++;
    loader->stats.samples += batch->samples;
    return hand_over(batch, &parcel);
}

static void end_turn(cr_data_batch *batch) {
    for (int i = 0; i < CR_DATA_MAX_FIELDS; i++)
        batch->fields[i] = NULL;
    batch->input = batch->target = NULL;
    batch->count = 0;
    if (!batch->is_open) return;
    cr_scope_close(&batch->scope);
    batch->is_open = false;
    batch->loader->stats.work_seconds += seconds_now() - batch->loader->turn_start;
}

bool cr_data_batch_next(cr_data_batch *batch) {
    if (!batch || !batch->loader) return false;
    end_turn(batch);
    cr_data_loader *loader = batch->loader;
    const double start = seconds_now();
    const bool more = next(batch);
    loader->turn_start = seconds_now();
    loader->stats.wait_seconds += loader->turn_start - start;
    if (more) return true;
    if (loader->position == 0 && cr_ok()) loader->is_placed = true;
    cr_data_batch_end(batch);
    return false;
}

void cr_data_batch_end(cr_data_batch *batch) {
    if (!batch || !batch->loader) return;
    end_turn(batch);
    if (batch->loader->options.workers > 0) cr_data_workers_cancel(batch->loader);
    batch->loader->is_running = false;
    batch->loader = NULL;
}
