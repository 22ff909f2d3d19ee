/* The direct way by products of bytes: AVX-512 VNNI's vpdpbusd multiplies u8 by i8, four neighbours at a time, and adds them
 * to s32 without saturating. Twice as many products as of 16 bits, and rows and weights half as long. Included by
 * integer.c.
 *
 * The taps of a position that lie side by side are a run of bytes, and so are those of its neighbour, a stride further: they
 * are read where they lie, in the image or in copies of the lines that a line of the result needs, with the padding. */
#if defined(__AVX512BW__)

enum { BYTE_ROWS = 8 }; /* 16 sums in registers; more hide no more of the latency */

#define HIDE(pointer)                                                                                                  \
    __asm__("" : "+r"(pointer)) /* how it came about, so that gcc makes no pointer for each row of it */

/* rows positions of a strip: `from` is the first byte of the first one, b the strip's weights. */
static inline __attribute__((always_inline, target("avx512vnni"))) void
multiply_bytes(const layer *l, const uint8_t *from, const int8_t *b, vec_i sums[][2], const int rows) {
    const int64_t stride = l->position, run = l->run, runs = l->runs;
    int64_t lines = l->p.kernel[1];
    vec_i made[BYTE_ROWS][2];
#pragma GCC unroll 16
    for (int i = 0; i < 2 * rows; i++)
        made[i / 2][i % 2] = (vec_i){0};
    do {
        int64_t left = runs;
        do {
            const uint8_t *near = from, *far = from + 4 * stride;
            const int8_t *const end = b + run * COLUMNS;
            do {
                const vec_i b0 = vec_load(b), b1 = vec_load(b + 4 * LANES);
#pragma GCC unroll 8
                for (int r = 0; r < rows; r++) {
                    int32_t four;
                    memcpy(&four, (r < 4 ? near : far) + r % 4 * stride, sizeof four);
                    const __m512i x = _mm512_set1_epi32(four);
                    made[r][0] = (vec_i)_mm512_dpbusd_epi32((__m512i)made[r][0], x, (__m512i)b0);
                    made[r][1] = (vec_i)_mm512_dpbusd_epi32((__m512i)made[r][1], x, (__m512i)b1);
                }
                near += 4;
                far += 4;
                b += 4 * COLUMNS;
                HIDE(near);
                HIDE(far);
            } while (b < end);
            from += l->runs_apart;
        } while (--left);
        from += l->lines_apart - runs * l->runs_apart;
    } while (--lines);
#pragma GCC unroll 16
    for (int i = 0; i < 2 * rows; i++) /* not memcpy, which would keep them in memory all along */
        sums[i / 2][i % 2] = made[i / 2][i % 2];
}

#define MULTIPLY_BYTES(rows)                                                                                           \
    static __attribute__((target("avx512vnni"))) void multiply_bytes_##rows(const layer *l, const uint8_t *from,       \
                                                                            const int8_t *b, vec_i sums[][2]) {        \
        multiply_bytes(l, from, b, sums, rows);                                                                        \
    }
MULTIPLY_BYTES(1)
MULTIPLY_BYTES(2)
MULTIPLY_BYTES(3)
MULTIPLY_BYTES(4)
MULTIPLY_BYTES(5)
MULTIPLY_BYTES(6)
MULTIPLY_BYTES(7)
MULTIPLY_BYTES(8)

/* `rows` positions side by side in one strip, cut evenly. */
static void byte_strip(const layer *l, const void *from, int64_t row, int64_t rows, int64_t strip) {
    static void (*const multiply[])(const layer *, const uint8_t *, const int8_t *, vec_i[][2]) = {
        multiply_bytes_1, multiply_bytes_2, multiply_bytes_3, multiply_bytes_4,
        multiply_bytes_5, multiply_bytes_6, multiply_bytes_7, multiply_bytes_8};
    const int8_t *b = (const int8_t *)l->weight + strip * l->depth * COLUMNS;
    const uint8_t *a = from;
    vec_i sums[BYTE_ROWS][2];
    for (int64_t groups = (rows + BYTE_ROWS - 1) / BYTE_ROWS; groups > 0; groups--) {
        const int64_t count = (rows + groups - 1) / groups;
        multiply[count - 1](l, a, b, sums);
        finish_block(l, sums, row, count, strip * COLUMNS);
        a += count * l->position;
        row += count;
        rows -= count;
    }
}

/* ---------------------------------------------------------------- lines of the result */
/* The line of the image under line `ky` of the kernel; NULL outside. */
static const uint8_t *line_in_image(const layer *l, int64_t line, int64_t ky) {
    const cr_convolution *p = &l->p;
    const int64_t y = line % p->out[1] * p->stride[1] - p->padding[1] + ky * p->dilation[1];
    if (y < 0 || y >= p->in[1]) return NULL;
    return l->x + (line / p->out[1] * p->in[1] + y) * p->in[2] * l->channels;
}

/* What lines of the result are made of, each [kernel height][width with its padding][channels]. */
static void copy_lines(const layer *l, int64_t line, int64_t lines, void *to) {
    const cr_convolution *p = &l->p;
    const int64_t width = l->lines_apart / l->channels, before = p->padding[2] < width ? p->padding[2] : width;
    const int64_t inside = p->in[2] < width - before ? p->in[2] : width - before;
    const size_t head = (size_t)(before * l->channels), body = (size_t)(inside * l->channels),
                 all = (size_t)l->lines_apart;
    uint8_t *at = to;
    for (int64_t i = 0; i < lines * p->kernel[1]; i++, at += all) {
        const uint8_t *from = line_in_image(l, line + i / p->kernel[1], i % p->kernel[1]);
        memset(at, l->input_zero, from ? head : all);
        if (!from) continue;
        memcpy(at + head, from, body);
        memset(at + head + body, l->input_zero, all - head - body);
    }
}

static void line_strip(const layer *l, const void *from, int64_t line, int64_t lines, int64_t strip) {
    const int64_t across = l->p.out[2];
    for (int64_t i = 0; i < lines; i++) {
        const uint8_t *at =
            l->gather ? (const uint8_t *)from + i * l->p.kernel[1] * l->lines_apart : line_in_image(l, line + i, 0);
        byte_strip(l, at, (line + i) * across, across, strip);
    }
}

/* Where the bytes of positions lie in copied lines. */
static void describe_lines(layer *l) {
    const cr_convolution *p = &l->p;
    const int64_t width = (p->out[2] - 1) * p->stride[2] + (p->kernel[2] - 1) * p->dilation[2] + 1;
    l->runs = p->dilation[2] == 1 ? 1 : p->kernel[2];
    l->run = (p->kernel[2] / l->runs * l->channels + 3) / 4 * 4;
    l->runs_apart = p->dilation[2] * l->channels;
    l->lines_apart = width * l->channels;
    l->position = p->stride[2] * l->channels;
}

static bool run_bytes(layer *l) {
    const cr_convolution *p = &l->p;
    describe_lines(l);
    if (l->is_plain) {
        l->gather = NULL;
        l->multiply_strip = byte_strip;
        return run_direct(l);
    }
    const int64_t room = p->kernel[1] * l->lines_apart, fits = PANEL_BYTES / room;
    const bool in_place = p->padding[1] == 0 && p->padding[2] == 0 && l->channels % 4 == 0;
    if (in_place) l->lines_apart = p->dilation[1] * p->in[2] * l->channels;
    l->gather = in_place ? NULL : copy_lines;
    l->multiply_strip = line_strip;
    l->rows = p->batch * p->out[1];
    return run_blocked(l, l->rows, fits < 1 ? 1 : fits, 1, room, SLACK, l->depth * p->out[2], run_blocks);
}
static bool has_bytes(void) { return __builtin_cpu_supports("avx512vnni"); }

#else
static bool run_bytes(layer *l) { return run_direct(l); }
static bool has_bytes(void) { return false; }
#endif

bool CR_NAME(cr_integer_has_bytes)(void);
bool CR_NAME(cr_integer_has_bytes)(void) { return has_bytes(); }
