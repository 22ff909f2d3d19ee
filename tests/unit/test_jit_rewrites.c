/* Ops that give a changed copy of their first operand: in a plan they write in its place where nobody reads it any
 * more, and only there. */
#include "tests/unit/testing.h"

#include <string.h>

#include <cresset/jit.h>

#include "jit/plan.h"

typedef enum way { DIES, READ_LATER, READ_BY_ITSELF, CHAIN, IS_AN_INPUT, WINDOW, WAYS } way;
static const int in_place[WAYS] = {[DIES] = 1, [READ_BY_ITSELF] = 0, [CHAIN] = 3, [WINDOW] = 1};

static bool rewrite(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    const way how = *(const way *)context;
    (void)in_count, (void)out_count;
    cr_tensor *x = how == IS_AN_INPUT ? in[0] : cr_softmax(in[0], 1), *index = in[1], *y = NULL;
    switch (how) {
    case DIES:
    case IS_AN_INPUT: y = cr_scatter_add(x, 1, index, in[2]); break;
    case READ_LATER: y = cr_add(cr_scatter(x, 1, index, in[2]), x); break;
    case READ_BY_ITSELF: y = cr_scatter(x, 1, index, x); break;
    case CHAIN:
        y = cr_scatter_add(cr_scatter(x, 1, index, in[2]), 1, index, in[2]);
        y = cr_select_scatter(y, cr_zeros(CR_F32, CR_SHAPE(7), CR_CPU), 0, 1);
        break;
    default: y = cr_slice_scatter(x, in[2], 1, 2, 5, 1);
    }
    return (out[0] = cr_relu(y)) != NULL;
}

/* Steps whose result lies where their first operand does. */
static int count_in_place(cr_graph *graph, cr_tensor *const *in) {
    cr_plan *plan = cr_plan_for(graph, in, 3);
    int found = 0;
    assert_non_null(plan);
    for (int i = 0; i < plan->step_count; i++) {
        const cr_plan_step *step = &plan->steps[i];
        found += (step->op->flags & CR_OP_REWRITES) &&
                 plan->tensors[step->inputs[0]].storage == plan->tensors[step->outputs[0]].storage;
    }
    cr_plan_release(plan);
    return found;
}

static void only_what_is_read_no_more_is_written_over(void **state) {
    (void)state;
    for (way how = DIES; how < WAYS; how++) {
        CR_SCOPE {
            cr_manual_seed(2);
            cr_tensor *in[] = {cr_randn(CR_F32, CR_SHAPE(4, 7), CR_CPU), cr_randint(0, 7, CR_SHAPE(4, 3), CR_CPU),
                               cr_randn(CR_F32, CR_SHAPE(4, 3), CR_CPU)};
            cr_tensor *expected, *got, *before = cr_clone(in[0]);
            /* no index twice in a row: which of two writes stays is nobody's promise */
            for (int r = 0; r < 4; r++)
                for (int c = 0; c < 3; c++)
                    ((int64_t *)cr_data(in[1]))[3 * r + c] = (r + 2 * c) % 7;
            assert_true(rewrite(&how, in, 3, &expected, 1));
            cr_graph *graph = cr_jit_trace_function(rewrite, &how, in, 3, NULL, 1, NULL, 0);
            assert_cr_ok();
            if (count_in_place(graph, in) != in_place[how])
                fail_msg("way %d: %d steps write in place of their operand", (int)how, count_in_place(graph, in));
            for (int round = 0; round < 2; round++) {
                assert_true(cr_jit_run(graph, in, 3, &got, 1));
                assert_memory_equal(cr_data(got), cr_data(expected), 4 * 7 * sizeof(float));
                assert_memory_equal(cr_data(in[0]), cr_data(before), 4 * 7 * sizeof(float));
                cr_jit_wait();
            }
            cr_jit_free(graph);
        }
    }
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(only_what_is_read_no_more_is_written_over)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
