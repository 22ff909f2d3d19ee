/* Every line of pointwise.def as C++ loops of each compute type. */
#include "tests/pointwise_everywhere/loops.h"
#include "ops/math.h"

#define LOOP(name, result, count_of_operands, numbers_, ...)                                                           \
    static void PASTE(name, CR_T)(const void *const operands[3], const double numbers[2], void *target, int64_t count) { \
        const T *const pa = (const T *)operands[0], *const pb = (const T *)operands[1], *const pc = (const T *)operands[2]; \
        const double number_0 = numbers[0], number_1 = numbers[1];                                                     \
        result *const out = (result *)target;                                                                          \
        (void)pa, (void)pb, (void)pc, (void)number_0, (void)number_1;                                                  \
        numbers_                                                                                                       \
        for (int64_t i = 0; i < count; i++) {                                                                          \
            VALUES_##count_of_operands out[i] = (result)(__VA_ARGS__);                                                 \
        }                                                                                                              \
    }
#define ATTRIBUTE_NUMBER(i) number_##i
#include "ops/pointwise_rows.h"

#define LOOPS_ANY(name) {loop_##name##_f32, loop_##name##_f64, loop_##name##_i64}
#define LOOPS_SIGNED LOOPS_ANY
#define LOOPS_MASK_A LOOPS_ANY
#define LOOPS_MASK_B LOOPS_ANY
#define LOOPS_COMPARE LOOPS_ANY
#define LOOPS_REAL(name) {loop_##name##_f32, loop_##name##_f64, nullptr}
#define LOOPS_INTEGER(name) {nullptr, nullptr, loop_##name##_i64}
#define ROW_0(count, name, class_) {#name, #class_, count, {nullptr, nullptr}, {0, 0}, LOOPS_##class_(name)},
#define ROW_1(count, name, class_, p, pd) {#name, #class_, count, {#p, nullptr}, {pd, 0}, LOOPS_##class_(name)},
#define ROW_2(count, name, class_, p, pd, q, qd) {#name, #class_, count, {#p, #q}, {pd, qd}, LOOPS_##class_(name)},
#define CR_POINTWISE_1(name, class_, ...) ROW_0(1, name, class_)
#define CR_POINTWISE_1_P(name, p, pd, class_, ...) ROW_1(1, name, class_, p, pd)
#define CR_POINTWISE_1_PQ(name, p, pd, q, qd, class_, ...) ROW_2(1, name, class_, p, pd, q, qd)
#define CR_POINTWISE_2(name, class_, ...) ROW_0(2, name, class_)
#define CR_POINTWISE_2_P(name, p, pd, class_, ...) ROW_1(2, name, class_, p, pd)
#define CR_POINTWISE_2_PQ(name, p, pd, q, qd, class_, ...) ROW_2(2, name, class_, p, pd, q, qd)
#define CR_POINTWISE_3(name, class_, ...) ROW_0(3, name, class_)
#define CR_POINTWISE_3_P(name, p, pd, class_, ...) ROW_1(3, name, class_, p, pd)
extern const host_row ROWS[] = {
#include <cresset/pointwise.def>
};
extern const int ROW_COUNT = sizeof ROWS / sizeof ROWS[0];
