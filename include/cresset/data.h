#ifndef CRESSET_DATA_H
#define CRESSET_DATA_H

#include <cresset/core.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __cplusplus
}
#endif
#endif
