/* Cresset: deep learning for people who write C. One header for everything. */
#ifndef CRESSET_H
#define CRESSET_H

#include <cresset/core.h>
#include <cresset/ops.h>
#include <cresset/autograd.h>
#include <cresset/nn.h>
#include <cresset/jit.h>
#include <cresset/quantize.h>
#include <cresset/optim.h>
#include <cresset/data.h>
#include <cresset/vision.h>
#include <cresset/models.h>
#include <cresset/summary.h>
#include <cresset/onnx.h>

#endif
