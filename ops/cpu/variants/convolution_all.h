/* Convolution by products for one dtype: include it with T and NAMED(name) defined. */
#include "ops/cpu/variants/product.h"
#include "ops/cpu/variants/convolution_image.h"
#include "ops/cpu/variants/convolution_forward.h"
#include "ops/cpu/variants/convolution_data.h"
#include "ops/cpu/variants/convolution_weights.h"
