/* DLPack: our tensors as DLManagedTensor, and theirs as ours, without copying. */
#include <cresset/dlpack.h>
#include "core/device.h"
#include "core/tensor.h"

#include <string.h>

_Static_assert(sizeof(void *) != 8 || sizeof(DLManagedTensor) == 64, "DLPack's published layout");

/* ---------------------------------------------------------------- dtypes and devices */
static const struct {
    uint8_t code, bits;
} dtype_rows[CR_DTYPE_COUNT] = {
    [CR_BOOL] = {kDLBool, 8},  [CR_U8] = {kDLUInt, 8},    [CR_I8] = {kDLInt, 8},     [CR_I16] = {kDLInt, 16},
    [CR_I32] = {kDLInt, 32},   [CR_I64] = {kDLInt, 64},   [CR_F16] = {kDLFloat, 16}, [CR_BF16] = {kDLBfloat, 16},
    [CR_F32] = {kDLFloat, 32}, [CR_F64] = {kDLFloat, 64},
};

static bool dtype_from(DLDataType given, cr_dtype *dtype) {
    for (int i = 0; i < CR_DTYPE_COUNT; i++) {
        if (given.lanes != 1 || given.code != dtype_rows[i].code || given.bits != dtype_rows[i].bits) continue;
        *dtype = (cr_dtype)i;
        return true;
    }
    return cr_fail(CR_ERROR_DTYPE, "from_dlpack: no dtype for code %u of %u bits and %u lanes", given.code, given.bits,
                   given.lanes);
}

static bool device_from(DLDevice given, cr_device *device) {
    const bool is_host = given.device_type == kDLCPU || given.device_type == kDLCUDAHost;
    if (!is_host && given.device_type != kDLCUDA && given.device_type != kDLCUDAManaged)
        return cr_fail(CR_ERROR_DEVICE, "from_dlpack: no device for DLPack's type %d", (int)given.device_type);
    if (given.device_id < 0 || given.device_id > INT16_MAX)
        return cr_fail(CR_ERROR_DEVICE, "from_dlpack: device number %d", (int)given.device_id);
    *device = is_host ? CR_CPU : CR_CUDA(given.device_id);
    return cr_device_check(*device);
}

/* ---------------------------------------------------------------- out */
/* The struct handed out, with room for what it points to. */
typedef struct export_record {
    DLManagedTensor managed;
    cr_tensor *tensor; /* retained */
    int64_t shape[CR_MAX_DIMS], strides[CR_MAX_DIMS];
} export_record;

static void delete_export(DLManagedTensor *managed) {
    if (!managed) return;
    export_record *record = managed->manager_ctx;
    cr_release(record->tensor);
    cr_free(record);
}

DLManagedTensor *cr_to_dlpack(cr_tensor *t) {
    if (!cr_tensor_check(t, "to_dlpack")) return NULL;
    const bool is_host = t->device.type == CR_DEVICE_CPU; /* virtual processors share the host's memory */
    if (!is_host && t->device.type != CR_DEVICE_CUDA) {
        char text[224];
        cr_record_error(CR_ERROR_DEVICE, "to_dlpack: DLPack knows no name for the device of %s", cr_describe(t, text));
        return NULL;
    }
    export_record *record = cr_calloc(1, sizeof *record);
    if (!record) return NULL;
    memcpy(record->shape, t->sizes, sizeof record->shape[0] * (size_t)t->ndim);
    memcpy(record->strides, t->strides, sizeof record->strides[0] * (size_t)t->ndim);
    record->tensor = cr_retain(t);
    record->managed = (DLManagedTensor){
        .dl_tensor = {.data = t->numel ? cr_tensor_address(t) : NULL,
                      .device = {is_host ? kDLCPU : kDLCUDA, is_host ? 0 : t->device.index},
                      .ndim = t->ndim,
                      .dtype = {dtype_rows[t->dtype].code, dtype_rows[t->dtype].bits, 1},
                      .shape = record->shape,
                      .strides = record->strides},
        .manager_ctx = record,
        .deleter = delete_export,
    };
    return &record->managed;
}

/* ---------------------------------------------------------------- in */
static void release_import(void *context) {
    DLManagedTensor *managed = context;
    if (managed->deleter) managed->deleter(managed);
}

/* Reads and checks shape and strides; `reach`: elements from the first to the last. */
static bool geometry_from(const DLTensor *given, cr_shape *shape, cr_shape *strides, int64_t *reach) {
    int64_t numel, step;
    if (given->ndim < 0 || given->ndim > CR_MAX_DIMS || (given->ndim > 0 && !given->shape))
        return cr_fail(CR_ERROR_SHAPE, "from_dlpack: %d dims%s; a tensor has 0 to %d", (int)given->ndim,
                       given->shape ? "" : " and no shape", CR_MAX_DIMS);
    shape->count = given->ndim;
    for (int i = 0; i < given->ndim; i++)
        shape->at[i] = given->shape[i];
    if (!cr_shape_numel(*shape, &numel)) return false;
    cr_contiguous_strides(*shape, strides);
    *reach = numel > 0 ? 1 : 0;
    for (int i = 0; i < given->ndim && numel > 0; i++) {
        if (given->strides && shape->at[i] > 1) strides->at[i] = given->strides[i];
        if (strides->at[i] < 0)
            return cr_fail(CR_ERROR_UNSUPPORTED, "from_dlpack: dim %d has the negative stride %lld; copy it first", i,
                           (long long)strides->at[i]);
        if (__builtin_mul_overflow(shape->at[i] - 1, strides->at[i], &step) ||
            __builtin_add_overflow(*reach, step, reach))
            return cr_fail(CR_ERROR_SHAPE, "from_dlpack: sizes times strides are past int64");
    }
    return true;
}

static bool check_memory(const DLTensor *given, cr_dtype dtype, int64_t reach, char **data, size_t *bytes) {
    int64_t total;
    const uintptr_t size = cr_dtype_size(dtype);
    if (__builtin_mul_overflow(reach, (int64_t)size, &total) || given->byte_offset > PTRDIFF_MAX)
        return cr_fail(CR_ERROR_SHAPE, "from_dlpack: more bytes than memory can hold");
    if (total > 0 && !given->data)
        return cr_fail(CR_ERROR_ARGUMENT, "from_dlpack: NULL data for %lld bytes", (long long)total);
    *data = total > 0 ? (char *)given->data + given->byte_offset : NULL;
    *bytes = (size_t)total;
    return (uintptr_t)*data % size == 0 ||
           cr_fail(CR_ERROR_UNSUPPORTED,
                   "from_dlpack: the data is not aligned to its elements of %zu bytes; copy it first", (size_t)size);
}

cr_tensor *cr_from_dlpack(DLManagedTensor *managed) {
    cr_dtype dtype;
    cr_device device;
    cr_shape shape, strides;
    int64_t reach;
    char *data;
    size_t bytes;
    if (!managed) {
        cr_record_error(CR_ERROR_ARGUMENT, "from_dlpack: NULL argument");
        return NULL;
    }
    const DLTensor *given = &managed->dl_tensor;
    if (!dtype_from(given->dtype, &dtype) || !device_from(given->device, &device) ||
        !geometry_from(given, &shape, &strides, &reach) || !check_memory(given, dtype, reach, &data, &bytes))
        return NULL;
    cr_storage *storage = cr_storage_wrap(data, bytes, NULL, NULL);
    if (!storage) return NULL;
    storage->device = device;
    cr_tensor *t = cr_view_of_storage(storage, dtype, shape, strides, 0);
    if (t) { /* only now: a failure leaves the struct with the caller */
        storage->release = release_import;
        storage->context = managed;
    }
    cr_storage_release(storage);
    return t;
}
