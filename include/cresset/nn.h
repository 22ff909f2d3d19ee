#ifndef CRESSET_NN_H
#define CRESSET_NN_H

#include <cresset/core.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __cplusplus
}
#endif
#endif
