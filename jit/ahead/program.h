/* The parts of a generated file around its steps. */
#ifndef CRESSET_JIT_AHEAD_PROGRAM_H
#define CRESSET_JIT_AHEAD_PROGRAM_H

#include "jit/ahead/ahead.h"

/* Up to the next multiple of the alignment. */
size_t cr_ahead_padded(size_t bytes);
/* Of a value, padded; of all gradients. */
size_t cr_ahead_value_bytes(const cr_value *value);
size_t cr_ahead_gradient_bytes(const cr_ahead *a);

/* ---------------------------------------------------------------- weights.c */
/* Where each state lies: those that a run changes in the context, the others among the weights. */
void cr_ahead_place_states(cr_ahead *a, size_t *offsets);
/* Arrays of the states of a->plan that `steps`, or a context at its beginning, read. */
void cr_ahead_add_weights(cr_text *file, const cr_ahead *a, const char *steps);
uint64_t cr_ahead_weights_sum(const cr_ahead *a);
bool cr_ahead_write_weights(const cr_ahead *a, const char *path);

/* ---------------------------------------------------------------- program.c */
/* The comment that says how to use the file; `weights_name` is NULL where they are in it. */
void cr_ahead_add_head(cr_text *file, const cr_ahead *a, const char *weights_name);
/* Text of the user's inside of a comment. */
void cr_ahead_add_comment_text(cr_text *file, const char *text);
void cr_ahead_add_declarations(cr_text *file, const cr_ahead *a, size_t memory);
void cr_ahead_add_prelude(cr_text *file);
/* What reads the weights from their file. */
void cr_ahead_add_reader(cr_text *file, const cr_ahead *a);
void cr_ahead_add_functions(cr_text *file, const cr_ahead *a);

/* ---------------------------------------------------------------- results.c */
/* Sets where the plan's results are made: at the caller's address where they are dense, else in memory of their own,
 * from which they are copied at the end of a run. Gradients are put on, or added to, those in the context. */
bool cr_ahead_begin_results(cr_ahead *a);
bool cr_ahead_end_results(cr_ahead *a);

#endif
