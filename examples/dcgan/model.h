/* The two networks of a DCGAN (Radford, Metz, Chintala 2016). */
#ifndef DCGAN_MODEL_H
#define DCGAN_MODEL_H

#include <cresset.h>

/* [N, latent, 1, 1] -> [N, 3, image_size, image_size] in -1 … 1; image_size is 32 or 64. */
cr_nn_module *generator_new(int latent, int features, int image_size);
/* [N, 3, image_size, image_size] -> [N, 1, 1, 1]: the logit of "this is real". */
cr_nn_module *discriminator_new(int features, int image_size);

#endif
