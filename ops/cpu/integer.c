/* Packing the weights of integer layers: to[strip][group of inputs][output of the strip][group], inputs in the order of the
 * kernel's taps, then channels; a group is what one lane multiplies: two of i16 or four of i8. With zeros around. */
#include "ops/cpu/variant.h"
#include "ops/integer.h"

#include <string.h>

typedef struct packing {
    const int8_t *from; /* [features][channels][taps] */
    void *to;
    int64_t features, channels, taps, line, strips, depth; /* taps in a line of the kernel */
    int columns;
} packing;

static void pack_direct(const packing *p) {
    int16_t *to = p->to;
    for (int64_t k = 0; k < p->features; k++) {
        int16_t *strip = to + k / p->columns * p->columns * p->depth + k % p->columns * 2;
        for (int64_t i = 0, t = 0; t < p->taps; t++)
            for (int64_t c = 0; c < p->channels; c++, i++)
                strip[i / 2 * p->columns * 2 + i % 2] = p->from[(k * p->channels + c) * p->taps + t];
    }
}

/* Each line of the kernel begins a group. */
static void pack_bytes(const packing *p) {
    int8_t *to = p->to;
    for (int64_t k = 0; k < p->features; k++) {
        int8_t *strip = to + k / p->columns * p->columns * p->depth + k % p->columns * 4;
        for (int64_t i = 0, t = 0; t < p->taps; t++) {
            if (t % p->line == 0) i = (i + 3) / 4 * 4;
            for (int64_t c = 0; c < p->channels; c++, i++)
                strip[i / 4 * p->columns * 4 + i % 4] = p->from[(k * p->channels + c) * p->taps + t];
        }
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
                 .line = 1,
                 .depth = cr_integer_depth(cr_tensor_shape(weight), (int)o->way),
                 .columns = cr_integer_columns()};
    if (weight->ndim == 4) {
        p.line = weight->sizes[3];
        p.taps = weight->sizes[2] * p.line;
    }
    p.strips = (p.features + p.columns - 1) / p.columns;
    memset(p.to, 0, (size_t)result->numel * cr_dtype_size(result->dtype));
    if (o->way == CR_INTEGER_EACH)
        pack_each(&p);
    else if (o->way == CR_INTEGER_WINOGRAD)
        pack_winograd(&p);
    else if (o->way == CR_INTEGER_BYTES)
        pack_bytes(&p);
    else
        pack_direct(&p);
    return true;
}
