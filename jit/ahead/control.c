/* cond, while_loop, scan: the plans of blocks as functions, whose operands are pointers in the context. */
#include "jit/ahead/program.h"

#include "jit/control.h"

typedef struct block {
    const cr_plan *plan;
    char prefix[24];
    cr_ahead_view outputs[CR_MAX_INPUTS]; /* where its results lie */
} block;

/* ---------------------------------------------------------------- a block's function */
/* Results lie in memory of the block's own. */
static void place_results(cr_ahead *a, block *b, cr_text *head) {
    for (int i = 0; i < cr_plan_result_count(b->plan); i++) {
        const cr_plan_storage *storage = &b->plan->storages[b->plan->tensors[b->plan->outputs[i]].storage];
        b->outputs[i] = cr_ahead_tensor(a, b->plan->outputs[i]);
        if (storage->index != i) continue;
        cr_text_add(head, "    c->%soutputs[%d] = c->arena + %zu;\n", b->prefix, i, a->arena_bytes);
        a->arena_bytes += cr_ahead_padded(storage->bytes);
    }
}

/* The outer step is half written: its text waits until the block's functions stand before it. */
static bool write_block(cr_ahead *a, block *b) {
    const cr_ahead outer = *a;
    cr_text head = {0};
    snprintf(b->prefix, sizeof b->prefix, "block%d_", a->block_count++);
    memcpy(a->prefix, b->prefix, sizeof a->prefix);
    a->plan = b->plan;
    a->arena = a->arena_bytes;
    a->arena_bytes += cr_ahead_padded(b->plan->arena_bytes);
    a->text = a->run = (cr_text){0};
    cr_text_add(&a->fields, "    const unsigned char *%sinputs[%d];\n    unsigned char *%soutputs[%d];\n", b->prefix,
                b->plan->graph->body.input_count + 1, b->prefix, cr_plan_result_count(b->plan) + 1);
    place_results(a, b, &head);
    const bool done = cr_ahead_write_steps(a);
    cr_ahead_add_weights(&a->blocks, a, a->text.at);
    cr_text_add(&a->blocks, "%sstatic void %srun(%s_context *c) {\n%s%s}\n\n", a->text.at ? a->text.at : "", b->prefix,
                a->name, head.at ? head.at : "", a->run.at ? a->run.at : "");
    a->blocks.failed |= a->text.failed || a->run.failed || head.failed;
    cr_free(a->text.at);
    cr_free(a->run.at);
    cr_free(head.at);
    a->text = outer.text;
    a->run = outer.run;
    a->plan = outer.plan;
    a->step = outer.step;
    a->number = outer.number;
    a->arena = outer.arena;
    a->scratch = outer.scratch;
    memcpy(a->prefix, outer.prefix, sizeof a->prefix);
    memcpy(a->detours, outer.detours, sizeof a->detours);
    a->detour_count = outer.detour_count;
    return done;
}

/* ---------------------------------------------------------------- operands */
/* Dense memory with an operand's elements that a block may read for as long as it likes. */
static bool settle(cr_ahead *a, int input, bool copies, cr_ahead_view *dense) {
    const cr_ahead_view view = cr_ahead_input_view(a, input);
    *dense = view;
    if (!copies && cr_ahead_is_dense(&view)) return true;
    *dense = cr_ahead_room(a, view.dtype, view.shape);
    return cr_ahead_copy(a, dense, &view);
}

static void connect(cr_ahead *a, const block *b, int input, const cr_ahead_view *view) {
    cr_text_add(&a->text, "    c->%sinputs[%d] = (const unsigned char *)(%s) + %lld;\n", b->prefix, input, view->base,
                (long long)view->offset * (long long)cr_dtype_size(view->dtype));
}

static void add_value(cr_text *text, const cr_ahead_view *view) {
    cr_text_add(text, "((const %s *)(%s))[%lld]", cr_ahead_type(view->dtype), view->base, (long long)view->offset);
}

/* ---------------------------------------------------------------- the three */
static bool write_cond(cr_ahead *a, block *blocks) {
    const cr_ahead_view condition = cr_ahead_input_view(a, 0);
    for (int i = 1; i < a->step->input_count; i++) {
        cr_ahead_view dense;
        if (!settle(a, i, false, &dense)) return false;
        for (int k = 0; k < 2; k++)
            connect(a, &blocks[k], i - 1, &dense);
    }
    for (int k = 0; k < 2; k++) {
        cr_text_add(&a->text, k ? "    } else {\n" : "    if (");
        if (!k) add_value(&a->text, &condition);
        cr_text_add(&a->text, k ? "" : " != 0) {\n");
        cr_text_add(&a->text, "    %srun(c);\n", blocks[k].prefix);
        for (int i = 0; i < a->step->output_count; i++) {
            const cr_ahead_view to = cr_ahead_output_view(a, i);
            if (!cr_ahead_copy(a, &to, &blocks[k].outputs[i])) return false;
        }
    }
    cr_text_add(&a->text, "    }\n");
    return true;
}

/* What goes around has memory of its own between turns. */
static bool write_while(cr_ahead *a, block *blocks, int carried) {
    cr_ahead_view now[CR_MAX_INPUTS];
    for (int i = 0; i < a->step->input_count; i++) {
        if (!settle(a, i, i < carried, &now[i])) return false;
        for (int k = 0; k < 2; k++)
            connect(a, &blocks[k], i, &now[i]);
    }
    cr_text_add(&a->text, "    for (;;) {\n    %srun(c);\n    if (!(", blocks[1].prefix);
    add_value(&a->text, &blocks[1].outputs[0]);
    cr_text_add(&a->text, " != 0)) break;\n    %srun(c);\n", blocks[0].prefix);
    for (int i = 0; i < carried; i++)
        if (!cr_ahead_copy(a, &now[i], &blocks[0].outputs[i])) return false;
    cr_text_add(&a->text, "    }\n");
    for (int i = 0; i < carried; i++) {
        const cr_ahead_view to = cr_ahead_output_view(a, i);
        if (!cr_ahead_copy(a, &to, &now[i])) return false;
    }
    return true;
}

/* Slice t of a view along dim 0, where t is a variable of the file. */
static cr_ahead_view slice_at(cr_ahead_view view, const char *name) {
    snprintf(view.base, sizeof view.base, "%s", name);
    view.offset = 0;
    view.shape.count--;
    view.strides.count--;
    memmove(view.shape.at, view.shape.at + 1, (size_t)view.shape.count * sizeof view.shape.at[0]);
    memmove(view.strides.at, view.strides.at + 1, (size_t)view.strides.count * sizeof view.strides.at[0]);
    return view;
}

static void declare_slice(cr_ahead *a, const char *name, const cr_ahead_view *view, bool writes) {
    const long long bytes = (long long)cr_dtype_size(view->dtype);
    cr_text_add(&a->text, "    %sunsigned char *%s = (%sunsigned char *)(%s) + (%lld + t * %lld);\n",
                writes ? "" : "const ", name, writes ? "" : "const ", view->base, (long long)view->offset * bytes,
                (long long)view->strides.at[0] * bytes);
}

static bool write_turn(cr_ahead *a, block *body, const cr_ahead_view *now, int carried, int scanned) {
    for (int i = carried; i < carried + scanned; i++) {
        char name[24];
        snprintf(name, sizeof name, "slice%d", i);
        declare_slice(a, name, &now[i], false);
        cr_text_add(&a->text, "    c->%sinputs[%d] = %s;\n", body->prefix, i, name);
    }
    cr_text_add(&a->text, "    %srun(c);\n", body->prefix);
    for (int i = carried; i < a->step->output_count; i++) {
        const cr_ahead_view whole = cr_ahead_output_view(a, i);
        char name[24];
        snprintf(name, sizeof name, "made%d", i);
        declare_slice(a, name, &whole, true);
        const cr_ahead_view to = slice_at(whole, name);
        if (!cr_ahead_copy(a, &to, &body->outputs[i])) return false;
    }
    for (int i = 0; i < carried; i++)
        if (!cr_ahead_copy(a, &now[i], &body->outputs[i])) return false;
    return true;
}

static bool write_scan(cr_ahead *a, block *body, int carried, int scanned) {
    cr_ahead_view now[CR_MAX_INPUTS];
    for (int i = 0; i < a->step->input_count; i++) {
        if (!settle(a, i, i < carried, &now[i])) return false;
        if (i < carried || i >= carried + scanned) connect(a, body, i, &now[i]);
    }
    cr_text_add(&a->text, "    for (int64_t t = 0; t < %lld; t++) {\n", (long long)now[carried].shape.at[0]);
    if (!write_turn(a, body, now, carried, scanned)) return false;
    cr_text_add(&a->text, "    }\n");
    for (int i = 0; i < carried; i++) {
        const cr_ahead_view to = cr_ahead_output_view(a, i);
        if (!cr_ahead_copy(a, &to, &now[i])) return false;
    }
    return true;
}

bool cr_ahead_write_control(cr_ahead *a) {
    const cr_control *control = a->step->attributes;
    block *blocks = cr_calloc(2, sizeof *blocks);
    bool done = blocks != NULL;
    for (int k = 0; done && k < a->step->node->block_count; k++) {
        blocks[k].plan = control->plans[k];
        done = write_block(a, &blocks[k]);
    }
    const int carried = (int)control->options->carried, scanned = (int)control->options->scanned;
    const char *op = a->step->op->name;
    if (done)
        done = !strcmp(op, "cond")         ? write_cond(a, blocks)
               : !strcmp(op, "while_loop") ? write_while(a, blocks, carried)
                                           : write_scan(a, blocks, carried, scanned);
    cr_free(blocks);
    return done;
}
