/* Sizes that depend on symbols: evaluating, printing, reading, and finding them from examples. */
#include "jit/graph.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

static int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

static bool product_of(const cr_extent *extent, const cr_symbol *symbols, int64_t *product) {
    *product = 1;
    for (int i = 0; i < extent->symbol_count; i++)
        if (__builtin_mul_overflow(*product, symbols[extent->symbols[i]].value, product)) return false;
    return true;
}

bool cr_extent_evaluate(const cr_extent *extent, const cr_symbol *symbols, int64_t *value) {
    int64_t product, sum;
    if (extent->symbol_count == 0) return *value = extent->term, true;
    if (!product_of(extent, symbols, &product) || __builtin_mul_overflow(product, extent->factor, &sum) ||
        __builtin_add_overflow(sum, extent->term, &sum))
        return cr_fail(CR_ERROR_SHAPE, "a size that follows from the inputs' is past int64");
    *value = floor_divide(sum, extent->divisor);
    return true;
}

/* ---------------------------------------------------------------- text: [(] [factor*]symbol[*symbol]… [+term]
 * [)/divisor] */
int cr_extent_print(char *text, size_t size, const cr_extent *extent, const cr_symbol *symbols) {
    if (extent->symbol_count == 0) return snprintf(text, size, "%" PRId64, extent->term);
    char sum[192];
    int used = 0;
    if (extent->factor != 1) used = snprintf(sum, sizeof sum, "%" PRId64 "*", extent->factor);
    for (int i = 0; i < extent->symbol_count; i++)
        used +=
            snprintf(sum + used, sizeof sum - (size_t)used, "%s%.32s", i ? "*" : "", symbols[extent->symbols[i]].name);
    if (extent->term) snprintf(sum + used, sizeof sum - (size_t)used, "%+" PRId64, extent->term);
    return extent->divisor == 1 ? snprintf(text, size, "%s", sum)
                                : snprintf(text, size, "(%s)/%" PRId64, sum, extent->divisor);
}

static const char *parse_number(const char *text, int64_t *number) {
    char *end;
    *number = strtoll(text, &end, 10);
    return end == text ? NULL : end;
}

static const char *parse_symbol(const char *text, const cr_graph *graph, cr_extent *extent) {
    for (int i = 0; i < graph->symbol_count; i++) {
        const size_t length = strlen(graph->symbols[i].name);
        const char after = strncmp(text, graph->symbols[i].name, length) == 0 ? text[length] : 'x';
        if (!strchr("*+-)],. ;\n", after) || extent->symbol_count == CR_EXTENT_SYMBOLS) continue;
        extent->symbols[extent->symbol_count++] = (int8_t)i;
        return text + length;
    }
    return NULL;
}

static bool starts_number(char c) { return (c >= '0' && c <= '9') || c == '-' || c == '+'; }

const char *cr_extent_parse(const char *text, const cr_graph *graph, cr_extent *extent) {
    *extent = (cr_extent){.factor = 1, .divisor = 1};
    const bool bracket = *text == '(';
    text += bracket;
    if (starts_number(*text)) {
        int64_t number;
        if (!(text = parse_number(text, &number))) return NULL;
        if (*text != '*') return *extent = cr_extent_constant(number), text;
        extent->factor = number;
        text++;
    }
    do {
        if (!(text = parse_symbol(text, graph, extent))) return NULL;
    } while (*text == '*' && *++text);
    if (starts_number(*text) && !(text = parse_number(text, &extent->term))) return NULL;
    if (!bracket) return text;
    if (*text++ != ')' || *text++ != '/' || !(text = parse_number(text, &extent->divisor))) return NULL;
    return extent->divisor > 0 ? text : NULL;
}

/* ---------------------------------------------------------------- finding */
static bool agrees(const cr_extent *extent, const int64_t *values, const int64_t (*samples)[CR_GRAPH_SYMBOLS],
                   int count) {
    for (int k = 0; k < count; k++) {
        cr_symbol symbols[CR_GRAPH_SYMBOLS] = {{0}};
        int64_t value;
        for (int i = 0; i < CR_GRAPH_SYMBOLS; i++)
            symbols[i].value = samples[k][i];
        if (!cr_extent_evaluate(extent, symbols, &value) || value != values[k]) return false;
    }
    return true;
}

static int64_t monomial(const cr_extent *extent, const int64_t *sample) {
    int64_t product = 1;
    for (int i = 0; i < extent->symbol_count; i++)
        product *= sample[extent->symbols[i]];
    return product;
}

/* With the symbols given: factor and term exactly, else with a divisor up to 64 (strided convolutions, pooling). */
static bool fit_coefficients(cr_extent *extent, const int64_t *values, const int64_t (*samples)[CR_GRAPH_SYMBOLS],
                             int count) {
    const int64_t m0 = monomial(extent, samples[0]);
    int far = 0;
    for (int k = 1; k < count; k++)
        if (monomial(extent, samples[k]) > monomial(extent, samples[far])) far = k;
    const int64_t run = monomial(extent, samples[far]) - m0, rise = values[far] - values[0];
    if (run == 0) return false;
    extent->divisor = 1;
    if (rise % run == 0) {
        extent->factor = rise / run;
        extent->term = values[0] - extent->factor * m0;
        if (extent->factor != 0 && agrees(extent, values, samples, count)) return true;
    }
    for (extent->divisor = 2; extent->divisor <= 64; extent->divisor++)
        for (int64_t factor = rise * extent->divisor / run - 1; factor <= rise * extent->divisor / run + 1; factor++) {
            if (factor == 0) continue;
            extent->factor = factor;
            for (int64_t rest = 0; rest < extent->divisor; rest++) {
                extent->term = values[0] * extent->divisor - factor * m0 + rest;
                if (agrees(extent, values, samples, count)) return true;
            }
        }
    return false;
}

bool cr_extent_fit(cr_extent *extent, const int64_t *values, const int64_t (*samples)[CR_GRAPH_SYMBOLS], int count,
                   int symbol_count) {
    *extent = cr_extent_constant(values[0]);
    if (agrees(extent, values, samples, count)) return true;
    for (int degree = 1; degree <= CR_EXTENT_SYMBOLS; degree++) {
        int8_t at[CR_EXTENT_SYMBOLS] = {0};
        for (bool more = symbol_count > 0; more;) {
            *extent = (cr_extent){.symbol_count = (int8_t)degree};
            memcpy(extent->symbols, at, sizeof at);
            if (fit_coefficients(extent, values, samples, count)) return true;
            int i = degree - 1; /* the next ascending choice */
            while (i >= 0 && at[i] == symbol_count - 1)
                i--;
            more = i >= 0;
            for (int8_t next = more ? (int8_t)(at[i] + 1) : 0; more && i < degree; i++)
                at[i] = next;
        }
    }
    return false;
}

/* ---------------------------------------------------------------- binding */
static bool bind_value(const cr_graph *graph, cr_value *value) {
    for (int d = 0; value && value->extents && d < value->shape.count; d++)
        if (!cr_extent_evaluate(&value->extents[d], graph->symbols, &value->shape.at[d])) return false;
    return true;
}

static bool bind_attribute(const cr_graph *graph, cr_graph_node *node, const cr_bound_attribute *bound) {
    const cr_attribute *attribute = &node->op->attributes[bound->attribute];
    char *field = (char *)node->attributes + attribute->offset;
    int64_t value;
    if (!cr_extent_evaluate(&bound->extent, graph->symbols, &value)) return false;
    if (attribute->kind == CR_ATTRIBUTE_DIMS)
        ((cr_dims *)(void *)field)->at[bound->element] = value;
    else if (attribute->kind == CR_ATTRIBUTE_FLOAT)
        *(double *)(void *)field = (double)value;
    else
        *(int64_t *)(void *)field = value;
    return true;
}

static bool bind_block(const cr_graph *graph, cr_block *block) {
    for (int i = 0; i < block->input_count; i++)
        if (!bind_value(graph, block->inputs[i])) return false;
    for (cr_graph_node *node = block->first; node; node = node->next) {
        for (int i = 0; i < node->bound_count; i++)
            if (!bind_attribute(graph, node, &node->bound[i])) return false;
        for (int i = 0; i < node->output_count; i++)
            if (!bind_value(graph, node->outputs[i])) return false;
        for (int b = 0; b < node->block_count; b++)
            if (!bind_block(graph, node->blocks[b])) return false;
    }
    return true;
}

bool cr_graph_bind(cr_graph *graph) { return bind_block(graph, &graph->body); }

/* ---------------------------------------------------------------- sizes that are told */
static bool wrong_sizes(const cr_graph *graph, const char *sizes, const char *who) {
    char names[256] = "";
    for (int i = 0; i < graph->symbol_count; i++)
        snprintf(names + strlen(names), sizeof names - strlen(names), i ? ", %s" : "%s", graph->symbols[i].name);
    return cr_fail(CR_ERROR_ARGUMENT, "%s: sizes \"%s\": expected \"name=number …\"; the graph's names are: %s", who,
                   sizes, graph->symbol_count ? names : "none");
}

bool cr_graph_set_sizes(cr_graph *graph, const char *sizes, const char *who) {
    const char *at = sizes ? sizes : "";
    for (at += strspn(at, " ,"); *at; at += strspn(at, " ,")) {
        const size_t length = strcspn(at, "= ,");
        cr_symbol *symbol = NULL;
        char *end;
        for (int i = 0; i < graph->symbol_count; i++)
            if (strlen(graph->symbols[i].name) == length && !strncmp(graph->symbols[i].name, at, length))
                symbol = &graph->symbols[i];
        if (!symbol || at[length] != '=') return wrong_sizes(graph, sizes, who);
        symbol->value = strtoll(at + length + 1, &end, 10);
        if (end == at + length + 1 || symbol->value < 0 || (*end && *end != ' ' && *end != ','))
            return wrong_sizes(graph, sizes, who);
        at = end;
    }
    return true;
}
