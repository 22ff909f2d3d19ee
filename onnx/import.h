/* Reading models: names are linked to numbers once, then a program's nodes are run as ops, eagerly or under a tracer.
 *
 * A row says what an operator is in ops of ours. It sees real tensors, or under a tracer hollow ones; what it must know
 * on the host (a new shape, axes) it asks for with cr_onnx_ints, which under a tracer knows constants, sizes, and what was
 * computed from these alone. */
#ifndef CRESSET_ONNX_IMPORT_H
#define CRESSET_ONNX_IMPORT_H

#include "core/thread.h"
#include "jit/pool.h"
#include "onnx/model.h"
#include "onnx/table.h"

#include <cresset/onnx.h>

typedef struct cr_onnx_call cr_onnx_call;
typedef struct cr_onnx_node cr_onnx_node;
typedef struct cr_onnx_block cr_onnx_block;

/* ---------------------------------------------------------------- the table */
enum {
    CR_ONNX_GROWS = 1, /* the result's sizes follow from operands' values: under a tracer it is not computed ahead where
                         * those follow from sizes that may differ */
    CR_ONNX_RANDOM = 2, /* never computed ahead */
    CR_ONNX_BLOCKS = 4, /* runs graphs of its own: likewise */
    CR_ONNX_SIZES = 8,  /* the result follows from the operand's sizes alone */
    CR_ONNX_VALUES = 16 /* how large the result is follows from values: only what is known can be traced */
};

typedef struct cr_onnx_row {
    const char *name;   /* "Conv" */
    const char *domain; /* "" */
    int since;          /* the lowest opset that it understands */
    unsigned flags;
    bool (*run)(cr_onnx_call *call);
} cr_onnx_row;

/* A row of the main domain, or of another; the build collects lines that begin so. Its function is run_NAME. */
#define CR_ONNX_IMPORT(operator, since_, flags_)             CR_ONNX_ROW_(operator, "", since_, flags_)
#define CR_ONNX_IMPORT_OF(operator, domain_, since_, flags_) CR_ONNX_ROW_(operator, domain_, since_, flags_)
#define CR_ONNX_ROW_(operator, domain_, since_, flags_)                                                                \
    const cr_onnx_row cr_onnx_import_##operator= {#operator, domain_, since_, flags_, run_##operator};

/* The row of an operator, or NULL. */
const cr_onnx_row *cr_onnx_row_named(const char *domain, const char *name);
/* All of them. */
int cr_onnx_row_count(void);
const cr_onnx_row *cr_onnx_row_at(int index);

/* ---------------------------------------------------------------- a program */
enum { CR_ONNX_MOST_OPERANDS = 64, CR_ONNX_MOST_BLOCKS = 4 };

struct cr_onnx_node {
    const CrOnnx__NodeProto *proto;
    const cr_onnx_row *row; /* NULL: a function, a pair, or the user's own */
    const cr_onnx_pair *pair;
    const struct cr_onnx_custom *custom;
    cr_onnx_block *body;        /* of a function */
    const cr_onnx_node *caller; /* the node whose function this one stands in: for attributes that refer to its */
    int opset;
    int *inputs, *outputs; /* numbers of values; -1: absent */
    int input_count, output_count;
    const char *block_names[CR_ONNX_MOST_BLOCKS]; /* attributes with graphs */
    cr_onnx_block *blocks[CR_ONNX_MOST_BLOCKS];
    int block_count;
    const char *label; /* "Conv", and the name that the file gives it, for messages */
};

struct cr_onnx_block {
    cr_onnx_node *nodes;
    int node_count;
    int *inputs, *outputs;
    int input_count, output_count;
    int first_value, last_value; /* the values that belong to it alone */
};

/* A value that the file gives. */
typedef struct cr_onnx_initial {
    int value;
    const char *name;
    cr_tensor *tensor; /* one owner */
    bool is_parameter, is_statistic;
} cr_onnx_initial;

typedef struct cr_onnx_program {
    cr_onnx_file *file;
    cr_pool pool;
    cr_onnx_block main;
    CrOnnx__ValueInfoProto **inputs; /* those without an initialiser */
    int value_count;
    int *last_uses; /* by value: the node of main after which nobody reads it; -1: keep it */
    cr_onnx_initial *initials;
    int initial_count;
    int *initial_of;                /* by value: which of them, or -1 */
    const cr_onnx_node **producers; /* by value: the node of main that gives it, or NULL */
} cr_onnx_program;

/* Opens and links a model. NULL and an error: names that nobody gives, operators that are missing (all of them), … */
cr_onnx_program *cr_onnx_program_open(const char *path);
void cr_onnx_program_free(cr_onnx_program *program);

/* ---------------------------------------------------------------- running */
typedef struct cr_onnx_operand {
    cr_tensor *tensor; /* NULL: absent */
    bool is_known;     /* its values can be asked for under a tracer */
    bool is_sized;     /* known, and they follow from sizes that may differ */
    bool is_parameter; /* known as it is now, and may be trained */
} cr_onnx_operand;

typedef struct cr_onnx_run {
    const cr_onnx_program *program;
    cr_onnx_operand *values; /* by number */
    bool is_training;
    bool is_traced;
} cr_onnx_run;

struct cr_onnx_call {
    cr_onnx_run *run;
    const cr_onnx_node *node;
    int opset;
    cr_onnx_operand inputs[CR_ONNX_MOST_OPERANDS];
    int input_count;
    cr_onnx_operand outputs[CR_ONNX_MOST_OPERANDS];
    int output_count; /* that the node names */
};

/* Runs a program; inputs[i] for its i-th input, which is a constant where is_known[i] (NULL: none is). Outputs belong to
 * the innermost scope. */
bool cr_onnx_program_run(const cr_onnx_program *program, bool is_training, cr_tensor *const *inputs,
                         const bool *is_known, int input_count, cr_tensor **outputs, int output_count);
/* Runs a block of a node, inside of a row. */
bool cr_onnx_block_run(cr_onnx_run *run, const cr_onnx_block *block, const cr_onnx_operand *inputs, int input_count,
                       cr_onnx_operand *outputs, int output_count);

/* Between these two nothing is recorded, and everything is computed. */
typedef struct cr_onnx_pause {
    bool listeners_paused, dry_run;
} cr_onnx_pause;
static inline cr_onnx_pause cr_onnx_pause_trace(void) {
    cr_thread *thread = cr_thread_self();
    const cr_onnx_pause before = {thread->listeners_paused, thread->dry_run};
    thread->listeners_paused = true;
    thread->dry_run = false;
    return before;
}
static inline void cr_onnx_resume_trace(cr_onnx_pause before) {
    cr_thread *thread = cr_thread_self();
    thread->listeners_paused = before.listeners_paused;
    thread->dry_run = before.dry_run;
}

/* ---------------------------------------------------------------- for rows: attributes */
const CrOnnx__AttributeProto *cr_onnx_attribute(const cr_onnx_call *call, const char *name); /* NULL: not given */
int64_t cr_onnx_int(const cr_onnx_call *call, const char *name, int64_t otherwise);
double cr_onnx_float(const cr_onnx_call *call, const char *name, double otherwise);
/* A copy in the process's table of texts, so that texts compare by strcmp and need no end. */
const char *cr_onnx_text(const cr_onnx_call *call, const char *name, const char *otherwise);
/* False where it is not given; an error where it has more than CR_MAX_DIMS numbers. */
bool cr_onnx_dims_attribute(const cr_onnx_call *call, const char *name, cr_dims *dims);
cr_onnx_block *cr_onnx_block_named(const cr_onnx_call *call, const char *name);

/* ---------------------------------------------------------------- for rows: operands */
/* Operand i as an op takes it; NULL where it is absent (without an error). Known values that follow from sizes are made
 * anew with ops whose attributes a tracer can follow. */
cr_tensor *cr_onnx_input(cr_onnx_call *call, int i);
/* The values of operand i, which must have at most `capacity`; -1 and an error where they are not known. */
int cr_onnx_ints(cr_onnx_call *call, int i, int64_t *values, int capacity);
int cr_onnx_floats(cr_onnx_call *call, int i, double *values, int capacity);
/* The same as dims: false and an error where it cannot be read, or has more than CR_MAX_DIMS; none where absent. */
bool cr_onnx_dims_input(cr_onnx_call *call, int i, cr_dims *dims);
/* Axes by attribute (before opset `since`) or operand i; negative ones counted from the end of `ndim`. */
bool cr_onnx_axes(cr_onnx_call *call, const char *name, int i, int since, int ndim, cr_dims *axes);
/* A number as attribute before opset `since`, else as operand i. */
bool cr_onnx_number(cr_onnx_call *call, const char *name, int i, int since, double *value);
/* axis + ndim where that is negative; -1 and an error outside. */
int cr_onnx_axis(cr_onnx_call *call, int64_t axis, int ndim);
/* Result 0; false where it is NULL. */
bool cr_onnx_give(cr_onnx_call *call, cr_tensor *t);
/* Result i, where it is wanted. */
bool cr_onnx_give_at(cr_onnx_call *call, int i, cr_tensor *t);
/* Result 0 is `count` numbers that are known, made outside of any trace. */
bool cr_onnx_give_known(cr_onnx_call *call, const int64_t *values, int count, bool is_scalar, bool is_sized);
/* Two operands of an old opset's arithmetic, laid out as today's broadcasting wants them. */
bool cr_onnx_align_old(const cr_onnx_call *call, cr_tensor **inputs);
/* What a window of a convolution or a pool is: a number for each spatial dim. */
typedef struct cr_onnx_window {
    int spatial;
    cr_dims kernel, strides, dilations, begins, ends;
} cr_onnx_window;
/* From the attributes, auto_pad worked out; the kernel's size is the weight's where no attribute says it. */
bool cr_onnx_read_window(cr_onnx_call *call, const cr_tensor *x, const cr_tensor *weight, cr_onnx_window *window);
/* A convolution with the node's strides, padding and so on; NULL and an error on failure. */
cr_tensor *cr_onnx_convolve(cr_onnx_call *call, cr_tensor *x, cr_tensor *weight, cr_tensor *bias);
/* Weights of elements at these distances: a triangle, or Keys' cubic with parameter a (1981). */
cr_tensor *cr_onnx_filter(cr_tensor *distance, bool is_cubic, double a);
/* An error about this node. */
bool cr_onnx_refuse(const cr_onnx_call *call, const char *format, ...) CR_PRINTF(2, 3);

#endif
