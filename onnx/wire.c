/* Walking the wire: lengths and nesting are checked before anything is parsed, and weights stay where they are. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/wire.h"

#include <string.h>

/* A graph inside a graph is three levels: its node, its attribute, itself. */
enum { MOST_LEVELS = 200 };

enum message { MODEL, GRAPH, NODE, ATTRIBUTE, TENSOR, SPARSE, VALUE, TYPE, INNER_TYPE, MAP_TYPE, FUNCTION, TRAINING };

/* Fields of onnx.proto that hold messages in which messages may nest. */
static const struct {
    unsigned char outer, field, inner;
} nested[] = {
    {MODEL, 7, GRAPH},      {MODEL, 20, TRAINING},   {MODEL, 25, FUNCTION},     {TRAINING, 1, GRAPH},
    {TRAINING, 2, GRAPH},   {FUNCTION, 7, NODE},     {FUNCTION, 11, ATTRIBUTE}, {FUNCTION, 12, VALUE},
    {GRAPH, 1, NODE},       {GRAPH, 5, TENSOR},      {GRAPH, 15, SPARSE},       {GRAPH, 11, VALUE},
    {GRAPH, 12, VALUE},     {GRAPH, 13, VALUE},      {NODE, 5, ATTRIBUTE},      {ATTRIBUTE, 5, TENSOR},
    {ATTRIBUTE, 6, GRAPH},  {ATTRIBUTE, 22, SPARSE}, {ATTRIBUTE, 14, TYPE},     {ATTRIBUTE, 10, TENSOR},
    {ATTRIBUTE, 11, GRAPH}, {ATTRIBUTE, 23, SPARSE}, {ATTRIBUTE, 15, TYPE},     {SPARSE, 1, TENSOR},
    {SPARSE, 2, TENSOR},    {VALUE, 2, TYPE},        {TYPE, 4, INNER_TYPE},     {TYPE, 5, MAP_TYPE},
    {TYPE, 9, INNER_TYPE},  {INNER_TYPE, 1, TYPE},   {MAP_TYPE, 2, TYPE},
};
enum { RAW_DATA = 9 /* of a tensor */ };

typedef struct walk {
    cr_onnx_wire *wire;
    const uint8_t *begin;
    int level;
} walk;

static bool wrong(const walk *w, const uint8_t *at, const char *what) {
    return cr_fail(CR_ERROR_FORMAT, "onnx: %s at byte %zu: the file is damaged, or no ONNX model", what,
                   (size_t)(at - w->begin));
}

static bool find_nested(int outer, uint64_t field, int *inner) {
    for (size_t i = 0; i < sizeof nested / sizeof nested[0]; i++)
        if (nested[i].outer == outer && nested[i].field == field) return *inner = nested[i].inner, true;
    return false;
}

static const uint8_t *read_varint(const uint8_t *at, const uint8_t *end, uint64_t *value) {
    *value = 0;
    for (int shift = 0; at < end && shift < 64; shift += 7) {
        *value |= (uint64_t)(*at & 0x7f) << shift;
        if (!(*at++ & 0x80)) return at;
    }
    return NULL;
}

/* ---------------------------------------------------------------- writing */
static bool reserve(cr_onnx_wire *wire, size_t more) {
    if (wire->capacity - wire->length >= more) return true;
    const size_t capacity = wire->length + more + wire->capacity / 2 + 4096;
    uint8_t *grown = cr_realloc(wire->text, capacity);
    if (!grown) return false;
    wire->text = grown;
    wire->capacity = capacity;
    return true;
}

static bool copy_bytes(cr_onnx_wire *wire, const uint8_t *at, size_t count) {
    if (!reserve(wire, count)) return false;
    memcpy(wire->text + wire->length, at, count);
    wire->length += count;
    return true;
}

/* A length is written in five bytes, so that it can be filled in when it is known. */
static void put_length(uint8_t *at, size_t length) {
    for (int i = 0; i < 5; i++)
        at[i] = (uint8_t)((length >> 7 * i & 0x7f) | (i < 4 ? 0x80 : 0));
}

static bool take_raw(cr_onnx_wire *wire, const uint8_t *at, size_t count) {
    if (wire->raw_count == wire->raw_capacity) {
        const size_t capacity = 2 * wire->raw_capacity + 64;
        cr_onnx_bytes *grown = cr_realloc(wire->raw, capacity * sizeof *grown);
        if (!grown) return false;
        wire->raw = grown;
        wire->raw_capacity = capacity;
    }
    const uint64_t place = wire->raw_count;
    wire->raw[wire->raw_count++] = (cr_onnx_bytes){at, count};
    return copy_bytes(wire, (const uint8_t[]){8}, 1) && copy_bytes(wire, (const uint8_t *)&place, sizeof place);
}

/* ---------------------------------------------------------------- walking */
static bool walk_message(walk *w, int message, const uint8_t *at, const uint8_t *end);

/* What stands behind a key of wire type 2, `at` its length. Where it ends, or NULL. */
static const uint8_t *walk_bytes(walk *w, int message, uint64_t field, const uint8_t *at, const uint8_t *end) {
    uint64_t count;
    int inner;
    const uint8_t *content = read_varint(at, end, &count);
    if (!content || count > (uint64_t)(end - content)) return wrong(w, at, "a field goes past its message's end"), NULL;
    const uint8_t *next = content + count;
    if (message == TENSOR && field == RAW_DATA) return take_raw(w->wire, content, count) ? next : NULL;
    if (!find_nested(message, field, &inner)) return copy_bytes(w->wire, at, (size_t)(next - at)) ? next : NULL;
    if (!reserve(w->wire, 5)) return NULL;
    const size_t place = w->wire->length;
    w->wire->length += 5;
    if (!walk_message(w, inner, content, next)) return NULL;
    put_length(w->wire->text + place, w->wire->length - place - 5);
    return next;
}

static const uint8_t *walk_field(walk *w, int message, const uint8_t *at, const uint8_t *end) {
    uint64_t key, value;
    const uint8_t *content = read_varint(at, end, &key);
    if (!content || key >> 3 == 0 || key >> 3 > 0x1fffffff) return wrong(w, at, "no field's key"), NULL;
    if (!copy_bytes(w->wire, at, (size_t)(content - at))) return NULL;
    const uint8_t *next = NULL;
    switch (key & 7) {
    case 0: next = read_varint(content, end, &value); break;
    case 1: next = end - content >= 8 ? content + 8 : NULL; break;
    case 5: next = end - content >= 4 ? content + 4 : NULL; break;
    case 2: return walk_bytes(w, message, key >> 3, content, end);
    }
    if (!next) return wrong(w, at, "a field that is not whole"), NULL;
    return copy_bytes(w->wire, content, (size_t)(next - content)) ? next : NULL;
}

static bool walk_message(walk *w, int message, const uint8_t *at, const uint8_t *end) {
    if (w->level == MOST_LEVELS)
        return cr_fail(CR_ERROR_FORMAT, "onnx: messages nested more than %d levels deep", MOST_LEVELS);
    w->level++;
    while (at && at < end)
        at = walk_field(w, message, at, end);
    w->level--;
    return at != NULL;
}

bool cr_onnx_wire_read(cr_onnx_wire *wire, cr_onnx_message message, const uint8_t *bytes, size_t count) {
    *wire = (cr_onnx_wire){0};
    walk w = {wire, bytes, 0};
    if (walk_message(&w, message == CR_ONNX_MODEL ? MODEL : TENSOR, bytes, bytes + count)) return true;
    cr_onnx_wire_free(wire);
    return false;
}

void cr_onnx_wire_free(cr_onnx_wire *wire) {
    cr_free(wire->text);
    cr_free(wire->raw);
    *wire = (cr_onnx_wire){0};
}
#endif
