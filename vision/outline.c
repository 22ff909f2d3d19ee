/* Draws characters of TrueType fonts through stb_truetype.
 *
 * stb_truetype trusts a font's offsets. Fonts whose directory, sizes or checksums do not hold are left out here; one
 * that was made to attack, with right checksums, is not recognised. */
#include "vision/outline.h"

#include <math.h>
#include <string.h>

#ifdef CRESSET_HAS_IMAGES
#pragma GCC diagnostic ignored "-Wunused-function" /* stb_truetype offers more than is used */
#define STBTT_malloc(size, context) ((void)(context), cr_malloc(size))
#define STBTT_free(block, context)  ((void)(context), cr_free(block))
#define STBTT_assert(condition)     ((void)0)
#define STBTT_STATIC
#define STB_TRUETYPE_IMPLEMENTATION
#include <stb_truetype.h>

struct cr_outline_font {
    uint8_t *bytes;
    stbtt_fontinfo info;
};

/* The tables that are read without asking for their size: each at least as large as its fixed part, the tables with one
 * entry for each glyph as large as their entries. */
static bool has_tables(cr_bytes font) {
    static const struct {
        char tag[5];
        size_t least;
    } needed[] = {{"cmap", 4}, {"glyf", 1}, {"head", 54}, {"hhea", 36}, {"hmtx", 4}, {"loca", 4}, {"maxp", 6}};
    cr_bytes table, maxp, head, loca, hhea, hmtx;
    uint32_t glyphs, metrics, is_long;
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        if (!cr_sfnt_table(font, needed[i].tag, &table) || table.size < needed[i].least) return false;
    return cr_sfnt_table(font, "maxp", &maxp) && cr_sfnt_table(font, "head", &head) &&
           cr_sfnt_table(font, "loca", &loca) && cr_sfnt_table(font, "hhea", &hhea) &&
           cr_sfnt_table(font, "hmtx", &hmtx) && cr_read_u16(maxp, 4, &glyphs) && cr_read_u16(head, 50, &is_long) &&
           cr_read_u16(hhea, 34, &metrics) && loca.size >= ((size_t)glyphs + 1) * (is_long ? 4 : 2) && metrics >= 1 &&
           hmtx.size >= (size_t)metrics * 4;
}

static bool has_outline(const stbtt_fontinfo *info, char character) {
    int x0, y0, x1, y1;
    const int glyph = stbtt_FindGlyphIndex(info, (unsigned char)character);
    return glyph != 0 && stbtt_GetGlyphBox(info, glyph, &x0, &y0, &x1, &y1) && x1 > x0 && y1 > y0;
}

cr_outline_font *cr_outline_font_new(uint8_t *bytes, size_t size, const char *characters) {
    const cr_bytes whole = {bytes, size};
    bool usable = bytes && cr_sfnt_is_sound(whole) && has_tables(whole);
    cr_outline_font *font = usable ? cr_calloc(1, sizeof *font) : NULL;
    if (font) {
        font->bytes = bytes;
        usable = stbtt_InitFont(&font->info, bytes, 0);
        for (const char *c = characters; usable && *c; c++)
            usable = has_outline(&font->info, *c);
        if (usable) return font;
        cr_free(font);
    }
    cr_free(bytes);
    return NULL;
}

void cr_outline_font_free(cr_outline_font *font) {
    if (!font) return;
    cr_free(font->bytes);
    cr_free(font);
}

/* Font units, y upward, to 1/32 pixels around the middle, turned. Within what a short holds. */
static void turn(stbtt_vertex *vertices, int count, const int box[4], double scale, double angle) {
    const double cosine = cos(angle) * scale, sine = sin(angle) * scale;
    const double middle_x = (box[0] + box[2]) / 2.0, middle_y = (box[1] + box[3]) / 2.0;
    for (int i = 0; i < count; i++) {
        stbtt_vertex_type *const points[3][2] = {
            {&vertices[i].x, &vertices[i].y}, {&vertices[i].cx, &vertices[i].cy}, {&vertices[i].cx1, &vertices[i].cy1}};
        for (int p = 0; p < 3; p++) {
            const double x = *points[p][0] - middle_x, y = *points[p][1] - middle_y;
            *points[p][0] = (short)fmin(fmax(nearbyint(cosine * x - sine * y), -32000), 32000);
            *points[p][1] = (short)fmin(fmax(nearbyint(sine * x + cosine * y), -32000), 32000);
        }
    }
}

bool cr_outline_draw(const cr_outline_font *font, char character, cr_outline_place place, uint8_t *pixels, int side) {
    enum { UNITS = 32 }; /* of a pixel: 1000 pixels fit into a short */
    int box[4];
    const int glyph = stbtt_FindGlyphIndex(&font->info, (unsigned char)character);
    stbtt_vertex *vertices = NULL;
    memset(pixels, 0, (size_t)side * (size_t)side);
    if (!stbtt_GetGlyphBox(&font->info, glyph, &box[0], &box[1], &box[2], &box[3])) return true;
    const int count = stbtt_GetGlyphShape(&font->info, glyph, &vertices);
    if (!vertices || count <= 0) {
        stbtt_FreeShape(&font->info, vertices);
        return cr_ok() ? cr_fail(CR_ERROR_FORMAT, "glyphs: character '%c' has no outline", character) : false;
    }
    const int width = box[2] - box[0], height = box[3] - box[1];
    turn(vertices, count, box, place.height * UNITS / (width > height ? width : height), place.angle);
    stbtt__bitmap bitmap = {.w = side, .h = side, .stride = side, .pixels = pixels};
    stbtt_Rasterize(&bitmap, 0.35f, vertices, count, 1.0f / UNITS, 1.0f / UNITS, (float)place.x, (float)place.y, 0, 0,
                    1, NULL);
    stbtt_FreeShape(&font->info, vertices);
    return cr_ok();
}

#else
cr_outline_font *cr_outline_font_new(uint8_t *bytes, size_t size, const char *characters) {
    (void)size, (void)characters;
    cr_free(bytes);
    cr_record_error(CR_ERROR_UNSUPPORTED, "this build cannot draw glyphs: build with stb (CRESSET_IMAGES)");
    return NULL;
}
void cr_outline_font_free(cr_outline_font *font) { (void)font; }
bool cr_outline_draw(const cr_outline_font *font, char character, cr_outline_place place, uint8_t *pixels, int side) {
    (void)font, (void)character, (void)place, (void)pixels, (void)side;
    return false;
}
#endif
