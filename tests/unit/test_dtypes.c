/* dtypes: names, promotion as PyTorch's, and every f16 and bf16 value converted both ways. */
#include "tests/unit/testing.h"

#include "core/dtype.h"

#include <math.h>

static void names_and_sizes_agree(void **state) {
    (void)state;
    static const struct {
        const char *names[3];
        size_t size;
        bool is_floating, is_integral;
    } rows[CR_DTYPE_COUNT] = {
        [CR_BOOL] = {{"bool", "bool", "bool"}, 1, false, false},
        [CR_U8] = {{"u8", "uint8", "byte"}, 1, false, true},
        [CR_I8] = {{"i8", "int8", "char"}, 1, false, true},
        [CR_I16] = {{"i16", "int16", "short"}, 2, false, true},
        [CR_I32] = {{"i32", "int32", "int"}, 4, false, true},
        [CR_I64] = {{"i64", "int64", "long"}, 8, false, true},
        [CR_F16] = {{"f16", "float16", "half"}, 2, true, false},
        [CR_BF16] = {{"bf16", "bfloat16", "bfloat16"}, 2, true, false},
        [CR_F32] = {{"f32", "float32", "float"}, 4, true, false},
        [CR_F64] = {{"f64", "float64", "double"}, 8, true, false},
    };
    for (int i = 0; i < CR_DTYPE_COUNT; i++) {
        const cr_dtype dtype = (cr_dtype)i;
        assert_string_equal(cr_dtype_name(dtype), rows[i].names[0]);
        assert_int_equal(cr_dtype_size(dtype), rows[i].size);
        assert_int_equal(cr_dtype_is_floating(dtype), rows[i].is_floating);
        assert_int_equal(cr_dtype_is_integral(dtype), rows[i].is_integral);
        for (int n = 0; n < 3; n++) {
            cr_dtype parsed = CR_DTYPE_DEFAULT;
            assert_true(cr_dtype_parse(rows[i].names[n], &parsed));
            assert_int_equal(parsed, dtype);
        }
    }
    assert_string_equal(cr_dtype_name(CR_DTYPE_COUNT), "?");
    assert_string_equal(cr_dtype_name(CR_DTYPE_DEFAULT), "?");
    assert_int_equal(cr_dtype_size((cr_dtype)99), 0);
    cr_dtype untouched = CR_I8;
    assert_false(cr_dtype_parse("f33", &untouched));
    assert_cr_error(CR_ERROR_DTYPE, "\"f33\"");
    assert_int_equal(untouched, CR_I8);
    assert_false(cr_dtype_parse(NULL, &untouched));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    assert_false(cr_dtype_parse("f32", NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
}

/* Row a, column b: torch.promote_types(a, b), in the order of the enum. */
static const char *const promoted[CR_DTYPE_COUNT] = {
    "bool u8 i8 i16 i32 i64 f16 bf16 f32 f64",  "u8 u8 i16 i16 i32 i64 f16 bf16 f32 f64",
    "i8 i16 i8 i16 i32 i64 f16 bf16 f32 f64",   "i16 i16 i16 i16 i32 i64 f16 bf16 f32 f64",
    "i32 i32 i32 i32 i32 i64 f16 bf16 f32 f64", "i64 i64 i64 i64 i64 i64 f16 bf16 f32 f64",
    "f16 f16 f16 f16 f16 f16 f16 f32 f32 f64",  "bf16 bf16 bf16 bf16 bf16 bf16 f32 bf16 f32 f64",
    "f32 f32 f32 f32 f32 f32 f32 f32 f32 f64",  "f64 f64 f64 f64 f64 f64 f64 f64 f64 f64",
};

static void promotion_is_pytorchs(void **state) {
    (void)state;
    for (int a = 0; a < CR_DTYPE_COUNT; a++) {
        const char *at = promoted[a];
        for (int b = 0; b < CR_DTYPE_COUNT; b++) {
            char name[8];
            int length;
            assert_int_equal(sscanf(at, "%7s%n", name, &length), 1);
            at += length;
            assert_string_equal(cr_dtype_name(cr_dtype_promote((cr_dtype)a, (cr_dtype)b)), name);
        }
    }
    assert_int_equal(cr_dtype_promote(CR_F32, CR_DTYPE_COUNT), CR_DTYPE_DEFAULT);
}

/* The value of a binary format with `exponent_bits` and `fraction_bits`, from its definition. */
static double value_of_bits(uint32_t bits, int exponent_bits, int fraction_bits) {
    const uint32_t fraction = bits & ((1u << fraction_bits) - 1),
                   exponent = bits >> fraction_bits & ((1u << exponent_bits) - 1);
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const double sign = bits >> (exponent_bits + fraction_bits) ? -1 : 1;
    if (exponent == (1u << exponent_bits) - 1) return fraction ? NAN : sign * INFINITY;
    if (exponent == 0) return sign * ldexp(fraction, 1 - bias - fraction_bits);
    return sign * ldexp(1 + ldexp(fraction, -fraction_bits), (int)exponent - bias);
}

static void every_half_converts_exactly(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        const float half = cr_f16_to_f32((uint16_t)bits), brain = cr_bf16_to_f32((uint16_t)bits);
        const double expected_half = value_of_bits(bits, 5, 10), expected_brain = value_of_bits(bits, 8, 7);
        if (isnan(expected_half)) {
            assert_true(isnan(half) && isnan(cr_f16_to_f32(cr_f32_to_f16(half))));
        } else if ((double)half != expected_half || !signbit(half) != !signbit(expected_half) ||
                   cr_f32_to_f16(half) != bits) {
            fail_msg("f16 0x%04x is %.9g, should be %.9g, and goes back to 0x%04x", bits, half, expected_half,
                     cr_f32_to_f16(half));
        }
        if (isnan(expected_brain)) {
            assert_true(isnan(brain) && isnan(cr_bf16_to_f32(cr_f32_to_bf16(brain))));
        } else if ((double)brain != expected_brain || !signbit(brain) != !signbit(expected_brain) ||
                   cr_f32_to_bf16(brain) != bits) {
            fail_msg("bf16 0x%04x is %.9g, should be %.9g", bits, brain, expected_brain);
        }
    }
}

/* Halfway between two neighbours goes to the even one, anything beside it to the nearer one. */
static void check_rounding(uint32_t low, float (*widen)(uint16_t), uint16_t (*narrow)(float), const char *name) {
    const float below = widen((uint16_t)low), above = widen((uint16_t)(low + 1));
    const double exact_middle = ((double)below + above) / 2;
    const float middle = (float)exact_middle;
    if ((double)middle != exact_middle) return; /* among bf16's smallest denormals f32 has no middle */
    const uint32_t even = low % 2 ? low + 1 : low;
    const bool fits = narrow(middle) == even && narrow(nextafterf(middle, below)) == low &&
                      narrow(nextafterf(middle, above)) == low + 1 && narrow(-middle) == (even | 0x8000) &&
                      narrow(-nextafterf(middle, below)) == (low | 0x8000);
    if (!fits) fail_msg("%s: rounding between 0x%04x and 0x%04x", name, low, low + 1);
}

static float widen_half(uint16_t bits) { return cr_f16_to_f32(bits); }
static float widen_brain(uint16_t bits) { return cr_bf16_to_f32(bits); }
static uint16_t narrow_half(float value) { return cr_f32_to_f16(value); }
static uint16_t narrow_brain(float value) { return cr_f32_to_bf16(value); }

static void rounding_is_to_nearest_ties_to_even(void **state) {
    (void)state;
    for (uint32_t low = 0; low < 0x7bff; low++)
        check_rounding(low, widen_half, narrow_half, "f16");
    for (uint32_t low = 0; low < 0x7f7f; low++)
        check_rounding(low, widen_brain, narrow_brain, "bf16");
    assert_int_equal(cr_f32_to_f16(65519.996f), 0x7bff); /* the largest that rounds to 65504 */
    assert_int_equal(cr_f32_to_f16(65520), 0x7c00);
    assert_int_equal(cr_f32_to_f16(1e30f), 0x7c00);
    assert_int_equal(cr_f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(cr_f32_to_f16(0x1p-25f), 0);
    assert_int_equal(cr_f32_to_f16(0x1.8p-25f), 1);
    assert_int_equal(cr_f32_to_bf16(3.4e38f), 0x7f80);
    assert_int_equal(cr_f32_to_bf16(-0.0f), 0x8000);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_and_sizes_agree),
        cmocka_unit_test(promotion_is_pytorchs),
        cmocka_unit_test(every_half_converts_exactly),
        cmocka_unit_test(rounding_is_to_nearest_ties_to_even),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
