/* The graph: a program as typed values and nodes that point at rows of the op table.
 *
 * Values are assigned once. An op that writes an operand in place (a row's `mutates`) gives the written tensor as a
 * further output, after those that it declares; in-place calls are recorded as their plain form. What lives between two
 * runs is `state`: it enters as a value and may leave as another one. Everything is allocated in the graph's pool and
 * goes with it. */
#ifndef CRESSET_JIT_GRAPH_H
#define CRESSET_JIT_GRAPH_H

#include <cresset/jit.h>

#include "jit/pool.h"
#include "ops/op.h"

typedef struct cr_graph_node cr_graph_node;
typedef struct cr_plan cr_plan;

enum { CR_EXTENT_SYMBOLS = 3, CR_GRAPH_SYMBOLS = 16 };

/* A size: floor((factor · product of symbols + term) / divisor); without symbols, `term`. */
typedef struct cr_extent {
    int64_t factor, term, divisor;
    int8_t symbols[CR_EXTENT_SYMBOLS]; /* indices into the graph's, ascending */
    int8_t symbol_count;
} cr_extent;

typedef struct cr_value {
    int id; /* as printed; renumbered by cr_graph_number */
    cr_dtype dtype;
    cr_device device;
    cr_shape shape;               /* at the symbols' present values */
    cr_extent *extents;           /* one for each dim; NULL: `shape` for all symbols' values */
    cr_graph_node *producer;      /* NULL: an input, a state, an input of a block */
    int output;                   /* which of the producer's */
    struct cr_value *replacement; /* set by passes; cr_graph_apply resolves */
    int uses;                     /* valid after cr_graph_count_uses */
    bool is_constant;             /* while tracing: it follows from constants alone */
    void *note;                   /* a pass's own */
} cr_value;

/* An element of an attribute that depends on symbols. */
typedef struct cr_bound_attribute {
    int attribute, element;
    cr_extent extent;
} cr_bound_attribute;

/* A list of nodes with inputs and outputs: the graph's body, a branch, a loop's body, the inside of a fused node. */
typedef struct cr_block {
    cr_graph_node *first, *last;
    cr_value **inputs, **outputs;
    int input_count, output_count;
} cr_block;

struct cr_graph_node {
    const cr_op *op;
    void *attributes;
    cr_bound_attribute *bound;
    int bound_count;
    cr_value **inputs; /* an absent optional one is NULL */
    int input_count;
    cr_value **outputs;
    int output_count;
    cr_block **blocks;
    int block_count;
    const char *source; /* the calls that led here: "nn.conv2d main.0" */
    cr_graph_node *previous, *next;
    int index; /* in its block, after cr_graph_number */
    void *note;
};

typedef enum cr_state_kind { CR_STATE_PARAMETER, CR_STATE_BUFFER, CR_STATE_CONSTANT } cr_state_kind;
static inline const char *cr_state_kind_name(cr_state_kind kind) {
    static const char *const names[] = {"parameter", "buffer", "constant"};
    return names[kind];
}

typedef struct cr_state {
    cr_state_kind kind;
    const char *name;
    cr_value *value;   /* at the start of a run */
    cr_value *update;  /* at its end; NULL: as it was */
    cr_tensor *tensor; /* where it lives (retained), or NULL in a graph that is only text */
    int gradient_of;   /* the state whose gradient this is (looked up before each run), or -1 */
} cr_state;

/* A gradient that a run leaves on a state, as cr_backward would. */
typedef struct cr_gradient {
    int state;
    cr_value *value;
    bool accumulates; /* added to one that is there; else in its place */
} cr_gradient;

typedef struct cr_symbol {
    const char *name;
    int64_t value; /* of the example, or of this specialisation */
} cr_symbol;

struct cr_graph {
    cr_pool pool;
    cr_block body;
    const char **input_names, **output_names;
    cr_state *states;
    int state_count, state_capacity;
    cr_gradient *gradients;
    int gradient_count;
    cr_symbol symbols[CR_GRAPH_SYMBOLS];
    int symbol_count;
    const char **warnings;
    int warning_count;
    /* Nodes that need no lowering, also in blocks; NULL: those with a kernel. */
    bool (*supports)(const cr_graph_node *node, const void *target);
    const void *target;           /* for it */
    bool is_frozen;               /* states without an update never change: they may be folded */
    bool is_for_reading;          /* it was read from the text of an optimised graph: to be looked at, not run */
    struct cr_jit_cache *cache;   /* plans by the symbols' values */
    cr_safetensors *file;         /* that the states are mapped from, or NULL */
    struct cr_prepared *prepared; /* what that file holds for plans, or NULL (jit/prepared.h) */
    struct cr_recipes *recipes;   /* how constants follow from states, while passes run; NULL: nobody asks */
};

/* ---------------------------------------------------------------- building */
cr_graph *cr_graph_new(void);
/* Copies `text` into the graph's memory; NULL on failure. */
const char *cr_graph_text_copy(cr_graph *graph, const char *text);
cr_value *cr_graph_value(cr_graph *graph, cr_dtype dtype, const cr_shape *shape, cr_device device);
/* A node with room for its operands, appended to `block` (or before `before`). Inputs are copied; outputs are the
 * caller's to set with cr_graph_set_output. Attributes are copied (NULL: the row's defaults). */
cr_graph_node *cr_graph_add(cr_graph *graph, cr_block *block, cr_graph_node *before, const cr_op *op,
                            const void *attributes, cr_value *const *inputs, int input_count, int output_count);
void cr_graph_set_output(cr_graph_node *node, int index, cr_value *value);
void cr_graph_remove(cr_block *block, cr_graph_node *node);
cr_block *cr_graph_new_block(cr_graph *graph);
bool cr_block_add_input(cr_graph *graph, cr_block *block, cr_value *value);
bool cr_block_add_output(cr_graph *graph, cr_block *block, cr_value *value);
cr_state *cr_graph_add_state(cr_graph *graph, cr_state_kind kind, const char *name, cr_value *value, cr_tensor *tensor);
bool cr_graph_add_gradient(cr_graph *graph, int state, cr_value *value, bool accumulates);
void cr_graph_warn(cr_graph *graph, const char *format, ...) CR_PRINTF(2, 3);

/* Outputs that are not new values of operands. */
static inline int cr_graph_declared_outputs(const cr_graph_node *node) {
    return node->op->flags & CR_OP_BLOCKS ? node->blocks[0]->output_count : node->op->output_total;
}
/* How many outputs a call of `op` with these operands has: the declared and the mutated. */
int cr_graph_output_count(const cr_op *op, const void *attributes, void *const *inputs, int input_count);
/* The operand that output `index` (not a declared one) is the new value of. */
int cr_graph_mutated_input(const cr_graph_node *node, int index);

/* ---------------------------------------------------------------- passes' tools */
static inline cr_value *cr_value_resolve(cr_value *value) {
    while (value && value->replacement)
        value = value->replacement;
    return value;
}
/* Every use of values with a replacement becomes a use of that. */
void cr_graph_apply(cr_graph *graph);
/* Fills value->uses: operands of nodes (also in blocks), outputs and updates. */
void cr_graph_count_uses(cr_graph *graph);
/* Ids for values and indices for nodes, in order; returns how many values there are. */
int cr_graph_number(cr_graph *graph);
int cr_graph_node_count(const cr_graph *graph);
/* Calls visit for every node, also in blocks; it may remove that node. */
bool cr_graph_each(cr_graph *graph, bool (*visit)(cr_graph *graph, cr_block *block, cr_graph_node *node, void *context),
                   void *context);
/* A copy with values of its own; states share the tensors. */
cr_graph *cr_graph_copy(const cr_graph *graph);
/* A graph whose body is a copy of a closed block. */
cr_graph *cr_graph_of_block(const cr_block *block, bool is_frozen);
/* Checks order and counts; an error names the node. */
bool cr_graph_verify(const cr_graph *graph);
/* A node of one result says of it what its op gives. */
bool cr_node_types_hold(const cr_graph_node *node);
/* So do all nodes, but those with blocks; else an error. */
bool cr_graph_types_hold(const cr_graph *graph);

/* ---------------------------------------------------------------- sizes */
static inline cr_extent cr_extent_constant(int64_t value) { return (cr_extent){0, value, 1, {0}, 0}; }
bool cr_extent_evaluate(const cr_extent *extent, const cr_symbol *symbols, int64_t *value);
/* "2*B*T+1", "(B+1)/2". */
int cr_extent_print(char *text, size_t size, const cr_extent *extent, const cr_symbol *symbols);
/* Reads one; returns where it ends, or NULL. Symbols must be known. */
const char *cr_extent_parse(const char *text, const cr_graph *graph, cr_extent *extent);
/* The size that takes values[k] where the symbols are samples[k], k < count; false where none is found. */
bool cr_extent_fit(cr_extent *extent, const int64_t *values, const int64_t (*samples)[CR_GRAPH_SYMBOLS], int count,
                   int symbol_count);
/* "batch=8 time=20" (NULL: nothing) into the symbols; errors begin with `who`. */
bool cr_graph_set_sizes(cr_graph *graph, const char *sizes, const char *who);
/* Writes the sizes that symbols decide into shapes and attributes. */
bool cr_graph_bind(cr_graph *graph);

/* ---------------------------------------------------------------- text (cr_graph_text is public) */
/* "f32[batch,10]", and the device where it is not the CPU. */
struct cr_text;
void cr_graph_add_type(struct cr_text *text, const cr_graph *graph, const cr_value *value);
/* In quotes. */
void cr_graph_add_name(struct cr_text *text, const char *name);
/* The path of the module that a source names: of "nn.conv2d 0 < nn.sequential main < nn.gan" it is "main.0"; nothing where
 * there is none. */
void cr_graph_add_module(struct cr_text *text, const char *source);
/* Reads what cr_graph_text wrote; states have no tensors then. */
cr_graph *cr_graph_parse(const char *text, size_t length);

#endif
