/* What a program's file holds for its plans: reading it, and gathering it for a file. */
#include "jit/prepared.h"

#include "core/tensor.h"
#include "jit/pass.h"

#include <stdlib.h>

static const char kernels[] =
#include "kernels_digest.inc"
    ;

void cr_prepared_name(char name[CR_PREPARED_NAME], int index) {
    snprintf(name, CR_PREPARED_NAME, CR_PREPARED_KEY ".%d", index);
}

/* ---------------------------------------------------------------- reading */
struct cr_prepared {
    cr_safetensors *file; /* the graph's */
    char *text;           /* its metadata, cut into lines */
    const char **recipes;
    int *tensors;
    int count;
};

void cr_prepared_free(cr_prepared *prepared) {
    if (!prepared) return;
    cr_free(prepared->text);
    cr_free(prepared->recipes);
    cr_free(prepared->tensors);
    cr_free(prepared);
}

static bool read_line(cr_prepared *prepared, char *line) {
    char *end, name[CR_PREPARED_NAME];
    const long index = strtol(line, &end, 10);
    cr_prepared_name(name, (int)index);
    if (end == line || *end != ' ' || index < 0 || index >= cr_safetensors_count(prepared->file) ||
        !cr_safetensors_has(prepared->file, name))
        return cr_fail(CR_ERROR_FORMAT, "jit_load: what the file holds for plans names no tensor of it: \"%.80s\"",
                       line);
    prepared->tensors[prepared->count] = (int)index;
    prepared->recipes[prepared->count++] = end + 1;
    return true;
}

/* `at`: the lines behind the first. */
static bool read_lines(cr_prepared *prepared, char *at) {
    size_t lines = 1;
    for (const char *c = at; *c; c++)
        lines += *c == '\n';
    prepared->recipes = cr_calloc(lines, sizeof *prepared->recipes);
    prepared->tensors = cr_calloc(lines, sizeof *prepared->tensors);
    bool done = prepared->recipes && prepared->tensors;
    for (char *next; done && *at; at = next) {
        next = at + strcspn(at, "\n");
        if (*next) *next++ = '\0';
        done = read_line(prepared, at);
    }
    return done;
}

static void add_head(cr_text *text) {
    cr_text_add(text, "cresset prepared 1 for %s kernels %s\n", cr_cpu_capability(), kernels);
}

/* True where the text was written by kernels like ours; else the graph warns. */
static bool is_ours(cr_graph *graph, const char *text) {
    cr_text head = {0};
    add_head(&head);
    char *ours = cr_text_end(&head);
    const bool same = ours && !strncmp(text, ours, strlen(ours));
    if (ours && !same)
        cr_graph_warn(
            graph,
            "the file is \"%.*s\", here it would be \"%.*s\": weights are packed anew; `cresset prepare` makes "
            "a file for these kernels",
            (int)strcspn(text, "\n"), text, (int)strcspn(ours, "\n"), ours);
    cr_free(ours);
    return same;
}

bool cr_prepared_read(cr_graph *graph) {
    const char *text = cr_safetensors_metadata(graph->file, CR_PREPARED_KEY);
    if (!text || !is_ours(graph, text)) return cr_ok();
    cr_prepared *prepared = graph->prepared = cr_calloc(1, sizeof *prepared);
    if (!prepared || !(prepared->text = cr_strdup(text))) return false;
    prepared->file = graph->file;
    return read_lines(prepared, strchr(prepared->text, '\n') + 1);
}

bool cr_prepared_find(const cr_prepared *prepared, const char *recipe, const cr_tensor *shown, cr_tensor **found) {
    char name[CR_PREPARED_NAME], is[224], must[224];
    *found = NULL;
    for (int i = 0; i < prepared->count; i++) {
        if (strcmp(prepared->recipes[i], recipe) != 0) continue;
        cr_prepared_name(name, prepared->tensors[i]);
        cr_tensor *t = cr_safetensors_tensor(prepared->file, name);
        if (!t) return false;
        if (t->dtype != shown->dtype || !cr_tensor_same_sizes(t, shown) || !cr_is_contiguous(shown))
            return cr_fail(CR_ERROR_FORMAT, "jit: \"%s\" of the program's file is %s, it must be %s: %.200s", name,
                           cr_describe(t, is), cr_describe(shown, must), recipe);
        *found = t;
        return true;
    }
    return true;
}

/* ---------------------------------------------------------------- gathering */
static bool same_numbers(const cr_tensor *a, const cr_tensor *b) {
    return a->dtype == b->dtype && cr_tensor_same_sizes(a, b) &&
           !memcmp(cr_tensor_address(a), cr_tensor_address(b), (size_t)a->numel * cr_dtype_size((cr_dtype)a->dtype));
}

/* The number of the tensor, or -1. */
static int place(cr_preparation *made, cr_tensor *t) {
    for (int i = 0; i < made->count; i++)
        if (same_numbers(made->tensors[i], t)) return i;
    cr_tensor **grown = cr_realloc(made->tensors, (size_t)(made->count + 1) * sizeof *grown);
    if (!grown) return -1;
    made->tensors = grown;
    grown[made->count] = cr_retain(t);
    return made->count++;
}

/* A view of a weight is not worth its bytes; only dense tensors can be in a file. */
static bool is_new(const cr_graph *graph, const cr_tensor *t) {
    for (int i = 0; i < graph->recipes->state_count; i++)
        if (graph->states[i].tensor && graph->states[i].tensor->storage == t->storage) return false;
    return t->device.type == CR_DEVICE_CPU && t->numel && cr_is_contiguous(t);
}

static bool add(cr_preparation *made, const cr_recipe *recipe) {
    for (int i = 0; i < made->recipe_count; i++)
        if (!strcmp(made->recipes[i], recipe->text)) return true;
    char **grown = cr_realloc(made->recipes, (size_t)(made->recipe_count + 1) * sizeof *grown);
    if (!grown) return false;
    made->recipes = grown;
    if (!(grown[made->recipe_count] = cr_strdup(recipe->text))) return false;
    made->recipe_count++;
    const int index = place(made, recipe->tensor);
    cr_text_add(&made->text, "%d ", index);
    cr_text_add_all(&made->text, recipe->text);
    cr_text_add(&made->text, "\n");
    return index >= 0;
}

static bool gather(cr_preparation *made, cr_graph *graph) {
    cr_graph_count_uses(graph);
    for (int i = 0; i < graph->recipes->count; i++) {
        const cr_recipe *recipe = &graph->recipes->list[i];
        if (recipe->is_large && cr_recipe_is_read(graph, recipe) && is_new(graph, recipe->tensor) &&
            !strchr(recipe->text, '\n') && !add(made, recipe))
            return false;
    }
    return true;
}

/* As the graph will be when it is loaded. */
static bool is_frozen_when_loaded(const cr_graph *graph) {
    for (int i = 0; i < graph->state_count; i++)
        if (graph->states[i].update) return graph->is_frozen;
    return true;
}

static bool make_for(cr_preparation *made, const cr_graph *graph, const char *sizes) {
    cr_graph *copy = cr_graph_copy(graph);
    if (!copy) return false;
    copy->is_frozen = is_frozen_when_loaded(graph);
    const bool done = cr_graph_set_sizes(copy, sizes, "jit_save: prepare") && cr_graph_bind(copy) &&
                      cr_recipes_begin(copy, NULL) && cr_graph_optimize(copy) && gather(made, copy);
    const bool ended = cr_recipes_end(copy);
    cr_jit_free(copy);
    return done && ended;
}

bool cr_preparation_make(cr_preparation *made, const cr_graph *graph, const char *sizes) {
    char *text = cr_strdup(sizes), *at = text;
    bool done = text != NULL;
    add_head(&made->text);
    for (char *end = at; done && end; at = end + 1) {
        end = strchr(at, ';');
        if (end) *end = '\0';
        CR_SCOPE {
            done = make_for(made, graph, at);
        }
    }
    cr_free(text);
    return done && (!made->text.failed || cr_fail(CR_ERROR_MEMORY, "jit_save: no memory for the recipes"));
}

void cr_preparation_free(cr_preparation *made) {
    for (int i = 0; i < made->recipe_count; i++)
        cr_free(made->recipes[i]);
    for (int i = 0; i < made->count; i++)
        cr_release(made->tensors[i]);
    cr_free(made->recipes);
    cr_free(made->tensors);
    cr_free(made->text.at);
}
