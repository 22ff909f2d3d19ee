/* Where taps and positions lie: index work of convolution that knows no dtype, done once for a call. */
#ifndef CRESSET_OPS_CPU_CONVOLUTION_PLAN_H
#define CRESSET_OPS_CPU_CONVOLUTION_PLAN_H

#include "ops/convolution.h"
#include "ops/cpu/variants/scratch.h"

/* ---------------------------------------------------------------- phases by stride */
/* Per dim: the distinct remainders of tap·dilation by stride, each tap's place among them, and its quotient. */
typedef struct phase_split {
    int64_t count;
    int64_t *remainders, *place, *quotient; /* [count], [kernel], [kernel] */
} phase_split;

static inline int64_t cr_phase_storage(const cr_convolution *p) {
    return 3 * (p->kernel[0] + p->kernel[1] + p->kernel[2]);
}
/* All dims; `storage` has room for cr_phase_storage numbers. */
void cr_split_all_phases(const cr_convolution *p, int64_t *storage, phase_split split[CR_SPATIAL_DIMS]);

/* Where each (channel, tap) lies in an image's copy, split by stride: `size` is of a phase, `item` of a channel. */
void cr_forward_offsets(const cr_convolution *p, const phase_split split[CR_SPATIAL_DIMS],
                        const int64_t size[CR_SPATIAL_DIMS], int64_t item, int64_t *offsets);

/* One phase of one dim: x positions start, start + stride, … (count of them), which are m = first, first + 1, … in
 * i + padding = m·stride + remainder. */
typedef struct phase_range {
    int64_t first, start, count;
} phase_range;

phase_range cr_range_of_phase(const cr_convolution *p, int d, int64_t remainder);

/* Where each phase reads y: o = m - quotient. Finds the zeros needed in front (`before`) and the copy's size. */
void cr_data_extent(const cr_convolution *p, int d, const phase_split *split, int64_t *before, int64_t *size,
                    int64_t *covered);

/* The taps of one phase, their numbers in the weight and their offsets in the padded copy; returns how many. */
int64_t cr_taps_of_phase(const cr_convolution *p, const phase_split split[CR_SPATIAL_DIMS],
                         const int64_t place[CR_SPATIAL_DIMS], const phase_range range[CR_SPATIAL_DIMS],
                         const int64_t before[CR_SPATIAL_DIMS], const int64_t size[CR_SPATIAL_DIMS], int64_t *taps,
                         int64_t *offsets);

/* Offsets of positions o in one padded image, then those of whole images beside each other. */
void cr_weight_offsets(const cr_convolution *p, const int64_t size[CR_SPATIAL_DIMS], int64_t images, int64_t *offsets);

/* ---------------------------------------------------------------- one dim by itself (image_lanes.h) */
/* A phase: result m, which is number first + m·step, reads tap j, which is tap + j·tap_step of the kernel, at
 * m·source_step + shift + j·shift_step of the source's source_count. */
typedef struct cr_axis {
    int64_t count, first, step, source_count, source_step;
    int64_t taps, tap, tap_step, shift, shift_step;
} cr_axis;
typedef struct cr_span {
    int32_t begin, end;
} cr_span;

/* Dim d of y = x * w, one phase, or (`by_input`) of x from y: at most as many as the stride. Returns how many. */
int64_t cr_plan_axis(const cr_convolution *p, int d, bool by_input, cr_axis *phases);
/* The taps of a result that lie inside the source. */
cr_span cr_taps_inside(const cr_axis *axis, int64_t m);

/* ---------------------------------------------------------------- direct convolutions (convolution_direct.h) */
typedef struct direct_tap {
    int64_t weight, source; /* its number in the kernel; its offset in the copy */
    int64_t low, high;      /* rows of results (of dim 1) that find it inside the image */
} direct_tap;

typedef struct direct_panel {
    int64_t source, first, depth; /* offset in the copy; the range of the sum */
    int64_t run, runs;            /* which runs are stored */
} direct_panel;

/* Neighbours of a panel and where they are stored. */
typedef struct direct_run {
    int32_t at, count;
    int64_t target;
} direct_run;

/* The results of one phase; forward has one. */
typedef struct direct_phase {
    int64_t count[CR_SPATIAL_DIMS], start; /* results in each dim; where the first one lies */
    int64_t tap_count, row_taps;           /* taps, and those in one row of the kernel */
    const direct_tap *taps;
    int64_t *weights, *offsets; /* of each term of the sum, (row of taps, channel, tap): in the weight, in the copy */
    int64_t panel_count, run_count;
    direct_panel *panels;
    direct_run *runs;
} direct_phase;

typedef struct panel_plan {
    const int64_t *size, *target_step; /* of the copy; of the results */
    int64_t channels, columns;         /* columns: of a panel */
} panel_plan;

/* y = x * w: one phase. `offsets` has room for as many numbers as there are taps. */
int64_t cr_plan_direct_forward(const cr_convolution *p, const phase_split split[CR_SPATIAL_DIMS],
                               const int64_t size[CR_SPATIAL_DIMS], int64_t *offsets, direct_tap *taps,
                               direct_phase *phase);
/* x from y: how many phases of x there are. `numbers` has room for two for each tap. */
int64_t cr_plan_direct_data(const cr_convolution *p, const phase_split split[CR_SPATIAL_DIMS],
                            const int64_t before[CR_SPATIAL_DIMS], const int64_t size[CR_SPATIAL_DIMS],
                            int64_t *numbers, direct_tap *taps, direct_phase *phases);
/* Terms and panels of all phases; false and an error on failure. */
bool cr_plan_direct_panels(const panel_plan *plan, direct_phase *phases, int64_t count, int64_t weight_channel,
                           int64_t source_channel, scratch *memory);

#endif
