/* The works that benchmarks/cresset-bench measures on our side, by name. */
#ifndef CRESSET_BENCHMARKS_WORKER_H
#define CRESSET_BENCHMARKS_WORKER_H

#include <cresset.h>

typedef struct work work;
struct work {
    const char *name;
    int64_t size[2]; /* of this row: the sides of a matrix, a batch */
    int calls;       /* of what is measured in one step; 0: 1 */
    bool (*begin)(const work *w, const char *folder);
    bool (*step)(void);
    void (*end)(void);
};
/* Each file's list, ended by one without a name. */
extern const work op_works[], layer_works[], inference_works[], decoder_works[], training_works[], loader_works[];

/* What a work is made of: the graph that a step runs, its inputs, and its last result (retained; NULL: none). What opponents
 * compare with theirs is `compared`, or the last result where that is NULL. */
typedef struct prepared {
    cr_graph *graph;
    cr_tensor *inputs[4], *result, *compared;
    int input_count, output_count;
    double flops, bytes, bytes_read; /* of one step; 0: not known */
} prepared;
extern prepared now_prepared;

/* Numbers between -1 and 1 that the opponents make as well: a hash of each element's index. */
cr_tensor *numbers(cr_shape shape, unsigned seed);
/* Takes over the graph; counts its work. */
bool prepare_graph(cr_graph *graph, cr_tensor *const *inputs, int input_count, int output_count);
bool run_graph(void);
void drop_graph(void);

/* What a compiler is measured by: traces and plans the work of a row of this name, runs it once, waits for all generated
 * code. The seconds of that; negative where there is no such row, or it fails. */
double model_compile_seconds(const char *name, const char *folder);
double training_compile_seconds(const char *name, const char *folder);

/* A decoder as large as GPT-2 small, words as vectors. */
cr_nn_module *decoder_new(int64_t classes);

double wall_seconds(void);
double peak_flops(void);     /* of multiply-adds in registers, all threads */
double peak_bandwidth(void); /* of reading two arrays and writing one */
double peak_reading(void);   /* of reading alone, which has a limit of its own: bytes a second */

#endif
