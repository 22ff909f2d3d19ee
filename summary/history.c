/* Named curves that grow: what a loop gathers for its plot, and saves to go on from. */
#include "core/tensor.h"

#include <cresset/summary.h>

#include <string.h>

typedef struct curve {
    char *name;
    double *x, *y;
    int64_t count, capacity;
} curve;

struct cr_history {
    curve *curves;
    int count;
};

cr_history *cr_history_new(void) { return cr_calloc(1, sizeof(cr_history)); }

void cr_history_free(cr_history *history) {
    if (!history) return;
    for (int i = 0; i < history->count; i++) {
        cr_free(history->curves[i].name);
        cr_free(history->curves[i].x);
        cr_free(history->curves[i].y);
    }
    cr_free(history->curves);
    cr_free(history);
}

static bool check(const char *caller, const cr_history *history, const char *name) {
    if (history && name) return true;
    return cr_fail(CR_ERROR_ARGUMENT, "%s: the %s is NULL", caller, history ? "name" : "history");
}

static curve *find(const cr_history *history, const char *name) {
    for (int i = 0; i < history->count; i++)
        if (!strcmp(history->curves[i].name, name)) return &history->curves[i];
    return NULL;
}

static curve *find_or_add(cr_history *history, const char *name) {
    curve *found = find(history, name);
    if (found) return found;
    curve *curves = cr_realloc(history->curves, sizeof(curve) * (size_t)(history->count + 1));
    if (!curves) return NULL;
    history->curves = curves;
    char *copy = cr_strdup(name);
    if (!copy) return NULL;
    curves[history->count] = (curve){.name = copy};
    return &curves[history->count++];
}

static bool reserve(curve *c, int64_t capacity) {
    if (capacity <= c->capacity) return true;
    if (capacity < 2 * c->capacity) capacity = 2 * c->capacity;
    if (capacity < 64) capacity = 64;
    double *x = cr_realloc(c->x, sizeof(double) * (size_t)capacity);
    if (!x) return false;
    c->x = x;
    double *y = cr_realloc(c->y, sizeof(double) * (size_t)capacity);
    if (!y) return false;
    c->y = y;
    c->capacity = capacity;
    return true;
}

bool cr_history_add(cr_history *history, const char *name, double x, double y) {
    if (!check("history_add", history, name)) return false;
    curve *c = find_or_add(history, name);
    if (!c || !reserve(c, c->count + 1)) return false;
    c->x[c->count] = x;
    c->y[c->count++] = y;
    return true;
}

int cr_history_count(const cr_history *history) { return history ? history->count : 0; }

const char *cr_history_name(const cr_history *history, int index) {
    if (history && index >= 0 && index < history->count) return history->curves[index].name;
    cr_record_error(CR_ERROR_INDEX, "history_name: there is no curve %d; there are %d", index,
                    cr_history_count(history));
    return NULL;
}

cr_tensor *cr_history_get(const cr_history *history, const char *name) {
    if (!check("history_get", history, name)) return NULL;
    const curve *c = find(history, name);
    if (!c) {
        cr_record_error(CR_ERROR_ARGUMENT, "history_get: there is no curve \"%.80s\"", name);
        return NULL;
    }
    cr_tensor *points = cr_empty(CR_F64, CR_SHAPE(c->count, 2), CR_CPU);
    double *target = points ? cr_data(points) : NULL;
    for (int64_t i = 0; target && i < c->count; i++) {
        target[2 * i] = c->x[i];
        target[2 * i + 1] = c->y[i];
    }
    return points;
}

bool cr_history_set(cr_history *history, const char *name, const cr_tensor *points) {
    if (!check("history_set", history, name) || !cr_tensor_check(points, "history_set")) return false;
    char text[224];
    if (points->dtype != CR_F64 || points->ndim != 2 || points->sizes[1] != 2)
        return cr_fail(CR_ERROR_SHAPE, "history_set: expected f64[n,2], got %s", cr_describe(points, text));
    const int64_t count = points->sizes[0];
    double *data = cr_malloc(2 * sizeof(double) * (size_t)count);
    bool ok = data && cr_copy_to_host(points, data, 2 * sizeof(double) * (size_t)count);
    curve *c = ok ? find_or_add(history, name) : NULL;
    ok = c && reserve(c, count);
    for (int64_t i = 0; ok && i < count; i++) {
        c->x[i] = data[2 * i];
        c->y[i] = data[2 * i + 1];
    }
    if (ok) c->count = count;
    cr_free(data);
    return ok;
}

bool cr_history_plot_with(const cr_history *history, const char *path, const cr_plot_options *options) {
    if (!check("history_plot", history, path)) return false;
    cr_plot_series *series = cr_calloc((size_t)history->count + 1, sizeof *series);
    if (!series) return false;
    for (int i = 0; i < history->count; i++) {
        const curve *c = &history->curves[i];
        series[i] = (cr_plot_series){.name = c->name, .x = c->x, .y = c->y, .count = c->count};
    }
    const bool ok = cr_plot_with(path, series, history->count, options);
    cr_free(series);
    return ok;
}
