/* The C side of the test of programs compiled ahead: operands and expected results come from one file, in order. C99
 * and the C library alone, for it runs on other machines too. */
#ifndef CRESSET_TESTS_AHEAD_CHECK_H
#define CRESSET_TESTS_AHEAD_CHECK_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static FILE *data;
static long long comparisons, elements, failures;

/* Memory with the next `bytes` of the file; lives until the program ends. */
static void *next(size_t bytes) {
    void *memory = calloc(1, bytes + 64);
    if (!memory || fread(memory, 1, bytes, data) != bytes) {
        printf("the data ends early\n");
        exit(2);
    }
    return memory;
}
static void *room(size_t bytes) {
    void *memory = malloc(bytes + 64);
    if (!memory) exit(2);
    memset(memory, 0xa5, bytes + 64);
    return memory;
}

static float half_to_float(uint16_t half, int is_brain) {
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = (half >> 10) & 31u, fraction = half & 1023u;
    uint32_t bits = is_brain ? (uint32_t)half << 16 : sign | (exponent + 112) << 23 | fraction << 13;
    float value;
    if (!is_brain && exponent == 0) return (sign ? -1.0f : 1.0f) * (float)fraction * 0x1p-24f;
    if (!is_brain && exponent == 31) bits = sign | 0x7f800000u | fraction << 13;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void fail(const char *name, const char *what) {
    printf("%s: %s\n", name, what);
    failures++;
}

/* Element i of data of a type: 'f', 'd', 'h', 'b' for f32, f64, f16, bf16; '1', '2', '4', '8' for integers by width. */
static double element(const void *at, char type, long long i) {
    switch (type) {
    case 'f': return (double)((const float *)at)[i];
    case 'd': return ((const double *)at)[i];
    case 'h': return (double)half_to_float(((const uint16_t *)at)[i], 0);
    case 'b': return (double)half_to_float(((const uint16_t *)at)[i], 1);
    case '1': return (double)((const uint8_t *)at)[i];
    case '2': return (double)((const int16_t *)at)[i];
    case '4': return (double)((const int32_t *)at)[i];
    default: return (double)((const int64_t *)at)[i];
    }
}

/* `real` programs give numbers; samples may hold NaN and infinities, which must be where they are expected. */
static void compare(const char *name, const void *given, const void *expected, char type, long long count,
                    double tolerance, int real) {
    comparisons++;
    elements += count;
    for (long long i = 0; i < count; i++) {
        const double x = element(given, type, i), y = element(expected, type, i);
        const int same = x == y || (x != x && y != y && !real);
        if (same || fabs(x - y) <= tolerance * (1 + fabs(y))) continue;
        printf("%s: element %lld of %lld is %.9g, expected %.9g\n", name, i, count, x, y);
        failures++;
        return;
    }
}

#endif
