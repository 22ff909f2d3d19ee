/* Cresset models: networks that papers made well known, with torchvision's names of modules and parameters, so that
 * state dicts move both ways. Weights are drawn from the default generator. */
#ifndef CRESSET_MODELS_H
#define CRESSET_MODELS_H

#include <cresset/nn.h>

#ifdef __cplusplus
extern "C" {
#endif

/* LeCun et al. 1998, with ReLU and max pooling: [N, 1, 28, 28] -> [N, classes]; conv1, conv2, fc1, fc2, fc3. */
CR_API cr_nn_module *cr_vision_lenet(int64_t classes);

/* He et al. 2016: [N, 3, H, W] -> [N, classes], H and W from 32 on (224 as published); 50 with bottlenecks whose stride
 * is in the 3×3 convolution, as in torchvision. Convolutions begin as He's normal by fan out. */
CR_API cr_nn_module *cr_vision_resnet18(int64_t classes);
CR_API cr_nn_module *cr_vision_resnet34(int64_t classes);
CR_API cr_nn_module *cr_vision_resnet50(int64_t classes);

/* Simonyan and Zisserman 2014: [N, 3, H, W] -> [N, classes], H and W from 32 on (224 as published), without batch norm;
 * features, avgpool to 7×7, classifier, as in torchvision. */
CR_API cr_nn_module *cr_vision_vgg11(int64_t classes);
CR_API cr_nn_module *cr_vision_vgg16(int64_t classes);
CR_API cr_nn_module *cr_vision_vgg19(int64_t classes);

/* Sandler et al. 2018, of width 1: [N, 3, H, W] -> [N, classes], H and W from 32 on (224 as published). */
CR_API cr_nn_module *cr_vision_mobilenet_v2(int64_t classes);

#define CR_VISION_DCGAN_OPTIONS(A, op)                                                                                 \
    A(op, INT, latent, 100) A(op, INT, features, 64) A(op, INT, channels, 3) A(op, INT, image_size, 64)
CR_OPTIONS(vision_dcgan, CR_VISION_DCGAN_OPTIONS)
/* Radford, Metz, Chintala 2016, named "main.0", … as in PyTorch's example; image_size is a power of two from 16 on.
 * Convolutions begin as N(0, 0.02), the scales of batch norm as N(1, 0.02).
 * Generator: [N, latent, 1, 1] -> [N, channels, image_size, image_size] in -1 … 1. */
CR_API cr_nn_module *cr_vision_dcgan_generator_with(const cr_vision_dcgan_options *options);
/* Discriminator: [N, channels, image_size, image_size] -> logits [N, 1, 1, 1]; `latent` is not read. */
CR_API cr_nn_module *cr_vision_dcgan_discriminator_with(const cr_vision_dcgan_options *options);
#ifndef __cplusplus
/* cr_vision_dcgan_generator(.image_size = 32) */
#define cr_vision_dcgan_generator(...)                                                                                 \
    cr_vision_dcgan_generator_with(CR_WITH(vision_dcgan, CR_VISION_DCGAN_OPTIONS, __VA_ARGS__))
#define cr_vision_dcgan_discriminator(...)                                                                             \
    cr_vision_dcgan_discriminator_with(CR_WITH(vision_dcgan, CR_VISION_DCGAN_OPTIONS, __VA_ARGS__))
#endif

#ifdef __cplusplus
}
#endif
#endif
