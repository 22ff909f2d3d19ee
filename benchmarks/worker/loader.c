/* A data loader's throughput: photographs of 500 × 375 from JPEG files, resized, cropped and flipped at random, in batches of
 * 3 × 224 × 224. A step is an epoch; its time is for one picture. The pictures are made here, for the opponents too. */
#include "worker.h"

#include <math.h>
#include <stdio.h>
#include <sys/stat.h>

enum { PICTURES = 64, BATCH = 32, HEIGHT = 375, WIDTH = 500, SHORT_SIDE = 256, SIDE = 224, COMPARED = 4 };

static cr_data_loader *loader;
static const float mean[] = {0.485f, 0.456f, 0.406f}, deviation[] = {0.229f, 0.224f, 0.225f};

/* Waves of a few lengths and a little noise: a file of some 60 KB, as a photograph's. u8 [3, height, width]. */
static cr_tensor *picture(int index) {
    cr_tensor *image = cr_empty(CR_U8, CR_SHAPE(3, HEIGHT, WIDTH), CR_CPU);
    uint8_t *pixels = image ? cr_data(image) : NULL;
    uint32_t noise = (uint32_t)index + 1;
    for (int i = 0; pixels && i < 3 * HEIGHT * WIDTH; i++) {
        const int x = i % WIDTH, y = i / WIDTH % HEIGHT, channel = i / (WIDTH * HEIGHT);
        noise = noise * 1664525u + 1013904223u;
        const double wave = sin(0.013 * (index % 7 + 1) * x + channel) + cos(0.021 * (index % 5 + 1) * y - index) +
                            0.4 * sin(0.002 * x * (index % 3 + 1) * y / 9.0);
        pixels[i] = (uint8_t)(128 + 45 * wave + (noise >> 28));
    }
    return image;
}

static bool write_pictures(const char *folder) {
    char path[1100];
    snprintf(path, sizeof path, "%s/pictures", folder);
    if (mkdir(path, 0777) != 0) return true; /* an earlier row's */
    for (int i = 0; i < PICTURES; i++)
        CR_SCOPE {
            snprintf(path, sizeof path, "%s/pictures/%02d.jpg", folder, i);
            cr_vision_write_jpg(path, picture(i), 90);
        }
    return cr_ok();
}

/* The first pictures with the middle in place of a random part: what opponents compare. */
static bool compare_pictures(const char *folder) {
    char path[1100];
    cr_tensor *parts[COMPARED];
    for (int i = 0; i < COMPARED; i++) {
        snprintf(path, sizeof path, "%s/pictures/%02d.jpg", folder, i);
        cr_tensor *image = cr_vision_read_image(path, CR_VISION_RGB);
        image = cr_vision_image_resize(image, SHORT_SIDE, SHORT_SIDE * WIDTH / HEIGHT);
        image = cr_vision_image_to_tensor(cr_vision_image_center_crop(image, SIDE, SIDE));
        parts[i] = cr_vision_image_normalize(image, 3, mean, deviation);
    }
    now_prepared.compared = cr_retain(cr_stack(parts, COMPARED, 0));
    return cr_ok();
}

static bool begin_loader(const work *w, const char *folder) {
    char path[1100];
    (void)w;
    if (!write_pictures(folder) || !compare_pictures(folder)) return false;
    snprintf(path, sizeof path, "%s/pictures", folder);
    cr_vision_transform *transform = cr_vision_compose(
        cr_vision_resize(SHORT_SIDE), cr_vision_random_crop(.height = SIDE, .width = SIDE),
        cr_vision_random_horizontal_flip(0.5), cr_vision_to_tensor(), cr_vision_normalize(3, mean, deviation));
    loader = cr_data_loader_new(cr_vision_image_folder(path, .transform = transform), .batch_size = BATCH,
                                .shuffle = true, .workers = cr_num_threads());
    return loader != NULL;
}

static bool epoch(void) {
    int64_t pictures = 0;
    CR_FOR_BATCHES (batch, loader)
        pictures += cr_size(batch.input, 0);
    return cr_ok() && pictures == PICTURES;
}

static void end_loader(void) {
    cr_data_loader_free(loader);
    cr_release(now_prepared.compared);
}

const work loader_works[] = {{"loader, 224 x 224 from JPEG, a picture", {0}, PICTURES, begin_loader, epoch, end_loader},
                             {NULL}};
