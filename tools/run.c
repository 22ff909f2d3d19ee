/* cresset run: a program on files. */
#include "json.h"
#include "pictures.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { SHOWN_MOST = 1000 };

static int run_run(int argc, char **argv);
const command command_run = {
    "run", "a program on .npy files and pictures; results as JSON, .npy or pictures",
    "Runs a saved program once.\n"
    "\n"
    "usage: cresset run PROGRAM [options]\n"
    "  --input NAME=FILE    .npy, or a picture (PNG, JPEG, BMP), which becomes f32 [1,channels,height,width] of 0 … "
    "1;\n"
    "                       or randn, rand, zeros, ones in place of a file. NAME= may be left out where there is one "
    "input\n"
    "  --output NAME=FILE   .npy; .png or .jpg: pictures [count,channels,height,width] in a grid; .json: all values. "
    "NAME=\n"
    "                       may be left out where there is one output\n"
    "  --mean M --std S     pictures become (x - M) / S; one number, or one for each channel: 0.485,0.456,0.406\n"
    "  --range LOW,HIGH     what is black and white in output pictures (0,1)\n"
    "  --top K              in JSON the K greatest values of each row and their places, not all values\n"
    "  --size NAME=N        a size that may differ, for inputs that are not files (again for each)\n"
    "  --seed N             of randn, rand and random ops (42)\n"
    "  --threads N          for the run (all that there are)\n"
    "\n"
    "Without --output, all outputs go to standard output as JSON; those of more than 1,000 elements are summed up.\n"
    "\n"
    "examples:\n"
    "  cresset run digits.safetensors --input seven.png --top 3\n"
    "  cresset run net.safetensors --input image=photo.jpg --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225 --output "
    "y.npy\n"
    "  cresset run generator.safetensors --input randn --size batch=64 --output faces.png --range -1,1\n",
    run_run};

typedef struct settings {
    text_list inputs, outputs, sizes;
    const char *range_text;
    float range[CHANNELS_MOST];
    picture_settings pictures;
    int64_t top, seed, threads;
} settings;

/* ---------------------------------------------------------------- options */
static int read_lists(settings *s) {
    const int status = read_picture_settings(&command_run, &s->pictures);
    if (status >= 0) return status;
    if (read_numbers(s->range_text, s->range) != 2 || !(s->range[0] < s->range[1]))
        return bad_usage(&command_run, "--range is \"%s\"; LOW,HIGH is needed, such as -1,1", s->range_text);
    return -1;
}

static bool ends_in(const char *name, const char *ending) {
    const size_t length = strlen(name), tail = strlen(ending);
    return length > tail && !strcasecmp(name + length - tail, ending);
}
static bool is_picture(const char *name) {
    return ends_in(name, ".png") || ends_in(name, ".jpg") || ends_in(name, ".jpeg") || ends_in(name, ".bmp");
}
static bool is_word(const char *name) {
    return !strcmp(name, "randn") || !strcmp(name, "rand") || !strcmp(name, "zeros") || !strcmp(name, "ones");
}

/* ---------------------------------------------------------------- inputs */
/* Arrays of another precision are converted, as NumPy's default is f64; anything else is an error of the run. */
static cr_tensor *read_array(const program *p, int index, const char *path) {
    const cr_dtype wanted = cr_jit_input_dtype(p->graph, index);
    cr_tensor *t = cr_npy_load(path);
    if (!t) return NULL;
    const cr_dtype given = cr_dtype_of(t);
    const bool fits = (cr_dtype_is_floating(given) && cr_dtype_is_floating(wanted)) ||
                      (cr_dtype_is_integral(given) && cr_dtype_is_integral(wanted));
    return fits && given != wanted ? cr_cast(t, wanted) : t;
}

/* Sizes that the files have go for the other inputs as well. */
static void adopt_sizes(program *p, int index) {
    for (int d = 0; d < cr_ndim(p->inputs[index]) && d < cr_jit_input_shape(p->graph, index).count; d++) {
        const int symbol = cr_jit_input_symbol(p->graph, index, d);
        if (symbol >= 0) p->sizes[symbol] = cr_size(p->inputs[index], d);
    }
}

static int refuse_name(const program *p, const char *option, const char *text, bool outputs) {
    char names[1024];
    program_names(p, outputs, names, sizeof names);
    return bad_usage(&command_run, "%s \"%s\": NAME=FILE is needed, with a NAME among: %s", option, text, names);
}

/* Files first (`words` false), then what is made to fit them. */
static int read_inputs(program *p, const settings *s, bool words) {
    for (int i = 0; i < s->inputs.count; i++) {
        const char *file;
        const int index = program_split(p, s->inputs.at[i], false, &file);
        if (index < 0) return refuse_name(p, "--input", s->inputs.at[i], false);
        if (is_word(file) != words) continue;
        if (p->inputs[index])
            return bad_usage(&command_run, "--input %s is given twice", cr_jit_input_name(p->graph, index));
        p->inputs[index] = words              ? program_make_input(p, index, file)
                           : is_picture(file) ? read_picture(p, &s->pictures, index, file)
                                              : read_array(p, index, file);
        if (!p->inputs[index]) return cr_report(stderr);
        adopt_sizes(p, index);
    }
    for (int i = 0; words && i < cr_jit_input_count(p->graph); i++)
        if (!p->inputs[i])
            return bad_usage(&command_run, "--input %s=FILE is missing (zeros, ones, rand and randn need no file)",
                             cr_jit_input_name(p->graph, i));
    return -1;
}

/* ---------------------------------------------------------------- outputs */
static bool save_picture(cr_tensor *t, const char *path, const settings *s) {
    if (cr_ndim(t) == 2) t = cr_unsqueeze(t, 0);
    if (cr_dtype_of(t) == CR_U8) return cr_vision_save_image(t, path);
    return cr_vision_save_image(cr_cast(t, CR_F32), path, .normalize = true, .low = s->range[0], .high = s->range[1]);
}

static bool save_json(cr_tensor *t, const char *path, int64_t top) {
    json_t *value = json_tensor(t, top, 0);
    const bool done = value && (json_dump_file(value, path, JSON_REAL_PRECISION(9)) == 0 ||
                                cr_fail(CR_ERROR_IO, "run: %s cannot be written", path));
    json_decref(value);
    return done;
}

static bool save(cr_tensor *t, const char *path, const settings *s) {
    if (ends_in(path, ".npy")) return cr_npy_save(path, t);
    return ends_in(path, ".json") ? save_json(t, path, s->top) : save_picture(t, path, s);
}

static int check_outputs(const program *p, const settings *s) {
    for (int i = 0; i < s->outputs.count; i++) {
        const char *file;
        if (program_split(p, s->outputs.at[i], true, &file) < 0)
            return refuse_name(p, "--output", s->outputs.at[i], true);
        if (!ends_in(file, ".npy") && !ends_in(file, ".json") && !ends_in(file, ".png") && !ends_in(file, ".jpg") &&
            !ends_in(file, ".jpeg"))
            return bad_usage(&command_run, "--output %s: the name must end in .npy, .json, .png or .jpg", file);
    }
    return -1;
}

static bool print_outputs(const program *p, cr_tensor *const *outputs, const settings *s) {
    json_t *all = json_object();
    bool done = true;
    for (int i = 0; done && i < cr_jit_output_count(p->graph); i++) {
        json_t *value = json_tensor(outputs[i], s->top, SHOWN_MOST);
        done = value && (json_object_set_new(all, cr_jit_output_name(p->graph, i), value) == 0 ||
                         cr_fail(CR_ERROR_FORMAT, "run: the name of output %d is not UTF-8", i));
    }
    if (done) print_json(all);
    json_decref(all);
    return done;
}

static bool deliver(const program *p, cr_tensor *const *outputs, const settings *s) {
    if (!s->outputs.count) return print_outputs(p, outputs, s);
    for (int i = 0; i < s->outputs.count; i++) {
        const char *file;
        const int index = program_split(p, s->outputs.at[i], true, &file);
        if (!save(outputs[index], file, s)) return false;
    }
    return true;
}

/* ---------------------------------------------------------------- the command */
static int run_program(program *p, const settings *s) {
    cr_tensor *outputs[INPUTS_MOST] = {NULL};
    int status = check_outputs(p, s);
    if (status < 0) status = read_inputs(p, s, false);
    if (status < 0) status = read_inputs(p, s, true);
    if (status >= 0) return status;
    if (cr_jit_run(p->graph, p->inputs, cr_jit_input_count(p->graph), outputs, cr_jit_output_count(p->graph)))
        deliver(p, outputs, s);
    return cr_report(stderr);
}

static int run_run(int argc, char **argv) {
    settings s = {
        .pictures = {.mean_text = "0", .std_text = "1"}, .range_text = "0,1", .seed = 42, .threads = cr_num_threads()};
    const char *path = NULL;
    program p;
    const option_row rows[] = {
        {"input", OPTION_LIST, &s.inputs},
        {"output", OPTION_LIST, &s.outputs},
        {"size", OPTION_LIST, &s.sizes},
        {"mean", OPTION_TEXT, &s.pictures.mean_text},
        {"std", OPTION_TEXT, &s.pictures.std_text},
        {"range", OPTION_TEXT, &s.range_text},
        {"top", OPTION_COUNT, &s.top, 1, 1 << 20},
        {"seed", OPTION_COUNT, &s.seed, 0, 9e18},
        {"threads", OPTION_COUNT, &s.threads, 1, 1024},
    };
    int status = read_options(&command_run, argc, argv, rows, sizeof rows / sizeof *rows, &path, "PROGRAM");
    if (status < 0) status = read_lists(&s);
    if (status < 0) status = program_open(&p, &command_run, path, &s.sizes);
    if (status >= 0) return status;
    cr_manual_seed((uint64_t)s.seed);
    cr_set_num_threads((int)s.threads);
    CR_SCOPE {
        status = run_program(&p, &s);
    }
    program_close(&p);
    return status;
}
