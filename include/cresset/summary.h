/* Cresset summary: what a person watches while a model learns. TensorBoard event files, a progress bar, a line plot.
 *
 * Event files are in the spirit of torch.utils.tensorboard.SummaryWriter: `tensorboard --logdir runs` shows them. In a
 * build without protobuf-c their functions fail with CR_ERROR_UNSUPPORTED; images and plots need the image libraries.
 * See docs/summary.md. */
#ifndef CRESSET_SUMMARY_H
#define CRESSET_SUMMARY_H

#include <cresset/jit.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ event files
 * A writer appends records to one new file, folder/events.out.tfevents.<time>.<host>.<pid>.<n>. Any thread may write. A
 * record waits in memory until `buffer_bytes` have gathered, `flush_seconds` have passed (looked at when a record is
 * added), or cr_summary_flush or _close is called; the file grows by whole records only. Where the disk is full a call
 * fails with CR_ERROR_IO, the records stay in memory (up to 64 MiB), and the next flush tries again.
 *
 * Tags and texts are UTF-8; a tag "loss/d" groups charts by what stands before the slash. `step` is the x axis. */
typedef struct cr_summary_writer cr_summary_writer;

typedef struct cr_summary_writer_options {
    size_t size;
    double flush_seconds; /* 120; 0: each record at once */
    size_t buffer_bytes;  /* 1 MiB */
    const char *suffix;   /* appended to the file's name; "" */
} cr_summary_writer_options;

/* Makes `folder` where it is missing, with its parents. NULL and an error on failure. */
CR_API cr_summary_writer *cr_summary_writer_open_with(const char *folder, const cr_summary_writer_options *options);
/* The event file's path, valid until the writer is closed. */
CR_API const char *cr_summary_writer_path(const cr_summary_writer *writer);
CR_API bool cr_summary_flush(cr_summary_writer *writer);
/* Flushes and frees. False where the last records could not be written. NULL is ignored. */
CR_API bool cr_summary_close(cr_summary_writer *writer);

/* One point of a curve, kept as f32. NaN and infinity are kept too. */
CR_API bool cr_summary_scalar(cr_summary_writer *writer, const char *tag, double value, int64_t step);

typedef struct cr_summary_value {
    const char *name;
    double value;
} cr_summary_value;
/* Several curves in one chart. As in PyTorch, each name is a run of its own, in the folder `folder/tag_name`. */
CR_API bool cr_summary_scalars_with(cr_summary_writer *writer, const char *tag, int64_t step,
                                    const cr_summary_value *values, int count);

/* Counts by TensorFlow's exponential buckets (0 and ±1e-12 × 1.1^i below 1e20), and min, max, sum and sum of squares.
 * Any dtype, any device. NaN and infinities are left out of all of them; values past the buckets count in the
 * outermost. Fails with CR_ERROR_SHAPE on a tensor without elements. */
CR_API bool cr_summary_histogram(cr_summary_writer *writer, const char *tag, const cr_tensor *values, int64_t step);

/* Markdown, shown under TEXT. */
CR_API bool cr_summary_text(cr_summary_writer *writer, const char *tag, const char *text, int64_t step);

typedef struct cr_summary_image_options {
    size_t size;
    const char *layout; /* "CHW", "HWC" or "HW"; for images with an N in front. Default: channels before height */
    int columns;        /* images: in one row of the grid; 0: as near to a square as can be */
    int padding;        /* images: black pixels around each; 2 */
} cr_summary_image_options;

/* image: [C,H,W], C is 1 (grey), 3 (RGB) or 4 (RGBA); u8, or floats that are clamped to 0 … 1 (NaN: 0). Stored as
 * PNG. */
CR_API bool cr_summary_image_with(cr_summary_writer *writer, const char *tag, const cr_tensor *image, int64_t step,
                                  const cr_summary_image_options *options);
/* images: [N,C,H,W], shown as one grid. */
CR_API bool cr_summary_images_with(cr_summary_writer *writer, const char *tag, const cr_tensor *images, int64_t step,
                                   const cr_summary_image_options *options);
/* An image that is encoded already: PNG, JPEG, or GIF, which TensorBoard plays. */
CR_API bool cr_summary_encoded_image(cr_summary_writer *writer, const char *tag, const void *data, size_t bytes,
                                     int height, int width, int channels, int64_t step);

/* A graph of cr_jit_trace or cr_jit_load, shown under GRAPHS. Nodes are grouped by the modules that made them, parameters
 * stand with theirs; edges bear sizes ("?" for one that may differ), and nodes their op's settings. */
CR_API bool cr_summary_graph(cr_summary_writer *writer, const cr_graph *graph);

/* A hyperparameter is a text, or a number where `text` is NULL. */
typedef struct cr_summary_hparam {
    const char *name;
    const char *text;
    double number;
} cr_summary_hparam;
/* One row of the HPARAMS table: the run's hyperparameters and what came out. Metrics are also written as scalars of
 * step 0. Call it once for a writer. */
CR_API bool cr_summary_hparams(cr_summary_writer *writer, const cr_summary_hparam *hparams, int hparam_count,
                               const cr_summary_value *metrics, int metric_count);

/* ------------------------------------------------------------------ progress
 * One line that shows where a loop stands:
 *     epoch 2/5  43% |██████▌        | 26/61  412 img/s  eta 0:17  data 3 ms + compute 152 ms  loss_d 0.31 loss_g 2.10
 * On a terminal the line is redrawn about ten times a second and fits its width, also after it changed; elsewhere a
 * line is printed now and then. Times come from a monotonic clock. One thread at a time; a NULL bar is ignored
 * everywhere, so that a loop need not ask whether it has one. Nothing here fails after cr_progress_new: output that
 * cannot be written is dropped. */
typedef struct cr_progress cr_progress;

typedef enum cr_progress_style {
    CR_PROGRESS_AUTO = 0, /* a bar where `out` is a terminal that can move its cursor, else plain lines */
    CR_PROGRESS_BAR,
    CR_PROGRESS_LINES,
    CR_PROGRESS_SILENT /* counts, prints nothing: for ranks other than the first */
} cr_progress_style;

typedef struct cr_progress_options {
    size_t size;
    const char *label;     /* stands in front: "epoch 2/5" */
    const char *unit;      /* what the rate counts: "img"; default "step" */
    double units_per_step; /* 1; the batch size where unit is "img" */
    int64_t start;         /* steps done before (a resumed run); 0. They count for the percentage, not for the rate. */
    FILE *out;             /* stderr */
    cr_progress_style style;
    double redraw_seconds; /* 0.1 */
    double line_seconds;   /* between plain lines: 10 */
    int width;             /* columns; 0: the terminal's, or 80 */
} cr_progress_options;

/* total: steps in the loop; 0 or less: unknown. NULL and an error where memory is out. */
CR_API cr_progress *cr_progress_new_with(int64_t total, const cr_progress_options *options);
/* Called when a step's data has arrived: the time since the last step counts as data, the rest of it as compute. */
CR_API void cr_progress_data_ready(cr_progress *progress);
/* True where the next step will draw: a loop on a GPU reads its losses only then. */
CR_API bool cr_progress_due(const cr_progress *progress);
/* One more step is done. `format` (may be NULL: as before) makes the fields at the end: "loss_d %.2f loss_g %.2f". */
CR_API void cr_progress_step(cr_progress *progress, const char *format, ...) CR_PRINTF(2, 3);
/* Prints a line of text above the bar. */
CR_API void cr_progress_print(cr_progress *progress, const char *format, ...) CR_PRINTF(2, 3);
/* Seconds since cr_progress_new; of those, spent waiting for data. */
CR_API double cr_progress_elapsed(const cr_progress *progress);
CR_API double cr_progress_data_seconds(const cr_progress *progress);
/* Units per second over the last seconds; 0 before the first step. */
CR_API double cr_progress_rate(const cr_progress *progress);
/* Draws the last state, ends the line, and frees. NULL is ignored. */
CR_API void cr_progress_close(cr_progress *progress);

/* ------------------------------------------------------------------ plot */
typedef struct cr_plot_series {
    const char *name; /* in the legend; NULL: not there */
    const double *x;  /* NULL: 0, 1, 2, … */
    const double *y;  /* NaN and infinities are skipped, and so are values ≤ 0 on a logarithmic axis */
    int64_t count;
    uint32_t color; /* 0xRRGGBB; 0: the next of the palette (for black say 0x000001) */
} cr_plot_series;

typedef struct cr_plot_options {
    size_t size;
    const char *title, *x_label, *y_label;
    int width, height; /* of the picture: 960 × 540 pixels */
    bool log_y;
    double
        smoothing; /* 0 … 1: a bold exponential moving average (TensorBoard's slider) over the faint values; 0: none */
} cr_plot_options;

/* A line plot as a PNG file, put in place whole. Long series keep their extremes: each pixel column shows the least and
 * the greatest value that fall into it. Series without a value to show are legend only. */
CR_API bool cr_plot_with(const char *path, const cr_plot_series *series, int count, const cr_plot_options *options);

/* Named curves that grow, for plots and checkpoints. */
typedef struct cr_history cr_history;
/* An empty one; a further point of the curve `name`, which is made where it is new; the curves in the order of their
 * first points. */
CR_API cr_history *cr_history_new(void);
CR_API void cr_history_free(cr_history *history); /* NULL is ignored */
CR_API bool cr_history_add(cr_history *history, const char *name, double x, double y);
CR_API int cr_history_count(const cr_history *history); /* curves */
CR_API const char *cr_history_name(const cr_history *history, int index);
/* A curve's points, f64 [n,2] of (x, y), to save beside the model; and back, in place of what the curve held. */
CR_API cr_tensor *cr_history_get(const cr_history *history, const char *name);
CR_API bool cr_history_set(cr_history *history, const char *name, const cr_tensor *points);
/* cr_plot of all curves, in the order of their first points. */
CR_API bool cr_history_plot_with(const cr_history *history, const char *path, const cr_plot_options *options);

/* Named optional arguments: cr_plot("loss.png", series, 2, .log_y = true). */
#ifndef __cplusplus
#define cr_summary_writer_open(folder, ...)                                                                            \
    cr_summary_writer_open_with(folder, &(cr_summary_writer_options){.size = sizeof(cr_summary_writer_options),        \
                                                                     .flush_seconds = 120,                             \
                                                                     .buffer_bytes = 1 << 20,                          \
                                                                     .suffix = "",                                     \
                                                                     __VA_ARGS__})
/* cr_summary_scalars(writer, "loss", step, {"d", 0.31}, {"g", 2.1}) */
#define cr_summary_scalars(writer, tag, step, ...)                                                                     \
    cr_summary_scalars_with(writer, tag, step, (cr_summary_value[]){__VA_ARGS__},                                      \
                            (int)(sizeof((cr_summary_value[]){__VA_ARGS__}) / sizeof(cr_summary_value)))
#define CR_SUMMARY_IMAGE_OPTIONS_(...)                                                                                 \
    (&(cr_summary_image_options){.size = sizeof(cr_summary_image_options), .padding = 2, __VA_ARGS__})
#define cr_summary_image(writer, tag, image, step, ...)                                                                \
    cr_summary_image_with(writer, tag, image, step, CR_SUMMARY_IMAGE_OPTIONS_(__VA_ARGS__))
#define cr_summary_images(writer, tag, images, step, ...)                                                              \
    cr_summary_images_with(writer, tag, images, step, CR_SUMMARY_IMAGE_OPTIONS_(__VA_ARGS__))
#define cr_progress_new(total, ...)                                                                                    \
    cr_progress_new_with(total, &(cr_progress_options){.size = sizeof(cr_progress_options),                            \
                                                       .unit = "step",                                                 \
                                                       .units_per_step = 1,                                            \
                                                       .redraw_seconds = 0.1,                                          \
                                                       .line_seconds = 10,                                             \
                                                       __VA_ARGS__})
#define CR_PLOT_OPTIONS_(...)                                                                                          \
    (&(cr_plot_options){.size = sizeof(cr_plot_options), .width = 960, .height = 540, __VA_ARGS__})
#define cr_plot(path, series, count, ...)   cr_plot_with(path, series, count, CR_PLOT_OPTIONS_(__VA_ARGS__))
#define cr_history_plot(history, path, ...) cr_history_plot_with(history, path, CR_PLOT_OPTIONS_(__VA_ARGS__))
#endif

#ifdef __cplusplus
}
#endif
#endif
