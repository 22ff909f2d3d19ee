#ifndef CRESSET_VISION_H
#define CRESSET_VISION_H

#include <cresset/core.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __cplusplus
}
#endif
#endif
