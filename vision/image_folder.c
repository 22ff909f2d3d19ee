/* A folder of images: a sub-folder for each class, or images alone. */
#include "vision/image.h"
#include "vision/stored.h"

#include <string.h>

static const char *const image_endings[] = {".png", ".jpg", ".jpeg", ".bmp", NULL};

typedef struct image_folder {
    cr_vision_mode mode;
    cr_vision_transform *transform;
    cr_vision_paths files, classes;
    int32_t *labels; /* of each file; NULL where there are no classes */
} image_folder;

static int64_t folder_length(void *self) { return ((image_folder *)self)->files.count; }

static bool folder_get(void *self, int64_t index, cr_generator_state *random, cr_data_sample *sample) {
    image_folder *folder = self;
    cr_tensor *image = cr_vision_read_image(folder->files.at[index], folder->mode);
    if (!image) return false;
    sample->fields[0] = cr_vision_transform_apply(folder->transform, image, random);
    sample->count = 1;
    if (folder->labels) sample->fields[sample->count++] = cr_scalar_i64(folder->labels[index]);
    return sample->fields[0] && sample->fields[sample->count - 1];
}

static void folder_free(void *self) {
    image_folder *folder = self;
    cr_vision_transform_free(folder->transform);
    cr_vision_paths_clear(&folder->files);
    cr_vision_paths_clear(&folder->classes);
    cr_free(folder->labels);
    cr_free(folder);
}

static const cr_data_dataset_table folder_table = {"image_folder", folder_length, folder_get, folder_free};

/* The files of class `label` behind those that are there. */
static bool add_class(image_folder *folder, const char *root, int64_t label) {
    char path[4096];
    cr_vision_paths found = {0};
    const int written = snprintf(path, sizeof path, "%s/%s", root, folder->classes.at[label]);
    if (written < 0 || (size_t)written >= sizeof path)
        return cr_fail(CR_ERROR_IO, "image_folder: a path is too long in %s", root);
    const int64_t before = folder->files.count;
    bool done = cr_vision_find_files(path, image_endings, 16, &found);
    const int64_t total = before + found.count;
    if (done && found.count > 0) {
        char **files = cr_realloc(folder->files.at, (size_t)total * sizeof *files);
        if (files) folder->files.at = files;
        int32_t *labels = files ? cr_realloc(folder->labels, (size_t)total * sizeof *labels) : NULL;
        if (labels) folder->labels = labels;
        done = labels != NULL;
    }
    if (done && found.count > 0) {
        memcpy(folder->files.at + before, found.at, (size_t)found.count * sizeof *found.at);
        for (int64_t i = before; i < total; i++)
            folder->labels[i] = (int32_t)label;
        folder->files.count = folder->files.capacity = total;
        found.count = 0; /* the names have moved */
    }
    cr_vision_paths_clear(&found);
    return done;
}

static bool search(image_folder *folder, const char *root) {
    if (!cr_vision_find_folders(root, &folder->classes)) return false;
    for (int64_t label = 0; label < folder->classes.count; label++)
        if (!add_class(folder, root, label)) return false;
    if (folder->files.count > 0) return true;
    cr_vision_paths_clear(&folder->classes);
    if (!cr_vision_find_files(root, image_endings, 0, &folder->files)) return false;
    return folder->files.count > 0 ||
           cr_fail(CR_ERROR_IO, "image_folder: no .png, .jpg or .bmp files in %s or its sub-folders", root);
}

cr_data_dataset *cr_vision_image_folder_with(const cr_vision_image_folder_options *given) {
    cr_vision_image_folder_options options = {.mode = CR_VISION_RGB};
    CR_VISION_TAKE_OPTIONS(options, given);
    if (!options.transform) options.transform = cr_vision_to_tensor();
    image_folder *self = options.transform ? cr_calloc(1, sizeof *self) : NULL;
    if (!self) {
        cr_vision_transform_free(options.transform);
        return NULL;
    }
    self->mode = options.mode;
    self->transform = options.transform;
    if (!options.folder) cr_record_error(CR_ERROR_ARGUMENT, "image_folder: the folder is NULL");
    if (options.folder && search(self, options.folder)) return cr_data_dataset_new(&folder_table, self);
    folder_free(self);
    return NULL;
}

int64_t cr_vision_image_folder_class_count(const cr_data_dataset *dataset) {
    const image_folder *folder = cr_data_dataset_self(dataset, &folder_table);
    return folder ? folder->classes.count : -1;
}

/* Entry `index` of a list, or NULL and an error. */
static const char *entry(const cr_vision_paths *list, int64_t index, const char *what) {
    if (index >= 0 && index < list->count) return list->at[index];
    cr_record_error(CR_ERROR_INDEX, "image_folder: %s %lld of %lld", what, (long long)index, (long long)list->count);
    return NULL;
}

const char *cr_vision_image_folder_class_name(const cr_data_dataset *dataset, int64_t index) {
    const image_folder *folder = cr_data_dataset_self(dataset, &folder_table);
    return folder ? entry(&folder->classes, index, "class") : NULL;
}

const char *cr_vision_image_folder_path(const cr_data_dataset *dataset, int64_t index) {
    const image_folder *folder = cr_data_dataset_self(dataset, &folder_table);
    return folder ? entry(&folder->files, index, "file") : NULL;
}
