/* Reading safetensors files: mapped, checked in full before anything is handed out.
 *
 * A file is: u64 little-endian header length; a JSON header {name: {dtype, shape, data_offsets: [begin, end]},
 * "__metadata__": {text: text}}; the tensors' bytes, row-major, without gaps or overlaps. Writing is in
 * core/safetensors_save.c. */
#define _GNU_SOURCE
#include "core/safetensors.h"
#include "core/allocator.h"
#include "core/mapping.h"
#include "core/tensor.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the file's bytes are used as they are");

typedef struct entry {
    const char *name;
    const char *dtype_name; /* as the file spells it */
    cr_dtype dtype;         /* CR_DTYPE_DEFAULT: not one of ours */
    int ndim;               /* past CR_MAX_DIMS: not one of ours */
    cr_shape shape;
    size_t begin, end;   /* of its bytes, from the end of the header */
    cr_storage *storage; /* over its bytes */
} entry;

struct cr_safetensors {
    cr_mapping *map;
    char *path;
    entry *entries; /* in the header's order */
    int *by_name;   /* indices of entries, sorted by name */
    int count;
    cr_text_pair *metadata;
    int metadata_count;
    char *text; /* all names and metadata */
    size_t data_start;
};

/* ---------------------------------------------------------------- dtypes */
static const char *const dtype_names[CR_DTYPE_COUNT] = {
    [CR_BOOL] = "BOOL", [CR_U8] = "U8",   [CR_I8] = "I8",     [CR_I16] = "I16", [CR_I32] = "I32",
    [CR_I64] = "I64",   [CR_F16] = "F16", [CR_BF16] = "BF16", [CR_F32] = "F32", [CR_F64] = "F64",
};

const char *cr_safetensors_dtype_name(cr_dtype dtype) { return dtype_names[dtype]; }

static cr_dtype dtype_of_name(const char *name) {
    for (int i = 0; i < CR_DTYPE_COUNT; i++)
        if (!strcmp(name, dtype_names[i])) return (cr_dtype)i;
    return CR_DTYPE_DEFAULT;
}

/* ---------------------------------------------------------------- the header */
/* The header as JSON, or NULL and an error; sets data_start. */
static json_t *parse_header(cr_safetensors *file) {
    uint64_t length;
    memcpy(&length, file->map->address, sizeof length);
    if (length > CR_SAFETENSORS_HEADER_LIMIT || length > file->map->bytes - 8) {
        cr_record_error(CR_ERROR_FORMAT, "%.600s: a header of %llu bytes in a file of %zu (at most %d are read)",
                        file->path, (unsigned long long)length, file->map->bytes, CR_SAFETENSORS_HEADER_LIMIT);
        return NULL;
    }
    file->data_start = 8 + (size_t)length;
    json_error_t error;
    json_t *header = json_loadb(file->map->address + 8, (size_t)length, JSON_REJECT_DUPLICATES, &error);
    if (header && json_is_object(header)) return header;
    cr_record_error(CR_ERROR_FORMAT, "%.400s: the header is not a JSON object: %s", file->path,
                    header ? "another value" : error.text);
    json_decref(header);
    return NULL;
}

static bool bad_entry(const cr_safetensors *file, const char *name, const char *problem) {
    return cr_fail(CR_ERROR_FORMAT, "%.400s: tensor \"%.200s\": %s", file->path, name, problem);
}

/* Reads an array of counts (sizes, offsets) that are not negative. */
static bool read_count(const json_t *array, size_t index, int64_t *count) {
    const json_t *value = json_array_get(array, index);
    *count = json_integer_value(value);
    return json_is_integer(value) && *count >= 0;
}

/* Fills shape and ndim, and checks that the bytes are as many as the elements take. */
static bool read_shape(const cr_safetensors *file, entry *e, const json_t *sizes) {
    const size_t count = json_array_size(sizes);
    int64_t bytes = (int64_t)cr_dtype_size(e->dtype), size;
    bool is_empty = false, overflows = false;
    for (size_t i = 0; i < count; i++) {
        if (!read_count(sizes, i, &size)) return bad_entry(file, e->name, "its shape is not a list of sizes");
        if (i < CR_MAX_DIMS) e->shape.at[i] = size;
        is_empty |= size == 0;
        overflows |= __builtin_mul_overflow(bytes, size ? size : 1, &bytes);
    }
    e->ndim = count > CR_MAX_DIMS ? CR_MAX_DIMS + 1 : (int)count;
    e->shape.count = count > CR_MAX_DIMS ? 0 : (int)count;
    if (overflows) return bad_entry(file, e->name, "its shape has more bytes than int64 can count");
    if (e->dtype != CR_DTYPE_DEFAULT && e->end - e->begin != (is_empty ? 0 : (size_t)bytes))
        return bad_entry(file, e->name, "its data_offsets do not span the bytes of its shape and dtype");
    return true;
}

static bool read_entry(const cr_safetensors *file, entry *e, const json_t *value) {
    const char *dtype = json_string_value(json_object_get(value, "dtype"));
    const json_t *shape = json_object_get(value, "shape"), *offsets = json_object_get(value, "data_offsets");
    if (!dtype || !json_is_array(shape) || json_array_size(offsets) != 2)
        return bad_entry(file, e->name, "it needs a dtype, a shape and two data_offsets");
    int64_t begin, end;
    if (!read_count(offsets, 0, &begin) || !read_count(offsets, 1, &end) || begin > end ||
        (uint64_t)end > file->map->bytes - file->data_start)
        return bad_entry(file, e->name, "its data_offsets lie outside the file");
    e->begin = (size_t)begin;
    e->end = (size_t)end;
    e->dtype = dtype_of_name(dtype);
    return read_shape(file, e, shape);
}

/* ---------------------------------------------------------------- text, entries, metadata */
static char *copy_text(char **at, const char *text) {
    char *copy = *at;
    *at = stpcpy(copy, text) + 1;
    return copy;
}

/* Allocates the lists, and one block for every name, dtype and metadata text of the header. */
static bool allocate_lists(cr_safetensors *file, json_t *header, json_t *metadata) {
    size_t bytes = 1;
    const char *key;
    json_t *value;
    json_object_foreach(header, key, value) {
        const char *dtype = json_string_value(json_object_get(value, "dtype"));
        bytes += strlen(key) + (dtype ? strlen(dtype) : 0) + 2;
    }
    json_object_foreach(metadata, key, value) {
        if (!json_is_string(value))
            return cr_fail(CR_ERROR_FORMAT, "%.400s: the metadata \"%.200s\" is not text", file->path, key);
        bytes += strlen(key) + json_string_length(value) + 2;
    }
    const size_t count = json_object_size(header), pairs = json_object_size(metadata);
    file->text = cr_malloc(bytes);
    file->entries = cr_calloc(count ? count : 1, sizeof *file->entries);
    file->by_name = cr_calloc(count ? count : 1, sizeof *file->by_name);
    file->metadata = cr_calloc(pairs ? pairs : 1, sizeof *file->metadata);
    return file->text && file->entries && file->by_name && file->metadata;
}

static bool fill_lists(cr_safetensors *file, json_t *header, json_t *metadata) {
    char *at = file->text;
    const char *key;
    json_t *value;
    json_object_foreach(metadata, key, value) {
        cr_text_pair *pair = &file->metadata[file->metadata_count++];
        pair->key = copy_text(&at, key);
        pair->value = copy_text(&at, json_string_value(value));
    }
    json_object_foreach(header, key, value) {
        if (value == metadata) continue;
        entry *e = &file->entries[file->count++];
        e->name = copy_text(&at, key);
        if (!read_entry(file, e, value)) return false;
        e->dtype_name = copy_text(&at, json_string_value(json_object_get(value, "dtype")));
    }
    return true;
}

static int by_place(const void *a, const void *b, void *context) {
    const entry *x = (const entry *)context + *(const int *)a, *y = (const entry *)context + *(const int *)b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return x->end < y->end ? -1 : x->end > y->end; /* empty ones first */
}

static int by_name(const void *a, const void *b, void *context) {
    const entry *entries = context;
    return strcmp(entries[*(const int *)a].name, entries[*(const int *)b].name);
}

/* The tensors' bytes must follow each other and fill the file; then sorts by_name for lookups. */
static bool check_places(cr_safetensors *file) {
    size_t expected = 0;
    for (int i = 0; i < file->count; i++)
        file->by_name[i] = i;
    qsort_r(file->by_name, (size_t)file->count, sizeof(int), by_place, file->entries);
    for (int i = 0; i < file->count; i++) {
        const entry *e = &file->entries[file->by_name[i]];
        if (e->begin != expected) return bad_entry(file, e->name, "a gap or an overlap in the data stands before it");
        expected = e->end;
    }
    if (expected != file->map->bytes - file->data_start)
        return cr_fail(CR_ERROR_FORMAT, "%.600s: %zu bytes of data, but its tensors take %zu", file->path,
                       file->map->bytes - file->data_start, expected);
    qsort_r(file->by_name, (size_t)file->count, sizeof(int), by_name, file->entries);
    return true;
}

static bool wrap_storages(cr_safetensors *file) {
    for (int i = 0; i < file->count; i++) {
        entry *e = &file->entries[i];
        char *data = file->map->address + file->data_start + e->begin;
        e->storage = cr_storage_wrap(data, e->end - e->begin, cr_mapping_release, file->map);
        if (!e->storage) return false;
        cr_mapping_retain(file->map);
    }
    return true;
}

static bool read_header(cr_safetensors *file) {
    json_t *header = parse_header(file);
    if (!header) return false;
    json_t *metadata = json_object_get(header, "__metadata__");
    const bool is_read = (!metadata || json_is_object(metadata) ||
                          cr_fail(CR_ERROR_FORMAT, "%.600s: __metadata__ is not a JSON object", file->path)) &&
                         allocate_lists(file, header, metadata) && fill_lists(file, header, metadata);
    json_decref(header);
    return is_read && check_places(file) && wrap_storages(file);
}

/* ---------------------------------------------------------------- opening, closing, asking */
cr_safetensors *cr_safetensors_open(const char *path) {
    cr_mapping *map = cr_mapping_open(path, 8, "a safetensors file");
    if (!map) return NULL;
    cr_safetensors *file = cr_calloc(1, sizeof *file);
    if (!file) {
        cr_mapping_release(map);
        return NULL;
    }
    file->map = map;
    file->path = cr_strdup(path);
    if (file->path && read_header(file)) return file;
    cr_safetensors_close(file);
    return NULL;
}

void cr_safetensors_close(cr_safetensors *file) {
    if (!file) return;
    for (int i = 0; i < file->count; i++)
        cr_storage_release(file->entries[i].storage);
    cr_mapping_release(file->map);
    cr_free(file->path);
    cr_free(file->entries);
    cr_free(file->by_name);
    cr_free(file->metadata);
    cr_free(file->text);
    cr_free(file);
}

int cr_safetensors_count(const cr_safetensors *file) { return file ? file->count : 0; }

const char *cr_safetensors_name(const cr_safetensors *file, int index) {
    if (file && index >= 0 && index < file->count) return file->entries[index].name;
    if (file) cr_record_error(CR_ERROR_INDEX, "safetensors_name: index %d of %d tensors", index, file->count);
    return NULL;
}

static entry *find(const cr_safetensors *file, const char *name) {
    int low = 0, high = file ? file->count : 0;
    while (name && low < high) {
        const int middle = low + (high - low) / 2;
        entry *e = &file->entries[file->by_name[middle]];
        const int order = strcmp(name, e->name);
        if (order == 0) return e;
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return NULL;
}

bool cr_safetensors_has(const cr_safetensors *file, const char *name) { return find(file, name) != NULL; }

const char *cr_safetensors_metadata(const cr_safetensors *file, const char *key) {
    for (int i = 0; file && key && i < file->metadata_count; i++)
        if (!strcmp(file->metadata[i].key, key)) return file->metadata[i].value;
    return NULL;
}

/* False and an error for a tensor that is well-formed but cannot be had, or that holds bytes that are not bools. */
static bool is_usable(const cr_safetensors *file, const entry *e) {
    if (e->dtype == CR_DTYPE_DEFAULT)
        return cr_fail(CR_ERROR_UNSUPPORTED,
                       "%.400s: tensor \"%.200s\" has dtype %.40s; known: BOOL U8 I8 I16 I32 I64 F16 BF16 F32 F64",
                       file->path, e->name, e->dtype_name);
    if (e->ndim > CR_MAX_DIMS)
        return cr_fail(CR_ERROR_UNSUPPORTED, "%.400s: tensor \"%.200s\" has more than %d dims", file->path, e->name,
                       CR_MAX_DIMS);
    const uint8_t *bytes = e->storage->data;
    for (size_t i = 0; e->dtype == CR_BOOL && i < e->storage->bytes; i++)
        if (bytes[i] > 1) return bad_entry(file, e->name, "a BOOL that is neither 0 nor 1");
    return true;
}

cr_tensor *cr_safetensors_tensor(cr_safetensors *file, const char *name) {
    if (!file) return NULL;
    const entry *e = find(file, name);
    if (!e) {
        cr_record_error(CR_ERROR_ARGUMENT, "%.400s has no tensor \"%.200s\" among its %d", file->path,
                        name ? name : "(NULL)", file->count);
        return NULL;
    }
    if (!is_usable(file, e)) return NULL;
    if ((uintptr_t)e->storage->data %
        cr_dtype_size(e->dtype)) /* another writer's file: elements astride of alignment */
        return cr_from_data(e->dtype, e->shape, e->storage->data);
    cr_shape strides;
    cr_contiguous_strides(e->shape, &strides);
    return cr_view_of_storage(e->storage, e->dtype, e->shape, strides, 0);
}
