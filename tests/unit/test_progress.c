/* The progress bar: what a line says at each width, what goes to a terminal and what to a file, and how often. */
#include "tests/unit/testing.h"

#include "summary/progress_line.h"

#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

static const cr_progress_view usual = {
    .label = "epoch 2/5",
    .fields = "loss_d 0.31 loss_g 2.10",
    .unit = "img",
    .done = 26,
    .total = 61,
    .rate = 412.4,
    .seconds_left = 17,
    .elapsed = 14,
    .data_seconds = 0.0031,
    .compute_seconds = 0.152,
    .use_utf8 = true,
};

static void assert_line(cr_progress_view view, int width, bool with_bar, const char *expected) {
    char line[1024];
    cr_progress_line(&view, width, with_bar, line, sizeof line);
    assert_string_equal(line, expected);
}

/* ---------------------------------------------------------------- the line */

static void a_wide_line_says_everything(void **state) {
    (void)state;
    assert_line(usual, 200, false,
                "epoch 2/5   42%  26/61  412 img/s  eta 0:17  data 3.10 ms + compute 152 ms  loss_d 0.31 loss_g 2.10");
    assert_line(usual, 200, true,
                "epoch 2/5   42%  |███████████▉                |  26/61  412 img/s  eta 0:17  "
                "data 3.10 ms + compute 152 ms  loss_d 0.31 loss_g 2.10");
    cr_progress_view ascii = usual;
    ascii.use_utf8 = false;
    assert_line(ascii, 200, true,
                "epoch 2/5   42%  [###########                 ]  26/61  412 img/s  eta 0:17  "
                "data 3.10 ms + compute 152 ms  loss_d 0.31 loss_g 2.10");
}

static void a_narrow_line_drops_what_is_needed_least(void **state) {
    (void)state;
    assert_line(usual, 79, true, "epoch 2/5   42%  |██▉    |  26/61  412 img/s  eta 0:17  loss_d 0.31 loss_g 2.10");
    assert_line(usual, 70, true, "epoch 2/5   42%  26/61  412 img/s  eta 0:17  loss_d 0.31 loss_g 2.10");
    assert_line(usual, 65, true, "epoch 2/5   42%  412 img/s  eta 0:17  loss_d 0.31 loss_g 2.10");
    assert_line(usual, 50, true, "epoch 2/5   42%  412 img/s  eta 0:17  loss_d 0.31");
    assert_line(usual, 5, true, "epoch");
}

static void a_line_is_never_wider_than_asked(void **state) {
    (void)state;
    cr_progress_view view = usual;
    view.label = "日本語 é";
    char line[1024];
    for (int width = 1; width < 150; width++) {
        for (int done = 0; done <= 61; done += 7) {
            view.done = done;
            cr_progress_line(&view, width, true, line, sizeof line);
            assert_true(cr_text_columns(line) <= width);
        }
    }
    char tiny[16];
    memset(tiny, 'x', sizeof tiny);
    cr_progress_line(&view, 100, true, tiny, 8);
    assert_true(strlen(tiny) < 8 && tiny[8] == 'x');
}

static void the_percentage_reaches_100_only_at_the_end(void **state) {
    (void)state;
    assert_line((cr_progress_view){.unit = "step", .done = 999, .total = 1000, .seconds_left = -1, .data_seconds = -1},
                80, false, " 99%  999/1000");
    assert_line((cr_progress_view){.unit = "step", .done = 7, .total = 5, .seconds_left = 0, .data_seconds = -1}, 80,
                false, "100%  7/5  eta 0:00");
}

static void times_and_rates_are_readable_at_every_size(void **state) {
    (void)state;
    cr_progress_view view = {.unit = "step", .done = 1, .total = -1, .elapsed = 3725, .rate = 0.25, .data_seconds = -1};
    assert_line(view, 80, true, "1  4.00 s/step  for 1:02:05");
    view.rate = 12.345;
    view.elapsed = 2 * 86400 + 3 * 3600 + 59;
    assert_line(view, 80, true, "1  12.3 step/s  for 2d 3h");
    view.rate = 1e6;
    view.elapsed = 59.6;
    view.is_closed = true;
    view.data_seconds = 4e-5;
    view.compute_seconds = 2.5;
    assert_line(view, 80, true, "1  1000000 step/s  in 1:00  data 0.04 ms + compute 2.50 s");
}

static void control_characters_cannot_break_the_line(void **state) {
    (void)state;
    assert_line((cr_progress_view){.label = "a\nb\x1b[2J",
                                   .fields = "x\ry",
                                   .unit = "step",
                                   .done = 1,
                                   .total = 2,
                                   .seconds_left = -1,
                                   .data_seconds = -1},
                80, false, "a b [2J   50%  1/2  x y");
}

static void columns_count_characters_not_bytes(void **state) {
    (void)state;
    assert_int_equal(cr_text_columns("abc"), 3);
    assert_int_equal(cr_text_columns("é█"), 2);
    assert_int_equal(cr_text_columns("e\xcc\x81"), 1);
    assert_int_equal(cr_text_columns("日本\xf0\x9f\x94\xa5"), 6);
    assert_int_equal(cr_text_columns("\xff\xc3"), 2);
}

/* ---------------------------------------------------------------- files and terminals */

static char text[1 << 16];

/* The time that the bars see: it passes only where a test lets it, so that no load on the machine changes a count. */
static double time_now;

static double read_time(void) { return time_now; }

/* Sums of these are exact. */
static const double DATA_SECONDS = 1. / 512, COMPUTE_SECONDS = 3. / 512;

static void let_pass(double seconds) { time_now += seconds; }

static int lines_in(const char *all) {
    int lines = 0;
    for (; *all; all++)
        lines += *all == '\n';
    return lines;
}

static void a_file_gets_plain_lines_now_and_then(void **state) {
    (void)state;
    const int64_t live = cr_memory_stats().live_bytes;
    FILE *out = tmpfile();
    cr_progress *progress = cr_progress_new(200, .label = "train", .out = out, .line_seconds = 0.1);
    for (int i = 0; i < 200; i++) {
        let_pass(DATA_SECONDS + COMPUTE_SECONDS);
        cr_progress_step(progress, "loss %d", i);
    }
    assert_true(cr_progress_elapsed(progress) == 200. / 128);
    assert_float_equal(cr_progress_rate(progress), 128, 1e-3);
    cr_progress_close(progress);
    assert_int_equal(cr_memory_stats().live_bytes, live);
    rewind(out);
    text[fread(text, 1, sizeof text - 1, out)] = '\0';
    fclose(out);
    assert_null(strpbrk(text, "\r\x1b"));
    assert_int_equal(lines_in(text), 16); /* one each 13 steps, which are just over 0.1 s, and the end */
    char *last = text + strlen(text) - 1;
    *last = '\0';
    last = strrchr(text, '\n') + 1;
    assert_non_null(strstr(last, "train  100%  200/200"));
    assert_non_null(strstr(last, "  in 0:02"));
    assert_non_null(strstr(last, "loss 199"));
}

/* What a loop of `steps` steps of 1/128 s writes to a terminal of `columns` columns. */
static void run_on_terminal(int columns, int steps) {
    int controller, terminal;
    struct winsize size = {.ws_row = 24, .ws_col = (unsigned short)columns};
    assert_int_equal(openpty(&controller, &terminal, NULL, NULL, columns ? &size : NULL), 0);
    FILE *out = fdopen(terminal, "w");
    cr_progress *progress = cr_progress_new(steps, .label = "train", .out = out);
    for (int i = 0; i < steps; i++) {
        let_pass(DATA_SECONDS);
        cr_progress_data_ready(progress);
        let_pass(COMPUTE_SECONDS);
        if (i == steps / 2) cr_progress_print(progress, "half of %d", steps);
        cr_progress_step(progress, "loss %d", i);
    }
    assert_true(cr_progress_data_seconds(progress) == DATA_SECONDS * steps);
    assert_true(cr_progress_elapsed(progress) == (DATA_SECONDS + COMPUTE_SECONDS) * steps);
    cr_progress_close(progress);
    fclose(out); /* after which reading ends, with an error, behind the last byte */
    size_t used = 0;
    for (ssize_t bytes; (bytes = read(controller, text + used, sizeof text - 1 - used)) > 0;)
        used += (size_t)bytes;
    text[used] = '\0';
    close(controller);
}

static int redraws_in(const char *all) {
    int count = 0;
    while ((all = strstr(all, "\x1b[K")))
        all++, count++;
    return count;
}

static void a_terminal_gets_one_line_redrawn_ten_times_a_second(void **state) {
    (void)state;
    setenv("TERM", "xterm", 1);
    setenv("LC_ALL", "C.UTF-8", 1);
    run_on_terminal(100, 100);
    assert_int_equal(lines_in(text), 2); /* the printed line, and the end */
    assert_non_null(strstr(text, "\x1b[Khalf of 100\r\n\r"));
    assert_non_null(strstr(text, "█"));
    /* the first; after 13, 26, 39 steps; cleared and drawn again for the printed line; 13, 26, 39 later; the last */
    assert_int_equal(redraws_in(text), 10);
    assert_non_null(strstr(text, "100%"));
    assert_string_equal(text + strlen(text) - 5, "\x1b[K\r\n");
    for (char *line = strtok(text, "\r\n"); line; line = strtok(NULL, "\r\n"))
        assert_true(cr_text_columns(line) <= 99 + 3); /* "ESC[K" are three */
}

static void a_terminal_that_cannot_tell_its_width_has_80_columns(void **state) {
    (void)state;
    run_on_terminal(0, 10);
    assert_non_null(strstr(text, "train  100%  |"));
    for (char *line = strtok(text, "\r\n"); line; line = strtok(NULL, "\r\n"))
        assert_true(cr_text_columns(line) <= 79 + 3);
}

static void glyphs_are_ascii_where_the_locale_is(void **state) {
    (void)state;
    static const char *const settings[][2] = {{"C", "xterm"}, {"en_US.ISO-8859-1", "xterm"}, {"C.UTF-8", "linux"}};
    for (int i = 0; i < 3; i++) {
        setenv("LC_ALL", settings[i][0], 1);
        setenv("TERM", settings[i][1], 1);
        run_on_terminal(80, 5);
        assert_non_null(strstr(text, "[####"));
        assert_null(strstr(text, "█"));
    }
    setenv("LC_ALL", "C.UTF-8", 1);
    setenv("TERM", "dumb", 1);
    run_on_terminal(80, 5);
    assert_null(strstr(text, "\x1b"));
    assert_null(strstr(text, "["));
}

static void a_resumed_run_counts_from_where_it_was(void **state) {
    (void)state;
    FILE *out = tmpfile();
    cr_progress *progress = cr_progress_new(10, .out = out, .start = 7, .style = CR_PROGRESS_LINES);
    cr_progress_step(progress, NULL);
    cr_progress_close(progress);
    rewind(out);
    text[fread(text, 1, sizeof text - 1, out)] = '\0';
    fclose(out);
    assert_non_null(strstr(text, " 80%  8/10"));
}

static void a_loop_can_ask_whether_the_next_step_draws(void **state) {
    (void)state;
    FILE *out = tmpfile();
    cr_progress *progress =
        cr_progress_new(3, .out = out, .style = CR_PROGRESS_BAR, .redraw_seconds = 3600, .width = 60);
    assert_false(cr_progress_due(progress));
    cr_progress_step(progress, NULL);
    cr_progress_step(progress, NULL);
    assert_true(cr_progress_due(progress)); /* the last one */
    cr_progress_close(progress);
    progress = cr_progress_new(3, .out = out, .style = CR_PROGRESS_BAR, .redraw_seconds = 0, .width = 60);
    assert_true(cr_progress_due(progress));
    cr_progress_close(progress);
    rewind(out);
    progress = cr_progress_new(3, .out = out, .style = CR_PROGRESS_SILENT);
    const long before = ftell(out);
    assert_false(cr_progress_due(progress));
    cr_progress_step(progress, "loss %d", 1);
    cr_progress_print(progress, "unseen");
    cr_progress_close(progress);
    assert_int_equal(ftell(out), before);
    fclose(out);
}

static void without_a_bar_nothing_happens(void **state) {
    (void)state;
    cr_progress_data_ready(NULL);
    cr_progress_step(NULL, "%d", 1);
    cr_progress_print(NULL, "%d", 1);
    assert_false(cr_progress_due(NULL));
    assert_true(cr_progress_rate(NULL) == 0 && cr_progress_elapsed(NULL) == 0 && cr_progress_data_seconds(NULL) == 0);
    cr_progress_close(NULL);
    assert_cr_ok();
    const int64_t live = cr_memory_stats().live_bytes;
    for (int n = 1; n <= 3; n++) {
        cr_memory_fail_nth(n);
        assert_null(cr_progress_new(10, .style = CR_PROGRESS_SILENT));
        cr_memory_fail_nth(0);
        assert_cr_error(CR_ERROR_MEMORY, "");
        assert_int_equal(cr_memory_stats().live_bytes, live);
    }
}

int main(void) {
    cr_progress_clock = read_time;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_wide_line_says_everything),
        cmocka_unit_test(a_narrow_line_drops_what_is_needed_least),
        cmocka_unit_test(a_line_is_never_wider_than_asked),
        cmocka_unit_test(the_percentage_reaches_100_only_at_the_end),
        cmocka_unit_test(times_and_rates_are_readable_at_every_size),
        cmocka_unit_test(control_characters_cannot_break_the_line),
        cmocka_unit_test(columns_count_characters_not_bytes),
        cmocka_unit_test(a_file_gets_plain_lines_now_and_then),
        cmocka_unit_test(a_terminal_gets_one_line_redrawn_ten_times_a_second),
        cmocka_unit_test(a_terminal_that_cannot_tell_its_width_has_80_columns),
        cmocka_unit_test(glyphs_are_ascii_where_the_locale_is),
        cmocka_unit_test(a_resumed_run_counts_from_where_it_was),
        cmocka_unit_test(a_loop_can_ask_whether_the_next_step_draws),
        cmocka_unit_test(without_a_bar_nothing_happens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
