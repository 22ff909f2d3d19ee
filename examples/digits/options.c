/* The command line. */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdlib.h>

static const char help[] =
    "Teaches a small network to read digits, and says how many it reads in fonts that it never saw.\n"
    "\n"
    "usage: digits [options]\n"
    "  --data FOLDER   MNIST's files, also with .gz (default: digits drawn from the fonts of this machine)\n"
    "  --epochs N      passes over the images (default 5)\n"
    "  --count N       drawn digits in an epoch (default 8000)\n"
    "  --batch N       images in a step (default 64)\n"
    "  --device NAME   cpu, cuda, cuda:1 (default: the best one here)\n"
    "  --workers N     threads that load images (default 1)\n"
    "  --seed N        the same seed gives the same model (default 1)\n"
    "  --out FILE      where the model goes (default digits.safetensors)\n";

static int refuse(const char *what, const char *value) {
    fprintf(stderr, "digits: %s %s; try --help\n", what, value);
    return 2;
}

int options_read(options *o, int argc, char **argv) {
    static const struct option names[] = {{"data", 1, 0, 'd'},  {"epochs", 1, 0, 'e'}, {"count", 1, 0, 'c'},
                                          {"batch", 1, 0, 'b'}, {"device", 1, 0, 'D'}, {"workers", 1, 0, 'w'},
                                          {"seed", 1, 0, 's'},  {"out", 1, 0, 'o'},    {"help", 0, 0, 'h'},
                                          {0, 0, 0, 0}};
    int seed = 1;
    *o = (options){
        .out = "digits.safetensors", .device = cr_device_best(), .epochs = 5, .batch = 64, .count = 8000, .workers = 1};
    int *const numbers[] = {
        ['e'] = &o->epochs, ['c'] = &o->count, ['b'] = &o->batch, ['w'] = &o->workers, ['s'] = &seed};
    opterr = 0;
    for (int c; (c = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (c == 'h') return fputs(help, stdout), 0;
        if (c == '?') return refuse("cannot read", argv[optind - 1]);
        if (c == 'd')
            o->data = optarg;
        else if (c == 'o')
            o->out = optarg;
        else if (c == 'D') {
            if (!cr_device_parse(optarg, &o->device)) return cr_report(stderr), 2;
        } else {
            char *end;
            const long least = c == 'w' || c == 's' ? 0 : 1, value = strtol(optarg, &end, 10);
            if (end == optarg || *end || value < least || value > 1000000)
                return refuse("not a number that can be used:", optarg);
            *numbers[c] = (int)value;
        }
    }
    o->seed = (unsigned long)seed;
    return optind < argc ? refuse("no place for", argv[optind]) : -1;
}
