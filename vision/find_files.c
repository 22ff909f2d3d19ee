/* Lists of files and folders, in an order that does not depend on the file system. */
#define _GNU_SOURCE
#include "vision/stored.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

enum { PATH_BYTES = 4096 };

void cr_vision_paths_clear(cr_vision_paths *paths) {
    for (int64_t i = 0; i < paths->count; i++)
        cr_free(paths->at[i]);
    cr_free(paths->at);
    *paths = (cr_vision_paths){0};
}

static bool add(cr_vision_paths *paths, const char *path) {
    if (paths->count == paths->capacity) {
        const int64_t capacity = paths->capacity ? paths->capacity * 2 : 64;
        char **grown = cr_realloc(paths->at, (size_t)capacity * sizeof *grown);
        if (!grown) return false;
        paths->at = grown;
        paths->capacity = capacity;
    }
    char *copy = cr_strdup(path);
    if (copy) paths->at[paths->count++] = copy;
    return copy != NULL;
}

static int by_bytes(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }
static void sort(cr_vision_paths *paths) {
    if (paths->count > 1) qsort(paths->at, (size_t)paths->count, sizeof *paths->at, by_bytes);
}

static bool has_ending(const char *name, const char *const *endings) {
    const size_t length = strlen(name);
    for (; *endings; endings++) {
        const size_t ending = strlen(*endings);
        if (length > ending && strcasecmp(name + length - ending, *endings) == 0) return true;
    }
    return false;
}

/* Calls visit for each entry that is not hidden, with its path and kind. */
static bool each_entry(const char *folder,
                       bool (*visit)(void *context, const char *path, const char *name, bool is_folder),
                       void *context) {
    DIR *directory = opendir(folder);
    if (!directory) return cr_fail(CR_ERROR_IO, "%s: cannot be read: %s", folder, strerror(errno));
    bool done = true;
    for (struct dirent *entry; done && (entry = readdir(directory));) {
        char path[PATH_BYTES];
        struct stat status;
        if (entry->d_name[0] == '.') continue;
        const int written = snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        if (written < 0 || written >= PATH_BYTES || stat(path, &status) != 0) continue; /* a link to nowhere */
        if (S_ISDIR(status.st_mode) || S_ISREG(status.st_mode))
            done = visit(context, path, entry->d_name, S_ISDIR(status.st_mode));
    }
    closedir(directory);
    return done;
}

typedef struct search {
    const char *const *endings;
    int depth;
    cr_vision_paths *paths;
} search;

static bool visit_file(void *context, const char *path, const char *name, bool is_folder) {
    search *s = context;
    if (!is_folder) return !has_ending(name, s->endings) || add(s->paths, path);
    if (s->depth == 0) return true;
    search deeper = {s->endings, s->depth - 1, s->paths};
    return each_entry(path, visit_file, &deeper);
}

bool cr_vision_find_files(const char *folder, const char *const *endings, int depth, cr_vision_paths *paths) {
    search s = {endings, depth < 16 ? depth : 16, paths};
    if (!each_entry(folder, visit_file, &s)) return false;
    sort(paths);
    return true;
}

static bool visit_folder(void *context, const char *path, const char *name, bool is_folder) {
    (void)path;
    return !is_folder || add(context, name);
}

bool cr_vision_find_folders(const char *folder, cr_vision_paths *names) {
    if (!each_entry(folder, visit_folder, names)) return false;
    sort(names);
    return true;
}
