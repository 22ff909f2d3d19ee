/* normalization. Included by <cresset/ops.h>. */
