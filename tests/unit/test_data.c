/* Datasets and samplers: what they give, in which order, and what they refuse. */
#include "tests/unit/testing.h"
#include "tests/unit/memory_checks.h"

#include <math.h>

/* x: [n, 2] with x[i] = {i, 10 i}; y: [n] with y[i] = i. */
static cr_data_dataset *numbers(int64_t n) {
    cr_data_dataset *dataset = NULL;
    CR_SCOPE {
        cr_tensor *x = cr_empty(CR_F32, CR_SHAPE(n, 2), CR_CPU), *y = cr_empty(CR_I64, CR_SHAPE(n), CR_CPU);
        for (int64_t i = 0; i < n; i++) {
            cr_data_f32(x)[2 * i] = (float)i;
            cr_data_f32(x)[2 * i + 1] = (float)(10 * i);
            cr_data_i64(y)[i] = i;
        }
        dataset = cr_data_tensor_dataset(x, y);
    }
    return dataset;
}

static int64_t target_of(cr_data_dataset *dataset, int64_t index) {
    cr_data_sample sample;
    int64_t target = -1;
    CR_SCOPE {
        if (cr_data_dataset_get(dataset, index, NULL, &sample)) target = cr_item_i64(sample.fields[1]);
    }
    return target;
}

static void a_tensor_dataset_gives_slices(void **state) {
    (void)state;
    cr_data_dataset *dataset = numbers(5);
    cr_data_sample sample;
    assert_int_equal(cr_data_dataset_length(dataset), 5);
    CR_SCOPE {
        assert_true(cr_data_dataset_get(dataset, 3, NULL, &sample));
        assert_int_equal(sample.count, 2);
        assert_true(cr_shape_equal(cr_shape_of(sample.fields[0]), CR_SHAPE(2)));
        assert_float_equal(cr_at(sample.fields[0], CR_SHAPE(1)), 30, 0);
        assert_int_equal(cr_ndim(sample.fields[1]), 0);
    }
    for (int64_t outside = -1; outside <= 5; outside += 6) {
        assert_false(cr_data_dataset_get(dataset, outside, NULL, &sample));
        assert_cr_error(CR_ERROR_INDEX, "it has 5 samples");
    }
    cr_data_dataset_free(dataset);
}

static void tensors_of_unequal_length_are_refused(void **state) {
    (void)state;
    cr_tensor *a = cr_empty(CR_F32, CR_SHAPE(5, 2), CR_CPU), *b = cr_empty(CR_F32, CR_SHAPE(4), CR_CPU);
    assert_null(cr_data_tensor_dataset(a, b));
    assert_cr_error(CR_ERROR_SHAPE, "f32[4]");
    assert_null(cr_data_tensor_dataset(a, NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    assert_null(cr_data_tensor_dataset(a, a, a, a, a));
    assert_cr_error(CR_ERROR_ARGUMENT, "5 tensors");
    assert_null(cr_data_tensor_dataset(cr_empty(CR_F32, CR_SHAPE_0D, CR_CPU)));
    assert_cr_error(CR_ERROR_SHAPE, "first sizes");
}

static void subset_and_concat_find_the_right_samples(void **state) {
    (void)state;
    const int64_t indices[] = {4, 0, 4};
    cr_data_dataset *dataset = cr_data_concat(cr_data_subset(numbers(5), indices, 3), numbers(2), numbers(1));
    assert_int_equal(cr_data_dataset_length(dataset), 6);
    const int64_t expected[] = {4, 0, 4, 0, 1, 0};
    for (int64_t i = 0; i < 6; i++)
        assert_int_equal(target_of(dataset, i), expected[i]);
    cr_data_dataset_free(dataset);

    const int64_t outside[] = {0, 5};
    assert_null(cr_data_subset(numbers(5), outside, 2));
    assert_cr_error(CR_ERROR_INDEX, "index 5 at place 1");
    assert_null(cr_data_concat(numbers(2), NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "dataset 1 is NULL");
}

static void random_split_deals_every_sample_once(void **state) {
    (void)state;
    const int64_t lengths[] = {7, 0, 3};
    cr_data_dataset *parts[3], *again[3];
    assert_true(cr_data_random_split(numbers(10), lengths, 3, 1, parts));
    assert_true(cr_data_random_split(numbers(10), lengths, 3, 1, again));
    int seen[10] = {0}, moved = 0;
    for (int part = 0; part < 3; part++) {
        assert_int_equal(cr_data_dataset_length(parts[part]), lengths[part]);
        for (int64_t i = 0; i < lengths[part]; i++) {
            const int64_t target = target_of(parts[part], i);
            assert_int_equal(target_of(again[part], i), target);
            seen[target]++;
            moved += target != i;
        }
        cr_data_dataset_free(parts[part]);
        cr_data_dataset_free(again[part]);
    }
    for (int i = 0; i < 10; i++)
        assert_int_equal(seen[i], 1);
    assert_true(moved > 5);
    const int64_t wrong[] = {7, 2};
    assert_false(cr_data_random_split(numbers(10), wrong, 2, 1, parts));
    assert_cr_error(CR_ERROR_ARGUMENT, "leave out 1 of 10");
    assert_null(parts[0]);
}

static bool add_noise(void *context, cr_generator_state *random, cr_data_sample *sample) {
    sample->fields[0] = cr_scalar(cr_data_random_uniform(random, 0, *(double *)context), CR_F64);
    sample->count = 1;
    return sample->fields[0] != NULL;
}

static void map_changes_samples(void **state) {
    (void)state;
    double *scale = cr_malloc(sizeof *scale);
    *scale = 8;
    cr_data_dataset *dataset = cr_data_map(numbers(4), add_noise, scale, cr_free);
    cr_data_sample sample;
    CR_SCOPE {
        cr_generator_state random = cr_data_random_for(3, 1, 2), same = random;
        assert_true(cr_data_dataset_get(dataset, 2, &random, &sample));
        assert_int_equal(sample.count, 1);
        assert_float_equal(cr_item(sample.fields[0]), cr_data_random_uniform(&same, 0, 8), 0);
        assert_int_equal(random.offset, 1);
    }
    cr_data_dataset_free(dataset);
    assert_null(cr_data_map(numbers(4), NULL, cr_malloc(8), cr_free));
    assert_cr_error(CR_ERROR_ARGUMENT, "function is NULL");
    assert_null(cr_data_map(NULL, add_noise, cr_malloc(8), cr_free));
    assert_cr_error(CR_ERROR_ARGUMENT, "dataset is NULL");
}

/* A user's dataset that gives wrong samples. */
static int64_t wrong_length(void *self) { return (void)self, 3; }
static bool wrong_get(void *self, int64_t index, cr_generator_state *random, cr_data_sample *sample) {
    (void)self, (void)random;
    sample->count = index == 0 ? 0 : index == 1 ? 1 : 2;
    return index != 2;
}
static void samples_of_the_users_datasets_are_checked(void **state) {
    (void)state;
    static const cr_data_dataset_table table = {"mine", wrong_length, wrong_get, NULL};
    cr_data_dataset *dataset = cr_data_dataset_new(&table, NULL);
    cr_data_sample sample;
    assert_false(cr_data_dataset_get(dataset, 0, NULL, &sample));
    assert_cr_error(CR_ERROR_ARGUMENT, "mine: a sample of 0 fields");
    assert_false(cr_data_dataset_get(dataset, 1, NULL, &sample));
    assert_cr_error(CR_ERROR_ARGUMENT, "mine: the tensor is NULL");
    assert_false(cr_data_dataset_get(dataset, 2, NULL, &sample));
    assert_cr_error(CR_ERROR_STATE, "mine: get failed without saying why");
    cr_data_dataset_free(dataset);
    static const cr_data_dataset_table incomplete = {"incomplete", NULL, wrong_get, cr_free};
    assert_null(cr_data_dataset_new(&incomplete, cr_malloc(8)));
    assert_cr_error(CR_ERROR_ARGUMENT, "length and get");
}

/* ---------------------------------------------------------------- samplers */
static void permutations_are_whole_and_change_with_seed_and_epoch(void **state) {
    (void)state;
    cr_data_sampler *sampler = cr_data_random_sampler(false, 0);
    int64_t *first, *again, *other_epoch, *other_seed;
    assert_int_equal(cr_data_sampler_indices(sampler, 1000, 5, 0, &first), 1000);
    assert_int_equal(cr_data_sampler_indices(sampler, 1000, 5, 0, &again), 1000);
    assert_int_equal(cr_data_sampler_indices(sampler, 1000, 5, 1, &other_epoch), 1000);
    assert_int_equal(cr_data_sampler_indices(sampler, 1000, 6, 0, &other_seed), 1000);
    assert_memory_equal(first, again, 1000 * sizeof *first);
    int seen[1000] = {0}, in_place = 0, like_epoch = 0, like_seed = 0;
    for (int i = 0; i < 1000; i++) {
        seen[first[i]]++;
        in_place += first[i] == i;
        like_epoch += first[i] == other_epoch[i];
        like_seed += first[i] == other_seed[i];
    }
    for (int i = 0; i < 1000; i++)
        assert_int_equal(seen[i], 1);
    assert_true(in_place < 10 && like_epoch < 10 && like_seed < 10); /* one is expected of each */
    cr_free(first), cr_free(again), cr_free(other_epoch), cr_free(other_seed);
    cr_data_sampler_free(sampler);
}

static void random_samplers_draw_the_asked_number(void **state) {
    (void)state;
    cr_data_sampler *permuted = cr_data_random_sampler(false, 25), *drawn = cr_data_random_sampler(true, 5000);
    int64_t *indices;
    int seen[10] = {0};
    assert_int_equal(cr_data_sampler_indices(permuted, 10, 1, 0, &indices), 25);
    for (int i = 0; i < 20; i++)
        seen[indices[i]]++;
    for (int i = 0; i < 10; i++)
        assert_int_equal(seen[i], 2);
    cr_free(indices);
    memset(seen, 0, sizeof seen);
    assert_int_equal(cr_data_sampler_indices(drawn, 10, 1, 0, &indices), 5000);
    for (int i = 0; i < 5000; i++)
        seen[indices[i]]++;
    for (int i = 0; i < 10; i++)
        assert_in_range(seen[i], 400, 600); /* 500 +- 21 */
    cr_free(indices);
    cr_data_sampler_free(permuted);
    cr_data_sampler_free(drawn);
}

static void weights_are_proportions(void **state) {
    (void)state;
    const double weights[] = {1, 0, 3, 6};
    cr_data_sampler *with = cr_data_weighted_random_sampler(weights, 4, 10000, true);
    cr_data_sampler *without = cr_data_weighted_random_sampler(weights, 4, 3, false);
    int64_t *indices;
    int seen[4] = {0}, first[4] = {0};
    assert_int_equal(cr_data_sampler_indices(with, 4, 1, 0, &indices), 10000);
    for (int i = 0; i < 10000; i++)
        seen[indices[i]]++;
    assert_in_range(seen[0], 880, 1120); /* 4 standard deviations of 30 */
    assert_int_equal(seen[1], 0);
    assert_in_range(seen[2], 2816, 3184);
    cr_free(indices);
    for (int epoch = 0; epoch < 2000; epoch++) {
        assert_int_equal(cr_data_sampler_indices(without, 4, 1, epoch, &indices), 3);
        assert_true(indices[0] + indices[1] + indices[2] == 5); /* 0, 2 and 3 in some order */
        first[indices[0]]++;
        cr_free(indices);
    }
    assert_in_range(first[3], 1112, 1288); /* 0.6 of 2000 */
    assert_int_equal(cr_data_sampler_indices(with, 5, 1, 0, &indices), -1);
    assert_cr_error(CR_ERROR_SHAPE, "4 weights for a dataset of 5");
    cr_data_sampler_free(with);
    cr_data_sampler_free(without);
    assert_null(cr_data_weighted_random_sampler(weights, 4, 4, false));
    assert_cr_error(CR_ERROR_ARGUMENT, "3 weights are above 0");
    assert_null(cr_data_weighted_random_sampler((const double[]){1, NAN}, 2, 1, true));
    assert_cr_error(CR_ERROR_ARGUMENT, "weight 1 is nan");
}

static void a_random_subset_holds_its_indices(void **state) {
    (void)state;
    const int64_t indices[] = {9, 2, 5};
    cr_data_sampler *sampler = cr_data_subset_random_sampler(indices, 3);
    int64_t *order, sum = 0, product = 1;
    assert_int_equal(cr_data_sampler_indices(sampler, 10, 1, 0, &order), 3);
    for (int i = 0; i < 3; i++)
        sum += order[i], product *= order[i];
    assert_true(sum == 16 && product == 90);
    cr_free(order);
    assert_int_equal(cr_data_sampler_indices(sampler, 9, 1, 0, &order), -1);
    assert_cr_error(CR_ERROR_INDEX, "index 9; the dataset has 9");
    cr_data_sampler_free(sampler);
}

static void ranks_share_an_epoch(void **state) {
    (void)state;
    for (int drop = 0; drop < 2; drop++) {
        int seen[11] = {0}, total = 0;
        for (int rank = 0; rank < 3; rank++) {
            cr_data_sampler *sampler = cr_data_distributed_sampler(3, rank, true, drop);
            int64_t *order, count = cr_data_sampler_indices(sampler, 11, 4, 2, &order);
            assert_int_equal(count, drop ? 3 : 4);
            for (int64_t i = 0; i < count; i++)
                seen[order[i]]++, total++;
            cr_free(order);
            cr_data_sampler_free(sampler);
        }
        assert_int_equal(total, drop ? 9 : 12);
        for (int i = 0; i < 11; i++)
            assert_in_range(seen[i], drop ? 0 : 1, drop ? 1 : 2);
    }
    assert_null(cr_data_distributed_sampler(3, 3, true, false));
    assert_cr_error(CR_ERROR_ARGUMENT, "rank 3 of 3");
}

/* Known moments of the sample's numbers, and independence of neighbouring streams. */
static void random_numbers_are_uniform(void **state) {
    (void)state;
    double sum = 0, squares = 0, product = 0, last = 0;
    int64_t counts[7] = {0};
    for (int64_t i = 0; i < 100000; i++) {
        cr_generator_state random = cr_data_random_for(1, 0, i);
        const double value = cr_data_random_uniform(&random, 0, 1);
        assert_true(value >= 0 && value < 1);
        sum += value, squares += value * value, product += value * last;
        last = value;
        counts[cr_data_random_integer(&random, -3, 4) + 3]++;
    }
    assert_float_equal(sum / 1e5, 0.5, 0.004);
    assert_float_equal(squares / 1e5, 1.0 / 3, 0.004);
    assert_float_equal(product / 1e5, 0.25, 0.004);
    for (int i = 0; i < 7; i++)
        assert_in_range(counts[i], 13800, 14800);
}

static void every_failed_allocation_is_an_error(void **state) {
    (void)state;
    const int64_t lengths[] = {6, 4}, indices[] = {0, 1, 2, 3};
    const double weights[] = {1, 2};
    for (int n = 1, failed = 1; failed; n++) {
        const int64_t before = cr_memory_stats().live_bytes;
        cr_data_dataset *parts[2] = {NULL, NULL}, *whole = NULL;
        cr_data_sampler *sampler = NULL, *weighted = NULL;
        int64_t *order = NULL;
        cr_data_dataset *dataset = numbers(10);
        cr_memory_fail_nth(n);
        bool done = cr_data_random_split(dataset, lengths, 2, 1, parts);
        if (done)
            whole = cr_data_concat(cr_data_subset(cr_data_dataset_retain(parts[0]), indices, 4),
                                   cr_data_map(cr_data_dataset_retain(parts[1]), add_noise, NULL, NULL));
        if (whole) sampler = cr_data_batch_sampler(cr_data_random_sampler(false, 0), 3, false);
        if (sampler) weighted = cr_data_weighted_random_sampler(weights, 2, 2, false);
        done = weighted && cr_data_sampler_indices(sampler, 8, 1, 0, &order) == 8;
        cr_free(order);
        done = done && cr_data_sampler_indices(weighted, 2, 1, 0, &order) == 2;
        cr_memory_fail_nth(0);
        failed = !done;
        if (failed) assert_cr_error(CR_ERROR_MEMORY, "made to fail");
        if (done) cr_free(order);
        cr_data_dataset_free(whole);
        cr_data_dataset_free(parts[0]);
        cr_data_dataset_free(parts[1]);
        cr_data_sampler_free(sampler);
        cr_data_sampler_free(weighted);
        cr_scope_clear();
        assert_int_equal(cr_memory_stats().live_bytes, before);
    }
}

/* ---------------------------------------------------------------- what loops and loaders are made of */
static int64_t squares_length(void *self) { return *(int64_t *)self; }
static bool squares_get(void *self, int64_t index, cr_generator_state *random, cr_data_sample *sample) {
    (void)self, (void)random;
    sample->fields[sample->count++] = cr_scalar((double)(index * index), CR_F32);
    return sample->fields[0] != NULL;
}
static const cr_data_dataset_table squares = {"squares", squares_length, squares_get, NULL};

static void own_datasets_know_their_name_and_self(void **state) {
    (void)state;
    static const cr_data_dataset_table other = {"other", squares_length, squares_get, NULL};
    int64_t count = 7;
    cr_data_dataset *dataset = cr_data_dataset_new(&squares, &count);
    assert_string_equal(cr_data_dataset_name(dataset), "squares");
    assert_ptr_equal(cr_data_dataset_self(dataset, &squares), &count);
    assert_null(cr_data_dataset_self(dataset, &other));
    assert_cr_error(CR_ERROR_ARGUMENT, "");
    cr_data_dataset_free(dataset);
}

static void a_loop_over_batches_can_be_written_out(void **state) {
    (void)state;
    int64_t count = 7, turns = 0;
    cr_data_loader *loader = cr_data_loader_new(cr_data_dataset_new(&squares, &count), .batch_size = 3);
    cr_data_batch batch = cr_data_batch_begin(loader, __FILE__, __LINE__);
    for (; cr_data_batch_next(&batch); turns++)
        assert_true(cr_at(batch.input, CR_SHAPE(0)) == (double)(9 * turns * turns) &&
                    batch.samples == (turns < 2 ? 3 : 1));
    cr_data_batch_end(&batch);
    cr_data_batch_end(&batch);
    assert_int_equal(turns, 3);
    cr_data_loader_free(loader);
}

static void samples_of_one_shape_are_stacked(void **state) {
    (void)state;
    CR_SCOPE {
        cr_data_sample samples[2] = {0}, batch = {0};
        for (int i = 0; i < 2; i++) {
            samples[i].fields[0] = cr_full(CR_F32, CR_SHAPE(2, 3), i, CR_CPU);
            samples[i].fields[1] = cr_scalar_i64(5 + i);
            samples[i].count = 2;
        }
        assert_true(cr_data_default_collate(NULL, samples, 2, &batch));
        assert_int_equal(batch.count, 2);
        assert_true(cr_shape_equal(cr_shape_of(batch.fields[0]), CR_SHAPE(2, 2, 3)));
        assert_true(cr_at(batch.fields[0], CR_SHAPE(1, 1, 2)) == 1 && cr_data_i64(batch.fields[1])[1] == 6);
        samples[1].fields[0] = cr_ones(CR_F32, CR_SHAPE(3, 2), CR_CPU);
        assert_false(cr_data_default_collate(NULL, samples, 2, &batch));
        assert_cr_error(CR_ERROR_SHAPE, "");
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, remember_memory, memory_is_as_before)

int main(void) {
    const struct CMUnitTest tests[] = {
        TEST(a_tensor_dataset_gives_slices),
        TEST(tensors_of_unequal_length_are_refused),
        TEST(subset_and_concat_find_the_right_samples),
        TEST(random_split_deals_every_sample_once),
        TEST(map_changes_samples),
        TEST(samples_of_the_users_datasets_are_checked),
        TEST(permutations_are_whole_and_change_with_seed_and_epoch),
        TEST(random_samplers_draw_the_asked_number),
        TEST(weights_are_proportions),
        TEST(a_random_subset_holds_its_indices),
        TEST(ranks_share_an_epoch),
        TEST(random_numbers_are_uniform),
        TEST(own_datasets_know_their_name_and_self),
        TEST(a_loop_over_batches_can_be_written_out),
        TEST(samples_of_one_shape_are_stacked),
        TEST(every_failed_allocation_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
