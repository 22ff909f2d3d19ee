/* The dtypes: sizes, names, promotion. */
#include "core/dtype.h"

#include <math.h>
#include <string.h>

static const struct {
    uint8_t size;
    const char *name, *torch_name, *alias;
} dtype_rows[CR_DTYPE_COUNT] = {
    [CR_BOOL] = {1, "bool", "bool", "bool"},   [CR_U8] = {1, "u8", "uint8", "byte"},
    [CR_I8] = {1, "i8", "int8", "char"},       [CR_I16] = {2, "i16", "int16", "short"},
    [CR_I32] = {4, "i32", "int32", "int"},     [CR_I64] = {8, "i64", "int64", "long"},
    [CR_F16] = {2, "f16", "float16", "half"},  [CR_BF16] = {2, "bf16", "bfloat16", "bfloat16"},
    [CR_F32] = {4, "f32", "float32", "float"}, [CR_F64] = {8, "f64", "float64", "double"},
};

static bool is_known(cr_dtype dtype) { return (unsigned)dtype < CR_DTYPE_COUNT; }

size_t cr_dtype_size(cr_dtype dtype) { return is_known(dtype) ? dtype_rows[dtype].size : 0; }
const char *cr_dtype_name(cr_dtype dtype) { return is_known(dtype) ? dtype_rows[dtype].name : "?"; }
bool cr_dtype_is_floating(cr_dtype dtype) { return dtype >= CR_F16 && dtype <= CR_F64; }
bool cr_dtype_is_integral(cr_dtype dtype) { return dtype >= CR_U8 && dtype <= CR_I64; }

bool cr_dtype_parse(const char *text, cr_dtype *dtype) {
    if (!text || !dtype) return cr_fail(CR_ERROR_ARGUMENT, "dtype_parse: NULL argument");
    for (int i = 0; i < CR_DTYPE_COUNT; i++) {
        if (!strcmp(text, dtype_rows[i].name) || !strcmp(text, dtype_rows[i].torch_name) ||
            !strcmp(text, dtype_rows[i].alias)) {
            *dtype = (cr_dtype)i;
            return true;
        }
    }
    return cr_fail(CR_ERROR_DTYPE, "unknown dtype \"%.40s\"; known: bool u8 i8 i16 i32 i64 f16 bf16 f32 f64", text);
}

cr_dtype cr_dtype_promote(cr_dtype a, cr_dtype b) {
    if (!is_known(a) || !is_known(b)) return CR_DTYPE_DEFAULT;
    if (a == b) return a;
    cr_dtype low = a < b ? a : b, high = a < b ? b : a;
    if (low == CR_F16 && high == CR_BF16) return CR_F32;
    if (low == CR_U8 && high == CR_I8) return CR_I16;
    return high; /* the enum is in order of promotion but for the two pairs above */
}

double cr_largest_below(cr_dtype dtype, double low, double high) {
    double most = nextafter(high, -INFINITY);
    if (dtype != CR_F64) {
        float near = (float)high;
        if (dtype == CR_F16) near = cr_f16_to_f32(cr_f32_to_f16(near));
        if (dtype == CR_BF16) near = cr_bf16_to_f32(cr_f32_to_bf16(near));
        /* one step of the dtype down from the nearest number, unless rounding went down already */
        const float step = dtype == CR_F32 ? near - nextafterf(near, -INFINITY)
                                           : (near - nextafterf(near, -INFINITY)) * (dtype == CR_F16 ? 8192 : 65536);
        most = (double)near < high ? (double)near : (double)(near - step);
    }
    return most < low ? low : most;
}
