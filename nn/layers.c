/* Layers with parameters: linear, convolutions, normalisations, embedding. Initial values as in torch.nn. */
#include "nn/module.h"

#include <cresset/autograd.h>

#include <math.h>
#include <string.h>

#include "ops/op.h"

CR_OPTION_DEFAULTS(nn_linear, CR_NN_LINEAR_OPTIONS)
CR_OPTION_DEFAULTS(nn_conv, CR_NN_CONV_OPTIONS)
CR_OPTION_DEFAULTS(nn_batch_norm, CR_NN_BATCH_NORM_OPTIONS)
CR_OPTION_DEFAULTS(nn_norm, CR_NN_NORM_OPTIONS)
CR_OPTION_DEFAULTS(nn_embedding, CR_NN_EMBEDDING_OPTIONS)

/* The caller's options over the defaults. */
#define COMPLETE(name, options)                                                                                        \
    cr_##name##_options o = name##_defaults;                                                                           \
    if (options) memcpy(&o, options, (options)->size < sizeof o ? (options)->size : sizeof o)

/* ---------------------------------------------------------------- making parameters */
typedef cr_tensor *(*initializer)(cr_tensor *t, double number);
static cr_tensor *fill_constant(cr_tensor *t, double value) { return cr_nn_init_constant_(t, value); }
static cr_tensor *fill_uniform(cr_tensor *t, double bound) { return cr_nn_init_uniform_(t, -bound, bound); }
static cr_tensor *fill_normal(cr_tensor *t, double std) { return cr_nn_init_normal_(t, 0, std); }

/* Registers a tensor that the module alone owns. */
static bool add_tensor(cr_nn_module *self, const char *name, cr_dtype dtype, cr_shape shape, cr_device device,
                       initializer fill, double number, bool is_parameter) {
    bool done = false;
    CR_SCOPE {
        cr_tensor *t = fill(cr_empty(dtype, shape, device), number);
        done =
            t && (is_parameter ? cr_nn_register_parameter(self, name, t) : cr_nn_register_buffer(self, name, t, true));
    }
    return done;
}

static bool check_sizes(const char *name, int64_t in, int64_t out) {
    return (in > 0 && out > 0) || cr_fail(CR_ERROR_ARGUMENT, "nn_%s: sizes %lld and %lld; they must be above 0", name,
                                          (long long)in, (long long)out);
}

/* ---------------------------------------------------------------- linear */
static cr_tensor *linear_forward(cr_nn_module *self, cr_tensor *x) {
    return cr_linear(x, cr_nn_tensor(self, "weight"), cr_nn_tensor(self, "bias"));
}

cr_nn_module *cr_nn_linear_with(int64_t in, int64_t out, const cr_nn_linear_options *options) {
    COMPLETE(nn_linear, options);
    if (!check_sizes("linear", in, out)) return NULL;
    cr_nn_module *self = cr_nn_module_new("linear", 0, linear_forward);
    const double bound = 1 / sqrt((double)in);
    const bool made =
        self &&
        cr_nn_set_description(self, "in=%lld, out=%lld, bias=%s", (long long)in, (long long)out,
                              o.bias ? "true" : "false") &&
        add_tensor(self, "weight", o.dtype, CR_SHAPE(out, in), o.device, fill_uniform, bound, true) &&
        (!o.bias || add_tensor(self, "bias", o.dtype, CR_SHAPE(out), o.device, fill_uniform, bound, true));
    return made ? self : cr_nn_abandon(self);
}

/* ---------------------------------------------------------------- convolutions */
typedef struct conv_module {
    cr_conv_options options;
    cr_tensor *(*function)(cr_tensor *, cr_tensor *, cr_tensor *, const cr_conv_options *);
} conv_module;

static cr_tensor *conv_forward(cr_nn_module *self, cr_tensor *x) {
    const conv_module *own = self->self;
    return own->function(x, cr_nn_tensor(self, "weight"), cr_nn_tensor(self, "bias"), &own->options);
}

static cr_nn_module *conv_new(const char *type, int spatial, bool transposed, int64_t in, int64_t out, int64_t kernel,
                              const cr_nn_conv_options *options,
                              cr_tensor *(*function)(cr_tensor *, cr_tensor *, cr_tensor *, const cr_conv_options *)) {
    COMPLETE(nn_conv, options);
    if (!check_sizes(type, in, out)) return NULL;
    if (o.groups < 1 || in % o.groups || out % o.groups || kernel < 1) {
        cr_record_error(CR_ERROR_ARGUMENT, "nn_%s: %lld groups of %lld and %lld channels, kernel %lld", type,
                        (long long)o.groups, (long long)in, (long long)out, (long long)kernel);
        return NULL;
    }
    cr_shape shape = transposed ? CR_SHAPE(in, out / o.groups) : CR_SHAPE(out, in / o.groups);
    double field = 1;
    for (int d = 0; d < spatial; d++) {
        const int64_t size = o.kernel_sizes.count == spatial ? o.kernel_sizes.at[d] : kernel;
        shape.at[shape.count++] = size;
        field *= (double)size;
    }
    const double bound = 1 / sqrt((double)shape.at[1] * field); /* PyTorch's fan-in is that of dim 1, also transposed */
    cr_nn_module *self = cr_nn_module_new(type, sizeof(conv_module), conv_forward);
    if (!self) return NULL;
    *(conv_module *)self->self = (conv_module){.options = {.size = sizeof(cr_conv_options),
                                                           .stride = o.stride,
                                                           .padding = o.padding,
                                                           .dilation = o.dilation,
                                                           .groups = o.groups,
                                                           .output_padding = o.output_padding,
                                                           .strides = o.strides,
                                                           .paddings = o.paddings,
                                                           .dilations = o.dilations,
                                                           .output_paddings = o.output_paddings},
                                               .function = function};
    const bool made =
        cr_nn_set_description(self, "%lld, %lld, kernel_size=%lld, stride=%lld, padding=%lld%s", (long long)in,
                              (long long)out, (long long)kernel, (long long)o.stride, (long long)o.padding,
                              o.bias ? "" : ", bias=false") &&
        add_tensor(self, "weight", o.dtype, shape, o.device, fill_uniform, bound, true) &&
        (!o.bias || add_tensor(self, "bias", o.dtype, CR_SHAPE(out), o.device, fill_uniform, bound, true));
    return made ? self : cr_nn_abandon(self);
}

#define CONV(name, spatial, transposed)                                                                                \
    cr_nn_module *cr_nn_##name##_with(int64_t in, int64_t out, int64_t kernel_size,                                    \
                                      const cr_nn_conv_options *options) {                                             \
        return conv_new(#name, spatial, transposed, in, out, kernel_size, options, cr_##name##_with);                  \
    }
CONV(conv1d, 1, false)
CONV(conv2d, 2, false)
CONV(conv3d, 3, false)
CONV(conv_transpose1d, 1, true)
CONV(conv_transpose2d, 2, true)
CONV(conv_transpose3d, 3, true)

/* ---------------------------------------------------------------- batch norm */
typedef struct batch_norm_module {
    double momentum, eps;
    bool track;
    int least, most; /* dims of the input */
} batch_norm_module;

static cr_tensor *batch_norm_forward(cr_nn_module *self, cr_tensor *x) {
    const batch_norm_module *own = self->self;
    if (cr_ndim(x) < own->least || cr_ndim(x) > own->most) {
        char text[224];
        cr_record_error(CR_ERROR_SHAPE, "takes %d%s dims, got %s", own->least, own->most > own->least ? " or 3" : "",
                        cr_describe(x, text));
        return NULL;
    }
    cr_tensor *batches = cr_nn_tensor(self, "num_batches_tracked");
    const bool training = self->is_training || !own->track;
    if (self->is_training && batches && !cr_add_scalar_(batches, 1)) return NULL;
    return cr_batch_norm(x, cr_nn_tensor(self, "weight"), cr_nn_tensor(self, "bias"),
                         cr_nn_tensor(self, "running_mean"), cr_nn_tensor(self, "running_var"), training, own->momentum,
                         own->eps);
}

static cr_nn_module *batch_norm_new(const char *type, int least, int most, int64_t features,
                                    const cr_nn_batch_norm_options *options) {
    COMPLETE(nn_batch_norm, options);
    if (!check_sizes(type, features, 1)) return NULL;
    cr_nn_module *self = cr_nn_module_new(type, sizeof(batch_norm_module), batch_norm_forward);
    if (!self) return NULL;
    *(batch_norm_module *)self->self = (batch_norm_module){o.momentum, o.eps, o.track_running_stats, least, most};
    const cr_shape shape = CR_SHAPE(features);
    bool made = cr_nn_set_description(self, "%lld, eps=%g, momentum=%g", (long long)features, o.eps, o.momentum);
    if (o.affine)
        made = made && add_tensor(self, "weight", o.dtype, shape, o.device, fill_constant, 1, true) &&
               add_tensor(self, "bias", o.dtype, shape, o.device, fill_constant, 0, true);
    if (o.track_running_stats)
        made = made && add_tensor(self, "running_mean", o.dtype, shape, o.device, fill_constant, 0, false) &&
               add_tensor(self, "running_var", o.dtype, shape, o.device, fill_constant, 1, false) &&
               add_tensor(self, "num_batches_tracked", CR_I64, CR_SHAPE_0D, o.device, fill_constant, 0, false);
    return made ? self : cr_nn_abandon(self);
}
cr_nn_module *cr_nn_batch_norm1d_with(int64_t features, const cr_nn_batch_norm_options *options) {
    return batch_norm_new("batch_norm1d", 2, 3, features, options);
}
cr_nn_module *cr_nn_batch_norm2d_with(int64_t features, const cr_nn_batch_norm_options *options) {
    return batch_norm_new("batch_norm2d", 4, 4, features, options);
}
cr_nn_module *cr_nn_batch_norm3d_with(int64_t features, const cr_nn_batch_norm_options *options) {
    return batch_norm_new("batch_norm3d", 5, 5, features, options);
}

/* ---------------------------------------------------------------- layer norm, group norm */
typedef struct norm_module {
    cr_shape shape; /* layer norm */
    int64_t groups; /* group norm */
    double eps;
} norm_module;

static cr_tensor *layer_norm_forward(cr_nn_module *self, cr_tensor *x) {
    const norm_module *own = self->self;
    return cr_layer_norm(x, own->shape, cr_nn_tensor(self, "weight"), cr_nn_tensor(self, "bias"), own->eps);
}
static cr_tensor *group_norm_forward(cr_nn_module *self, cr_tensor *x) {
    const norm_module *own = self->self;
    return cr_group_norm(x, own->groups, cr_nn_tensor(self, "weight"), cr_nn_tensor(self, "bias"), own->eps);
}

static cr_nn_module *norm_new(const char *type, cr_nn_forward_function forward, norm_module own, cr_shape shape,
                              const cr_nn_norm_options *options) {
    COMPLETE(nn_norm, options);
    cr_nn_module *self = cr_nn_module_new(type, sizeof(norm_module), forward);
    if (!self) return NULL;
    own.eps = o.eps;
    *(norm_module *)self->self = own;
    char text[192];
    bool made = own.groups ? cr_nn_set_description(self, "%lld, %lld, eps=%g", (long long)own.groups,
                                                   (long long)shape.at[0], o.eps)
                           : cr_nn_set_description(self, "%s, eps=%g", cr_shape_format(shape, text), o.eps);
    made = made && (!o.affine || add_tensor(self, "weight", o.dtype, shape, o.device, fill_constant, 1, true)) &&
           (!o.affine || !o.bias || add_tensor(self, "bias", o.dtype, shape, o.device, fill_constant, 0, true));
    return made ? self : cr_nn_abandon(self);
}
cr_nn_module *cr_nn_layer_norm_with(cr_shape normalized_shape, const cr_nn_norm_options *options) {
    return norm_new("layer_norm", layer_norm_forward, (norm_module){.shape = normalized_shape}, normalized_shape,
                    options);
}
cr_nn_module *cr_nn_group_norm_with(int64_t groups, int64_t channels, const cr_nn_norm_options *options) {
    if (groups < 1 || channels < 1 || channels % groups) {
        cr_record_error(CR_ERROR_ARGUMENT, "nn_group_norm: %lld groups of %lld channels", (long long)groups,
                        (long long)channels);
        return NULL;
    }
    return norm_new("group_norm", group_norm_forward, (norm_module){.groups = groups}, CR_SHAPE(channels), options);
}

/* ---------------------------------------------------------------- embedding */
typedef struct embedding_module {
    int64_t padding_idx;
} embedding_module;

static cr_tensor *embedding_forward(cr_nn_module *self, cr_tensor *x) {
    return cr_embedding(cr_nn_tensor(self, "weight"), x, ((const embedding_module *)self->self)->padding_idx);
}

cr_nn_module *cr_nn_embedding_with(int64_t count, int64_t size, const cr_nn_embedding_options *options) {
    COMPLETE(nn_embedding, options);
    if (!check_sizes("embedding", count, size)) return NULL;
    if (o.padding_idx >= count) {
        cr_record_error(CR_ERROR_INDEX, "nn_embedding: padding_idx %lld of %lld rows", (long long)o.padding_idx,
                        (long long)count);
        return NULL;
    }
    cr_nn_module *self = cr_nn_module_new("embedding", sizeof(embedding_module), embedding_forward);
    if (!self) return NULL;
    ((embedding_module *)self->self)->padding_idx = o.padding_idx;
    bool made = cr_nn_set_description(self, "%lld, %lld", (long long)count, (long long)size) &&
                add_tensor(self, "weight", o.dtype, CR_SHAPE(count, size), o.device, fill_normal, 1, true);
    if (made && o.padding_idx >= 0) {
        cr_grad_mode mode = cr_grad_mode_enter(false, false);
        CR_SCOPE {
            made = cr_zero_(cr_select(cr_nn_tensor(self, "weight"), 0, o.padding_idx)) != NULL;
        }
        cr_grad_mode_leave(&mode);
    }
    return made ? self : cr_nn_abandon(self);
}
