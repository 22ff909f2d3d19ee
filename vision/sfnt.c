/* Reads sfnt font files: the table directory, and the colour bitmaps of CBLC and CBDT.
 * OpenType specification: "Organization of an OpenType font", "CBLC", "CBDT", "EBLC". */
#include "vision/sfnt.h"

#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- the directory */
enum { HEADER_BYTES = 12, RECORD_BYTES = 16, MAX_TABLES = 256 };

static bool table_count(cr_bytes font, uint32_t *count) {
    uint32_t version;
    return cr_read_u32(font, 0, &version) &&
           (version == 0x00010000 || version == 0x4f54544f || version == 0x74727565) && cr_read_u16(font, 4, count) &&
           *count > 0 && *count <= MAX_TABLES;
}

/* Record i: tag, checksum, offset, length. */
static bool table_at(cr_bytes font, uint32_t i, const uint8_t **tag, uint32_t *checksum, cr_bytes *table) {
    cr_bytes record;
    uint32_t offset, length;
    if (!cr_bytes_slice(font, HEADER_BYTES + (size_t)i * RECORD_BYTES, RECORD_BYTES, &record)) return false;
    *tag = record.at;
    return cr_read_u32(record, 4, checksum) && cr_read_u32(record, 8, &offset) && cr_read_u32(record, 12, &length) &&
           cr_bytes_slice(font, offset, length, table);
}

bool cr_sfnt_table(cr_bytes font, const char tag[4], cr_bytes *table) {
    uint32_t count, checksum;
    const uint8_t *name;
    if (!table_count(font, &count)) return false;
    for (uint32_t i = 0; i < count; i++)
        if (table_at(font, i, &name, &checksum, table) && memcmp(name, tag, 4) == 0) return true;
    return false;
}

/* The sum of a table's words; the last one is filled up with zeros. */
static uint32_t sum_of(cr_bytes table) {
    uint32_t sum = 0, word;
    for (size_t at = 0; at < table.size; at += 4) {
        uint8_t last[4] = {0};
        if (!cr_read_u32(table, at, &word)) {
            memcpy(last, table.at + at, table.size - at);
            cr_read_u32((cr_bytes){last, 4}, 0, &word);
        }
        sum += word;
    }
    return sum;
}

bool cr_sfnt_is_sound(cr_bytes font) {
    uint32_t count, checksum, adjustment = 0;
    if (!table_count(font, &count)) return false;
    for (uint32_t i = 0; i < count; i++) {
        const uint8_t *tag;
        cr_bytes table;
        if (!table_at(font, i, &tag, &checksum, &table)) return false;
        const bool is_head = memcmp(tag, "head", 4) == 0; /* its own adjustment word counts as 0 */
        if (is_head && !cr_read_u32(table, 8, &adjustment)) return false;
        if (sum_of(table) - (is_head ? adjustment : 0) != checksum) return false;
    }
    return true;
}

/* ---------------------------------------------------------------- colour bitmaps */
enum { STRIKE_BYTES = 48, MAX_STRIKES = 64, SUBTABLE_RECORD_BYTES = 8, MAX_GLYPHS = 65536 };

typedef struct glyph_list {
    cr_color_glyph *at;
    int64_t count, capacity;
    bool out_of_memory;
} glyph_list;

/* Takes the PNG out of one glyph's data: formats 17 (small metrics), 18 (big metrics), 19 (none). Other formats and
 * glyphs without data are left out. */
static bool add_glyph(glyph_list *list, cr_bytes data, uint32_t format, uint32_t glyph) {
    const size_t metrics = format == 17 ? 5 : format == 18 ? 8 : 0;
    uint32_t length;
    cr_bytes png;
    if (data.size == 0 || format < 17 || format > 19) return true;
    if (!cr_read_u32(data, metrics, &length) || !cr_bytes_slice(data, metrics + 4, length, &png)) return false;
    if (list->count >= MAX_GLYPHS) return false; /* overlapping ranges */
    if (list->count == list->capacity) {
        const int64_t capacity = list->capacity ? list->capacity * 2 : 1024;
        cr_color_glyph *grown = cr_realloc(list->at, (size_t)capacity * sizeof *grown);
        if (!grown) {
            list->out_of_memory = true;
            return false;
        }
        list->at = grown;
        list->capacity = capacity;
    }
    list->at[list->count++] = (cr_color_glyph){glyph, png};
    return true;
}

/* An index subtable: where the data of glyphs first … last lies in CBDT. */
typedef struct subtable {
    cr_bytes body; /* behind its header of 8 bytes */
    cr_bytes data; /* CBDT from the subtable's offset on */
    uint32_t format, image_format, first, last;
} subtable;

/* Formats 1 and 3: an offset for each glyph, and one behind the last. */
static bool add_by_offsets(glyph_list *list, const subtable *s) {
    for (uint32_t i = 0; i <= s->last - s->first; i++) {
        uint32_t begin, end;
        cr_bytes data;
        const bool found =
            s->format == 1
                ? cr_read_u32(s->body, 4 * (size_t)i, &begin) && cr_read_u32(s->body, 4 * (size_t)i + 4, &end)
                : cr_read_u16(s->body, 2 * (size_t)i, &begin) && cr_read_u16(s->body, 2 * (size_t)i + 2, &end);
        if (!found || end < begin || !cr_bytes_slice(s->data, begin, end - begin, &data)) return false;
        if (!add_glyph(list, data, s->image_format, s->first + i)) return false;
    }
    return true;
}

/* Format 4: pairs of a glyph number and an offset, and one pair behind the last. */
static bool add_by_pairs(glyph_list *list, const subtable *s) {
    uint32_t count;
    if (!cr_read_u32(s->body, 0, &count) || count > MAX_GLYPHS) return false;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t glyph, begin, end;
        cr_bytes data;
        const size_t at = 4 + 4 * (size_t)i;
        if (!cr_read_u16(s->body, at, &glyph) || !cr_read_u16(s->body, at + 2, &begin) ||
            !cr_read_u16(s->body, at + 6, &end) || end < begin || !cr_bytes_slice(s->data, begin, end - begin, &data))
            return false;
        if (!add_glyph(list, data, s->image_format, glyph)) return false;
    }
    return true;
}

/* Formats 2 and 5: data of one size, for a range of glyphs or for a list of them (behind 8 bytes of metrics). */
static bool add_of_one_size(glyph_list *list, const subtable *s) {
    uint32_t size, count = s->last - s->first + 1;
    if (!cr_read_u32(s->body, 0, &size)) return false;
    if (s->format == 5 && (!cr_read_u32(s->body, 12, &count) || count > MAX_GLYPHS)) return false;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t glyph = s->first + i;
        cr_bytes data;
        if (s->format == 5 && !cr_read_u16(s->body, 16 + 2 * (size_t)i, &glyph)) return false;
        if (!cr_bytes_slice(s->data, (size_t)i * size, size, &data) || !add_glyph(list, data, s->image_format, glyph))
            return false;
    }
    return true;
}

static bool add_subtable(glyph_list *list, cr_bytes header, cr_bytes cbdt, uint32_t first, uint32_t last) {
    subtable s = {.first = first, .last = last};
    uint32_t offset;
    if (last < first || !cr_read_u16(header, 0, &s.format) || !cr_read_u16(header, 2, &s.image_format) ||
        !cr_read_u32(header, 4, &offset) || !cr_bytes_slice(header, 8, header.size - 8, &s.body) ||
        offset > cbdt.size || !cr_bytes_slice(cbdt, offset, cbdt.size - offset, &s.data))
        return false;
    switch (s.format) {
    case 1:
    case 3: return add_by_offsets(list, &s);
    case 2:
    case 5: return add_of_one_size(list, &s);
    case 4: return add_by_pairs(list, &s);
    default: return false;
    }
}

/* All subtables of one strike (BitmapSize record). */
static bool add_strike(glyph_list *list, cr_bytes cblc, cr_bytes cbdt, cr_bytes strike) {
    uint32_t offset, count;
    cr_bytes array;
    if (!cr_read_u32(strike, 0, &offset) || !cr_read_u32(strike, 8, &count) || offset > cblc.size ||
        !cr_bytes_slice(cblc, offset, cblc.size - offset, &array))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        const size_t record = (size_t)i * SUBTABLE_RECORD_BYTES;
        uint32_t first, last, where;
        cr_bytes header;
        if (!cr_read_u16(array, record, &first) || !cr_read_u16(array, record + 2, &last) ||
            !cr_read_u32(array, record + 4, &where) || where > array.size ||
            !cr_bytes_slice(array, where, array.size - where, &header) ||
            !add_subtable(list, header, cbdt, first, last))
            return false;
    }
    return true;
}

/* The strike of most pixels per em. */
static bool largest_strike(cr_bytes cblc, cr_bytes *largest) {
    uint32_t count;
    int best = -1;
    if (!cr_read_u32(cblc, 4, &count) || count > MAX_STRIKES) return false;
    for (uint32_t i = 0; i < count; i++) {
        cr_bytes strike;
        if (!cr_bytes_slice(cblc, 8 + (size_t)i * STRIKE_BYTES, STRIKE_BYTES, &strike)) return false;
        if (strike.at[45] > best) { /* ppemY */
            best = strike.at[45];
            *largest = strike;
        }
    }
    return best >= 0;
}

static int by_glyph(const void *a, const void *b) {
    const cr_color_glyph *x = a, *y = b;
    return x->glyph < y->glyph ? -1 : x->glyph > y->glyph;
}

bool cr_sfnt_color_glyphs(cr_bytes font, const char *name, cr_color_glyph **glyphs, int64_t *count) {
    cr_bytes cblc, cbdt, strike;
    glyph_list list = {0};
    *glyphs = NULL;
    *count = 0;
    if (!cr_sfnt_table(font, "CBLC", &cblc) || !cr_sfnt_table(font, "CBDT", &cbdt))
        return cr_fail(CR_ERROR_FORMAT, "%s: not a font with colour bitmaps (no CBLC and CBDT tables), or cut off",
                       name);
    const bool done = largest_strike(cblc, &strike) && add_strike(&list, cblc, cbdt, strike) && list.count > 0;
    if (!done) {
        cr_free(list.at);
        if (list.out_of_memory) return false;
        return cr_fail(CR_ERROR_FORMAT, "%s: the font's index of colour bitmaps is damaged or empty", name);
    }
    qsort(list.at, (size_t)list.count, sizeof *list.at, by_glyph);
    *glyphs = list.at;
    *count = list.count;
    return true;
}
