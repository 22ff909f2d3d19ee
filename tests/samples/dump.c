/* Writes operands, results and gradients of every sample to one safetensors file; its metadata says what each is. */
#include "tests/samples/checks.h"

#include <string.h>

typedef struct dump {
    cr_named_tensor *tensors;
    int tensor_count, tensor_capacity;
    cr_text_pair *pairs;
    int pair_count, pair_capacity;
    int samples, skipped;
    bool failed;
} dump;

static void add_tensor(dump *d, cr_tensor *t, const char *role, int index) {
    char name[64];
    if (!t) return;
    if (d->tensor_count == d->tensor_capacity) {
        d->tensor_capacity = d->tensor_capacity ? d->tensor_capacity * 2 : 1024;
        cr_named_tensor *grown = cr_realloc(d->tensors, (size_t)d->tensor_capacity * sizeof *grown);
        if (!grown) {
            d->failed = true;
            return;
        }
        d->tensors = grown;
    }
    snprintf(name, sizeof name, "%d.%s%d", d->samples, role, index);
    d->tensors[d->tensor_count++] = (cr_named_tensor){cr_strdup(name), cr_retain(cr_contiguous(cr_detach(t)))};
}

static void add_pair(dump *d, const sample *s) {
    char key[32], text[2 * SAMPLE_TEXT + 256];
    if (d->pair_count == d->pair_capacity) {
        d->pair_capacity = d->pair_capacity ? d->pair_capacity * 2 : 1024;
        cr_text_pair *grown = cr_realloc(d->pairs, (size_t)d->pair_capacity * sizeof *grown);
        if (!grown) {
            d->failed = true;
            return;
        }
        d->pairs = grown;
    }
    snprintf(key, sizeof key, "%d", d->samples);
    snprintf(text, sizeof text, "%s\n%s\n%s:%d\n%s\n%d %g %d", s->op, s->attributes, s->file, s->line_number, s->line,
             s->input_count, s->tolerance, s->is_exact);
    d->pairs[d->pair_count++] = (cr_text_pair){cr_strdup(key), cr_strdup(text)};
}

/* Gradients of the floating operands for fixed gradients of the floating outputs. */
static void add_gradients(dump *d, const sample *s, const cr_op_description *row, cr_tensor **operands,
                          cr_tensor **outputs, int count) {
    cr_tensor *roots[8], *cotangents[8], *wanted[SAMPLE_INPUTS], *found[SAMPLE_INPUTS];
    int root_count = 0, wanted_count = 0, where[SAMPLE_INPUTS];
    if (s->no_gradient || !row->has_gradient || row->is_random) return;
    for (int i = 0; i < count; i++) {
        if (!outputs[i] || !cr_requires_grad(outputs[i])) continue;
        cotangents[root_count] = sample_cotangent(outputs[i], i);
        add_tensor(d, cotangents[root_count], "cot", i);
        roots[root_count++] = outputs[i];
    }
    for (int i = 0; i < s->input_count; i++)
        if (operands[i] && cr_requires_grad(operands[i])) where[wanted_count] = i, wanted[wanted_count++] = operands[i];
    if (!root_count || !wanted_count) return;
    const cr_grad_options options = {.size = sizeof options, .gradients = cotangents, .allow_unused = true};
    if (!cr_grad(roots, root_count, wanted, wanted_count, found, &options)) {
        fprintf(stderr, "FAILED %s:%d gradient of %s: ", s->file, s->line_number, s->line);
        cr_report(stderr);
        d->failed = true;
        return;
    }
    for (int i = 0; i < wanted_count; i++)
        add_tensor(d, found[i], "grad", where[i]);
}

static bool dump_one(const sample *s, void *context) {
    dump *d = context;
    cr_op_description row;
    if (s->expects_error) return true;
    if (!sample_describe(s->op, &row) || row.is_random) {
        d->skipped++;
        return true;
    }
    CR_SCOPE {
        cr_tensor *operands[SAMPLE_INPUTS], *results[SAMPLE_RESULTS] = {NULL};
        const int outputs = sample_output_count(&row), count = sample_result_count(s, outputs);
        if (!sample_operands(s, operands, false, false)) break;
        for (int i = 0; i < s->input_count; i++) {
            add_tensor(d, operands[i], "in", i);
            if (!s->no_gradient && operands[i] && cr_dtype_is_floating(cr_dtype_of(operands[i])))
                cr_requires_grad_(operands[i], true);
        }
        if (!sample_run(s, operands, results)) {
            fprintf(stderr, "FAILED %s:%d %s: ", s->file, s->line_number, s->line);
            cr_report(stderr);
            d->failed = true;
            break;
        }
        for (int i = 0; i < count; i++)
            add_tensor(d, results[i], "out", i);
        add_gradients(d, s, &row, operands, results, outputs);
        add_pair(d, s);
    }
    d->samples++;
    return !d->failed || cr_ok();
}

int dump_samples(const char *path, char **files, int count) {
    dump d = {0};
    bool done = true;
    for (int i = 0; done && i < count; i++)
        done = samples_read(files[i], dump_one, &d);
    done = done && cr_safetensors_save(path, d.tensors, d.tensor_count, d.pairs, d.pair_count);
    for (int i = 0; i < d.tensor_count; i++) {
        cr_free((char *)(uintptr_t)d.tensors[i].name);
        cr_release((cr_tensor *)(uintptr_t)d.tensors[i].tensor);
    }
    for (int i = 0; i < d.pair_count; i++) {
        cr_free((char *)(uintptr_t)d.pairs[i].key);
        cr_free((char *)(uintptr_t)d.pairs[i].value);
    }
    cr_free(d.tensors);
    cr_free(d.pairs);
    printf("%d samples dumped, %d skipped\n", d.pair_count, d.skipped);
    return cr_report(stderr) || d.failed || !done;
}
