/* The f32 functions of ops/math.h against libm in f64, in units in the last place, over every exponent: as the kernels
 * in use compute them, and as this file's own copy does, without fused multiply-add. What is made of the normal
 * distribution is held to a share of max(1, |x|). */
#include "ops/math.h"
#include "tests/unit/testing.h"

#include <float.h>
#include <stdio.h>
#include <stdlib.h>

enum { PER_EXPONENT = 2048, COUNT = 2 * 255 * PER_EXPONENT };

typedef struct function {
    const char *name;
    float (*own)(float);
    cr_tensor *(*op)(cr_tensor *);
    double (*truth)(double);
    double bound; /* ulp */
} function;

static double sigmoid_f64(double x) { return 1 / (1 + exp(-x)); }

#define FUNCTION(word, truth, bound)                                                                                   \
    { #word, cr_##word##_f32, cr_##word, truth, bound }
static const function functions[] = {
    FUNCTION(exp, exp, 2),     FUNCTION(log, log, 2),   FUNCTION(expm1, expm1, 2),
    FUNCTION(log1p, log1p, 2), FUNCTION(tanh, tanh, 4), FUNCTION(sigmoid, sigmoid_f64, 2),
    FUNCTION(erf, erf, 2),     FUNCTION(sin, sin, 2),   FUNCTION(cos, cos, 2),
    FUNCTION(tan, tan, 2),     FUNCTION(exp2, exp2, 2), FUNCTION(log2, log2, 2),
    FUNCTION(log10, log10, 2), FUNCTION(sinh, sinh, 2), FUNCTION(cosh, cosh, 2),
    FUNCTION(atan, atan, 2),   FUNCTION(asin, asin, 2), FUNCTION(acos, acos, 2),
};

/* Distance in steps of f32 at the truth's size (of the smallest denormal near zero). */
static double ulp(float got, double truth) {
    if (isnan(truth) || isnan(got)) return isnan(truth) && isnan(got) ? 0 : INFINITY;
    if (isinf(got) || isinf(truth))
        return (double)got == truth || fabs(truth) > (double)FLT_MAX * (1 - 0x1p-23) ? 0 : INFINITY;
    int exponent;
    frexp(truth, &exponent);
    return fabs((double)got - truth) / ldexp(1, exponent - 24 < -149 ? -149 : exponent - 24);
}

/* Every sign and exponent, with the mantissas 0, 2^23 - 1 and others at random. */
static void fill(float *x) {
    uint64_t state = 88172645463325252u; /* xorshift64 (Marsaglia, 2003) */
    for (int i = 0; i < COUNT; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        const int turn = i % PER_EXPONENT;
        const uint32_t mantissa = turn == 0 ? 0 : turn == 1 ? 0x7fffff : (uint32_t)state & 0x7fffff;
        const uint32_t bits = (uint32_t)(i / PER_EXPONENT % 255) << 23 | mantissa | (i >= COUNT / 2 ? 1u << 31 : 0);
        memcpy(x + i, &bits, sizeof bits);
    }
}

static void check(const function *f, const char *who, const float *x, const float *got) {
    double worst = 0;
    float where = 0;
    for (int i = 0; i < COUNT; i++) {
        const double error = ulp(got[i], f->truth((double)x[i]));
        if (error > worst) worst = error, where = x[i];
    }
    printf("%-8s %s: at most %.2f ulp, at %.9g\n", f->name, who, worst, (double)where);
    if (!(worst <= f->bound))
        fail_msg("%s %s: %.2f ulp at %a, allowed are %g", f->name, who, worst, (double)where, f->bound);
}

static void functions_are_accurate_over_all_exponents(void **state) {
    (void)state;
    float *x = malloc(COUNT * sizeof *x), *own = malloc(COUNT * sizeof *own);
    assert_true(x && own);
    fill(x);
    for (size_t k = 0; k < sizeof functions / sizeof functions[0]; k++)
        CR_SCOPE {
            const function *f = &functions[k];
            for (int i = 0; i < COUNT; i++)
                own[i] = f->own(x[i]);
            check(f, "plain", x, own);
            cr_tensor *y = f->op(cr_from_data(CR_F32, CR_SHAPE(COUNT), x));
            assert_cr_ok();
            check(f, cr_cpu_capability(), x, cr_data_f32(y));
        }
    free(own);
    free(x);
}

static double gelu_f64(double x) { return x * 0.5 * erfc(-x * 0.70710678118654752440); }
static double gaussian_f64(double x) { return 0.39894228040143267794 * exp(-0.5 * x * x); }
static double gelu_slope_f64(double x) { return 0.5 * erfc(-x * 0.70710678118654752440) + x * gaussian_f64(x); }
static float gelu_f32(float x) { return x * cr_normal_cdf_f32(x); }
static float gelu_slope_f32(float x) { return cr_normal_cdf_f32(x) + x * cr_normal_pdf_f32(x); }

static void the_normal_distribution_is_accurate(void **state) {
    (void)state;
    static const function parts[] = {{"gelu", gelu_f32, cr_gelu, gelu_f64, 1.2e-7},
                                     {"slope", gelu_slope_f32, cr_gelu_slope, gelu_slope_f64, 1.5e-7},
                                     {"gaussian", cr_normal_pdf_f32, cr_gaussian, gaussian_f64, 6e-8}};
    float *x = malloc(COUNT * sizeof *x);
    assert_non_null(x);
    fill(x);
    for (size_t k = 0; k < sizeof parts / sizeof parts[0]; k++)
        CR_SCOPE {
            const float *got = cr_data_f32(parts[k].op(cr_from_data(CR_F32, CR_SHAPE(COUNT), x)));
            assert_cr_ok();
            for (int i = 0; i < COUNT; i++) {
                const double truth = parts[k].truth((double)x[i]), most = parts[k].bound * fmax(1, fabs((double)x[i]));
                const float own = parts[k].own(x[i]);
                if (!(fabs((double)own - truth) <= most && fabs((double)got[i] - truth) <= most))
                    fail_msg("%s of %a: %g, the kernel's %g, not %g", parts[k].name, (double)x[i], (double)own,
                             (double)got[i], truth);
            }
        }
    assert_true(cr_normal_cdf_f32(INFINITY) == 1 && cr_normal_cdf_f32(-INFINITY) == 0 && isnan(cr_normal_cdf_f32(NAN)));
    free(x);
}

static void edges_are_those_of_libm(void **state) {
    (void)state;
    static const float edges[] = {0.0f,  -0.0f,   INFINITY, -INFINITY, NAN,    1.0f,
                                  -1.0f, FLT_MAX, -FLT_MAX, 1e-45f,    -1e-45f};
    for (size_t k = 0; k < sizeof functions / sizeof functions[0]; k++)
        for (size_t i = 0; i < sizeof edges / sizeof edges[0]; i++) {
            const float got = functions[k].own(edges[i]), truth = (float)functions[k].truth((double)edges[i]);
            if (isnan(truth)                 ? !isnan(got)
                : isinf(truth) || truth == 0 ? got != truth || signbit(got) != signbit(truth)
                                             : false)
                fail_msg("%s of %g is %g, not %g", functions[k].name, (double)edges[i], (double)got, (double)truth);
        }
}

/* NaNs of any sign and payload stay NaNs, though exponents are made of bits. */
static void nan_stays_nan(void **state) {
    (void)state;
    for (uint32_t bit = 0; bit < 23; bit++)
        for (uint32_t sign = 0; sign < 2; sign++) {
            const float x = cr_bits_to_f32(sign << 31 | 0x7f800000u | 1u << bit);
            for (size_t k = 0; k < sizeof functions / sizeof functions[0]; k++)
                assert_true(isnan(functions[k].own(x)));
            assert_true(isnan(cr_exp_normal_f32(x)) && isnan(cr_normal_cdf_f32(x)) && isnan(cr_normal_pdf_f32(x)));
        }
}

static void softmax_exponential_is_accurate(void **state) {
    (void)state;
    for (float x = -87.3f; x <= 88.0f; x += 1e-4f)
        if (!(ulp(cr_exp_normal_f32(x), exp((double)x)) <= 2)) fail_msg("of %a", (double)x);
    assert_true(cr_exp_normal_f32(-88) == 0 && cr_exp_normal_f32(-FLT_MAX) == 0 && cr_exp_normal_f32(-INFINITY) == 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(functions_are_accurate_over_all_exponents),
        cmocka_unit_test(the_normal_distribution_is_accurate),
        cmocka_unit_test(edges_are_those_of_libm),
        cmocka_unit_test(nan_stays_nan),
        cmocka_unit_test(softmax_exponential_is_accurate),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
