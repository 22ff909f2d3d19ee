#ifndef CRESSET_SUMMARY_H
#define CRESSET_SUMMARY_H

#include <cresset/core.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifdef __cplusplus
}
#endif
#endif
