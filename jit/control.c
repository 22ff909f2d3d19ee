/* cr_cond, cr_while_loop and cr_scan: plain calls when run, nodes with blocks when traced.
 *
 * A block is closed: what its function uses from outside is an operand of the node, and an input of each block. */
#include "jit/control.h"

#include "jit/pass.h"
#include "jit/tracer.h"

#include <cresset/autograd.h>

#include <string.h>

#define CR_CONTROL_ATTRIBUTES(A, op) A(op, INT, carried, 0) A(op, INT, scanned, 0)
typedef cr_control_options cr_cond_options, cr_while_loop_options, cr_scan_options;
CR_ATTRIBUTES(cond, CR_CONTROL_ATTRIBUTES)

static bool infer_control(cr_call *call) {
    return cr_fail_call(call, CR_ERROR_UNSUPPORTED, "is a node of graphs; call cr_cond, cr_while_loop or cr_scan");
}

#define CONTROL(doc_)                                                                                                  \
    .inputs = "operands*", .outputs = "", CR_ROW_ATTRIBUTES(cond), .flags = CR_OP_BLOCKS | CR_OP_NO_GRADIENT,          \
    .infer = infer_control, .flops = cr_control_flops, .doc = doc_
CR_OP(cond, CONTROL("The first block where the first operand is true, else the second."))
CR_OP(while_loop, CONTROL("The first block over and over while the second gives true."))
CR_OP(scan, CONTROL("The first block along dim 0 of its operands."))

/* ---------------------------------------------------------------- running them as they are */
static bool check(const char *name, bool good, cr_tensor *const *operands, int count) {
    if (!good)
        return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "%s: NULL function, operands or outputs, or more than %d of them",
                                  name, CR_MAX_INPUTS / 2);
    for (int i = 0; i < count; i++)
        if (!operands[i] || !cr_tensor_check(operands[i], name))
            return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "%s: operand %d is NULL", name, i);
    return true;
}

static bool call(const char *name, cr_jit_function function, void *context, cr_tensor *const *inputs, int count,
                 cr_tensor **outputs, int output_count) {
    for (int i = 0; i < output_count; i++)
        outputs[i] = NULL;
    if (!function(context, inputs, count, outputs, output_count))
        return cr_ok() && cr_fail(CR_ERROR_STATE, "%s: the function returned false", name);
    for (int i = 0; i < output_count; i++)
        if (!outputs[i]) return cr_ok() && cr_fail(CR_ERROR_STATE, "%s: the function left result %d NULL", name, i);
    return true;
}

static void copy_tensors(cr_tensor **to, cr_tensor *const *from, int count) {
    for (int i = 0; i < count; i++)
        to[i] = from[i];
}

static bool run_cond(cr_tensor *condition, cr_jit_function then, cr_jit_function otherwise, void *context,
                     cr_tensor *const *operands, int count, cr_tensor **outputs, int output_count) {
    const double decided = cr_item(condition);
    return cr_ok() && call("cond", decided != 0 ? then : otherwise, context, operands, count, outputs, output_count);
}

static bool run_while(cr_jit_function condition, cr_jit_function body, void *context, cr_tensor *const *state,
                      int count, cr_tensor **outputs) {
    cr_tensor *now[CR_MAX_INPUTS], *decided;
    copy_tensors(now, state, count);
    for (;;) {
        if (!call("while_loop", condition, context, now, count, &decided, 1)) return false;
        const double goes_on = cr_item(decided);
        if (!cr_ok()) return false;
        if (goes_on == 0) break;
        if (!call("while_loop", body, context, now, count, outputs, count)) return false;
        copy_tensors(now, outputs, count);
    }
    copy_tensors(outputs, now, count);
    return true;
}

static bool run_scan(cr_jit_function body, void *context, cr_tensor *const *operands, int carried, int scanned,
                     cr_tensor **outputs, int output_count) {
    const int made = output_count - carried;
    const int64_t steps = cr_size(operands[carried], 0);
    cr_tensor *now[CR_MAX_INPUTS], **rows = cr_calloc((size_t)(steps * made) + 1, sizeof *rows);
    bool done = rows != NULL;
    copy_tensors(now, operands, carried);
    for (int64_t t = 0; done && t < steps; t++) {
        for (int i = 0; i < scanned; i++)
            now[carried + i] = cr_select(operands[carried + i], 0, t);
        done = call("scan", body, context, now, carried + scanned, outputs, output_count);
        if (!done) break;
        copy_tensors(now, outputs, carried);
        for (int i = 0; i < made; i++)
            rows[i * steps + t] = outputs[carried + i];
    }
    for (int i = 0; done && i < made; i++)
        done = (outputs[carried + i] = cr_stack(rows + i * steps, (int)steps, 0)) != NULL;
    copy_tensors(outputs, now, carried);
    cr_free(rows);
    return done;
}

/* ---------------------------------------------------------------- tracing them */
typedef struct recording {
    cr_tracer *tracer;
    cr_block *blocks[2];
    int block_count;
    cr_value *operands[CR_MAX_INPUTS];
    int operand_count;
    int block_from; /* blocks see the operands from this one on (cond: not the condition) */
} recording;

static bool begin_recording(recording *r, cr_tensor *const *operands, int count, int block_from) {
    *r = (recording){.tracer = cr_thread_self()->tracer, .operand_count = count, .block_from = block_from};
    for (int i = 0; i < count; i++)
        if (!(r->operands[i] = cr_tracer_value(r->tracer, operands[i]))) return false;
    return true;
}

/* Whether a storage that was known before has another value now: a write that the block cannot say. */
static bool wrote_outside(const cr_tracer *tracer, cr_value *const *before, int count) {
    for (int i = 0; i < count; i++)
        if (tracer->storages[i].value != before[i]) return true;
    return false;
}

static bool record_into(recording *r, cr_block *block, cr_jit_function function, void *context, const cr_shape *shapes,
                        int input_count, int output_count) {
    cr_tracer *tracer = r->tracer;
    cr_thread *thread = cr_thread_self();
    cr_tensor *inputs[CR_MAX_INPUTS], *outputs[CR_MAX_INPUTS];
    cr_block *outer = tracer->block;
    const int known = tracer->storage_count;
    cr_value **before = cr_calloc((size_t)known + 1, sizeof *before);
    const bool dry = thread->dry_run;
    bool done = before != NULL;
    for (int i = 0; done && i < known; i++)
        before[i] = tracer->storages[i].value;
    tracer->block = block;
    thread->dry_run = true;
    for (int i = 0; done && i < input_count; i++) {
        const cr_value *operand = r->operands[r->block_from + i];
        cr_value *value = cr_graph_value(tracer->graph, operand->dtype, &shapes[i], operand->device);
        inputs[i] = cr_empty_hollow(operand->dtype, shapes[i], NULL, operand->device);
        done = value && inputs[i] && cr_block_add_input(tracer->graph, block, value) &&
               cr_tracer_bind(tracer, inputs[i], value);
    }
    done = done && call("trace", function, context, inputs, input_count, outputs, output_count);
    for (int i = 0; done && i < output_count; i++) {
        cr_value *value = cr_tracer_value(tracer, outputs[i]);
        done = value && cr_block_add_output(tracer->graph, block, value);
    }
    tracer->block = outer;
    thread->dry_run = dry;
    cr_tracer_forget_views(tracer); /* those that were derived in the block cannot be seen outside */
    if (done && wrote_outside(tracer, before, known))
        done = cr_fail(CR_ERROR_UNSUPPORTED,
                       "trace: a branch or loop body writes to a tensor from outside; return the new value instead");
    cr_free(before);
    return done;
}

static bool record_block(recording *r, cr_jit_function function, void *context, const cr_shape *shapes, int input_count,
                         int output_count) {
    cr_block *block = r->blocks[r->block_count++] = cr_graph_new_block(r->tracer->graph);
    bool done = false;
    if (!block) return false;
    CR_SCOPE {
        CR_NO_GRAD { done = record_into(r, block, function, context, shapes, input_count, output_count); }
    }
    return done;
}

/* ---------------------------------------------------------------- closing blocks */
static const char inside; /* values made in the block have this note */

static void mark(cr_block *block, const void *note) {
    for (int i = 0; i < block->input_count; i++)
        block->inputs[i]->note = (void *)(uintptr_t)note;
    for (cr_graph_node *node = block->first; node; node = node->next)
        for (int i = 0; i < node->output_count; i++)
            if (node->outputs[i]) node->outputs[i]->note = (void *)(uintptr_t)note;
}

/* An operand for an outer value, and an input of every block for it. */
static int capture(recording *r, cr_value *value) {
    for (int i = r->block_from; i < r->operand_count; i++)
        if (r->operands[i] == value) return i - r->block_from;
    if (r->operand_count == CR_MAX_INPUTS) return -1;
    r->operands[r->operand_count++] = value;
    for (int b = 0; b < r->block_count; b++) {
        cr_value *seen = cr_graph_value(r->tracer->graph, value->dtype, &value->shape, value->device);
        if (!seen || !cr_block_add_input(r->tracer->graph, r->blocks[b], seen)) return -1;
        seen->note = (void *)(uintptr_t)&inside;
    }
    return r->operand_count - 1 - r->block_from;
}

static bool close_use(recording *r, cr_block *block, cr_value **use) {
    if (!*use || (*use)->note == &inside) return true;
    const int index = capture(r, *use);
    if (index < 0)
        return cr_ok() && cr_fail(CR_ERROR_UNSUPPORTED,
                                  "trace: a branch or loop body uses more than %d values from outside", CR_MAX_INPUTS);
    *use = block->inputs[index];
    return true;
}

static bool close_blocks(recording *r) {
    bool done = true;
    for (int b = 0; b < r->block_count; b++)
        mark(r->blocks[b], &inside);
    for (int b = 0; done && b < r->block_count; b++) {
        cr_block *block = r->blocks[b];
        for (cr_graph_node *node = block->first; done && node; node = node->next)
            for (int i = 0; done && i < node->input_count; i++)
                done = close_use(r, block, &node->inputs[i]);
        for (int i = 0; done && i < block->output_count; i++)
            done = close_use(r, block, &block->outputs[i]);
    }
    for (int b = 0; b < r->block_count; b++)
        mark(r->blocks[b], NULL);
    return done;
}

/* The node; `results` are bound to its outputs. */
static bool end_recording(recording *r, const char *name, int64_t carried, int64_t scanned, cr_tensor *const *results,
                          int count) {
    const cr_op *op = cr_op_find(name);
    const cr_control_options options = {sizeof options, carried, scanned};
    if (!op || !close_blocks(r)) return false;
    cr_graph *graph = r->tracer->graph;
    cr_graph_node *node =
        cr_graph_add(graph, r->tracer->block, r->tracer->before, op, &options, r->operands, r->operand_count, count);
    if (!node || !(node->blocks = cr_pool_allocate(&graph->pool, 2 * sizeof *node->blocks))) return false;
    memcpy(node->blocks, r->blocks, sizeof r->blocks);
    node->block_count = r->block_count;
    for (int i = 0; i < count; i++) {
        const cr_shape shape = cr_tensor_shape(results[i]);
        cr_value *value = cr_graph_value(graph, cr_dtype_of(results[i]), &shape, cr_device_of(results[i]));
        if (!value || !cr_tracer_bind(r->tracer, results[i], value)) return false;
        cr_graph_set_output(node, i, value);
    }
    return true;
}

/* Results in memory of their own, so that binding them says nothing of the operands that they may be. */
static bool own_results(cr_tensor **results, int count) {
    for (int i = 0; i < count; i++)
        if (!(results[i] = cr_clone(results[i]))) return false;
    return true;
}

/* Whether a call is recorded as a node: in a trace, without gradients (else it is run, and its way is part of the
 * trace). */
static bool is_recorded(cr_tensor *const *operands, int count, const char *name) {
    const cr_tracer *tracer = cr_thread_self()->tracer;
    if (!tracer || cr_thread_self()->listeners_paused) return false;
    bool wants = false;
    for (int i = 0; i < count; i++)
        wants |= cr_requires_grad(operands[i]);
    if (!wants || !cr_grad_enabled()) return true;
    if (strcmp(name, "scan") != 0)
        cr_graph_warn(tracer->graph, "cr_%s with gradients: the example's way is frozen", name);
    return false;
}

/* Runs `plain` for the results while nobody listens. */
#define UNSEEN(plain)                                                                                                  \
    cr_thread *thread = cr_thread_self();                                                                              \
    thread->listeners_paused = true;                                                                                   \
    bool done = (plain) && own_results(outputs, output_count);                                                         \
    thread->listeners_paused = false

/* In a dry run nothing decides: the results have the sizes that the block says. */
static bool hollow_results(const cr_block *block, cr_tensor **outputs, int count) {
    for (int i = 0; i < count; i++)
        if (!(outputs[i] =
                  cr_empty_hollow(block->outputs[i]->dtype, block->outputs[i]->shape, NULL, block->outputs[i]->device)))
            return false;
    return true;
}

static void shapes_of(cr_tensor *const *operands, int count, cr_shape *shapes) {
    for (int i = 0; i < count; i++)
        shapes[i] = cr_tensor_shape(operands[i]);
}

/* Both blocks, or the body and what goes around, must give the same dtypes and shapes. */
static bool same_types(const char *name, cr_value *const *a, cr_value *const *b, int count) {
    for (int i = 0; i < count; i++)
        if (a[i]->dtype != b[i]->dtype || !cr_shape_equal(a[i]->shape, b[i]->shape))
            return cr_fail(CR_ERROR_SHAPE, "%s: result %d has another dtype or shape from one way or turn to the other",
                           name, i);
    return true;
}

/* ---------------------------------------------------------------- entries */
bool cr_cond(cr_tensor *condition, cr_jit_function then, cr_jit_function otherwise, void *context,
             cr_tensor *const *operands, int count, cr_tensor **outputs, int output_count) {
    cr_shape shapes[CR_MAX_INPUTS];
    cr_tensor *all[CR_MAX_INPUTS];
    recording r;
    if (!check("cond",
               condition && then && otherwise && (operands || !count) && outputs && count < CR_MAX_INPUTS / 2 &&
                   output_count <= CR_MAX_INPUTS / 2,
               operands, count))
        return false;
    if (cr_numel(condition) != 1) return cr_fail(CR_ERROR_SHAPE, "cond: the condition must be one element");
    if (!is_recorded(operands, count, "cond"))
        return run_cond(condition, then, otherwise, context, operands, count, outputs, output_count);
    all[0] = condition;
    for (int i = 0; i < count; i++)
        all[i + 1] = operands[i];
    shapes_of(operands, count, shapes);
    if (!begin_recording(&r, all, count + 1, 1) || !record_block(&r, then, context, shapes, count, output_count) ||
        !record_block(&r, otherwise, context, shapes, count, output_count) ||
        !same_types("cond", r.blocks[0]->outputs, r.blocks[1]->outputs, output_count))
        return false;
    UNSEEN(thread->dry_run ? hollow_results(r.blocks[0], outputs, output_count)
                           : run_cond(condition, then, otherwise, context, operands, count, outputs, output_count));
    return done && end_recording(&r, "cond", 0, 0, outputs, output_count);
}

bool cr_while_loop(cr_jit_function condition, cr_jit_function body, void *context, cr_tensor *const *state, int count,
                   cr_tensor **outputs) {
    const int output_count = count;
    cr_shape shapes[CR_MAX_INPUTS];
    recording r;
    if (!check("while_loop", condition && body && state && outputs && count > 0 && count <= CR_MAX_INPUTS / 2, state,
               count))
        return false;
    if (!is_recorded(state, count, "while_loop")) return run_while(condition, body, context, state, count, outputs);
    shapes_of(state, count, shapes);
    if (!begin_recording(&r, state, count, 0) || !record_block(&r, body, context, shapes, count, count) ||
        !record_block(&r, condition, context, shapes, count, 1) ||
        !same_types("while_loop", r.blocks[0]->outputs, r.operands, count))
        return false;
    UNSEEN(thread->dry_run ? hollow_results(r.blocks[0], outputs, count)
                           : run_while(condition, body, context, state, count, outputs));
    return done && end_recording(&r, "while_loop", count, 0, outputs, count);
}

bool cr_scan(cr_jit_function body, void *context, cr_tensor *const *operands, int carried, int scanned,
             cr_tensor **outputs, int output_count) {
    cr_shape shapes[CR_MAX_INPUTS];
    recording r;
    const int count = carried + scanned;
    if (!check("scan",
               body && operands && outputs && carried >= 0 && scanned > 0 && count <= CR_MAX_INPUTS / 2 &&
                   output_count >= carried && output_count <= CR_MAX_INPUTS / 2,
               operands, count))
        return false;
    for (int i = carried; i < count; i++)
        if (cr_ndim(operands[i]) < 1 || cr_size(operands[i], 0) != cr_size(operands[carried], 0) ||
            cr_size(operands[i], 0) < 1)
            return cr_fail(CR_ERROR_SHAPE,
                           "scan: operand %d must have dims, and as many rows as operand %d, one or more", i, carried);
    if (!is_recorded(operands, count, "scan"))
        return run_scan(body, context, operands, carried, scanned, outputs, output_count);
    shapes_of(operands, count, shapes);
    for (int i = carried; i < count; i++) { /* the block sees a row */
        shapes[i].count--;
        memmove(shapes[i].at, shapes[i].at + 1, (CR_MAX_DIMS - 1) * sizeof shapes[i].at[0]);
    }
    if (!begin_recording(&r, operands, count, 0) || !record_block(&r, body, context, shapes, count, output_count) ||
        !same_types("scan", r.blocks[0]->outputs, r.operands, carried))
        return false;
    const int64_t steps = cr_size(operands[carried], 0);
    UNSEEN(thread->dry_run ? hollow_results(r.blocks[0], outputs, output_count)
                           : run_scan(body, context, operands, carried, scanned, outputs, output_count));
    for (int i = carried; done && thread->dry_run && i < output_count; i++) { /* a row's shape, `steps` times */
        cr_shape shape = cr_tensor_shape(outputs[i]);
        if (shape.count == CR_MAX_DIMS)
            return cr_fail(CR_ERROR_SHAPE, "scan: result %d would have more than %d dims", i, CR_MAX_DIMS);
        memmove(shape.at + 1, shape.at, (size_t)shape.count++ * sizeof shape.at[0]);
        shape.at[0] = steps;
        done = (outputs[i] = cr_empty_hollow(cr_dtype_of(outputs[i]), shape, NULL, cr_device_of(outputs[i]))) != NULL;
    }
    return done && end_recording(&r, "scan", carried, scanned, outputs, output_count);
}
