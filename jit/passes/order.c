/* The order of the passes. */
#include "jit/pass.h"

#include <stdlib.h>
#include <string.h>

static const cr_pass passes[] = {
    {"dead_code", cr_pass_dead_code},
    {"quantized", cr_pass_quantized},
    {"narrow", cr_pass_narrow}, /* before folding, which widens the rest */
    {"dead_code", cr_pass_dead_code},
    {"lower", cr_pass_lower},
    {"tables", cr_pass_tables}, /* before folding: what frozen tables give is constant */
    {"constant_folding", cr_pass_constant_folding},
    {"algebra", cr_pass_algebra},
    {"batch_norm_folding", cr_pass_batch_norm_folding},
    {"dead_code", cr_pass_dead_code},
    {"channels_last", cr_pass_channels_last},
    {"layout", cr_pass_layout},
    {"common_subexpressions", cr_pass_common_subexpressions},
    {"dead_code", cr_pass_dead_code},
    {"fusion", cr_pass_fusion},
    {"epilogue", cr_pass_epilogue},
    {"reduction", cr_pass_reduction},
    {"packing", cr_pass_packing},
    {"bottleneck", cr_pass_bottleneck},
    {"dead_code", cr_pass_dead_code},
};

static void dump(const cr_graph *graph, const char *name) {
    char *text = cr_jit_text(graph);
    if (text) fprintf(stderr, "---- after %s\n%s", name, text);
    cr_free(text);
}

static bool is_set(const char *variable) {
    const char *wanted = getenv(variable);
    return wanted && strcmp(wanted, "0") != 0;
}

/* Without an error where they do not. */
static bool types_hold(const cr_graph *graph) {
    const bool hold = cr_graph_types_hold(graph);
    if (!hold) cr_clear_error();
    return hold;
}

/* What a pass leaves is checked in debug builds, and with CR_JIT_VERIFY=1, which the tests set: operands and results are as
 * many as the op's row says, and of the dtypes and sizes that it takes. Texts from elsewhere may hold types that no op
 * takes; then that is found when the nodes are planned. */
typedef struct checks {
    bool are_wanted, held; /* did the types hold before? */
} checks;

static checks begin_checks(const cr_graph *graph) {
#ifdef NDEBUG
    const bool are_wanted = is_set("CR_JIT_VERIFY");
#else
    const bool are_wanted = true;
#endif
    return (checks){are_wanted, are_wanted && types_hold(graph)};
}

static bool run(cr_graph *graph, const cr_pass *pass, checks *c, bool *changed) {
    if (!pass->run(graph, changed)) return false;
    if (!c->are_wanted) return true;
    if (!cr_graph_verify(graph) || (c->held && !cr_graph_types_hold(graph))) return false;
    c->held = c->held || types_hold(graph);
    return true;
}

bool cr_graph_optimize(cr_graph *graph) {
    /* fused nodes are made here, of ops that were checked; from a text, they could say anything */
    if (graph->is_for_reading)
        return cr_fail(CR_ERROR_UNSUPPORTED, "jit: the text of an optimised graph cannot be run; run the one before");
    const bool shown = is_set("CR_JIT_DUMP");
    checks c = begin_checks(graph);
    for (size_t i = 0; i < sizeof passes / sizeof passes[0]; i++) {
        bool changed = false;
        if (!run(graph, &passes[i], &c, &changed)) return false;
        if (shown && changed) dump(graph, passes[i].name);
    }
    return true;
}

bool cr_graph_simplify(cr_graph *graph) {
    bool changed = false;
    return cr_pass_dead_code(graph, &changed) && cr_pass_common_subexpressions(graph, &changed);
}

/* States that nothing reads any more go; their numbers move. */
static void drop_unread_states(cr_graph *graph) {
    int kept = 0;
    cr_graph_count_uses(graph);
    for (int i = 0; i < graph->state_count; i++) {
        const cr_state *state = &graph->states[i];
        if (state->value->uses || state->update)
            graph->states[kept++] = *state;
        else
            cr_release(state->tensor);
    }
    graph->state_count = kept;
}

bool cr_graph_freeze(cr_graph *graph) {
    bool changed = false, numbered = graph->gradient_count > 0; /* gradients name states by number */
    for (int i = 0; i < graph->state_count; i++)
        numbered |= graph->states[i].gradient_of >= 0;
    if (!cr_fold_all_but_narrow(graph, &changed) || !cr_pass_batch_norm_folding(graph, &changed) ||
        !cr_pass_dead_code(graph, &changed))
        return false;
    if (!numbered) drop_unread_states(graph);
    return true;
}

bool cr_graph_run_pass(cr_graph *graph, const char *name, bool *changed) {
    checks c = begin_checks(graph);
    for (size_t i = 0; i < sizeof passes / sizeof passes[0]; i++)
        if (!strcmp(passes[i].name, name)) return run(graph, &passes[i], &c, changed);
    return cr_fail(CR_ERROR_ARGUMENT, "there is no pass \"%s\"", name);
}
