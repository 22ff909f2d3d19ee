/* What the machine does at most, measured with the library's own product and copy. */
#include "program.h"

enum { SIDE = 768, MEGABYTES = 64 };
static const double seconds_for_each = 0.15;

/* The shortest time of a piece of work, tried for a while. */
static double shortest(bool (*work)(cr_tensor *const *tensors), cr_tensor *const *tensors) {
    double least = 0;
    const double until = seconds_now() + seconds_for_each;
    for (int i = 0; i < 2 || seconds_now() < until; i++) {
        const double begin = seconds_now();
        if (!work(tensors)) return 0;
        const double took = seconds_now() - begin;
        if (i && (least == 0 || took < least)) least = took; /* the first turn warms up */
    }
    return least;
}

static bool multiply(cr_tensor *const *t) {
    bool done = false;
    CR_SCOPE {
        done = cr_matmul(t[0], t[1]) != NULL;
    }
    return done;
}
static bool copy(cr_tensor *const *t) { return cr_copy_(t[0], t[1]) != NULL; }

bool measure_peaks(double *gflops, double *gbytes) {
    CR_SCOPE {
        if (*gflops <= 0) {
            cr_tensor *const sides[2] = {cr_rand(CR_F32, CR_SHAPE(SIDE, SIDE), CR_CPU),
                                         cr_rand(CR_F32, CR_SHAPE(SIDE, SIDE), CR_CPU)};
            const double took = shortest(multiply, sides);
            *gflops = took > 0 ? 2e-9 * SIDE * SIDE * SIDE / took : 0;
        }
        if (*gbytes <= 0) { /* each half is read or written once */
            cr_tensor *const halves[2] = {cr_zeros(CR_U8, CR_SHAPE(MEGABYTES << 19), CR_CPU),
                                          cr_ones(CR_U8, CR_SHAPE(MEGABYTES << 19), CR_CPU)};
            const double took = shortest(copy, halves);
            *gbytes = took > 0 ? 1e-9 * (MEGABYTES << 20) / took : 0;
        }
    }
    return cr_ok();
}
