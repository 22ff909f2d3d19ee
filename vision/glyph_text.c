/* Reads the characters of glyphs out of a font: cmap's groups, and GSUB's ligatures of glyphs that cmap names.
 * OpenType specification: "cmap" (format 12), "GSUB" (lookup types 4 and 7), "Coverage Table". */
#include "vision/glyph_text.h"

/* Numbers at an offset; what lies outside of the table reads as 0 and marks it as damaged. */
typedef struct reader {
    cr_bytes table;
    int64_t work_left; /* offsets may overlap: ends a font that was made to take for ever */
    bool is_damaged;
} reader;

static uint32_t u16(reader *r, size_t offset) {
    uint32_t value = 0;
    if (!cr_read_u16(r->table, offset, &value)) r->is_damaged = true;
    return value;
}
static uint32_t u32(reader *r, size_t offset) {
    uint32_t value = 0;
    if (!cr_read_u32(r->table, offset, &value)) r->is_damaged = true;
    return value;
}

/* True while the table is sound; called once for each thing in it. */
static bool goes_on(reader *r) {
    if (--r->work_left < 0) r->is_damaged = true;
    return !r->is_damaged;
}

/* ---------------------------------------------------------------- cmap */
/* A subtable of format 12: groups of code points with consecutive glyphs. */
static void read_groups(reader *r, size_t at, cr_glyph_text *texts) {
    const uint32_t groups = u32(r, at + 12);
    for (uint32_t i = 0; i < groups && goes_on(r); i++) {
        const size_t group = at + 16 + 12 * (size_t)i;
        const uint32_t first = u32(r, group), last = u32(r, group + 4), glyph = u32(r, group + 8);
        if (last < first || last > 0x10ffff || glyph >= CR_GLYPH_TEXTS || last - first >= CR_GLYPH_TEXTS - glyph)
            r->is_damaged = true;
        for (uint32_t k = 0; k <= last - first && goes_on(r); k++)
            if (texts[glyph + k].count == 0) texts[glyph + k] = (cr_glyph_text){{first + k}, 1};
    }
}

static void read_cmap(reader *r, cr_glyph_text *texts) {
    const uint32_t count = u16(r, 2);
    for (uint32_t i = 0; i < count && goes_on(r); i++) {
        const size_t at = u32(r, 8 + 8 * (size_t)i);
        if (u16(r, at) != 12) continue;
        read_groups(r, at, texts);
        return;
    }
}

/* ---------------------------------------------------------------- GSUB */
/* The glyph at place `index` of a coverage table. */
static uint32_t covered(reader *r, size_t at, uint32_t index) {
    const uint32_t format = u16(r, at), count = u16(r, at + 2);
    if (format == 1 && index < count) return u16(r, at + 4 + 2 * (size_t)index);
    for (uint32_t i = 0; format == 2 && i < count && goes_on(r); i++) {
        const size_t range = at + 4 + 6 * (size_t)i;
        const uint32_t first = u16(r, range), last = u16(r, range + 2), start = u16(r, range + 4);
        if (index >= start && last >= first && index - start <= last - first) return first + index - start;
    }
    r->is_damaged = true;
    return 0;
}

static bool append(cr_glyph_text *text, const cr_glyph_text *component) {
    if (component->count != 1 || text->count == CR_GLYPH_TEXT_LENGTH) return false;
    text->at[text->count++] = component->at[0];
    return true;
}

/* Ligature: its glyph, the number of components, and the glyphs of all but the first. */
static void read_ligature(reader *r, size_t at, uint32_t first, cr_glyph_text *texts) {
    const uint32_t glyph = u16(r, at), components = u16(r, at + 2);
    cr_glyph_text text = {{0}, 0};
    bool is_known = append(&text, &texts[first]);
    for (uint32_t i = 1; i < components && is_known && goes_on(r); i++)
        is_known = append(&text, &texts[u16(r, at + 2 + 2 * (size_t)i)]);
    if (is_known && !r->is_damaged && texts[glyph].count == 0) texts[glyph] = text;
}

/* LigatureSubst: for each covered first glyph a set of ligatures. */
static void read_ligatures(reader *r, size_t at, cr_glyph_text *texts) {
    const size_t coverage = at + u16(r, at + 2);
    const uint32_t sets = u16(r, at + 4);
    for (uint32_t i = 0; i < sets && goes_on(r); i++) {
        const size_t set = at + u16(r, at + 6 + 2 * (size_t)i);
        const uint32_t first = covered(r, coverage, i), count = u16(r, set);
        for (uint32_t k = 0; k < count && goes_on(r); k++)
            read_ligature(r, set + u16(r, set + 2 + 2 * (size_t)k), first, texts);
    }
}

/* All lookups of type 4, also behind type 7, which only holds a longer offset. */
static void read_gsub(reader *r, cr_glyph_text *texts) {
    enum { LIGATURES = 4, EXTENSION = 7 };
    const size_t list = u16(r, 8);
    const uint32_t lookups = u16(r, list);
    for (uint32_t i = 0; i < lookups && goes_on(r); i++) {
        const size_t lookup = list + u16(r, list + 2 + 2 * (size_t)i);
        const uint32_t type = u16(r, lookup), subtables = u16(r, lookup + 4);
        for (uint32_t k = 0; k < subtables && goes_on(r); k++) {
            const size_t at = lookup + u16(r, lookup + 6 + 2 * (size_t)k);
            if (type == LIGATURES) read_ligatures(r, at, texts);
            if (type == EXTENSION && u16(r, at + 2) == LIGATURES) read_ligatures(r, at + u32(r, at + 4), texts);
        }
    }
}

cr_glyph_text *cr_glyph_texts(cr_bytes font, const char *name) {
    reader cmap = {.work_left = 1 << 22}, gsub = cmap;
    cr_glyph_text *texts = cr_calloc(CR_GLYPH_TEXTS, sizeof *texts);
    if (!texts) return NULL;
    if (cr_sfnt_table(font, "cmap", &cmap.table)) read_cmap(&cmap, texts);
    if (cr_sfnt_table(font, "GSUB", &gsub.table)) read_gsub(&gsub, texts);
    if (!cmap.is_damaged && !gsub.is_damaged) return texts;
    cr_record_error(CR_ERROR_FORMAT, "%s: the font's table %s of characters is damaged", name,
                    cmap.is_damaged ? "cmap" : "GSUB");
    cr_free(texts);
    return NULL;
}
