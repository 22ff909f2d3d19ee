/* Making tensors, asking about them, and reading their elements. */
#include "core/tensor.h"
#include "core/allocator.h"
#include "core/device.h"
#include "core/dtype.h"

#include <math.h>
#include <string.h>

void (*cr_tensor_autograd_free)(cr_tensor *t) = NULL;
void (*cr_tensor_on_read)(const cr_tensor *t, const char *how) = NULL;
void (*cr_tensor_on_gradient_cleared)(const cr_tensor *t) = NULL;

/* ---------------------------------------------------------------- making */
/* Fills a header; takes over the caller's reference to `storage`. strides NULL: contiguous. */
static cr_tensor *tensor_new(cr_storage *storage, cr_dtype dtype, const cr_shape *shape, const cr_shape *strides,
                             int64_t offset, int64_t numel) {
    cr_tensor *t = cr_block_allocate(sizeof *t);
    if (!t) {
        cr_storage_release(storage);
        return NULL;
    }
    t->magic = CR_TENSOR_ALIVE;
    atomic_init(&t->references, 1);
    t->storage = storage;
    t->offset = offset;
    t->numel = numel;
    t->device = storage->device;
    t->dtype = (int8_t)dtype;
    t->ndim = (int8_t)shape->count;
    t->requires_grad = false;
    t->output = 0;
    cr_thread *thread = cr_thread_self();
    t->is_inference = thread->inference;
    memcpy(t->sizes, shape->at, sizeof t->sizes);
    if (strides)
        memcpy(t->strides, strides->at, (size_t)shape->count * sizeof strides->at[0]);
    else
        cr_fill_contiguous(shape, t->strides);
    t->node = NULL;
    t->autograd = NULL;
    return cr_scope_adopt(thread, t);
}

static bool check_dtype(cr_dtype dtype) {
    return (unsigned)dtype < CR_DTYPE_COUNT || cr_fail(CR_ERROR_DTYPE, "%d is not a dtype", (int)dtype);
}

/* Bytes of `elements` elements, or an error past what memory can hold. */
static bool bytes_of(int64_t elements, cr_dtype dtype, size_t *bytes) {
    int64_t total;
    if (__builtin_mul_overflow(elements, (int64_t)cr_dtype_size(dtype), &total))
        return cr_fail(CR_ERROR_MEMORY, "%lld elements of %s are more than memory can hold", (long long)elements,
                       cr_dtype_name(dtype));
    *bytes = (size_t)total;
    return true;
}

static cr_tensor *on_new_storage(cr_dtype dtype, const cr_shape *shape, const cr_shape *strides, int64_t reach,
                                 int64_t numel, cr_device device, bool hollow) {
    size_t bytes;
    if (!bytes_of(reach, dtype, &bytes) || !cr_device_check(device)) return NULL;
    cr_storage *storage = hollow ? cr_storage_hollow(device, bytes) : cr_storage_new(device, bytes);
    return storage ? tensor_new(storage, dtype, shape, strides, 0, numel) : NULL;
}

cr_tensor *cr_empty(cr_dtype dtype, cr_shape shape, cr_device device) {
    int64_t numel;
    if (!check_dtype(dtype) || !cr_shape_numel(shape, &numel)) return NULL;
    return on_new_storage(dtype, &shape, NULL, numel, numel, device, false);
}

/* Elements from the first to the last that sizes and strides reach. */
static bool reach_of(const cr_shape *shape, const cr_shape *strides, int64_t numel, int64_t *reach) {
    int64_t last = 0;
    for (int i = 0; i < shape->count && numel > 0; i++) {
        int64_t step;
        if (strides->at[i] < 0) return cr_fail(CR_ERROR_SHAPE, "negative stride %lld", (long long)strides->at[i]);
        if (__builtin_mul_overflow(shape->at[i] - 1, strides->at[i], &step) ||
            __builtin_add_overflow(last, step, &last))
            return cr_fail(CR_ERROR_SHAPE, "sizes times strides are past int64");
    }
    *reach = numel > 0 ? last + 1 : 0;
    return true;
}

static cr_tensor *empty_strided(cr_dtype dtype, cr_shape shape, cr_shape strides, cr_device device, bool hollow) {
    int64_t numel, reach;
    if (!check_dtype(dtype) || !cr_shape_numel(shape, &numel)) return NULL;
    if (strides.count != shape.count) {
        cr_record_error(CR_ERROR_SHAPE, "%d sizes but %d strides", shape.count, strides.count);
        return NULL;
    }
    if (!reach_of(&shape, &strides, numel, &reach)) return NULL;
    return on_new_storage(dtype, &shape, &strides, reach, numel, device, hollow);
}

cr_tensor *cr_empty_strided(cr_dtype dtype, cr_shape shape, cr_shape strides, cr_device device) {
    return empty_strided(dtype, shape, strides, device, false);
}

cr_tensor *cr_empty_hollow(cr_dtype dtype, cr_shape shape, const cr_shape *strides, cr_device device) {
    cr_shape contiguous;
    cr_contiguous_strides(shape, &contiguous);
    return empty_strided(dtype, shape, strides ? *strides : contiguous, device, true);
}

cr_tensor *cr_from_data(cr_dtype dtype, cr_shape shape, const void *data) {
    cr_tensor *t = cr_empty(dtype, shape, CR_CPU);
    if (!t || t->numel == 0) return t;
    if (!data) {
        cr_record_error(CR_ERROR_ARGUMENT, "from_data: NULL data for %lld elements", (long long)t->numel);
        cr_discard(t);
        return NULL;
    }
    memcpy(t->storage->data, data, (size_t)t->numel * cr_dtype_size(dtype));
    return t;
}

cr_tensor *cr_from_blob(cr_dtype dtype, cr_shape shape, void *data, void (*release)(void *), void *context) {
    int64_t numel;
    size_t bytes;
    if (!check_dtype(dtype) || !cr_shape_numel(shape, &numel) || !bytes_of(numel, dtype, &bytes)) return NULL;
    if (!data && numel > 0) {
        cr_record_error(CR_ERROR_ARGUMENT, "from_blob: NULL data for %lld elements", (long long)numel);
        return NULL;
    }
    cr_storage *storage = cr_storage_wrap(data, bytes, NULL, NULL);
    if (!storage) return NULL;
    cr_tensor *t = tensor_new(storage, dtype, &shape, NULL, 0, numel);
    if (t) { /* only now: a failure leaves the data with the caller */
        storage->release = release;
        storage->context = context;
    }
    return t;
}

cr_tensor *cr_view_of_storage(cr_storage *storage, cr_dtype dtype, cr_shape shape, cr_shape strides, int64_t offset) {
    int64_t numel;
    if (!cr_shape_numel(shape, &numel)) return NULL;
    atomic_fetch_add_explicit(&storage->references, 1, memory_order_relaxed);
    return tensor_new(storage, dtype, &shape, &strides, offset, numel);
}

cr_tensor *cr_view_raw(const cr_tensor *t, cr_shape shape, cr_shape strides, int64_t offset) {
    cr_tensor *view = cr_view_of_storage(t->storage, (cr_dtype)t->dtype, shape, strides, offset);
    if (view) {
        view->device = t->device;
        view->is_inference = t->is_inference;
    }
    return view;
}

void cr_tensor_set_data(cr_tensor *t, const cr_tensor *source) {
    cr_storage *old = t->storage;
    atomic_fetch_add_explicit(&source->storage->references, 1, memory_order_relaxed);
    t->storage = source->storage;
    t->offset = source->offset;
    t->numel = source->numel;
    t->device = source->device;
    t->dtype = source->dtype;
    t->ndim = source->ndim;
    memcpy(t->sizes, source->sizes, sizeof t->sizes);
    memcpy(t->strides, source->strides, sizeof t->strides);
    cr_storage_release(old);
}

/* ---------------------------------------------------------------- asking */
cr_dtype cr_dtype_of(const cr_tensor *t) { return t ? (cr_dtype)t->dtype : CR_DTYPE_DEFAULT; }
cr_device cr_device_of(const cr_tensor *t) { return t ? t->device : CR_CPU; }
int cr_ndim(const cr_tensor *t) { return t ? t->ndim : -1; }
int64_t cr_numel(const cr_tensor *t) { return t ? t->numel : -1; }
cr_shape cr_shape_of(const cr_tensor *t) { return t ? cr_tensor_shape(t) : CR_SHAPE_0D; }

int64_t cr_size(const cr_tensor *t, int dim) {
    int index;
    if (!cr_tensor_check(t, "size")) return -1;
    if (t->ndim == 0) {
        cr_record_error(CR_ERROR_INDEX, "size: a 0-d tensor has no dim %d", dim);
        return -1;
    }
    return cr_normalize_dim(dim, t->ndim, &index) ? t->sizes[index] : -1;
}

cr_shape cr_strides_of(const cr_tensor *t) {
    cr_shape strides = {.count = t ? t->ndim : 0};
    for (int i = 0; i < strides.count; i++)
        strides.at[i] = t->strides[i];
    return strides;
}

/* True where the strides are `expected`; dims of size 1 may have any. */
static bool has_strides(const cr_tensor *t, const cr_shape *expected) {
    for (int i = 0; i < t->ndim; i++)
        if (t->sizes[i] != 1 && t->strides[i] != expected->at[i]) return false;
    return true;
}

bool cr_is_contiguous(const cr_tensor *t) {
    if (!t) return false;
    int64_t step = 1;
    for (int i = t->ndim - 1; i >= 0; i--) {
        if (t->sizes[i] == 1) continue;
        if (t->strides[i] != step && t->numel != 0) return false;
        step *= t->sizes[i];
    }
    return true;
}

bool cr_is_channels_last(const cr_tensor *t) {
    if (!t || (t->ndim != 4 && t->ndim != 5) || t->numel == 0) return false;
    cr_shape strides;
    cr_channels_last_strides(cr_tensor_shape(t), &strides);
    return has_strides(t, &strides);
}

bool cr_shares_storage(const cr_tensor *a, const cr_tensor *b) { return a && b && a->storage == b->storage; }

uint64_t cr_version_of(const cr_tensor *t) {
    return t ? atomic_load_explicit(&t->storage->version, memory_order_acquire) : 0;
}

void cr_touch(cr_tensor *t) {
    if (t) cr_tensor_bump_version(t);
}

char *cr_describe(const cr_tensor *t, char text[224]) {
    if (!text) return NULL;
    if (!t) {
        snprintf(text, 224, "NULL");
        return text;
    }
    char shape[192], device[16];
    snprintf(text, 224, "%s%s", cr_dtype_name((cr_dtype)t->dtype), cr_shape_format(cr_tensor_shape(t), shape));
    if (t->device.type != CR_DEVICE_CPU || t->device.index != 0) {
        const size_t used = strlen(text);
        snprintf(text + used, 224 - used, " %s", cr_device_name(t->device, device));
    }
    return text;
}

/* ---------------------------------------------------------------- reading elements */
/* False and an error where t has no values; a tracer hears of it. */
static bool check_read(const cr_tensor *t, const char *how) {
    if (!cr_tensor_check(t, how)) return false;
    if (__builtin_expect(cr_thread_self()->tracer != NULL, 0)) cr_tensor_on_read(t, how);
    return !cr_tensor_is_hollow(t) ||
           cr_fail(CR_ERROR_STATE,
                   "%s: the tensor has no values yet: its function runs only for its sizes, to be traced", how);
}

void *cr_data(const cr_tensor *t) {
    if (!check_read(t, "data")) return NULL;
    if (t->device.type != CR_DEVICE_CPU) {
        char name[16];
        cr_record_error(CR_ERROR_DEVICE, "data: the tensor is on %s; copy it with cr_to_device(t, CR_CPU)",
                        cr_device_name(t->device, name));
        return NULL;
    }
    return t->numel ? cr_tensor_address(t) : NULL;
}

static void *data_as(const cr_tensor *t, cr_dtype dtype) {
    if (!cr_tensor_check(t, "data")) return NULL;
    if (t->dtype != dtype) {
        char text[224];
        cr_record_error(CR_ERROR_DTYPE, "data_%s: the tensor is %s", cr_dtype_name(dtype), cr_describe(t, text));
        return NULL;
    }
    return cr_data(t);
}
float *cr_data_f32(const cr_tensor *t) { return data_as(t, CR_F32); }
int64_t *cr_data_i64(const cr_tensor *t) { return data_as(t, CR_I64); }

static cr_element element_of_integer(int64_t value) { return (cr_element){(double)value, value}; }
static cr_element element_of_real(double value) {
    const bool fits = value > -0x1p63 && value < 0x1p63;
    return (cr_element){value, fits ? (int64_t)value : 0};
}

cr_element cr_element_decode(const void *bytes, cr_dtype dtype) {
#define AS(type) (*(const type *)bytes)
    switch (dtype) {
    case CR_BOOL: return element_of_integer(AS(uint8_t) != 0);
    case CR_U8: return element_of_integer(AS(uint8_t));
    case CR_I8: return element_of_integer(AS(int8_t));
    case CR_I16: return element_of_integer(AS(int16_t));
    case CR_I32: return element_of_integer(AS(int32_t));
    case CR_I64: return element_of_integer(AS(int64_t));
    case CR_F16: return element_of_real(cr_f16_to_f32(AS(uint16_t)));
    case CR_BF16: return element_of_real(cr_bf16_to_f32(AS(uint16_t)));
    case CR_F32: return element_of_real(AS(float));
    default: return element_of_real(AS(double));
    }
#undef AS
}

/* Reads the element at `offset` of the storage, from any device. */
static bool read_element(const cr_tensor *t, int64_t offset, cr_element *value) {
    const size_t size = cr_dtype_size((cr_dtype)t->dtype);
    const char *source = (const char *)t->storage->data + (size_t)offset * size;
    uint64_t bytes = 0;
    if (!cr_device_copy(CR_CPU, &bytes, t->device, source, size)) return false;
    *value = cr_element_decode(&bytes, (cr_dtype)t->dtype);
    return true;
}

static cr_element item(const cr_tensor *t) {
    const cr_element nothing = {NAN, 0};
    cr_element value;
    if (!check_read(t, "item")) return nothing;
    if (t->numel != 1) {
        char text[224];
        cr_record_error(CR_ERROR_SHAPE, "item: needs a tensor of one element, got %s", cr_describe(t, text));
        return nothing;
    }
    return read_element(t, t->offset, &value) ? value : nothing;
}
double cr_item(const cr_tensor *t) { return item(t).real; }
int64_t cr_item_i64(const cr_tensor *t) { return item(t).integer; }

double cr_at(const cr_tensor *t, cr_shape index) {
    if (!check_read(t, "at")) return NAN;
    int64_t offset = t->offset;
    bool inside = index.count == t->ndim;
    for (int i = 0; inside && i < t->ndim; i++) {
        inside = index.at[i] >= 0 && index.at[i] < t->sizes[i];
        offset += index.at[i] * t->strides[i];
    }
    if (!inside) {
        char text[224], place[192];
        cr_record_error(CR_ERROR_INDEX, "at: index %s is outside %s", cr_shape_format(index, place),
                        cr_describe(t, text));
        return NAN;
    }
    cr_element value;
    return read_element(t, offset, &value) ? value.real : NAN;
}

/* How many of the last dims lie row-major in memory, and their number of elements: what one copy can move. */
static int dims_of_run(const cr_tensor *t, int64_t *run) {
    int dims = 0;
    for (*run = 1; dims < t->ndim; dims++) {
        const int i = t->ndim - 1 - dims;
        if (t->sizes[i] != 1 && t->strides[i] != *run) break;
        *run *= t->sizes[i];
    }
    return dims;
}

/* Copies t's elements in row-major order, run by run; a contiguous tensor is one run. */
bool cr_copy_to_host(const cr_tensor *t, void *data, size_t bytes) {
    if (!check_read(t, "copy_to_host")) return false;
    const size_t size = cr_dtype_size((cr_dtype)t->dtype);
    if (bytes != (size_t)t->numel * size || (!data && bytes)) {
        char text[224];
        return cr_fail(CR_ERROR_ARGUMENT, "copy_to_host: %s takes %zu bytes, the buffer has %zu%s",
                       cr_describe(t, text), (size_t)t->numel * size, bytes, data ? "" : " and is NULL");
    }
    if (!bytes) return true;
    int64_t run, index[CR_MAX_DIMS] = {0};
    const int outer_dims = t->ndim - dims_of_run(t, &run);
    const char *source = t->storage->data;
    char *target = data;
    for (int64_t done = 0; done < t->numel; done += run, target += (size_t)run * size) {
        int64_t offset = t->offset;
        for (int i = 0; i < outer_dims; i++)
            offset += index[i] * t->strides[i];
        const char *from = source + (size_t)offset * size;
        if (t->device.type == CR_DEVICE_CPU)
            memcpy(target, from, (size_t)run * size);
        else if (!cr_device_copy(CR_CPU, target, t->device, from, (size_t)run * size))
            return false;
        for (int i = outer_dims - 1; i >= 0 && ++index[i] == t->sizes[i]; i--)
            index[i] = 0;
    }
    return true;
}

/* ---------------------------------------------------------------- scalars */
cr_tensor *cr_scalar_i64(int64_t value) { return cr_from_data(CR_I64, CR_SHAPE_0D, &value); }

cr_tensor *cr_scalar(double value, cr_dtype dtype) {
    cr_tensor *t = cr_empty(dtype, CR_SHAPE_0D, CR_CPU);
    if (!t) return NULL;
    const bool fits = value > -0x1p63 && value < 0x1p63;
    const int64_t integer = fits ? (int64_t)value : value > 0 ? INT64_MAX : value < 0 ? INT64_MIN : 0;
    void *bytes = t->storage->data;
    switch (dtype) {
    case CR_BOOL: *(uint8_t *)bytes = value != 0; break;
    case CR_U8: *(uint8_t *)bytes = (uint8_t)integer; break;
    case CR_I8: *(int8_t *)bytes = (int8_t)integer; break;
    case CR_I16: *(int16_t *)bytes = (int16_t)integer; break;
    case CR_I32: *(int32_t *)bytes = (int32_t)integer; break;
    case CR_I64: *(int64_t *)bytes = integer; break;
    case CR_F16: *(uint16_t *)bytes = cr_f32_to_f16((float)value); break;
    case CR_BF16: *(uint16_t *)bytes = cr_f32_to_bf16((float)value); break;
    case CR_F32: *(float *)bytes = (float)value; break;
    default: *(double *)bytes = value; break;
    }
    return t;
}
