/* cresset prepare: a program whose file holds what plans compute from its weights. */
#include "program.h"

#include <string.h>

static int run_prepare(int argc, char **argv);
const command command_prepare = {
    "prepare", "a program that starts at once: its file holds the packed weights",
    "A program that is loaded packs its weights for this processor's kernels when sizes come for the first time. Of\n"
    "large models that takes longer than a run, and memory that each process has for itself. A prepared file holds\n"
    "them packed, for the sizes that are named: they are mapped, and all processes share their pages. The file grows\n"
    "by as much as is packed. Results are the same, bit for bit.\n"
    "On other sizes, on another kind of processor (avx512, avx2, baseline), or with another build of the library, a\n"
    "prepared program runs like any other: prepare it where it will run.\n"
    "\n"
    "usage: cresset prepare PROGRAM -o FILE [--size SIZES ...]\n"
    "  -o, --output FILE   the prepared program\n"
    "  --size SIZES        sizes that will come, all those of a run in one: batch=8, or \"batch=8 time=20\" (again "
    "for\n"
    "                      each set; what is not named, and without any, is the example's)\n"
    "\n"
    "examples:\n"
    "  cresset prepare resnet50.safetensors -o ready.safetensors --size batch=1 --size batch=16\n"
    "  cresset prepare resnet50.onnx -o ready.safetensors\n"
    "  CR_CPU=avx2 cresset prepare resnet50.safetensors -o ready-avx2.safetensors\n",
    run_prepare};

/* "batch=1;batch=16" */
static bool join_sets(const text_list *sizes, char text[LIST_TEXT]) {
    size_t used = 0;
    text[0] = '\0';
    for (int i = 0; i < sizes->count; i++) {
        used += (size_t)snprintf(text + used, LIST_TEXT - used, "%s%s", i ? ";" : "", sizes->at[i]);
        if (used >= LIST_TEXT) return cr_fail(CR_ERROR_ARGUMENT, "more than %d characters of sizes", LIST_TEXT);
    }
    return true;
}

/* What was added, and to what. */
static void tell(const char *path) {
    double bytes[2] = {0};
    cr_safetensors *file = cr_safetensors_open(path);
    for (int i = 0; i < cr_safetensors_count(file); i++) {
        const char *name = cr_safetensors_name(file, i);
        const cr_tensor *t = cr_safetensors_tensor(file, name);
        bytes[!strncmp(name, "cresset.prepared.", 17)] += (double)cr_numel(t) * (double)cr_dtype_size(cr_dtype_of(t));
    }
    cr_safetensors_close(file);
    if (cr_ok())
        printf("prepared: %.1f MB, beside %.1f MB of weights, for %s\n", bytes[1] / 1e6, bytes[0] / 1e6,
               cr_cpu_capability());
}

static int run_prepare(int argc, char **argv) {
    const char *path = NULL, *output = NULL;
    text_list sizes = {{NULL}, 0}, none = {{NULL}, 0};
    char sets[LIST_TEXT];
    program p;
    const option_row rows[] = {{"output", OPTION_TEXT, &output, .letter = 'o'}, {"size", OPTION_LIST, &sizes}};
    int status = read_options(&command_prepare, argc, argv, rows, sizeof rows / sizeof *rows, &path, "PROGRAM");
    if (status >= 0) return status;
    if (!output) return bad_usage(&command_prepare, "-o FILE is missing");
    if (program_is_onnx(output)) return bad_usage(&command_prepare, "%s: ONNX models hold no packed weights", output);
    if ((status = program_open(&p, &command_prepare, path, &none)) >= 0) return status;
    if (join_sets(&sizes, sets) && cr_jit_save(p.graph, output, .prepare = sets)) {
        CR_SCOPE {
            tell(output);
        }
    }
    program_close(&p);
    return cr_report(stderr);
}
