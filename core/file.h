/* Files: written so that a reader sees the old file or the new one, whole, at any moment; and read into memory.
 * Shared by everything that saves: .npy, safetensors, images, checkpoints, plots. */
#ifndef CRESSET_CORE_FILE_H
#define CRESSET_CORE_FILE_H

#include <cresset/core.h>

/* A file being written. The bytes go to a temporary file in the same folder; commit syncs it, renames it over the path
 * and syncs the folder. Once a call has failed the later ones fail quietly, so only commit needs to be checked.
 * A path that is a device, pipe or socket (/dev/stdout) is written directly; a symbolic link keeps pointing where it
 * does. */
typedef struct cr_file_writer cr_file_writer;

/* NULL and CR_ERROR_IO where the folder cannot be written to; `path` is copied. */
cr_file_writer *cr_file_writer_begin(const char *path);
/* Buffered. False where this or an earlier write failed, or `writer` is NULL. */
bool cr_file_writer_write(cr_file_writer *writer, const void *data, size_t bytes);
/* All elements of a tensor of any device and strides, in row-major order. */
bool cr_file_writer_write_tensor(cr_file_writer *writer, const cr_tensor *t);
/* Bytes given to cr_file_writer_write so far. */
int64_t cr_file_writer_position(const cr_file_writer *writer);
/* Puts the new file in place and frees `writer`. False where any step failed: then the old file is untouched and the
 * temporary one gone. */
bool cr_file_writer_commit(cr_file_writer *writer);
/* Drops what was written and frees `writer`; the old file is untouched. NULL is ignored. */
void cr_file_writer_abandon(cr_file_writer *writer);

/* Opens a regular file for reading and tells its size. -1 and CR_ERROR_IO on failure. */
int cr_file_open(const char *path, int64_t *bytes);
/* Reads exactly `bytes` bytes from a descriptor; false and CR_ERROR_IO, or CR_ERROR_FORMAT where the file ends
 * first. */
bool cr_file_read(int descriptor, const char *path, void *data, size_t bytes);
/* The whole file in memory from cr_malloc, for cr_free, with a zero byte behind it. A file past `limit` bytes is
 * refused before anything is allocated (0: no limit). NULL and an error on failure. */
void *cr_file_load(const char *path, int64_t limit, size_t *bytes);

#endif
