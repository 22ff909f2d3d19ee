/* The core: scopes, references, errors, memory counters, shapes, devices, random numbers, threads.
 * Labels: threads mutation */
#include "tests/unit/testing.h"

static void scopes_release_what_they_hold(void **state) {
    (void)state;
    const int64_t before = cr_memory_stats().live_bytes;
    cr_tensor *survivor = NULL;
    CR_SCOPE {
        cr_empty(CR_F32, CR_SHAPE(2, 3), CR_CPU);
        survivor = cr_keep(cr_empty(CR_F64, CR_SHAPE(7), CR_CPU));
        cr_empty(CR_I8, CR_SHAPE_0D, CR_CPU);
    }
    assert_int_equal(cr_numel(survivor), 7);
    cr_discard(survivor);
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

static void the_first_error_is_kept(void **state) {
    (void)state;
    assert_null(cr_empty(CR_F32, CR_SHAPE(2, -1), CR_CPU));
    assert_null(cr_empty(CR_F32, CR_SHAPE(1), CR_CUDA(99)));
    assert_int_equal(cr_last_error()->code, CR_ERROR_SHAPE);
    assert_int_equal(cr_report(NULL), 1);
    assert_true(cr_ok());
    assert_int_equal(cr_report(NULL), 0);
}

/* Known answers of Random123: counter and key all zero, and all ones. */
static void philox_matches_the_published_vectors(void **state) {
    (void)state;
    uint32_t numbers[4];
    cr_philox((cr_generator_state){0, 0}, 0, numbers);
    assert_int_equal(numbers[0], 0x6627e8d5);
    assert_int_equal(numbers[1], 0xe169c58d);
    assert_int_equal(numbers[2], 0xbc57ac4c);
    assert_int_equal(numbers[3], 0x9b00dbd8);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scopes_release_what_they_hold),
        cmocka_unit_test(the_first_error_is_kept),
        cmocka_unit_test(philox_matches_the_published_vectors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
