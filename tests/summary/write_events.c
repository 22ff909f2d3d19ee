/* Writes event files of every kind into the folder given, and the tensors behind them as .npy, for
 * tests/reference/check_events.py to read back with TensorBoard's own reader. */
#include <cresset.h>

#include <math.h>

enum { SCALARS = 500, HISTOGRAMS = 24, IMAGES = 4 };

static cr_generator *generator;

/* Numbers in [0, 1), the same in every run. */
static double uniform(void) {
    uint32_t numbers[4];
    cr_philox(cr_generator_reserve(generator, 1), 0, numbers);
    return numbers[0] / 4294967296.0;
}

static void save(const char *folder, const char *name, int index, const cr_tensor *t) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s_%d.npy", folder, name, index);
    cr_npy_save(path, t);
}

static void write_scalars(cr_summary_writer *writer) {
    for (int i = 0; i < SCALARS; i++) {
        cr_summary_scalar(writer, "loss/d", sin(0.1 * i), i);
        cr_summary_scalar(writer, "loss/g", 1e-3 * i * i, 10 * (int64_t)i);
        cr_summary_scalars(writer, "both/losses", i, {"d", 0.5 * i}, {"g", -0.25 * i});
    }
    cr_summary_scalar(writer, "special", NAN, 0);
    cr_summary_scalar(writer, "special", INFINITY, 1);
    cr_summary_scalar(writer, "special", 0, (int64_t)1 << 40);
    cr_summary_scalar(writer, "Größe/μ", 1.5, 7);
}

/* Values from tiny to huge, of both signs, and dtypes in turn. */
static cr_tensor *histogram_values(int index) {
    static const cr_dtype dtypes[] = {CR_F32, CR_F64, CR_I32, CR_U8, CR_F16, CR_BF16};
    const double scale = pow(10, index % 12 - 4);
    cr_tensor *wide = cr_empty(CR_F64, CR_SHAPE(1 + 97 * index, 3), CR_CPU);
    double *values = wide ? cr_data(wide) : NULL;
    for (int64_t i = 0; i < cr_numel(wide); i++)
        values[i] = (uniform() - (index % 3) * 0.4) * scale;
    if (wide && index % 4 == 3) values[0] = values[1] = 0;
    const cr_dtype dtype = dtypes[index % 6];
    cr_tensor *t = cr_empty(dtype, cr_shape_of(wide), CR_CPU);
    for (int64_t i = 0; t && i < cr_numel(t); i++) {
        void *place = (char *)cr_data(t) + (size_t)i * cr_dtype_size(dtype);
        if (dtype == CR_F64)
            *(double *)place = values[i];
        else if (dtype == CR_F32)
            *(float *)place = (float)values[i];
        else if (dtype == CR_I32)
            *(int32_t *)place = (int32_t)(values[i] * 10);
        else if (dtype == CR_U8)
            *(uint8_t *)place = (uint8_t)(fabs(values[i]) > 255 ? 255 : fabs(values[i]));
        else
            *(uint16_t *)place = (uint16_t)(uniform() * 0x7000); /* bits of finite halves */
    }
    return t;
}

/* .npy has no bf16: what is saved beside the event is always f64. */
static cr_tensor *as_f64(const cr_tensor *t) {
    cr_tensor *wide = cr_empty(CR_F64, cr_shape_of(t), CR_CPU);
    double *values = wide ? cr_data(wide) : NULL;
    for (int64_t i = 0; i < cr_numel(wide); i++)
        values[i] = cr_at(t, CR_SHAPE(i / 3, i % 3));
    return wide;
}

static void write_histograms(cr_summary_writer *writer, const char *folder) {
    for (int i = 0; i < HISTOGRAMS && cr_ok(); i++) {
        CR_SCOPE {
            cr_tensor *t = histogram_values(i);
            cr_summary_histogram(writer, "weights", t, i);
            save(folder, "histogram", i, as_f64(t));
        }
    }
}

static cr_tensor *random_image(cr_dtype dtype, cr_shape shape) {
    cr_tensor *t = cr_empty(dtype, shape, CR_CPU);
    for (int64_t i = 0; t && i < cr_numel(t); i++) {
        if (dtype == CR_U8)
            ((uint8_t *)cr_data(t))[i] = (uint8_t)(256 * uniform());
        else
            ((float *)cr_data(t))[i] = (float)(1.4 * uniform() - 0.2);
    }
    return t;
}

static void write_images(cr_summary_writer *writer, const char *folder) {
    cr_tensor *images[IMAGES] = {random_image(CR_U8, CR_SHAPE(3, 17, 23)), random_image(CR_F32, CR_SHAPE(1, 8, 5)),
                                 random_image(CR_U8, CR_SHAPE(9, 31, 4)), random_image(CR_F32, CR_SHAPE(12, 13))};
    static const char *const layouts[IMAGES] = {"CHW", "CHW", "HWC", "HW"};
    for (int i = 0; i < IMAGES; i++) {
        cr_summary_image(writer, "image", images[i], i, .layout = layouts[i]);
        save(folder, "image", i, images[i]);
    }
    cr_tensor *batch = random_image(CR_U8, CR_SHAPE(7, 3, 6, 10));
    cr_summary_images(writer, "grid", batch, 0);
    cr_summary_images(writer, "grid", batch, 1, .columns = 4, .padding = 1);
    save(folder, "batch", 0, batch);
}

static void write_rest(cr_summary_writer *writer) {
    cr_summary_text(writer, "note", "a *first* note", 0);
    cr_summary_text(writer, "note", "| é | 日本 |\n|---|---|\n| 1 | 2 |", 5);
    cr_summary_hparams(writer,
                       (cr_summary_hparam[]){{.name = "lr", .number = 2e-4}, {.name = "optimizer", .text = "adam"}}, 2,
                       (cr_summary_value[]){{"hparam/accuracy", 0.75}}, 1);
}

/* A traced net, for the graph to be read back. */
static void write_graph(cr_summary_writer *writer) {
    cr_nn_module *net = cr_nn_eval(cr_nn_sequential(cr_nn_sequential(cr_nn_conv2d(3, 8, 3, .padding = 1), cr_nn_relu()),
                                                    cr_nn_flatten(), cr_nn_linear(8 * 16, 10)));
    CR_SCOPE {
        cr_graph *graph = cr_jit_trace(net, cr_zeros(CR_F32, CR_SHAPE(2, 3, 4, 4), CR_CPU), .dynamic_batch = true,
                                       .input_names = "image", .output_names = "logits");
        cr_summary_graph(writer, graph);
        cr_jit_free(graph);
    }
    cr_nn_free(net);
}

int main(int count, char **arguments) {
    if (count != 2) {
        fprintf(stderr, "usage: %s FOLDER\n", arguments[0]);
        return 2;
    }
    generator = cr_generator_new(1);
    cr_summary_writer *writer = cr_summary_writer_open(arguments[1], .buffer_bytes = 4096);
    write_scalars(writer);
    write_histograms(writer, arguments[1]);
    write_images(writer, arguments[1]);
    write_rest(writer);
    write_graph(writer);
    cr_summary_close(writer);
    cr_generator_free(generator);
    return cr_report(stderr);
}
