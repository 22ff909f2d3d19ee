/* Reads the pointwise table once for each compute type, as LOOP(name, result type, operands, numbers, expression): what
 * that makes of a line (the CPU's loop, a C++ loop, a CUDA kernel) is for the includer to say, and where an attribute's
 * ATTRIBUTE_NUMBER(0) and (1) are. NUMBERS_ and VALUES_ are pieces for it. No include guard: wanted anew. */
#define PASTE_(name, type) loop_##name##_##type
#define PASTE(name, type)  PASTE_(name, type)
#define NUMBERS_0
#define NUMBERS_1(p)                                                                                                   \
    const T p = ATTRIBUTE(ATTRIBUTE_NUMBER(0));                                                                        \
    (void)p;
#define NUMBERS_2(p, q)                                                                                                \
    NUMBERS_1(p) const T q = ATTRIBUTE(ATTRIBUTE_NUMBER(1));                                                           \
    (void)q;
#define VALUES_1                                                                                                       \
    const T a = pa[i];                                                                                                 \
    (void)a;
#define VALUES_2                                                                                                       \
    VALUES_1 const T b = pb[i];                                                                                        \
    (void)b;
#define VALUES_3                                                                                                       \
    VALUES_2 const T c = pc[i];                                                                                        \
    (void)c;

#define LOOP_ANY(name, ...)     LOOP(name, T, __VA_ARGS__)
#define LOOP_SIGNED(name, ...)  LOOP(name, T, __VA_ARGS__)
#define LOOP_MASK_A(name, ...)  LOOP(name, T, __VA_ARGS__)
#define LOOP_MASK_B(name, ...)  LOOP(name, T, __VA_ARGS__)
#define LOOP_COMPARE(name, ...) LOOP(name, uint8_t, __VA_ARGS__)

#define CR_POINTWISE_1(name, class_, saves, ga, ...)          LOOP_##class_(name, 1, NUMBERS_0, __VA_ARGS__)
#define CR_POINTWISE_1_P(name, p, pd, class_, saves, ga, ...) LOOP_##class_(name, 1, NUMBERS_1(p), __VA_ARGS__)
#define CR_POINTWISE_1_PQ(name, p, pd, q, qd, class_, saves, ga, ...)                                                  \
    LOOP_##class_(name, 1, NUMBERS_2(p, q), __VA_ARGS__)
#define CR_POINTWISE_2(name, class_, saves, ga, gb, ...)          LOOP_##class_(name, 2, NUMBERS_0, __VA_ARGS__)
#define CR_POINTWISE_2_P(name, p, pd, class_, saves, ga, gb, ...) LOOP_##class_(name, 2, NUMBERS_1(p), __VA_ARGS__)
#define CR_POINTWISE_2_PQ(name, p, pd, q, qd, class_, saves, ga, gb, ...)                                              \
    LOOP_##class_(name, 2, NUMBERS_2(p, q), __VA_ARGS__)
#define CR_POINTWISE_3(name, class_, saves, ga, gb, gc, ...)          LOOP_##class_(name, 3, NUMBERS_0, __VA_ARGS__)
#define CR_POINTWISE_3_P(name, p, pd, class_, saves, ga, gb, gc, ...) LOOP_##class_(name, 3, NUMBERS_1(p), __VA_ARGS__)

#define LOOP_REAL(name, ...) LOOP(name, T, __VA_ARGS__)
#define LOOP_INTEGER(...)
#define T    float
#define CR_T f32
#include <cresset/pointwise.def>
#undef T
#undef CR_T
#define T    double
#define CR_T f64
#include <cresset/pointwise.def>
#undef T
#undef CR_T
#undef LOOP_REAL
#undef LOOP_INTEGER
#define LOOP_REAL(...)
#define LOOP_INTEGER(name, ...) LOOP(name, T, __VA_ARGS__)
#define T                       int64_t
#define CR_T                    i64
#include <cresset/pointwise.def>
#undef T
#undef CR_T
#include <cresset/pointwise_undef.h>
