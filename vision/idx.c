/* MNIST's idx files (http://yann.lecun.com/exdb/mnist): big-endian, plain or gzipped. */
#include "core/file.h"
#include "vision/image.h"

#include <string.h>
#ifdef CRESSET_HAS_IMAGES
#include <zlib.h>
#endif

enum { MAX_FILE_BYTES = 1 << 30 };

/* A file's bytes from the start, unpacked where they are gzipped. */
typedef struct reader {
    const char *path;
    const uint8_t *bytes;
    size_t left;
    bool is_packed;
#ifdef CRESSET_HAS_IMAGES
    z_stream stream;
#endif
} reader;

static bool ends_early(const reader *file) {
    return cr_fail(CR_ERROR_FORMAT, "%s: the idx file is cut off or damaged", file->path);
}

#ifdef CRESSET_HAS_IMAGES
static bool open_packed(reader *file) {
    memset(&file->stream, 0, sizeof file->stream);
    file->stream.next_in = (Bytef *)(uintptr_t)file->bytes;
    file->stream.avail_in = (uInt)file->left;
    file->is_packed = inflateInit2(&file->stream, 15 + 16) == Z_OK; /* 16: a gzip header */
    return file->is_packed || cr_fail(CR_ERROR_MEMORY, "%s: cannot be unpacked", file->path);
}
static bool read_packed(reader *file, void *data, size_t bytes) {
    file->stream.next_out = data;
    file->stream.avail_out = (uInt)bytes;
    while (file->stream.avail_out > 0)
        if (inflate(&file->stream, Z_NO_FLUSH) != Z_OK) break; /* Z_STREAM_END with nothing missing is fine too */
    return file->stream.avail_out == 0 || ends_early(file);
}
/* Past the data the checksum follows: a damaged file must not pass. */
static bool close_packed(reader *file, bool done) {
    uint8_t rest;
    file->stream.next_out = &rest;
    file->stream.avail_out = 1;
    if (done && (inflate(&file->stream, Z_FINISH) != Z_STREAM_END || file->stream.avail_out == 0))
        done = ends_early(file);
    inflateEnd(&file->stream);
    return done;
}
#else
static bool open_packed(reader *file) {
    return cr_fail(CR_ERROR_UNSUPPORTED, "%s: this build cannot unpack .gz files (CRESSET_IMAGES)", file->path);
}
static bool read_packed(reader *file, void *data, size_t bytes) {
    (void)data, (void)bytes;
    return ends_early(file);
}
static bool close_packed(reader *file, bool done) {
    (void)file;
    return done;
}
#endif

static bool open_reader(reader *file) {
    return file->left < 2 || file->bytes[0] != 0x1f || file->bytes[1] != 0x8b || open_packed(file);
}

static bool read_bytes(reader *file, void *data, size_t bytes) {
    if (file->is_packed) return read_packed(file, data, bytes);
    if (file->left < bytes) return ends_early(file);
    memcpy(data, file->bytes, bytes);
    file->bytes += bytes;
    file->left -= bytes;
    return true;
}

static bool close_reader(reader *file, bool done) {
    if (file->is_packed) return close_packed(file, done);
    if (done && file->left > 0)
        return cr_fail(CR_ERROR_FORMAT, "%s: %zu bytes too many for its header", file->path, file->left);
    return done;
}

/* 0, 0, type 8 (bytes), number of dims, then each size in 4 bytes. */
static bool read_header(reader *file, cr_shape *shape) {
    uint8_t magic[4], size[4];
    if (!read_bytes(file, magic, 4)) return false;
    if (magic[0] || magic[1] || magic[2] != 8 || magic[3] < 1 || magic[3] > 4)
        return cr_fail(CR_ERROR_FORMAT, "%s: not an idx file of bytes with 1 to 4 dims (it begins %02x %02x %02x %02x)",
                       file->path, magic[0], magic[1], magic[2], magic[3]);
    int64_t total = 1;
    *shape = (cr_shape){.count = magic[3]};
    for (int i = 0; i < shape->count; i++) {
        if (!read_bytes(file, size, 4)) return false;
        shape->at[i] = (int64_t)size[0] << 24 | size[1] << 16 | size[2] << 8 | size[3];
        if (__builtin_mul_overflow(total, shape->at[i], &total)) return ends_early(file);
    }
    /* deflate packs at most 1032 to 1: a small file cannot ask for much memory */
    const int64_t possible = (int64_t)file->left * (file->is_packed ? 1032 : 1);
    if (total < 0 || total > possible || total > MAX_FILE_BYTES)
        return cr_fail(CR_ERROR_FORMAT, "%s: its header promises %lld bytes, more than it can hold", file->path,
                       (long long)total);
    return true;
}

cr_tensor *cr_vision_read_idx(const char *path) {
    reader file = {.path = path};
    uint8_t *bytes = cr_file_load(path, MAX_FILE_BYTES, &file.left);
    file.bytes = bytes;
    if (!bytes || !open_reader(&file)) {
        cr_free(bytes);
        return NULL;
    }
    cr_shape shape;
    cr_tensor *t = NULL;
    bool done = read_header(&file, &shape);
    if (done) done = (t = cr_empty(CR_U8, shape, CR_CPU)) != NULL;
    if (done && cr_numel(t) > 0) done = read_bytes(&file, cr_data(t), (size_t)cr_numel(t));
    done = close_reader(&file, done);
    cr_free(bytes);
    return done ? t : NULL;
}
