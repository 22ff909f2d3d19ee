/* A folder of its own for tests that write files: set-up and tear-down for cmocka, paths inside, and its content. */
#ifndef CRESSET_TEMPORARY_FOLDER_H
#define CRESSET_TEMPORARY_FOLDER_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char temporary_folder[64];

static int make_temporary_folder(void **state) {
    (void)state;
    snprintf(temporary_folder, sizeof temporary_folder, "/tmp/cresset-test-XXXXXX");
    return mkdtemp(temporary_folder) ? 0 : -1;
}

/* Removes the files in it, and returns how many there were. */
static inline int empty_temporary_folder(void) {
    int count = 0;
    DIR *entries = opendir(temporary_folder);
    for (struct dirent *entry; entries && (entry = readdir(entries));)
        count += unlinkat(dirfd(entries), entry->d_name, 0) == 0;
    if (entries) closedir(entries);
    return count;
}

static inline int count_temporary_files(void) {
    int count = -2; /* "." and ".." */
    DIR *entries = opendir(temporary_folder);
    while (entries && readdir(entries))
        count++;
    if (entries) closedir(entries);
    return count;
}

static int remove_temporary_folder(void **state) {
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -r '%s'", temporary_folder);
    return system(command);
}

/* The path of a file in it. Valid until the eighth call from now. */
static inline const char *in_folder(const char *name) {
    static char paths[8][160];
    static unsigned next;
    char *path = paths[next++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", temporary_folder, name);
    return path;
}

#endif
