#define CR_SUM_ATTRIBUTES(A, op) A(op, DIMS, dims, CR_ALL_DIMS) A(op, BOOL, keepdim, false) A(op, DTYPE, dtype, CR_DTYPE_DEFAULT)
CR_OPTIONS(sum, CR_SUM_ATTRIBUTES)
CR_API cr_tensor *cr_sum_with(cr_tensor *x, const cr_sum_options *options);
#define cr_sum(x, ...) cr_sum_with(x, CR_WITH(sum, CR_SUM_ATTRIBUTES, __VA_ARGS__))
