/* Ahead-of-time compilation: a plan as one C99 file.
 *
 * compile.c makes the plan and puts the file's parts in order; steps.c writes one function for each step. Ops that only
 * move or combine elements become loops with constant bounds (loops.c). All others are calls of functions from
 * templates/, which linker.c copies into the file as far as they are used; one file for each family of ops writes the
 * calls, from operands that operands.c brings into dense form. An op that has neither is decomposed while the plan is
 * made, or refused. */
#ifndef CRESSET_JIT_AHEAD_AHEAD_H
#define CRESSET_JIT_AHEAD_AHEAD_H

#include "core/text.h"
#include "jit/pass.h"
#include "jit/plan.h"

enum { CR_AHEAD_OPERANDS = 64, CR_AHEAD_BASE = 64, CR_AHEAD_ALIGNMENT = 64 };

/* A tensor as the file sees it: elements of `dtype` from the address `base` (an expression of type unsigned char *). */
typedef struct cr_ahead_view {
    char base[CR_AHEAD_BASE];
    cr_dtype dtype;
    cr_shape shape, strides;
    int64_t offset;
} cr_ahead_view;

/* A result that its step makes in scratch memory, dense, and copies to where the plan wants it. */
typedef struct cr_ahead_detour {
    cr_ahead_view made, wanted;
} cr_ahead_detour;

typedef struct cr_ahead {
    const char *name; /* what the file's public names begin with */
    bool inline_weights;
    const size_t *state_offsets; /* of the program's states: in the weights, or in the context where a run updates it */
    size_t weight_bytes, changing_bytes;

    const cr_plan *plan; /* that is being written: the program's, or one of a block of it */
    char prefix[24];     /* of its steps' names: "", "block0_" */
    size_t arena;        /* where the plan's arena begins in the file's */
    const cr_plan_step *step;
    int number;     /* of the step */
    size_t scratch; /* bytes that the step uses of the scratch memory so far */
    cr_ahead_detour detours[CR_MAX_INPUTS];
    int detour_count;

    cr_text text;           /* functions of the steps */
    cr_text run;            /* the calls of them */
    cr_text blocks;         /* functions of blocks that are done */
    cr_text fields;         /* of the context, for blocks */
    cr_text expressions;    /* functions of pointwise ops */
    unsigned char *written; /* by pointwise op and compute type: its function is there */
    size_t arena_bytes, scratch_bytes;
    int block_count;
} cr_ahead;

/* A template: `write` prints the statements of a step. */
typedef struct cr_ahead_template {
    const char *op;
    bool (*write)(cr_ahead *a);
} cr_ahead_template;
extern const cr_ahead_template cr_ahead_products[], cr_ahead_convolutions[], cr_ahead_pools[], cr_ahead_reductions[],
    cr_ahead_indices[], cr_ahead_draws[], cr_ahead_moves[], cr_ahead_layers[];
const cr_ahead_template *cr_ahead_find(const cr_op *op);
/* Whether a step of this node can be written: what has no way is decomposed. */
bool cr_ahead_supports(const cr_graph_node *node, const void *target);

/* ---------------------------------------------------------------- steps */
/* Functions for all steps of a plan, and the calls of them in a->run. */
bool cr_ahead_write_steps(cr_ahead *a);
/* cond, while_loop, scan. */
bool cr_ahead_write_control(cr_ahead *a);

/* ---------------------------------------------------------------- operands */
/* "f32": the name of a dtype's elements in the file, and of functions over them. bool is u8, and f16 and bf16 are u16. */
const char *cr_ahead_type(cr_dtype dtype);
/* The dtype that a template computes in: f32 for f16 and bf16, i64 for integers and bool. */
cr_dtype cr_ahead_compute(cr_dtype dtype);
cr_ahead_view cr_ahead_tensor(const cr_ahead *a, int tensor);
cr_ahead_view cr_ahead_input_view(const cr_ahead *a, int input);
cr_ahead_view cr_ahead_output_view(const cr_ahead *a, int output);
/* Memory of its own for the whole program, and memory until the step's end: dense views. */
cr_ahead_view cr_ahead_room(cr_ahead *a, cr_dtype dtype, cr_shape shape);
cr_ahead_view cr_ahead_scratch(cr_ahead *a, cr_dtype dtype, cr_shape shape);
bool cr_ahead_is_dense(const cr_ahead_view *view);
bool cr_ahead_has_input(const cr_ahead *a, int input);
/* Declares x<input>: its elements dense, as `dtype`; a null pointer for an absent one. */
bool cr_ahead_read(cr_ahead *a, int input, cr_dtype dtype);
/* The same of any view, under any name. */
bool cr_ahead_read_view(cr_ahead *a, const char *name, cr_ahead_view view, cr_dtype dtype);
/* Declares y<output>, where its elements go, dense, as `dtype`. */
bool cr_ahead_write(cr_ahead *a, int output, cr_dtype dtype);
/* Declares a pointer `name` to a view. */
void cr_ahead_declare(cr_ahead *a, const char *name, const cr_ahead_view *view, bool writes);
bool cr_ahead_deliver(cr_ahead *a);
/* Declares `tables` of so many 64-bit numbers, and a `panel` of columns of this depth. */
void cr_ahead_add_room(cr_ahead *a, int64_t tables, int64_t depth);

/* ---------------------------------------------------------------- loops */
/* to = from, converted, broadcast. */
bool cr_ahead_copy(cr_ahead *a, const cr_ahead_view *to, const cr_ahead_view *from);
/* A program over the elements of its first output. */
struct cr_fused_program;
bool cr_ahead_loops(cr_ahead *a, const struct cr_fused_program *program, const cr_ahead_view *outputs,
                    const cr_ahead_view *inputs);
bool cr_ahead_write_pointwise(cr_ahead *a);
/* to = op(inputs[0], inputs[1]) for a pointwise op of two operands, all of one dtype. */
bool cr_ahead_binary(cr_ahead *a, const char *op, const cr_ahead_view *to, const cr_ahead_view inputs[2]);
bool cr_ahead_fill(cr_ahead *a, const cr_ahead_view *to, double value);
/* "0x1.8p+0", "INFINITY", "-NAN". */
void cr_ahead_number(cr_text *text, double value);

/* ---------------------------------------------------------------- the linker */
/* Adds to `file` what `text` (and it in turn) uses of ops/math.h, ops/random.h and the templates. */
bool cr_ahead_link(cr_text *file, const char *text);

/* ---------------------------------------------------------------- attributes */
static inline const void *cr_ahead_attributes(const cr_ahead *a) { return a->step->attributes; }
/* Sizes before, at and behind a dim (that may be negative). */
typedef struct cr_ahead_lines {
    long long outer, length, inner;
} cr_ahead_lines;
cr_ahead_lines cr_ahead_lines_of(const cr_shape *shape, int64_t dim);

#endif
