/* New tensors, copies and casts. Included by <cresset/ops.h>. */

/* Filled with 0, 1, or a value, which is cast to the dtype. */
CR_API cr_tensor *cr_zeros(cr_dtype dtype, cr_shape shape, cr_device device);
CR_API cr_tensor *cr_ones(cr_dtype dtype, cr_shape shape, cr_device device);
CR_API cr_tensor *cr_full(cr_dtype dtype, cr_shape shape, double value, cr_device device);
/* Same shape, dtype and device as t; never recorded by autograd. */
CR_API cr_tensor *cr_empty_like(const cr_tensor *t);
CR_API cr_tensor *cr_zeros_like(const cr_tensor *t);
CR_API cr_tensor *cr_ones_like(const cr_tensor *t);
CR_API cr_tensor *cr_full_like(const cr_tensor *t, double value);
/* start, start + step, … below end: ceil((end - start) / step) numbers. */
CR_API cr_tensor *cr_arange(cr_dtype dtype, double start, double end, double step, cr_device device);
/* `count` numbers from start to end, both included. */
CR_API cr_tensor *cr_linspace(cr_dtype dtype, double start, double end, int64_t count, cr_device device);
/* Ones on the diagonal of [rows, columns]. */
CR_API cr_tensor *cr_eye(cr_dtype dtype, int64_t rows, int64_t columns, cr_device device);

/* A dense copy in new memory (keeps channels-last). */
CR_API cr_tensor *cr_clone(cr_tensor *t);
/* t itself where it is contiguous, else a contiguous copy. */
CR_API cr_tensor *cr_contiguous(cr_tensor *t);
/* t laid out with channels fastest ([N,C,H,W] or [N,C,D,H,W]); t itself where it is already. */
CR_API cr_tensor *cr_channels_last(cr_tensor *t);
/* t itself where it has the dtype, else a converted copy. Float to integer truncates; to bool is != 0. */
CR_API cr_tensor *cr_cast(cr_tensor *t, cr_dtype dtype);
/* t itself where it is on the device, else a copy there. */
CR_API cr_tensor *cr_to_device(cr_tensor *t, cr_device device);
/* Writes source, broadcast and cast, into target. */
CR_API cr_tensor *cr_copy_(cr_tensor *target, cr_tensor *source);
CR_API cr_tensor *cr_zero_(cr_tensor *t);
