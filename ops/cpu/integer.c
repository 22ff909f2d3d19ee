/* Packing the weights of integer layers: to[strip][group of inputs][output of the strip][group], inputs in the order of the
 * kernel's taps, then channels; a group is what one lane multiplies: two of i16 or four of i8. With zeros around. */
#include "ops/cpu/variant.h"
#include "ops/integer.h"

#include <string.h>

typedef struct packing {
    const int8_t *from; /* [features][channels][taps] */
    void *to;
    int64_t features, channels, taps, strips;
    int columns;
} packing;

static void pack_direct(const packing *p, int group) {
    const int64_t row = p->columns * group, groups = (p->taps * p->channels + group - 1) / group;
    int16_t *shorts = p->to;
    int8_t *bytes = p->to;
    for (int64_t k = 0; k < p->features; k++)
        for (int64_t i = 0, t = 0; t < p->taps; t++)
            for (int64_t c = 0; c < p->channels; c++, i++) {
                const int64_t at = (k / p->columns * groups + i / group) * row + k % p->columns * group + i % group;
                const int8_t number = p->from[(k * p->channels + c) * p->taps + t];
                if (group == 4)
                    bytes[at] = number;
                else
                    shorts[at] = number;
            }
}

/* to[tap][channel] */
static void pack_each(const packing *p) {
    int16_t *to = p->to;
    for (int64_t k = 0; k < p->features; k++)
        for (int64_t t = 0; t < p->taps; t++)
            to[t * p->strips * p->columns + k] = p->from[k * p->taps + t];
}

/* to[strip][point][pair of channels][output][2] of G' g G'ᵀ: see variants/integer_winograd.h. */
static void pack_winograd(const packing *p) {
    static const int8_t g[6][3] = {{1, 0, 0}, {1, 1, 1}, {1, -1, 1}, {1, 2, 4}, {1, -2, 4}, {0, 0, 1}};
    const int64_t pairs = (p->channels + 1) / 2;
    for (int64_t k = 0; k < p->features; k++)
        for (int64_t c = 0; c < p->channels; c++) {
            const int8_t *w = p->from + (k * p->channels + c) * p->taps;
            int16_t *to = (int16_t *)p->to + k / p->columns * CR_INTEGER_TILE * pairs * p->columns * 2 +
                          c / 2 * p->columns * 2 + k % p->columns * 2 + c % 2;
            for (int i = 0; i < CR_INTEGER_TILE; i++) {
                int sum = 0;
                for (int t = 0; t < 9; t++)
                    sum += g[i / 6][t / 3] * g[i % 6][t % 3] * w[t];
                to[i * pairs * p->columns * 2] = (int16_t)sum;
            }
        }
}

CR_KERNEL(pack_integer) {
    const cr_pack_integer_options *o = call->attributes;
    cr_tensor *weight = cr_dense(call->inputs[0]), *result = call->outputs[0];
    if (!weight) return false;
    packing p = {.from = cr_tensor_address(weight),
                 .to = cr_tensor_address(result),
                 .features = weight->sizes[0],
                 .channels = weight->sizes[1],
                 .taps = 1,
                 .columns = cr_integer_columns()};
    for (int d = 2; d < weight->ndim; d++)
        p.taps *= weight->sizes[d];
    p.strips = (p.features + p.columns - 1) / p.columns;
    memset(p.to, 0, (size_t)result->numel * cr_dtype_size(result->dtype));
    if (o->way == CR_INTEGER_EACH)
        pack_each(&p);
    else if (o->way == CR_INTEGER_WINOGRAD)
        pack_winograd(&p);
    else
        pack_direct(&p, o->way == CR_INTEGER_BYTES ? 4 : 2);
    return true;
}
