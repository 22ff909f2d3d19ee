#include "core/text.h"

#include <stdarg.h>
#include <string.h>

static bool make_room(cr_text *text, size_t bytes) {
    if (text->failed) return false;
    if (text->length + bytes <= text->capacity) return true;
    const size_t capacity = 2 * (text->length + bytes) + 64;
    char *grown = cr_realloc(text->at, capacity);
    if (!grown) {
        cr_free(text->at);
        *text = (cr_text){.failed = true};
        return false;
    }
    text->at = grown;
    text->capacity = capacity;
    return true;
}

void cr_text_add(cr_text *text, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (length < 0 || !make_room(text, (size_t)length + 1)) return;
    va_start(arguments, format);
    vsnprintf(text->at + text->length, (size_t)length + 1, format, arguments);
    va_end(arguments);
    text->length += (size_t)length;
}

void cr_text_add_all(cr_text *text, const char *all) {
    const size_t length = strlen(all);
    if (!make_room(text, length + 1)) return;
    memcpy(text->at + text->length, all, length + 1);
    text->length += length;
}

char *cr_text_end(cr_text *text) {
    if (!text->at && !text->failed) cr_text_add(text, "%s", "");
    return text->at;
}
