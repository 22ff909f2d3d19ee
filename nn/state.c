/* The state dict as a safetensors file. */
#include "nn/module.h"

#include <cresset/autograd.h>

#include <string.h>

bool cr_nn_save(cr_nn_module *module, const char *path) {
    if (!module || !path) return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "nn_save: NULL module or path");
    const cr_nn_tensors state = cr_nn_state(module);
    cr_named_tensor *rows = cr_calloc((size_t)state.count + 1, sizeof *rows);
    if (!rows) return false;
    for (int i = 0; i < state.count; i++)
        rows[i] = (cr_named_tensor){state.names[i], state.at[i]};
    const cr_text_pair metadata = {"format", "pt"}; /* what other readers expect of PyTorch's names and layouts */
    const bool saved = cr_safetensors_save(path, rows, state.count, &metadata, 1);
    cr_free(rows);
    return saved;
}

/* Appends ", name" to a bounded text. */
static void list_name(char *text, size_t size, const char *name) {
    const size_t used = strlen(text);
    if (used + strlen(name) + 8 < size)
        snprintf(text + used, size - used, "%s%s", used ? ", " : "", name);
    else if (used + 5 < size && strcmp(text + used - 3, "...") != 0)
        snprintf(text + used, size - used, ", ...");
}

static bool state_has(const cr_nn_tensors *state, const char *name) {
    for (int i = 0; i < state->count; i++)
        if (!strcmp(state->names[i], name)) return true;
    return false;
}

static bool check_names(const cr_nn_tensors *state, cr_safetensors *file, const char *path) {
    char missing[400] = "", unexpected[400] = "";
    for (int i = 0; i < state->count; i++)
        if (!cr_safetensors_has(file, state->names[i])) list_name(missing, sizeof missing, state->names[i]);
    for (int i = 0; i < cr_safetensors_count(file); i++)
        if (!state_has(state, cr_safetensors_name(file, i)))
            list_name(unexpected, sizeof unexpected, cr_safetensors_name(file, i));
    if (!*missing && !*unexpected) return true;
    return cr_fail(CR_ERROR_FORMAT, "nn_load: %s does not fit the module%s%s%s%s", path, *missing ? "; missing: " : "",
                   missing, *unexpected ? "; unexpected: " : "", unexpected);
}

/* All shapes fit: nothing has been written yet. */
static bool check_shapes(const cr_nn_tensors *state, cr_safetensors *file, cr_tensor **loaded) {
    for (int i = 0; i < state->count; i++) {
        loaded[i] = NULL;
        if (!cr_safetensors_has(file, state->names[i])) continue;
        if (!(loaded[i] = cr_safetensors_tensor(file, state->names[i]))) return false;
        if (!cr_shape_equal(cr_shape_of(loaded[i]), cr_shape_of(state->at[i]))) {
            char a[224], b[224];
            return cr_fail(CR_ERROR_SHAPE, "nn_load: %s is %s in the file and %s in the module", state->names[i],
                           cr_describe(loaded[i], a), cr_describe(state->at[i], b));
        }
    }
    return true;
}

bool cr_nn_load(cr_nn_module *module, const char *path, bool strict) {
    if (!module || !path) return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "nn_load: NULL module or path");
    cr_safetensors *file = cr_safetensors_open(path);
    if (!file) return false;
    const cr_nn_tensors state = cr_nn_state(module);
    bool done = !strict || check_names(&state, file, path);
    CR_SCOPE {
        cr_tensor **loaded = done ? cr_calloc((size_t)state.count + 1, sizeof *loaded) : NULL;
        cr_grad_mode mode = cr_grad_mode_enter(false, false);
        done = loaded && check_shapes(&state, file, loaded);
        for (int i = 0; done && i < state.count; i++)
            if (loaded[i]) done = cr_copy_(state.at[i], loaded[i]) != NULL;
        cr_grad_mode_leave(&mode);
        cr_free(loaded);
    }
    cr_safetensors_close(file);
    return done;
}
