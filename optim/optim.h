/* What an optimizer holds. */
#ifndef CRESSET_OPTIM_OPTIM_H
#define CRESSET_OPTIM_OPTIM_H

#include <cresset/optim.h>

#include "ops/op.h"

enum { CR_OPTIM_SETTINGS = 12, CR_OPTIM_STATES = 4 };

typedef struct cr_optim_parameter {
    cr_tensor *tensor;                  /* one reference */
    cr_tensor *step;                    /* 0-d f32: updates so far; NULL before the first */
    cr_tensor *states[CR_OPTIM_STATES]; /* in the order of the algorithm's names; NULL: not kept */
} cr_optim_parameter;

typedef struct cr_optim_group {
    cr_optim_parameter *parameters;
    int count;
    double settings[CR_OPTIM_SETTINGS];
    cr_tensor *lr; /* 0-d f64: what `lr` says, for the update ops */
} cr_optim_group;

typedef struct cr_optim_algorithm {
    const char *name;
    const cr_attribute *settings; /* the option struct's fields; "lr" is the first */
    int setting_count;
    const char *states[CR_OPTIM_STATES];
    /* Whether a state is kept under a group's settings. */
    bool (*keeps)(const cr_optim_group *group, int state);
    bool (*update)(const cr_optim_group *group, cr_optim_parameter *parameter, cr_tensor *gradient);
} cr_optim_algorithm;

struct cr_optim {
    const cr_optim_algorithm *algorithm;
    cr_optim_group *groups;
    int group_count;
    cr_tensor **list_at; /* cr_optim_state's */
    char **list_names;
    int list_count;
};

/* `options`: the algorithm's option struct, complete. */
cr_optim *cr_optim_new(const cr_optim_algorithm *algorithm, cr_nn_tensors parameters, const void *options);
/* Index of a setting, or -1. */
int cr_optim_setting(const cr_optim_algorithm *algorithm, const char *name);

#endif
