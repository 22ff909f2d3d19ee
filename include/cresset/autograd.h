#ifndef CRESSET_AUTOGRAD_H
#define CRESSET_AUTOGRAD_H

#include <cresset/core.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __cplusplus
}
#endif
#endif
