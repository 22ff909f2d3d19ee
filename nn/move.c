/* Moving a module's tensors to another device or dtype, and copying state between modules. */
#include "nn/module.h"

#include <cresset/autograd.h>

/* The new values of every tensor of the module, made first: a failure half-way leaves the module as it was. */
static bool replace_all(cr_nn_module *module, cr_tensor *(*convert)(cr_tensor *t, const void *target),
                        const void *target) {
    bool done = true;
    cr_grad_mode mode = cr_grad_mode_enter(false, false);
    for (int pass = 0; done && pass < 2; pass++) {
        const cr_nn_tensors list = pass ? cr_nn_buffers(module) : cr_nn_parameters(module);
        CR_SCOPE {
            cr_tensor **made = cr_calloc((size_t)list.count + 1, sizeof *made);
            done = made != NULL;
            for (int i = 0; done && i < list.count; i++)
                done = (made[i] = convert(cr_detach(list.at[i]), target)) != NULL;
            for (int i = 0; done && i < list.count; i++) {
                cr_set_grad(list.at[i], NULL); /* of the old dtype or device */
                cr_tensor_set_data(list.at[i], made[i]);
            }
            cr_free(made);
        }
    }
    cr_grad_mode_leave(&mode);
    return done;
}

static cr_tensor *to_device(cr_tensor *t, const void *target) { return cr_to_device(t, *(const cr_device *)target); }
static cr_tensor *to_dtype(cr_tensor *t, const void *target) {
    return cr_dtype_is_floating(cr_dtype_of(t)) ? cr_cast(t, *(const cr_dtype *)target) : t;
}

bool cr_nn_to(cr_nn_module *module, cr_device device) { return module && replace_all(module, to_device, &device); }

bool cr_nn_to_dtype(cr_nn_module *module, cr_dtype dtype) {
    if (!cr_dtype_is_floating(dtype))
        return cr_fail(CR_ERROR_DTYPE, "nn_to_dtype: %s is not a floating dtype", cr_dtype_name(dtype));
    return module && replace_all(module, to_dtype, &dtype);
}

bool cr_nn_copy_state(cr_nn_module *to, cr_nn_module *from) {
    const cr_nn_tensors target = cr_nn_state(to), source = cr_nn_state(from);
    if (!to || !from) return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "nn_copy_state: NULL module");
    if (target.count != source.count)
        return cr_fail(CR_ERROR_SHAPE, "nn_copy_state: %d tensors of state into %d", source.count, target.count);
    bool done = true;
    cr_grad_mode mode = cr_grad_mode_enter(false, false);
    for (int i = 0; done && i < target.count; i++)
        done = cr_copy_(target.at[i], source.at[i]) != NULL;
    cr_grad_mode_leave(&mode);
    return done;
}
