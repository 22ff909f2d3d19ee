/* A progress bar: counts steps, measures them, and draws now and then. */
#include "summary/progress_line.h"

#include <cresset/summary.h>

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 2048, FIELD_BYTES = 512, DEFAULT_COLUMNS = 80, PLAIN_COLUMNS = 400 };
static const double MEMORY_SECONDS = 10; /* the rate is over about the last ten seconds */

struct cr_progress {
    cr_progress_options options; /* label and unit are copies */
    char *label, *unit;
    int64_t total, done;
    bool has_drawn; /* a bar stands on the terminal's line */
    bool use_utf8;
    bool measures_data; /* cr_progress_data_ready was called */
    double start, step_start, data_end, last_draw;
    double all_data;
    /* sums that fade with the age of what they sum: steps, their seconds, and the part of those spent on data */
    double recent_steps, recent_seconds, recent_data;
    char fields[FIELD_BYTES];
};

static double monotonic_seconds(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + 1e-9 * (double)time.tv_nsec;
}

double (*cr_progress_clock)(void) = monotonic_seconds;

/* ---------------------------------------------------------------- the terminal */

static bool is_named(const char *text, const char *name) { return text && !strcmp(text, name); }

/* A terminal whose cursor can go back to the line's start. */
static bool can_draw_bars(FILE *out) {
    const char *terminal = getenv("TERM");
    return isatty(fileno(out)) && terminal && *terminal && !is_named(terminal, "dumb");
}

/* By the locale's variables, in the order in which setlocale looks at them. Linux's own console has no such glyphs. */
static bool terminal_shows_utf8(void) {
    static const char *const variables[] = {"LC_ALL", "LC_CTYPE", "LANG"};
    if (is_named(getenv("TERM"), "linux")) return false;
    for (int i = 0; i < 3; i++) {
        const char *value = getenv(variables[i]);
        if (!value || !*value) continue;
        const char *charset = strchr(value, '.');
        return charset && (!strncasecmp(charset + 1, "utf-8", 5) || !strncasecmp(charset + 1, "utf8", 4));
    }
    return false;
}

/* Asked anew for each line, so that a window may change its size. The last column stays free: it could wrap. */
static int columns_of(const cr_progress *progress) {
    struct winsize size = {0};
    if (progress->options.style == CR_PROGRESS_LINES)
        return progress->options.width ? progress->options.width : PLAIN_COLUMNS;
    if (progress->options.width > 0) return progress->options.width;
    const bool is_known = ioctl(fileno(progress->options.out), TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    return (is_known ? size.ws_col : DEFAULT_COLUMNS) - 1;
}

/* ---------------------------------------------------------------- drawing */

static cr_progress_view view_of(const cr_progress *progress, bool is_closed) {
    const double steps = progress->recent_steps;
    const bool has_times = progress->measures_data && steps > 0;
    const double step_seconds = steps > 0 ? progress->recent_seconds / steps : -1;
    const double data_seconds = has_times ? progress->recent_data / steps : -1;
    return (cr_progress_view){
        .label = progress->label,
        .fields = progress->fields,
        .unit = progress->unit,
        .done = progress->done,
        .total = progress->total,
        .rate = cr_progress_rate(progress),
        .seconds_left = steps > 0 ? fmax(0, step_seconds * (double)(progress->total - progress->done)) : -1,
        .elapsed = cr_progress_elapsed(progress),
        .data_seconds = data_seconds,
        .compute_seconds = has_times ? step_seconds - data_seconds : -1,
        .is_closed = is_closed,
        .use_utf8 = progress->use_utf8,
    };
}

static void draw(cr_progress *progress, bool is_closed) {
    if (progress->options.style == CR_PROGRESS_SILENT) return;
    const bool is_bar = progress->options.style == CR_PROGRESS_BAR;
    const cr_progress_view view = view_of(progress, is_closed);
    char line[LINE_BYTES];
    cr_progress_line(&view, columns_of(progress), is_bar, line, sizeof line);
    /* "\r … ESC[K": over the old line, and clear what is left of it */
    fprintf(progress->options.out, is_bar ? "\r%s\x1b[K" : "%s\n", line);
    fflush(progress->options.out);
    progress->has_drawn = is_bar;
    progress->last_draw = cr_progress_clock();
}

static double interval_of(const cr_progress *progress) {
    return progress->options.style == CR_PROGRESS_BAR ? progress->options.redraw_seconds
                                                      : progress->options.line_seconds;
}

/* ---------------------------------------------------------------- the public functions */

static bool read_options(cr_progress *progress, const cr_progress_options *given) {
    cr_progress_options *options = &progress->options;
    *options =
        (cr_progress_options){.size = sizeof *options, .units_per_step = 1, .redraw_seconds = 0.1, .line_seconds = 10};
    if (given) memcpy(options, given, given->size < sizeof *options ? given->size : sizeof *options);
    progress->label = cr_strdup(options->label ? options->label : "");
    progress->unit = cr_strdup(options->unit ? options->unit : "step");
    if (!options->out) options->out = stderr;
    if (options->style == CR_PROGRESS_AUTO)
        options->style = can_draw_bars(options->out) ? CR_PROGRESS_BAR : CR_PROGRESS_LINES;
    return progress->label && progress->unit;
}

static void destroy(cr_progress *progress) {
    cr_free(progress->label);
    cr_free(progress->unit);
    cr_free(progress);
}

cr_progress *cr_progress_new_with(int64_t total, const cr_progress_options *options) {
    cr_progress *progress = cr_calloc(1, sizeof *progress);
    if (!progress) return NULL;
    if (!read_options(progress, options)) {
        destroy(progress);
        return NULL;
    }
    progress->total = total;
    progress->done = progress->options.start;
    progress->use_utf8 = terminal_shows_utf8();
    progress->start = progress->step_start = progress->last_draw = cr_progress_clock();
    if (progress->options.style == CR_PROGRESS_BAR) draw(progress, false);
    return progress;
}

void cr_progress_data_ready(cr_progress *progress) {
    if (!progress) return;
    progress->measures_data = true;
    progress->data_end = cr_progress_clock();
}

bool cr_progress_due(const cr_progress *progress) {
    if (!progress || progress->options.style == CR_PROGRESS_SILENT) return false;
    return progress->done + 1 == progress->total || cr_progress_clock() - progress->last_draw >= interval_of(progress);
}

/* A step has ended: its time joins the fading sums. */
static void measure_step(cr_progress *progress) {
    const double time = cr_progress_clock(), seconds = time - progress->step_start;
    const double data = progress->data_end > progress->step_start ? progress->data_end - progress->step_start : 0;
    const double kept = exp(-seconds / MEMORY_SECONDS);
    progress->recent_steps = progress->recent_steps * kept + 1;
    progress->recent_seconds = progress->recent_seconds * kept + seconds;
    progress->recent_data = progress->recent_data * kept + data;
    progress->all_data += data;
    progress->step_start = time;
}

void cr_progress_step(cr_progress *progress, const char *format, ...) {
    if (!progress) return;
    const bool is_due = cr_progress_due(progress);
    measure_step(progress);
    progress->done++;
    if (format) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(progress->fields, sizeof progress->fields, format, arguments);
        va_end(arguments);
    }
    /* the last step is drawn by close, with the time it all took */
    if (is_due && progress->done != progress->total) draw(progress, false);
}

void cr_progress_print(cr_progress *progress, const char *format, ...) {
    if (!progress || !format || progress->options.style == CR_PROGRESS_SILENT) return;
    va_list arguments;
    va_start(arguments, format);
    if (progress->has_drawn) fputs("\r\x1b[K", progress->options.out);
    vfprintf(progress->options.out, format, arguments);
    fputc('\n', progress->options.out);
    va_end(arguments);
    if (progress->has_drawn) draw(progress, false);
    fflush(progress->options.out);
}

double cr_progress_elapsed(const cr_progress *progress) { return progress ? cr_progress_clock() - progress->start : 0; }

double cr_progress_data_seconds(const cr_progress *progress) { return progress ? progress->all_data : 0; }

double cr_progress_rate(const cr_progress *progress) {
    if (!progress || progress->recent_seconds <= 0) return 0;
    return progress->options.units_per_step * progress->recent_steps / progress->recent_seconds;
}

void cr_progress_close(cr_progress *progress) {
    if (!progress) return;
    draw(progress, true);
    if (progress->has_drawn) fputc('\n', progress->options.out);
    fflush(progress->options.out);
    destroy(progress);
}
