/* Ticks stand at multiples of 1, 2 or 5 times a power of ten; on a logarithmic axis at powers of ten, with 2 and 5
 * times those between where few decades are shown. */
#include "summary/axis.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The round number nearest to `rough` from below or above: 1, 2 or 5 times a power of ten. */
static double round_step(double rough) {
    const double power = pow(10, floor(log10(rough))), lead = rough / power;
    return power * (lead < 1.5 ? 1 : lead < 3.5 ? 2 : lead < 7.5 ? 5 : 10);
}

/* "0.25", "1500", "20k", "1.5M", "2e-05": all labels of an axis in one form, with the digits that `step` needs. */
static void format_tick(double value, double step, double largest, char label[CR_AXIS_LABEL_BYTES]) {
    static const struct {
        double unit;
        const char *suffix;
    } scales[] = {{1e9, "G"}, {1e6, "M"}, {1e3, "k"}, {1, ""}};
    if (fabs(value) < step * 1e-6) value = 0; /* and no "-0" */
    if (largest >= 1e13 || largest < 1e-4) {
        snprintf(label, CR_AXIS_LABEL_BYTES, value == 0 ? "0" : "%.3g", value);
        return;
    }
    int scale = 3;
    for (int i = 0; i < 3 && scale == 3; i++)
        if (largest >= 10 * scales[i].unit) scale = i;
    const double unit = scales[scale].unit;
    const int decimals = (int)fmin(15, fmax(0, ceil(-log10(step / unit) - 1e-9)));
    snprintf(label, CR_AXIS_LABEL_BYTES, "%.*f%s", decimals, value / unit, value == 0 ? "" : scales[scale].suffix);
}

static void add_tick(cr_axis *axis, double place, const char *label) {
    if (axis->count == CR_AXIS_MOST_TICKS) return;
    axis->ticks[axis->count].place = place;
    snprintf(axis->ticks[axis->count++].label, CR_AXIS_LABEL_BYTES, "%s", label);
}

static void add_linear_ticks(cr_axis *axis, int wanted) {
    const double step = round_step((axis->high - axis->low) / wanted), slack = step * 1e-6;
    const double first = ceil((axis->low - slack) / step), largest = fmax(fabs(axis->low), fabs(axis->high));
    for (int i = 0; i < CR_AXIS_MOST_TICKS && (first + i) * step <= axis->high + slack; i++) {
        char label[CR_AXIS_LABEL_BYTES];
        format_tick((first + i) * step, step, largest, label);
        add_tick(axis, (first + i) * step, label);
    }
}

static void add_log_tick(cr_axis *axis, int lead, int decade) {
    char label[CR_AXIS_LABEL_BYTES];
    const double place = decade + log10(lead), value = lead * pow(10, decade);
    if (place < axis->low - 1e-9 || place > axis->high + 1e-9) return;
    snprintf(label, sizeof label, value >= 1e5 || value < 1e-3 ? "%.0e" : "%g", value);
    add_tick(axis, place, label);
}

/* Under half a decade there may be no such tick: then values at equal steps, as on a linear axis. */
static void add_log_ticks(cr_axis *axis, int wanted) {
    const double decades = axis->high - axis->low;
    const int stride = (int)fmax(1, ceil(decades / wanted));
    for (int decade = (int)floor(axis->low / stride) * stride; decade <= axis->high; decade += stride) {
        add_log_tick(axis, 1, decade);
        if (decades <= 3) add_log_tick(axis, 2, decade);
        if (decades <= 3) add_log_tick(axis, 5, decade);
    }
    if (axis->count >= 2) return;
    cr_axis linear = {.low = pow(10, axis->low), .high = pow(10, axis->high)};
    add_linear_ticks(&linear, wanted);
    axis->count = 0;
    for (int i = 0; i < linear.count; i++)
        add_tick(axis, log10(linear.ticks[i].place), linear.ticks[i].label);
}

void cr_axis_init(cr_axis *axis, double least, double greatest, bool is_log, double margin, int wanted) {
    *axis = (cr_axis){.is_log = is_log};
    if (!(least <= greatest)) least = is_log ? 0.1 : 0, greatest = 1;
    axis->low = is_log ? log10(least) : least;
    axis->high = is_log ? log10(greatest) : greatest;
    double range = axis->high - axis->low;
    if (!isfinite(range)) { /* wider than a double can say: -1e308 … 1e308 */
        axis->low /= 4, axis->high /= 4;
        range = axis->high - axis->low;
    }
    const double least_range = is_log ? 0.1 : fmax(fabs(axis->low) * 1e-9, 1e-300);
    if (range < least_range) { /* one value: some room around it */
        range = is_log ? 1 : axis->low == 0 ? 2 : fabs(axis->low) * 0.2;
        axis->low -= range / 2;
        axis->high += range / 2;
    } else {
        axis->low -= margin * range;
        axis->high += margin * range;
    }
    if (is_log)
        add_log_ticks(axis, wanted);
    else
        add_linear_ticks(axis, wanted);
}

double cr_axis_place(const cr_axis *axis, double value) {
    return ((axis->is_log ? log10(value) : value) - axis->low) / (axis->high - axis->low);
}
