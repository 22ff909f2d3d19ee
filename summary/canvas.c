/* Strokes by distance: a pixel is covered as far as its centre lies inside the line's half thickness, with one pixel of
 * falloff. A mask gathers strokes (the greatest coverage wins) before they are coloured at once. */
#include "summary/canvas.h"

#include "core/image.h"

#include <math.h>
#include <string.h>

bool cr_canvas_init(cr_canvas *canvas, int width, int height) {
    *canvas = (cr_canvas){.width = width, .height = height};
    if (!cr_image_check_size(width, height, "plot")) return false;
    const size_t pixels = (size_t)width * (size_t)height;
    canvas->pixels = cr_malloc(3 * pixels);
    canvas->mask = canvas->pixels ? cr_calloc(pixels, 1) : NULL;
    if (!canvas->mask) return false;
    memset(canvas->pixels, 0xff, 3 * pixels);
    canvas->dirty.left = width;
    canvas->dirty.top = height;
    cr_canvas_unclip(canvas);
    return true;
}

void cr_canvas_free(cr_canvas *canvas) {
    cr_free(canvas->pixels);
    cr_free(canvas->mask);
    *canvas = (cr_canvas){0};
}

void cr_canvas_clip(cr_canvas *canvas, float left, float top, float right, float bottom) {
    canvas->clip.left = fmaxf(left, 0);
    canvas->clip.top = fmaxf(top, 0);
    canvas->clip.right = fminf(right, (float)canvas->width);
    canvas->clip.bottom = fminf(bottom, (float)canvas->height);
}

void cr_canvas_unclip(cr_canvas *canvas) { cr_canvas_clip(canvas, 0, 0, (float)canvas->width, (float)canvas->height); }

/* Distance from p to the line from a to b. */
static float distance_to(cr_point p, cr_point a, cr_point b) {
    const float dx = b.x - a.x, dy = b.y - a.y, length_squared = dx * dx + dy * dy;
    const float along = length_squared > 0 ? ((p.x - a.x) * dx + (p.y - a.y) * dy) / length_squared : 0;
    const float nearest = fminf(1, fmaxf(0, along));
    return hypotf(p.x - a.x - nearest * dx, p.y - a.y - nearest * dy);
}

static void cover(cr_canvas *canvas, int x, int y, float coverage) {
    const uint8_t level = (uint8_t)(255 * fminf(1, coverage) + 0.5f);
    uint8_t *mask = &canvas->mask[(size_t)y * (size_t)canvas->width + (size_t)x];
    if (level > *mask) *mask = level;
}

void cr_canvas_stroke(cr_canvas *canvas, cr_point a, cr_point b, float thickness) {
    const float reach = thickness / 2 + 0.5f;
    const int left = (int)floorf(fmaxf(canvas->clip.left, fminf(a.x, b.x) - reach));
    const int top = (int)floorf(fmaxf(canvas->clip.top, fminf(a.y, b.y) - reach));
    const int right = (int)ceilf(fminf(canvas->clip.right, fmaxf(a.x, b.x) + reach));
    const int bottom = (int)ceilf(fminf(canvas->clip.bottom, fmaxf(a.y, b.y) + reach));
    for (int y = top; y < bottom; y++) {
        for (int x = left; x < right; x++) {
            const float coverage = reach - distance_to((cr_point){(float)x + 0.5f, (float)y + 0.5f}, a, b);
            if (coverage > 0) cover(canvas, x, y, coverage);
        }
    }
    if (left >= right || top >= bottom) return;
    if (left < canvas->dirty.left) canvas->dirty.left = left;
    if (top < canvas->dirty.top) canvas->dirty.top = top;
    if (right > canvas->dirty.right) canvas->dirty.right = right;
    if (bottom > canvas->dirty.bottom) canvas->dirty.bottom = bottom;
}

void cr_canvas_paint(cr_canvas *canvas, uint32_t color, float opacity) {
    const float channels[3] = {(float)(color >> 16 & 0xff), (float)(color >> 8 & 0xff), (float)(color & 0xff)};
    for (int y = canvas->dirty.top; y < canvas->dirty.bottom; y++) {
        for (int x = canvas->dirty.left; x < canvas->dirty.right; x++) {
            const size_t place = (size_t)y * (size_t)canvas->width + (size_t)x;
            const float share = opacity * (float)canvas->mask[place] / 255;
            uint8_t *pixel = &canvas->pixels[3 * place];
            for (int c = 0; c < 3; c++)
                pixel[c] = (uint8_t)((float)pixel[c] + share * (channels[c] - (float)pixel[c]) + 0.5f);
            canvas->mask[place] = 0;
        }
    }
    canvas->dirty.left = canvas->width;
    canvas->dirty.top = canvas->height;
    canvas->dirty.right = canvas->dirty.bottom = 0;
}
