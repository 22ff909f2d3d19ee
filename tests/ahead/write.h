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

typedef struct program_case {
    cr_graph *graph;
    const char *const *titles; /* of the outputs */
    const double *tolerances;  /* of them; NULL: the dtypes' own */
    const case_run *runs;      /* after each other, random numbers from seed 11 */
    int run_count;
    const cr_jit_compile_options *options;
    bool real;                 /* NaN is a failure wherever it stands */
    const char *const *states; /* that are compared after the last run */
    cr_tensor *const *state_values;
    int state_count;
} program_case;

/* Compiles the graph and writes the case. False: it cannot be compiled. */
bool write_case(case_writer *to, const program_case *given);
bool write_models(case_writer *to);

#endif
