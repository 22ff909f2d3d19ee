/* Running a plan. A session is the memory of one run: the arena, and tensor headers that look into it. Sessions are
 * kept for the next run, so that a run allocates its results and nothing else. */
#include "jit/plan.h"

#include "core/allocator.h"
#include "core/device.h"
#include "core/loops.h"

#include <string.h>
#include <time.h>

typedef struct cr_session {
    char *arena;
    size_t arena_bytes;
    cr_device device;
    cr_storage *storages;
    cr_tensor *tensors;
    cr_call *calls;
    cr_tensor **operands;
} cr_session;

/* ---------------------------------------------------------------- making */
static void free_session(const cr_plan *plan, cr_session *session) {
    if (!session) return;
    for (int i = 0; session->storages && i < plan->storage_count; i++) {
        cr_storage *storage = &session->storages[i];
        if (plan->storages[i].place == CR_PLACE_ARENA && storage->context == session && storage->data)
            cr_device_free(storage->device, storage->data, storage->bytes);
    }
    if (session->arena) cr_device_free(session->device, session->arena, session->arena_bytes);
    cr_free(session->storages);
    cr_free(session->tensors);
    cr_free(session->calls);
    cr_free(session->operands);
    cr_free(session);
}

static cr_device arena_device(const cr_plan *plan) {
    for (int i = 0; i < plan->storage_count; i++)
        if (plan->storages[i].place == CR_PLACE_ARENA) return plan->storages[i].device;
    return CR_CPU;
}

static bool place_storage(cr_session *session, cr_storage *storage, const cr_plan_storage *planned) {
    atomic_init(&storage->references, 1);
    storage->device = planned->device;
    storage->bytes = planned->bytes;
    storage->is_foreign = true;
    if (planned->place != CR_PLACE_ARENA || !planned->bytes) return true;
    if (cr_device_equal(planned->device, session->device)) {
        storage->data = session->arena + planned->offset;
        return true;
    }
    storage->context = session; /* on another device than the rest: a block of its own */
    return (storage->data = cr_device_allocate(planned->device, planned->bytes)) != NULL;
}

void cr_plan_geometry(cr_tensor *t, const cr_plan_tensor *planned) {
    t->magic = CR_TENSOR_ALIVE;
    atomic_init(&t->references, 1);
    t->offset = planned->offset;
    t->numel = planned->numel;
    t->dtype = (int8_t)planned->dtype;
    t->ndim = (int8_t)planned->shape.count;
    memcpy(t->sizes, planned->shape.at, sizeof t->sizes);
    memcpy(t->strides, planned->strides.at, sizeof t->strides);
}

static void place_tensor(cr_session *session, cr_tensor *t, const cr_plan_tensor *planned) {
    cr_plan_geometry(t, planned);
    t->storage = &session->storages[planned->storage];
    t->device = t->storage->device;
}

static void place_call(cr_session *session, cr_call *call, const cr_plan_step *step, cr_tensor **operands) {
    for (int i = 0; i < step->input_count; i++)
        operands[i] = step->inputs[i] < 0 ? NULL : &session->tensors[step->inputs[i]];
    for (int i = 0; i < step->output_count; i++)
        operands[step->input_count + i] = &session->tensors[step->outputs[i]];
    *call = (cr_call){.op = step->op,
                      .inputs = operands,
                      .input_count = step->input_count,
                      .outputs = operands + step->input_count,
                      .output_count = step->output_count,
                      .attributes = step->attributes,
                      .device = step->device};
}

static cr_session *new_session(const cr_plan *plan) {
    cr_session *session = cr_calloc(1, sizeof *session);
    if (!session) return NULL;
    size_t operands = 1;
    for (int i = 0; i < plan->step_count; i++)
        operands += (size_t)(plan->steps[i].input_count + plan->steps[i].output_count);
    session->device = arena_device(plan);
    session->arena_bytes = plan->arena_bytes;
    session->storages = cr_calloc((size_t)plan->storage_count + 1, sizeof *session->storages);
    session->tensors = cr_calloc((size_t)plan->tensor_count + 1, sizeof *session->tensors);
    session->calls = cr_calloc((size_t)plan->step_count + 1, sizeof *session->calls);
    session->operands = cr_calloc(operands, sizeof *session->operands);
    bool made = session->storages && session->tensors && session->calls && session->operands;
    if (made && plan->arena_bytes)
        made = (session->arena = cr_device_allocate(session->device, plan->arena_bytes)) != NULL;
    for (int i = 0; made && i < plan->storage_count; i++)
        made = place_storage(session, &session->storages[i], &plan->storages[i]);
    cr_tensor **at = session->operands;
    for (int i = 0; made && i < plan->tensor_count; i++)
        place_tensor(session, &session->tensors[i], &plan->tensors[i]);
    for (int i = 0; made && i < plan->step_count; i++) {
        place_call(session, &session->calls[i], &plan->steps[i], at);
        at += plan->steps[i].input_count + plan->steps[i].output_count;
    }
    if (made) return session;
    free_session(plan, session);
    return NULL;
}

static cr_session *take_session(cr_plan *plan) {
    for (size_t i = 0; i < sizeof plan->spare / sizeof plan->spare[0]; i++) {
        cr_session *session = atomic_exchange(&plan->spare[i], NULL);
        if (session) return session;
    }
    return new_session(plan);
}

static void give_session(cr_plan *plan, cr_session *session) {
    for (size_t i = 0; i < sizeof plan->spare / sizeof plan->spare[0]; i++) {
        cr_session *none = NULL;
        if (atomic_compare_exchange_strong(&plan->spare[i], &none, session)) return;
    }
    free_session(plan, session);
}

void cr_sessions_free(cr_plan *plan) {
    for (size_t i = 0; i < sizeof plan->spare / sizeof plan->spare[0]; i++)
        free_session(plan, atomic_exchange(&plan->spare[i], NULL));
}

/* ---------------------------------------------------------------- running */
static bool same_geometry(const cr_tensor *t, const cr_plan_tensor *planned) {
    if (t->dtype != (int8_t)planned->dtype || !cr_shape_equal(cr_tensor_shape(t), planned->shape)) return false;
    for (int d = 0; d < t->ndim; d++)
        if (t->sizes[d] != 1 && t->strides[d] != planned->strides.at[d]) return false;
    return true;
}

/* Points the storages that are not the session's own to this run's memory. */
static bool connect(const cr_plan *plan, cr_session *session, cr_tensor *const *inputs, cr_storage **results) {
    for (int i = 0; i < plan->graph->body.input_count; i++) {
        cr_tensor *t = cr_contiguous(inputs[i]);
        if (!t) return false;
        session->storages[plan->tensors[plan->inputs[i]].storage].data = t->numel ? cr_tensor_address(t) : NULL;
    }
    for (int i = 0; i < plan->graph->state_count; i++) {
        if (plan->states[i] < 0) continue;
        const cr_state *state = &plan->graph->states[i];
        const cr_plan_tensor *planned = &plan->tensors[plan->states[i]];
        const cr_tensor *t = cr_state_tensor(plan->graph, state);
        if (!t) return false;
        if (!same_geometry(t, planned) || !cr_device_equal(t->device, session->storages[planned->storage].device))
            return cr_fail(CR_ERROR_STATE,
                           "jit_run: \"%s\" has changed its shape, dtype or device since the trace; trace again",
                           state->name);
        session->storages[planned->storage].data = t->numel ? cr_tensor_address(t) : NULL;
    }
    for (int i = 0; i < cr_plan_result_count(plan); i++) {
        const cr_plan_storage *planned = &plan->storages[plan->tensors[plan->outputs[i]].storage];
        if (planned->index != i) continue; /* it shares the memory of another result */
        if (!(results[i] = cr_storage_new(planned->device, planned->bytes))) return false;
        session->storages[plan->tensors[plan->outputs[i]].storage].data = results[i]->data;
    }
    return true;
}

static double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static bool run_step(const cr_plan *plan, cr_session *session, int index, double *times) {
    cr_thread *thread = cr_thread_self();
    const cr_plan_step *step = &plan->steps[index];
    cr_frame frame;
    cr_frame_push(thread, &frame, step->op->name, step->node ? step->node->source : NULL);
    cr_scope_mark scope = cr_scope_open(__FILE__, __LINE__);
    if (times) times[2 * index] = seconds_now();
    bool done = step->kernel(&session->calls[index]);
    if (times) {
        done = done && cr_device_synchronize(step->device);
        times[2 * index + 1] = seconds_now();
    }
    cr_scope_close(&scope);
    cr_frame_pop(thread, &frame);
    return done;
}

static bool run_together(const cr_plan *plan, cr_session *session, int first, int count) {
    cr_loop_list list;
    bool done = true;
    cr_loops_begin(&list);
    for (int i = first; done && i < first + count; i++)
        done = run_step(plan, session, i, NULL);
    cr_loops_end(&list);
    return done;
}

/* With `times`, each step by itself. */
static bool run_steps(const cr_plan *plan, cr_session *session, double *times) {
    for (int i = 0, count; i < plan->step_count; i += count) {
        count = times ? 1 : plan->steps[i].together;
        if (count > 1 ? !run_together(plan, session, i, count) : !run_step(plan, session, i, times)) return false;
    }
    return true;
}

/* Versions, so that autograd notices what a run overwrites. */
static void mark_states(const cr_plan *plan) {
    for (int i = 0; i < plan->graph->state_count; i++)
        if (plan->graph->states[i].update && plan->states[i] >= 0)
            cr_touch(cr_state_tensor(plan->graph, &plan->graph->states[i]));
}

bool cr_plan_run(cr_plan *plan, cr_tensor *const *inputs, cr_tensor **results, double *times) {
    const int count = cr_plan_result_count(plan);
    cr_storage *few[CR_MAX_INPUTS] = {NULL},
               **storages = count > CR_MAX_INPUTS ? cr_calloc((size_t)count, sizeof *storages) : few;
    cr_session *session = storages ? take_session(plan) : NULL;
    if (!session) {
        if (storages != few) cr_free(storages);
        return false;
    }
    cr_thread *thread = cr_thread_self();
    const bool paused = thread->listeners_paused;
    thread->listeners_paused = true;
    cr_scope_mark scope = cr_scope_open(__FILE__, __LINE__);
    bool done = connect(plan, session, inputs, storages) && run_steps(plan, session, times);
    cr_scope_close(&scope);
    thread->listeners_paused = paused;
    if (done) mark_states(plan);
    for (int i = 0; i < count; i++) {
        const cr_plan_tensor *t = &plan->tensors[plan->outputs[i]];
        cr_storage *storage = storages[plan->storages[t->storage].index];
        results[i] = done ? cr_view_of_storage(storage, t->dtype, t->shape, t->strides, t->offset) : NULL;
        done = done && results[i];
    }
    for (int i = 0; i < count; i++)
        cr_storage_release(storages[i]);
    if (storages != few) cr_free(storages);
    give_session(plan, session);
    return done;
}
