/* Everything of convolution for one dtype: include it with T and NAMED(name) defined; it undefines them. */
#include "ops/cpu/variants/product.h"
#include "ops/cpu/variants/convolution_image.h"
#include "ops/cpu/variants/convolution_forward.h"
#include "ops/cpu/variants/convolution_data.h"
#include "ops/cpu/variants/convolution_weights.h"
#include "ops/cpu/variants/winograd.h"
#include "ops/cpu/variants/winograd_weights.h"
#undef LANES
#undef COLUMNS
#undef T
#undef NAMED
