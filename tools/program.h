/* A loaded program and what the commands run it on. */
#ifndef CRESSET_TOOLS_PROGRAM_H
#define CRESSET_TOOLS_PROGRAM_H

#include "command.h"

enum { SIZES_MOST = 64, INPUTS_MOST = 64, LIST_TEXT = 4096 };

/* The program, and a value for each of its sizes that may differ: the example's, until options or files say more. */
typedef struct program {
    const char *path;
    cr_graph *graph;
    int64_t sizes[SIZES_MOST];
    cr_tensor *inputs[INPUTS_MOST]; /* NULL: not made yet; owned by the scope that made them */
} program;

/* A name that ends in ".onnx" is an ONNX model, which is imported. */
bool program_is_onnx(const char *path);
/* "a=1 b=2": a list of options as the library takes it; false and an error where it is too long. */
bool program_join(const text_list *list, char text[LIST_TEXT]);

/* Loads (or imports) it, and reads --size NAME=NUMBER options. Returns -1 where the command is to go on, else its exit status. */
int program_open(program *p, const command *self, const char *path, const text_list *sizes);
void program_close(program *p);

/* The shape of an input at the present sizes. */
cr_shape program_input_shape(const program *p, int index);
/* The input as "randn", "rand", "zeros" or "ones" (NULL: another word). */
cr_tensor *program_make_input(const program *p, int index, const char *kind);
/* Inputs that are not there yet: random numbers 0 … 1, integers 0. */
bool program_fill_inputs(program *p);
/* The index of the input (or output) with this name, or -1. */
int program_input_named(const program *p, const char *name, size_t length);
int program_output_named(const program *p, const char *name, size_t length);
/* Splits NAME=FILE. Without a name the only input (or output) is meant; -1: there is none of that name. */
int program_split(const program *p, const char *text, bool is_output, const char **file);
/* "image, mask": the names of the inputs or outputs, for messages. */
void program_names(const program *p, bool outputs, char *text, size_t size);

/* What this machine does at most on the present number of threads, measured within a third of a second: products of
 * f32 matrices, and copying in memory. What is above 0 already stays. */
bool measure_peaks(double *gflops, double *gbytes);

#endif
