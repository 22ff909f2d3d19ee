/* Attributes as text, and calls by name: "stride=[2,2] groups=1 dtype=f32 equation='ij,jk->ik'". */
#include "ops/op.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- interned texts */
typedef struct interned {
    struct interned *next;
    char text[];
} interned;

const char *cr_intern(const char *text) {
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static interned *buckets[256]; /* few and small: equations, modes */
    if (!text) return NULL;
    const size_t length = strlen(text);
    interned **bucket =
        &buckets[(length * 31 + (uint8_t)text[0] + (length ? (uint8_t)text[length - 1] * 7u : 0)) % 256];
    pthread_mutex_lock(&lock);
    interned *found = *bucket;
    while (found && strcmp(found->text, text) != 0)
        found = found->next;
    if (!found && (found = malloc(sizeof *found + length + 1))) {
        memcpy(found->text, text, length + 1);
        found->next = *bucket;
        *bucket = found;
    }
    pthread_mutex_unlock(&lock);
    if (!found) cr_record_error(CR_ERROR_MEMORY, "cannot keep a text of %zu bytes", length);
    return found ? found->text : NULL;
}

/* ---------------------------------------------------------------- parsing */
static const char *skip_spaces(const char *text) {
    while (isspace((unsigned char)*text))
        text++;
    return text;
}

static const char *parse_dims(const char *text, cr_dims *dims) {
    dims->count = 0;
    if (*text++ != '[') return NULL;
    text = skip_spaces(text);
    if (*text == ']') return text + 1;
    for (;;) {
        char *end;
        if (dims->count == CR_MAX_DIMS) return NULL;
        errno = 0;
        dims->at[dims->count++] = strtoll(text, &end, 10);
        if (end == text || errno) return NULL;
        text = skip_spaces(end);
        if (*text == ']') return text + 1;
        if (*text++ != ',') return NULL;
    }
}

/* A word up to a space, or anything between single quotes. */
static const char *parse_word(const char *text, char *word, size_t size) {
    const bool quoted = *text == '\'';
    text += quoted;
    size_t length = 0;
    while (*text && (quoted ? *text != '\'' : !isspace((unsigned char)*text))) {
        if (length + 1 >= size) return NULL;
        word[length++] = *text++;
    }
    word[length] = '\0';
    if (quoted && *text++ != '\'') return NULL;
    return text;
}

/* Reads one value into its field; returns where it ends, or NULL. */
static const char *parse_value(const cr_attribute *attribute, const char *text, void *field) {
    char *end = NULL, word[512];
    errno = 0;
    switch (attribute->kind) {
    case CR_ATTRIBUTE_INT: *(int64_t *)field = strtoll(text, &end, 10); return end == text || errno ? NULL : end;
    case CR_ATTRIBUTE_FLOAT: *(double *)field = strtod(text, &end); return end == text ? NULL : end;
    case CR_ATTRIBUTE_DIMS: return parse_dims(text, field);
    default: break;
    }
    const char *rest = parse_word(text, word, sizeof word);
    if (!rest) return NULL;
    switch (attribute->kind) {
    case CR_ATTRIBUTE_BOOL:
        *(bool *)field = !strcmp(word, "true");
        return *(bool *)field || !strcmp(word, "false") ? rest : NULL;
    case CR_ATTRIBUTE_DTYPE:
        if (!strcmp(word, "default")) return *(cr_dtype *)field = CR_DTYPE_DEFAULT, rest;
        return cr_dtype_parse(word, field) ? rest : NULL;
    case CR_ATTRIBUTE_DEVICE: return cr_device_parse(word, field) ? rest : NULL;
    case CR_ATTRIBUTE_TEXT: return (*(const char **)field = cr_intern(word)) ? rest : NULL;
    default: return NULL;
    }
}

static const cr_attribute *find_attribute(const cr_op *op, const char *name, size_t length) {
    for (int i = 0; i < op->attribute_count; i++)
        if (strlen(op->attributes[i].name) == length && !memcmp(op->attributes[i].name, name, length))
            return &op->attributes[i];
    return NULL;
}

bool cr_attributes_parse(const cr_op *op, const char *text, void *attributes) {
    if (op->attribute_bytes) memcpy(attributes, op->defaults, op->attribute_bytes);
    for (text = skip_spaces(text ? text : ""); *text; text = skip_spaces(text)) {
        const size_t length = strcspn(text, "= ");
        if (text[length] != '=')
            return cr_fail(CR_ERROR_ARGUMENT, "%s: attributes are name=value, got \"%.40s\"", op->name, text);
        const cr_attribute *attribute = find_attribute(op, text, length);
        if (!attribute)
            return cr_fail(CR_ERROR_ARGUMENT, "%s has no attribute \"%.*s\"", op->name,
                           (int)(length < 40 ? length : 40), text);
        const char *value = text + length + 1;
        text = parse_value(attribute, value, (char *)attributes + attribute->offset);
        if (!text)
            return cr_fail(CR_ERROR_ARGUMENT, "%s: cannot read \"%.40s\" as %s", op->name, value, attribute->name);
    }
    return true;
}

/* ---------------------------------------------------------------- printing */
static int print_value(char *text, size_t size, const cr_attribute *attribute, const void *field) {
    char name[192];
    switch (attribute->kind) {
    case CR_ATTRIBUTE_INT: return snprintf(text, size, "%" PRId64, *(const int64_t *)field);
    case CR_ATTRIBUTE_FLOAT: return snprintf(text, size, "%.17g", *(const double *)field);
    case CR_ATTRIBUTE_BOOL: return snprintf(text, size, "%s", *(const bool *)field ? "true" : "false");
    case CR_ATTRIBUTE_DTYPE:
        return snprintf(text, size, "%s",
                        *(const cr_dtype *)field == CR_DTYPE_DEFAULT ? "default"
                                                                     : cr_dtype_name(*(const cr_dtype *)field));
    case CR_ATTRIBUTE_DEVICE: return snprintf(text, size, "%s", cr_device_name(*(const cr_device *)field, name));
    case CR_ATTRIBUTE_DIMS: return snprintf(text, size, "%s", cr_shape_format(*(const cr_dims *)field, name));
    case CR_ATTRIBUTE_TEXT:
        return snprintf(text, size, "'%s'", *(const char *const *)field ? *(const char *const *)field : "");
    case CR_ATTRIBUTE_GENERATOR: return 0;
    }
    return 0;
}

char *cr_attributes_print(const cr_op *op, const void *attributes) {
    size_t used = 0, size = 64 + (size_t)op->attribute_count * 640;
    char *text = cr_malloc(size);
    if (!text) return NULL;
    text[0] = '\0';
    for (int i = 0; i < op->attribute_count; i++) {
        const cr_attribute *attribute = &op->attributes[i];
        if (attribute->kind == CR_ATTRIBUTE_GENERATOR) continue;
        used += (size_t)snprintf(text + used, size - used, "%s%s=", used ? " " : "", attribute->name);
        const int written =
            print_value(text + used, size - used, attribute, (const char *)attributes + attribute->offset);
        used += (size_t)written < size - used ? (size_t)written : size - used - 1;
    }
    return text;
}

bool cr_attributes_equal(const cr_op *op, const void *a, const void *b) {
    static const size_t sizes[] = {
        [CR_ATTRIBUTE_INT] = sizeof(int64_t),      [CR_ATTRIBUTE_FLOAT] = sizeof(double),
        [CR_ATTRIBUTE_BOOL] = sizeof(bool),        [CR_ATTRIBUTE_DTYPE] = sizeof(cr_dtype),
        [CR_ATTRIBUTE_DEVICE] = sizeof(cr_device), [CR_ATTRIBUTE_DIMS] = 0,
        [CR_ATTRIBUTE_TEXT] = sizeof(char *),      [CR_ATTRIBUTE_GENERATOR] = sizeof(void *),
    };
    for (int i = 0; i < op->attribute_count; i++) {
        const cr_attribute *attribute = &op->attributes[i];
        const char *x = (const char *)a + attribute->offset, *y = (const char *)b + attribute->offset;
        const bool equal = attribute->kind == CR_ATTRIBUTE_DIMS
                               ? cr_shape_equal(*(const cr_dims *)(const void *)x, *(const cr_dims *)(const void *)y)
                               : !memcmp(x, y, sizes[attribute->kind]);
        if (!equal) return false;
    }
    return true;
}

/* ---------------------------------------------------------------- calls by name */
enum { ATTRIBUTE_BYTES = 4096 };

bool cr_op_call(const char *name, cr_tensor *const *inputs, int input_count, const char *attributes,
                cr_tensor **outputs, int output_count) {
    if (!name || (!inputs && input_count) || (!outputs && output_count) || input_count < 0 || output_count < 0)
        return cr_fail(CR_ERROR_ARGUMENT, "op_call: NULL or negative argument");
    cr_op *op = cr_op_find(name);
    if (!op) return cr_fail(CR_ERROR_ARGUMENT, "there is no op \"%.60s\"", name);
    _Alignas(16) char storage[ATTRIBUTE_BYTES];
    if (op->attribute_bytes > sizeof storage)
        return cr_fail(CR_ERROR_UNSUPPORTED, "%s: attributes of %zu bytes", name, op->attribute_bytes);
    if (op->attribute_bytes && !cr_attributes_parse(op, attributes, storage)) return false;
    return cr_run_all(op, inputs, input_count, op->attribute_bytes ? storage : NULL, outputs, output_count);
}

char *cr_op_attributes(const char *name) {
    const cr_op *op = name ? cr_op_find(name) : NULL;
    if (!op) {
        cr_record_error(CR_ERROR_ARGUMENT, "op_attributes: there is no op \"%.60s\"", name ? name : "NULL");
        return NULL;
    }
    return cr_attributes_print(op, op->defaults);
}
