/* Fused programs: every pointwise op, interpreted by tiles and compiled, gives the bits of the op itself; the CUDA
 * dialect of the same programs compiles to PTX where NVRTC is there. */
#include "jit/fused.h"
#include "tests/unit/testing.h"

#include <dlfcn.h>
#include <stdlib.h>

enum { BATCH = 12 }; /* instructions, and results, of one program */

/* ---------------------------------------------------------------- programs */
typedef struct batch {
    cr_fused_program program;
    const cr_op *ops[BATCH];
    cr_tensor *expected[BATCH];
} batch;

/* Adds an op where it takes operands of this dtype. */
static void add_op(batch *b, const cr_op *op, cr_tensor **operands) {
    cr_tensor *result = NULL;
    cr_dtype dtype;
    const int count = op->pointwise->operands;
    if (!cr_run_all((cr_op *)(uintptr_t)op, operands, count, NULL, &result, 1)) {
        cr_clear_error();
        return;
    }
    cr_fused_program *p = &b->program;
    cr_fused_instruction *in = &p->instructions[p->instruction_count];
    const cr_call call = {.op = op, .inputs = operands, .input_count = count};
    *in = (cr_fused_instruction){.info = op->pointwise, .operand_count = count, .operands = {0, 1, 2}};
    in->compute = cr_compute_of(cr_pointwise_computes(&call, &dtype));
    in->dtype = cr_dtype_of(result);
    memcpy(in->numbers, ((const cr_pointwise_attributes *)op->defaults)->value, sizeof in->numbers);
    memcpy(&p->numbers[2 * p->instruction_count], in->numbers, sizeof in->numbers);
    p->outputs[p->output_count++] = 3 + p->instruction_count;
    b->ops[p->instruction_count] = op;
    b->expected[p->instruction_count++] = result;
}

static void run_program(const cr_fused_program *program, cr_tensor **operands, cr_tensor **outputs) {
    const cr_fused_options options = {sizeof options, program};
    cr_call call = {.op = cr_op_find("fused"),
                    .inputs = operands,
                    .input_count = 3,
                    .outputs = outputs,
                    .output_count = program->output_count,
                    .attributes = &options};
    assert_true(atomic_load(&((cr_op *)(uintptr_t)call.op)->kernels[CR_DEVICE_CPU])(&call));
}

static int compare(const batch *b, cr_tensor **outputs, const char *how) {
    int compared = 0;
    for (int i = 0; i < b->program.output_count; i++) {
        const size_t bytes = (size_t)cr_numel(outputs[i]) * cr_dtype_size(cr_dtype_of(outputs[i]));
        if (memcmp(cr_data(outputs[i]), cr_data(cr_contiguous(b->expected[i])), bytes) != 0)
            fail_msg("%s, %s: other bits than the op's", b->ops[i]->name, how);
        compared += (int)cr_numel(outputs[i]);
    }
    return compared;
}

/* ---------------------------------------------------------------- NVRTC, where it is */
typedef struct nvrtc {
    void *library;
    int (*create)(void **program, const char *source, const char *name, int headers, const char *const *texts,
                  const char *const *names);
    int (*compile)(void *program, int options, const char *const *texts);
    int (*log)(void *program, char *log);
    int (*destroy)(void **program);
} nvrtc;

static bool find_nvrtc(nvrtc *n) {
    static const char *const names[] = {"libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12",
                                        "/usr/local/cuda/lib64/libnvrtc.so"};
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !n->library; i++)
        n->library = dlopen(names[i], RTLD_NOW);
    if (!n->library) return false;
    *(void **)&n->create = dlsym(n->library, "nvrtcCreateProgram");
    *(void **)&n->compile = dlsym(n->library, "nvrtcCompileProgram");
    *(void **)&n->log = dlsym(n->library, "nvrtcGetProgramLog");
    *(void **)&n->destroy = dlsym(n->library, "nvrtcDestroyProgram");
    return n->create && n->compile && n->log && n->destroy;
}

static void compile_as_cuda(const nvrtc *n, const cr_fused_program *program) {
    static char log[1 << 20];
    const char *const options[] = {"--gpu-architecture=compute_80", "--std=c++17"};
    void *made = NULL;
    char *source = cr_fused_source(program, CR_DIALECT_CUDA);
    assert_non_null(source);
    assert_int_equal(n->create(&made, source, "fused.cu", 0, NULL, NULL), 0);
    if (n->compile(made, 2, options) != 0) {
        n->log(made, log);
        fail_msg("NVRTC: %.2000s", log);
    }
    n->destroy(&made);
    cr_free(source);
}

/* ---------------------------------------------------------------- the tests */
static cr_tensor *values_of(cr_dtype dtype, cr_shape shape) {
    if (cr_dtype_is_floating(dtype)) return cr_cast(cr_mul_scalar(cr_randn(CR_F64, shape, CR_CPU), 2), dtype);
    return cr_cast(cr_randint(-4, 9, shape, CR_CPU), dtype);
}

static int check_batch(batch *b, cr_tensor **operands, const nvrtc *n) {
    cr_tensor *outputs[BATCH];
    int compared = 0;
    for (int i = 0; i < b->program.output_count; i++)
        outputs[i] = cr_empty(cr_dtype_of(b->expected[i]), cr_shape_of(b->expected[i]), CR_CPU);
    cr_fused_geometry(&b->program, outputs, operands);
    run_program(&b->program, operands, outputs);
    compared += compare(b, outputs, "interpreted");
    b->program.compiled = cr_compile(cr_fused_source(&b->program, CR_DIALECT_C));
    cr_jit_wait();
    if (b->program.compiled) {
        assert_non_null(atomic_load(b->program.compiled));
        for (int i = 0; i < b->program.output_count; i++)
            assert_non_null(cr_zero_(outputs[i]));
        run_program(&b->program, operands, outputs);
        compared += compare(b, outputs, "compiled");
    }
    if (n->library) compile_as_cuda(n, &b->program);
    return compared;
}

static void every_op_gives_its_own_bits(void **state) {
    (void)state;
    static const cr_dtype dtypes[] = {CR_F32, CR_F64, CR_I64, CR_I32, CR_BOOL};
    nvrtc n = {0};
    int compared = 0, programs = 0;
    find_nvrtc(&n);
    cr_manual_seed(7);
    for (size_t d = 0; d < sizeof dtypes / sizeof dtypes[0]; d++)
        CR_SCOPE {
            /* whole, one number per row, and one that lies across */
            cr_tensor *operands[] = {values_of(dtypes[d], CR_SHAPE(9, 37)), values_of(dtypes[d], CR_SHAPE(9, 1)),
                                     cr_transpose(values_of(dtypes[d], CR_SHAPE(37, 9)), 0, 1)};
            for (int at = 0; at < CR_POINTWISE_COUNT;) {
                batch b = {.program = {.input_count = 3, .inputs = {dtypes[d], dtypes[d], dtypes[d]}}};
                /* ops of one operand see the first, whole one: results all have one shape */
                for (; at < CR_POINTWISE_COUNT && b.program.instruction_count < BATCH; at++)
                    add_op(&b, &cr_pointwise_ops[at], operands);
                if (!b.program.instruction_count) continue;
                compared += check_batch(&b, operands, &n);
                programs++;
            }
        }
    print_message("%d elements of %d programs compared; CUDA %s\n", compared, programs,
                  n.library ? "compiled by NVRTC" : "skipped: no NVRTC");
    assert_true(compared > 100000);
    /* NVRTC stays loaded: what its runtime keeps would look lost without it */
}

static void one_row_and_one_element(void **state) {
    (void)state;
    const cr_shape shapes[] = {CR_SHAPE(1000), CR_SHAPE_0D, CR_SHAPE(0), CR_SHAPE(2, 3, 4, 5), CR_SHAPE(70000)};
    for (size_t s = 0; s < sizeof shapes / sizeof shapes[0]; s++)
        CR_SCOPE {
            cr_tensor *operands[] = {values_of(CR_F32, shapes[s]), values_of(CR_F32, shapes[s]),
                                     values_of(CR_F32, CR_SHAPE_0D)};
            batch b = {.program = {.input_count = 3, .inputs = {CR_F32, CR_F32, CR_F32}}};
            nvrtc none = {0};
            add_op(&b, CR_POINTWISE_OP(mul), operands);
            add_op(&b, CR_POINTWISE_OP(tanh), operands);
            add_op(&b, CR_POINTWISE_OP(lerp), operands);
            assert_int_equal(b.program.instruction_count, 3);
            if (cr_numel(operands[0])) check_batch(&b, operands, &none);
        }
}

/* One run of more than 32 MB is streamed; parts of an odd length begin within lines. */
static void results_larger_than_the_caches(void **state) {
    (void)state;
    const cr_shape shape = CR_SHAPE((8 << 20) + 37);
    for (int results = 1; results <= 2; results++)
        CR_SCOPE {
            cr_tensor *operands[] = {values_of(CR_F32, shape), values_of(CR_F32, shape),
                                     values_of(CR_F32, CR_SHAPE_0D)};
            batch b = {.program = {.input_count = 3, .inputs = {CR_F32, CR_F32, CR_F32}}};
            nvrtc none = {0};
            add_op(&b, CR_POINTWISE_OP(lerp), operands);
            if (results > 1) add_op(&b, CR_POINTWISE_OP(lt), operands);
            assert_int_equal(b.program.instruction_count, results);
            check_batch(&b, operands, &none);
        }
}

int main(void) {
    setenv("CR_CACHE_DIR", "codegen_cache", 1);
    if (system("rm -rf codegen_cache") != 0) return 1;
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_op_gives_its_own_bits),
                                       cmocka_unit_test(one_row_and_one_element),
                                       cmocka_unit_test(results_larger_than_the_caches)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
