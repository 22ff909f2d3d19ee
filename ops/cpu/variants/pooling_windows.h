/* Maxima of WIDTH windows at a time, which lie beside each other and inside the input. A part of pooling_template.h:
 * include it with WIDTH (4 or 8) and WINDOWS(name) defined; it undefines them. */
typedef T WINDOWS(values) __attribute__((vector_size(WIDTH * sizeof(T)), aligned(sizeof(T)), may_alias));
typedef PLACE WINDOWS(places) __attribute__((vector_size(WIDTH * sizeof(PLACE)), aligned(sizeof(PLACE)), may_alias));
typedef int64_t WINDOWS(positions) __attribute__((vector_size(WIDTH * sizeof(int64_t)), aligned(8), may_alias));

/* Every `step`-th number, and none beyond the last one. */
static inline __attribute__((always_inline)) WINDOWS(values) WINDOWS(load)(const T *from, const int64_t step) {
    typedef WINDOWS(values) values;
    values v = {0};
    if (step == 1) return *(const values *)(const void *)from;
    if (step == 2) {
        const values low = *(const values *)(const void *)from,
                     high = *(const values *)(const void *)(from + WIDTH - 1);
#if WIDTH == 8
        return __builtin_shufflevector(low, high, 0, 2, 4, 6, 9, 11, 13, 15);
#else
        return __builtin_shufflevector(low, high, 0, 2, 5, 7);
#endif
    }
#pragma GCC unroll 8
    for (int i = 0; i < WIDTH; i++)
        v[i] = from[i * step];
    return v;
}

/* Windows that begin at `in`, step by step; see take_greater. The places are relative to each window's begin. */
static inline __attribute__((always_inline)) WINDOWS(values)
    WINDOWS(greatest)(const NAMED(pool_job) * job, const T *in, const int64_t step, const int64_t taps,
                      WINDOWS(places) * places) {
    WINDOWS(values) best = WINDOWS(load)(in, step);
    WINDOWS(places) place = {0};
    for (int64_t t = 1; t < taps; t++) {
        const WINDOWS(values) value = WINDOWS(load)(in + job->taps[t], step);
        const WINDOWS(places) take = (value > best) | (value != value);
        best = (WINDOWS(values))((take & (WINDOWS(places))value) | (~take & (WINDOWS(places))best));
        place = (take & job->taps[t]) | (~take & place);
    }
    *places = place;
    return best;
}

/* The whole windows of some rows, at least WIDTH in each, the first of which begins at number `begin` of the plane; the last
 * ones of a row overlap those before. */
static inline __attribute__((always_inline)) void WINDOWS(greatest_rows)(const NAMED(pool_job) * job, const T *in,
                                                                         int64_t begin, int64_t rows,
                                                                         const int64_t step, const int64_t taps, T *out,
                                                                         int64_t *positions) {
    const int64_t from = job->whole_from[2], to = job->whole_to[2], row = job->p->out[2],
                  row_step = job->p->stride[1] * job->p->in[2];
    WINDOWS(places) steps;
    for (int i = 0; i < WIDTH; i++)
        steps[i] = (PLACE)(i * step);
    for (int64_t r = 0; r < rows; r++, begin += row_step, out += row, positions += row)
        for (int64_t o = from; o < to; o += WIDTH) {
            const int64_t at = o < to - WIDTH ? o : to - WIDTH, first = begin + at * step;
            WINDOWS(places) places;
            *(WINDOWS(values) *)(void *)(out + at) = WINDOWS(greatest)(job, in + first, step, taps, &places);
            places += steps + (PLACE)first;
            *(WINDOWS(positions) *)(void *)(positions + at) = __builtin_convertvector(places, WINDOWS(positions));
        }
}

static void WINDOWS(greatest_windows)(const NAMED(pool_job) * job, const T *in, int64_t begin, int64_t rows, T *out,
                                      int64_t *positions) {
    const int64_t step = job->p->stride[2];
    const bool is_float = sizeof(T) == sizeof(float); /* for which the usual ones get loops of their own */
    if (is_float && step == 2 && job->tap_count == 4)
        WINDOWS(greatest_rows)(job, in, begin, rows, 2, 4, out, positions);
    else if (is_float && step == 2)
        WINDOWS(greatest_rows)(job, in, begin, rows, 2, job->tap_count, out, positions);
    else
        WINDOWS(greatest_rows)(job, in, begin, rows, step, job->tap_count, out, positions);
}
#undef WIDTH
#undef WINDOWS
