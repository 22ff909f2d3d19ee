/* Products of an embedding's rows, which graphs make of the table where that has fewer rows: values and gradients are
 * those of the plain function. */
#include "tests/unit/testing.h"

#include <math.h>
#include <stdio.h>

#include <cresset/jit.h>

typedef struct model {
    cr_nn_module *net; /* table, layer */
    cr_optim *optim;
    int64_t padding;
    bool by_matmul, reads_rows_too, writes_between, has_infinity; /* in a row that no index picks */
} model;

enum { LAYER = 40 };

/* in: an index of any dims; out: the loss. */
static bool step(void *context, cr_tensor *const *in, int input_count, cr_tensor **out, int output_count) {
    const model *m = context;
    (void)input_count, (void)output_count;
    cr_optim_zero_grad(m->optim);
    cr_tensor *table = cr_nn_tensor(m->net, "0.weight"), *weight = cr_nn_tensor(m->net, "1.weight");
    cr_tensor *x = cr_embedding(table, in[0], m->padding);
    if (m->writes_between) CR_NO_GRAD {
            cr_mul_(table, cr_scalar(0.5, cr_dtype_of(table)));
        }
    cr_tensor *y = m->by_matmul ? cr_matmul(cr_flatten(x, 0, -2), cr_transpose(weight, 0, 1))
                                : cr_linear(x, weight, cr_nn_tensor(m->net, "1.bias"));
    out[0] = cr_mean(cr_square(cr_tanh(y)));
    if (m->reads_rows_too) out[0] = cr_add(out[0], cr_mean(cr_square(x)));
    return m->writes_between || (cr_backward(out[0]) && cr_optim_step(m->optim));
}

static model new_model(model like, int64_t count, int64_t width, cr_dtype dtype) {
    cr_manual_seed(5);
    like.net =
        cr_nn_sequential(cr_nn_embedding(count, width, .dtype = dtype), cr_nn_linear(width, LAYER, .dtype = dtype));
    if (like.has_infinity) {
        cr_tensor *last = cr_select(cr_detach(cr_nn_tensor(like.net, "0.weight")), 0, count - 1);
        cr_fill_(last, INFINITY);
    }
    like.optim = cr_optim_sgd(cr_nn_parameters(like.net), .lr = 0.5);
    return like;
}
static void free_model(model *m) {
    cr_optim_free(m->optim);
    cr_nn_free(m->net);
}

/* Of what is equal, infinities too, none. */
static double difference(cr_tensor *a, cr_tensor *b) {
    return cr_item(cr_amax(cr_masked_fill(cr_abs(cr_sub(a, b)), cr_eq(a, b), 0)));
}

/* Five steps of both; whether the graph computes on `count` rows is in `changed`. */
static void compare(model like, int64_t count, int64_t width, cr_shape index, cr_dtype dtype, bool changed) {
    model plain = new_model(like, count, width, dtype), traced = new_model(like, count, width, dtype);
    char product[64];
    const int64_t picked = like.has_infinity ? count - 1 : count;
    cr_tensor *in = cr_randint(0, picked, index, CR_CPU), *expected, *given;
    cr_graph *graph = cr_jit_trace_function(step, &traced, &in, 1, &given, 1, &traced.net, 1);
    assert_cr_ok();
    assert_true(step(&plain, &in, 1, &expected, 1));
    char *text = cr_jit_optimized_text(graph, NULL, 0);
    snprintf(product, sizeof product, "%s[%d,%d] = ", cr_dtype_name(dtype), (int)count, LAYER);
    assert_non_null(text);
    assert_int_equal(strstr(text, product) != NULL, changed);
    cr_free(text);
    const double most = dtype == CR_F64 ? 1e-13 : 1e-5;
    for (int i = 0; i < 5; i++) {
        in = cr_randint(0, picked, index, CR_CPU);
        assert_true(step(&plain, &in, 1, &expected, 1) && cr_jit_run(graph, &in, 1, &given, 1));
        assert_true(difference(expected, given) < most);
    }
    const cr_nn_tensors a = cr_nn_state(plain.net), b = cr_nn_state(traced.net);
    for (int i = 0; i < a.count; i++)
        assert_true(difference(a.at[i], b.at[i]) < most);
    cr_jit_free(graph);
    free_model(&plain);
    free_model(&traced);
}

static void products_of_few_words_are_the_tables(void **state) {
    (void)state;
    static const model plain = {.padding = -1};
    for (cr_dtype dtype = CR_F32; dtype <= CR_F64; dtype++)
        CR_SCOPE {
            compare(plain, 12, 33, CR_SHAPE(50), dtype, true);
            compare(plain, 12, 33, CR_SHAPE(5, 2, 7), dtype, true);
            compare((model){.padding = 3}, 12, 64, CR_SHAPE(6, 8), dtype, true);
            compare((model){.padding = -1, .by_matmul = true}, 20, 40, CR_SHAPE(6, 8), dtype, true);
            compare((model){.padding = 0, .reads_rows_too = true}, 20, 40, CR_SHAPE(6, 8), dtype, true);
            compare((model){.padding = 2, .has_infinity = true}, 20, 40, CR_SHAPE(6, 8), dtype, true);
            compare((model){.padding = -1, .writes_between = true}, 20, 40, CR_SHAPE(6, 8), dtype, true);
        }
}

static void products_of_many_words_stay(void **state) {
    (void)state;
    static const model plain = {.padding = -1};
    CR_SCOPE {
        compare(plain, 35, 33, CR_SHAPE(50), CR_F32, false);
        compare(plain, 12, 31, CR_SHAPE(50), CR_F32, false);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(products_of_few_words_are_the_tables),
        cmocka_unit_test(products_of_many_words_stay),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
