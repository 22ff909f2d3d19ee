/* Containers, and functions as modules. */
#include "nn/module.h"

/* What lies between two children goes as soon as the second has run, unless its gradient needs it. */
static cr_tensor *sequential_forward(cr_nn_module *self, cr_tensor *input) {
    cr_tensor *x = cr_retain(input);
    for (int i = 0; x && i < self->child_count; i++) {
        cr_tensor *y = NULL;
        CR_SCOPE {
            y = cr_retain(cr_nn_forward(self->children[i].module, x));
        }
        cr_release(x);
        x = y;
    }
    return x ? cr_give(x) : NULL;
}

cr_nn_module *cr_nn_append(cr_nn_module *container, cr_nn_module *child) {
    char name[16];
    snprintf(name, sizeof name, "%d", cr_nn_child_count(container));
    return cr_nn_register(container, name, child);
}

cr_nn_module *cr_nn_sequential_of(cr_nn_module *const *children, int count) {
    cr_nn_module *self = cr_nn_module_new("sequential", 0, sequential_forward);
    bool complete = self != NULL;
    if (!children && count > 0) {
        cr_record_error(CR_ERROR_ARGUMENT, "nn_sequential: no list of %d modules", count);
        return cr_nn_abandon(self);
    }
    for (int i = 0; i < count; i++)
        complete &= cr_nn_append(self, children[i]) != NULL; /* frees those that it cannot take */
    return complete ? self : cr_nn_abandon(self);
}

cr_nn_module *cr_nn_module_list(void) { return cr_nn_module_new("module_list", 0, NULL); }

typedef struct function_module {
    cr_tensor *(*function)(cr_tensor *);
} function_module;

static cr_tensor *function_forward(cr_nn_module *self, cr_tensor *x) {
    return ((function_module *)self->self)->function(x);
}

cr_nn_module *cr_nn_function(const char *type, cr_tensor *(*function)(cr_tensor *)) {
    if (!function) {
        cr_record_error(CR_ERROR_ARGUMENT, "nn_function: NULL function");
        return NULL;
    }
    cr_nn_module *self = cr_nn_module_new(type, sizeof(function_module), function_forward);
    if (self) ((function_module *)self->self)->function = function;
    return self;
}

static cr_tensor *same(cr_tensor *x) { return x; }
cr_nn_module *cr_nn_identity(void) { return cr_nn_function("identity", same); }
