/* Text in strokes: a small font of our own, at any size. */
#ifndef CRESSET_SUMMARY_FONT_H
#define CRESSET_SUMMARY_FONT_H

#include "summary/canvas.h"

typedef struct cr_text_style {
    float height;    /* of a capital letter, in pixels */
    float thickness; /* of the strokes; 0: an eighth of the height */
    bool is_upright; /* turned by 90 degrees: it reads from bottom to top */
} cr_text_style;

/* Pixels from the first character's left to the last one's right. */
float cr_text_width(const char *text, cr_text_style style);
/* Adds the text to the canvas's mask; `at` is where its baseline begins. Characters outside ASCII show as boxes. */
void cr_text_stroke(cr_canvas *canvas, const char *text, cr_point at, cr_text_style style);

#endif
