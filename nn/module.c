/* Modules: a tree of named children, parameters and buffers, and running it. */
#include "nn/module.h"

#include <cresset/autograd.h>

#include <stdarg.h>
#include <string.h>

/* ---------------------------------------------------------------- making and ending */
cr_nn_module *cr_nn_module_new(const char *type, size_t bytes, cr_nn_forward_function forward) {
    if (!type || !*type) {
        cr_record_error(CR_ERROR_ARGUMENT, "nn_module_new: a module needs a type, like \"mlp\"");
        return NULL;
    }
    cr_nn_module *module = cr_calloc(1, sizeof *module);
    if (!module) return NULL;
    const size_t frame_bytes = strlen(type) + sizeof "nn.";
    module->own_type = cr_strdup(type);
    module->frame_text = cr_malloc(frame_bytes);
    module->self = bytes ? cr_calloc(1, bytes) : NULL;
    if (!module->own_type || !module->frame_text || (bytes && !module->self)) return cr_nn_abandon(module);
    snprintf(module->frame_text, frame_bytes, "nn.%s", type);
    module->type = module->own_type;
    module->forward = forward;
    module->is_training = true;
    return module;
}

static void free_list(cr_nn_list *list) {
    for (int i = 0; i < list->count; i++)
        cr_free(list->names[i]);
    cr_free(list->names);
    cr_free(list->at);
    *list = (cr_nn_list){0};
}

void cr_nn_free(cr_nn_module *module) {
    if (!module) return;
    if (module->release) module->release(module->self);
    for (int i = 0; i < module->child_count; i++) {
        cr_nn_free(module->children[i].module);
        cr_free(module->children[i].name);
    }
    for (int i = 0; i < module->tensor_count; i++) {
        cr_release(module->tensors[i].tensor);
        cr_free(module->tensors[i].name);
    }
    for (int i = 0; i < CR_NN_LIST_COUNT; i++)
        free_list(&module->lists[i]);
    cr_free(module->children);
    cr_free(module->tensors);
    cr_free(module->hooks);
    cr_free(module->self);
    cr_free(module->description);
    cr_free(module->own_type);
    cr_free(module->frame_text);
    cr_free(module);
}

cr_nn_module *cr_nn_abandon(cr_nn_module *module) {
    cr_nn_free(module);
    return NULL;
}

void *cr_nn_self(const cr_nn_module *module) { return module ? module->self : NULL; }

void cr_nn_on_free(cr_nn_module *module, void (*release)(void *self)) {
    if (module) module->release = release;
}

bool cr_nn_set_description(cr_nn_module *module, const char *format, ...) {
    if (!module) return false;
    char text[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    char *copy = cr_strdup(text);
    if (!copy) return false;
    cr_free(module->description);
    module->description = copy;
    return true;
}

/* ---------------------------------------------------------------- registering */
static bool check_name(const cr_nn_module *module, const char *name) {
    if (!name || !*name || strchr(name, '.'))
        return cr_fail(CR_ERROR_ARGUMENT, "nn.%s: \"%s\" cannot name a part; a name is not empty and has no dot",
                       module->type, name ? name : "NULL");
    for (int i = 0; i < module->child_count; i++)
        if (!strcmp(module->children[i].name, name))
            return cr_fail(CR_ERROR_ARGUMENT, "nn.%s: the name \"%s\" is taken", module->type, name);
    for (int i = 0; i < module->tensor_count; i++)
        if (!strcmp(module->tensors[i].name, name))
            return cr_fail(CR_ERROR_ARGUMENT, "nn.%s: the name \"%s\" is taken", module->type, name);
    return true;
}

static bool is_above(const cr_nn_module *module, const cr_nn_module *candidate) {
    for (; module; module = module->parent)
        if (module == candidate) return true;
    return false;
}

cr_nn_module *cr_nn_register(cr_nn_module *parent, const char *name, cr_nn_module *child) {
    if (!parent || !child) {
        if (cr_ok()) cr_record_error(CR_ERROR_ARGUMENT, "nn_register: NULL module");
        return cr_nn_abandon(child);
    }
    if (child->parent || is_above(parent, child)) { /* somebody owns it: leave it alone */
        cr_record_error(CR_ERROR_STATE, "nn_register: the nn.%s already has a parent; a module has one owner",
                        child->type);
        return NULL;
    }
    if (!check_name(parent, name)) return cr_nn_abandon(child);
    cr_nn_child_entry *grown = cr_realloc(parent->children, (size_t)(parent->child_count + 1) * sizeof *grown);
    if (grown) parent->children = grown;
    char *own_name = grown ? cr_strdup(name) : NULL;
    if (!own_name) return cr_nn_abandon(child);
    parent->children[parent->child_count++] = (cr_nn_child_entry){own_name, child};
    child->parent = parent;
    child->name = own_name;
    return child;
}

static cr_tensor *register_tensor(cr_nn_module *module, const char *name, cr_tensor *t, bool is_parameter,
                                  bool is_persistent) {
    if (!module || !t) {
        if (cr_ok()) cr_record_error(CR_ERROR_ARGUMENT, "nn_register_parameter: NULL module or tensor");
        return NULL;
    }
    if (!cr_tensor_check(t, "nn_register_parameter") || !check_name(module, name)) return NULL;
    if (is_parameter && !cr_requires_grad_(t, true)) return NULL;
    cr_nn_tensor_entry *grown = cr_realloc(module->tensors, (size_t)(module->tensor_count + 1) * sizeof *grown);
    if (grown) module->tensors = grown;
    char *own_name = grown ? cr_strdup(name) : NULL;
    if (!own_name) return NULL;
    module->tensors[module->tensor_count++] = (cr_nn_tensor_entry){own_name, cr_retain(t), is_parameter, is_persistent};
    return t;
}

cr_tensor *cr_nn_register_parameter(cr_nn_module *module, const char *name, cr_tensor *parameter) {
    return register_tensor(module, name, parameter, true, true);
}

cr_tensor *cr_nn_register_buffer(cr_nn_module *module, const char *name, cr_tensor *buffer, bool persistent) {
    return register_tensor(module, name, buffer, false, persistent);
}

/* ---------------------------------------------------------------- running */
static cr_tensor *run_hooks(cr_nn_module *module, cr_tensor *input, cr_tensor *output) {
    for (int i = 0; output && i < module->hook_count; i++)
        output = module->hooks[i].hook(module, input, output, module->hooks[i].context);
    return output;
}

cr_tensor *cr_nn_forward(cr_nn_module *module, cr_tensor *input) {
    if (!module || !input) {
        if (cr_ok()) cr_record_error(CR_ERROR_ARGUMENT, "nn_forward: the %s is NULL", module ? "input" : "module");
        return NULL;
    }
    cr_thread *thread = cr_thread_self();
    cr_frame frame;
    cr_frame_push(thread, &frame, module->frame_text, module->name);
    cr_scope_mark scope = cr_scope_open(__FILE__, __LINE__);
    cr_tensor *output = NULL;
    if (module->forward)
        output = cr_keep(run_hooks(module, input, module->forward(module, input)));
    else
        cr_record_error(CR_ERROR_STATE, "this module has no forward; call its children");
    cr_scope_close(&scope);
    cr_frame_pop(thread, &frame);
    return output;
}

int cr_nn_register_forward_hook(cr_nn_module *module, cr_nn_hook hook, void *context) {
    static _Atomic int next_handle = 1;
    if (!module || !hook) {
        cr_record_error(CR_ERROR_ARGUMENT, "nn_register_forward_hook: NULL module or hook");
        return 0;
    }
    cr_nn_hook_entry *grown = cr_realloc(module->hooks, (size_t)(module->hook_count + 1) * sizeof *grown);
    if (!grown) return 0;
    module->hooks = grown;
    module->hooks[module->hook_count] = (cr_nn_hook_entry){next_handle++, hook, context};
    return module->hooks[module->hook_count++].handle;
}

bool cr_nn_remove_hook(cr_nn_module *module, int handle) {
    for (int i = 0; module && i < module->hook_count; i++) {
        if (module->hooks[i].handle != handle) continue;
        memmove(&module->hooks[i], &module->hooks[i + 1],
                (size_t)(module->hook_count - i - 1) * sizeof module->hooks[0]);
        module->hook_count--;
        return true;
    }
    return cr_fail(CR_ERROR_ARGUMENT, "nn_remove_hook: there is no hook %d", handle);
}

/* ---------------------------------------------------------------- the tree */
const char *cr_nn_type(const cr_nn_module *module) { return module ? module->type : ""; }
int cr_nn_child_count(const cr_nn_module *module) { return module ? module->child_count : 0; }

cr_nn_module *cr_nn_child(const cr_nn_module *module, int index) {
    return module && index >= 0 && index < module->child_count ? module->children[index].module : NULL;
}
const char *cr_nn_child_name(const cr_nn_module *module, int index) {
    return module && index >= 0 && index < module->child_count ? module->children[index].name : NULL;
}

static cr_nn_module *child_named(const cr_nn_module *module, const char *name, size_t length) {
    for (int i = 0; i < module->child_count; i++)
        if (strlen(module->children[i].name) == length && !memcmp(module->children[i].name, name, length))
            return module->children[i].module;
    return NULL;
}

cr_nn_module *cr_nn_find(cr_nn_module *module, const char *path) {
    while (module && path && *path) {
        const size_t length = strcspn(path, ".");
        module = child_named(module, path, length);
        path += length + (path[length] == '.');
    }
    return module;
}

cr_tensor *cr_nn_tensor(cr_nn_module *module, const char *path) {
    for (const char *dot; module && path && (dot = strchr(path, '.')); path = dot + 1)
        module = child_named(module, path, (size_t)(dot - path));
    for (int i = 0; module && path && i < module->tensor_count; i++)
        if (!strcmp(module->tensors[i].name, path)) return module->tensors[i].tensor;
    return NULL;
}

static bool visit_tree(cr_nn_module *module, char *path, size_t used, size_t size,
                       bool (*visit)(cr_nn_module *, const char *, void *), void *context) {
    if (!visit(module, path, context)) return false;
    for (int i = 0; i < module->child_count; i++) {
        const int written = snprintf(path + used, size - used, "%s%s", used ? "." : "", module->children[i].name);
        if (written < 0 || (size_t)written >= size - used)
            return cr_fail(CR_ERROR_ARGUMENT, "nn: a module's path is longer than %zu bytes", size);
        if (!visit_tree(module->children[i].module, path, used + (size_t)written, size, visit, context)) return false;
        path[used] = '\0';
    }
    return true;
}

bool cr_nn_apply(cr_nn_module *module, bool (*visit)(cr_nn_module *module, const char *path, void *context),
                 void *context) {
    char path[1024] = "";
    if (!module || !visit) return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "nn_apply: NULL module or function");
    return visit_tree(module, path, 0, sizeof path, visit, context);
}

/* ---------------------------------------------------------------- lists of tensors */
typedef struct listing {
    cr_nn_list *list;
    int kind;
} listing;

static bool list_has(const cr_nn_list *list, const cr_tensor *t) {
    for (int i = 0; i < list->count; i++)
        if (list->at[i] == t) return true;
    return false;
}

static bool list_add(cr_nn_list *list, cr_tensor *t, const char *path, const char *name) {
    if (list->count == list->capacity) {
        const int capacity = list->capacity ? list->capacity * 2 : 32;
        cr_tensor **at = cr_realloc(list->at, (size_t)capacity * sizeof *at);
        if (at) list->at = at;
        char **names = at ? cr_realloc(list->names, (size_t)capacity * sizeof *names) : NULL;
        if (!names) return false;
        list->names = names;
        list->capacity = capacity;
    }
    const size_t bytes = strlen(path) + strlen(name) + 2;
    char *full = cr_malloc(bytes);
    if (!full) return false;
    snprintf(full, bytes, "%s%s%s", path, *path ? "." : "", name);
    list->at[list->count] = t;
    list->names[list->count++] = full;
    return true;
}

static bool list_module(cr_nn_module *module, const char *path, void *context) {
    const listing *wanted = context;
    for (int i = 0; i < module->tensor_count; i++) {
        const cr_nn_tensor_entry *entry = &module->tensors[i];
        const bool fits = wanted->kind == CR_NN_LIST_PARAMETERS ? entry->is_parameter
                          : wanted->kind == CR_NN_LIST_BUFFERS  ? !entry->is_parameter
                                                                : entry->is_persistent;
        if (!fits || (wanted->kind != CR_NN_LIST_STATE && list_has(wanted->list, entry->tensor))) continue;
        if (!list_add(wanted->list, entry->tensor, path, entry->name)) return false;
    }
    return true;
}

static cr_nn_tensors list_tensors(cr_nn_module *module, int kind) {
    if (!module) return (cr_nn_tensors){NULL, NULL, 0};
    cr_nn_list *list = &module->lists[kind];
    free_list(list);
    if (!cr_nn_apply(module, list_module, &(listing){list, kind})) free_list(list);
    return (cr_nn_tensors){list->at, (const char *const *)list->names, list->count};
}

cr_nn_tensors cr_nn_parameters(cr_nn_module *module) { return list_tensors(module, CR_NN_LIST_PARAMETERS); }
cr_nn_tensors cr_nn_buffers(cr_nn_module *module) { return list_tensors(module, CR_NN_LIST_BUFFERS); }
cr_nn_tensors cr_nn_state(cr_nn_module *module) { return list_tensors(module, CR_NN_LIST_STATE); }

int64_t cr_nn_parameter_count(cr_nn_module *module) {
    const cr_nn_tensors parameters = cr_nn_parameters(module);
    int64_t total = 0;
    for (int i = 0; i < parameters.count; i++)
        total += cr_numel(parameters.at[i]);
    return total;
}

/* ---------------------------------------------------------------- modes */
static bool set_training(cr_nn_module *module, const char *path, void *context) {
    (void)path;
    module->is_training = *(const bool *)context;
    return true;
}
cr_nn_module *cr_nn_train(cr_nn_module *module, bool training) {
    if (module) cr_nn_apply(module, set_training, &training);
    return module;
}
cr_nn_module *cr_nn_eval(cr_nn_module *module) { return cr_nn_train(module, false); }
bool cr_nn_is_training(const cr_nn_module *module) { return module && module->is_training; }

bool cr_nn_requires_grad_(cr_nn_module *module, bool requires_grad) {
    const cr_nn_tensors parameters = cr_nn_parameters(module);
    for (int i = 0; i < parameters.count; i++)
        if (!cr_requires_grad_(parameters.at[i], requires_grad)) return false;
    return module != NULL;
}

void cr_nn_zero_grad(cr_nn_module *module) {
    const cr_nn_tensors parameters = cr_nn_parameters(module);
    for (int i = 0; i < parameters.count; i++)
        cr_set_grad(parameters.at[i], NULL);
}
