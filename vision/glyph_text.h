/* Which characters a font draws each of its glyphs for. */
#ifndef CRESSET_VISION_GLYPH_TEXT_H
#define CRESSET_VISION_GLYPH_TEXT_H

#include "vision/sfnt.h"

enum { CR_GLYPH_TEXT_LENGTH = 15, CR_GLYPH_TEXTS = 65536 };

/* One code point (cmap), or those that are drawn as one (GSUB's ligatures): U+1F44D U+1F3FD is thumbs up, tinted. */
typedef struct cr_glyph_text {
    uint32_t at[CR_GLYPH_TEXT_LENGTH];
    uint32_t count; /* 0: the font does not tell */
} cr_glyph_text;

/* For each glyph number up to 65535, from cr_calloc. NULL and CR_ERROR_FORMAT where the tables are damaged. */
cr_glyph_text *cr_glyph_texts(cr_bytes font, const char *name);

#endif
