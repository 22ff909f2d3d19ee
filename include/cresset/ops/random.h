/* random. Included by <cresset/ops.h>. */
