/* Matrix products: matmul over batches, and linear. f32 and f64 by packed panels; f16 and bf16 through f32; integers
 * plainly. */
#include "core/allocator.h"
#include "core/parallel.h"
#include "ops/cpu/variant.h"

#include <string.h>

enum {
    TILE_ROWS = 6,
    DEPTH_BLOCK = 384,
    GROUP_ROWS = 16,
    GROUP_COLUMNS = 4,
    FEW_ROWS = 3,
    SMALL_PRODUCT = 16 * 16 * 16
};

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

#define T        float
#define LANES    (VECTOR_BYTES / 4)
#define NAMED(x) gemm_f32_##x
#include "ops/cpu/variants/gemm_template.h"
#undef T
#undef LANES
#undef NAMED
#define T        double
#define LANES    (VECTOR_BYTES / 8)
#define NAMED(x) gemm_f64_##x
#include "ops/cpu/variants/gemm_template.h"
#undef T
#undef LANES
#undef NAMED

/* ---------------------------------------------------------------- one product of any type */
typedef struct matrix {
    const char *data;
    int64_t row, column; /* strides in elements */
} matrix;

typedef struct product {
    cr_dtype dtype;
    int64_t m, n, k;
    matrix a, b;
    char *c; /* dense */
    const char *bias;
} product;

/* Integers wrap as in C; every sum is exact modulo 2^64. */
static void integer_product(const product *p) {
    for (int64_t r = 0; r < p->m; r++) {
        for (int64_t c = 0; c < p->n; c++) {
            int64_t total = 0;
            for (int64_t k = 0; k < p->k; k++)
                total += ((const int64_t *)p->a.data)[r * p->a.row + k * p->a.column] *
                         ((const int64_t *)p->b.data)[k * p->b.row + c * p->b.column];
            ((int64_t *)p->c)[r * p->n + c] = total;
        }
    }
}

#define RUN_FLOATING(T, prefix)                                                                                        \
    {                                                                                                                  \
        prefix##gemm g = {.m = p->m,                                                                                   \
                          .n = p->n,                                                                                   \
                          .k = p->k,                                                                                   \
                          .a = (const T *)p->a.data,                                                                   \
                          .b = (const T *)p->b.data,                                                                   \
                          .a_row = p->a.row,                                                                           \
                          .a_column = p->a.column,                                                                     \
                          .b_row = p->b.row,                                                                           \
                          .b_column = p->b.column,                                                                     \
                          .c = (T *)p->c,                                                                              \
                          .c_row = p->n,                                                                               \
                          .bias = (const T *)p->bias};                                                                 \
        return prefix##run(&g);                                                                                        \
    }
static bool run_product(const product *p) {
    if (p->dtype == CR_F32) RUN_FLOATING(float, gemm_f32_)
    if (p->dtype == CR_F64) RUN_FLOATING(double, gemm_f64_)
    integer_product(p);
    return true;
}

static cr_dtype product_dtype(cr_dtype dtype) {
    return dtype == CR_F64 ? CR_F64 : cr_dtype_is_floating(dtype) ? CR_F32 : CR_I64;
}

/* Strides that a packed product can read: any but those of expanded rows and columns cost nothing. */
static matrix matrix_of(const cr_tensor *t, int row_dim, int column_dim) {
    return (matrix){cr_tensor_address(t), t->sizes[row_dim] == 1 ? t->sizes[column_dim] : t->strides[row_dim],
                    t->sizes[column_dim] == 1 ? 1 : t->strides[column_dim]};
}

/* Runs f over the result in the product's dtype, and casts it into the output where that has another one. */
static bool with_output(cr_call *call, cr_dtype dtype,
                        bool (*f)(cr_call *call, cr_tensor *a, cr_tensor *b, cr_tensor *bias, cr_tensor *c)) {
    cr_tensor *out = call->outputs[0], *a = cr_cast(call->inputs[0], dtype), *b = cr_cast(call->inputs[1], dtype);
    cr_tensor *bias = call->input_count > 2 && call->inputs[2] ? cr_contiguous(cr_cast(call->inputs[2], dtype)) : NULL;
    cr_tensor *c = out->dtype == (int8_t)dtype ? out : cr_empty(dtype, cr_tensor_shape(out), CR_CPU);
    if (!a || !b || !c || (!bias && call->input_count > 2 && call->inputs[2]) || !f(call, a, b, bias, c)) return false;
    return c == out || cr_copy_(out, c);
}

static bool multiply_batches(cr_call *call, cr_tensor *a, cr_tensor *b, cr_tensor *bias, cr_tensor *c) {
    (void)call, (void)bias;
    const int batch_dims = c->ndim - 2;
    product p = {.dtype = (cr_dtype)c->dtype,
                 .m = c->sizes[batch_dims],
                 .n = c->sizes[batch_dims + 1],
                 .k = a->sizes[a->ndim - 1],
                 .a = matrix_of(a, a->ndim - 2, a->ndim - 1),
                 .b = matrix_of(b, b->ndim - 2, b->ndim - 1)};
    const size_t size = cr_dtype_size(p.dtype);
    const char *first_a = p.a.data, *first_b = p.b.data;
    int64_t batches = 1, index[CR_MAX_DIMS] = {0};
    if (c->numel == 0) return true;
    for (int d = 0; d < batch_dims; d++)
        batches *= c->sizes[d];
    for (int64_t batch = 0; batch < batches; batch++) {
        int64_t offset_a = 0, offset_b = 0;
        for (int d = 0; d < batch_dims; d++) {
            const int da = d - (batch_dims - (a->ndim - 2)), db = d - (batch_dims - (b->ndim - 2));
            if (da >= 0 && a->sizes[da] != 1) offset_a += index[d] * a->strides[da];
            if (db >= 0 && b->sizes[db] != 1) offset_b += index[d] * b->strides[db];
        }
        p.a.data = first_a + offset_a * (int64_t)size;
        p.b.data = first_b + offset_b * (int64_t)size;
        p.c = (char *)cr_tensor_address(c) + (size_t)(batch * p.m * p.n) * size;
        if (!run_product(&p)) return false;
        for (int d = batch_dims - 1; d >= 0 && ++index[d] == c->sizes[d]; d--)
            index[d] = 0;
    }
    return true;
}

CR_KERNEL(matmul) { return with_output(call, product_dtype((cr_dtype)call->outputs[0]->dtype), multiply_batches); }

static bool multiply_linear(cr_call *call, cr_tensor *x, cr_tensor *weight, cr_tensor *bias, cr_tensor *c) {
    (void)call;
    const int64_t in = weight->sizes[1],
                  rows = in ? x->numel / in : c->numel / (weight->sizes[0] ? weight->sizes[0] : 1);
    x = cr_contiguous(x);
    if (!x) return false;
    const product p = {.dtype = (cr_dtype)c->dtype,
                       .m = rows,
                       .n = weight->sizes[0],
                       .k = in,
                       .a = {cr_tensor_address(x), in, 1},
                       .b = matrix_of(weight, 1, 0),
                       .c = cr_tensor_address(c),
                       .bias = bias ? cr_tensor_address(bias) : NULL};
    return run_product(&p);
}
CR_KERNEL(linear) { return with_output(call, product_dtype((cr_dtype)call->outputs[0]->dtype), multiply_linear); }
