/* The axes of a plot: ranges, ticks at round values, and their labels. */
#ifndef CRESSET_SUMMARY_AXIS_H
#define CRESSET_SUMMARY_AXIS_H

#include <stdbool.h>

enum { CR_AXIS_MOST_TICKS = 64, CR_AXIS_LABEL_BYTES = 24 };

typedef struct cr_axis {
    double low, high; /* the values at both ends; low < high. Of a logarithmic axis: their base-10 logarithms */
    bool is_log;
    int count;
    struct {
        double place; /* between low and high */
        char label[CR_AXIS_LABEL_BYTES];
    } ticks[CR_AXIS_MOST_TICKS];
} cr_axis;

/* An axis that shows least … greatest (greatest ≥ least; both positive where is_log) with `margin` of the range added
 * at both ends, and about `wanted` ticks. Without anything to show (greatest < least): 0 … 1. */
void cr_axis_init(cr_axis *axis, double least, double greatest, bool is_log, double margin, int wanted);
/* Where a value stands: 0 at low, 1 at high. */
double cr_axis_place(const cr_axis *axis, double value);

#endif
