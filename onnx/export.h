/* Writing graphs as models: each node of a lowered graph becomes ONNX nodes, by the row of its op.
 *
 * Names stand for values. A function that makes one gives NULL on failure, and NULL among its operands gives NULL, so that
 * rows are written straight down:
 *     const char *sum = cr_onnx_add(e, "ReduceSum", x, axes);
 *     cr_onnx_set_int(e, "keepdims", 0);      (an attribute of the node that was added last)
 *     return cr_onnx_name(e, node, 0, sum);
 */
#ifndef CRESSET_ONNX_EXPORT_H
#define CRESSET_ONNX_EXPORT_H

#include "jit/graph.h"
#include "onnx/table.h"

#include <cresset/onnx.h>

#include "onnx/onnx.pb-c.h"

typedef struct cr_onnx_emitter cr_onnx_emitter;

/* ---------------------------------------------------------------- the table */
typedef struct cr_onnx_export_row {
    const char *op;
    int since;                                           /* the first opset that has what it writes */
    bool (*takes)(const cr_graph_node *node, int opset); /* NULL: every node; else the others are lowered */
    bool (*write)(cr_onnx_emitter *e, const cr_graph_node *node);
} cr_onnx_export_row;

/* A row; the build collects lines that begin so. Its function is write_NAME. */
#define CR_ONNX_EXPORT(op_, since_, takes_)                                                                            \
    const cr_onnx_export_row cr_onnx_export_##op_ = {#op_, since_, takes_, write_##op_};

/* The row of a node at an opset, or NULL. */
const cr_onnx_export_row *cr_onnx_export_row_of(const cr_graph_node *node, int opset);
int cr_onnx_export_row_count(void);
const cr_onnx_export_row *cr_onnx_export_row_at(int index);

/* ---------------------------------------------------------------- pointwise ops: by their pair, or their expression */
bool cr_onnx_can_write_pointwise(const cr_graph_node *node, int opset);
bool cr_onnx_write_pointwise(cr_onnx_emitter *e, const cr_graph_node *node);
/* An expression of pointwise.def over operands a, b, c (of dtype `compute`) and the op's attributes; NULL and an error where
 * a word has no ONNX. */
const char *cr_onnx_write_expression(cr_onnx_emitter *e, const cr_graph_node *node, cr_dtype compute,
                                     const char *const *operands, cr_dtype *result);
bool cr_onnx_can_write_expression(const char *expression, int opset);

/* ---------------------------------------------------------------- the emitter */
struct cr_onnx_emitter {
    cr_pool *pool;
    cr_graph *graph;
    int opset;
    CrOnnx__GraphProto *main, *target; /* where initialisers go, and where nodes go now */
    CrOnnx__NodeProto *last;           /* the node that was added last */
    const cr_graph_node *node;         /* that is being written */
    const char **symbols;              /* by symbol: its value, int64 [1]; NULL: not used yet */
    unsigned used_bounds;              /* bit i: the row asked for node->bound[i] */
    struct cr_onnx_names *names;
    bool failed; /* an attribute could not be added */
    CrOnnx__ModelProto *model;
    bool may_drop_unread; /* a row took the place of a node before it */
};

/* A node of an operator and its only (first) result. Operands end with CR_ONNX_END; "" is an absent one. */
#define CR_ONNX_END         ((const char *)-1)
#define cr_onnx_add(e, ...) cr_onnx_add_list(e, (const char *const[]){__VA_ARGS__, CR_ONNX_END})
/* operator and operands in one list. */
const char *cr_onnx_add_list(cr_onnx_emitter *e, const char *const *list);
/* A node of any number of operands and results; results[0] … are filled. */
bool cr_onnx_add_node(cr_onnx_emitter *e, const char *operator, const char * const * operands, int operand_count,
                      const char **results, int result_count);
/* A further result of the last node. */
const char *cr_onnx_add_result(cr_onnx_emitter *e);
void cr_onnx_set_int(cr_onnx_emitter *e, const char *name, int64_t value);
void cr_onnx_set_float(cr_onnx_emitter *e, const char *name, double value);
void cr_onnx_set_text(cr_onnx_emitter *e, const char *name, const char *value);
void cr_onnx_set_ints(cr_onnx_emitter *e, const char *name, const int64_t *values, int count);
void cr_onnx_set_graph(cr_onnx_emitter *e, const char *name, CrOnnx__GraphProto *graph);

/* Operand i of the node; NULL where it is absent without an error: test node->inputs[i]. */
const char *cr_onnx_value(cr_onnx_emitter *e, const cr_graph_node *node, int i);
/* The same, or "" where it is absent. */
const char *cr_onnx_optional(cr_onnx_emitter *e, const cr_graph_node *node, int i);
/* Result i of the node is `name`; false where that is NULL. */
bool cr_onnx_name(cr_onnx_emitter *e, const cr_graph_node *node, int i, const char *name);
/* A name that nobody has yet, from this one. */
const char *cr_onnx_unique(cr_onnx_emitter *e, const char *base);
const char *cr_onnx_text_of(cr_onnx_emitter *e, const char *format, ...) CR_PRINTF(2, 3);

/* Constants: numbers are cast to the dtype; equal ones are one initialiser. */
const char *cr_onnx_scalar(cr_onnx_emitter *e, cr_dtype dtype, double value);
const char *cr_onnx_i64s(cr_onnx_emitter *e, const int64_t *values, int count);
const char *cr_onnx_i64(cr_onnx_emitter *e, int64_t value); /* [1] */
const char *cr_onnx_constant(cr_onnx_emitter *e, cr_dtype dtype, const cr_shape *shape, const void *data, size_t bytes);
/* x itself where the dtypes are the same. */
const char *cr_onnx_cast(cr_onnx_emitter *e, const char *x, cr_dtype from, cr_dtype to);

/* ---------------------------------------------------------------- sizes and attributes */
#define CR_ONNX_ATTRIBUTE(node, type, name) (*(const type *)cr_onnx_attribute_of(node, #name))
const void *cr_onnx_attribute_of(const cr_graph_node *node, const char *name);
/* A list attribute as int64 [n], or an integer (or whole floating) one as [1]: computed where it follows from symbols. */
const char *cr_onnx_list(cr_onnx_emitter *e, const cr_graph_node *node, const char *name);
const char *cr_onnx_number_of(cr_onnx_emitter *e, const cr_graph_node *node, const char *name);
/* Whether an attribute follows from symbols. */
bool cr_onnx_is_open(const cr_graph_node *node, const char *name);
/* A value's sizes as int64 [n]: dims first … end-1. */
const char *cr_onnx_sizes(cr_onnx_emitter *e, const cr_value *value, int first, int end);
const char *cr_onnx_extent(cr_onnx_emitter *e, const cr_extent *x);
/* All symbols that the graph has, before anything else. */
bool cr_onnx_write_symbols(cr_onnx_emitter *e);
bool cr_onnx_has_open_size(const cr_value *value);
/* Whether two values have the same sizes, whatever their symbols are. */
bool cr_onnx_same_sizes(const cr_value *a, const cr_value *b);
/* x in the sizes of `value`, of which one may follow from what is left. */
const char *cr_onnx_reshape(cr_onnx_emitter *e, const char *x, const cr_value *value);

/* An error about the node: CR_ERROR_UNSUPPORTED. */
bool cr_onnx_cannot(cr_onnx_emitter *e, const cr_graph_node *node, const char *format, ...) CR_PRINTF(3, 4);

/* ---------------------------------------------------------------- writing blocks */
/* All nodes of a block into e->target. */
bool cr_onnx_write_block(cr_onnx_emitter *e, const cr_block *block);
/* A new graph with these nodes; inputs are declared by the caller. */
CrOnnx__GraphProto *cr_onnx_begin_graph(cr_onnx_emitter *e, const char *name);
bool cr_onnx_declare(cr_onnx_emitter *e, CrOnnx__ValueInfoProto ***list, size_t *count, const char *name,
                     const cr_value *value);

/* ---------------------------------------------------------------- the model */
/* The model of a graph, all of it in `pool` but the weights, which stay where the graph's states have them. */
CrOnnx__ModelProto *cr_onnx_build(cr_graph *graph, cr_pool *pool, const cr_onnx_export_options *options);

#endif
