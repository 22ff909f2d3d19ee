/* cresset compile: a saved program as one file of C. */
#include "program.h"

#include <string.h>

static int run_compile(int argc, char **argv);
const command command_compile = {
    "compile", "a program as one file of C99 that needs nothing but the C library",
    "Writes a saved program as C: one file, with the memory planned and every loop's bounds known. Its top says how "
    "to\n"
    "call it; any C compiler takes it, for any processor.\n"
    "\n"
    "usage: cresset compile PROGRAM -o FILE.c [options]\n"
    "  -o, --output FILE   the file to write\n"
    "  --name NAME         what its functions begin with: NAME_init, NAME_run (model)\n"
    "  --size NAME=N       a size that may differ (again for each); the example's otherwise\n"
    "  --weights inline    weights as arrays in the file (the default)\n"
    "  --weights file      weights in a file beside it that ends in .weights, for NAME_init to read\n"
    "  --train             the program updates its parameters, averages and statistics, as a traced training step "
    "does\n"
    "\n"
    "examples:\n"
    "  cresset compile digits.safetensors -o digits.c --name digits --size batch=1\n"
    "  cc -O3 -march=native -fno-math-errno -fno-trapping-math -c digits.c\n",
    run_compile};

/* "batch=8 time=20" */
static bool join_sizes(const program *p, char *text, size_t size) {
    size_t used = 0;
    *text = 0;
    for (int i = 0; i < cr_jit_symbol_count(p->graph); i++) {
        const int length =
            snprintf(text + used, size - used, "%s=%lld ", cr_jit_symbol_name(p->graph, i), (long long)p->sizes[i]);
        if (length < 0 || (size_t)length >= size - used)
            return cr_fail(CR_ERROR_ARGUMENT, "compile: the names of the sizes are too long");
        used += (size_t)length;
    }
    return true;
}

static int run_compile(int argc, char **argv) {
    const char *path = NULL, *output = NULL, *name = "model", *weights = "inline";
    bool train = false;
    text_list sizes = {{NULL}, 0};
    char joined[2048];
    program p;
    const option_row rows[] = {{"output", OPTION_TEXT, &output, .letter = 'o'},
                               {"name", OPTION_TEXT, &name},
                               {"size", OPTION_LIST, &sizes},
                               {"weights", OPTION_TEXT, &weights},
                               {"train", OPTION_FLAG, &train}};
    int status = read_options(&command_compile, argc, argv, rows, sizeof rows / sizeof *rows, &path, "PROGRAM");
    if (status >= 0) return status;
    if (!output) return bad_usage(&command_compile, "-o FILE.c is missing");
    if (strcmp(weights, "inline") != 0 && strcmp(weights, "file") != 0)
        return bad_usage(&command_compile, "--weights is \"%s\"; it is inline or file", weights);
    if ((status = program_open(&p, &command_compile, path, &sizes)) >= 0) return status;
    if (join_sizes(&p, joined, sizeof joined))
        cr_jit_compile(p.graph, output, .name = name, .sizes = joined, .weights = weights, .train = train);
    program_close(&p);
    return cr_report(stderr);
}
