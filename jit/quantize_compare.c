/* What quantising a graph did to its results, layer by layer. */
#include "jit/quantize.h"

#include <math.h>
#include <string.h>

/* |a - b| / |a| as it is summed up. */
typedef struct difference {
    double error, norm;
} difference;

static double ratio(const difference *d) {
    return d->norm > 0 ? sqrt(d->error / d->norm) : d->error > 0 ? INFINITY : 0;
}

static bool add_difference(difference *d, cr_tensor *a, cr_tensor *b) {
    cr_tensor *wide = cr_cast(a, CR_F64), *off = cr_sub(wide, cr_cast(b, CR_F64));
    cr_tensor *error = cr_sum(cr_square(off)), *norm = cr_sum(cr_square(wide));
    if (!error || !norm) return false;
    d->error += cr_item(error);
    d->norm += cr_item(norm);
    return true;
}

/* ---------------------------------------------------------------- two graphs, side by side */
typedef struct pair {
    cr_graph *graphs[2], *watching[2];
    cr_value **values[2]; /* results of the layers, and the first output */
    cr_tensor **results[2];
    int counts[2];
    difference *differences;
} pair;

static bool list_layers(pair *p, int side) {
    const int most = cr_graph_node_count(p->graphs[side]) + 1;
    p->values[side] = cr_calloc((size_t)most, sizeof(cr_value *));
    p->results[side] = cr_calloc((size_t)most, sizeof(cr_tensor *));
    if (!p->values[side] || !p->results[side]) return false;
    for (const cr_graph_node *node = p->graphs[side]->body.first; node; node = node->next)
        if (cr_is_layer_node(node)) p->values[side][p->counts[side]++] = node->outputs[0];
    if (p->graphs[side]->body.output_count < 1) return cr_fail(CR_ERROR_ARGUMENT, "quantize: a graph without outputs");
    p->values[side][p->counts[side]++] = p->graphs[side]->body.outputs[0];
    return true;
}

static bool same_layers(const pair *p) {
    bool same = p->counts[0] == p->counts[1] && p->graphs[0]->body.input_count == p->graphs[1]->body.input_count;
    for (int i = 0; same && i < p->counts[0]; i++)
        same = cr_shape_equal(p->values[0][i]->shape, p->values[1][i]->shape);
    return same || cr_fail(CR_ERROR_ARGUMENT, "quantize: these graphs are not one and its quantised form: their layers "
                                              "differ");
}

static bool begin(pair *p, const cr_graph *graph, const cr_graph *quantized) {
    p->graphs[0] = cr_quantize_prepare(graph);
    p->graphs[1] = p->graphs[0] ? cr_quantize_prepare(quantized) : NULL;
    if (!p->graphs[1] || !list_layers(p, 0) || !list_layers(p, 1) || !same_layers(p)) return false;
    p->differences = cr_calloc((size_t)p->counts[0], sizeof *p->differences);
    for (int side = 0; side < 2; side++)
        p->watching[side] = cr_graph_watching(p->graphs[side], p->values[side], p->counts[side]);
    return p->differences && p->watching[0] && p->watching[1];
}

static void end(pair *p) {
    for (int side = 0; side < 2; side++) {
        cr_free(p->values[side]);
        cr_free(p->results[side]);
        cr_jit_free(p->watching[side]);
        cr_jit_free(p->graphs[side]);
    }
    cr_free(p->differences);
}

static bool count_agreement(cr_quantize_report *r, cr_tensor *a, cr_tensor *b) {
    if (cr_ndim(a) == 0) return true;
    cr_tensor *same = cr_eq(cr_argmax(a, -1, false), cr_argmax(b, -1, false));
    if (!same) return false;
    r->rows += cr_numel(same);
    r->agreeing += (int64_t)cr_item(cr_sum(cr_cast(same, CR_I64)));
    return cr_ok();
}

static bool run_batches(pair *p, cr_quantize_report *r, cr_quantize_source source, void *context) {
    const int input_count = p->graphs[0]->body.input_count, count = p->counts[0];
    cr_tensor *inputs[CR_MAX_INPUTS];
    bool done = true, more = true;
    for (int64_t batch = 0; done && more; batch++) {
        CR_SCOPE {
            done = cr_next_batch(source, context, batch, inputs, input_count, &more);
            for (int side = 0; done && more && side < 2; side++)
                done = cr_jit_run(p->watching[side], inputs, input_count, p->results[side], count);
            for (int i = 0; done && more && i < count; i++)
                done = add_difference(&p->differences[i], p->results[0][i], p->results[1][i]);
            if (done && more) done = count_agreement(r, p->results[0][count - 1], p->results[1][count - 1]);
        }
    }
    return done;
}

/* ---------------------------------------------------------------- the report */
static bool describe(const pair *p, cr_quantize_layer *layer, int index) {
    const cr_graph_node *nodes[2] = {p->values[0][index]->producer, p->values[1][index]->producer};
    const cr_graph_node *widening = nodes[1]->inputs[1]->producer;
    const cr_state *weight = cr_state_of(p->graphs[0], nodes[0]->inputs[1]);
    const char *name = cr_layer_name(p->graphs[0], nodes[0]);
    difference d = {0, 0};
    layer->op = nodes[0]->op->name;
    layer->result_error = ratio(&p->differences[index]);
    const bool is_cast = widening && !strcmp(widening->op->name, "cast");
    layer->is_quantized = is_cast || (widening && !strcmp(widening->op->name, "dequantize"));
    layer->name = cr_strdup(name);
    if (!layer->is_quantized || !weight || !layer->name) return layer->name != NULL;
    bool done = false;
    CR_SCOPE {
        const cr_state *q = cr_state_of(p->graphs[1], widening->inputs[0]),
                       *scale = is_cast ? NULL : cr_state_of(p->graphs[1], widening->inputs[1]);
        if (q && (is_cast || scale))
            done = add_difference(&d, weight->tensor,
                                  is_cast ? cr_cast(q->tensor, CR_F32)
                                          : cr_dequantize(q->tensor, scale->tensor, NULL, .axis = 0));
    }
    layer->weight_error = ratio(&d);
    return done || !cr_ok() || cr_fail(CR_ERROR_ARGUMENT, "quantize: the weight of %s is not a constant", layer->name);
}

cr_quantize_report *cr_jit_quantize_compare(const cr_graph *graph, const cr_graph *quantized, cr_quantize_source source,
                                            void *context) {
    pair p = {0};
    if (!graph || !quantized || !source) {
        if (cr_ok()) cr_record_error(CR_ERROR_ARGUMENT, "quantize_compare: NULL graph or source of data");
        return NULL;
    }
    cr_quantize_report *r = cr_calloc(1, sizeof *r);
    bool done = r && begin(&p, graph, quantized) && run_batches(&p, r, source, context);
    if (done) {
        r->layers = cr_calloc((size_t)p.counts[0], sizeof *r->layers);
        done = r->layers != NULL;
        for (int i = 0; done && i < p.counts[0] - 1; i++)
            done = describe(&p, &r->layers[r->layer_count++], i);
        r->output_error = ratio(&p.differences[p.counts[0] - 1]);
    }
    end(&p);
    if (done && cr_ok()) return r;
    cr_quantize_report_free(r);
    return NULL;
}

void cr_quantize_report_free(cr_quantize_report *report) {
    for (int i = 0; report && i < report->layer_count; i++)
        cr_free((char *)(uintptr_t)report->layers[i].name);
    if (report) cr_free(report->layers);
    cr_free(report);
}
