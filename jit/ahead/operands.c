/* Operands of a step: where they lie in the file's memory, and dense copies of those that are not as a template wants
 * them. */
#include "jit/ahead/program.h"

/* ---------------------------------------------------------------- dtypes */
const char *cr_ahead_type(cr_dtype dtype) {
    static const char *const names[] = {"u8", "u8", "i8", "i16", "i32", "i64", "u16", "u16", "f32", "f64"};
    return names[dtype];
}

cr_dtype cr_ahead_compute(cr_dtype dtype) {
    return dtype == CR_F64 ? CR_F64 : cr_dtype_is_floating(dtype) ? CR_F32 : CR_I64;
}

/* ---------------------------------------------------------------- views */
static void print_base(const cr_ahead *a, const cr_plan_storage *storage, char *base) {
    const size_t at =
        storage->place == CR_PLACE_STATE && !*a->prefix ? a->state_offsets[storage->index] : storage->offset + a->arena;
    switch (storage->place) {
    case CR_PLACE_ARENA: snprintf(base, CR_AHEAD_BASE, "c->arena + %zu", at); break;
    case CR_PLACE_INPUT: snprintf(base, CR_AHEAD_BASE, "c->%sinputs[%d]", a->prefix, storage->index); break;
    case CR_PLACE_OUTPUT: snprintf(base, CR_AHEAD_BASE, "c->%soutputs[%d]", a->prefix, storage->index); break;
    case CR_PLACE_STATE:
        if (*a->prefix || (a->inline_weights && !a->plan->graph->states[storage->index].update))
            snprintf(base, CR_AHEAD_BASE, "%sweights_%d", a->prefix, storage->index); /* a block's are constants */
        else
            snprintf(base, CR_AHEAD_BASE, "c->%s + %zu",
                     a->plan->graph->states[storage->index].update ? "states" : "weights", at);
        break;
    }
}

cr_ahead_view cr_ahead_tensor(const cr_ahead *a, int tensor) {
    const cr_plan_tensor *t = &a->plan->tensors[tensor];
    cr_ahead_view view = {.dtype = t->dtype, .shape = t->shape, .strides = t->strides, .offset = t->offset};
    print_base(a, &a->plan->storages[t->storage], view.base);
    return view;
}
cr_ahead_view cr_ahead_input_view(const cr_ahead *a, int input) { return cr_ahead_tensor(a, a->step->inputs[input]); }
cr_ahead_view cr_ahead_output_view(const cr_ahead *a, int output) {
    return cr_ahead_tensor(a, a->step->outputs[output]);
}
bool cr_ahead_has_input(const cr_ahead *a, int input) {
    return input < a->step->input_count && a->step->inputs[input] >= 0;
}

bool cr_ahead_is_dense(const cr_ahead_view *view) {
    int64_t expected = 1;
    for (int d = view->shape.count - 1; d >= 0; d--) {
        if (view->shape.at[d] != 1 && view->strides.at[d] != expected) return false;
        expected *= view->shape.at[d];
    }
    return true;
}

/* A dense view at `*used` bytes into some memory, which grows by it. */
static cr_ahead_view dense_view(const char *memory, size_t *used, cr_dtype dtype, cr_shape shape) {
    cr_ahead_view view = {.dtype = dtype, .shape = shape};
    size_t numel = 1;
    for (int d = 0; d < shape.count; d++)
        numel *= (size_t)shape.at[d];
    cr_contiguous_strides(shape, &view.strides);
    snprintf(view.base, sizeof view.base, "c->%s + %zu", memory, *used);
    *used += cr_ahead_padded(numel * cr_dtype_size(dtype));
    return view;
}

cr_ahead_view cr_ahead_scratch(cr_ahead *a, cr_dtype dtype, cr_shape shape) {
    const cr_ahead_view view = dense_view("scratch", &a->scratch, dtype, shape);
    if (a->scratch > a->scratch_bytes) a->scratch_bytes = a->scratch;
    return view;
}

cr_ahead_view cr_ahead_room(cr_ahead *a, cr_dtype dtype, cr_shape shape) {
    return dense_view("arena", &a->arena_bytes, dtype, shape);
}

/* ---------------------------------------------------------------- declarations */
void cr_ahead_declare(cr_ahead *a, const char *name, const cr_ahead_view *view, bool writes) {
    const char *type = cr_ahead_type(view->dtype), *qualifier = writes ? "" : "const ";
    cr_text_add(&a->text, "    %s%s *%s = (%s%s *)(%s)", qualifier, type, name, qualifier, type, view->base);
    if (view->offset) cr_text_add(&a->text, " + %lld", (long long)view->offset);
    cr_text_add(&a->text, ";\n");
}

bool cr_ahead_read_view(cr_ahead *a, const char *name, cr_ahead_view view, cr_dtype dtype) {
    if (view.dtype != dtype || !cr_ahead_is_dense(&view)) {
        const cr_ahead_view dense = cr_ahead_scratch(a, dtype, view.shape);
        if (!cr_ahead_copy(a, &dense, &view)) return false;
        view = dense;
    }
    cr_ahead_declare(a, name, &view, false);
    return true;
}

bool cr_ahead_read(cr_ahead *a, int input, cr_dtype dtype) {
    char name[16];
    snprintf(name, sizeof name, "x%d", input);
    if (cr_ahead_has_input(a, input)) return cr_ahead_read_view(a, name, cr_ahead_input_view(a, input), dtype);
    cr_text_add(&a->text, "    const %s *%s = 0;\n    (void)%s;\n", cr_ahead_type(dtype), name, name);
    return true;
}

bool cr_ahead_write(cr_ahead *a, int output, cr_dtype dtype) {
    char name[16];
    snprintf(name, sizeof name, "y%d", output);
    cr_ahead_view view = cr_ahead_output_view(a, output);
    if (view.dtype != dtype || !cr_ahead_is_dense(&view)) {
        const cr_ahead_view dense = cr_ahead_scratch(a, dtype, view.shape);
        a->detours[a->detour_count++] = (cr_ahead_detour){dense, view};
        view = dense;
    }
    cr_ahead_declare(a, name, &view, true);
    return true;
}

bool cr_ahead_deliver(cr_ahead *a) {
    for (int i = 0; i < a->detour_count; i++)
        if (!cr_ahead_copy(a, &a->detours[i].wanted, &a->detours[i].made)) return false;
    return true;
}

cr_ahead_lines cr_ahead_lines_of(const cr_shape *shape, int64_t dim) {
    cr_ahead_lines lines = {1, 1, 1};
    const int at = (int)(dim < 0 ? dim + shape->count : dim);
    for (int d = 0; d < shape->count; d++) {
        if (d < at) lines.outer *= shape->at[d];
        if (d == at) lines.length = shape->at[d];
        if (d > at) lines.inner *= shape->at[d];
    }
    return lines;
}
