/* In-place writes and views.
 *
 * A write to a view changes its base: the base's new history is "the old base with the view's region replaced", and the
 * view becomes "that region of the new base". Other views of the base notice by the base's generation and look again
 * when they are used next. */
#include "autograd/node.h"

/* Where a view lies in its base: strides and offset in elements of the base's storage. */
typedef struct geometry {
    cr_shape shape, strides;
    int64_t offset; /* from the base's first element */
    bool base_channels_last;
} geometry;

static bool geometry_of(const cr_tensor *view, const cr_tensor *base, geometry *place) {
    const bool channels_last = !cr_is_contiguous(base) && cr_is_channels_last(base);
    if (!channels_last && !cr_is_contiguous(base))
        return cr_fail(CR_ERROR_UNSUPPORTED,
                       "a view of a tensor with gaps between its elements is written in place; clone the tensor first");
    *place = (geometry){cr_tensor_shape(view), cr_strides_of(view), view->offset - base->offset, channels_last};
    return true;
}

/* The gradient of a base in the base's own memory layout. */
static cr_tensor *as_base(const geometry *place, cr_tensor *gradient) {
    return place->base_channels_last ? cr_channels_last(gradient) : cr_contiguous(gradient);
}

/* view = region of base: the base's gradient is zero outside the region. */
static bool region_rule(cr_node *node, cr_vjp *v) {
    const geometry *place = node->payload;
    cr_tensor *zeros =
        as_base(place, cr_zeros(v->input_specs[0].dtype, v->input_specs[0].shape, node->edges[0].device));
    return cr_vjp_set(v, 0, cr_as_strided_scatter(zeros, v->grads[0], place->shape, place->strides, place->offset));
}

/* base' = base with the region replaced by source. */
static bool replace_rule(cr_node *node, cr_vjp *v) {
    const geometry *place = node->payload;
    cr_tensor *gradient = as_base(place, v->grads[0]);
    if (v->needs[1] && !cr_vjp_set(v, 1, cr_as_strided(gradient, place->shape, place->strides, place->offset)))
        return false;
    if (!v->needs[0]) return true;
    cr_tensor *nothing = cr_zeros(v->input_specs[1].dtype, v->input_specs[1].shape, node->edges[1].device);
    return cr_vjp_set(v, 0, cr_as_strided_scatter(gradient, nothing, place->shape, place->strides, place->offset));
}

/* `view` gets a node of its own that looks at base's present history. */
static bool look_again(cr_tensor *view, cr_tensor *base) {
    geometry place;
    if (!geometry_of(view, base, &place)) return false;
    cr_node *node = cr_node_new("view", 1, 1, 0, &place, sizeof place);
    if (!node) return false;
    node->function = region_rule;
    cr_set_spec(&node->output_specs[0], view);
    cr_set_spec(&node->input_specs[0], base);
    node->output_device = view->device;
    const bool made = cr_edge_of(base, &node->edges[0]) && cr_set_node(view, node, 0);
    cr_node_release(node);
    if (made) cr_record_peek(view)->generation = cr_record_peek(base)->generation;
    return made;
}

bool cr_refresh_view(cr_tensor *t) {
    cr_autograd_record *record = cr_record_peek(t);
    const cr_autograd_record *base = cr_record_peek(record->base);
    if (!base || base->generation == record->generation || !record->base->requires_grad) return true;
    return look_again(t, record->base);
}

bool cr_record_view(cr_tensor *view, cr_tensor *source) {
    const cr_autograd_record *source_record = cr_record_peek(source);
    cr_tensor *base = source_record && source_record->base ? source_record->base : source;
    cr_autograd_record *record = cr_record_of(view), *base_record = cr_record_of(base);
    if (!record || !base_record) return false;
    if (view == base || record->base) return true;
    record->base = cr_retain(base);
    record->generation = base_record->generation;
    return true;
}

bool cr_check_in_place(cr_tensor *t) {
    const cr_autograd_record *record = cr_record_peek(t);
    cr_tensor *base = record && record->base ? record->base : t;
    if (!base->requires_grad || !cr_is_leaf(base)) return true;
    return cr_fail(CR_ERROR_STATE,
                   "%s leaf that requires gradients is written in place; do it under CR_NO_GRAD, or write to a clone",
                   base == t ? "a" : "a view of a");
}

bool cr_record_in_place(cr_tensor *t, cr_node *node) {
    cr_autograd_record *record = cr_record_of(t);
    if (!record) return false;
    if (!record->base) {
        record->generation++;
        return cr_set_node(t, node, 0);
    }
    cr_tensor *base = record->base;
    geometry place;
    if (!geometry_of(t, base, &place)) return false;
    cr_node *replace = cr_node_new("write_view", 2, 1, 0, &place, sizeof place);
    if (!replace) return false;
    replace->function = replace_rule;
    cr_set_spec(&replace->output_specs[0], base);
    cr_set_spec(&replace->input_specs[0], base);
    cr_set_spec(&replace->input_specs[1], t);
    replace->output_device = base->device;
    replace->edges[1] = (cr_edge){cr_node_retain(node), 0, t->device};
    const bool made = cr_edge_of(base, &replace->edges[0]) && cr_set_node(base, replace, 0);
    cr_node_release(replace);
    if (!made) return false;
    cr_record_peek(base)->generation++;
    return look_again(t, base);
}
