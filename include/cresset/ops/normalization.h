/* Softmax, normalisations, dropout. Floating operands; statistics of f16 and bf16 are made in f32. Included by
 * <cresset/ops.h>. */

/* e^x / Σ e^x along a dim, and its logarithm, from the largest element down. */
CR_API cr_tensor *cr_softmax(cr_tensor *x, int dim);
CR_API cr_tensor *cr_log_softmax(cr_tensor *x, int dim);

/* (x - mean) / sqrt(var + eps) · weight + bias over the last dims, which have `normalized_shape`; weight and bias of
 * that shape may be NULL (Ba, Kiros, Hinton 2016). */
CR_API cr_tensor *cr_layer_norm(cr_tensor *x, cr_shape normalized_shape, cr_tensor *weight, cr_tensor *bias,
                                double eps);
/* x / sqrt(mean(x²) + eps) · weight (Zhang, Sennrich 2019). */
CR_API cr_tensor *cr_rms_norm(cr_tensor *x, cr_shape normalized_shape, cr_tensor *weight, double eps);
/* Over all but dim 1 of x [N, C, …] (Ioffe, Szegedy 2015). training: statistics of the batch, which also move the
 * running ones by momentum (the variance unbiased), in place; else the running ones are used. All but x may be NULL. */
CR_API cr_tensor *cr_batch_norm(cr_tensor *x, cr_tensor *weight, cr_tensor *bias, cr_tensor *running_mean,
                                cr_tensor *running_var, bool training, double momentum, double eps);
/* Over groups of channels of x [N, C, …] (Wu, He 2018); weight and bias [C] or NULL. */
CR_API cr_tensor *cr_group_norm(cr_tensor *x, int64_t groups, cr_tensor *weight, cr_tensor *bias, double eps);
/* Each channel of each sample by itself. */
CR_API cr_tensor *cr_instance_norm(cr_tensor *x, cr_tensor *weight, cr_tensor *bias, double eps);

/* Zeroes each element with probability p and scales the others by 1 / (1 - p); x itself where not training. */
CR_API cr_tensor *cr_dropout(cr_tensor *x, double p, bool training);
/* The same for whole channels of x [N, C, …]. */
CR_API cr_tensor *cr_dropout2d(cr_tensor *x, double p, bool training);
