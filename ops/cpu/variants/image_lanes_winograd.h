/* Winograd's algorithm along the rows of small planes, with images as lanes: m results beneath each other, of r taps, are
 *
 *   y = result^T ((kernel w) * (source x)), x: m + r - 1 rows, as many products in place of m r,
 *
 * by Toom and Cook's points ±a, … and, where their number is odd, infinity. Columns stay sums as they are. The rows of a
 * matrix for a and -a differ in the signs of odd powers alone, so that a table keeps one of them; the last row of a table
 * is infinity's, of even powers. Transposed, the algorithm gives the gradient by the weight:
 *
 *   dw = kernel^T sum of (result dy) * (source x) */
#ifndef CRESSET_OPS_CPU_IMAGE_LANES_WINOGRAD_H
#define CRESSET_OPS_CPU_IMAGE_LANES_WINOGRAD_H

#include "ops/convolution.h"
#include "ops/cpu/variant.h"

enum { LANE_POINTS = 9 };

typedef float lane_table[LANE_POINTS / 2 + 1][LANE_POINTS];
typedef struct lane_winograd {
    int64_t points, results, taps;
    lane_table source, result, kernel;
} lane_winograd;

#define cr_plan_lane_winograd CR_NAME(cr_plan_lane_winograd)
/* False where there are no tiles for such a kernel, or for its steps. */
bool cr_plan_lane_winograd(const cr_convolution *problem, lane_winograd *plan);

#define cr_lane_spread CR_NAME(cr_lane_spread)
/* to[point] = table from[term], of `count` vectors that follow each other; the steps are those between terms and points. */
void cr_lane_spread(const float (*table)[LANE_POINTS], int64_t points, int64_t terms, const float *from,
                    int64_t from_step, float *to, int64_t to_step, int64_t count);

/* Where results go: `wanted` of them, `step` apart, of one vector after the other, `next` apart. */
typedef struct lane_results {
    float *to;
    int64_t wanted, step, next;
    float bias, low, high;
} lane_results;

#define cr_lane_gather CR_NAME(cr_lane_gather)
/* to[term] = table^T from[point] + bias, between low and high, of `count` vectors that follow each other. */
void cr_lane_gather(const float (*table)[LANE_POINTS], int64_t points, const float *from, int64_t from_step,
                    int64_t count, const lane_results *results);

#endif
