/* An ONNX file in memory: mapped, checked, parsed, its tensors where they lie. */
#ifndef CRESSET_ONNX_MODEL_H
#define CRESSET_ONNX_MODEL_H

#include "core/mapping.h"
#include "onnx/wire.h"

#include "onnx/onnx.pb-c.h"

typedef struct cr_onnx_file {
    char *path;
    cr_mapping *map;
    cr_onnx_wire wire;           /* its raw_data stays in the mapping */
    CrOnnx__ModelProto *model;   /* of a model */
    CrOnnx__TensorProto *tensor; /* of a tensor's file */
    cr_mapping **external;       /* files with weights that were opened, by name */
    char **external_names;
    int external_count;
} cr_onnx_file;

/* NULL and an error where the file cannot be read: CR_ERROR_IO, or CR_ERROR_FORMAT. */
cr_onnx_file *cr_onnx_file_open(const char *path, cr_onnx_message message);
void cr_onnx_file_close(cr_onnx_file *file);
/* A tensor of the file as one of ours, on the CPU; external data is mapped and stays so where it is aligned. NULL and an
 * error where its dtype is none of ours, or its elements are not as many as its sizes say. */
cr_tensor *cr_onnx_tensor(cr_onnx_file *file, const CrOnnx__TensorProto *proto);

#endif
