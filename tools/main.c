/* The command `cresset`: a table of sub-commands, each in a file of its own. */
#include "command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

static const command *const commands[] = {&command_info,    &command_inspect, &command_run,      &command_bench,
                                          &command_compile, &command_convert, &command_quantize, &command_prepare};
enum { COMMANDS = sizeof commands / sizeof *commands };

static int print_help(void) {
    printf("Looks at, runs, measures, compiles, converts, quantises and prepares programs that cr_jit_save has saved, "
           "and ONNX "
           "models.\n\n"
           "usage: cresset COMMAND [options]\n\n");
    for (int i = 0; i < COMMANDS; i++)
        printf("  %-9s %s\n", commands[i]->name, commands[i]->line);
    printf("\ncresset COMMAND --help says more, with examples.\n"
           "Exit status: 0, 1 where something failed, 2 for a command line that cannot be read.\n");
    return 0;
}

static int refuse(const char *what, const char *word) {
    fprintf(stderr, "cresset: %s%s%s; commands are", what, *word ? " " : "", word);
    for (int i = 0; i < COMMANDS; i++)
        fprintf(stderr, "%s %s", i ? "," : "", commands[i]->name);
    fprintf(stderr, "; see cresset --help\n");
    return 2;
}

static int dispatch(int argc, char **argv) {
    if (argc < 2) return refuse("a command is missing", "");
    if (!strcmp(argv[1], "--version")) return printf("cresset %s\n", cr_version()), 0;
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) return print_help();
    for (int i = 0; i < COMMANDS; i++)
        if (!strcmp(argv[1], commands[i]->name)) return commands[i]->run(argc - 1, argv + 1);
    return refuse("there is no command", argv[1]);
}

/* Standard streams that are closed get a place that refuses, so that no file which is opened later takes theirs. */
static void hold_streams(void) {
    for (int i = 0; i < 3; i++)
        if (fcntl(i, F_GETFD) == -1 && errno == EBADF) {
            const int held = open("/dev/null", i == 0 ? O_WRONLY : O_RDONLY);
            if (held >= 0 && held != i) close(held);
        }
}

/* What was printed must have arrived. A reader that has seen enough (`| head`) is no failure. */
static int flush_output(int status) {
    errno = 0;
    const bool failed = fflush(stdout) != 0 || ferror(stdout);
    if (!failed || errno == EPIPE || status) return status;
    fprintf(stderr, "cresset: cannot write to standard output: %s\n",
            errno ? strerror(errno) : "an earlier write failed");
    return 1;
}

int main(int argc, char **argv) {
    hold_streams();
    signal(SIGPIPE, SIG_IGN);
    const int status = flush_output(dispatch(argc, argv));
    cr_scope_clear();
    cr_shutdown();
    return status;
}
