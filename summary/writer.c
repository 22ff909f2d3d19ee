/* Event files: records in a buffer, and the buffer in a file that grows by whole records.
 *
 * A record is u64 length, u32 masked CRC-32C of the length, the event's bytes, u32 masked CRC-32C of them;
 * little-endian. */
#ifdef CRESSET_HAS_SUMMARY
#include "summary/writer.h"

#include "summary/crc32c.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { RECORD_HEADER = 12, RECORD_FOOTER = 4, PENDING_LIMIT = 64 << 20, PATH_BYTES = 4096 };

/* The writer of one name of cr_summary_scalars, in a folder of its own. */
typedef struct child {
    struct child *next;
    cr_summary_writer *writer;
    char name[]; /* "tag_name" */
} child;

struct cr_summary_writer {
    pthread_mutex_t lock;
    cr_summary_writer_options options; /* .suffix is a copy */
    char *folder, *path;
    int descriptor;
    off_t file_bytes; /* whole records in the file */
    uint8_t *buffer;  /* whole records that wait */
    size_t used, capacity;
    double last_flush; /* monotonic seconds */
    child *children;
};

static double seconds_of(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

double cr_summary_wall_time(void) { return seconds_of(CLOCK_REALTIME); }

/* ---------------------------------------------------------------- the file */

/* Makes a folder and its parents. */
static bool make_folders(const char *folder) {
    char path[PATH_BYTES];
    const size_t length = strlen(folder);
    if (length >= sizeof path) return cr_fail(CR_ERROR_ARGUMENT, "summary: the folder's name has %zu bytes", length);
    for (size_t i = 1; i <= length; i++) {
        if (folder[i] != '/' && folder[i] != '\0') continue;
        memcpy(path, folder, i);
        path[i] = '\0';
        if (mkdir(path, 0777) != 0 && errno != EEXIST)
            return cr_fail(CR_ERROR_IO, "summary: cannot make the folder %s: %s", path, strerror(errno));
    }
    return true;
}

/* folder/events.out.tfevents.<10-digit time>.<host>.<pid>.<n>: TensorBoard reads a folder's files in this order. */
static char *file_path(const char *folder, const char *suffix) {
    static atomic_int files_opened;
    char host[256] = "", path[PATH_BYTES];
    if (gethostname(host, sizeof host - 1) != 0 || !host[0]) snprintf(host, sizeof host, "localhost");
    const int length =
        snprintf(path, sizeof path, "%s/events.out.tfevents.%010lld.%s.%ld.%d%s", folder, (long long)time(NULL), host,
                 (long)getpid(), atomic_fetch_add(&files_opened, 1), suffix);
    if (length < (int)sizeof path) return cr_strdup(path);
    cr_record_error(CR_ERROR_ARGUMENT, "summary: the event file's path would have %d bytes", length);
    return NULL;
}

/* How many of the buffer's bytes the system took. Less than all: errno says why. */
static size_t write_pending(const cr_summary_writer *writer) {
    size_t done = 0;
    while (done < writer->used) {
        const ssize_t written = write(writer->descriptor, writer->buffer + done, writer->used - done);
        if (written > 0)
            done += (size_t)written;
        else if (written == 0 || errno != EINTR)
            break;
    }
    return done;
}

/* Writes all that waits. On failure the file is cut back to whole records and the records go on waiting. */
static bool flush_locked(cr_summary_writer *writer) {
    errno = 0;
    const size_t done = write_pending(writer);
    const int reason = errno;
    if (done == writer->used) {
        writer->file_bytes += (off_t)done;
        writer->used = 0;
        writer->last_flush = seconds_of(CLOCK_MONOTONIC);
        return true;
    }
    if (done && ftruncate(writer->descriptor, writer->file_bytes) != 0) { /* then go on from where the file ends */
        memmove(writer->buffer, writer->buffer + done, writer->used - done);
        writer->file_bytes += (off_t)done;
        writer->used -= done;
    }
    return cr_fail(CR_ERROR_IO, "summary: cannot write %s: %s; %zu bytes of records wait in memory for the next flush",
                   writer->path, strerror(reason), writer->used);
}

/* ---------------------------------------------------------------- records */

static void store_u32(uint8_t *bytes, uint32_t value) {
    for (int i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
}

static bool reserve(cr_summary_writer *writer, size_t more) {
    const size_t needed = writer->used + more;
    if (needed <= writer->capacity) return true;
    const size_t capacity = needed < 2 * writer->capacity ? 2 * writer->capacity : needed + 4096;
    uint8_t *buffer = cr_realloc(writer->buffer, capacity);
    if (!buffer) return false;
    writer->buffer = buffer;
    writer->capacity = capacity;
    return true;
}

/* Packs the event straight into the buffer, so that protobuf-c allocates nothing. */
static bool append_locked(cr_summary_writer *writer, const Cr__Event *event) {
    const size_t bytes = cr__event__get_packed_size(event), record = RECORD_HEADER + bytes + RECORD_FOOTER;
    if (writer->used && writer->used + record > PENDING_LIMIT && !flush_locked(writer)) return false;
    if (bytes > INT32_MAX) return cr_fail(CR_ERROR_ARGUMENT, "summary: a record of %zu bytes; at most 2 GiB", bytes);
    if (!reserve(writer, record)) return false;
    uint8_t *start = writer->buffer + writer->used;
    store_u32(start, (uint32_t)bytes);
    store_u32(start + 4, 0);
    store_u32(start + 8, cr_crc32c_masked(start, 8));
    cr__event__pack(event, start + RECORD_HEADER);
    store_u32(start + RECORD_HEADER + bytes, cr_crc32c_masked(start + RECORD_HEADER, bytes));
    writer->used += record;
    const bool is_due = writer->used >= writer->options.buffer_bytes ||
                        seconds_of(CLOCK_MONOTONIC) - writer->last_flush >= writer->options.flush_seconds;
    return !is_due || flush_locked(writer);
}

bool cr_summary_append(cr_summary_writer *writer, const Cr__Event *event) {
    pthread_mutex_lock(&writer->lock);
    const bool ok = append_locked(writer, event);
    pthread_mutex_unlock(&writer->lock);
    return ok;
}

bool cr_summary_append_value(cr_summary_writer *writer, const char *caller, const char *tag, Cr__Summary__Value *value,
                             int64_t step) {
    if (!writer)
        return cr_fail(CR_ERROR_ARGUMENT, "%s: the writer is NULL; was cr_summary_writer_open checked?", caller);
    if (!cr_summary_check_text(caller, "tag", tag)) return false;
    value->tag = (char *)tag;
    Cr__Summary summary = CR__SUMMARY__INIT;
    summary.n_value = 1;
    summary.value = &value;
    Cr__Event event = CR__EVENT__INIT;
    event.wall_time = cr_summary_wall_time();
    event.step = step;
    event.what_case = CR__EVENT__WHAT_SUMMARY;
    event.summary = &summary;
    return cr_summary_append(writer, &event);
}

/* Length of the UTF-8 character at `text`: 1 to 4, or 0 where there is none (overlong forms and surrogates are
 * none). */
static int character_length(const uint8_t *text) {
    if (text[0] < 0x80) return 1;
    const int length = text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    uint32_t code = text[0] & (0x7fu >> length);
    for (int i = 1; i < length; i++) {
        if ((text[i] & 0xc0) != 0x80) return 0;
        code = code << 6 | (text[i] & 0x3fu);
    }
    const bool is_valid = text[0] >= 0xc2 && code >= least[length] && code <= 0x10ffff && (code >> 11) != 0x1b;
    return is_valid ? length : 0;
}

bool cr_summary_check_text(const char *caller, const char *what, const char *text) {
    if (!text) return cr_fail(CR_ERROR_ARGUMENT, "%s: the %s is NULL", caller, what);
    const uint8_t *next = (const uint8_t *)text;
    while (*next) {
        const int length = character_length(next);
        if (!length)
            return cr_fail(CR_ERROR_ARGUMENT, "%s: the %s is not UTF-8 at byte %td (0x%02x)", caller, what,
                           next - (const uint8_t *)text, *next);
        next += length;
    }
    return true;
}

/* ---------------------------------------------------------------- opening and closing */

/* The first record of every event file. */
static bool append_version(cr_summary_writer *writer) {
    Cr__Event event = CR__EVENT__INIT;
    event.wall_time = cr_summary_wall_time();
    event.what_case = CR__EVENT__WHAT_FILE_VERSION;
    event.file_version = "brain.Event:2";
    return append_locked(writer, &event) && flush_locked(writer);
}

static bool open_file(cr_summary_writer *writer) {
    writer->path = file_path(writer->folder, writer->options.suffix);
    if (!writer->path || !make_folders(writer->folder)) return false;
    writer->descriptor = open(writer->path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
    if (writer->descriptor < 0)
        return cr_fail(CR_ERROR_IO, "summary_writer_open: cannot make %s: %s", writer->path, strerror(errno));
    return append_version(writer);
}

/* Frees without flushing. */
static bool destroy(cr_summary_writer *writer) {
    bool ok = true;
    if (writer->descriptor >= 0 && close(writer->descriptor) != 0)
        ok = cr_fail(CR_ERROR_IO, "summary_close: %s: %s", writer->path, strerror(errno));
    pthread_mutex_destroy(&writer->lock);
    cr_free((char *)writer->options.suffix);
    cr_free(writer->folder);
    cr_free(writer->path);
    cr_free(writer->buffer);
    cr_free(writer);
    return ok;
}

static bool read_options(cr_summary_writer_options *result, const cr_summary_writer_options *given) {
    *result = (cr_summary_writer_options){sizeof *result, 120, 1 << 20, ""};
    if (given) memcpy(result, given, given->size < sizeof *result ? given->size : sizeof *result);
    if (!result->suffix) result->suffix = "";
    if (strchr(result->suffix, '/'))
        return cr_fail(CR_ERROR_ARGUMENT, "summary_writer_open: the suffix \"%.80s\" has a slash", result->suffix);
    return true;
}

cr_summary_writer *cr_summary_writer_open_with(const char *folder, const cr_summary_writer_options *options) {
    cr_summary_writer_options chosen;
    if (!folder || !*folder) {
        cr_record_error(CR_ERROR_ARGUMENT, "summary_writer_open: the folder is %s", folder ? "empty" : "NULL");
        return NULL;
    }
    if (!read_options(&chosen, options)) return NULL;
    cr_summary_writer *writer = cr_calloc(1, sizeof *writer);
    if (!writer) return NULL;
    pthread_mutex_init(&writer->lock, NULL);
    writer->descriptor = -1;
    writer->last_flush = seconds_of(CLOCK_MONOTONIC);
    writer->folder = cr_strdup(folder);
    writer->options = chosen;
    writer->options.suffix = cr_strdup(chosen.suffix);
    if (writer->folder && writer->options.suffix && open_file(writer)) return writer;
    if (writer->descriptor >= 0) unlink(writer->path);
    destroy(writer);
    return NULL;
}

const char *cr_summary_writer_path(const cr_summary_writer *writer) {
    if (!writer) cr_record_error(CR_ERROR_ARGUMENT, "summary_writer_path: the writer is NULL");
    return writer ? writer->path : NULL;
}

bool cr_summary_flush(cr_summary_writer *writer) {
    if (!writer) return cr_fail(CR_ERROR_ARGUMENT, "summary_flush: the writer is NULL");
    pthread_mutex_lock(&writer->lock);
    bool ok = !writer->used || flush_locked(writer);
    for (child *each = writer->children; each; each = each->next)
        ok &= cr_summary_flush(each->writer);
    pthread_mutex_unlock(&writer->lock);
    return ok;
}

bool cr_summary_close(cr_summary_writer *writer) {
    if (!writer) return true;
    bool ok = !writer->used || flush_locked(writer);
    for (child *each = writer->children, *next; each; each = next) {
        next = each->next;
        ok &= cr_summary_close(each->writer);
        cr_free(each);
    }
    return destroy(writer) && ok;
}

/* ---------------------------------------------------------------- several curves in one chart */

/* The child for "tag_name", made where it is new. */
static cr_summary_writer *child_locked(cr_summary_writer *writer, const char *name) {
    for (child *each = writer->children; each; each = each->next)
        if (!strcmp(each->name, name)) return each->writer;
    char folder[PATH_BYTES];
    if (snprintf(folder, sizeof folder, "%s/%s", writer->folder, name) >= (int)sizeof folder) {
        cr_record_error(CR_ERROR_ARGUMENT, "summary_scalars: the name \"%.80s…\" is too long", name);
        return NULL;
    }
    const size_t name_bytes = strlen(name) + 1;
    child *made = cr_malloc(sizeof *made + name_bytes);
    if (!made) return NULL;
    memcpy(made->name, name, name_bytes);
    made->next = writer->children;
    made->writer = cr_summary_writer_open_with(folder, &writer->options);
    if (!made->writer) {
        cr_free(made);
        return NULL;
    }
    writer->children = made;
    return made->writer;
}

static bool append_to_child(cr_summary_writer *writer, const char *tag, cr_summary_value value, int64_t step) {
    char name[PATH_BYTES];
    if (!cr_summary_check_text("summary_scalars", "name", value.name)) return false;
    if (snprintf(name, sizeof name, "%s_%s", tag, value.name) >= (int)sizeof name)
        return cr_fail(CR_ERROR_ARGUMENT, "summary_scalars: the name \"%.80s…\" is too long", value.name);
    for (char *slash = name; (slash = strchr(slash, '/'));)
        *slash = '_';
    pthread_mutex_lock(&writer->lock);
    cr_summary_writer *writer_of_name = child_locked(writer, name);
    pthread_mutex_unlock(&writer->lock);
    return writer_of_name && cr_summary_scalar(writer_of_name, tag, value.value, step);
}

bool cr_summary_scalars_with(cr_summary_writer *writer, const char *tag, int64_t step, const cr_summary_value *values,
                             int count) {
    if (!writer || (!values && count > 0))
        return cr_fail(CR_ERROR_ARGUMENT, "summary_scalars: %s NULL", writer ? "the values are" : "the writer is");
    if (!cr_summary_check_text("summary_scalars", "tag", tag)) return false;
    bool ok = true;
    for (int i = 0; i < count; i++)
        ok &= append_to_child(writer, tag, values[i], step);
    return ok;
}
#else
typedef int cr_summary_writer_is_absent; /* summary/absent.c stands in */
#endif
