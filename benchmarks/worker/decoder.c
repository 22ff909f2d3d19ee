/* A decoder as large as GPT-2 small (Radford et al., 2019): a prompt of 128 words is a row of inference.c; here word for word
 * behind it, with a cache of keys and values, from weights in f32, bf16 and 8 bits. Words come as vectors; the last product,
 * by 50257 words, is part of it. */
#include "worker.h"

#include <stdio.h>
#include <string.h>

enum { WIDTH = 768, HEADS = 12, LAYERS = 12, PROMPT = 128, CAPACITY = 256, VOCABULARY = 50257, WORDS = 8 };

static cr_nn_module *net;

cr_nn_module *decoder_new(int64_t classes) {
    (void)classes;
    cr_nn_module *made = cr_nn_sequential_of(NULL, 0);
    for (int i = 0; i < LAYERS; i++)
        cr_nn_append(made, cr_nn_transformer_layer(WIDTH, HEADS, .is_causal = true, .norm_first = true, .gelu = true));
    cr_nn_append(made, cr_nn_layer_norm(CR_SHAPE(WIDTH)));
    cr_nn_append(made, cr_nn_linear(WIDTH, VOCABULARY, .bias = false));
    return made;
}

static void end_decoder(void) {
    drop_graph();
    cr_nn_free(net);
    net = NULL;
}

static cr_graph *decoder_graph(const work *w, cr_tensor *prompt) {
    cr_graph *graph = cr_jit_trace(net, prompt, .dynamic = "0.1=length", .freeze = true), *smaller;
    if (!strstr(w->name, "bf16") && !strstr(w->name, "int8")) return graph;
    smaller = cr_jit_quantize_weights(graph, .dtype = strstr(w->name, "bf16") ? CR_BF16 : CR_I8);
    cr_jit_free(graph);
    return smaller;
}

/* Opponents find the weights in the folder. */
static bool begin_words(const work *w, const char *folder) {
    char path[1024];
    snprintf(path, sizeof path, "%s/decoder.safetensors", folder);
    net = cr_nn_eval(decoder_new(0));
    if (!cr_nn_save(net, path) || !cr_nn_cache_begin(net, 1, CAPACITY)) return false;
    cr_tensor *prompt = numbers(CR_SHAPE(1, PROMPT, WIDTH), 1), *word = numbers(CR_SHAPE(1, 1, WIDTH), 2);
    return prepare_graph(decoder_graph(w, prompt), &word, 1, 1);
}

/* Each turn forgets all behind the prompt, then runs WORDS words. */
static bool words_step(void) {
    if (!cr_nn_cache_rewind(net, PROMPT)) return false;
    for (int i = 0; i < WORDS; i++)
        if (!run_graph()) return false;
    return true;
}

#define WORD_FOR_WORD(name)                                                                                            \
    { name ", word for word", {0}, WORDS, begin_words, words_step, end_decoder }
const work decoder_works[] = {
    WORD_FOR_WORD("decoder"), WORD_FOR_WORD("decoder bf16"), WORD_FOR_WORD("decoder int8"), {NULL}};
