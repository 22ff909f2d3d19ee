/* Datasets that lie in memory whole: MNIST and its like, CIFAR-10; and fake data. */
#include "vision/stored.h"
#include "core/file.h"
#include "core/random.h"
#include "core/tensor.h"
#include "vision/image.h"

#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

cr_data_dataset *cr_vision_default_transform(cr_data_dataset *dataset, cr_vision_transform *transform) {
    if (!transform) transform = cr_vision_to_tensor();
    if (!transform) {
        cr_data_dataset_free(dataset);
        return NULL;
    }
    return cr_vision_transform_dataset(dataset, transform);
}

/* True where folder/inner/name can be read; writes the path. */
static bool find(char path[PATH_BYTES], const char *folder, const char *inner, const char *name, const char *ending) {
    const int written = snprintf(path, PATH_BYTES, "%s/%s%s%s%s", folder, inner, *inner ? "/" : "", name, ending);
    return written > 0 && written < PATH_BYTES && access(path, R_OK) == 0;
}

static bool take_files_options(cr_vision_files_options *options, const cr_vision_files_options *given,
                               const char *name) {
    *options = (cr_vision_files_options){.train = true};
    CR_VISION_TAKE_OPTIONS(*options, given);
    return options->folder || cr_fail(CR_ERROR_ARGUMENT, "%s: the folder is NULL", name);
}

/* ---------------------------------------------------------------- MNIST */
static cr_tensor *read_idx_of(const char *folder, const char *name) {
    static const char *const inner[] = {"", "MNIST/raw", "FashionMNIST/raw", "raw"}, *const endings[] = {"", ".gz"};
    char path[PATH_BYTES];
    for (int i = 0; i < 8; i++)
        if (find(path, folder, inner[i / 2], name, endings[i % 2])) return cr_vision_read_idx(path);
    cr_record_error(CR_ERROR_IO,
                    "mnist: neither %s/%s nor the same with .gz is there; download it from a mirror of MNIST", folder,
                    name);
    return NULL;
}

/* u8 [n] to i64 [n] */
static cr_tensor *labels_of(const cr_tensor *bytes) {
    cr_tensor *labels = cr_empty(CR_I64, cr_shape_of(bytes), CR_CPU);
    if (!labels) return NULL;
    const uint8_t *source = cr_data(bytes);
    int64_t *target = cr_data(labels);
    for (int64_t i = 0; i < cr_numel(labels); i++)
        target[i] = source[i];
    return labels;
}

/* [n, height, width] to a view [n, 1, height, width] */
static cr_tensor *with_channel(const cr_tensor *t) {
    const cr_shape shape = CR_SHAPE(t->sizes[0], 1, t->sizes[1], t->sizes[2]);
    cr_shape strides;
    cr_contiguous_strides(shape, &strides);
    return cr_view_raw(t, shape, strides, t->offset);
}

static cr_data_dataset *mnist(const cr_vision_files_options *options) {
    cr_tensor *images =
        read_idx_of(options->folder, options->train ? "train-images-idx3-ubyte" : "t10k-images-idx3-ubyte");
    cr_tensor *labels =
        images ? read_idx_of(options->folder, options->train ? "train-labels-idx1-ubyte" : "t10k-labels-idx1-ubyte")
               : NULL;
    if (!labels) return NULL;
    if (images->ndim != 3 || labels->ndim != 1 || images->sizes[0] != labels->sizes[0] || images->numel == 0) {
        char text[224], other[224];
        cr_record_error(CR_ERROR_FORMAT, "mnist: images are %s and labels %s; [n,height,width] and [n] are needed",
                        cr_describe(images, text), cr_describe(labels, other));
        return NULL;
    }
    cr_tensor *planes = with_channel(images), *classes = labels_of(labels);
    return planes && classes ? cr_data_tensor_dataset(planes, classes) : NULL;
}

cr_data_dataset *cr_vision_mnist_with(const cr_vision_files_options *given) {
    cr_vision_files_options options;
    cr_data_dataset *dataset = NULL;
    if (take_files_options(&options, given, "mnist"))
        CR_SCOPE {
            dataset = mnist(&options);
        }
    if (dataset) return cr_vision_default_transform(dataset, options.transform);
    cr_vision_transform_free(options.transform);
    return NULL;
}

/* ---------------------------------------------------------------- CIFAR-10 */
enum { CIFAR_IMAGE = 3 * 32 * 32, CIFAR_RECORD = 1 + CIFAR_IMAGE, CIFAR_MAX_BYTES = 64 << 20 };

/* Appends a file's records: a label, then the red, green and blue plane. */
static bool read_cifar_file(const char *path, uint8_t **records, int64_t *count) {
    size_t bytes;
    uint8_t *file = cr_file_load(path, CIFAR_MAX_BYTES, &bytes);
    if (!file) return false;
    bool done = bytes > 0 && bytes % CIFAR_RECORD == 0;
    if (!done)
        cr_record_error(CR_ERROR_FORMAT, "%s: %zu bytes are no whole number of records of %d", path, bytes,
                        (int)CIFAR_RECORD);
    for (size_t i = 0; done && i < bytes; i += CIFAR_RECORD)
        if (file[i] > 9)
            done = cr_fail(CR_ERROR_FORMAT, "%s: record %zu has class %d; 0 to 9 are known", path, i / CIFAR_RECORD,
                           file[i]);
    const size_t before = (size_t)*count * CIFAR_RECORD;
    uint8_t *grown = done ? cr_realloc(*records, before + bytes) : NULL;
    if (grown) {
        memcpy(grown + before, file, bytes);
        *records = grown;
        *count += (int64_t)(bytes / CIFAR_RECORD);
    }
    cr_free(file);
    return grown != NULL;
}

static cr_data_dataset *dataset_of_records(const uint8_t *records, int64_t count) {
    cr_tensor *images = cr_empty(CR_U8, CR_SHAPE(count, 3, 32, 32), CR_CPU);
    cr_tensor *labels = cr_empty(CR_I64, CR_SHAPE(count), CR_CPU);
    if (!images || !labels) return NULL;
    for (int64_t i = 0; i < count; i++) {
        memcpy((uint8_t *)cr_data(images) + i * CIFAR_IMAGE, records + i * CIFAR_RECORD + 1, CIFAR_IMAGE);
        cr_data_i64(labels)[i] = records[i * CIFAR_RECORD];
    }
    return cr_data_tensor_dataset(images, labels);
}

static cr_data_dataset *cifar10(const cr_vision_files_options *options) {
    static const char *const train[] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
                                        "data_batch_5.bin"};
    static const char *const test[] = {"test_batch.bin"};
    uint8_t *records = NULL;
    int64_t count = 0;
    bool done = true;
    for (int i = 0; i < (options->train ? 5 : 1) && done; i++) {
        const char *name = options->train ? train[i] : test[i];
        char path[PATH_BYTES];
        if (!find(path, options->folder, "", name, "") &&
            !find(path, options->folder, "cifar-10-batches-bin", name, ""))
            done = cr_fail(CR_ERROR_IO, "cifar10: %s/%s is not there; the binary version of CIFAR-10 is needed",
                           options->folder, name);
        done = done && read_cifar_file(path, &records, &count);
    }
    cr_data_dataset *dataset = done ? dataset_of_records(records, count) : NULL;
    cr_free(records);
    return dataset;
}

cr_data_dataset *cr_vision_cifar10_with(const cr_vision_files_options *given) {
    cr_vision_files_options options;
    cr_data_dataset *dataset = NULL;
    if (take_files_options(&options, given, "cifar10"))
        CR_SCOPE {
            dataset = cifar10(&options);
        }
    if (dataset) return cr_vision_default_transform(dataset, options.transform);
    cr_vision_transform_free(options.transform);
    return NULL;
}

/* ---------------------------------------------------------------- fake data */
static int64_t fake_length(void *self) { return ((const cr_vision_fake_data_options *)self)->count; }

static bool fake_get(void *self, int64_t index, cr_generator_state *random, cr_data_sample *sample) {
    (void)random;
    const cr_vision_fake_data_options *o = self;
    cr_generator_state own = cr_data_random_for(o->seed, 0, index);
    cr_vision_view image;
    if (!cr_vision_create(CR_U8, o->channels, o->height, o->width, &image)) return false;
    const int64_t bytes = o->channels * o->height * o->width;
    for (int64_t i = 0; i < bytes; i += 16) {
        uint32_t numbers[4];
        cr_philox_block(own, (uint64_t)(1 + i / 16), numbers);
        memcpy(image.u8 + i, numbers, (size_t)(bytes - i < 16 ? bytes - i : 16));
    }
    sample->count = 2;
    sample->fields[0] = image.tensor;
    sample->fields[1] = cr_scalar_i64(cr_data_random_integer(&own, 0, o->classes));
    return sample->fields[1] != NULL;
}

cr_data_dataset *cr_vision_fake_data_with(const cr_vision_fake_data_options *given) {
    static const cr_data_dataset_table table = {"fake_data", fake_length, fake_get, cr_free};
    cr_vision_fake_data_options options = {.count = 1000, .channels = 3, .height = 224, .width = 224, .classes = 10};
    CR_VISION_TAKE_OPTIONS(options, given);
    cr_vision_fake_data_options *self = NULL;
    if (options.count < 0 || options.classes < 1 || options.channels < 1 || options.channels > 4096 ||
        options.height < 1 || options.height > 1 << 15 || options.width < 1 || options.width > 1 << 15)
        cr_record_error(CR_ERROR_ARGUMENT, "fake_data: %lld images of %lld x %lld x %lld in %lld classes",
                        (long long)options.count, (long long)options.channels, (long long)options.height,
                        (long long)options.width, (long long)options.classes);
    else
        self = cr_malloc(sizeof *self);
    if (!self) {
        cr_vision_transform_free(options.transform);
        return NULL;
    }
    *self = options;
    cr_data_dataset *dataset = cr_data_dataset_new(&table, self);
    if (dataset) return cr_vision_default_transform(dataset, options.transform);
    cr_vision_transform_free(options.transform);
    return NULL;
}
