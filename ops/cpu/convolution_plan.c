/* Where taps and positions lie: see convolution_plan.h. */
#include "ops/cpu/convolution_plan.h"

/* ---------------------------------------------------------------- phases by stride */
static void split_phases(const cr_convolution *p, int d, int64_t *storage, phase_split *split) {
    *split = (phase_split){0, storage, storage + p->kernel[d], storage + 2 * p->kernel[d]};
    for (int64_t t = 0; t < p->kernel[d]; t++) {
        const int64_t reach = t * p->dilation[d], remainder = reach % p->stride[d];
        int64_t i = 0;
        while (i < split->count && split->remainders[i] != remainder)
            i++;
        if (i == split->count) split->remainders[split->count++] = remainder;
        split->place[t] = i;
        split->quotient[t] = reach / p->stride[d];
    }
}

void cr_split_all_phases(const cr_convolution *p, int64_t *storage, phase_split split[CR_SPATIAL_DIMS]) {
    for (int d = 0; d < CR_SPATIAL_DIMS; storage += 3 * p->kernel[d], d++)
        split_phases(p, d, storage, &split[d]);
}

void cr_forward_offsets(const cr_convolution *p, const phase_split split[CR_SPATIAL_DIMS],
                        const int64_t size[CR_SPATIAL_DIMS], int64_t item, int64_t *offsets) {
    const int64_t plane = cr_product3(size);
    for (int64_t c = 0; c < p->channels; c++)
        for (int64_t t0 = 0; t0 < p->kernel[0]; t0++)
            for (int64_t t1 = 0; t1 < p->kernel[1]; t1++)
                for (int64_t t2 = 0; t2 < p->kernel[2]; t2++) {
                    const int64_t phase = (split[0].place[t0] * split[1].count + split[1].place[t1]) * split[2].count +
                                          split[2].place[t2];
                    *offsets++ = c * item + phase * plane +
                                 (split[0].quotient[t0] * size[1] + split[1].quotient[t1]) * size[2] +
                                 split[2].quotient[t2];
                }
}

phase_range cr_range_of_phase(const cr_convolution *p, int d, int64_t remainder) {
    const int64_t stride = p->stride[d], low = p->padding[d] - remainder, high = p->in[d] - 1 + low;
    const int64_t first = low > 0 ? (low + stride - 1) / stride : -(-low / stride);
    const int64_t last = high >= 0 ? high / stride : -((-high + stride - 1) / stride);
    return (phase_range){first, first * stride - low, last >= first ? last - first + 1 : 0};
}

void cr_data_extent(const cr_convolution *p, int d, const phase_split *split, int64_t *before, int64_t *size,
                    int64_t *covered) {
    int64_t low = 0, high = 0;
    *covered = 0;
    for (int64_t t = 0; t < p->kernel[d]; t++) {
        const phase_range range = cr_range_of_phase(p, d, split->remainders[split->place[t]]);
        if (!range.count) continue;
        if (range.first - split->quotient[t] < low) low = range.first - split->quotient[t];
        if (range.first + range.count - split->quotient[t] > high)
            high = range.first + range.count - split->quotient[t];
    }
    for (int64_t i = 0; i < split->count; i++)
        *covered += cr_range_of_phase(p, d, split->remainders[i]).count;
    *before = -low;
    *size = high - low;
}

int64_t cr_taps_of_phase(const cr_convolution *p, const phase_split split[CR_SPATIAL_DIMS],
                         const int64_t place[CR_SPATIAL_DIMS], const phase_range range[CR_SPATIAL_DIMS],
                         const int64_t before[CR_SPATIAL_DIMS], const int64_t size[CR_SPATIAL_DIMS], int64_t *taps,
                         int64_t *offsets) {
    int64_t count = 0;
    for (int64_t t0 = 0; t0 < p->kernel[0]; t0++)
        for (int64_t t1 = 0; t1 < p->kernel[1]; t1++)
            for (int64_t t2 = 0; t2 < p->kernel[2]; t2++) {
                if (split[0].place[t0] != place[0] || split[1].place[t1] != place[1] || split[2].place[t2] != place[2])
                    continue;
                const int64_t o0 = range[0].first - split[0].quotient[t0] + before[0];
                const int64_t o1 = range[1].first - split[1].quotient[t1] + before[1];
                const int64_t o2 = range[2].first - split[2].quotient[t2] + before[2];
                taps[count] = (t0 * p->kernel[1] + t1) * p->kernel[2] + t2;
                offsets[count++] = (o0 * size[1] + o1) * size[2] + o2;
            }
    return count;
}

void cr_weight_offsets(const cr_convolution *p, const int64_t size[CR_SPATIAL_DIMS], int64_t images, int64_t *offsets) {
    const int64_t image = cr_product3(size) * p->channels;
    for (int64_t n = 0; n < images; n++)
        for (int64_t o0 = 0; o0 < p->out[0]; o0++)
            for (int64_t o1 = 0; o1 < p->out[1]; o1++)
                for (int64_t o2 = 0; o2 < p->out[2]; o2++)
                    *offsets++ =
                        n * image +
                        ((o0 * p->stride[0] * size[1] + o1 * p->stride[1]) * size[2] + o2 * p->stride[2]) * p->channels;
}

/* ---------------------------------------------------------------- direct convolutions: taps */
/* low … high-1: the l from 0 on with 0 <= l·step + shift < in. */
static void find_inside(int64_t step, int64_t shift, int64_t in, int64_t *low, int64_t *high) {
    *low = shift >= 0 ? 0 : (-shift + step - 1) / step;
    *high = in - 1 - shift < 0 ? 0 : (in - 1 - shift) / step + 1;
}

int64_t cr_plan_direct_forward(const cr_convolution *p, const phase_split split[CR_SPATIAL_DIMS],
                               const int64_t size[CR_SPATIAL_DIMS], int64_t *offsets, direct_tap *taps,
                               direct_phase *phase) {
    cr_convolution one_channel = *p;
    one_channel.channels = 1;
    cr_forward_offsets(&one_channel, split, size, 0, offsets);
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

int64_t cr_plan_direct_data(const cr_convolution *p, const phase_split split[CR_SPATIAL_DIMS],
                            const int64_t before[CR_SPATIAL_DIMS], const int64_t size[CR_SPATIAL_DIMS],
                            int64_t *numbers, direct_tap *taps, direct_phase *phases) {
    int64_t *offsets = numbers + cr_product3(p->kernel), found = 0, place[CR_SPATIAL_DIMS];
    for (place[0] = 0; place[0] < split[0].count; place[0]++)
        for (place[1] = 0; place[1] < split[1].count; place[1]++)
            for (place[2] = 0; place[2] < split[2].count; place[2]++) {
                phase_range range[CR_SPATIAL_DIMS];
                for (int d = 0; d < CR_SPATIAL_DIMS; d++)
                    range[d] = cr_range_of_phase(p, d, split[d].remainders[place[d]]);
                if (!range[0].count || !range[1].count || !range[2].count) continue;
                direct_phase *phase = &phases[found++];
                *phase = (direct_phase){
                    .count = {range[0].count, range[1].count, range[2].count},
                    .start = (range[0].start * p->in[1] + range[1].start) * p->in[2] + range[2].start,
                    .tap_count = cr_taps_of_phase(p, split, place, range, before, size, numbers, offsets),
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

/* ---------------------------------------------------------------- direct convolutions: panels */
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
                    (direct_run){(int32_t)(at - q), (int32_t)count,
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

bool cr_plan_direct_panels(const panel_plan *plan, direct_phase *phases, int64_t count, int64_t weight_channel,
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
    direct_run *all_runs = scratch_take(memory, (size_t)runs * sizeof *all_runs);
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

/* ---------------------------------------------------------------- one dim by itself */
int64_t cr_plan_axis(const cr_convolution *p, int d, bool by_input, cr_axis *phases) {
    const int64_t stride = by_input ? p->stride[d] : 1;
    int64_t found = 0;
    for (int64_t f = 0; f < stride; f++) {
        const phase_range range = by_input ? cr_range_of_phase(p, d, f) : (phase_range){-p->padding[d], 0, p->out[d]};
        if (range.count == 0) continue;
        cr_axis *a = &phases[found++];
        *a = (cr_axis){.count = range.count,
                       .first = range.start,
                       .step = stride,
                       .source_count = by_input ? p->out[d] : p->in[d],
                       .source_step = by_input ? 1 : p->stride[d]};
        for (int64_t t = 0; t < p->kernel[d]; t++) {
            const int64_t reach = t * p->dilation[d],
                          shift = by_input ? range.first - reach / stride : range.first + reach;
            if (reach % stride != f) continue;
            if (a->taps == 0) {
                a->tap = t;
                a->shift = shift;
            } else if (a->taps == 1) {
                a->tap_step = t - a->tap;
                a->shift_step = shift - a->shift;
            }
            a->taps++;
        }
    }
    return found;
}

cr_span cr_taps_inside(const cr_axis *a, int64_t m) {
    const int64_t at = m * a->source_step + a->shift;
    cr_span inside = {0, (int32_t)a->taps};
    while (inside.begin < inside.end && (uint64_t)(at + inside.begin * a->shift_step) >= (uint64_t)a->source_count)
        inside.begin++;
    while (inside.begin < inside.end && (uint64_t)(at + (inside.end - 1) * a->shift_step) >= (uint64_t)a->source_count)
        inside.end--;
    return inside;
}
