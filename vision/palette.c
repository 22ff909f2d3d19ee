/* A palette by median cut (Heckbert, "Color image quantization for frame buffer display", 1982) over a histogram of 5
 * bits a channel, and the picture drawn with it. Boxes are split where their colours vary most, as Wu's variance
 * does. */
#include "vision/palette.h"

#include <stdlib.h>
#include <string.h>

enum { BITS = 5, CELLS = 1 << (3 * BITS) };

/* The colours of one cell of the histogram: how many pixels, and their sums. */
typedef struct cell {
    int64_t count, sum[3];
} cell;

typedef struct box {
    cell **cells;
    int count;
    double spread; /* variance times pixels along `axis`, its largest */
    int axis;
} box;

static int cell_of(const uint8_t *pixel) { return (pixel[0] >> 3) << 10 | (pixel[1] >> 3) << 5 | pixel[2] >> 3; }

static double mean_of(const cell *c, int axis) { return (double)c->sum[axis] / (double)c->count; }

static void measure(box *b) {
    b->spread = 0;
    b->axis = 0;
    for (int axis = 0; axis < 3; axis++) {
        double count = 0, sum = 0, squares = 0;
        for (int i = 0; i < b->count; i++) {
            const double mean = mean_of(b->cells[i], axis), pixels = (double)b->cells[i]->count;
            count += pixels;
            sum += pixels * mean;
            squares += pixels * mean * mean;
        }
        const double spread = squares - sum * sum / count;
        if (spread > b->spread) {
            b->spread = spread;
            b->axis = axis;
        }
    }
}

static int by_red(const void *a, const void *b) {
    const double d = mean_of(*(cell *const *)a, 0) - mean_of(*(cell *const *)b, 0);
    return d < 0 ? -1 : d > 0;
}
static int by_green(const void *a, const void *b) {
    const double d = mean_of(*(cell *const *)a, 1) - mean_of(*(cell *const *)b, 1);
    return d < 0 ? -1 : d > 0;
}
static int by_blue(const void *a, const void *b) {
    const double d = mean_of(*(cell *const *)a, 2) - mean_of(*(cell *const *)b, 2);
    return d < 0 ? -1 : d > 0;
}

/* Cuts a box along its axis at the mean; both parts keep at least one cell. */
static box split(box *b) {
    static int (*const orders[3])(const void *, const void *) = {by_red, by_green, by_blue};
    double count = 0, sum = 0;
    qsort(b->cells, (size_t)b->count, sizeof *b->cells, orders[b->axis]);
    for (int i = 0; i < b->count; i++) {
        count += (double)b->cells[i]->count;
        sum += (double)b->cells[i]->sum[b->axis];
    }
    int first = 1;
    while (first < b->count - 1 && mean_of(b->cells[first], b->axis) <= sum / count)
        first++;
    box rest = {.cells = b->cells + first, .count = b->count - first};
    b->count = first;
    measure(b);
    measure(&rest);
    return rest;
}

/* Splits the box of the largest spread until there are enough. Returns how many colours there are. */
static int choose_colors(cell **cells, int count, uint8_t palette[CR_PALETTE_COLORS][3]) {
    box boxes[CR_PALETTE_COLORS] = {{.cells = cells, .count = count}};
    int box_count = 1;
    measure(&boxes[0]);
    while (box_count < CR_PALETTE_COLORS) {
        int widest = -1;
        for (int i = 0; i < box_count; i++)
            if (boxes[i].count > 1 && (widest < 0 || boxes[i].spread > boxes[widest].spread)) widest = i;
        if (widest < 0) break;
        boxes[box_count] = split(&boxes[widest]);
        box_count++;
    }
    for (int i = 0; i < box_count; i++) {
        int64_t pixels = 0, sum[3] = {0};
        for (int k = 0; k < boxes[i].count; k++) {
            pixels += boxes[i].cells[k]->count;
            for (int c = 0; c < 3; c++)
                sum[c] += boxes[i].cells[k]->sum[c];
        }
        for (int c = 0; c < 3; c++) /* every box holds a cell, and every cell a pixel */
            palette[i][c] = (uint8_t)((sum[c] + pixels / 2) / pixels); // NOLINT(clang-analyzer-core.DivideZero)
    }
    return box_count;
}

/* ---------------------------------------------------------------- drawing */
enum { NEAREST_BITS = 6, NEAREST_CELLS = 1 << (3 * NEAREST_BITS) };

/* The colours of a palette, and for each cell of 6 bits a channel the one nearest to its middle, once it is known. */
typedef struct finder {
    const uint8_t (*palette)[3];
    int colors;
    int16_t *nearest; /* [NEAREST_CELLS], -1: not yet known */
} finder;

static int search_nearest(const finder *f, const int rgb[3]) {
    int best = 0, best_distance = INT32_MAX;
    for (int i = 0; i < f->colors; i++) {
        const int r = f->palette[i][0] - rgb[0], g = f->palette[i][1] - rgb[1], b = f->palette[i][2] - rgb[2];
        const int distance = r * r + g * g + b * b;
        if (distance < best_distance) {
            best_distance = distance;
            best = i;
        }
    }
    return best;
}

static int nearest(const finder *f, const int rgb[3]) {
    int16_t *known = &f->nearest[(rgb[0] >> 2) << 12 | (rgb[1] >> 2) << 6 | rgb[2] >> 2];
    const int middle[3] = {(rgb[0] & ~3) + 2, (rgb[1] & ~3) + 2, (rgb[2] & ~3) + 2};
    if (*known < 0) *known = (int16_t)search_nearest(f, middle);
    return *known;
}

static int clamp(int value) { return value < 0 ? 0 : value > 255 ? 255 : value; }

/* Each pixel's nearest colour. What is missing goes on to the right (7/16) and below (3, 5, 1 of 16): `errors` holds
 * two rows of (width + 2) x 3, in sixteenths. */
static void draw(const cr_image *image, bool dither, const finder *colors, int *errors, uint8_t *indices) {
    const size_t row_length = 3 * ((size_t)image->width + 2);
    for (int y = 0; y < image->height; y++) {
        int *here = errors + (size_t)(y % 2) * row_length + 3, *below = errors + (size_t)((y + 1) % 2) * row_length + 3;
        memset(below - 3, 0, row_length * sizeof *below);
        for (int x = 0; x < image->width; x++) {
            const size_t at = (size_t)y * (size_t)image->width + (size_t)x;
            int rgb[3];
            for (int c = 0; c < 3; c++)
                rgb[c] = clamp(image->pixels[3 * at + (size_t)c] + (dither ? here[3 * x + c] / 16 : 0));
            const int index = nearest(colors, rgb);
            indices[at] = (uint8_t)index;
            for (int c = 0; dither && c < 3; c++) {
                const int missing = rgb[c] - colors->palette[index][c];
                here[3 * (x + 1) + c] += 7 * missing;
                below[3 * (x - 1) + c] += 3 * missing;
                below[3 * x + c] += 5 * missing;
                below[3 * (x + 1) + c] += missing;
            }
        }
    }
}

/* True and a palette of the image's own colours where those are at most 256. */
static bool keep_colors(const cr_image *image, uint8_t palette[CR_PALETTE_COLORS][3], uint8_t *indices) {
    int colors = 0, last = 0;
    const int64_t count = (int64_t)image->width * image->height;
    for (int64_t i = 0; i < count; i++) {
        const uint8_t *pixel = image->pixels + 3 * i;
        int found = colors > 0 && memcmp(palette[last], pixel, 3) == 0 ? last : 0;
        while (found < colors && memcmp(palette[found], pixel, 3) != 0)
            found++;
        if (found == CR_PALETTE_COLORS) return false;
        if (found == colors) memcpy(palette[colors++], pixel, 3);
        indices[i] = (uint8_t)(last = found);
    }
    return true;
}

/* Fills the histogram and the list of its cells that are in use; returns how many. */
static int count_colors(const cr_image *image, cell *histogram, cell **used) {
    int used_count = 0;
    const int64_t count = (int64_t)image->width * image->height;
    for (int64_t i = 0; i < count; i++) {
        cell *c = &histogram[cell_of(image->pixels + 3 * i)];
        if (c->count++ == 0) used[used_count++] = c;
        for (int k = 0; k < 3; k++)
            c->sum[k] += image->pixels[3 * i + k];
    }
    return used_count;
}

bool cr_palette_make(const cr_image *image, bool dither, uint8_t palette[CR_PALETTE_COLORS][3], uint8_t *indices) {
    memset(palette, 0, 3 * CR_PALETTE_COLORS);
    if (keep_colors(image, palette, indices)) return true;
    memset(palette, 0, 3 * CR_PALETTE_COLORS);
    cell *histogram = cr_calloc(CELLS, sizeof *histogram);
    cell **used = histogram ? cr_malloc(CELLS * sizeof *used) : NULL;
    int16_t *known = used ? cr_malloc(NEAREST_CELLS * sizeof *known) : NULL;
    int *errors = known ? cr_calloc(6 * ((size_t)image->width + 2), sizeof *errors) : NULL;
    if (errors) {
        memset(known, 0xff, NEAREST_CELLS * sizeof *known);
        const int colors = choose_colors(used, count_colors(image, histogram, used), palette);
        const finder found = {(const uint8_t(*)[3])palette, colors, known};
        draw(image, dither, &found, errors, indices);
    }
    const bool done = errors != NULL;
    cr_free(errors);
    cr_free(known);
    cr_free(used);
    cr_free(histogram);
    return done;
}
