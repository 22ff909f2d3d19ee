/* Storage: a counted block of device memory. Small host data lies in the same block as the struct. */
#include "core/allocator.h"
#include "core/device.h"
#include "core/tensor.h"

enum { STORAGE_HEADER = 64, EMBEDDED_LIMIT = 64 * 1024 };
_Static_assert(sizeof(cr_storage) <= STORAGE_HEADER, "embedded data starts behind the struct, 64-byte aligned");

/* Threads take serials from blocks of 2^32 of their own. */
static uint64_t next_serial(void) {
    static atomic_uint_fast64_t blocks;
    cr_thread *thread = cr_thread_self();
    if (!(uint32_t)thread->next_serial) thread->next_serial = (atomic_fetch_add(&blocks, 1) << 32) + 1;
    return thread->next_serial++;
}

cr_storage *cr_storage_new(cr_device device, size_t bytes) {
    const bool embedded = device.type == CR_DEVICE_CPU && bytes <= EMBEDDED_LIMIT;
    const uint32_t block_bytes = STORAGE_HEADER + (embedded ? (uint32_t)bytes : 0);
    cr_storage *storage = cr_block_allocate(block_bytes);
    if (!storage) return NULL;
    atomic_init(&storage->references, 1);
    atomic_init(&storage->version, 0);
    storage->device = device;
    storage->bytes = bytes;
    storage->is_foreign = false;
    storage->release = NULL;
    storage->context = NULL;
    storage->block_bytes = block_bytes;
    storage->serial = next_serial();
    storage->data = (char *)storage + STORAGE_HEADER;
    if (!embedded) {
        storage->data = cr_device_allocate(device, bytes);
        if (!storage->data) {
            cr_block_free(storage, block_bytes);
            return NULL;
        }
    }
    return storage;
}

cr_storage *cr_storage_wrap(void *data, size_t bytes, void (*release)(void *), void *context) {
    cr_storage *storage = cr_storage_new(CR_CPU, 0);
    if (!storage) return NULL;
    storage->data = data;
    storage->bytes = bytes;
    storage->is_foreign = true;
    storage->release = release;
    storage->context = context;
    return storage;
}

cr_storage *cr_storage_hollow(cr_device device, size_t bytes) {
    cr_storage *storage = cr_storage_wrap(NULL, bytes, NULL, NULL);
    if (storage) storage->device = device;
    return storage;
}

void cr_storage_release(cr_storage *storage) {
    if (!storage || !cr_reference_drop(&storage->references)) return;
    const bool embedded = storage->data == (char *)storage + STORAGE_HEADER;
    if (storage->is_foreign) {
        if (storage->release) storage->release(storage->context);
    } else if (!embedded) {
        cr_device_free(storage->device, storage->data, storage->bytes);
    }
    cr_block_free(storage, storage->block_bytes);
}
