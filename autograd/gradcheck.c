/* Gradients held against central differences, in f64. */
#include "autograd/node.h"

#include <math.h>
#include <string.h>

enum { MOST_INPUTS = 16, MOST_OUTPUTS = 8 };

typedef struct check {
    cr_check_function function;
    void *context;
    cr_tensor *const *inputs;
    int input_count, output_count;
    cr_gradcheck_options options;
} check;

static const cr_gradcheck_options default_options = {sizeof default_options, 1e-6, 1e-5, 1e-3};

/* Copies of the inputs as leaves: dense, so that elements can be written by number. */
static bool copy_inputs(const check *c, cr_tensor **copies) {
    for (int i = 0; i < c->input_count; i++) {
        cr_tensor *input = c->inputs[i];
        copies[i] = NULL;
        if (!input) continue;
        if (!(copies[i] = cr_clone(cr_detach(input)))) return false;
        if (!cr_requires_grad(input)) continue;
        if (input->dtype != CR_F64)
            return cr_fail(CR_ERROR_DTYPE, "gradcheck: input %d is %s; differences need f64", i,
                           cr_dtype_name((cr_dtype)input->dtype));
        if (!cr_requires_grad_(copies[i], true)) return false;
    }
    return true;
}

static bool call(const check *c, cr_tensor *const *inputs, cr_tensor **outputs) {
    memset(outputs, 0, (size_t)c->output_count * sizeof *outputs);
    if (c->function(c->context, inputs, c->input_count, outputs, c->output_count)) return true;
    return cr_ok() && cr_fail(CR_ERROR_STATE, "gradcheck: the function failed without saying why");
}

static bool is_checked(const cr_tensor *t) { return t && t->dtype == CR_F64 && cr_requires_grad(t); }
static bool is_compared(const cr_tensor *t) {
    return t && t->dtype == CR_F64;
} /* an output outside the graph must be constant */

/* d outputs[o] / d inputs[i][element] by central difference, into a column of outputs[o]'s elements. */
static cr_tensor *difference(const check *c, cr_tensor **copies, int input, int64_t element, int output) {
    const double h = c->options.step;
    double *value = (double *)cr_data(copies[input]) + element;
    const double kept = *value;
    cr_tensor *sides[2], *outputs[MOST_OUTPUTS];
    for (int side = 0; side < 2; side++) {
        *value = kept + (side ? h : -h);
        cr_grad_mode mode = cr_grad_mode_enter(false, false);
        const bool done = call(c, copies, outputs);
        sides[side] = done ? cr_clone(outputs[output]) : NULL; /* the function may return its input */
        cr_grad_mode_leave(&mode);
        *value = kept;
        if (!sides[side]) return NULL;
    }
    return cr_mul_scalar(cr_sub(sides[1], sides[0]), 1 / (2 * h));
}

static bool close_enough(const check *c, double analytic, double numeric) {
    if (!isfinite(analytic) || !isfinite(numeric)) return false;
    return fabs(analytic - numeric) <= c->options.absolute + c->options.relative * fabs(numeric);
}

/* Analytic rows d outputs[o][element] / d inputs. */
static bool analytic_row(const check *c, cr_tensor *const *outputs, cr_tensor **copies, int output, int64_t element,
                         cr_tensor **rows) {
    cr_tensor *wanted[MOST_INPUTS], *found[MOST_INPUTS];
    int count = 0;
    for (int i = 0; i < c->input_count; i++)
        if (is_checked(copies[i])) wanted[count++] = copies[i];
    cr_tensor *one_hot = cr_zeros(CR_F64, cr_tensor_shape(outputs[output]), CR_CPU);
    if (!one_hot) return false;
    ((double *)cr_data(one_hot))[element] = 1;
    const cr_grad_options options = {
        .size = sizeof options, .gradients = &one_hot, .retain_graph = true, .allow_unused = true};
    memset(found, 0, sizeof found);
    if (cr_requires_grad(outputs[output]) && !cr_grad(&outputs[output], 1, wanted, count, found, &options))
        return false;
    for (int i = 0, k = 0; i < c->input_count; i++) {
        rows[i] = NULL;
        if (!is_checked(copies[i])) continue;
        rows[i] = found[k] ? cr_contiguous(found[k]) : cr_zeros_like(copies[i]);
        if (!rows[i]) return false;
        k++;
    }
    return true;
}

static bool compare_element(const check *c, cr_tensor **copies, cr_tensor *const *jacobian, int input, int64_t element,
                            int output) {
    cr_tensor *column = cr_contiguous(difference(c, copies, input, element, output));
    if (!column) return false;
    const double *numeric = cr_data(column), *analytic = cr_data(jacobian[input]);
    for (int64_t k = 0; k < column->numel; k++) {
        const double mine = analytic[k * copies[input]->numel + element];
        if (!close_enough(c, mine, numeric[k]))
            return cr_fail(
                CR_ERROR_NUMERIC,
                "gradcheck: d output %d [%lld] / d input %d [%lld] is %.10g by backward and %.10g by differences",
                output, (long long)k, input, (long long)element, mine, numeric[k]);
    }
    return true;
}

/* The Jacobian of one output by backward, [output elements, input elements] for each input. */
static bool jacobian_of(const check *c, cr_tensor *const *outputs, cr_tensor **copies, int output,
                        cr_tensor **jacobian) {
    const int64_t rows = outputs[output]->numel;
    for (int i = 0; i < c->input_count; i++) {
        jacobian[i] = is_checked(copies[i]) ? cr_empty(CR_F64, CR_SHAPE(rows, copies[i]->numel), CR_CPU) : NULL;
        if (is_checked(copies[i]) && !jacobian[i]) return false;
    }
    for (int64_t r = 0; r < rows; r++) {
        bool done = false;
        CR_SCOPE {
            cr_tensor *row[MOST_INPUTS];
            done = analytic_row(c, outputs, copies, output, r, row);
            for (int i = 0; done && i < c->input_count; i++)
                if (jacobian[i] && copies[i]->numel)
                    memcpy((double *)cr_data(jacobian[i]) + r * copies[i]->numel, cr_data(row[i]),
                           (size_t)copies[i]->numel * sizeof(double));
        }
        if (!done) return false;
    }
    return true;
}

static bool check_output(const check *c, cr_tensor *const *outputs, cr_tensor **copies, int output) {
    cr_tensor *jacobian[MOST_INPUTS];
    if (!jacobian_of(c, outputs, copies, output, jacobian)) return false;
    for (int i = 0; i < c->input_count; i++) {
        for (int64_t e = 0; jacobian[i] && e < copies[i]->numel; e++) {
            bool same = false;
            CR_SCOPE {
                same = compare_element(c, copies, jacobian, i, e, output);
            }
            if (!same) return false;
        }
    }
    return true;
}

static bool run_check(const check *c) {
    cr_tensor *copies[MOST_INPUTS], *outputs[MOST_OUTPUTS];
    if (!copy_inputs(c, copies)) return false;
    cr_grad_mode mode = cr_grad_mode_enter(true, false);
    bool same = call(c, copies, outputs);
    cr_grad_mode_leave(&mode);
    int checked = 0;
    for (int o = 0; same && o < c->output_count; o++) {
        if (!is_compared(outputs[o])) continue;
        same = check_output(c, outputs, copies, o);
        checked++;
    }
    if (same && !checked) return cr_fail(CR_ERROR_STATE, "gradcheck: no output is f64: nothing was compared");
    return same;
}

static bool make_check(check *c, cr_check_function function, void *context, cr_tensor *const *inputs, int input_count,
                       int output_count, const cr_gradcheck_options *options) {
    if (!function || !inputs || input_count < 1 || input_count > MOST_INPUTS || output_count < 1 ||
        output_count > MOST_OUTPUTS)
        return cr_fail(CR_ERROR_ARGUMENT, "gradcheck: needs a function, 1 to %d inputs and 1 to %d outputs",
                       MOST_INPUTS, MOST_OUTPUTS);
    *c = (check){function, context, inputs, input_count, output_count, options ? *options : default_options};
    return true;
}

bool cr_gradcheck(cr_check_function function, void *context, cr_tensor *const *inputs, int input_count,
                  int output_count, const cr_gradcheck_options *options) {
    check c;
    bool same = false;
    if (!make_check(&c, function, context, inputs, input_count, output_count, options)) return false;
    CR_SCOPE {
        same = run_check(&c);
    }
    return same;
}

/* ---------------------------------------------------------------- second order: inputs and output gradients ->
 * gradients */
static bool gradients_as_function(void *context, cr_tensor *const *inputs, int input_count, cr_tensor **results,
                                  int result_count) {
    const check *c = context;
    cr_tensor *outputs[MOST_OUTPUTS], *roots[MOST_OUTPUTS], *wanted[MOST_INPUTS], *leaves[MOST_INPUTS];
    cr_tensor *const *output_gradients = inputs + c->input_count;
    int root_count = 0, wanted_count = 0;
    (void)input_count;
    cr_grad_mode mode =
        cr_grad_mode_enter(true, false); /* differences run with recording off; the inner gradient needs it */
    bool done = true;
    for (int i = 0; i < c->input_count; i++) {
        leaves[i] = inputs[i];
        if (!inputs[i] || !c->inputs[i] || !cr_requires_grad(c->inputs[i])) continue;
        if (!mode.enabled) leaves[i] = cr_requires_grad_(cr_detach(inputs[i]), true);
        wanted[wanted_count++] = leaves[i];
    }
    done = call(c, leaves, outputs);
    cr_tensor *gradients[MOST_OUTPUTS];
    for (int o = 0; done && o < c->output_count; o++) {
        if (!is_checked(outputs[o])) continue;
        gradients[root_count] = output_gradients[o];
        roots[root_count++] = outputs[o];
    }
    const cr_grad_options options = {
        .size = sizeof options, .gradients = gradients, .create_graph = true, .allow_unused = true};
    memset(results, 0, (size_t)result_count * sizeof *results);
    done = done && root_count && cr_grad(roots, root_count, wanted, wanted_count, results, &options);
    for (int i = 0; done && i < result_count; i++)
        if (!results[i]) done = (results[i] = cr_zeros_like(wanted[i])) != NULL;
    cr_grad_mode_leave(&mode);
    return done;
}

static bool second_order(check *c) {
    cr_tensor *inputs[MOST_INPUTS + MOST_OUTPUTS], *outputs[MOST_OUTPUTS];
    int wanted = 0;
    if (!copy_inputs(c, inputs) || !call(c, inputs, outputs)) return false;
    for (int i = 0; i < c->input_count; i++)
        wanted += is_checked(inputs[i]);
    for (int o = 0; o < c->output_count; o++) {
        cr_tensor *gradient = NULL;
        if (is_checked(outputs[o])) { /* any numbers will do, as long as they are not all alike */
            gradient = cr_empty(CR_F64, cr_tensor_shape(outputs[o]), CR_CPU);
            for (int64_t k = 0; gradient && k < gradient->numel; k++)
                ((double *)cr_data(gradient))[k] = sin((double)(7 * k + o + 1));
            if (!gradient || !cr_requires_grad_(gradient, true)) return false;
        }
        inputs[c->input_count + o] = gradient;
    }
    if (wanted > MOST_OUTPUTS || c->input_count + c->output_count > MOST_INPUTS)
        return cr_fail(CR_ERROR_ARGUMENT, "gradgradcheck: %d inputs with gradients; up to %d can be checked", wanted,
                       MOST_OUTPUTS);
    return cr_gradcheck(gradients_as_function, c, inputs, c->input_count + c->output_count, wanted, &c->options);
}

bool cr_gradgradcheck(cr_check_function function, void *context, cr_tensor *const *inputs, int input_count,
                      int output_count, const cr_gradcheck_options *options) {
    check c;
    bool same = false;
    if (!make_check(&c, function, context, inputs, input_count, output_count, options)) return false;
    c.inputs = inputs;
    CR_SCOPE {
        same = second_order(&c);
    }
    return same;
}
