/* DLPack: memory is shared both ways, owned by whoever should own it, and what cannot be shared is an error.
 * Labels: torch */
#include "tests/unit/testing.h"
#include "tests/unit/reference.h"

#include "core/tensor.h"

#include <cresset/dlpack.h>
#include <stdlib.h>

static int deletions;
static void count_deletion(DLManagedTensor *managed) {
    (void)managed;
    deletions++;
}

static float values[24];
static int64_t sizes[9] = {2, 3, 1, 1, 1, 1, 1, 1, 1}, strides[2] = {1, 2};

static DLManagedTensor foreign(void) {
    return (DLManagedTensor){.dl_tensor = {values, {kDLCPU, 0}, 2, {kDLFloat, 32, 1}, sizes, NULL, 0},
                             .deleter = count_deletion};
}

static void a_tensor_lives_until_its_export_is_deleted(void **state) {
    (void)state;
    const int64_t before = cr_memory_stats().live_bytes;
    DLManagedTensor *managed = NULL;
    CR_SCOPE {
        cr_tensor *t = cr_from_data(CR_F32, CR_SHAPE(3, 2), (const float[]){1, 2, 3, 4, 5, 6});
        managed = cr_to_dlpack(cr_view_raw(t, CR_SHAPE(2, 2), CR_SHAPE(1, 2), 2));
    }
    assert_int_equal(managed->dl_tensor.ndim, 2);
    assert_int_equal(managed->dl_tensor.shape[1], 2);
    assert_int_equal(managed->dl_tensor.strides[1], 2);
    assert_int_equal(managed->dl_tensor.dtype.code, kDLFloat);
    assert_int_equal(managed->dl_tensor.dtype.bits, 32);
    assert_int_equal(managed->dl_tensor.device.device_type, kDLCPU);
    assert_true(((float *)managed->dl_tensor.data)[0] == 3 && ((float *)managed->dl_tensor.data)[2] == 5);
    managed->deleter(managed);
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

static void an_imported_tensor_deletes_with_its_last_view(void **state) {
    (void)state;
    const int64_t before = cr_memory_stats().live_bytes;
    DLManagedTensor managed = foreign();
    deletions = 0;
    for (int i = 0; i < 24; i++)
        values[i] = (float)i;
    cr_tensor *view = NULL;
    CR_SCOPE {
        cr_tensor *t = cr_from_dlpack(&managed);
        assert_cr_ok();
        assert_ptr_equal(cr_data(t), values);
        assert_true(cr_is_contiguous(t));
        assert_true(cr_at(t, CR_SHAPE(1, 1)) == 4);
        view = cr_keep(cr_view_raw(t, CR_SHAPE(2), CR_SHAPE(3), 1));
    }
    assert_int_equal(deletions, 0);
    cr_discard(view);
    assert_int_equal(deletions, 1);
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

static void strides_and_offsets_are_followed(void **state) {
    (void)state;
    DLManagedTensor managed = foreign(); /* outlives the tensor */
    CR_SCOPE {
        managed.dl_tensor.strides = strides;
        managed.dl_tensor.byte_offset = 4 * sizeof(float);
        managed.deleter = NULL; /* allowed: nothing to delete */
        cr_tensor *t = cr_from_dlpack(&managed);
        assert_cr_ok();
        assert_ptr_equal(cr_data(t), values + 4);
        assert_int_equal(cr_strides_of(t).at[1], 2);
        assert_true(cr_at(t, CR_SHAPE(1, 2)) == 9);
    }
}

static void every_dtype_makes_the_round_trip(void **state) {
    (void)state;
    const int64_t before = cr_memory_stats().live_bytes;
    for (int dtype = 0; dtype < CR_DTYPE_COUNT; dtype++) {
        CR_SCOPE {
            cr_tensor *t = cr_empty((cr_dtype)dtype, CR_SHAPE(2, 3), CR_CPU),
                      *empty = cr_empty((cr_dtype)dtype, CR_SHAPE(0, 3), CR_CPU);
            cr_tensor *back = cr_from_dlpack(cr_to_dlpack(t)), *empty_back = cr_from_dlpack(cr_to_dlpack(empty));
            assert_cr_ok();
            assert_int_equal(cr_dtype_of(back), dtype);
            assert_ptr_equal(cr_data(back), cr_data(t));
            assert_true(cr_shape_equal(cr_shape_of(empty_back), CR_SHAPE(0, 3)));
        }
    }
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

static void refuse(DLManagedTensor managed, cr_error_code code, const char *complaint) {
    assert_null(cr_from_dlpack(&managed));
    assert_cr_error(code, complaint);
    assert_int_equal(deletions, 0);
}

static void what_cannot_be_shared_stays_with_the_caller(void **state) {
    (void)state;
    deletions = 0;
    const int64_t before = cr_memory_stats().live_bytes;
    const DLManagedTensor good = foreign();
    DLManagedTensor m;
#define REFUSE(change, code, complaint) (m = good, change, refuse(m, code, complaint))
    REFUSE(m.dl_tensor.dtype.lanes = 2, CR_ERROR_DTYPE, "2 lanes");
    REFUSE(m.dl_tensor.dtype.code = kDLComplex, CR_ERROR_DTYPE, "code 5");
    REFUSE(m.dl_tensor.dtype.bits = 128, CR_ERROR_DTYPE, "128 bits");
    REFUSE(m.dl_tensor.device.device_type = (DLDeviceType)10, CR_ERROR_DEVICE, "type 10");
    REFUSE((m.dl_tensor.device.device_type = kDLCUDA, m.dl_tensor.device.device_id = 77), CR_ERROR_DEVICE, "cuda:77");
    REFUSE(m.dl_tensor.device.device_id = -1, CR_ERROR_DEVICE, "number -1");
    REFUSE(m.dl_tensor.ndim = 9, CR_ERROR_SHAPE, "9 dims");
    REFUSE(m.dl_tensor.ndim = -1, CR_ERROR_SHAPE, "-1 dims");
    REFUSE(m.dl_tensor.shape = NULL, CR_ERROR_SHAPE, "no shape");
    REFUSE(m.dl_tensor.data = NULL, CR_ERROR_ARGUMENT, "NULL data");
    REFUSE(m.dl_tensor.byte_offset = 2, CR_ERROR_UNSUPPORTED, "not aligned");
    REFUSE(m.dl_tensor.byte_offset = UINT64_MAX - 3, CR_ERROR_SHAPE, "memory");
    int64_t negative[2] = {2, -3}, huge[2] = {INT64_MAX, 4}, large[2] = {INT64_MAX / 2, 2},
            far[2] = {INT64_MAX / 2, INT64_MAX / 2}, backward[2] = {-3, 1};
    REFUSE(m.dl_tensor.shape = negative, CR_ERROR_SHAPE, "negative size");
    REFUSE(m.dl_tensor.shape = huge, CR_ERROR_SHAPE, "int64");
    REFUSE(m.dl_tensor.shape = large, CR_ERROR_SHAPE, "more bytes");
    REFUSE(m.dl_tensor.strides = far, CR_ERROR_SHAPE, "past int64");
    REFUSE(m.dl_tensor.strides = backward, CR_ERROR_UNSUPPORTED, "negative stride -3");
    assert_null(cr_from_dlpack(NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    assert_null(cr_to_dlpack(NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

static void a_failing_allocation_leaves_ownership_alone(void **state) {
    (void)state;
    deletions = 0;
    const int64_t before = cr_memory_stats().live_bytes;
    DLManagedTensor managed = foreign();
    cr_tensor *t = NULL;
    for (int n = 1; !t; n++) {
        cr_memory_fail_nth(n);
        t = cr_from_dlpack(&managed);
        cr_memory_fail_nth(0);
        if (t) break;
        assert_cr_error(CR_ERROR_MEMORY, "made to fail");
        assert_int_equal(deletions, 0);
    }
    cr_memory_fail_nth(1);
    assert_null(cr_to_dlpack(t));
    cr_memory_fail_nth(0);
    assert_cr_error(CR_ERROR_MEMORY, "made to fail");
    cr_discard(t);
    assert_int_equal(deletions, 1);
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

static void pytorch_shares_memory_with_us(void **state) {
    (void)state;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    skip(); /* a plain Python cannot load a sanitized library */
#endif
    if (!has_python_module("torch") || !getenv("CRESSET_BUILD")) skip();
    char library[512];
    snprintf(library, sizeof library, "%s/libcresset.so", getenv("CRESSET_BUILD"));
    assert_true(run_reference("dlpack_reference.py", library, ""));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_tensor_lives_until_its_export_is_deleted),
        cmocka_unit_test(an_imported_tensor_deletes_with_its_last_view),
        cmocka_unit_test(strides_and_offsets_are_followed),
        cmocka_unit_test(every_dtype_makes_the_round_trip),
        cmocka_unit_test(what_cannot_be_shared_stays_with_the_caller),
        cmocka_unit_test(a_failing_allocation_leaves_ownership_alone),
        cmocka_unit_test(pytorch_shares_memory_with_us),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
