/* Tracing functions and modules: one run on the examples, and for sizes that may vary two more without computing. */
#include "jit/trace.h"

#include "jit/fit.h"

#include <cresset/autograd.h>

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

CR_OPTION_DEFAULTS(jit_trace, CR_JIT_TRACE_OPTIONS)

/* ---------------------------------------------------------------- "0.0=batch 1.0=batch" */
static int symbol_named(cr_graph *graph, const char *name, size_t length, int64_t value) {
    for (int i = 0; i < graph->symbol_count; i++)
        if (strlen(graph->symbols[i].name) == length && !memcmp(graph->symbols[i].name, name, length)) {
            if (graph->symbols[i].value == value) return i;
            cr_record_error(CR_ERROR_SHAPE,
                            "jit_trace: \"%.*s\" is %lld and %lld in the examples; one name is one size", (int)length,
                            name, (long long)graph->symbols[i].value, (long long)value);
            return -1;
        }
    if (graph->symbol_count == CR_GRAPH_SYMBOLS || length == 0 || length > 32 || isdigit((unsigned char)*name)) {
        cr_record_error(CR_ERROR_ARGUMENT, "jit_trace: \"%.*s\" is no name for a size, or there are more than %d",
                        (int)length, name, CR_GRAPH_SYMBOLS);
        return -1;
    }
    char text[33];
    snprintf(text, sizeof text, "%.*s", (int)length, name);
    graph->symbols[graph->symbol_count] = (cr_symbol){cr_graph_text_copy(graph, text), value};
    return graph->symbols[graph->symbol_count].name ? graph->symbol_count++ : -1;
}

static bool name_dim(cr_graph *graph, cr_value *input, int dim, const char *name, size_t length) {
    const int symbol = symbol_named(graph, name, length, input->shape.at[dim]);
    if (symbol < 0) return false;
    if (!input->extents) {
        if (!(input->extents = cr_pool_allocate(&graph->pool, CR_MAX_DIMS * sizeof *input->extents))) return false;
        for (int d = 0; d < input->shape.count; d++)
            input->extents[d] = cr_extent_constant(input->shape.at[d]);
    }
    input->extents[dim] = (cr_extent){1, 0, 1, {(int8_t)symbol}, 1};
    return true;
}

static bool name_dims(cr_graph *graph, const cr_jit_trace_options *options) {
    for (int i = 0; options->dynamic_batch && i < graph->body.input_count; i++)
        if (graph->body.inputs[i]->shape.count > 0 && !name_dim(graph, graph->body.inputs[i], 0, "batch", 5))
            return false;
    for (const char *c = options->dynamic ? options->dynamic : ""; *c;) {
        char *end;
        const long input = strtol(c, &end, 10), dim = *end == '.' ? strtol(end + 1, &end, 10) : -1;
        const size_t length = *end == '=' ? strcspn(end + 1, " ,") : 0;
        if (input < 0 || input >= graph->body.input_count || dim < 0 || dim >= graph->body.inputs[input]->shape.count ||
            !length)
            return cr_fail(
                CR_ERROR_ARGUMENT,
                "jit_trace: cannot read \"%.40s\" in .dynamic; it is INPUT.DIM=NAME, as in \"0.0=batch 0.1=time\"", c);
        if (!name_dim(graph, graph->body.inputs[input], (int)dim, end + 1, length)) return false;
        c = end + 1 + length;
        c += strspn(c, " ,");
    }
    return true;
}

/* "image,mask": copies; the rest are called PREFIX0, PREFIX1, … */
static const char **make_names(cr_graph *graph, const char *list, const char *prefix, int count) {
    const char **names = cr_pool_allocate(&graph->pool, (size_t)count * sizeof *names + 1);
    for (int i = 0; names && i < count; i++) {
        char text[128];
        const size_t length = list ? strcspn(list, ",") : 0;
        if (length)
            snprintf(text, sizeof text, "%.*s", (int)length, list);
        else
            snprintf(text, sizeof text, "%s%d", prefix, i);
        if (list) list = list[length] ? list + length + 1 : NULL;
        if (!(names[i] = cr_graph_text_copy(graph, text))) return NULL;
    }
    return names;
}

/* ---------------------------------------------------------------- parameters' gradients meanwhile */
/* A trial run leaves hollow gradients behind: each parameter gets its own back. */
typedef struct kept_gradients {
    cr_tensor **parameters, **gradients;
    int count;
} kept_gradients;

static bool keep_gradients(kept_gradients *kept, cr_nn_module *const *modules, int count) {
    *kept = (kept_gradients){0};
    for (int m = 0; m < count; m++)
        kept->count += cr_nn_parameters(modules[m]).count;
    kept->parameters = cr_calloc(2 * (size_t)kept->count + 1, sizeof *kept->parameters);
    if (!kept->parameters) return false;
    kept->gradients = kept->parameters + kept->count;
    int at = 0;
    for (int m = 0; m < count; m++) {
        const cr_nn_tensors list = cr_nn_parameters(modules[m]);
        for (int i = 0; i < list.count; i++, at++) {
            kept->parameters[at] = list.at[i];
            kept->gradients[at] = cr_retain(cr_grad_of(list.at[i]));
        }
    }
    return true;
}

static void restore_gradients(kept_gradients *kept) {
    for (int i = 0; kept->parameters && i < kept->count; i++) {
        cr_set_grad(kept->parameters[i], kept->gradients[i]);
        cr_release(kept->gradients[i]);
    }
    cr_free(kept->parameters);
}

/* ---------------------------------------------------------------- one run */
static bool name_tensors(cr_tracer *tracer, const cr_jit_subject *subject) {
    for (int m = 0; m < subject->module_count; m++) {
        char name[512];
        const cr_nn_tensors parameters = cr_nn_parameters(subject->modules[m]),
                            buffers = cr_nn_buffers(subject->modules[m]);
        for (int i = 0; i < parameters.count + buffers.count; i++) {
            const bool is_parameter = i < parameters.count;
            const int k = is_parameter ? i : i - parameters.count;
            const cr_nn_tensors *list = is_parameter ? &parameters : &buffers;
            if (subject->module_count > 1)
                snprintf(name, sizeof name, "module%d.%s", m, list->names[k]);
            else
                snprintf(name, sizeof name, "%s", list->names[k]);
            if (!cr_tracer_name(tracer, list->at[k], name, is_parameter ? CR_STATE_PARAMETER : CR_STATE_BUFFER))
                return false;
        }
    }
    return true;
}

/* Inputs as the function gets them: each with storage of its own, so that writes to one are not seen in another. */
static bool bind_inputs(cr_tracer *tracer, cr_tensor *const *examples, int count, cr_tensor **inputs) {
    for (int i = 0; i < count; i++) {
        inputs[i] = examples[i];
        for (int k = 0; k < i; k++)
            if (cr_shares_storage(examples[i], examples[k]) && !(inputs[i] = cr_clone(examples[i]))) return false;
    }
    for (int i = 0; i < count; i++) {
        const cr_shape shape = cr_tensor_shape(inputs[i]);
        cr_value *value = cr_graph_value(tracer->graph, (cr_dtype)inputs[i]->dtype, &shape, inputs[i]->device);
        if (!value || !cr_block_add_input(tracer->graph, tracer->block, value) ||
            !cr_tracer_bind(tracer, inputs[i], value))
            return false;
    }
    return true;
}

/* What the function left on the states that are leaves. Gradients of parameters that it also updates were its own
 * business. */
static bool collect_gradients(cr_tracer *tracer) {
    cr_graph *graph = tracer->graph;
    const int count = graph->state_count;
    for (int i = 0; i < count; i++) {
        cr_tensor *leaf = graph->states[i].tensor, *gradient = cr_requires_grad(leaf) ? cr_grad_of(leaf) : NULL;
        const int known = gradient ? cr_tracer_state_of(tracer, gradient) : CR_TRACER_UNKNOWN;
        if (known == CR_TRACER_UNKNOWN) continue; /* none, or left from before */
        if (known >= 0) {
            graph->states[known].gradient_of = i;
        } else if (graph->states[i].update) {
            cr_set_grad(leaf, NULL);
        } else {
            cr_value *value = cr_tracer_value(tracer, gradient);
            if (!value || !cr_graph_add_gradient(graph, i, value, !cr_tracer_was_cleared(tracer, leaf))) return false;
        }
    }
    return true;
}

static bool collect_outputs(cr_tracer *tracer, cr_tensor *const *inputs, int input_count, cr_tensor *const *results,
                            int count) {
    for (int i = 0; i < count; i++) {
        if (!results[i]) return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "jit_trace: the function left result %d NULL", i);
        cr_value *value = cr_tracer_value(tracer, results[i]);
        if (!value || !cr_block_add_output(tracer->graph, tracer->block, value)) return false;
    }
    for (int i = 0; i < input_count; i++)
        if (cr_tracer_value(tracer, inputs[i]) != tracer->block->inputs[i])
            cr_graph_warn(tracer->graph, "the function writes to input %d in place; the graph leaves its inputs alone",
                          i);
    return cr_tracer_finish_states(tracer) && collect_gradients(tracer);
}

/* Runs the function under a tracer into a fresh graph. */
static cr_graph *trace_once(const cr_jit_subject *subject, cr_tensor *const *examples, bool dry, cr_tensor **results) {
    cr_graph *graph = cr_graph_new();
    cr_tensor *inputs[CR_MAX_INPUTS];
    cr_tracer tracer;
    if (!graph) return NULL;
    bool done = cr_ok();
    /* inputs are bound before listening: their copies are not part of the graph */
    cr_thread *thread = cr_thread_self();
    const bool paused = thread->listeners_paused;
    thread->listeners_paused = true;
    done = done && cr_tracer_begin(&tracer, graph, &graph->body, dry);
    const bool begun = done;
    done = done && bind_inputs(&tracer, examples, subject->input_count, inputs) && name_tensors(&tracer, subject);
    thread->listeners_paused = paused;
    done = done && subject->function(subject->context, inputs, subject->input_count, results, subject->output_count);
    if (!done && cr_ok()) cr_record_error(CR_ERROR_STATE, "jit_trace: the function returned false");
    done = done && collect_outputs(&tracer, inputs, subject->input_count, results, subject->output_count);
    if (begun) cr_tracer_end(&tracer);
    if (done) return graph;
    cr_jit_free(graph);
    return NULL;
}

typedef struct trial_context {
    const cr_jit_subject *subject;
    cr_tensor *const *examples;
} trial_context;

/* The function with the symbols at other values: sizes only. */
static cr_graph *trace_trial(void *context, const cr_graph *graph, const int64_t *sizes) {
    const cr_jit_subject *subject = ((const trial_context *)context)->subject;
    cr_tensor *const *examples = ((const trial_context *)context)->examples;
    cr_tensor *inputs[CR_MAX_INPUTS], *results[CR_MAX_INPUTS] = {NULL};
    kept_gradients kept;
    cr_graph *trial = NULL;
    if (!keep_gradients(&kept, subject->modules, subject->module_count)) return NULL;
    CR_SCOPE {
        bool made = true;
        for (int i = 0; made && i < subject->input_count; i++) {
            const cr_value *value = graph->body.inputs[i];
            cr_shape shape = value->shape;
            for (int d = 0; value->extents && d < shape.count; d++)
                if (value->extents[d].symbol_count) shape.at[d] = sizes[value->extents[d].symbols[0]];
            inputs[i] = cr_empty_hollow(value->dtype, shape, NULL, value->device);
            made = inputs[i] != NULL;
            if (made && cr_requires_grad(examples[i])) cr_requires_grad_(inputs[i], true);
        }
        if (made) trial = trace_once(subject, inputs, true, results);
    }
    restore_gradients(&kept);
    return trial;
}

/* ---------------------------------------------------------------- the whole */
static bool complete(cr_graph *graph, const cr_jit_subject *subject, cr_tensor *const *examples,
                     const cr_jit_trace_options *options) {
    graph->input_names = make_names(graph, options->input_names, "input", graph->body.input_count);
    graph->output_names = make_names(graph, options->output_names, "output", graph->body.output_count);
    if (!graph->input_names || !graph->output_names || !name_dims(graph, options)) return false;
    graph->is_frozen = options->freeze;
    return cr_fit_sizes(graph, trace_trial, &(trial_context){subject, examples}) && cr_graph_simplify(graph) &&
           (!graph->is_frozen || cr_graph_freeze(graph)) && cr_graph_verify(graph) &&
           (!options->check || cr_jit_check(graph, subject, examples));
}

static bool check_subject(const cr_jit_subject *subject, cr_tensor *const *examples) {
    if (!subject->function || subject->input_count < 0 || subject->input_count > CR_MAX_INPUTS ||
        subject->output_count < 0 || subject->output_count > CR_MAX_INPUTS || (subject->input_count && !examples))
        return cr_fail(CR_ERROR_ARGUMENT, "jit_trace: NULL function or examples, or more than %d inputs or outputs",
                       CR_MAX_INPUTS);
    for (int i = 0; i < subject->input_count; i++)
        if (!examples[i]) return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "jit_trace: example %d is NULL", i);
    return cr_thread_self()->tracer == NULL || cr_fail(CR_ERROR_STATE, "jit_trace: a trace is going on in this thread");
}

cr_graph *cr_jit_trace_subject(const cr_jit_subject *subject, cr_tensor *const *examples, cr_tensor **results,
                               const cr_jit_trace_options *given) {
    cr_jit_trace_options options = jit_trace_defaults;
    if (given) memcpy(&options, given, given->size < sizeof options ? given->size : sizeof options);
    if (!check_subject(subject, examples)) return NULL;
    cr_tensor *own[CR_MAX_INPUTS] = {NULL};
    cr_graph *graph = NULL;
    CR_SCOPE {
        graph = trace_once(subject, examples, subject->is_dry, own);
        if (graph && !complete(graph, subject, examples, &options)) {
            cr_jit_free(graph);
            graph = NULL;
        }
        for (int i = 0; graph && results && i < subject->output_count; i++)
            results[i] = cr_keep(own[i]);
    }
    return graph;
}

cr_graph *cr_jit_trace_function_with(cr_jit_function function, void *context, cr_tensor *const *examples,
                                     int example_count, cr_tensor **results, int result_count,
                                     cr_nn_module *const *modules, int module_count,
                                     const cr_jit_trace_options *options) {
    const cr_jit_subject subject = {function, context, example_count, result_count, modules, module_count, false};
    return cr_jit_trace_subject(&subject, examples, results, options);
}

static bool run_module(void *context, cr_tensor *const *inputs, int input_count, cr_tensor **outputs,
                       int output_count) {
    (void)input_count, (void)output_count;
    return (outputs[0] = cr_nn_forward(context, inputs[0])) != NULL;
}

cr_graph *cr_jit_trace_with(cr_nn_module *module, cr_tensor *example, const cr_jit_trace_options *options) {
    cr_graph *graph = NULL;
    if (!module || !example) {
        if (cr_ok()) cr_record_error(CR_ERROR_ARGUMENT, "jit_trace: NULL module or example");
        return NULL;
    }
    CR_NO_GRAD { graph = cr_jit_trace_function_with(run_module, module, &example, 1, NULL, 1, &module, 1, options); }
    return graph;
}
