/* One function for each step of a plan, and the calls of them in order. */
#include "jit/ahead/ahead.h"

#include "jit/fused.h"

/* ---------------------------------------------------------------- which ops can be written */
static bool is_control(const cr_op *op) { return (op->flags & CR_OP_BLOCKS) && strcmp(op->name, "fused") != 0; }
static bool is_loop(const cr_op *op) { return (op->flags & CR_OP_POINTWISE) || !strcmp(op->name, "fused"); }

const cr_ahead_template *cr_ahead_find(const cr_op *op) {
    static const cr_ahead_template *const families[] = {cr_ahead_moves, cr_ahead_products,   cr_ahead_convolutions,
                                                        cr_ahead_pools, cr_ahead_reductions, cr_ahead_indices,
                                                        cr_ahead_draws, cr_ahead_layers};
    for (size_t i = 0; i < sizeof families / sizeof families[0]; i++)
        for (const cr_ahead_template *t = families[i]; t->op; t++)
            if (!strcmp(t->op, op->name)) return t;
    return NULL;
}

bool cr_ahead_supports(const cr_graph_node *node, const void *target) {
    (void)target;
    const cr_op *op = node->op;
    return (op->flags & (CR_OP_VIEW | CR_OP_BLOCKS)) || is_loop(op) || cr_ahead_find(op);
}

/* ---------------------------------------------------------------- a step */
static bool write_statements(cr_ahead *a) {
    const cr_op *op = a->step->op;
    const cr_ahead_template *t = cr_ahead_find(op);
    if (is_loop(op)) return cr_ahead_write_pointwise(a);
    if (is_control(op)) return cr_ahead_write_control(a);
    if (!t)
        return cr_fail(CR_ERROR_UNSUPPORTED, "jit_compile: %s (%s) has no C template and no decomposition", op->name,
                       a->step->node && a->step->node->source ? a->step->node->source : "no source");
    return t->write(a) && cr_ahead_deliver(a);
}

/* A comment may not end early. */
static void add_source(cr_text *text, const char *source) {
    for (const char *at = source; at && *at; at++)
        cr_text_add(text, at[0] == '*' && at[1] == '/' ? "* " : "%c", *at);
}

static bool write_step(cr_ahead *a) {
    a->scratch = 0;
    a->detour_count = 0;
    cr_text_add(&a->text, "/* %s", a->step->op->name);
    if (a->step->node && a->step->node->source) {
        cr_text_add(&a->text, ": ");
        add_source(&a->text, a->step->node->source);
    }
    cr_text_add(&a->text, " */\nstatic void %sstep_%d(%s_context *c) {\n    (void)c;\n", a->prefix, a->number, a->name);
    const bool done = write_statements(a);
    cr_text_add(&a->text, "}\n\n");
    cr_text_add(&a->run, "    %sstep_%d(c);\n", a->prefix, a->number);
    return done;
}

bool cr_ahead_write_steps(cr_ahead *a) {
    for (int i = 0; i < a->plan->step_count; i++) {
        a->step = &a->plan->steps[i];
        a->number = i;
        if (!write_step(a)) return false;
    }
    return true;
}
