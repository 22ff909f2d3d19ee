/* A stroke font for ASCII, drawn for Cresset.
 *
 * A glyph is text: its width, then strokes. A stroke begins with its kind, `-` straight lines, `~` a smooth curve
 * through the points, `@` a smooth closed one, and goes on with points of two characters: x is 0 … 9, A … F; y is a
 * letter, e on the baseline, m the height of small letters (8), q that of capitals (12), a the depth of descenders
 * (-4). */
#include "summary/font.h"

#include <math.h>
#include <string.h>

enum { CAPITAL = 12, SPACING = 3, MOST_POINTS = 24, PIECES = 8 };

/* clang-format off */
#define BOWL "@3e1f0h0j1l3m4m6l7j7h6f4e"
static const char *const glyphs[] = {
    /*   */ "4", /* ! */ "0-0q0i-0e", /* " */ "3-0q0n-3q3n", /* # */ "9-2e4q-5e7q-0i8i-1m9m",
    /* $ */ "8~8o6q3q1p0n1l4k7j8h7f5e2e0g-4r4d", /* % */ "A@2q0p0n2m4n4p@8i6h6f8eAfAh-1e9q",
    /* & */ "9~9e3m2o3q5q6o5m1j0h1f3e6f8h9j", /* ' */ "0-0q0n", /* ( */ "3~3r1o0l0i1f3c", /* ) */ "3~0r2o3l3i2f0c",
    /* * */ "6-3q3k-0p6l-6p0l", /* + */ "8-4f4n-0j8j", /* , */ "1-1f1e0c", /* - */ "4-0i4i", /* . */ "0-0e",
    /* / */ "5-0c5q", /* 0 */ "8@4e1f0i0m1p4q7p8m8i7f", /* 1 */ "6-0o3q3e-0e6e", /* 2 */ "7~0n1p3q5q7o7m5j2g0e-0e7e",
    /* 3 */ "7~0o2q5q7o7m5k2k~2k5k7i7g5e2e0g", /* 4 */ "8-6e6q0h8h", /* 5 */ "7-6q1q1k~1k3l5l7j7g5e2e0g",
    /* 6 */ "7~6p4q2p1n0j0h1f3e5e7g7i5k3k1j0h", /* 7 */ "7-0q7q2e",
    /* 8 */ "7@3k1l0n1p3q4q6p7n6l4k@3k1j0h1f3e4e6f7h6j4k", /* 9 */ "7~1f3e5f6h7l7n6p4q2q0o0m2k4k6l7n",
    /* : */ "0-0e-0l", /* ; */ "1-1l-1f1e0c", /* < */ "8-8n0j8f", /* = */ "8-0h8h-0l8l", /* > */ "8-0n8j0f",
    /* ? */ "6~0n1p3q5p6n5l3j3h-3e", /* @ */ "A~9f6e3f0j0m3q7qAnAk9i8i7j7m@5i4j4l5m7l7j", /* A */ "A-0e5qAe-2i8i",
    /* B */ "8-4q0q0e4e-0k4k~4q6p7n6l4k~4k7j8h7f4e", /* C */ "9~9n7q4q2p0m0i2f4e7e9h", /* D */ "9-4q0q0e4e~4q7p9m9i7f4e",
    /* E */ "7-7q0q0e7e-0k6k", /* F */ "7-7q0q0e-0k6k", /* G */ "9~9n7q4q2p0m0i2f4e7e9g-9g9k5k",
    /* H */ "8-0e0q-8e8q-0k8k", /* I */ "0-0e0q", /* J */ "5-5q5h~5h5f3e1e0f", /* K */ "8-0e0q-8q0i-3l8e",
    /* L */ "6-0q0e6e", /* M */ "A-0e0q5gAqAe", /* N */ "8-0e0q8e8q", /* O */ "A@5e2f0i0m2p5q8pAmAi8f",
    /* P */ "8-4q0q0e-0k4k~4q7p8n7l4k", /* Q */ "A@5e2f0i0m2p5q8pAmAi8f-6hAc", /* R */ "8-4q0q0e-0k4k8e~4q7p8n7l4k",
    /* S */ "8~8o6q3q1p0n1l4k7j8h7f5e2e0g", /* T */ "8-0q8q-4q4e", /* U */ "8-0q0h~0h1f3e5e7f8h-8h8q", /* V */ "A-0q5eAq",
    /* W */ "C-0q3e6q9eCq", /* X */ "8-0e8q-0q8e", /* Y */ "8-0q4k8q-4k4e", /* Z */ "8-0q8q0e8e", /* [ */ "3-3r0r0c3c",
    /* \ */ "5-0q5c", /* ] */ "3-0r3r3c0c", /* ^ */ "6-0m3q6m", /* _ */ "8-0c8c", /* ` */ "2-0q2o",
    /* a */ "6~0l2m4m6k6j-6j6e~6i2i0h0f2e4e6g", /* b */ ("7-0e0q" BOWL), /* c */ "6~6l4m3m1l0j0h1f3e4e6f", /* d */ ("7-7e7q" BOWL),
    /* e */ "7-0i7i~7i7j6l4m3m1l0j0h1f3e5e7f", /* f */ "5~5q3q2o2m-2m2e-0m4m", /* g */ ("7-7m7d~7d6b4a3a1b" BOWL),
    /* h */ "6-0e0q~0j1l3m5l6j-6j6e", /* i */ "0-0e0m-0p", /* j */ "2-2m2c~2c1b0a-2p", /* k */ "6-0e0q-6m0h-2j6e",
    /* l */ "0-0e0q", /* m */ "A-0e0m~0j1l3m4l5j-5j5e~5j6l8m9lAj-AjAe", /* n */ "6-0e0m~0j1l3m5l6j-6j6e", /* o */ ("7" BOWL),
    /* p */ ("7-0a0m" BOWL), /* q */ ("7-7a7m" BOWL), /* r */ "4-0e0m~0i1l3m4m", /* s */ "6~6l4m2m0k2i4i6g4e2e0f",
    /* t */ "5-2p2h~2h3e5e-0m4m", /* u */ "6-0m0h~0h1f3e5f6h-6m6e", /* v */ "6-0m3e6m", /* w */ "A-0m2e5m8eAm",
    /* x */ "6-0e6m-0m6e", /* y */ "6-0m3f-6m1a", /* z */ "6-0m6m0e6e", /* { */ "4~4r2q2n2l0j~0j2h2f2d4c", /* | */ "0-0r0c",
    /* } */ "4~0r2q2n2l4j~4j2h2f2d0c", /* ~ */ "8~0i2k4j6i8k",
};
/* clang-format on */
static const char unknown_glyph[] = "6-0e6e6q0q0e";

/* The glyph of the character at `text`, and its bytes. */
static const char *glyph_at(const char *text, int *bytes) {
    const unsigned char first = (unsigned char)*text;
    *bytes = 1;
    if (first >= 0x80)
        while (((unsigned char)text[*bytes] & 0xc0) == 0x80)
            ++*bytes;
    return first >= ' ' && first <= '~' ? glyphs[first - ' '] : unknown_glyph;
}

static int digit_of(char c) { return c <= '9' ? c - '0' : c - 'A' + 10; }

static float unit_of(cr_text_style style) { return style.height / CAPITAL; }

float cr_text_width(const char *text, cr_text_style style) {
    int units = 0;
    for (int bytes; *text; text += bytes)
        units += digit_of(glyph_at(text, &bytes)[0]) + SPACING;
    return (float)(units ? units - SPACING : 0) * unit_of(style);
}

/* ---------------------------------------------------------------- drawing */

typedef struct pen {
    cr_canvas *canvas;
    cr_text_style style;
    cr_point origin; /* of the glyph, in pixels */
    cr_point last;   /* in units */
} pen;

static cr_point to_pixels(const pen *p, cr_point at) {
    const float unit = unit_of(p->style);
    if (p->style.is_upright) return (cr_point){p->origin.x - at.y * unit, p->origin.y - at.x * unit};
    return (cr_point){p->origin.x + at.x * unit, p->origin.y - at.y * unit};
}

static void draw_to(pen *p, cr_point next) {
    const float thickness = p->style.thickness > 0 ? p->style.thickness : p->style.height / 8;
    cr_canvas_stroke(p->canvas, to_pixels(p, p->last), to_pixels(p, next), thickness);
    p->last = next;
}

/* The piece of a curve between points b and c, whose neighbours are a and d: a cubic with the tangents (c - a) / 2 and
 * (d - b) / 2 (Catmull and Rom, 1974), a little longer so that eight points make a round circle. */
static void draw_piece(pen *p, cr_point a, cr_point b, cr_point c, cr_point d) {
    const float reach = 0.55f;
    for (int i = 1; i <= PIECES; i++) {
        const float t = (float)i / PIECES, t2 = t * t, t3 = t2 * t;
        const float at_b = 2 * t3 - 3 * t2 + 1, at_c = 3 * t2 - 2 * t3;
        const float from_b = reach * (t3 - 2 * t2 + t), from_c = reach * (t3 - t2);
        draw_to(p, (cr_point){at_b * b.x + at_c * c.x + from_b * (c.x - a.x) + from_c * (d.x - b.x),
                              at_b * b.y + at_c * c.y + from_b * (c.y - a.y) + from_c * (d.y - b.y)});
    }
}

static void draw_stroke(pen *p, char kind, const cr_point *points, int count) {
    p->last = points[0];
    if (count == 1) draw_to(p, points[0]);
    const int pieces = kind == '@' ? count : count - 1;
    for (int i = 0; i < pieces; i++) {
        const int next = (i + 1) % count;
        if (kind == '-') {
            draw_to(p, points[next]);
            continue;
        }
        const bool is_closed = kind == '@';
        const int before = is_closed ? (i + count - 1) % count : i > 0 ? i - 1 : 0;
        const int after = is_closed ? (i + 2) % count : next + 1 < count ? next + 1 : next;
        draw_piece(p, points[before], points[i], points[next], points[after]);
    }
}

static void draw_glyph(pen *p, const char *glyph) {
    cr_point points[MOST_POINTS];
    for (const char *next = glyph + 1; *next;) {
        const char kind = *next++;
        int count = 0;
        for (; *next && !strchr("-~@", *next) && count < MOST_POINTS; next += 2)
            points[count++] = (cr_point){(float)digit_of(next[0]), (float)(next[1] - 'e')};
        draw_stroke(p, kind, points, count);
    }
}

void cr_text_stroke(cr_canvas *canvas, const char *text, cr_point at, cr_text_style style) {
    pen p = {canvas, style, at, {0, 0}};
    for (int bytes; *text; text += bytes) {
        const char *glyph = glyph_at(text, &bytes);
        draw_glyph(&p, glyph);
        const float advance = (float)(digit_of(glyph[0]) + SPACING) * unit_of(style);
        if (style.is_upright)
            p.origin.y -= advance;
        else
            p.origin.x += advance;
    }
}
