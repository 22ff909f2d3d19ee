/* Tensors: shapes, broadcasting, making, reading elements of any dtype and strides, views and the memory they share. */
#include "tests/unit/testing.h"

#include "core/random.h"
#include "core/tensor.h"

#include <math.h>

/* ---------------------------------------------------------------- shapes */
static void elements_are_counted_or_refused(void **state) {
    (void)state;
    int64_t numel = -1;
    assert_true(cr_shape_numel(CR_SHAPE_0D, &numel) && numel == 1);
    assert_true(cr_shape_numel(CR_SHAPE(2, 3, 4), &numel) && numel == 24);
    assert_true(cr_shape_numel(CR_SHAPE(5, 0), &numel) && numel == 0);
    assert_true(cr_shape_numel(CR_SHAPE(INT64_MAX), &numel) && numel == INT64_MAX);
    assert_false(cr_shape_numel(CR_SHAPE(INT64_MAX, 2), &numel));
    assert_cr_error(CR_ERROR_SHAPE, "int64");
    assert_false(cr_shape_numel(CR_SHAPE(INT64_MAX, 0, 2), &numel)); /* strides could not be computed */
    assert_cr_error(CR_ERROR_SHAPE, "int64");
    assert_false(cr_shape_numel(CR_SHAPE(2, -3), &numel));
    assert_cr_error(CR_ERROR_SHAPE, "[2,-3]");
    assert_false(cr_shape_numel((cr_shape){9, {1}}, &numel));
    assert_cr_error(CR_ERROR_SHAPE, "9 dims");
    assert_false(cr_shape_numel((cr_shape){-1, {1}}, &numel));
    assert_cr_error(CR_ERROR_SHAPE, "-1 dims");
}

static void shapes_broadcast_by_numpys_rule(void **state) {
    (void)state;
    static const struct {
        cr_shape a, b, expected;
    } rows[] = {
        {CR_SHAPE_0D, CR_SHAPE_0D, CR_SHAPE_0D},
        {CR_SHAPE_0D, CR_SHAPE(3), CR_SHAPE(3)},
        {CR_SHAPE(2, 3), CR_SHAPE(3), CR_SHAPE(2, 3)},
        {CR_SHAPE(2, 1), CR_SHAPE(1, 4), CR_SHAPE(2, 4)},
        {CR_SHAPE(0), CR_SHAPE(1), CR_SHAPE(0)},
        {CR_SHAPE(5, 1, 3), CR_SHAPE(0, 1), CR_SHAPE(5, 0, 3)},
        {CR_SHAPE(1, 1, 1, 1, 1, 1, 1, 7), CR_SHAPE(2, 1, 1), CR_SHAPE(1, 1, 1, 1, 1, 2, 1, 7)},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cr_shape result, mirrored;
        assert_true(cr_shape_broadcast(rows[i].a, rows[i].b, &result) && cr_shape_equal(result, rows[i].expected));
        assert_true(cr_shape_broadcast(rows[i].b, rows[i].a, &mirrored) && cr_shape_equal(mirrored, rows[i].expected));
    }
    cr_shape result;
    assert_false(cr_shape_broadcast(CR_SHAPE(2, 3), CR_SHAPE(2, 4), &result));
    assert_cr_error(CR_ERROR_SHAPE, "sizes 3 and 4 in dim -1");
    assert_false(cr_shape_broadcast(CR_SHAPE(0), CR_SHAPE(2), &result));
    assert_cr_error(CR_ERROR_SHAPE, "sizes 0 and 2");
    assert_false(cr_shape_broadcast((cr_shape){100, {1}}, CR_SHAPE(2), &result));
    assert_cr_error(CR_ERROR_SHAPE, "100 and 1 dims");
    assert_false(cr_shape_equal((cr_shape){100, {1}}, (cr_shape){100, {1}}));
    assert_false(cr_shape_equal(CR_SHAPE(1), CR_SHAPE(1, 1)));
    char text[192];
    const int64_t low = INT64_MIN;
    assert_string_equal(cr_shape_format(CR_SHAPE(1, 2, 3), text), "[1,2,3]");
    assert_string_equal(cr_shape_format(CR_SHAPE_0D, text), "[]");
    assert_int_equal(strlen(cr_shape_format(CR_SHAPE(low, low, low, low, low, low, low, low), text)), 8 * 20 + 7 + 2);
}

static void dims_count_from_both_ends(void **state) {
    (void)state;
    int dim;
    for (int64_t given = -4; given < 4; given++) {
        assert_true(cr_normalize_dim(given, 4, &dim));
        assert_int_equal(dim, (given + 4) % 4);
    }
    assert_false(cr_normalize_dim(4, 4, &dim));
    assert_cr_error(CR_ERROR_INDEX, "-4 to 3");
    assert_false(cr_normalize_dim(INT64_MIN, 4, &dim));
    assert_cr_error(CR_ERROR_INDEX, "outside");
    assert_true(cr_normalize_dim(-1, 0, &dim) && dim == 0);
}

/* ---------------------------------------------------------------- making */
static void sizes_that_overflow_are_errors(void **state) {
    (void)state;
    const int64_t before = cr_memory_stats().live_bytes;
    assert_null(cr_empty(CR_F32, CR_SHAPE((int64_t)1 << 40, (int64_t)1 << 40), CR_CPU));
    assert_cr_error(CR_ERROR_SHAPE, "int64");
    assert_null(cr_empty(CR_F64, CR_SHAPE((int64_t)1 << 61), CR_CPU));
    assert_cr_error(CR_ERROR_MEMORY, "more than memory can hold");
    assert_null(cr_empty(CR_U8, CR_SHAPE(INT64_MAX), CR_CPU));
    assert_cr_error(CR_ERROR_MEMORY, "address space");
    assert_null(cr_empty((cr_dtype)77, CR_SHAPE(1), CR_CPU));
    assert_cr_error(CR_ERROR_DTYPE, "77");
    assert_null(cr_empty(CR_F32, CR_SHAPE(1), (cr_device){CR_DEVICE_CPU, 1}));
    assert_cr_error(CR_ERROR_DEVICE, "cpu:1 is not here");
    assert_null(cr_empty_strided(CR_F32, CR_SHAPE(2, 2), CR_SHAPE(1), CR_CPU));
    assert_cr_error(CR_ERROR_SHAPE, "2 sizes but 1 strides");
    assert_null(cr_empty_strided(CR_F32, CR_SHAPE(2, 2), CR_SHAPE(-2, 1), CR_CPU));
    assert_cr_error(CR_ERROR_SHAPE, "negative stride");
    assert_null(cr_empty_strided(CR_F32, CR_SHAPE(3, 3), CR_SHAPE(INT64_MAX / 2, INT64_MAX / 2), CR_CPU));
    assert_cr_error(CR_ERROR_SHAPE, "past int64");
    assert_null(cr_from_data(CR_F32, CR_SHAPE(2), NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL data");
    assert_null(cr_from_blob(CR_F32, CR_SHAPE(2), NULL, NULL, NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL data");
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

static int releases;
static void count_release(void *context) { releases += *(int *)context; }

static void a_blob_is_given_back_with_its_last_view(void **state) {
    (void)state;
    float data[6] = {0, 1, 2, 3, 4, 5};
    int weight = 3;
    releases = 0;
    const int64_t before = cr_memory_stats().live_bytes;
    cr_tensor *view = NULL;
    CR_SCOPE {
        cr_tensor *t = cr_from_blob(CR_F32, CR_SHAPE(2, 3), data, count_release, &weight);
        view = cr_keep(cr_view_raw(t, CR_SHAPE(3), CR_SHAPE(1), 3));
        cr_data_f32(t)[4] = 40;
    }
    assert_int_equal(releases, 0);
    assert_true(data[4] == 40 && cr_at(view, CR_SHAPE(1)) == 40);
    cr_discard(view);
    assert_int_equal(releases, 3);
    for (int n = 1; n < 3; n++) { /* a failure leaves the blob with the caller */
        cr_memory_fail_nth(n);
        assert_null(cr_from_blob(CR_F32, CR_SHAPE(2, 3), data, count_release, &weight));
        cr_memory_fail_nth(0);
        assert_cr_error(CR_ERROR_MEMORY, "made to fail");
    }
    assert_int_equal(releases, 3);
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

/* ---------------------------------------------------------------- asking */
static void a_tensor_tells_its_geometry(void **state) {
    (void)state;
    char text[224];
    CR_SCOPE {
        cr_tensor *t = cr_empty(CR_F16, CR_SHAPE(2, 3, 4), CR_CPU);
        assert_int_equal(cr_ndim(t), 3);
        assert_int_equal(cr_numel(t), 24);
        assert_int_equal(cr_size(t, 1), 3);
        assert_int_equal(cr_size(t, -1), 4);
        assert_int_equal(cr_size(t, 3), -1);
        assert_cr_error(CR_ERROR_INDEX, "dim 3");
        assert_int_equal(cr_size(cr_scalar(1, CR_F32), 0), -1);
        assert_cr_error(CR_ERROR_INDEX, "0-d");
        assert_true(cr_shape_equal(cr_strides_of(t), CR_SHAPE(12, 4, 1)));
        assert_string_equal(cr_describe(t, text), "f16[2,3,4]");
        assert_string_equal(cr_describe(NULL, text), "NULL");
        assert_true(cr_is_contiguous(t) && !cr_is_channels_last(t));
        cr_shape strides;
        cr_channels_last_strides(CR_SHAPE(2, 3, 4, 5), &strides);
        assert_true(cr_shape_equal(strides, CR_SHAPE(60, 1, 15, 3)));
        cr_tensor *picture = cr_empty_strided(CR_F32, CR_SHAPE(2, 3, 4, 5), strides, CR_CPU);
        assert_true(cr_is_channels_last(picture) && !cr_is_contiguous(picture));
        assert_true(cr_is_contiguous(
            cr_view_raw(t, CR_SHAPE(2, 1, 4), CR_SHAPE(4, 99, 1), 0))); /* a size of 1 may have any stride */
        assert_true(cr_is_contiguous(cr_empty(CR_F32, CR_SHAPE(0, 3), CR_CPU)));
        assert_null(cr_data(cr_empty(CR_F32, CR_SHAPE(0, 3), CR_CPU)));
        assert_null(cr_data_f32(t));
        assert_cr_error(CR_ERROR_DTYPE, "f16[2,3,4]");
        const uint64_t version = cr_version_of(t);
        cr_touch(cr_view_raw(t, CR_SHAPE(1), CR_SHAPE(1), 5));
        assert_int_equal(cr_version_of(t), version + 1); /* views share it */
    }
    assert_true(cr_ok());
    assert_int_equal(cr_ndim(NULL), -1);
    assert_int_equal(cr_numel(NULL), -1);
    assert_int_equal(cr_dtype_of(NULL), CR_DTYPE_DEFAULT);
    assert_false(cr_is_contiguous(NULL) || cr_is_channels_last(NULL) || cr_shares_storage(NULL, NULL));
    assert_true(cr_ok());
    assert_int_equal(cr_size(NULL, 0), -1);
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    assert_null(cr_data(NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
}

/* ---------------------------------------------------------------- reading */
static void one_element_reads_as_a_number_of_any_dtype(void **state) {
    (void)state;
    CR_SCOPE {
        for (int dtype = 0; dtype < CR_DTYPE_COUNT; dtype++) {
            const double given = dtype == CR_BOOL                        ? 1
                                 : cr_dtype_is_floating((cr_dtype)dtype) ? -2.5
                                 : dtype == CR_U8                        ? 200
                                                                         : -100;
            cr_tensor *t = cr_scalar(given, (cr_dtype)dtype);
            assert_true(cr_item(t) == given);
            assert_int_equal(cr_item_i64(t), (int64_t)given);
            assert_true(cr_at(t, CR_SHAPE_0D) == given);
        }
        assert_int_equal(cr_item_i64(cr_scalar_i64(INT64_MAX)), INT64_MAX); /* exact past 2^53 */
        assert_int_equal(cr_item_i64(cr_scalar(1e300, CR_F64)), 0);
        assert_int_equal(cr_item_i64(cr_scalar(1e300, CR_I64)), INT64_MAX);
        assert_int_equal(cr_item_i64(cr_scalar(NAN, CR_I64)), 0);
        assert_true(isinf(cr_item(cr_scalar(1e300, CR_F32))));
        assert_true(isnan(cr_item(cr_empty(CR_F32, CR_SHAPE(2), CR_CPU))));
        assert_cr_error(CR_ERROR_SHAPE, "got f32[2]");
        cr_tensor *t = cr_empty(CR_F32, CR_SHAPE(2, 3), CR_CPU);
        const cr_shape outside[] = {CR_SHAPE(2, 0), CR_SHAPE(0, 3), CR_SHAPE(-1, 0), CR_SHAPE(0), CR_SHAPE(0, 0, 0)};
        for (int i = 0; i < 5; i++) {
            assert_true(isnan(cr_at(t, outside[i])));
            assert_cr_error(CR_ERROR_INDEX, "is outside f32[2,3]");
        }
    }
}

typedef struct geometry {
    cr_shape shape, strides;
    int64_t offset;
} geometry;

/* A view of up to 4 dims inside `room` elements: small strides, some of them equal, some 0. */
static geometry random_geometry(uint64_t seed, int64_t room) {
    uint32_t n[4];
    geometry g = {.shape = {.count = 0}};
    cr_philox((cr_generator_state){seed, 0}, 0, n);
    g.shape.count = g.strides.count = (int)(n[0] % 4);
    g.offset = n[1] % 20;
    int64_t reach = g.offset;
    for (int i = 0; i < g.shape.count; i++) {
        cr_philox((cr_generator_state){seed, 1}, (uint64_t)i, n);
        g.shape.at[i] = 1 + n[0] % 4;
        g.strides.at[i] = n[1] % 13;
        reach += (g.shape.at[i] - 1) * g.strides.at[i];
        if (reach < room) continue;
        reach -= (g.shape.at[i] - 1) * g.strides.at[i];
        g.shape.at[i] = 1;
    }
    return g;
}

/* Marks the bytes of every element; returns whether two indices met. */
static bool mark(const cr_tensor *t, int64_t *order, int64_t count, uint8_t *marks) {
    const int64_t size = (int64_t)cr_dtype_size(cr_dtype_of(t));
    int64_t index[CR_MAX_DIMS] = {0};
    bool met = false;
    for (int64_t done = 0; done < count; done++) {
        int64_t offset = t->offset;
        for (int i = 0; i < t->ndim; i++)
            offset += index[i] * t->strides[i];
        order[done] = offset;
        met |= marks[offset * size] == 1;
        for (int64_t b = 0; b < size; b++)
            marks[offset * size + b] = 1;
        for (int i = t->ndim - 1; i >= 0 && ++index[i] == t->sizes[i]; i--)
            index[i] = 0;
    }
    return met;
}

static void copies_follow_any_strides(void **state) {
    (void)state;
    enum { ROOM = 100 };
    CR_SCOPE {
        cr_tensor *base = cr_empty(CR_I32, CR_SHAPE(ROOM), CR_CPU);
        int32_t *values = cr_data(base), copy[256];
        int64_t order[256];
        for (int i = 0; i < ROOM; i++)
            values[i] = i * 3;
        for (uint64_t seed = 0; seed < 500; seed++) {
            CR_SCOPE {
                uint8_t marks[ROOM * 4] = {0};
                const geometry g = random_geometry(seed, ROOM);
                cr_tensor *view = cr_view_raw(base, g.shape, g.strides, g.offset);
                const int64_t count = cr_numel(view);
                mark(view, order, count, marks);
                assert_true(cr_copy_to_host(view, copy, (size_t)count * 4));
                for (int64_t i = 0; i < count; i++)
                    assert_int_equal(copy[i], order[i] * 3);
            }
        }
        assert_false(cr_copy_to_host(base, copy, 4));
        assert_cr_error(CR_ERROR_ARGUMENT, "takes 400 bytes, the buffer has 4");
        assert_false(cr_copy_to_host(base, NULL, 400));
        assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
        assert_true(cr_copy_to_host(cr_empty(CR_F32, CR_SHAPE(0), CR_CPU), NULL, 0));
    }
}

/* ---------------------------------------------------------------- shared memory */
static void overlaps_are_what_marking_every_byte_finds(void **state) {
    (void)state;
    enum { ROOM = 100 };
    int shared = 0, interleaved = 0;
    CR_SCOPE {
        cr_tensor *base = cr_empty(CR_I32, CR_SHAPE(ROOM), CR_CPU);
        for (uint64_t seed = 0; seed < 4000; seed++) {
            CR_SCOPE {
                uint8_t a_marks[ROOM * 8] = {0}, b_marks[ROOM * 8] = {0};
                int64_t order[256];
                const geometry g = random_geometry(2 * seed, ROOM), h = random_geometry(2 * seed + 1, ROOM / 2);
                cr_tensor *a = cr_view_raw(base, g.shape, g.strides, g.offset);
                const cr_dtype b_dtype = seed % 3 ? CR_I32 : seed % 2 ? CR_I16 : CR_I64;
                cr_tensor *b = cr_view_of_storage(base->storage, b_dtype, h.shape, h.strides, h.offset);
                const bool a_meets_itself = mark(a, order, cr_numel(a), a_marks);
                mark(b, order, cr_numel(b), b_marks);
                bool meet = false;
                for (int i = 0; i < ROOM * 8; i++)
                    meet |= a_marks[i] && b_marks[i];
                const bool is_same = b_dtype == CR_I32 && a->offset == b->offset && a->ndim == 0 && b->ndim == 0;
                assert_int_equal(cr_tensor_partly_overlaps(a, b), meet && !is_same);
                assert_int_equal(cr_tensor_partly_overlaps(b, a), meet && !is_same);
                if (a_meets_itself) assert_true(cr_tensor_self_overlaps(a)); /* it may be too careful */
                int64_t a_low, a_high;
                cr_tensor_extent(a, &a_low, &a_high);
                assert_true(a_marks[a_low * 4] && a_marks[(a_high - 1) * 4]);
                shared += meet;
                interleaved += !meet && a_low < h.offset + 4 && h.offset < a_high;
            }
        }
    }
    assert_true(shared > 500 && interleaved > 100);
}

static void columns_and_halves_do_not_overlap(void **state) {
    (void)state;
    CR_SCOPE {
        cr_tensor *t = cr_empty(CR_F32, CR_SHAPE(1000, 64, 64), CR_CPU);
        const cr_shape half = CR_SHAPE(1000, 64, 32), strides = cr_strides_of(t);
        cr_tensor *left = cr_view_raw(t, half, strides, 0), *right = cr_view_raw(t, half, strides, 32);
        assert_false(cr_tensor_partly_overlaps(left, right));
        assert_true(cr_tensor_partly_overlaps(left, cr_view_raw(t, half, strides, 31)));
        assert_false(cr_tensor_partly_overlaps(left, cr_view_raw(t, half, strides, 0))); /* the same view */
        assert_true(cr_tensor_partly_overlaps(t, left));
        assert_true(cr_tensor_partly_overlaps(t, cr_view_raw(t, CR_SHAPE(1000, 64, 64), CR_SHAPE(4096, 1, 64), 0)));
        assert_false(cr_tensor_partly_overlaps(left, cr_empty(CR_F32, CR_SHAPE(2), CR_CPU)));
        assert_false(cr_tensor_self_overlaps(left));
        assert_true(cr_tensor_self_overlaps(cr_view_raw(t, CR_SHAPE(2, 3), CR_SHAPE(0, 1), 0)));
        assert_true(cr_tensor_self_overlaps(cr_view_raw(t, CR_SHAPE(3, 3), CR_SHAPE(1, 1), 0)));
        assert_false(cr_tensor_self_overlaps(cr_view_raw(t, CR_SHAPE(1, 3), CR_SHAPE(0, 1), 0)));
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(elements_are_counted_or_refused),
        cmocka_unit_test(shapes_broadcast_by_numpys_rule),
        cmocka_unit_test(dims_count_from_both_ends),
        cmocka_unit_test(sizes_that_overflow_are_errors),
        cmocka_unit_test(a_blob_is_given_back_with_its_last_view),
        cmocka_unit_test(a_tensor_tells_its_geometry),
        cmocka_unit_test(one_element_reads_as_a_number_of_any_dtype),
        cmocka_unit_test(copies_follow_any_strides),
        cmocka_unit_test(overlaps_are_what_marking_every_byte_finds),
        cmocka_unit_test(columns_and_halves_do_not_overlap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
