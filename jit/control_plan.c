/* Running control flow: each block is a plan of its own. */
#include "jit/control.h"

#include "jit/pass.h"

#include <string.h>

/* Copies results to where the plan wants them. */
static bool deliver(cr_call *call, cr_tensor *const *results, int from, int to) {
    for (int i = from; i < to; i++)
        if (!cr_copy_(call->outputs[i], results[i])) return false;
    return true;
}

static bool run_cond(cr_call *call) {
    const cr_control *c = call->attributes;
    cr_tensor *results[CR_MAX_INPUTS];
    const double decided = cr_item(call->inputs[0]);
    return cr_ok() && cr_plan_run(c->plans[decided != 0 ? 0 : 1], call->inputs + 1, results, NULL) &&
           deliver(call, results, 0, call->output_count);
}

/* One turn in a scope of its own; what goes around is kept for the next. */
static bool run_while(cr_call *call) {
    const cr_control *c = call->attributes;
    const int carried = (int)c->options->carried;
    cr_tensor *now[CR_MAX_INPUTS], *results[CR_MAX_INPUTS], *decided;
    bool done = true;
    memcpy(now, call->inputs, (size_t)call->input_count * sizeof *now);
    for (double goes_on = 1; done && goes_on != 0;) {
        CR_SCOPE {
            goes_on = 0;
            done = cr_plan_run(c->plans[1], now, &decided, NULL);
            if (!done || (goes_on = cr_item(decided)) == 0 || !(done = cr_ok())) break;
            done = cr_plan_run(c->plans[0], now, results, NULL);
            for (int i = 0; done && i < carried; i++) {
                if (now[i] != call->inputs[i]) cr_release(now[i]);
                now[i] = cr_retain(results[i]);
            }
        }
    }
    done = done && cr_ok() && deliver(call, now, 0, carried);
    for (int i = 0; i < carried; i++)
        if (now[i] != call->inputs[i]) cr_release(now[i]);
    return done;
}

static bool run_scan(cr_call *call) {
    const cr_control *c = call->attributes;
    const int carried = (int)c->options->carried, scanned = (int)c->options->scanned;
    cr_tensor *now[CR_MAX_INPUTS], *results[CR_MAX_INPUTS];
    bool done = true;
    memcpy(now, call->inputs, (size_t)call->input_count * sizeof *now);
    const int64_t steps = cr_size(call->inputs[carried], 0);
    for (int64_t t = 0; done && t < steps; t++)
        CR_SCOPE {
            for (int i = carried; i < carried + scanned; i++)
                now[i] = cr_select(call->inputs[i], 0, t);
            done = cr_ok() && cr_plan_run(c->plans[0], now, results, NULL);
            for (int i = carried; done && i < call->output_count; i++)
                done = cr_copy_(cr_select(call->outputs[i], 0, t), results[i]) != NULL;
            for (int i = 0; done && i < carried; i++) {
                if (now[i] != call->inputs[i]) cr_release(now[i]);
                now[i] = cr_retain(results[i]);
            }
        }
    done = done && deliver(call, now, 0, carried);
    for (int i = 0; i < carried; i++)
        if (now[i] != call->inputs[i]) cr_release(now[i]);
    return done;
}

/* Of a plan's call: the dearer way of a condition, one turn of a loop whose turns nobody knows, all turns of a scan. */
double cr_control_flops(const cr_call *call) {
    const cr_control *c = call->attributes;
    double flops[2] = {0, 0};
    for (int b = 0; b < 2 && c->plans[b]; b++)
        for (int i = 0; i < c->plans[b]->step_count; i++)
            flops[b] += cr_plan_cost(c->plans[b], &c->plans[b]->steps[i]).flops;
    if (!strcmp(call->op->name, "scan")) return flops[0] * (double)call->inputs[c->options->carried]->sizes[0];
    if (!strcmp(call->op->name, "while_loop")) return flops[0] + flops[1];
    return flops[0] > flops[1] ? flops[0] : flops[1];
}

bool cr_control_plan(cr_plan *plan, const cr_graph_node *node, cr_kernel *kernel, const void **attributes) {
    cr_control *c = cr_pool_allocate(&plan->pool, sizeof *c);
    if (!c || node->block_count > 2) return false;
    c->options = node->attributes;
    for (int b = 0; b < node->block_count; b++) {
        cr_graph *inner = cr_graph_of_block(node->blocks[b], plan->graph->is_frozen);
        if (inner) {
            inner->supports = plan->graph->supports;
            inner->target = plan->graph->target;
        }
        if (!inner || !cr_graph_optimize(inner)) {
            cr_jit_free(inner);
            return false;
        }
        if (!(c->plans[b] = cr_plan_new(inner))) return false;
        c->plans[b]->next = plan->inner;
        plan->inner = c->plans[b];
    }
    *kernel = !strcmp(node->op->name, "cond") ? run_cond : !strcmp(node->op->name, "while_loop") ? run_while : run_scan;
    *attributes = c;
    return true;
}
