/* The table of samples: one line of text per case (tests/samples/README.md says how they read). The program runs each
 * under every check that exists, or dumps operands, results and gradients for the reference in Python. */
#ifndef CRESSET_TESTS_SAMPLE_H
#define CRESSET_TESTS_SAMPLE_H

#include <cresset.h>

enum { SAMPLE_INPUTS = 12, SAMPLE_RESULTS = 20, SAMPLE_TEXT = 512 };

/* What the values of an operand are drawn from. */
typedef enum value_kind {
    VALUES_NORMAL,
    VALUES_POSITIVE,  /* 0.1 … 3 */
    VALUES_UNIT,      /* -0.95 … 0.95 */
    VALUES_PROB,      /* 0.01 … 0.99 */
    VALUES_ABOVE_ONE, /* 1.1 … 4 */
    VALUES_INDEX,     /* 0 … limit-1 */
    VALUES_DISTINCT,  /* no ties: a shuffled ladder with steps of 0.1 */
    VALUES_SPECIAL,   /* NaN, infinities, zeros, huge and tiny among normal ones */
    VALUES_PERMUTATION
} value_kind;

typedef struct operand_spec {
    bool is_absent;
    cr_dtype dtype;
    cr_shape shape;
    value_kind kind;
    int64_t limit;
} operand_spec;

typedef struct sample {
    char line[SAMPLE_TEXT]; /* as it stands in the file, for messages */
    char file[128];
    int line_number;
    char op[64];
    operand_spec inputs[SAMPLE_INPUTS];
    int input_count;
    char attributes[SAMPLE_TEXT];
    bool expects_error;
    char error_code[32], error_part[256];
    bool no_gradient, is_exact, no_second, only_dense,
        no_special;   /* flags nograd, exact, nogradgrad, dense, nospecial */
    double tolerance; /* flag tol=…; 0: the dtype's own */
} sample;

typedef bool (*sample_visitor)(const sample *s, void *context);

/* Calls visit for each sample of a file, also those that a `~op` line stands for. False on a line that cannot be read
 * (said on stderr) or when visit says so. */
bool samples_read(const char *path, sample_visitor visit, void *context);

/* Operands of a sample, the same each time. strided: the same values through views with gaps and other orders. In f64
 * where `widen` (floating ones). */
bool sample_operands(const sample *s, cr_tensor **operands, bool strided, bool widen);
/* Runs the op. Operands that it writes are copied first, strides kept, and the copies follow the outputs in `results`.
 */
bool sample_run(const sample *s, cr_tensor *const *operands, cr_tensor **results);
/* How many results that makes: `outputs`, and the operands that are there and written. */
int sample_result_count(const sample *s, int outputs);
/* Deterministic numbers for gradients of outputs. */
cr_tensor *sample_cotangent(const cr_tensor *output, int index);

/* The row's description; false where there is no such op. */
bool sample_describe(const char *op, cr_op_description *description);
int sample_output_count(const cr_op_description *description);

#endif
