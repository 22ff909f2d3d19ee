/* Animated GIFs through giflib, written to a temporary file that takes the path when all is well. */
#include "core/file.h"
#include "core/image.h"
#include "vision/image.h"
#include "vision/palette.h"

#include <math.h>
#include <string.h>

#ifdef CRESSET_HAS_IMAGES
#include <gif_lib.h>

struct cr_vision_gif {
    cr_vision_gif_options options;
    cr_file_writer *writer;
    GifFileType *file;
    int width, height; /* 0 until the first image */
    bool failed;
};

static int write_bytes(GifFileType *file, const GifByteType *bytes, int count) {
    cr_vision_gif *gif = file->UserData;
    return count > 0 && cr_file_writer_write(gif->writer, bytes, (size_t)count) ? count : 0;
}

static bool gif_failed(cr_vision_gif *gif, int code) {
    const char *text = GifErrorString(code);
    gif->failed = true;
    return cr_fail(CR_ERROR_IO, "gif: %s", text ? text : "cannot be written");
}

cr_vision_gif *cr_vision_gif_begin_with(const char *path, const cr_vision_gif_options *given) {
    cr_vision_gif_options options = {.delay = 0.1, .dither = true};
    CR_VISION_TAKE_OPTIONS(options, given);
    if (!(options.delay >= 0 && options.delay <= 600) || options.loops < 0 || options.loops > 65535) {
        cr_record_error(CR_ERROR_ARGUMENT, "gif: delay %g s (0 to 600), %d loops (0 to 65535)", options.delay,
                        options.loops);
        return NULL;
    }
    cr_vision_gif *gif = cr_calloc(1, sizeof *gif);
    if (!gif) return NULL;
    int code = 0;
    gif->options = options;
    gif->writer = cr_file_writer_begin(path);
    gif->file = gif->writer ? EGifOpen(gif, write_bytes, &code) : NULL;
    if (gif->file) {
        EGifSetGifVersion(gif->file, true); /* GIF89a */
        return gif;
    }
    if (gif->writer) gif_failed(gif, code);
    cr_file_writer_abandon(gif->writer);
    cr_free(gif);
    return NULL;
}

/* The screen's size, and Netscape's extension that repeats the images. */
static bool write_header(cr_vision_gif *gif, const cr_image *image) {
    const uint8_t loops[3] = {1, (uint8_t)(gif->options.loops & 255), (uint8_t)(gif->options.loops >> 8)};
    gif->width = image->width;
    gif->height = image->height;
    return EGifPutScreenDesc(gif->file, image->width, image->height, 8, 0, NULL) == GIF_OK &&
           EGifPutExtensionLeader(gif->file, APPLICATION_EXT_FUNC_CODE) == GIF_OK &&
           EGifPutExtensionBlock(gif->file, 11, "NETSCAPE2.0") == GIF_OK &&
           EGifPutExtensionBlock(gif->file, 3, loops) == GIF_OK && EGifPutExtensionTrailer(gif->file) == GIF_OK;
}

static bool write_frame(cr_vision_gif *gif, const uint8_t palette[CR_PALETTE_COLORS][3], uint8_t *indices) {
    const int delay = (int)lround(gif->options.delay * 100); /* hundredths of a second */
    const uint8_t control[4] = {1 << 2, (uint8_t)(delay & 255), (uint8_t)(delay >> 8),
                                0}; /* stays when the next comes */
    GifColorType colors[CR_PALETTE_COLORS];
    for (int i = 0; i < CR_PALETTE_COLORS; i++)
        colors[i] = (GifColorType){palette[i][0], palette[i][1], palette[i][2]};
    ColorMapObject *map = GifMakeMapObject(CR_PALETTE_COLORS, colors);
    bool done = map && EGifPutExtension(gif->file, GRAPHICS_EXT_FUNC_CODE, 4, control) == GIF_OK &&
                EGifPutImageDesc(gif->file, 0, 0, gif->width, gif->height, false, map) == GIF_OK;
    for (int y = 0; y < gif->height && done; y++)
        done = EGifPutLine(gif->file, indices + (size_t)y * (size_t)gif->width, gif->width) == GIF_OK;
    GifFreeMapObject(map);
    return done;
}

/* Grey to RGB, in place of the image. */
static bool make_rgb(cr_image *image) {
    const int64_t count = (int64_t)image->width * image->height;
    if (image->channels == 3) return true;
    if (image->channels != 1)
        return cr_fail(CR_ERROR_SHAPE, "gif: an image of 1 or 3 channels is needed, it has %d", image->channels);
    uint8_t *pixels = cr_malloc(3 * (size_t)count);
    if (!pixels) return false;
    for (int64_t i = 0; i < 3 * count; i++)
        pixels[i] = image->pixels[i / 3];
    cr_free(image->pixels);
    image->pixels = pixels;
    image->channels = 3;
    return true;
}

static bool add_image(cr_vision_gif *gif, cr_image *image) {
    uint8_t palette[CR_PALETTE_COLORS][3];
    if (!make_rgb(image)) return false;
    if (gif->width && (gif->width != image->width || gif->height != image->height))
        return cr_fail(CR_ERROR_SHAPE, "gif: an image of %d x %d among images of %d x %d", image->width, image->height,
                       gif->width, gif->height);
    uint8_t *indices = cr_malloc((size_t)image->width * (size_t)image->height);
    bool done = indices && cr_palette_make(image, gif->options.dither, palette, indices);
    if (done)
        done = (gif->width || write_header(gif, image)) && write_frame(gif, (const uint8_t(*)[3])palette, indices);
    if (!done) gif_failed(gif, gif->file->Error);
    cr_free(indices);
    return done;
}

bool cr_vision_gif_add(cr_vision_gif *gif, const cr_tensor *image) {
    cr_image pixels;
    if (!gif) return cr_ok() ? cr_fail(CR_ERROR_ARGUMENT, "gif: NULL") : false;
    const bool done = cr_image_from_tensor(image, &pixels) && add_image(gif, &pixels);
    cr_image_free(&pixels);
    if (!done) gif->failed = true;
    return done;
}

bool cr_vision_gif_end(cr_vision_gif *gif) {
    if (!gif) return cr_ok() ? cr_fail(CR_ERROR_ARGUMENT, "gif: NULL") : false;
    int code = 0;
    bool done = !gif->failed;
    if (done && gif->width == 0) done = cr_fail(CR_ERROR_STATE, "gif: it holds no image");
    if (EGifCloseFile(gif->file, &code) != GIF_OK && done) done = gif_failed(gif, code);
    if (done)
        done = cr_file_writer_commit(gif->writer);
    else
        cr_file_writer_abandon(gif->writer);
    cr_free(gif);
    return done;
}

#else
cr_vision_gif *cr_vision_gif_begin_with(const char *path, const cr_vision_gif_options *given) {
    (void)path, (void)given;
    cr_record_error(CR_ERROR_UNSUPPORTED, "this build cannot write GIFs: build with giflib (CRESSET_IMAGES)");
    return NULL;
}
bool cr_vision_gif_add(cr_vision_gif *gif, const cr_tensor *image) { return (void)gif, (void)image, false; }
bool cr_vision_gif_end(cr_vision_gif *gif) { return (void)gif, false; }
#endif
