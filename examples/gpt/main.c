/* A small GPT learns a text letter by letter, and goes on from a prompt: each new letter runs alone through a traced
 * graph, whose attention layers keep the keys and values of all before it. */
#include <cresset.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { LETTERS = 256, CONTEXT = 256, WIDTH = 128, HEADS = 4, LAYERS = 4, BATCH = 8, LENGTH = 128 };

typedef struct gpt {
    cr_nn_module *letters, *places, *layers, *norm, *head;
} gpt;

/* [batch, length] of letters to logits [batch, length, LETTERS]. With a cache, the letters follow those before. */
static cr_tensor *gpt_forward(cr_nn_module *self, cr_tensor *x) {
    gpt *g = cr_nn_self(self);
    cr_tensor *places = cr_arange(CR_I64, 0, (double)cr_size(x, 1), 1, CR_CPU), *before = cr_nn_cache_position(self);
    if (before) places = cr_add(places, before);
    x = cr_add(cr_nn_forward(g->letters, x), cr_nn_forward(g->places, places));
    return cr_nn_forward(g->head, cr_nn_forward(g->norm, cr_nn_forward(g->layers, x)));
}

static cr_nn_module *gpt_new(void) {
    cr_nn_module *self = cr_nn_module_new("gpt", sizeof(gpt), gpt_forward);
    gpt *g = cr_nn_self(self);
    if (!g) return NULL;
    g->letters = cr_nn_register(self, "letters", cr_nn_embedding(LETTERS, WIDTH));
    g->places = cr_nn_register(self, "places", cr_nn_embedding(CONTEXT, WIDTH));
    g->layers = cr_nn_register(self, "layers", cr_nn_sequential_of(NULL, 0));
    for (int i = 0; i < LAYERS; i++)
        cr_nn_append(g->layers,
                     cr_nn_transformer_layer(WIDTH, HEADS, .is_causal = true, .norm_first = true, .gelu = true));
    g->norm = cr_nn_register(self, "norm", cr_nn_layer_norm(CR_SHAPE(WIDTH)));
    g->head = cr_nn_register(self, "head", cr_nn_linear(WIDTH, LETTERS));
    return self;
}

/* ---------------------------------------------------------------- learning */
typedef struct lesson {
    cr_nn_module *net;
    cr_optim *optim;
} lesson;

/* A whole step, traced: rows [BATCH, LENGTH + 1] of the text; each letter is to be told from those before it. */
static bool step(void *context, cr_tensor *const *inputs, int input_count, cr_tensor **outputs, int output_count) {
    lesson *l = context;
    (void)input_count, (void)output_count;
    cr_tensor *logits = cr_nn_forward(l->net, cr_narrow(inputs[0], 1, 0, LENGTH));
    outputs[0] = cr_cross_entropy(cr_reshape(logits, CR_SHAPE(-1, LETTERS)),
                                  cr_reshape(cr_narrow(inputs[0], 1, 1, LENGTH), CR_SHAPE(-1)));
    cr_optim_zero_grad(l->optim);
    return cr_backward(outputs[0]) && cr_optim_step(l->optim);
}

static cr_tensor *some_rows(const char *text, size_t size) {
    int64_t rows[BATCH][LENGTH + 1];
    cr_tensor *starts = cr_randint(0, (int64_t)size - LENGTH, CR_SHAPE(BATCH), CR_CPU);
    if (!starts) return NULL;
    for (int b = 0; b < BATCH; b++)
        for (int i = 0; i <= LENGTH; i++)
            rows[b][i] = (unsigned char)text[((const int64_t *)cr_data(starts))[b] + i];
    return cr_from_data(CR_I64, CR_SHAPE(BATCH, LENGTH + 1), rows);
}

static void learn(cr_nn_module *net, const char *text, size_t size, int steps) {
    lesson l = {net, cr_optim_adamw(cr_nn_parameters(net), .lr = 2e-3)};
    cr_graph *graph = NULL;
    cr_progress *bar = cr_progress_new(steps, .label = "learning");
    for (int i = 0; i < steps && cr_ok(); i++)
        CR_SCOPE {
            cr_tensor *rows = some_rows(text, size), *loss = NULL;
            if (!graph)
                graph = cr_jit_trace_function(step, &l, &rows, 1, &loss, 1, &net, 1);
            else
                cr_jit_run(graph, &rows, 1, &loss, 1);
            if (loss) cr_progress_step(bar, "loss %.3f", cr_item(loss));
        }
    cr_progress_close(bar);
    cr_jit_free(graph);
    cr_optim_free(l.optim);
}

/* ---------------------------------------------------------------- writing */
/* The letter after the last row of logits, drawn by its share. */
static int64_t draw(cr_tensor *logits, double temperature) {
    cr_tensor *last = cr_reshape(cr_narrow(logits, 1, cr_size(logits, 1) - 1, 1), CR_SHAPE(LETTERS));
    return cr_item_i64(cr_multinomial(cr_softmax(cr_div_scalar(last, temperature), 0), 1, true));
}

static void go_on(cr_nn_module *net, const char *prompt, int count) {
    int64_t letters[CONTEXT];
    int length = 0;
    for (; prompt[length] && length < CONTEXT / 2; length++)
        letters[length] = (unsigned char)prompt[length];
    CR_NO_GRAD {
        cr_nn_cache_begin(cr_nn_eval(net), 1, CONTEXT);
        cr_tensor *next = cr_from_data(CR_I64, CR_SHAPE(1, length), letters);
        cr_graph *graph = cr_jit_trace(net, next, .dynamic = "0.1=length", .freeze = true);
        cr_nn_cache_rewind(net, 0); /* tracing ran it once */
        printf("%.*s", length, prompt);
        struct timespec begin, end;
        clock_gettime(CLOCK_MONOTONIC, &begin);
        int64_t letter = 0;
        for (int i = 0; i < count && length + i < CONTEXT && cr_ok(); i++)
            CR_SCOPE {
                if (i) next = cr_from_data(CR_I64, CR_SHAPE(1, 1), &letter);
                letter = draw(cr_jit_forward(graph, next), 0.7);
                putchar((int)letter);
                fflush(stdout);
            }
        clock_gettime(CLOCK_MONOTONIC, &end);
        const double seconds = (double)(end.tv_sec - begin.tv_sec) + 1e-9 * (double)(end.tv_nsec - begin.tv_nsec);
        if (cr_ok()) fprintf(stderr, "\n%.0f letters a second\n", count / seconds);
        cr_jit_free(graph);
    }
}

int main(int argc, char **argv) {
    static char text[1 << 20];
    FILE *file = argc >= 2 ? fopen(argv[1], "rb") : NULL;
    const size_t size = file ? fread(text, 1, sizeof text, file) : 0;
    if (file) fclose(file);
    if (size <= LENGTH || argc > 4 || (argc > 3 && !*argv[3])) {
        fprintf(stderr, "usage: gpt TEXT [STEPS [PROMPT]]\n"
                        "Learns a text of more than 128 letters (500 steps), and goes on from the prompt.\n");
        return 2;
    }
    cr_manual_seed(1);
    cr_nn_module *net = gpt_new();
    learn(net, text, size, argc > 2 ? atoi(argv[2]) : 500);
    if (cr_ok()) go_on(net, argc > 3 ? argv[3] : "The ", 200);
    cr_nn_free(net);
    return cr_report(stderr);
}
