#ifndef CRESSET_OPTIM_H
#define CRESSET_OPTIM_H

#include <cresset/core.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __cplusplus
}
#endif
#endif
