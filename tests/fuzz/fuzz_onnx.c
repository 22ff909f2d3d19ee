/* libFuzzer's way into the reader of ONNX models: whatever the bytes are, they are refused with an error, or are a module and
 * perhaps a graph. Nothing may be left. */
#define _GNU_SOURCE
#include <cresset.h>

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64];
    const int file = memfd_create("model", 0);
    if (file < 0 || write(file, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", file);
    setenv("CR_CC", "none", 1);
    cr_memory_set_limit(256 << 20);
    CR_SCOPE {
        cr_nn_module *module = cr_onnx_import_module(path);
        if (!module && cr_ok()) abort();
        cr_nn_free(module);
        cr_clear_error();
        cr_graph *graph = module ? cr_onnx_import(path) : NULL;
        if (module && !graph && cr_ok()) abort();
        cr_jit_free(graph);
    }
    cr_clear_error();
    close(file);
    if (cr_memory_stats().live_bytes) abort();
    return 0;
}
