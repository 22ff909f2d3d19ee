/* Font files (OpenType's sfnt container), read without trust in their bytes. */
#ifndef CRESSET_VISION_SFNT_H
#define CRESSET_VISION_SFNT_H

#include <cresset/core.h>

/* Bytes with an end: every read is checked. */
typedef struct cr_bytes {
    const uint8_t *at;
    size_t size;
} cr_bytes;

/* Big-endian numbers; false (no error recorded) where they would lie behind the end. */
static inline bool cr_read_u16(cr_bytes bytes, size_t offset, uint32_t *value) {
    if (offset > bytes.size || bytes.size - offset < 2) return false;
    *value = (uint32_t)bytes.at[offset] << 8 | bytes.at[offset + 1];
    return true;
}
static inline bool cr_read_u32(cr_bytes bytes, size_t offset, uint32_t *value) {
    if (offset > bytes.size || bytes.size - offset < 4) return false;
    *value = (uint32_t)bytes.at[offset] << 24 | (uint32_t)bytes.at[offset + 1] << 16 |
             (uint32_t)bytes.at[offset + 2] << 8 | bytes.at[offset + 3];
    return true;
}
/* A part of `bytes`. */
static inline bool cr_bytes_slice(cr_bytes bytes, size_t offset, size_t size, cr_bytes *part) {
    if (offset > bytes.size || bytes.size - offset < size) return false;
    *part = (cr_bytes){bytes.at + offset, size};
    return true;
}

/* A font's table by its tag ("CBDT"); false without an error where it is missing or lies outside of the file. */
bool cr_sfnt_table(cr_bytes font, const char tag[4], cr_bytes *table);
/* True where the directory is sound and every table lies in the file with the checksum that the directory states. */
bool cr_sfnt_is_sound(cr_bytes font);

/* One colour bitmap of a CBDT font: a PNG file within the font. */
typedef struct cr_color_glyph {
    uint32_t glyph; /* its number in the font */
    cr_bytes png;
} cr_color_glyph;
/* All PNG bitmaps of a font's largest strike, by glyph number; a list from cr_malloc. False and CR_ERROR_FORMAT where
 * the tables are damaged, or there are none. */
bool cr_sfnt_color_glyphs(cr_bytes font, const char *name, cr_color_glyph **glyphs, int64_t *count);

#endif
