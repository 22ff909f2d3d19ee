/* Labels: threads
 * The library's threads: every part runs once, whoever asks, and a process that forks can go on computing. */
#include "tests/unit/testing.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/parallel.h"
#include "core/pool.h"

typedef struct count_job {
    atomic_int runs[CR_POOL_PARTS];
    atomic_int most, now; /* parts at work at once */
} count_job;

static void count_part(void *context, int index) {
    count_job *c = context;
    const int now = atomic_fetch_add(&c->now, 1) + 1;
    for (int most = atomic_load(&c->most); now > most && !atomic_compare_exchange_weak(&c->most, &most, now);)
        ;
    atomic_fetch_add(&c->runs[index], 1);
    atomic_fetch_sub(&c->now, 1);
}

static void each_part_runs_once(void **state) {
    (void)state;
    for (int round = 0; round < 2000; round++) {
        const int parts = 1 + round % CR_POOL_PARTS, threads = 1 + round % 5;
        count_job c = {0};
        cr_pool_run(parts, threads, count_part, &c);
        for (int i = 0; i < CR_POOL_PARTS; i++)
            assert_int_equal(c.runs[i], i < parts);
        assert_in_range(c.most, 1, threads);
        assert_int_equal(c.now, 0);
    }
}

static void *ask_often(void *failed) {
    for (int round = 0; round < 500; round++) {
        count_job c = {0};
        cr_pool_run(16, 3, count_part, &c);
        for (int i = 0; i < 16; i++)
            if (c.runs[i] != 1) atomic_store((atomic_bool *)failed, true);
    }
    return NULL;
}

static void several_threads_may_ask_at_once(void **state) {
    (void)state;
    pthread_t threads[6];
    atomic_bool failed = false;
    for (int i = 0; i < 6; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, ask_often, &failed), 0);
    for (int i = 0; i < 6; i++)
        pthread_join(threads[i], NULL);
    assert_false(failed);
}

static void threads_end_and_start_again(void **state) {
    (void)state;
    for (int round = 0; round < 20; round++) {
        count_job c = {0};
        cr_pool_run(8, 4, count_part, &c);
        cr_pool_shutdown();
        for (int i = 0; i < 8; i++)
            assert_int_equal(c.runs[i], 1);
    }
    cr_pool_shutdown();
}

static double sum_of_a_million(void) {
    double sum = 0;
    CR_SCOPE {
        sum = cr_item(cr_sum(cr_ones(CR_F32, CR_SHAPE(1 << 20), CR_CPU)));
    }
    return sum;
}

static void a_child_of_fork_computes(void **state) {
    (void)state;
#if defined(__SANITIZE_THREAD__) || defined(CRESSET_OPENMP)
    skip(); /* the one ends a child that starts threads, the other's team is not there after a fork */
#endif
    const int threads = cr_num_threads();
    assert_true(cr_set_num_threads(4));
    assert_true(sum_of_a_million() == 1 << 20);
    for (int round = 0; round < 5; round++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            alarm(20); /* it would wait for threads that are not there */
            _exit(sum_of_a_million() == 1 << 20 ? 0 : 1);
        }
        int status = 1;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_int_equal(status, 0);
        assert_true(sum_of_a_million() == 1 << 20);
    }
    assert_true(cr_set_num_threads(threads));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_part_runs_once),
        cmocka_unit_test(several_threads_may_ask_at_once),
        cmocka_unit_test(threads_end_and_start_again),
        cmocka_unit_test(a_child_of_fork_computes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
