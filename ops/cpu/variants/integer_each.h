/* Each channel for itself. Included by integer.c.
 *
 * Products of 16 bits: taps are read where they lie, their bytes are widened to 32 bits, one product for each lane. Products
 * of bytes: taps are read from copied lines, four of them interleaved, so that a lane has those of one channel and adds
 * their products at once. */

enum { POSITIONS = 8 }; /* finished at once */

/* Where the taps of each position of a line of the result lie: from[position][tap]; `edge` stands for what lies outside. */
static void find_taps(const layer *l, int64_t line, const uint8_t *edge, const uint8_t **from) {
    const cr_convolution *p = &l->p;
    const int64_t width = p->kernel[2], taps = p->kernel[1] * width;
    const int64_t y0 = line % p->out[1] * p->stride[1] - p->padding[1], across = p->out[2];
    const uint8_t *image = l->x + line / p->out[1] * p->in[1] * p->in[2] * l->channels;
    for (int64_t t = 0; t < taps; t++) {
        const int64_t y = y0 + t / width * p->dilation[1];
        const bool is_inside = y >= 0 && y < p->in[1];
        int64_t x = t % width * p->dilation[2] - p->padding[2];
        for (int64_t ox = 0; ox < across; ox++, x += p->stride[2])
            from[ox * taps + t] = is_inside && x >= 0 && x < p->in[2] ? image + (y * p->in[2] + x) * l->channels : edge;
    }
}

/* Channels c … of one position. The upper halves of widened bytes are 0: one product for each lane. */
static inline __attribute__((always_inline)) void sum_taps(const uint8_t *const *from, int64_t c, const int taps,
                                                           vec_i weight[][2], vec_i sums[2]) {
    vec_i s0 = {0}, s1 = {0};
    for (int t = 0; t < taps; t++) {
        s0 = vec_multiply(s0, vec_bytes(from[t] + c), weight[t][0]);
        s1 = vec_multiply(s1, vec_bytes(from[t] + c + LANES), weight[t][1]);
    }
    sums[0] = s0;
    sums[1] = s1;
}

/* The last channels, of which there are fewer than COLUMNS. */
static void sum_last(const uint8_t *const *from, int64_t c, int taps, size_t count, vec_i weight[][2], vec_i sums[2]) {
    uint8_t bytes[COLUMNS] = {0};
    const uint8_t *copied[1] = {bytes};
    sums[0] = sums[1] = (vec_i){0};
    for (int t = 0; t < taps; t++) {
        vec_i one[2];
        memcpy(bytes, from[t] + c, count);
        sum_taps(copied, 0, 1, weight + t, one);
        sums[0] += one[0];
        sums[1] += one[1];
    }
}

/* A line, whose taps lie `from`; `row` is its first position. */
static void wide_line(const layer *l, const uint8_t *const *from, int64_t row) {
    const int taps = (int)cr_product3(l->p.kernel);
    vec_i weight[CR_INTEGER_TAPS][2], sums[POSITIONS][2];
    for (int64_t c = 0; c < l->channels; c += COLUMNS) {
        const int64_t left = l->channels - c;
        for (int t = 0; t < taps; t++)
            for (int i = 0; i < 2; i++)
                weight[t][i] = vec_shorts((const int16_t *)l->weight + t * l->strips * COLUMNS + c + i * LANES);
        for (int64_t ox = 0; ox < l->p.out[2]; ox += POSITIONS) {
            const int64_t count = l->p.out[2] - ox < POSITIONS ? l->p.out[2] - ox : POSITIONS;
            for (int64_t i = 0; i < count; i++) {
                const uint8_t *const *at = from + (ox + i) * taps;
                if (left < COLUMNS)
                    sum_last(at, c, taps, (size_t)left, weight, sums[i]);
                else if (taps == 9)
                    sum_taps(at, c, 9, weight, sums[i]);
                else
                    sum_taps(at, c, taps, weight, sums[i]);
            }
            finish_block(l, sums, row + ox, count, c);
        }
    }
}

#if defined(__AVX512BW__)
/* The 4 x 4 matrix of 128-bit lanes, transposed. */
static inline void turn_lanes(__m512i v[4]) {
    const __m512i a = _mm512_shuffle_i32x4(v[0], v[1], 0x44), b = _mm512_shuffle_i32x4(v[0], v[1], 0xee),
                  c = _mm512_shuffle_i32x4(v[2], v[3], 0x44), d = _mm512_shuffle_i32x4(v[2], v[3], 0xee);
    v[0] = _mm512_shuffle_i32x4(a, c, 0x88);
    v[1] = _mm512_shuffle_i32x4(a, c, 0xdd);
    v[2] = _mm512_shuffle_i32x4(b, d, 0x88);
    v[3] = _mm512_shuffle_i32x4(b, d, 0xdd);
}

/* COLUMNS channels of a tap of two positions, of which those that are `there` are read. */
static inline __m512i two_taps(const uint8_t *first, const uint8_t *second, __mmask32 there) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_maskz_loadu_epi8(there, first)),
                              _mm256_maskz_loadu_epi8(there, second), 1);
}

/* Bytes of four taps side by side, within lanes of 128 bits: fours[i] has columns 4 i … 4 i + 3 of each lane. */
static inline void interleave(const __m512i taps[4], __m512i fours[4]) {
    const __m512i a = _mm512_unpacklo_epi8(taps[0], taps[1]), b = _mm512_unpackhi_epi8(taps[0], taps[1]),
                  c = _mm512_unpacklo_epi8(taps[2], taps[3]), d = _mm512_unpackhi_epi8(taps[2], taps[3]);
    fours[0] = _mm512_unpacklo_epi16(a, c);
    fours[1] = _mm512_unpackhi_epi16(a, c);
    fours[2] = _mm512_unpacklo_epi16(b, d);
    fours[3] = _mm512_unpackhi_epi16(b, d);
}

/* The sums of two positions, whose lines of taps begin at `from` and `second` bytes further: a four of a line after the
 * other. */
static inline __attribute__((always_inline, target("avx512vnni"))) void
sum_fours(const layer *l, const uint8_t *from, int64_t second, const int64_t lines, const int64_t fours,
          __mmask32 there, const __m512i (*weight)[4], vec_i sums[][2]) {
    __m512i made[4] = {_mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512(), _mm512_setzero_si512()};
    for (int64_t i = 0; i < lines; i++)
        for (int64_t f = 0; f < fours; f++, weight++) {
            __m512i taps[4], four[4];
#pragma GCC unroll 4
            for (int t = 0; t < 4; t++) {
                const uint8_t *at = from + i * l->lines_apart + (4 * f + t) * l->runs_apart;
                taps[t] = two_taps(at, at + second, there);
            }
            interleave(taps, four);
#pragma GCC unroll 4
            for (int k = 0; k < 4; k++)
                made[k] = _mm512_dpbusd_epi32(made[k], four[k], (*weight)[k]);
        }
    turn_lanes(made);
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++)
        sums[i / 2][i % 2] = (vec_i)made[i];
}

/* The sums of four neighbours, of 3x3 taps that are as far apart as they are: four pixels hold the taps of two neighbours, for
 * the second one by weights that are one byte further. */
static inline __attribute__((always_inline, target("avx512vnni"))) void
sum_neighbours(const layer *l, const uint8_t *from, __mmask32 there, const __m512i (*weight)[4], vec_i sums[][2]) {
    __m512i even[4], odd[4];
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++)
        even[k] = odd[k] = _mm512_setzero_si512();
    for (int64_t i = 0; i < 3; i++) {
        __m512i taps[4], four[4];
#pragma GCC unroll 4
        for (int t = 0; t < 4; t++) {
            const uint8_t *at = from + i * l->lines_apart + t * l->position;
            taps[t] = two_taps(at, at + 2 * l->position, there);
        }
        interleave(taps, four);
#pragma GCC unroll 4
        for (int k = 0; k < 4; k++) {
            even[k] = _mm512_dpbusd_epi32(even[k], four[k], weight[i][k]);
            odd[k] = _mm512_dpbusd_epi32(odd[k], four[k], weight[3 + i][k]);
        }
    }
    turn_lanes(even);
    turn_lanes(odd);
#pragma GCC unroll 4
    for (int k = 0; k < 4; k++) {
        sums[k / 2 * 2][k % 2] = (vec_i)even[k];
        sums[k / 2 * 2 + 1][k % 2] = (vec_i)odd[k];
    }
}

/* A line, from copies of the lines that it needs; `row` is its first position. */
static __attribute__((target("avx512vnni"))) void byte_line(const layer *l, const uint8_t *from, int64_t row) {
    const int64_t lines = l->p.kernel[1], all = l->depth / 4, across = l->p.out[2];
    const bool is_dense = lines == 3 && l->p.kernel[2] == 3 && l->position == l->runs_apart;
    __m512i weight[CR_INTEGER_TAPS][4]; /* lines of one tap are fours as well */
    vec_i sums[POSITIONS][2];
    for (int64_t c = 0; c < l->channels; c += COLUMNS, from += COLUMNS) {
        const int64_t left = l->channels - c;
        const __mmask32 there = left < COLUMNS ? (__mmask32)((UINT64_C(1) << left) - 1) : ~(__mmask32)0;
        for (int64_t f = 0; f < all; f++) {
            const int8_t *w = (const int8_t *)l->weight + c * l->depth + f * 4 * COLUMNS;
            for (int i = 0; i < 4; i++)
                weight[f][i] = (__m512i)vec_load(w + i % 2 * 4 * LANES);
            turn_lanes(weight[f]);
            for (int i = 0; i < 4 && is_dense; i++)
                weight[3 + f][i] = _mm512_slli_epi32(weight[f][i], 8);
        }
        for (int64_t ox = 0; ox < across; ox += POSITIONS) {
            const int64_t count = across - ox < POSITIONS ? across - ox : POSITIONS;
            for (int64_t i = 0; i < count && is_dense; i += 4)
                sum_neighbours(l, from + (ox + i) * l->position, there, weight, sums + i);
            for (int64_t i = 0; i < count && !is_dense; i += 2) {
                const uint8_t *at = from + (ox + i) * l->position;
                const int64_t second = i + 1 < count ? l->position : 0;
                if (lines == 3 && all == 3)
                    sum_fours(l, at, second, 3, 1, there, weight, sums + i);
                else
                    sum_fours(l, at, second, lines, all / lines, there, weight, sums + i);
            }
            finish_block(l, sums, row + ox, count, c);
        }
    }
}

static void run_byte_lines(void *context, int64_t begin, int64_t end) {
    layer *l = context;
    const int place = take_panel(l);
    uint8_t *panel = (uint8_t *)(l->panels + place * l->panel_numbers);
    for (int64_t line = begin; line < end; line++) {
        copy_lines(l, line, 1, panel);
        byte_line(l, panel, line * l->p.out[2]);
    }
    atomic_flag_clear(&l->taken[place]);
}
#endif

static void run_each(void *context, int64_t begin, int64_t end) {
    layer *l = context;
    const int64_t across = l->p.out[2];
    const int place = take_panel(l);
    const uint8_t **from = (const uint8_t **)(void *)(l->panels + place * l->panel_numbers);
    uint8_t *edge = (uint8_t *)(from + across * cr_product3(l->p.kernel));
    memset(edge, l->input_zero, (size_t)l->channels);
    for (int64_t line = begin; line < end; line++) {
        find_taps(l, line, edge, from);
        wide_line(l, from, line * across);
    }
    atomic_flag_clear(&l->taken[place]);
}

static bool run_depthwise(layer *l) {
    const int64_t taps = cr_product3(l->p.kernel), lines = l->p.batch * l->p.out[1];
    void (*run)(void *, int64_t, int64_t) = run_each;
    int64_t room = l->p.out[2] * taps * (int64_t)sizeof(void *) + l->channels;
#if defined(__AVX512BW__)
    if (l->is_bytes) {
        run = run_byte_lines;
        describe_lines(l);
        room = l->p.kernel[1] * l->lines_apart + 6 * l->runs_apart; /* fours reach beyond the last line */
    }
#endif
    l->places = cr_num_threads() < THREADS ? cr_num_threads() : THREADS;
    l->panel_numbers = (room + 63) / 64 * 32;
    const size_t bytes = (size_t)(l->places * l->panel_numbers) * sizeof *l->panels;
    if (!(l->panels = cr_block_allocate(bytes))) return false;
    cr_parallel_for(lines, CR_GRAIN_ELEMENTS / (l->p.out[2] * l->channels * taps / 8 + 1), run, l);
    cr_block_free(l->panels, bytes);
    return true;
}
