/* Python scripts in tests/reference/ that hold our results against PyTorch's and NumPy's. CTest tells where things
 * are. */
#ifndef CRESSET_REFERENCE_H
#define CRESSET_REFERENCE_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

/* True where this Python has the module. */
static inline bool has_python_module(const char *module) {
    char command[512];
    if (!getenv("CRESSET_PYTHON") || !getenv("CRESSET_SOURCE")) return false;
    snprintf(command, sizeof command, "'%s' -c 'import %s' 2>/dev/null", getenv("CRESSET_PYTHON"), module);
    return system(command) == 0;
}

/* Runs tests/reference/SCRIPT with two arguments; true where it found no difference. */
static inline bool run_reference(const char *script, const char *first, const char *second) {
    char command[2048];
    snprintf(command, sizeof command, "'%s' '%s/tests/reference/%s' '%s' '%s'", getenv("CRESSET_PYTHON"),
             getenv("CRESSET_SOURCE"), script, first, second);
    fflush(stdout);
    return system(command) == 0;
}

#endif
