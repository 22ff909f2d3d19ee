/* Small planes with the images of a batch as lanes: [channel][row][column][LANES images], f32. However small a plane is, its
 * vectors are full, and every neighbour of a result begins a vector. */
#ifndef CRESSET_OPS_CPU_IMAGE_LANES_H
#define CRESSET_OPS_CPU_IMAGE_LANES_H

#include "core/parallel.h"
#include "ops/cpu/convolution_plan.h"
#include "ops/cpu/variants/vectors.h"

#include <stdatomic.h>
#include <string.h>

#define T          float
#define LANE_INDEX int32_t
#define NAMED(x)   images_##x
#include "ops/cpu/variants/transpose_template.h"
#undef T
#undef LANE_INDEX
#undef NAMED

/* Planes of a group of images, and their copy, which has zeros around. */
typedef struct lane_copy {
    const float *source;
    int64_t images, image, group;      /* of the batch; elements of an image, and of its group */
    int64_t channels, height, width;   /* of a group */
    int64_t above, below, left, right; /* zeros */
    const int32_t *places;             /* of each position of a plane, in the copy's plane, in elements */
} lane_copy;

static inline int64_t lane_pitch(const lane_copy *c) { return (c->left + c->width + c->right) * LANES; }
static inline int64_t lane_plane(const lane_copy *c) { return (c->above + c->height + c->below) * lane_pitch(c); }

/* Of the positions of a plane, and of LANES positions behind it, which are those of the next planes. */
static inline int64_t count_places(const lane_copy *c) { return c->height * c->width + LANES; }
static inline void find_places(const lane_copy *c, int32_t *places) {
    for (int64_t i = 0; i < c->height; i++)
        for (int64_t j = 0; j < c->width; j++)
            *places++ = (int32_t)((c->above + i) * lane_pitch(c) + (c->left + j) * LANES);
    for (int i = 0; i < LANES; i++, places++)
        *places = places[-c->height * c->width] + (int32_t)lane_plane(c);
}

/* to[l][i] = from[l][i], steps between the l, and zeros where there is nothing: for the squares at the end. */
static inline void copy_part(const float *from, int64_t step, int64_t rows, int64_t columns, float *to) {
    memset(to, 0, LANES * LANES * sizeof(float));
    for (int64_t l = 0; l < rows; l++)
        memcpy(to + l * LANES, from + l * step, (size_t)columns * sizeof(float));
}

/* Some channels of LANES images from `first` on into memory that is zero around them; images that are not there are zero. */
static inline void copy_lanes(const lane_copy *c, int64_t first, int64_t group, int64_t channel, int64_t channels,
                              float *target) {
    const int64_t plane = c->height * c->width, count = channels * plane, used = count < LANES ? count : LANES,
                  images = c->images - first < LANES ? c->images - first : LANES;
    const float *source = c->source + first * c->image + group * c->group + channel * plane;
    _Alignas(64) float part[LANES * LANES];
    for (int64_t at = 0, position = 0; at < count; at += LANES, position += LANES) {
        if (at + LANES > count && count > LANES) { /* once more what is there already */
            position -= at - (count - LANES);
            at = count - LANES;
        }
        for (; position >= plane; position -= plane)
            target += lane_plane(c);
        for (; position < 0; position += plane)
            target -= lane_plane(c);
        const float *from = source + at;
        int64_t step = c->image;
        if (images < LANES || used < LANES) {
            copy_part(from, step, images, used, part);
            from = part;
            step = LANES;
        }
        vector v[LANES];
#pragma GCC unroll 16
        for (int l = 0; l < LANES; l++)
            v[l] = load(from + l * step);
        images_transpose_vectors(v);
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            if (i < used) store(target + c->places[position + i], v[i]);
    }
}

#endif
