/* Attributes of the indexing ops that rows and kernels share. */
#ifndef CRESSET_OPS_INDEXING_H
#define CRESSET_OPS_INDEXING_H

#include "ops/op.h"

#define CR_GATHER_ATTRIBUTES(A, op) A(op, INT, dim, 0)
CR_OPTIONS(gather, CR_GATHER_ATTRIBUTES)
#define CR_SORT_ATTRIBUTES(A, op) A(op, INT, dim, -1) A(op, BOOL, descending, false)
CR_OPTIONS(sort, CR_SORT_ATTRIBUTES)
#define CR_TOPK_ATTRIBUTES(A, op) A(op, INT, k, 1) A(op, INT, dim, -1) A(op, BOOL, largest, true)
CR_OPTIONS(topk, CR_TOPK_ATTRIBUTES)
#define CR_EMBEDDING_ATTRIBUTES(A, op) A(op, INT, padding_idx, -1)
CR_OPTIONS(embedding, CR_EMBEDDING_ATTRIBUTES)
#define CR_EMBEDDING_GRAD_ATTRIBUTES(A, op) A(op, INT, count, 0) A(op, INT, padding_idx, -1)
CR_OPTIONS(embedding_grad, CR_EMBEDDING_GRAD_ATTRIBUTES)
#define CR_ONE_HOT_ATTRIBUTES(A, op) A(op, INT, classes, 0)
CR_OPTIONS(one_hot, CR_ONE_HOT_ATTRIBUTES)

#endif
