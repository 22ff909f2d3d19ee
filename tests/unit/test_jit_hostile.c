/* Programs that are cut, damaged, or made to harm: they are refused with an error or they run; no crash, no leak, and
 * no memory out of proportion to the text. */
#include "tests/unit/testing.h"
#include "tests/unit/temporary_folder.h"

#include "core/random.h"

#include <cresset/jit.h>

enum { CASES = 20000, LARGEST = 16384, MEMORY = 64 << 20 };

typedef struct program {
    char bytes[LARGEST];
    size_t count;
} program;

/* ---------------------------------------------------------------- whole programs to begin from */
static bool double_it(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    (void)context, (void)in_count, (void)out_count;
    return (out[0] = cr_mul_scalar(in[0], 2)) != NULL;
}
static bool step_back(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    (void)context, (void)in_count, (void)out_count;
    return (out[0] = cr_sub_scalar(in[0], 1)) != NULL;
}
static bool decide(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    (void)in_count;
    return cr_cond(cr_gt_scalar(cr_sum(in[0]), 0), double_it, step_back, context, in, 1, out, out_count);
}
static bool views_and_writes(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    (void)context, (void)in_count, (void)out_count;
    cr_tensor *x = cr_clone(in[0]), *rows = cr_slice(x, 0, 1, 4, 2);
    cr_mul_(rows, cr_select(x, 0, 0));
    return (out[0] = cr_cat((cr_tensor *const[]){x, cr_dropout(x, 0.5, true)}, 2, 1)) != NULL;
}

static bool chain(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    (void)context, (void)in_count, (void)out_count;
    cr_tensor *row = cr_select(in[0], 0, 1), *wave = cr_tanh(cr_mul(cr_add_scalar(in[0], 1), row));
    out[0] = cr_where(cr_gt(wave, row), cr_exp(wave), cr_sub(cr_cast(wave, CR_F64), in[0]));
    return out[0] && (out[1] = cr_sum(cr_sigmoid(out[0]))) != NULL;
}

static char *text_of(cr_graph *graph) {
    char *text = cr_jit_text(graph);
    cr_jit_free(graph);
    return text;
}

enum { PROGRAMS = 5 };
static char *make_program(int which) {
    char *text = NULL;
    CR_SCOPE {
        cr_tensor *x = cr_ones(CR_F32, CR_SHAPE(4, 6), CR_CPU);
        cr_nn_module *net = which == 0 ? cr_nn_sequential(cr_nn_linear(6, 8), cr_nn_batch_norm1d(8), cr_nn_gelu(),
                                                          cr_nn_dropout(0.1), cr_nn_linear(8, 2))
                                       : NULL;
        if (which == 0) text = text_of(cr_jit_trace(net, x, .dynamic_batch = true));
        if (which == 1) text = text_of(cr_jit_trace_function(decide, NULL, &x, 1, NULL, 1, NULL, 0));
        if (which == 2)
            text =
                text_of(cr_jit_trace_function(views_and_writes, NULL, &x, 1, NULL, 1, NULL, 0, .dynamic = "0.1=width"));
        if (which >= 3) { /* what the passes leave */
            cr_graph *graph =
                cr_jit_trace_function(which == 3 ? decide : chain, NULL, &x, 1, NULL, which == 3 ? 1 : 2, NULL, 0);
            text = cr_jit_optimized_text(graph, NULL, 0);
            cr_jit_free(graph);
        }
        cr_nn_free(net);
    }
    assert_cr_ok();
    assert_non_null(text);
    if (which == 4) assert_non_null(strstr(text, "fused"));
    return text;
}

/* ---------------------------------------------------------------- reading and running */
/* Inputs as the graph asks for them, where they are small. */
static bool make_inputs(const cr_graph *graph, cr_tensor **inputs) {
    if (cr_jit_input_count(graph) > 64) return false;
    for (int i = 0; i < cr_jit_input_count(graph); i++) {
        cr_shape shape = cr_jit_input_shape(graph, i);
        int64_t numel;
        for (int d = 0; d < shape.count; d++)
            if (shape.at[d] < 0) shape.at[d] = 3;
        if (!cr_shape_numel(shape, &numel) || numel > 100000 ||
            !(inputs[i] = cr_ones(cr_jit_input_dtype(graph, i), shape, CR_CPU)))
            return false;
    }
    return true;
}

/* True where the text was a graph. It is also run, which may fail. */
static bool try_program(const char *text) {
    bool read = false;
    CR_SCOPE {
        cr_tensor *inputs[64], *outputs[64];
        cr_graph *graph = cr_jit_parse(text);
        read = graph != NULL;
        if (!graph && cr_ok()) fail_msg("refused without an error: %s", text);
        cr_free(cr_jit_text(graph));
        if (graph && cr_jit_output_count(graph) <= 64 && !strstr(text, "while_loop") && make_inputs(graph, inputs))
            cr_jit_run(graph, inputs, cr_jit_input_count(graph), outputs, cr_jit_output_count(graph));
        cr_jit_free(graph);
    }
    cr_clear_error();
    if (cr_memory_stats().live_bytes)
        fail_msg("%lld bytes are left after: %s", (long long)cr_memory_stats().live_bytes, text);
    return read;
}

static void expect_refused(const char *text, const char *why) {
    cr_graph *graph = cr_jit_parse(text);
    if (graph) fail_msg("accepted: %s", text);
    assert_cr_error(cr_last_error()->code, why);
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

/* ---------------------------------------------------------------- tests */
static void programs_cut_at_every_byte_are_refused_or_run(void **state) {
    (void)state;
    for (int which = 0; which < PROGRAMS; which++) {
        char *text = make_program(which), copy[LARGEST];
        const size_t length = strlen(text);
        assert_in_range(length, 100, LARGEST - 1);
        memcpy(copy, text, length + 1);
        cr_free(text);
        assert_true(try_program(copy));
        for (size_t cut = length; cut-- > 0;) {
            copy[cut] = '\0';
            try_program(copy);
        }
    }
}

static uint64_t stream;
static uint32_t roll(uint32_t sides) {
    uint32_t numbers[4];
    cr_philox((cr_generator_state){77, 0}, stream++, numbers);
    return numbers[0] % (sides ? sides : 1);
}

static void flip_bit(program *p) { p->bytes[roll((uint32_t)p->count)] ^= (char)(1u << roll(7)); }

static void change_number(program *p) {
    static const char *const numbers[] = {
        "9223372036854775807", "4294967296", "16777215", "-1", "0", "1", "2", "7", "99999", ""};
    const char *number = numbers[roll(10)];
    const size_t length = strlen(number);
    size_t at = roll((uint32_t)p->count), end;
    while (at < p->count && (p->bytes[at] < '0' || p->bytes[at] > '9'))
        at++;
    for (end = at; end < p->count && p->bytes[end] >= '0' && p->bytes[end] <= '9';)
        end++;
    if (p->count - (end - at) + length + 1 > LARGEST) return;
    memmove(p->bytes + at + length, p->bytes + end, p->count - end);
    memcpy(p->bytes + at, number, length);
    p->count = p->count - (end - at) + length;
}

/* A line twice, or gone, or in another place. */
static void move_line(program *p) {
    const size_t from = roll((uint32_t)p->count);
    size_t begin = from, end = from;
    while (begin > 0 && p->bytes[begin - 1] != '\n')
        begin--;
    while (end < p->count && p->bytes[end] != '\n')
        end++;
    const size_t length = end + 1 - begin;
    char line[LARGEST];
    if (end >= p->count) return;
    memcpy(line, p->bytes + begin, length);
    if (roll(2)) { /* gone */
        memmove(p->bytes + begin, p->bytes + end + 1, p->count - end - 1);
        p->count -= length;
    }
    if (roll(3) == 0 || p->count + length + 1 > LARGEST) return;
    size_t at = roll((uint32_t)p->count + 1);
    while (at > 0 && p->bytes[at - 1] != '\n')
        at--;
    memmove(p->bytes + at + length, p->bytes + at, p->count - at);
    memcpy(p->bytes + at, line, length);
    p->count += length;
}

static void swap_word(program *p) {
    static const char *const words[] = {"f64",  "i64",  "bool", "add", "view", "linear", "fused",
                                        "cond", "full", "cat",  "%0",  "%3",   "-",      "batch"};
    const char *word = words[roll(14)];
    size_t at = roll((uint32_t)p->count), end;
    while (at > 0 && !strchr(" ,(=\n", p->bytes[at - 1]))
        at--;
    for (end = at; end < p->count && !strchr(" ,()=[\n", p->bytes[end]);)
        end++;
    const size_t length = strlen(word);
    if (p->count + length + 1 > LARGEST) return;
    memmove(p->bytes + at + length, p->bytes + end, p->count - end);
    memcpy(p->bytes + at, word, length);
    p->count += length - (end - at);
}

static void (*const damages[])(program *) = {flip_bit, change_number, move_line, swap_word};

static void damaged_programs_are_refused_or_run(void **state) {
    (void)state;
    static program p;
    int accepted = 0;
    for (int which = 0; which < PROGRAMS; which++) {
        char *text = make_program(which);
        const size_t length = strlen(text);
        cr_memory_set_limit(MEMORY);
        for (int n = 0; n < CASES / PROGRAMS; n++) {
            memcpy(p.bytes, text, length);
            p.count = length;
            for (uint32_t k = 1 + roll(2); k > 0 && p.count; k--)
                damages[roll(4)](&p);
            p.bytes[p.count] = '\0';
            char *copy = memcpy(malloc(p.count + 1), p.bytes, p.count + 1); /* its end is where a sanitizer sees it */
            const int64_t before = cr_memory_stats().live_bytes;
            CR_SCOPE {
                cr_tensor *inputs[64], *outputs[64];
                cr_graph *graph = cr_jit_parse(copy);
                accepted += graph != NULL;
                if (!graph && cr_ok()) fail_msg("refused without an error: %s", copy);
                if (graph && cr_jit_output_count(graph) <= 64 && !strstr(copy, "while_loop") &&
                    make_inputs(graph, inputs))
                    cr_jit_run(graph, inputs, cr_jit_input_count(graph), outputs, cr_jit_output_count(graph));
                cr_jit_free(graph);
            }
            cr_clear_error();
            if (cr_memory_stats().live_bytes != before) fail_msg("bytes are left after: %s", copy);
            free(copy);
        }
        cr_memory_set_limit(0);
        cr_free(text);
    }
    assert_in_range(accepted, CASES / 20, CASES); /* else the damage never gets past the reader */
}

static void harmful_programs_are_refused(void **state) {
    (void)state;
    expect_refused("", "version 1");
    expect_refused("cresset graph 2\n", "version 1");
    expect_refused("cresset graph 1\n%0 f32[2] = no_such_op()\n", "no op");
    expect_refused("cresset graph 1\n%16777215 f32[2] = exp(%16777215)\n", "higher than the text");
    expect_refused("cresset graph 1\n%1 f32[2] = exp(%0)\n", "before it is defined");
    expect_refused("cresset graph 1\n%0 f32[2] = exp(%1)\n%1 f32[2] = exp(%0)\n", "before it is defined");
    expect_refused("cresset graph 1\ninput %0 f32[2]\n%0 f32[2] = exp(%0)\n", "defined twice");
    expect_refused("cresset graph 1\ninput %0 f32[2]\n%1 f32[2] = exp(%0, %0)\n", "number of operands");
    expect_refused("cresset graph 1\ninput %0 f32[2]\n%1 f32[2] = exp(-)\n", "missing");
    expect_refused("cresset graph 1\ninput %0 f32[2]\n%1 f32[2], %2 f32[2] = exp(%0)\n", "number of results");
    expect_refused("cresset graph 1\ninput %0 f32[1,1,1,1,1,1,1,1,1]\n", "8 dims");
    expect_refused("cresset graph 1\ninput %0 f32[4294967296,4294967296]\n", "");
    expect_refused("cresset graph 1\ninput %0 f32[-4]\n", "negative");
    expect_refused("cresset graph 1\ninput %0 f33[4]\n", "dtype");
    expect_refused("cresset graph 1\nsymbol n = 4\ninput %0 f32[2*n+1]\n", "formula");
    expect_refused("cresset graph 1\nsymbol n = 4\ninput %0 f32[(n)/0]\n", "size");
    expect_refused("cresset graph 1\nbuffer %0 f32[4] \"w\" -> %1\ninput %1 f32[5]\n", "another dtype or shape");
    expect_refused("cresset graph 1\nbuffer %0 f32[4] \"w\" -> %9\n", "not defined");
    expect_refused("cresset graph 1\nbuffer %0 f32[4] \"w\"\nbuffer %1 f32[4] \"w\"\n", "two states");
    expect_refused("cresset graph 1\noutput %0\n", "before it is defined");
    expect_refused("cresset graph 1\n{\n", "without a node");
    expect_refused("cresset graph 1\ninput %0 f32[2]\n%1 f32[2] = exp(%0)\n{\n", "does not end");
}

static void a_graph_whose_types_are_wrong_does_not_run(void **state) {
    (void)state;
    static const char *const programs[] = {
        "cresset graph 1\ninput %0 f32[2]\n%1 f32[3] = exp(%0)\noutput %1\n",
        "cresset graph 1\ninput %0 f32[2]\n%1 i64[2] = exp(%0)\noutput %1\n",
        "cresset graph 1\ninput %0 f32[2,3]\ninput %1 f32[4,5]\n%2 f32[2,5] = matmul(%0, %1)\noutput %2\n",
        "cresset graph 1\ninput %0 f32[2]\n%1 f32[9] = as_strided(%0) shape=[9] strides=[1] offset=0\noutput %1\n",
        "cresset graph 1\n%0 f32[1000000,1000000] = full() dtype=f32 shape=[1000000,1000000] value=1\noutput %0\n",
        "cresset graph 1\nbuffer %0 f32[4] \"w\"\n%1 f32[4] = exp(%0)\noutput %1\n",
        /* what fusion makes one node of is checked inside it */
        "cresset graph 1\ninput %0 f32[0]\n%1 f32[4] = full() dtype=f32 shape=[4] value=1\n%2 f32[4] = mul(%0, %1)\n"
        "output %2\n",
        "cresset graph 1\ninput %0 f32[2,3]\n%1 f32[2,9] = linear(%0, %0, -)\n%2 f32[2,9] = relu(%1)\noutput %2\n",
        "cresset graph 1\ninput %0 f32[3]\n%1 f32[4] = exp(%0)\n%2 f32[4] = neg(%1)\noutput %2\n",
        "cresset graph 1\ninput %0 f32[4]\n%1 f64[4] = exp(%0)\n%2 f64[4] = neg(%1)\noutput %2\n",
        "cresset graph 1\ninput %0 f32[4]\n%1 f32[4] = fused(%0)\n{\n  input %2 f32[9]\n  %3 f32[9] = exp(%2)\n"
        "  output %3\n}\noutput %1\n",
        "cresset graph 1\ninput %0 f32[4]\n%1 f32[4] = fused(%0)\n{\n  input %2 f32[4]\n  %3 f32[2] = sum(%2)\n"
        "  output %3\n}\noutput %1\n",
    };
    for (size_t i = 0; i < sizeof programs / sizeof programs[0]; i++) {
        CR_SCOPE {
            cr_tensor *inputs[4], *output = NULL;
            cr_graph *graph = cr_jit_parse(programs[i]);
            if (graph && make_inputs(graph, inputs)) {
                const bool done = cr_jit_run(graph, inputs, cr_jit_input_count(graph), &output, 1);
                if (done) fail_msg("runs: %s", programs[i]);
            }
            if (cr_ok()) fail_msg("no error: %s", programs[i]);
            cr_clear_error();
            cr_jit_free(graph);
        }
        assert_int_equal(cr_memory_stats().live_bytes, 0);
    }
}

static void blocks_nest_to_a_limit(void **state) {
    (void)state;
    static char text[LARGEST];
    int at = snprintf(text, sizeof text, "cresset graph 1\ninput %%0 f32[2]\n");
    for (int i = 1; i < 300; i++)
        at += snprintf(text + at, sizeof text - (size_t)at, "%%%d f32[2] = exp(%%0)\n{\n", i);
    expect_refused(text, "nested too deep");
}

/* ---------------------------------------------------------------- files */
static void write_file(const char *path, const void *bytes, size_t count) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    if (count) fwrite(bytes, 1, count, file);
    fclose(file);
}

static void damaged_files_are_refused_or_run(void **state) {
    (void)state;
    static program p, original;
    CR_SCOPE {
        cr_nn_module *net = cr_nn_sequential(cr_nn_linear(3, 4), cr_nn_batch_norm1d(4), cr_nn_linear(4, 2));
        cr_graph *graph = cr_jit_trace(net, cr_ones(CR_F32, CR_SHAPE(2, 3), CR_CPU));
        assert_true(cr_jit_save(graph, in_folder("program")));
        cr_jit_free(graph);
        cr_nn_free(net);
    }
    FILE *file = fopen(in_folder("program"), "rb");
    original.count = fread(original.bytes, 1, LARGEST, file);
    fclose(file);
    assert_in_range(original.count, 500, LARGEST - 1);
    int accepted = 0;
    for (int n = 0; n < 1500; n++) {
        p = original;
        if (n % 3 == 0)
            p.count = (size_t)n / 3 * p.count / 500;
        else
            for (uint32_t k = 1 + roll(3); k > 0; k--)
                p.bytes[roll((uint32_t)(n % 3 == 1 ? p.count : 2500) % (uint32_t)p.count)] ^= (char)(1u << roll(8));
        write_file(in_folder("damaged"), p.bytes, p.count);
        CR_SCOPE {
            cr_tensor *inputs[64], *outputs[64];
            cr_graph *graph = cr_jit_load(in_folder("damaged"), CR_CPU);
            accepted += graph != NULL;
            if (!graph && cr_ok()) fail_msg("case %d is refused without an error", n);
            if (graph && make_inputs(graph, inputs))
                cr_jit_run(graph, inputs, cr_jit_input_count(graph), outputs, cr_jit_output_count(graph));
            cr_jit_free(graph);
        }
        cr_clear_error();
        assert_int_equal(cr_memory_stats().live_bytes, 0);
    }
    assert_in_range(accepted, 20, 1490);
}

static void files_that_hold_no_program_are_refused(void **state) {
    (void)state;
    CR_SCOPE {
        const cr_named_tensor row = {"w", cr_ones(CR_F32, CR_SHAPE(4), CR_CPU)};
        assert_true(cr_safetensors_save(in_folder("plain"), &row, 1, NULL, 0));
        assert_null(cr_jit_load(in_folder("plain"), CR_CPU));
        assert_cr_error(CR_ERROR_FORMAT, "no program");
        static const char *const texts[] = {"cresset graph 1\nbuffer %0 f32[5] \"w\"\n",
                                            "cresset graph 1\nbuffer %0 f32[4] \"v\"\n", "nonsense"};
        for (int i = 0; i < 3; i++) {
            const cr_text_pair metadata = {"cresset.graph", texts[i]};
            assert_true(cr_safetensors_save(in_folder("wrong"), &row, 1, &metadata, 1));
            assert_null(cr_jit_load(in_folder("wrong"), CR_CPU));
            assert_false(cr_ok());
            cr_clear_error();
        }
        assert_null(cr_jit_load(in_folder("absent"), CR_CPU));
        assert_false(cr_ok());
        cr_clear_error();
    }
    assert_int_equal(cr_memory_stats().live_bytes, 0);
}

int main(void) {
    setenv("CR_CC", "none", 1);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(harmful_programs_are_refused),
        cmocka_unit_test(a_graph_whose_types_are_wrong_does_not_run),
        cmocka_unit_test(blocks_nest_to_a_limit),
        cmocka_unit_test(files_that_hold_no_program_are_refused),
        cmocka_unit_test(programs_cut_at_every_byte_are_refused_or_run),
        cmocka_unit_test(damaged_programs_are_refused_or_run),
        cmocka_unit_test(damaged_files_are_refused_or_run),
    };
    return cmocka_run_group_tests(tests, make_temporary_folder, remove_temporary_folder);
}
