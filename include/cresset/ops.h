#ifndef CRESSET_OPS_H
#define CRESSET_OPS_H

#include <cresset/core.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __cplusplus
}
#endif
#endif
