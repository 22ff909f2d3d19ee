/* Results of a run: made where the caller wants them, or copied there. */
#include "jit/ahead/program.h"

/* Storage of result i, if it is the one that the storage is made for. */
static const cr_plan_storage *own_storage(const cr_ahead *a, int i) {
    const cr_plan_storage *storage = &a->plan->storages[a->plan->tensors[a->plan->outputs[i]].storage];
    return storage->index == i ? storage : NULL;
}

static bool is_gradient(const cr_ahead *a, int i) { return i >= a->plan->graph->body.output_count; }

/* The caller's memory can be the result's storage. */
static bool is_direct(const cr_ahead *a, int i) {
    const cr_plan_tensor *t = &a->plan->tensors[a->plan->outputs[i]];
    const cr_plan_storage *storage = own_storage(a, i);
    const cr_ahead_view view = cr_ahead_tensor(a, a->plan->outputs[i]);
    return storage && !is_gradient(a, i) && t->offset == 0 && cr_ahead_is_dense(&view) &&
           storage->bytes <= (size_t)t->numel * cr_dtype_size(t->dtype);
}

bool cr_ahead_begin_results(cr_ahead *a) {
    for (int i = 0; i < cr_plan_result_count(a->plan); i++) {
        const cr_plan_storage *storage = own_storage(a, i);
        if (is_direct(a, i)) {
            cr_text_add(&a->run, "    c->outputs[%d] = c->results[%d];\n", i, i);
        } else if (storage) {
            cr_text_add(&a->run, "    c->outputs[%d] = c->arena + %zu;\n", i, a->arena_bytes);
            a->arena_bytes += cr_ahead_padded(storage->bytes);
        }
    }
    return true;
}

/* A gradient joins the one that is there, or takes its place. */
static bool put_gradient(cr_ahead *a, int index, size_t offset, const cr_ahead_view *fresh) {
    const cr_gradient *gradient = &a->plan->graph->gradients[index];
    cr_ahead_view to = *fresh;
    snprintf(to.base, sizeof to.base, "c->gradients + %zu", offset);
    to.offset = 0;
    cr_contiguous_strides(to.shape, &to.strides);
    const cr_ahead_view inputs[2] = {to, *fresh};
    return gradient->accumulates ? cr_ahead_binary(a, "add", &to, inputs) : cr_ahead_copy(a, &to, fresh);
}

bool cr_ahead_end_results(cr_ahead *a) {
    const int outputs = a->plan->graph->body.output_count;
    size_t at = 0;
    bool done = true;
    cr_text_add(
        &a->text,
        "/* Results that were not made where they are wanted. */\nstatic void deliver(%s_context *c) {\n    (void)c;\n",
        a->name);
    for (int i = 0; done && i < cr_plan_result_count(a->plan); i++) {
        const cr_ahead_view made = cr_ahead_tensor(a, a->plan->outputs[i]);
        cr_ahead_view wanted = made;
        if (is_direct(a, i)) continue;
        if (is_gradient(a, i)) {
            done = put_gradient(a, i - outputs, at, &made);
            at += cr_ahead_value_bytes(a->plan->graph->gradients[i - outputs].value);
            continue;
        }
        snprintf(wanted.base, sizeof wanted.base, "c->results[%d]", i);
        wanted.offset = 0;
        cr_contiguous_strides(wanted.shape, &wanted.strides);
        done = cr_ahead_copy(a, &wanted, &made);
    }
    cr_text_add(&a->text, "}\n\n");
    cr_text_add(&a->run, "    deliver(c);\n");
    return done;
}
