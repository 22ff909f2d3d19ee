/* Protobuf's wire format under ONNX's messages: a walk that protobuf-c does not make. */
#ifndef CRESSET_ONNX_WIRE_H
#define CRESSET_ONNX_WIRE_H

#include <cresset/core.h>

/* What a file holds. */
typedef enum cr_onnx_message { CR_ONNX_MODEL, CR_ONNX_TENSOR } cr_onnx_message;

/* A tensor's raw_data, where it lies in the file. */
typedef struct cr_onnx_bytes {
    const uint8_t *at;
    size_t count;
} cr_onnx_bytes;

typedef struct cr_onnx_wire {
    uint8_t *text; /* the message with each raw_data replaced by eight bytes, its place in `raw`; from cr_malloc */
    size_t length, capacity;
    cr_onnx_bytes *raw; /* from cr_malloc */
    size_t raw_count, raw_capacity;
} cr_onnx_wire;

/* Checks that the message is whole and not nested too deeply for a parser that recurses, and takes the weights out, so
 * that parsing copies none of them. False and CR_ERROR_FORMAT, with the byte, where it is not sound. */
bool cr_onnx_wire_read(cr_onnx_wire *wire, cr_onnx_message message, const uint8_t *bytes, size_t count);
void cr_onnx_wire_free(cr_onnx_wire *wire);

#endif
