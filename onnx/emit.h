/* Between the emitter's files. */
#ifndef CRESSET_ONNX_EMIT_H
#define CRESSET_ONNX_EMIT_H

#include "core/text.h"
#include "onnx/export.h"

enum { CR_ONNX_CONSTANTS = 1024 };

/* The names that are taken, and the constants that are there, by the hash of their bytes. */
struct cr_onnx_names {
    const char **at; /* by hash; a power of two */
    int count, capacity, number;
    CrOnnx__TensorProto *constants[CR_ONNX_CONSTANTS];
};

/* A message with its defaults, in the pool; NULL on failure. */
void *cr_onnx_new_message(cr_onnx_emitter *e, const ProtobufCMessageDescriptor *type);
bool cr_onnx_push(cr_onnx_emitter *e, void ***list, size_t *count, void *item);
CrOnnx__TensorProto *cr_onnx_tensor_message(cr_onnx_emitter *e, const char *name, cr_dtype dtype, const cr_shape *shape,
                                            const void *data, size_t bytes);

#endif
