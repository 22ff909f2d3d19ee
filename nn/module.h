/* What a module holds, for the files of nn/. */
#ifndef CRESSET_NN_MODULE_H
#define CRESSET_NN_MODULE_H

#include <cresset/nn.h>

#include "core/tensor.h"

typedef struct cr_nn_child_entry {
    char *name;
    cr_nn_module *module;
} cr_nn_child_entry;

typedef struct cr_nn_tensor_entry {
    char *name;
    cr_tensor *tensor;
    bool is_parameter, is_persistent;
} cr_nn_tensor_entry;

typedef struct cr_nn_hook_entry {
    int handle;
    cr_nn_hook hook;
    void *context;
} cr_nn_hook_entry;

/* A list of tensors with paths, rebuilt each time it is asked for. */
typedef struct cr_nn_list {
    cr_tensor **at;
    char **names;
    int count, capacity;
} cr_nn_list;

enum { CR_NN_LIST_PARAMETERS, CR_NN_LIST_BUFFERS, CR_NN_LIST_STATE, CR_NN_LIST_COUNT };

struct cr_nn_module {
    const char *type; /* a literal of whoever made it, or `own_type` */
    char *own_type;
    const char *frame_name; /* "nn.conv2d", for call chains */
    char *frame_text;
    const char *name; /* in its parent */
    cr_nn_forward_function forward;
    void *self;
    void (*release)(void *self);
    char *description;
    bool is_training;
    cr_nn_module *parent;
    cr_nn_child_entry *children;
    int child_count;
    cr_nn_tensor_entry *tensors;
    int tensor_count;
    cr_nn_hook_entry *hooks;
    int hook_count;
    cr_nn_list lists[CR_NN_LIST_COUNT];
};

/* Frees `module` where a step of making it failed; always NULL. */
cr_nn_module *cr_nn_abandon(cr_nn_module *module);

#endif
