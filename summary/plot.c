/* A line plot: the frame with its grid and texts, then each series as one anti-aliased line. */
#include "core/file.h"
#include "core/image.h"
#include "summary/axis.h"
#include "summary/font.h"

#include <cresset/summary.h>

#include <math.h>
#include <string.h>

enum { TEXT = 0x3c4250, FAINT_TEXT = 0x6b7280, GRID = 0xe8eaee, FRAME = 0xa0a6b0 };
static const uint32_t palette[] = {0x2a6fdb, 0xe8590c, 0x2b9a66, 0x9c4fd6, 0xd6336c, 0x946200, 0x0c8599, 0x5f6b7a};
enum { PALETTE = sizeof palette / sizeof palette[0] };

typedef struct plot {
    cr_plot_options options;
    const cr_plot_series *series;
    int count;
    cr_canvas canvas;
    float unit;                     /* what lengths scale with: 1 in a picture of 960 × 540 */
    float left, top, right, bottom; /* the frame */
    cr_axis x, y;
} plot;

/* ---------------------------------------------------------------- values */

static double x_of(const cr_plot_series *series, int64_t i) { return series->x ? series->x[i] : (double)i; }

/* True where the point can stand in the plot. */
static bool can_show(const plot *p, const cr_plot_series *series, int64_t i) {
    return isfinite(series->y[i]) && isfinite(x_of(series, i)) && (!p->options.log_y || series->y[i] > 0);
}

static void find_ranges(plot *p) {
    double x_least = INFINITY, x_greatest = -INFINITY, y_least = INFINITY, y_greatest = -INFINITY;
    for (int s = 0; s < p->count; s++) {
        for (int64_t i = 0; i < p->series[s].count; i++) {
            if (!can_show(p, &p->series[s], i)) continue;
            const double x = x_of(&p->series[s], i), y = p->series[s].y[i];
            x_least = fmin(x_least, x), x_greatest = fmax(x_greatest, x);
            y_least = fmin(y_least, y), y_greatest = fmax(y_greatest, y);
        }
    }
    cr_axis_init(&p->x, x_least, x_greatest, false, 0, (int)fmaxf(2, (float)p->options.width / (95 * p->unit)));
    cr_axis_init(&p->y, y_least, y_greatest, p->options.log_y, 0.04,
                 (int)fmaxf(2, (float)p->options.height / (75 * p->unit)));
}

static uint32_t color_of(const plot *p, int index) {
    return p->series[index].color ? p->series[index].color & 0xffffff : palette[index % PALETTE];
}

/* ---------------------------------------------------------------- the frame */

static cr_text_style style_of(const plot *p, float height) {
    return (cr_text_style){.height = height * p->unit, .thickness = fmaxf(1.1f, height * p->unit / 7.5f)};
}
static cr_text_style title_style(const plot *p) {
    return (cr_text_style){.height = 13 * p->unit, .thickness = 2 * p->unit};
}
static cr_text_style label_style(const plot *p) { return style_of(p, 9); }
static cr_text_style legend_style(const plot *p) { return style_of(p, 10); }

static bool has_text(const char *text) { return text && *text; }

static float widest_tick(const plot *p) {
    float widest = 0;
    for (int i = 0; i < p->y.count; i++)
        widest = fmaxf(widest, cr_text_width(p->y.ticks[i].label, label_style(p)));
    return widest;
}

enum { LEGEND_SAMPLE = 22, LEGEND_GAP = 24, LEGEND_ROW = 22 };

/* Draws the legend in rows from `top`, or only measures it; returns the height it takes. */
static float do_legend(plot *p, float top, bool draws) {
    const cr_text_style style = legend_style(p);
    float x = p->left, y = top;
    bool is_empty = true;
    for (int s = 0; s < p->count; s++) {
        if (!has_text(p->series[s].name)) continue;
        const float width = LEGEND_SAMPLE * p->unit + 8 * p->unit + cr_text_width(p->series[s].name, style);
        if (!is_empty && x + width > p->right) x = p->left, y += LEGEND_ROW * p->unit;
        if (draws) {
            const float middle = y + LEGEND_ROW * p->unit / 2, end = x + LEGEND_SAMPLE * p->unit;
            cr_canvas_stroke(&p->canvas, (cr_point){x + 2 * p->unit, middle}, (cr_point){end, middle}, 3 * p->unit);
            cr_canvas_paint(&p->canvas, color_of(p, s), 1);
            cr_text_stroke(&p->canvas, p->series[s].name, (cr_point){end + 8 * p->unit, middle + style.height / 2},
                           style);
            cr_canvas_paint(&p->canvas, TEXT, 1);
        }
        x += width + LEGEND_GAP * p->unit;
        is_empty = false;
    }
    return is_empty ? 0 : y + LEGEND_ROW * p->unit - top;
}

/* Finds room for the texts around the frame. */
static void lay_out(plot *p) {
    const float unit = p->unit, legend_gap = 6 * unit;
    p->left = 22 * unit + widest_tick(p) + (has_text(p->options.y_label) ? 24 * unit : 0);
    p->right = (float)p->canvas.width - 24 * unit;
    p->top = 20 * unit + (has_text(p->options.title) ? 26 * unit : 0);
    const float legend = do_legend(p, 0, false);
    p->top += legend > 0 ? legend + legend_gap : 0;
    p->bottom = (float)p->canvas.height - 36 * unit - (has_text(p->options.x_label) ? 22 * unit : 0);
    p->left = floorf(p->left) + 0.5f, p->top = floorf(p->top) + 0.5f; /* thin lines fall on whole pixels */
    p->right = floorf(p->right) + 0.5f, p->bottom = floorf(p->bottom) + 0.5f;
}

static float x_pixel(const plot *p, double share) { return p->left + (float)share * (p->right - p->left); }
static float y_pixel(const plot *p, double share) { return p->bottom - (float)share * (p->bottom - p->top); }
static double tick_share(const cr_axis *axis, int i) {
    return (axis->ticks[i].place - axis->low) / (axis->high - axis->low);
}
static float to_line(float place) { return floorf(place) + 0.5f; }

static void draw_grid(plot *p) {
    const float thin = fmaxf(1, floorf(p->unit));
    for (int i = 0; i < p->x.count; i++) {
        const float x = to_line(x_pixel(p, tick_share(&p->x, i)));
        cr_canvas_stroke(&p->canvas, (cr_point){x, p->top}, (cr_point){x, p->bottom}, thin);
    }
    for (int i = 0; i < p->y.count; i++) {
        const float y = to_line(y_pixel(p, tick_share(&p->y, i)));
        cr_canvas_stroke(&p->canvas, (cr_point){p->left, y}, (cr_point){p->right, y}, thin);
    }
    cr_canvas_paint(&p->canvas, GRID, 1);
    cr_canvas_stroke(&p->canvas, (cr_point){p->left, p->bottom}, (cr_point){p->right, p->bottom}, thin);
    cr_canvas_stroke(&p->canvas, (cr_point){p->left, p->top}, (cr_point){p->left, p->bottom}, thin);
    cr_canvas_paint(&p->canvas, FRAME, 1);
}

static void draw_tick_labels(plot *p) {
    const cr_text_style style = label_style(p);
    for (int i = 0; i < p->x.count; i++) {
        const char *label = p->x.ticks[i].label;
        const float width = cr_text_width(label, style), x = x_pixel(p, tick_share(&p->x, i)) - width / 2;
        const float most = (float)p->canvas.width - width - 4;
        cr_text_stroke(&p->canvas, label, (cr_point){fminf(x, most), p->bottom + 10 * p->unit + style.height}, style);
    }
    for (int i = 0; i < p->y.count; i++) {
        const char *label = p->y.ticks[i].label;
        const float x = p->left - 9 * p->unit - cr_text_width(label, style);
        cr_text_stroke(&p->canvas, label, (cr_point){x, y_pixel(p, tick_share(&p->y, i)) + style.height / 2}, style);
    }
    cr_canvas_paint(&p->canvas, FAINT_TEXT, 1);
}

static void draw_titles(plot *p) {
    const float unit = p->unit, middle_x = (p->left + p->right) / 2, middle_y = (p->top + p->bottom) / 2;
    cr_text_style style = style_of(p, 10);
    if (has_text(p->options.title))
        cr_text_stroke(&p->canvas, p->options.title, (cr_point){p->left, 18 * unit + title_style(p).height},
                       title_style(p));
    if (has_text(p->options.x_label)) {
        const float x = middle_x - cr_text_width(p->options.x_label, style) / 2;
        cr_text_stroke(&p->canvas, p->options.x_label, (cr_point){x, (float)p->canvas.height - 14 * unit}, style);
    }
    style.is_upright = true;
    if (has_text(p->options.y_label)) {
        const float y = middle_y + cr_text_width(p->options.y_label, style) / 2;
        cr_text_stroke(&p->canvas, p->options.y_label, (cr_point){14 * unit + style.height, y}, style);
    }
    cr_canvas_paint(&p->canvas, TEXT, 1);
}

/* ---------------------------------------------------------------- the lines */

/* A line under construction. The points that fall into one pixel column are reduced to the first, the least, the
 * greatest and the last of them: what is seen is the same, in bounded time. */
typedef struct line {
    plot *plot;
    float thickness;
    bool has_last; /* a point to go on from */
    cr_point last;
    bool is_open; /* a column is being gathered */
    float column;
    cr_point first, least, greatest, end;
} line;

static void line_to(line *l, cr_point next) {
    cr_canvas_stroke(&l->plot->canvas, l->has_last ? l->last : next, next, l->thickness);
    l->last = next;
    l->has_last = true;
}

static void finish_column(line *l) {
    if (!l->is_open) return;
    line_to(l, l->first);
    if (l->least.y < l->greatest.y) {
        line_to(l, l->least);
        line_to(l, l->greatest);
        line_to(l, l->end);
    }
    l->is_open = false;
}

static void break_line(line *l) {
    finish_column(l);
    l->has_last = false;
}

static void add_point(line *l, cr_point at) {
    if (l->is_open && floorf(at.x) != l->column) finish_column(l);
    if (!l->is_open) {
        l->is_open = true;
        l->column = floorf(at.x);
        l->first = l->least = l->greatest = at;
    }
    if (at.y < l->least.y) l->least = at;
    if (at.y > l->greatest.y) l->greatest = at;
    l->end = at;
}

/* The series, or its moving average m[i] = s m[i-1] + (1 - s) y[i], divided by 1 - s^i so that the start is not drawn
 * to zero. Values that cannot be shown break the line. */
static void draw_series(plot *p, int index, double smoothing, float thickness, float opacity) {
    const cr_plot_series *series = &p->series[index];
    line l = {.plot = p, .thickness = thickness * p->unit};
    double mean = 0, weight = 0;
    for (int64_t i = 0; i < series->count; i++) {
        if (!can_show(p, series, i)) {
            break_line(&l);
            continue;
        }
        mean = smoothing * mean + (1 - smoothing) * series->y[i];
        weight = smoothing * weight + (1 - smoothing);
        add_point(&l, (cr_point){x_pixel(p, cr_axis_place(&p->x, x_of(series, i))),
                                 y_pixel(p, cr_axis_place(&p->y, mean / weight))});
    }
    break_line(&l);
    cr_canvas_paint(&p->canvas, color_of(p, index), opacity);
}

static void draw_all(plot *p) {
    const double smoothing = p->options.smoothing;
    cr_canvas_clip(&p->canvas, p->left - 2, p->top - 2, p->right + 3, p->bottom + 2);
    for (int s = 0; s < p->count; s++)
        draw_series(p, s, 0, smoothing > 0 ? 1.2f : 2, smoothing > 0 ? 0.3f : 1);
    for (int s = 0; s < p->count && smoothing > 0; s++)
        draw_series(p, s, smoothing, 2.4f, 1);
    cr_canvas_unclip(&p->canvas);
}

/* ---------------------------------------------------------------- the public function */

static bool check(const char *path, const cr_plot_series *series, int count, const cr_plot_options *options) {
    if (!path || count < 0 || (!series && count))
        return cr_fail(CR_ERROR_ARGUMENT, "plot: %s",
                       !path ? "the path is NULL" : "the series are NULL or fewer than none");
    for (int s = 0; s < count; s++)
        if (series[s].count < 0 || (!series[s].y && series[s].count))
            return cr_fail(CR_ERROR_ARGUMENT, "plot: series %d (\"%.40s\") has %lld points and %s", s,
                           series[s].name ? series[s].name : "", (long long)series[s].count,
                           series[s].y ? "y" : "no y");
    if (!(options->smoothing >= 0 && options->smoothing < 1))
        return cr_fail(CR_ERROR_ARGUMENT, "plot: smoothing is %g; expected 0 or more, and less than 1",
                       options->smoothing);
    if (options->width < 160 || options->height < 120)
        return cr_fail(CR_ERROR_ARGUMENT, "plot: %d × %d pixels; expected at least 160 × 120", options->width,
                       options->height);
    return cr_image_check_size(options->width, options->height, "plot");
}

static bool save_png(const char *path, const cr_canvas *canvas) {
    const cr_image image = {canvas->width, canvas->height, 3, canvas->pixels};
    uint8_t *png = NULL;
    size_t bytes = 0;
    if (!cr_image_encode_png(&image, &png, &bytes)) return false;
    cr_file_writer *writer = cr_file_writer_begin(path);
    cr_file_writer_write(writer, png, bytes);
    cr_free(png);
    return writer && cr_file_writer_commit(writer);
}

bool cr_plot_with(const char *path, const cr_plot_series *series, int count, const cr_plot_options *options) {
    plot p = {.options = {.width = 960, .height = 540}, .series = series, .count = count};
    if (options) memcpy(&p.options, options, options->size < sizeof p.options ? options->size : sizeof p.options);
    if (!check(path, series, count, &p.options)) return false;
    p.unit = fminf(4, fmaxf(0.7f, fminf((float)p.options.width / 960, (float)p.options.height / 540)));
    bool ok = cr_canvas_init(&p.canvas, p.options.width, p.options.height);
    if (ok) {
        find_ranges(&p);
        lay_out(&p);
        draw_grid(&p);
        draw_tick_labels(&p);
        draw_titles(&p);
        do_legend(&p, p.top - do_legend(&p, 0, false) - 6 * p.unit, true);
        draw_all(&p);
        ok = save_png(path, &p.canvas);
    }
    cr_canvas_free(&p.canvas);
    return ok;
}
