/* Which memory a tensor reaches, and whether two tensors share any of it. */
#include "core/tensor.h"

void cr_tensor_extent(const cr_tensor *t, int64_t *low, int64_t *high) {
    *low = *high = t->offset;
    if (t->numel == 0) return;
    for (int i = 0; i < t->ndim; i++)
        *high += (t->sizes[i] - 1) * t->strides[i];
    *high += 1;
}

bool cr_tensor_self_overlaps(const cr_tensor *t) {
    /* Sort dims by stride; each stride must step over all that the smaller ones reach. A view that fails this test
     * without overlapping (as_strided curiosities) is refused too. */
    int order[CR_MAX_DIMS], count = 0;
    for (int i = 0; i < t->ndim; i++) {
        if (t->sizes[i] <= 1) continue;
        int at = count++;
        for (; at > 0 && t->strides[order[at - 1]] > t->strides[i]; at--)
            order[at] = order[at - 1];
        order[at] = i;
    }
    int64_t reach = 0;
    for (int k = 0; k < count; k++) {
        const int dim = order[k];
        if (t->strides[dim] <= reach) return t->numel > 1;
        reach += (t->sizes[dim] - 1) * t->strides[dim];
    }
    return false;
}

/* ---------------------------------------------------------------- two tensors
 * Element i of a and element j of b are the same where offset_a + sum i_k s_k = offset_b + sum j_k t_k. Counting j from
 * its end makes every term positive: sum of step * x over all dims of both, 0 <= x <= most, must be able to reach a
 * target. */
enum { MOST_TERMS = 2 * CR_MAX_DIMS + 2, SEARCH_BUDGET = 2000 };

typedef struct term {
    int64_t step, most;
    int64_t reach;   /* sum of step * most from this term to the last */
    int64_t divisor; /* greatest common divisor of the steps from this term to the last */
} term;

static int64_t greatest_common_divisor(int64_t a, int64_t b) {
    while (b) {
        const int64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* True where the terms can make `target`. Steps of real views are nested, so one or two values of x are tried at each
 * term; a view contrived to need more counts as overlapping. */
static bool can_make(const term *terms, int count, int64_t target, int *budget) {
    if (target == 0) return true;
    if (count == 0 || target < 0 || target > terms->reach || target % terms->divisor) return false;
    const int64_t later = count > 1 ? terms[1].reach : 0, wanted = target / terms->step;
    const int64_t high = wanted < terms->most ? wanted : terms->most;
    const int64_t low = target > later ? (target - later + terms->step - 1) / terms->step : 0;
    for (int64_t x = high; x >= low; x--) {
        if (--*budget < 0) return true;
        if (can_make(terms + 1, count - 1, target - x * terms->step, budget)) return true;
    }
    return false;
}

/* Adds a term, largest step first; terms of one step are one term. */
static void add_term(term *terms, int *count, int64_t step, int64_t size) {
    if (size <= 1 || step == 0) return;
    for (int i = 0; i < *count; i++) {
        if (terms[i].step != step) continue;
        terms[i].most += size - 1;
        return;
    }
    int at = (*count)++;
    for (; at > 0 && terms[at - 1].step < step; at--)
        terms[at] = terms[at - 1];
    terms[at] = (term){.step = step, .most = size - 1};
}

/* The dims of t as terms, in units of `unit` bytes. */
static void add_terms(term *terms, int *count, const cr_tensor *t, int64_t unit) {
    const int64_t units = (int64_t)cr_dtype_size((cr_dtype)t->dtype) / unit;
    for (int i = 0; i < t->ndim; i++)
        add_term(terms, count, t->strides[i] * units, t->sizes[i]);
    add_term(terms, count, 1, units);
}

static bool is_same_view(const cr_tensor *a, const cr_tensor *b) {
    if (a->offset != b->offset || a->ndim != b->ndim || a->dtype != b->dtype) return false;
    for (int i = 0; i < a->ndim; i++)
        if (a->sizes[i] != b->sizes[i] || (a->sizes[i] != 1 && a->strides[i] != b->strides[i])) return false;
    return true;
}

bool cr_tensor_partly_overlaps(const cr_tensor *a, const cr_tensor *b) {
    if (a->storage != b->storage || a->numel == 0 || b->numel == 0 || is_same_view(a, b)) return false;
    const int64_t a_size = (int64_t)cr_dtype_size((cr_dtype)a->dtype),
                  b_size = (int64_t)cr_dtype_size((cr_dtype)b->dtype);
    int64_t a_low, a_high, b_low, b_high;
    cr_tensor_extent(a, &a_low, &a_high);
    cr_tensor_extent(b, &b_low, &b_high);
    if (a_low * a_size >= b_high * b_size || b_low * b_size >= a_high * a_size) return false;
    const int64_t unit = a_size == b_size ? a_size : 1;
    term terms[MOST_TERMS];
    int count = 0, budget = SEARCH_BUDGET;
    add_terms(terms, &count, a, unit);
    add_terms(terms, &count, b, unit);
    for (int i = count - 1; i >= 0; i--) {
        terms[i].reach = terms[i].step * terms[i].most + (i + 1 < count ? terms[i + 1].reach : 0);
        terms[i].divisor = i + 1 < count ? greatest_common_divisor(terms[i].step, terms[i + 1].divisor) : terms[i].step;
    }
    /* the last unit of b, less the first of a */
    return can_make(terms, count, (b_high * b_size - a_low * a_size) / unit - 1, &budget);
}
