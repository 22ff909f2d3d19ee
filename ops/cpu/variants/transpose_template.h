/* Vectors, and a square of them transposed in registers: define T, LANE_INDEX (an integer of T's size), LANES and NAMED(x)
 * before including it. */

typedef T NAMED(vector) __attribute__((vector_size(LANES * sizeof(T))));
typedef T NAMED(loose) __attribute__((vector_size(LANES * sizeof(T)), aligned(sizeof(T)), may_alias));
typedef LANE_INDEX NAMED(lanes) __attribute__((vector_size(LANES * sizeof(T))));

/* Lane j is element from[j] of a and b side by side; `from` is a constant after inlining. */
static inline __attribute__((always_inline)) NAMED(vector)
    NAMED(shuffled)(NAMED(vector) a, NAMED(vector) b, NAMED(lanes) from) {
#ifdef __clang__
    NAMED(vector) result;
    for (int j = 0; j < LANES; j++)
        result[j] = from[j] < LANES ? a[from[j]] : b[from[j] - LANES];
    return result;
#else
    return __builtin_shuffle(a, b, from);
#endif
}

/* Lanes that are `apart` from each other, a power of two, exchanged. */
static inline __attribute__((always_inline)) NAMED(vector) NAMED(swapped)(NAMED(vector) v, const int apart) {
    NAMED(lanes) from;
#pragma GCC unroll 16
    for (int j = 0; j < LANES; j++)
        from[j] = j ^ apart;
    return NAMED(shuffled)(v, v, from);
}

/* One exchange of blocks of h × h around the diagonal; all of them, from LANES / 2 down to 1, transpose v (Eklundh,
 * 1972). */
static inline __attribute__((always_inline)) void NAMED(exchange)(NAMED(vector) v[LANES], const int h) {
    NAMED(lanes) low, high;
#pragma GCC unroll 16
    for (int j = 0; j < LANES; j++) {
        low[j] = j & h ? LANES + j - h : j;
        high[j] = j & h ? LANES + j : j + h;
    }
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++) {
        if (i & h) continue;
        const NAMED(vector) upper = v[i], lower = v[i + h];
        v[i] = NAMED(shuffled)(upper, lower, low);
        v[i + h] = NAMED(shuffled)(upper, lower, high);
    }
}

static inline __attribute__((always_inline)) void NAMED(transpose_vectors)(NAMED(vector) v[LANES]) {
    if (LANES > 8) NAMED(exchange)(v, 8);
    if (LANES > 4) NAMED(exchange)(v, 4);
    if (LANES > 2) NAMED(exchange)(v, 2);
    NAMED(exchange)(v, 1);
}
