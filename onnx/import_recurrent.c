/* RNN, GRU and LSTM: a plain LSTM is our layer; all else is a scan over time. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/import.h"

#include <math.h>
#include <string.h>

/* ---------------------------------------------------------------- activations */
typedef struct activation {
    const char *name;
    double alpha, beta;
} activation;

/* The parts that ONNX names, and their default alpha and beta. */
static const activation known[] = {
    {"Sigmoid", 0, 0},      {"Tanh", 0, 0},
    {"Relu", 0, 0},         {"Affine", 1, 0},
    {"LeakyRelu", 0.01, 0}, {"ThresholdedRelu", 1, 0},
    {"ScaledTanh", 1, 1},   {"HardSigmoid", 0.2, 0.5},
    {"Elu", 1, 0},          {"Softsign", 0, 0},
    {"Softplus", 0, 0},
};

static cr_tensor *activate(const activation *f, cr_tensor *x) {
    if (!strcmp(f->name, "Sigmoid")) return cr_sigmoid(x);
    if (!strcmp(f->name, "Tanh")) return cr_tanh(x);
    if (!strcmp(f->name, "Relu")) return cr_relu(x);
    if (!strcmp(f->name, "Affine")) return cr_add_scalar(cr_mul_scalar(x, f->alpha), f->beta);
    if (!strcmp(f->name, "LeakyRelu")) return cr_leaky_relu(x, f->alpha);
    if (!strcmp(f->name, "ThresholdedRelu")) return cr_threshold(x, f->alpha, 0);
    if (!strcmp(f->name, "ScaledTanh")) return cr_mul_scalar(cr_tanh(cr_mul_scalar(x, f->beta)), f->alpha);
    if (!strcmp(f->name, "HardSigmoid")) return cr_clamp(cr_add_scalar(cr_mul_scalar(x, f->alpha), f->beta), 0, 1);
    if (!strcmp(f->name, "Elu")) return cr_elu(x, f->alpha);
    if (!strcmp(f->name, "Softsign")) return cr_softsign(x);
    return cr_softplus(x, 1, 20);
}

/* ---------------------------------------------------------------- a layer */
enum { MOST_ACTIVATIONS = 3 };

typedef struct layer {
    int gates, directions;
    int64_t hidden, batch;
    double clip; /* 0: none */
    bool is_batch_first, couples_forget, resets_after;
    activation activations[2][MOST_ACTIVATIONS];
    /* of the direction that runs */
    const activation *f;
    cr_tensor *recurrent; /* [gates · H, H] */
    cr_tensor *recurrent_bias, *peepholes;
    bool has_lengths;
} layer;

static bool read_activations(cr_onnx_call *call, layer *l, const char *const *defaults, int each) {
    const CrOnnx__AttributeProto *names = cr_onnx_attribute(call, "activations"),
                                 *alphas = cr_onnx_attribute(call, "activation_alpha"),
                                 *betas = cr_onnx_attribute(call, "activation_beta");
    size_t alpha_at = 0, beta_at = 0;
    if (names && names->n_strings != (size_t)(l->directions * each))
        return cr_onnx_refuse(call, "%zu activations; %d", names->n_strings, l->directions * each);
    for (int i = 0; i < l->directions * each; i++) {
        activation *a = &l->activations[i / each][i % each];
        const ProtobufCBinaryData *own = names ? &names->strings[i] : NULL;
        for (size_t k = 0; k < sizeof known / sizeof known[0]; k++)
            if (own ? strlen(known[k].name) == own->len && !strncasecmp((char *)own->data, known[k].name, own->len)
                    : !strcmp(known[k].name, defaults[i % each]))
                *a = known[k];
        if (!a->name)
            return cr_onnx_refuse(call, "the activation %.*s", own ? (int)own->len : 0, own ? (char *)own->data : "");
        if (a->alpha != 0 && alphas && alpha_at < alphas->n_floats) a->alpha = (double)alphas->floats[alpha_at++];
        if (a->beta != 0 && betas && beta_at < betas->n_floats) a->beta = (double)betas->floats[beta_at++];
    }
    return true;
}

static cr_tensor *limit(const layer *l, cr_tensor *x) { return l->clip > 0 ? cr_clamp(x, -l->clip, l->clip) : x; }

/* Gate number k of t [batch, gates · H]. */
static cr_tensor *gate(const layer *l, cr_tensor *t, int k) { return cr_narrow(t, -1, k * l->hidden, l->hidden); }

/* Past a sequence's end the state stays. */
static cr_tensor *hold(cr_tensor *mask, cr_tensor *now, cr_tensor *before) {
    return mask ? cr_where(mask, now, before) : now;
}
static cr_tensor *silence(cr_tensor *mask, cr_tensor *y) { return mask ? cr_where(mask, y, cr_zeros_like(y)) : y; }

/* carry h; scanned: x W + b, mask?. */
static bool step_rnn(void *context, cr_tensor *const *in, int count, cr_tensor **out, int out_count) {
    const layer *l = context;
    cr_tensor *mask = l->has_lengths ? in[count - 1] : NULL;
    cr_tensor *h = activate(&l->f[0], limit(l, cr_add(in[1], cr_linear(in[0], l->recurrent, l->recurrent_bias))));
    (void)out_count;
    out[0] = hold(mask, h, in[0]);
    return (out[1] = silence(mask, h)) != NULL && out[0];
}

/* Gates z r h. z = f(…), r = f(…), n = g(x + r (h R + b)) or g(x + (r h) R + b); h = (1 - z) n + z h. */
static bool step_gru(void *context, cr_tensor *const *in, int count, cr_tensor **out, int out_count) {
    const layer *l = context;
    cr_tensor *mask = l->has_lengths ? in[count - 1] : NULL, *h = in[0], *x = in[1];
    cr_tensor *all = cr_linear(h, l->recurrent, l->recurrent_bias);
    cr_tensor *z = activate(&l->f[0], limit(l, cr_add(gate(l, x, 0), gate(l, all, 0))));
    cr_tensor *r = activate(&l->f[0], limit(l, cr_add(gate(l, x, 1), gate(l, all, 1)))), *n;
    if (l->resets_after) {
        n = cr_mul(r, gate(l, all, 2));
    } else {
        cr_tensor *own = cr_narrow(l->recurrent, 0, 2 * l->hidden, l->hidden);
        n = cr_linear(cr_mul(r, h), own,
                      l->recurrent_bias ? cr_narrow(l->recurrent_bias, 0, 2 * l->hidden, l->hidden) : NULL);
    }
    n = activate(&l->f[1], limit(l, cr_add(gate(l, x, 2), n)));
    cr_tensor *next = cr_add(n, cr_mul(z, cr_sub(h, n)));
    (void)out_count;
    out[0] = hold(mask, next, h);
    return (out[1] = silence(mask, next)) != NULL && out[0];
}

/* Gates i o f c, peepholes in the order i o f. */
static bool step_lstm(void *context, cr_tensor *const *in, int count, cr_tensor **out, int out_count) {
    const layer *l = context;
    cr_tensor *mask = l->has_lengths ? in[count - 1] : NULL, *h = in[0], *c = in[1];
    cr_tensor *all = cr_add(in[2], cr_linear(h, l->recurrent, l->recurrent_bias)), *parts[4];
    for (int k = 0; k < 4; k++)
        parts[k] = gate(l, all, k);
    cr_tensor *p[3] = {NULL};
    for (int k = 0; l->peepholes && k < 3; k++)
        p[k] = cr_narrow(l->peepholes, 0, k * l->hidden, l->hidden);
    cr_tensor *i = activate(&l->f[0], limit(l, p[0] ? cr_add(parts[0], cr_mul(p[0], c)) : parts[0]));
    cr_tensor *f = l->couples_forget
                       ? cr_add_scalar(cr_neg(i), 1)
                       : activate(&l->f[0], limit(l, p[2] ? cr_add(parts[2], cr_mul(p[2], c)) : parts[2]));
    cr_tensor *g = activate(&l->f[1], limit(l, parts[3]));
    cr_tensor *cell = cr_add(cr_mul(f, c), cr_mul(i, g));
    cr_tensor *o = activate(&l->f[0], limit(l, p[1] ? cr_add(parts[1], cr_mul(p[1], cell)) : parts[1]));
    cr_tensor *next = cr_mul(o, activate(&l->f[2], cell));
    (void)out_count;
    out[0] = hold(mask, next, h);
    out[1] = hold(mask, cell, c);
    return (out[2] = silence(mask, next)) != NULL && out[0] && out[1];
}

/* ---------------------------------------------------------------- directions */
/* x [T, B, …] with each sequence turned round up to its length. */
static cr_tensor *turn(cr_tensor *x, cr_tensor *lengths) {
    if (!lengths) return cr_flip(x, CR_DIMS(0));
    cr_tensor *steps = cr_unsqueeze(cr_arange(CR_I64, 0, (double)cr_size(x, 0), 1, CR_CPU), 1);
    cr_tensor *turned = cr_sub_scalar(cr_sub(lengths, steps), 1);
    cr_tensor *index = cr_unsqueeze(cr_where(cr_lt(steps, lengths), turned, steps), 2);
    return cr_gather(x, 0, cr_contiguous(cr_expand(index, cr_shape_of(x))));
}

/* Blocks of H rows in our order, i f g o, of ONNX's i o f c. */
static cr_tensor *our_gates(const layer *l, cr_tensor *t) {
    static const int order[] = {0, 2, 3, 1};
    cr_tensor *parts[4];
    for (int k = 0; t && k < 4; k++)
        parts[k] = cr_narrow(t, 0, order[k] * l->hidden, l->hidden);
    return t ? cr_cat(parts, 4, 0) : NULL;
}

typedef struct direction {
    cr_tensor *x, *weight, *bias, *lengths, *h, *c; /* c: of an LSTM */
    bool is_reverse;
    cr_tensor *y, *h_n, *c_n;
} direction;

static bool is_plain_lstm(const layer *l, const direction *d) {
    return d->c && l->f[2].name && !l->has_lengths && !l->peepholes && !l->couples_forget && !(l->clip > 0) &&
           !strcmp(l->f[0].name, "Sigmoid") && !strcmp(l->f[1].name, "Tanh") && !strcmp(l->f[2].name, "Tanh");
}

static bool run_direction(layer *l, direction *d, cr_jit_function step) {
    cr_tensor *operands[4], *results[3] = {NULL};
    const int carried = d->c ? 2 : 1;
    int count = 0;
    if (is_plain_lstm(l, d)) {
        d->y = cr_lstm_layer(d->x, d->h, d->c, our_gates(l, d->weight), our_gates(l, l->recurrent),
                             our_gates(l, d->bias), our_gates(l, l->recurrent_bias), d->is_reverse, &d->h_n, &d->c_n);
        return d->y != NULL;
    }
    cr_tensor *x = cr_linear(d->is_reverse ? turn(d->x, d->lengths) : d->x, d->weight, d->bias);
    operands[count++] = d->h;
    if (d->c) operands[count++] = d->c;
    operands[count++] = x;
    if (d->lengths) {
        cr_tensor *steps = cr_unsqueeze(cr_arange(CR_I64, 0, (double)cr_size(d->x, 0), 1, CR_CPU), 1);
        operands[count++] = cr_unsqueeze(cr_lt(steps, d->lengths), 2);
    }
    for (int i = 0; i < count; i++)
        if (!operands[i]) return false;
    if (!cr_scan(step, l, operands, carried, count - carried, results, carried + 1)) return false;
    d->h_n = results[0];
    if (d->c) d->c_n = results[1];
    d->y = d->is_reverse ? turn(results[carried], d->lengths) : results[carried];
    return d->y != NULL;
}

/* Operand i [D, …] of direction `at`; NULL where it is absent. */
static cr_tensor *part(cr_onnx_call *call, int i, int at) {
    cr_tensor *t = cr_onnx_input(call, i);
    return t ? cr_select(t, 0, at) : NULL;
}

/* State [D, B, H], batch-first [B, D, H]; zeros where absent. */
static cr_tensor *state(cr_onnx_call *call, const layer *l, int i, int at, cr_dtype dtype) {
    cr_tensor *t = cr_onnx_input(call, i);
    if (!t) return cr_zeros(dtype, CR_SHAPE(l->batch, l->hidden), CR_CPU);
    return cr_contiguous(cr_select(t, l->is_batch_first ? 1 : 0, at));
}

static bool give_results(cr_onnx_call *call, const layer *l, direction *d, bool has_cell) {
    cr_tensor *lists[3][2], *results[3];
    for (int i = 0; i < l->directions; i++) {
        lists[0][i] = d[i].y;
        lists[1][i] = d[i].h_n;
        lists[2][i] = d[i].c_n;
    }
    results[0] = cr_stack(lists[0], l->directions, 1);
    results[1] = cr_stack(lists[1], l->directions, 0);
    if (l->is_batch_first) {
        results[0] = cr_permute(results[0], CR_DIMS(2, 0, 1, 3));
        results[1] = cr_transpose(results[1], 0, 1);
    }
    if (!cr_onnx_give(call, cr_contiguous(results[0])) || !cr_onnx_give_at(call, 1, cr_contiguous(results[1])))
        return false;
    if (!has_cell) return true;
    results[2] = cr_stack(lists[2], l->directions, 0);
    return cr_onnx_give_at(call, 2, cr_contiguous(l->is_batch_first ? cr_transpose(results[2], 0, 1) : results[2]));
}

static bool recurrent(cr_onnx_call *call, int gates, const char *const *defaults, int each, cr_jit_function step) {
    cr_tensor *x = cr_onnx_input(call, 0), *lengths = cr_onnx_input(call, 4);
    const char *way = cr_onnx_text(call, "direction", "forward");
    layer l = {.gates = gates,
               .directions = strcmp(way, "bidirectional") ? 1 : 2,
               .clip = cr_onnx_float(call, "clip", 0),
               .is_batch_first = cr_onnx_int(call, "layout", 0) == 1,
               .couples_forget = cr_onnx_int(call, "input_forget", 0),
               .resets_after = cr_onnx_int(call, "linear_before_reset", 0),
               .has_lengths = lengths != NULL};
    direction d[2] = {{0}};
    const bool is_lstm = gates == 4;
    if (cr_ndim(x) != 3 || cr_ndim(cr_onnx_input(call, 2)) != 3)
        return cr_onnx_refuse(call, "needs X, W and R of 3 dims");
    l.hidden = cr_size(cr_onnx_input(call, 2), 2);
    if (l.is_batch_first) x = cr_transpose(x, 0, 1);
    l.batch = cr_size(x, 1);
    if (!read_activations(call, &l, defaults, each)) return false;
    if (lengths) lengths = cr_cast(lengths, CR_I64);
    for (int i = 0; i < l.directions; i++) {
        cr_tensor *bias = part(call, 3, i);
        d[i] = (direction){.x = x,
                           .weight = part(call, 1, i),
                           .lengths = lengths,
                           .is_reverse = i == 1 || !strcmp(way, "reverse"),
                           .bias = bias ? cr_narrow(bias, 0, 0, gates * l.hidden) : NULL,
                           .h = state(call, &l, 5, i, cr_dtype_of(x)),
                           .c = is_lstm ? state(call, &l, 6, i, cr_dtype_of(x)) : NULL};
        l.f = l.activations[i];
        l.recurrent = part(call, 2, i);
        l.recurrent_bias = bias ? cr_narrow(bias, 0, gates * l.hidden, gates * l.hidden) : NULL;
        l.peepholes = is_lstm ? part(call, 7, i) : NULL;
        if (!run_direction(&l, &d[i], step)) return false;
    }
    return give_results(call, &l, d, is_lstm);
}

static bool run_RNN(cr_onnx_call *call) { return recurrent(call, 1, (const char *const[]){"Tanh"}, 1, step_rnn); }
CR_ONNX_IMPORT(RNN, 7, CR_ONNX_BLOCKS)
static bool run_GRU(cr_onnx_call *call) {
    return recurrent(call, 3, (const char *const[]){"Sigmoid", "Tanh"}, 2, step_gru);
}
CR_ONNX_IMPORT(GRU, 7, CR_ONNX_BLOCKS)
static bool run_LSTM(cr_onnx_call *call) {
    return recurrent(call, 4, (const char *const[]){"Sigmoid", "Tanh", "Tanh"}, 3, step_lstm);
}
CR_ONNX_IMPORT(LSTM, 7, CR_ONNX_BLOCKS)
#endif
