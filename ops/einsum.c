/* einsum: each operand brought to one order of letters, joined from left to right by one batched product each. */
#include "ops/op.h"

#include <ctype.h>
#include <string.h>

enum { ELLIPSIS = 52, LABELS = ELLIPSIS + CR_MAX_DIMS };

/* Dims of a tensor by label: letters are 0 … 51, the dims of `...` 52 and up, aligned at the right. */
typedef struct term {
    cr_tensor *tensor;
    int labels[CR_MAX_DIMS];
    int count;
} term;

static int label_of(char letter) {
    return islower((unsigned char)letter) ? letter - 'a' : isupper((unsigned char)letter) ? 26 + letter - 'A' : -1;
}

/* Reads "ab...c" into labels for a tensor of `ndim` dims (ndim -1: the output; then `wide` dims stand for `...`). */
static bool read_labels(const char *text, size_t length, int ndim, int *wide, int *labels, int *count) {
    char letters[64];
    int letter_count = 0, dots_at = -1;
    for (size_t i = 0; i < length; i++) {
        if (isspace((unsigned char)text[i])) continue;
        if (i + 2 < length && !strncmp(text + i, "...", 3) && dots_at < 0) {
            dots_at = letter_count;
            i += 2;
        } else if (label_of(text[i]) >= 0 && letter_count < CR_MAX_DIMS) {
            letters[letter_count++] = text[i];
        } else {
            return cr_fail(CR_ERROR_ARGUMENT, "einsum: cannot read \"%.*s\": letters and one `...`", (int)length, text);
        }
    }
    const int spread = dots_at < 0 ? 0 : ndim < 0 ? *wide : ndim - letter_count;
    if (spread < 0 || (ndim >= 0 && letter_count + spread != ndim) || letter_count + spread > CR_MAX_DIMS)
        return cr_fail(CR_ERROR_SHAPE, "einsum: \"%.*s\" for an operand of %d dims", (int)length, text, ndim);
    if (spread > *wide) *wide = spread;
    *count = 0;
    for (int i = 0; i <= letter_count; i++) {
        for (int k = 0; i == dots_at && k < spread; k++)
            labels[(*count)++] = ELLIPSIS + CR_MAX_DIMS - spread + k;
        if (i < letter_count) labels[(*count)++] = label_of(letters[i]);
    }
    return true;
}

static int find_label(const term *t, int label) {
    for (int i = 0; i < t->count; i++)
        if (t->labels[i] == label) return i;
    return -1;
}

/* A label that comes twice: the diagonal of its dims. */
static bool take_diagonals(term *t) {
    for (int i = 0; i < t->count; i++) {
        for (int k = i + 1; k < t->count; k++) {
            if (t->labels[i] != t->labels[k]) continue;
            const int label = t->labels[i];
            if (cr_size(t->tensor, i) != cr_size(t->tensor, k))
                return cr_fail(CR_ERROR_SHAPE, "einsum: a repeated letter stands for two sizes");
            if (!(t->tensor = cr_diagonal(t->tensor, 0, i, k))) return false;
            memmove(&t->labels[k], &t->labels[k + 1], (size_t)(t->count - k - 1) * sizeof(int));
            memmove(&t->labels[i], &t->labels[i + 1], (size_t)(t->count - i - 2) * sizeof(int));
            t->labels[t->count - 2] = label;
            t->count--;
            return take_diagonals(t);
        }
    }
    return true;
}

/* Sums over labels that are wanted nowhere else. */
static bool sum_out(term *t, const bool *wanted) {
    cr_dims dims = {.count = 0};
    int kept = 0;
    for (int i = 0; i < t->count; i++) {
        if (wanted[t->labels[i]])
            t->labels[kept++] = t->labels[i];
        else
            dims.at[dims.count++] = i;
    }
    t->count = kept;
    return !dims.count || (t->tensor = cr_sum(t->tensor, .dims = dims));
}

/* The tensor with dims in the order of `labels`; size 1 where it has none. */
static cr_tensor *align(const term *t, const int *labels, int count) {
    cr_dims order = {.count = 0};
    cr_shape shape = {.count = count};
    for (int i = 0; i < count; i++) {
        const int at = find_label(t, labels[i]);
        shape.at[i] = at < 0 ? 1 : cr_size(t->tensor, at);
        if (at >= 0) order.at[order.count++] = at;
    }
    return cr_reshape(cr_permute(t->tensor, order), shape);
}

static cr_tensor *merge_dims(cr_tensor *t, const int *counts) {
    cr_shape shape = {.count = 3};
    for (int group = 0, at = 0; group < 3; group++) {
        shape.at[group] = 1;
        for (int k = 0; k < counts[group]; k++)
            shape.at[group] *= cr_size(t, at++);
    }
    return cr_reshape(t, shape);
}

/* a, b -> one term over the labels that are still wanted: [batch, a's own, summed] · [batch, summed, b's own]. */
static bool join(term *a, term *b, const bool *wanted) {
    int batch[CR_MAX_DIMS * 2], own_a[CR_MAX_DIMS], own_b[CR_MAX_DIMS], summed[CR_MAX_DIMS], n_batch = 0, n_a = 0,
                                                                                             n_b = 0, n_summed = 0;
    for (int i = 0; i < a->count; i++) {
        const int label = a->labels[i], other = find_label(b, label);
        if (other < 0)
            own_a[n_a++] = label;
        else if (wanted[label] || cr_size(a->tensor, i) != cr_size(b->tensor, other))
            batch[n_batch++] = label;
        else
            summed[n_summed++] = label;
    }
    for (int i = 0; i < b->count; i++)
        if (find_label(a, b->labels[i]) < 0) own_b[n_b++] = b->labels[i];
    if (n_batch + n_a + n_b > CR_MAX_DIMS)
        return cr_fail(CR_ERROR_SHAPE, "einsum: more than %d dims at once", CR_MAX_DIMS);
    int order_a[CR_MAX_DIMS * 2], order_b[CR_MAX_DIMS * 2], k = 0, m = 0;
    for (int i = 0; i < n_batch; i++)
        order_a[k++] = order_b[m++] = batch[i];
    for (int i = 0; i < n_a; i++)
        order_a[k++] = own_a[i];
    for (int i = 0; i < n_summed; i++)
        order_a[k++] = order_b[m++] = summed[i];
    for (int i = 0; i < n_b; i++)
        order_b[m++] = own_b[i];
    cr_tensor *left = align(a, order_a, k), *right = align(b, order_b, m);
    if (!left || !right) return false;
    cr_shape joined = {.count = 0}, left_batch = {.count = n_batch}, right_batch = {.count = n_batch};
    for (int i = 0; i < n_batch; i++)
        left_batch.at[i] = cr_size(left, i), right_batch.at[i] = cr_size(right, i);
    if (!cr_shape_broadcast(left_batch, right_batch, &joined)) return false;
    cr_shape full_left = cr_shape_of(left), full_right = cr_shape_of(right), shape = joined;
    for (int i = 0; i < n_batch; i++)
        full_left.at[i] = full_right.at[i] = joined.at[i];
    for (int i = 0; i < n_a; i++)
        shape.at[shape.count++] = cr_size(left, n_batch + i);
    for (int i = 0; i < n_b; i++)
        shape.at[shape.count++] = cr_size(right, n_batch + n_summed + i);
    left = merge_dims(cr_expand(left, full_left), (const int[]){n_batch, n_a, n_summed});
    right = merge_dims(cr_expand(right, full_right), (const int[]){n_batch, n_summed, n_b});
    a->tensor = cr_reshape(cr_matmul(left, right), shape);
    a->count = 0;
    for (int i = 0; i < n_batch; i++)
        a->labels[a->count++] = batch[i];
    for (int i = 0; i < n_a; i++)
        a->labels[a->count++] = own_a[i];
    for (int i = 0; i < n_b; i++)
        a->labels[a->count++] = own_b[i];
    return a->tensor != NULL;
}

/* The output's labels: given, or those that occur once, sorted, behind the dims of `...`. */
static bool output_labels(const char *arrow, const int *uses, int *wide, int *labels, int *label_count) {
    if (arrow) return read_labels(arrow + 2, strlen(arrow + 2), -1, wide, labels, label_count);
    *label_count = 0;
    for (int k = 0; k < *wide; k++)
        labels[(*label_count)++] = LABELS - *wide + k;
    for (int c = 0; c < 26; c++) { /* capitals sort before small letters */
        if (uses[26 + c] == 1 && *label_count < CR_MAX_DIMS) labels[(*label_count)++] = 26 + c;
    }
    for (int c = 0; c < 26; c++)
        if (uses[c] == 1 && *label_count < CR_MAX_DIMS) labels[(*label_count)++] = c;
    return true;
}

static bool contract(const char *equation, cr_tensor *const *operands, int count, cr_tensor **result) {
    term terms[CR_MAX_INPUTS] = {{0}};
    int wide = 0, out[CR_MAX_DIMS * 2], out_count, uses[LABELS] = {0};
    const char *arrow = strstr(equation, "->"), *at = equation, *end = arrow ? arrow : equation + strlen(equation);
    for (int t = 0; t < count; t++) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        const char *stop = comma ? comma : end;
        if ((comma != NULL) != (t + 1 < count))
            return cr_fail(CR_ERROR_ARGUMENT, "einsum: \"%.80s\" for %d operands", equation, count);
        terms[t].tensor = operands[t];
        if (!read_labels(at, (size_t)(stop - at), cr_ndim(operands[t]), &wide, terms[t].labels, &terms[t].count))
            return false;
        for (int i = 0; i < terms[t].count; i++)
            uses[terms[t].labels[i]]++;
        if (!take_diagonals(&terms[t])) return false;
        at = stop + 1;
    }
    if (!output_labels(arrow, uses, &wide, out, &out_count)) return false;
    for (int t = 0; t < count; t++) {
        bool wanted[LABELS] = {false};
        for (int i = 0; i < out_count; i++)
            wanted[out[i]] = true;
        for (int u = t + 1; u < count; u++)
            for (int i = 0; i < terms[u].count; i++)
                wanted[terms[u].labels[i]] = true;
        if (t && !join(&terms[0], &terms[t], wanted)) return false;
        if (!sum_out(&terms[0], wanted)) return false;
    }
    for (int i = 0; i < out_count; i++)
        if (find_label(&terms[0], out[i]) < 0)
            return cr_fail(CR_ERROR_ARGUMENT, "einsum: the output of \"%.80s\" names a letter that no operand has",
                           equation);
    cr_dims order = {.count = out_count};
    for (int i = 0; i < out_count; i++)
        order.at[i] = find_label(&terms[0], out[i]);
    return (*result = cr_permute(terms[0].tensor, order)) != NULL;
}

#define EINSUM_ATTRIBUTES(A, op) A(op, TEXT, equation, NULL)
CR_OPTIONS(einsum, EINSUM_ATTRIBUTES)
CR_ATTRIBUTES(einsum, EINSUM_ATTRIBUTES)

static bool decompose_einsum(cr_call *call) {
    const char *equation = ((const cr_einsum_options *)call->attributes)->equation;
    if (!equation) return cr_fail(CR_ERROR_ARGUMENT, "needs an equation");
    return contract(equation, call->inputs, call->input_count, &call->outputs[0]);
}
CR_OP(einsum, .inputs = "operands*", CR_ROW_ATTRIBUTES(einsum), .decompose = decompose_einsum,
      .doc = "Einstein's summation over named dims.")

cr_tensor *cr_einsum(const char *equation, cr_tensor *const *operands, int count) {
    if (!operands || count < 1 || !equation) {
        cr_record_error(CR_ERROR_ARGUMENT, "einsum: needs an equation and at least one operand");
        return NULL;
    }
    const cr_einsum_options options = {sizeof options, cr_intern(equation)};
    return options.equation ? cr_run(&cr_op_einsum, operands, count, &options) : NULL;
}
