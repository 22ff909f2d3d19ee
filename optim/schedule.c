/* Learning-rate schedules. Each computes every group's rate from its initial one. */
#include "optim/optim.h"

#include <math.h>
#include <string.h>

CR_OPTION_DEFAULTS(optim_plateau, CR_OPTIM_PLATEAU_OPTIONS)

typedef struct rates {
    int64_t position;     /* steps so far */
    double best;          /* plateau: the best metric */
    int64_t bad, cooling; /* plateau: steps without improvement, steps of rest left */
} rates;

struct cr_optim_schedule {
    cr_optim *optim; /* borrowed */
    double *initial; /* [groups]; plateau keeps the present rate here */
    int group_count;
    rates state;
    double (*rate)(const cr_optim_schedule *schedule, double initial);
    bool (*watch)(cr_optim_schedule *schedule, double metric); /* (optional) before the rates are set */
    int64_t period;
    double gamma, lowest;
    cr_optim_plateau_options plateau;
};

static bool set_rates(cr_optim_schedule *schedule) {
    for (int g = 0; g < schedule->group_count; g++)
        if (!cr_optim_set(schedule->optim, g, "lr", schedule->rate(schedule, schedule->initial[g]))) return false;
    return true;
}

static cr_optim_schedule *schedule_new(cr_optim *optim, double (*rate)(const cr_optim_schedule *, double)) {
    if (!optim) {
        if (cr_ok()) cr_record_error(CR_ERROR_ARGUMENT, "optim_schedule: NULL optimizer");
        return NULL;
    }
    cr_optim_schedule *schedule = cr_calloc(1, sizeof *schedule);
    if (!schedule) return NULL;
    schedule->group_count = cr_optim_group_count(optim);
    schedule->initial = cr_calloc((size_t)schedule->group_count, sizeof(double));
    if (!schedule->initial) {
        cr_optim_schedule_free(schedule);
        return NULL;
    }
    schedule->optim = optim;
    schedule->rate = rate;
    for (int g = 0; g < schedule->group_count; g++)
        schedule->initial[g] = cr_optim_get(optim, g, "lr");
    return schedule;
}

void cr_optim_schedule_free(cr_optim_schedule *schedule) {
    if (!schedule) return;
    cr_free(schedule->initial);
    cr_free(schedule);
}

bool cr_optim_schedule_step(cr_optim_schedule *schedule, double metric) {
    if (!schedule) return cr_ok() && cr_fail(CR_ERROR_ARGUMENT, "optim_schedule_step: NULL schedule");
    schedule->state.position++;
    if (schedule->watch && !schedule->watch(schedule, metric)) return false;
    return set_rates(schedule);
}

/* ---------------------------------------------------------------- step and cosine */
static double step_rate(const cr_optim_schedule *s, double initial) {
    const int64_t drops = s->state.position / s->period;
    return initial * pow(s->gamma, (double)drops);
}

static double cosine_rate(const cr_optim_schedule *s, double initial) {
    const double turn = acos(-1.0) * (double)s->state.position / (double)s->period;
    return s->lowest + (initial - s->lowest) * (1 + cos(turn)) / 2;
}

static cr_optim_schedule *periodic(cr_optim *optim, int period, double (*rate)(const cr_optim_schedule *, double)) {
    if (period < 1) {
        cr_record_error(CR_ERROR_ARGUMENT, "optim_schedule: a period of %d steps; it must be 1 or more", period);
        return NULL;
    }
    cr_optim_schedule *schedule = schedule_new(optim, rate);
    if (schedule) schedule->period = period;
    return schedule;
}

cr_optim_schedule *cr_optim_step_schedule(cr_optim *optim, int step_size, double gamma) {
    cr_optim_schedule *schedule = periodic(optim, step_size, step_rate);
    if (schedule) schedule->gamma = gamma;
    return schedule;
}

cr_optim_schedule *cr_optim_cosine_schedule(cr_optim *optim, int steps, double min_lr) {
    cr_optim_schedule *schedule = periodic(optim, steps, cosine_rate);
    if (schedule) schedule->lowest = min_lr;
    return schedule;
}

/* ---------------------------------------------------------------- plateau */
static double plateau_rate(const cr_optim_schedule *s, double present) { return (void)s, present; }

static bool improves(const cr_optim_schedule *s, double metric) {
    const double margin = s->plateau.threshold;
    return s->plateau.maximize ? metric > s->state.best * (1 + margin) : metric < s->state.best * (1 - margin);
}

static bool plateau_watch(cr_optim_schedule *s, double metric) {
    rates *state = &s->state;
    if (isnan(metric)) return cr_fail(CR_ERROR_NUMERIC, "optim_plateau_schedule: the metric is NaN");
    if (improves(s, metric)) {
        state->best = metric;
        state->bad = 0;
    } else {
        state->bad++;
    }
    if (state->cooling > 0) {
        state->cooling--;
        state->bad = 0;
    }
    if (state->bad <= s->plateau.patience) return true;
    for (int g = 0; g < s->group_count; g++)
        s->initial[g] = fmax(s->initial[g] * s->plateau.factor, s->plateau.min_lr);
    state->cooling = s->plateau.cooldown;
    state->bad = 0;
    return true;
}

cr_optim_schedule *cr_optim_plateau_schedule_with(cr_optim *optim, const cr_optim_plateau_options *options) {
    const cr_optim_plateau_options chosen = options ? *options : optim_plateau_defaults;
    if (!(chosen.factor > 0 && chosen.factor < 1)) {
        cr_record_error(CR_ERROR_ARGUMENT, "optim_plateau_schedule: a factor of %g; it must lie between 0 and 1",
                        chosen.factor);
        return NULL;
    }
    cr_optim_schedule *schedule = schedule_new(optim, plateau_rate);
    if (!schedule) return NULL;
    schedule->plateau = chosen;
    schedule->watch = plateau_watch;
    schedule->state.best = chosen.maximize ? -INFINITY : INFINITY;
    return schedule;
}

/* ---------------------------------------------------------------- state: position, best, bad, cooling, then the
 * rates */
cr_tensor *cr_optim_schedule_state(const cr_optim_schedule *schedule) {
    if (!schedule) return NULL;
    cr_tensor *state = cr_empty(CR_F64, CR_SHAPE(4 + schedule->group_count), CR_CPU);
    double *row = state ? cr_data(state) : NULL;
    if (!row) return NULL;
    const double fixed[] = {(double)schedule->state.position, schedule->state.best, (double)schedule->state.bad,
                            (double)schedule->state.cooling};
    memcpy(row, fixed, sizeof fixed);
    memcpy(row + 4, schedule->initial, (size_t)schedule->group_count * sizeof(double));
    return state;
}

bool cr_optim_schedule_restore(cr_optim_schedule *schedule, const cr_tensor *state) {
    if (!schedule || !cr_tensor_check(state, "optim_schedule_restore")) return false;
    if (state->dtype != CR_F64 || state->ndim != 1 || state->numel != 4 + schedule->group_count ||
        !cr_is_contiguous(state)) {
        char text[224];
        return cr_fail(CR_ERROR_SHAPE, "optim_schedule_restore: the state is %s, %d numbers of f64 are needed",
                       cr_describe(state, text), 4 + schedule->group_count);
    }
    const double *row = cr_data(state);
    schedule->state = (rates){(int64_t)row[0], row[1], (int64_t)row[2], (int64_t)row[3]};
    memcpy(schedule->initial, row + 4, (size_t)schedule->group_count * sizeof(double));
    return set_rates(schedule);
}
