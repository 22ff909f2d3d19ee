/* Writing safetensors files.
 *
 * The header names the tensors in the caller's order, and is padded to 64 bytes. Their bytes are laid out with those first
 * that are whole cache lines, then by falling element size, so that every tensor of the mapped file is aligned, and large
 * ones as vectors want them, although the format allows no gaps. */
#include "core/file.h"
#include "core/safetensors.h"
#include "core/tensor.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { ALIGNMENT = 64, RANKS = 5 };

static size_t bytes_of(const cr_tensor *t) { return (size_t)t->numel * cr_dtype_size((cr_dtype)t->dtype); }

/* ---------------------------------------------------------------- checking */
static int compare_names(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* False and an error where two of the names are equal. `what` names them in the message. */
static bool are_distinct(const char **names, int count, const char *what) {
    qsort(names, (size_t)count, sizeof *names, compare_names);
    for (int i = 1; i < count; i++)
        if (!strcmp(names[i - 1], names[i]))
            return cr_fail(CR_ERROR_ARGUMENT, "safetensors_save: two %s are named \"%.200s\"", what, names[i]);
    return true;
}

static bool check_tensors(const cr_named_tensor *tensors, int count, const char **names) {
    for (int i = 0; i < count; i++) {
        if (!tensors[i].name)
            return cr_fail(CR_ERROR_ARGUMENT, "safetensors_save: tensor %d of %d has no name", i, count);
        if (!strcmp(tensors[i].name, "__metadata__"))
            return cr_fail(CR_ERROR_ARGUMENT,
                           "safetensors_save: __metadata__ cannot be a tensor's name; the format keeps it for texts");
        char label[128];
        snprintf(label, sizeof label, "safetensors_save: tensor \"%.80s\"", tensors[i].name);
        if (!cr_tensor_check(tensors[i].tensor, label)) return false;
        names[i] = tensors[i].name;
    }
    return are_distinct(names, count, "tensors");
}

static bool check_metadata(const cr_text_pair *metadata, int count, const char **names) {
    for (int i = 0; i < count; i++) {
        if (!metadata[i].key || !metadata[i].value)
            return cr_fail(CR_ERROR_ARGUMENT, "safetensors_save: metadata pair %d of %d is NULL", i, count);
        names[i] = metadata[i].key;
    }
    return are_distinct(names, count, "metadata texts");
}

static bool check_arguments(const char *path, const cr_named_tensor *tensors, int count, const cr_text_pair *metadata,
                            int metadata_count) {
    if (!path || count < 0 || metadata_count < 0 || (count && !tensors) || (metadata_count && !metadata))
        return cr_fail(CR_ERROR_ARGUMENT,
                       "safetensors_save: a path and lists as long as their counts are needed; got %s, %d, %d",
                       path ? "a path" : "NULL", count, metadata_count);
    const size_t most = (size_t)(count > metadata_count ? count : metadata_count);
    const char **names = cr_calloc(most + 1, sizeof *names);
    const bool fit = names && check_tensors(tensors, count, names) && check_metadata(metadata, metadata_count, names);
    cr_free(names);
    return fit;
}

/* ---------------------------------------------------------------- the header */
static json_t *entry_of(const cr_tensor *t, size_t begin) {
    json_t *shape = json_array();
    for (int i = 0; i < t->ndim; i++)
        json_array_append_new(shape, json_integer(t->sizes[i]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", cr_safetensors_dtype_name((cr_dtype)t->dtype), "shape", shape,
                     "data_offsets", (json_int_t)begin, (json_int_t)(begin + bytes_of(t)));
}

/* Rank of a tensor's place in the file: 0, or higher the smaller its elements are. */
static int rank_of(const cr_tensor *t) {
    const size_t element = cr_dtype_size((cr_dtype)t->dtype);
    return bytes_of(t) % ALIGNMENT == 0 ? 0 : element == 8 ? 1 : element == 4 ? 2 : element == 2 ? 3 : RANKS - 1;
}

static void lay_out(const cr_named_tensor *tensors, int count, size_t *begins) {
    size_t at = 0;
    for (int rank = 0; rank < RANKS; rank++) {
        for (int i = 0; i < count; i++) {
            if (rank_of(tensors[i].tensor) != rank) continue;
            begins[i] = at;
            at += bytes_of(tensors[i].tensor);
        }
    }
}

static bool add_text(json_t *object, const char *key, json_t *value) {
    return json_object_set_new(object, key, value) == 0 ||
           cr_fail(CR_ERROR_ARGUMENT, "safetensors_save: \"%.200s\", or its text, is not UTF-8", key);
}

static json_t *build_header(const cr_named_tensor *tensors, int count, const size_t *begins,
                            const cr_text_pair *metadata, int metadata_count) {
    json_t *header = json_object();
    bool built = true;
    if (metadata_count > 0) {
        json_t *texts = json_object();
        for (int i = 0; built && i < metadata_count; i++)
            built = add_text(texts, metadata[i].key, json_string(metadata[i].value));
        built = json_object_set_new(header, "__metadata__", texts) == 0 && built;
    }
    for (int i = 0; built && i < count; i++)
        built = add_text(header, tensors[i].name, entry_of(tensors[i].tensor, begins[i]));
    if (built && header) return header;
    json_decref(header);
    return NULL;
}

static bool write_header(cr_file_writer *writer, const json_t *header) {
    char *text = json_dumps(header, JSON_COMPACT);
    if (!text) return cr_fail(CR_ERROR_MEMORY, "safetensors_save: no memory for the header");
    const size_t length = strlen(text), padding = (ALIGNMENT - (8 + length) % ALIGNMENT) % ALIGNMENT;
    const uint64_t padded = length + padding;
    char spaces[ALIGNMENT];
    memset(spaces, ' ', sizeof spaces);
    const bool written = (padded <= CR_SAFETENSORS_HEADER_LIMIT ||
                          cr_fail(CR_ERROR_UNSUPPORTED, "safetensors_save: a header of %zu bytes; the format allows %d",
                                  length, CR_SAFETENSORS_HEADER_LIMIT)) &&
                         cr_file_writer_write(writer, &padded, sizeof padded) &&
                         cr_file_writer_write(writer, text, length) && cr_file_writer_write(writer, spaces, padding);
    free(text);
    return written;
}

/* ---------------------------------------------------------------- the data */
static bool write_data(cr_file_writer *writer, const cr_named_tensor *tensors, int count) {
    for (int rank = 0; rank < RANKS; rank++)
        for (int i = 0; i < count; i++)
            if (rank_of(tensors[i].tensor) == rank && !cr_file_writer_write_tensor(writer, tensors[i].tensor))
                return false;
    return true;
}

bool cr_safetensors_save(const char *path, const cr_named_tensor *tensors, int count, const cr_text_pair *metadata,
                         int metadata_count) {
    if (!check_arguments(path, tensors, count, metadata, metadata_count)) return false;
    size_t *begins = cr_calloc((size_t)count + 1, sizeof *begins);
    if (!begins) return false;
    lay_out(tensors, count, begins);
    json_t *header = build_header(tensors, count, begins, metadata, metadata_count);
    cr_free(begins);
    if (!header) return cr_ok() ? cr_fail(CR_ERROR_MEMORY, "safetensors_save: no memory for the header") : false;
    cr_file_writer *writer = cr_file_writer_begin(path);
    const bool written = writer && write_header(writer, header) && write_data(writer, tensors, count);
    json_decref(header);
    if (written) return cr_file_writer_commit(writer);
    cr_file_writer_abandon(writer);
    return false;
}
