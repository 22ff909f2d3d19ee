/* The sides of a product as panels, for one element type, which is only moved: define T, LANE_INDEX, LANES and NAMED(x) before
 * including it, and ROWS and DEPTH_BLOCK. */

#include "ops/cpu/variants/block_template.h"

/* Lines that lie `across` apart become columns, and zeros up to `width` of them: to[k][width] for k up to depth, LANES
 * of them at a time. Returns how many were done. */
static inline __attribute__((always_inline)) int64_t
NAMED(pack_transposed)(const T *from, int64_t lines, int64_t across, int64_t depth, const int width, T *to) {
    int64_t k = 0;
    for (; k + LANES <= depth; k += LANES) {
#pragma GCC unroll 4
        for (int first = 0; first < width; first += LANES) {
            const int count = width - first < LANES ? width - first : LANES;
            NAMED(vector) v[LANES];
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                v[i] = i < count && first + i < lines ? NAMED(load_vector)(from + (first + i) * across + k)
                                                      : (NAMED(vector)){0};
            NAMED(transpose_vectors)(v);
            const bool exact = width >= LANES || k + 2 * LANES > depth;
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++) {
                T *row = to + (k + i) * width + first;
                if (exact)
                    memcpy(row, &v[i], (size_t)count * sizeof(T));
                else /* what is too much is overwritten by the next row */
                    *(NAMED(loose) *)row = v[i];
            }
        }
    }
    return k;
}

/* One side of the product, cut into panels of `width` lines, the last one filled up with zeros; of DEPTH_BLOCK elements
 * of all lines, then of the next ones: to[block][panel][its depth][width]. Element k of a line is `along` behind the one
 * before, lines are `across` apart. A's panels begin at even distances, and hold the first lines of the next ones too:
 * a last panel of one row would take most of a whole one's time. */
typedef struct NAMED(side) {
    const T *from;
    int64_t lines, across, along, depth;
    T *to;
    int64_t even; /* so many panels at even distances; 0: each begins behind the one before */
} NAMED(side);

static inline int64_t NAMED(first_line)(const NAMED(side) * s, int64_t width, int64_t panel) {
    return s->even ? panel * s->lines / s->even : panel * width;
}

/* `count` pieces of `width` neighbours. Where a vector's worth of them follows, narrow ones are copied as whole vectors:
 * what is too much is overwritten by the next. */
static inline __attribute__((always_inline)) void NAMED(pack_lines)(const T *from, int64_t along, int64_t count,
                                                                    const int width, bool more, T *to) {
    const bool whole = width < LANES && more;
    for (int64_t k = 0; k < count; k++, from += along, to += width)
        if (whole)
            *(NAMED(loose) *)to = NAMED(load_vector)(from);
        else
            memcpy(to, from, sizeof(T) * (size_t)width);
}

/* Panels begin … end-1 of one block of at most DEPTH_BLOCK elements; s->to is where the first of them goes. */
static inline __attribute__((always_inline)) void NAMED(pack_block)(const NAMED(side) * s, const int width,
                                                                    int64_t begin, int64_t end) {
    int64_t whole = end; /* panels before it have all their lines */
    while (whole > begin && NAMED(first_line)(s, width, whole - 1) + width > s->lines)
        whole--;
    if (s->across == 1) { /* a few cache lines at a time, each for all panels: they may fall on one set of the cache */
        for (int64_t first = 0; first < s->depth; first += 8) {
            const int64_t last = first + 8 < s->depth ? first + 8 : s->depth;
            for (int64_t p = begin; p < whole; p++)
                NAMED(pack_lines)
            (s->from + NAMED(first_line)(s, width, p) + first * s->along, s->along, last - first, width,
             (s->depth - last) * width >= LANES && s->along >= LANES, s->to + ((p - begin) * s->depth + first) * width);
        }
    }
    for (int64_t p = s->across == 1 && begin < whole ? whole : begin; p < end; p++) {
        const int64_t line = NAMED(first_line)(s, width, p), lines = p < whole ? width : s->lines - line;
        const T *from = s->from + line * s->across;
        T *to = s->to + (p - begin) * width * s->depth;
        int64_t k = s->along != 1 ? 0
                    : p < whole   ? NAMED(pack_transposed)(from, width, s->across, s->depth, width, to)
                                  : NAMED(pack_transposed)(from, lines, s->across, s->depth, width, to);
        for (; k < s->depth; k++)
            for (int64_t i = 0; i < width; i++)
                to[k * width + i] = i < lines ? from[i * s->across + k * s->along] : 0;
    }
}

static void NAMED(pack_b)(void *context, int64_t begin, int64_t end) {
    const NAMED(side) *s = context;
    const int64_t padded = (s->lines + COLUMNS - 1) / COLUMNS * COLUMNS;
    for (int64_t start = 0; start < s->depth; start += DEPTH_BLOCK) {
        NAMED(side) block = *s;
        block.depth = s->depth - start < DEPTH_BLOCK ? s->depth - start : DEPTH_BLOCK;
        block.from += start * s->along;
        block.to += start * padded + begin * COLUMNS * block.depth;
        NAMED(pack_block)(&block, COLUMNS, begin, end);
    }
}

static void NAMED(pack_a)(const NAMED(side) * s, int64_t begin, int64_t end) { NAMED(pack_block)(s, ROWS, begin, end); }
