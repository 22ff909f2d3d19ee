/* Ops by name, and a listing of the table: for tools, bindings and tests. Included by <cresset/ops.h>. */

/* Runs the op `name`. `attributes` is text, "stride=[2,2] groups=1" (NULL or "": the defaults); an absent optional
 * input is NULL. Fills outputs[0 … output_count-1]; fewer than the op has is allowed. */
CR_API bool cr_op_call(const char *name, cr_tensor *const *inputs, int input_count, const char *attributes,
                       cr_tensor **outputs, int output_count);

typedef struct cr_op_description {
    const char *name;
    const char *doc;        /* one line */
    const char *inputs;     /* "input weight bias?" (`?` optional, `*` any number) */
    const char *outputs;    /* "values indices" */
    const char *expression; /* a pointwise op's formula, or NULL */
    int attribute_count;
    bool is_pointwise, is_view, is_random;
    bool has_gradient; /* a rule of its own, or a decomposition into ops that have one */
    bool has_decomposition;
    bool has_kernel_cpu, has_kernel_cuda;
} cr_op_description;

/* How many rows the table has. */
CR_API int cr_op_count(void);
/* The index-th row of the table; false and an error outside it. */
CR_API bool cr_op_describe(int index, cr_op_description *description);
/* "stride=[1,1] groups=1": an op's attributes with their defaults, from cr_malloc; NULL and an error for no such op. */
CR_API char *cr_op_attributes(const char *name);
