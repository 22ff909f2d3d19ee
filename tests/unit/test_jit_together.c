/* Labels: threads
 * Loops that are collected and run as one parallel job, and the updates of many parameters in a planned step. */
#include "tests/unit/testing.h"

#include <string.h>

#include <cresset/jit.h>

#include "core/loops.h"
#include "core/parallel.h"
#include "jit/plan.h"

/* ---------------------------------------------------------------- loops */
typedef struct count_up {
    int32_t *numbers;
} count_up;

static void add_one(void *context, int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++)
        ((count_up *)context)->numbers[i]++;
}

/* More loops than a list holds, some of them empty, one much longer than the others. */
static void every_element_is_visited_once(void **state) {
    (void)state;
    enum { JOBS = 150, LONG = 200000 };
    static int32_t numbers[JOBS][8], many[LONG];
    for (int threads = 1; threads <= 3; threads++) {
        cr_loop_list list;
        memset(numbers, 0, sizeof numbers);
        memset(many, 0, sizeof many);
        assert_true(cr_set_num_threads(threads));
        cr_loops_begin(&list);
        for (int i = 0; i < JOBS; i++) {
            count_up job = {numbers[i]};
            cr_loop_run(i % 9, 1 + i % 3, add_one, &job, sizeof job);
            if (i == 20) cr_loop_run(LONG, 1000, add_one, &(count_up){many}, sizeof job);
        }
        assert_int_equal(numbers[JOBS - 1][0], 0); /* not yet */
        cr_loops_end(&list);
        for (int i = 0; i < JOBS; i++)
            for (int k = 0; k < 8; k++)
                assert_int_equal(numbers[i][k], k < i % 9);
        for (int i = 0; i < LONG; i++)
            assert_int_equal(many[i], 1);
    }
    count_up job = {numbers[0]};
    cr_loop_run(1, 1, add_one, &job, sizeof job); /* outside of a list: at once */
    assert_int_equal(numbers[0][0], 1);
}

/* ---------------------------------------------------------------- updates of a planned step */
enum { PARAMETERS = 70, STEPS = 4 };
typedef struct trainer {
    cr_tensor *parameters[PARAMETERS];
    cr_optim *optim;
} trainer;

static cr_optim *sgd(cr_nn_tensors p) { return cr_optim_sgd(p, .lr = 0.1, .momentum = 0.9, .weight_decay = 0.01); }
static cr_optim *adam(cr_nn_tensors p) { return cr_optim_adam(p, .lr = 0.05, .amsgrad = true); }
static cr_optim *rmsprop(cr_nn_tensors p) { return cr_optim_rmsprop(p, .lr = 0.01, .momentum = 0.5); }

static void begin(trainer *t, cr_optim *(*optim)(cr_nn_tensors)) {
    cr_manual_seed(5);
    for (int i = 0; i < PARAMETERS; i++)
        t->parameters[i] = cr_retain(cr_requires_grad_(
            cr_randn(i % 7 ? CR_F32 : CR_F64, i == 33 ? CR_SHAPE(300, 200) : CR_SHAPE(1 + i % 5, 3), CR_CPU), true));
    t->optim = optim((cr_nn_tensors){.at = t->parameters, .count = PARAMETERS});
}

static void end(trainer *t) {
    cr_optim_free(t->optim);
    for (int i = 0; i < PARAMETERS; i++)
        cr_release(t->parameters[i]);
}

/* loss = Σ over all parameters of Σ w⁴ / 4 */
static bool step(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    trainer *t = context;
    (void)in, (void)in_count, (void)out_count;
    cr_optim_zero_grad(t->optim);
    cr_tensor *loss = cr_scalar(0, CR_F64);
    for (int i = 0; i < PARAMETERS; i++)
        loss = cr_add(loss, cr_cast(cr_mul_scalar(cr_sum(cr_square(cr_square(t->parameters[i]))), 0.25), CR_F64));
    out[0] = loss;
    return cr_backward(loss) && cr_optim_step(t->optim);
}

static int longest_group(cr_graph *graph) {
    cr_plan *plan = cr_plan_for(graph, NULL, 0);
    int most = 0;
    assert_non_null(plan);
    for (int i = 0; i < plan->step_count; i++)
        if (plan->steps[i].together > most) most = plan->steps[i].together;
    cr_plan_release(plan);
    return most;
}

static void check(cr_optim *(*optim)(cr_nn_tensors), int threads) {
    trainer plain = {0}, traced = {0};
    assert_true(cr_set_num_threads(threads));
    CR_SCOPE {
        begin(&plain, optim);
        begin(&traced, optim);
        cr_tensor *loss, *expected;
        cr_graph *graph = cr_jit_trace_function(step, &traced, NULL, 0, NULL, 1, NULL, 0);
        if (!graph) fail_msg("%s", cr_last_error()->message);
        assert_in_range(longest_group(graph), PARAMETERS, PARAMETERS);
        assert_true(step(&plain, NULL, 0, &expected, 1)); /* as the trace did */
        for (int i = 0; i < STEPS; i++) {
            assert_true(step(&plain, NULL, 0, &expected, 1));
            if (!cr_jit_run(graph, NULL, 0, &loss, 1)) fail_msg("%s", cr_last_error()->message);
            cr_jit_wait();
        }
        for (int i = 0; i < PARAMETERS; i++) {
            const cr_tensor *a = plain.parameters[i], *b = traced.parameters[i];
            const double far = cr_item(
                cr_amax(cr_abs(cr_sub(cr_detach((cr_tensor *)(uintptr_t)a), cr_detach((cr_tensor *)(uintptr_t)b)))));
            if (!(far <= 1e-6)) fail_msg("parameter %d differs by %g", i, far);
        }
        cr_jit_free(graph);
    }
    end(&plain);
    end(&traced);
}

static void updates_run_as_one_job(void **state) {
    (void)state;
    for (int threads = 1; threads <= 3; threads += 2) {
        check(sgd, threads);
        check(adam, threads);
        check(rmsprop, threads);
    }
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_element_is_visited_once),
        cmocka_unit_test(updates_run_as_one_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
