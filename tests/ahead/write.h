/* Cases of programs compiled ahead: each is a file of C, and a function that runs it beside expected results. */
#ifndef CRESSET_TESTS_AHEAD_WRITE_H
#define CRESSET_TESTS_AHEAD_WRITE_H

#include <cresset.h>

#include <stdio.h>

typedef struct case_writer {
    const char *folder;
    FILE *cases, *calls, *data;
    int count, refused;
} case_writer;

typedef struct case_run {
    cr_tensor *const *inputs;
    cr_tensor *const *expected;
} case_run;

/* Compiles the graph and writes a case of some runs after each other, from `seed`. False: it cannot be compiled. */
bool write_case(case_writer *to, cr_graph *graph, const char *title, const case_run *runs, int run_count,
                const cr_jit_compile_options *options, double tolerance, bool real, const char *const *states,
                cr_tensor *const *state_values, int state_count);
bool write_models(case_writer *to);

#endif
