/* The checks that samples run through, and their totals. */
#ifndef CRESSET_TESTS_CHECKS_H
#define CRESSET_TESTS_CHECKS_H

#include "tests/samples/sample.h"

typedef enum check_kind {
    CHECK_DECOMPOSITION,  /* kernel against decomposition */
    CHECK_STRIDES,        /* dense operands against strided ones */
    CHECK_THREADS,        /* one thread against three, bit for bit */
    CHECK_IN_PLACE,       /* in place against out of place, bit for bit (pointwise) */
    CHECK_GRADIENT,       /* gradcheck in f64 */
    CHECK_SECOND,         /* gradgradcheck in f64 */
    CHECK_ERROR,          /* the error that is expected */
    CHECK_GRAPH,          /* a traced graph against the plain call */
    CHECK_GRAPH_GRADIENT, /* the same of the gradient */
    CHECK_GRAPH_TEXT,     /* the graph read from its text against the graph, bit for bit */
    CHECK_KINDS
} check_kind;

typedef struct check_totals {
    long long samples, passed, failed, skipped, comparisons, elements;
    long long by_kind[CHECK_KINDS];
} check_totals;

const char *check_kind_name(check_kind kind);
void fail_sample(const sample *s, check_totals *totals, check_kind kind, const char *what);
/* Counts each pair of tensors; bitwise, or within what the sample allows. */
void compare_results(const sample *s, check_totals *totals, check_kind kind, cr_tensor **a, cr_tensor **b, int count,
                     bool bitwise);
/* The op and its gradient as graphs (graph.c). */
void check_graph(const sample *s, const cr_op_description *row, int outputs, check_totals *totals);
void check_sample(const sample *s, check_totals *totals);
int dump_samples(const char *path, char **files, int count);
int export_samples(const char *folder, bool is_open, char **files, int count);

#endif
