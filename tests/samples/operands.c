/* Values for samples: drawn by Philox from the sample's own text, so that a case is the same wherever it runs. */
#include "tests/samples/sample.h"

#include "core/tensor.h"

#include <math.h>
#include <string.h>

static uint64_t seed_of(const char *text) { /* FNV-1a */
    uint64_t hash = 1469598103934665603u;
    for (; *text; text++)
        hash = (hash ^ (uint8_t)*text) * 1099511628211u;
    return hash;
}

static double uniform(cr_generator_state state, int64_t i, double low, double high) {
    uint32_t numbers[4];
    cr_philox(state, (uint64_t)i, numbers);
    return low + (high - low) * (double)numbers[0] / 4294967296.0;
}

static double normal(cr_generator_state state, int64_t i) {
    uint32_t numbers[4];
    cr_philox(state, (uint64_t)i, numbers);
    const double u = ((double)numbers[1] + 1) / 4294967297.0, v = (double)numbers[2] / 4294967296.0;
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

/* A fixed shuffle of 0 … n-1 for any n: i -> a i + b mod n with a coprime to n. */
static int64_t shuffled(int64_t i, int64_t n) {
    int64_t a = (int64_t)((double)n * 0.618) | 1;
    for (;; a += 2) {
        int64_t x = a, y = n;
        while (y) {
            const int64_t t = x % y;
            x = y;
            y = t;
        }
        if (x == 1 || n < 3) break;
    }
    return n > 0 ? (a * i + 3) % n : 0;
}

static const double specials[] = {NAN, INFINITY, -INFINITY, 0.0,   -0.0, 1e30,  -1e30, 1e-30, -1e-30,
                                  1.0, -1.0,     0.5,       1e-40, 88.5, -88.5, 104.0, -104.0};

static double value_at(const operand_spec *spec, cr_generator_state state, int64_t i, int64_t n) {
    const bool is_float = cr_dtype_is_floating(spec->dtype);
    switch (spec->kind) {
    case VALUES_POSITIVE: return is_float ? uniform(state, i, 0.1, 3) : floor(uniform(state, i, 1, 6));
    case VALUES_UNIT: return uniform(state, i, -0.95, 0.95);
    case VALUES_PROB: return uniform(state, i, 0.01, 0.99);
    case VALUES_ABOVE_ONE: return uniform(state, i, 1.1, 4);
    case VALUES_INDEX: return floor(uniform(state, i, 0, (double)spec->limit));
    case VALUES_DISTINCT: /* the operands of one sample do not tie with each other either */
        return ((double)shuffled(i, n) - (double)n / 2 + 0.25) * (is_float ? 0.1 : 1) +
               (is_float ? (double)(state.seed % 5) * 0.017 : 0);
    case VALUES_PERMUTATION: return (double)shuffled(i, n);
    case VALUES_SPECIAL: {
        const size_t count = sizeof specials / sizeof specials[0];
        const size_t pick = (size_t)uniform(state, i, 0, (double)count * 2);
        return is_float && pick < count ? specials[pick] : normal(state, i);
    }
    default: break;
    }
    if (spec->dtype == CR_BOOL) return uniform(state, i, 0, 1) < 0.5;
    if (is_float) return normal(state, i);
    return floor(uniform(state, i, spec->dtype == CR_U8 ? 0 : -5, 6));
}

/* The same values behind other strides: dims reversed in memory, with a gap after each innermost row. */
static cr_tensor *spread_out(cr_tensor *dense) {
    const cr_shape shape = cr_shape_of(dense);
    if (shape.count == 0 || cr_numel(dense) == 0) return dense;
    cr_shape strides = {.count = shape.count};
    int64_t step = 2;
    for (int i = 0; i < shape.count; i++) {
        strides.at[i] = step;
        step *= shape.at[i] + (i == 0);
    }
    cr_tensor *view = cr_empty_strided(cr_dtype_of(dense), shape, strides, CR_CPU);
    return cr_copy_(view, dense);
}

static cr_tensor *operand(const operand_spec *spec, uint64_t seed, bool strided, cr_dtype dtype) {
    int64_t n;
    if (!cr_shape_numel(spec->shape, &n)) return NULL;
    cr_tensor *values = cr_empty(CR_F64, spec->shape, CR_CPU);
    if (!values) return NULL;
    const cr_generator_state state = {seed, 0};
    for (int64_t i = 0; i < n; i++)
        ((double *)cr_data(values))[i] = value_at(spec, state, i, n);
    cr_tensor *cast = cr_cast(cr_cast(values, spec->dtype), dtype); /* rounded as the sample's dtype has them */
    return strided ? spread_out(cast) : cast;
}

bool sample_operands(const sample *s, cr_tensor **operands, bool strided, bool widen) {
    for (int i = 0; i < s->input_count; i++) {
        const operand_spec *spec = &s->inputs[i];
        operands[i] = NULL;
        if (spec->is_absent) continue;
        const cr_dtype dtype = widen && cr_dtype_is_floating(spec->dtype) ? CR_F64 : spec->dtype;
        if (!(operands[i] = operand(spec, seed_of(s->line) + (uint64_t)i * 7919, strided, dtype))) return false;
    }
    return true;
}

cr_tensor *sample_cotangent(const cr_tensor *output, int index) {
    const operand_spec spec = {.dtype = cr_dtype_of(output), .shape = cr_shape_of(output), .kind = VALUES_NORMAL};
    return operand(&spec, 0xc07a + (uint64_t)index, false, spec.dtype);
}
