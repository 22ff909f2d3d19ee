/* Set-up and tear-down for cmocka: a test leaves the memory as it found it, and no error. */
#ifndef CRESSET_MEMORY_CHECKS_H
#define CRESSET_MEMORY_CHECKS_H

#include "tests/unit/testing.h"

#include <stdio.h>

/* For programs in which nothing lives between tests. */
static inline int nothing_is_left(void **state) {
    (void)state;
    cr_scope_clear();
    const bool clean = cr_ok() && cr_memory_stats().live_bytes == 0;
    if (!clean)
        fprintf(stderr, "%lld bytes live, error: %s\n", (long long)cr_memory_stats().live_bytes,
                cr_ok() ? "none" : cr_last_error()->message);
    cr_clear_error();
    return clean ? 0 : -1;
}

/* For programs that hold things of their own: what was live before the test. */
static int64_t live_bytes;

static inline int remember_memory(void **state) {
    (void)state;
    live_bytes = cr_memory_stats().live_bytes;
    return 0;
}

static inline int memory_is_as_before(void **state) {
    (void)state;
    cr_scope_clear();
    assert_cr_ok();
    assert_int_equal(cr_memory_stats().live_bytes, live_bytes);
    return 0;
}

/* Runs `work` again and again, each allocation failing once in turn, or some `most` of them: most runs end with a memory
 * error, the others with none, and nothing is lost. */
static inline void check_failing_allocations(void (*work)(void *context), void *context, int64_t most) {
    work(context);
    assert_cr_ok();
    const int64_t before = cr_memory_stats().live_bytes;
    cr_memory_fail_nth(INT64_MAX);
    work(context);
    const int64_t allocations = cr_memory_fail_seen();
    cr_memory_fail_nth(0);
    assert_cr_ok();
    assert_true(allocations > most);
    int64_t failed = 0;
    for (int64_t i = 1; i <= allocations; i += 1 + allocations / most) {
        cr_memory_fail_nth(i);
        work(context);
        cr_memory_fail_nth(0);
        failed += !cr_ok();
        if (!cr_ok() && cr_last_error()->code != CR_ERROR_MEMORY)
            fail_msg("allocation %lld: %s", (long long)i, cr_last_error()->message);
        cr_clear_error();
        if (cr_memory_stats().live_bytes != before)
            fail_msg("allocation %lld failed and something is lost", (long long)i);
    }
    assert_true(failed > most / 4);
}

#endif
