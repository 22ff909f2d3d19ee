/* The allocator: counters that come back to where they were, the limit, made-to-fail allocations, caches, threads.
 * Labels: threads */
#include "tests/unit/testing.h"

#include "core/allocator.h"

#include <pthread.h>

static void every_block_is_aligned_and_counted(void **state) {
    (void)state;
    const cr_memory_stats_t before = cr_memory_stats();
    for (size_t bytes = 0; bytes < (8u << 20); bytes = bytes < 70 ? bytes + 1 : bytes * 9 / 7) {
        char *block = cr_malloc(bytes);
        assert_non_null(block);
        assert_int_equal((uintptr_t)block % 64, 0);
        memset(block, 0x5a, bytes);
        const cr_memory_stats_t now = cr_memory_stats();
        assert_true(now.live_bytes - before.live_bytes >= (int64_t)bytes);
        assert_true(now.live_bytes - before.live_bytes <= (int64_t)bytes + 64);
        assert_int_equal(now.live_blocks - before.live_blocks, 1);
        cr_free(block);
        assert_int_equal(cr_memory_stats().live_bytes, before.live_bytes);
        assert_int_equal(cr_memory_stats().live_blocks, before.live_blocks);
    }
    cr_free(NULL);
}

static void freed_blocks_are_reused_until_trimmed(void **state) {
    (void)state;
    cr_memory_trim();
    assert_int_equal(cr_memory_stats().cached_bytes, 0);
    cr_free(cr_malloc(3 << 20));
    cr_free(cr_malloc(100));
    assert_true(cr_memory_stats().cached_bytes >= 3 << 20);
    const int64_t system_allocations = cr_memory_stats().system_allocations;
    for (int i = 0; i < 100; i++) {
        cr_free(cr_malloc(3 << 20));
        cr_free(cr_malloc(100));
    }
    assert_int_equal(cr_memory_stats().system_allocations, system_allocations);
    cr_memory_trim();
    assert_int_equal(cr_memory_stats().cached_bytes, 0);
}

/* Blocks that wait must not stand beside new ones of other sizes without end. */
static void what_waits_and_lives_is_bounded(void **state) {
    (void)state;
    cr_memory_trim();
    cr_memory_reset_peak();
    const int64_t begin = cr_memory_stats().live_bytes;
    for (int64_t bytes = 100 << 20; bytes < 260 << 20; bytes += bytes / 4) {
        void *block = cr_block_allocate((size_t)bytes);
        assert_non_null(block);
        const cr_memory_stats_t stats = cr_memory_stats();
        assert_true(stats.cached_bytes <= 64 << 20 || stats.live_bytes + stats.cached_bytes <= stats.peak_bytes * 3 / 2);
        cr_block_free(block, (size_t)bytes);
        assert_int_equal(cr_memory_stats().live_bytes, begin);
    }
    cr_memory_trim();
}

static size_t middle_size(uint32_t number) { return (size_t)(200 + number * 2654435761u % 4800) << 10; }

/* Blocks of 0.2 to 5 MB, many of them cut from common regions: none may lie on another, whatever went before it. */
static void blocks_of_a_middle_size_lie_apart(void **state) {
    (void)state;
    enum { COUNT = 60, ROUNDS = 300 };
    unsigned char *blocks[COUNT] = {NULL};
    size_t sizes[COUNT] = {0};
    int checked = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        const uint32_t at = round * 40503u % 1021 % COUNT;
        if (blocks[at]) {
            for (size_t i = 0; i < sizes[at]; i += 4096, checked++)
                assert_int_equal(blocks[at][i], (unsigned char)at);
            cr_block_free(blocks[at], sizes[at]);
        }
        sizes[at] = middle_size(round);
        assert_non_null(blocks[at] = cr_block_allocate(sizes[at]));
        assert_int_equal((uintptr_t)blocks[at] % 64, 0);
        memset(blocks[at], (int)at, sizes[at]);
        if (round % 50 == 49) cr_memory_trim(); /* so that places in the regions fall free */
    }
    for (int at = 0; at < COUNT; at++) {
        if (!blocks[at]) continue;
        for (size_t i = 0; i < sizes[at]; i += 4096, checked++)
            assert_int_equal(blocks[at][i], (unsigned char)at);
        cr_block_free(blocks[at], sizes[at]);
    }
    assert_true(checked > 100000);
    cr_memory_trim();
    assert_int_equal(cr_memory_stats().cached_bytes, 0);
}

static void calloc_realloc_and_strdup_behave_as_in_c(void **state) {
    (void)state;
    const int64_t before = cr_memory_stats().live_bytes;
    void *nothing = cr_malloc(0);
    assert_non_null(nothing);
    char *dirty = cr_malloc(1000);
    memset(dirty, 1, 1000);
    cr_free(dirty);
    char *zeros = cr_calloc(100, 10);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(zeros[i], 0);
    for (int i = 0; i < 1000; i++)
        zeros[i] = (char)i;
    for (size_t bytes = 1000; bytes < 100000; bytes = bytes * 3 / 2)
        zeros = cr_realloc(zeros, bytes);
    zeros = cr_realloc(zeros, 500);
    for (int i = 0; i < 500; i++)
        assert_int_equal(zeros[i], (char)i);
    char *fresh = cr_realloc(NULL, 10), *copy = cr_strdup("text");
    assert_string_equal(copy, "text");
    assert_null(cr_strdup(NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL text");
    assert_null(cr_calloc(SIZE_MAX / 2, 3));
    assert_cr_error(CR_ERROR_MEMORY, "address space");
    cr_free(zeros);
    cr_free(fresh);
    cr_free(copy);
    cr_free(nothing);
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

static void impossible_sizes_are_errors_and_leave_no_trace(void **state) {
    (void)state;
    cr_memory_reset_peak();
    const cr_memory_stats_t before = cr_memory_stats();
    static const size_t sizes[] = {SIZE_MAX,     SIZE_MAX - 63,   SIZE_MAX / 2,
                                   SIZE_MAX / 4, (size_t)1 << 60, (size_t)1 << 50};
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        assert_null(cr_malloc(sizes[i]));
        assert_cr_error(CR_ERROR_MEMORY, "cannot allocate");
        assert_null(cr_block_allocate(sizes[i]));
        assert_cr_error(CR_ERROR_MEMORY, "cannot allocate");
    }
    assert_int_equal(cr_memory_stats().live_bytes, before.live_bytes);
    assert_int_equal(cr_memory_stats().live_blocks, before.live_blocks);
    assert_int_equal(cr_memory_stats().peak_bytes, before.live_bytes);
}

static void the_peak_is_remembered(void **state) {
    (void)state;
    cr_memory_reset_peak();
    const int64_t before = cr_memory_stats().live_bytes;
    void *a = cr_malloc(1000), *b = cr_malloc(5000);
    cr_free(b);
    cr_free(a);
    const int64_t peak = cr_memory_stats().peak_bytes - before;
    assert_in_range(peak, 6000, 6000 + 128);
    cr_memory_reset_peak();
    assert_int_equal(cr_memory_stats().peak_bytes, before);
}

static void past_the_limit_is_an_error(void **state) {
    (void)state;
    const int64_t before = cr_memory_stats().live_bytes;
    cr_memory_set_limit(before + 10000);
    void *fits = cr_malloc(9000);
    assert_non_null(fits);
    assert_null(cr_malloc(2000));
    assert_cr_error(CR_ERROR_MEMORY, "the limit is");
    assert_null(cr_empty(CR_F64, CR_SHAPE(1000), CR_CPU));
    assert_cr_error(CR_ERROR_MEMORY, "the limit is");
    cr_free(fits);
    fits = cr_malloc(2000);
    assert_non_null(fits);
    cr_free(fits);
    cr_memory_set_limit(-5); /* none */
    fits = cr_malloc(100000);
    assert_non_null(fits);
    cr_free(fits);
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

static void the_nth_allocation_fails_once(void **state) {
    (void)state;
    cr_memory_fail_nth(3);
    void *first = cr_malloc(1), *second = cr_malloc(1), *third = cr_malloc(1), *fourth = cr_malloc(1);
    assert_true(first && second && !third && fourth);
    assert_int_equal(cr_memory_fail_seen(), 4);
    assert_cr_error(CR_ERROR_MEMORY, "made to fail");
    cr_memory_fail_nth(0);
    assert_int_equal(cr_memory_fail_seen(), 0);
    cr_free(first);
    cr_free(second);
    cr_free(fourth);
    assert_int_equal(cr_memory_fail_seen(), 0);
}

/* ---------------------------------------------------------------- threads */
enum { BLOCKS = 200, THREADS = 4, ROUNDS = 200 };
static void *handed_over[THREADS][BLOCKS];

static void *allocate_all(void *row) {
    void **blocks = row;
    for (int i = 0; i < BLOCKS; i++) {
        const size_t bytes = (size_t)(i * 97 % 5000 + 1);
        blocks[i] = cr_malloc(bytes);
        if (blocks[i]) memset(blocks[i], i, bytes);
    }
    return NULL;
}

static void *free_all(void *row) {
    void **blocks = row;
    for (int i = 0; i < BLOCKS; i++)
        cr_free(blocks[i]);
    return NULL;
}

static void run_on_threads(void *(*body)(void *)) {
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, body, handed_over[i]), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

static void blocks_may_be_freed_by_other_threads(void **state) {
    (void)state;
    const cr_memory_stats_t before = cr_memory_stats();
    for (int round = 0; round < ROUNDS / 20; round++) {
        run_on_threads(allocate_all);
        assert_int_equal(cr_memory_stats().live_blocks - before.live_blocks, THREADS * BLOCKS);
        run_on_threads(free_all);
        assert_int_equal(cr_memory_stats().live_bytes, before.live_bytes);
        assert_int_equal(cr_memory_stats().live_blocks, before.live_blocks);
    }
    cr_memory_trim(); /* threads that ended have given their caches back */
    assert_int_equal(cr_memory_stats().cached_bytes, 0);
}

static void *churn(void *row) {
    for (int round = 0; round < ROUNDS; round++) {
        allocate_all(row);
        free_all(row);
    }
    return NULL;
}

static void threads_do_not_share_blocks(void **state) {
    (void)state;
    const int64_t before = cr_memory_stats().live_bytes;
    run_on_threads(churn);
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_block_is_aligned_and_counted),
        cmocka_unit_test(freed_blocks_are_reused_until_trimmed),
        cmocka_unit_test(what_waits_and_lives_is_bounded),
        cmocka_unit_test(blocks_of_a_middle_size_lie_apart),
        cmocka_unit_test(calloc_realloc_and_strdup_behave_as_in_c),
        cmocka_unit_test(impossible_sizes_are_errors_and_leave_no_trace),
        cmocka_unit_test(the_peak_is_remembered),
        cmocka_unit_test(past_the_limit_is_an_error),
        cmocka_unit_test(the_nth_allocation_fails_once),
        cmocka_unit_test(blocks_may_be_freed_by_other_threads),
        cmocka_unit_test(threads_do_not_share_blocks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
