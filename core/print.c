/* Tensors as text, laid out as PyTorch lays them out: one width for all elements, four digits, scientific where the
 * values span too much, past 1000 elements only the three at each edge of each dim. */
#include "core/tensor.h"
#include "core/device.h"
#include "core/dtype.h"

#include <math.h>
#include <string.h>

enum { THRESHOLD = 1000, EDGE = 3, LINE_WIDTH = 80, INDENT = 7 /* of "tensor(" */, VALUE_BYTES = 48 };

typedef struct printer {
    const cr_tensor *t;
    const char *data; /* first element, in host memory */
    cr_shape strides; /* in elements, of data */
    bool is_summary;

    /* what all elements that are shown have in common */
    bool has_nonzero; /* a finite one that is not 0 */
    double smallest, largest;
    bool is_integral; /* floats without a fraction: "1." */
    bool is_scientific;
    int width;

    char *text; /* the result, from cr_malloc */
    size_t used, capacity;
    bool has_failed;
} printer;

/* ---------------------------------------------------------------- the text */
static void append(printer *p, const char *text, size_t bytes) {
    if (p->has_failed) return;
    if (p->capacity - p->used <= bytes) {
        const size_t capacity = 2 * p->capacity + bytes + 256;
        char *grown = cr_realloc(p->text, capacity);
        if (!grown) {
            p->has_failed = true;
            return;
        }
        p->text = grown;
        p->capacity = capacity;
    }
    memcpy(p->text + p->used, text, bytes);
    p->used += bytes;
    p->text[p->used] = '\0';
}

static void append_text(printer *p, const char *text) { append(p, text, strlen(text)); }

static void append_repeated(printer *p, char character, int count) {
    for (int i = 0; i < count; i++)
        append(p, &character, 1);
}

/* ---------------------------------------------------------------- one element */
/* The host program's locale may write "0,5": what is no digit, sign or letter becomes a point. */
static int with_a_point(char *text) {
    size_t length = 0;
    bool seen = false;
    for (const char *at = text; *at; at++) {
        const bool known = strchr("0123456789+-einfa", *at) != NULL;
        if (known || !seen) text[length++] = known ? *at : '.';
        seen |= !known;
    }
    text[length] = '\0';
    return (int)length;
}

static int format_float(const printer *p, double value, char text[VALUE_BYTES]) {
    if (isnan(value)) return snprintf(text, VALUE_BYTES, "nan"); /* C may write "-nan" */
    if (p->is_scientific)
        snprintf(text, VALUE_BYTES, "%.4e", value);
    else if (p->is_integral)
        snprintf(text, VALUE_BYTES, isinf(value) ? "%.0f" : "%.0f.", value);
    else
        snprintf(text, VALUE_BYTES, "%.4f", value);
    return with_a_point(text);
}

static int format_value(const printer *p, cr_element value, char text[VALUE_BYTES]) {
    if (cr_dtype_is_floating((cr_dtype)p->t->dtype)) return format_float(p, value.real, text);
    if (p->t->dtype == CR_BOOL) return snprintf(text, VALUE_BYTES, value.integer ? "True" : "False");
    return snprintf(text, VALUE_BYTES, "%lld", (long long)value.integer);
}

/* ---------------------------------------------------------------- looking at all that is shown */
static bool is_cut(const printer *p, int dim) { return p->is_summary && p->t->sizes[dim] > 2 * EDGE; }

/* How many indices of a dim are shown, and the k-th of them. */
static int64_t shown(const printer *p, int dim) { return is_cut(p, dim) ? 2 * EDGE : p->t->sizes[dim]; }
static int64_t shown_index(const printer *p, int dim, int64_t k) {
    return is_cut(p, dim) && k >= EDGE ? p->t->sizes[dim] - 2 * EDGE + k : k;
}

static cr_element element_at(const printer *p, int64_t offset) {
    const cr_dtype dtype = (cr_dtype)p->t->dtype;
    return cr_element_decode(p->data + offset * (int64_t)cr_dtype_size(dtype), dtype);
}

static void visit(printer *p, int dim, int64_t offset, void (*look)(printer *p, cr_element value)) {
    if (dim == p->t->ndim) {
        look(p, element_at(p, offset));
        return;
    }
    const int64_t count = shown(p, dim);
    for (int64_t k = 0; k < count; k++)
        visit(p, dim + 1, offset + shown_index(p, dim, k) * p->strides.at[dim], look);
}

static void look_at_range(printer *p, cr_element value) {
    const double magnitude = fabs(value.real);
    if (!isfinite(magnitude) || magnitude == 0) return;
    p->smallest = p->has_nonzero ? fmin(p->smallest, magnitude) : magnitude;
    p->largest = p->has_nonzero ? fmax(p->largest, magnitude) : magnitude;
    p->has_nonzero = true;
    p->is_integral &= magnitude == ceil(magnitude);
}

static void look_at_width(printer *p, cr_element value) {
    char text[VALUE_BYTES];
    const bool is_floating = cr_dtype_is_floating((cr_dtype)p->t->dtype);
    if (is_floating && (!isfinite(value.real) || value.real == 0)) return; /* these do not widen the columns */
    const int width = format_value(p, value, text);
    if (width > p->width) p->width = width;
}

static void choose_format(printer *p) {
    p->is_integral = true;
    p->width = 1;
    if (cr_dtype_is_floating((cr_dtype)p->t->dtype)) visit(p, 0, 0, look_at_range);
    if (p->has_nonzero)
        p->is_scientific =
            p->largest / p->smallest > 1000 || p->largest > 1e8 || (!p->is_integral && p->smallest < 1e-4);
    visit(p, 0, 0, look_at_width);
}

/* ---------------------------------------------------------------- writing */
static void write_value(printer *p, int64_t offset) {
    char text[VALUE_BYTES];
    const int length = format_value(p, element_at(p, offset), text);
    append_repeated(p, ' ', p->width - length);
    append(p, text, (size_t)length);
}

/* A row of the last dim, broken into lines. The "..." of a summary takes a column of its own. */
static void write_row(printer *p, int dim, int64_t offset, int indent) {
    const int fitting = (LINE_WIDTH - indent) / (p->width + 2), per_line = fitting > 1 ? fitting : 1;
    const int64_t count = shown(p, dim) + is_cut(p, dim);
    for (int64_t column = 0, k = 0; column < count; column++) {
        if (column) append_text(p, column % per_line ? ", " : ",\n");
        if (column && column % per_line == 0) append_repeated(p, ' ', indent + 1);
        if (is_cut(p, dim) && column == EDGE)
            append_text(p, " ...");
        else
            write_value(p, offset + shown_index(p, dim, k++) * p->strides.at[dim]);
    }
}

static void write_dim(printer *p, int dim, int64_t offset, int indent) {
    const int ndim = p->t->ndim;
    if (ndim == 0) {
        write_value(p, offset);
        return;
    }
    append_text(p, "[");
    if (dim == ndim - 1) {
        write_row(p, dim, offset, indent);
    } else {
        const int64_t count = shown(p, dim) + is_cut(p, dim);
        for (int64_t line = 0, k = 0; line < count; line++) {
            if (line) {
                append_text(p, ",");
                append_repeated(p, '\n', ndim - 1 - dim);
                append_repeated(p, ' ', indent + 1);
            }
            if (is_cut(p, dim) && line == EDGE)
                append_text(p, "...");
            else
                write_dim(p, dim + 1, offset + shown_index(p, dim, k++) * p->strides.at[dim], indent + 1);
        }
    }
    append_text(p, "]");
}

/* ", dtype=f64", on a new line where it would pass the line's end. */
static void write_suffix(printer *p, int *column, const char *suffix) {
    const int length = (int)strlen(suffix);
    if (*column + length + 2 > LINE_WIDTH) {
        append_text(p, ",\n");
        append_repeated(p, ' ', INDENT);
        *column = INDENT + length;
    } else {
        append_text(p, ", ");
        *column += length + 2;
    }
    append_text(p, suffix);
}

static void write_suffixes(printer *p) {
    const cr_tensor *t = p->t;
    const char *last_line = p->has_failed ? NULL : strrchr(p->text, '\n');
    int column = (int)(last_line ? p->text + p->used - last_line : (ptrdiff_t)p->used + 1) + 1;
    char text[224], name[192];
    if (!cr_device_equal(t->device, CR_CPU)) {
        snprintf(text, sizeof text, "device='%s'", cr_device_name(t->device, name));
        write_suffix(p, &column, text);
    }
    if (t->numel == 0 && t->ndim != 1) {
        size_t used = (size_t)snprintf(text, sizeof text, "size=(");
        for (int i = 0; i < t->ndim; i++)
            used += (size_t)snprintf(text + used, sizeof text - used, "%s%lld", i ? ", " : "", (long long)t->sizes[i]);
        snprintf(text + used, sizeof text - used, ")");
        write_suffix(p, &column, text);
    }
    const bool is_evident = t->dtype == CR_F32 || (t->numel > 0 && (t->dtype == CR_I64 || t->dtype == CR_BOOL));
    if (!is_evident) {
        snprintf(text, sizeof text, "dtype=%s", cr_dtype_name((cr_dtype)t->dtype));
        write_suffix(p, &column, text);
    }
    if (t->requires_grad) write_suffix(p, &column, "requires_grad=True");
}

/* ---------------------------------------------------------------- public */
/* Another device's elements, row-major in host memory; NULL and an error on failure. */
static void *copy_to_host(printer *p) {
    const size_t bytes = (size_t)p->t->numel * cr_dtype_size((cr_dtype)p->t->dtype);
    void *copy = cr_malloc(bytes);
    if (copy && !cr_copy_to_host(p->t, copy, bytes)) {
        cr_free(copy);
        return NULL;
    }
    cr_contiguous_strides(cr_tensor_shape(p->t), &p->strides);
    return copy;
}

char *cr_format(const cr_tensor *t) {
    if (!cr_tensor_check(t, "format")) return NULL;
    printer p = {.t = t, .strides = cr_strides_of(t), .is_summary = t->numel > THRESHOLD};
    void *copy = NULL;
    if (t->device.type == CR_DEVICE_CPU)
        p.data = t->numel ? cr_tensor_address(t) : NULL;
    else if (!(p.data = copy = copy_to_host(&p)))
        return NULL;
    append_text(&p, "tensor(");
    if (t->numel == 0) {
        append_text(&p, "[]");
    } else {
        choose_format(&p);
        write_dim(&p, 0, 0, INDENT);
    }
    write_suffixes(&p);
    append_text(&p, ")");
    cr_free(copy);
    if (!p.has_failed) return p.text;
    cr_free(p.text);
    return NULL;
}

bool cr_print(FILE *out, const cr_tensor *t) {
    if (!out) return cr_fail(CR_ERROR_ARGUMENT, "print: the file is NULL");
    char *text = cr_format(t);
    if (!text) return false;
    const bool printed = fprintf(out, "%s\n", text) >= 0 || cr_fail(CR_ERROR_IO, "print: cannot write: %m");
    cr_free(text);
    return printed;
}
