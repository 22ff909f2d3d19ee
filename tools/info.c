/* cresset info: what this build is, and what it finds here. */
#include "command.h"
#include "json.h"

#include <string.h>

static int run_info(int argc, char **argv);
const command command_info = {"info",
                              "the build, devices, instruction sets, threads, and the compiler of fused kernels",
                              "Says what this build of Cresset is and what it finds on this machine.\n"
                              "\n"
                              "usage: cresset info [--json]\n"
                              "  --json    for programs to read\n"
                              "\n"
                              "examples:\n"
                              "  cresset info\n"
                              "  CR_CPU=baseline cresset info        # as if the processor could do no more\n"
                              "  cresset info --json | jq .devices\n",
                              run_info};

static json_t *json_devices(void) {
    json_t *devices = json_array();
    for (int type = 0; type < CR_DEVICE_TYPE_COUNT; type++)
        for (int i = 0; i < cr_device_count((cr_device_type)type); i++) {
            char name[16];
            json_array_append_new(devices, json_string(cr_device_name((cr_device){(int16_t)type, (int16_t)i}, name)));
        }
    return devices;
}

static json_t *describe(void) {
    json_t *info = json_object();
    int count;
    const cr_text_pair *build = cr_build_info(&count);
    char *folder = cr_jit_cache_folder();
    for (int i = 0; i < count; i++)
        json_object_set_new(info, build[i].key, json_string(build[i].value));
    json_object_set_new(info, "devices", json_devices());
    if (cr_device_count(CR_DEVICE_CUDA) == 0 && cr_device_absence(CR_DEVICE_CUDA))
        json_object_set_new(info, "no cuda", json_string(cr_device_absence(CR_DEVICE_CUDA)));
    json_object_set_new(info, "instruction set in use", json_string(cr_cpu_capability()));
    json_object_set_new(info, "threads in use", json_integer(cr_num_threads()));
    json_object_set_new(
        info, "kernel compiler",
        json_string(cr_jit_compiler() ? cr_jit_compiler() : "none: kernels are interpreted (CR_CC=none)"));
    json_object_set_new(info, "kernel cache", json_string(folder ? folder : "none: set CR_CACHE_DIR"));
    cr_clear_error(); /* no folder is an answer */
    cr_free(folder);
    return info;
}

static void print_value(const char *key, const json_t *value) {
    printf("%-24s", key);
    if (json_is_integer(value)) printf("%lld", (long long)json_integer_value(value));
    if (json_is_string(value)) printf("%s", json_string_value(value));
    for (size_t i = 0; i < json_array_size(value); i++)
        printf("%s%s", i ? " " : "", json_string_value(json_array_get(value, i)));
    printf("\n");
}

static int run_info(int argc, char **argv) {
    bool as_json = false;
    const option_row rows[] = {{"json", OPTION_FLAG, &as_json}};
    const int status = read_options(&command_info, argc, argv, rows, 1, NULL, NULL);
    if (status >= 0) return status;
    json_t *info = describe();
    const char *key;
    json_t *value;
    if (as_json)
        print_json(info);
    else
        json_object_foreach(info, key, value) print_value(key, value);
    json_decref(info);
    return cr_report(stderr);
}
