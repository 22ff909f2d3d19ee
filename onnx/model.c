/* Opening files, and the tensors in them. */
#ifdef CRESSET_HAS_ONNX
#define _GNU_SOURCE
#include "onnx/model.h"

#include <cresset/onnx.h>

#include "onnx/table.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- parsing */
/* What parsing may take: messages are a hundred times as large in memory as the fewest bytes they take in a file. */
enum { MOST_PARSED_BYTES = 1 << 30 };

static void *allocate(void *left, size_t bytes) {
    int64_t *rest = left;
    if ((int64_t)bytes > *rest) return NULL;
    *rest -= (int64_t)bytes;
    return cr_malloc(bytes);
}
static void give_back(void *left, void *block) {
    (void)left;
    cr_free(block);
}
static ProtobufCAllocator freeing = {allocate, give_back, NULL};

static bool parse(cr_onnx_file *file, cr_onnx_message message) {
    int64_t left = MOST_PARSED_BYTES;
    ProtobufCAllocator limited = {allocate, give_back, &left};
    if (message == CR_ONNX_MODEL)
        file->model = cr_onnx__model_proto__unpack(&limited, file->wire.length, file->wire.text);
    else
        file->tensor = cr_onnx__tensor_proto__unpack(&limited, file->wire.length, file->wire.text);
    if (file->model || file->tensor) return true;
    return cr_ok() && cr_fail(CR_ERROR_FORMAT, "%.600s is no ONNX %s, or parsing it takes more than %d MiB", file->path,
                              message == CR_ONNX_MODEL ? "model" : "tensor", MOST_PARSED_BYTES >> 20);
}

cr_onnx_file *cr_onnx_file_open(const char *path, cr_onnx_message message) {
    if (!path) {
        cr_record_error(CR_ERROR_ARGUMENT, "onnx: NULL path");
        return NULL;
    }
    cr_onnx_file *file = cr_calloc(1, sizeof *file);
    if (!file) return NULL;
    file->path = cr_strdup(path);
    if (file->path && (file->map = cr_mapping_open(path, 1, "an ONNX file")) &&
        cr_onnx_wire_read(&file->wire, message, (const uint8_t *)file->map->address, file->map->bytes) &&
        parse(file, message))
        return file;
    cr_onnx_file_close(file);
    return NULL;
}

void cr_onnx_file_close(cr_onnx_file *file) {
    if (!file) return;
    if (file->model) cr_onnx__model_proto__free_unpacked(file->model, &freeing);
    if (file->tensor) cr_onnx__tensor_proto__free_unpacked(file->tensor, &freeing);
    for (int i = 0; i < file->external_count; i++) {
        cr_mapping_release(file->external[i]);
        cr_free(file->external_names[i]);
    }
    cr_free(file->external);
    cr_free(file->external_names);
    cr_onnx_wire_free(&file->wire);
    cr_mapping_release(file->map);
    cr_free(file->path);
    cr_free(file);
}

/* ---------------------------------------------------------------- external data */
/* The path of a file that the model names, which must lie in the model's folder, whatever links there are. From malloc. */
static char *confined_path(const cr_onnx_file *file, const char *location) {
    char *folder = NULL, *path = NULL, joined[PATH_MAX];
    const char *slash = strrchr(file->path, '/');
    const int length = slash ? (int)(slash - file->path) + 1 : 0;
    char *own = realpath(file->path, NULL);
    if (own && (size_t)snprintf(joined, sizeof joined, "%.*s%s", length, file->path, location) < sizeof joined)
        path = realpath(joined, NULL);
    if (own) {
        *strrchr(own, '/') = '\0';
        folder = own;
    }
    const size_t bytes = folder ? strlen(folder) : 0;
    if (*location == '/' || !path || strncmp(path, folder, bytes) != 0 || path[bytes] != '/') {
        cr_record_error(path || *location == '/' ? CR_ERROR_ARGUMENT : CR_ERROR_IO,
                        path || *location == '/' ? "onnx: external data \"%.300s\" lies outside the model's folder"
                                                 : "onnx: external data \"%.300s\" of the model: %m",
                        location);
        free(path);
        path = NULL;
    }
    free(folder);
    return path;
}

static cr_mapping *open_external(cr_onnx_file *file, const char *location) {
    for (int i = 0; i < file->external_count; i++)
        if (!strcmp(file->external_names[i], location)) return file->external[i];
    cr_mapping **maps = cr_realloc(file->external, (size_t)(file->external_count + 1) * sizeof *maps);
    if (maps) file->external = maps;
    char **names = maps ? cr_realloc(file->external_names, (size_t)(file->external_count + 1) * sizeof *names) : NULL;
    if (names) file->external_names = names;
    char *path = names ? confined_path(file, location) : NULL, *name = path ? cr_strdup(location) : NULL;
    cr_mapping *map = name ? cr_mapping_open(path, 1, "a file of weights") : NULL;
    free(path);
    if (!map) {
        cr_free(name);
        return NULL;
    }
    maps[file->external_count] = map;
    names[file->external_count++] = name;
    return map;
}

static bool parse_number(const char *text, int64_t *number) {
    char *end;
    errno = 0;
    *number = strtoll(text, &end, 10);
    return end != text && !*end && !errno && *number >= 0;
}

static bool find_external(cr_onnx_file *file, const CrOnnx__TensorProto *proto, cr_onnx_bytes *bytes,
                          cr_mapping **map) {
    const char *location = NULL;
    int64_t offset = 0, length = -1;
    bool good = true;
    for (size_t i = 0; i < proto->n_external_data; i++) {
        const char *key = proto->external_data[i]->key, *value = proto->external_data[i]->value;
        if (!key || !value) continue;
        if (!strcmp(key, "location")) location = value;
        if (!strcmp(key, "offset")) good = good && parse_number(value, &offset);
        if (!strcmp(key, "length")) good = good && parse_number(value, &length);
    }
    if (!location || !good)
        return cr_fail(CR_ERROR_FORMAT, "onnx: \"%.200s\": external data without a location, or no number in it",
                       proto->name);
    if (!(*map = open_external(file, location))) return false;
    const int64_t size = (int64_t)(*map)->bytes;
    if (offset > size || (length >= 0 && length > size - offset))
        return cr_fail(CR_ERROR_FORMAT, "onnx: \"%.200s\": %lld bytes at %lld of \"%.200s\", which has %lld",
                       proto->name, (long long)length, (long long)offset, location, (long long)size);
    *bytes = (cr_onnx_bytes){(const uint8_t *)(*map)->address + offset, (size_t)(length >= 0 ? length : size - offset)};
    return true;
}

/* ---------------------------------------------------------------- tensors */
static bool wrong_count(const CrOnnx__TensorProto *proto, size_t have, int64_t numel) {
    return cr_fail(CR_ERROR_FORMAT, "onnx: \"%.200s\" has %zu bytes or numbers for %lld elements",
                   proto->name ? proto->name : "", have, (long long)numel);
}

static bool shape_of(const CrOnnx__TensorProto *proto, cr_shape *shape, int64_t *numel) {
    if (proto->n_dims > CR_MAX_DIMS)
        return cr_fail(CR_ERROR_UNSUPPORTED, "onnx: \"%.200s\" has %zu dims; at most %d", proto->name, proto->n_dims,
                       CR_MAX_DIMS);
    shape->count = (int)proto->n_dims;
    for (int d = 0; d < shape->count; d++) {
        shape->at[d] = proto->dims[d];
        if (proto->dims[d] < 0)
            return cr_fail(CR_ERROR_FORMAT, "onnx: \"%.200s\" has a size of %lld", proto->name,
                           (long long)proto->dims[d]);
    }
    return cr_shape_numel(*shape, numel);
}

/* Numbers that are not raw: each dtype has its field; small ones stand in int32_data, f16 and bf16 by their bits. */
static cr_tensor *from_numbers(const CrOnnx__TensorProto *proto, cr_dtype dtype, cr_shape shape, int64_t numel) {
    const size_t have = dtype == CR_F32   ? proto->n_float_data
                        : dtype == CR_F64 ? proto->n_double_data
                        : dtype == CR_I64 ? proto->n_int64_data
                                          : proto->n_int32_data;
    if (have != (uint64_t)numel) return wrong_count(proto, have, numel), NULL;
    if (dtype == CR_F32) return cr_from_data(dtype, shape, proto->float_data);
    if (dtype == CR_F64) return cr_from_data(dtype, shape, proto->double_data);
    if (dtype == CR_I64) return cr_from_data(dtype, shape, proto->int64_data);
    if (dtype == CR_I32) return cr_from_data(dtype, shape, proto->int32_data);
    cr_tensor *t = cr_empty(dtype, shape, CR_CPU);
    const size_t bytes = cr_dtype_size(dtype);
    for (int64_t i = 0; t && i < numel; i++) /* little-endian: the low bytes come first */
        memcpy((char *)cr_data(t) + (size_t)i * bytes, &proto->int32_data[i], bytes);
    return t;
}

static cr_tensor *from_bytes(const CrOnnx__TensorProto *proto, cr_dtype dtype, cr_shape shape, int64_t numel,
                             cr_onnx_bytes bytes, cr_mapping *map) {
    const size_t size = cr_dtype_size(dtype);
    if (bytes.count / size != (uint64_t)numel || bytes.count % size)
        return wrong_count(proto, bytes.count, numel), NULL;
    if (!map || (uintptr_t)bytes.at % 16 || !numel) return cr_from_data(dtype, shape, bytes.at);
    cr_tensor *t = cr_from_blob(dtype, shape, (void *)(uintptr_t)bytes.at, cr_mapping_release, map);
    if (t) cr_mapping_retain(map);
    return t;
}

/* bool: every byte that is not 0 is true. */
static void make_booleans(cr_tensor *t) {
    uint8_t *at = t && t->dtype == CR_BOOL ? cr_data(t) : NULL;
    for (int64_t i = 0; at && i < t->numel; i++)
        at[i] = at[i] != 0;
}

cr_tensor *cr_onnx_tensor(cr_onnx_file *file, const CrOnnx__TensorProto *proto) {
    cr_dtype dtype;
    cr_shape shape;
    int64_t numel;
    cr_onnx_bytes bytes;
    cr_mapping *map = NULL;
    if (!cr_onnx_dtype(proto->data_type, &dtype)) {
        cr_record_error(CR_ERROR_UNSUPPORTED, "onnx: \"%.200s\" is of data type %d (%s), which Cresset does not have",
                        proto->name ? proto->name : "", proto->data_type, cr_onnx_dtype_text(proto->data_type));
        return NULL;
    }
    if (!shape_of(proto, &shape, &numel)) return NULL;
    const bool is_external = proto->data_location == CR_ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
    if (is_external && !find_external(file, proto, &bytes, &map)) return NULL;
    if (!is_external && !proto->has_raw_data) {
        cr_tensor *t = from_numbers(proto, dtype, shape, numel);
        make_booleans(t);
        return t;
    }
    if (!is_external) {
        uint64_t place;
        if (proto->raw_data.len != sizeof place) return wrong_count(proto, proto->raw_data.len, numel), NULL;
        memcpy(&place, proto->raw_data.data, sizeof place);
        if (place >= file->wire.raw_count) return wrong_count(proto, 0, numel), NULL;
        bytes = file->wire.raw[place];
    }
    cr_tensor *t = from_bytes(proto, dtype, shape, numel, bytes, map);
    make_booleans(t);
    return t;
}

cr_tensor *cr_onnx_load_tensor(const char *path) {
    cr_onnx_file *file = cr_onnx_file_open(path, CR_ONNX_TENSOR);
    cr_tensor *t = file ? cr_onnx_tensor(file, file->tensor) : NULL;
    cr_onnx_file_close(file);
    return t;
}
#endif
