/* LSTM of several layers and directions, from cr_lstm_layer. */
#include "nn/module.h"

#include <math.h>
#include <string.h>

#include "ops/op.h"

CR_OPTION_DEFAULTS(nn_lstm, CR_NN_LSTM_OPTIONS)

typedef struct lstm_module {
    int64_t layers, directions, hidden;
    bool batch_first;
    double dropout;
} lstm_module;

static cr_tensor *weight_of(cr_nn_module *self, const char *what, int64_t layer, int64_t direction) {
    char name[64];
    snprintf(name, sizeof name, "%s_l%lld%s", what, (long long)layer, direction ? "_reverse" : "");
    return cr_nn_tensor(self, name);
}

/* Row `index` of a state [layers · directions, B, H], or zeros. */
static cr_tensor *state_row(cr_tensor *state, int64_t index, const cr_tensor *x, int64_t hidden) {
    return state ? cr_select(state, 0, index)
                 : cr_zeros(cr_dtype_of(x), CR_SHAPE(cr_size(x, 1), hidden), cr_device_of(x));
}

cr_tensor *cr_nn_lstm_forward(cr_nn_module *lstm, cr_tensor *x, cr_tensor *h, cr_tensor *c, cr_tensor **h_n,
                              cr_tensor **c_n) {
    if (!lstm && cr_ok()) cr_record_error(CR_ERROR_ARGUMENT, "nn_lstm_forward: NULL module");
    if (!lstm || !cr_tensor_check(x, "nn_lstm_forward")) return NULL;
    const lstm_module *own = lstm->self;
    cr_tensor *last_h[CR_MAX_INPUTS], *last_c[CR_MAX_INPUTS];
    if (own->batch_first) x = cr_transpose(x, 0, 1);
    for (int64_t layer = 0; x && layer < own->layers; layer++) {
        cr_tensor *outputs[2] = {NULL, NULL};
        if (layer && own->dropout > 0) x = cr_dropout(x, own->dropout, lstm->is_training);
        for (int64_t d = 0; d < own->directions; d++) {
            const int64_t row = layer * own->directions + d;
            outputs[d] = cr_lstm_layer(x, state_row(h, row, x, own->hidden), state_row(c, row, x, own->hidden),
                                       weight_of(lstm, "weight_ih", layer, d), weight_of(lstm, "weight_hh", layer, d),
                                       weight_of(lstm, "bias_ih", layer, d), weight_of(lstm, "bias_hh", layer, d),
                                       d == 1, &last_h[row], &last_c[row]);
        }
        x = own->directions == 2 ? cr_cat(outputs, 2, 2) : outputs[0];
    }
    const int rows = (int)(own->layers * own->directions);
    if (h_n) *h_n = x ? cr_stack(last_h, rows, 0) : NULL;
    if (c_n) *c_n = x ? cr_stack(last_c, rows, 0) : NULL;
    return own->batch_first ? cr_transpose(x, 0, 1) : x;
}

static cr_tensor *lstm_forward(cr_nn_module *self, cr_tensor *x) {
    return cr_nn_lstm_forward(self, x, NULL, NULL, NULL, NULL);
}

static bool add_weight(cr_nn_module *self, const char *what, int64_t layer, int64_t direction, cr_shape shape,
                       const cr_nn_lstm_options *o, double bound) {
    char name[64];
    bool done = false;
    snprintf(name, sizeof name, "%s_l%lld%s", what, (long long)layer, direction ? "_reverse" : "");
    CR_SCOPE {
        done = cr_nn_register_parameter(
                   self, name, cr_nn_init_uniform_(cr_empty(o->dtype, shape, o->device), -bound, bound)) != NULL;
    }
    return done;
}

cr_nn_module *cr_nn_lstm_with(int64_t input_size, int64_t hidden_size, const cr_nn_lstm_options *options) {
    cr_nn_lstm_options o = nn_lstm_defaults;
    if (options) memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    const int64_t directions = o.bidirectional ? 2 : 1;
    if (input_size < 1 || hidden_size < 1 || o.num_layers < 1 || o.num_layers * directions > CR_MAX_INPUTS) {
        cr_record_error(CR_ERROR_ARGUMENT, "nn_lstm: %lld layers of %lld by %lld", (long long)o.num_layers,
                        (long long)input_size, (long long)hidden_size);
        return NULL;
    }
    cr_nn_module *self = cr_nn_module_new("lstm", sizeof(lstm_module), lstm_forward);
    if (!self) return NULL;
    *(lstm_module *)self->self = (lstm_module){o.num_layers, directions, hidden_size, o.batch_first, o.dropout};
    const double bound = 1 / sqrt((double)hidden_size);
    bool made = cr_nn_set_description(self, "%lld, %lld, num_layers=%lld", (long long)input_size,
                                      (long long)hidden_size, (long long)o.num_layers);
    for (int64_t layer = 0; made && layer < o.num_layers; layer++) {
        for (int64_t d = 0; made && d < directions; d++) {
            const int64_t in = layer ? hidden_size * directions : input_size;
            made = add_weight(self, "weight_ih", layer, d, CR_SHAPE(4 * hidden_size, in), &o, bound) &&
                   add_weight(self, "weight_hh", layer, d, CR_SHAPE(4 * hidden_size, hidden_size), &o, bound) &&
                   (!o.bias || (add_weight(self, "bias_ih", layer, d, CR_SHAPE(4 * hidden_size), &o, bound) &&
                                add_weight(self, "bias_hh", layer, d, CR_SHAPE(4 * hidden_size), &o, bound)));
        }
    }
    return made ? self : cr_nn_abandon(self);
}
