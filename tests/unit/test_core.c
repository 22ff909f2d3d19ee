/* The core: scopes and references, errors, devices, random numbers, threads.
 * Labels: threads */
#include "tests/unit/testing.h"

#include "core/device.h"
#include "core/parallel.h"
#include "core/random.h"
#include "core/tensor.h"

#include <pthread.h>
#include <stdatomic.h>

static int64_t live(void) { return cr_memory_stats().live_bytes; }
static cr_tensor *make(int64_t size) { return cr_empty(CR_F32, CR_SHAPE(size), CR_CPU); }

/* ---------------------------------------------------------------- scopes */
static void scopes_release_what_they_hold(void **state) {
    (void)state;
    const int64_t before = live();
    cr_tensor *survivor = NULL;
    CR_SCOPE {
        make(6);
        survivor = cr_keep(make(7));
        make(100000);
    }
    assert_int_equal(cr_numel(survivor), 7);
    cr_discard(survivor);
    assert_int_equal(live(), before);
}

static void leave_by_return(void) {
    CR_SCOPE {
        make(1);
        CR_SCOPE {
            make(2);
            return;
        }
    }
}

static void every_way_out_of_a_scope_closes_it(void **state) {
    (void)state;
    const int64_t before = live();
    leave_by_return();
    assert_int_equal(live(), before);
    for (int i = 0; i < 3; i++) {
        CR_SCOPE {
            make(1);
            if (i == 1) break; /* leaves the scope, not the loop */
            make(2);
            if (i == 2) continue;
            make(3);
        }
        assert_int_equal(live(), before);
    }
    CR_SCOPE {
        make(1);
        CR_SCOPE {
            make(2);
            goto out;
        }
    }
out:
    assert_int_equal(live(), before);
}

static void kept_tensors_climb_one_scope_at_a_time(void **state) {
    (void)state;
    const int64_t before = live();
    CR_SCOPE {
        cr_tensor *inner[10] = {NULL}, *outer = make(50);
        CR_SCOPE {
            CR_SCOPE {
                for (int i = 0; i < 10; i++) {
                    inner[i] = make(i + 1);
                    if (i % 3 == 0) cr_keep(inner[i]);
                }
                cr_keep(outer); /* belongs further out: stays there */
            }
            for (int i = 0; i < 10; i += 3)
                assert_int_equal(cr_numel(cr_keep(inner[i])), i + 1);
        }
        for (int i = 0; i < 10; i += 3)
            assert_int_equal(cr_numel(inner[i]), i + 1);
        assert_int_equal(cr_numel(outer), 50);
        cr_discard(inner[3]);
        cr_discard(inner[9]);
    }
    assert_int_equal(live(), before);
}

static void a_tensor_held_by_two_scopes_can_be_kept_in_the_outer_one(void **state) {
    (void)state;
    const int64_t before = live();
    cr_tensor *t = NULL;
    CR_SCOPE {
        t = make(5);
        CR_SCOPE {
            make(1);
            assert_ptr_equal(cr_give(cr_retain(t)), t);
        }
        cr_keep(t);
    }
    assert_int_equal(cr_numel(t), 5);
    cr_discard(t);
    assert_int_equal(live(), before);
}

static void retained_tensors_need_no_scope(void **state) {
    (void)state;
    const int64_t before = live();
    cr_tensor *t = NULL;
    CR_SCOPE {
        t = cr_retain(cr_retain(make(4)));
    }
    cr_release(t);
    assert_int_equal(cr_numel(t), 4);
    CR_SCOPE {
        assert_ptr_equal(cr_give(t), t);
    } /* the scope takes the last reference */
    assert_int_equal(live(), before);
    CR_SCOPE {
        t = make(4);
        assert_ptr_equal(cr_give(cr_retain(t)), t); /* one owner, not two, where the scope holds it already */
        cr_discard(t);
        assert_int_equal(live(), before);
    }
    assert_null(cr_retain(NULL));
    cr_release(NULL);
    cr_discard(NULL);
    assert_true(cr_ok());
}

static void the_outermost_scope_is_cleared_on_request(void **state) {
    (void)state;
    cr_scope_clear();
    const int64_t before = live();
    cr_keep(make(1));
    make(2);
    CR_SCOPE {
        make(3);
        cr_scope_clear(); /* not while a scope is open */
        assert_true(live() > before);
    }
    cr_scope_clear();
    assert_int_equal(live(), before);
}

static void ten_thousand_tensors_fit_in_a_scope(void **state) {
    (void)state;
    const int64_t before = live();
    CR_SCOPE {
        cr_tensor *last = NULL;
        for (int i = 0; i < 10000; i++) {
            last = make(1);
            if (i % 2) cr_discard(last);
        }
        CR_SCOPE {
            cr_keep(make(1));
        }
    }
    assert_int_equal(live(), before);
}

static void making_a_tensor_survives_each_failing_allocation(void **state) {
    (void)state;
    const int64_t before = live();
    for (int n = 1, done = 0; !done; n++) {
        cr_memory_fail_nth(n);
        CR_SCOPE {
            done = make(100000) != NULL;
        }
        cr_memory_fail_nth(0);
        if (!done) assert_cr_error(CR_ERROR_MEMORY, "made to fail");
        assert_int_equal(live(), before);
    }
}

#ifdef CRESSET_DEBUG
static void a_use_after_its_scope_names_both_places(void **state) {
    (void)state;
    cr_tensor *t = NULL, *released = cr_retain(make(2));
    const int opened_at = __LINE__ + 1;
    CR_SCOPE {
        t = make(3);
    }
    char place[64];
    snprintf(place, sizeof place, "item: the tensor went when its scope, opened at");
    cr_item(t);
    assert_cr_error(CR_ERROR_STATE, place);
    snprintf(place, sizeof place, "test_core.c:%d, closed", opened_at);
    cr_keep(t);
    assert_cr_error(CR_ERROR_STATE, place);
    cr_release(t);
    assert_cr_error(CR_ERROR_STATE, "release: ");
    cr_discard(released);
    cr_release(released);
    assert_int_equal(cr_size(released, 0), -1);
    assert_cr_error(CR_ERROR_STATE, "or it was released"); /* and not some scope's fault */
}
#endif

/* ---------------------------------------------------------------- threads and references */
enum { THREADS = 4 };

static void *retain_and_release(void *tensor) {
    for (int i = 0; i < 20000; i++) {
        CR_SCOPE {
            cr_give(cr_retain(tensor));
            cr_keep(cr_view_raw(tensor, CR_SHAPE(1), CR_SHAPE(1), 0));
        }
        cr_scope_clear();
    }
    cr_release(tensor);
    make(9); /* left to the thread's end */
    return NULL;
}

static void tensors_cross_threads(void **state) {
    (void)state;
    cr_scope_clear();
    const int64_t before = live();
    pthread_t threads[THREADS];
    CR_SCOPE {
        cr_tensor *t = make(1000);
        for (int i = 0; i < THREADS; i++)
            assert_int_equal(pthread_create(&threads[i], NULL, retain_and_release, cr_retain(t)), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(live(), before);
}

/* ---------------------------------------------------------------- errors */
static void the_first_error_is_kept(void **state) {
    (void)state;
    assert_null(cr_empty(CR_F32, CR_SHAPE(2, -1), CR_CPU));
    assert_null(cr_empty(CR_F32, CR_SHAPE(1), CR_CUDA(99)));
    assert_int_equal(cr_last_error()->code, CR_ERROR_SHAPE);
    assert_int_equal(cr_report(NULL), 1);
    assert_true(cr_ok());
    assert_int_equal(cr_report(NULL), 0);
}

static void an_error_tells_its_chain_of_calls(void **state) {
    (void)state;
    cr_frame outer, inner;
    cr_thread *thread = cr_thread_self();
    cr_frame_push(thread, &outer, "nn.conv2d", "main.0");
    cr_frame_push(thread, &inner, "conv2d", NULL);
    assert_false(cr_fail(CR_ERROR_SHAPE, "%d channels", 3));
    cr_frame_pop(thread, &inner);
    cr_frame_pop(thread, &outer);
    assert_string_equal(cr_last_error()->message, "conv2d: 3 channels");
    assert_string_equal(cr_last_error()->chain, "conv2d < nn.conv2d main.0");
    char text[256] = "";
    FILE *file = tmpfile();
    assert_int_equal(cr_report(file), 1);
    rewind(file);
    assert_true(fread(text, 1, sizeof text - 1, file) > 0);
    fclose(file);
    assert_string_equal(text, "cresset: shape error: conv2d: 3 channels\n  in conv2d < nn.conv2d main.0\n");
}

static void long_messages_and_deep_chains_are_cut(void **state) {
    (void)state;
    char long_text[3000];
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = '\0';
    cr_frame frames[100];
    cr_thread *thread = cr_thread_self();
    for (int i = 0; i < 100; i++)
        cr_frame_push(thread, &frames[i], "some.module", "with.a.path");
    cr_record_error(CR_ERROR_ARGUMENT, "%s", long_text);
    for (int i = 100; i-- > 0;)
        cr_frame_pop(thread, &frames[i]);
    assert_int_equal(strlen(cr_last_error()->message), CR_MESSAGE_BYTES - 1);
    assert_true(strlen(cr_last_error()->chain) < CR_CHAIN_BYTES);
    cr_clear_error();
    assert_null(cr_last_error());
    cr_record_error(CR_ERROR_NONE, "nothing");
    assert_true(cr_ok());
}

static void every_code_has_a_name(void **state) {
    (void)state;
    for (int code = 0; code <= CR_ERROR_INTERRUPTED; code++)
        assert_string_not_equal(cr_error_code_name((cr_error_code)code), "?");
    assert_string_equal(cr_error_code_name((cr_error_code)99), "?");
    assert_string_equal(cr_error_code_name((cr_error_code)-1), "?");
}

static void *fail_on_a_thread(void *unused) {
    (void)cr_fail(CR_ERROR_IO, "elsewhere");
    return unused;
}

static void threads_have_their_own_errors(void **state) {
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, fail_on_a_thread, NULL), 0);
    pthread_join(thread, NULL);
    assert_true(cr_ok());
}

/* ---------------------------------------------------------------- devices */
static void devices_are_parsed_and_named(void **state) {
    (void)state;
    char text[16];
    cr_device device = CR_CUDA(9);
    assert_true(cr_cpu_set_device_count(3));
    assert_int_equal(cr_device_count(CR_DEVICE_CPU), 3);
    assert_true(cr_device_parse("cpu", &device) && cr_device_equal(device, CR_CPU));
    assert_string_equal(cr_device_name(device, text), "cpu");
    assert_true(cr_device_parse("cpu:2", &device) && device.index == 2);
    assert_string_equal(cr_device_name(device, text), "cpu:2");
    assert_string_equal(cr_device_name(CR_CUDA(INT16_MIN), text), "cuda:-32768");
    static const char *const wrong[] = {
        "", "gpu", "cpu:", "cpu:x", "cpu:-1", "cpu: 1", "cpu:+1", "cpu:1x", "cpux", "cpu:99999999999999999999", "?"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_false(cr_device_parse(wrong[i], &device));
        assert_int_equal(cr_last_error()->code, CR_ERROR_DEVICE);
        cr_clear_error();
    }
    assert_false(cr_device_parse("cpu:3", &device));
    assert_cr_error(CR_ERROR_DEVICE, "cpu:3 is not here: 3 of its kind");
    assert_false(cr_device_parse("cuda:1000", &device));
    assert_cr_error(CR_ERROR_DEVICE, "cuda:1000 is not here");
    assert_false(cr_device_parse(NULL, &device));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    assert_int_equal(device.index, 2); /* untouched by failures */
    assert_true(cr_cpu_set_device_count(1));
    assert_false(cr_cpu_set_device_count(0));
    assert_cr_error(CR_ERROR_ARGUMENT, "1 to 64");
    assert_int_equal(cr_device_count((cr_device_type)3), 0);
    assert_non_null(cr_device_absence((cr_device_type)3));
    assert_non_null(cr_device_absence((cr_device_type)77));
    assert_null(cr_device_absence(CR_DEVICE_CPU));
    assert_true(cr_device_synchronize(CR_CPU));
    assert_false(cr_device_synchronize((cr_device){CR_DEVICE_CPU, 5}));
    assert_cr_error(CR_ERROR_DEVICE, "cpu:5");
    assert_true(cr_ok());
}

static void virtual_devices_hold_tensors(void **state) {
    (void)state;
    const int64_t before = live();
    assert_true(cr_cpu_set_device_count(2));
    CR_SCOPE {
        const cr_device second = {CR_DEVICE_CPU, 1};
        cr_tensor *t = cr_empty(CR_F32, CR_SHAPE(50000), second);
        char text[224];
        assert_true(cr_device_equal(cr_device_of(t), second));
        assert_string_equal(cr_describe(t, text), "f32[50000] cpu:1");
        cr_data_f32(t)[49999] = 3;
        float value = 0;
        assert_true(cr_device_copy(CR_CPU, &value, second, cr_data_f32(t) + 49999, sizeof value) && value == 3);
    }
    assert_true(cr_cpu_set_device_count(1));
    assert_int_equal(live(), before);
}

static void a_table_of_another_version_is_refused(void **state) {
    (void)state;
    const cr_device_table table = {.api_version = CR_DEVICE_API_VERSION + 1, .name = "future"};
    assert_false(cr_device_register((cr_device_type)3, &table));
    assert_cr_error(CR_ERROR_UNSUPPORTED, "future");
    assert_false(cr_device_register(CR_DEVICE_CPU, &table));
    assert_cr_error(CR_ERROR_ARGUMENT, "from 1 to 3");
    assert_false(cr_device_register((cr_device_type)3, NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "table");
}

/* ---------------------------------------------------------------- random numbers */
/* Known answers of Random123: key and counter all 0; the other published ones use counter words that we leave 0. */
static void philox_matches_the_published_vectors(void **state) {
    (void)state;
    static const uint32_t expected[4] = {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8};
    uint32_t numbers[4];
    cr_philox((cr_generator_state){0, 0}, 0, numbers);
    assert_memory_equal(numbers, expected, sizeof expected);
}

static void a_generators_state_can_be_saved_and_split(void **state) {
    (void)state;
    const int64_t before = live();
    cr_generator *generator = cr_generator_new(42);
    assert_int_equal(cr_generator_get_state(generator).seed, 42);
    const cr_generator_state first = cr_generator_reserve(generator, 10), second = cr_generator_reserve(generator, 5);
    assert_int_equal(first.offset, 0);
    assert_int_equal(second.offset, 10);
    assert_int_equal(cr_generator_get_state(generator).offset, 15);
    uint32_t a[4], b[4];
    cr_philox(first, 12, a);
    cr_philox(second, 2, b);
    assert_memory_equal(a, b, sizeof a); /* a block is a place in one sequence */
    cr_generator_set_state(generator, first);
    assert_int_equal(cr_generator_reserve(generator, 1).offset, 0);
    cr_manual_seed(7);
    assert_int_equal(cr_generator_get_state(NULL).seed, 7);
    assert_int_equal(cr_generator_get_state(cr_generator_default()).offset, 0);
    cr_generator_free(generator);
    cr_generator_free(NULL);
    cr_generator_free(cr_generator_default());
    assert_int_equal(live(), before);
}

static void *reserve_many(void *generator) {
    for (int i = 0; i < 10000; i++)
        cr_generator_reserve(generator, 3);
    return NULL;
}

static void threads_draw_disjoint_ranges(void **state) {
    (void)state;
    cr_generator *generator = cr_generator_new(1);
    pthread_t threads[THREADS];
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, reserve_many, generator);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(cr_generator_get_state(generator).offset, THREADS * 10000 * 3);
    cr_generator_free(generator);
}

static void uniform_numbers_stay_below_one(void **state) {
    (void)state;
    assert_true(cr_uniform_f32(0) == 0 && cr_uniform_f32(UINT32_MAX) < 1);
    assert_true(cr_uniform_f64(0, 0) == 0 && cr_uniform_f64(UINT32_MAX, UINT32_MAX) < 1);
}

/* ---------------------------------------------------------------- parallel-for */
typedef struct visits {
    atomic_uchar *seen;
    atomic_int ranges, nested;
} visits;

static void visit_range(void *context, int64_t begin, int64_t end) {
    visits *v = context;
    atomic_fetch_add(&v->ranges, 1);
    for (int64_t i = begin; i < end; i++)
        atomic_fetch_add(&v->seen[i], 1);
}

static void every_index_is_visited_once(void **state) {
    (void)state;
    static const int64_t counts[] = {0, 1, 2, 3, 7, 16, 17, 1000, 1001, 65537}, grains[] = {-1, 1, 3, 1000, 100000};
    const int threads_before = cr_num_threads();
    atomic_uchar *seen = cr_calloc(65537, sizeof *seen);
    for (int threads = 1; threads <= 7; threads += 2) {
        assert_true(cr_set_num_threads(threads));
        assert_int_equal(cr_num_threads(), threads);
        for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
            for (size_t g = 0; g < sizeof grains / sizeof grains[0]; g++) {
                for (int64_t i = 0; i < counts[c]; i++)
                    atomic_store(&seen[i], 0);
                visits v = {.seen = seen};
                cr_parallel_for(counts[c], grains[g], visit_range, &v);
                for (int64_t i = 0; i < counts[c]; i++)
                    assert_int_equal(atomic_load(&seen[i]), 1);
                assert_true(atomic_load(&v.ranges) <= 4 * threads);
                if (counts[c] <= grains[g]) assert_int_equal(atomic_load(&v.ranges), counts[c] > 0);
            }
        }
    }
    assert_true(cr_set_num_threads(threads_before));
    cr_free(seen);
    cr_parallel_for(-5, 1, visit_range, NULL);
    assert_false(cr_set_num_threads(0));
    assert_cr_error(CR_ERROR_ARGUMENT, "1 to 1024");
}

static void nest(void *context, int64_t begin, int64_t end) {
    visits *outer = context, inner = {.seen = outer->seen};
    cr_parallel_for(end - begin, 1, visit_range, &inner);
    atomic_fetch_add(&outer->nested, atomic_load(&inner.ranges));
    atomic_fetch_add(&outer->ranges, 1);
}

static void nested_loops_and_limited_threads_run_serially(void **state) {
    (void)state;
    const int threads_before = cr_num_threads();
    assert_true(cr_set_num_threads(4));
    atomic_uchar seen[64] = {0};
    visits v = {.seen = seen};
    cr_parallel_for(64, 1, nest, &v);
    assert_int_equal(atomic_load(&v.nested), atomic_load(&v.ranges));
    cr_thread_set_num_threads(1);
    assert_int_equal(cr_num_threads(), 1);
    visits limited = {.seen = seen};
    cr_parallel_for(64, 1, visit_range, &limited);
    assert_int_equal(atomic_load(&limited.ranges), 1);
    cr_thread_set_num_threads(0);
    assert_int_equal(cr_num_threads(), 4);
    assert_true(cr_set_num_threads(threads_before));
}

enum { STEP_ITEMS = 100, STEPS = 40 };
typedef struct step_visits {
    atomic_int seen[STEP_ITEMS];
    atomic_int early; /* visits of a step whose forerunner was not done */
} step_visits;

static void visit_step(void *context, int64_t step, int64_t begin, int64_t end) {
    step_visits *v = context;
    for (int64_t i = 0; i < STEP_ITEMS; i++)
        if (atomic_load(&v->seen[i]) < step) atomic_fetch_add(&v->early, 1);
    for (int64_t i = begin; i < end; i++)
        atomic_fetch_add(&v->seen[i], 1);
}

static void visit_steps_within(void *context, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
        cr_parallel_steps(STEPS, STEP_ITEMS, 1, visit_step, (step_visits *)context + i);
}

static void steps_come_one_after_the_other(void **state) {
    (void)state;
    const int threads_before = cr_num_threads();
    static const int64_t grains[] = {-1, 7, 60, 1000};
    for (int threads = 1; threads <= 301; threads += threads < 9 ? 2 : 146)
        for (size_t g = 0; g < sizeof grains / sizeof grains[0]; g++) {
            step_visits v = {.early = 0}, within[3] = {{.early = 0}};
            assert_true(cr_set_num_threads(threads));
            cr_parallel_steps(STEPS, STEP_ITEMS, grains[g], visit_step, &v);
            cr_parallel_for(3, 1, visit_steps_within, within);
            for (int i = 0; i < STEP_ITEMS; i++)
                assert_true(atomic_load(&v.seen[i]) == STEPS && atomic_load(&within[2].seen[i]) == STEPS);
            assert_int_equal(atomic_load(&v.early), 0);
        }
    assert_true(cr_set_num_threads(threads_before));
    cr_parallel_steps(3, 0, 1, visit_step, NULL);
    cr_parallel_steps(0, 3, 1, visit_step, NULL);
}

static void the_library_can_be_used_after_shutdown(void **state) {
    (void)state;
    const int64_t before = live();
    CR_SCOPE {
        make(10);
    }
    cr_shutdown();
    assert_int_equal(cr_memory_stats().cached_bytes, 0);
    CR_SCOPE {
        assert_non_null(make(10));
    }
    assert_true(live() <= before);
    assert_non_null(strchr(cr_version(), '.'));
    int count = 0;
    const cr_text_pair *info = cr_build_info(&count);
    assert_in_range(count, 1, 32);
    for (int i = 0; i < count; i++)
        assert_true(info[i].key && *info[i].key && info[i].value && *info[i].value);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scopes_release_what_they_hold),
        cmocka_unit_test(every_way_out_of_a_scope_closes_it),
        cmocka_unit_test(kept_tensors_climb_one_scope_at_a_time),
        cmocka_unit_test(a_tensor_held_by_two_scopes_can_be_kept_in_the_outer_one),
        cmocka_unit_test(retained_tensors_need_no_scope),
        cmocka_unit_test(the_outermost_scope_is_cleared_on_request),
        cmocka_unit_test(ten_thousand_tensors_fit_in_a_scope),
        cmocka_unit_test(making_a_tensor_survives_each_failing_allocation),
#ifdef CRESSET_DEBUG
        cmocka_unit_test(a_use_after_its_scope_names_both_places),
#endif
        cmocka_unit_test(tensors_cross_threads),
        cmocka_unit_test(the_first_error_is_kept),
        cmocka_unit_test(an_error_tells_its_chain_of_calls),
        cmocka_unit_test(long_messages_and_deep_chains_are_cut),
        cmocka_unit_test(every_code_has_a_name),
        cmocka_unit_test(threads_have_their_own_errors),
        cmocka_unit_test(devices_are_parsed_and_named),
        cmocka_unit_test(virtual_devices_hold_tensors),
        cmocka_unit_test(a_table_of_another_version_is_refused),
        cmocka_unit_test(philox_matches_the_published_vectors),
        cmocka_unit_test(a_generators_state_can_be_saved_and_split),
        cmocka_unit_test(threads_draw_disjoint_ranges),
        cmocka_unit_test(uniform_numbers_stay_below_one),
        cmocka_unit_test(every_index_is_visited_once),
        cmocka_unit_test(nested_loops_and_limited_threads_run_serially),
        cmocka_unit_test(steps_come_one_after_the_other),
        cmocka_unit_test(the_library_can_be_used_after_shutdown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
