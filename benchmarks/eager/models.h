/* Training steps that several benchmarks measure. */
#ifndef CRESSET_BENCHMARKS_MODELS_H
#define CRESSET_BENCHMARKS_MODELS_H

#include "bench.h"

typedef struct training_work {
    const char *name;
    double budget; /* seconds of measuring */
    double flops;  /* of one step */
    void *(*begin)(void);
    bool (*step)(void *context);
    void (*end)(void *context);
} training_work;

extern const training_work training_works[];
extern const int training_work_count;

#endif
