/* Devices: the table of each type, names, and the opening of plug-ins. */
#define _GNU_SOURCE
#include "core/device.h"
#include "core/allocator.h"
#include "core/pool.h"
#include "core/thread.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- the CPU */
static atomic_int cpu_count = 1;

static int cpu_device_count(void) { return atomic_load_explicit(&cpu_count, memory_order_relaxed); }
static void *cpu_allocate(int index, size_t bytes) {
    (void)index;
    return cr_block_allocate(bytes);
}
static void cpu_release(int index, void *block, size_t bytes) {
    (void)index;
    cr_block_free(block, bytes);
}
static bool cpu_copy(cr_device to, void *target, cr_device from, const void *source, size_t bytes) {
    (void)to;
    (void)from;
    if (bytes) memcpy(target, source, bytes);
    return true;
}

static const cr_device_table cpu_table = {
    .api_version = CR_DEVICE_API_VERSION,
    .name = "cpu",
    .count = cpu_device_count,
    .allocate = cpu_allocate,
    .release = cpu_release,
    .copy = cpu_copy,
};

bool cr_cpu_set_device_count(int count) {
    if (count < 1 || count > 64) return cr_fail(CR_ERROR_ARGUMENT, "%d virtual CPU devices; 1 to 64 can be had", count);
    atomic_store(&cpu_count, count);
    return true;
}

/* ---------------------------------------------------------------- plug-ins */
static const char *const type_names[CR_DEVICE_TYPE_COUNT] = {"cpu", "cuda"};
static const char *const plugin_files[CR_DEVICE_TYPE_COUNT] = {NULL, "libcresset_cuda.so"};

static pthread_mutex_t plugin_lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(const cr_device_table *) tables[CR_DEVICE_TYPE_COUNT];
static atomic_bool plugin_tried[CR_DEVICE_TYPE_COUNT];
static void *plugin_handles[CR_DEVICE_TYPE_COUNT];
static char plugin_absence[CR_DEVICE_TYPE_COUNT][256];

bool cr_device_register(cr_device_type type, const cr_device_table *table) {
    if (!table || (unsigned)type >= CR_DEVICE_TYPE_COUNT || type == CR_DEVICE_CPU)
        return cr_fail(CR_ERROR_ARGUMENT, "device_register: a table for a type from 1 to %d is needed",
                       CR_DEVICE_TYPE_COUNT - 1);
    if (table->api_version != CR_DEVICE_API_VERSION)
        return cr_fail(CR_ERROR_UNSUPPORTED, "the %s plug-in was built for device API %d; this library has %d",
                       table->name, table->api_version, CR_DEVICE_API_VERSION);
    const cr_device_table *none = NULL;
    if (!atomic_compare_exchange_strong(&tables[type], &none, table) && none != table)
        return cr_fail(CR_ERROR_STATE, "device type %d is already taken by %s", (int)type, none->name);
    return true;
}

/* Opens the plug-in beside this library, else where the system looks. */
static void open_plugin(cr_device_type type) {
    char path[1024] = "";
    Dl_info info;
    const char *folder_end = NULL;
    if (dladdr((void *)(uintptr_t)&cr_device_register, &info) && info.dli_fname)
        folder_end = strrchr(info.dli_fname, '/');
    void *handle = NULL;
    if (folder_end) {
        snprintf(path, sizeof path, "%.*s/%s", (int)(folder_end - info.dli_fname), info.dli_fname, plugin_files[type]);
        handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    }
    if (!handle) handle = dlopen(plugin_files[type], RTLD_NOW | RTLD_LOCAL);
    const char *problem = handle ? NULL : dlerror();
    const cr_device_table *(*entry)(void) = NULL;
    if (handle) {
        void *symbol = dlsym(handle, "cr_device_plugin");
        memcpy(&entry, &symbol, sizeof symbol);
        if (!entry) problem = "it does not export cr_device_plugin";
    }
    const cr_device_table *table = entry ? entry() : NULL;
    if (table && table->api_version != CR_DEVICE_API_VERSION) {
        problem = "it was built for another version of the device API";
        table = NULL;
    }
    if (table) {
        plugin_handles[type] = handle;
        atomic_store(&tables[type], table);
    } else {
        snprintf(plugin_absence[type], sizeof plugin_absence[type], "%s",
                 problem ? problem : "it offers no device table");
        if (handle) dlclose(handle);
    }
}

const cr_device_table *cr_device_table_of(cr_device_type type) {
    if (type == CR_DEVICE_CPU) return &cpu_table;
    if ((unsigned)type >= CR_DEVICE_TYPE_COUNT) return NULL;
    const cr_device_table *table = atomic_load(&tables[type]);
    if (table || !plugin_files[type] || atomic_load(&plugin_tried[type])) return table;
    pthread_mutex_lock(&plugin_lock);
    if (!atomic_load(&plugin_tried[type])) {
        open_plugin(type);
        atomic_store(&plugin_tried[type], true);
    }
    pthread_mutex_unlock(&plugin_lock);
    return atomic_load(&tables[type]);
}

int cr_device_count(cr_device_type type) {
    const cr_device_table *table = cr_device_table_of(type);
    return table ? table->count() : 0;
}

const char *cr_device_absence(cr_device_type type) {
    if ((unsigned)type >= CR_DEVICE_TYPE_COUNT) return "there is no such device type";
    const cr_device_table *table = cr_device_table_of(type);
    if (!table) return plugin_absence[type][0] ? plugin_absence[type] : "no plug-in provides it";
    return table->count() > 0 ? NULL : table->absence ? table->absence() : "the plug-in finds no device";
}

/* ---------------------------------------------------------------- names and checks */
cr_device cr_device_best(void) { return cr_device_count(CR_DEVICE_CUDA) > 0 ? CR_CUDA(0) : CR_CPU; }

bool cr_device_equal(cr_device a, cr_device b) { return a.type == b.type && a.index == b.index; }

static const char *type_name(int type) {
    if ((unsigned)type >= CR_DEVICE_TYPE_COUNT) return "?";
    const cr_device_table *table = type == CR_DEVICE_CPU ? &cpu_table : atomic_load(&tables[type]);
    return table ? table->name : type_names[type] ? type_names[type] : "?";
}

char *cr_device_name(cr_device device, char text[16]) {
    if (!text) return NULL;
    if (device.type == CR_DEVICE_CPU && device.index == 0)
        snprintf(text, 16, "cpu");
    else
        snprintf(text, 16, "%.8s:%d", type_name(device.type), (int)device.index);
    return text;
}

bool cr_device_check(cr_device device) {
    const int count = cr_device_count((cr_device_type)device.type);
    if (device.index >= 0 && device.index < count) return true;
    char text[16];
    const char *absence = count ? NULL : cr_device_absence((cr_device_type)device.type);
    return cr_fail(CR_ERROR_DEVICE, "device %s is not here: %d of its kind%s%s", cr_device_name(device, text), count,
                   absence ? "; " : "", absence ? absence : "");
}

bool cr_device_parse(const char *text, cr_device *device) {
    if (!text || !device) return cr_fail(CR_ERROR_ARGUMENT, "device_parse: NULL argument");
    for (int type = 0; type < CR_DEVICE_TYPE_COUNT; type++) {
        const char *name = type_name(type);
        const size_t length = strlen(name);
        if (strncmp(text, name, length) != 0 || (text[length] != '\0' && text[length] != ':')) continue;
        long index = 0;
        if (text[length] == ':') {
            char *end;
            index = strtol(text + length + 1, &end, 10);
            if (text[length + 1] < '0' || text[length + 1] > '9' || *end || index < 0 || index > INT16_MAX) break;
        }
        const cr_device parsed = {(int16_t)type, (int16_t)index};
        if (!cr_device_check(parsed)) return false;
        *device = parsed;
        return true;
    }
    return cr_fail(CR_ERROR_DEVICE, "cannot read \"%.40s\" as a device; write cpu, cuda or cuda:1", text);
}

/* ---------------------------------------------------------------- memory */
void *cr_device_allocate(cr_device device, size_t bytes) {
    if (!cr_device_check(device)) return NULL;
    return cr_device_table_of((cr_device_type)device.type)->allocate(device.index, bytes);
}

void cr_device_free(cr_device device, void *block, size_t bytes) {
    const cr_device_table *table = cr_device_table_of((cr_device_type)device.type);
    if (table) table->release(device.index, block, bytes);
}

bool cr_device_copy(cr_device to, void *target, cr_device from, const void *source, size_t bytes) {
    if (!cr_device_check(to) || !cr_device_check(from)) return false;
    const cr_device owner = to.type != CR_DEVICE_CPU ? to : from;
    return cr_device_table_of((cr_device_type)owner.type)->copy(to, target, from, source, bytes);
}

bool cr_device_synchronize(cr_device device) {
    if (!cr_device_check(device)) return false;
    const cr_device_table *table = cr_device_table_of((cr_device_type)device.type);
    return table->synchronize ? table->synchronize(device.index) : true;
}

void cr_shutdown(void) {
    cr_scope_clear();
    cr_pool_shutdown();
    cr_memory_trim();
    pthread_mutex_lock(&plugin_lock);
    for (int type = 1; type < CR_DEVICE_TYPE_COUNT; type++) {
        const cr_device_table *table = atomic_load(&tables[type]);
        if (table && table->shutdown) table->shutdown();
        if (plugin_handles[type]) {
            atomic_store(&tables[type], NULL);
            dlclose(plugin_handles[type]);
            plugin_handles[type] = NULL;
        }
        atomic_store(&plugin_tried[type], false);
    }
    pthread_mutex_unlock(&plugin_lock);
}
