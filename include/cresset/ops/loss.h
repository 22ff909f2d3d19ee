/* loss. Included by <cresset/ops.h>. */
