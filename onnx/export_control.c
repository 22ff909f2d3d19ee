/* Export of control flow: If, Loop and Scan, whose graphs see the values around them by their names. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/emit.h"

#include "jit/control.h"

/* Inputs of a block from number `first` on are the node's operands from `operand` on, as they are called outside. */
static void see_outside(const cr_block *block, int first, const cr_graph_node *node, int operand) {
    for (int i = first; i < block->input_count; i++)
        block->inputs[i]->note = node->inputs[operand + i - first]->note;
}

/* The block's results, each by a node of this graph: what is only seen in it goes through one. */
static bool give_results(cr_onnx_emitter *e, const cr_block *block, int first, int end) {
    for (int i = first; i < end; i++) {
        const cr_value *value = block->outputs[i];
        const char *name = cr_onnx_add(e, "Identity", (const char *)value->note);
        if (!name || !cr_onnx_declare(e, &e->target->output, &e->target->n_output, name, value)) return false;
    }
    return true;
}

/* A new input of the graph for a value of the block. */
static bool take_input(cr_onnx_emitter *e, cr_value *value) {
    const char *name = cr_onnx_unique(e, "carried");
    value->note = (void *)(uintptr_t)name;
    return name && cr_onnx_declare(e, &e->target->input, &e->target->n_input, name, value);
}

static bool name_results(cr_onnx_emitter *e, const cr_graph_node *node, const char *const *names) {
    for (int i = 0; i < node->output_count; i++)
        if (!cr_onnx_name(e, node, i, names[i])) return false;
    return true;
}

/* One element of any dtype as a bool without dims. */
static const char *condition(cr_onnx_emitter *e, const cr_value *value) {
    const char *name = cr_onnx_cast(e, value->note, value->dtype, CR_BOOL);
    return value->shape.count ? cr_onnx_add(e, "Reshape", name, cr_onnx_i64s(e, NULL, 0)) : name;
}

/* ---------------------------------------------------------------- If */
static CrOnnx__GraphProto *write_branch(cr_onnx_emitter *e, const cr_graph_node *node, int branch) {
    CrOnnx__GraphProto *outer = e->target, *graph = cr_onnx_begin_graph(e, branch ? "otherwise" : "then");
    const cr_block *block = node->blocks[branch];
    bool done = graph != NULL;
    see_outside(block, 0, node, 1);
    e->target = graph;
    done = done && cr_onnx_write_block(e, block) && give_results(e, block, 0, block->output_count);
    e->target = outer;
    return done ? graph : NULL;
}

static bool write_cond(cr_onnx_emitter *e, const cr_graph_node *node) {
    const char *which = condition(e, node->inputs[0]), *results[CR_MAX_INPUTS];
    CrOnnx__GraphProto *then = write_branch(e, node, 0), *otherwise = then ? write_branch(e, node, 1) : NULL;
    e->node = node;
    if (!otherwise || !cr_onnx_add_node(e, "If", &which, 1, results, node->output_count)) return false;
    cr_onnx_set_graph(e, "then_branch", then);
    cr_onnx_set_graph(e, "else_branch", otherwise);
    return name_results(e, node, results);
}
CR_ONNX_EXPORT(cond, 13, NULL)

/* ---------------------------------------------------------------- Loop: body in block 0, condition in block 1 */
/* Whether to go on, from values that the condition's first inputs are. */
static const char *goes_on(cr_onnx_emitter *e, const cr_graph_node *node, cr_value *const *state, int carried) {
    const cr_block *block = node->blocks[1];
    for (int i = 0; i < carried; i++)
        block->inputs[i]->note = state[i]->note;
    see_outside(block, carried, node, carried);
    return cr_onnx_write_block(e, block) ? condition(e, block->outputs[0]) : NULL;
}

static CrOnnx__GraphProto *write_turn(cr_onnx_emitter *e, const cr_graph_node *node, int carried) {
    CrOnnx__GraphProto *outer = e->target, *graph = cr_onnx_begin_graph(e, "turn");
    const cr_block *block = node->blocks[0];
    cr_value number = {.dtype = CR_I64}, before = {.dtype = CR_BOOL};
    if (!graph) return NULL;
    e->target = graph;
    bool done = take_input(e, &number) && take_input(e, &before);
    for (int i = 0; done && i < carried; i++)
        done = take_input(e, block->inputs[i]);
    see_outside(block, carried, node, carried);
    done = done && cr_onnx_write_block(e, block);
    const char *next = done ? goes_on(e, node, block->outputs, carried) : NULL;
    done = next && cr_onnx_declare(e, &graph->output, &graph->n_output, next, &before) &&
           give_results(e, block, 0, carried);
    e->target = outer;
    return done ? graph : NULL;
}

static bool write_while_loop(cr_onnx_emitter *e, const cr_graph_node *node) {
    const int carried = (int)((const cr_control_options *)node->attributes)->carried;
    const char *operands[CR_MAX_INPUTS + 2] = {"", goes_on(e, node, node->inputs, carried)}, *results[CR_MAX_INPUTS];
    CrOnnx__GraphProto *turn = operands[1] ? write_turn(e, node, carried) : NULL;
    for (int i = 0; i < carried; i++)
        operands[i + 2] = node->inputs[i]->note;
    e->node = node;
    if (!turn || !cr_onnx_add_node(e, "Loop", operands, carried + 2, results, carried)) return false;
    cr_onnx_set_graph(e, "body", turn);
    return name_results(e, node, results);
}
CR_ONNX_EXPORT(while_loop, 13, NULL)

/* ---------------------------------------------------------------- Scan */
static CrOnnx__GraphProto *write_step(cr_onnx_emitter *e, const cr_graph_node *node, int own) {
    CrOnnx__GraphProto *outer = e->target, *graph = cr_onnx_begin_graph(e, "step");
    const cr_block *block = node->blocks[0];
    if (!graph) return NULL;
    e->target = graph;
    bool done = true;
    for (int i = 0; done && i < own; i++)
        done = take_input(e, block->inputs[i]);
    see_outside(block, own, node, own);
    done = done && cr_onnx_write_block(e, block) && give_results(e, block, 0, block->output_count);
    e->target = outer;
    return done ? graph : NULL;
}

static bool write_scan(cr_onnx_emitter *e, const cr_graph_node *node) {
    const cr_control_options *o = node->attributes;
    const int own = (int)(o->carried + o->scanned);
    const char *operands[CR_MAX_INPUTS], *results[CR_MAX_INPUTS];
    CrOnnx__GraphProto *step = write_step(e, node, own);
    for (int i = 0; i < own; i++)
        operands[i] = node->inputs[i]->note;
    e->node = node;
    if (!step || !cr_onnx_add_node(e, "Scan", operands, own, results, node->output_count)) return false;
    cr_onnx_set_int(e, "num_scan_inputs", o->scanned);
    cr_onnx_set_graph(e, "body", step);
    return name_results(e, node, results);
}
CR_ONNX_EXPORT(scan, 11, NULL)
#endif
