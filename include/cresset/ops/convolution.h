/* convolution. Included by <cresset/ops.h>. */
