/* The command line. */
#include "options.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "Teaches two networks to draw: one paints small pictures from noise, the other learns to tell them from real ones.\n"
    "\n"
    "usage: dcgan [options]\n"
    "  --data FOLDER     any images, also in sub-folders (default: the emoji of fonts-noto-color-emoji)\n"
    "  --image-size N    32 (default) or 64\n"
    "  --epochs N        passes over the images (default 25)\n"
    "  --batch N         images in a step (default 64)\n"
    "  --features N      width of the networks (default 32; the paper has 64)\n"
    "  --latent N        numbers that a picture is painted from (default 64)\n"
    "  --device NAME     cpu, cuda, cuda:1 (default: the best one here)\n"
    "  --workers N       threads that load images (default 1)\n"
    "  --seed N          the same seed gives the same pictures (default 42)\n"
    "  --steps N         stop after so many steps in all (default: no limit)\n"
    "  --out FOLDER      where everything is written (default runs/dcgan)\n"
    "  --resume          go on from the checkpoint in FOLDER\n"
    "\n"
    "It leaves samples-EPOCH.png, samples.gif, losses.png, checkpoint.safetensors and TensorBoard events. Ctrl-C saves and\n"
    "ends; --resume then continues as if nothing had happened. Under SageMaker, SM_CHANNEL_TRAINING, SM_OUTPUT_DATA_DIR,\n"
    "SM_MODEL_DIR and SM_HP_EPOCHS, SM_HP_BATCH, … are the defaults.\n";

/* A number from SM_HP_NAME, else `otherwise`. */
static int hyperparameter(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text && atoi(text) > 0 ? atoi(text) : otherwise;
}

static int refuse(const char *what, const char *value) {
    fprintf(stderr, "dcgan: %s %s; try --help\n", what, value);
    return 2;
}

int options_read(options *o, int argc, char **argv) {
    static const struct option names[] = {
        {"data", 1, 0, 'd'},    {"image-size", 1, 0, 'i'}, {"epochs", 1, 0, 'e'},  {"batch", 1, 0, 'b'}, {"features", 1, 0, 'f'},
        {"latent", 1, 0, 'l'},  {"device", 1, 0, 'D'},     {"workers", 1, 0, 'w'}, {"seed", 1, 0, 's'},  {"steps", 1, 0, 'n'},
        {"out", 1, 0, 'o'},     {"resume", 0, 0, 'r'},     {"help", 0, 0, 'h'},    {0, 0, 0, 0}};
    const char *out = getenv("SM_OUTPUT_DATA_DIR");
    *o = (options){.data = getenv("SM_CHANNEL_TRAINING"), .out = out ? out : "runs/dcgan", .model = getenv("SM_MODEL_DIR"),
                   .device = cr_device_best(), .image_size = hyperparameter("SM_HP_IMAGE_SIZE", 32), .epochs = hyperparameter("SM_HP_EPOCHS", 25),
                   .batch = hyperparameter("SM_HP_BATCH", 64), .features = hyperparameter("SM_HP_FEATURES", 32),
                   .latent = hyperparameter("SM_HP_LATENT", 64), .workers = 1, .seed = (unsigned long)hyperparameter("SM_HP_SEED", 42)};
    int *const numbers[] = {['i'] = &o->image_size, ['e'] = &o->epochs, ['b'] = &o->batch, ['f'] = &o->features,
                            ['l'] = &o->latent,     ['w'] = &o->workers, ['n'] = &o->steps};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 0;
        if (c == 'r') o->resume = true;
        else if (c == 'd') o->data = optarg;
        else if (c == 'o') o->out = optarg;
        else if (c == 's') o->seed = strtoul(optarg, NULL, 10);
        else if (c == 'D') {
            if (!cr_device_parse(optarg, &o->device)) return cr_report(stderr), 2;
        } else if (c == '?') {
            return refuse("cannot read", argv[optind - 1]);
        } else {
            char *end;
            const long value = strtol(optarg, &end, 10);
            if (*end || value < (c == 'w' ? 0 : 1) || value > 1000000) return refuse("not a number that can be used:", optarg);
            *numbers[c] = (int)value;
        }
    }
    if (optind < argc) return refuse("no place for", argv[optind]);
    if (o->image_size != 32 && o->image_size != 64) return refuse("--image-size is 32 or 64, not", argc ? "another size" : "");
    if (o->batch < 2) return refuse("--batch must be 2 or more:", "batch norm needs it");
    return -1;
}
