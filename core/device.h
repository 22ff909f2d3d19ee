/* The device table: what a kind of device must provide. The CPU is built in; others are plug-ins, shared libraries
 * that export `cr_device_plugin` (docs/adding-a-device.md). */
#ifndef CRESSET_CORE_DEVICE_H
#define CRESSET_CORE_DEVICE_H

#include <cresset/core.h>

#define CR_DEVICE_API_VERSION 1

struct cr_call;
typedef bool (*cr_kernel)(struct cr_call *call);
typedef struct cr_kernel_row {
    const char *op;
    cr_kernel run;
} cr_kernel_row;

typedef struct cr_device_table {
    int api_version; /* CR_DEVICE_API_VERSION of the header it was built with */
    const char *name;
    int (*count)(void);
    const char *(*absence)(void); /* (optional) why count() is 0 */
    /* Memory. allocate records an error on failure; host memory is what the processor can address. */
    void *(*allocate)(int index, size_t bytes);
    void (*release)(int index, void *block, size_t bytes);
    bool (*copy)(cr_device to, void *target, cr_device from, const void *source,
                 size_t bytes);     /* one side may be the CPU */
    bool (*synchronize)(int index); /* (optional) waits for queued work; absent: all work is done */
    void (*trim)(void);             /* (optional) gives cached memory back */
    void (*shutdown)(void);         /* (optional) */
    const cr_kernel_row *kernels;   /* its kernels, by op name */
    int kernel_count;
} cr_device_table;

/* The table of a device type, opening its plug-in on first use; NULL without an error where it is absent. */
const cr_device_table *cr_device_table_of(cr_device_type type);
/* Registers a table for a type (plug-ins, tests). False and an error on a version mismatch or a taken slot. */
bool cr_device_register(cr_device_type type, const cr_device_table *table);
/* False and an error unless the device exists. */
bool cr_device_check(cr_device device);

void *cr_device_allocate(cr_device device, size_t bytes);
void cr_device_free(cr_device device, void *block, size_t bytes);
/* Copies bytes between any two devices. */
bool cr_device_copy(cr_device to, void *target, cr_device from, const void *source, size_t bytes);

#endif
