/* The loader as its parts see it: loader.c (the consumer's side), loader_workers.c (the threads). */
#ifndef CRESSET_DATA_LOADER_H
#define CRESSET_DATA_LOADER_H

#include "core/thread.h"
#include "data/sampler.h"

#include <pthread.h>
#include <stdatomic.h>

/* A batch on its way from a worker to the consumer: its tensors (one reference each), or an error. */
typedef struct cr_data_parcel {
    bool is_ready;
    cr_data_sample batch;
    cr_error_code code; /* CR_ERROR_NONE: a batch */
    char message[CR_MESSAGE_BYTES];
} cr_data_parcel;

struct cr_data_loader {
    cr_data_loader_options options;
    uint64_t seed;
    int64_t epoch, position; /* batches of `epoch` handed out */
    bool is_placed;          /* the next loop begins there; else at the start of the next epoch */
    bool is_running;         /* a loop is under way */
    cr_data_order order;     /* of order_epoch; changes only while no worker is busy */
    int64_t order_epoch;     /* -1: none yet */
    cr_data_loader_stats stats;
    double turn_start; /* when the loop's body got its batch */

    pthread_mutex_t lock; /* guards what follows */
    pthread_cond_t work, done;
    pthread_t *threads;
    int thread_count;
    cr_data_parcel *parcels; /* a ring: batch b lies in parcels[b % parcel_count] */
    int64_t parcel_count;
    int64_t next_to_prepare, next_to_take, end; /* batches; end is 0 between loops */
    int busy;                                   /* workers that prepare a batch now */
    bool is_stopping;
    atomic_uint run; /* changes when what is being prepared is no longer wanted */
};

/* Prepares batch `index` of the order. Gives up quietly (CR_ERROR_INTERRUPTED) once loader->run is no longer `run`. */
void cr_data_prepare(cr_data_loader *loader, int64_t index, unsigned run, cr_data_parcel *parcel);
void cr_data_parcel_clear(cr_data_parcel *parcel);

/* Starts the threads where they do not run yet; false and an error where none can be had. */
bool cr_data_workers_start(cr_data_loader *loader);
/* Lets the workers prepare batches `position` … end-1 of the order. */
void cr_data_workers_begin(cr_data_loader *loader, int64_t position, int64_t end);
/* Waits for the next batch; false and an error past the loader's timeout. */
bool cr_data_workers_take(cr_data_loader *loader, cr_data_parcel *parcel);
/* Drops what is prepared and returns at once; workers finish the sample they are at. */
void cr_data_workers_cancel(cr_data_loader *loader);
/* Waits until no worker is busy; to be called after cancel. */
void cr_data_workers_wait(cr_data_loader *loader);
/* Ends the threads. */
void cr_data_workers_stop(cr_data_loader *loader);

#endif
