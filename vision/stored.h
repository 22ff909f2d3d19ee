/* What image datasets share. */
#ifndef CRESSET_VISION_STORED_H
#define CRESSET_VISION_STORED_H

#include <cresset/vision.h>

/* The dataset through `transform`, or through to_tensor where that is NULL. Owns both, also on failure. */
cr_data_dataset *cr_vision_default_transform(cr_data_dataset *dataset, cr_vision_transform *transform);

/* Files below a folder whose names end in one of the endings (lower case, ".png", NULL last), whatever their case,
 * sorted by the bytes of their paths; `depth` 0: only directly in it. Links are followed, at most 16 folders deep. */
typedef struct cr_vision_paths {
    char **at; /* from cr_malloc, each and all */
    int64_t count, capacity;
} cr_vision_paths;
bool cr_vision_find_files(const char *folder, const char *const *endings, int depth, cr_vision_paths *paths);
/* The folders directly in `folder`, sorted; their names, without the path. */
bool cr_vision_find_folders(const char *folder, cr_vision_paths *names);
void cr_vision_paths_clear(cr_vision_paths *paths);

#endif
