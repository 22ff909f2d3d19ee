/* Decoding JPEG through libjpeg-turbo. Its errors leave by longjmp and become ours; it prints nothing and ends nothing.
 * What it allocates for itself is a few rows, or for progressive pictures their coefficients: six bytes a pixel. */
#include "core/jpeg.h"

#ifdef CRESSET_HAS_LIBJPEG
#include <setjmp.h>
#include <stdio.h>

#include <jpeglib.h>

#include <jerror.h> /* which is no header by itself */

/* A progressive picture has some ten scans, and each may cost a pass over all its coefficients. */
enum { MAX_SCANS = 500, ROWS_AT_ONCE = 16 };

typedef struct decoder {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf failed;
    bool has_many_scans;
} decoder;

static void leave(j_common_ptr jpeg) { longjmp(((decoder *)jpeg->client_data)->failed, 1); }

/* Warnings (level -1): codes that no table has, and data that end, mean damage; others are read over, as stb does. */
static void judge(j_common_ptr jpeg, int level) {
    const int code = jpeg->err->msg_code;
    if (level < 0 && (code == JWRN_HUFF_BAD_CODE || code == JWRN_JPEG_EOF)) leave(jpeg);
}

static void print_nothing(j_common_ptr jpeg) { (void)jpeg; }

static void count_scans(j_common_ptr jpeg) {
    decoder *d = jpeg->client_data;
    d->has_many_scans = d->jpeg.input_scan_number > MAX_SCANS;
    if (d->has_many_scans) leave(jpeg);
}

static void begin(decoder *d) {
    d->jpeg.err = jpeg_std_error(&d->errors);
    d->errors.error_exit = leave;
    d->errors.emit_message = judge;
    d->errors.output_message = print_nothing;
    d->progress.progress_monitor = count_scans;
    d->jpeg.client_data = d;
}

static bool fail(decoder *d, const char *name) {
    char text[JMSG_LENGTH_MAX];
    if (d->has_many_scans) return cr_fail(CR_ERROR_FORMAT, "%s: more than %d scans", name, (int)MAX_SCANS);
    d->errors.format_message((j_common_ptr)&d->jpeg, text);
    return cr_fail(d->errors.msg_code == JERR_OUT_OF_MEMORY ? CR_ERROR_MEMORY : CR_ERROR_FORMAT,
                   "%s: cannot be decoded: %s", name, text);
}

/* All rows into image->pixels. */
static void read_rows(struct jpeg_decompress_struct *jpeg, cr_image *image) {
    const size_t row_bytes = (size_t)image->width * (size_t)image->channels;
    jpeg_start_decompress(jpeg);
    for (JDIMENSION y; (y = jpeg->output_scanline) < jpeg->output_height;) {
        JSAMPROW rows[ROWS_AT_ONCE];
        JDIMENSION count = 0;
        for (; count < ROWS_AT_ONCE && y + count < jpeg->output_height; count++)
            rows[count] = image->pixels + (y + count) * row_bytes;
        jpeg_read_scanlines(jpeg, rows, count);
    }
}

static bool decode(decoder *d, const uint8_t *bytes, size_t size, int channels, const char *name, cr_image *image) {
    static const J_COLOR_SPACE spaces[] = {[1] = JCS_GRAYSCALE, [3] = JCS_RGB, [4] = JCS_EXT_RGBA};
    struct jpeg_decompress_struct *jpeg = &d->jpeg;
    jpeg_create_decompress(jpeg);
    jpeg->progress = &d->progress;
    jpeg_mem_src(jpeg, bytes, size);
    jpeg_read_header(jpeg, TRUE);
    if (!cr_image_check_size(jpeg->image_width, jpeg->image_height, name)) return false;
    if (channels == 0) channels = jpeg->num_components == 1 ? 1 : 3;
    if ((jpeg->num_components != 1 && jpeg->num_components != 3) || channels == 2) return true;
    jpeg->out_color_space = spaces[channels];
    *image = (cr_image){(int)jpeg->image_width, (int)jpeg->image_height, channels, NULL};
    image->pixels = cr_malloc((size_t)image->width * (size_t)image->height * (size_t)channels);
    if (!image->pixels) return false;
    read_rows(jpeg, image);
    return true;
}

/* A frame of its own, in which nothing changes between setjmp and longjmp. */
static bool attempt(decoder *d, const uint8_t *bytes, size_t size, int channels, const char *name, cr_image *image) {
    return setjmp(d->failed) == 0 ? decode(d, bytes, size, channels, name, image) : fail(d, name);
}

bool cr_jpeg_decode(const uint8_t *bytes, size_t size, int channels, const char *name, cr_image *image) {
    decoder d = {.has_many_scans = false};
    begin(&d);
    const bool done = attempt(&d, bytes, size, channels, name, image);
    jpeg_destroy_decompress(&d.jpeg);
    if (!done) cr_image_free(image);
    return done;
}
#endif
