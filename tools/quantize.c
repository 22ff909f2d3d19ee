/* cresset quantize: a program whose layers multiply 8-bit integers, calibrated on files; or whose weights alone take fewer
 * bytes. */
#include "json.h"
#include "pictures.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int run_quantize(int argc, char **argv);
const command command_quantize = {
    "quantize", "a program's convolutions and linear layers in 8 bits, by calibration on real data",
    "Makes of a trained f32 program one that multiplies 8-bit integers: smaller by four, and faster. It is run on "
    "data\n"
    "like those that it will see, to learn how large its values become; some hundred pictures are enough. Then both "
    "are\n"
    "run on the data, and what was lost is told layer by layer.\n"
    "With --weights nothing but the weights changes, and no data are needed: language models write faster by as much "
    "as\n"
    "fewer bytes are read for each word.\n"
    "\n"
    "usage: cresset quantize PROGRAM -o OUTPUT --data PATH [options]\n"
    "       cresset quantize PROGRAM -o OUTPUT --weights bf16|i8 [options]\n"
    "  -o, --output FILE    the quantised program; with a name that ends in .onnx a model with QuantizeLinear and\n"
    "                       DequantizeLinear nodes (QDQ), for any runtime\n"
    "  --data PATH          a folder of pictures, also in folders within (PNG, JPEG, BMP), or a .npy file: "
    "[count,...]\n"
    "  --weights TYPE       weights become bf16 or i8 (a scale for each output), and all arithmetic stays f32; with\n"
    "                       --data, what that changed is told as well\n"
    "  --mean M --std S     pictures become (x - M) / S of 0 ... 1; one number, or one for each channel, as in "
    "training\n"
    "  --count N            pictures (or rows) that are used, evenly out of all (256)\n"
    "  --batch N            how many are run at once, where the program leaves that open (8)\n"
    "  --method NAME        how ranges are chosen: mse, percentile or minmax (mse)\n"
    "  --percentile P       for that method, of the numbers that are inside (99.99)\n"
    "  --per-tensor         one scale for a layer's weight, not one for each output channel\n"
    "  --keep NAME          a layer, or all under a path, that stays in f32 (again for each): the first or the last\n"
    "                       layer, or those that the report shows as bad\n"
    "  --opset N            of an ONNX model, 13 to 23 (18)\n"
    "  --size NAME=N        a size that may differ (again for each)\n"
    "  --no-report          leaves the comparison out\n"
    "  --json               the report as JSON\n"
    "\n"
    "Pictures of another size than the program takes are resized by their shorter side and cut in the middle.\n"
    "\n"
    "examples:\n"
    "  cresset quantize resnet50.onnx -o resnet50-int8.onnx --data photos --mean 0.485,0.456,0.406 --std "
    "0.229,0.224,0.225\n"
    "  cresset quantize digits.safetensors -o digits-int8.safetensors --data digits.npy --method percentile\n"
    "  cresset quantize gpt.safetensors -o gpt-bf16.safetensors --weights bf16\n"
    "  cresset bench digits-int8.safetensors\n",
    run_quantize};

typedef struct settings {
    const char *output, *data, *method, *weights;
    picture_settings pictures;
    double percentile;
    int64_t count, batch, opset;
    bool per_tensor, no_report, as_json;
    text_list keep, sizes;
} settings;

/* ---------------------------------------------------------------- data */
typedef struct samples {
    const program *p;
    const settings *s;
    cr_data_dataset *folder; /* or */
    cr_tensor *array;
    int64_t total, used, batch;
    const char *doing; /* for the line that tells how far it is */
} samples;

static bool is_array(const char *path) {
    const size_t length = strlen(path);
    return length > 4 && !strcmp(path + length - 4, ".npy");
}

static bool open_samples(samples *d) {
    const cr_shape shape = cr_jit_input_shape(d->p->graph, 0);
    if (cr_jit_input_count(d->p->graph) != 1)
        return cr_fail(CR_ERROR_UNSUPPORTED,
                       "quantize: the program has %d inputs; from C, cr_jit_quantize takes any number",
                       cr_jit_input_count(d->p->graph));
    if (is_array(d->s->data)) {
        d->array = cr_npy_load(d->s->data);
        if (!d->array) return false;
        if (cr_ndim(d->array) != shape.count)
            return cr_fail(CR_ERROR_SHAPE, "quantize: %s has %d dims, the program's input %d: [count,...]", d->s->data,
                           cr_ndim(d->array), shape.count);
        d->total = cr_size(d->array, 0);
    } else {
        if (shape.count != 4)
            return cr_fail(CR_ERROR_SHAPE,
                           "quantize: pictures are for an input [batch,channels,height,width]; this "
                           "program's has %d dims: give a .npy file",
                           shape.count);
        d->folder = cr_vision_image_folder(d->s->data);
        if (!d->folder) return false;
        d->total = cr_data_dataset_length(d->folder);
    }
    const int64_t fixed = shape.count ? shape.at[0] : 1;
    d->batch = fixed > 0 ? fixed : d->s->batch;
    d->used = d->total < d->s->count ? d->total : d->s->count;
    if (fixed > 0) d->used -= d->used % fixed;
    return d->used > 0 || cr_fail(CR_ERROR_ARGUMENT, "quantize: %s has %lld samples; at least %lld are needed",
                                  d->s->data, (long long)d->total, (long long)d->batch);
}

/* To height x width: resized so that the shorter side fits, and cut in the middle. */
static cr_tensor *fitted(cr_tensor *image, int64_t height, int64_t width) {
    const int64_t h = cr_size(image, 1), w = cr_size(image, 2);
    if (h == height && w == width) return image;
    const double scale =
        (double)height / (double)h > (double)width / (double)w ? (double)height / (double)h : (double)width / (double)w;
    const int64_t to_h = (int64_t)((double)h * scale + 0.5), to_w = (int64_t)((double)w * scale + 0.5);
    image = cr_vision_image_resize(image, to_h < height ? height : to_h, to_w < width ? width : to_w);
    return image ? cr_vision_image_center_crop(image, height, width) : NULL;
}

static cr_tensor *read_sample(const samples *d, int64_t which) {
    const int64_t index = which * d->total / d->used;
    if (d->array) return cr_cast(cr_narrow(d->array, 0, index, 1), cr_jit_input_dtype(d->p->graph, 0));
    const cr_shape shape = program_input_shape(d->p, 0);
    cr_tensor *image = read_picture(d->p, &d->s->pictures, 0, cr_vision_image_folder_path(d->folder, index));
    if (image) image = fitted(cr_squeeze(image, CR_DIMS(0)), shape.at[2], shape.at[3]);
    return image ? cr_unsqueeze(image, 0) : NULL;
}

static bool next_batch(void *context, int64_t batch, cr_tensor **inputs, int input_count) {
    const samples *d = context;
    cr_tensor *rows[1024];
    const int64_t first = batch * d->batch, left = d->used - first, count = left < d->batch ? left : d->batch;
    (void)input_count;
    if (isatty(STDERR_FILENO)) {
        if (left > 0)
            fprintf(stderr, "\r%s: %lld of %lld ", d->doing, (long long)first, (long long)d->used);
        else
            fprintf(stderr, "\r%40s\r", "");
    }
    if (left <= 0) return true;
    for (int64_t i = 0; i < count; i++)
        if (!(rows[i] = read_sample(d, first + i))) return false;
    return (inputs[0] = cr_cat(rows, (int)count, 0)) != NULL;
}

/* ---------------------------------------------------------------- the report */
static void print_report(const cr_quantize_report *r, const samples *d) {
    printf("%lld samples of %s\n\n  weight   result  layer\n", (long long)d->used, d->s->data);
    for (int i = 0; i < r->layer_count; i++) {
        const cr_quantize_layer *layer = &r->layers[i];
        if (layer->is_quantized)
            printf("%7.2f%% %7.2f%%  %s %s\n", 100 * layer->weight_error, 100 * layer->result_error, layer->op,
                   layer->name);
        else
            printf("     f32 %7.2f%%  %s %s\n", 100 * layer->result_error, layer->op, layer->name);
    }
    printf("        %8.2f%%  first output\n\nthe greatest value is in the same place in %lld of %lld rows (%.2f%%)\n",
           100 * r->output_error, (long long)r->agreeing, (long long)r->rows,
           r->rows ? 100 * (double)r->agreeing / (double)r->rows : 0);
}

static bool print_as_json(const cr_quantize_report *r) {
    json_t *layers = json_array();
    for (int i = 0; i < r->layer_count; i++) {
        const cr_quantize_layer *l = &r->layers[i];
        json_array_append_new(layers, json_pack("{s:s, s:s, s:b, s:f, s:f}", "name", l->name, "op", l->op, "quantized",
                                                l->is_quantized, "weight_error", l->weight_error, "result_error",
                                                l->result_error));
    }
    json_t *all = json_pack("{s:o, s:f, s:I, s:I}", "layers", layers, "output_error", r->output_error, "rows",
                            (json_int_t)r->rows, "agreeing", (json_int_t)r->agreeing);
    if (!all) return cr_fail(CR_ERROR_MEMORY, "quantize: the report does not fit in memory");
    print_json(all);
    json_decref(all);
    return true;
}

static bool report(samples *d, const cr_graph *quantized) {
    d->doing = "comparing";
    cr_quantize_report *r = cr_jit_quantize_compare(d->p->graph, quantized, next_batch, d);
    if (!r) return false;
    if (!d->s->as_json) print_report(r, d);
    const bool done = !d->s->as_json || print_as_json(r);
    cr_quantize_report_free(r);
    return done;
}

/* ---------------------------------------------------------------- the command */
static cr_dtype weights_dtype(const settings *s) { return strcmp(s->weights, "i8") == 0 ? CR_I8 : CR_BF16; }

static double state_megabytes(const cr_graph *graph) {
    double bytes = 0;
    for (int i = 0; i < cr_jit_state_count(graph); i++) {
        cr_tensor *t = cr_jit_state(graph, i);
        bytes += (double)cr_numel(t) * (double)cr_dtype_size(cr_dtype_of(t));
    }
    return bytes / 1e6;
}

static bool quantize(samples *d) {
    char keep[LIST_TEXT] = "";
    size_t used = 0;
    const settings *s = d->s;
    for (int i = 0; i < s->keep.count && used < sizeof keep; i++)
        used += (size_t)snprintf(keep + used, sizeof keep - used, "%s,", s->keep.at[i]);
    if (used >= sizeof keep) return cr_fail(CR_ERROR_ARGUMENT, "quantize: --keep names more than fits");
    if (s->data && !open_samples(d)) return false;
    d->doing = "calibrating";
    cr_graph *quantized =
        s->weights ? cr_jit_quantize_weights(d->p->graph, .dtype = weights_dtype(s), .keep = keep)
                   : cr_jit_quantize(d->p->graph, next_batch, d, .method = s->method, .percentile = s->percentile,
                                     .per_channel = !s->per_tensor, .keep = keep);
    bool done = quantized && (program_is_onnx(s->output) ? cr_onnx_export(quantized, s->output, .opset = s->opset)
                                                         : cr_jit_save(quantized, s->output));
    if (done && s->weights && !s->as_json)
        printf("parameters and constants: %.4g MB, were %.4g MB\n", state_megabytes(quantized),
               state_megabytes(d->p->graph));
    if (done && s->data && !s->no_report) done = report(d, quantized);
    cr_jit_free(quantized);
    return done;
}

static int run_quantize(int argc, char **argv) {
    settings s = {.method = "mse",
                  .percentile = 99.99,
                  .count = 256,
                  .batch = 8,
                  .opset = 18,
                  .pictures = {.mean_text = "0", .std_text = "1"}};
    const char *path = NULL;
    program p;
    const option_row rows[] = {{"output", OPTION_TEXT, &s.output, .letter = 'o'},
                               {"data", OPTION_TEXT, &s.data},
                               {"weights", OPTION_TEXT, &s.weights},
                               {"mean", OPTION_TEXT, &s.pictures.mean_text},
                               {"std", OPTION_TEXT, &s.pictures.std_text},
                               {"count", OPTION_COUNT, &s.count, 1, 1 << 30},
                               {"batch", OPTION_COUNT, &s.batch, 1, 1024},
                               {"method", OPTION_TEXT, &s.method},
                               {"percentile", OPTION_NUMBER, &s.percentile, 50, 100},
                               {"per-tensor", OPTION_FLAG, &s.per_tensor},
                               {"keep", OPTION_LIST, &s.keep},
                               {"opset", OPTION_COUNT, &s.opset, 13, 23},
                               {"size", OPTION_LIST, &s.sizes},
                               {"no-report", OPTION_FLAG, &s.no_report},
                               {"json", OPTION_FLAG, &s.as_json}};
    int status = read_options(&command_quantize, argc, argv, rows, sizeof rows / sizeof *rows, &path, "PROGRAM");
    if (status >= 0) return status;
    if (!s.output) return bad_usage(&command_quantize, "-o OUTPUT is missing");
    if (!s.data && !s.weights)
        return bad_usage(&command_quantize, "--data PATH is missing: a folder of pictures, or a .npy file");
    if (s.weights && strcmp(s.weights, "bf16") != 0 && strcmp(s.weights, "i8") != 0)
        return bad_usage(&command_quantize, "--weights is \"%s\"; it is bf16 or i8", s.weights);
    if (strcmp(s.method, "mse") != 0 && strcmp(s.method, "percentile") != 0 && strcmp(s.method, "minmax") != 0)
        return bad_usage(&command_quantize, "--method is \"%s\"; it is mse, percentile or minmax", s.method);
    status = read_picture_settings(&command_quantize, &s.pictures);
    if (status < 0) status = program_open(&p, &command_quantize, path, &s.sizes);
    if (status >= 0) return status;
    CR_SCOPE {
        samples d = {.p = &p, .s = &s};
        quantize(&d);
        cr_data_dataset_free(d.folder);
    }
    program_close(&p);
    return cr_report(stderr);
}
