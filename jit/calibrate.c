/* Calibration: what values of a graph are over a set of data, and which range of them 8 bits should hold. */
#include "jit/quantize.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- counting */
enum { HALF = CR_OBSERVER_BINS / 2, TRIED = 96 };

/* Two bins become one. */
static void double_reach(cr_observer *o) {
    int64_t merged[CR_OBSERVER_BINS] = {0};
    for (int i = 0; i < CR_OBSERVER_BINS; i++)
        merged[HALF / 2 + i / 2] += o->counts[i];
    memcpy(o->counts, merged, sizeof merged);
    o->reach *= 2;
}

static void count(cr_observer *o, const float *x, int64_t n) {
    const float scale = (float)(HALF / o->reach);
    for (int64_t i = 0; i < n; i++) {
        const int bin = HALF + (int)floorf(x[i] * scale);
        o->counts[bin < 0 ? 0 : bin >= CR_OBSERVER_BINS ? CR_OBSERVER_BINS - 1 : bin]++;
    }
}

bool cr_observe(cr_observer *o, cr_tensor *values) {
    cr_tensor *dense = cr_contiguous(cr_cast(values, CR_F32));
    if (!dense) return false;
    const float *x = cr_data(dense);
    float least = 0, most = 0, sum = 0;
    for (int64_t i = 0; i < dense->numel; i++) {
        least = x[i] < least ? x[i] : least;
        most = x[i] > most ? x[i] : most;
        sum += x[i] * 0; /* NaN where one is not finite */
    }
    if (sum != 0) return cr_fail(CR_ERROR_NUMERIC, "quantize: the data give values that are not finite");
    if (dense->numel == 0) return true;
    o->least = least < o->least ? least : o->least;
    o->most = most > o->most ? most : o->most;
    const double far = fmax(-o->least, o->most);
    if (o->reach == 0) o->reach = 0x1p-100;
    while (o->reach <= far) {
        if (o->total)
            double_reach(o);
        else
            o->reach *= 2;
    }
    o->total += dense->numel;
    count(o, x, dense->numel);
    return true;
}

/* ---------------------------------------------------------------- choosing */
static void scale_of(double least, double most, float *scale, int *zero) {
    const double step = (most - least) / 255;
    *scale = step > 0x1p-120 ? (float)step : 1;
    *zero = (int)fmin(255, fmax(0, nearbyint(-least / (double)*scale)));
}

/* Numbers are where the middle of their bin is. */
static double middle(const cr_observer *o, int bin) { return (bin - HALF + 0.5) * o->reach / HALF; }

static double squared_error(const cr_observer *o, double least, double most) {
    float scale;
    int zero;
    double error = 0;
    scale_of(least, most, &scale, &zero);
    for (int i = 0; i < CR_OBSERVER_BINS; i++) {
        if (!o->counts[i]) continue;
        const double x = middle(o, i), q = fmin(255, fmax(0, nearbyint(x / (double)scale) + zero));
        const double off = x - (q - zero) * (double)scale;
        error += (double)o->counts[i] * off * off;
    }
    return error;
}

/* Both ends are moved in together, then the upper one, then the lower. */
static void least_error(const cr_observer *o, double *least, double *most) {
    double best = squared_error(o, *least, *most);
    for (int moved = 3; moved >= 1; moved--) {
        const double low = *least, high = *most;
        if (moved < 3 && (low >= 0 || high <= 0)) break; /* one end is 0 */
        for (int i = 1; i < TRIED; i++) {
            const double part = 1 - (double)i / (TRIED + TRIED / 8);
            const double l = moved & 1 ? low * part : low, h = moved & 2 ? high * part : high;
            const double error = squared_error(o, l, h);
            if (error >= best) continue;
            best = error;
            *least = l;
            *most = h;
        }
    }
}

/* The rarest are left out on both sides of 0 where there are two. */
static void leave_out(const cr_observer *o, double percentile, double *least, double *most) {
    const double rare = (double)o->total * (1 - percentile / 100) / (*least < 0 && *most > 0 ? 2 : 1);
    int low = 0, high = CR_OBSERVER_BINS - 1;
    for (double seen = 0; low < HALF && (seen += (double)o->counts[low]) <= rare;)
        low++;
    for (double seen = 0; high >= HALF && (seen += (double)o->counts[high]) <= rare;)
        high--;
    *least = fmax(*least, (low - HALF) * o->reach / HALF);
    *most = fmin(*most, (high + 1 - HALF) * o->reach / HALF);
}

void cr_observer_choose(const cr_observer *o, const char *method, double percentile, float *scale, int *zero) {
    double least = o->least, most = o->most; /* 0 is always inside */
    if (!strcmp(method, "mse"))
        least_error(o, &least, &most);
    else if (!strcmp(method, "percentile"))
        leave_out(o, percentile, &least, &most);
    scale_of(least, most, scale, zero);
}

/* ---------------------------------------------------------------- runs over data */
bool cr_quantize_from_array(void *context, int64_t batch, cr_tensor **inputs, int input_count) {
    const cr_quantize_array *array = context;
    if (!array || !array->batches || !inputs || batch < 0)
        return cr_fail(CR_ERROR_ARGUMENT, "quantize: the array of batches, its tensors or the place for one is NULL");
    if (input_count != 1)
        return cr_fail(CR_ERROR_ARGUMENT, "quantize: an array of batches is for a graph of one input, this has %d",
                       input_count);
    inputs[0] = batch < array->count ? array->batches[batch] : NULL;
    return true;
}

cr_graph *cr_graph_watching(cr_graph *graph, cr_value *const *values, int count) {
    const cr_block before = graph->body;
    const char **names = graph->output_names;
    graph->output_names = cr_pool_allocate(&graph->pool, (size_t)(count + 1) * sizeof *graph->output_names);
    graph->body.outputs = NULL;
    graph->body.output_count = 0;
    bool done = graph->output_names != NULL;
    for (int i = 0; done && i < count; i++) {
        graph->output_names[i] = "";
        done = cr_block_add_output(graph, &graph->body, values[i]);
    }
    cr_graph *copy = done ? cr_graph_copy(graph) : NULL;
    graph->body.outputs = before.outputs;
    graph->body.output_count = before.output_count;
    graph->output_names = names;
    return copy;
}

bool cr_next_batch(cr_quantize_source source, void *context, int64_t batch, cr_tensor **inputs, int count, bool *more) {
    *more = false;
    if (count < 1 || count > CR_MAX_INPUTS)
        return cr_fail(CR_ERROR_UNSUPPORTED, "quantize: a graph of %d inputs; 1 to %d are taken", count, CR_MAX_INPUTS);
    memset(inputs, 0, (size_t)count * sizeof *inputs);
    if (!source(context, batch, inputs, count))
        return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "quantize: the source of data failed");
    *more = inputs[0] != NULL;
    return *more || batch > 0 || cr_fail(CR_ERROR_ARGUMENT, "quantize: there are no data");
}
