/* NumPy's .npy: magic, version, header length, a Python dict {'descr', 'fortran_order', 'shape'} as text, the data.
 * https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */
#include "core/file.h"
#include "core/tensor.h"

#include <string.h>
#include <unistd.h>

enum { MAGIC_BYTES = 6, HEADER_ALIGNMENT = 64, HEADER_LIMIT = 64 * 1024 };
static const char magic[MAGIC_BYTES + 1] = "\x93NUMPY";

/* NumPy's kind and element size of each dtype; it has no bf16. */
static const char *const type_codes[CR_DTYPE_COUNT] = {
    [CR_BOOL] = "b1", [CR_U8] = "u1",  [CR_I8] = "i1",   [CR_I16] = "i2", [CR_I32] = "i4",
    [CR_I64] = "i8",  [CR_F16] = "f2", [CR_BF16] = NULL, [CR_F32] = "f4", [CR_F64] = "f8",
};

typedef struct npy_header {
    char descr[32];
    bool has_descr, has_order, has_shape;
    cr_dtype dtype;
    bool is_swapped; /* big-endian */
    bool is_fortran; /* the first index varies fastest */
    cr_shape shape;
    size_t bytes; /* of the data */
} npy_header;

/* ---------------------------------------------------------------- the header's text */
typedef struct cursor {
    const char *at; /* the text ends with a zero byte */
} cursor;

static void skip_spaces(cursor *c) { c->at += strspn(c->at, " \t\r\n"); }

static bool take(cursor *c, char expected) {
    skip_spaces(c);
    if (*c->at != expected) return false;
    c->at++;
    return true;
}

static bool take_word(cursor *c, const char *word) {
    skip_spaces(c);
    const size_t length = strlen(word);
    if (strncmp(c->at, word, length) != 0) return false;
    c->at += length;
    return true;
}

static bool take_quoted(cursor *c, char *text, size_t capacity) {
    const char quote = take(c, '\'') ? '\'' : take(c, '"') ? '"' : '\0';
    const char *end = quote ? strchr(c->at, quote) : NULL;
    if (!end || (size_t)(end - c->at) >= capacity) return false;
    memcpy(text, c->at, (size_t)(end - c->at));
    text[end - c->at] = '\0';
    c->at = end + 1;
    return true;
}

static bool take_size(cursor *c, int64_t *size) {
    skip_spaces(c);
    if (*c->at < '0' || *c->at > '9') return false;
    for (*size = 0; *c->at >= '0' && *c->at <= '9'; c->at++)
        if (__builtin_mul_overflow(*size, 10, size) || __builtin_add_overflow(*size, *c->at - '0', size)) return false;
    take(c, 'L'); /* as Python 2 wrote long integers */
    return true;
}

/* "()", "(3,)", "(3, 4)". */
static bool take_shape(cursor *c, cr_shape *shape) {
    if (!take(c, '(')) return false;
    for (shape->count = 0; !take(c, ')'); shape->count++) {
        if (shape->count == CR_MAX_DIMS || !take_size(c, &shape->at[shape->count])) return false;
        if (!take(c, ',')) {
            shape->count++;
            return take(c, ')');
        }
    }
    return true;
}

static bool take_pair(cursor *c, npy_header *header) {
    char key[32];
    if (!take_quoted(c, key, sizeof key) || !take(c, ':')) return false;
    if (!strcmp(key, "descr")) return header->has_descr = take_quoted(c, header->descr, sizeof header->descr);
    if (!strcmp(key, "shape")) return header->has_shape = take_shape(c, &header->shape);
    if (strcmp(key, "fortran_order") != 0) return false;
    header->is_fortran = take_word(c, "True");
    return header->has_order = header->is_fortran || take_word(c, "False");
}

static bool take_header(cursor *c, npy_header *header) {
    if (!take(c, '{')) return false;
    while (!take(c, '}')) {
        if (!take_pair(c, header)) return false;
        if (!take(c, ',') && *c->at != '}') return false;
    }
    skip_spaces(c);
    return *c->at == '\0' && header->has_descr && header->has_order && header->has_shape;
}

/* "<f4": byte order, kind, size. */
static bool read_descr(const char *path, npy_header *header) {
    const char *code = header->descr + (strchr("<>|=", header->descr[0]) && header->descr[0] ? 1 : 0);
    for (int i = 0; i < CR_DTYPE_COUNT; i++) {
        if (!type_codes[i] || strcmp(code, type_codes[i]) != 0) continue;
        header->dtype = (cr_dtype)i;
        header->is_swapped = header->descr[0] == '>';
        return true;
    }
    return cr_fail(CR_ERROR_UNSUPPORTED, "%.600s holds NumPy's type \"%s\"; known: b1 u1 i1 i2 i4 i8 f2 f4 f8", path,
                   header->descr);
}

static bool parse_header(const char *path, const char *text, npy_header *header) {
    cursor c = {text};
    if (!take_header(&c, header))
        return cr_fail(CR_ERROR_FORMAT, "%.500s: cannot read the header \"%.100s\" at \"%.40s\"", path, text, c.at);
    if (!read_descr(path, header)) return false;
    int64_t bytes = (int64_t)cr_dtype_size(header->dtype);
    bool is_empty = false, overflows = false;
    for (int i = 0; i < header->shape.count; i++) {
        const int64_t size = header->shape.at[i];
        is_empty |= size == 0;
        overflows |= __builtin_mul_overflow(bytes, size ? size : 1, &bytes);
    }
    if (overflows) return cr_fail(CR_ERROR_FORMAT, "%.600s: its shape has more bytes than int64 can count", path);
    header->bytes = is_empty ? 0 : (size_t)bytes;
    return true;
}

/* Reads up to the data and checks that the file holds it all. */
static bool read_header(int descriptor, const char *path, int64_t file_bytes, npy_header *header) {
    unsigned char start[MAGIC_BYTES + 2], length_bytes[4] = {0};
    if (file_bytes < MAGIC_BYTES + 4) return cr_fail(CR_ERROR_FORMAT, "%.600s is too short for a .npy file", path);
    if (!cr_file_read(descriptor, path, start, sizeof start)) return false;
    if (memcmp(start, magic, MAGIC_BYTES) != 0) return cr_fail(CR_ERROR_FORMAT, "%.600s is not a .npy file", path);
    const int version = start[MAGIC_BYTES];
    if (version < 1 || version > 3)
        return cr_fail(CR_ERROR_UNSUPPORTED, "%.600s has .npy version %d; 1 to 3 are read", path, version);
    const size_t length_size = version == 1 ? 2 : 4;
    if (!cr_file_read(descriptor, path, length_bytes, length_size)) return false;
    const uint32_t length = length_bytes[0] | (uint32_t)length_bytes[1] << 8 | (uint32_t)length_bytes[2] << 16 |
                            (uint32_t)length_bytes[3] << 24;
    const int64_t before_data = (int64_t)(sizeof start + length_size) + length;
    if (length > HEADER_LIMIT || before_data > file_bytes)
        return cr_fail(CR_ERROR_FORMAT, "%.600s: a header of %u bytes in a file of %lld", path, length,
                       (long long)file_bytes);
    char *text = cr_malloc(length + 1);
    if (!text) return false;
    text[length] = '\0';
    const bool is_read = cr_file_read(descriptor, path, text, length) && parse_header(path, text, header);
    cr_free(text);
    if (is_read && header->bytes > (uint64_t)(file_bytes - before_data))
        return cr_fail(CR_ERROR_FORMAT, "%.600s: its shape takes %zu bytes of data, but %lld are there", path,
                       header->bytes, (long long)(file_bytes - before_data));
    return is_read;
}

/* ---------------------------------------------------------------- the data */
static void swap_bytes(char *data, size_t bytes, size_t size) {
    for (char *element = data; element < data + bytes; element += size) {
        for (size_t i = 0; i < size / 2; i++) {
            const char low = element[i];
            element[i] = element[size - 1 - i];
            element[size - 1 - i] = low;
        }
    }
}

static bool check_bools(const char *path, const uint8_t *data, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        if (data[i] > 1) return cr_fail(CR_ERROR_FORMAT, "%.600s: a bool that is neither 0 nor 1", path);
    return true;
}

static bool read_data(int descriptor, const char *path, const npy_header *header, cr_tensor *t) {
    char *data = t->storage->data;
    if (!cr_file_read(descriptor, path, data, header->bytes)) return false;
    if (header->is_swapped) swap_bytes(data, header->bytes, cr_dtype_size(header->dtype));
    return header->dtype != CR_BOOL || check_bools(path, (const uint8_t *)data, header->bytes);
}

/* A row-major copy of `t`, whose elements lie with the first index fastest; drops `t`. */
static cr_tensor *from_fortran(cr_tensor *t, size_t bytes) {
    cr_shape strides = {.count = t->ndim};
    for (int64_t i = 0, step = 1; i < t->ndim; step *= t->sizes[i++])
        strides.at[i] = step;
    cr_tensor *view = cr_view_raw(t, cr_tensor_shape(t), strides, 0);
    cr_tensor *copy = view ? cr_empty((cr_dtype)t->dtype, cr_tensor_shape(t), CR_CPU) : NULL;
    if (copy && !cr_copy_to_host(view, copy->storage->data, bytes)) {
        cr_discard(copy);
        copy = NULL;
    }
    cr_discard(view);
    cr_discard(t);
    return copy;
}

cr_tensor *cr_npy_load(const char *path) {
    int64_t file_bytes = 0;
    npy_header header = {0};
    const int descriptor = cr_file_open(path, &file_bytes);
    if (descriptor < 0) return NULL;
    cr_tensor *t = NULL;
    if (read_header(descriptor, path, file_bytes, &header)) t = cr_empty(header.dtype, header.shape, CR_CPU);
    if (t && !read_data(descriptor, path, &header, t)) {
        cr_discard(t);
        t = NULL;
    }
    close(descriptor);
    return t && header.is_fortran && header.bytes ? from_fortran(t, header.bytes) : t;
}

/* ---------------------------------------------------------------- saving */
/* Writes the dict, padded so that the data begins at a multiple of 64. Returns the text's length. */
static size_t format_header(const cr_tensor *t, char text[512]) {
    const size_t before = MAGIC_BYTES + 4;
    const char order = cr_dtype_size((cr_dtype)t->dtype) == 1 ? '|' : '<';
    int used = snprintf(text, 512, "{'descr': '%c%s', 'fortran_order': False, 'shape': (", order, type_codes[t->dtype]);
    for (int i = 0; i < t->ndim; i++)
        used += snprintf(text + used, 512 - (size_t)used, "%s%lld%s", i ? ", " : "", (long long)t->sizes[i],
                         t->ndim == 1 ? "," : "");
    used += snprintf(text + used, 512 - (size_t)used, "), }");
    size_t length = (size_t)used;
    while ((before + length + 1) % HEADER_ALIGNMENT)
        text[length++] = ' ';
    text[length++] = '\n';
    return length;
}

bool cr_npy_save(const char *path, const cr_tensor *t) {
    if (!cr_tensor_check(t, "npy_save")) return false;
    if (!type_codes[t->dtype])
        return cr_fail(CR_ERROR_DTYPE,
                       "npy_save: NumPy has no %s; cast the tensor to f32 first, or save it as safetensors",
                       cr_dtype_name((cr_dtype)t->dtype));
    char text[512];
    const size_t length = format_header(t, text);
    const unsigned char version_and_length[4] = {1, 0, (unsigned char)(length & 255), (unsigned char)(length >> 8)};
    cr_file_writer *writer = cr_file_writer_begin(path);
    cr_file_writer_write(writer, magic, MAGIC_BYTES);
    cr_file_writer_write(writer, version_and_length, sizeof version_and_length);
    cr_file_writer_write(writer, text, length);
    cr_file_writer_write_tensor(writer, t);
    return cr_file_writer_commit(writer);
}
