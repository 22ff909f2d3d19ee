/* The event file functions of a build without protobuf-c: each says so. */
#ifndef CRESSET_HAS_SUMMARY
#include <cresset/summary.h>

#define ABSENT(function)                                                                                               \
    cr_fail(CR_ERROR_UNSUPPORTED, function ": this build has no protobuf-c; configure with CRESSET_SUMMARY=ON where "  \
                                           "libprotobuf-c and protoc-c are installed")

cr_summary_writer *cr_summary_writer_open_with(const char *folder, const cr_summary_writer_options *options) {
    (void)folder, (void)options;
    (void)ABSENT("summary_writer_open");
    return NULL;
}

const char *cr_summary_writer_path(const cr_summary_writer *writer) {
    (void)writer;
    (void)ABSENT("summary_writer_path");
    return NULL;
}

bool cr_summary_flush(cr_summary_writer *writer) { return (void)writer, ABSENT("summary_flush"); }

bool cr_summary_close(cr_summary_writer *writer) { return !writer || ABSENT("summary_close"); }

bool cr_summary_scalar(cr_summary_writer *writer, const char *tag, double value, int64_t step) {
    (void)writer, (void)tag, (void)value, (void)step;
    return ABSENT("summary_scalar");
}

bool cr_summary_scalars_with(cr_summary_writer *writer, const char *tag, int64_t step, const cr_summary_value *values,
                             int count) {
    (void)writer, (void)tag, (void)step, (void)values, (void)count;
    return ABSENT("summary_scalars");
}

bool cr_summary_histogram(cr_summary_writer *writer, const char *tag, const cr_tensor *values, int64_t step) {
    (void)writer, (void)tag, (void)values, (void)step;
    return ABSENT("summary_histogram");
}

bool cr_summary_text(cr_summary_writer *writer, const char *tag, const char *text, int64_t step) {
    (void)writer, (void)tag, (void)text, (void)step;
    return ABSENT("summary_text");
}

bool cr_summary_image_with(cr_summary_writer *writer, const char *tag, const cr_tensor *image, int64_t step,
                           const cr_summary_image_options *options) {
    (void)writer, (void)tag, (void)image, (void)step, (void)options;
    return ABSENT("summary_image");
}

bool cr_summary_images_with(cr_summary_writer *writer, const char *tag, const cr_tensor *images, int64_t step,
                            const cr_summary_image_options *options) {
    (void)writer, (void)tag, (void)images, (void)step, (void)options;
    return ABSENT("summary_images");
}

bool cr_summary_encoded_image(cr_summary_writer *writer, const char *tag, const void *data, size_t bytes, int height,
                              int width, int channels, int64_t step) {
    (void)writer, (void)tag, (void)data, (void)bytes, (void)height, (void)width, (void)channels, (void)step;
    return ABSENT("summary_encoded_image");
}

bool cr_summary_graph(cr_summary_writer *writer, const cr_graph *graph) {
    (void)writer, (void)graph;
    return ABSENT("summary_graph");
}

bool cr_summary_hparams(cr_summary_writer *writer, const cr_summary_hparam *hparams, int hparam_count,
                        const cr_summary_value *metrics, int metric_count) {
    (void)writer, (void)hparams, (void)hparam_count, (void)metrics, (void)metric_count;
    return ABSENT("summary_hparams");
}
#else
typedef int cr_summary_is_present; /* ISO C wants a translation unit to declare something */
#endif
