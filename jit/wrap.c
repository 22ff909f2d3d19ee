/* Functions that trace themselves: a bounded cache of graphs by signature. */
#include "jit/trace.h"

#include <cresset/autograd.h>

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct signature {
    cr_dtype dtype;
    cr_device device;
    cr_shape shape;
} signature;

typedef struct cached {
    cr_graph *graph; /* NULL: the function cannot be traced with this signature; it is called */
    signature *inputs;
    int input_count;
    bool grad_enabled;
    int users;
    struct cached *next;
} cached;

struct cr_jit_wrapped {
    cr_jit_function function;
    void *context;
    int capacity;
    cr_nn_module **modules;
    int module_count;
    pthread_mutex_t lock;
    cached *entries; /* the last used first */
    char *reason;    /* why the last signature could not be traced, or NULL */
};

cr_jit_wrapped *cr_jit_wrap(cr_jit_function function, void *context, cr_nn_module *const *modules, int module_count,
                            int capacity) {
    if (!function || capacity < 1 || module_count < 0 || (module_count && !modules)) {
        cr_record_error(CR_ERROR_ARGUMENT,
                        "jit_wrap: NULL function or modules, or a capacity of %d; it must be 1 or more", capacity);
        return NULL;
    }
    cr_jit_wrapped *wrapped = cr_calloc(1, sizeof *wrapped);
    if (!wrapped) return NULL;
    *wrapped =
        (cr_jit_wrapped){.function = function, .context = context, .capacity = capacity, .module_count = module_count};
    wrapped->modules = cr_calloc((size_t)module_count + 1, sizeof *wrapped->modules);
    if (!wrapped->modules) {
        cr_free(wrapped);
        return NULL;
    }
    if (module_count) memcpy(wrapped->modules, modules, (size_t)module_count * sizeof *modules);
    pthread_mutex_init(&wrapped->lock, NULL);
    return wrapped;
}

static void free_entry(cached *entry) {
    if (!entry) return;
    cr_jit_free(entry->graph);
    cr_free(entry->inputs);
    cr_free(entry);
}

void cr_jit_unwrap(cr_jit_wrapped *wrapped) {
    if (!wrapped) return;
    for (cached *entry = wrapped->entries, *next; entry; entry = next) {
        next = entry->next;
        free_entry(entry);
    }
    pthread_mutex_destroy(&wrapped->lock);
    cr_free(wrapped->modules);
    cr_free(wrapped->reason);
    cr_free(wrapped);
}

const char *cr_jit_wrap_reason(const cr_jit_wrapped *wrapped) { return wrapped ? wrapped->reason : NULL; }

/* ---------------------------------------------------------------- signatures */
static signature signature_of(const cr_tensor *t) {
    return (signature){(cr_dtype)t->dtype, t->device, cr_tensor_shape(t)};
}

static bool matches(const cached *entry, cr_tensor *const *inputs, int count) {
    if (entry->input_count != count || entry->grad_enabled != cr_grad_enabled()) return false;
    for (int i = 0; i < count; i++) {
        const signature *s = &entry->inputs[i];
        if (s->dtype != (cr_dtype)inputs[i]->dtype || !cr_device_equal(s->device, inputs[i]->device) ||
            !cr_shape_equal(s->shape, cr_tensor_shape(inputs[i])))
            return false;
    }
    return true;
}

/* The entry for these inputs, moved to the front, with one more user; NULL where there is none. */
static cached *find(cr_jit_wrapped *wrapped, cr_tensor *const *inputs, int count) {
    pthread_mutex_lock(&wrapped->lock);
    cached **at = &wrapped->entries;
    while (*at && !matches(*at, inputs, count))
        at = &(*at)->next;
    cached *entry = *at;
    if (entry) {
        *at = entry->next;
        entry->next = wrapped->entries;
        wrapped->entries = entry;
        entry->users++;
    }
    pthread_mutex_unlock(&wrapped->lock);
    return entry;
}

static void evict(cr_jit_wrapped *wrapped) {
    int count = 0;
    cached **oldest = NULL;
    for (cached **at = &wrapped->entries; *at; at = &(*at)->next, count++)
        if (count > 0 && (*at)->users == 0) oldest = at;
    if (count <= wrapped->capacity || !oldest) return;
    cached *gone = *oldest;
    *oldest = gone->next;
    free_entry(gone);
}

static void insert(cr_jit_wrapped *wrapped, cached *entry) {
    pthread_mutex_lock(&wrapped->lock);
    entry->next = wrapped->entries;
    wrapped->entries = entry;
    evict(wrapped);
    pthread_mutex_unlock(&wrapped->lock);
}

/* ---------------------------------------------------------------- calls */
static cached *new_entry(cr_tensor *const *inputs, int count) {
    cached *entry = cr_calloc(1, sizeof *entry);
    if (!entry) return NULL;
    entry->inputs = cr_calloc((size_t)count + 1, sizeof *entry->inputs);
    entry->input_count = count;
    entry->grad_enabled = cr_grad_enabled();
    for (int i = 0; entry->inputs && i < count; i++)
        entry->inputs[i] = signature_of(inputs[i]);
    if (entry->inputs) return entry;
    cr_free(entry);
    return NULL;
}

/* The graph, or NULL where its function must go on being called: a warning says that the next call may decide
 * otherwise, or there is no plan for it. */
static cr_graph *keep_if_sound(cr_jit_wrapped *wrapped, cr_graph *graph, bool *again) {
    cr_jit_memory memory;
    *again = false;
    const bool planned = graph->warning_count == 0 && cr_jit_memory_of(graph, NULL, 0, &memory);
    if (planned) return graph;
    *again = !cr_ok() && cr_last_error()->code == CR_ERROR_MEMORY;
    char *reason = cr_strdup(graph->warning_count ? graph->warnings[0] : cr_ok() ? "" : cr_last_error()->message);
    cr_clear_error();
    pthread_mutex_lock(&wrapped->lock);
    cr_free(wrapped->reason);
    wrapped->reason = reason;
    pthread_mutex_unlock(&wrapped->lock);
    cr_jit_free(graph);
    return NULL;
}

/* The first call with a signature: it runs the function, and traces it. */
static bool trace(cr_jit_wrapped *wrapped, cr_tensor *const *inputs, int input_count, cr_tensor **outputs,
                  int output_count) {
    const cr_jit_subject subject = {wrapped->function, wrapped->context, input_count,
                                    output_count,      wrapped->modules, wrapped->module_count};
    cr_graph *graph = cr_jit_trace_subject(&subject, inputs, outputs, NULL);
    if (!graph) return false;
    cached *entry = new_entry(inputs, input_count);
    if (!entry) {
        cr_jit_free(graph);
        return false;
    }
    bool again;
    entry->graph = keep_if_sound(wrapped, graph, &again);
    if (again)
        free_entry(entry); /* memory may be there next time */
    else
        insert(wrapped, entry);
    return true;
}

bool cr_jit_call(cr_jit_wrapped *wrapped, cr_tensor *const *inputs, int input_count, cr_tensor **outputs,
                 int output_count) {
    if (!wrapped || (input_count && !inputs) || (output_count && !outputs))
        return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "jit_call: NULL function, inputs or outputs");
    for (int i = 0; i < input_count; i++)
        if (!inputs[i] || !cr_tensor_check(inputs[i], "jit_call"))
            return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "jit_call: input %d is NULL", i);
    const char *wanted = getenv("CR_JIT");
    const bool plain = (wanted && !strcmp(wanted, "0")) || cr_thread_self()->tracer;
    cached *entry = plain ? NULL : find(wrapped, inputs, input_count);
    if (!plain && !entry) return trace(wrapped, inputs, input_count, outputs, output_count);
    const bool done = entry && entry->graph
                          ? cr_jit_run(entry->graph, inputs, input_count, outputs, output_count)
                          : wrapped->function(wrapped->context, inputs, input_count, outputs, output_count);
    if (entry) {
        pthread_mutex_lock(&wrapped->lock);
        entry->users--;
        pthread_mutex_unlock(&wrapped->lock);
    }
    return done;
}
