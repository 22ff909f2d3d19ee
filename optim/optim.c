/* Optimizers: groups of parameters, their settings, stepping. The rules stand in algorithms.c. */
#include "optim/optim.h"

#include <cresset/autograd.h>

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- groups */
static bool holds(const cr_optim *optim, const cr_tensor *t) {
    for (int g = 0; g < optim->group_count; g++)
        for (int i = 0; i < optim->groups[g].count; i++)
            if (optim->groups[g].parameters[i].tensor == t) return true;
    return false;
}

static void free_group(cr_optim_group *group) {
    for (int i = 0; i < group->count; i++) {
        cr_optim_parameter *p = &group->parameters[i];
        cr_release(p->tensor);
        cr_release(p->step);
        for (int s = 0; s < CR_OPTIM_STATES; s++)
            cr_release(p->states[s]);
    }
    cr_free(group->parameters);
    cr_release(group->lr);
}

/* A tensor that belongs to the optimizer and to no scope. */
static cr_tensor *own(cr_tensor *t) {
    cr_retain(t);
    if (t) cr_discard(t);
    return t;
}

static bool add_group(cr_optim *optim, cr_nn_tensors parameters, const double *settings) {
    if (parameters.count < 1)
        return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "optim_%s: no parameters", optim->algorithm->name);
    cr_optim_group *grown = cr_realloc(optim->groups, (size_t)(optim->group_count + 1) * sizeof *grown);
    if (!grown) return false;
    optim->groups = grown;
    cr_optim_group group = {.parameters = cr_calloc((size_t)parameters.count, sizeof(cr_optim_parameter))};
    memcpy(group.settings, settings, sizeof group.settings);
    bool made = group.parameters && (group.lr = own(cr_scalar(settings[0], CR_F64)));
    for (int i = 0; made && i < parameters.count; i++) {
        if (!cr_tensor_check(parameters.at[i], "optim"))
            made = false;
        else if (holds(optim, parameters.at[i]))
            made = cr_fail(CR_ERROR_ARGUMENT, "optim_%s: parameter %s is in a group already", optim->algorithm->name,
                           parameters.names ? parameters.names[i] : "");
        else
            group.parameters[group.count++].tensor = cr_retain(parameters.at[i]);
    }
    if (!made) {
        free_group(&group);
        return false;
    }
    optim->groups[optim->group_count++] = group;
    return true;
}

static double setting_of(const cr_attribute *attribute, const void *options) {
    const void *field = (const char *)options + attribute->offset;
    switch (attribute->kind) {
    case CR_ATTRIBUTE_BOOL: return *(const bool *)field;
    case CR_ATTRIBUTE_INT: return (double)*(const int64_t *)field;
    default: return *(const double *)field;
    }
}

cr_optim *cr_optim_new(const cr_optim_algorithm *algorithm, cr_nn_tensors parameters, const void *options) {
    double settings[CR_OPTIM_SETTINGS] = {0};
    for (int i = 0; i < algorithm->setting_count; i++)
        settings[i] = setting_of(&algorithm->settings[i], options);
    if (!(settings[0] >= 0)) {
        cr_record_error(CR_ERROR_ARGUMENT, "optim_%s: a learning rate of %g; it must be 0 or more", algorithm->name,
                        settings[0]);
        return NULL;
    }
    cr_optim *optim = cr_calloc(1, sizeof *optim);
    if (!optim) return NULL;
    optim->algorithm = algorithm;
    if (add_group(optim, parameters, settings)) return optim;
    cr_optim_free(optim);
    return NULL;
}

static void free_list(cr_optim *optim) {
    for (int i = 0; i < optim->list_count; i++) {
        cr_release(optim->list_at[i]);
        cr_free(optim->list_names[i]);
    }
    cr_free(optim->list_at);
    cr_free(optim->list_names);
    optim->list_at = NULL;
    optim->list_names = NULL;
    optim->list_count = 0;
}

void cr_optim_free(cr_optim *optim) {
    if (!optim) return;
    for (int g = 0; g < optim->group_count; g++)
        free_group(&optim->groups[g]);
    free_list(optim);
    cr_free(optim->groups);
    cr_free(optim);
}

int cr_optim_add_group(cr_optim *optim, cr_nn_tensors parameters) {
    if (!optim) {
        if (cr_ok()) cr_record_error(CR_ERROR_ARGUMENT, "optim_add_group: NULL optimizer");
        return -1;
    }
    return add_group(optim, parameters, optim->groups[0].settings) ? optim->group_count - 1 : -1;
}

int cr_optim_group_count(const cr_optim *optim) { return optim ? optim->group_count : 0; }

/* ---------------------------------------------------------------- settings */
int cr_optim_setting(const cr_optim_algorithm *algorithm, const char *name) {
    for (int i = 0; name && i < algorithm->setting_count; i++)
        if (!strcmp(algorithm->settings[i].name, name)) return i;
    return -1;
}

/* The setting's index; -1 and an error where optimizer, group or name are not there. */
static int find_setting(const cr_optim *optim, int group, const char *name) {
    const int index = optim ? cr_optim_setting(optim->algorithm, name) : -1;
    if (index >= 0 && group >= -1 && group < optim->group_count) return index;
    if (optim || cr_ok())
        cr_record_error(CR_ERROR_ARGUMENT, "optim_%s: there is no setting \"%s\" of group %d",
                        optim ? optim->algorithm->name : "?", name ? name : "NULL", group);
    return -1;
}

bool cr_optim_set(cr_optim *optim, int group, const char *name, double value) {
    const int index = find_setting(optim, group, name);
    if (index < 0) return false;
    for (int g = 0; g < optim->group_count; g++) {
        if (group != -1 && group != g) continue;
        optim->groups[g].settings[index] = value;
        if (index == 0) *(double *)cr_data(optim->groups[g].lr) = value;
    }
    return true;
}

double cr_optim_get(const cr_optim *optim, int group, const char *name) {
    const int index = find_setting(optim, group, name);
    return index < 0 ? NAN : optim->groups[group < 0 ? 0 : group].settings[index];
}

double cr_optim_lr(const cr_optim *optim) { return cr_optim_get(optim, 0, "lr"); }

/* ---------------------------------------------------------------- stepping */
static bool make_states(const cr_optim *optim, const cr_optim_group *group, cr_optim_parameter *p) {
    if (!p->step && !(p->step = own(cr_zeros(CR_F32, CR_SHAPE_0D, CR_CPU)))) return false;
    for (int s = 0; s < CR_OPTIM_STATES; s++) {
        if (p->states[s] || !optim->algorithm->states[s] || !optim->algorithm->keeps(group, s)) continue;
        if (!(p->states[s] = own(cr_zero_(cr_empty_like(p->tensor))))) return false;
    }
    return true;
}

/* Made on the first step; they outlive a trace of it. */
static bool ensure_states(const cr_optim *optim, const cr_optim_group *group, cr_optim_parameter *p) {
    cr_thread *thread = cr_thread_self();
    const cr_outside before = cr_outside_enter(thread);
    const bool made = make_states(optim, group, p);
    cr_outside_leave(thread, before);
    return made;
}

bool cr_optim_step(cr_optim *optim) {
    if (!optim) return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "optim_step: NULL optimizer");
    bool done = true;
    CR_SCOPE {
        cr_grad_mode mode = cr_grad_mode_enter(false, false);
        for (int g = 0; done && g < optim->group_count; g++) {
            cr_optim_group *group = &optim->groups[g];
            for (int i = 0; done && i < group->count; i++) {
                cr_optim_parameter *p = &group->parameters[i];
                cr_tensor *gradient = cr_grad_of(p->tensor);
                done = !gradient || (ensure_states(optim, group, p) && optim->algorithm->update(group, p, gradient));
            }
        }
        cr_grad_mode_leave(&mode);
    }
    return done;
}

void cr_optim_zero_grad(cr_optim *optim) {
    for (int g = 0; optim && g < optim->group_count; g++)
        for (int i = 0; i < optim->groups[g].count; i++)
            cr_set_grad(optim->groups[g].parameters[i].tensor, NULL);
}

/* ---------------------------------------------------------------- state as named tensors */
static bool list_add(cr_optim *optim, cr_tensor *t, const char *format, int a, const char *name) {
    const size_t count = (size_t)optim->list_count + 1;
    cr_tensor **at = cr_realloc(optim->list_at, count * sizeof *at);
    if (at) optim->list_at = at;
    char **names = at ? cr_realloc(optim->list_names, count * sizeof *names) : NULL;
    if (names) optim->list_names = names;
    char text[96];
    snprintf(text, sizeof text, format, a, name);
    char *copy = names && t ? cr_strdup(text) : NULL;
    if (!copy) return false;
    optim->list_at[optim->list_count] = cr_retain(t);
    optim->list_names[optim->list_count++] = copy;
    return true;
}

static bool list_parameter(cr_optim *optim, const cr_optim_parameter *p, int index) {
    if (p->step && !list_add(optim, p->step, "state.%d.%s", index, "step")) return false;
    for (int s = 0; s < CR_OPTIM_STATES; s++)
        if (p->states[s] && !list_add(optim, p->states[s], "state.%d.%s", index, optim->algorithm->states[s]))
            return false;
    return true;
}

/* Parameters are numbered through all groups, as in PyTorch; settings are f64 numbers "groups.0.lr". */
static bool list_all(cr_optim *optim) {
    int index = 0;
    for (int g = 0; g < optim->group_count; g++) {
        const cr_optim_group *group = &optim->groups[g];
        for (int i = 0; i < group->count; i++)
            if (!list_parameter(optim, &group->parameters[i], index++)) return false;
        for (int s = 0; s < optim->algorithm->setting_count; s++)
            if (!list_add(optim, cr_scalar(group->settings[s], CR_F64), "groups.%d.%s", g,
                          optim->algorithm->settings[s].name))
                return false;
    }
    return true;
}

cr_nn_tensors cr_optim_state(cr_optim *optim) {
    if (!optim) return (cr_nn_tensors){NULL, NULL, 0};
    free_list(optim);
    CR_SCOPE {
        if (!list_all(optim)) free_list(optim);
    }
    return (cr_nn_tensors){optim->list_at, (const char *const *)optim->list_names, optim->list_count};
}

/* A tensor of the file under "prefix" + "state.3.exp_avg"; NULL without an error where it is not there. */
static cr_tensor *read_entry(cr_safetensors *file, const char *prefix, const char *format, int a, const char *name,
                             bool *failed) {
    char text[256];
    const size_t used = (size_t)snprintf(text, sizeof text, "%s", prefix);
    snprintf(text + (used < sizeof text ? used : 0), sizeof text - (used < sizeof text ? used : 0), format, a, name);
    if (!cr_safetensors_has(file, text)) return NULL;
    cr_tensor *t = cr_safetensors_tensor(file, text);
    *failed |= !t;
    return t;
}

/* What follows runs twice: first it only checks, so that a file that does not fit changes nothing. */
static bool restore_tensor(cr_tensor **state, cr_tensor *saved, const cr_tensor *like, const char *what, bool check) {
    if (!saved) {
        if (check) return true;
        cr_release(*state);
        *state = NULL;
        return true;
    }
    if (like && !cr_shape_equal(cr_shape_of(saved), cr_shape_of(like))) {
        char a[224], b[224];
        return cr_fail(CR_ERROR_SHAPE, "optim_restore: %s is %s in the file, its parameter is %s", what,
                       cr_describe(saved, a), cr_describe(like, b));
    }
    if (check) return true;
    cr_tensor *copy = own(like ? cr_copy_(cr_empty_like(like), saved) : cr_clone(saved));
    if (!copy) return false;
    cr_release(*state);
    *state = copy;
    return true;
}

static bool restore_parameter(cr_optim *optim, cr_optim_parameter *p, int index, cr_safetensors *file,
                              const char *prefix, bool check) {
    bool failed = false;
    cr_tensor *step = read_entry(file, prefix, "state.%d.%s", index, "step", &failed);
    if (failed || !restore_tensor(&p->step, step, NULL, "step", check)) return false;
    for (int s = 0; s < CR_OPTIM_STATES && optim->algorithm->states[s]; s++) {
        const char *name = optim->algorithm->states[s];
        cr_tensor *saved = read_entry(file, prefix, "state.%d.%s", index, name, &failed);
        if (failed || !restore_tensor(&p->states[s], saved, p->tensor, name, check)) return false;
    }
    return true;
}

static bool restore_settings(cr_optim *optim, int g, cr_safetensors *file, const char *prefix, bool check) {
    bool failed = false;
    for (int s = 0; s < optim->algorithm->setting_count; s++) {
        const char *name = optim->algorithm->settings[s].name;
        cr_tensor *saved = read_entry(file, prefix, "groups.%d.%s", g, name, &failed);
        if (!saved)
            return failed ? false
                          : cr_fail(CR_ERROR_FORMAT,
                                    "optim_restore: the file has no groups.%d.%s: it is not the state of this optim_%s",
                                    g, name, optim->algorithm->name);
        const double value = cr_item(saved);
        if (!cr_ok() || (!check && !cr_optim_set(optim, g, name, value))) return false;
    }
    return true;
}

static bool restore_all(cr_optim *optim, cr_safetensors *file, const char *prefix, bool check) {
    int index = 0;
    for (int g = 0; g < optim->group_count; g++) {
        if (!restore_settings(optim, g, file, prefix, check)) return false;
        for (int i = 0; i < optim->groups[g].count; i++)
            if (!restore_parameter(optim, &optim->groups[g].parameters[i], index++, file, prefix, check)) return false;
    }
    return true;
}

bool cr_optim_restore(cr_optim *optim, cr_safetensors *file, const char *prefix) {
    if (!optim || !file) return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "optim_restore: NULL optimizer or file");
    bool done = false;
    cr_grad_mode mode = cr_grad_mode_enter(false, false);
    if (!prefix) prefix = "";
    CR_SCOPE {
        done = restore_all(optim, file, prefix, true) && restore_all(optim, file, prefix, false);
    }
    cr_grad_mode_leave(&mode);
    return done;
}

bool cr_optim_save(cr_optim *optim, const char *path) {
    if (!optim || !path) return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "optim_save: NULL optimizer or path");
    const cr_nn_tensors state = cr_optim_state(optim);
    cr_named_tensor *rows = state.count ? cr_calloc((size_t)state.count, sizeof *rows) : NULL;
    if (!rows) return false;
    for (int i = 0; i < state.count; i++)
        rows[i] = (cr_named_tensor){state.names[i], state.at[i]};
    const cr_text_pair metadata = {"optimizer", optim->algorithm->name};
    const bool saved = cr_safetensors_save(path, rows, state.count, &metadata, 1);
    cr_free(rows);
    return saved;
}

bool cr_optim_load(cr_optim *optim, const char *path) {
    cr_safetensors *file = optim ? cr_safetensors_open(path) : NULL;
    if (!file) return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "optim_load: NULL optimizer");
    const bool done = cr_optim_restore(optim, file, "");
    cr_safetensors_close(file);
    return done;
}
