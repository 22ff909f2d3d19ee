CR_API cr_tensor *cr_reshape(cr_tensor *t, cr_shape shape);
CR_API cr_tensor *cr_expand(cr_tensor *t, cr_shape shape);
CR_API cr_tensor *cr_as_strided(cr_tensor *t, cr_shape shape, cr_shape strides, int64_t offset);
CR_API cr_tensor *cr_as_strided_scatter(cr_tensor *t, cr_tensor *s, cr_shape shape, cr_shape strides, int64_t offset);
