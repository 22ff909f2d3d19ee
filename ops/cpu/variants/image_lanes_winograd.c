#include "ops/cpu/variants/image_lanes_winograd.h"
#include "ops/cpu/variants/vectors.h"

/* ---------------------------------------------------------------- tables */
/* coefficients[i] of z^i in the product of z - squares[k], of all but `without`. */
static void expand(const double *squares, int count, int without, double *coefficients) {
    for (int i = 0; i <= count; i++)
        coefficients[i] = i == 0;
    for (int k = 0, degree = 0; k < count; k++) {
        if (k == without) continue;
        for (int i = ++degree; i >= 0; i--)
            coefficients[i] = (i > 0 ? coefficients[i - 1] : 0) - squares[k] * coefficients[i];
    }
}

/* Points of which the error against f64 is least, of deviation 1 and over that of the result: 2.8e-7 of 6 points and 8.5e-7
 * of 9, all three ways; sums as they are 1.8e-7 and 2.2e-7. */
bool cr_plan_lane_winograd(const cr_convolution *p, lane_winograd *plan) {
    static const double of_three[] = {0.34, 1, 3}, of_five[] = {0.18, 0.67, 1.13, 2.1};
    const int taps = (int)p->kernel[1], pairs = taps == 3 ? 3 : 4;
    const double *a = taps == 3 ? of_three : of_five;
    double squares[4], q[5];
    if ((taps != 3 && taps != 5) || p->stride[1] != 1 || p->dilation[1] != 1) return false;
    *plan = (lane_winograd){.points = taps == 3 ? 6 : 9, .taps = taps};
    plan->results = plan->points + 1 - taps;
    for (int k = 0; k < pairs; k++)
        squares[k] = a[k] * a[k];
    for (int k = 0; k < pairs; k++) {
        double norm = 2 * a[k], power = 1;
        for (int other = 0; other < pairs; other++)
            norm *= other == k ? 1 : squares[k] - squares[other];
        for (int j = 0; j < 5; j++, power *= a[k]) {
            if (j < plan->results) plan->result[k][j] = (float)power;
            if (j < taps) plan->kernel[k][j] = (float)(power / norm);
        }
        expand(squares, pairs, k, q);
        for (int i = 0; i < pairs; i++) {
            plan->source[k][2 * i] = (float)(a[k] * q[i]);
            plan->source[k][2 * i + 1] = (float)q[i];
        }
    }
    if (plan->points % 2 == 0) return true;
    expand(squares, pairs, pairs, q);
    for (int i = 0; i <= pairs; i++)
        plan->source[pairs][2 * i] = (float)q[i];
    plan->result[pairs][plan->results - 1] = plan->kernel[pairs][taps - 1] = 1;
    return true;
}

/* ---------------------------------------------------------------- transforms */
static inline __attribute__((always_inline)) void spread(const int points, const int terms,
                                                         const float (*table)[LANE_POINTS], const float *from,
                                                         int64_t from_step, float *to, int64_t to_step, int64_t count) {
    for (int64_t at = 0; at < count; at++, from += LANES, to += LANES) {
        vector x[LANE_POINTS];
        float *target = to;
#pragma GCC unroll 9
        for (int j = 0; j < terms; j++)
            x[j] = held(load(from + j * from_step));
        for (int k = 0; k < (points + 1) / 2; k++, target += 2 * to_step) {
            vector even = x[0] * table[k][0], odd = x[1] * table[k][1];
#pragma GCC unroll 9
            for (int j = 2; j < terms; j += 2)
                even += x[j] * table[k][j];
            if (2 * k + 1 == points) {
                store(target, even);
                break;
            }
#pragma GCC unroll 9
            for (int j = 3; j < terms; j += 2)
                odd += x[j] * table[k][j];
            store(target, even + odd);
            store(target + to_step, even - odd);
        }
    }
}

void cr_lane_spread(const float (*table)[LANE_POINTS], int64_t points, int64_t terms, const float *from,
                    int64_t from_step, float *to, int64_t to_step, int64_t count) {
    if (points == 6 && terms == 3)
        spread(6, 3, table, from, from_step, to, to_step, count);
    else if (points == 6 && terms == 4)
        spread(6, 4, table, from, from_step, to, to_step, count);
    else if (points == 6)
        spread(6, 6, table, from, from_step, to, to_step, count);
    else if (terms == 5)
        spread(9, 5, table, from, from_step, to, to_step, count);
    else
        spread(9, 9, table, from, from_step, to, to_step, count);
}

static inline __attribute__((always_inline)) void gather(const int points, const float (*table)[LANE_POINTS],
                                                         const float *from, int64_t from_step, int64_t count,
                                                         const lane_results *results) {
    enum { MOST_TERMS = 5 };
    const int terms = points == 6 ? 4 : 5, pairs = points / 2;
    float *to = results->to;
    for (int64_t at = 0; at < count; at++, from += LANES, to += results->next) {
        vector sums[LANE_POINTS / 2], differences[LANE_POINTS / 2], last = {0};
#pragma GCC unroll 4
        for (int k = 0; k < pairs; k++) {
            const vector plus = load(from + 2 * k * from_step), minus = load(from + (2 * k + 1) * from_step);
            sums[k] = plus + minus;
            differences[k] = plus - minus;
        }
        if (points % 2 != 0) last = load(from + (points - 1) * from_step);
#pragma GCC unroll 5
        for (int j = 0; j < terms; j++) {
            vector y = (vector){0} + results->bias;
#pragma GCC unroll 4
            for (int k = 0; k < pairs; k++)
                y += (j % 2 == 0 ? sums[k] : differences[k]) * table[k][j];
            if (points % 2 != 0 && j % 2 == 0) y += last * table[pairs][j];
            if (j < results->wanted) store(to + j * results->step, clamped(y, results->low, results->high));
        }
    }
}

void cr_lane_gather(const float (*table)[LANE_POINTS], int64_t points, const float *from, int64_t from_step,
                    int64_t count, const lane_results *results) {
    if (points == 6)
        gather(6, table, from, from_step, count, results);
    else
        gather(9, table, from, from_step, count, results);
}
