/* Layers without parameters: pooling, dropout, shapes. */
#include "nn/module.h"

#include <string.h>

#include "ops/op.h"

CR_OPTION_DEFAULTS(nn_pool, CR_NN_POOL_OPTIONS)

/* ---------------------------------------------------------------- pooling */
typedef struct pool_module {
    int64_t kernel;
    cr_pool_options options;
    cr_tensor *(*function)(cr_tensor *, int64_t, const cr_pool_options *);
} pool_module;

static cr_tensor *pool_forward(cr_nn_module *self, cr_tensor *x) {
    const pool_module *own = self->self;
    return own->function(x, own->kernel, &own->options);
}

static cr_nn_module *pool_new(const char *type, int64_t kernel, const cr_nn_pool_options *options,
                              cr_tensor *(*function)(cr_tensor *, int64_t, const cr_pool_options *)) {
    cr_nn_pool_options o = nn_pool_defaults;
    if (options) memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    cr_nn_module *self = cr_nn_module_new(type, sizeof(pool_module), pool_forward);
    if (!self) return NULL;
    *(pool_module *)self->self = (pool_module){.kernel = kernel,
                                               .options = {.size = sizeof(cr_pool_options),
                                                           .stride = o.stride,
                                                           .padding = o.padding,
                                                           .dilation = o.dilation,
                                                           .ceil_mode = o.ceil_mode,
                                                           .count_include_pad = o.count_include_pad},
                                               .function = function};
    const int64_t stride = o.stride ? o.stride : kernel;
    return cr_nn_set_description(self, "kernel_size=%lld, stride=%lld, padding=%lld", (long long)kernel,
                                 (long long)stride, (long long)o.padding)
               ? self
               : cr_nn_abandon(self);
}
#define POOL(name)                                                                                                     \
    cr_nn_module *cr_nn_##name##_with(int64_t kernel_size, const cr_nn_pool_options *options) {                        \
        return pool_new(#name, kernel_size, options, cr_##name##_with);                                                \
    }
POOL(max_pool1d)
POOL(max_pool2d)
POOL(max_pool3d)
POOL(avg_pool1d)
POOL(avg_pool2d)
POOL(avg_pool3d)

/* ---------------------------------------------------------------- sizes: adaptive pooling, unflatten */
typedef struct sizes_module {
    int dim;
    cr_shape sizes;
} sizes_module;

static cr_tensor *adaptive_avg_forward(cr_nn_module *self, cr_tensor *x) {
    return cr_adaptive_avg_pool(x, ((const sizes_module *)self->self)->sizes);
}
static cr_tensor *adaptive_max_forward(cr_nn_module *self, cr_tensor *x) {
    return cr_adaptive_max_pool(x, ((const sizes_module *)self->self)->sizes);
}
static cr_tensor *unflatten_forward(cr_nn_module *self, cr_tensor *x) {
    const sizes_module *own = self->self;
    return cr_unflatten(x, own->dim, own->sizes);
}

static cr_nn_module *sizes_new(const char *type, cr_nn_forward_function forward, int dim, cr_shape sizes) {
    char text[192];
    cr_nn_module *self = cr_nn_module_new(type, sizeof(sizes_module), forward);
    if (!self) return NULL;
    *(sizes_module *)self->self = (sizes_module){dim, sizes};
    return cr_nn_set_description(self, "%s", cr_shape_format(sizes, text)) ? self : cr_nn_abandon(self);
}
cr_nn_module *cr_nn_adaptive_avg_pool2d(int64_t height, int64_t width) {
    return sizes_new("adaptive_avg_pool2d", adaptive_avg_forward, 0, CR_SHAPE(height, width));
}
cr_nn_module *cr_nn_adaptive_max_pool2d(int64_t height, int64_t width) {
    return sizes_new("adaptive_max_pool2d", adaptive_max_forward, 0, CR_SHAPE(height, width));
}
cr_nn_module *cr_nn_unflatten(int dim, cr_shape sizes) { return sizes_new("unflatten", unflatten_forward, dim, sizes); }

/* ---------------------------------------------------------------- dropout */
typedef struct dropout_module {
    double p;
} dropout_module;

static cr_tensor *dropout_forward(cr_nn_module *self, cr_tensor *x) {
    return cr_dropout(x, ((const dropout_module *)self->self)->p, self->is_training);
}
static cr_tensor *dropout2d_forward(cr_nn_module *self, cr_tensor *x) {
    return cr_dropout2d(x, ((const dropout_module *)self->self)->p, self->is_training);
}

static cr_nn_module *dropout_new(const char *type, cr_nn_forward_function forward, double p) {
    if (!(p >= 0 && p <= 1)) {
        cr_record_error(CR_ERROR_ARGUMENT, "nn_%s: a probability of %g; it lies in 0 … 1", type, p);
        return NULL;
    }
    cr_nn_module *self = cr_nn_module_new(type, sizeof(dropout_module), forward);
    if (!self) return NULL;
    ((dropout_module *)self->self)->p = p;
    return cr_nn_set_description(self, "p=%g", p) ? self : cr_nn_abandon(self);
}
cr_nn_module *cr_nn_dropout(double p) { return dropout_new("dropout", dropout_forward, p); }
cr_nn_module *cr_nn_dropout2d(double p) { return dropout_new("dropout2d", dropout2d_forward, p); }
