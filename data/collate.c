/* Makes a batch of samples: field by field, with a new first dim. */
#include "core/tensor.h"
#include <cresset/data.h>

static bool check_alike(const cr_data_sample *samples, int64_t i, int field) {
    char text[224], first[224];
    if (samples[i].count != samples[0].count)
        return cr_fail(CR_ERROR_SHAPE, "collate: sample %lld of the batch has %d fields, sample 0 has %d", (long long)i,
                       samples[i].count, samples[0].count);
    const cr_tensor *a = samples[0].fields[field], *b = samples[i].fields[field];
    if (!cr_tensor_check(b, "collate")) return false;
    if (a->dtype != b->dtype || !cr_shape_equal(cr_tensor_shape(a), cr_tensor_shape(b)))
        return cr_fail(CR_ERROR_SHAPE,
                       "collate: field %d of the batch's sample %lld is %s, of sample 0 %s; resize or crop "
                       "them to one shape, or give the loader a collate function",
                       field, (long long)i, cr_describe(b, text), cr_describe(a, first));
    return true;
}

/* [shape] x count -> [count, shape] */
static cr_tensor *stack(const cr_data_sample *samples, int64_t count, int field) {
    const cr_tensor *first = samples[0].fields[field];
    cr_shape shape = {.count = first->ndim + 1, .at = {count}};
    if (first->ndim >= CR_MAX_DIMS) {
        cr_record_error(CR_ERROR_SHAPE, "collate: a sample of %d dims leaves none for the batch", first->ndim);
        return NULL;
    }
    for (int i = 0; i < first->ndim; i++)
        shape.at[i + 1] = first->sizes[i];
    cr_tensor *batch = cr_empty((cr_dtype)first->dtype, shape, CR_CPU);
    if (!batch) return NULL;
    const size_t bytes = (size_t)first->numel * cr_dtype_size((cr_dtype)first->dtype);
    char *target = cr_data(batch);
    for (int64_t i = 0; i < count; i++, target += bytes)
        if (!check_alike(samples, i, field) || !cr_copy_to_host(samples[i].fields[field], target, bytes)) return NULL;
    return batch;
}

bool cr_data_default_collate(void *context, const cr_data_sample *samples, int64_t count, cr_data_sample *batch) {
    (void)context;
    if (!samples || count < 1 || !batch) return cr_fail(CR_ERROR_ARGUMENT, "collate: at least one sample is needed");
    batch->count = samples[0].count;
    for (int field = 0; field < batch->count; field++) {
        if (!cr_tensor_check(samples[0].fields[field], "collate")) return false;
        batch->fields[field] = stack(samples, count, field);
        if (!batch->fields[field]) return false;
    }
    return true;
}
