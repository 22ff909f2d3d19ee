#define _GNU_SOURCE
#include "core/mapping.h"

#include "core/file.h"

#include <sys/mman.h>
#include <unistd.h>

cr_mapping *cr_mapping_open(const char *path, int64_t least, const char *what) {
    int64_t bytes = 0;
    const int descriptor = cr_file_open(path, &bytes);
    if (descriptor < 0) return NULL;
    cr_mapping *map = NULL;
    if (bytes < least)
        cr_record_error(CR_ERROR_FORMAT, "%.600s is not %s: it has %lld bytes", path, what, (long long)bytes);
    else
        map = cr_malloc(sizeof *map);
    if (map) {
        atomic_init(&map->references, 1);
        map->bytes = (size_t)bytes;
        map->address = mmap(NULL, map->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor, 0);
        if (map->address == MAP_FAILED) {
            cr_record_error(CR_ERROR_IO, "cannot map %.600s: %m", path);
            cr_free(map);
            map = NULL;
        } else {
            madvise(map->address, map->bytes, MADV_HUGEPAGE); /* what comes from the disk comes in huge pages */
        }
    }
    close(descriptor);
    return map;
}

void cr_mapping_retain(cr_mapping *mapping) {
    atomic_fetch_add_explicit(&mapping->references, 1, memory_order_relaxed);
}

void cr_mapping_release(void *mapping) {
    cr_mapping *map = mapping;
    if (!map || atomic_fetch_sub_explicit(&map->references, 1, memory_order_acq_rel) != 1) return;
    munmap(map->address, map->bytes);
    cr_free(map);
}
