/* If, Loop and Scan: eagerly they just run; under a tracer they are cr_cond, cr_while_loop and cr_scan, or where how often
 * they turn is known and nothing else will do, unrolled. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/import.h"

#include <string.h>

enum { MOST = CR_ONNX_MOST_OPERANDS, MOST_UNROLLED = 256 };

static bool is_known(const cr_onnx_call *call, int i) { return !call->run->is_traced || call->inputs[i].is_known; }

/* Whether operand i is absent, or known not to follow from sizes that may differ. */
static bool is_fixed(const cr_onnx_call *call, int i) {
    return i >= call->input_count || !call->inputs[i].tensor || (is_known(call, i) && !call->inputs[i].is_sized);
}

/* A block as a function of tensors; values from outside are seen by it as they are. */
typedef struct body {
    cr_onnx_call *call;
    const cr_onnx_block *block;
} body;

static bool run_body(void *context, cr_tensor *const *inputs, int input_count, cr_tensor **outputs, int output_count) {
    const body *b = context;
    cr_onnx_operand operands[MOST] = {{0}}, results[MOST] = {{0}};
    for (int i = 0; i < input_count; i++)
        operands[i].tensor = inputs[i];
    if (!cr_onnx_block_run(b->call->run, b->block, operands, input_count, results, output_count)) return false;
    for (int i = 0; i < output_count; i++) {
        cr_onnx_call whole = {.run = b->call->run, .node = b->call->node, .inputs = {results[i]}, .input_count = 1};
        if (!(outputs[i] = cr_onnx_input(&whole, 0))) return false;
    }
    return true;
}

/* ---------------------------------------------------------------- If */
typedef struct branches {
    body ways[2];
} branches;

static bool run_then(void *c, cr_tensor *const *in, int n, cr_tensor **out, int m) {
    return run_body(&((branches *)c)->ways[0], in, n, out, m);
}
static bool run_else(void *c, cr_tensor *const *in, int n, cr_tensor **out, int m) {
    return run_body(&((branches *)c)->ways[1], in, n, out, m);
}

static bool run_If(cr_onnx_call *call) {
    branches b = {{{call, cr_onnx_block_named(call, "then_branch")}, {call, cr_onnx_block_named(call, "else_branch")}}};
    int64_t condition;
    if (!b.ways[0].block || !b.ways[1].block) return false;
    if (is_known(call, 0)) {
        if (cr_onnx_ints(call, 0, &condition, 1) != 1)
            return cr_ok() && cr_onnx_refuse(call, "a condition that is not one number");
        return cr_onnx_block_run(call->run, b.ways[condition == 0].block, NULL, 0, call->outputs, call->output_count);
    }
    cr_tensor *results[MOST] = {NULL};
    if (!cr_cond(cr_onnx_input(call, 0), run_then, run_else, &b, NULL, 0, results, call->output_count)) return false;
    for (int i = 0; i < call->output_count; i++)
        if (!cr_onnx_give_at(call, i, results[i])) return false;
    return true;
}
CR_ONNX_IMPORT(If, 1, CR_ONNX_BLOCKS)

/* ---------------------------------------------------------------- Loop */
/* The body takes (turn, condition, carried…) and gives (condition, carried…, of each turn…). */
typedef struct loop {
    body body;
    int carried, scanned;
    int64_t most;           /* turns; INT64_MAX: no limit */
    cr_tensor *first;       /* condition */
    const cr_tensor *limit; /* under a tracer, where it is computed */
} loop;

static cr_tensor *one(int64_t value, cr_dtype dtype) { return cr_full(dtype, CR_SHAPE_0D, (double)value, CR_CPU); }

/* A number that rows can ask for. */
static cr_onnx_operand known(int64_t value, cr_dtype dtype) {
    const cr_onnx_pause before = cr_onnx_pause_trace();
    const cr_onnx_operand operand = {one(value, dtype), true, false, false};
    cr_onnx_resume_trace(before);
    return operand;
}

/* A turn's results of each kind, stacked; of no turns they are empty. */
static bool give_scanned(cr_onnx_call *call, const loop *l, cr_tensor ***lists, int64_t turns) {
    for (int i = 0; i < l->scanned && l->carried + i < call->output_count; i++) {
        cr_tensor *all = turns ? cr_stack(lists[i], (int)turns, 0) : cr_empty(CR_F32, CR_SHAPE(0), CR_CPU);
        if (!cr_onnx_give_at(call, l->carried + i, all)) return false;
    }
    return true;
}

/* Turn after turn. Under a tracer the condition must stay known. */
static bool run_turns(cr_onnx_call *call, const loop *l) {
    cr_onnx_operand state[MOST] = {{0}}, results[MOST] = {{0}};
    cr_tensor **lists[MOST] = {NULL};
    int64_t turn = 0, capacity = 0, goes_on = 1;
    bool done = true;
    if (call->input_count > 1 && call->inputs[1].tensor && cr_onnx_ints(call, 1, &goes_on, 1) != 1) return false;
    for (int i = 0; i < l->carried; i++)
        state[i] = call->inputs[i + 2];
    for (; done && goes_on && turn < l->most; turn++) {
        cr_onnx_operand in[MOST] = {known(turn, CR_I64), known(1, CR_BOOL)};
        memcpy(in + 2, state, (size_t)l->carried * sizeof *state);
        done = (!call->run->is_traced || turn < MOST_UNROLLED ||
                cr_onnx_refuse(call, "would be unrolled to more than %d turns", MOST_UNROLLED)) &&
               cr_onnx_block_run(call->run, l->body.block, in, l->carried + 2, results, 1 + l->carried + l->scanned);
        cr_onnx_call after = {.run = call->run, .node = call->node, .inputs = {results[0]}, .input_count = 1};
        done = done && cr_onnx_ints(&after, 0, &goes_on, 1) == 1;
        if (turn == capacity) capacity = 2 * capacity + 8;
        for (int i = 0; done && i < l->scanned; i++) {
            cr_tensor **grown = cr_realloc(lists[i], (size_t)capacity * sizeof *grown);
            if (grown) lists[i] = grown, grown[turn] = results[1 + l->carried + i].tensor;
            done = grown != NULL;
        }
        memcpy(state, results + 1, (size_t)l->carried * sizeof *state);
    }
    for (int i = 0; done && i < l->carried && i < call->output_count; i++)
        call->outputs[i] = state[i];
    done = done && give_scanned(call, l, lists, turn);
    for (int i = 0; i < l->scanned; i++)
        cr_free(lists[i]);
    return done;
}

/* As a scan over 0 … most-1: (carried…, turn) gives (carried…, of each turn…). The condition stays true. */
static bool scan_turn(void *context, cr_tensor *const *in, int count, cr_tensor **out, int out_count) {
    const loop *l = context;
    cr_tensor *inputs[MOST] = {in[count - 1], l->first}, *outputs[MOST];
    memcpy(inputs + 2, in, (size_t)l->carried * sizeof *in);
    if (!run_body((void *)(uintptr_t)&l->body, inputs, l->carried + 2, outputs, out_count + 1)) return false;
    memcpy(out, outputs + 1, (size_t)out_count * sizeof *out);
    return true;
}

/* As a while loop over (turn, condition, carried…). */
static bool while_condition(void *context, cr_tensor *const *in, int count, cr_tensor **out, int out_count) {
    const loop *l = context;
    (void)count, (void)out_count;
    out[0] = l->limit               ? cr_logical_and(in[1], cr_lt(in[0], (cr_tensor *)(uintptr_t)l->limit))
             : l->most == INT64_MAX ? in[1]
                                    : cr_logical_and(in[1], cr_lt_scalar(in[0], (double)l->most));
    return out[0] != NULL;
}
static bool while_turn(void *context, cr_tensor *const *in, int count, cr_tensor **out, int out_count) {
    const loop *l = context;
    out[0] = cr_add_scalar(in[0], 1);
    return out[0] && run_body((void *)(uintptr_t)&l->body, in, count, out + 1, out_count - 1);
}

static bool run_while(cr_onnx_call *call, loop *l) {
    cr_tensor *state[MOST] = {one(0, CR_I64), cr_cast(l->first, CR_BOOL)}, *results[MOST];
    for (int i = 0; i < l->carried; i++)
        state[i + 2] = cr_onnx_input(call, i + 2);
    if (!cr_while_loop(while_condition, while_turn, l, state, l->carried + 2, results)) return false;
    for (int i = 0; i < call->output_count; i++)
        if (!cr_onnx_give_at(call, i, results[i + 2])) return false;
    return true;
}

static bool run_scan_of_turns(cr_onnx_call *call, loop *l) {
    cr_tensor *operands[MOST], *results[MOST];
    for (int i = 0; i < l->carried; i++)
        operands[i] = cr_onnx_input(call, i + 2);
    operands[l->carried] = cr_arange(CR_I64, 0, (double)l->most, 1, CR_CPU);
    if (!cr_scan(scan_turn, l, operands, l->carried, 1, results, l->carried + l->scanned)) return false;
    for (int i = 0; i < call->output_count; i++)
        if (!cr_onnx_give_at(call, i, results[i])) return false;
    return true;
}

/* Whether the body gives on the condition that it gets. */
static bool keeps_condition(const cr_onnx_block *block) {
    const int given = block->output_count ? block->outputs[0] : -1;
    if (given == block->inputs[1]) return true;
    for (int i = 0; i < block->node_count; i++) {
        const cr_onnx_node *node = &block->nodes[i];
        if (node->output_count && node->outputs[0] == given && !strcmp(node->proto->op_type, "Identity"))
            return node->inputs[0] == block->inputs[1];
    }
    return false;
}

static bool run_Loop(cr_onnx_call *call) {
    loop l = {{call, cr_onnx_block_named(call, "body")},
              call->input_count > 2 ? call->input_count - 2 : 0,
              0,
              INT64_MAX,
              NULL,
              NULL};
    const bool has_limit = call->input_count > 0 && call->inputs[0].tensor,
               has_first = call->input_count > 1 && call->inputs[1].tensor;
    if (!l.body.block) return false;
    l.scanned = l.body.block->output_count - 1 - l.carried;
    if (l.body.block->input_count != l.carried + 2 || l.scanned < 0 || l.carried + l.scanned > MOST - 2 ||
        call->output_count > l.carried + l.scanned)
        return cr_onnx_refuse(call, "its body takes %d and gives %d for %d carried and %d results",
                              l.body.block->input_count, l.body.block->output_count, l.carried, call->output_count);
    if (has_limit && is_known(call, 0) && cr_onnx_ints(call, 0, &l.most, 1) != 1) return false;
    if (!call->run->is_traced) return run_turns(call, &l);
    int64_t first = 1;
    const bool starts = !has_first || (is_known(call, 1) && cr_onnx_ints(call, 1, &first, 1) == 1 && first);
    l.first = has_first ? cr_onnx_input(call, 1) : one(1, CR_BOOL);
    const bool can_unroll = is_fixed(call, 0) && is_fixed(call, 1);
    if (has_limit && is_known(call, 0) && starts && keeps_condition(l.body.block)) {
        if (run_scan_of_turns(call, &l)) return true;
        if (!can_unroll || cr_last_error()->code != CR_ERROR_UNSUPPORTED) return false;
        cr_clear_error(); /* a size that follows from the turn's number: each turn is another */
        return run_turns(call, &l);
    }
    if (can_unroll && l.scanned) return run_turns(call, &l);
    if (l.scanned)
        return cr_onnx_refuse(call, "how many turns give results is decided by values; run the model as a module");
    if (has_limit && !is_known(call, 0)) l.limit = cr_onnx_input(call, 0);
    return run_while(call, &l);
}
CR_ONNX_IMPORT(Loop, 1, CR_ONNX_BLOCKS)

/* ---------------------------------------------------------------- Scan */
static int64_t list_at(const cr_onnx_call *call, const char *name, int i) {
    const CrOnnx__AttributeProto *a = cr_onnx_attribute(call, name);
    return a && (size_t)i < a->n_ints ? a->ints[i] : 0;
}

static bool scan_step(void *context, cr_tensor *const *in, int count, cr_tensor **out, int out_count) {
    return run_body(&((loop *)context)->body, in, count, out, out_count);
}

/* operands: carried…, scanned…; from opset 9 along any axes, in either direction. */
static bool run_scan(cr_onnx_call *call, loop *l, cr_tensor **operands, cr_tensor **results) {
    const int outputs = l->body.block->output_count;
    for (int i = 0; i < l->scanned; i++) {
        cr_tensor **x = &operands[l->carried + i];
        const int64_t axis = call->opset < 9 ? 0 : list_at(call, "scan_input_axes", i);
        const int at = cr_onnx_axis(call, axis, cr_ndim(*x));
        if (at < 0) return false;
        if (at) *x = cr_movedim(*x, at, 0);
        if (list_at(call, call->opset < 9 ? "directions" : "scan_input_directions", i)) *x = cr_flip(*x, CR_DIMS(0));
    }
    if (!cr_scan(scan_step, l, operands, l->carried, l->scanned, results, outputs)) return false;
    for (int i = l->carried; i < outputs; i++) {
        const int64_t axis = call->opset < 9 ? 0 : list_at(call, "scan_output_axes", i - l->carried);
        if (call->opset >= 9 && list_at(call, "scan_output_directions", i - l->carried))
            results[i] = cr_flip(results[i], CR_DIMS(0));
        if (axis) results[i] = cr_movedim(results[i], 0, (int)axis);
        if (!results[i]) return false;
    }
    return true;
}

/* Opset 8 had a batch around it all, and lengths. */
static bool run_batch_scan(cr_onnx_call *call, loop *l) {
    cr_tensor *lists[MOST][MOST], *operands[MOST], *results[MOST];
    const cr_tensor *first = cr_onnx_input(call, 1);
    if (!first) return cr_ok() && cr_onnx_refuse(call, "operand 1 is missing");
    const int64_t batch = cr_ndim(first) ? cr_size(first, 0) : 0;
    if (call->inputs[0].tensor || batch < 1 || batch > MOST)
        return cr_onnx_refuse(call, "of opset 8 with sequence_lens, or a batch of more than %d", MOST);
    for (int b = 0; b < batch; b++) {
        for (int i = 0; i < l->carried + l->scanned; i++)
            operands[i] = cr_select(cr_onnx_input(call, i + 1), 0, b);
        if (!run_scan(call, l, operands, results)) return false;
        for (int i = 0; i < call->output_count; i++)
            lists[i][b] = results[i];
    }
    for (int i = 0; i < call->output_count; i++)
        if (!cr_onnx_give_at(call, i, cr_stack(lists[i], (int)batch, 0))) return false;
    return true;
}

static bool run_Scan(cr_onnx_call *call) {
    loop l = {.body = {call, cr_onnx_block_named(call, "body")}};
    cr_tensor *operands[MOST], *results[MOST];
    const int skipped = call->opset < 9, given = call->input_count - skipped;
    const int64_t scanned = cr_onnx_int(call, "num_scan_inputs", 0);
    if (!l.body.block) return false;
    if (scanned < 1 || scanned > given || l.body.block->input_count != given ||
        l.body.block->output_count < given - scanned || l.body.block->output_count > MOST ||
        call->output_count > l.body.block->output_count)
        return cr_onnx_refuse(
            call, "its body takes %d and gives %d for %d inputs, %lld of them scanned, and %d results",
            l.body.block->input_count, l.body.block->output_count, given, (long long)scanned, call->output_count);
    l.scanned = (int)scanned;
    l.carried = given - l.scanned;
    if (skipped) return run_batch_scan(call, &l);
    for (int i = 0; i < call->input_count; i++)
        operands[i] = cr_onnx_input(call, i);
    if (!run_scan(call, &l, operands, results)) return false;
    for (int i = 0; i < call->output_count; i++)
        if (!cr_onnx_give_at(call, i, results[i])) return false;
    return true;
}
CR_ONNX_IMPORT(Scan, 8, CR_ONNX_BLOCKS)
#endif
