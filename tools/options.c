/* Reading a command line by a table, and saying in one line what is wrong with it. */
#include "command.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FIRST_ROW = 1000, ROWS_MOST = 24 };

double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int bad_usage(const command *self, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "cresset %s: ", self->name);
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "; see cresset %s --help\n", self->name);
    va_end(arguments);
    return 2;
}

static int read_count(const command *self, const option_row *row, const char *text) {
    char *end;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || isspace((unsigned char)*text) || (double)value < row->least ||
        (double)value > row->most)
        return bad_usage(self, "--%s is \"%s\"; a whole number from %.0f to %.0f is needed", row->name, text,
                         row->least, row->most);
    *(int64_t *)row->place = value;
    return -1;
}

static int read_number(const command *self, const option_row *row, const char *text) {
    char *end;
    const double value = strtod(text, &end);
    if (end == text || *end || isspace((unsigned char)*text) || !(value > row->least) || !(value <= row->most))
        return bad_usage(self, "--%s is \"%s\"; a number above %g, up to %g, is needed", row->name, text, row->least,
                         row->most);
    *(double *)row->place = value;
    return -1;
}

static int take(const command *self, const option_row *row, const char *text) {
    text_list *list = row->place;
    switch (row->kind) {
    case OPTION_FLAG: *(bool *)row->place = true; return -1;
    case OPTION_TEXT: *(const char **)row->place = text; return -1;
    case OPTION_COUNT: return read_count(self, row, text);
    case OPTION_NUMBER: return read_number(self, row, text);
    case OPTION_LIST: break;
    }
    if (list->count == LIST_MOST) return bad_usage(self, "--%s is given more than %d times", row->name, LIST_MOST);
    list->at[list->count++] = text;
    return -1;
}

int read_options(const command *self, int argc, char **argv, const option_row *rows, int count, const char **operand,
                 const char *operand_name) {
    struct option names[ROWS_MOST + 2] = {{"help", no_argument, NULL, 'h'}};
    char letters[2 * ROWS_MOST + 3] = ":h";
    for (int i = 0; i < count && i < ROWS_MOST; i++) {
        const char letter[] = {rows[i].letter, rows[i].kind != OPTION_FLAG ? ':' : 0, 0};
        names[1 + i] = (struct option){rows[i].name, rows[i].kind != OPTION_FLAG, NULL, FIRST_ROW + i};
        strcat(letters, letter);
    }
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, letters, names, NULL)) != -1;) {
        for (int i = 0; i < count && i < ROWS_MOST && c != 'h' && c != ':' && c != '?'; i++)
            if (c == rows[i].letter) c = FIRST_ROW + i;
        if (c == 'h') return fputs(self->help, stdout), 0;
        if (c == ':') return bad_usage(self, "%s needs a value", argv[optind - 1]);
        if (c == '?') return bad_usage(self, "cannot read %s", argv[optind - 1]);
        const int status = take(self, &rows[c - FIRST_ROW], optarg);
        if (status >= 0) return status;
    }
    if (operand && optind < argc) *operand = argv[optind++];
    if (optind < argc) return bad_usage(self, "no place for \"%s\"", argv[optind]);
    if (operand && !*operand) return bad_usage(self, "%s is missing", operand_name);
    return -1;
}
