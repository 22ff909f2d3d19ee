/* Profiles: what each step of a planned run costs, by its sizes and by the clock. */
#include "jit/control.h"
#include "jit/fused.h"

#include "core/file.h"
#include "core/text.h"

#include <time.h>

/* Times are kept of so many steps at most. */
enum { KEPT_STEPS = 1 << 18 };

typedef struct profile {
    cr_jit_profile shown; /* first: it is what the caller holds */
    cr_pool pool;
} profile;

/* ---------------------------------------------------------------- arithmetic and traffic */
cr_step_cost cr_plan_cost(const cr_plan *plan, const cr_plan_step *step) {
    cr_tensor tensors[2 * CR_MAX_INPUTS] = {{0}}, *operands[2 * CR_MAX_INPUTS] = {NULL};
    for (int i = 0; i < step->input_count; i++) {
        if (step->inputs[i] < 0) continue;
        cr_plan_geometry(&tensors[i], &plan->tensors[step->inputs[i]]);
        operands[i] = &tensors[i];
    }
    for (int i = 0; i < step->output_count; i++) {
        cr_plan_geometry(&tensors[CR_MAX_INPUTS + i], &plan->tensors[step->outputs[i]]);
        operands[CR_MAX_INPUTS + i] = &tensors[CR_MAX_INPUTS + i];
    }
    const cr_call call = {.op = step->op,
                          .inputs = operands,
                          .input_count = step->input_count,
                          .outputs = operands + CR_MAX_INPUTS,
                          .output_count = step->output_count,
                          .attributes = step->attributes,
                          .device = step->device};
    return (cr_step_cost){cr_op_flops(&call), cr_op_bytes(&call), cr_op_bytes_read(&call)};
}

/* ---------------------------------------------------------------- names */
/* A text built with cr_text, moved into the pool. */
static const char *keep(profile *p, cr_text *text) {
    char *built = cr_text_end(text), *copy = NULL;
    if (built && (copy = cr_pool_allocate(&p->pool, strlen(built) + 1))) memcpy(copy, built, strlen(built) + 1);
    cr_free(built);
    return copy;
}

static const char *name_of(profile *p, const cr_plan_step *step) {
    cr_text text = {0};
    if (!step->node) {
        cr_text_add(&text, "copy");
    } else { /* what is fused is told op by op */
        if (!cr_is_fused(step->node)) cr_text_add(&text, "%s", step->op->name);
        for (const cr_graph_node *inner = cr_has_program(step->node) ? step->node->blocks[0]->first : NULL; inner;
             inner = inner->next)
            cr_text_add(&text, "%s%s", text.length ? " " : "", inner->op->name);
    }
    return keep(p, &text);
}

/* The first result; an op that only writes in place has none, and is told by its first operand. */
static const char *result_of(profile *p, const cr_plan *plan, const cr_plan_step *step) {
    char sizes[192];
    cr_text text = {0};
    const int tensor = step->output_count ? step->outputs[0] : step->input_count ? step->inputs[0] : -1;
    if (tensor >= 0)
        cr_text_add(&text, "%s%s", cr_dtype_name(plan->tensors[tensor].dtype),
                    cr_shape_format(plan->tensors[tensor].shape, sizes));
    else
        cr_text_add(&text, "-");
    return keep(p, &text);
}

/* Of what is fused that of its end, where the node has none. */
static bool name_place(profile *p, const cr_graph_node *node, cr_jit_profile_step *shown) {
    cr_text source = {0}, module = {0};
    const char *text = node ? node->source : NULL;
    if (!text && node && cr_has_program(node)) text = node->blocks[0]->last->source;
    cr_text_add(&source, "%s", text ? text : "");
    cr_text_add(&module, "%s", "");
    cr_graph_add_module(&module, text);
    shown->source = keep(p, &source);
    shown->module = keep(p, &module);
    return shown->source && shown->module;
}

static bool describe(profile *p, const cr_plan *plan) {
    cr_jit_profile *shown = &p->shown;
    shown->step_count = plan->step_count;
    shown->steps = cr_pool_allocate(&p->pool, ((size_t)plan->step_count + 1) * sizeof *shown->steps);
    for (int i = 0; shown->steps && i < plan->step_count; i++) {
        cr_jit_profile_step *s = &shown->steps[i];
        s->op = name_of(p, &plan->steps[i]);
        s->result = result_of(p, plan, &plan->steps[i]);
        if (!s->op || !s->result || !name_place(p, plan->steps[i].node, s)) return false;
        const cr_step_cost cost = cr_plan_cost(plan, &plan->steps[i]);
        shown->flops += s->flops = cost.flops;
        shown->bytes += s->bytes = cost.bytes;
        shown->bytes_read += cost.bytes_read;
    }
    return shown->steps != NULL;
}

/* ---------------------------------------------------------------- time */
static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static bool run_once(cr_plan *plan, cr_tensor *const *inputs, double *times) {
    bool done = false;
    CR_SCOPE {
        const int count = cr_plan_result_count(plan);
        cr_tensor **outputs = cr_calloc((size_t)count + 1, sizeof *outputs);
        done = outputs && cr_plan_run_graph(plan, inputs, outputs, times);
        cr_free(outputs);
    }
    return done;
}

static bool time_runs(profile *p, cr_plan *plan, cr_tensor *const *inputs, int runs) {
    cr_jit_profile *shown = &p->shown;
    const int steps = plan->step_count, most = KEPT_STEPS / (steps + 1) + 1;
    double steps_seconds = 0;
    shown->timed_runs = runs < most ? runs : most;
    double *times =
        cr_pool_allocate(&p->pool, ((size_t)shown->timed_runs + 1) * 2 * (size_t)(steps + 1) * sizeof *times);
    if (!times) return false;
    shown->times = times;
    cr_jit_wait();
    const double begin = seconds_now();
    for (int r = 0; r < runs; r++) { /* later runs share the place behind those that are kept */
        double *now = times + (size_t)2 * (size_t)(r < shown->timed_runs ? r : shown->timed_runs) * (size_t)steps;
        if (!run_once(plan, inputs, now)) return false;
        for (int i = 0; i < steps; i++) {
            cr_jit_profile_step *step = &shown->steps[i];
            const double took = now[2 * i + 1] - now[2 * i];
            step->seconds += took;
            if (r == 0 || took < step->least_seconds) step->least_seconds = took;
            steps_seconds += took;
            now[2 * i] -= begin;
            now[2 * i + 1] -= begin;
        }
    }
    shown->seconds = seconds_now() - begin;
    shown->runs = runs;
    for (int i = 0; i < steps; i++)
        shown->steps[i].share = steps_seconds > 0 ? shown->steps[i].seconds / steps_seconds : 0;
    return true;
}

cr_jit_profile *cr_jit_profile_new(cr_graph *graph, cr_tensor *const *inputs, int input_count, int runs) {
    cr_tensor *const none = NULL;
    if (!graph || runs < 0 || (runs && input_count && !inputs)) {
        if (cr_ok())
            cr_record_error(CR_ERROR_ARGUMENT, "jit_profile: a NULL graph, %d runs, or runs without inputs", runs);
        return NULL;
    }
    cr_plan *plan = cr_plan_for(graph, runs && !inputs ? &none : inputs, input_count);
    if (!plan) return NULL;
    profile *p = cr_calloc(1, sizeof *p);
    const bool done = p && describe(p, plan) && (!runs || time_runs(p, plan, inputs, runs));
    cr_plan_release(plan);
    if (done) return &p->shown;
    cr_jit_profile_free(p ? &p->shown : NULL);
    return NULL;
}

void cr_jit_profile_free(cr_jit_profile *shown) {
    if (!shown) return;
    profile *p = (profile *)(void *)shown;
    cr_pool_free(&p->pool);
    cr_free(p);
}

/* ---------------------------------------------------------------- the table */
/* Seconds that the hardware needs at least; 0 where neither limit is known. */
static double least_seconds(double flops, double bytes, double gflops, double gbytes) {
    const double compute = gflops > 0 ? flops / (gflops * 1e9) : 0, move = gbytes > 0 ? bytes / (gbytes * 1e9) : 0;
    return compute > move ? compute : move;
}

typedef struct table {
    FILE *out;
    bool timed, roofs;
} table;

/* `roof`: the least time that could be. */
static void print_line(const table *t, const cr_jit_profile_step *s, double mean, double roof) {
    const double least = s->least_seconds;
    if (t->timed)
        fprintf(t->out, "%5.1f%% %10.1f %10.1f %8.2f %7.2f", 100 * s->share, 1e6 * mean, 1e6 * least,
                least > 0 ? 1e-9 * s->flops / least : 0, least > 0 ? 1e-9 * s->bytes / least : 0);
    fprintf(t->out, " %10.3f %9.3f", 1e-6 * s->flops, 1e-6 * s->bytes);
    if (t->roofs) fprintf(t->out, " %9.1f", 1e6 * roof);
    if (t->roofs && t->timed) fprintf(t->out, " %7.0f%%", least > 0 ? 100 * roof / least : 0);
    fprintf(t->out, "  %s %s%s%s\n", s->op, s->result, *s->module ? " ; " : "", s->module);
}

bool cr_jit_profile_print(FILE *out, const cr_jit_profile *p, double gflops, double gbytes) {
    if (!out || !p) return cr_fail(CR_ERROR_ARGUMENT, "jit_profile_print: NULL file or profile");
    const table t = {out, p->runs > 0, gflops > 0 || gbytes > 0};
    const int runs = p->runs > 0 ? p->runs : 1;
    cr_jit_profile_step all = {
        .op = "all", .module = "", .result = "steps", .share = 1, .flops = p->flops, .bytes = p->bytes};
    double roof_sum = 0;
    fprintf(out, "%s      MFLOP        MB%s%s  op\n", t.timed ? " share    mean µs   least µs  GFLOP/s    GB/s" : "",
            t.roofs ? "   roof µs" : "", t.roofs && t.timed ? "  reached" : "");
    for (int i = 0; i < p->step_count; i++) {
        const cr_jit_profile_step *s = &p->steps[i];
        const double roof = least_seconds(s->flops, s->bytes, gflops, gbytes);
        print_line(&t, s, s->seconds / runs, roof);
        roof_sum += roof;
        all.seconds += s->seconds;
        all.least_seconds += s->least_seconds;
    }
    print_line(&t, &all, all.seconds / runs, roof_sum);
    return !ferror(out) || cr_fail(CR_ERROR_IO, "jit_profile_print: the file cannot be written");
}

/* ---------------------------------------------------------------- Chrome's trace events */
static void add_text(cr_text *out, const char *text) {
    cr_text_add(out, "\"");
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        cr_text_add(out, *c == '"' || *c == '\\' ? "\\%c" : *c < ' ' ? "\\u%04x" : "%c", *c);
    cr_text_add(out, "\"");
}

static void add_event(cr_text *out, const cr_jit_profile_step *step, const double times[2]) {
    cr_text_add(out, "{\"name\":");
    add_text(out, step->op);
    cr_text_add(out, ",\"cat\":\"op\",\"ph\":\"X\",\"pid\":1,\"tid\":1,\"ts\":%.3f,\"dur\":%.3f,\"args\":{\"source\":",
                1e6 * times[0], 1e6 * (times[1] - times[0]));
    add_text(out, step->source);
    cr_text_add(out, ",\"result\":");
    add_text(out, step->result);
    cr_text_add(out, ",\"flops\":%.0f,\"bytes\":%.0f}}", step->flops, step->bytes);
}

static void add_run(cr_text *out, const cr_jit_profile *p, int run) {
    const double *times = p->times + (size_t)2 * (size_t)run * (size_t)p->step_count;
    const double begin = times[0], end = times[2 * p->step_count - 1];
    cr_text_add(out,
                "%s{\"name\":\"run %d\",\"cat\":\"run\",\"ph\":\"X\",\"pid\":1,\"tid\":1,\"ts\":%.3f,\"dur\":%.3f}",
                run ? ",\n" : "", run, 1e6 * begin, 1e6 * (end - begin));
    for (int i = 0; i < p->step_count; i++) {
        cr_text_add(out, ",\n");
        add_event(out, &p->steps[i], times + 2 * i);
    }
}

bool cr_jit_profile_save_trace(const cr_jit_profile *p, const char *path) {
    if (!p || !path) return cr_fail(CR_ERROR_ARGUMENT, "jit_profile_save_trace: NULL profile or path");
    cr_text text = {0};
    cr_text_add(&text, "{\"traceEvents\":[\n");
    for (int r = 0; r < p->timed_runs && p->step_count; r++)
        add_run(&text, p, r);
    cr_text_add(&text, "\n],\"displayTimeUnit\":\"ms\"}\n");
    char *json = cr_text_end(&text);
    cr_file_writer *writer = json ? cr_file_writer_begin(path) : NULL;
    if (writer) cr_file_writer_write(writer, json, strlen(json));
    cr_free(json);
    return writer && cr_file_writer_commit(writer);
}
