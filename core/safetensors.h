/* What the reader and the writer of safetensors files share. */
#ifndef CRESSET_CORE_SAFETENSORS_H
#define CRESSET_CORE_SAFETENSORS_H

#include <cresset/core.h>

enum { CR_SAFETENSORS_HEADER_LIMIT = 100 * 1000 * 1000 };

/* "F32", "BOOL", …: the format's name of a dtype. */
const char *cr_safetensors_dtype_name(cr_dtype dtype);

#endif
