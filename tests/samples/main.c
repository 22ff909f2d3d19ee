/* op_samples check FILE…         every check that needs no reference
 * op_samples dump OUT FILE…      operands, results and gradients as a safetensors file, for tests/reference/check.py
 * op_samples export FOLDER FILE…  each as an ONNX model, for tests/onnx/check_samples.py
 * op_samples export-open FOLDER FILE…  the same with open sizes, at several of them
 * op_samples list                ops of the table that no sample names */
#include "tests/samples/checks.h"

#include <stdlib.h>
#include <string.h>

static bool check_one(const sample *s, void *context) {
    check_sample(s, context);
    return true;
}

static int run_checks(char **files, int count) {
    check_totals totals = {0};
    setenv("CR_CC", "none", 0); /* fused nodes are interpreted: thousands of small kernels are not worth compiling */
    for (int i = 0; i < count; i++)
        if (!samples_read(files[i], check_one, &totals)) return 2;
    const long long minimum = getenv("CRESSET_MINIMUM_CHECKS") ? atoll(getenv("CRESSET_MINIMUM_CHECKS")) : 1;
    printf("%lld samples, %lld comparisons of tensors (%lld elements)\n", totals.samples, totals.comparisons,
           totals.elements);
    for (int kind = 0; kind < CHECK_KINDS; kind++)
        printf("  %-28s %lld\n", check_kind_name(kind), totals.by_kind[kind]);
    if (totals.comparisons < minimum) {
        printf("fewer than the %lld comparisons that are expected\n", minimum);
        totals.failed++;
    }
    if (cr_memory_stats().live_bytes != 0) {
        printf("%lld bytes are still live\n", (long long)cr_memory_stats().live_bytes);
        totals.failed++;
    }
    printf("%lld passed, %lld failed, %lld skipped\n", totals.passed, totals.failed, totals.skipped);
    return totals.failed ? 1 : 0;
}

typedef struct names {
    char (*at)[64];
    int count;
} names;

static bool note_name(const sample *s, void *context) {
    names *seen = context;
    for (int i = 0; i < seen->count; i++)
        if (!strcmp(seen->at[i], s->op)) return true;
    if (seen->count < 1024) memcpy(seen->at[seen->count++], s->op, 64);
    return true;
}

/* Nodes with blocks inside: no call makes them by itself. tests/unit/test_jit_control.c and test_codegen.c hold them.
 */
static bool is_only_in_graphs(const char *op) {
    static const char *const nodes[] = {"cond", "while_loop", "scan", "fused"};
    for (size_t i = 0; i < sizeof nodes / sizeof nodes[0]; i++)
        if (!strcmp(nodes[i], op)) return true;
    return false;
}

static int list_missing(char **files, int count) {
    static char storage[1024][64];
    names seen = {storage, 0};
    int missing = 0;
    for (int i = 0; i < count; i++)
        if (!samples_read(files[i], note_name, &seen)) return 2;
    for (int i = 0; i < cr_op_count(); i++) {
        cr_op_description row;
        bool found = false;
        if (!cr_op_describe(i, &row)) return 2;
        for (int k = 0; k < seen.count && !found; k++)
            found = !strcmp(seen.at[k], row.name);
        found = found || is_only_in_graphs(row.name);
        if (!found && !row.is_random) printf("no sample names the op %s\n", row.name), missing++;
    }
    printf("%d passed, %d failed\n", cr_op_count() - missing, missing);
    return missing ? 1 : 0;
}

int main(int argc, char **argv) {
    if (argc >= 3 && !strcmp(argv[1], "check")) return run_checks(argv + 2, argc - 2);
    if (argc >= 3 && !strcmp(argv[1], "list")) return list_missing(argv + 2, argc - 2);
    if (argc >= 4 && !strcmp(argv[1], "dump")) return dump_samples(argv[2], argv + 3, argc - 3);
    if (argc >= 4 && !strcmp(argv[1], "export")) return export_samples(argv[2], false, argv + 3, argc - 3);
    if (argc >= 4 && !strcmp(argv[1], "export-open")) return export_samples(argv[2], true, argv + 3, argc - 3);
    fprintf(stderr, "usage: op_samples check FILE… | dump OUT FILE… | export FOLDER FILE… | export-open FOLDER FILE… | list FILE…\n");
    return 2;
}
