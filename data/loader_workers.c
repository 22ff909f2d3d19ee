/* The loader's threads. Each takes the next batch of the order, prepares it alone, and lays it into a ring; the
 * consumer takes the ring's batches in order. So the number of workers changes the speed and nothing else. */
#include "core/parallel.h"
#include "data/loader.h"

#include <math.h>
#include <signal.h>
#include <string.h>
#include <time.h>

void cr_data_parcel_clear(cr_data_parcel *parcel) {
    for (int i = 0; i < parcel->batch.count; i++)
        cr_release(parcel->batch.fields[i]);
    parcel->batch.count = 0;
    parcel->is_ready = false;
}

/* ---------------------------------------------------------------- preparing a batch (any thread) */
/* Moves this thread's error into the parcel. */
static void pack_error(cr_data_parcel *parcel, const char *where) {
    const cr_error *error = cr_last_error();
    parcel->code = error ? error->code : CR_ERROR_STATE;
    snprintf(parcel->message, sizeof parcel->message, "%s: %s", where,
             error ? error->message : "failed without saying why");
    cr_clear_error();
}

/* A sample, without what was needed on the way to it: the next one finds that memory in the cache. */
static bool load_sample(cr_data_loader *loader, int64_t index, cr_data_sample *sample) {
    bool done = false;
    CR_SCOPE {
        cr_generator_state random = cr_data_random_for(loader->seed, loader->epoch, index);
        done = cr_data_dataset_get(loader->options.dataset, index, &random, sample);
        for (int i = 0; done && i < sample->count; i++)
            sample->fields[i] = cr_keep(sample->fields[i]);
    }
    return done;
}

/* Samples from their indices; `failed` tells which one could not be had. */
static bool load(cr_data_loader *loader, const int64_t *indices, int64_t count, unsigned run, cr_data_sample *samples,
                 int64_t *failed) {
    for (int64_t i = 0; i < count; i++) {
        *failed = indices[i];
        if (atomic_load_explicit(&loader->run, memory_order_relaxed) != run)
            return cr_fail(CR_ERROR_INTERRUPTED, "no longer wanted");
        if (!load_sample(loader, indices[i], &samples[i])) return false;
    }
    *failed = -1;
    return true;
}

static bool check_batch(const cr_data_sample *batch) {
    if (batch->count < 1 || batch->count > CR_DATA_MAX_FIELDS)
        return cr_fail(CR_ERROR_ARGUMENT, "collate: a batch of %d fields; 1 to %d can be had", batch->count,
                       (int)CR_DATA_MAX_FIELDS);
    for (int i = 0; i < batch->count; i++)
        if (!batch->fields[i]) return cr_fail(CR_ERROR_ARGUMENT, "collate: field %d is NULL", i);
    return true;
}

void cr_data_prepare(cr_data_loader *loader, int64_t index, unsigned run, cr_data_parcel *parcel) {
    const cr_data_order *order = &loader->order;
    const int64_t begin = index ? order->ends[index - 1] : 0, count = order->ends[index] - begin;
    const cr_data_loader_options *options = &loader->options;
    char where[96];
    int64_t failed = -1;
    memset(parcel, 0, offsetof(cr_data_parcel, message));
    cr_data_sample *samples = cr_calloc((size_t)count, sizeof *samples);
    CR_SCOPE {
        cr_data_sample batch = {0};
        if (samples && load(loader, order->indices + begin, count, run, samples, &failed) &&
            options->collate(options->collate_context, samples, count, &batch) && check_batch(&batch)) {
            parcel->batch = batch;
            for (int i = 0; i < batch.count; i++)
                cr_retain(batch.fields[i]);
        } else {
            if (failed >= 0)
                snprintf(where, sizeof where, "loader: sample %lld", (long long)failed);
            else
                snprintf(where, sizeof where, "loader: batch %lld", (long long)index);
            pack_error(parcel, where);
        }
    }
    cr_free(samples);
}

/* ---------------------------------------------------------------- the threads */
static bool has_work(const cr_data_loader *loader) {
    return loader->next_to_prepare < loader->end &&
           loader->next_to_prepare < loader->next_to_take + loader->parcel_count;
}

static void *worker(void *argument) {
    cr_data_loader *loader = argument;
    cr_data_parcel parcel;
    cr_thread_set_num_threads(1); /* the workers are the parallelism */
    pthread_mutex_lock(&loader->lock);
    for (;;) {
        while (!loader->is_stopping && !has_work(loader))
            pthread_cond_wait(&loader->work, &loader->lock);
        if (loader->is_stopping) break;
        const int64_t index = loader->next_to_prepare++;
        const unsigned run = atomic_load(&loader->run);
        loader->busy++;
        pthread_mutex_unlock(&loader->lock);
        cr_data_prepare(loader, index, run, &parcel);
        pthread_mutex_lock(&loader->lock);
        loader->busy--;
        if (run == atomic_load(&loader->run)) {
            parcel.is_ready = true;
            loader->parcels[index % loader->parcel_count] = parcel;
        } else {
            cr_data_parcel_clear(&parcel);
        }
        pthread_cond_broadcast(&loader->done);
    }
    pthread_mutex_unlock(&loader->lock);
    return NULL;
}

bool cr_data_workers_start(cr_data_loader *loader) {
    if (loader->thread_count > 0) return true;
    sigset_t all, old;
    sigfillset(&all); /* signals are for the program's own threads */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int status = 0;
    while (loader->thread_count < loader->options.workers && status == 0) {
        status = pthread_create(&loader->threads[loader->thread_count], NULL, worker, loader);
        if (status == 0) loader->thread_count++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return loader->thread_count > 0 || cr_fail(CR_ERROR_IO, "loader: no thread can be started: %s", strerror(status));
}

void cr_data_workers_begin(cr_data_loader *loader, int64_t position, int64_t end) {
    pthread_mutex_lock(&loader->lock);
    loader->next_to_prepare = loader->next_to_take = position;
    loader->end = end;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
}

/* The moment that lies `seconds` from now. */
static struct timespec deadline_after(double seconds) {
    struct timespec when;
    clock_gettime(CLOCK_MONOTONIC, &when);
    const double whole = floor(fmin(seconds, 1e9));
    when.tv_sec += (time_t)whole;
    when.tv_nsec += (long)((fmin(seconds, 1e9) - whole) * 1e9);
    if (when.tv_nsec >= 1000000000L) {
        when.tv_sec++;
        when.tv_nsec -= 1000000000L;
    }
    return when;
}

bool cr_data_workers_take(cr_data_loader *loader, cr_data_parcel *parcel) {
    const double timeout = loader->options.timeout;
    const struct timespec deadline = deadline_after(timeout);
    pthread_mutex_lock(&loader->lock);
    cr_data_parcel *next = &loader->parcels[loader->next_to_take % loader->parcel_count];
    int status = 0;
    while (!next->is_ready && status == 0)
        status = timeout > 0 ? pthread_cond_timedwait(&loader->done, &loader->lock, &deadline)
                             : pthread_cond_wait(&loader->done, &loader->lock);
    const bool is_ready = next->is_ready;
    if (is_ready) {
        *parcel = *next;
        next->is_ready = false;
        next->batch.count = 0;
        loader->next_to_take++;
        pthread_cond_signal(&loader->work);
    }
    pthread_mutex_unlock(&loader->lock);
    if (is_ready) return true;
    const int64_t first = loader->position ? loader->order.ends[loader->position - 1] : 0;
    return cr_fail(CR_ERROR_STATE, "loader: no batch within %g s; batch %lld begins with sample %lld", timeout,
                   (long long)loader->position, (long long)loader->order.indices[first]);
}

void cr_data_workers_cancel(cr_data_loader *loader) {
    pthread_mutex_lock(&loader->lock);
    atomic_fetch_add(&loader->run, 1);
    loader->end = 0;
    for (int64_t i = 0; i < loader->parcel_count; i++)
        if (loader->parcels[i].is_ready) cr_data_parcel_clear(&loader->parcels[i]);
    pthread_mutex_unlock(&loader->lock);
}

void cr_data_workers_wait(cr_data_loader *loader) {
    pthread_mutex_lock(&loader->lock);
    while (loader->busy > 0)
        pthread_cond_wait(&loader->done, &loader->lock);
    pthread_mutex_unlock(&loader->lock);
}

void cr_data_workers_stop(cr_data_loader *loader) {
    cr_data_workers_cancel(loader);
    pthread_mutex_lock(&loader->lock);
    loader->is_stopping = true;
    pthread_cond_broadcast(&loader->work);
    pthread_mutex_unlock(&loader->lock);
    for (int i = 0; i < loader->thread_count; i++)
        pthread_join(loader->threads[i], NULL);
    loader->thread_count = 0;
}
