/* libFuzzer's way into what a program's file holds for its plans. The bytes are its lines, behind a first one that is right;
 * the first byte says which tensor of the file is of another size or dtype. Whatever they are, the program is refused with an
 * error or runs. */
#include <cresset.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { ROWS = 16, HEAD = 128 };
static struct {
    char path[64], head[HEAD];
    cr_safetensors *file; /* of a program that was prepared */
    cr_tensor *input;
} base;

static void begin(void) {
    snprintf(base.path, sizeof base.path, "%s/cresset-fuzz-%ld", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm",
             (long)getpid());
    setenv("CR_CC", "none", 1);
    CR_SCOPE {
        cr_manual_seed(1);
        cr_nn_module *net = cr_nn_eval(cr_nn_sequential(cr_nn_linear(32, 48), cr_nn_relu(), cr_nn_linear(48, 40)));
        base.input = cr_keep(cr_ones(CR_F32, CR_SHAPE(8, 32), CR_CPU));
        cr_graph *graph = cr_jit_trace(net, base.input, .dynamic_batch = true, .freeze = true);
        if (!cr_jit_save(graph, base.path, .prepare = "")) abort();
        cr_jit_free(graph);
        cr_nn_free(net);
    }
    base.file = cr_safetensors_open(base.path);
    const char *text = cr_safetensors_metadata(base.file, "cresset.prepared");
    snprintf(base.head, sizeof base.head, "%.*s", (int)strcspn(text, "\n") + 1, text);
}

static bool write_file(const char *text, uint8_t which) {
    cr_named_tensor rows[ROWS];
    const cr_text_pair metadata[] = {{"cresset.graph", cr_safetensors_metadata(base.file, "cresset.graph")},
                                     {"cresset.frozen", "true"},
                                     {"cresset.prepared", text}};
    const int count = cr_safetensors_count(base.file);
    for (int i = 0; i < count && i < ROWS; i++) {
        const char *name = cr_safetensors_name(base.file, i);
        cr_tensor *t = cr_safetensors_tensor(base.file, name);
        if (which % (count + 1) == i)
            t = which % 2 ? cr_narrow(cr_flatten(t, 0, -1), 0, 0, 7) : cr_zeros(CR_F64, cr_shape_of(t), CR_CPU);
        rows[i] = (cr_named_tensor){name, t};
    }
    return cr_safetensors_save(base.path, rows, count, metadata, 3);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!base.file) begin();
    char *text = calloc(1, HEAD + size + 1);
    strcpy(text, base.head);
    if (size) memcpy(text + strlen(base.head), data + 1, size - 1);
    const int64_t before = cr_memory_stats().live_bytes;
    CR_SCOPE {
        cr_graph *graph = write_file(text, size ? data[0] : 255) ? cr_jit_load(base.path, CR_CPU) : NULL;
        if (graph ? !cr_jit_forward(graph, base.input) && cr_ok() : cr_ok()) abort();
        cr_jit_free(graph);
    }
    cr_clear_error();
    if (cr_memory_stats().live_bytes != before) abort();
    unlink(base.path);
    free(text);
    return 0;
}
