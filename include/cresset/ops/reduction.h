/* reduction. Included by <cresset/ops.h>. */
