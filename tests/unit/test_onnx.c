/* ONNX models that are damaged, hostile or impossible; memory that runs out on the way; and models that go on learning.
 * Needs: onnx */
#include "core/file.h"
#include "tests/unit/damage.h"
#include "tests/unit/memory_checks.h"
#include "tests/unit/temporary_folder.h"
#include "tests/unit/testing.h"

#include "onnx/onnx.pb-c.h"

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static cr_graph *small_graph(void) {
    cr_nn_module *net = cr_nn_eval(cr_nn_sequential(cr_nn_conv2d(1, 2, 3), cr_nn_batch_norm2d(2), cr_nn_relu(),
                                                    cr_nn_flatten(), cr_nn_linear(8, 3)));
    cr_graph *graph = cr_jit_trace(net, cr_zeros(CR_F32, CR_SHAPE(2, 1, 4, 4), CR_CPU), .dynamic_batch = true);
    cr_nn_free(net);
    return graph;
}

/* ---------------------------------------------------------------- models by hand */
enum { MOST = 8 };

typedef struct made {
    CrOnnx__ModelProto model;
    CrOnnx__OperatorSetIdProto opset, *opsets[1];
    CrOnnx__GraphProto graph;
    CrOnnx__NodeProto nodes[MOST], *node_list[MOST];
    char *inputs[MOST][3], *outputs[MOST][1];
    CrOnnx__ValueInfoProto input, output, *input_list[1], *output_list[1];
    CrOnnx__TensorProto weight, *weights[1];
    CrOnnx__StringStringEntryProto entry, *entries[1];
} made;

/* x -> nodes -> y, opset 18; nodes are added by add_node. */
static void begin_model(made *m) {
    cr_onnx__model_proto__init(&m->model);
    cr_onnx__operator_set_id_proto__init(&m->opset);
    cr_onnx__graph_proto__init(&m->graph);
    cr_onnx__value_info_proto__init(&m->input);
    cr_onnx__value_info_proto__init(&m->output);
    cr_onnx__tensor_proto__init(&m->weight);
    m->opset.has_version = true, m->opset.version = 18, m->opset.domain = "";
    m->opsets[0] = &m->opset, m->model.opset_import = m->opsets, m->model.n_opset_import = 1;
    m->model.has_ir_version = true, m->model.ir_version = 8, m->model.graph = &m->graph;
    m->input.name = "x", m->output.name = "y";
    m->input_list[0] = &m->input, m->graph.input = m->input_list, m->graph.n_input = 1;
    m->output_list[0] = &m->output, m->graph.output = m->output_list, m->graph.n_output = 1;
    m->graph.node = m->node_list, m->graph.n_node = 0, m->graph.name = "made";
}

static void add_node(made *m, const char *operator, const char * a, const char *b, const char *y) {
    const size_t i = m->graph.n_node++;
    CrOnnx__NodeProto *node = &m->nodes[i];
    cr_onnx__node_proto__init(node);
    m->node_list[i] = node;
    m->inputs[i][0] = (char *)(uintptr_t)a, m->inputs[i][1] = (char *)(uintptr_t)b,
    m->outputs[i][0] = (char *)(uintptr_t)y;
    node->op_type = (char *)(uintptr_t) operator;
    node->input = m->inputs[i], node->n_input = b ? 2 : 1;
    node->output = m->outputs[i], node->n_output = 1;
}

/* An initialiser "w" of f32 of these sizes. */
static void add_weight(made *m, int64_t *dims, size_t count, const void *data, size_t bytes) {
    m->weight.name = "w", m->weight.dims = dims, m->weight.n_dims = count;
    m->weight.has_data_type = true, m->weight.data_type = 1;
    m->weight.has_raw_data = true, m->weight.raw_data = (ProtobufCBinaryData){bytes, (uint8_t *)(uintptr_t)data};
    m->weights[0] = &m->weight, m->graph.initializer = m->weights, m->graph.n_initializer = 1;
}

static const char *save_model(const made *m) {
    const size_t bytes = cr_onnx__model_proto__get_packed_size(&m->model);
    uint8_t *data = malloc(bytes);
    cr_onnx__model_proto__pack(&m->model, data);
    write_file("made.onnx", data, bytes);
    free(data);
    return in_folder("made.onnx");
}

static void assert_refused(const char *path, cr_error_code code, const char *part) {
    cr_nn_module *module = cr_onnx_import_module(path);
    assert_null(module);
    assert_cr_error(code, part);
    assert_null(cr_onnx_import(path));
    assert_cr_error(code, part);
}

/* ---------------------------------------------------------------- what is wrong with a graph */
static void wrong_graphs_are_named(void **state) {
    (void)state;
    made m = {0};
    CR_SCOPE {
        begin_model(&m);
        add_node(&m, "Relu", "b", NULL, "a");
        add_node(&m, "Relu", "a", NULL, "b");
        add_node(&m, "Relu", "b", NULL, "y");
        assert_refused(save_model(&m), CR_ERROR_FORMAT, "a cycle");
        begin_model(&m);
        add_node(&m, "Relu", "x", NULL, "y");
        add_node(&m, "Tanh", "x", NULL, "y");
        assert_refused(save_model(&m), CR_ERROR_FORMAT, "\"y\" is given twice");
        begin_model(&m);
        add_node(&m, "Relu", "x", NULL, "z");
        assert_refused(save_model(&m), CR_ERROR_FORMAT, "nothing gives the output \"y\"");
        begin_model(&m);
        add_node(&m, "Frobnicate", "x", NULL, "z");
        add_node(&m, "StringConcat", "z", "z", "q");
        add_node(&m, "Frobnicate", "q", NULL, "y");
        assert_refused(save_model(&m), CR_ERROR_UNSUPPORTED,
                       "Frobnicate (opset 18, 2 nodes), StringConcat (opset 18, 1 node)");
        begin_model(&m);
        m.model.graph = NULL;
        assert_refused(save_model(&m), CR_ERROR_FORMAT, "no graph");
    }
}

static void wrong_tensors_are_named(void **state) {
    (void)state;
    static const float two[2] = {1, 2};
    made m = {0};
    CR_SCOPE {
        static const struct {
            int64_t dims[3];
            size_t count, bytes;
            cr_error_code code;
            const char *part;
        } cases[] = {
            {{3}, 1, 8, CR_ERROR_FORMAT, "8 bytes or numbers for 3 elements"},
            {{2}, 1, 7, CR_ERROR_FORMAT, "7 bytes"},
            {{-2, -1}, 2, 8, CR_ERROR_FORMAT, "a size of -2"},
            {{INT64_C(1) << 40, INT64_C(1) << 40}, 2, 8, CR_ERROR_SHAPE, ""},
            {{INT64_C(1) << 40}, 1, 8, CR_ERROR_FORMAT, "1099511627776 elements"},
        };
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            int64_t dims[3];
            memcpy(dims, cases[i].dims, sizeof dims);
            begin_model(&m);
            add_node(&m, "Add", "x", "w", "y");
            add_weight(&m, dims, cases[i].count, two, cases[i].bytes);
            assert_refused(save_model(&m), cases[i].code, cases[i].part);
        }
        int64_t dims[] = {2};
        begin_model(&m);
        add_node(&m, "Add", "x", "w", "y");
        add_weight(&m, dims, 1, two, 8);
        m.weight.data_type = 8;
        assert_refused(save_model(&m), CR_ERROR_UNSUPPORTED, "string");
    }
}

/* Weights outside of the model's folder are not read, whatever the way there is. */
static void external_data_stays_in_its_folder(void **state) {
    (void)state;
    static const float two[2] = {1, 2};
    made m = {0};
    int64_t dims[] = {2};
    char link[1100];
    mkdir(in_folder("inner"), 0700);
    CR_SCOPE {
        write_file("secret", two, sizeof two);
        write_file("inner/weights", two, sizeof two);
        snprintf(link, sizeof link, "%s", in_folder("inner/link"));
        assert_int_equal(symlink("../secret", link), 0);
        static const struct {
            const char *location;
            cr_error_code code;
            const char *part;
        } cases[] = {{"../secret", CR_ERROR_ARGUMENT, "outside"},
                     {"/etc/hostname", CR_ERROR_ARGUMENT, "outside"},
                     {"link", CR_ERROR_ARGUMENT, "outside"},
                     {"nothing", CR_ERROR_IO, "nothing"},
                     {"weights", 0, NULL}};
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            begin_model(&m);
            add_node(&m, "Add", "x", "w", "y");
            add_weight(&m, dims, 1, "", 0);
            m.weight.has_raw_data = false;
            m.weight.has_data_location = true;
            m.weight.data_location = CR_ONNX__TENSOR_PROTO__DATA_LOCATION__EXTERNAL;
            cr_onnx__string_string_entry_proto__init(&m.entry);
            m.entry.key = "location", m.entry.value = (char *)(uintptr_t)cases[i].location;
            m.entries[0] = &m.entry, m.weight.external_data = m.entries, m.weight.n_external_data = 1;
            char inner[1100];
            snprintf(inner, sizeof inner, "%s", in_folder("inner/made.onnx"));
            assert_int_equal(rename(save_model(&m), inner), 0);
            if (cases[i].part) {
                cr_nn_module *module = cr_onnx_import_module(inner);
                assert_null(module);
                assert_cr_error(cases[i].code, cases[i].part);
                continue;
            }
            cr_nn_module *module = cr_onnx_import_module(inner);
            cr_tensor *y = cr_nn_forward(module, cr_ones(CR_F32, CR_SHAPE(2), CR_CPU));
            assert_cr_ok();
            assert_true(cr_at(y, CR_SHAPE(1)) == 3);
            cr_nn_free(module);
        }
        unlink(link);
    }
}

/* Graphs inside of graphs, each the attribute of a node; and types inside of types. */
static void deep_nesting_is_refused(void **state) {
    (void)state;
    enum { DEPTH = 10000 };
    static uint8_t bytes[64 * DEPTH];
    for (int kind = 0; kind < 2; kind++) {
        size_t length = 0;
        for (int i = 0; i < DEPTH; i++) { /* from the inside out: what is there becomes the content of a field */
            static const uint8_t keys[2][3] = {{0x32, 0x2a, 0x0a},
                                               {0x0a, 0x22, 0}}; /* graph, attribute, node; type, sequence */
            for (int k = 0; k < 3 - kind; k++) {
                uint8_t head[11] = {keys[kind][k]};
                size_t used = 1, rest = length;
                for (; rest >= 128; rest >>= 7)
                    head[used++] = (uint8_t)(rest | 128);
                head[used++] = (uint8_t)rest;
                memmove(bytes + used, bytes, length);
                memcpy(bytes, head, used);
                length += used;
            }
        }
        static uint8_t model[64 * DEPTH + 16];
        size_t used = 0, rest = length;
        model[used++] = 0x3a; /* the model's graph */
        for (; rest >= 128; rest >>= 7)
            model[used++] = (uint8_t)(rest | 128);
        model[used++] = (uint8_t)rest;
        memcpy(model + used, bytes, length);
        write_file("deep.onnx", model, used + length);
        if (kind == 0) assert_refused(in_folder("deep.onnx"), CR_ERROR_FORMAT, "nested");
    }
}

/* A few bytes for each of a great many nodes: parsing stops before memory does. */
static void small_messages_do_not_become_large(void **state) {
    (void)state;
    enum { NODES = 16 << 20 };
    uint8_t *bytes = malloc(2 * NODES + 16);
    size_t used = 0, rest = 2 * NODES;
    bytes[used++] = 0x3a;
    for (; rest >= 128; rest >>= 7)
        bytes[used++] = (uint8_t)(rest | 128);
    bytes[used++] = (uint8_t)rest;
    for (int i = 0; i < NODES; i++)
        bytes[used++] = 0x0a, bytes[used++] = 0;
    write_file("many.onnx", bytes, used);
    free(bytes);
    cr_memory_reset_peak();
    assert_refused(in_folder("many.onnx"), CR_ERROR_FORMAT, "more than 1024 MiB");
    assert_true(cr_memory_stats().peak_bytes < INT64_C(1400) << 20);
    unlink(in_folder("many.onnx"));
}

/* ---------------------------------------------------------------- damage */
static bool try_file(const char *path) {
    bool done = false;
    CR_SCOPE {
        cr_nn_module *module = cr_onnx_import_module(path);
        if (module) done = cr_nn_forward(module, cr_ones(CR_F32, CR_SHAPE(2, 1, 4, 4), CR_CPU)) != NULL;
        assert_true(done || !cr_ok());
        cr_nn_free(module);
        cr_clear_error();
        cr_graph *graph = cr_onnx_import(path);
        assert_true(graph || !cr_ok());
        cr_jit_free(graph);
        cr_clear_error();
    }
    return done;
}

static void damaged_files_are_errors(void **state) {
    (void)state;
    size_t bytes;
    int good = 0, tried = 0;
    CR_SCOPE {
        cr_graph *graph = small_graph();
        assert_true(cr_onnx_export(graph, in_folder("whole.onnx")));
        cr_jit_free(graph);
    }
    uint8_t *whole = cr_file_load(in_folder("whole.onnx"), 0, &bytes), *copy = malloc(bytes);
    cr_memory_set_limit(256 << 20);
    for (size_t length = 0; length < bytes; length += 1 + length / 64, tried++) {
        write_file("cut.onnx", whole, length);
        good += try_file(in_folder("cut.onnx"));
    }
    assert_int_equal(good, 0);
    for (size_t at = 0; at < bytes; at += 1 + at / 200)
        for (int bit = 0; bit < 8; bit += 3, tried++) {
            memcpy(copy, whole, bytes);
            copy[at] ^= (uint8_t)(1 << bit);
            write_file("flipped.onnx", copy, bytes);
            good += try_file(in_folder("flipped.onnx"));
        }
    cr_memory_set_limit(0);
    cr_free(whole);
    free(copy);
    assert_true(tried > 1000 && good > 100); /* a flipped weight is a weight */
    cr_scope_clear();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

/* ---------------------------------------------------------------- memory */
static void memory_that_runs_out_is_an_error(void **state) {
    (void)state;
    int64_t failures = 0;
    for (int64_t n = 1, step = 1;; n += step, step = n / 150 + 1) {
        bool done = false;
        CR_SCOPE {
            cr_graph *graph = small_graph(), *again = NULL;
            cr_memory_fail_nth(n);
            done =
                cr_onnx_export(graph, in_folder("memory.onnx")) && (again = cr_onnx_import(in_folder("memory.onnx")));
            cr_memory_fail_nth(0);
            assert_true(done || !cr_ok());
            failures += !done;
            cr_jit_free(graph);
            cr_jit_free(again);
        }
        cr_clear_error();
        cr_scope_clear();
        assert_int_equal(cr_memory_stats().live_bytes, 0);
        if (done) break;
    }
    assert_true(failures > 200);
}

/* ---------------------------------------------------------------- exporting what cannot be */
static bool step(void *context, cr_tensor *const *in, int n, cr_tensor **out, int m) {
    (void)n, (void)m;
    cr_add_(context, in[0]);
    return (out[0] = cr_mul_scalar(context, 2)) != NULL;
}
static bool odd_ops(void *context, cr_tensor *const *in, int n, cr_tensor **out, int m) {
    (void)context, (void)n, (void)m;
    return (out[0] = cr_add(cr_erfinv(in[0]), cr_cumprod(in[0], 0))) != NULL;
}

static void what_cannot_be_said_is_listed_and_writes_nothing(void **state) {
    (void)state;
    CR_SCOPE {
        cr_tensor *x = cr_zeros(CR_F32, CR_SHAPE(3), CR_CPU), *sum = cr_zeros(CR_F32, CR_SHAPE(3), CR_CPU);
        cr_graph *odd = cr_jit_trace_function(odd_ops, NULL, &x, 1, NULL, 1, NULL, 0),
                 *changing = cr_jit_trace_function(step, sum, &x, 1, NULL, 1, NULL, 0), *good = small_graph();
        write_file("old.onnx", "old", 3);
        assert_false(cr_onnx_export(odd, in_folder("old.onnx")));
        assert_cr_error(CR_ERROR_UNSUPPORTED, "2 nodes: cumprod");
        assert_false(cr_onnx_export(odd, in_folder("old.onnx")));
        assert_cr_error(CR_ERROR_UNSUPPORTED, "erfinv");
        assert_false(cr_onnx_export(changing, in_folder("old.onnx")));
        assert_cr_error(CR_ERROR_STATE, "cr_nn_eval");
        assert_false(cr_onnx_export(good, in_folder("old.onnx"), .opset = 12));
        assert_cr_error(CR_ERROR_ARGUMENT, "13 to 23");
        assert_false(cr_onnx_export(NULL, in_folder("old.onnx")));
        assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
        assert_false(cr_onnx_export(good, in_folder("nowhere/new.onnx")));
        assert_cr_error(CR_ERROR_IO, "nowhere");
        size_t bytes;
        uint8_t *old = cr_file_load(in_folder("old.onnx"), 0, &bytes);
        assert_int_equal(bytes, 3);
        cr_free(old);
        cr_jit_free(odd);
        cr_jit_free(changing);
        cr_jit_free(good);
    }
}

static void names_and_metadata_are_written(void **state) {
    (void)state;
    CR_SCOPE {
        cr_graph *graph = small_graph();
        assert_true(cr_onnx_export(graph, in_folder("named.onnx"), .input_names = "image", .output_names = "logits",
                                   .name = "digits", .metadata = "author=Ada\nlicense=MIT", .external_data = true));
        cr_graph *again = cr_onnx_import(in_folder("named.onnx"));
        assert_string_equal(cr_jit_input_name(again, 0), "image");
        assert_string_equal(cr_jit_output_name(again, 0), "logits");
        assert_string_equal(cr_jit_symbol_name(again, 0), "batch");
        cr_nn_module *module = cr_onnx_import_module(in_folder("named.onnx"));
        assert_int_equal(cr_onnx_module_input_count(module), 1);
        assert_int_equal(cr_onnx_module_output_count(module), 1);
        assert_string_equal(cr_onnx_module_input_name(module, 0), "image");
        assert_string_equal(cr_onnx_module_output_name(module, 0), "logits");
        assert_null(cr_onnx_module_output_name(module, 1));
        assert_cr_error(CR_ERROR_INDEX, "index 1 of 1");
        cr_nn_free(module);
        size_t bytes;
        uint8_t *data = cr_file_load(in_folder("named.onnx"), 0, &bytes);
        CrOnnx__ModelProto *model = cr_onnx__model_proto__unpack(NULL, bytes, data);
        assert_non_null(model);
        assert_string_equal(model->graph->name, "digits");
        assert_int_equal(model->n_metadata_props, 2);
        assert_string_equal(model->metadata_props[1]->value, "MIT");
        cr_onnx__model_proto__free_unpacked(model, NULL);
        cr_free(data);
        cr_jit_free(graph);
        cr_jit_free(again);
    }
}

static void the_users_operators_go_both_ways(void **state) {
    (void)state;
    CR_SCOPE {
        cr_tensor *x = cr_rand(CR_F32, CR_SHAPE(4), CR_CPU);
        assert_false(cr_onnx_register("frobnicate", "com.example", "F"));
        assert_cr_error(CR_ERROR_ARGUMENT, "frobnicate");
        assert_false(cr_onnx_register("erfinv", "", "F"));
        assert_cr_error(CR_ERROR_ARGUMENT, "main domain");
        assert_true(cr_onnx_register("cumprod", "com.example", "CumProd"));
        assert_true(cr_onnx_register("erfinv", "com.example", "ErfInv"));
        cr_graph *odd = cr_jit_trace_function(odd_ops, NULL, &x, 1, NULL, 1, NULL, 0);
        assert_true(cr_onnx_export(odd, in_folder("own.onnx")));
        cr_graph *again = cr_onnx_import(in_folder("own.onnx"));
        assert_cr_ok();
        assert_true(cr_item(cr_amax(cr_abs(cr_sub(cr_jit_forward(odd, x), cr_jit_forward(again, x))))) == 0);
        cr_jit_free(odd);
        cr_jit_free(again);
    }
}

/* ---------------------------------------------------------------- learning on */
static void an_imported_model_learns(void **state) {
    (void)state;
    CR_SCOPE {
        cr_graph *graph = small_graph();
        assert_true(cr_onnx_export(graph, in_folder("teacher.onnx")));
        cr_jit_free(graph);
        cr_manual_seed(3);
        cr_nn_module *net = cr_onnx_import_module(in_folder("teacher.onnx"));
        cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(16, 1, 4, 4), CR_CPU),
                  *target = cr_randint(0, 3, CR_SHAPE(16), CR_CPU);
        assert_int_equal(cr_nn_parameters(net).count, 6);
        assert_true(cr_nn_buffers(net).count >= 2); /* statistics, and lists of sizes */
        cr_optim *optim = cr_optim_adam(cr_nn_parameters(net), .lr = 0.03);
        double first = 0, last = 0;
        cr_nn_train(net, true);
        for (int i = 0; i < 20; i++) {
            CR_SCOPE {
                cr_tensor *loss = cr_cross_entropy(cr_nn_forward(net, x), target);
                cr_optim_zero_grad(optim);
                cr_backward(loss);
                cr_optim_step(optim);
                last = cr_item(loss);
                if (i == 0) first = last;
            }
        }
        assert_cr_ok();
        assert_true(last < 0.8 * first);
        cr_graph *taught = cr_jit_trace(cr_nn_eval(net), x, .dynamic_batch = true);
        assert_true(cr_onnx_export(taught, in_folder("taught.onnx")));
        cr_graph *again = cr_onnx_import(in_folder("taught.onnx"));
        cr_tensor *plain = cr_nn_forward(net, x), *run = cr_jit_forward(again, x);
        assert_cr_ok();
        assert_true(cr_item(cr_amax(cr_abs(cr_sub(plain, run)))) < 1e-5);
        cr_optim_free(optim);
        cr_nn_free(net);
        cr_jit_free(taught);
        cr_jit_free(again);
    }
    cr_scope_clear();
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrong_graphs_are_named),
        cmocka_unit_test(wrong_tensors_are_named),
        cmocka_unit_test(external_data_stays_in_its_folder),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(small_messages_do_not_become_large),
        cmocka_unit_test(damaged_files_are_errors),
        cmocka_unit_test(memory_that_runs_out_is_an_error),
        cmocka_unit_test(what_cannot_be_said_is_listed_and_writes_nothing),
        cmocka_unit_test(names_and_metadata_are_written),
        cmocka_unit_test(the_users_operators_go_both_ways),
        cmocka_unit_test(an_imported_model_learns),
    };
    return cmocka_run_group_tests(tests, make_temporary_folder, remove_temporary_folder);
}
