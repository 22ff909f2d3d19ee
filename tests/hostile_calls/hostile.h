/* Arguments that no caller should give: NULL for each pointer in turn, and numbers, shapes, dtypes and devices out of
 * range. What generate.py writes calls every public function with them; main.c looks at what comes of it. */
#ifndef CRESSET_HOSTILE_H
#define CRESSET_HOSTILE_H

#include <cresset.h>

#include <limits.h>
#include <math.h>
#include <string.h>

enum { VARIANTS = 10, TENSORS = 8 };

typedef struct hostile {
    unsigned null; /* bit i: parameter i is NULL */
    int variant;
    cr_tensor *tensors[TENSORS];
    cr_tensor *rooms[64][64];
    char options[1024]; /* zeros, but for the size in front */
    FILE *file;
    cr_tensor *made; /* what a call that gives a tensor gave */
} hostile;

typedef struct hostile_call {
    const char *name;
    void (*run)(hostile *h);
    unsigned pointers, needed; /* bit i: parameter i is a pointer; a tensor without which there is no result */
} hostile_call;

extern const hostile_call calls[];
extern const int call_count;

static inline bool is_null(const hostile *h, int i) { return h->null >> i & 1; }
static inline unsigned pick(const hostile *h, int i, unsigned count) { return (unsigned)(h->variant + i * 3) % count; }

static inline cr_tensor *some_tensor(hostile *h, int i) {
    return is_null(h, i) ? NULL : h->tensors[h->variant < 2 ? 0 : pick(h, i, TENSORS)];
}
static inline cr_tensor **some_tensors(hostile *h, int i) { return is_null(h, i) ? NULL : h->tensors; }
static inline const char *some_text(const hostile *h, int i) {
    static const char *const texts[] = {"x", "", "no/such/folder/x", "%s%n", "cpu:99"};
    return is_null(h, i) ? NULL : texts[pick(h, i, 5)];
}
static inline FILE *some_file(const hostile *h, int i) { return is_null(h, i) ? NULL : h->file; }
static inline void *some_options(hostile *h, int i) {
    const size_t sizes[] = {0, sizeof(size_t), 24, sizeof h->options};
    memcpy(h->options, &sizes[pick(h, i, 4)], sizeof(size_t));
    return is_null(h, i) ? NULL : h->options;
}
static inline void *room(hostile *h, int i) { return is_null(h, i) ? NULL : h->rooms[i]; }
static inline int64_t a_number(const hostile *h, int i) {
    static const int64_t numbers[] = {1, 0, -1, 2, INT64_MAX, INT64_MIN, INT32_MAX, 7, -2, 1 << 20};
    return numbers[pick(h, i, 10)];
}
static inline int64_t a_count(const hostile *h, int i) {
    static const int64_t counts[] = {1, 0, 2, -1, 3};
    return counts[pick(h, i, 5)];
}
static inline int an_enum(const hostile *h, int i) {
    static const int values[] = {1, 0, 3, 8, 99, -1};
    return values[pick(h, i, 6)];
}
static inline double a_real(const hostile *h, int i) {
    static const double reals[] = {0.5, 0, -1, NAN, INFINITY, -INFINITY, 1e300};
    return reals[pick(h, i, 7)];
}
static inline bool a_choice(const hostile *h, int i) { return pick(h, i, 2); }
static inline cr_shape a_shape(const hostile *h, int i) {
    static const cr_shape shapes[] = {{2, {2, 3}},
                                      {0, {0}},
                                      {1, {-1}},
                                      {2, {INT64_MAX, 8}},
                                      {3, {INT64_MAX / 4, 2, 2}},
                                      {2, {1 << 20, 1 << 20}},
                                      {9, {1, 1, 1, 1, 1, 1, 1, 1}},
                                      {-1, {1}},
                                      {2, {0, INT64_MAX}},
                                      {2, {-2, 99}}};
    return shapes[pick(h, i, 10)];
}
static inline cr_device a_device(const hostile *h, int i) {
    cr_device device = CR_CPU;
    const int kinds[] = {0, 1, 0, 99, 0, -1};
    device.type = (cr_device_type)(kinds[pick(h, i, 6)] ? kinds[pick(h, i, 6)] : (int)device.type);
    if (pick(h, i, 4) == 2) device.index = 7;
    return device;
}
/* A consumer that does not want what it was given. */
static inline void end_managed(struct DLManagedTensor *managed) {
    if (managed) cr_from_dlpack(managed);
}

#endif
