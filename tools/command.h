/* What the sub-commands share: the table of commands, reading options, and how failures are told.
 *
 * A command returns the exit status: 0, 1 where something failed (told by the library's error), 2 for bad usage (told in
 * one line). */
#ifndef CRESSET_TOOLS_COMMAND_H
#define CRESSET_TOOLS_COMMAND_H

#include <cresset.h>

typedef struct command {
    const char *name;
    const char *line; /* what it does, for the list */
    const char *help;
    int (*run)(int argc, char **argv); /* argv[0] is the command's name */
} command;

extern const command command_info, command_inspect, command_run, command_bench, command_compile, command_convert,
    command_quantize, command_prepare;

/* ---------------------------------------------------------------- options */
enum { LIST_MOST = 64 };
typedef struct text_list {
    const char *at[LIST_MOST];
    int count;
} text_list;

typedef enum option_kind {
    OPTION_FLAG,   /* bool */
    OPTION_TEXT,   /* const char * */
    OPTION_LIST,   /* text_list: may be given several times */
    OPTION_COUNT,  /* int64_t, from least to most */
    OPTION_NUMBER, /* double, above least, up to most */
} option_kind;

typedef struct option_row {
    const char *name;
    option_kind kind;
    void *place;
    double least, most;
    char letter; /* -o for --output; 0: none */
} option_row;

/* Reads the options of `self`, and one word that is no option into `operand` (NULL: there may be none; named
 * `operand_name` where it is missing). Returns -1 where the command is to go on, else its exit status. */
int read_options(const command *self, int argc, char **argv, const option_row *rows, int count, const char **operand,
                 const char *operand_name);
/* One line on stderr: "cresset bench: …; see cresset bench --help". Returns 2. */
int bad_usage(const command *self, const char *format, ...) CR_PRINTF(2, 3);

/* ---------------------------------------------------------------- time */
double seconds_now(void);

#endif
