/* Attention over heads, a transformer's layer, and the memory for keys and values that token-by-token runs need. */
#include "nn/module.h"

#include <string.h>

#include "ops/op.h"

CR_OPTION_DEFAULTS(nn_attention, CR_NN_ATTENTION_OPTIONS)
CR_OPTION_DEFAULTS(nn_transformer, CR_NN_TRANSFORMER_OPTIONS)

typedef struct attention_module {
    int64_t width, heads;
    bool is_causal;
    double dropout;
} attention_module;

static const char *const cache_names[3] = {"keys", "values", "position"};

/* ---------------------------------------------------------------- forward */
/* [B, L, width] as [B, heads, L, width / heads], and back. */
static cr_tensor *split_heads(const attention_module *own, cr_tensor *x) {
    return cr_transpose(cr_reshape(x, CR_SHAPE(cr_size(x, 0), cr_size(x, 1), own->heads, own->width / own->heads)), 1,
                        2);
}
static cr_tensor *join_heads(const attention_module *own, cr_tensor *x) {
    return cr_reshape(cr_transpose(x, 1, 2), CR_SHAPE(cr_size(x, 0), cr_size(x, 2), own->width));
}

/* Rows part · width … of the projections' joined weight, for operands of one's own. */
static cr_tensor *project(cr_nn_module *self, cr_tensor *x, int64_t part) {
    const attention_module *own = self->self;
    cr_tensor *bias = cr_nn_tensor(self, "in_proj_bias");
    cr_tensor *weight = cr_narrow(cr_nn_tensor(self, "in_proj_weight"), 0, part * own->width, own->width);
    return split_heads(own, cr_linear(x, weight, bias ? cr_narrow(bias, 0, part * own->width, own->width) : NULL));
}

static bool check_input(const attention_module *own, const cr_tensor *x) {
    return (x->ndim == 3 && x->sizes[2] == own->width) ||
           cr_fail(CR_ERROR_SHAPE, "nn_multihead_attention: takes [batch, length, %lld]", (long long)own->width);
}

static cr_tensor *attend(cr_nn_module *self, cr_tensor *const qkv[3], cr_tensor *mask) {
    const attention_module *own = self->self;
    cr_tensor *position = cr_nn_tensor(self, "position"), *mixed;
    if (position && mask) {
        cr_record_error(CR_ERROR_ARGUMENT, "nn_multihead_attention: a cache takes no mask");
        return NULL;
    }
    if (position && self->is_training) {
        cr_record_error(CR_ERROR_STATE,
                        "nn_multihead_attention: no gradient flows through a cache; call cr_nn_eval, or "
                        "cr_nn_cache_end");
        return NULL;
    }
    if (position)
        mixed = cr_cached_attention(qkv[0], qkv[1], qkv[2], cr_nn_tensor(self, "keys"), cr_nn_tensor(self, "values"),
                                    position, 0);
    else
        mixed = cr_scaled_dot_product_attention(qkv[0], qkv[1], qkv[2], mask, .is_causal = own->is_causal,
                                                .dropout_p = self->is_training ? own->dropout : 0);
    return mixed ? cr_nn_forward(cr_nn_find(self, "out_proj"), join_heads(own, mixed)) : NULL;
}

cr_tensor *cr_nn_multihead_attention_forward(cr_nn_module *attention, cr_tensor *query, cr_tensor *key,
                                             cr_tensor *value, cr_tensor *mask) {
    if (!attention && cr_ok()) cr_record_error(CR_ERROR_ARGUMENT, "nn_multihead_attention_forward: NULL module");
    if (!attention || !cr_tensor_check(query, "nn_multihead_attention_forward") ||
        !cr_tensor_check(key, "nn_multihead_attention_forward") ||
        !cr_tensor_check(value, "nn_multihead_attention_forward"))
        return NULL;
    const attention_module *own = attention->self;
    cr_tensor *const given[3] = {query, key, value};
    cr_tensor *qkv[3];
    for (int i = 0; i < 3; i++)
        if (!check_input(own, given[i]) || !(qkv[i] = project(attention, given[i], i))) return NULL;
    return attend(attention, qkv, mask);
}

/* Of words among themselves: one product for all three projections. */
static cr_tensor *self_attention(cr_nn_module *self, cr_tensor *x) {
    const attention_module *own = self->self;
    if (!check_input(own, x)) return NULL;
    cr_tensor *all = cr_linear(x, cr_nn_tensor(self, "in_proj_weight"), cr_nn_tensor(self, "in_proj_bias"));
    cr_tensor *qkv[3];
    for (int i = 0; i < 3; i++)
        if (!(qkv[i] = split_heads(own, cr_narrow(all, 2, i * own->width, own->width)))) return NULL;
    return attend(self, qkv, NULL);
}

/* ---------------------------------------------------------------- making */
static bool add_projection(cr_nn_module *self, const cr_nn_attention_options *o, int64_t width) {
    bool done = false;
    CR_SCOPE {
        done = cr_nn_register_parameter(
                   self, "in_proj_weight",
                   cr_nn_init_xavier_uniform_(cr_empty(o->dtype, CR_SHAPE(3 * width, width), o->device), 1)) &&
               (!o->bias ||
                cr_nn_register_parameter(self, "in_proj_bias", cr_zeros(o->dtype, CR_SHAPE(3 * width), o->device)));
        cr_nn_module *out =
            done ? cr_nn_register(self, "out_proj",
                                  cr_nn_linear(width, width, .bias = o->bias, .dtype = o->dtype, .device = o->device))
                 : NULL;
        done = out && (!o->bias || cr_nn_init_constant_(cr_nn_tensor(out, "bias"), 0));
    }
    return done;
}

cr_nn_module *cr_nn_multihead_attention_with(int64_t width, int64_t heads, const cr_nn_attention_options *options) {
    cr_nn_attention_options o = nn_attention_defaults;
    if (options) memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    if (width < 1 || heads < 1 || width % heads) {
        cr_record_error(CR_ERROR_ARGUMENT, "nn_multihead_attention: %lld heads must divide the width, %lld",
                        (long long)heads, (long long)width);
        return NULL;
    }
    cr_nn_module *self = cr_nn_module_new("multihead_attention", sizeof(attention_module), self_attention);
    if (!self) return NULL;
    *(attention_module *)self->self = (attention_module){width, heads, o.is_causal, o.dropout};
    const bool made = cr_nn_set_description(self, "%lld, heads=%lld%s", (long long)width, (long long)heads,
                                            o.is_causal ? ", is_causal=true" : "") &&
                      add_projection(self, &o, width);
    return made ? self : cr_nn_abandon(self);
}

/* ---------------------------------------------------------------- the cache */
static bool is_attention(const cr_nn_module *module) { return module->forward == self_attention; }

static void forget(cr_nn_module *module) {
    for (int c = 0; c < 3; c++)
        for (int i = 0; i < module->tensor_count; i++) {
            cr_nn_tensor_entry *entry = &module->tensors[i];
            if (entry->is_parameter || strcmp(entry->name, cache_names[c]) != 0) continue;
            cr_free(entry->name);
            cr_release(entry->tensor);
            memmove(entry, entry + 1, (size_t)(--module->tensor_count - i) * sizeof *entry);
        }
}

typedef struct cache_request {
    int64_t batch, capacity;
} cache_request;

static bool begin_cache(cr_nn_module *module, const char *path, void *context) {
    const cache_request *request = context;
    (void)path;
    if (!is_attention(module)) return true;
    const attention_module *own = module->self;
    const cr_tensor *weight = cr_nn_tensor(module, "in_proj_weight");
    if (!own->is_causal)
        return cr_fail(CR_ERROR_ARGUMENT,
                       "nn_cache_begin: in \"%s\" each word sees those behind it; make it with "
                       ".is_causal = true",
                       path);
    bool done = true;
    forget(module);
    CR_SCOPE {
        const cr_shape shape = CR_SHAPE(request->batch, own->heads, request->capacity, own->width / own->heads);
        for (int i = 0; done && i < 3; i++)
            done = cr_nn_register_buffer(module, cache_names[i],
                                         i < 2 ? cr_zeros(cr_dtype_of(weight), shape, cr_device_of(weight))
                                               : cr_zeros(CR_I64, CR_SHAPE_0D, cr_device_of(weight)),
                                         false) != NULL;
    }
    return done;
}

static bool end_cache(cr_nn_module *module, const char *path, void *context) {
    (void)path, (void)context;
    if (is_attention(module)) forget(module);
    return true;
}

bool cr_nn_cache_begin(cr_nn_module *module, int64_t batch, int64_t capacity) {
    cache_request request = {batch, capacity};
    if (batch < 1 || capacity < 1)
        return cr_fail(CR_ERROR_ARGUMENT, "nn_cache_begin: room for %lld words of %lld sequences", (long long)capacity,
                       (long long)batch);
    if (cr_nn_apply(module, begin_cache, &request)) return true;
    if (module) cr_nn_apply(module, end_cache, NULL);
    return false;
}

void cr_nn_cache_end(cr_nn_module *module) {
    if (module) cr_nn_apply(module, end_cache, NULL);
}

static bool find_position(cr_nn_module *module, const char *path, void *context) {
    (void)path;
    *(cr_tensor **)context = is_attention(module) ? cr_nn_tensor(module, "position") : NULL;
    return *(cr_tensor **)context == NULL;
}

cr_tensor *cr_nn_cache_position(cr_nn_module *module) {
    cr_tensor *position = NULL;
    if (module) cr_nn_apply(module, find_position, &position);
    return position;
}

static bool rewind_one(cr_nn_module *module, const char *path, void *context) {
    cr_tensor *position = is_attention(module) ? cr_nn_tensor(module, "position") : NULL;
    const int64_t to = *(const int64_t *)context;
    if (!position) return true;
    if (to < 0 || (double)to > cr_item(position))
        return cr_fail(CR_ERROR_ARGUMENT, "nn_cache_rewind: to word %lld, but \"%s\" holds %lld", (long long)to, path,
                       (long long)cr_item(position));
    return cr_fill_(position, (double)to) != NULL;
}

bool cr_nn_cache_rewind(cr_nn_module *module, int64_t position) { return cr_nn_apply(module, rewind_one, &position); }

/* ---------------------------------------------------------------- a layer */
typedef struct transformer_module {
    cr_nn_module *attention, *linear1, *linear2, *norm1, *norm2;
    double dropout;
    bool norm_first, gelu;
} transformer_module;

static cr_tensor *transformer_forward(cr_nn_module *self, cr_tensor *x) {
    const transformer_module *own = self->self;
    const bool drops = self->is_training && own->dropout > 0;
    for (int half = 0; x && half < 2; half++) {
        cr_nn_module *norm = half ? own->norm2 : own->norm1;
        cr_tensor *y = own->norm_first ? cr_nn_forward(norm, x) : x;
        if (half == 0) {
            y = cr_nn_forward(own->attention, y);
        } else {
            y = cr_nn_forward(own->linear1, y);
            y = own->gelu ? cr_gelu(y) : cr_relu(y);
            y = cr_nn_forward(own->linear2, drops ? cr_dropout(y, own->dropout, true) : y);
        }
        x = cr_add(x, drops ? cr_dropout(y, own->dropout, true) : y);
        if (x && !own->norm_first) x = cr_nn_forward(norm, x);
    }
    return x;
}

cr_nn_module *cr_nn_transformer_layer_with(int64_t width, int64_t heads, const cr_nn_transformer_options *options) {
    cr_nn_transformer_options o = nn_transformer_defaults;
    if (options) memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    const int64_t hidden = o.hidden ? o.hidden : 4 * width;
    cr_nn_module *self = cr_nn_module_new("transformer_layer", sizeof(transformer_module), transformer_forward);
    if (!self) return NULL;
    transformer_module *own = self->self;
    *own = (transformer_module){.dropout = o.dropout, .norm_first = o.norm_first, .gelu = o.gelu};
    own->attention =
        cr_nn_register(self, "self_attn",
                       cr_nn_multihead_attention(width, heads, .bias = o.bias, .is_causal = o.is_causal,
                                                 .dropout = o.dropout, .dtype = o.dtype, .device = o.device));
    if (!own->attention) return cr_nn_abandon(self);
    own->linear1 = cr_nn_register(self, "linear1",
                                  cr_nn_linear(width, hidden, .bias = o.bias, .dtype = o.dtype, .device = o.device));
    own->linear2 = cr_nn_register(self, "linear2",
                                  cr_nn_linear(hidden, width, .bias = o.bias, .dtype = o.dtype, .device = o.device));
    cr_nn_module **const norms[2] = {&own->norm1, &own->norm2};
    for (int i = 0; i < 2; i++)
        *norms[i] =
            cr_nn_register(self, i ? "norm2" : "norm1",
                           cr_nn_layer_norm(CR_SHAPE(width), .bias = o.bias, .dtype = o.dtype, .device = o.device));
    return own->linear1 && own->linear2 && own->norm1 && own->norm2 ? self : cr_nn_abandon(self);
}
