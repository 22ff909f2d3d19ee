/* The command line. */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Teaches two networks to draw: one paints small pictures from noise, the other learns to tell them from real "
    "ones.\n"
    "\n"
    "usage: dcgan [options]\n"
    "  --data FOLDER     any images, also in sub-folders (default: some 2,000 emoji of fonts-noto-color-emoji: faces,\n"
    "                    people, hands, hearts, animals' heads, flags, clocks)\n"
    "  --all             all 3,926 emoji, small figures and things too\n"
    "  --image-size N    32 (default) or 64\n"
    "  --epochs N        passes over the images (default 40)\n"
    "  --batch N         images in a step (default 8: many small steps make pictures sooner)\n"
    "  --features N      width of the networks (default 32; the paper has 64)\n"
    "  --latent N        numbers that a picture is painted from (default 100)\n"
    "  --device NAME     cpu, cuda, cuda:1 (default: the best one here)\n"
    "  --workers N       threads that load images (default 1)\n"
    "  --seed N          the same seed gives the same pictures (default 42)\n"
    "  --show N          steps from one grid of samples to the next (default 250)\n"
    "  --steps N         stop after so many steps in all (default 0: no limit)\n"
    "  --out FOLDER      where everything is written (default runs/dcgan)\n"
    "  --resume          go on from the newest checkpoint in FOLDER\n"
    "\n"
    "It leaves samples-STEP.png, samples.gif, losses.png, generator.safetensors, generator-program.safetensors (the "
    "traced generator), samples-from-program.png (drawn by what was loaded from it), a checkpoint for each of the last "
    "three\n"
    "epochs, and TensorBoard events. Ctrl-C saves and ends; --resume then continues as if nothing had happened.\n"
    "Under SageMaker, SM_CHANNEL_TRAINING, SM_OUTPUT_DATA_DIR, SM_MODEL_DIR (for generator.safetensors and "
    "generator-program.safetensors) and "
    "SM_HP_EPOCHS,\n"
    "SM_HP_BATCH, SM_HP_IMAGE_SIZE, … are the defaults.\n";

/* Options that are whole numbers: --name, or SM_HP_NAME. */
static const struct number {
    const char *name;
    size_t place; /* in struct options */
    int64_t otherwise, least, most;
} numbers[] = {
    {"image-size", offsetof(options, image_size), 32, 32, 64}, {"epochs", offsetof(options, epochs), 40, 1, 1000000},
    {"batch", offsetof(options, batch), 8, 2, 65536},          {"features", offsetof(options, features), 32, 1, 4096},
    {"latent", offsetof(options, latent), 100, 1, 65536},      {"workers", offsetof(options, workers), 1, 0, 256},
    {"show", offsetof(options, show), 250, 1, INT64_MAX},      {"steps", offsetof(options, steps), 0, 0, INT64_MAX},
    {"seed", offsetof(options, seed), 42, 0, INT64_MAX},
};
enum { NUMBERS = sizeof numbers / sizeof *numbers };

/* From 1000 on, what getopt_long returns for numbers[i]. */
enum { FIRST_NUMBER = 1000 };

/* `prefix` and `name` say where the text is from. */
static bool read_number(options *o, const struct number *number, const char *prefix, const char *name,
                        const char *text) {
    char *end;
    errno = 0;
    const long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || isspace((unsigned char)*text) || value < number->least ||
        value > number->most) {
        fprintf(stderr, "dcgan: %s%s is \"%s\"; a whole number from %lld to %lld is needed\n", prefix, name, text,
                (long long)number->least, (long long)number->most);
        return false;
    }
    *(int64_t *)((char *)o + number->place) = value;
    return true;
}

/* The defaults, or SageMaker's hyperparameters: --image-size is SM_HP_IMAGE_SIZE. */
static bool read_environment(options *o) {
    const char *out = getenv("SM_OUTPUT_DATA_DIR"), *model = getenv("SM_MODEL_DIR");
    *o = (options){.data = getenv("SM_CHANNEL_TRAINING"),
                   .out = out ? out : "runs/dcgan",
                   .model = model,
                   .device = cr_device_best()};
    for (int i = 0; i < NUMBERS; i++) {
        char name[32] = "SM_HP_";
        for (size_t at = 0; numbers[i].name[at]; at++)
            name[6 + at] = numbers[i].name[at] == '-' ? '_' : (char)toupper((unsigned char)numbers[i].name[at]);
        const char *text = getenv(name);
        *(int64_t *)((char *)o + numbers[i].place) = numbers[i].otherwise;
        if (text && !read_number(o, &numbers[i], "", name, text)) return false;
    }
    return true;
}

static int refuse(const char *what, const char *value) {
    fprintf(stderr, "dcgan: %s %s; try --help\n", what, value);
    return 2;
}

int options_read(options *o, int argc, char **argv) {
    struct option names[NUMBERS + 7] = {{"data", 1, 0, 'd'}, {"out", 1, 0, 'o'},    {"device", 1, 0, 'D'},
                                        {"all", 0, 0, 'a'},  {"resume", 0, 0, 'r'}, {"help", 0, 0, 'h'}};
    for (int i = 0; i < NUMBERS; i++)
        names[6 + i] = (struct option){numbers[i].name, 1, 0, FIRST_NUMBER + i};
    if (!read_environment(o)) return 2;
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 0;
        if (c == '?') return refuse("cannot read", argv[optind - 1]);
        if (c == 'a')
            o->all = true;
        else if (c == 'r')
            o->resume = true;
        else if (c == 'd')
            o->data = optarg;
        else if (c == 'o')
            o->out = optarg;
        else if (c == 'D' && !cr_device_parse(optarg, &o->device))
            return cr_report(stderr), 2;
        else if (c >= FIRST_NUMBER &&
                 !read_number(o, &numbers[c - FIRST_NUMBER], "--", numbers[c - FIRST_NUMBER].name, optarg))
            return 2;
    }
    if (optind < argc) return refuse("no place for", argv[optind]);
    if (o->image_size == 32 || o->image_size == 64) return -1;
    fprintf(stderr, "dcgan: --image-size is %lld; 32 and 64 can be had\n", (long long)o->image_size);
    return 2;
}
