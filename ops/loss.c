/* Losses: composites of pointwise terms, gathers and a reduction. */
#include "ops/op.h"

#include <string.h>

CR_ATTRIBUTES(loss_row, CR_LOSS_ATTRIBUTES)

static const cr_loss_row_options *settings(const cr_call *call) { return call->attributes; }

static bool check_reduction(const cr_call *call) {
    const int64_t reduction = settings(call)->reduction;
    return (reduction >= CR_REDUCTION_NONE && reduction <= CR_REDUCTION_SUM) ||
           cr_fail(CR_ERROR_ARGUMENT, "a reduction of %lld; CR_REDUCTION_NONE, _MEAN or _SUM", (long long)reduction);
}

/* terms, weighted where a weight is given, reduced as the attributes say. */
static bool finish(cr_call *call, cr_tensor *terms, cr_tensor *weight) {
    if (!check_reduction(call)) return false;
    if (weight) terms = cr_mul(terms, weight);
    const int64_t reduction = settings(call)->reduction;
    call->outputs[0] = reduction == CR_REDUCTION_MEAN  ? cr_mean(terms)
                       : reduction == CR_REDUCTION_SUM ? cr_sum(terms)
                                                       : terms;
    return call->outputs[0] != NULL;
}

/* ---------------------------------------------------------------- differences */
static bool decompose_mse_loss(cr_call *call) {
    return finish(call, cr_square(cr_sub(call->inputs[0], call->inputs[1])), NULL);
}
static bool decompose_l1_loss(cr_call *call) {
    return finish(call, cr_abs(cr_sub(call->inputs[0], call->inputs[1])), NULL);
}
static bool decompose_smooth_l1_loss(cr_call *call) {
    const double beta = settings(call)->beta;
    cr_tensor *difference = cr_sub(call->inputs[0], call->inputs[1]);
    if (beta < 0) return cr_fail(CR_ERROR_ARGUMENT, "beta is %g; it must be 0 or more", beta);
    return finish(call, beta == 0 ? cr_abs(difference) : cr_smooth_l1_terms(difference, beta), NULL);
}
static bool decompose_huber_loss(cr_call *call) {
    if (!(settings(call)->beta > 0))
        return cr_fail(CR_ERROR_ARGUMENT, "beta is %g; it must be above 0", settings(call)->beta);
    return finish(call, cr_huber_terms(cr_sub(call->inputs[0], call->inputs[1]), settings(call)->beta), NULL);
}

/* ---------------------------------------------------------------- binary cross-entropy, KL divergence */
static bool same_shapes(const cr_call *call) {
    return cr_shape_equal(cr_tensor_shape(call->inputs[0]), cr_tensor_shape(call->inputs[1])) ||
           cr_fail_call(call, CR_ERROR_SHAPE, "input and target must have one shape");
}
static bool decompose_bce(cr_call *call) {
    return same_shapes(call) && finish(call, cr_bce_terms(call->inputs[0], call->inputs[1]), call->inputs[2]);
}
static bool decompose_bce_with_logits(cr_call *call) {
    cr_tensor *x = call->inputs[0], *y = call->inputs[1], *positive = call->inputs[3];
    if (!same_shapes(call)) return false;
    if (!positive) return finish(call, cr_bce_logits_terms(x, y), call->inputs[2]);
    /* (1 - y) x + (1 + (p - 1) y) · softplus(-x) */
    cr_tensor *share = cr_add_scalar(cr_mul(cr_add_scalar(positive, -1), y), 1);
    cr_tensor *terms = cr_sub(cr_sub(x, cr_mul(x, y)), cr_mul(share, cr_log_sigmoid(x)));
    return finish(call, terms, call->inputs[2]);
}
static bool decompose_kl_div(cr_call *call) {
    return finish(call, cr_kl_terms(call->inputs[0], call->inputs[1]), NULL);
}

/* ---------------------------------------------------------------- classes */
/* x [N, C, …] and target [N, …]: the class dim is 1, or 0 where x is [C]. */
static bool check_classes(const cr_call *call, int *dim) {
    const cr_tensor *x = call->inputs[0], *target = call->inputs[1], *weight = call->inputs[2];
    *dim = x->ndim == 1 ? 0 : 1;
    bool fits = x->ndim >= 1 && target->ndim == x->ndim - 1;
    for (int i = 0, k = 0; fits && i < x->ndim; i++)
        if (i != *dim) fits = target->sizes[k++] == x->sizes[i];
    if (!fits) return cr_fail_call(call, CR_ERROR_SHAPE, "the input is [N, C, …] and the target [N, …]");
    if (target->dtype != CR_I64 && target->dtype != CR_I32)
        return cr_fail_call(call, CR_ERROR_DTYPE, "classes are i64 or i32");
    if (weight && (weight->ndim != 1 || weight->sizes[0] != x->sizes[*dim]))
        return cr_fail_call(call, CR_ERROR_SHAPE, "the weight is [C]");
    return true;
}

/* The target with ignored places at class 0, and 1 where a place counts (weighted by its class). */
static bool read_target(const cr_call *call, cr_tensor **classes, cr_tensor **share) {
    cr_tensor *x = call->inputs[0], *target = call->inputs[1], *weight = call->inputs[2];
    cr_tensor *counts = cr_ne_scalar(target, (double)settings(call)->ignore_index);
    *classes = cr_where(counts, target, cr_zeros_like(target));
    *share = cr_cast(counts, cr_dtype_of(x));
    if (!weight) return *share != NULL;
    cr_tensor *rows = cr_index_select(weight, 0, cr_reshape(*classes, CR_SHAPE(cr_numel(*classes))));
    *share = cr_mul(*share, cr_reshape(rows, cr_shape_of(target)));
    return *share != NULL;
}

/* Σ share · term / Σ share, and the other reductions. */
static bool finish_weighted(cr_call *call, cr_tensor *terms, cr_tensor *share) {
    if (!check_reduction(call)) return false;
    terms = cr_mul(terms, share);
    if (settings(call)->reduction != CR_REDUCTION_MEAN) return finish(call, terms, NULL);
    return (call->outputs[0] = cr_div(cr_sum(terms), cr_sum(share))) != NULL;
}

static cr_tensor *picked(cr_tensor *x, cr_tensor *classes, int dim) {
    return cr_neg(cr_squeeze(cr_gather(x, dim, cr_unsqueeze(classes, dim)), CR_DIMS(dim)));
}

static bool decompose_nll_loss(cr_call *call) {
    int dim;
    cr_tensor *classes, *share;
    return check_classes(call, &dim) && read_target(call, &classes, &share) &&
           finish_weighted(call, picked(call->inputs[0], classes, dim), share);
}

/* Targets that are probabilities: -Σ_c w_c y_c log p_c, mean over places. */
static bool with_probabilities(cr_call *call) {
    cr_tensor *x = call->inputs[0], *target = call->inputs[1], *weight = call->inputs[2];
    const double smoothing = settings(call)->label_smoothing;
    const int dim = cr_ndim(x) == 1 ? 0 : 1;
    if (!same_shapes(call) || !check_reduction(call)) return false;
    const double classes = (double)cr_size(x, dim);
    if (smoothing > 0) target = cr_add_scalar(cr_mul_scalar(target, 1 - smoothing), smoothing / classes);
    cr_tensor *terms = cr_neg(cr_mul(target, cr_log_softmax(x, dim)));
    if (weight) {
        cr_shape shape = {.count = cr_ndim(x)};
        for (int i = 0; i < shape.count; i++)
            shape.at[i] = i == dim ? cr_size(x, dim) : 1;
        terms = cr_mul(terms, cr_reshape(weight, shape));
    }
    terms = cr_sum(terms, .dims = CR_DIMS(dim));
    return finish(call, terms, NULL);
}

static bool decompose_cross_entropy(cr_call *call) {
    cr_tensor *x = call->inputs[0], *weight = call->inputs[2], *classes, *share;
    const double smoothing = settings(call)->label_smoothing;
    int dim;
    if (!(smoothing >= 0 && smoothing <= 1))
        return cr_fail(CR_ERROR_ARGUMENT, "label smoothing of %g; it lies in 0 … 1", smoothing);
    if (cr_dtype_is_floating(cr_dtype_of(call->inputs[1]))) return with_probabilities(call);
    if (!check_classes(call, &dim) || !read_target(call, &classes, &share)) return false;
    cr_tensor *log_p = cr_log_softmax(x, dim), *terms = picked(log_p, classes, dim);
    if (smoothing == 0) return finish_weighted(call, terms, share);
    /* (1 - s) · nll + s / C · Σ_c w_c (-log p_c), both divided by the weights of the true classes */
    cr_tensor *all = cr_neg(log_p),
              *counts = cr_cast(cr_ne_scalar(call->inputs[1], (double)settings(call)->ignore_index), cr_dtype_of(x));
    if (weight) {
        cr_shape shape = {.count = cr_ndim(x)};
        for (int i = 0; i < shape.count; i++)
            shape.at[i] = i == dim ? cr_size(x, dim) : 1;
        all = cr_mul(all, cr_reshape(weight, shape));
    }
    cr_tensor *spread = cr_mul(cr_sum(all, .dims = CR_DIMS(dim)), counts);
    cr_tensor *mixed = cr_add(cr_mul_scalar(cr_mul(terms, share), 1 - smoothing),
                              cr_mul_scalar(spread, smoothing / (double)cr_size(x, dim)));
    if (settings(call)->reduction != CR_REDUCTION_MEAN) return finish(call, mixed, NULL);
    return check_reduction(call) && (call->outputs[0] = cr_div(cr_sum(mixed), cr_sum(share)));
}

/* ---------------------------------------------------------------- rows and public functions */
#define LOSS(loss, operands, summary)                                                                                  \
    .inputs = operands, CR_ROW_ATTRIBUTES(loss_row), .decompose = decompose_##loss, .doc = summary
CR_OP(mse_loss, LOSS(mse_loss, "input target", "Squared differences."))
CR_OP(l1_loss, LOSS(l1_loss, "input target", "Absolute differences."))
CR_OP(smooth_l1_loss, LOSS(smooth_l1_loss, "input target", "Squared near 0, absolute beyond beta."))
CR_OP(huber_loss, LOSS(huber_loss, "input target", "Squared up to beta, linear beyond."))
CR_OP(bce, LOSS(bce, "input target weight?", "Binary cross-entropy of probabilities."))
CR_OP(bce_with_logits, LOSS(bce_with_logits, "input target weight? pos_weight?", "Binary cross-entropy of logits."))
CR_OP(nll_loss, LOSS(nll_loss, "input target weight?", "Negative log-likelihood of classes."))
CR_OP(cross_entropy, LOSS(cross_entropy, "input target weight?", "Cross-entropy of logits."))
CR_OP(kl_div, LOSS(kl_div, "input target", "Kullback-Leibler divergence."))

static cr_tensor *run_loss(cr_op *op, cr_tensor *x, cr_tensor *y, const cr_loss_options *options, int operands) {
    cr_loss_options o = {sizeof o, CR_REDUCTION_MEAN, NULL, NULL, -100, 0, 1};
    if (options) memcpy(&o, options, options->size < sizeof o ? options->size : sizeof o);
    const cr_loss_row_options row = {sizeof row, o.reduction, o.ignore_index, o.label_smoothing, o.beta};
    return cr_run(op, (cr_tensor *const[]){x, y, o.weight, o.pos_weight}, operands, &row);
}
#define PUBLIC(loss, operands)                                                                                         \
    cr_tensor *cr_##loss##_with(cr_tensor *x, cr_tensor *y, const cr_loss_options *options) {                          \
        return run_loss(&cr_op_##loss, x, y, options, operands);                                                       \
    }
PUBLIC(mse_loss, 2)
PUBLIC(l1_loss, 2)
PUBLIC(smooth_l1_loss, 2)
PUBLIC(huber_loss, 2)
PUBLIC(bce, 3)
PUBLIC(bce_with_logits, 4)
PUBLIC(nll_loss, 3)
PUBLIC(cross_entropy, 3)
PUBLIC(kl_div, 2)
