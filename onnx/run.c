/* Running a linked program's nodes as ops. Under a tracer, what follows from constants and sizes alone is computed at
 * once, outside of the trace, so that rows can ask for it. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/custom.h"

#include <cresset/autograd.h>

#include <stdarg.h>
#include <string.h>

/* ---------------------------------------------------------------- values */
static void set_value(cr_onnx_run *run, int number, const cr_onnx_operand *operand) {
    if (number < 0) return;
    cr_retain(operand->tensor);
    cr_release(run->values[number].tensor);
    run->values[number] = *operand;
}

static void drop_value(cr_onnx_run *run, int number) {
    cr_release(run->values[number].tensor);
    run->values[number] = (cr_onnx_operand){0};
}

static void set_initials(cr_onnx_run *run) {
    const cr_onnx_program *p = run->program;
    for (int i = 0; i < p->initial_count; i++)
        set_value(run, p->initials[i].value,
                  &(cr_onnx_operand){p->initials[i].tensor, true, false, p->initials[i].is_parameter});
}

static void drop_block(cr_onnx_run *run, const cr_onnx_block *block) {
    for (int i = block->first_value; i < block->last_value; i++)
        if (run->program->initial_of[i] < 0) drop_value(run, i);
}

/* ---------------------------------------------------------------- a node */
static bool run_function(cr_onnx_call *call) {
    const cr_onnx_block *body = call->node->body;
    if (call->input_count > body->input_count)
        return cr_onnx_refuse(call, "%d operands for a function of %d", call->input_count, body->input_count);
    return cr_onnx_block_run(call->run, body, call->inputs, call->input_count, call->outputs, call->output_count);
}

/* Whether all that the node reads is known and it may be computed now. A trained weight is computed with only where it is
 * a single number beside others (a scale of a size). */
static bool is_computable(const cr_onnx_call *call) {
    const unsigned flags = call->node->row ? call->node->row->flags : call->node->body ? CR_ONNX_BLOCKS : 0;
    bool has_constant = false, has_parameter = false, is_sized = false;
    if (flags & (CR_ONNX_RANDOM | CR_ONNX_BLOCKS)) return false;
    for (int i = 0; i < call->input_count; i++) {
        const cr_onnx_operand *operand = &call->inputs[i];
        if (!operand->tensor) continue;
        if (!operand->is_known || (operand->is_parameter && cr_numel(operand->tensor) != 1)) return false;
        *(operand->is_parameter ? &has_parameter : &has_constant) = true;
        is_sized |= operand->is_sized;
    }
    return (has_constant || !has_parameter) && !((flags & CR_ONNX_GROWS) && is_sized);
}

/* attributes="alpha=negative_slope:0.01": each of ONNX's under our name. */
static bool run_pair(cr_onnx_call *call) {
    char text[256] = "";
    size_t used = 0;
    cr_tensor *inputs[CR_ONNX_MOST_OPERANDS], *output = NULL;
    for (const char *at = call->node->pair->attributes; at && *at;) {
        char name[32], own[32];
        double otherwise;
        int length = 0;
        if (sscanf(at, "%31[^=]=%31[^:]:%lf%n", name, own, &otherwise, &length) != 3) break;
        used +=
            (size_t)snprintf(text + used, sizeof text - used, "%s=%.17g ", own, cr_onnx_float(call, name, otherwise));
        at += length + strspn(at + length, " ");
    }
    for (int i = 0; i < call->input_count; i++)
        inputs[i] = cr_onnx_input(call, i);
    if (!cr_onnx_align_old(call, inputs)) return false;
    return cr_op_call(call->node->pair->op, inputs, call->input_count, text, &output, 1) && cr_onnx_give(call, output);
}

static bool run_call(cr_onnx_call *call) {
    const cr_onnx_node *node = call->node;
    if (node->row && node->opset && node->opset < node->row->since)
        return cr_onnx_refuse(call, "of opset %d; opsets from %d on are read", node->opset, node->row->since);
    const bool needs_values = node->row && node->row->flags & CR_ONNX_VALUES && call->run->is_traced;
    if (needs_values && !cr_thread_self()->listeners_paused)
        return cr_onnx_refuse(call, "how large its result is follows from values; run the model as a module");
    if (node->row) return node->row->run(call);
    if (node->custom) return cr_onnx_run_custom(call, node->custom);
    return node->pair ? run_pair(call) : run_function(call);
}

static bool run_known(cr_onnx_call *call) {
    bool is_sized = false, done;
    for (int i = 0; i < call->input_count; i++)
        is_sized |= call->inputs[i].is_sized && !(call->node->row && call->node->row->flags & CR_ONNX_SIZES);
    const cr_onnx_pause before = cr_onnx_pause_trace();
    CR_NO_GRAD { done = run_call(call); }
    cr_onnx_resume_trace(before);
    for (int i = 0; i < call->output_count; i++)
        call->outputs[i].is_known = true, call->outputs[i].is_sized |= is_sized;
    return done;
}

static bool run_node(cr_onnx_run *run, const cr_onnx_node *node) {
    cr_onnx_call call = {.run = run,
                         .node = node,
                         .opset = node->opset,
                         .input_count = node->input_count,
                         .output_count = node->output_count};
    cr_thread *thread = cr_thread_self();
    cr_frame frame;
    bool done;
    for (int i = 0; i < node->input_count; i++)
        if (node->inputs[i] >= 0) call.inputs[i] = run->values[node->inputs[i]];
    cr_frame_push(thread, &frame, "onnx", node->label);
    CR_SCOPE {
        done = run->is_traced && is_computable(&call) ? run_known(&call) : run_call(&call);
        for (int i = 0; done && i < node->output_count; i++) {
            if (node->outputs[i] >= 0 && !call.outputs[i].tensor)
                done = cr_onnx_refuse(&call, "has no result %d", i);
            else
                set_value(run, node->outputs[i], &call.outputs[i]);
        }
    }
    cr_frame_pop(thread, &frame);
    if (!done && cr_ok()) cr_onnx_refuse(&call, "could not be run");
    return done;
}

/* ---------------------------------------------------------------- blocks and programs */
bool cr_onnx_block_run(cr_onnx_run *run, const cr_onnx_block *block, const cr_onnx_operand *inputs, int input_count,
                       cr_onnx_operand *outputs, int output_count) {
    drop_block(run, block);
    for (int i = 0; i < block->input_count && i < input_count; i++)
        set_value(run, block->inputs[i], &inputs[i]);
    for (int i = 0; i < block->node_count; i++)
        if (!run_node(run, &block->nodes[i])) return false;
    for (int i = 0; i < output_count && i < block->output_count; i++) {
        outputs[i] = run->values[block->outputs[i]];
        cr_give(cr_retain(outputs[i].tensor));
    }
    return true;
}

static bool run_main(cr_onnx_run *run) {
    const cr_onnx_program *p = run->program;
    for (int i = 0; i < p->main.node_count; i++) {
        const cr_onnx_node *node = &p->main.nodes[i];
        if (!run_node(run, node)) return false;
        for (int k = 0; k < node->input_count; k++)
            if (node->inputs[k] >= 0 && p->last_uses[node->inputs[k]] == i && p->initial_of[node->inputs[k]] < 0)
                drop_value(run, node->inputs[k]);
    }
    return true;
}

bool cr_onnx_program_run(const cr_onnx_program *program, bool is_training, cr_tensor *const *inputs,
                         const bool *is_known, int input_count, cr_tensor **outputs, int output_count) {
    if (input_count != program->main.input_count || output_count > program->main.output_count)
        return cr_fail(CR_ERROR_ARGUMENT, "onnx: %d inputs and %d outputs for a model of %d and %d", input_count,
                       output_count, program->main.input_count, program->main.output_count);
    cr_onnx_run run = {program, cr_calloc((size_t)program->value_count + 1, sizeof *run.values), is_training,
                       cr_thread_self()->tracer != NULL};
    if (!run.values) return false;
    set_initials(&run);
    for (int i = 0; i < input_count; i++)
        set_value(&run, program->main.inputs[i], &(cr_onnx_operand){inputs[i], is_known && is_known[i], false, false});
    bool done = run_main(&run);
    for (int i = 0; done && i < output_count; i++) {
        cr_onnx_call whole = {.run = &run, .inputs = {run.values[program->main.outputs[i]]}, .input_count = 1};
        cr_tensor *t = cr_onnx_input(&whole, 0); /* sizes become ops here too */
        done = (outputs[i] = cr_give(cr_retain(t))) != NULL;
    }
    for (int i = 0; i < program->value_count; i++)
        cr_release(run.values[i].tensor);
    cr_free(run.values);
    return done;
}
#endif
