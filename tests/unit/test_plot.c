/* Plots: where ticks stand, what the picture shows, awkward series, bad input; and the histories behind them.
 * Needs: images */
#include "tests/unit/testing.h"

#include "core/file.h"
#include "core/image.h"
#include "summary/axis.h"
#include "summary/font.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

static char path[64];

static int choose_path(void **state) {
    (void)state;
    strcpy(path, "/tmp/cresset_plot_XXXXXX");
    const int descriptor = mkstemp(path);
    return descriptor < 0 ? -1 : close(descriptor);
}

static int remove_path(void **state) {
    (void)state;
    return unlink(path);
}

/* ---------------------------------------------------------------- axes */

static void assert_labels(const cr_axis *axis, const char *expected) {
    char all[CR_AXIS_MOST_TICKS * (CR_AXIS_LABEL_BYTES + 1)] = "";
    size_t used = 0;
    for (int i = 0; i < axis->count; i++)
        used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", i ? " " : "", axis->ticks[i].label);
    assert_string_equal(all, expected);
}

static void ticks_stand_at_round_values(void **state) {
    (void)state;
    cr_axis axis;
    cr_axis_init(&axis, 0, 1, false, 0, 5);
    assert_labels(&axis, "0.0 0.2 0.4 0.6 0.8 1.0");
    cr_axis_init(&axis, -3, 7.2, false, 0, 5);
    assert_labels(&axis, "-2 0 2 4 6");
    cr_axis_init(&axis, 0, 2.8, false, 0, 2);
    assert_labels(&axis, "0 1 2");
    cr_axis_init(&axis, 0, 3.2, false, 0, 2);
    assert_labels(&axis, "0 2");
    cr_axis_init(&axis, 0, 6.8, false, 0, 2);
    assert_labels(&axis, "0 2 4 6");
    cr_axis_init(&axis, 0, 8, false, 0, 2);
    assert_labels(&axis, "0 5");
    cr_axis_init(&axis, 0, 14, false, 0, 2);
    assert_labels(&axis, "0 5 10");
    cr_axis_init(&axis, 0, 16, false, 0, 2);
    assert_labels(&axis, "0 10");
    cr_axis_init(&axis, 0, 300000, false, 0, 6);
    assert_labels(&axis, "0 50k 100k 150k 200k 250k 300k");
    cr_axis_init(&axis, 1e6, 2.1e7, false, 0, 4);
    assert_labels(&axis, "5M 10M 15M 20M");
    cr_axis_init(&axis, 100.001, 100.004, false, 0, 3);
    assert_labels(&axis, "100.001 100.002 100.003 100.004");
    cr_axis_init(&axis, -2e-7, 2e-7, false, 0, 4);
    assert_labels(&axis, "-2e-07 -1e-07 0 1e-07 2e-07");
    cr_axis_init(&axis, 0.002, 3, true, 0, 5);
    assert_labels(&axis, "0.01 0.1 1");
    cr_axis_init(&axis, 0.9, 30, true, 0, 5);
    assert_labels(&axis, "1 2 5 10 20");
    cr_axis_init(&axis, 1e-12, 1e12, true, 0, 5);
    assert_labels(&axis, "1e-10 1e-05 1 1e+05 1e+10");
    cr_axis_init(&axis, 6, 9, true, 0, 4);
    assert_labels(&axis, "6 7 8 9");
}

static void ticks_are_where_their_labels_say(void **state) {
    (void)state;
    static const double ranges[][2] = {{0, 1},   {-5, 1e-3}, {1e-300, 2e-300}, {-1e308, 1e308}, {3, 3},          {0, 0},
                                       {-7, -7}, {1, -1},    {1e15, 1e15 + 4}, {-1e-5, 1e-5},   {1e300, 1.5e300}};
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        for (int wanted = 2; wanted < 12; wanted++) {
            cr_axis axis;
            cr_axis_init(&axis, ranges[i][0], ranges[i][1], false, 0.05, wanted);
            assert_true(axis.low < axis.high && isfinite(axis.low) && isfinite(axis.high));
            for (int t = 0; t < axis.count; t++) {
                const double share = cr_axis_place(&axis, axis.ticks[t].place);
                assert_true(share > -1e-3 && share < 1.001);
                if (t) assert_true(axis.ticks[t].place > axis.ticks[t - 1].place);
            }
            assert_true(axis.count <= 2 * wanted + 2);
        }
    }
}

/* ---------------------------------------------------------------- pictures */

static cr_image picture;

static void load_picture(void) {
    size_t bytes;
    void *data = cr_file_load(path, 0, &bytes);
    assert_true(cr_image_decode(data, bytes, 3, path, &picture));
    cr_free(data);
}

static bool is_color(int x, int y, uint32_t color) {
    const uint8_t *pixel = &picture.pixels[3 * (y * picture.width + x)];
    return pixel[0] == (color >> 16 & 0xff) && pixel[1] == (color >> 8 & 0xff) && pixel[2] == (color & 0xff);
}

/* The middle of the pixels of this colour in a column, or -1; the extent goes to *top and *bottom. Rows of the legend
 * and the title are left out. */
static int column_of(int x, uint32_t color, int *top, int *bottom) {
    *top = *bottom = -1;
    for (int y = 60; y < picture.height; y++) {
        if (!is_color(x, y, color)) continue;
        if (*top < 0) *top = y;
        *bottom = y;
    }
    return *top < 0 ? -1 : (*top + *bottom) / 2;
}

static int middle_of(int x, uint32_t color) {
    int top, bottom;
    return column_of(x, color, &top, &bottom);
}

static void a_rising_line_rises_across_the_picture(void **state) {
    (void)state;
    const int64_t live = cr_memory_stats().live_bytes;
    const double y[] = {0, 1, 2, 3, 4};
    assert_true(cr_plot(path, (&(cr_plot_series){.name = "line", .y = y, .count = 5, .color = 0x102030}), 1,
                        .title = "A", .x_label = "x", .y_label = "y"));
    assert_cr_ok();
    load_picture();
    assert_true(picture.width == 960 && picture.height == 540);
    int before = 540;
    for (int x = 100; x < 920; x += 20) {
        const int y_here = middle_of(x, 0x102030);
        assert_true(y_here > 0 && y_here < before);
        before = y_here;
    }
    /* straight: the middle of two columns lies between them */
    assert_true(abs(middle_of(200, 0x102030) + middle_of(800, 0x102030) - 2 * middle_of(500, 0x102030)) <= 2);
    cr_image_free(&picture);
    assert_int_equal(cr_memory_stats().live_bytes, live);
}

static void a_line_is_two_pixels_thick(void **state) {
    (void)state;
    const double y[] = {1, 1};
    assert_true(cr_plot(path, (&(cr_plot_series){.y = y, .count = 2, .color = 0x102030}), 1));
    load_picture();
    for (int x = 100; x < 930; x++) {
        int top, bottom;
        assert_true(column_of(x, 0x102030, &top, &bottom) > 0);
        assert_true(bottom - top <= 1);
        assert_true(is_color(x, top - 3, 0xffffff) || is_color(x, top - 3, 0xe8eaee)); /* paper or grid */
    }
    cr_image_free(&picture);
}

static void a_long_series_keeps_its_extremes(void **state) {
    (void)state;
    enum { COUNT = 200001 };
    double *y = calloc(COUNT, sizeof *y);
    y[COUNT / 2] = 1;
    y[COUNT / 4] = -1;
    assert_true(cr_plot(path, (&(cr_plot_series){.y = y, .count = COUNT, .color = 0x102030}), 1));
    load_picture();
    int tall = 0, high = 540, low = 0;
    for (int x = 100; x < 930; x++) {
        int top, bottom;
        column_of(x, 0x102030, &top, &bottom);
        assert_true(top > 0);
        tall += bottom - top > 100;
        high = top < high ? top : high;
        low = bottom > low ? bottom : low;
    }
    assert_true(tall >= 2 && tall <= 8);
    assert_true(low - high > 350);
    cr_image_free(&picture);
    free(y);
}

/* A walk whose points share columns, drawn reduced, equals each of its points drawn twice: reducing loses nothing. */
static void reducing_does_not_change_the_picture(void **state) {
    (void)state;
    enum { COUNT = 20000 };
    double *x = calloc(2 * COUNT, sizeof *x), *y = calloc(2 * COUNT, sizeof *y);
    for (int i = 0; i < COUNT; i++) {
        x[2 * i] = x[2 * i + 1] = i;
        y[2 * i] = y[2 * i + 1] = sin(i * 1e-3) + 0.2 * sin(i * 1.7) + 0.1 * cos(i * 0.31);
    }
    assert_true(cr_plot(path, (&(cr_plot_series){.x = x, .y = y, .count = 2 * COUNT}), 1));
    size_t bytes, other_bytes;
    void *doubled = cr_file_load(path, 0, &bytes);
    for (int i = 0; i < COUNT; i++)
        y[i] = y[2 * i];
    assert_true(cr_plot(path, (&(cr_plot_series){.y = y, .count = COUNT}), 1));
    void *single = cr_file_load(path, 0, &other_bytes);
    assert_int_equal(bytes, other_bytes);
    assert_memory_equal(doubled, single, bytes);
    cr_free(doubled);
    cr_free(single);
    free(x);
    free(y);
}

static void values_that_cannot_be_shown_are_left_out(void **state) {
    (void)state;
    double y[300];
    for (int i = 0; i < 300; i++)
        y[i] = i < 100 ? 1 : i < 200 ? (i % 3 ? NAN : -INFINITY) : 2;
    assert_true(cr_plot(path, (&(cr_plot_series){.y = y, .count = 300, .color = 0x102030}), 1));
    load_picture();
    assert_true(middle_of(200, 0x102030) > middle_of(800, 0x102030));
    assert_int_equal(middle_of(500, 0x102030), -1);
    cr_image_free(&picture);
    for (int i = 100; i < 200; i++)
        y[i] = i % 2 ? 0 : -5;
    assert_true(cr_plot(path, (&(cr_plot_series){.y = y, .count = 300, .color = 0x102030}), 1, .log_y = true));
    load_picture();
    assert_true(middle_of(200, 0x102030) > middle_of(800, 0x102030));
    assert_int_equal(middle_of(500, 0x102030), -1);
    cr_image_free(&picture);
}

static void a_logarithmic_axis_makes_exponentials_straight(void **state) {
    (void)state;
    double y[101];
    for (int i = 0; i <= 100; i++)
        y[i] = exp(-0.1 * i);
    assert_true(cr_plot(path, (&(cr_plot_series){.y = y, .count = 101, .color = 0x102030}), 1, .log_y = true));
    load_picture();
    assert_true(middle_of(200, 0x102030) + 100 < middle_of(800, 0x102030));
    assert_true(abs(middle_of(200, 0x102030) + middle_of(800, 0x102030) - 2 * middle_of(500, 0x102030)) <= 2);
    cr_image_free(&picture);
}

static void smoothing_draws_the_debiased_moving_average(void **state) {
    (void)state;
    enum { COUNT = 601 };
    double y[COUNT], average[COUNT], mean = 0;
    for (int i = 0; i < COUNT; i++) {
        y[i] = i == 0 || i == 300 ? 1 : 0;
        mean = 0.99 * mean + 0.01 * y[i];
        average[i] = mean / (1 - pow(0.99, i + 1));
    }
    assert_true(cr_plot(path, (&(cr_plot_series){.y = y, .count = COUNT, .color = 0x102030}), 1, .smoothing = 0.99));
    load_picture();
    const int bottom_left = middle_of(900, 0x102030); /* ~0.02 of the range */
    int highest, lowest;
    column_of(500, 0x102030, &highest, &lowest);
    assert_true(bottom_left > 400 && lowest > 440); /* the average is near zero; the spike itself is faint */
    cr_image_free(&picture);
    /* the bold line lies where the average alone would be drawn */
    cr_plot_series both[] = {{.y = y, .count = COUNT, .color = 0xeeeeee},
                             {.y = average, .count = COUNT, .color = 0x102030}};
    int expected[9], got[9];
    assert_true(cr_plot(path, both, 2));
    load_picture();
    for (int i = 0; i < 9; i++)
        expected[i] = middle_of(100 + 90 * i, 0x102030);
    cr_image_free(&picture);
    assert_true(cr_plot(path, (&(cr_plot_series){.y = y, .count = COUNT, .color = 0x102030}), 1, .smoothing = 0.99));
    load_picture();
    for (int i = 0; i < 9; i++)
        got[i] = middle_of(100 + 90 * i, 0x102030);
    cr_image_free(&picture);
    for (int i = 0; i < 9; i++)
        assert_true(got[i] > 0 && abs(got[i] - expected[i]) <= 1);
}

static void awkward_plots_are_drawn_too(void **state) {
    (void)state;
    const double one[] = {5}, nothing[] = {NAN}, huge[] = {-1e308, 1e308}, same_x[] = {2, 2};
    const cr_plot_series series[] = {{.name = "one", .y = one, .count = 1},
                                     {.name = "nothing", .y = nothing, .count = 1},
                                     {.name = "empty"},
                                     {.name = "caf\xc3\xa9 \xff", .y = huge, .count = 2},
                                     {.x = same_x, .y = huge, .count = 2}};
    assert_true(cr_plot(path, series, 5, .title = "a title that is far too long for a picture as small as this one is",
                        .width = 160, .height = 120, .x_label = "x", .y_label = "a label taller than the picture"));
    assert_true(cr_plot(path, series, 5, .log_y = true, .smoothing = 0.5));
    assert_true(cr_plot(path, NULL, 0));
    assert_true(cr_plot_with(path, series, 1, NULL));
    assert_true(cr_plot(path, series + 1, 2, .log_y = true, .width = 3000, .height = 200));
    assert_cr_ok();
}

static void bad_input_is_named_and_the_old_file_stays(void **state) {
    (void)state;
    const double y[] = {1};
    const cr_plot_series good = {.y = y, .count = 1}, bad = {.name = "bad", .count = 3};
    assert_true(cr_plot(path, &good, 1));
    assert_false(cr_plot(NULL, &good, 1));
    assert_cr_error(CR_ERROR_ARGUMENT, "path is NULL");
    assert_false(cr_plot(path, NULL, 2));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    assert_false(cr_plot(path, &bad, 1));
    assert_cr_error(CR_ERROR_ARGUMENT, "\"bad\"");
    assert_false(cr_plot(path, &good, 1, .smoothing = 1));
    assert_cr_error(CR_ERROR_ARGUMENT, "smoothing is 1");
    assert_false(cr_plot(path, &good, 1, .width = 0));
    assert_cr_error(CR_ERROR_ARGUMENT, "0 × 540");
    assert_false(cr_plot(path, &good, 1, .width = 1 << 20));
    assert_false(cr_ok());
    cr_clear_error();
    assert_false(cr_plot("/nonexistent/folder/a.png", &good, 1));
    assert_cr_error(CR_ERROR_IO, "/nonexistent");
    const int64_t live = cr_memory_stats().live_bytes;
    int n = 0;
    for (bool failed = true; failed;) {
        cr_memory_fail_nth(++n);
        failed = !cr_plot(path, &good, 1);
        cr_memory_fail_nth(0);
        if (failed) assert_cr_error(CR_ERROR_MEMORY, "");
        assert_int_equal(cr_memory_stats().live_bytes, live);
        load_picture();
        cr_image_free(&picture);
    }
    assert_true(n > 3);
}

/* ---------------------------------------------------------------- text, histories */

static void text_is_as_wide_as_its_glyphs(void **state) {
    (void)state;
    const cr_text_style style = {.height = 12};
    assert_true(cr_text_width("", style) == 0);
    assert_true(cr_text_width("l", style) == 0 && cr_text_width("H", style) == 8 && cr_text_width("HH", style) == 19);
    assert_true(cr_text_width("\xc3\xa9", style) == cr_text_width("\xff", style));
    cr_canvas canvas;
    assert_true(cr_canvas_init(&canvas, 400, 60));
    for (int c = ' '; c <= '~'; c++) { /* each glyph stays within its width and the line */
        const char text[] = {(char)c, '\0'};
        cr_text_stroke(&canvas, text, (cr_point){20, 30}, style);
        cr_canvas_paint(&canvas, 0, 1);
        int marks = 0;
        for (int i = 0; i < 400 * 60; i++) {
            const bool is_marked = canvas.pixels[3 * i] < 100;
            const float x = (float)(i % 400), y = (float)(i / 400);
            if (is_marked) assert_true(x > 17 && x < 22 + cr_text_width(text, style) && y > 14 && y < 36);
            marks += canvas.pixels[3 * i] < 200;
        }
        assert_int_equal(marks > 0, c != ' ');
        memset(canvas.pixels, 0xff, 3 * 400 * 60);
    }
    cr_canvas_free(&canvas);
}

static void a_history_grows_is_plotted_and_comes_back_from_a_checkpoint(void **state) {
    (void)state;
    const int64_t live = cr_memory_stats().live_bytes;
    cr_history *history = cr_history_new(), *other = cr_history_new();
    for (int i = 0; i < 1000; i++) {
        assert_true(cr_history_add(history, "d", i, 1.0 / (i + 1)));
        if (i % 2) assert_true(cr_history_add(history, "g", i, i));
    }
    assert_int_equal(cr_history_count(history), 2);
    assert_string_equal(cr_history_name(history, 1), "g");
    assert_null(cr_history_name(history, 2));
    assert_cr_error(CR_ERROR_INDEX, "curve 2");
    CR_SCOPE {
        cr_tensor *points = cr_history_get(history, "g");
        assert_true(cr_numel(points) == 1000 && cr_at(points, CR_SHAPE(1, 0)) == 3 &&
                    cr_at(points, CR_SHAPE(499, 1)) == 999);
        assert_true(cr_history_add(other, "g", 7, 7));
        assert_true(cr_history_set(other, "g", points));
        assert_true(cr_history_add(other, "g", 1001, 5));
        assert_int_equal(cr_numel(cr_history_get(other, "g")), 1002);
        assert_true(cr_history_set(other, "d", cr_empty(CR_F64, CR_SHAPE(0, 2), CR_CPU)));
        assert_int_equal(cr_numel(cr_history_get(other, "d")), 0);
        assert_false(cr_history_set(other, "x", cr_empty(CR_F32, CR_SHAPE(3, 2), CR_CPU)));
        assert_cr_error(CR_ERROR_SHAPE, "f64[n,2]");
    }
    assert_null(cr_history_get(history, "none"));
    assert_cr_error(CR_ERROR_ARGUMENT, "\"none\"");
    assert_false(cr_history_add(NULL, "a", 0, 0));
    assert_cr_error(CR_ERROR_ARGUMENT, "history is NULL");
    assert_true(cr_history_plot(history, path, .title = "both", .log_y = true));
    cr_history_free(history);
    cr_history_free(other);
    cr_history_free(NULL);
    assert_int_equal(cr_memory_stats().live_bytes, live);
}

static void a_history_whose_memory_fails_keeps_what_it_had(void **state) {
    (void)state;
    const int64_t live = cr_memory_stats().live_bytes;
    for (int n = 1; n < 12; n++) {
        cr_history *history = cr_history_new();
        assert_true(cr_history_add(history, "a", 1, 2));
        cr_memory_fail_nth(n);
        for (int i = 0; i < 100; i++)
            cr_history_add(history, i % 2 ? "a" : "b", i, i);
        cr_memory_fail_nth(0);
        cr_clear_error();
        assert_true(cr_history_add(history, "a", 3, 4));
        CR_SCOPE {
            cr_tensor *points = cr_history_get(history, "a");
            assert_true(cr_at(points, CR_SHAPE(0, 1)) == 2 && cr_at(points, CR_SHAPE(cr_size(points, 0) - 1, 1)) == 4);
        }
        cr_history_free(history);
        assert_int_equal(cr_memory_stats().live_bytes, live);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ticks_stand_at_round_values),
        cmocka_unit_test(ticks_are_where_their_labels_say),
        cmocka_unit_test(a_rising_line_rises_across_the_picture),
        cmocka_unit_test(a_line_is_two_pixels_thick),
        cmocka_unit_test(a_long_series_keeps_its_extremes),
        cmocka_unit_test(reducing_does_not_change_the_picture),
        cmocka_unit_test(values_that_cannot_be_shown_are_left_out),
        cmocka_unit_test(a_logarithmic_axis_makes_exponentials_straight),
        cmocka_unit_test(smoothing_draws_the_debiased_moving_average),
        cmocka_unit_test(awkward_plots_are_drawn_too),
        cmocka_unit_test(bad_input_is_named_and_the_old_file_stays),
        cmocka_unit_test(text_is_as_wide_as_its_glyphs),
        cmocka_unit_test(a_history_grows_is_plotted_and_comes_back_from_a_checkpoint),
        cmocka_unit_test(a_history_whose_memory_fails_keeps_what_it_had),
    };
    return cmocka_run_group_tests(tests, choose_path, remove_path);
}
