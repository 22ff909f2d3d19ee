/* A run's hyperparameters and results, for TensorBoard's HPARAMS table: three records of the hparams plugin, as
 * torch.utils.tensorboard writes them, and the metrics as scalars. */
#ifdef CRESSET_HAS_SUMMARY
#include "summary/writer.h"

#include <string.h>

enum { TYPE_TEXT = 1, TYPE_NUMBER = 3, STATUS_SUCCESS = 1 };

/* One value without data under `tag`, whose metadata hold the plugin's message. */
static bool append_content(cr_summary_writer *writer, const char *tag, const Cr__HParams *content) {
    const size_t bytes = cr__hparams__get_packed_size(content);
    uint8_t *packed = cr_malloc(bytes);
    if (!packed) return false;
    cr__hparams__pack(content, packed);
    Cr__SummaryMetadata__PluginData plugin = CR__SUMMARY_METADATA__PLUGIN_DATA__INIT;
    plugin.plugin_name = "hparams";
    plugin.content = (ProtobufCBinaryData){bytes, packed};
    Cr__SummaryMetadata metadata = CR__SUMMARY_METADATA__INIT;
    metadata.plugin_data = &plugin;
    Cr__Summary__Value value = CR__SUMMARY__VALUE__INIT;
    value.metadata = &metadata;
    const bool ok = cr_summary_append_value(writer, "summary_hparams", tag, &value, 0);
    cr_free(packed);
    return ok;
}

/* The messages of one hyperparameter and of one metric, with the pointers that the lists of them take. */
typedef struct hparam_row {
    Cr__HParams__HParamInfo info, *info_pointer;
    Cr__HParams__Value value;
    Cr__HParams__Entry entry, *entry_pointer;
} hparam_row;
typedef struct metric_row {
    Cr__HParams__MetricInfo__Name name;
    Cr__HParams__MetricInfo info, *info_pointer;
} metric_row;

static void fill_hparam(hparam_row *row, const cr_summary_hparam *hparam) {
    row->info = (Cr__HParams__HParamInfo)CR__HPARAMS__HPARAM_INFO__INIT;
    row->info.name = (char *)hparam->name;
    row->info.type = hparam->text ? TYPE_TEXT : TYPE_NUMBER;
    row->value = (Cr__HParams__Value)CR__HPARAMS__VALUE__INIT;
    row->value.kind_case = hparam->text ? CR__HPARAMS__VALUE__KIND_STRING_VALUE : CR__HPARAMS__VALUE__KIND_NUMBER_VALUE;
    if (hparam->text)
        row->value.string_value = (char *)hparam->text;
    else
        row->value.number_value = hparam->number;
    row->entry = (Cr__HParams__Entry)CR__HPARAMS__ENTRY__INIT;
    row->entry.key = (char *)hparam->name;
    row->entry.value = &row->value;
}

static void fill_metric(metric_row *row, const cr_summary_value *metric) {
    row->name = (Cr__HParams__MetricInfo__Name)CR__HPARAMS__METRIC_INFO__NAME__INIT;
    row->name.tag = (char *)metric->name;
    row->info = (Cr__HParams__MetricInfo)CR__HPARAMS__METRIC_INFO__INIT;
    row->info.name = &row->name;
}

/* The experiment: the names and types of all hyperparameters and metrics. */
static bool append_experiment(cr_summary_writer *writer, Cr__HParams__HParamInfo **hparams, size_t hparam_count,
                              Cr__HParams__MetricInfo **metrics, size_t metric_count) {
    Cr__HParams__Experiment experiment = CR__HPARAMS__EXPERIMENT__INIT;
    experiment.n_hparam_infos = hparam_count;
    experiment.hparam_infos = hparams;
    experiment.n_metric_infos = metric_count;
    experiment.metric_infos = metrics;
    Cr__HParams content = CR__HPARAMS__INIT;
    content.data_case = CR__HPARAMS__DATA_EXPERIMENT;
    content.experiment = &experiment;
    return append_content(writer, "_hparams_/experiment", &content);
}

/* The session: this run's values, and that it has ended well. */
static bool append_session(cr_summary_writer *writer, Cr__HParams__Entry **entries, size_t count) {
    Cr__HParams__SessionStart start = CR__HPARAMS__SESSION_START__INIT;
    start.n_hparams = count;
    start.hparams = entries;
    start.start_time = cr_summary_wall_time();
    Cr__HParams content = CR__HPARAMS__INIT;
    content.data_case = CR__HPARAMS__DATA_SESSION_START;
    content.session_start = &start;
    if (!append_content(writer, "_hparams_/session_start_info", &content)) return false;
    Cr__HParams__SessionEnd end = CR__HPARAMS__SESSION_END__INIT;
    end.status = STATUS_SUCCESS;
    end.end_time = cr_summary_wall_time();
    content.data_case = CR__HPARAMS__DATA_SESSION_END;
    content.session_end = &end;
    return append_content(writer, "_hparams_/session_end_info", &content);
}

static bool append_all(cr_summary_writer *writer, const cr_summary_hparam *hparams, size_t hparam_count,
                       const cr_summary_value *metrics, size_t metric_count) {
    /* one block: the rows, then the three lists of pointers to them */
    const size_t rows = hparam_count * sizeof(hparam_row) + metric_count * sizeof(metric_row);
    void *block = cr_malloc(rows + (2 * hparam_count + metric_count) * sizeof(void *));
    if (!block) return false;
    hparam_row *row = block;
    metric_row *metric = (metric_row *)(row + hparam_count);
    Cr__HParams__HParamInfo **infos = (Cr__HParams__HParamInfo **)(metric + metric_count);
    Cr__HParams__Entry **entries = (Cr__HParams__Entry **)(infos + hparam_count);
    Cr__HParams__MetricInfo **metric_infos = (Cr__HParams__MetricInfo **)(entries + hparam_count);
    for (size_t i = 0; i < hparam_count; i++) {
        fill_hparam(&row[i], &hparams[i]);
        infos[i] = &row[i].info;
        entries[i] = &row[i].entry;
    }
    for (size_t i = 0; i < metric_count; i++) {
        fill_metric(&metric[i], &metrics[i]);
        metric_infos[i] = &metric[i].info;
    }
    bool ok = append_experiment(writer, infos, hparam_count, metric_infos, metric_count) &&
              append_session(writer, entries, hparam_count);
    for (size_t i = 0; ok && i < metric_count; i++)
        ok = cr_summary_scalar(writer, metrics[i].name, metrics[i].value, 0);
    cr_free(block);
    return ok;
}

bool cr_summary_hparams(cr_summary_writer *writer, const cr_summary_hparam *hparams, int hparam_count,
                        const cr_summary_value *metrics, int metric_count) {
    if (hparam_count < 0 || metric_count < 0 || (!hparams && hparam_count) || (!metrics && metric_count))
        return cr_fail(CR_ERROR_ARGUMENT, "summary_hparams: a list is NULL, or a count (%d, %d) is negative",
                       hparam_count, metric_count);
    for (int i = 0; i < hparam_count; i++) {
        if (!cr_summary_check_text("summary_hparams", "hyperparameter's name", hparams[i].name)) return false;
        if (hparams[i].text && !cr_summary_check_text("summary_hparams", "hyperparameter's text", hparams[i].text))
            return false;
    }
    for (int i = 0; i < metric_count; i++)
        if (!cr_summary_check_text("summary_hparams", "metric's name", metrics[i].name)) return false;
    return append_all(writer, hparams, (size_t)hparam_count, metrics, (size_t)metric_count);
}
#else
typedef int cr_summary_hparams_are_absent; /* summary/absent.c stands in */
#endif
