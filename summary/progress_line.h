/* The text of a progress line, for a given state and width. */
#ifndef CRESSET_SUMMARY_PROGRESS_LINE_H
#define CRESSET_SUMMARY_PROGRESS_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct cr_progress_view {
    const char *label;  /* NULL or "": none */
    const char *fields; /* likewise */
    const char *unit;
    int64_t done, total; /* total ≤ 0: unknown */
    double rate;         /* units per second; 0: not known yet */
    double seconds_left; /* < 0: not known */
    double elapsed;
    double data_seconds, compute_seconds; /* of one step; < 0: not measured */
    bool is_closed;                       /* the last line: says how long it took */
    bool use_utf8;
} cr_progress_view;

/* Writes the line, cut to `width` columns, without a newline; bytes fit into `size`. `with_bar`: draws a bar as wide as
 * there is room. What is least needed goes first where there is not: the times, the bar, the count. */
void cr_progress_line(const cr_progress_view *view, int width, bool with_bar, char *line, size_t size);

/* Seconds from some fixed moment on, that progress bars go by: the system's monotonic clock, or what a test puts
 * here. */
extern double (*cr_progress_clock)(void);

/* Columns that UTF-8 text takes on a terminal: East Asian characters and emoji take two, combining marks none. */
int cr_text_columns(const char *text);

#endif
