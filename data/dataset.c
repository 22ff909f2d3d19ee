/* Datasets: the handle, the dataset over tensors, and the wrapper that maps samples. */
#include "core/tensor.h"
#include <cresset/data.h>

struct cr_data_dataset {
    const cr_data_dataset_table *table;
    void *self;
    atomic_int references;
};

cr_data_dataset *cr_data_dataset_new(const cr_data_dataset_table *table, void *self) {
    if (!table || !table->length || !table->get) {
        cr_record_error(CR_ERROR_ARGUMENT, "dataset: a table with length and get is needed");
        if (table && table->free) table->free(self);
        return NULL;
    }
    cr_data_dataset *dataset = cr_malloc(sizeof *dataset);
    if (!dataset) {
        if (table->free) table->free(self);
        return NULL;
    }
    dataset->table = table;
    dataset->self = self;
    atomic_init(&dataset->references, 1);
    return dataset;
}

cr_data_dataset *cr_data_dataset_retain(cr_data_dataset *dataset) {
    if (dataset) atomic_fetch_add_explicit(&dataset->references, 1, memory_order_relaxed);
    return dataset;
}

void cr_data_dataset_free(cr_data_dataset *dataset) {
    if (!dataset || atomic_fetch_sub_explicit(&dataset->references, 1, memory_order_acq_rel) != 1) return;
    if (dataset->table->free) dataset->table->free(dataset->self);
    cr_free(dataset);
}

int64_t cr_data_dataset_length(const cr_data_dataset *dataset) {
    return dataset ? dataset->table->length(dataset->self) : -1;
}

const char *cr_data_dataset_name(const cr_data_dataset *dataset) {
    return dataset && dataset->table->name ? dataset->table->name : "dataset";
}

void *cr_data_dataset_self(const cr_data_dataset *dataset, const cr_data_dataset_table *table) {
    if (dataset && dataset->table == table) return dataset->self;
    cr_record_error(CR_ERROR_ARGUMENT, "dataset: %s is of another kind",
                    dataset ? cr_data_dataset_name(dataset) : "NULL");
    return NULL;
}

bool cr_data_dataset_get(cr_data_dataset *dataset, int64_t index, cr_generator_state *random, cr_data_sample *sample) {
    if (!dataset || !sample) return cr_fail(CR_ERROR_ARGUMENT, "dataset: a dataset and room for a sample are needed");
    const int64_t length = cr_data_dataset_length(dataset);
    *sample = (cr_data_sample){0};
    if (index < 0 || index >= length)
        return cr_fail(CR_ERROR_INDEX, "%s: index %lld; it has %lld samples", cr_data_dataset_name(dataset),
                       (long long)index, (long long)length);
    cr_generator_state own = cr_data_random_for(0, 0, index);
    if (!dataset->table->get(dataset->self, index, random ? random : &own, sample))
        return cr_ok() ? cr_fail(CR_ERROR_STATE, "%s: get failed without saying why", cr_data_dataset_name(dataset))
                       : false;
    if (sample->count < 1 || sample->count > CR_DATA_MAX_FIELDS)
        return cr_fail(CR_ERROR_ARGUMENT, "%s: a sample of %d fields; 1 to %d can be had",
                       cr_data_dataset_name(dataset), sample->count, (int)CR_DATA_MAX_FIELDS);
    for (int i = 0; i < sample->count; i++)
        if (!cr_tensor_check(sample->fields[i], cr_data_dataset_name(dataset))) return false;
    return true;
}

/* ---------------------------------------------------------------- tensors */
typedef struct tensor_dataset {
    cr_data_sample whole;
} tensor_dataset;

static int64_t tensor_length(void *self) { return ((tensor_dataset *)self)->whole.fields[0]->sizes[0]; }

/* t[index]: a view without the first dim. */
static cr_tensor *slice(const cr_tensor *t, int64_t index) {
    cr_shape shape = {.count = t->ndim - 1}, strides = shape;
    for (int i = 1; i < t->ndim; i++) {
        shape.at[i - 1] = t->sizes[i];
        strides.at[i - 1] = t->strides[i];
    }
    return cr_view_raw(t, shape, strides, t->offset + index * t->strides[0]);
}

static bool tensor_get(void *self, int64_t index, cr_generator_state *random, cr_data_sample *sample) {
    (void)random;
    const cr_data_sample *whole = &((tensor_dataset *)self)->whole;
    sample->count = whole->count;
    for (int i = 0; i < whole->count; i++) {
        sample->fields[i] = slice(whole->fields[i], index);
        if (!sample->fields[i]) return false;
    }
    return true;
}

static void tensor_free(void *self) {
    tensor_dataset *dataset = self;
    for (int i = 0; i < dataset->whole.count; i++)
        cr_release(dataset->whole.fields[i]);
    cr_free(dataset);
}

static const cr_data_dataset_table tensor_table = {"tensor_dataset", tensor_length, tensor_get, tensor_free};

static bool check_tensors(cr_tensor *const *tensors, int count) {
    char text[224], first[224];
    if (!tensors || count < 1 || count > CR_DATA_MAX_FIELDS)
        return cr_fail(CR_ERROR_ARGUMENT, "tensor_dataset: %d tensors; 1 to %d can be had", count,
                       (int)CR_DATA_MAX_FIELDS);
    for (int i = 0; i < count; i++) {
        if (!cr_tensor_check(tensors[i], "tensor_dataset")) return false;
        if (tensors[i]->device.type != CR_DEVICE_CPU)
            return cr_fail(CR_ERROR_DEVICE, "tensor_dataset: tensor %d is %s; loaders read tensors of the CPU", i,
                           cr_describe(tensors[i], text));
        if (tensors[i]->ndim < 1 || tensors[i]->sizes[0] != tensors[0]->sizes[0])
            return cr_fail(CR_ERROR_SHAPE,
                           "tensor_dataset: tensor %d is %s, tensor 0 is %s; the first sizes must agree", i,
                           cr_describe(tensors[i], text), cr_describe(tensors[0], first));
    }
    return true;
}

cr_data_dataset *cr_data_tensor_dataset_of(cr_tensor *const *tensors, int count) {
    if (!check_tensors(tensors, count)) return NULL;
    tensor_dataset *self = cr_calloc(1, sizeof *self);
    if (!self) return NULL;
    for (int i = 0; i < count; i++)
        self->whole.fields[i] = cr_retain(tensors[i]);
    self->whole.count = count;
    return cr_data_dataset_new(&tensor_table, self);
}

/* ---------------------------------------------------------------- map */
typedef struct map_dataset {
    cr_data_dataset *inner;
    cr_data_map_function function;
    void *context;
    void (*free_context)(void *context);
} map_dataset;

static int64_t map_length(void *self) { return cr_data_dataset_length(((map_dataset *)self)->inner); }

static bool map_get(void *self, int64_t index, cr_generator_state *random, cr_data_sample *sample) {
    map_dataset *map = self;
    return cr_data_dataset_get(map->inner, index, random, sample) && map->function(map->context, random, sample);
}

static void map_free(void *self) {
    map_dataset *map = self;
    cr_data_dataset_free(map->inner);
    if (map->free_context) map->free_context(map->context);
    cr_free(map);
}

static const cr_data_dataset_table map_table = {"map", map_length, map_get, map_free};

cr_data_dataset *cr_data_map(cr_data_dataset *dataset, cr_data_map_function function, void *context,
                             void (*free_context)(void *context)) {
    map_dataset *self = dataset && function ? cr_malloc(sizeof *self) : NULL;
    if (!self) {
        if (dataset && !function) cr_record_error(CR_ERROR_ARGUMENT, "map: the function is NULL");
        if (!dataset) cr_record_error(CR_ERROR_ARGUMENT, "map: the dataset is NULL");
        cr_data_dataset_free(dataset);
        if (free_context) free_context(context);
        return NULL;
    }
    *self = (map_dataset){dataset, function, context, free_context};
    return cr_data_dataset_new(&map_table, self);
}
