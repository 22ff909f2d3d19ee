/* Fused nodes: each tile goes through all instructions while it is in the cache. */
#include "core/parallel.h"
#include "ops/cpu/variants/epilogue.h"
#include "ops/cpu/variants/reduction.h"
#include "ops/cpu/variants/stream.h"

#include <math.h>
#include <string.h>

enum { TILE = 256, SLOTS = CR_FUSED_OPERANDS + CR_FUSED_INSTRUCTIONS };

typedef struct fused_job {
    cr_iteration iteration; /* outputs, then inputs */
    const cr_fused_program *program;
    cr_fused_function compiled;
    char *data[CR_FUSED_OPERANDS];
    int64_t strides[CR_FUSED_OPERANDS][CR_MAX_DIMS];
} fused_job;

/* ---------------------------------------------------------------- the interpreter: slots hold the compute type of
 * their dtype */
#define CONVERT(from_type, to_type)                                                                                    \
    for (int64_t i = 0; i < count; i++)                                                                                \
        ((to_type *)to)[i] = (to_type)((const from_type *)from)[i];                                                    \
    break
static void convert(const void *from, cr_compute have, void *to, cr_compute want, int64_t count) {
    switch (3 * have + want) {
    case 3 * CR_COMPUTE_F32 + CR_COMPUTE_F64: CONVERT(float, double);
    case 3 * CR_COMPUTE_F32 + CR_COMPUTE_I64: CONVERT(float, int64_t);
    case 3 * CR_COMPUTE_F64 + CR_COMPUTE_F32: CONVERT(double, float);
    case 3 * CR_COMPUTE_F64 + CR_COMPUTE_I64: CONVERT(double, int64_t);
    case 3 * CR_COMPUTE_I64 + CR_COMPUTE_F32: CONVERT(int64_t, float);
    case 3 * CR_COMPUTE_I64 + CR_COMPUTE_F64: CONVERT(int64_t, double);
    default: break;
    }
}

/* Integers as their dtype holds them; bool is 0 or 1. */
#define WRAP(type)                                                                                                     \
    for (int64_t i = 0; i < count; i++)                                                                                \
        values[i] = (type)values[i];                                                                                   \
    break
static void wrap(int64_t *values, cr_dtype dtype, bool lowest_bit, int64_t count) {
    switch (dtype) {
    case CR_BOOL:
        for (int64_t i = 0; i < count; i++)
            values[i] = lowest_bit ? values[i] & 1 : values[i] != 0;
        break;
    case CR_U8: WRAP(uint8_t);
    case CR_I8: WRAP(int8_t);
    case CR_I16: WRAP(int16_t);
    case CR_I32: WRAP(int32_t);
    default: break;
    }
}

static void run_instruction(const cr_fused_program *program, const cr_fused_instruction *in, const void *const *slots,
                            void *result, int64_t count) {
    _Alignas(64) char converted[3][TILE * 8];
    const void *operands[3] = {result, result, result};
    for (int i = 0; i < in->operand_count; i++) {
        const cr_compute have = cr_compute_of(cr_fused_dtype(program, in->operands[i]));
        operands[i] = slots[in->operands[i]];
        if (have == in->compute) continue;
        convert(operands[i], have, converted[i], in->compute, count);
        operands[i] = converted[i];
    }
    const cr_pointwise_loop loop = cr_pointwise_loop_of(in->info->index, in->compute);
    if (in->info->class == CR_CLASS_COMPARE) {
        uint8_t flags[TILE];
        loop(operands, flags, in->numbers, count);
        for (int64_t i = 0; i < count; i++)
            ((int64_t *)result)[i] = flags[i];
        return;
    }
    const cr_compute kept = cr_compute_of(in->dtype);
    if (kept == in->compute) {
        loop(operands, result, in->numbers, count);
    } else {
        _Alignas(64) char wide[TILE * 8];
        loop(operands, wide, in->numbers, count);
        convert(wide, in->compute, result, kept, count);
    }
    if (kept == CR_COMPUTE_I64) wrap(result, in->dtype, in->info->class == CR_CLASS_INTEGER, count);
}

/* The first output goes to `made`, densely from element `begin` on, where that is not NULL. */
static void run_tiles(const fused_job *job, int64_t begin, int64_t end, char *made) {
    _Alignas(64) char buffers[SLOTS][TILE * 8];
    const void *slots[SLOTS];
    const cr_fused_program *program = job->program;
    const cr_iteration *it = &job->iteration;
    for (int64_t start = begin; start < end;) {
        int64_t count = cr_tile_length(it, start, end);
        if (count > TILE) count = TILE;
        for (int i = 0; i < program->input_count; i++)
            slots[i] = cr_tile_load(it, program->output_count + i, start, count, cr_compute_of(program->inputs[i]),
                                    buffers[i]);
        for (int i = 0; i < program->instruction_count; i++) {
            const int slot = program->input_count + i;
            run_instruction(program, &program->instructions[i], slots, buffers[slot], count);
            slots[slot] = buffers[slot];
        }
        if (made) {
            const size_t bytes = cr_dtype_size(it->operands[0].dtype);
            memcpy(made + (size_t)(start - begin) * bytes, slots[program->outputs[0]], (size_t)count * bytes);
        }
        for (int i = made ? 1 : 0; i < program->output_count; i++) {
            const int slot = program->outputs[i];
            cr_tile_store(it, i, start, count, cr_compute_of(cr_fused_dtype(program, slot)), slots[slot], slots[slot]);
        }
        start += count;
    }
}

/* ---------------------------------------------------------------- either way */
static void run_range(void *context, int64_t begin, int64_t end) {
    const fused_job *job = context;
    if (job->compiled)
        job->compiled(job->data, job->iteration.sizes, job->strides, job->program->numbers, begin, end);
    else
        run_tiles(job, begin, end, NULL);
}

static void begin_iteration(cr_iteration *it, cr_tensor *const *outputs, int output_count, cr_tensor *const *inputs,
                            int input_count) {
    cr_iteration_begin(it, outputs[0]);
    for (int i = 1; i < output_count; i++)
        cr_iteration_add(it, outputs[i]);
    for (int i = 0; i < input_count; i++)
        cr_iteration_add(it, inputs[i]);
    cr_iteration_merge(it);
}

static int8_t inner_class(int64_t stride) { return stride == 0 ? 0 : stride == 1 ? 1 : 2; }

/* The operands of a fused_reduction's iteration: what is reduced stands in the place of the result. */
static bool unreduced_outputs(const cr_fused_program *program, cr_tensor *const *results, cr_tensor *const *inputs,
                              cr_tensor **outputs) {
    for (int i = 1; i < program->output_count; i++)
        outputs[i] = results[i];
    return (outputs[0] = cr_fused_unreduced(program, inputs, program->input_count)) != NULL;
}

void CR_NAME(cr_fused_geometry)(cr_fused_program *program, cr_tensor *const *outputs, cr_tensor *const *inputs);
void CR_NAME(cr_fused_geometry)(cr_fused_program *program, cr_tensor *const *outputs, cr_tensor *const *inputs) {
    cr_iteration it;
    cr_tensor *of_reduction[CR_FUSED_OPERANDS];
    if (program->reduction) {
        if (!unreduced_outputs(program, outputs, inputs, of_reduction)) return;
        outputs = of_reduction;
    }
    begin_iteration(&it, outputs, program->output_count, inputs, program->input_count);
    program->ndim = it.ndim;
    for (int k = 0; k < it.operand_count; k++)
        program->inner[k] = inner_class(it.operands[k].strides[it.ndim - 1]);
}

/* The compiled function fits only the geometry that it was made for. */
static bool fits(const cr_fused_program *program, const cr_iteration *it) {
    if (it->ndim != program->ndim) return false;
    for (int k = 0; k < it->operand_count; k++)
        if (inner_class(it->operands[k].strides[it->ndim - 1]) != program->inner[k]) return false;
    return true;
}

static void begin_job(fused_job *job, const cr_fused_program *program, cr_tensor *const *outputs,
                      cr_tensor *const *inputs) {
    cr_iteration *it = &job->iteration;
    begin_iteration(it, outputs, program->output_count, inputs, program->input_count);
    job->program = program;
    job->compiled = program->compiled ? atomic_load_explicit(program->compiled, memory_order_acquire) : NULL;
    if (job->compiled && !fits(program, it)) job->compiled = NULL;
    for (int k = 0; k < it->operand_count; k++) {
        job->data[k] = it->operands[k].data;
        memcpy(job->strides[k], it->operands[k].strides, sizeof job->strides[k]);
    }
}

/* ---------------------------------------------------------------- one run whose results are larger than the caches */
static size_t element_bytes(const fused_job *job, int operand) {
    return cr_dtype_size(job->iteration.operands[operand].dtype);
}

/* Elements of a block that is streamed; 0: results are stored as they are made. Those that lie where an operand lies are
 * in the cache when they are stored. */
static int64_t streamed_block(const fused_job *job) {
    const cr_iteration *it = &job->iteration;
    const int outputs = job->program->output_count;
    int64_t bytes = 0;
    if (it->ndim != 1) return 0;
    for (int k = 0; k < outputs; k++) {
        if (it->operands[k].strides[0] != 1) return 0;
        bytes += (int64_t)element_bytes(job, k);
        for (int i = outputs; i < it->operand_count; i++)
            if (job->data[i] == job->data[k]) return 0;
    }
    return it->numel * bytes >= STREAMED_LEAST ? STREAM_BYTES / bytes / STREAM_LINE * STREAM_LINE : 0;
}

static void run_streamed(void *context, int64_t begin, int64_t end) {
    const fused_job *job = context;
    const cr_iteration *it = &job->iteration;
    const int outputs = job->program->output_count;
    const int64_t block = streamed_block(job);
    const int64_t(*strides)[CR_MAX_DIMS] = (const int64_t(*)[CR_MAX_DIMS])job->strides;
    _Alignas(STREAM_LINE) char made[STREAM_BYTES];
    char *data[CR_FUSED_OPERANDS] = {made};
    for (int k = 1; k < outputs; k++)
        data[k] = data[k - 1] + (size_t)block * element_bytes(job, k - 1);
    for (int64_t count; begin < end; begin += count) {
        count = block < end - begin ? block : end - begin;
        for (int k = outputs; k < it->operand_count; k++)
            data[k] = job->data[k] + begin * strides[k][0] * (int64_t)element_bytes(job, k);
        job->compiled(data, it->sizes, strides, job->program->numbers, 0, count);
        for (int k = 0; k < outputs; k++)
            stream(job->data[k] + (size_t)begin * element_bytes(job, k), data[k],
                   (size_t)count * element_bytes(job, k));
    }
    stream_end();
}

CR_KERNEL(fused) {
    fused_job job;
    const cr_iteration *it = &job.iteration;
    if (call->outputs[0]->numel == 0) return true;
    begin_job(&job, ((const cr_fused_options *)call->attributes)->program, call->outputs, call->inputs);
    if (!job.compiled) {
        cr_parallel_for(it->numel, CR_GRAIN_ELEMENTS / 4, run_range, &job);
        return true;
    }
    if (streamed_block(&job)) {
        cr_parallel_for(it->numel, CR_GRAIN_ELEMENTS, run_streamed, &job);
        return true;
    }
    const int64_t inner = it->ndim == 1 ? 1 : it->sizes[it->ndim - 1];
    cr_parallel_for(it->numel / inner, CR_GRAIN_ELEMENTS / inner + 1, run_range, &job);
    return true;
}

/* ---------------------------------------------------------------- ending in a reduction */
/* Elements [begin, end) of one row by the compiled function, as if the row was no longer than that; or whole rows, where
 * `rows` of them are wanted. The first output's strides are those of a dense tensor: only where it begins is different,
 * so that its part comes to lie at `made`. */
static void make_part(const fused_job *job, int64_t begin, int64_t end, int64_t rows, char *made) {
    const cr_iteration *it = &job->iteration;
    const int inner = it->ndim - 1;
    const int64_t row = begin / it->sizes[inner], from = begin - row * it->sizes[inner];
    char *data[CR_FUSED_OPERANDS];
    int64_t sizes[CR_MAX_DIMS];
    memcpy(sizes, it->sizes, sizeof sizes);
    if (!rows) sizes[inner] = end - begin;
    data[0] = (char *)((uintptr_t)made - (uintptr_t)((begin - from) * (int64_t)cr_dtype_size(it->operands[0].dtype)));
    for (int k = 1; k < it->operand_count; k++)
        data[k] = job->data[k] + from * job->strides[k][inner] * (int64_t)cr_dtype_size(it->operands[k].dtype);
    const int64_t(*strides)[CR_MAX_DIMS] = (const int64_t(*)[CR_MAX_DIMS])job->strides;
    if (inner == 0)
        job->compiled(data, sizes, strides, job->program->numbers, 0, end - begin);
    else
        job->compiled(data, sizes, strides, job->program->numbers, row, row + (rows ? rows : 1));
}

static void make_elements(void *context, int64_t start, int64_t count, void *buffer) {
    const fused_job *job = context;
    const cr_iteration *it = &job->iteration;
    const int64_t row = it->sizes[it->ndim - 1], bytes = (int64_t)cr_dtype_size(it->operands[0].dtype);
    char *made = buffer;
    if (!job->compiled) {
        run_tiles(job, start, start + count, made);
        return;
    }
    for (const int64_t end = start + count; start < end;) {
        const int64_t rows = it->ndim > 1 && start % row == 0 ? (end - start) / row : 0;
        const int64_t rest = row - start % row, done = rows ? rows * row : end - start < rest ? end - start : rest;
        make_part(job, start, start + done, rows, made);
        made += done * bytes;
        start += done;
    }
}

CR_KERNEL(fused_reduction) {
    const cr_fused_program *program = ((const cr_fused_options *)call->attributes)->program;
    cr_tensor *outputs[CR_FUSED_OPERANDS];
    fused_job job;
    if (!unreduced_outputs(program, call->outputs, call->inputs, outputs)) return false;
    begin_job(&job, program, outputs, call->inputs);
    const cr_reduction_source source = {make_elements, &job};
    return cr_reduce_made(program->reduction, &program->reduced, outputs[0], &source, call->outputs[0]);
}

/* ---------------------------------------------------------------- epilogues of layers */
/* Whether the instruction brings operand 0 or an earlier result within bounds, and which. */
static bool is_bounds(const cr_fused_instruction *i, int operand, float *low, float *high) {
    if (i->dtype != CR_F32 || i->operand_count != 1 || i->operands[0] != operand) return false;
    *low = 0.0f;
    *high = INFINITY;
    switch (i->info->index) {
    case CR_POINTWISE_INDEX_relu: return true;
    case CR_POINTWISE_INDEX_relu6: *high = 6.0f; return true;
    case CR_POINTWISE_INDEX_clamp:
        *low = (float)i->numbers[0];
        *high = (float)i->numbers[1];
        return true;
    default: return false;
    }
}

/* Operand 1 is a second tensor like the result. */
static bool is_sum(const cr_epilogue *e, const cr_fused_instruction *i) {
    return i->info->index == CR_POINTWISE_INDEX_add && i->dtype == CR_F32 && i->operands[0] + i->operands[1] == 1 &&
           e->operand_count == 3 && e->dtypes[2] == CR_F32 &&
           !memcmp(e->strides[2], e->strides[0], sizeof e->strides[0]);
}

static void find_simple(cr_epilogue *e) {
    const cr_fused_program *p = e->program;
    const cr_fused_instruction *first = p->instructions;
    const bool sums = p->instruction_count > 0 && is_sum(e, first);
    e->added = sums ? (const float *)e->data[2] : NULL;
    e->low = -INFINITY;
    e->high = INFINITY;
    e->is_simple =
        p->instruction_count == sums || (p->instruction_count == 1 + sums && p->outputs[0] == p->input_count + sums &&
                                         is_bounds(first + sums, sums ? p->input_count : 0, &e->low, &e->high));
}

bool cr_epilogue_begin(cr_epilogue *e, cr_call *call, const cr_fused_program *program) {
    cr_tensor *result = call->outputs[0];
    const cr_shape shape = cr_tensor_shape(result);
    const cr_parts parts = cr_layer_parts(call->op, shape.count);
    bool fits = program->ndim == 2;
    e->program = program;
    e->operand_count = program->input_count + 1;
    e->rows = e->columns = 1;
    for (int d = parts.image_dims; d < shape.count; d++)
        *(d < parts.image_dims + parts.row_dims ? &e->rows : &e->columns) *= shape.at[d];
    for (int k = 0; k < e->operand_count; k++) {
        cr_tensor *t = k < 2 ? result : call->inputs[CR_LAYER_OPERANDS + k - 2];
        if (!cr_part_strides(t, shape, parts, e->strides[k])) { /* no steps lead through it: a copy has them */
            t = cr_contiguous(cr_expand(t, shape));
            if (!t || !cr_part_strides(t, shape, parts, e->strides[k])) return false;
        }
        e->data[k] = cr_tensor_address(t);
        e->dtypes[k] = (cr_dtype)t->dtype;
        fits &= k < 2 || inner_class(e->strides[k][2]) == program->inner[k];
    }
    find_simple(e);
    e->compiled = program->compiled && fits ? atomic_load_explicit(program->compiled, memory_order_acquire) : NULL;
    return true;
}

static void run_interpreted(const cr_epilogue *e, char *const *data, int64_t rows, int64_t columns) {
    fused_job job = {.program = e->program};
    cr_iteration *it = &job.iteration;
    it->ndim = 2;
    it->sizes[0] = rows;
    it->sizes[1] = columns;
    it->numel = rows * columns;
    it->operand_count = e->operand_count;
    for (int k = 0; k < e->operand_count; k++)
        it->operands[k] = (cr_tile_operand){data[k], e->dtypes[k], {e->strides[k][1], e->strides[k][2]}};
    run_tiles(&job, 0, it->numel, NULL);
}

void cr_epilogue_run(const cr_epilogue *e, int64_t image, int64_t row, int64_t rows, int64_t column, int64_t columns) {
    char *data[CR_FUSED_OPERANDS];
    int64_t strides[CR_FUSED_OPERANDS][CR_MAX_DIMS];
    if (e->program->instruction_count == 0) return;
    bool dense = true; /* rows that follow each other in all operands are one */
    for (int k = 0; k < e->operand_count && dense; k++)
        dense = e->strides[k][1] == columns * e->strides[k][2];
    if (dense) {
        columns *= rows;
        rows = 1;
    }
    const int64_t sizes[CR_MAX_DIMS] = {rows, columns};
    for (int k = 0; k < e->operand_count; k++) {
        const int64_t at = image * e->strides[k][0] + row * e->strides[k][1] + column * e->strides[k][2];
        data[k] = e->data[k] + at * (int64_t)cr_dtype_size(e->dtypes[k]);
        strides[k][0] = e->strides[k][1];
        strides[k][1] = e->strides[k][2];
    }
    if (e->compiled)
        e->compiled(data, sizes, (const int64_t(*)[CR_MAX_DIMS])strides, e->program->numbers, 0, rows);
    else
        run_interpreted(e, data, rows, columns);
}

typedef struct image_range {
    const cr_epilogue *epilogue;
    int64_t first;
} image_range;

static void run_image_rows(void *context, int64_t begin, int64_t end) {
    const image_range *range = context;
    const cr_epilogue *e = range->epilogue;
    for (int64_t at = begin; at < end;) {
        const int64_t row = at % e->rows, rows = e->rows - row < end - at ? e->rows - row : end - at;
        cr_epilogue_run(e, range->first + at / e->rows, row, rows, 0, e->columns);
        at += rows;
    }
}

void cr_epilogue_images(const cr_epilogue *e, int64_t first, int64_t images) {
    if (!e || e->program->instruction_count == 0) return;
    image_range range = {e, first};
    cr_parallel_for(images * e->rows, CR_GRAIN_ELEMENTS / (4 * (e->columns + 1)) + 1, run_image_rows, &range);
}
