/* Pointwise ops: their declarations come from pointwise.def, where one line each says what they are.
 *   cr_exp(x), cr_exp_(x)                        one operand, and in place
 *   cr_add(a, b), cr_add_(a, b)                  two operands
 *   cr_add_scalar(a, 2.0), cr_add_scalar_(…)     the second operand a number: an integer tensor keeps its dtype where
 *                                                the number is integral, else the result is f32
 *   cr_clamp(x, min, max)                        an op's attributes follow its operands
 * Included by <cresset/ops.h>. */
#define CR_POINTWISE_1(name, ...)                                                                                      \
    CR_API cr_tensor *cr_##name(cr_tensor *a);                                                                         \
    CR_API cr_tensor *cr_##name##_(cr_tensor *a);
#define CR_POINTWISE_1_P(name, p, ...)                                                                                 \
    CR_API cr_tensor *cr_##name(cr_tensor *a, double p);                                                               \
    CR_API cr_tensor *cr_##name##_(cr_tensor *a, double p);
#define CR_POINTWISE_1_PQ(name, p, p_default, q, ...)                                                                  \
    CR_API cr_tensor *cr_##name(cr_tensor *a, double p, double q);                                                     \
    CR_API cr_tensor *cr_##name##_(cr_tensor *a, double p, double q);
#define CR_POINTWISE_2(name, ...)                                                                                      \
    CR_API cr_tensor *cr_##name(cr_tensor *a, cr_tensor *b);                                                           \
    CR_API cr_tensor *cr_##name##_(cr_tensor *a, cr_tensor *b);                                                        \
    CR_API cr_tensor *cr_##name##_scalar(cr_tensor *a, double b);                                                      \
    CR_API cr_tensor *cr_##name##_scalar_(cr_tensor *a, double b);
#define CR_POINTWISE_2_P(name, p, ...)                                                                                 \
    CR_API cr_tensor *cr_##name(cr_tensor *a, cr_tensor *b, double p);                                                 \
    CR_API cr_tensor *cr_##name##_(cr_tensor *a, cr_tensor *b, double p);
#define CR_POINTWISE_2_PQ(name, p, p_default, q, ...)                                                                  \
    CR_API cr_tensor *cr_##name(cr_tensor *a, cr_tensor *b, double p, double q);                                       \
    CR_API cr_tensor *cr_##name##_(cr_tensor *a, cr_tensor *b, double p, double q);
#define CR_POINTWISE_3(name, ...)                                                                                      \
    CR_API cr_tensor *cr_##name(cr_tensor *a, cr_tensor *b, cr_tensor *c);                                             \
    CR_API cr_tensor *cr_##name##_(cr_tensor *a, cr_tensor *b, cr_tensor *c);
#define CR_POINTWISE_3_P(name, p, ...)                                                                                 \
    CR_API cr_tensor *cr_##name(cr_tensor *a, cr_tensor *b, cr_tensor *c, double p);                                   \
    CR_API cr_tensor *cr_##name##_(cr_tensor *a, cr_tensor *b, cr_tensor *c, double p);
#include <cresset/pointwise.def>
#include <cresset/pointwise_undef.h>
