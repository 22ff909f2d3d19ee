/* Random numbers: the same as the library draws from a generator with the context's seed. */
#include "jit/ahead/ahead.h"

#include "core/dtype.h"

static long long numel(const cr_shape *shape) {
    long long count = 1;
    for (int d = 0; d < shape->count; d++)
        count *= shape->at[d];
    return count;
}

static double number_of(const cr_ahead *a, const char *name) {
    return *(const double *)cr_graph_attribute(a->step->node, name);
}

static void add_numbers(cr_ahead *a, const double *numbers, int count) {
    for (int i = 0; i < count; i++) {
        cr_ahead_number(&a->text, numbers[i]);
        cr_text_add(&a->text, ", ");
    }
}

static bool write_uniform(cr_ahead *a) {
    const cr_ahead_view y = cr_ahead_output_view(a, 0);
    const cr_dtype dtype = cr_ahead_compute(y.dtype);
    const double low = number_of(a, "low"), high = number_of(a, "high");
    const int dropped = y.dtype == CR_F16 ? 21 : y.dtype == CR_BF16 ? 24 : 8;
    if (!cr_ahead_write(a, 0, dtype)) return false;
    cr_text_add(&a->text, "    draw_uniform_%s(y0, %lld, ", cr_ahead_type(dtype), numel(&y.shape));
    add_numbers(a, (const double[]){low, high - low, cr_largest_below(y.dtype, low, high)}, 3);
    cr_text_add(&a->text, "%d, 0x1p-%df, c->seed, &c->drawn);\n", dropped, 32 - dropped);
    return true;
}

static bool write_normal(cr_ahead *a) {
    const cr_ahead_view y = cr_ahead_output_view(a, 0);
    const cr_dtype dtype = cr_ahead_compute(y.dtype);
    if (!cr_ahead_write(a, 0, dtype)) return false;
    cr_text_add(&a->text, "    draw_normal_%s(y0, %lld, ", cr_ahead_type(dtype), numel(&y.shape));
    add_numbers(a, (const double[]){number_of(a, "mean"), number_of(a, "std")}, 2);
    cr_text_add(&a->text, "c->seed, &c->drawn);\n");
    return true;
}

static bool write_randint(cr_ahead *a) {
    const cr_randint_options *o = cr_ahead_attributes(a);
    const cr_ahead_view y = cr_ahead_output_view(a, 0);
    if (!cr_ahead_write(a, 0, CR_I64)) return false;
    cr_text_add(&a->text, "    draw_integers(y0, %lld, (int64_t)UINT64_C(%llu), UINT64_C(%llu), c->seed, &c->drawn);\n",
                numel(&y.shape), (unsigned long long)o->low, (unsigned long long)o->high - (unsigned long long)o->low);
    return true;
}

static bool write_bernoulli(cr_ahead *a) {
    const double p = number_of(a, "p");
    const cr_ahead_view y = cr_ahead_output_view(a, 0);
    const bool each = cr_ahead_has_input(a, 0);
    if (!cr_ahead_read(a, 0, CR_F64) || !cr_ahead_write(a, 0, CR_BOOL)) return false;
    cr_text_add(&a->text, "    draw_below(y0, %lld, UINT64_C(%llu), %s, c->seed, &c->drawn);\n", numel(&y.shape),
                p >= 1 ? 1ull << 32 : (unsigned long long)(p * 0x1p32), each ? "x0" : "0");
    return true;
}

static bool write_dropout(cr_ahead *a) {
    const double p = *(const double *)((const char *)cr_ahead_attributes(a) + a->step->op->attributes[0].offset);
    const cr_ahead_view y = cr_ahead_output_view(a, 0);
    const cr_dtype dtype = cr_ahead_compute(y.dtype);
    const double scale = p < 1 ? 1 / (1 - p) : 0;
    if (!cr_ahead_read(a, 0, dtype) || !cr_ahead_write(a, 0, dtype) || !cr_ahead_write(a, 1, CR_BOOL)) return false;
    cr_text_add(&a->text, "    drop_%s(y0, y1, x0, %lld, UINT64_C(%llu), ", cr_ahead_type(dtype), numel(&y.shape),
                (unsigned long long)(p * 4294967296.0));
    add_numbers(a, &scale, 1);
    cr_text_add(&a->text, "c->seed, &c->drawn);\n");
    return true;
}

static bool write_multinomial(cr_ahead *a) {
    const cr_multinomial_options *o = cr_ahead_attributes(a);
    const cr_ahead_view weights = cr_ahead_input_view(a, 0);
    const long long categories = weights.shape.at[weights.shape.count - 1], rows = numel(&weights.shape) / categories;
    if (!cr_ahead_read(a, 0, CR_F64) || !cr_ahead_write(a, 0, CR_I64)) return false;
    const cr_ahead_view numbers = cr_ahead_scratch(a, CR_F64, CR_SHAPE(categories));
    const cr_ahead_view room = cr_ahead_scratch(a, CR_I64, CR_SHAPE(2 * categories));
    cr_text_add(&a->text, "    if (!choose_%s(y0, x0, %lld, %lld, %lld, (f64 *)(%s), ",
                o->replacement ? "replaced" : "apart", rows, categories, (long long)o->count, numbers.base);
    if (!o->replacement) cr_text_add(&a->text, "(i64 *)(%s), ", room.base);
    cr_text_add(&a->text, "c->seed, &c->drawn)) c->status = 2;\n");
    return true;
}

const cr_ahead_template cr_ahead_draws[] = {{"uniform", write_uniform},
                                            {"normal", write_normal},
                                            {"randint", write_randint},
                                            {"bernoulli", write_bernoulli},
                                            {"dropout", write_dropout},
                                            {"multinomial", write_multinomial},
                                            {NULL, NULL}};
