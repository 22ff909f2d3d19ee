/* Every line of pointwise.def as a CUDA kernel of each compute type: nvcc compiles it, nothing else is needed. */
#include "ops/math.h"

#define LOOP(name, result, count_of_operands, numbers_, ...)                                                           \
    extern "C" __global__ void PASTE(name, CR_T)(const T *pa, const T *pb, const T *pc, double number_0,               \
                                                 double number_1, result *out, int64_t count) {                        \
        numbers_                                                                                                       \
        const int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x;                                              \
        if (i >= count) return;                                                                                        \
        VALUES_##count_of_operands out[i] = (result)(__VA_ARGS__);                                                     \
    }
#define ATTRIBUTE_NUMBER(i) number_##i
#include "ops/pointwise_rows.h"
