/* 256 colours for a picture. */
#ifndef CRESSET_VISION_PALETTE_H
#define CRESSET_VISION_PALETTE_H

#include "core/image.h"

enum { CR_PALETTE_COLORS = 256 };

/* Chooses colours for an RGB image by median cut and writes each pixel's place in the palette; `dither` spreads the
 * error (Floyd and Steinberg). An image of at most 256 colours keeps every one. False where memory is missing. */
bool cr_palette_make(const cr_image *image, bool dither, uint8_t palette[CR_PALETTE_COLORS][3], uint8_t *indices);

#endif
