/* Tensors and numbers as JSON. */
#include "json.h"

#include <math.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- printing
 * Lists and objects that hold nothing but numbers and texts stand on one line. */
static void print_scalar(const json_t *value) {
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
    fputs(text ? text : "null", stdout);
    free(text);
}

static bool is_flat(const json_t *value) {
    const char *key;
    size_t i;
    json_t *inner;
    json_array_foreach(value, i, inner) if (json_is_array(inner) || json_is_object(inner)) return false;
    json_object_foreach((json_t *)(uintptr_t)value, key,
                        inner) if (json_is_array(inner) || json_is_object(inner)) return false;
    return true;
}

static void print_value(const json_t *value, int depth);

static void print_inner(const json_t *value, int depth, bool flat) {
    const char *key, *separator = "";
    size_t i;
    json_t *inner;
    json_array_foreach(value, i, inner) {
        printf(flat ? "%s" : "%s\n%*s", separator, 2 * depth + 2, "");
        print_value(inner, depth + 1);
        separator = flat ? ", " : ",";
    }
    json_object_foreach((json_t *)(uintptr_t)value, key, inner) {
        json_t *name = json_string(key);
        printf(flat ? "%s" : "%s\n%*s", separator, 2 * depth + 2, "");
        print_scalar(name);
        printf(": ");
        print_value(inner, depth + 1);
        json_decref(name);
        separator = flat ? ", " : ",";
    }
}

static void print_value(const json_t *value, int depth) {
    if (!json_is_array(value) && !json_is_object(value)) {
        print_scalar(value);
        return;
    }
    const bool flat = is_flat(value);
    putchar(json_is_array(value) ? '[' : '{');
    print_inner(value, depth, flat);
    if (!flat) printf("\n%*s", 2 * depth, "");
    putchar(json_is_array(value) ? ']' : '}');
}

void print_json(const json_t *value) {
    print_value(value, 0);
    putchar('\n');
}

/* ---------------------------------------------------------------- making */
json_t *json_number(double value) { return isfinite(value) ? json_real(value) : json_null(); }

json_t *json_shape(cr_shape shape) {
    json_t *sizes = json_array();
    for (int d = 0; d < shape.count; d++)
        json_array_append_new(sizes, json_integer(shape.at[d]));
    return sizes;
}

/* ---------------------------------------------------------------- values */
/* What is read from: a contiguous f64 or i64 copy. */
typedef struct elements {
    const double *real;
    const int64_t *integer; /* where `real` is NULL */
    bool is_bool;
} elements;

static json_t *element(const elements *e, int64_t index) {
    if (e->real) return json_number(e->real[index]);
    return e->is_bool ? json_boolean(e->integer[index] != 0) : json_integer(e->integer[index]);
}

static json_t *nested(const elements *e, cr_shape shape, int dim, int64_t *at) {
    if (dim == shape.count) return element(e, (*at)++);
    json_t *list = json_array();
    for (int64_t i = 0; i < shape.at[dim]; i++)
        json_array_append_new(list, nested(e, shape, dim + 1, at));
    return list;
}

static bool read_elements(cr_tensor *t, elements *e) {
    const cr_dtype dtype = cr_dtype_of(t);
    const bool real = cr_dtype_is_floating(dtype);
    cr_tensor *copy = cr_contiguous(cr_cast(cr_to_device(t, CR_CPU), real ? CR_F64 : CR_I64));
    if (!copy) return false;
    *e = (elements){real ? cr_data(copy) : NULL, real ? NULL : cr_data(copy), dtype == CR_BOOL};
    return cr_ok();
}

/* [{"index": 7, "value": 0.93}, …] for each row. */
static json_t *greatest(cr_tensor *t, int64_t top) {
    const int64_t width = cr_size(t, -1);
    elements e, places;
    cr_tensor *indices = NULL, *values = cr_topk(t, width < top ? width : top, -1, true, &indices);
    if (!values || !read_elements(values, &e) || !read_elements(indices, &places)) return NULL;
    const int64_t each = cr_size(values, -1), rows = each ? cr_numel(values) / each : 0;
    json_t *all = json_array();
    for (int64_t r = 0; r < rows; r++) {
        json_t *row = json_array();
        for (int64_t i = r * each; i < (r + 1) * each; i++)
            json_array_append_new(
                row, json_pack("{s:I, s:o}", "index", (json_int_t)places.integer[i], "value", element(&e, i)));
        json_array_append_new(all, row);
    }
    return all;
}

static bool add_summary(json_t *object, cr_tensor *t) {
    cr_tensor *wide = cr_cast(t, CR_F64);
    json_object_set_new(object, "least", json_number(cr_item(cr_amin(wide))));
    json_object_set_new(object, "greatest", json_number(cr_item(cr_amax(wide))));
    json_object_set_new(object, "mean", json_number(cr_item(cr_mean(wide))));
    return cr_ok();
}

static bool add_values(json_t *object, cr_tensor *t, int64_t top, int64_t most) {
    elements e;
    int64_t at = 0;
    if (top > 0 && cr_ndim(t) > 0 && cr_numel(t) > 0)
        return json_object_set_new(object, "top", greatest(t, top)) == 0 && cr_ok();
    if (most && cr_numel(t) > most) return add_summary(object, t);
    return read_elements(t, &e) && json_object_set_new(object, "values", nested(&e, cr_shape_of(t), 0, &at)) == 0;
}

json_t *json_tensor(cr_tensor *t, int64_t top, int64_t most) {
    json_t *object = json_object();
    bool done = false;
    json_object_set_new(object, "dtype", json_string(cr_dtype_name(cr_dtype_of(t))));
    json_object_set_new(object, "shape", json_shape(cr_shape_of(t)));
    CR_SCOPE {
        done = add_values(object, t, top, most);
    }
    if (done) return object;
    json_decref(object);
    return NULL;
}
