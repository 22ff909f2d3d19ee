/* Tensors that come to be on this device: filled with a number, or moved here from another one. */
#include "ops/cpu/variant.h"
#include "ops/creation.h"

CR_KERNEL(full) { return cr_fill_(call->outputs[0], ((const cr_full_options *)call->attributes)->value) != NULL; }

CR_KERNEL(to_device) {
    const cr_tensor *source = cr_dense(call->inputs[0]), *target = call->outputs[0];
    if (!source) return false;
    const size_t bytes = (size_t)source->numel * cr_dtype_size((cr_dtype)source->dtype);
    return !bytes ||
           cr_device_copy(target->device, cr_tensor_address(target), source->device, cr_tensor_address(source), bytes);
}
