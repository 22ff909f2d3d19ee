/* Scalars, texts and encoded images as events. */
#ifdef CRESSET_HAS_SUMMARY
#include "summary/writer.h"

#include <string.h>

bool cr_summary_scalar(cr_summary_writer *writer, const char *tag, double value, int64_t step) {
    Cr__Summary__Value entry = CR__SUMMARY__VALUE__INIT;
    entry.value_case = CR__SUMMARY__VALUE__VALUE_SIMPLE_VALUE;
    entry.simple_value = (float)value;
    return cr_summary_append_value(writer, "summary_scalar", tag, &entry, step);
}

/* A text is a string tensor of shape [1] under "tag/text_summary", marked for the text plugin. */
static bool append_text(cr_summary_writer *writer, const char *tag, const char *text, int64_t step) {
    Cr__TextTensor__Shape__Dim dim = CR__TEXT_TENSOR__SHAPE__DIM__INIT, *dims = &dim;
    dim.size = 1;
    Cr__TextTensor__Shape shape = CR__TEXT_TENSOR__SHAPE__INIT;
    shape.n_dim = 1;
    shape.dim = &dims;
    ProtobufCBinaryData content = {strlen(text), (uint8_t *)text};
    Cr__TextTensor tensor = CR__TEXT_TENSOR__INIT;
    tensor.dtype = 7; /* DT_STRING */
    tensor.shape = &shape;
    tensor.n_string_val = 1;
    tensor.string_val = &content;
    Cr__SummaryMetadata__PluginData plugin = CR__SUMMARY_METADATA__PLUGIN_DATA__INIT;
    plugin.plugin_name = "text"; /* empty content: version 0 */
    Cr__SummaryMetadata metadata = CR__SUMMARY_METADATA__INIT;
    metadata.plugin_data = &plugin;
    Cr__Summary__Value value = CR__SUMMARY__VALUE__INIT;
    value.metadata = &metadata;
    value.value_case = CR__SUMMARY__VALUE__VALUE_TENSOR;
    value.tensor = &tensor;
    return cr_summary_append_value(writer, "summary_text", tag, &value, step);
}

bool cr_summary_text(cr_summary_writer *writer, const char *tag, const char *text, int64_t step) {
    static const char ending[] = "/text_summary";
    if (!cr_summary_check_text("summary_text", "tag", tag) || !cr_summary_check_text("summary_text", "text", text))
        return false;
    const size_t length = strlen(tag);
    char *full_tag = cr_malloc(length + sizeof ending);
    if (!full_tag) return false;
    memcpy(full_tag, tag, length);
    memcpy(full_tag + length, ending, sizeof ending);
    const bool ok = append_text(writer, full_tag, text, step);
    cr_free(full_tag);
    return ok;
}

bool cr_summary_encoded_image(cr_summary_writer *writer, const char *tag, const void *data, size_t bytes, int height,
                              int width, int channels, int64_t step) {
    if (!data || !bytes) return cr_fail(CR_ERROR_ARGUMENT, "summary_encoded_image: the image's bytes are missing");
    if (height < 1 || width < 1 || channels < 1 || channels > 4)
        return cr_fail(CR_ERROR_ARGUMENT,
                       "summary_encoded_image: height %d, width %d, channels %d; expected sizes of at "
                       "least 1, and 1 to 4 channels",
                       height, width, channels);
    Cr__Summary__Image image = CR__SUMMARY__IMAGE__INIT;
    image.height = height;
    image.width = width;
    image.colorspace = channels;
    image.encoded = (ProtobufCBinaryData){bytes, (uint8_t *)data};
    Cr__Summary__Value value = CR__SUMMARY__VALUE__INIT;
    value.value_case = CR__SUMMARY__VALUE__VALUE_IMAGE;
    value.image = &image;
    return cr_summary_append_value(writer, "summary_image", tag, &value, step);
}
#else
typedef int cr_summary_events_are_absent; /* summary/absent.c stands in */
#endif
