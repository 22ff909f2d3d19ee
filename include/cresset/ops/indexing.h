/* indexing. Included by <cresset/ops.h>. */
