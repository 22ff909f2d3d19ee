/* LSTM: the input's part of all gates in one product for all steps, then a cell for each step. */
#include "ops/op.h"

#define LSTM_ATTRIBUTES(A, op) A(op, BOOL, reverse, false)
CR_OPTIONS(lstm_layer, LSTM_ATTRIBUTES)
CR_ATTRIBUTES(lstm_layer, LSTM_ATTRIBUTES)

static bool infer_lstm(cr_call *call) {
    const cr_tensor *x = call->inputs[0], *h = call->inputs[1], *c = call->inputs[2], *w = call->inputs[3], *u = call->inputs[4];
    const int64_t hidden = u->ndim == 2 ? u->sizes[1] : -1;
    bool fits = x->ndim == 3 && w->ndim == 2 && w->sizes[0] == 4 * hidden && u->sizes[0] == 4 * hidden && w->sizes[1] == x->sizes[2];
    const cr_shape state = CR_SHAPE(fits ? x->sizes[1] : 0, hidden);
    fits = fits && cr_shape_equal(cr_tensor_shape(h), state) && cr_shape_equal(cr_tensor_shape(c), state);
    for (int i = 5; i < 7; i++) fits = fits && (!call->inputs[i] || cr_shape_equal(cr_tensor_shape(call->inputs[i]), CR_SHAPE(4 * hidden)));
    if (!fits) return cr_fail_call(call, CR_ERROR_SHAPE, "takes x [T, B, in], h0 and c0 [B, H], weights [4H, in] and [4H, H], biases [4H]");
    for (int i = 0; i < 7; i++)
        if (call->inputs[i] && (call->inputs[i]->dtype != x->dtype || !cr_dtype_is_floating((cr_dtype)x->dtype)))
            return cr_fail_call(call, CR_ERROR_DTYPE, "all operands have one floating dtype");
    cr_spec_set(call, 0, (cr_dtype)x->dtype, CR_SHAPE(x->sizes[0], x->sizes[1], hidden));
    cr_spec_set(call, 1, (cr_dtype)x->dtype, state);
    cr_spec_set(call, 2, (cr_dtype)x->dtype, state);
    return true;
}

/* h and c after one step; gates: [B, 4H]. */
static bool step_cell(cr_tensor *gates, cr_tensor **h, cr_tensor **c) {
    cr_tensor *parts[4];
    if (cr_chunk(gates, 4, 1, parts, 4) != 4) return false;
    cr_tensor *kept = cr_mul(cr_sigmoid(parts[1]), *c), *added = cr_mul(cr_sigmoid(parts[0]), cr_tanh(parts[2]));
    *c = cr_add(kept, added);
    *h = cr_mul(cr_sigmoid(parts[3]), cr_tanh(*c));
    return *h != NULL;
}

/* Rows are joined in groups: cat takes a limited number. */
static cr_tensor *join_steps(cr_tensor **steps, int64_t count) {
    while (count > 1) {
        int64_t joined = 0;
        for (int64_t start = 0; start < count; start += CR_MAX_INPUTS) {
            const int64_t group = count - start < CR_MAX_INPUTS ? count - start : CR_MAX_INPUTS;
            if (!(steps[joined++] = cr_cat(steps + start, (int)group, 0))) return NULL;
        }
        count = joined;
    }
    return steps[0];
}

static bool run_steps(cr_call *call, cr_tensor **steps) {
    cr_tensor *x = call->inputs[0], *h = call->inputs[1], *c = call->inputs[2], *u = call->inputs[4];
    const bool reverse = ((const cr_lstm_layer_options *)call->attributes)->reverse;
    const int64_t length = cr_size(x, 0);
    cr_tensor *from_input = cr_linear(x, call->inputs[3], call->inputs[5]);
    for (int64_t i = 0; i < length; i++) {
        const int64_t t = reverse ? length - 1 - i : i;
        cr_tensor *gates = cr_add(cr_select(from_input, 0, t), cr_linear(h, u, call->inputs[6]));
        if (!gates || !step_cell(gates, &h, &c) || !(steps[t] = cr_unsqueeze(h, 0))) return false;
    }
    call->outputs[0] = length ? join_steps(steps, length) : cr_zeros(cr_dtype_of(x), call->specs[0].shape, cr_device_of(x));
    call->outputs[1] = length ? h : cr_clone(h);
    call->outputs[2] = length ? c : cr_clone(c);
    return call->outputs[0] && call->outputs[1] && call->outputs[2];
}

static bool decompose_lstm(cr_call *call) {
    cr_tensor **steps = cr_calloc((size_t)cr_size(call->inputs[0], 0) + 1, sizeof *steps);
    const bool done = steps && run_steps(call, steps);
    cr_free(steps);
    return done;
}
CR_OP(lstm_layer, .inputs = "input h0 c0 weight_ih weight_hh bias_ih? bias_hh?", .outputs = "output h_n c_n", CR_ROW_ATTRIBUTES(lstm_layer),
      .infer = infer_lstm, .decompose = decompose_lstm, .doc = "One layer of LSTM in one direction.")

cr_tensor *cr_lstm_layer(cr_tensor *x, cr_tensor *h0, cr_tensor *c0, cr_tensor *weight_ih, cr_tensor *weight_hh, cr_tensor *bias_ih,
                         cr_tensor *bias_hh, bool reverse, cr_tensor **h_n, cr_tensor **c_n) {
    const cr_lstm_layer_options options = {sizeof options, reverse};
    cr_tensor *const inputs[] = {x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh};
    cr_tensor *outputs[3];
    const bool done = cr_run_all(&cr_op_lstm_layer, inputs, 7, &options, outputs, 3);
    if (h_n) *h_n = done ? outputs[1] : NULL;
    if (c_n) *c_n = done ? outputs[2] : NULL;
    return done ? outputs[0] : NULL;
}
