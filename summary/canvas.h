/* A small picture to draw on: anti-aliased strokes in any colour. */
#ifndef CRESSET_SUMMARY_CANVAS_H
#define CRESSET_SUMMARY_CANVAS_H

#include <cresset/core.h>

typedef struct cr_canvas {
    int width, height;
    uint8_t *pixels; /* RGB, rows from the top */
    uint8_t *mask;   /* how much of each pixel the strokes since the last paint cover: 0 … 255 */
    struct {
        int left, top, right, bottom;
    } dirty; /* where the mask may be other than 0; right and bottom are past it */
    struct {
        float left, top, right, bottom;
    } clip; /* strokes leave no mark outside */
} cr_canvas;

typedef struct cr_point {
    float x, y; /* in pixels; (0, 0) is the upper left corner of the upper left pixel */
} cr_point;

/* White. False and an error where the size is unusable or memory is out; cr_canvas_free either way. */
bool cr_canvas_init(cr_canvas *canvas, int width, int height);
void cr_canvas_free(cr_canvas *canvas);
void cr_canvas_clip(cr_canvas *canvas, float left, float top, float right, float bottom);
void cr_canvas_unclip(cr_canvas *canvas);

/* Adds a line with round ends to the mask; a == b makes a dot. Overlapping strokes cover no more than one does, so that
 * joints do not show. */
void cr_canvas_stroke(cr_canvas *canvas, cr_point a, cr_point b, float thickness);
/* Colours what the mask covers, and clears it. color: 0xRRGGBB; opacity 0 … 1. */
void cr_canvas_paint(cr_canvas *canvas, uint32_t color, float opacity);

#endif
