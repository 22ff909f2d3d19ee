/* The text of a progress line: parts, those that fit, and a bar in what is left. */
#include "summary/progress_line.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* In the order in which they stand; what has no text is absent. */
enum { LABEL, PERCENT, BAR, COUNT, RATE, TIME_LEFT, TIMES, FIELDS, PARTS };
enum { PART_BYTES = 96, BAR_LEAST = 8, BAR_MOST = 30, GAP = 2 };

typedef struct line_parts {
    const char *text[PARTS];
    char own[PARTS][PART_BYTES];
    char bar[4 * BAR_MOST + 4];
} line_parts;

/* ---------------------------------------------------------------- text */

/* The code point at `text`, and its bytes; a stray byte is a character of its own. */
static uint32_t next_character(const char *text, int *bytes) {
    const uint8_t *at = (const uint8_t *)text;
    const int length = at[0] < 0xc0 ? 1 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
    uint32_t code = length == 1 ? at[0] : at[0] & (0x7fu >> length);
    *bytes = 1;
    while (*bytes < length && (at[*bytes] & 0xc0) == 0x80)
        code = code << 6 | (at[(*bytes)++] & 0x3fu);
    return code;
}

static int columns_of(uint32_t code) {
    static const struct {
        uint32_t first, last;
        int columns;
    } ranges[] = {
        {0x0300, 0x036f, 0}, {0x200b, 0x200f, 0},   {0xfe00, 0xfe0f, 0},   {0x1100, 0x115f, 2},
        {0x2e80, 0xa4cf, 2}, {0xac00, 0xd7a3, 2},   {0xf900, 0xfaff, 2},   {0xfe30, 0xfe6f, 2},
        {0xff00, 0xff60, 2}, {0x1f300, 0x1faff, 2}, {0x20000, 0x3fffd, 2},
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (code >= ranges[i].first && code <= ranges[i].last) return ranges[i].columns;
    return 1;
}

int cr_text_columns(const char *text) {
    int columns = 0;
    for (int bytes; *text; text += bytes)
        columns += columns_of(next_character(text, &bytes));
    return columns;
}

/* "0:07", "12:34", "1:02:03", "2d 3h" */
static void format_duration(double seconds, char *text, size_t size) {
    const long long whole = seconds < 1e15 ? (long long)(seconds + 0.5) : 0;
    const long long days = whole / 86400, hours = whole / 3600 % 24, minutes = whole / 60 % 60;
    if (days)
        snprintf(text, size, "%lldd %lldh", days, hours);
    else if (hours)
        snprintf(text, size, "%lld:%02lld:%02lld", hours, minutes, whole % 60);
    else
        snprintf(text, size, "%lld:%02lld", minutes, whole % 60);
}

/* Three figures, as far as they mean something: "0.04", "3.1", "152". */
static void format_figures(double value, char *text, size_t size) {
    const int decimals = value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
    snprintf(text, size, "%.*f", decimals, value);
}

static void format_step_time(double seconds, char *text, size_t size) {
    const bool is_long = seconds >= 1;
    format_figures(is_long ? seconds : seconds * 1e3, text, size);
    strncat(text, is_long ? " s" : " ms", size - strlen(text) - 1);
}

/* ---------------------------------------------------------------- parts */

static void write_rate(const cr_progress_view *view, char text[PART_BYTES]) {
    char figures[32];
    if (!(view->rate > 0) || !isfinite(view->rate)) return;
    const bool is_slow = view->rate < 1;
    format_figures(is_slow ? 1 / view->rate : view->rate, figures, sizeof figures);
    snprintf(text, PART_BYTES, is_slow ? "%s s/%.40s" : "%s %.40s/s", figures, view->unit);
}

static void write_times(const cr_progress_view *view, char text[PART_BYTES]) {
    char data[40], compute[40];
    if (view->data_seconds < 0) return;
    format_step_time(view->data_seconds, data, sizeof data);
    format_step_time(view->compute_seconds, compute, sizeof compute);
    snprintf(text, PART_BYTES, "data %s + compute %s", data, compute);
}

static void write_time_left(const cr_progress_view *view, char text[PART_BYTES]) {
    char duration[40];
    const bool shows_elapsed = view->is_closed || view->total <= 0;
    if (!shows_elapsed && view->seconds_left < 0) return;
    format_duration(shows_elapsed ? view->elapsed : view->seconds_left, duration, sizeof duration);
    snprintf(text, PART_BYTES, "%s %s", view->is_closed ? "in" : shows_elapsed ? "for" : "eta", duration);
}

static void fill_parts(const cr_progress_view *view, line_parts *parts) {
    memset(parts, 0, sizeof *parts);
    for (int i = 0; i < PARTS; i++)
        parts->text[i] = parts->own[i];
    parts->text[LABEL] = view->label ? view->label : "";
    parts->text[FIELDS] = view->fields ? view->fields : "";
    parts->text[BAR] = parts->bar;
    if (view->total > 0) {
        const int percent = (int)fmin(100, floor(100.0 * (double)view->done / (double)view->total));
        snprintf(parts->own[PERCENT], PART_BYTES, "%3d%%", percent);
        snprintf(parts->own[COUNT], PART_BYTES, "%lld/%lld", (long long)view->done, (long long)view->total);
    } else {
        snprintf(parts->own[COUNT], PART_BYTES, "%lld", (long long)view->done);
    }
    write_rate(view, parts->own[RATE]);
    write_time_left(view, parts->own[TIME_LEFT]);
    write_times(view, parts->own[TIMES]);
}

/* Columns of all parts with the gaps between them. */
static int columns_of_parts(const line_parts *parts) {
    int columns = 0;
    for (int i = 0; i < PARTS; i++)
        if (parts->text[i][0]) columns += cr_text_columns(parts->text[i]) + (columns ? GAP : 0);
    return columns;
}

static char *put(char *end, const char *text) {
    const size_t bytes = strlen(text);
    memcpy(end, text, bytes + 1);
    return end + bytes;
}

/* "|████▌     |" of `columns` columns, its end to an eighth of one; "[####      ]" in ASCII. `bar` holds BAR_MOST. */
static void draw_bar(const cr_progress_view *view, int columns, char *bar) {
    static const char *const eighths[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
    const int inside = columns - 2;
    const double share = fmax(0, fmin(1, (double)view->done / (double)view->total));
    const int filled = (int)(share * inside * 8);
    int drawn = 0;
    char *end = put(bar, view->use_utf8 ? "|" : "[");
    for (; drawn < filled / 8; drawn++)
        end = put(end, view->use_utf8 ? "█" : "#");
    if (view->use_utf8 && filled % 8) {
        end = put(end, eighths[filled % 8]);
        drawn++;
    }
    for (; drawn < inside; drawn++)
        end = put(end, " ");
    put(end, view->use_utf8 ? "|" : "]");
}

/* Copies whole characters while they fit; control characters become blanks. Returns the columns written. */
static int append(char *line, size_t size, size_t *used, const char *text, int columns) {
    int written = 0;
    for (int bytes; *text; text += bytes) {
        const uint32_t code = next_character(text, &bytes);
        const int more = columns_of(code);
        if (written + more > columns || *used + (size_t)bytes >= size) break;
        if (code < 0x20 || code == 0x7f)
            line[*used] = ' ';
        else
            memcpy(line + *used, text, (size_t)bytes);
        *used += (size_t)bytes;
        written += more;
    }
    line[*used] = '\0';
    return written;
}

void cr_progress_line(const cr_progress_view *view, int width, bool with_bar, char *line, size_t size) {
    line_parts parts;
    fill_parts(view, &parts);
    bool has_bar = with_bar && view->total > 0;
    const int bar_least = BAR_LEAST + GAP;
    if (columns_of_parts(&parts) + (has_bar ? bar_least : 0) > width) parts.text[TIMES] = "";
    if (columns_of_parts(&parts) + (has_bar ? bar_least : 0) > width) has_bar = false;
    if (columns_of_parts(&parts) > width && view->total > 0) parts.text[COUNT] = "";
    if (has_bar) {
        const int room = width - columns_of_parts(&parts) - GAP;
        draw_bar(view, room < BAR_MOST ? room : BAR_MOST, parts.bar);
    }
    size_t used = 0;
    int columns = 0;
    line[0] = '\0';
    for (int i = 0; i < PARTS; i++) {
        if (!parts.text[i][0]) continue;
        if (columns) columns += append(line, size, &used, "  ", width - columns);
        columns += append(line, size, &used, parts.text[i], width - columns);
    }
    while (used && line[used - 1] == ' ')
        line[--used] = '\0';
}
