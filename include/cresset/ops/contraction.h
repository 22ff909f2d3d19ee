/* contraction. Included by <cresset/ops.h>. */
