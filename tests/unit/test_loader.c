/* The loader: batches depend on the seed alone, errors reach the consumer, loops end cleanly at any moment.
 * Labels: threads */
#include "tests/unit/testing.h"
#include "tests/unit/memory_checks.h"

#include <stdatomic.h>
#include <time.h>

/* A dataset of `count` samples {random number, index}; sample `broken` fails, sample `slow` takes half a second. */
typedef struct source {
    int64_t count, broken, slow;
    atomic_int gets;
} source;

static int64_t source_length(void *self) { return ((source *)self)->count; }
static bool source_get(void *self, int64_t index, cr_generator_state *random, cr_data_sample *sample) {
    source *s = self;
    atomic_fetch_add(&s->gets, 1);
    if (index == s->slow)
        nanosleep(&(struct timespec){.tv_nsec = 500000000}, NULL);
    else if (index % 3 == 0)
        nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
    if (index == s->broken) return cr_fail(CR_ERROR_FORMAT, "picture.png: cannot be decoded");
    sample->count = 2;
    sample->fields[0] = cr_scalar(cr_data_random_uniform(random, 0, 1), CR_F64);
    sample->fields[1] = cr_scalar_i64(index);
    return sample->fields[0] && sample->fields[1];
}
static const cr_data_dataset_table source_table = {"source", source_length, source_get, cr_free};

static cr_data_dataset *source_new(int64_t count, int64_t broken, int64_t slow) {
    source *self = cr_calloc(1, sizeof *self);
    self->count = count, self->broken = broken, self->slow = slow;
    return cr_data_dataset_new(&source_table, self);
}

/* All that a loader gives from where it stands to the end of epoch `last`, as text that can be compared. */
static size_t record(cr_data_loader *loader, int64_t last, double *text) {
    size_t used = 0;
    while (cr_data_loader_get_state(loader).epoch <= last) {
        CR_FOR_BATCHES (batch, loader) {
            text[used++] = (double)batch.epoch, text[used++] = (double)batch.index;
            for (int64_t i = 0; i < batch.samples; i++) {
                text[used++] = cr_at(batch.input, CR_SHAPE(i));
                text[used++] = cr_at(batch.target, CR_SHAPE(i));
            }
        }
        assert_cr_ok();
    }
    return used;
}

static void batches_do_not_depend_on_the_number_of_workers(void **state) {
    (void)state;
    static double expected[4096], found[4096];
    size_t expected_count = 0;
    for (int workers = 0; workers <= 5; workers++) {
        cr_data_loader *loader = cr_data_loader_new(source_new(103, -1, -1), .batch_size = 8, .shuffle = true,
                                                    .workers = workers, .seed = 7, .prefetch = 1 + workers % 3);
        assert_int_equal(cr_data_loader_length(loader), 13);
        const size_t count = record(loader, 2, workers ? found : expected);
        if (workers == 0) expected_count = count;
        assert_int_equal(count, expected_count);
        assert_int_equal(count, 3 * (13 * 2 + 103 * 2));
        if (workers) assert_memory_equal(found, expected, count * sizeof *found);
        cr_data_loader_free(loader);
    }
    assert_true(expected[3] != expected[232 + 3]); /* the second epoch has another order */
}

static void a_run_resumes_at_any_batch(void **state) {
    (void)state;
    static double expected[4096], found[4096];
    for (int workers = 0; workers <= 2; workers += 2) {
        cr_data_loader *whole = cr_data_loader_new(source_new(20, -1, -1), .batch_size = 3, .shuffle = true, .seed = 1);
        const size_t count = record(whole, 1, expected);
        cr_data_loader_free(whole);
        for (int64_t stop = 1; stop <= 7; stop++) {
            cr_data_loader_state place = {0};
            cr_data_loader *first = cr_data_loader_new(source_new(20, -1, -1), .batch_size = 3, .shuffle = true,
                                                       .seed = 1, .workers = workers);
            CR_FOR_BATCHES (batch, first) {
                if (batch.index + 1 < stop) continue;
                place = cr_data_loader_get_state(first);
                break;
            }
            assert_int_equal(cr_data_loader_get_state(first).position, stop); /* also after the loop */
            cr_data_loader_free(first);
            cr_data_loader *second =
                cr_data_loader_new(source_new(20, -1, -1), .batch_size = 3, .shuffle = true, .workers = workers);
            assert_true(cr_data_loader_set_state(second, place));
            const size_t rest = record(second, 1, found);
            assert_memory_equal(found, expected + count - rest, rest * sizeof *found);
            assert_int_equal(rest, count - (size_t)(stop < 7 ? stop * 8 : 7 * 2 + 40));
            cr_data_loader_free(second);
        }
    }
}

static int64_t first_target(cr_data_loader *loader) {
    int64_t target = -1;
    CR_FOR_BATCHES (batch, loader) {
        target = (int64_t)cr_at(batch.target, CR_SHAPE(0));
        break;
    }
    return target;
}

static void epochs_follow_each_other_and_can_be_set(void **state) {
    (void)state;
    cr_data_loader *loader = cr_data_loader_new(source_new(100, -1, -1), .shuffle = true, .seed = 3, .workers = 1);
    int64_t firsts[3];
    for (int epoch = 0; epoch < 3; epoch++)
        firsts[epoch] = first_target(loader); /* a break ends an epoch too */
    assert_int_equal(cr_data_loader_get_state(loader).epoch, 2);
    assert_true(cr_data_loader_set_epoch(loader, 1));
    assert_int_equal(first_target(loader), firsts[1]);
    assert_int_equal(first_target(loader), firsts[2]);
    assert_true(cr_data_loader_set_epoch(loader, 0) && cr_data_loader_skip(loader, 98) &&
                cr_data_loader_skip(loader, 1));
    int turns = 0;
    CR_FOR_BATCHES (batch, loader) {
        assert_int_equal(batch.index, 99);
        assert_false(cr_data_loader_skip(loader, 1));
        assert_cr_error(CR_ERROR_STATE, "while a loop runs");
        turns++;
    }
    assert_int_equal(turns, 1);
    assert_false(cr_data_loader_set_epoch(loader, -1));
    assert_cr_error(CR_ERROR_ARGUMENT, "epoch -1");
    cr_data_loader_free(loader);
}

static void the_seed_comes_from_the_default_generator(void **state) {
    (void)state;
    int64_t firsts[3];
    for (int i = 0; i < 3; i++) {
        cr_manual_seed(i == 2 ? 6 : 5);
        cr_data_loader *loader = cr_data_loader_new(source_new(100000, -1, -1), .shuffle = true);
        firsts[i] = first_target(loader);
        cr_data_loader_free(loader);
    }
    assert_int_equal(firsts[0], firsts[1]);
    assert_int_not_equal(firsts[0], firsts[2]);
}

static void the_last_batch_may_be_dropped(void **state) {
    (void)state;
    for (int drop = 0; drop < 2; drop++) {
        cr_data_loader *loader = cr_data_loader_new(source_new(10, -1, -1), .batch_size = 4, .drop_last = drop);
        int64_t samples = 0;
        CR_FOR_BATCHES (batch, loader) {
            assert_int_equal(cr_size(batch.input, 0), batch.samples);
            assert_float_equal(cr_at(batch.target, CR_SHAPE(0)), (double)samples, 0); /* in order */
            samples += batch.samples;
        }
        assert_int_equal(samples, drop ? 8 : 10);
        assert_int_equal(cr_data_loader_get_stats(loader).samples, samples);
        cr_data_loader_free(loader);
    }
}

static void an_error_reaches_the_consumer_with_the_samples_index(void **state) {
    (void)state;
    for (int workers = 0; workers <= 3; workers++) {
        cr_data_loader *loader = cr_data_loader_new(source_new(50, 17, -1), .batch_size = 4, .workers = workers);
        for (int round = 0; round < 2; round++) {
            int turns = 0;
            CR_FOR_BATCHES (batch, loader)
                turns++;
            assert_int_equal(turns, 4); /* the batches before it are whole */
            assert_cr_error(CR_ERROR_FORMAT, "loader: sample 17: picture.png: cannot be decoded");
        }
        cr_data_loader_free(loader);
    }
}

static bool of_unequal_shapes(void *context, cr_generator_state *random, cr_data_sample *sample) {
    (void)context, (void)random;
    sample->fields[0] = cr_empty(CR_U8, CR_SHAPE(3, cr_item_i64(sample->fields[1]) == 2 ? 5 : 4), CR_CPU);
    return sample->fields[0] != NULL;
}

static void unequal_samples_are_named(void **state) {
    (void)state;
    cr_data_loader *loader = cr_data_loader_new(cr_data_map(source_new(4, -1, -1), of_unequal_shapes, NULL, NULL),
                                                .batch_size = 4, .workers = 1);
    CR_FOR_BATCHES (batch, loader)
        fail_msg("no batch can be made of these");
    assert_cr_error(CR_ERROR_SHAPE, "field 0 of the batch's sample 2 is u8[3,5], of sample 0 u8[3,4]");
    cr_data_loader_free(loader);
}

static void a_loop_does_not_run_over_an_error(void **state) {
    (void)state;
    cr_data_loader *loader = cr_data_loader_new(source_new(40, -1, -1), .workers = 2);
    int turns = 0;
    CR_FOR_BATCHES (batch, loader) {
        turns++;
        cr_record_error(CR_ERROR_NUMERIC, "the loss is NaN");
    }
    CR_FOR_BATCHES (batch, loader)
        turns++;
    assert_int_equal(turns, 1);
    assert_cr_error(CR_ERROR_NUMERIC, "NaN");
    cr_data_loader_free(loader);
    CR_FOR_BATCHES (batch, NULL)
        turns++;
    assert_cr_error(CR_ERROR_ARGUMENT, "loader is NULL");
}

static int64_t leave_by_return(cr_data_loader *loader) {
    CR_FOR_BATCHES (batch, loader) {
        cr_empty(CR_F32, CR_SHAPE(1000), CR_CPU);
        CR_SCOPE {
            return batch.index;
        }
    }
    return -1;
}

static void a_turn_is_a_scope_however_it_ends(void **state) {
    (void)state;
    cr_data_loader *loader = cr_data_loader_new(source_new(64, -1, -1), .batch_size = 2, .workers = 2);
    const int64_t fixed = 1 << 20;
    CR_FOR_BATCHES (batch, loader) {
        cr_empty(CR_U8, CR_SHAPE(fixed), CR_CPU);
        assert_true(cr_memory_stats().live_bytes - live_bytes < 2 * fixed); /* the last turn's is gone */
        if (batch.index % 2) continue;
        if (batch.index == 20) break;
    }
    assert_true(cr_memory_stats().live_bytes - live_bytes < fixed);
    assert_int_equal(leave_by_return(loader), 0);
    cr_tensor *kept = NULL;
    CR_FOR_BATCHES (batch, loader) {
        kept = cr_keep(batch.target);
        goto out;
    }
out:
    assert_int_equal(cr_at(kept, CR_SHAPE(1)), 1);
    cr_discard(kept);
    cr_data_loader_free(loader);
}

static void one_loop_at_a_time(void **state) {
    (void)state;
    cr_data_loader *loader = cr_data_loader_new(source_new(3, -1, -1));
    int inner_turns = 0;
    CR_FOR_BATCHES (outer, loader) {
        CR_FOR_BATCHES (inner, loader)
            inner_turns++;
        assert_cr_error(CR_ERROR_STATE, "make a second loader");
    }
    assert_int_equal(inner_turns, 0);
    cr_data_loader_free(loader);
}

static void stopping_is_clean_at_any_moment(void **state) {
    (void)state;
    for (int turn = 0; turn < 60; turn++) {
        cr_data_loader *loader =
            cr_data_loader_new(source_new(40, turn % 4 == 3 ? 30 : -1, -1), .batch_size = 3, .workers = 1 + turn % 4,
                               .prefetch = 1 + turn % 2, .shuffle = true, .seed = turn);
        for (int loop = 0; loop < 3; loop++) {
            CR_FOR_BATCHES (batch, loader) {
                if (batch.index == turn % 15) break;
            }
            cr_clear_error();
        }
        cr_data_loader_free(loader);
    }
}

static void a_slow_sample_runs_into_the_timeout(void **state) {
    (void)state;
    cr_data_loader *loader = cr_data_loader_new(source_new(8, -1, 5), .batch_size = 2, .workers = 1, .timeout = 0.1);
    int turns = 0;
    CR_FOR_BATCHES (batch, loader)
        turns++;
    assert_int_equal(turns, 2);
    assert_cr_error(CR_ERROR_STATE, "no batch within 0.1 s; batch 2 begins with sample 4");
    cr_data_loader_free(loader);
}

static void waiting_and_working_are_measured(void **state) {
    (void)state;
    cr_data_loader *loader = cr_data_loader_new(source_new(2, -1, 1));
    CR_FOR_BATCHES (batch, loader)
        nanosleep(&(struct timespec){.tv_nsec = 100000000}, NULL);
    const cr_data_loader_stats stats = cr_data_loader_get_stats(loader);
    assert_int_equal(stats.batches, 2);
    assert_true(stats.wait_seconds > 0.49 && stats.wait_seconds < 2);
    assert_true(stats.work_seconds > 0.19 && stats.work_seconds < 2);
    cr_data_loader_free(loader);
}

static void workers_prepare_at_most_what_prefetch_allows(void **state) {
    (void)state;
    source *self = cr_calloc(1, sizeof *self);
    self->count = 1000, self->broken = self->slow = -1;
    cr_data_loader *loader = cr_data_loader_new(cr_data_dataset_new(&source_table, self), .workers = 2, .prefetch = 3);
    CR_FOR_BATCHES (batch, loader) {
        nanosleep(&(struct timespec){.tv_nsec = 30000000}, NULL);
        assert_true(atomic_load(&self->gets) <= batch.index + 1 + 6);
        if (batch.index == 3) {
            assert_int_equal(atomic_load(&self->gets), 10); /* and they do work ahead */
            break;
        }
    }
    cr_data_loader_free(loader);
}

/* A user's sampler that makes batches of 1, 2, 3, … samples. */
static bool growing_write(void *self, int64_t length, uint64_t seed, int64_t epoch, cr_data_order *order) {
    (void)self, (void)seed, (void)epoch;
    for (int64_t i = 0, size = 1, left = 1; i < length; i++) {
        if (!cr_data_order_add(order, length - 1 - i)) return false;
        if (--left == 0) {
            left = ++size;
            if (!cr_data_order_end_batch(order)) return false;
        }
    }
    return true;
}

static bool sum_collate(void *context, const cr_data_sample *samples, int64_t count, cr_data_sample *batch) {
    int64_t sum = *(int64_t *)context;
    for (int64_t i = 0; i < count; i++)
        sum += cr_item_i64(samples[i].fields[1]);
    batch->count = 1;
    batch->fields[0] = cr_scalar_i64(sum);
    return true;
}

static void samplers_and_collate_functions_may_be_the_users(void **state) {
    (void)state;
    static const cr_data_sampler_table growing = {"growing", growing_write, NULL};
    int64_t start = 100;
    cr_data_loader *loader = cr_data_loader_new(source_new(7, -1, -1), .sampler = cr_data_sampler_new(&growing, NULL),
                                                .collate = sum_collate, .collate_context = &start, .workers = 2);
    const int64_t expected[] = {106, 109, 106, 100}, sizes[] = {1, 2, 3, 1};
    int turns = 0;
    CR_FOR_BATCHES (batch, loader) {
        assert_int_equal(cr_item_i64(batch.input), expected[batch.index]);
        assert_int_equal(batch.samples, sizes[batch.index]);
        assert_null(batch.target);
        turns++;
    }
    assert_int_equal(turns, 4);
    cr_data_loader_free(loader);
}

static void an_empty_dataset_has_no_batches(void **state) {
    (void)state;
    cr_data_loader *loader = cr_data_loader_new(source_new(0, -1, -1), .workers = 1, .shuffle = true);
    CR_FOR_BATCHES (batch, loader)
        fail_msg("a batch of nothing");
    assert_int_equal(cr_data_loader_length(loader), 0);
    cr_data_loader_free(loader);
}

static void wrong_options_are_refused_and_nothing_is_lost(void **state) {
    (void)state;
    assert_null(cr_data_loader_new(NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "dataset is NULL");
    assert_null(cr_data_loader_new(source_new(3, -1, -1), .batch_size = 0));
    assert_cr_error(CR_ERROR_ARGUMENT, "batch_size 0");
    assert_null(cr_data_loader_new(source_new(3, -1, -1), .workers = 1000));
    assert_cr_error(CR_ERROR_ARGUMENT, "1000 workers");
    assert_null(cr_data_loader_new(source_new(3, -1, -1), .shuffle = true, .sampler = cr_data_sequential_sampler()));
    assert_cr_error(CR_ERROR_ARGUMENT, "leave shuffle out");
    assert_null(cr_data_loader_new_with(NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "dataset is NULL");
}

static void every_failed_allocation_is_an_error(void **state) {
    (void)state;
    for (int workers = 0; workers <= 1; workers++)
        for (int n = 1, failed = 1; failed; n++) {
            cr_data_dataset *dataset = source_new(6, -1, -1);
            cr_memory_fail_nth(n);
            cr_data_loader *loader = cr_data_loader_new(dataset, .batch_size = 2, .workers = workers, .shuffle = true);
            int turns = 0;
            if (loader)
                CR_FOR_BATCHES (batch, loader)
                    turns++;
            cr_memory_fail_nth(0);
            failed = !cr_ok();
            assert_true(failed || turns == 3);
            if (failed) assert_cr_error(CR_ERROR_MEMORY, "made to fail");
            cr_data_loader_free(loader);
            assert_int_equal(cr_memory_stats().live_bytes, live_bytes);
        }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, remember_memory, memory_is_as_before)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(batches_do_not_depend_on_the_number_of_workers),
        TEST(a_run_resumes_at_any_batch),
        TEST(epochs_follow_each_other_and_can_be_set),
        TEST(the_seed_comes_from_the_default_generator),
        TEST(the_last_batch_may_be_dropped),
        TEST(an_error_reaches_the_consumer_with_the_samples_index),
        TEST(unequal_samples_are_named),
        TEST(a_loop_does_not_run_over_an_error),
        TEST(a_turn_is_a_scope_however_it_ends),
        TEST(one_loop_at_a_time),
        TEST(stopping_is_clean_at_any_moment),
        TEST(a_slow_sample_runs_into_the_timeout),
        TEST(waiting_and_working_are_measured),
        TEST(workers_prepare_at_most_what_prefetch_allows),
        TEST(samplers_and_collate_functions_may_be_the_users),
        TEST(an_empty_dataset_has_no_batches),
        TEST(wrong_options_are_refused_and_nothing_is_lost),
        TEST(every_failed_allocation_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
