/* Constants that are known before they are computed. */
#include "jit/recipes.h"

#include "core/tensor.h"
#include "core/text.h"
#include "jit/pass.h"
#include "jit/prepared.h"

enum {
    LARGE = 4096,    /* bytes; what is made of less is computed again */
    HASHED = 65536,  /* bytes of an operand without a name that are read to tell it from others */
    TEXT_MOST = 1024 /* of an operand's recipe within another; longer ones are hashed */
};

static size_t bytes_of(const cr_tensor *t) { return t ? (size_t)t->numel * cr_dtype_size((cr_dtype)t->dtype) : 0; }

/* ---------------------------------------------------------------- the text */
/* FNV-1a's steps, eight bytes at a time. */
static uint64_t hash_of(const void *bytes, size_t count) {
    uint64_t hash = 0xcbf29ce484222325u, word;
    for (size_t at = 0; at < count; at += sizeof word) {
        word = 0;
        memcpy(&word, (const char *)bytes + at, count - at < sizeof word ? count - at : sizeof word);
        hash = (hash ^ word) * 0x100000001b3u;
        hash ^= hash >> 29;
    }
    return hash ^ count;
}

static cr_recipe *recipe_of(const cr_graph *graph, const cr_tensor *t) {
    for (int i = 0; graph->recipes && i < graph->recipes->count; i++)
        if (graph->recipes->list[i].tensor == t) return &graph->recipes->list[i];
    return NULL;
}

/* The state that the tensor is, as the file has it: nobody has written to it since. */
static const char *name_of(const cr_graph *graph, const cr_tensor *t) {
    for (int i = 0; i < graph->recipes->state_count; i++)
        if (graph->states[i].tensor == t)
            return graph->recipes->prepared && atomic_load(&t->storage->version) ? NULL : graph->states[i].name;
    return NULL;
}

/* False where nothing is known of the operand. */
static bool add_operand(cr_text *text, const cr_graph *graph, cr_tensor *t) {
    char shape[192];
    if (!t) return cr_text_add(text, "-"), true;
    const cr_recipe *recipe = recipe_of(graph, t);
    const char *name = recipe ? NULL : name_of(graph, t);
    if (recipe && strlen(recipe->text) <= TEXT_MOST)
        cr_text_add_all(text, recipe->text);
    else if (recipe)
        cr_text_add(text, "recipe %016llx", (unsigned long long)hash_of(recipe->text, strlen(recipe->text)));
    else if (name)
        cr_graph_add_name(text, name);
    else if (bytes_of(t) <= HASHED && t->device.type == CR_DEVICE_CPU && cr_is_contiguous(t))
        cr_text_add(text, "%s%s %016llx", cr_dtype_name((cr_dtype)t->dtype), cr_shape_format(cr_tensor_shape(t), shape),
                    (unsigned long long)hash_of(t->numel ? cr_tensor_address(t) : NULL, bytes_of(t)));
    else
        return false;
    return true;
}

/* "pack_columns("fc.weight") rows=1 transposed=true", in the graph's memory. False on failure; `*text` is NULL where an
 * operand cannot be told. */
static bool write_text(cr_graph *graph, const char *what, const char *numbers, cr_tensor *const *inputs, int count,
                       const char **text) {
    cr_text written = {0};
    bool known = true;
    *text = NULL;
    cr_text_add(&written, "%s(", what);
    for (int i = 0; known && i < count; i++) {
        cr_text_add(&written, i ? ", " : "");
        known = add_operand(&written, graph, inputs[i]);
    }
    cr_text_add(&written, ")%s%s", *numbers ? " " : "", numbers);
    char *whole = cr_text_end(&written);
    if (whole && known) *text = cr_graph_text_copy(graph, whole);
    cr_free(whole);
    return whole && (*text || !known);
}

/* ---------------------------------------------------------------- results */
/* Computes what has no memory yet. */
static bool fill(cr_graph *graph, cr_tensor *t) {
    if (!t || !cr_tensor_is_hollow(t)) return true;
    cr_recipe *recipe = recipe_of(graph, t);
    if (!recipe) return cr_fail(CR_ERROR_STATE, "jit: a constant without numbers");
    for (int i = 0; i < recipe->input_count; i++)
        if (!fill(graph, recipe->inputs[i])) return false;
    bool done = false;
    CR_SCOPE {
        cr_tensor *made = recipe->compute(recipe->context, recipe->inputs, recipe->input_count);
        if ((done = made != NULL)) cr_tensor_set_data(t, made);
    }
    return done;
}

bool cr_graph_want(cr_graph *graph, cr_tensor *t) {
    cr_recipe *recipe = t && graph->recipes ? recipe_of(graph, t) : NULL;
    if (recipe) recipe->is_wanted = true;
    return fill(graph, t);
}

static cr_tensor *compute_now(cr_graph *graph, cr_computation compute, const void *context, cr_tensor *const *inputs,
                              int count) {
    for (int i = 0; i < count; i++)
        if (!cr_graph_want(graph, inputs[i])) return NULL;
    return compute(context, inputs, count);
}

/* Its sizes alone. */
static cr_tensor *compute_dry(cr_computation compute, const void *context, cr_tensor *const *inputs, int count) {
    cr_thread *thread = cr_thread_self();
    const bool dry = thread->dry_run;
    thread->dry_run = true;
    cr_tensor *shown = compute(context, inputs, count);
    thread->dry_run = dry;
    return shown;
}

static bool remember(cr_graph *graph, const cr_recipe *recipe) {
    cr_recipes *recipes = graph->recipes;
    cr_recipe *grown = cr_pool_grow(&graph->pool, recipes->list, recipes->count, sizeof *grown);
    cr_tensor **inputs = cr_pool_allocate(&graph->pool, (size_t)recipe->input_count * sizeof *inputs + 1);
    if (!grown || !inputs) return false;
    recipes->list = grown;
    grown[recipes->count] = *recipe;
    grown[recipes->count++].inputs = inputs;
    cr_retain(recipe->tensor);
    for (int i = 0; i < recipe->input_count; i++)
        inputs[i] = recipe->inputs[i] ? cr_retain(recipe->inputs[i]) : NULL;
    return true;
}

/* `recipe` has all but the result. */
static cr_tensor *compute_known(cr_graph *graph, cr_recipe *recipe) {
    const cr_recipe *r = recipe;
    cr_tensor *t = compute_dry(r->compute, r->context, r->inputs, r->input_count);
    size_t bytes = bytes_of(t);
    for (int i = 0; i < r->input_count; i++)
        bytes += bytes_of(r->inputs[i]);
    recipe->is_large = bytes >= LARGE;
    if (!t) return NULL;
    if (!recipe->is_large) {
        t = compute_now(graph, r->compute, r->context, r->inputs, r->input_count);
    } else if (!graph->recipes->prepared) {
        t = r->compute(r->context, r->inputs, r->input_count);
    } else {
        cr_tensor *found;
        if (!cr_prepared_find(graph->recipes->prepared, r->text, t, &found)) return NULL;
        if (found) t = found;
    }
    recipe->tensor = t;
    return t && remember(graph, recipe) ? t : NULL;
}

cr_tensor *cr_graph_compute(cr_graph *graph, const char *what, const char *numbers, cr_computation compute,
                            const void *context, size_t context_bytes, cr_tensor *const *inputs, int count) {
    cr_recipe recipe = {.compute = compute, .inputs = (cr_tensor **)(uintptr_t)inputs, .input_count = count};
    if (!graph->recipes) return compute(context, inputs, count);
    if (!write_text(graph, what, numbers, inputs, count, &recipe.text)) return NULL;
    if (!recipe.text) return compute_now(graph, compute, context, inputs, count);
    if (!(recipe.context = cr_pool_allocate(&graph->pool, context_bytes + 1))) return NULL;
    if (context_bytes) memcpy(recipe.context, context, context_bytes);
    return compute_known(graph, &recipe);
}

/* ---------------------------------------------------------------- an op */
typedef struct op_context {
    const cr_op *op;
    _Alignas(16) char attributes[];
} op_context;

static cr_tensor *run_op(const void *context, cr_tensor *const *inputs, int count) {
    const op_context *c = context;
    return cr_run((cr_op *)(uintptr_t)c->op, inputs, count, c->op->attribute_bytes ? c->attributes : NULL);
}

cr_tensor *cr_graph_compute_op(cr_graph *graph, const cr_op *op, const void *attributes, cr_tensor *const *inputs,
                               int count) {
    if (!graph->recipes) return cr_run((cr_op *)(uintptr_t)op, inputs, count, attributes);
    const size_t bytes = sizeof(op_context) + op->attribute_bytes;
    op_context *context = cr_pool_allocate(&graph->pool, bytes);
    if (!attributes) attributes = op->defaults;
    char *numbers = context ? cr_attributes_print(op, attributes) : NULL;
    if (!numbers) return NULL;
    context->op = op;
    if (op->attribute_bytes) memcpy(context->attributes, attributes, op->attribute_bytes);
    cr_tensor *result = cr_graph_compute(graph, op->name, numbers, run_op, context, bytes, inputs, count);
    cr_free(numbers);
    return result;
}

/* ---------------------------------------------------------------- begin and end */
bool cr_recipes_begin(cr_graph *graph, const struct cr_prepared *prepared) {
    graph->recipes = cr_pool_allocate(&graph->pool, sizeof *graph->recipes);
    if (graph->recipes) *graph->recipes = (cr_recipes){.prepared = prepared, .state_count = graph->state_count};
    return graph->recipes != NULL;
}

static bool is_state(const cr_graph *graph, const cr_tensor *t) {
    for (int i = 0; i < graph->state_count; i++)
        if (graph->states[i].tensor == t && graph->states[i].value->uses) return true;
    return false;
}

bool cr_recipe_is_read(const cr_graph *graph, const cr_recipe *recipe) {
    return recipe->is_wanted || is_state(graph, recipe->tensor);
}

bool cr_recipes_end(cr_graph *graph) {
    cr_recipes *recipes = graph->recipes;
    cr_thread *thread = cr_thread_self();
    const bool paused = thread->listeners_paused;
    bool done = true;
    if (!recipes) return true;
    thread->listeners_paused = true;
    cr_graph_count_uses(graph);
    for (int i = 0; done && i < graph->state_count; i++)
        if (graph->states[i].value->uses) done = fill(graph, graph->states[i].tensor);
    for (int i = 0; i < recipes->count; i++) {
        for (int k = 0; k < recipes->list[i].input_count; k++)
            cr_release(recipes->list[i].inputs[k]);
        cr_release(recipes->list[i].tensor);
    }
    thread->listeners_paused = paused;
    graph->recipes = NULL;
    return done;
}
