/* Counts of words: the one operator on texts whose words may be numbers. */
#ifdef CRESSET_HAS_ONNX
#include "onnx/import.h"

#include <string.h>

typedef struct vocabulary {
    const int64_t *pool, *counts, *indexes;
    size_t pool_count, sizes;
    const float *weights;
    int64_t skips, least, most;
    int weighting; /* 0: TF, 1: IDF, 2: TFIDF */
} vocabulary;

/* How often the words of one row are each n-gram of the pool, whose n-grams of n words begin at counts[n - 1]. */
static void count_row(const vocabulary *v, const int64_t *words, int64_t length, float *row) {
    size_t gram = 0;
    for (size_t n = 1; n <= v->sizes; n++) {
        const size_t begin = (size_t)v->counts[n - 1], end = n < v->sizes ? (size_t)v->counts[n] : v->pool_count;
        for (size_t at = begin; at + n <= end; at += n, gram++)
            for (int64_t skip = 1; (int64_t)n >= v->least && (int64_t)n <= v->most && skip <= v->skips + 1; skip++) {
                for (int64_t i = 0; i + (int64_t)(n - 1) * skip < length; i++) {
                    bool same = true;
                    for (size_t k = 0; same && k < n; k++)
                        same = words[i + (int64_t)k * skip] == v->pool[at + k];
                    row[v->indexes[gram]] += same;
                }
                if (n == 1) break; /* one word has nothing to skip */
            }
    }
    for (size_t i = 0; v->weighting && i < gram; i++) {
        float *count = &row[v->indexes[i]];
        const float weight = v->weights ? v->weights[i] : 1;
        *count = v->weighting == 1 ? (*count > 0 ? weight : 0) : *count * weight;
    }
}

static bool is_sound(const vocabulary *v, size_t grams, int64_t *width) {
    size_t count = 0;
    *width = 0;
    for (size_t n = 1; n <= v->sizes; n++) {
        const int64_t begin = v->counts[n - 1], end = n < v->sizes ? v->counts[n] : (int64_t)v->pool_count;
        if (begin < 0 || end < begin || (size_t)end > v->pool_count) return false;
        count += (size_t)(end - begin) / n;
    }
    for (size_t i = 0; i < grams; i++) {
        if (v->indexes[i] < 0 || v->indexes[i] > 1 << 30) return false;
        if (v->indexes[i] >= *width) *width = v->indexes[i] + 1;
    }
    return count == grams;
}

static bool run_TfIdfVectorizer(cr_onnx_call *call) {
    const CrOnnx__AttributeProto *pool = cr_onnx_attribute(call, "pool_int64s"),
                                 *counts = cr_onnx_attribute(call, "ngram_counts"),
                                 *indexes = cr_onnx_attribute(call, "ngram_indexes"),
                                 *weights = cr_onnx_attribute(call, "weights");
    const char *mode = cr_onnx_text(call, "mode", "TF");
    if (!pool || !counts || !indexes) return cr_onnx_refuse(call, "needs pool_int64s, ngram_counts and ngram_indexes");
    const vocabulary v = {pool->ints,
                          counts->ints,
                          indexes->ints,
                          pool->n_ints,
                          counts->n_ints,
                          weights && weights->n_floats == indexes->n_ints ? weights->floats : NULL,
                          cr_onnx_int(call, "max_skip_count", 0),
                          cr_onnx_int(call, "min_gram_length", 1),
                          cr_onnx_int(call, "max_gram_length", 1),
                          !strcmp(mode, "IDF")     ? 1
                          : !strcmp(mode, "TFIDF") ? 2
                                                   : 0};
    int64_t width;
    if (!is_sound(&v, indexes->n_ints, &width)) return cr_onnx_refuse(call, "lists that do not fit each other");
    cr_tensor *words = cr_contiguous(cr_cast(cr_onnx_input(call, 0), CR_I64));
    const bool is_row = cr_ndim(words) == 1;
    const int64_t rows = is_row ? 1 : cr_size(words, 0), length = is_row ? cr_numel(words) : cr_size(words, 1);
    cr_tensor *result = cr_zeros(CR_F32, CR_SHAPE(rows, width), CR_CPU);
    for (int64_t i = 0; result && i < rows; i++)
        count_row(&v, cr_data_i64(words) + i * length, length, cr_data_f32(result) + i * width);
    return cr_onnx_give(call, is_row ? cr_select(result, 0, 0) : result);
}
CR_ONNX_IMPORT(TfIdfVectorizer, 9, CR_ONNX_VALUES)
#endif
