/* Errors as values: each thread keeps its first one until it is cleared. */
#include "core/thread.h"

#include <stdarg.h>
#include <string.h>

bool cr_ok(void) { return cr_thread_self()->error.code == CR_ERROR_NONE; }

const cr_error *cr_last_error(void) {
    const cr_error *error = &cr_thread_self()->error;
    return error->code == CR_ERROR_NONE ? NULL : error;
}

void cr_clear_error(void) {
    cr_thread *thread = cr_thread_self();
    thread->error = (cr_error){CR_ERROR_NONE, "", ""};
}

const char *cr_error_code_name(cr_error_code code) {
    static const char *const names[] = {
        [CR_ERROR_NONE] = "none",
        [CR_ERROR_ARGUMENT] = "argument",
        [CR_ERROR_SHAPE] = "shape",
        [CR_ERROR_DTYPE] = "dtype",
        [CR_ERROR_DEVICE] = "device",
        [CR_ERROR_MEMORY] = "memory",
        [CR_ERROR_INDEX] = "index",
        [CR_ERROR_IO] = "input/output",
        [CR_ERROR_FORMAT] = "format",
        [CR_ERROR_STATE] = "state",
        [CR_ERROR_UNSUPPORTED] = "unsupported",
        [CR_ERROR_NUMERIC] = "numeric",
        [CR_ERROR_INTERRUPTED] = "interrupted",
    };
    size_t index = (size_t)code;
    return index < sizeof names / sizeof names[0] ? names[index] : "?";
}

/* "conv2d < nn.conv2d main.0": innermost first, cut off at the buffer's end. */
static void write_chain(cr_thread *thread) {
    size_t used = 0;
    thread->chain[0] = '\0';
    for (const cr_frame *frame = thread->frame; frame && used < CR_CHAIN_BYTES; frame = frame->outer) {
        int written = snprintf(thread->chain + used, CR_CHAIN_BYTES - used, "%s%s%s%s", used ? " < " : "", frame->name,
                               frame->detail ? " " : "", frame->detail ? frame->detail : "");
        if (written < 0) break;
        used += (size_t)written;
    }
}

void cr_record_error(cr_error_code code, const char *format, ...) {
    cr_thread *thread = cr_thread_self();
    if (thread->error.code != CR_ERROR_NONE || code == CR_ERROR_NONE) return;
    size_t used = 0;
    if (thread->frame) {
        int written = snprintf(thread->message, CR_MESSAGE_BYTES, "%s: ", thread->frame->name);
        if (written > 0 && written < CR_MESSAGE_BYTES) used = (size_t)written;
    }
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(thread->message + used, CR_MESSAGE_BYTES - used, format ? format : "an error without a message",
              arguments);
    va_end(arguments);
    write_chain(thread);
    thread->error = (cr_error){code, thread->message, thread->chain};
}

int cr_report(FILE *out) {
    const cr_error *error = cr_last_error();
    if (!error) return 0;
    if (out) {
        fprintf(out, "cresset: %s error: %s\n", cr_error_code_name(error->code), error->message);
        if (error->chain[0]) fprintf(out, "  in %s\n", error->chain);
    }
    cr_clear_error();
    return 1;
}
