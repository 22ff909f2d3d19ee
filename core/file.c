/* Writing files atomically, and reading them whole. */
#define _GNU_SOURCE
#include "core/file.h"
#include "core/tensor.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A file is written in whole pieces of a huge page, each where one begins: so the system keeps it in huge pages, and who
 * maps it has few faults. */
enum { PIECE_BYTES = 2 << 20, TEMPORARY_NAME_BYTES = 64, ATTEMPTS = 100 };

struct cr_file_writer {
    int descriptor;
    bool has_failed;
    bool is_direct;     /* a device or pipe: no temporary file */
    bool has_temporary; /* the temporary file exists, and is ours to remove */
    char *path;         /* what the caller named, symbolic links followed */
    char *temporary;    /* beside it */
    int64_t position;
    size_t used; /* of piece */
    char piece[PIECE_BYTES];
};

/* Length of the folder part of a path, with its slash: 0 for a bare name. */
static size_t folder_length(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

static bool fail(cr_file_writer *writer, const char *verb) {
    writer->has_failed = true;
    return cr_fail(CR_ERROR_IO, "cannot %s %.600s: %m", verb, writer->path);
}

/* ---------------------------------------------------------------- beginning */
/* Names and creates the temporary file: ".cresset-PID-N.tmp" in the folder of the path. */
static bool open_temporary(cr_file_writer *writer, const struct stat *old) {
    static atomic_uint counter;
    const size_t folder = folder_length(writer->path);
    writer->temporary = cr_malloc(folder + TEMPORARY_NAME_BYTES);
    if (!writer->temporary) return false;
    memcpy(writer->temporary, writer->path, folder);
    for (int attempt = 0; attempt < ATTEMPTS && writer->descriptor < 0; attempt++) {
        snprintf(writer->temporary + folder, TEMPORARY_NAME_BYTES, ".cresset-%ld-%u.tmp", (long)getpid(),
                 atomic_fetch_add(&counter, 1));
        writer->descriptor = open(writer->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (writer->descriptor < 0 && errno != EEXIST && errno != EINTR) break;
    }
    if (writer->descriptor < 0) return fail(writer, "create a file beside");
    writer->has_temporary = true;
    /* The new file keeps the old one's permissions, as far as this user may set them. */
    if (old && fchmod(writer->descriptor, old->st_mode & 07777) != 0 && errno != EPERM)
        return fail(writer, "set the mode of");
    return true;
}

static bool open_target(cr_file_writer *writer, const char *path) {
    struct stat old;
    const bool exists = stat(path, &old) == 0;
    char *followed = exists ? realpath(path, NULL) : NULL;
    writer->path = cr_strdup(followed ? followed : path);
    free(followed);
    if (!writer->path) return false;
    if (exists && S_ISDIR(old.st_mode)) {
        errno = EISDIR;
        return fail(writer, "write");
    }
    if (!exists || S_ISREG(old.st_mode)) return open_temporary(writer, exists ? &old : NULL);
    writer->is_direct = true;
    writer->descriptor = open(writer->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
    return writer->descriptor >= 0 || fail(writer, "open");
}

cr_file_writer *cr_file_writer_begin(const char *path) {
    if (!path || !*path) {
        cr_record_error(CR_ERROR_ARGUMENT, "cannot write a file: the path is %s", path ? "empty" : "NULL");
        return NULL;
    }
    cr_file_writer *writer = cr_malloc(sizeof *writer);
    if (!writer) return NULL;
    memset(writer, 0, offsetof(cr_file_writer, piece));
    writer->descriptor = -1;
    if (open_target(writer, path)) return writer;
    cr_file_writer_abandon(writer);
    return NULL;
}

/* ---------------------------------------------------------------- writing */
static bool write_out(cr_file_writer *writer, const char *data, size_t bytes) {
    while (bytes > 0) {
        const ssize_t written = write(writer->descriptor, data, bytes);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return fail(writer, "write");
        data += written;
        bytes -= (size_t)written;
    }
    return true;
}

static bool flush(cr_file_writer *writer) {
    const size_t used = writer->used;
    writer->used = 0;
    return write_out(writer, writer->piece, used);
}

bool cr_file_writer_write(cr_file_writer *writer, const void *data, size_t bytes) {
    if (!writer || writer->has_failed) return false;
    writer->position += (int64_t)bytes;
    for (const char *from = data; bytes > 0;) {
        const size_t whole = writer->used ? 0 : bytes / PIECE_BYTES * PIECE_BYTES, rest = PIECE_BYTES - writer->used,
                     taken = whole          ? whole
                             : bytes < rest ? bytes
                                            : rest;
        if (whole) {
            if (!write_out(writer, from, whole)) return false;
        } else {
            memcpy(writer->piece + writer->used, from, taken);
            writer->used += taken;
            if (writer->used == PIECE_BYTES && !flush(writer)) return false;
        }
        from += taken;
        bytes -= taken;
    }
    return true;
}

bool cr_file_writer_write_tensor(cr_file_writer *writer, const cr_tensor *t) {
    if (!writer || writer->has_failed || !cr_tensor_check(t, "write")) return false;
    const size_t bytes = (size_t)t->numel * cr_dtype_size((cr_dtype)t->dtype);
    if (bytes == 0) return true;
    if (t->device.type == CR_DEVICE_CPU && cr_is_contiguous(t))
        return cr_file_writer_write(writer, cr_tensor_address(t), bytes);
    void *copy = cr_malloc(bytes);
    const bool written = copy && cr_copy_to_host(t, copy, bytes) && cr_file_writer_write(writer, copy, bytes);
    cr_free(copy);
    writer->has_failed |= !written;
    return written;
}

int64_t cr_file_writer_position(const cr_file_writer *writer) { return writer ? writer->position : 0; }

/* ---------------------------------------------------------------- ending */
static bool sync_descriptor(int descriptor) {
    int status;
    while ((status = fsync(descriptor)) != 0 && errno == EINTR) {
    }
    return status == 0 || errno == EINVAL || errno == ENOTSUP; /* a file system or device that has nothing to sync */
}

/* Makes the rename itself survive a power cut. */
static bool sync_folder(cr_file_writer *writer) {
    const size_t length = folder_length(writer->path);
    writer->temporary[length] = '\0'; /* only its folder part is still needed */
    const int folder = open(length ? writer->temporary : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return errno == EACCES || fail(writer, "sync the folder of"); /* a folder we may write but not read */
    const bool synced = sync_descriptor(folder) || fail(writer, "sync the folder of");
    close(folder);
    return synced;
}

static bool put_in_place(cr_file_writer *writer) {
    if (writer->has_failed || !flush(writer)) return false;
    if (!sync_descriptor(writer->descriptor)) return fail(writer, "sync");
    const int status = close(writer->descriptor);
    writer->descriptor = -1;
    if (status != 0 && errno != EINTR) return fail(writer, "close");
    if (writer->is_direct) return true;
    if (rename(writer->temporary, writer->path) != 0) return fail(writer, "rename a file over");
    writer->has_temporary = false;
    return sync_folder(writer);
}

bool cr_file_writer_commit(cr_file_writer *writer) {
    const bool done = writer && put_in_place(writer);
    cr_file_writer_abandon(writer);
    return done;
}

void cr_file_writer_abandon(cr_file_writer *writer) {
    if (!writer) return;
    if (writer->descriptor >= 0) close(writer->descriptor);
    if (writer->has_temporary) unlink(writer->temporary);
    cr_free(writer->temporary);
    cr_free(writer->path);
    cr_free(writer);
}

/* ---------------------------------------------------------------- reading */
int cr_file_open(const char *path, int64_t *bytes) {
    if (!path || !bytes) {
        cr_record_error(CR_ERROR_ARGUMENT, "cannot read a file: NULL argument");
        return -1;
    }
    struct stat status;
    const int descriptor =
        open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe must not block us before it is refused */
    if (descriptor < 0 || fstat(descriptor, &status) != 0) {
        cr_record_error(CR_ERROR_IO, "cannot open %.600s: %m", path);
    } else if (!S_ISREG(status.st_mode)) {
        cr_record_error(CR_ERROR_IO, "cannot read %.600s: it is %s, not a file", path,
                        S_ISDIR(status.st_mode) ? "a folder" : "a device or pipe");
    } else {
        *bytes = status.st_size;
        return descriptor;
    }
    if (descriptor >= 0) close(descriptor);
    return -1;
}

bool cr_file_read(int descriptor, const char *path, void *data, size_t bytes) {
    for (char *at = data; bytes > 0;) {
        const ssize_t got = read(descriptor, at, bytes);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return cr_fail(CR_ERROR_IO, "cannot read %.600s: %m", path);
        if (got == 0) return cr_fail(CR_ERROR_FORMAT, "%.600s ends %zu bytes too early", path, bytes);
        at += got;
        bytes -= (size_t)got;
    }
    return true;
}

void *cr_file_load(const char *path, int64_t limit, size_t *bytes) {
    int64_t size = 0;
    const int descriptor = cr_file_open(path, &size);
    if (descriptor < 0) return NULL;
    char *data = NULL;
    if (limit > 0 && size > limit)
        cr_record_error(CR_ERROR_FORMAT, "%.600s has %lld bytes; at most %lld are read", path, (long long)size,
                        (long long)limit);
    else
        data = cr_malloc((size_t)size + 1);
    if (data && !cr_file_read(descriptor, path, data, (size_t)size)) {
        cr_free(data);
        data = NULL;
    }
    close(descriptor);
    if (!data) return NULL;
    data[size] = '\0';
    if (bytes) *bytes = (size_t)size;
    return data;
}
