/* Random numbers. A draw takes as many Philox blocks of its generator as it needs, and element i of the result depends
 * on the seed, the blocks drawn before, and i alone: never on threads, strides or the device. Uniform numbers,
 * integers, Bernoulli draws and permutations have the same bits on every processor; so have normal numbers on every
 * CPU. .generator (the last argument, optional) is NULL for the default one. Included by <cresset/ops.h>. */

#define CR_UNIFORM_ATTRIBUTES(A, op)                                                                                   \
    A(op, DTYPE, dtype, CR_F32)                                                                                        \
    A(op, DIMS, shape, {0, {0}})                                                                                       \
    A(op, FLOAT, low, 0)                                                                                               \
    A(op, FLOAT, high, 1) A(op, DEVICE, device, {CR_DEVICE_CPU, 0}) A(op, GENERATOR, generator, NULL)
CR_OPTIONS(uniform, CR_UNIFORM_ATTRIBUTES)
/* low … high without high, for the floating dtypes: 24 random bits in f32, 53 in f64, 11 in f16, 8 in bf16. */
CR_API cr_tensor *cr_uniform_with(const cr_uniform_options *options);
/* In place: dtype, shape and device are t's. */
CR_API cr_tensor *cr_uniform_with_(cr_tensor *t, const cr_uniform_options *options);

#define CR_NORMAL_ATTRIBUTES(A, op)                                                                                    \
    A(op, DTYPE, dtype, CR_F32)                                                                                        \
    A(op, DIMS, shape, {0, {0}})                                                                                       \
    A(op, FLOAT, mean, 0)                                                                                              \
    A(op, FLOAT, std, 1) A(op, DEVICE, device, {CR_DEVICE_CPU, 0}) A(op, GENERATOR, generator, NULL)
CR_OPTIONS(normal, CR_NORMAL_ATTRIBUTES)
/* Normal numbers, by Box and Muller's transform (Annals of Mathematical Statistics 29, 1958); within 6.7 std of the
 * mean (8.6 in f64). */
CR_API cr_tensor *cr_normal_with(const cr_normal_options *options);
CR_API cr_tensor *cr_normal_with_(cr_tensor *t, const cr_normal_options *options);

#define CR_RANDINT_ATTRIBUTES(A, op)                                                                                   \
    A(op, DTYPE, dtype, CR_I64)                                                                                        \
    A(op, DIMS, shape, {0, {0}})                                                                                       \
    A(op, INT, low, 0) A(op, INT, high, 2) A(op, DEVICE, device, {CR_DEVICE_CPU, 0}) A(op, GENERATOR, generator, NULL)
CR_OPTIONS(randint, CR_RANDINT_ATTRIBUTES)
/* Integers low … high - 1, in any dtype that holds them. 64 random bits each: no number is likelier than another by
 * more than (high - low) / 2^64. */
CR_API cr_tensor *cr_randint_with(const cr_randint_options *options);
CR_API cr_tensor *cr_randint_with_(cr_tensor *t, const cr_randint_options *options);

#define CR_BERNOULLI_ATTRIBUTES(A, op)                                                                                 \
    A(op, DTYPE, dtype, CR_F32)                                                                                        \
    A(op, DIMS, shape, {0, {0}})                                                                                       \
    A(op, FLOAT, p, 0.5) A(op, DEVICE, device, {CR_DEVICE_CPU, 0}) A(op, GENERATOR, generator, NULL)
CR_OPTIONS(bernoulli, CR_BERNOULLI_ATTRIBUTES)
/* 1 with probability p, else 0 (32 random bits each). probabilities: one p for each element, and the result has their
 * shape and dtype; or NULL, and .p, .shape, .dtype (any, also bool) hold. */
CR_API cr_tensor *cr_bernoulli_with(cr_tensor *probabilities, const cr_bernoulli_options *options);
CR_API cr_tensor *cr_bernoulli_with_(cr_tensor *t, const cr_bernoulli_options *options);

#define CR_MULTINOMIAL_ATTRIBUTES(A, op)                                                                               \
    A(op, INT, count, 1) A(op, BOOL, replacement, false) A(op, GENERATOR, generator, NULL)
CR_OPTIONS(multinomial, CR_MULTINOMIAL_ATTRIBUTES)
/* `count` indices (i64) drawn from each row of weights [n] or [rows, n], which are 0 or more and need not sum to 1.
 * Without .replacement no index is drawn twice (Efraimidis and Spirakis, "Weighted random sampling with a reservoir",
 * 2006). */
CR_API cr_tensor *cr_multinomial_with(cr_tensor *weights, const cr_multinomial_options *options);

#define CR_RANDPERM_ATTRIBUTES(A, op)                                                                                  \
    A(op, INT, count, 0)                                                                                               \
    A(op, DTYPE, dtype, CR_I64) A(op, DEVICE, device, {CR_DEVICE_CPU, 0}) A(op, GENERATOR, generator, NULL)
CR_OPTIONS(randperm, CR_RANDPERM_ATTRIBUTES)
/* 0 … count - 1 in random order. */
CR_API cr_tensor *cr_randperm_with(const cr_randperm_options *options);

/* Normal numbers, each with its own mean and standard deviation; the two broadcast. No gradient flows to them: for that
 * write mean + std · cr_randn_like(std). */
CR_API cr_tensor *cr_normal_from(cr_tensor *mean, cr_tensor *std, cr_generator *generator);
/* Uniform in [0, 1) and standard normal, with t's shape, dtype and device. */
CR_API cr_tensor *cr_rand_like(const cr_tensor *t);
CR_API cr_tensor *cr_randn_like(const cr_tensor *t);

#ifndef __cplusplus
/* cr_randn(CR_F32, CR_SHAPE(2, 3), CR_CPU), cr_randn(CR_F32, CR_SHAPE(2, 3), CR_CPU, .generator = g) */
#define cr_rand(dtype_, shape_, ...)                                                                                   \
    cr_uniform_with(CR_WITH(uniform, CR_UNIFORM_ATTRIBUTES, .dtype = dtype_, .shape = shape_, .device = __VA_ARGS__))
#define cr_randn(dtype_, shape_, ...)                                                                                  \
    cr_normal_with(CR_WITH(normal, CR_NORMAL_ATTRIBUTES, .dtype = dtype_, .shape = shape_, .device = __VA_ARGS__))
/* cr_randint(0, 10, CR_SHAPE(4), CR_CPU, .dtype = CR_I32) */
#define cr_randint(low_, high_, shape_, ...)                                                                           \
    cr_randint_with(                                                                                                   \
        CR_WITH(randint, CR_RANDINT_ATTRIBUTES, .low = low_, .high = high_, .shape = shape_, .device = __VA_ARGS__))
#define cr_randperm(count_, ...)                                                                                       \
    cr_randperm_with(CR_WITH(randperm, CR_RANDPERM_ATTRIBUTES, .count = count_, .device = __VA_ARGS__))
#define cr_bernoulli(probabilities, ...)                                                                               \
    cr_bernoulli_with(probabilities, CR_WITH(bernoulli, CR_BERNOULLI_ATTRIBUTES, __VA_ARGS__))
/* cr_multinomial(weights, 5, .replacement = true) */
#define cr_multinomial(weights, ...)                                                                                   \
    cr_multinomial_with(weights, CR_WITH(multinomial, CR_MULTINOMIAL_ATTRIBUTES, .count = __VA_ARGS__))

/* In place: cr_uniform_(t, -1, 1), cr_normal_(t, 0, 0.02, .generator = g) */
#define cr_uniform_(t, low_, ...)                                                                                      \
    cr_uniform_with_(t, CR_WITH(uniform, CR_UNIFORM_ATTRIBUTES, .low = low_, .high = __VA_ARGS__))
#define cr_normal_(t, mean_, ...)                                                                                      \
    cr_normal_with_(t, CR_WITH(normal, CR_NORMAL_ATTRIBUTES, .mean = mean_, .std = __VA_ARGS__))
#define cr_random_(t, low_, ...)                                                                                       \
    cr_randint_with_(t, CR_WITH(randint, CR_RANDINT_ATTRIBUTES, .low = low_, .high = __VA_ARGS__))
#define cr_bernoulli_(t, ...) cr_bernoulli_with_(t, CR_WITH(bernoulli, CR_BERNOULLI_ATTRIBUTES, .p = __VA_ARGS__))
#endif
