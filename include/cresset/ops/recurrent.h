/* recurrent. Included by <cresset/ops.h>. */
