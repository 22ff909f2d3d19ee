/* Random numbers: their distributions against the true ones (fixed seeds, so that a failure is a change), and that they
 * depend on nothing but seed, offset and place. */
#include "tests/unit/testing.h"
#include "tests/unit/memory_checks.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- statistics */
static int by_value(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double uniform_cdf(double x) { return x < 0 ? 0 : x > 1 ? 1 : x; }
static double normal_cdf(double x) { return 0.5 * erfc(-x * M_SQRT1_2); }

/* √n times the largest distance between the sample's distribution and the true one: above 1.95 in 1 of 1000 cases. */
static double kolmogorov_smirnov(cr_tensor *sample, double (*cdf)(double)) {
    const int64_t n = cr_numel(sample);
    double *sorted = malloc((size_t)n * sizeof *sorted), worst = 0;
    cr_tensor *wide = cr_cast(sample, CR_F64);
    assert_non_null(wide);
    assert_true(cr_copy_to_host(wide, sorted, (size_t)n * sizeof *sorted));
    qsort(sorted, (size_t)n, sizeof *sorted, by_value);
    for (int64_t i = 0; i < n; i++) {
        const double expected = cdf(sorted[i]), above = fabs((double)(i + 1) / (double)n - expected),
                     below = fabs((double)i / (double)n - expected);
        worst = fmax(worst, fmax(above, below));
    }
    free(sorted);
    return worst * sqrt((double)n);
}

/* χ² of counts against probabilities, as standard deviations from its mean: above 4 in about 1 of 10^4 cases. */
static double chi_square(const int64_t *counts, const double *probabilities, int categories, int64_t draws) {
    double sum = 0;
    for (int i = 0; i < categories; i++) {
        const double expected = probabilities[i] * (double)draws;
        sum += ((double)counts[i] - expected) * ((double)counts[i] - expected) / expected;
    }
    return (sum - (categories - 1)) / sqrt(2.0 * (categories - 1));
}

static void assert_moments(cr_tensor *t, double mean, double std, double skewness, double kurtosis) {
    cr_tensor *x = cr_cast(t, CR_F64);
    const double *value = cr_data(x);
    const int64_t n = cr_numel(x);
    double sums[4] = {0};
    for (int64_t i = 0; i < n; i++) {
        const double z = (value[i] - mean) / std;
        sums[0] += z;
        sums[1] += z * z;
        sums[2] += z * z * z;
        sums[3] += z * z * z * z;
    }
    const double root = sqrt((double)n), limit = 4 / root; /* four standard errors of each moment of a normal sample */
    assert_true(fabs(sums[0] / (double)n) < limit);
    assert_true(fabs(sums[1] / (double)n - 1) < limit * sqrt(2));
    assert_true(fabs(sums[2] / (double)n - skewness) < limit * sqrt(15));
    assert_true(fabs(sums[3] / (double)n - kurtosis) < limit * sqrt(96));
}

/* ---------------------------------------------------------------- distributions */
enum { MANY = 200000 };

static void uniform_numbers_are_uniform(void **state) {
    (void)state;
    cr_manual_seed(1);
    const cr_dtype dtypes[] = {CR_F32, CR_F64};
    for (int i = 0; i < 2; i++) {
        cr_tensor *t = cr_rand(dtypes[i], CR_SHAPE(MANY), CR_CPU);
        assert_true(kolmogorov_smirnov(t, uniform_cdf) < 1.95);
        assert_true(cr_item(cr_amin(t)) >= 0 && cr_item(cr_amax(t)) < 1);
        assert_moments(t, 0.5, sqrt(1.0 / 12), 0, 1.8);
    }
}

static void narrow_dtypes_never_reach_the_upper_bound(void **state) {
    (void)state;
    cr_manual_seed(2);
    const cr_dtype dtypes[] = {CR_F16, CR_BF16, CR_F32, CR_F64};
    const double bounds[][2] = {{0, 1}, {-1, 1}, {1000, 1001}, {0.1, 0.3}, {2, 2}};
    for (int d = 0; d < 4; d++) {
        for (int b = 0; b < 5; b++) {
            cr_tensor *t = cr_uniform_(cr_empty(dtypes[d], CR_SHAPE(30000), CR_CPU), bounds[b][0], bounds[b][1]);
            assert_cr_ok();
            const double slack =
                dtypes[d] == CR_F64 ? 0 : fabs(bounds[b][0]) * 0x1p-8; /* the bound itself is rounded to the dtype */
            assert_true(cr_item(cr_amin(t)) >= bounds[b][0] - slack);
            assert_true(cr_item(cr_amax(t)) < bounds[b][1] || bounds[b][0] == bounds[b][1]);
        }
    }
    assert_true(fabs(cr_item(cr_mean(cr_rand(CR_BF16, CR_SHAPE(MANY), CR_CPU))) - 0.5 + 0x1p-9) < 0.005);
}

static void normal_numbers_are_normal(void **state) {
    (void)state;
    cr_manual_seed(3);
    const cr_dtype dtypes[] = {CR_F32, CR_F64, CR_F32, CR_F64};
    for (int i = 0; i < 4; i++) {
        cr_tensor *t = cr_randn(dtypes[i], CR_SHAPE(MANY), CR_CPU);
        assert_true(kolmogorov_smirnov(t, normal_cdf) < 1.95);
        assert_moments(t, 0, 1, 0, 3);
        /* pairs of one transform are independent: their products have mean 0 */
        cr_tensor *pairs = cr_view(t, CR_SHAPE(MANY / 2, 2));
        cr_tensor *products = cr_mul(cr_select(pairs, 1, 0), cr_select(pairs, 1, 1));
        assert_true(fabs(cr_item(cr_mean(products))) < 4 / sqrt(MANY / 2.0));
    }
    assert_moments(cr_normal_(cr_empty(CR_F32, CR_SHAPE(MANY), CR_CPU), -3, 0.25), -3, 0.25, 0, 3);
    assert_true(fabs(cr_item(cr_std(cr_cast(cr_randn(CR_F16, CR_SHAPE(MANY), CR_CPU), CR_F32))) - 1) < 0.01);
    assert_true(fabs(cr_item(cr_std(cr_cast(cr_randn(CR_BF16, CR_SHAPE(MANY), CR_CPU), CR_F32))) - 1) < 0.01);
}

/* Pairs are drawn: an odd count leaves the second number of the last pair out. */
static void an_odd_count_is_the_beginning_of_an_even_one(void **state) {
    (void)state;
    for (int i = 0; i < 2; i++) {
        const cr_dtype dtype = i ? CR_F64 : CR_F32;
        for (int64_t count = 1; count < 40; count += 2) {
            cr_manual_seed(5);
            cr_tensor *odd = cr_randn(dtype, CR_SHAPE(count), CR_CPU);
            cr_manual_seed(5);
            cr_tensor *even = cr_randn(dtype, CR_SHAPE(count + 1), CR_CPU);
            assert_memory_equal(cr_data(odd), cr_data(even), (size_t)count * cr_dtype_size(dtype));
        }
    }
}

static void tails_of_normal_numbers_are_there(void **state) {
    (void)state;
    cr_manual_seed(4);
    cr_tensor *t = cr_randn(CR_F32, CR_SHAPE(1 << 22), CR_CPU);
    const double beyond4 = cr_item(cr_sum(cr_gt_scalar(cr_abs(t), 4))), expected = (1 << 22) * 2 * normal_cdf(-4);
    assert_true(fabs(beyond4 - expected) < 4 * sqrt(expected));
    assert_true(cr_item(cr_amax(cr_abs(t))) > 4.7);
}

/* The transform in f64 with the C library's functions. */
static void normal_numbers_match_the_formula(void **state) {
    (void)state;
    cr_manual_seed(5);
    const cr_generator_state start = cr_generator_get_state(NULL);
    cr_tensor *t = cr_randn(CR_F64, CR_SHAPE(4096), CR_CPU);
    for (int i = 0; i < 2048; i++) {
        uint32_t n[4];
        cr_philox(start, (uint64_t)i, n);
        const double u = 1 - (double)(((uint64_t)n[0] << 32 | n[1]) >> 12) * 0x1p-52;
        const double angle = 2 * M_PI * ((double)n[2] * 0x1p-32 + (double)n[3] * 0x1p-64), radius = sqrt(-2 * log(u));
        assert_true(fabs(cr_at(t, CR_SHAPE(2 * i)) - radius * cos(angle)) < 1e-14 * 8);
        assert_true(fabs(cr_at(t, CR_SHAPE(2 * i + 1)) - radius * sin(angle)) < 1e-14 * 8);
    }
    cr_tensor *narrow = cr_randn(CR_F32, CR_SHAPE(4096), CR_CPU);
    for (int i = 0; i < 1024; i++) {
        uint32_t n[4];
        cr_philox((cr_generator_state){start.seed, 2048}, (uint64_t)i, n);
        for (int k = 0; k < 4; k += 2) {
            const double u = (double)(n[k] >> 1) * 0x1p-31 + 0x1p-32, angle = 2 * M_PI * (double)n[k + 1] * 0x1p-32,
                         radius = sqrt(-2 * log(u));
            /* near u = 1 the radius hangs on u's last bits, which f32 rounds */
            const double slack = 2e-6 + (radius < 0.1 ? 4e-4 : 6e-8 / radius);
            assert_true(fabs(cr_at(narrow, CR_SHAPE(4 * i + k)) - radius * cos(angle)) < slack);
            assert_true(fabs(cr_at(narrow, CR_SHAPE(4 * i + k + 1)) - radius * sin(angle)) < slack);
        }
    }
}

static void integers_are_equally_likely(void **state) {
    (void)state;
    cr_manual_seed(6);
    const cr_dtype dtypes[] = {CR_I64, CR_I32, CR_U8, CR_F32};
    double even[10];
    for (int i = 0; i < 10; i++)
        even[i] = 0.1;
    for (int d = 0; d < 4; d++) {
        cr_tensor *t = cr_cast(cr_randint(3, 13, CR_SHAPE(MANY), CR_CPU, .dtype = dtypes[d]), CR_I64);
        int64_t counts[10] = {0};
        for (int i = 0; i < MANY; i++) {
            const int64_t value = cr_data_i64(t)[i] - 3;
            assert_true(value >= 0 && value < 10);
            counts[value]++;
        }
        assert_true(fabs(chi_square(counts, even, 10, MANY)) < 4);
    }
    cr_tensor *wide = cr_randint(INT64_MIN, INT64_MAX, CR_SHAPE(MANY), CR_CPU),
              *unit = cr_mul_scalar(cr_cast(wide, CR_F64), 0x1p-64);
    assert_true(kolmogorov_smirnov(cr_add_scalar(unit, 0.5), uniform_cdf) < 1.95);
    cr_tensor *large = cr_random_(cr_empty(CR_I64, CR_SHAPE(MANY), CR_CPU), -5, ((int64_t)1 << 40) - 5);
    assert_true(kolmogorov_smirnov(cr_mul_scalar(cr_cast(cr_add_scalar(large, 5), CR_F64), 0x1p-40), uniform_cdf) <
                1.95);
}

static void bernoulli_draws_have_their_probability(void **state) {
    (void)state;
    cr_manual_seed(7);
    const double ps[] = {0.001, 0.3, 0.5, 0.999};
    for (int i = 0; i < 4; i++) {
        const double error = 4 * sqrt(MANY * ps[i] * (1 - ps[i]));
        cr_tensor *mask = cr_bernoulli(NULL, .p = ps[i], .shape = CR_SHAPE(MANY), .dtype = CR_BOOL);
        assert_true(fabs(cr_item(cr_sum(mask)) - MANY * ps[i]) < error);
        cr_tensor *each = cr_bernoulli(cr_full(CR_F32, CR_SHAPE(MANY), ps[i], CR_CPU));
        assert_true(fabs(cr_item(cr_sum(each)) - MANY * ps[i]) < error);
    }
    assert_true(cr_item(cr_sum(cr_bernoulli_(cr_empty(CR_F16, CR_SHAPE(1000), CR_CPU), 1))) == 1000);
    assert_true(cr_item(cr_sum(cr_bernoulli_(cr_empty(CR_I32, CR_SHAPE(1000), CR_CPU), 0))) == 0);
    cr_tensor *edges = cr_bernoulli(cr_from_data(CR_F64, CR_SHAPE(4), (double[]){0, 1, 0, 1}));
    assert_true(cr_at(edges, CR_SHAPE(0)) == 0 && cr_at(edges, CR_SHAPE(1)) == 1 && cr_at(edges, CR_SHAPE(3)) == 1);
}

static void multinomial_draws_follow_the_weights(void **state) {
    (void)state;
    cr_manual_seed(8);
    const double weights[] = {1, 0, 3, 2, 4}, share[] = {0.1, 0.3, 0.2, 0.4};
    cr_tensor *t = cr_multinomial(cr_from_data(CR_F64, CR_SHAPE(5), weights), MANY, .replacement = true);
    int64_t counts[5] = {0};
    for (int i = 0; i < MANY; i++)
        counts[cr_data_i64(t)[i]]++;
    assert_true(counts[1] == 0);
    const int64_t drawn[] = {counts[0], counts[2], counts[3], counts[4]};
    assert_true(fabs(chi_square(drawn, share, 4, MANY)) < 4);
}

/* P(first = i, second = j) = w_i · w_j / (1 - w_i). */
static void draws_without_replacement_follow_the_weights(void **state) {
    (void)state;
    cr_manual_seed(9);
    enum { ROWS = 40000 };
    const double w[] = {0.1, 0.2, 0.3, 0.4};
    cr_tensor *rows = cr_expand(cr_from_data(CR_F64, CR_SHAPE(4), w), CR_SHAPE(ROWS, 4));
    cr_tensor *t = cr_multinomial(rows, 2);
    assert_cr_ok();
    int64_t counts[12] = {0};
    double expected[12];
    for (int i = 0, k = 0; i < 4; i++)
        for (int j = 0; j < 4; j++)
            if (i != j) expected[k++] = w[i] * w[j] / (1 - w[i]);
    for (int r = 0; r < ROWS; r++) {
        const int64_t i = cr_data_i64(t)[2 * r], j = cr_data_i64(t)[2 * r + 1];
        assert_true(i != j);
        counts[i * 3 + j - (j > i)]++;
    }
    assert_true(fabs(chi_square(counts, expected, 12, ROWS)) < 4);
}

static void permutations_hold_each_number_once(void **state) {
    (void)state;
    cr_manual_seed(10);
    const int64_t counts[] = {0, 1, 2, 1000, 100000};
    for (int i = 0; i < 5; i++) {
        cr_tensor *t = cr_randperm(counts[i], CR_CPU);
        uint8_t *seen = calloc((size_t)counts[i] + 1, 1);
        for (int64_t k = 0; k < counts[i]; k++) {
            assert_true(cr_data_i64(t)[k] >= 0 && cr_data_i64(t)[k] < counts[i] && !seen[cr_data_i64(t)[k]]);
            seen[cr_data_i64(t)[k]] = 1;
        }
        free(seen);
    }
    int64_t orders[6] = {0}; /* of three numbers, all six are as likely */
    double even[6];
    for (int i = 0; i < 6; i++)
        even[i] = 1.0 / 6;
    for (int i = 0; i < 6000; i++)
        CR_SCOPE {
            const int64_t *p = cr_data_i64(cr_randperm(3, CR_CPU));
            orders[p[0] * 2 + (p[1] > p[2])]++;
        }
    assert_true(fabs(chi_square(orders, even, 6, 6000)) < 4);
    assert_true(cr_dtype_of(cr_randperm(5, CR_CPU, .dtype = CR_I32)) == CR_I32);
}

static void each_element_has_its_own_mean_and_deviation(void **state) {
    (void)state;
    cr_manual_seed(11);
    cr_tensor *mean = cr_arange(CR_F32, 0, 3, 1, CR_CPU), *std = cr_full(CR_F32, CR_SHAPE(MANY, 1), 0.5, CR_CPU);
    cr_tensor *t = cr_normal_from(mean, std, NULL);
    for (int i = 0; i < 3; i++)
        assert_moments(cr_contiguous(cr_select(t, 1, i)), i, 0.5, 0, 3);
    assert_null(cr_normal_from(mean, cr_scalar(-1, CR_F32), NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "negative");
}

/* ---------------------------------------------------------------- what numbers depend on */
typedef cr_tensor *(*drawer)(void);
static cr_tensor *draw_rand(void) { return cr_rand(CR_F32, CR_SHAPE(70001), CR_CPU); }
static cr_tensor *draw_randn(void) { return cr_randn(CR_F32, CR_SHAPE(70001), CR_CPU); }
static cr_tensor *draw_randn_f64(void) { return cr_randn(CR_F64, CR_SHAPE(70001), CR_CPU); }
static cr_tensor *draw_randn_f16(void) { return cr_randn(CR_F16, CR_SHAPE(70001), CR_CPU); }
static cr_tensor *draw_randint(void) { return cr_randint(-7, 90, CR_SHAPE(70001), CR_CPU); }
static cr_tensor *draw_bernoulli(void) { return cr_bernoulli(NULL, .p = 0.4, .shape = CR_SHAPE(70001)); }
static cr_tensor *draw_randperm(void) { return cr_randperm(70001, CR_CPU); }
static cr_tensor *draw_multinomial(void) { return cr_multinomial(cr_full(CR_F32, CR_SHAPE(3, 70), 1, CR_CPU), 60); }
static const drawer drawers[] = {draw_rand,    draw_randn,     draw_randn_f64, draw_randn_f16,
                                 draw_randint, draw_bernoulli, draw_randperm,  draw_multinomial};
enum { DRAWERS = sizeof drawers / sizeof drawers[0] };

static bool same_bits(cr_tensor *a, cr_tensor *b) {
    const int64_t bytes = cr_numel(a) * (int64_t)cr_dtype_size(cr_dtype_of(a));
    return cr_numel(a) == cr_numel(b) && !memcmp(cr_data(a), cr_data(b), (size_t)bytes);
}

static void threads_do_not_change_a_bit(void **state) {
    (void)state;
    const int threads = cr_num_threads();
    for (int k = 0; k < DRAWERS; k++) {
        cr_tensor *results[3];
        const int counts[] = {1, 2, 5};
        for (int i = 0; i < 3; i++) {
            cr_set_num_threads(counts[i]);
            cr_manual_seed(12);
            results[i] = drawers[k]();
        }
        assert_true(same_bits(results[0], results[1]) && same_bits(results[0], results[2]));
    }
    cr_set_num_threads(threads);
}

static void a_saved_state_brings_the_numbers_back(void **state) {
    (void)state;
    for (int k = 0; k < DRAWERS; k++) {
        cr_manual_seed(13);
        drawers[0]();
        const cr_generator_state middle = cr_generator_get_state(NULL);
        cr_tensor *first = drawers[k](), *other = drawers[k]();
        assert_false(same_bits(first, other));
        cr_generator_set_state(NULL, middle);
        assert_true(same_bits(first, drawers[k]()));
    }
}

static void generators_are_apart(void **state) {
    (void)state;
    cr_generator *own = cr_generator_new(14);
    cr_manual_seed(14);
    cr_tensor *a = cr_randn(CR_F32, CR_SHAPE(100), CR_CPU, .generator = own),
              *b = cr_randn(CR_F32, CR_SHAPE(100), CR_CPU);
    assert_true(same_bits(a, b));
    assert_true(cr_generator_get_state(own).offset == 25);
    cr_generator_free(own);
}

/* A whole is the same as its parts drawn one after the other, where they end on a block. */
static void numbers_depend_on_the_offset_alone(void **state) {
    (void)state;
    cr_manual_seed(15);
    cr_tensor *whole = cr_randn(CR_F32, CR_SHAPE(5000), CR_CPU);
    cr_manual_seed(15);
    cr_tensor *parts[] = {cr_randn(CR_F32, CR_SHAPE(36), CR_CPU), cr_randn(CR_F32, CR_SHAPE(4964), CR_CPU)};
    assert_true(same_bits(whole, cr_cat(parts, 2, 0)));
}

static void strides_do_not_change_the_numbers(void **state) {
    (void)state;
    cr_manual_seed(16);
    cr_tensor *dense = cr_rand(CR_F32, CR_SHAPE(2, 3, 5, 7), CR_CPU);
    cr_manual_seed(16);
    cr_tensor *strided = cr_uniform_(cr_channels_last(cr_zeros(CR_F32, CR_SHAPE(2, 3, 5, 7), CR_CPU)), 0, 1);
    assert_true(same_bits(dense, cr_contiguous(strided)));
    cr_tensor *whole = cr_zeros(CR_F32, CR_SHAPE(4, 6), CR_CPU);
    assert_non_null(cr_normal_(cr_slice(whole, 1, 1, 6, 2), 0, 1)); /* writes columns 1, 3, 5 of `whole` only */
    for (int i = 0; i < 24; i++)
        assert_true((cr_data_f32(whole)[i] != 0) == (i % 2 == 1));
}

static void a_seed_gives_these_numbers(void **state) {
    (void)state;
    cr_manual_seed(42);
    uint32_t n[4];
    cr_philox(cr_generator_get_state(NULL), 0, n);
    cr_tensor *t = cr_rand(CR_F32, CR_SHAPE(4), CR_CPU);
    for (int i = 0; i < 4; i++)
        assert_true(cr_data_f32(t)[i] == (float)(n[i] >> 8) * 0x1p-24f);
    cr_manual_seed(42); /* normal numbers of every processor: FNV-1a over their bits */
    cr_tensor *normal = cr_randn(CR_F32, CR_SHAPE(100000), CR_CPU), *wide = cr_randn(CR_F64, CR_SHAPE(100000), CR_CPU);
    uint64_t hash = 14695981039346656037u;
    for (int64_t i = 0; i < 400000; i++)
        hash = (hash ^ ((const uint8_t *)cr_data(normal))[i]) * 1099511628211u;
    for (int64_t i = 0; i < 800000; i++)
        hash = (hash ^ ((const uint8_t *)cr_data(wide))[i]) * 1099511628211u;
    assert_true(hash == 0x172fe5d011cdf4e7u);
}

/* ---------------------------------------------------------------- in place, and errors */
static void writing_in_place_forgets_the_history(void **state) {
    (void)state;
    cr_tensor *x = cr_requires_grad_(cr_full(CR_F32, CR_SHAPE(3), 2, CR_CPU), true), *y = cr_mul(x, x);
    assert_ptr_equal(cr_uniform_(y, 0, 1), y);
    assert_true(cr_backward(cr_sum(y)));
    assert_null(cr_grad_of(x)); /* nothing of y depends on x any more */
    assert_null(cr_normal_(x, 0, 1));
    assert_cr_error(CR_ERROR_STATE, "leaf");
    CR_NO_GRAD { assert_ptr_equal(cr_normal_(x, 0, 1), x); }
    assert_cr_ok();
}

static void bad_requests_are_errors(void **state) {
    (void)state;
    assert_null(cr_rand(CR_I32, CR_SHAPE(3), CR_CPU));
    assert_cr_error(CR_ERROR_DTYPE, "i32");
    cr_tensor *t = cr_zeros(CR_F32, CR_SHAPE(3), CR_CPU);
    assert_null(cr_uniform_(t, 1, 0));
    assert_cr_error(CR_ERROR_ARGUMENT, "from 1 to 0");
    assert_null(cr_uniform_(t, 0, INFINITY));
    assert_cr_error(CR_ERROR_ARGUMENT, "finite");
    assert_null(cr_normal_(t, 0, -1));
    assert_cr_error(CR_ERROR_ARGUMENT, "-1");
    assert_null(cr_randint(5, 5, CR_SHAPE(3), CR_CPU));
    assert_cr_error(CR_ERROR_ARGUMENT, "there are none");
    assert_null(cr_randint(0, 300, CR_SHAPE(3), CR_CPU, .dtype = CR_U8));
    assert_cr_error(CR_ERROR_ARGUMENT, "u8");
    assert_null(cr_bernoulli_(t, 1.5));
    assert_cr_error(CR_ERROR_ARGUMENT, "1.5");
    assert_null(cr_bernoulli(cr_from_data(CR_F32, CR_SHAPE(2), (float[]){0.5f, NAN})));
    assert_cr_error(CR_ERROR_ARGUMENT, "probability");
    const float bad[][2] = {{-1, 2}, {NAN, 1}, {INFINITY, 1}, {0, 0}};
    for (int i = 0; i < 4; i++) {
        assert_null(cr_multinomial(cr_from_data(CR_F32, CR_SHAPE(2), bad[i]), 1));
        assert_cr_error(CR_ERROR_ARGUMENT, "weight");
    }
    assert_null(cr_multinomial(cr_from_data(CR_F32, CR_SHAPE(2), (float[]){1, 0}), 2));
    assert_cr_error(CR_ERROR_ARGUMENT, "2 are needed");
    assert_null(cr_multinomial(t, 4));
    assert_cr_error(CR_ERROR_ARGUMENT, "without replacement");
    assert_null(cr_randperm(-1, CR_CPU));
    assert_cr_error(CR_ERROR_ARGUMENT, "-1");
    assert_null(cr_randn(CR_F32, CR_SHAPE(-2), CR_CPU));
    assert_cr_error(CR_ERROR_SHAPE, "negative");
    assert_null(cr_bernoulli(cr_view(t, CR_SHAPE(7))));
    assert_cr_error(CR_ERROR_SHAPE, "elements");
    assert_null(cr_uniform_(cr_expand(cr_zeros(CR_F32, CR_SHAPE(1), CR_CPU), CR_SHAPE(3)), 0, 1));
    assert_cr_error(CR_ERROR_STATE, "expanded");
}

static void failing_memory_is_an_error(void **state) {
    (void)state;
    for (int k = 0; k < DRAWERS; k++) {
        for (int n = 1; n < 100; n++) {
            cr_memory_fail_nth(n);
            cr_tensor *t = NULL;
            CR_SCOPE {
                t = cr_retain(drawers[k]());
            }
            cr_memory_fail_nth(0);
            cr_release(t);
            if (t) break;
            assert_cr_error(CR_ERROR_MEMORY, "");
        }
        cr_scope_clear();
        assert_true(cr_memory_stats().live_bytes == 0);
    }
}

int main(void) {
#define TEST(name) cmocka_unit_test_teardown(name, nothing_is_left)
    const struct CMUnitTest tests[] = {
        TEST(uniform_numbers_are_uniform),
        TEST(narrow_dtypes_never_reach_the_upper_bound),
        TEST(normal_numbers_are_normal),
        TEST(an_odd_count_is_the_beginning_of_an_even_one),
        TEST(tails_of_normal_numbers_are_there),
        TEST(normal_numbers_match_the_formula),
        TEST(integers_are_equally_likely),
        TEST(bernoulli_draws_have_their_probability),
        TEST(multinomial_draws_follow_the_weights),
        TEST(draws_without_replacement_follow_the_weights),
        TEST(permutations_hold_each_number_once),
        TEST(each_element_has_its_own_mean_and_deviation),
        TEST(threads_do_not_change_a_bit),
        TEST(a_saved_state_brings_the_numbers_back),
        TEST(generators_are_apart),
        TEST(numbers_depend_on_the_offset_alone),
        TEST(strides_do_not_change_the_numbers),
        TEST(a_seed_gives_these_numbers),
        TEST(writing_in_place_forgets_the_history),
        TEST(bad_requests_are_errors),
        TEST(failing_memory_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
