/* Kernels of softmax, layer, batch and group norm, and dropout. Rows are summed in 32 lanes and then in f64; the order
 * is fixed. f32 and f64 in dense memory; all else goes by the decompositions, or through f32. */
#include "core/parallel.h"
#include "core/random.h"
#include "ops/cpu/variant.h"
#include "ops/math.h"

#include <string.h>

enum { LANES = 32, ROW_BLOCK = 1024 };

/* The op's attribute at a place in its list. */
static const void *attribute(const cr_call *call, int index) {
    return (const char *)call->attributes + call->op->attributes[index].offset;
}

static bool is_f32(const cr_tensor *t) { return t->dtype == CR_F32; }

/* Runs the decomposition in place of a kernel, filling the outputs that the dispatcher made. */
static bool run_parts(cr_call *call) {
    cr_tensor *made[CR_MAX_OUTPUTS];
    memcpy(made, call->outputs, (size_t)call->output_count * sizeof made[0]);
    bool done = call->op->decompose(call);
    for (int i = 0; i < call->output_count; i++) {
        done = done && cr_copy_(made[i], call->outputs[i]);
        call->outputs[i] = made[i];
    }
    return done;
}

/* ---------------------------------------------------------------- sums over rows */
/* The sum of the lanes in f64, as a tree: rows are often short, and one addition after the other would wait. */
static inline double fold_lanes(const float *lanes) {
    double sums[LANES / 2];
    for (int l = 0; l < LANES / 2; l++)
        sums[l] = (double)lanes[l] + (double)lanes[l + LANES / 2];
    for (int half = LANES / 4; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            sums[l] += sums[l + half];
    return sums[0];
}

#define ROW_SUM(name, parameters, term)                                                                                \
    static double name parameters {                                                                                    \
        double total = 0;                                                                                              \
        for (int64_t k = 0; n < LANES && k < n; k++) /* short rows: no lanes to begin and to fold */                   \
            total += (double)(term);                                                                                   \
        for (int64_t start = 0; n >= LANES && start < n; start += ROW_BLOCK) {                                         \
            const int64_t end = start + ROW_BLOCK < n ? start + ROW_BLOCK : n;                                         \
            float lanes[LANES] = {0};                                                                                  \
            int64_t i = start;                                                                                         \
            for (; i + LANES <= end; i += LANES)                                                                       \
                for (int l = 0; l < LANES; l++) {                                                                      \
                    const int64_t k = i + l;                                                                           \
                    lanes[l] += term;                                                                                  \
                }                                                                                                      \
            for (int l = 0; i < end; i++, l++) {                                                                       \
                const int64_t k = i;                                                                                   \
                lanes[l] += term;                                                                                      \
            }                                                                                                          \
            total += fold_lanes(lanes);                                                                                \
        }                                                                                                              \
        return total;                                                                                                  \
    }
ROW_SUM(sum_of, (const float *x, int64_t n), x[k])
ROW_SUM(sum_of_squares, (const float *x, float mean, int64_t n), (x[k] - mean) * (x[k] - mean))
ROW_SUM(sum_of_products, (const float *x, const float *y, int64_t n), x[k] * y[k])
ROW_SUM(sum_of_centered, (const float *g, const float *x, float mean, int64_t n), g[k] * (x[k] - mean))
ROW_SUM(sum_of_weighted, (const float *g, const float *w, int64_t n), g[k] * w[k])
ROW_SUM(sum_of_weighted_centered, (const float *g, const float *w, const float *x, float mean, int64_t n),
        g[k] * w[k] * (x[k] - mean))

/* The largest; a NaN may be passed over, for softmax meets it again in the sum. */
static float max_of(const float *x, int64_t n) {
    float lanes[LANES];
    int64_t i = 0;
    for (int l = 0; l < LANES; l++)
        lanes[l] = -INFINITY;
    for (; i + LANES <= n; i += LANES)
        for (int l = 0; l < LANES; l++)
            lanes[l] = x[i + l] > lanes[l] ? x[i + l] : lanes[l];
    for (int l = 0; i < n; i++, l++)
        lanes[l] = x[i] > lanes[l] ? x[i] : lanes[l];
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int l = 0; l < half; l++)
            lanes[l] = lanes[l + half] > lanes[l] ? lanes[l + half] : lanes[l];
    return lanes[0];
}

/* ---------------------------------------------------------------- softmax over dense rows */
typedef struct rows_job {
    const float *x, *y, *g, *weight, *bias;
    float *out, *mean, *scale;
    int64_t n;
    double eps;
} rows_job;

static void softmax_rows(void *context, int64_t begin, int64_t end) {
    const rows_job *job = context;
    for (int64_t r = begin; r < end; r++) {
        const float *x = job->x + r * job->n;
        float *y = job->out + r * job->n;
        const float top = max_of(x, job->n);
        _Pragma("GCC ivdep") for (int64_t i = 0; i < job->n; i++) y[i] = cr_exp_normal_f32(x[i] - top);
        const float factor = (float)(1 / sum_of(y, job->n));
        for (int64_t i = 0; i < job->n; i++)
            y[i] *= factor;
    }
}
static void log_softmax_rows(void *context, int64_t begin, int64_t end) {
    const rows_job *job = context;
    for (int64_t r = begin; r < end; r++) {
        const float *x = job->x + r * job->n;
        float *y = job->out + r * job->n;
        const float top = max_of(x, job->n);
        _Pragma("GCC ivdep") for (int64_t i = 0; i < job->n; i++) y[i] = cr_exp_normal_f32(x[i] - top);
        const float offset = (float)log(sum_of(y, job->n));
        for (int64_t i = 0; i < job->n; i++)
            y[i] = x[i] - top - offset;
    }
}
static void softmax_grad_rows(void *context, int64_t begin, int64_t end) {
    const rows_job *job = context;
    for (int64_t r = begin; r < end; r++) {
        const float *g = job->g + r * job->n, *y = job->y + r * job->n;
        float *out = job->out + r * job->n;
        const float sum = (float)sum_of_products(g, y, job->n);
        for (int64_t i = 0; i < job->n; i++)
            out[i] = y[i] * (g[i] - sum);
    }
}
static void log_softmax_grad_rows(void *context, int64_t begin, int64_t end) {
    const rows_job *job = context;
    for (int64_t r = begin; r < end; r++) {
        const float *g = job->g + r * job->n, *y = job->y + r * job->n;
        float *out = job->out + r * job->n;
        const float sum = (float)sum_of(g, job->n);
        _Pragma("GCC ivdep") for (int64_t i = 0; i < job->n; i++) out[i] = g[i] - cr_exp_normal_f32(y[i]) * sum;
    }
}

/* The last dim of f32 tensors goes by rows; other dims and dtypes by parts. */
static bool run_rows(cr_call *call, void (*rows)(void *, int64_t, int64_t), bool is_gradient) {
    cr_tensor *first = call->inputs[0], *out = call->outputs[0];
    const int64_t dim = *(const int64_t *)attribute(call, 0);
    if (out->numel == 0) return true;
    if (!is_f32(first) || first->ndim == 0 || (dim != -1 && dim != first->ndim - 1)) return run_parts(call);
    cr_tensor *x = cr_contiguous(first), *y = is_gradient ? cr_contiguous(call->inputs[1]) : x;
    if (!x || !y) return false;
    rows_job job = {.x = cr_tensor_address(x),
                    .g = cr_tensor_address(x),
                    .y = cr_tensor_address(y),
                    .out = cr_tensor_address(out),
                    .n = first->sizes[first->ndim - 1]};
    cr_parallel_for(out->numel / job.n, CR_GRAIN_ELEMENTS / 4 / job.n, rows, &job);
    return true;
}
CR_KERNEL(softmax) { return run_rows(call, softmax_rows, false); }
CR_KERNEL(log_softmax) { return run_rows(call, log_softmax_rows, false); }
CR_KERNEL(softmax_grad) { return run_rows(call, softmax_grad_rows, true); }
CR_KERNEL(log_softmax_grad) { return run_rows(call, log_softmax_grad_rows, true); }

/* ---------------------------------------------------------------- layer norm */
static void layer_norm_rows(void *context, int64_t begin, int64_t end) {
    const rows_job *job = context;
    for (int64_t r = begin; r < end; r++) {
        const float *x = job->x + r * job->n, *w = job->weight, *b = job->bias;
        float *y = job->out + r * job->n;
        const float mean = (float)(sum_of(x, job->n) / (double)job->n);
        const float scale = (float)(1 / sqrt(sum_of_squares(x, mean, job->n) / (double)job->n + job->eps));
        job->mean[r] = mean;
        job->scale[r] = scale;
        if (w && b)
            for (int64_t i = 0; i < job->n; i++)
                y[i] = (x[i] - mean) * scale * w[i] + b[i];
        else
            for (int64_t i = 0; i < job->n; i++)
                y[i] = (x[i] - mean) * scale * (w ? w[i] : 1) + (b ? b[i] : 0);
    }
}

static int64_t row_length(const cr_call *call, const cr_tensor *x) {
    const int64_t dims = *(const int64_t *)attribute(call, 0);
    int64_t n = 1;
    for (int i = (int)(x->ndim - dims); i < x->ndim; i++)
        n *= x->sizes[i];
    return n;
}

/* A dense f32 operand's elements; NULL for an absent one. */
static const float *dense_data(cr_tensor *t) { return t ? cr_tensor_address(t) : NULL; }

CR_KERNEL(layer_norm) {
    if (!is_f32(call->inputs[0])) return run_parts(call);
    if (call->outputs[0]->numel == 0) return true;
    cr_tensor *x = cr_contiguous(call->inputs[0]), *w = cr_dense(call->inputs[1]), *b = cr_dense(call->inputs[2]);
    if (!x || (call->inputs[1] && !w) || (call->inputs[2] && !b)) return false;
    rows_job job = {.x = dense_data(x),
                    .weight = dense_data(w),
                    .bias = dense_data(b),
                    .out = cr_tensor_address(call->outputs[0]),
                    .mean = cr_tensor_address(call->outputs[1]),
                    .scale = cr_tensor_address(call->outputs[2]),
                    .n = row_length(call, x),
                    .eps = *(const double *)attribute(call, 1)};
    cr_parallel_for(x->numel / job.n, CR_GRAIN_ELEMENTS / 2 / job.n, layer_norm_rows, &job);
    return true;
}

typedef struct norm_grad_job {
    const float *g, *x, *weight, *mean, *scale;
    float *grad_input;
    double *grad_weight, *grad_bias; /* [chunks, n] */
    int64_t n, rows;
} norm_grad_job;

enum { CHUNK_ROWS = 64 };

static void layer_norm_grad_chunks(void *context, int64_t begin, int64_t end) {
    const norm_grad_job *job = context;
    const int64_t n = job->n;
    for (int64_t chunk = begin; chunk < end; chunk++) {
        double *gw = job->grad_weight + chunk * n, *gb = job->grad_bias + chunk * n;
        memset(gw, 0, (size_t)n * sizeof *gw);
        memset(gb, 0, (size_t)n * sizeof *gb);
        const int64_t last = (chunk + 1) * CHUNK_ROWS < job->rows ? (chunk + 1) * CHUNK_ROWS : job->rows;
        for (int64_t r = chunk * CHUNK_ROWS; r < last; r++) {
            const float *g = job->g + r * n, *x = job->x + r * n, *w = job->weight, mean = job->mean[r],
                        scale = job->scale[r];
            float *out = job->grad_input + r * n;
            const float mean_h = (float)((w ? sum_of_weighted(g, w, n) : sum_of(g, n)) / (double)n);
            const float mean_hn =
                (float)((w ? sum_of_weighted_centered(g, w, x, mean, n) : sum_of_centered(g, x, mean, n)) * scale /
                        (double)n);
            for (int64_t i = 0; i < n; i++) {
                const float normal = (x[i] - mean) * scale;
                out[i] = scale * ((w ? g[i] * w[i] : g[i]) - mean_h - normal * mean_hn);
                gw[i] += (double)(g[i] * normal);
                gb[i] += (double)g[i];
            }
        }
    }
}

/* [chunks, n] of f64 summed into f32 [n]. */
static void join_chunks(const double *partials, int64_t chunks, int64_t n, float *out) {
    for (int64_t i = 0; i < n; i++) {
        double total = 0;
        for (int64_t chunk = 0; chunk < chunks; chunk++)
            total += partials[chunk * n + i];
        out[i] = (float)total;
    }
}

CR_KERNEL(layer_norm_grad) {
    if (!is_f32(call->inputs[1]) || call->inputs[1]->numel == 0) return run_parts(call);
    cr_tensor *g = cr_contiguous(call->inputs[0]), *x = cr_contiguous(call->inputs[1]), *w = cr_dense(call->inputs[2]);
    cr_tensor *mean = cr_contiguous(call->inputs[3]), *scale = cr_contiguous(call->inputs[4]);
    if (!g || !x || !mean || !scale || (call->inputs[2] && !w)) return false;
    norm_grad_job job = {.g = dense_data(g),
                         .x = dense_data(x),
                         .weight = dense_data(w),
                         .mean = dense_data(mean),
                         .scale = dense_data(scale),
                         .grad_input = cr_tensor_address(call->outputs[0]),
                         .n = row_length(call, x)};
    job.rows = x->numel / job.n;
    const int64_t chunks = (job.rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
    cr_tensor *sums = cr_empty(CR_F64, CR_SHAPE(2, chunks, job.n), CR_CPU);
    if (!sums) return false;
    job.grad_weight = cr_tensor_address(sums);
    job.grad_bias = job.grad_weight + chunks * job.n;
    cr_parallel_for(chunks, CR_GRAIN_ELEMENTS / 2 / (job.n * CHUNK_ROWS), layer_norm_grad_chunks, &job);
    join_chunks(job.grad_weight, chunks, job.n, cr_tensor_address(call->outputs[1]));
    join_chunks(job.grad_bias, chunks, job.n, cr_tensor_address(call->outputs[2]));
    return true;
}

/* ---------------------------------------------------------------- batch norm: [N, C, S], a channel for each task */
typedef struct channels_job {
    const float *x, *g, *weight, *bias, *given_mean, *given_scale;
    float *out, *mean, *scale, *running_mean, *running_var, *grad_weight, *grad_bias;
    int64_t samples, channels, length;
    bool training;
    double momentum, eps;
} channels_job;

static void batch_norm_channels(void *context, int64_t begin, int64_t end) {
    const channels_job *job = context;
    const int64_t step = job->channels * job->length;
    const double count = (double)(job->samples * job->length);
    for (int64_t c = begin; c < end; c++) {
        const float *x = job->x + c * job->length;
        float *y = job->out + c * job->length;
        double mean = 0, variance = 0;
        if (job->training) {
            for (int64_t n = 0; n < job->samples; n++)
                mean += sum_of(x + n * step, job->length);
            mean /= count;
            for (int64_t n = 0; n < job->samples; n++)
                variance += sum_of_squares(x + n * step, (float)mean, job->length);
            variance /= count;
            if (job->running_mean)
                job->running_mean[c] = (float)((1 - job->momentum) * job->running_mean[c] + job->momentum * mean);
            if (job->running_var)
                job->running_var[c] =
                    (float)((1 - job->momentum) * job->running_var[c] + job->momentum * variance * count / (count - 1));
        } else {
            mean = job->running_mean[c];
            variance = job->running_var[c];
        }
        const float center = (float)mean, scale = (float)(1 / sqrt(variance + job->eps));
        const float factor = scale * (job->weight ? job->weight[c] : 1), offset = job->bias ? job->bias[c] : 0;
        job->mean[c] = center;
        job->scale[c] = scale;
        for (int64_t n = 0; n < job->samples; n++)
            for (int64_t i = 0; i < job->length; i++)
                y[n * step + i] = (x[n * step + i] - center) * factor + offset;
    }
}

static void batch_norm_grad_channels(void *context, int64_t begin, int64_t end) {
    const channels_job *job = context;
    const int64_t step = job->channels * job->length;
    const double count = (double)(job->samples * job->length);
    for (int64_t c = begin; c < end; c++) {
        const float *x = job->x + c * job->length, *g = job->g + c * job->length, mean = job->given_mean[c],
                    scale = job->given_scale[c];
        float *out = job->out + c * job->length;
        double sum_g = 0, sum_gx = 0;
        for (int64_t n = 0; n < job->samples; n++) {
            sum_g += sum_of(g + n * step, job->length);
            sum_gx += sum_of_centered(g + n * step, x + n * step, mean, job->length);
        }
        job->grad_bias[c] = (float)sum_g;
        job->grad_weight[c] = (float)(sum_gx * scale);
        const float factor = scale * (job->weight ? job->weight[c] : 1);
        const float mean_g = job->training ? (float)(sum_g / count) : 0,
                    slope = job->training ? (float)(sum_gx * scale * scale / count) : 0;
        for (int64_t n = 0; n < job->samples; n++)
            for (int64_t i = 0; i < job->length; i++)
                out[n * step + i] = (g[n * step + i] - mean_g - (x[n * step + i] - mean) * slope) * factor;
    }
}

/* A dense f32 tensor for the kernel to fill: the output itself, or one whose values are copied there. */
static cr_tensor *dense_output(cr_tensor *out) {
    return cr_is_contiguous(out) ? out : cr_empty(CR_F32, cr_tensor_shape(out), CR_CPU);
}

static bool all_dense_f32(const cr_call *call, int first, int last) {
    for (int i = first; i <= last; i++)
        if (call->inputs[i] && (!is_f32(call->inputs[i]) || !cr_is_contiguous(call->inputs[i]))) return false;
    return true;
}

static channels_job job_of(const cr_call *call, const cr_tensor *x) {
    return (channels_job){.samples = x->sizes[0],
                          .channels = x->sizes[1],
                          .length = x->numel / (x->sizes[0] * x->sizes[1]),
                          .training = *(const bool *)attribute(call, 0),
                          .momentum = *(const double *)attribute(call, 1),
                          .eps = *(const double *)attribute(call, 2)};
}

CR_KERNEL(batch_norm) {
    cr_tensor **in = call->inputs, *out = call->outputs[0];
    if (!is_f32(in[0]) || !all_dense_f32(call, 1, 4) || in[0]->numel == 0) return run_parts(call);
    cr_tensor *x = cr_contiguous(in[0]), *y = dense_output(out);
    if (!x || !y) return false;
    channels_job job = job_of(call, x);
    job.x = dense_data(x);
    job.weight = dense_data(in[1]);
    job.bias = dense_data(in[2]);
    job.running_mean = in[3] ? cr_tensor_address(in[3]) : NULL;
    job.running_var = in[4] ? cr_tensor_address(in[4]) : NULL;
    job.out = cr_tensor_address(y);
    job.mean = cr_tensor_address(call->outputs[1]);
    job.scale = cr_tensor_address(call->outputs[2]);
    cr_parallel_for(job.channels, CR_GRAIN_ELEMENTS / 4 / (job.samples * job.length), batch_norm_channels, &job);
    return y == out || cr_copy_(out, y);
}

CR_KERNEL(batch_norm_grad) {
    cr_tensor **in = call->inputs, *out = call->outputs[0];
    if (!is_f32(in[1]) || !is_f32(in[0]) || !all_dense_f32(call, 2, 4) || in[1]->numel == 0) return run_parts(call);
    cr_tensor *g = cr_contiguous(in[0]), *x = cr_contiguous(in[1]), *grad = dense_output(out);
    if (!g || !x || !grad) return false;
    channels_job job = job_of(call, x);
    job.g = dense_data(g);
    job.x = dense_data(x);
    job.weight = dense_data(in[2]);
    job.given_mean = dense_data(in[3]);
    job.given_scale = dense_data(in[4]);
    job.out = cr_tensor_address(grad);
    job.grad_weight = cr_tensor_address(call->outputs[1]);
    job.grad_bias = cr_tensor_address(call->outputs[2]);
    cr_parallel_for(job.channels, CR_GRAIN_ELEMENTS / 4 / (job.samples * job.length), batch_norm_grad_channels, &job);
    return grad == out || cr_copy_(out, grad);
}

/* ---------------------------------------------------------------- group norm: [N, C, S], a group of a sample for each
 * task */
typedef struct groups_job {
    const float *x, *g, *weight, *bias, *given_mean, *given_scale;
    float *out, *mean, *scale;
    double *sum_g, *sum_gx;                      /* gradient: [N, C], sums of g and of g (x - mean) */
    int64_t channels, length, groups, per_group; /* per_group: channels of a group */
    double eps;
} groups_job;

static void group_norm_groups(void *context, int64_t begin, int64_t end) {
    const groups_job *job = context;
    const int64_t n = job->per_group * job->length;
    for (int64_t row = begin; row < end; row++) {
        const float *x = job->x + row * n;
        const float mean = (float)(sum_of(x, n) / (double)n);
        const float scale = (float)(1 / sqrt(sum_of_squares(x, mean, n) / (double)n + job->eps));
        job->mean[row] = mean;
        job->scale[row] = scale;
        for (int64_t c = 0; c < job->per_group; c++) {
            const int64_t channel = row % job->groups * job->per_group + c;
            const float factor = scale * (job->weight ? job->weight[channel] : 1),
                        offset = job->bias ? job->bias[channel] : 0;
            const float *from = x + c * job->length;
            float *to = job->out + row * n + c * job->length;
            for (int64_t i = 0; i < job->length; i++)
                to[i] = (from[i] - mean) * factor + offset;
        }
    }
}

static void group_norm_grad_groups(void *context, int64_t begin, int64_t end) {
    const groups_job *job = context;
    const int64_t n = job->per_group * job->length;
    for (int64_t row = begin; row < end; row++) {
        const int64_t first = row % job->groups * job->per_group;
        const float *x = job->x + row * n, *g = job->g + row * n, mean = job->given_mean[row],
                    scale = job->given_scale[row];
        double sum_h = 0, sum_hx = 0;
        for (int64_t c = 0; c < job->per_group; c++) {
            const double weight = job->weight ? (double)job->weight[first + c] : 1;
            double *sums = job->sum_g + row * job->per_group + c, *products = job->sum_gx + row * job->per_group + c;
            *sums = sum_of(g + c * job->length, job->length);
            *products = sum_of_centered(g + c * job->length, x + c * job->length, mean, job->length);
            sum_h += weight * *sums;
            sum_hx += weight * *products;
        }
        const float mean_h = (float)(sum_h / (double)n),
                    slope = (float)(sum_hx * (double)scale * (double)scale / (double)n);
        for (int64_t c = 0; c < job->per_group; c++) {
            const float weight = job->weight ? job->weight[first + c] : 1;
            float *out = job->out + row * n + c * job->length;
            for (int64_t i = 0, k = c * job->length; i < job->length; i++, k++)
                out[i] = scale * (g[k] * weight - mean_h - (x[k] - mean) * slope);
        }
    }
}

static groups_job groups_job_of(const cr_call *call, const cr_tensor *x) {
    groups_job job = {.x = dense_data((cr_tensor *)(uintptr_t)x),
                      .out = cr_tensor_address(call->outputs[0]),
                      .channels = x->sizes[1],
                      .length = x->numel / (x->sizes[0] * x->sizes[1]),
                      .groups = *(const int64_t *)attribute(call, 0),
                      .eps = *(const double *)attribute(call, 1)};
    job.per_group = job.channels / job.groups;
    return job;
}

CR_KERNEL(group_norm) {
    if (!is_f32(call->inputs[0]) || call->inputs[0]->numel == 0) return run_parts(call);
    cr_tensor *x = cr_contiguous(call->inputs[0]), *w = cr_dense(call->inputs[1]), *b = cr_dense(call->inputs[2]);
    if (!x || (call->inputs[1] && !w) || (call->inputs[2] && !b)) return false;
    groups_job job = groups_job_of(call, x);
    job.weight = dense_data(w);
    job.bias = dense_data(b);
    job.mean = cr_tensor_address(call->outputs[1]);
    job.scale = cr_tensor_address(call->outputs[2]);
    cr_parallel_for(x->sizes[0] * job.groups, CR_GRAIN_ELEMENTS / 4 / (job.per_group * job.length), group_norm_groups,
                    &job);
    return true;
}

CR_KERNEL(group_norm_grad) {
    if (!is_f32(call->inputs[1]) || call->inputs[1]->numel == 0) return run_parts(call);
    cr_tensor *g = cr_contiguous(call->inputs[0]), *x = cr_contiguous(call->inputs[1]), *w = cr_dense(call->inputs[2]);
    cr_tensor *mean = cr_contiguous(call->inputs[3]), *scale = cr_contiguous(call->inputs[4]);
    if (!g || !x || !mean || !scale || (call->inputs[2] && !w)) return false;
    groups_job job = groups_job_of(call, x);
    const int64_t samples = x->sizes[0], channels = job.channels;
    cr_tensor *sums = cr_empty(CR_F64, CR_SHAPE(2, samples, channels), CR_CPU);
    if (!sums) return false;
    job.g = dense_data(g);
    job.weight = dense_data(w);
    job.given_mean = dense_data(mean);
    job.given_scale = dense_data(scale);
    job.sum_g = cr_tensor_address(sums);
    job.sum_gx = job.sum_g + samples * channels;
    cr_parallel_for(samples * job.groups, CR_GRAIN_ELEMENTS / 4 / (job.per_group * job.length), group_norm_grad_groups,
                    &job);
    float *grad_weight = cr_tensor_address(call->outputs[1]), *grad_bias = cr_tensor_address(call->outputs[2]);
    for (int64_t c = 0; c < channels; c++) {
        double weight = 0, bias = 0;
        for (int64_t n = 0; n < samples; n++) {
            weight += job.sum_gx[n * channels + c] * (double)job.given_scale[n * job.groups + c / job.per_group];
            bias += job.sum_g[n * channels + c];
        }
        grad_weight[c] = (float)weight;
        grad_bias[c] = (float)bias;
    }
    return true;
}

/* ---------------------------------------------------------------- dropout: four elements for each block of random
 * numbers */
typedef struct dropout_job {
    cr_generator_state state;
    uint8_t *kept;
    int64_t count;
    uint64_t limit; /* an element stays where its 32 bits are at least this */
} dropout_job;

static void draw_mask(void *context, int64_t begin, int64_t end) {
    const dropout_job *job = context;
    for (int64_t block = begin; block < end; block++) {
        uint32_t numbers[4];
        cr_philox_block(job->state, (uint64_t)block, numbers);
        for (int64_t k = 0; k < 4 && block * 4 + k < job->count; k++)
            job->kept[block * 4 + k] = numbers[k] >= job->limit;
    }
}

CR_KERNEL(dropout) {
    const double p = *(const double *)attribute(call, 0);
    cr_tensor *x = call->inputs[0], *kept = call->outputs[1];
    const int64_t blocks = (x->numel + 3) / 4;
    cr_generator *generator = *(cr_generator *const *)attribute(call, 1);
    dropout_job job = {cr_generator_reserve(generator, (uint64_t)blocks), cr_tensor_address(kept), x->numel,
                       (uint64_t)(p * 4294967296.0)};
    cr_parallel_for(blocks, CR_GRAIN_ELEMENTS / 16, draw_mask, &job);
    cr_tensor *scaled = cr_mul_scalar(x, p < 1 ? 1 / (1 - p) : 0);
    return cr_copy_(call->outputs[0], cr_where(kept, scaled, cr_zeros_like(scaled))) != NULL;
}
