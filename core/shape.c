/* Shapes: counting, comparing, broadcasting, printing. */
#include "core/tensor.h"

#include <string.h>

static bool has_valid_count(cr_shape shape) { return shape.count >= 0 && shape.count <= CR_MAX_DIMS; }

bool cr_shape_check(cr_shape shape) {
    return has_valid_count(shape) || cr_fail(CR_ERROR_SHAPE, "%d dims; a tensor has 0 to %d", shape.count, CR_MAX_DIMS);
}

bool cr_shape_numel(cr_shape shape, int64_t *numel) {
    if (!cr_shape_check(shape)) return false;
    int64_t product = 1;
    bool empty = false, overflow = false;
    for (int i = 0; i < shape.count; i++) {
        char text[192];
        if (shape.at[i] < 0) return cr_fail(CR_ERROR_SHAPE, "negative size in shape %s", cr_shape_format(shape, text));
        if (shape.at[i] == 0) empty = true;
        overflow |= __builtin_mul_overflow(product, shape.at[i] ? shape.at[i] : 1, &product);
    }
    if (overflow) {
        char text[192];
        return cr_fail(CR_ERROR_SHAPE, "shape %s has more elements than int64 can count", cr_shape_format(shape, text));
    }
    if (numel) *numel = empty ? 0 : product;
    return true;
}

bool cr_shape_equal(cr_shape a, cr_shape b) {
    return a.count == b.count && has_valid_count(a) && memcmp(a.at, b.at, (size_t)a.count * sizeof a.at[0]) == 0;
}

bool cr_shape_broadcast(cr_shape a, cr_shape b, cr_shape *result) {
    if (!has_valid_count(a) || !has_valid_count(b))
        return cr_fail(CR_ERROR_SHAPE, "shapes of %d and %d dims; a tensor has 0 to %d", a.count, b.count, CR_MAX_DIMS);
    cr_shape out = {.count = a.count > b.count ? a.count : b.count};
    for (int i = 1; i <= out.count; i++) { /* i counts dims from the last */
        const int64_t size_a = i <= a.count ? a.at[a.count - i] : 1, size_b = i <= b.count ? b.at[b.count - i] : 1;
        if (size_a != size_b && size_a != 1 && size_b != 1) {
            char text_a[192], text_b[192];
            return cr_fail(
                CR_ERROR_SHAPE, "shapes %s and %s do not broadcast: sizes %lld and %lld in dim -%d must be equal or 1",
                cr_shape_format(a, text_a), cr_shape_format(b, text_b), (long long)size_a, (long long)size_b, i);
        }
        out.at[out.count - i] = size_a == 1 ? size_b : size_a;
    }
    if (result) *result = out;
    return true;
}

char *cr_shape_format(cr_shape shape, char text[192]) {
    size_t used = 0;
    if (!text) return NULL;
    text[used++] = '[';
    for (int i = 0; i < shape.count && i < CR_MAX_DIMS; i++)
        used += (size_t)snprintf(text + used, 192 - used, "%s%lld", i ? "," : "", (long long)shape.at[i]);
    text[used++] = ']';
    text[used] = '\0';
    return text;
}

void cr_contiguous_strides(cr_shape shape, cr_shape *strides) {
    strides->count = shape.count;
    cr_fill_contiguous(&shape, strides->at);
}

void cr_channels_last_strides(cr_shape shape, cr_shape *strides) {
    strides->count = shape.count;
    strides->at[1] = 1;
    int64_t step = shape.at[1] > 1 ? shape.at[1] : 1;
    for (int i = shape.count - 1; i >= 2; i--) {
        strides->at[i] = step;
        step *= shape.at[i] > 1 ? shape.at[i] : 1;
    }
    strides->at[0] = step;
}

bool cr_normalize_dim(int64_t dim, int ndim, int *result) {
    const int64_t limit = ndim > 0 ? ndim : 1; /* a 0-d tensor takes dim 0 and -1 */
    if (dim < -limit || dim >= limit)
        return cr_fail(CR_ERROR_INDEX, "dim %lld is outside a tensor of %d dims (%lld to %lld)", (long long)dim, ndim,
                       (long long)-limit, (long long)limit - 1);
    *result = (int)(dim < 0 ? dim + limit : dim);
    return true;
}
