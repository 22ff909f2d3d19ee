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

#endif
