/* Outlines of TrueType characters, drawn with a linear map. The only user of stb_truetype. */
#ifndef CRESSET_VISION_OUTLINE_H
#define CRESSET_VISION_OUTLINE_H

#include "vision/sfnt.h"

typedef struct cr_outline_font cr_outline_font;

/* Verifies the tables (cr_sfnt_is_sound, glyf outlines, the tables that stb_truetype reads) and takes over `bytes`
 * (from cr_malloc), also where it fails. NULL without an error where the font is no sound TrueType font or lacks one of
 * the characters; NULL and an error where memory is missing. */
cr_outline_font *cr_outline_font_new(uint8_t *bytes, size_t size, const char *characters);
void cr_outline_font_free(cr_outline_font *font);

/* Draws a character into u8 [side, side], 255 where it covers: its box's larger side becomes `height` pixels, turned by
 * `angle` (radians, counter-clockwise), its middle at (x, y). */
typedef struct cr_outline_place {
    double height, angle, x, y;
} cr_outline_place;
bool cr_outline_draw(const cr_outline_font *font, char character, cr_outline_place place, uint8_t *pixels, int side);

#endif
