/* The op table: one row defines an op for the dispatcher, autograd, the tracer, the JIT and ONNX.
 * How to add one: docs/adding-an-op.md. */
#ifndef CRESSET_OPS_OP_H
#define CRESSET_OPS_OP_H

#include <cresset/ops.h>

#include "core/device.h"
#include "core/tensor.h"

enum { CR_MAX_INPUTS = 64, CR_MAX_OUTPUTS = 8, CR_MAX_LISTENERS = 4 };

struct cr_op;

/* ---------------------------------------------------------------- attributes */
typedef enum cr_attribute_kind {
    CR_ATTRIBUTE_INT,      /* int64_t */
    CR_ATTRIBUTE_FLOAT,    /* double */
    CR_ATTRIBUTE_BOOL,     /* bool */
    CR_ATTRIBUTE_DTYPE,    /* cr_dtype */
    CR_ATTRIBUTE_DEVICE,   /* cr_device */
    CR_ATTRIBUTE_DIMS,     /* cr_dims */
    CR_ATTRIBUTE_TEXT,     /* const char *, interned: cr_intern */
    CR_ATTRIBUTE_GENERATOR /* cr_generator *, NULL: the default one; not printed */
} cr_attribute_kind;

typedef struct cr_attribute {
    const char *name;
    cr_attribute_kind kind;
    size_t offset; /* in the op's attribute struct, which begins with size_t size */
} cr_attribute;

/* `CR_ATTRIBUTES(reduce, CR_REDUCE_ATTRIBUTES)` makes `reduce_attributes` and `reduce_defaults` of struct
 * cr_reduce_options, from the list CR_REDUCE_ATTRIBUTES(A, op) of A(op, KIND, name, default) in include/cresset/ops/; a
 * row takes them with CR_ROW_ATTRIBUTES(reduce). Several rows may share one list. */
#define CR_ATTRIBUTE_ROW_(op, kind, field, ...) {#field, CR_ATTRIBUTE_##kind, offsetof(cr_##op##_options, field)},
#define CR_ATTRIBUTES(op, LIST)                                                                                        \
    static const cr_attribute op##_attributes[] = {LIST(CR_ATTRIBUTE_ROW_, op)};                                       \
    static const cr_##op##_options op##_defaults = {.size = sizeof(cr_##op##_options), LIST(CR_DEFAULT_, op)};
/* The defaults alone, for options that belong to no row. */
#define CR_OPTION_DEFAULTS(op, LIST)                                                                                   \
    static const cr_##op##_options op##_defaults = {.size = sizeof(cr_##op##_options), LIST(CR_DEFAULT_, op)};
#define CR_ROW_ATTRIBUTES(op)                                                                                          \
    .attributes = op##_attributes, .attribute_count = (int)(sizeof op##_attributes / sizeof op##_attributes[0]),       \
    .defaults = &op##_defaults, .attribute_bytes = sizeof op##_defaults

/* One copy of each text for the process's life: attribute texts compare by pointer. NULL on failure. */
const char *cr_intern(const char *text);
/* Text to an op's attribute struct, over its defaults, and back (from cr_malloc). */
bool cr_attributes_parse(const struct cr_op *op, const char *text, void *attributes);
char *cr_attributes_print(const struct cr_op *op, const void *attributes);
/* The same attribute values (structs of one op). */
bool cr_attributes_equal(const struct cr_op *op, const void *a, const void *b);

/* ---------------------------------------------------------------- a call */
/* What an output will be. */
typedef struct cr_spec {
    cr_dtype dtype;
    bool channels_last; /* 4-d and 5-d: lay channels fastest */
    cr_shape shape;
} cr_spec;

typedef struct cr_call {
    const struct cr_op *op;
    cr_tensor **inputs; /* an absent optional one is NULL */
    int input_count;
    cr_tensor **outputs; /* preset in an in-place call */
    int output_count;
    const void *attributes; /* the op's attribute struct, complete */
    cr_device device;
    bool in_place;  /* outputs[0] is the tensor that is overwritten */
    cr_spec *specs; /* infer's answer, one for each output */
} cr_call;

/* The vector-Jacobian product of one recorded call: results[i] = grads · d outputs / d inputs[i], written with ops.
 * The driver sums a result over broadcast dims and casts it to the input's dtype; rules need not. */
typedef struct cr_vjp {
    const struct cr_op *op;
    const void *attributes;
    cr_tensor **inputs;  /* those that the row saves; others NULL */
    cr_tensor **outputs; /* likewise */
    cr_tensor **grads;   /* of the outputs; never NULL where the output is floating (zeros are made) */
    const bool *needs;   /* which results are wanted */
    cr_tensor **results; /* to fill; NULL means zero */
    cr_tensor **sum;     /* of what has come for inputs[0] so far, dense, or of nothing: may be added to; or NULL */
    const cr_spec *input_specs;
    int input_count, output_count;
} cr_vjp;

/* Stores a result; false where it is NULL (an error is recorded then). */
static inline bool cr_vjp_set(cr_vjp *v, int index, cr_tensor *gradient) {
    v->results[index] = gradient;
    return gradient != NULL;
}

/* ---------------------------------------------------------------- the row */
#define CR_SAVE_INPUT(i)   (1u << (i))
#define CR_SAVE_OUTPUT(i)  (1u << (16 + (i)))
#define CR_SAVE_ALL_INPUTS 0xffffu

enum {
    CR_OP_VIEW = 1,        /* outputs look into inputs[0]'s storage; `view` makes them */
    CR_OP_RANDOM = 2,      /* draws from a generator: never folded or merged */
    CR_OP_POINTWISE = 4,   /* a row of pointwise.def; `pointwise` describes it */
    CR_OP_NO_GRADIENT = 8, /* outputs never require gradients, whatever their dtype */
    CR_OP_READS_HOST = 16, /* output sizes depend on values (nonzero, masked_select) */
    CR_OP_BLOCKS = 32,     /* only in graphs: its results are those of its node's first block */
    CR_OP_LOOPS = 64,      /* all that its kernel does to elements goes through cr_loop_run (core/loops.h) */
    CR_OP_REWRITES = 128   /* outputs[0] is inputs[0] with parts written anew; it may be given in its place */
};

typedef struct cr_pointwise_info cr_pointwise_info;

typedef struct cr_op {
    const char *name;
    const char *inputs;  /* names: "input weight bias?": `?` optional; "tensors*": any number, at least one */
    const char *outputs; /* names; NULL: "output"; "": none */
    const cr_attribute *attributes;
    int attribute_count;
    const void *defaults; /* a complete attribute struct */
    size_t attribute_bytes;
    unsigned flags;
    unsigned saves;            /* CR_SAVE_*: what the gradient rule reads */
    unsigned constant_outputs; /* bit i: outputs[i] carries no gradient (statistics kept for backward) */
    unsigned mutates;          /* bit i: inputs[i] is written in place (running statistics, optimizer updates) … */
    size_t mutates_where;      /* … where the bool attribute at this offset is true; 0: always */
    size_t program_at;         /* fused rows: where their attributes have the program (ops/fused.h); 0: no such row */

    bool (*infer)(cr_call *call);     /* checks the call, fills specs; for view ops may be NULL */
    bool (*view)(cr_call *call);      /* sets outputs (cr_view_raw) */
    bool (*decompose)(cr_call *call); /* sets outputs, with smaller ops */
    bool (*vjp)(cr_vjp *v);
    double (*flops)(const cr_call *call); /* (optional) see cr_op_flops; may read sizes, dtypes and attributes only */
    const cr_pointwise_info *pointwise;
    const char *doc; /* one line */

    /* Filled in by the table. */
    int id;
    int input_minimum, input_maximum, output_total;
    uint32_t optional_inputs; /* bit i: inputs[i] may be absent */
    _Atomic(cr_kernel) kernels[CR_DEVICE_TYPE_COUNT];
} cr_op;

/* Defines and registers a row (the build collects lines that begin with CR_OP):  CR_OP(name, .inputs = …, …) */
#define CR_OP(op, ...) cr_op cr_op_##op = {.name = #op, __VA_ARGS__};

cr_op *cr_op_find(const char *name); /* NULL where there is none, without an error */
int cr_op_total(void);
cr_op *cr_op_at(int index);
/* Adds a row at run time (a user's op). It must live as long as the process. */
bool cr_op_register(cr_op *op);
/* Installs a device's kernels into the rows. Unknown names are ignored: a plug-in may be newer. */
void cr_op_install_kernels(cr_device_type type, const cr_kernel_row *kernels, int count);

/* ---------------------------------------------------------------- running */
/* Runs an op; attributes NULL: the defaults. Returns the first output, owned by the innermost scope. */
cr_tensor *cr_run(cr_op *op, cr_tensor *const *inputs, int input_count, const void *attributes);
/* The same, filling all outputs. */
bool cr_run_all(cr_op *op, cr_tensor *const *inputs, int input_count, const void *attributes, cr_tensor **outputs,
                int output_count);
/* In place: the first output overwrites `target`, which is also returned. */
cr_tensor *cr_run_in_place(cr_op *op, cr_tensor *target, cr_tensor *const *inputs, int input_count,
                           const void *attributes);
/* The caller's struct (of its own age and size) over the defaults: for `_with` functions. */
const void *cr_options_complete(const cr_op *op, const void *options, void *storage);

#define CR_RUN(name, options, ...)                                                                                     \
    cr_run(&cr_op_##name, (cr_tensor *const[]){__VA_ARGS__}, CR_COUNT_TENSORS_(__VA_ARGS__), options)
#define CR_COUNT_TENSORS_(...) ((int)(sizeof((cr_tensor *const[]){__VA_ARGS__}) / sizeof(cr_tensor *)))

/* ---------------------------------------------------------------- listeners: autograd, the tracer */
enum {
    CR_WANTS_NOTHING = 0,
    CR_WANTS_RECORD = 1,  /* tell me of the call when it is done */
    CR_WANTS_GRADIENT = 2 /* and I must be able to differentiate it */
};

typedef struct cr_listener {
    unsigned (*wants)(const cr_call *call);
    bool (*before)(cr_call *call); /* (optional) may refuse, with an error; only where it wants something */
    bool (*after)(cr_call *call);  /* records; only where it wants something */
} cr_listener;

/* Adds a listener for the whole process; adding it again does nothing. */
bool cr_listener_add(const cr_listener *listener);

/* The operands that a call with these attributes writes: a row's `mutates`, or 0. */
static inline unsigned cr_op_mutates(const cr_op *op, const void *attributes) {
    return op->mutates_where && !*((const bool *)attributes + op->mutates_where) ? 0 : op->mutates;
}

/* ---------------------------------------------------------------- what a call costs, by its operands' and results' sizes
 * The arithmetic of a call: its row's `flops`; a pointwise op counts one for each element of its result, whatever it
 * computes; ops that only move data count nothing. A multiply-add is two. */
double cr_op_flops(const cr_call *call);
/* Bytes that must pass between processor and memory: each element of the operands and results once (a broadcast operand
 * counts the elements that it has), and what is written in place twice. Caches may save some of it. */
double cr_op_bytes(const cr_call *call);
double cr_op_bytes_read(const cr_call *call); /* those of the operands */
/* For rows: one for each element of the first operand; a sum over the first operand's last dim for each result. */
double cr_flops_each_input(const cr_call *call);
double cr_flops_product(const cr_call *call);

/* ---------------------------------------------------------------- helpers for rows and kernels */
/* One output like `t`, of this dtype and shape. */
static inline void cr_spec_set(cr_call *call, int index, cr_dtype dtype, cr_shape shape) {
    call->specs[index].dtype = dtype;
    call->specs[index].channels_last = false;
    call->specs[index].shape = shape;
}
/* Outputs[0] of a row with CR_OP_REWRITES begins as its input, unless it lies in its place already. */
bool cr_begin_rewrite(cr_tensor *output, cr_tensor *input);
/* Makes an uninitialised tensor for a spec. */
cr_tensor *cr_empty_spec(const cr_spec *spec, cr_device device);
/* t itself where it is contiguous, else a contiguous copy; NULL, without an error, of an optional operand. */
cr_tensor *cr_dense(cr_tensor *t);
/* An error that describes every operand: "conv2d: …; input is f32[2,3], weight is f32[4]". */
void cr_record_call_error(const cr_call *call, cr_error_code code, const char *format, ...) CR_PRINTF(3, 4);
#define cr_fail_call(...) (cr_record_call_error(__VA_ARGS__), false)

#endif
