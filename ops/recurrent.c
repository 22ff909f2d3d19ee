/* LSTM: the input's part of all gates in one product for all steps, then the recurrence as one op with a gradient of
 * its own. */
#include "ops/recurrent.h"
#include "ops/op.h"

#define LSTM_ATTRIBUTES(A, op) A(op, BOOL, reverse, false)
CR_OPTIONS(lstm_layer, LSTM_ATTRIBUTES)
CR_ATTRIBUTES(lstm_layer, LSTM_ATTRIBUTES)

static bool is_reverse(const void *attributes) { return ((const cr_lstm_layer_options *)attributes)->reverse; }
/* The i-th step in the order of the recurrence. */
static int64_t step_at(int64_t i, int64_t length, bool reverse) { return reverse ? length - 1 - i : i; }

/* ---------------------------------------------------------------- tensors of single steps, and joined */
enum { OUTPUT, GATES, CELLS, KINDS };
typedef struct step_lists {
    cr_tensor **at[KINDS]; /* [length] each */
} step_lists;

static bool steps_begin(step_lists *lists, int64_t length) {
    bool made = true;
    for (int i = 0; i < KINDS; i++)
        made = (lists->at[i] = cr_calloc((size_t)length + 1, sizeof(cr_tensor *))) && made;
    return made;
}
static void steps_end(step_lists *lists) {
    for (int i = 0; i < KINDS; i++)
        cr_free(lists->at[i]);
}

/* [length, …] from tensors [1, …]. They are joined in groups: cat takes a limited number. */
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

/* ---------------------------------------------------------------- the recurrence */
static bool infer_sequence(cr_call *call) {
    const cr_tensor *x = call->inputs[0], *u = call->inputs[3];
    const int64_t hidden = u->ndim == 2 ? u->sizes[1] : -1;
    bool fits = x->ndim == 3 && hidden >= 0 && u->sizes[0] == 4 * hidden && x->sizes[2] == 4 * hidden;
    const cr_shape state = CR_SHAPE(fits ? x->sizes[1] : 0, hidden);
    for (int i = 1; i < 3; i++)
        fits = fits && cr_shape_equal(cr_tensor_shape(call->inputs[i]), state);
    if (!fits)
        return cr_fail_call(call, CR_ERROR_SHAPE, "takes gates [T, B, 4H], h0 and c0 [B, H], and a weight [4H, H]");
    for (int i = 0; i < 4; i++)
        if (call->inputs[i]->dtype != x->dtype || !cr_dtype_is_floating((cr_dtype)x->dtype))
            return cr_fail_call(call, CR_ERROR_DTYPE, "all operands have one floating dtype");
    const cr_dtype dtype = (cr_dtype)x->dtype;
    cr_spec_set(call, 0, dtype, CR_SHAPE(x->sizes[0], x->sizes[1], hidden));
    cr_spec_set(call, 1, dtype, state);
    cr_spec_set(call, 2, dtype, state);
    cr_spec_set(call, 3, dtype, cr_tensor_shape(x));
    cr_spec_set(call, 4, dtype, call->specs[0].shape);
    return true;
}

/* One step: from_input [B, 4H]; h and c move on; gates: i f g o as activated, [B, 4H]. */
static bool step_cell(cr_tensor *from_input, cr_tensor *u, cr_tensor **h, cr_tensor **c, cr_tensor **gates) {
    cr_tensor *parts[4];
    if (cr_chunk(cr_add(from_input, cr_matmul(*h, cr_transpose(u, 0, 1))), 4, 1, parts, 4) != 4) return false;
    for (int i = 0; i < 4; i++)
        parts[i] = i == 2 ? cr_tanh(parts[i]) : cr_sigmoid(parts[i]);
    *c = cr_add(cr_mul(parts[1], *c), cr_mul(parts[0], parts[2]));
    *h = cr_mul(parts[3], cr_tanh(*c));
    return *h && (*gates = cr_cat(parts, 4, 1));
}

static bool run_steps(cr_tensor *const *in, bool reverse, step_lists *lists, cr_tensor **out) {
    cr_tensor *x = in[0], *h = in[1], *c = in[2], *gates;
    const int64_t length = cr_size(x, 0);
    for (int64_t i = 0; i < length; i++) {
        const int64_t t = step_at(i, length, reverse);
        if (!step_cell(cr_select(x, 0, t), in[3], &h, &c, &gates)) return false;
        lists->at[OUTPUT][t] = cr_unsqueeze(h, 0);
        lists->at[GATES][t] = cr_unsqueeze(gates, 0);
        lists->at[CELLS][t] = cr_unsqueeze(c, 0);
        if (!lists->at[CELLS][t]) return false;
    }
    cr_tensor *none = length ? NULL : cr_reshape(x, CR_SHAPE(0, cr_size(h, 0), cr_size(h, 1)));
    out[0] = length ? join_steps(lists->at[OUTPUT], length) : none;
    out[1] = length ? h : cr_clone(h);
    out[2] = length ? c : cr_clone(c);
    out[3] = length ? join_steps(lists->at[GATES], length) : cr_clone(x);
    out[4] = length ? join_steps(lists->at[CELLS], length) : cr_clone(none);
    return out[0] && out[1] && out[2] && out[3] && out[4];
}
static bool sequence_by_steps(cr_tensor *const *in, bool reverse, cr_tensor **out) {
    step_lists lists;
    const bool done = steps_begin(&lists, cr_size(in[0], 0)) && run_steps(in, reverse, &lists, out);
    steps_end(&lists);
    return done;
}
static bool decompose_sequence(cr_call *call) {
    return sequence_by_steps(call->inputs, is_reverse(call->attributes), call->outputs);
}

/* ---------------------------------------------------------------- its gradient */
enum { GRAD_OUTPUT, GRAD_H, GRAD_C, IN_GATES, IN_CELLS, IN_OUTPUT, IN_H0, IN_C0, IN_WEIGHT };

static bool infer_sequence_grad(cr_call *call) {
    const cr_tensor *gates = call->inputs[IN_GATES], *weight = call->inputs[IN_WEIGHT];
    const cr_dtype dtype = (cr_dtype)gates->dtype;
    static const int like[] = {IN_GATES, IN_H0, IN_C0, IN_WEIGHT};
    const int64_t hidden = weight->ndim == 2 ? weight->sizes[1] : -1, steps = gates->ndim == 3 ? gates->sizes[0] : -1;
    bool fits = hidden >= 0 && steps >= 0 && weight->sizes[0] == 4 * hidden && gates->sizes[2] == 4 * hidden;
    const cr_shape state = CR_SHAPE(fits ? gates->sizes[1] : 0, hidden), all = CR_SHAPE(steps, state.at[0], hidden);
    for (int i = 0; i <= IN_C0; i++)
        fits = fits &&
               (i == IN_GATES || cr_shape_equal(cr_tensor_shape(call->inputs[i]),
                                                i == GRAD_OUTPUT || i == IN_CELLS || i == IN_OUTPUT ? all : state));
    if (!fits)
        return cr_fail_call(
            call, CR_ERROR_SHAPE,
            "takes gates [T, B, 4H], what is of all steps [T, B, H], states [B, H], and a weight [4H, H]");
    for (int i = 0; i <= IN_WEIGHT; i++)
        if (call->inputs[i]->dtype != gates->dtype || !cr_dtype_is_floating(dtype))
            return cr_fail_call(call, CR_ERROR_DTYPE, "all operands have one floating dtype");
    for (int i = 0; i < 4; i++)
        cr_spec_set(call, i, dtype, cr_tensor_shape(call->inputs[like[i]]));
    return true;
}

/* Gradients before the activations of one step; dh and dc move to the step before it. gates: [B, 4H]. */
static cr_tensor *step_gradient(cr_tensor *gates, cr_tensor *c, cr_tensor *c_before, cr_tensor *u, cr_tensor **dh,
                                cr_tensor **dc) {
    cr_tensor *p[4];
    if (cr_chunk(gates, 4, 1, p, 4) != 4) return NULL;
    cr_tensor *tanh_c = cr_tanh(c), *d[4];
    *dc = cr_add(*dc, cr_mul(cr_mul(*dh, p[3]), cr_add_scalar(cr_neg(cr_square(tanh_c)), 1)));
    cr_tensor *const outer[4] = {cr_mul(*dc, p[2]), cr_mul(*dc, c_before), cr_mul(*dc, p[0]), cr_mul(*dh, tanh_c)};
    for (int i = 0; i < 4; i++) /* tanh: 1 - g², σ: s (1 - s) */
        d[i] = cr_mul(outer[i], i == 2 ? cr_add_scalar(cr_neg(cr_square(p[i])), 1)
                                       : cr_mul(p[i], cr_add_scalar(cr_neg(p[i]), 1)));
    cr_tensor *before = cr_cat(d, 4, 1);
    *dc = cr_mul(*dc, p[1]);
    *dh = cr_matmul(before, u);
    return *dh && *dc ? before : NULL;
}

/* Σ_t d_gates[t]ᵀ h[t - 1], as one product. */
static cr_tensor *weight_gradient(cr_tensor *d_gates, cr_tensor *output, cr_tensor *h0, bool reverse) {
    const int64_t length = cr_size(output, 0);
    cr_tensor *first = cr_unsqueeze(h0, 0), *rest = cr_narrow(output, 0, reverse, length - 1);
    cr_tensor *const order[2] = {reverse ? rest : first, reverse ? first : rest};
    return cr_matmul(cr_transpose(cr_flatten(d_gates, 0, 1), 0, 1), cr_flatten(cr_cat(order, 2, 0), 0, 1));
}

static bool run_gradient_steps(cr_tensor *const *in, bool reverse, step_lists *lists, cr_tensor **out) {
    const int64_t length = cr_size(in[IN_GATES], 0);
    cr_tensor *dh = in[GRAD_H], *dc = in[GRAD_C];
    for (int64_t i = length - 1; i >= 0; i--) {
        const int64_t t = step_at(i, length, reverse);
        cr_tensor *c_before = i ? cr_select(in[IN_CELLS], 0, step_at(i - 1, length, reverse)) : in[IN_C0];
        dh = cr_add(dh, cr_select(in[GRAD_OUTPUT], 0, t));
        cr_tensor *before = step_gradient(cr_select(in[IN_GATES], 0, t), cr_select(in[IN_CELLS], 0, t), c_before,
                                          in[IN_WEIGHT], &dh, &dc);
        if (!(lists->at[GATES][t] = cr_unsqueeze(before, 0))) return false;
    }
    out[0] = length ? join_steps(lists->at[GATES], length) : cr_clone(in[IN_GATES]);
    out[1] = length ? dh : cr_clone(dh);
    out[2] = length ? dc : cr_clone(dc);
    out[3] = length ? weight_gradient(out[0], in[IN_OUTPUT], in[IN_H0], reverse) : cr_zeros_like(in[IN_WEIGHT]);
    return out[0] && out[1] && out[2] && out[3];
}
static bool decompose_sequence_grad(cr_call *call) {
    step_lists lists;
    const bool done = steps_begin(&lists, cr_size(call->inputs[IN_GATES], 0)) &&
                      run_gradient_steps(call->inputs, is_reverse(call->attributes), &lists, call->outputs);
    steps_end(&lists);
    return done;
}
/* `products` of a step's hidden state with the weight, and `more` operations for each unit of each step.
 * gates: [T, B, 4H] */
static double flops_steps(const cr_tensor *gates, int products, int more) {
    const double width = (double)gates->sizes[gates->ndim - 1] / 4;
    return (double)gates->numel * width * 2 * products + (double)gates->numel / 4 * more;
}
/* Four sums and four activations; f c + i g, tanh and o tanh. */
static double flops_sequence(const cr_call *call) { return flops_steps(call->inputs[0], 1, 13); }
static double flops_sequence_grad(const cr_call *call) { return flops_steps(call->inputs[IN_GATES], 2, 25); }
CR_OP(lstm_sequence_grad, .inputs = "grad_output grad_h grad_c gates cells output h0 c0 weight_hh",
      .outputs = "grad_gates grad_h0 grad_c0 grad_weight", CR_ROW_ATTRIBUTES(lstm_layer), .infer = infer_sequence_grad,
      .decompose = decompose_sequence_grad, .flops = flops_sequence_grad, .doc = "The gradients of lstm_sequence.")

/* Gates and cells are functions of the inputs: where gradients of gradients are wanted they are made again as such. */
static bool vjp_sequence(cr_vjp *v) {
    cr_tensor *made[5] = {v->outputs[0], NULL, NULL, v->outputs[3], v->outputs[4]}, *results[4];
    bool again = false;
    for (int i = 0; i < 4; i++)
        again = again || (v->inputs[i] && v->inputs[i]->requires_grad);
    if (again && !sequence_by_steps(v->inputs, is_reverse(v->attributes), made)) return false;
    cr_tensor *const inputs[] = {v->grads[0], v->grads[1],  v->grads[2],  made[3],     made[4],
                                 made[0],     v->inputs[1], v->inputs[2], v->inputs[3]};
    if (!cr_run_all(&cr_op_lstm_sequence_grad, inputs, 9, v->attributes, results, 4)) return false;
    for (int i = 0; i < 4; i++)
        v->results[i] = v->needs[i] ? results[i] : NULL;
    return true;
}
CR_OP(lstm_sequence, .inputs = "gates h0 c0 weight_hh", .outputs = "output h_n c_n activated cells",
      .constant_outputs = 8 | 16, CR_ROW_ATTRIBUTES(lstm_layer), .infer = infer_sequence,
      .decompose = decompose_sequence, .vjp = vjp_sequence,
      .saves = CR_SAVE_ALL_INPUTS | CR_SAVE_OUTPUT(0) | CR_SAVE_OUTPUT(3) | CR_SAVE_OUTPUT(4), .flops = flops_sequence,
      .doc =
          "LSTM's recurrence, given the input's part of the gates of all steps; gates and cells are kept for backward.")

/* ---------------------------------------------------------------- with a weight that was packed once */
static bool infer_pack_recurrent(cr_call *call) {
    const cr_tensor *weight = call->inputs[0];
    if (weight->ndim != 2 || weight->dtype != CR_F32 || weight->sizes[0] != 4 * weight->sizes[1])
        return cr_fail_call(call, CR_ERROR_SHAPE, "takes an f32 weight [4H, H]");
    cr_spec_set(call, 0, CR_F32, CR_SHAPE(cr_packed_recurrent(weight->sizes[1])));
    return true;
}
CR_OP(pack_recurrent, .inputs = "weight_hh", .outputs = "packed", .flags = CR_OP_NO_GRADIENT,
      .infer = infer_pack_recurrent,
      .doc = "LSTM's recurrent weight in the order in which this processor's kernel reads it.")

static bool infer_packed_sequence(cr_call *call) {
    const cr_tensor *x = call->inputs[0], *h = call->inputs[1], *packed = call->inputs[3];
    const int64_t hidden = h->ndim == 2 ? h->sizes[1] : -1;
    const bool fits = x->ndim == 3 && hidden >= 0 && x->sizes[2] == 4 * hidden && x->sizes[1] == h->sizes[0] &&
                      cr_shape_equal(cr_tensor_shape(h), cr_tensor_shape(call->inputs[2])) && packed->ndim == 1 &&
                      packed->sizes[0] == cr_packed_recurrent(hidden);
    if (!fits)
        return cr_fail_call(call, CR_ERROR_SHAPE, "takes gates [T, B, 4H], h0 and c0 [B, H], and a packed weight");
    for (int i = 0; i < 4; i++)
        if (call->inputs[i]->dtype != CR_F32) return cr_fail_call(call, CR_ERROR_DTYPE, "all operands are f32");
    cr_spec_set(call, 0, CR_F32, CR_SHAPE(x->sizes[0], x->sizes[1], hidden));
    cr_spec_set(call, 1, CR_F32, cr_tensor_shape(h));
    cr_spec_set(call, 2, CR_F32, cr_tensor_shape(h));
    return true;
}
CR_OP(packed_lstm_sequence, .inputs = "gates h0 c0 packed", .outputs = "output h_n c_n", CR_ROW_ATTRIBUTES(lstm_layer),
      .flags = CR_OP_NO_GRADIENT, .infer = infer_packed_sequence, .flops = flops_sequence,
      .doc = "lstm_sequence of a weight from pack_recurrent, without what backward needs.")

/* ---------------------------------------------------------------- the layer */
static bool check_layer(const cr_call *call) {
    const cr_tensor *x = call->inputs[0], *h = call->inputs[1], *c = call->inputs[2], *w = call->inputs[3],
                    *u = call->inputs[4];
    const int64_t hidden = u->ndim == 2 ? u->sizes[1] : -1;
    bool fits = x->ndim == 3 && w->ndim == 2 && w->sizes[0] == 4 * hidden && u->sizes[0] == 4 * hidden &&
                w->sizes[1] == x->sizes[2];
    const cr_shape state = CR_SHAPE(fits ? x->sizes[1] : 0, hidden);
    fits = fits && cr_shape_equal(cr_tensor_shape(h), state) && cr_shape_equal(cr_tensor_shape(c), state);
    for (int i = 5; i < call->input_count; i++)
        fits = fits && (!call->inputs[i] || cr_shape_equal(cr_tensor_shape(call->inputs[i]), CR_SHAPE(4 * hidden)));
    if (!fits)
        return cr_fail_call(call, CR_ERROR_SHAPE,
                            "takes x [T, B, in], h0 and c0 [B, H], weights [4H, in] and [4H, H], biases [4H]");
    for (int i = 0; i < call->input_count; i++)
        if (call->inputs[i] && (call->inputs[i]->dtype != x->dtype || !cr_dtype_is_floating((cr_dtype)x->dtype)))
            return cr_fail_call(call, CR_ERROR_DTYPE, "all operands have one floating dtype");
    return true;
}

static bool decompose_lstm(cr_call *call) {
    cr_tensor *in[7] = {NULL}, *outputs[3];
    if (!check_layer(call)) return false;
    const cr_dtype dtype = (cr_dtype)call->inputs[0]->dtype, wide = dtype == CR_F64 ? CR_F64 : CR_F32;
    for (int i = 0; i < call->input_count; i++)
        if (call->inputs[i] && !(in[i] = cr_cast(call->inputs[i], wide))) return false;
    cr_tensor *bias = in[5] && in[6] ? cr_add(in[5], in[6]) : in[5] ? in[5] : in[6];
    cr_tensor *const recurrent[] = {cr_linear(in[0], in[3], bias), in[1], in[2], in[4]};
    if (!cr_run_all(&cr_op_lstm_sequence, recurrent, 4, call->attributes, outputs, 3)) return false;
    for (int i = 0; i < 3; i++)
        if (!(call->outputs[i] = cr_cast(outputs[i], dtype))) return false;
    return true;
}
CR_OP(lstm_layer, .inputs = "input h0 c0 weight_ih weight_hh bias_ih? bias_hh?", .outputs = "output h_n c_n",
      CR_ROW_ATTRIBUTES(lstm_layer), .decompose = decompose_lstm, .doc = "One layer of LSTM in one direction.")

cr_tensor *cr_lstm_layer(cr_tensor *x, cr_tensor *h0, cr_tensor *c0, cr_tensor *weight_ih, cr_tensor *weight_hh,
                         cr_tensor *bias_ih, cr_tensor *bias_hh, bool reverse, cr_tensor **h_n, cr_tensor **c_n) {
    const cr_lstm_layer_options options = {sizeof options, reverse};
    cr_tensor *const inputs[] = {x, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh};
    cr_tensor *outputs[3];
    const bool done = cr_run_all(&cr_op_lstm_layer, inputs, 7, &options, outputs, 3);
    if (h_n) *h_n = done ? outputs[1] : NULL;
    if (c_n) *c_n = done ? outputs[2] : NULL;
    return done ? outputs[0] : NULL;
}
