/* LSTMs in graphs: frozen ones, whose weight is packed once, against the same run eagerly, for any number of threads.
 * Labels: threads */
#include "tests/unit/testing.h"

#include <cresset/jit.h>

#include "ops/op.h"
#include "ops/recurrent.h"

static bool run_lstm(void *context, cr_tensor *const *in, int input_count, cr_tensor **out, int output_count) {
    (void)input_count, (void)output_count;
    return (out[0] = cr_nn_lstm_forward(context, in[0], in[1], in[2], &out[1], &out[2])) != NULL;
}

static double difference(cr_tensor *a, cr_tensor *b) { return cr_item(cr_amax(cr_abs(cr_sub(a, b)))); }

static bool has_packed_weight(cr_graph *graph) {
    char *text = cr_jit_optimized_text(graph, NULL, 0);
    assert_non_null(text);
    const bool found = strstr(text, "packed_lstm_sequence") != NULL;
    cr_free(text);
    return found;
}

static void compare(int64_t hidden, int64_t batch, cr_dtype dtype) {
    cr_nn_module *lstm = cr_nn_lstm(5, hidden, .bidirectional = true, .dtype = dtype);
    cr_tensor *in[] = {cr_randn(dtype, CR_SHAPE(4, batch, 5), CR_CPU),
                       cr_randn(dtype, CR_SHAPE(2, batch, hidden), CR_CPU),
                       cr_randn(dtype, CR_SHAPE(2, batch, hidden), CR_CPU)};
    cr_tensor *expected[3], *found[3], *on_one[3];
    cr_graph *graph = cr_jit_trace_function(run_lstm, lstm, in, 3, NULL, 3, &lstm, 1, .freeze = true);
    assert_cr_ok();
    assert_int_equal(has_packed_weight(graph), dtype == CR_F32);
    const int threads_before = cr_num_threads();
    cr_set_num_threads(3);
    assert_true(run_lstm(lstm, in, 3, expected, 3) && cr_jit_run(graph, in, 3, found, 3));
    cr_set_num_threads(1);
    assert_true(cr_jit_run(graph, in, 3, on_one, 3));
    cr_set_num_threads(threads_before);
    for (int i = 0; i < 3; i++) {
        assert_true(difference(expected[i], found[i]) < 1e-5);
        assert_true(difference(on_one[i], found[i]) == 0);
    }
    cr_jit_free(graph);
    cr_nn_free(lstm);
}

static void frozen_lstms_equal_eager_ones(void **state) {
    (void)state;
    static const int64_t widths[] = {1, 16, 33, 150, 512}, batches[] = {1, 2, 3, 7, 8, 30, 50};
    CR_NO_GRAD {
        for (size_t w = 0; w < sizeof widths / sizeof widths[0]; w++)
            for (size_t b = 0; b < sizeof batches / sizeof batches[0]; b++)
                CR_SCOPE
                    compare(widths[w], batches[b], CR_F32);
        CR_SCOPE
            compare(20, 3, CR_F64);
    }
}

/* Of no steps, and of no samples. */
static void empty_sequences_keep_their_state(void **state) {
    (void)state;
    CR_SCOPE {
        cr_tensor *in[] = {cr_zeros(CR_F32, CR_SHAPE(0, 2, 12), CR_CPU), cr_ones(CR_F32, CR_SHAPE(2, 3), CR_CPU),
                           cr_full(CR_F32, CR_SHAPE(2, 3), 2, CR_CPU), NULL};
        cr_tensor *weight = cr_randn(CR_F32, CR_SHAPE(12, 3), CR_CPU), *out[3];
        in[3] = cr_run(cr_op_find("pack_recurrent"), &weight, 1, NULL);
        assert_int_equal(cr_numel(in[3]), cr_packed_recurrent(3));
        assert_true(cr_run_all(cr_op_find("packed_lstm_sequence"), in, 4, NULL, out, 3));
        assert_true(difference(out[1], in[1]) == 0 && difference(out[2], in[2]) == 0);
        in[0] = cr_zeros(CR_F32, CR_SHAPE(3, 0, 12), CR_CPU);
        in[1] = in[2] = cr_zeros(CR_F32, CR_SHAPE(0, 3), CR_CPU);
        assert_true(cr_run_all(cr_op_find("packed_lstm_sequence"), in, 4, NULL, out, 3));
        assert_int_equal(cr_numel(out[0]), 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(frozen_lstms_equal_eager_ones),
        cmocka_unit_test(empty_sequences_keep_their_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
