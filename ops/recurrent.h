/* What LSTM's row and those who pack its weight share. */
#ifndef CRESSET_OPS_RECURRENT_H
#define CRESSET_OPS_RECURRENT_H

#include <stdint.h>

enum { CR_RECURRENT_UNITS = 16 }; /* packed weights are filled up to a multiple of the widest kernel's */

/* Elements of a packed weight [4 hidden, hidden]. */
static inline int64_t cr_packed_recurrent(int64_t hidden) {
    return (hidden + CR_RECURRENT_UNITS - 1) / CR_RECURRENT_UNITS * CR_RECURRENT_UNITS * 4 * hidden;
}

#endif
