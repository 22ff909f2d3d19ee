/* Attention's tiles for one element type: define T, LANES, NAMED(x), EXPONENTIAL and IS_SINGLE before including it.
 * Tiles have rows of a multiple of COLUMNS elements, so that products need no edges: what they compute beyond a tile's
 * end is never read. */

#include "ops/cpu/variants/block_template.h"

/* ---------------------------------------------------------------- products of tiles */
/* In all three the tile's first query sees `seen` of the keys, and each one more; products with others are left out. */
/* scores [queries, keys] = a [queries, depth] · b [depth, keys]; both are rounded up: scores have room. */
static void NAMED(score)(int64_t queries, int64_t keys, int64_t seen, int64_t depth, const T *a, int64_t a_row,
                         const T *b, T *scores) {
    for (int64_t key = 0; key < keys; key += COLUMNS)
        for (int64_t row = 0; row < queries; row += ROWS) {
            if (key >= reach(seen, row, keys, COLUMNS)) continue;
            NAMED(block)
            (ROWS, depth, a + row * a_row, a_row, 1, b + key, TILE, NULL, 0, scores + row * TILE + key, TILE);
        }
}
/* c [queries, columns] += scores [queries, keys] · b [keys, columns] */
static void NAMED(mix)(int64_t queries, int64_t columns, int64_t keys, int64_t seen, const T *scores, const T *b,
                       int64_t b_row, T *c, int64_t c_row) {
    for (int64_t column = 0; column < columns; column += COLUMNS)
        for (int64_t row = 0; row < queries; row += ROWS) {
            T *sums = c + row * c_row + column;
            NAMED(block)
            (ROWS, least(keys, seen + row + ROWS - 1), scores + row * TILE, TILE, 1, b + column, b_row, sums, c_row,
             sums, c_row);
        }
}
/* c [keys, columns] += scoresᵀ · b [queries, columns] */
static void NAMED(mix_back)(int64_t keys, int64_t columns, int64_t queries, int64_t seen, const T *scores, const T *b,
                            int64_t b_row, T *c, int64_t c_row) {
    for (int64_t column = 0; column < columns; column += COLUMNS)
        for (int64_t key = 0; key < keys; key += ROWS) {
            const int64_t first = key < seen ? 0 : key - seen + 1; /* the first to see this key */
            T *sums = c + key * c_row + column;
            if (first >= queries) continue;
            NAMED(block)
            (ROWS, queries - first, scores + first * TILE + key, 1, TILE, b + first * b_row + column, b_row, sums,
             c_row, sums, c_row);
        }
}

/* ---------------------------------------------------------------- tiles from tensors and back */
/* Rows first … first+count-1 of a batch, times factor, into rows of `step` elements. */
static void NAMED(load)(const cr_tensor *t, int64_t batch, int64_t first, int64_t count, T factor, T *to,
                        int64_t step) {
    const int64_t width = t->sizes[t->ndim - 1], row = t->strides[t->ndim - 2],
                  start = batch_offset(t, batch) + first * row;
    for (int64_t r = 0; r < count; r++, to += step) {
#if IS_SINGLE
        if (t->dtype != CR_F32) {
            const uint16_t *from = (const uint16_t *)cr_tensor_address(t) + start + r * row;
            if (t->dtype == CR_F16)
                for (int64_t i = 0; i < width; i++)
                    to[i] = cr_f16_to_f32(from[i]) * factor;
            else
                for (int64_t i = 0; i < width; i++)
                    to[i] = cr_bf16_to_f32(from[i]) * factor;
            continue;
        }
#endif
        const T *from = (const T *)cr_tensor_address(t) + start + r * row;
        for (int64_t i = 0; i < width; i++)
            to[i] = from[i] * factor;
    }
}

/* The rows where they lie, if a product may read them there (whole vectors, this type), else loaded into `buffer`. */
static const T *NAMED(rows_of)(const cr_tensor *t, int64_t batch, int64_t first, int64_t count, T *buffer,
                               int64_t *step) {
    const int64_t width = t->sizes[t->ndim - 1];
    if (width % COLUMNS == 0 && cr_dtype_size((cr_dtype)t->dtype) == sizeof(T)) {
        *step = t->strides[t->ndim - 2];
        return (const T *)cr_tensor_address(t) + batch_offset(t, batch) + first * *step;
    }
    *step = round_up(width, COLUMNS);
    NAMED(load)(t, batch, first, count, 1, buffer, *step);
    return buffer;
}

/* Asks for rows first … first+count-1 of a batch, as far as there are so many: those of a head lie far from each other,
 * where the processor does not see what comes next. */
static void NAMED(fetch)(const cr_tensor *t, int64_t batch, int64_t first, int64_t count) {
    const int64_t size = (int64_t)sizeof(T) >> (t->dtype == CR_F16 || t->dtype == CR_BF16),
                  row = t->strides[t->ndim - 2] * size, width = t->sizes[t->ndim - 1] * size,
                  last = least(first + count, t->sizes[t->ndim - 2]);
    const char *from = (const char *)cr_tensor_address(t) + batch_offset(t, batch) * size + first * row;
    for (; first < last; first++, from += row)
        for (int64_t i = 0; i < width; i += 64)
            cr_prefetch(from + i);
}

/* to [width][TILE] = fromᵀ */
static void NAMED(transpose)(const T *from, int64_t step, int64_t count, int64_t width, T *to) {
    int64_t r = 0;
    for (; r + LANES <= count; r += LANES) {
        int64_t e = 0;
        for (; e + LANES <= width; e += LANES) {
            NAMED(vector) v[LANES];
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                v[i] = NAMED(load_vector)(from + (r + i) * step + e);
            NAMED(transpose_vectors)(v);
#pragma GCC unroll 16
            for (int i = 0; i < LANES; i++)
                *(NAMED(loose) *)(to + (e + i) * TILE + r) = v[i];
        }
        for (; e < width; e++)
            for (int i = 0; i < LANES; i++)
                to[e * TILE + r + i] = from[(r + i) * step + e];
    }
    for (; r < count; r++)
        for (int64_t e = 0; e < width; e++)
            to[e * TILE + r] = from[r * step + e];
}

/* Rows of `step` elements, times factor, to a dense tensor. */
static void NAMED(store)(cr_tensor *t, int64_t batch, int64_t first, int64_t count, T factor, const T *from,
                         int64_t step) {
    const int64_t width = t->sizes[t->ndim - 1], start = (batch * t->sizes[t->ndim - 2] + first) * width;
    for (int64_t r = 0; r < count; r++, from += step) {
#if IS_SINGLE
        if (t->dtype != CR_F32) {
            uint16_t *to = (uint16_t *)cr_tensor_address(t) + start + r * width;
            if (t->dtype == CR_F16)
                for (int64_t i = 0; i < width; i++)
                    to[i] = cr_f32_to_f16(from[i] * factor);
            else
                for (int64_t i = 0; i < width; i++)
                    to[i] = cr_f32_to_bf16(from[i] * factor);
            continue;
        }
#endif
        T *to = (T *)cr_tensor_address(t) + start + r * width;
        for (int64_t i = 0; i < width; i++)
            to[i] = from[i] * factor;
    }
}

/* ---------------------------------------------------------------- scores */
/* Adds the mask, and hides what is masked and what lies beyond the last key: -∞. scores [count][TILE]. */
static void NAMED(mask)(const attention_job *job, int64_t batch, int64_t row, int64_t count, int64_t key, int64_t keys,
                        int64_t first_seen, T *scores) {
    const cr_tensor *mask = job->mask;
    const int64_t start = mask ? batch_offset(mask, batch) : 0;
    const int64_t row_step = mask ? mask->strides[mask->ndim - 2] : 0,
                  key_step = mask ? mask->strides[mask->ndim - 1] : 0;
    for (int64_t r = 0; r < count; r++) {
        T *s = scores + r * TILE;
        const int64_t place = start + (row + r) * row_step + key * key_step;
        if (mask && mask->dtype == CR_BOOL) {
            const uint8_t *seen = (const uint8_t *)cr_tensor_address(mask) + place;
            for (int64_t i = 0; i < keys; i++)
                s[i] = seen[i * key_step] ? s[i] : (T)-INFINITY;
        } else if (mask) {
            const T *added = (const T *)cr_tensor_address(mask) + place;
            for (int64_t i = 0; i < keys; i++)
                s[i] += added[i * key_step];
        }
        const int64_t seen = first_seen + r, end = seen > keys ? keys : seen > 0 ? seen : 0;
        const int64_t padded = reach(first_seen, r, keys, COLUMNS);
        for (int64_t i = end; i < padded; i++)
            s[i] = (T)-INFINITY;
    }
}

static inline NAMED(vector) NAMED(larger)(NAMED(vector) a, NAMED(vector) b) {
    const NAMED(lanes) is_a = a > b;
    return (NAMED(vector))(((NAMED(lanes))a & is_a) | ((NAMED(lanes))b & ~is_a));
}

/* All lanes come to hold the whole. */
#define FOLD(v, f)                                                                                                     \
    do {                                                                                                               \
        if (LANES > 8) v = f(v, NAMED(swapped)(v, 8));                                                                 \
        if (LANES > 4) v = f(v, NAMED(swapped)(v, 4));                                                                 \
        if (LANES > 2) v = f(v, NAMED(swapped)(v, 2));                                                                 \
        v = f(v, NAMED(swapped)(v, 1));                                                                                \
    } while (0)
#define ADD(a, b) ((a) + (b))

/* Of a row of whole vectors. */
static T NAMED(maximum)(const T *x, int64_t padded) {
    NAMED(vector) first = NAMED(load_vector)(x), second = NAMED(load_vector)(x + LANES);
    for (int64_t i = COLUMNS; i < padded; i += COLUMNS) {
        first = NAMED(larger)(NAMED(load_vector)(x + i), first);
        second = NAMED(larger)(NAMED(load_vector)(x + i + LANES), second);
    }
    first = NAMED(larger)(first, second);
    FOLD(first, NAMED(larger));
    return first[0];
}
static T NAMED(sum)(const T *x, int64_t padded) {
    NAMED(vector) first = {0}, second = {0};
    for (int64_t i = 0; i < padded; i += COLUMNS) {
        first += NAMED(load_vector)(x + i);
        second += NAMED(load_vector)(x + i + LANES);
    }
    first += second;
    FOLD(first, ADD);
    return first[0];
}
/* Σ a · b, of whole columns. */
static T NAMED(dot)(const T *a, const T *b, int64_t width) {
    NAMED(vector) first = {0}, second = {0};
    for (int64_t i = 0; i < width; i += COLUMNS) {
        first += NAMED(load_vector)(a + i) * NAMED(load_vector)(b + i);
        second += NAMED(load_vector)(a + i + LANES) * NAMED(load_vector)(b + i + LANES);
    }
    first += second;
    FOLD(first, ADD);
    return first[0];
}
#undef FOLD
#undef ADD

/* scores [count][TILE] = q · keysᵀ, for few rows: keys are read once, as they lie, and values fetched meanwhile. Widths are
 * whole columns. */
static void NAMED(few_scores)(int64_t count, int64_t keys, int64_t width, const T *q, const T *k, int64_t k_step,
                              const T *v, int64_t v_step, int64_t value_width, T *scores) {
    for (int64_t key = 0; key < keys; key++, k += k_step, v += v_step) {
        for (int64_t i = 0; i < value_width; i += 64 / (int64_t)sizeof(T))
            cr_prefetch(v + i);
        for (int64_t r = 0; r < count; r++)
            scores[r * TILE + key] = NAMED(dot)(q + r * width, k, width);
    }
}

/* ---------------------------------------------------------------- forward: a block of queries */
typedef struct NAMED(tiles) {
    T *q, *k, *v, *transposed, *scores, *out, *top, *total;
    int64_t width, value_width; /* rounded up */
} NAMED(tiles);

static NAMED(tiles) NAMED(forward_tiles)(const attention_job *job, T *memory) {
    NAMED(tiles) t = {.width = round_up(job->width, COLUMNS), .value_width = round_up(job->value_width, COLUMNS)};
    t.q = memory;
    t.k = t.q + TILE * t.width;
    t.transposed = t.k + TILE * t.width;
    t.v = t.transposed + TILE * t.width;
    t.out = t.v + TILE * t.value_width;
    t.scores = t.out + TILE * t.value_width;
    t.top = t.scores + STRIPE * TILE;
    t.total = t.top + TILE;
    return t;
}
static int64_t NAMED(forward_bytes)(const attention_job *job) {
    return (int64_t)sizeof(T) * TILE *
           (3 * round_up(job->width, COLUMNS) + 2 * round_up(job->value_width, COLUMNS) + STRIPE + 2);
}

/* The online softmax of up to ROWS rows, in steps that wait for nothing within the rows of each: scores become
 * exponentials beside the largest so far, and what was summed before shrinks. */
static void NAMED(exponentials)(NAMED(tiles) * t, int64_t first, int64_t count, int64_t padded, T *scores) {
    T *top = t->top + first, *total = t->total + first, found[ROWS], shrink[ROWS];
    for (int64_t r = 0; r < count; r++)
        found[r] = NAMED(maximum)(scores + r * TILE, padded);
    for (int64_t r = 0; r < count; r++) {
        const T before = top[r];
        top[r] = found[r] > before ? found[r] : before;
        found[r] = top[r] == (T)-INFINITY ? 0 : top[r]; /* nothing seen yet */
        const T shrunk = EXPONENTIAL(before - found[r]);
        shrink[r] = before == top[r] ? 1 : shrunk;
    }
    for (int64_t r = 0; r < count; r++) {
        T *s = scores + r * TILE;
        _Pragma("GCC ivdep") for (int64_t i = 0; i < padded; i++) s[i] = EXPONENTIAL(s[i] - found[r]);
    }
    for (int64_t r = 0; r < count; r++)
        total[r] = total[r] * shrink[r] + NAMED(sum)(scores + r * TILE, padded);
    for (int64_t r = 0; r < count; r++) {
        T *out = t->out + (first + r) * t->value_width;
        for (int64_t i = 0; shrink[r] != 1 && i < t->value_width; i++)
            out[i] *= shrink[r];
    }
}

/* Of what the next tile of keys reads, and what another task reads first, the share that row `row` stands for. */
static void NAMED(fetch_keys)(const attention_job *job, int64_t batch, int64_t row) {
    NAMED(fetch)(job->k, batch, row, STRIPE);
    NAMED(fetch)(job->v, batch, row, STRIPE);
}
static void NAMED(fetch_queries)(const attention_job *job, int64_t batch, int64_t row) {
    NAMED(fetch)(job->q, batch, row, STRIPE);
    if (!job->grad) return;
    NAMED(fetch)(job->grad, batch, row, STRIPE);
    NAMED(fetch)(job->output, batch, row, STRIPE);
}
static void NAMED(fetch_task)(const attention_job *job, int64_t task, int64_t row) {
    const int64_t batch = task / job->parts;
    if (task >= job->tasks) return;
    NAMED(fetch_queries)(job, batch, job->grad ? row : task % job->parts * TILE + row);
    NAMED(fetch_keys)(job, batch, row);
}

static void NAMED(forward)(const attention_job *job, int64_t task, T *memory) {
    NAMED(tiles) t = NAMED(forward_tiles)(job, memory);
    const int64_t batch = task / job->parts, first = task % job->parts * TILE, count = least(TILE, job->rows - first);
    const int64_t last = job->is_causal ? least(job->keys, job->before + first + count) : job->keys;
    NAMED(load)(job->q, batch, first, count, (T)job->scale, t.q, t.width);
    for (int64_t r = 0; r < count; r++) {
        t.top[r] = (T)-INFINITY;
        t.total[r] = 0;
    }
    memset(t.out, 0, (size_t)(round_up(count, ROWS) * t.value_width) * sizeof(T));
    for (int64_t key = 0; key < last; key += TILE) {
        const int64_t keys = least(TILE, job->keys - key);
        int64_t k_step, v_step;
        const T *k = NAMED(rows_of)(job->k, batch, key, keys, t.k, &k_step);
        const T *v = NAMED(rows_of)(job->v, batch, key, keys, t.v, &v_step);
        if (count > FEW_ROWS)
            NAMED(transpose)(k, k_step, keys, job->width, t.transposed);
        else
            NAMED(few_scores)(count, keys, t.width, t.q, k, k_step, v, v_step, t.value_width, t.scores);
        for (int64_t r = 0; r < count; r += STRIPE) {
            const int64_t rows = least(STRIPE, count - r), seen = keys_seen(job, first + r, key, keys);
            T *out = t.out + r * t.value_width;
            if (count > FEW_ROWS)
                NAMED(score)(rows, keys, seen, job->width, t.q + r * t.width, t.width, t.transposed, t.scores);
            NAMED(mask)(job, batch, first + r, rows, key, keys, seen, t.scores);
            for (int64_t i = 0; i < rows; i += ROWS)
                NAMED(exponentials)
            (&t, r + i, least(ROWS, rows - i), reach(seen, i, keys, COLUMNS), t.scores + i * TILE);
            NAMED(mix)(rows, job->value_width, keys, seen, t.scores, v, v_step, out, t.value_width);
            if (key + TILE < last)
                NAMED(fetch_keys)(job, batch, key + TILE + r);
            else
                NAMED(fetch_task)(job, task + job->slots, r);
        }
    }
    T *log_sum = job->out_log_sum ? (T *)cr_tensor_address(job->out_log_sum) + batch * job->rows + first : t.top;
    for (int64_t r = 0; r < count; r++) {
        log_sum[r] = (T)(log((double)t.total[r]) + (double)t.top[r]);
        NAMED(store)
        (job->out, batch, first + r, 1, job->keys ? 1 / t.total[r] : 0, t.out + r * t.value_width, t.value_width);
    }
}

/* ---------------------------------------------------------------- backward: a range of keys */
typedef struct NAMED(grad_tiles) {
    T *q, *g, *k, *v, *k_transposed, *v_transposed, *weights, *ds, *grad_k, *grad_v, *grad_q, *y;
    int64_t width, value_width;
} NAMED(grad_tiles);

static NAMED(grad_tiles) NAMED(backward_tiles)(const attention_job *job, T *memory) {
    NAMED(grad_tiles) t = {.width = round_up(job->width, COLUMNS), .value_width = round_up(job->value_width, COLUMNS)};
    T **const wide[] = {&t.q, &t.k, &t.k_transposed, &t.grad_k},
              **const of_values[] = {&t.g, &t.v, &t.v_transposed, &t.grad_v};
    for (int i = 0; i < 4; i++, memory += TILE * t.width)
        *wide[i] = memory;
    for (int i = 0; i < 4; i++, memory += TILE * t.value_width)
        *of_values[i] = memory;
    t.weights = memory;
    t.ds = t.weights + TILE * TILE;
    t.y = t.ds + TILE * TILE;
    t.grad_q = t.y + STRIPE * t.value_width;
    return t;
}
static int64_t NAMED(backward_bytes)(const attention_job *job) {
    const int64_t width = round_up(job->width, COLUMNS), value_width = round_up(job->value_width, COLUMNS);
    return (int64_t)sizeof(T) *
           (TILE * (4 * width + 4 * value_width + 2 * TILE) + STRIPE * value_width + round_up(job->rows, TILE) * width);
}

/* Queries first … first+count-1 of a tile with the keys at `key`: their weights, the gradients of their scores, and
 * what these add to the queries' own gradients. */
static void NAMED(backward_stripe)(const attention_job *job, NAMED(grad_tiles) * t, int64_t task, int64_t tile,
                                   int64_t first, int64_t count, int64_t key, int64_t keys, const T *k,
                                   int64_t k_step) {
    const int64_t batch = task / job->parts, row = tile + first, seen = keys_seen(job, row, key, keys);
    const T *log_sum = (const T *)cr_tensor_address(job->log_sum) + batch * job->rows + row;
    T *q = t->q + first * t->width, *g = t->g + first * t->value_width, *weights = t->weights + first * TILE,
      *gradients = t->ds + first * TILE;
    NAMED(load)(job->q, batch, row, count, (T)job->scale, q, t->width);
    NAMED(load)(job->grad, batch, row, count, 1, g, t->value_width);
    NAMED(load)(job->output, batch, row, count, 1, t->y, t->value_width);
    NAMED(score)(count, keys, seen, job->width, q, t->width, t->k_transposed, weights);
    NAMED(mask)(job, batch, row, count, key, keys, seen, weights);
    NAMED(score)(count, keys, seen, job->value_width, g, t->value_width, t->v_transposed, gradients);
    for (int64_t r = 0; r < count; r++) {
        T *p = weights + r * TILE, *ds = gradients + r * TILE;
        const int64_t padded = reach(seen, r, keys, COLUMNS);
        const T mean = NAMED(dot)(g + r * t->value_width, t->y + r * t->value_width, t->value_width);
        _Pragma("GCC ivdep") for (int64_t i = 0; i < padded; i++) {
            p[i] = EXPONENTIAL(p[i] - log_sum[r]);
            ds[i] = p[i] * (ds[i] - mean);
        }
    }
    NAMED(mix)(count, job->width, keys, seen, gradients, k, k_step, t->grad_q + row * t->width, t->width);
    if (tile + TILE < job->rows)
        NAMED(fetch_queries)(job, batch, row + TILE);
    else
        NAMED(fetch_task)(job, task + job->slots, first);
}

/* The tile of queries at `row` with that of keys at `key`. */
static void NAMED(backward_tile)(const attention_job *job, NAMED(grad_tiles) * t, int64_t task, int64_t row,
                                 int64_t key, int64_t keys, const T *k, int64_t k_step) {
    const int64_t count = least(TILE, job->rows - row), seen = keys_seen(job, row, key, keys);
    for (int64_t r = 0; r < count; r += STRIPE)
        NAMED(backward_stripe)(job, t, task, row, r, least(STRIPE, count - r), key, keys, k, k_step);
    NAMED(mix_back)
    (keys, job->value_width, count, seen, t->weights, t->g, t->value_width, t->grad_v, t->value_width);
    NAMED(mix_back)(keys, job->width, count, seen, t->ds, t->q, t->width, t->grad_k, t->width);
}

static void NAMED(backward)(const attention_job *job, int64_t task, T *memory) {
    NAMED(grad_tiles) t = NAMED(backward_tiles)(job, memory);
    const int64_t batch = task / job->parts, part = task % job->parts, key_tiles = (job->keys + TILE - 1) / TILE;
    const int64_t first = part * key_tiles / job->parts * TILE,
                  last = least((part + 1) * key_tiles / job->parts * TILE, job->keys);
    memset(t.grad_q, 0, (size_t)(round_up(job->rows, TILE) * t.width) * sizeof(T));
    for (int64_t key = first; key < last; key += TILE) {
        const int64_t keys = least(TILE, job->keys - key);
        int64_t k_step, v_step;
        const T *k = NAMED(rows_of)(job->k, batch, key, keys, t.k, &k_step);
        const T *v = NAMED(rows_of)(job->v, batch, key, keys, t.v, &v_step);
        NAMED(transpose)(k, k_step, keys, job->width, t.k_transposed);
        NAMED(transpose)(v, v_step, keys, job->value_width, t.v_transposed);
        memset(t.grad_k, 0, (size_t)(TILE * t.width) * sizeof(T));
        memset(t.grad_v, 0, (size_t)(TILE * t.value_width) * sizeof(T));
        for (int64_t row = job->is_causal ? key / TILE * TILE : 0; row < job->rows; row += TILE)
            NAMED(backward_tile)(job, &t, task, row, key, keys, k, k_step);
        NAMED(store)(job->grad_k, batch, key, keys, 1, t.grad_k, t.width);
        NAMED(store)(job->grad_v, batch, key, keys, 1, t.grad_v, t.value_width);
    }
    if (job->parts == 1) {
        NAMED(store)(job->grad_q, batch, 0, job->rows, (T)job->scale, t.grad_q, t.width);
        return;
    }
    T *to = (T *)job->partials + (batch * job->parts + part) * job->rows * job->width;
    for (int64_t r = 0; r < job->rows; r++)
        memcpy(to + r * job->width, t.grad_q + r * t.width, (size_t)job->width * sizeof(T));
}

/* grad_q of batches whose keys were cut: the parts in their order. */
static void NAMED(join)(void *context, int64_t begin, int64_t end) {
    const attention_job *job = context;
    const int64_t size = job->rows * job->width;
    for (int64_t batch = begin; batch < end; batch++) {
        T *total = (T *)job->partials + batch * job->parts * size;
        for (int64_t part = 1; part < job->parts; part++)
            for (int64_t i = 0; i < size; i++)
                total[i] += total[part * size + i];
        NAMED(store)(job->grad_q, batch, 0, job->rows, (T)job->scale, total, job->width);
    }
}

static void NAMED(run_slots)(void *context, int64_t begin, int64_t end) {
    const attention_job *job = context;
    atomic_int_fast64_t *next = &((attention_job *)context)->next;
    for (int64_t slot = begin; slot < end; slot++) {
        T *memory = (T *)(void *)(job->scratch + slot * job->slot_bytes);
        memset(memory, 0, (size_t)job->slot_bytes);
        for (int64_t task; (task = atomic_fetch_add_explicit(next, 1, memory_order_relaxed)) < job->tasks;)
            if (job->grad)
                NAMED(backward)(job, task, memory);
            else
                NAMED(forward)(job, task, memory);
    }
}
#undef COLUMNS
