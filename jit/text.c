/* A graph as text, exactly:
 *
 *     cresset graph 1
 *     symbol batch = 4
 *     parameter %0 f32[10,784] "fc.weight"
 *     buffer %1 f32[10] "mean" -> %7
 *     input %2 f32[batch,784] "image"
 *     %3 f32[batch,10] = linear(%2, %0, -) ; nn.linear fc
 *     output %3 "logits" */
#include "jit/graph.h"

#include "core/text.h"

#include <string.h>

void cr_graph_add_name(cr_text *out, const char *name) {
    cr_text_add(out, "\"");
    for (const char *c = name ? name : ""; *c; c++)
        cr_text_add(out, *c == '"' || *c == '\\' ? "\\%c" : *c < ' ' && *c > 0 ? " " : "%c", *c);
    cr_text_add(out, "\"");
}

void cr_graph_add_type(cr_text *out, const cr_graph *graph, const cr_value *value) {
    char size[224], device[16];
    cr_text_add(out, "%s[", cr_dtype_name(value->dtype));
    for (int d = 0; d < value->shape.count; d++) {
        const cr_extent constant = cr_extent_constant(value->shape.at[d]);
        cr_extent_print(size, sizeof size, value->extents ? &value->extents[d] : &constant, graph->symbols);
        cr_text_add(out, "%s%s", d ? "," : "", size);
    }
    cr_text_add(out, "]");
    if (!cr_device_equal(value->device, CR_CPU)) cr_text_add(out, "@%s", cr_device_name(value->device, device));
}

/* Frames of a source that are followed; those further out of a hostile text are not. */
enum { FRAMES_MOST = 64 };

static void add_module(cr_text *out, const char *source, int depth) {
    const char *outer = source ? strstr(source, " < ") : NULL;
    const size_t length = outer ? (size_t)(outer - source) : source ? strlen(source) : 0;
    const char *name = length ? memchr(source, ' ', length) : NULL;
    if (outer && depth < FRAMES_MOST) add_module(out, outer + 3, depth + 1);
    if (!name || strncmp(source, "nn.", 3) != 0) return; /* a call, or a module without a name */
    cr_text_add(out, "%s%.*s", out->length ? "." : "", (int)(source + length - name - 1), name + 1);
}

void cr_graph_add_module(cr_text *out, const char *source) { add_module(out, source, 1); }

static void add_typed(cr_text *out, const cr_graph *graph, const cr_value *value) {
    cr_text_add(out, "%%%d ", value->id);
    cr_graph_add_type(out, graph, value);
}

static void add_indent(cr_text *out, int depth) { cr_text_add(out, "%*s", 2 * depth, ""); }

static void add_bound(cr_text *out, const cr_graph *graph, const cr_graph_node *node) {
    char size[224];
    for (int i = 0; i < node->bound_count; i++) {
        const cr_bound_attribute *bound = &node->bound[i];
        cr_extent_print(size, sizeof size, &bound->extent, graph->symbols);
        cr_text_add(out, "%s%s.%d=%s", i ? " " : " where ", node->op->attributes[bound->attribute].name, bound->element,
                    size);
    }
}

static void add_block(cr_text *out, const cr_graph *graph, const cr_block *block, int depth);

static void add_node(cr_text *out, const cr_graph *graph, const cr_graph_node *node, int depth) {
    add_indent(out, depth);
    for (int i = 0; i < node->output_count; i++) {
        if (i) cr_text_add(out, ", ");
        if (node->outputs[i])
            add_typed(out, graph, node->outputs[i]);
        else
            cr_text_add(out, "-");
    }
    cr_text_add(out, "%s%s(", node->output_count ? " = " : "", node->op->name);
    for (int i = 0; i < node->input_count; i++) {
        cr_text_add(out, i ? ", " : "");
        if (node->inputs[i])
            cr_text_add(out, "%%%d", node->inputs[i]->id);
        else
            cr_text_add(out, "-");
    }
    cr_text_add(out, ")");
    char *attributes = node->op->attribute_count ? cr_attributes_print(node->op, node->attributes) : NULL;
    if (node->op->attribute_count && !attributes) out->failed = true;
    if (attributes && *attributes) cr_text_add(out, " %s", attributes);
    cr_free(attributes);
    add_bound(out, graph, node);
    if (node->source) cr_text_add(out, " ; %s", node->source);
    cr_text_add(out, "\n");
    for (int b = 0; b < node->block_count; b++) {
        add_indent(out, depth);
        cr_text_add(out, "{\n");
        add_block(out, graph, node->blocks[b], depth + 1);
        add_indent(out, depth);
        cr_text_add(out, "}\n");
    }
}

static void add_values(cr_text *out, const char *word, const cr_graph *graph, cr_value *const *values,
                       const char *const *names, int count, int depth) {
    for (int i = 0; i < count; i++) {
        add_indent(out, depth);
        cr_text_add(out, "%s ", word);
        if (graph)
            add_typed(out, graph, values[i]);
        else
            cr_text_add(out, "%%%d", values[i]->id);
        if (names && names[i]) {
            cr_text_add(out, " ");
            cr_graph_add_name(out, names[i]);
        }
        cr_text_add(out, "\n");
    }
}

static void add_block(cr_text *out, const cr_graph *graph, const cr_block *block, int depth) {
    const bool outer = block == &graph->body;
    add_values(out, "input", graph, block->inputs, outer ? graph->input_names : NULL, block->input_count, depth);
    for (const cr_graph_node *node = block->first; node; node = node->next)
        add_node(out, graph, node, depth);
    add_values(out, "output", NULL, block->outputs, outer ? graph->output_names : NULL, block->output_count, depth);
}

static void add_state(cr_text *out, const cr_graph *graph, const cr_state *state) {
    cr_text_add(out, "%s ", cr_state_kind_name(state->kind));
    add_typed(out, graph, state->value);
    cr_text_add(out, " ");
    cr_graph_add_name(out, state->name);
    if (state->update) cr_text_add(out, " -> %%%d", state->update->id);
    if (state->gradient_of >= 0) cr_text_add(out, " gradient of %%%d", graph->states[state->gradient_of].value->id);
    cr_text_add(out, "\n");
}

static void add_gradient(cr_text *out, const cr_graph *graph, const cr_gradient *gradient) {
    cr_text_add(out, "gradient %%%d %s %%%d\n", gradient->value->id, gradient->accumulates ? "added to" : "of",
                graph->states[gradient->state].value->id);
}

char *cr_jit_text(const cr_graph *graph) {
    cr_text out = {0};
    if (!graph) {
        if (cr_ok()) cr_record_error(CR_ERROR_ARGUMENT, "jit_text: NULL graph");
        return NULL;
    }
    cr_graph_number((cr_graph *)(uintptr_t)graph);
    cr_text_add(&out, "cresset graph 1\n");
    for (int i = 0; i < graph->symbol_count; i++)
        cr_text_add(&out, "symbol %s = %lld\n", graph->symbols[i].name, (long long)graph->symbols[i].value);
    for (int i = 0; i < graph->state_count; i++)
        add_state(&out, graph, &graph->states[i]);
    add_block(&out, graph, &graph->body, 0);
    for (int i = 0; i < graph->gradient_count; i++)
        add_gradient(&out, graph, &graph->gradients[i]);
    return cr_text_end(&out);
}

/* ---------------------------------------------------------------- Graphviz */
static void add_dot_node(cr_text *out, const cr_graph *graph, const cr_graph_node *node) {
    cr_text_add(out, "  n%d [label=\"%s\"%s];\n", node->index, node->op->name,
                node->op->flags & CR_OP_POINTWISE ? ", style=filled, fillcolor=\"#e8f0fe\"" : "");
    for (int i = 0; i < node->input_count; i++) {
        const cr_value *value = node->inputs[i];
        if (!value) continue;
        if (value->producer)
            cr_text_add(out, "  n%d -> n%d [label=\"", value->producer->index, node->index);
        else
            cr_text_add(out, "  v%d -> n%d [label=\"", value->id, node->index);
        cr_graph_add_type(out, graph, value);
        cr_text_add(out, "\"];\n");
    }
}

static void add_dot_end(cr_text *out, const char *name, int id, const char *color) {
    cr_text_add(out, "  v%d [shape=box, style=filled, fillcolor=\"%s\", label=", id, color);
    cr_graph_add_name(out, name);
    cr_text_add(out, "];\n");
}

char *cr_jit_dot(const cr_graph *graph) {
    cr_text out = {0};
    if (!graph) {
        if (cr_ok()) cr_record_error(CR_ERROR_ARGUMENT, "jit_dot: NULL graph");
        return NULL;
    }
    cr_graph_number((cr_graph *)(uintptr_t)graph);
    cr_text_add(
        &out, "digraph graph_ {\n  node [fontname=\"sans-serif\"];\n  edge [fontname=\"sans-serif\", fontsize=10];\n");
    for (int i = 0; i < graph->state_count; i++)
        add_dot_end(&out, graph->states[i].name, graph->states[i].value->id, "#f1f3f4");
    for (int i = 0; i < graph->body.input_count; i++)
        add_dot_end(&out, graph->input_names[i], graph->body.inputs[i]->id, "#ceead6");
    for (const cr_graph_node *node = graph->body.first; node; node = node->next)
        add_dot_node(&out, graph, node);
    for (int i = 0; i < graph->body.output_count; i++) {
        const cr_value *value = graph->body.outputs[i];
        cr_text_add(&out, "  o%d [shape=box, style=filled, fillcolor=\"#fad2cf\", label=", i);
        cr_graph_add_name(&out, graph->output_names[i]);
        cr_text_add(&out, "];\n  %c%d -> o%d;\n", value->producer ? 'n' : 'v',
                    value->producer ? value->producer->index : value->id, i);
    }
    cr_text_add(&out, "}\n");
    return cr_text_end(&out);
}
