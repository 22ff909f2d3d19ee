/* Datasets made of datasets: subset, concat, random_split. */
#include "data/sampler.h"

#include <string.h>

/* ---------------------------------------------------------------- subset */
typedef struct subset {
    cr_data_dataset *inner;
    int64_t *indices;
    int64_t count;
} subset;

static int64_t subset_length(void *self) { return ((subset *)self)->count; }
static bool subset_get(void *self, int64_t index, cr_generator_state *random, cr_data_sample *sample) {
    subset *part = self;
    return cr_data_dataset_get(part->inner, part->indices[index], random, sample);
}
static void subset_free(void *self) {
    subset *part = self;
    cr_data_dataset_free(part->inner);
    cr_free(part->indices);
    cr_free(part);
}
static const cr_data_dataset_table subset_table = {"subset", subset_length, subset_get, subset_free};

static bool check_indices(const cr_data_dataset *dataset, const int64_t *indices, int64_t count) {
    if (!dataset) return cr_fail(CR_ERROR_ARGUMENT, "subset: the dataset is NULL");
    if (count < 0 || (count > 0 && !indices))
        return cr_fail(CR_ERROR_ARGUMENT, "subset: %lld indices at %p", (long long)count, (const void *)indices);
    const int64_t length = cr_data_dataset_length(dataset);
    for (int64_t i = 0; i < count; i++)
        if (indices[i] < 0 || indices[i] >= length)
            return cr_fail(CR_ERROR_INDEX, "subset: index %lld at place %lld; the dataset has %lld samples",
                           (long long)indices[i], (long long)i, (long long)length);
    return true;
}

cr_data_dataset *cr_data_subset(cr_data_dataset *dataset, const int64_t *indices, int64_t count) {
    subset *self = check_indices(dataset, indices, count) ? cr_calloc(1, sizeof *self) : NULL;
    if (self) self->indices = cr_malloc((size_t)count * sizeof *indices);
    if (!self || !self->indices) {
        cr_free(self);
        cr_data_dataset_free(dataset);
        return NULL;
    }
    if (count) memcpy(self->indices, indices, (size_t)count * sizeof *indices);
    self->inner = dataset;
    self->count = count;
    return cr_data_dataset_new(&subset_table, self);
}

/* ---------------------------------------------------------------- concat */
typedef struct concat {
    int count;
    struct {
        cr_data_dataset *dataset;
        int64_t end; /* index behind its last sample */
    } parts[];
} concat;

static int64_t concat_length(void *self) {
    concat *whole = self;
    return whole->parts[whole->count - 1].end;
}
static bool concat_get(void *self, int64_t index, cr_generator_state *random, cr_data_sample *sample) {
    concat *whole = self;
    int part = 0;
    while (index >= whole->parts[part].end)
        part++;
    const int64_t start = part ? whole->parts[part - 1].end : 0;
    return cr_data_dataset_get(whole->parts[part].dataset, index - start, random, sample);
}
static void concat_free(void *self) {
    concat *whole = self;
    for (int i = 0; i < whole->count; i++)
        cr_data_dataset_free(whole->parts[i].dataset);
    cr_free(whole);
}
static const cr_data_dataset_table concat_table = {"concat", concat_length, concat_get, concat_free};

static bool check_parts(cr_data_dataset *const *datasets, int count) {
    if (!datasets || count < 1) return cr_fail(CR_ERROR_ARGUMENT, "concat: at least one dataset is needed");
    for (int i = 0; i < count; i++)
        if (!datasets[i]) return cr_fail(CR_ERROR_ARGUMENT, "concat: dataset %d is NULL", i);
    return true;
}

cr_data_dataset *cr_data_concat_of(cr_data_dataset *const *datasets, int count) {
    concat *self = NULL;
    if (check_parts(datasets, count)) self = cr_malloc(sizeof *self + (size_t)count * sizeof self->parts[0]);
    if (!self) {
        for (int i = 0; datasets && i < count; i++)
            cr_data_dataset_free(datasets[i]);
        return NULL;
    }
    int64_t end = 0;
    self->count = count;
    for (int i = 0; i < count; i++) {
        end += cr_data_dataset_length(datasets[i]);
        self->parts[i].dataset = datasets[i];
        self->parts[i].end = end;
    }
    return cr_data_dataset_new(&concat_table, self);
}

/* ---------------------------------------------------------------- random split */
static bool check_lengths(const cr_data_dataset *dataset, const int64_t *lengths, int count, cr_data_dataset **parts) {
    if (!dataset || !lengths || !parts || count < 1)
        return cr_fail(CR_ERROR_ARGUMENT, "random_split: a dataset, lengths and room for the parts are needed");
    const int64_t length = cr_data_dataset_length(dataset);
    int64_t left = length;
    for (int i = 0; i < count; i++) {
        if (lengths[i] < 0 || lengths[i] > left)
            return cr_fail(CR_ERROR_ARGUMENT, "random_split: part %d of %lld samples; %lld of %lld are left", i,
                           (long long)lengths[i], (long long)left, (long long)length);
        left -= lengths[i];
    }
    return left == 0 || cr_fail(CR_ERROR_ARGUMENT, "random_split: the lengths leave out %lld of %lld samples",
                                (long long)left, (long long)length);
}

static bool split(cr_data_dataset *dataset, const int64_t *lengths, int count, uint64_t seed, cr_data_dataset **parts) {
    const int64_t length = cr_data_dataset_length(dataset);
    int64_t *order = cr_malloc((size_t)length * sizeof *order);
    if (!order) return false;
    for (int64_t i = 0; i < length; i++)
        order[i] = i;
    cr_generator_state random = cr_data_order_random(seed, 0);
    cr_data_shuffle(&random, order, length);
    bool done = true;
    int64_t begin = 0;
    for (int i = 0; i < count && done; i++) {
        parts[i] = cr_data_subset(cr_data_dataset_retain(dataset), order + begin, lengths[i]);
        done = parts[i] != NULL;
        begin += lengths[i];
    }
    cr_free(order);
    return done;
}

bool cr_data_random_split(cr_data_dataset *dataset, const int64_t *lengths, int count, uint64_t seed,
                          cr_data_dataset **parts) {
    for (int i = 0; parts && i < count; i++)
        parts[i] = NULL;
    const bool done = check_lengths(dataset, lengths, count, parts) && split(dataset, lengths, count, seed, parts);
    for (int i = 0; !done && parts && i < count; i++) {
        cr_data_dataset_free(parts[i]);
        parts[i] = NULL;
    }
    cr_data_dataset_free(dataset); /* the parts hold it now */
    return done;
}
