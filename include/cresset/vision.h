/* Images: reading and writing, transforms, datasets, grids and animated GIFs (torchvision).
 *
 * An image is a tensor [channels, height, width] on the CPU, u8 (0 … 255) or f32. Functions that return a tensor return
 * a new one, of the innermost scope, or the given one where nothing changes. Whoever is given a transform or a dataset
 * owns it, also where the call fails. A build without the image libraries (CRESSET_IMAGES=OFF) fails with
 * CR_ERROR_UNSUPPORTED where it would need them. */
#ifndef CRESSET_VISION_H
#define CRESSET_VISION_H

#include <cresset/data.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ------------------------------------------------------------------ files */
/* Channels to read: the file's own number, or converted. */
typedef enum cr_vision_mode {
    CR_VISION_UNCHANGED = 0,
    CR_VISION_GRAY = 1,
    CR_VISION_GRAY_ALPHA = 2,
    CR_VISION_RGB = 3,
    CR_VISION_RGB_ALPHA = 4
} cr_vision_mode;

/* PNG, JPEG or BMP to u8 [channels, height, width]. CR_ERROR_IO, CR_ERROR_FORMAT (damaged, or past 2^27 pixels),
 * CR_ERROR_UNSUPPORTED (another format). */
CR_API cr_tensor *cr_vision_read_image(const char *path, cr_vision_mode mode);
CR_API cr_tensor *cr_vision_decode_image(const void *bytes, size_t size, cr_vision_mode mode);
/* Writes [channels, height, width] or [height, width], 1 to 4 channels, any device: u8 as it is, floats as x * 255 +
 * 0.5 clamped. Whoever looks sees the old file or the new one, whole. */
CR_API bool cr_vision_write_png(const char *path, const cr_tensor *image);
CR_API bool cr_vision_write_jpg(const char *path, const cr_tensor *image, int quality); /* 1 … 100 */
/* The same into memory from cr_malloc, for cr_free. */
CR_API bool cr_vision_encode_png(const cr_tensor *image, uint8_t **bytes, size_t *size);
CR_API bool cr_vision_encode_jpg(const cr_tensor *image, int quality, uint8_t **bytes, size_t *size);

/* ------------------------------------------------------------------ functions of images
 * (torchvision.transforms.functional) All take u8 or f32 and keep the dtype, where nothing else is said. */
/* Bilinear with antialiasing when shrinking, as PIL's BILINEAR and torch's interpolate(antialias=True). */
CR_API cr_tensor *cr_vision_image_resize(const cr_tensor *image, int64_t height, int64_t width);
/* The rectangle; what lies outside of the image is 0. */
CR_API cr_tensor *cr_vision_image_crop(const cr_tensor *image, int64_t top, int64_t left, int64_t height,
                                       int64_t width);
CR_API cr_tensor *cr_vision_image_center_crop(const cr_tensor *image, int64_t height, int64_t width);
/* Adds borders (negative: cuts) filled with `fill`, in the image's own units. */
CR_API cr_tensor *cr_vision_image_pad(const cr_tensor *image, int64_t left, int64_t top, int64_t right, int64_t bottom,
                                      double fill);
CR_API cr_tensor *cr_vision_image_horizontal_flip(const cr_tensor *image);
CR_API cr_tensor *cr_vision_image_vertical_flip(const cr_tensor *image);
/* Counter-clockwise about the centre; the size stays; nearest pixel, or bilinear. */
CR_API cr_tensor *cr_vision_image_rotate(const cr_tensor *image, double degrees, bool bilinear, double fill);
/* 0.2989 r + 0.587 g + 0.114 b, as 1 or 3 equal channels. */
CR_API cr_tensor *cr_vision_image_to_grayscale(const cr_tensor *image, int channels);
/* Mixes with black, with the mean grey, with the grey image: 0 gives these, 1 the image, 2 twice the difference. */
CR_API cr_tensor *cr_vision_image_adjust_brightness(const cr_tensor *image, double factor);
CR_API cr_tensor *cr_vision_image_adjust_contrast(const cr_tensor *image, double factor);
CR_API cr_tensor *cr_vision_image_adjust_saturation(const cr_tensor *image, double factor);
/* Turns the hue by `shift` (-0.5 … 0.5) of the colour circle. */
CR_API cr_tensor *cr_vision_image_adjust_hue(const cr_tensor *image, double shift);
/* u8 to f32 / 255; f32 stays. */
CR_API cr_tensor *cr_vision_image_to_tensor(const cr_tensor *image);
/* (x - mean[c]) / deviation[c], f32; `channels` 1: the same for all. */
CR_API cr_tensor *cr_vision_image_normalize(const cr_tensor *image, int channels, const float *mean,
                                            const float *deviation);

/* ------------------------------------------------------------------ transforms (torchvision.transforms) */
typedef struct cr_vision_transform cr_vision_transform;

/* What a kind of transform must provide. `apply` is called from several threads at once. */
typedef struct cr_vision_transform_table {
    const char *name;
    cr_tensor *(*apply)(void *self, cr_tensor *image, cr_generator_state *random);
    void (*free)(void *self); /* (optional) */
} cr_vision_transform_table;

/* A transform of the user's own; `self` is freed by the table's `free`, also where this call fails. */
CR_API cr_vision_transform *cr_vision_transform_new(const cr_vision_transform_table *table, void *self);
CR_API void cr_vision_transform_free(cr_vision_transform *transform);
/* `random` may be NULL: then always the same draws. */
CR_API cr_tensor *cr_vision_transform_apply(cr_vision_transform *transform, cr_tensor *image,
                                            cr_generator_state *random);
/* A dataset whose first field goes through `transform` (NULL: the dataset itself). */
CR_API cr_data_dataset *cr_vision_transform_dataset(cr_data_dataset *dataset, cr_vision_transform *transform);

/* The shorter side becomes `size`, the other one follows. */
CR_API cr_vision_transform *cr_vision_resize(int64_t size);
CR_API cr_vision_transform *cr_vision_resize_to(int64_t height, int64_t width);
CR_API cr_vision_transform *cr_vision_center_crop(int64_t height, int64_t width);
CR_API cr_vision_transform *cr_vision_pad(int64_t padding, double fill);
CR_API cr_vision_transform *cr_vision_grayscale(int channels);
CR_API cr_vision_transform *cr_vision_random_horizontal_flip(double probability);
CR_API cr_vision_transform *cr_vision_random_vertical_flip(double probability);
CR_API cr_vision_transform *cr_vision_to_tensor(void);
/* cr_vision_normalize(3, (float[]){…}, (float[]){…}); one channel stands for all. */
CR_API cr_vision_transform *cr_vision_normalize(int channels, const float *mean, const float *deviation);
CR_API cr_vision_transform *cr_vision_lambda(cr_tensor *(*function)(cr_tensor *image));
/* `transform` with this probability. */
CR_API cr_vision_transform *cr_vision_random_apply(cr_vision_transform *transform, double probability);
/* One after the other. */
CR_API cr_vision_transform *cr_vision_compose_of(cr_vision_transform *const *transforms, int count);

typedef struct cr_vision_random_crop_options {
    size_t size;
    int64_t height, width;
    int64_t padding; /* on all sides, before cropping */
    double fill;
} cr_vision_random_crop_options;
/* A rectangle of the given size anywhere; an image that is smaller is an error (pad it). */
CR_API cr_vision_transform *cr_vision_random_crop_with(const cr_vision_random_crop_options *options);

typedef struct cr_vision_random_resized_crop_options {
    size_t size;
    int64_t height, width;
    double scale_low, scale_high; /* share of the area: 0.08, 1 */
    double ratio_low, ratio_high; /* width : height: 3/4, 4/3 */
} cr_vision_random_resized_crop_options;
/* A rectangle of random area and shape, resized to height × width (Szegedy et al. 2015). */
CR_API cr_vision_transform *cr_vision_random_resized_crop_with(const cr_vision_random_resized_crop_options *options);

typedef struct cr_vision_color_jitter_options {
    size_t size;
    double brightness, contrast, saturation; /* factors from [max(0, 1 - x), 1 + x]: 0 */
    double hue;                              /* shift from [-x, x], at most 0.5: 0 */
} cr_vision_color_jitter_options;
/* The four adjustments in random order. */
CR_API cr_vision_transform *cr_vision_color_jitter_with(const cr_vision_color_jitter_options *options);

typedef struct cr_vision_random_rotation_options {
    size_t size;
    double degrees; /* from [-degrees, degrees] */
    bool bilinear;
    double fill;
} cr_vision_random_rotation_options;
/* About the centre by a random angle; what comes in from outside is `fill`. */
CR_API cr_vision_transform *cr_vision_random_rotation_with(const cr_vision_random_rotation_options *options);

#ifndef __cplusplus
/* cr_vision_random_crop(.height = 32, .width = 32, .padding = 4) and its like; cr_vision_compose(a, b, c). */
#define cr_vision_random_crop(...)                                                                                     \
    cr_vision_random_crop_with(                                                                                        \
        &(cr_vision_random_crop_options){.size = sizeof(cr_vision_random_crop_options), __VA_ARGS__})
#define cr_vision_random_resized_crop(...)                                                                             \
    cr_vision_random_resized_crop_with(                                                                                \
        &(cr_vision_random_resized_crop_options){.size = sizeof(cr_vision_random_resized_crop_options),                \
                                                 .scale_low = 0.08,                                                    \
                                                 .scale_high = 1.0,                                                    \
                                                 .ratio_low = 3.0 / 4.0,                                               \
                                                 .ratio_high = 4.0 / 3.0,                                              \
                                                 __VA_ARGS__})
#define cr_vision_color_jitter(...)                                                                                    \
    cr_vision_color_jitter_with(                                                                                       \
        &(cr_vision_color_jitter_options){.size = sizeof(cr_vision_color_jitter_options), __VA_ARGS__})
#define cr_vision_random_rotation(...)                                                                                 \
    cr_vision_random_rotation_with(&(cr_vision_random_rotation_options){                                               \
        .size = sizeof(cr_vision_random_rotation_options), .degrees = __VA_ARGS__})
#define cr_vision_compose(...)                                                                                         \
    cr_vision_compose_of((cr_vision_transform *const[]){__VA_ARGS__},                                                  \
                         (int)(sizeof((cr_vision_transform *const[]){__VA_ARGS__}) / sizeof(cr_vision_transform *)))
#endif

/* ------------------------------------------------------------------ datasets
 * Samples are {image, class index (i64, 0-d)}, or {image} where there are no classes. `transform` is given the u8
 * image; without one, images become f32 in [0, 1] (cr_vision_to_tensor). */
typedef struct cr_vision_files_options {
    size_t size;
    const char *folder;
    bool train; /* true */
    cr_vision_transform *transform;
} cr_vision_files_options;

/* MNIST and what comes in its idx format (Fashion-MNIST, KMNIST): {train,t10k}-{images-idx3,labels-idx1}-ubyte, also
 * with .gz, in `folder` or its MNIST/raw. Images [1, 28, 28]. */
CR_API cr_data_dataset *cr_vision_mnist_with(const cr_vision_files_options *options);
/* CIFAR-10, the binary version: data_batch_1 … 5.bin and test_batch.bin, in `folder` or its cifar-10-batches-bin.
 * Images [3, 32, 32]. */
CR_API cr_data_dataset *cr_vision_cifar10_with(const cr_vision_files_options *options);
/* An idx file of bytes (plain or .gz) as a u8 tensor. */
CR_API cr_tensor *cr_vision_read_idx(const char *path);

typedef struct cr_vision_image_folder_options {
    size_t size;
    const char *folder;
    cr_vision_mode mode; /* CR_VISION_RGB */
    cr_vision_transform *transform;
} cr_vision_image_folder_options;
/* A sub-folder for each class, searched to its depths, or images without classes directly in `folder`; in the order of
 * the names' bytes. Files are read when they are asked for. */
CR_API cr_data_dataset *cr_vision_image_folder_with(const cr_vision_image_folder_options *options);
/* Of a dataset from cr_vision_image_folder: 0 classes where the images lie flat. */
CR_API int64_t cr_vision_image_folder_class_count(const cr_data_dataset *dataset);
CR_API const char *cr_vision_image_folder_class_name(const cr_data_dataset *dataset, int64_t index);
CR_API const char *cr_vision_image_folder_path(const cr_data_dataset *dataset, int64_t index);

typedef struct cr_vision_fake_data_options {
    size_t size;
    int64_t count;                   /* 1000 */
    int64_t channels, height, width; /* 3, 224, 224 */
    int64_t classes;                 /* 10 */
    uint64_t seed;
    cr_vision_transform *transform;
} cr_vision_fake_data_options;
/* Noise with random classes, the same for the same seed. */
CR_API cr_data_dataset *cr_vision_fake_data_with(const cr_vision_fake_data_options *options);

typedef struct cr_vision_emoji_options {
    size_t size;
    int64_t image_size;             /* 64 */
    const char *font;               /* NULL: fonts-noto-color-emoji's usual places */
    cr_vision_transform *transform; /* NULL: f32 in [-1, 1] */
    /* Which glyphs to take; NULL: all. `characters`: the code points that are drawn as this glyph, in the font's order:
     * U+1F44D; U+1F44D U+1F3FD (tinted); U+1F1EB U+1F1F7 (a flag). `count` is 0 where the font does not tell. */
    bool (*choose)(const uint32_t *characters, int count);
} cr_vision_emoji_options;
/* The colour glyphs of a font with CBDT bitmaps (Noto Color Emoji), on white, squared: {image [3, size, size]}. Decoded
 * images are kept, so that only the first epoch decodes. */
CR_API cr_data_dataset *cr_vision_emoji_with(const cr_vision_emoji_options *options);

typedef struct cr_vision_glyphs_options {
    size_t size;
    const char *characters; /* ASCII; the class is the place in this text: "0123456789" */
    int64_t image_size;     /* 28 */
    int64_t count;          /* 10000 */
    bool train;         /* true: augmented anew in each epoch; false: other fonts (where there are at least 4), fixed */
    const char *folder; /* searched to its depths for .ttf files: "/usr/share/fonts" */
    double rotation;    /* degrees to either side: 15 */
    cr_vision_transform *transform;
} cr_vision_glyphs_options;
/* Characters drawn from the outlines of the machine's TrueType fonts, white on black, with random font, size, place and
 * rotation: {image [1, size, size], class}. A font's tables and checksums are verified first, but stb_truetype is not
 * made for hostile fonts: give only folders that you trust. */
CR_API cr_data_dataset *cr_vision_glyphs_with(const cr_vision_glyphs_options *options);

#ifndef __cplusplus
#define cr_vision_mnist(...)                                                                                           \
    cr_vision_mnist_with(                                                                                              \
        &(cr_vision_files_options){.size = sizeof(cr_vision_files_options), .train = true, .folder = __VA_ARGS__})
#define cr_vision_cifar10(...)                                                                                         \
    cr_vision_cifar10_with(                                                                                            \
        &(cr_vision_files_options){.size = sizeof(cr_vision_files_options), .train = true, .folder = __VA_ARGS__})
#define cr_vision_image_folder(...)                                                                                    \
    cr_vision_image_folder_with(&(cr_vision_image_folder_options){                                                     \
        .size = sizeof(cr_vision_image_folder_options), .mode = CR_VISION_RGB, .folder = __VA_ARGS__})
#define cr_vision_fake_data(...)                                                                                       \
    cr_vision_fake_data_with(&(cr_vision_fake_data_options){.size = sizeof(cr_vision_fake_data_options),               \
                                                            .count = 1000,                                             \
                                                            .channels = 3,                                             \
                                                            .height = 224,                                             \
                                                            .width = 224,                                              \
                                                            .classes = 10,                                             \
                                                            __VA_ARGS__})
#define cr_vision_emoji(...)                                                                                           \
    cr_vision_emoji_with(                                                                                              \
        &(cr_vision_emoji_options){.size = sizeof(cr_vision_emoji_options), .image_size = 64, __VA_ARGS__})
#define cr_vision_glyphs(...)                                                                                          \
    cr_vision_glyphs_with(&(cr_vision_glyphs_options){.size = sizeof(cr_vision_glyphs_options),                        \
                                                      .characters = "0123456789",                                      \
                                                      .image_size = 28,                                                \
                                                      .count = 10000,                                                  \
                                                      .train = true,                                                   \
                                                      .folder = "/usr/share/fonts",                                    \
                                                      .rotation = 15,                                                  \
                                                      __VA_ARGS__})
#endif

/* ------------------------------------------------------------------ pictures of tensors (torchvision.utils) */
typedef struct cr_vision_grid_options {
    size_t size;
    int64_t row;      /* images in a row: 8 */
    int64_t padding;  /* pixels between and around: 2 */
    double pad_value; /* 0 */
    bool normalize;   /* map [low, high] to [0, 1]; low == high: the smallest and the largest value */
    double low, high;
    bool scale_each; /* with normalize: each image by its own extremes */
} cr_vision_grid_options;
/* [count, channels, height, width] (or [channels, height, width]), 1 or 3 channels, any device: one image
 * [3, height', width'] on the CPU, f32 (u8 stays u8 where not normalised). A single image stays without a border. */
CR_API cr_tensor *cr_vision_make_grid_with(const cr_tensor *images, const cr_vision_grid_options *options);
/* make_grid into a file: PNG, or JPEG where the name ends in .jpg or .jpeg. */
CR_API bool cr_vision_save_image_with(const cr_tensor *images, const char *path, const cr_vision_grid_options *options);

/* An animated GIF, written image by image. */
typedef struct cr_vision_gif cr_vision_gif;
typedef struct cr_vision_gif_options {
    size_t size;
    double delay; /* seconds for each image: 0.1 */
    int loops;    /* 0: for ever */
    bool dither;  /* spread what 256 colours cannot show (Floyd and Steinberg): true */
} cr_vision_gif_options;
/* Nothing stands at `path` before cr_vision_gif_end. NULL and an error where the folder cannot be written. */
CR_API cr_vision_gif *cr_vision_gif_begin_with(const char *path, const cr_vision_gif_options *options);
/* u8 or float [1 or 3, height, width], any device; all of one size. The palette is each image's own. */
CR_API bool cr_vision_gif_add(cr_vision_gif *gif, const cr_tensor *image);
/* Puts the file in place and frees `gif`. False where any step failed: then there is no file, or the old one. */
CR_API bool cr_vision_gif_end(cr_vision_gif *gif);

#ifndef __cplusplus
#define CR_VISION_GRID_(...)                                                                                           \
    (&(cr_vision_grid_options){.size = sizeof(cr_vision_grid_options), .row = 8, .padding = 2, __VA_ARGS__})
/* cr_vision_make_grid((images), .row = 8, .normalize = true), cr_vision_save_image(images, "out.png", .row = 8) */
#define cr_vision_make_grid(images, ...)        cr_vision_make_grid_with(images, CR_VISION_GRID_(__VA_ARGS__))
#define cr_vision_save_image(images, path, ...) cr_vision_save_image_with(images, path, CR_VISION_GRID_(__VA_ARGS__))
#define cr_vision_gif_begin(path, ...)                                                                                 \
    cr_vision_gif_begin_with(                                                                                          \
        path,                                                                                                          \
        &(cr_vision_gif_options){.size = sizeof(cr_vision_gif_options), .delay = 0.1, .dither = true, __VA_ARGS__})
#endif

#ifdef __cplusplus
}
#endif
#endif
