/* shape. Included by <cresset/ops.h>. */
