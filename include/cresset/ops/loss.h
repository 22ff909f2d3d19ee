/* Losses, as in torch.nn.functional. Included by <cresset/ops.h>. */
typedef enum cr_reduction { CR_REDUCTION_NONE = 0, CR_REDUCTION_MEAN = 1, CR_REDUCTION_SUM = 2 } cr_reduction;

#define CR_LOSS_ATTRIBUTES(A, op)                                                                                      \
    A(op, INT, reduction, CR_REDUCTION_MEAN)                                                                           \
    A(op, INT, ignore_index, -100) A(op, FLOAT, label_smoothing, 0) A(op, FLOAT, beta, 1)
CR_OPTIONS(loss_row, CR_LOSS_ATTRIBUTES)
/* What may be named behind the operands; each loss says what it reads beside .reduction. */
typedef struct cr_loss_options {
    size_t size;
    int64_t reduction; /* CR_REDUCTION_MEAN */
    cr_tensor *weight;
    cr_tensor *pos_weight;
    int64_t ignore_index;   /* -100 */
    double label_smoothing; /* 0 */
    double beta;            /* 1 */
} cr_loss_options;

/* (x - y)², |x - y|. */
CR_API cr_tensor *cr_mse_loss_with(cr_tensor *x, cr_tensor *y, const cr_loss_options *options);
CR_API cr_tensor *cr_l1_loss_with(cr_tensor *x, cr_tensor *y, const cr_loss_options *options);
/* d²/(2 beta) where |d| < beta, else |d| - beta/2. */
CR_API cr_tensor *cr_smooth_l1_loss_with(cr_tensor *x, cr_tensor *y, const cr_loss_options *options);
/* d²/2 where |d| <= beta, else beta (|d| - beta/2). */
CR_API cr_tensor *cr_huber_loss_with(cr_tensor *x, cr_tensor *y, const cr_loss_options *options);
/* -(y log x + (1 - y) log(1 - x)), logarithms not below -100; x in [0, 1]. Reads .weight (of each element). */
CR_API cr_tensor *cr_bce_with(cr_tensor *x, cr_tensor *y, const cr_loss_options *options);
/* The same of sigmoid(x), without overflow. Reads .weight and .pos_weight (of the positive class). */
CR_API cr_tensor *cr_bce_with_logits_with(cr_tensor *x, cr_tensor *y, const cr_loss_options *options);
/* -x[target] of log-probabilities x [N, C, …] and classes target [N, …] (i64). Reads .weight [C] and .ignore_index. A
 * class outside 0 … C-1 is an error. */
CR_API cr_tensor *cr_nll_loss_with(cr_tensor *x, cr_tensor *target, const cr_loss_options *options);
/* nll of log_softmax: x [N, C, …] or [C]; target of classes, or floating probabilities of x's shape. Reads .weight,
 * .ignore_index and .label_smoothing. */
CR_API cr_tensor *cr_cross_entropy_with(cr_tensor *x, cr_tensor *target, const cr_loss_options *options);
/* y (log y - x) for log-probabilities x; 0 where y is 0. */
CR_API cr_tensor *cr_kl_div_with(cr_tensor *x, cr_tensor *y, const cr_loss_options *options);
#ifndef __cplusplus
#define CR_LOSS_(...)                                                                                                  \
    (&(cr_loss_options){.size = sizeof(cr_loss_options),                                                               \
                        .reduction = CR_REDUCTION_MEAN,                                                                \
                        .ignore_index = -100,                                                                          \
                        .beta = 1,                                                                                     \
                        __VA_ARGS__})
#define cr_mse_loss(x, y, ...)           cr_mse_loss_with(x, y, CR_LOSS_(__VA_ARGS__))
#define cr_l1_loss(x, y, ...)            cr_l1_loss_with(x, y, CR_LOSS_(__VA_ARGS__))
#define cr_smooth_l1_loss(x, y, ...)     cr_smooth_l1_loss_with(x, y, CR_LOSS_(__VA_ARGS__))
#define cr_huber_loss(x, y, ...)         cr_huber_loss_with(x, y, CR_LOSS_(__VA_ARGS__))
#define cr_bce(x, y, ...)                cr_bce_with(x, y, CR_LOSS_(__VA_ARGS__))
#define cr_bce_with_logits(x, y, ...)    cr_bce_with_logits_with(x, y, CR_LOSS_(__VA_ARGS__))
#define cr_nll_loss(x, target, ...)      cr_nll_loss_with(x, target, CR_LOSS_(__VA_ARGS__))
#define cr_cross_entropy(x, target, ...) cr_cross_entropy_with(x, target, CR_LOSS_(__VA_ARGS__))
#define cr_kl_div(x, y, ...)             cr_kl_div_with(x, y, CR_LOSS_(__VA_ARGS__))
#endif
