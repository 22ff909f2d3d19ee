/* .check: the graph beside the function, on inputs other than the example's. State and random numbers are put back
 * after each. */
#include "jit/trace.h"

#include <cresset/autograd.h>

#include <math.h>

typedef struct kept_state {
    cr_tensor **values; /* by state; NULL: no run changes it */
    cr_generator_state random;
} kept_state;

static bool keep_state(const cr_graph *graph, kept_state *kept) {
    kept->random = cr_generator_get_state(NULL);
    kept->values = cr_calloc((size_t)graph->state_count + 1, sizeof *kept->values);
    bool done = kept->values != NULL;
    for (int i = 0; done && i < graph->state_count; i++)
        if (graph->states[i].update) done = (kept->values[i] = cr_clone(graph->states[i].tensor)) != NULL;
    return done;
}

/* Puts everything back; `now` (may be NULL) gets what it was meanwhile. */
static bool put_back(const cr_graph *graph, const kept_state *kept, cr_tensor **now) {
    bool done = true;
    cr_generator_set_state(NULL, kept->random);
    for (int i = 0; done && i < graph->state_count; i++) {
        if (!kept->values[i]) continue;
        if (now) done = (now[i] = cr_clone(graph->states[i].tensor)) != NULL;
        done = done && cr_copy_(graph->states[i].tensor, kept->values[i]);
    }
    return done;
}

/* Floats anew around the example's spread; whole numbers may be indices and stay. */
static cr_tensor *fresh_input(cr_tensor *example) {
    if (!cr_dtype_is_floating(cr_dtype_of(example)) || cr_numel(example) == 0) return example;
    cr_tensor *noise = cr_cast(cr_randn(CR_F32, cr_shape_of(example), cr_device_of(example)), cr_dtype_of(example));
    return cr_add(cr_mul(example, cr_full_like(example, 0.75)),
                  cr_mul(noise, cr_mul(cr_abs(example), cr_full_like(example, 0.25))));
}

/* Largest difference over the largest value; NaN in the same places is equal. */
static bool agree(const char *what, int index, cr_tensor *a, cr_tensor *b) {
    if (cr_dtype_of(a) != cr_dtype_of(b) || !cr_shape_equal(cr_shape_of(a), cr_shape_of(b)))
        return cr_fail(CR_ERROR_NUMERIC, "jit_trace: .check: %s %d has another dtype or shape than the function gives",
                       what, index);
    if (cr_numel(a) == 0) return true;
    a = cr_cast(a, CR_F64);
    b = cr_cast(b, CR_F64);
    cr_tensor *same = cr_logical_or(cr_eq(a, b), cr_logical_and(cr_isnan(a), cr_isnan(b)));
    const double difference = cr_item(cr_amax(cr_where(same, cr_zeros_like(a), cr_abs(cr_sub(a, b)))));
    const double scale = cr_item(cr_amax(cr_where(cr_isfinite(b), cr_abs(b), cr_zeros_like(b))));
    if (!cr_ok()) return false;
    if (difference <= 1e-4 * scale + 1e-6) return true;
    return cr_fail(CR_ERROR_NUMERIC,
                   "jit_trace: .check: %s %d differs by %g (values up to %g) on inputs other than the example's: the "
                   "function decides "
                   "by values; cr_cond and its like keep both ways",
                   what, index, difference, scale);
}

static bool compare(cr_graph *graph, const cr_jit_subject *subject, cr_tensor *const *inputs, const kept_state *kept,
                    cr_tensor **ours, cr_tensor **theirs) {
    cr_tensor *a[CR_MAX_INPUTS], *b[CR_MAX_INPUTS] = {NULL};
    if (!cr_jit_run(graph, inputs, subject->input_count, a, subject->output_count) || !put_back(graph, kept, ours))
        return false;
    const bool ran = subject->function(subject->context, inputs, subject->input_count, b, subject->output_count);
    if (!put_back(graph, kept, theirs) || !ran) return false;
    for (int i = 0; i < subject->output_count; i++)
        if (!agree("result", i, a[i], b[i])) return false;
    for (int i = 0; i < graph->state_count; i++)
        if (kept->values[i] && !agree("state", i, ours[i], theirs[i])) return false;
    return true;
}

bool cr_jit_check(cr_graph *graph, const cr_jit_subject *subject, cr_tensor *const *examples) {
    cr_tensor *inputs[CR_MAX_INPUTS];
    bool done = true;
    CR_SCOPE {
        kept_state kept = {0};
        cr_tensor **states = cr_calloc(2 * (size_t)graph->state_count + 1, sizeof *states);
        cr_grad_mode mode = cr_grad_mode_enter(false, false);
        done = states && keep_state(graph, &kept);
        for (int i = 0; done && i < subject->input_count; i++)
            done = (inputs[i] = fresh_input(examples[i])) != NULL;
        if (done) kept.random = cr_generator_get_state(NULL);
        cr_grad_mode_leave(&mode);
        done = done && compare(graph, subject, inputs, &kept, states, states + graph->state_count);
        cr_free(kept.values);
        cr_free(states);
    }
    return done;
}
