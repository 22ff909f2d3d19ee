/* Where taps and positions lie: index work of convolution that knows no dtype. */
#ifndef CRESSET_OPS_CPU_CONVOLUTION_PHASES_H
#define CRESSET_OPS_CPU_CONVOLUTION_PHASES_H

#include "ops/convolution.h"

/* Per dim: the distinct remainders of tap·dilation by stride, each tap's place among them, and its quotient. */
typedef struct phase_split {
    int64_t count;
    int64_t *remainders, *place, *quotient; /* [count], [kernel], [kernel] */
} phase_split;

static void split_phases(const cr_convolution *p, int d, int64_t *storage, phase_split *split) {
    *split = (phase_split){0, storage, storage + p->kernel[d], storage + 2 * p->kernel[d]};
    for (int64_t t = 0; t < p->kernel[d]; t++) {
        const int64_t reach = t * p->dilation[d], remainder = reach % p->stride[d];
        int64_t i = 0;
        while (i < split->count && split->remainders[i] != remainder)
            i++;
        if (i == split->count) split->remainders[split->count++] = remainder;
        split->place[t] = i;
        split->quotient[t] = reach / p->stride[d];
    }
}

static int64_t phase_storage(const cr_convolution *p) { return 3 * (p->kernel[0] + p->kernel[1] + p->kernel[2]); }
static void split_all_phases(const cr_convolution *p, int64_t *storage, phase_split split[CR_SPATIAL_DIMS]) {
    for (int d = 0; d < CR_SPATIAL_DIMS; storage += 3 * p->kernel[d], d++)
        split_phases(p, d, storage, &split[d]);
}

static void forward_offsets(const cr_convolution *p, const phase_split split[CR_SPATIAL_DIMS],
                            const int64_t size[CR_SPATIAL_DIMS], int64_t item, int64_t *offsets) {
    const int64_t plane = cr_product3(size);
    for (int64_t c = 0; c < p->channels; c++)
        for (int64_t t0 = 0; t0 < p->kernel[0]; t0++)
            for (int64_t t1 = 0; t1 < p->kernel[1]; t1++)
                for (int64_t t2 = 0; t2 < p->kernel[2]; t2++) {
                    const int64_t phase = (split[0].place[t0] * split[1].count + split[1].place[t1]) * split[2].count +
                                          split[2].place[t2];
                    *offsets++ = c * item + phase * plane +
                                 (split[0].quotient[t0] * size[1] + split[1].quotient[t1]) * size[2] +
                                 split[2].quotient[t2];
                }
}

/* One phase of one dim: x positions start, start + stride, … (count of them), which are m = first, first + 1, … in
 * i + padding = m·stride + remainder. */
typedef struct phase_range {
    int64_t first, start, count;
} phase_range;

static phase_range range_of_phase(const cr_convolution *p, int d, int64_t remainder) {
    const int64_t stride = p->stride[d], low = p->padding[d] - remainder, high = p->in[d] - 1 + low;
    const int64_t first = low > 0 ? (low + stride - 1) / stride : -(-low / stride);
    const int64_t last = high >= 0 ? high / stride : -((-high + stride - 1) / stride);
    return (phase_range){first, first * stride - low, last >= first ? last - first + 1 : 0};
}

/* Where each phase reads y: o = m - quotient. Finds the zeros needed in front (`before`) and the copy's size. */
static void data_extent(const cr_convolution *p, int d, const phase_split *split, int64_t *before, int64_t *size,
                        int64_t *covered) {
    int64_t low = 0, high = 0;
    *covered = 0;
    for (int64_t t = 0; t < p->kernel[d]; t++) {
        const phase_range range = range_of_phase(p, d, split->remainders[split->place[t]]);
        if (!range.count) continue;
        if (range.first - split->quotient[t] < low) low = range.first - split->quotient[t];
        if (range.first + range.count - split->quotient[t] > high)
            high = range.first + range.count - split->quotient[t];
    }
    for (int64_t i = 0; i < split->count; i++)
        *covered += range_of_phase(p, d, split->remainders[i]).count;
    *before = -low;
    *size = high - low;
}

/* The taps of one phase, their numbers in the weight and their offsets in the padded copy; returns how many. */
static int64_t taps_of_phase(const cr_convolution *p, const phase_split split[CR_SPATIAL_DIMS],
                             const int64_t place[CR_SPATIAL_DIMS], const phase_range range[CR_SPATIAL_DIMS],
                             const int64_t before[CR_SPATIAL_DIMS], const int64_t size[CR_SPATIAL_DIMS], int64_t *taps,
                             int64_t *offsets) {
    int64_t count = 0;
    for (int64_t t0 = 0; t0 < p->kernel[0]; t0++)
        for (int64_t t1 = 0; t1 < p->kernel[1]; t1++)
            for (int64_t t2 = 0; t2 < p->kernel[2]; t2++) {
                if (split[0].place[t0] != place[0] || split[1].place[t1] != place[1] || split[2].place[t2] != place[2])
                    continue;
                const int64_t o0 = range[0].first - split[0].quotient[t0] + before[0];
                const int64_t o1 = range[1].first - split[1].quotient[t1] + before[1];
                const int64_t o2 = range[2].first - split[2].quotient[t2] + before[2];
                taps[count] = (t0 * p->kernel[1] + t1) * p->kernel[2] + t2;
                offsets[count++] = (o0 * size[1] + o1) * size[2] + o2;
            }
    return count;
}

/* Offsets of positions o in one padded image, then those of whole images beside each other. */
static void weight_offsets(const cr_convolution *p, const int64_t size[CR_SPATIAL_DIMS], int64_t images,
                           int64_t *offsets) {
    const int64_t image = cr_product3(size) * p->channels;
    for (int64_t n = 0; n < images; n++)
        for (int64_t o0 = 0; o0 < p->out[0]; o0++)
            for (int64_t o1 = 0; o1 < p->out[1]; o1++)
                for (int64_t o2 = 0; o2 < p->out[2]; o2++)
                    *offsets++ =
                        n * image +
                        ((o0 * p->stride[0] * size[1] + o1 * p->stride[1]) * size[2] + o2 * p->stride[2]) * p->channels;
}

#endif
