/* Running a graph: the plan for the inputs' sizes, made when they come for the first time. */
#include "jit/pass.h"
#include "jit/plan.h"
#include "jit/prepared.h"

#include <pthread.h>
#include <string.h>

enum { PLANS = 16 };

typedef struct cr_jit_cache {
    pthread_mutex_t lock; /* taken to look a plan up and to make one; not while it runs */
    cr_plan *plans;       /* the last used first */
} cr_jit_cache;

static pthread_mutex_t cache_lock = PTHREAD_MUTEX_INITIALIZER;

static cr_jit_cache *cache_of(cr_graph *graph) {
    pthread_mutex_lock(&cache_lock);
    if (!graph->cache && (graph->cache = cr_calloc(1, sizeof *graph->cache)))
        pthread_mutex_init(&graph->cache->lock, NULL);
    pthread_mutex_unlock(&cache_lock);
    return graph->cache;
}

void cr_jit_free(cr_graph *graph) {
    if (!graph) return;
    if (graph->cache) {
        for (cr_plan *plan = graph->cache->plans, *next; plan; plan = next) {
            next = plan->next;
            cr_plan_free(plan);
        }
        pthread_mutex_destroy(&graph->cache->lock);
        cr_free(graph->cache);
    }
    for (int i = 0; i < graph->state_count; i++)
        cr_release(graph->states[i].tensor);
    cr_prepared_free(graph->prepared);
    cr_safetensors_close(graph->file);
    cr_pool_free(&graph->pool);
    cr_free(graph);
}

/* ---------------------------------------------------------------- inputs and symbols */
static bool wrong_input(const cr_graph *graph, int index, const cr_tensor *t) {
    char given[224], device[16];
    const cr_value *value = graph->body.inputs[index];
    char *type = cr_jit_input_type(graph, index);
    if (!type) return false;
    cr_record_error(CR_ERROR_SHAPE, "jit_run: input %d (\"%s\") is %s, it must be %s on %s", index,
                    graph->input_names[index], cr_describe(t, given), type, cr_device_name(value->device, device));
    cr_free(type);
    return false;
}

/* Checks the inputs, and what the symbols are with them. */
static bool read_symbols(const cr_graph *graph, cr_tensor *const *inputs, int count, int64_t *symbols) {
    bool known[CR_GRAPH_SYMBOLS] = {false};
    if (count != graph->body.input_count)
        return cr_fail(CR_ERROR_ARGUMENT, "jit_run: the graph takes %d inputs, got %d", graph->body.input_count, count);
    for (int i = 0; i < count; i++) {
        const cr_value *value = graph->body.inputs[i];
        const cr_tensor *t = inputs[i];
        if (!t)
            return cr_ok() &&
                   cr_fail(CR_ERROR_ARGUMENT, "jit_run: input %d (\"%s\") is NULL", i, graph->input_names[i]);
        if (!cr_tensor_check(t, "jit_run")) return false;
        if (t->dtype != (int8_t)value->dtype || t->ndim != value->shape.count ||
            !cr_device_equal(t->device, value->device))
            return wrong_input(graph, i, t);
        for (int d = 0; d < t->ndim; d++) {
            const cr_extent *extent = value->extents ? &value->extents[d] : NULL;
            if (!extent || !extent->symbol_count) {
                if (t->sizes[d] != value->shape.at[d]) return wrong_input(graph, i, t);
                continue;
            }
            const int symbol = extent->symbols[0];
            if (known[symbol] && symbols[symbol] != t->sizes[d]) return wrong_input(graph, i, t);
            symbols[symbol] = t->sizes[d];
            known[symbol] = true;
        }
    }
    return true;
}

/* ---------------------------------------------------------------- plans */
static cr_graph *specialise(const cr_graph *graph, const int64_t *symbols) {
    cr_graph *copy = cr_graph_copy(graph);
    if (!copy) return NULL;
    for (int i = 0; i < copy->symbol_count; i++)
        copy->symbols[i].value = symbols[i];
    bool done = cr_graph_bind(copy) && (!graph->prepared || cr_recipes_begin(copy, graph->prepared));
    done = done && cr_graph_optimize(copy);
    if (cr_recipes_end(copy) && done) return copy;
    cr_jit_free(copy);
    return NULL;
}

static cr_plan *make_plan(const cr_graph *graph, const int64_t *symbols) {
    cr_graph *special = specialise(graph, symbols);
    return special ? cr_plan_new(special) : NULL;
}

static bool is_for(const cr_plan *plan, const cr_graph *graph, const int64_t *symbols) {
    return !memcmp(plan->symbols, symbols, (size_t)graph->symbol_count * sizeof *symbols);
}

/* The last plan that nobody runs goes where there are too many. Lock held. */
static void evict(cr_jit_cache *cache) {
    int count = 0;
    cr_plan **oldest = NULL;
    for (cr_plan **at = &cache->plans; *at; at = &(*at)->next, count++)
        if (at != &cache->plans && atomic_load(&(*at)->users) == 0) oldest = at;
    if (count <= PLANS || !oldest) return;
    cr_plan *gone = *oldest;
    *oldest = gone->next;
    cr_plan_free(gone);
}

/* The plan for these sizes; cr_plan_release when it is done with. */
static cr_plan *acquire_plan(cr_graph *graph, const int64_t *symbols) {
    cr_jit_cache *cache = cache_of(graph);
    if (!cache) return NULL;
    pthread_mutex_lock(&cache->lock);
    cr_plan **at = &cache->plans, *plan;
    while (*at && !is_for(*at, graph, symbols))
        at = &(*at)->next;
    if ((plan = *at)) {
        *at = plan->next;
    } else {
        CR_SCOPE {
            plan = make_plan(graph, symbols);
        }
    }
    if (plan) {
        plan->next = cache->plans;
        cache->plans = plan;
        atomic_fetch_add(&plan->users, 1);
        evict(cache);
    }
    pthread_mutex_unlock(&cache->lock);
    return plan;
}

void cr_plan_release(cr_plan *plan) { atomic_fetch_sub(&plan->users, 1); }

cr_plan *cr_plan_for(cr_graph *graph, cr_tensor *const *inputs, int count) {
    int64_t symbols[CR_GRAPH_SYMBOLS] = {0};
    for (int i = 0; i < graph->symbol_count; i++)
        symbols[i] = graph->symbols[i].value;
    if (inputs && !read_symbols(graph, inputs, count, symbols)) return NULL;
    return acquire_plan(graph, symbols);
}

/* ---------------------------------------------------------------- entries */
static bool run_with_gradients(cr_plan *plan, cr_tensor *const *inputs, cr_tensor **outputs, double *times) {
    const int outputs_alone = plan->graph->body.output_count;
    cr_tensor **results = cr_calloc((size_t)cr_plan_result_count(plan), sizeof *results);
    bool done = results != NULL;
    CR_SCOPE {
        done =
            done && cr_plan_run(plan, inputs, results, times) && cr_set_gradients(plan->graph, results + outputs_alone);
        for (int i = 0; done && i < outputs_alone; i++)
            outputs[i] = cr_keep(results[i]);
    }
    cr_free(results);
    return done;
}

bool cr_plan_run_graph(cr_plan *plan, cr_tensor *const *inputs, cr_tensor **outputs, double *times) {
    return plan->graph->gradient_count ? run_with_gradients(plan, inputs, outputs, times)
                                       : cr_plan_run(plan, inputs, outputs, times);
}

bool cr_jit_run(cr_graph *graph, cr_tensor *const *inputs, int input_count, cr_tensor **outputs, int output_count) {
    if (!graph || (input_count && !inputs) || (output_count && !outputs))
        return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "jit_run: NULL graph, inputs or outputs");
    for (int i = 0; i < output_count; i++)
        outputs[i] = NULL;
    if (output_count != graph->body.output_count)
        return cr_fail(CR_ERROR_ARGUMENT, "jit_run: the graph has %d outputs, room for %d was given",
                       graph->body.output_count, output_count);
    cr_tensor *const none = NULL;
    cr_plan *plan = cr_plan_for(graph, inputs ? inputs : &none, input_count);
    if (!plan) return false;
    const bool done = cr_plan_run_graph(plan, inputs, outputs, NULL);
    cr_plan_release(plan);
    return done;
}

cr_tensor *cr_jit_forward(cr_graph *graph, cr_tensor *input) {
    cr_tensor *output = NULL;
    return cr_jit_run(graph, &input, 1, &output, 1) ? output : NULL;
}

bool cr_jit_memory_of(cr_graph *graph, cr_tensor *const *inputs, int input_count, cr_jit_memory *memory) {
    if (!graph || !memory) return cr_fail(CR_ERROR_ARGUMENT, "jit_memory_of: NULL graph or memory");
    cr_plan *plan = cr_plan_for(graph, inputs, input_count);
    if (!plan) return false;
    *memory = (cr_jit_memory){(int64_t)plan->naive_bytes, (int64_t)plan->arena_bytes, (int64_t)plan->bound_bytes, 0};
    for (int i = 0; i < graph->state_count; i++)
        if (graph->states[i].tensor)
            memory->state_bytes +=
                graph->states[i].tensor->numel * (int64_t)cr_dtype_size(graph->states[i].value->dtype);
    cr_plan_release(plan);
    return true;
}

char *cr_jit_optimized_text(cr_graph *graph, cr_tensor *const *inputs, int input_count) {
    if (!graph) {
        cr_record_error(CR_ERROR_ARGUMENT, "jit_optimized_text: NULL graph");
        return NULL;
    }
    cr_plan *plan = cr_plan_for(graph, inputs, input_count);
    if (!plan) return NULL;
    char *text = cr_jit_text(plan->graph);
    cr_plan_release(plan);
    return text;
}
