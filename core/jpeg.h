/* JPEG through libjpeg-turbo, about twice as fast as stb; only where the build has it (CRESSET_LIBJPEG). */
#ifndef CRESSET_CORE_JPEG_H
#define CRESSET_CORE_JPEG_H

#include "core/image.h"

/* Decodes a JPEG whose container was checked, with cr_image_decode's `channels`. Returns true with image->pixels NULL
 * for what stays with stb: four components (CMYK, YCCK), and grey with alpha. */
bool cr_jpeg_decode(const uint8_t *bytes, size_t size, int channels, const char *name, cr_image *image);

#endif
