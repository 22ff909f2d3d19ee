/* What a direct convolution (convolution_direct.h) reads and stores where: index work that knows no dtype. Include it
 * after product.h. */

typedef struct direct_tap {
    int64_t weight, source; /* its number in the kernel; its offset in the copy */
    int64_t low, high;      /* rows of results (of dim 1) that find it inside the image */
} direct_tap;

typedef struct direct_panel {
    int64_t source, first, depth; /* offset in the copy; the range of the sum */
    int64_t run, runs;            /* which runs are stored */
} direct_panel;

/* The results of one phase; forward has one. */
typedef struct direct_phase {
    int64_t count[CR_SPATIAL_DIMS], start; /* results in each dim; where the first one lies */
    int64_t tap_count, row_taps;           /* taps, and those in one row of the kernel */
    const direct_tap *taps;
    int64_t *weights, *offsets; /* of each term of the sum, (row of taps, channel, tap): in the weight, in the copy */
    int64_t panel_count, run_count;
    direct_panel *panels;
    column_run *runs;
} direct_phase;

/* ---------------------------------------------------------------- taps */
/* low … high-1: the l from 0 on with 0 <= l·step + shift < in. */
static void find_inside(int64_t step, int64_t shift, int64_t in, int64_t *low, int64_t *high) {
    *low = shift >= 0 ? 0 : (-shift + step - 1) / step;
    *high = in - 1 - shift < 0 ? 0 : (in - 1 - shift) / step + 1;
}

/* y = x * w: one phase. `offsets` has room for as many numbers as there are taps. */
static int64_t plan_forward(const cr_convolution *p, const phase_split split[CR_SPATIAL_DIMS],
                            const int64_t size[CR_SPATIAL_DIMS], int64_t *offsets, direct_tap *taps,
                            direct_phase *phase) {
    cr_convolution one_channel = *p;
    one_channel.channels = 1;
    forward_offsets(&one_channel, split, size, 0, offsets);
    *phase = (direct_phase){.count = {p->out[0], p->out[1], p->out[2]},
                            .tap_count = cr_product3(p->kernel),
                            .row_taps = p->kernel[2],
                            .taps = taps};
    for (int64_t t = 0; t < phase->tap_count; t++) {
        const int64_t t1 = t / p->kernel[2] % p->kernel[1];
        taps[t] = (direct_tap){.weight = t, .source = offsets[t]};
        find_inside(p->stride[1], t1 * p->dilation[1] - p->padding[1], p->in[1], &taps[t].low, &taps[t].high);
    }
    return 1;
}

/* x from y: how many phases of x there are. `numbers` has room for two for each tap. */
static int64_t plan_data(const cr_convolution *p, const phase_split split[CR_SPATIAL_DIMS],
                         const int64_t before[CR_SPATIAL_DIMS], const int64_t size[CR_SPATIAL_DIMS], int64_t *numbers,
                         direct_tap *taps, direct_phase *phases) {
    int64_t *offsets = numbers + cr_product3(p->kernel), found = 0, place[CR_SPATIAL_DIMS];
    for (place[0] = 0; place[0] < split[0].count; place[0]++)
        for (place[1] = 0; place[1] < split[1].count; place[1]++)
            for (place[2] = 0; place[2] < split[2].count; place[2]++) {
                phase_range range[CR_SPATIAL_DIMS];
                for (int d = 0; d < CR_SPATIAL_DIMS; d++)
                    range[d] = range_of_phase(p, d, split[d].remainders[place[d]]);
                if (!range[0].count || !range[1].count || !range[2].count) continue;
                direct_phase *phase = &phases[found++];
                *phase =
                    (direct_phase){.count = {range[0].count, range[1].count, range[2].count},
                                   .start = (range[0].start * p->in[1] + range[1].start) * p->in[2] + range[2].start,
                                   .tap_count = taps_of_phase(p, split, place, range, before, size, numbers, offsets),
                                   .taps = taps};
                for (int64_t t = 0; t < p->kernel[2]; t++)
                    phase->row_taps += split[2].place[t] == place[2];
                for (int64_t t = 0; t < phase->tap_count; t++, taps++) {
                    const int64_t t1 = numbers[t] / p->kernel[2] % p->kernel[1];
                    *taps = (direct_tap){.weight = numbers[t], .source = offsets[t]};
                    find_inside(1, range[1].first - split[1].quotient[t1], p->out[1], &taps->low, &taps->high);
                }
            }
    return found;
}

/* The terms of a phase's sum, a row of taps of all channels after the other: so panels may leave out rows of taps. */
static void lay_out_terms(const direct_phase *phase, int64_t channels, int64_t weight_channel, int64_t source_channel) {
    int64_t k = 0;
    for (int64_t row = 0; row < phase->tap_count; row += phase->row_taps)
        for (int64_t c = 0; c < channels; c++)
            for (int64_t t = row; t < row + phase->row_taps; t++, k++) {
                phase->weights[k] = c * weight_channel + phase->taps[t].weight;
                phase->offsets[k] = c * source_channel + phase->taps[t].source;
            }
}

/* ---------------------------------------------------------------- panels */
typedef struct panel_plan {
    const int64_t *size, *target_step; /* of the copy; of the results */
    int64_t channels, columns;         /* columns: of a panel */
} panel_plan;

/* The rows of taps that results of rows first … last of dim 1 find inside the image. */
static void find_depth(const direct_phase *phase, int64_t channels, int64_t first, int64_t last, direct_panel *panel) {
    int64_t begin = 0, end = phase->tap_count;
    while (begin < end && (phase->taps[begin].low > last || phase->taps[begin].high <= first))
        begin++;
    while (begin < end && (phase->taps[end - 1].low > last || phase->taps[end - 1].high <= first))
        end--;
    panel->first = begin * channels;
    panel->depth = (end - begin) * channels;
}

/* Panels over the positions first … end-1 of plane o0, in the copy's pitch. Only counts where there is no room yet. */
static void cover_positions(const panel_plan *plan, int64_t o0, int64_t first, int64_t end, direct_phase *phase) {
    const int64_t pitch = plan->size[2], width = phase->count[2];
    for (int64_t q = first; q < end; q += plan->columns) {
        const int64_t stop = q + plan->columns < end ? q + plan->columns : end, run = phase->run_count;
        int64_t first_row = -1, last_row = 0;
        for (int64_t at = q, count; at < stop; at += count) {
            const int64_t row = at / pitch, column = at % pitch,
                          rest = column < width ? width - column : pitch - column;
            count = rest < stop - at ? rest : stop - at;
            if (column >= width) continue;
            if (first_row < 0) first_row = row;
            last_row = row;
            if (phase->runs)
                phase->runs[phase->run_count] =
                    (column_run){(int32_t)(at - q), (int32_t)count, 0,
                                 phase->start + o0 * plan->target_step[0] + row * plan->target_step[1] +
                                     column * plan->target_step[2]};
            phase->run_count++;
        }
        if (first_row < 0) continue;
        if (phase->panels) {
            direct_panel *panel = &phase->panels[phase->panel_count];
            *panel =
                (direct_panel){.source = o0 * plan->size[1] * pitch + q, .run = run, .runs = phase->run_count - run};
            find_depth(phase, plan->channels, first_row, last_row, panel);
        }
        phase->panel_count++;
    }
}

/* Row by row, or over whole planes: whichever has fewer panels. */
static void cover_phase(const panel_plan *plan, direct_phase *phase) {
    const int64_t whole = (phase->count[1] - 1) * plan->size[2] + phase->count[2], columns = plan->columns;
    const bool rows = phase->count[1] * ((phase->count[2] + columns - 1) / columns) <= (whole + columns - 1) / columns;
    phase->panel_count = phase->run_count = 0;
    for (int64_t o0 = 0; o0 < phase->count[0]; o0++) {
        if (!rows) cover_positions(plan, o0, 0, whole, phase);
        for (int64_t o1 = 0; rows && o1 < phase->count[1]; o1++)
            cover_positions(plan, o0, o1 * plan->size[2], o1 * plan->size[2] + phase->count[2], phase);
    }
}

/* Terms and panels of all phases; false and an error on failure. */
static bool plan_panels(const panel_plan *plan, direct_phase *phases, int64_t count, int64_t weight_channel,
                        int64_t source_channel, scratch *memory) {
    int64_t terms = 0, panels = 0, runs = 0;
    for (int64_t i = 0; i < count; i++) {
        cover_phase(plan, &phases[i]);
        terms += phases[i].tap_count * plan->channels;
        panels += phases[i].panel_count;
        runs += phases[i].run_count;
    }
    int64_t *numbers = scratch_take(memory, (size_t)(2 * terms) * sizeof *numbers);
    direct_panel *all_panels = scratch_take(memory, (size_t)panels * sizeof *all_panels);
    column_run *all_runs = scratch_take(memory, (size_t)runs * sizeof *all_runs);
    if (!numbers || !all_panels || !all_runs) return false;
    for (int64_t i = 0; i < count; i++) {
        direct_phase *phase = &phases[i];
        phase->weights = numbers;
        phase->offsets = numbers += phase->tap_count * plan->channels;
        numbers += phase->tap_count * plan->channels;
        lay_out_terms(phase, plan->channels, weight_channel, source_channel);
        phase->panels = all_panels;
        phase->runs = all_runs;
        cover_phase(plan, phase);
        all_panels += phase->panel_count;
        all_runs += phase->run_count;
    }
    return true;
}
