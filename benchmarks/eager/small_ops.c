/* Nanoseconds of one small op, in processor time of the calling thread. */
#include "bench.h"

enum { PER_SCOPE = 100, SCOPES = 400, ROUNDS = 7 };

static cr_tensor *exp_of_first(cr_tensor *a, cr_tensor *b) {
    (void)b;
    return cr_exp(a);
}

static void measure_op(const char *name, cr_tensor *(*op)(cr_tensor *, cr_tensor *), cr_tensor *a, cr_tensor *b) {
    double best = 1;
    for (int round = 0; round < ROUNDS; round++) {
        const double start = thread_seconds();
        for (int scope = 0; scope < SCOPES; scope++)
            CR_SCOPE {
                for (int i = 0; i < PER_SCOPE; i++)
                    op(a, b);
            }
        const double seconds = (thread_seconds() - start) / (SCOPES * PER_SCOPE);
        best = seconds < best ? seconds : best;
    }
    report(name, best, 0, 0);
}

void measure_small_ops(void) {
    CR_SCOPE {
        cr_tensor *a = cr_randn(CR_F32, CR_SHAPE(8), CR_CPU), *b = cr_randn(CR_F32, CR_SHAPE(8), CR_CPU);
        measure_op("add", cr_add, a, b);
        measure_op("mul", cr_mul, a, b);
        measure_op("exp", exp_of_first, a, b);
        cr_requires_grad_(a, true);
        measure_op("add, recorded", cr_add, a, b);
        measure_op("mul, recorded", cr_mul, a, b);
        measure_op("exp, recorded", exp_of_first, a, b);
    }
}
