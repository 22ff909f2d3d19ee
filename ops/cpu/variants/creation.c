/* Sequences: counted in f64 (in i64 where all is whole), rounded once, tile by tile. */
#include "core/parallel.h"
#include "ops/cpu/variants/tile.h"
#include "ops/sequence.h"

typedef struct sequence_job {
    cr_iteration iteration;
    double start, step;
    bool is_whole;
} sequence_job;

static void count_tiles(void *context, int64_t begin, int64_t end) {
    const sequence_job *job = context;
    _Alignas(64) char buffer[CR_TILE * 8];
    const cr_compute compute = job->is_whole ? CR_COMPUTE_I64 : CR_COMPUTE_F64;
    for (int64_t start = begin; start < end; start += CR_TILE) {
        const int64_t count = end - start < CR_TILE ? end - start : CR_TILE;
        void *target = cr_tile_target(&job->iteration, 0, start, count, compute, buffer);
        const int64_t first = (int64_t)job->start, step = (int64_t)job->step;
        if (job->is_whole)
            for (int64_t i = 0; i < count; i++)
                ((int64_t *)target)[i] = first + (start + i) * step;
        else
            for (int64_t i = 0; i < count; i++)
                ((double *)target)[i] = job->start + (double)(start + i) * job->step;
        cr_tile_store(&job->iteration, 0, start, count, compute, target, buffer);
    }
}

CR_KERNEL(sequence) {
    const cr_sequence_options *o = call->attributes;
    if (o->count == 0) return true;
    sequence_job job = {.start = o->start, .step = o->step, .is_whole = cr_sequence_is_whole(o)};
    cr_iteration_begin(&job.iteration, call->outputs[0]);
    cr_iteration_merge(&job.iteration);
    cr_parallel_for(o->count, CR_GRAIN_ELEMENTS, count_tiles, &job);
    return true;
}
