/* The atomic file writer: whole files or nothing, no temporary file left, clear errors. */
#define _GNU_SOURCE
#include "tests/unit/testing.h"
#include "tests/unit/temporary_folder.h"

#include "core/file.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static bool save_text(const char *path, const char *text) {
    cr_file_writer *writer = cr_file_writer_begin(path);
    cr_file_writer_write(writer, text, strlen(text));
    return cr_file_writer_commit(writer);
}

static void assert_file_holds(const char *path, const char *text) {
    size_t bytes = 0;
    char *data = cr_file_load(path, 0, &bytes);
    assert_cr_ok();
    assert_int_equal(bytes, strlen(text));
    assert_string_equal(data, text);
    cr_free(data);
}

static void a_committed_file_replaces_the_old_one(void **state) {
    (void)state;
    const int64_t before = cr_memory_stats().live_bytes;
    const char *path = in_folder("a.txt");
    assert_true(save_text(path, "old"));
    assert_int_equal(chmod(path, 0640), 0);
    cr_file_writer *writer = cr_file_writer_begin(path);
    assert_true(cr_file_writer_write(writer, "new", 3));
    assert_int_equal(cr_file_writer_position(writer), 3);
    assert_file_holds(path, "old"); /* until the commit */
    assert_true(cr_file_writer_commit(writer));
    assert_file_holds(path, "new");
    struct stat status;
    assert_int_equal(stat(path, &status), 0);
    assert_int_equal(status.st_mode & 07777, 0640);
    assert_int_equal(count_temporary_files(), 1);
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

static void an_abandoned_file_leaves_the_old_one(void **state) {
    (void)state;
    const char *path = in_folder("a.txt");
    assert_true(save_text(path, "kept"));
    cr_file_writer *writer = cr_file_writer_begin(path);
    assert_true(cr_file_writer_write(writer, "lost", 4));
    assert_int_equal(count_temporary_files(), 2);
    cr_file_writer_abandon(writer);
    assert_file_holds(path, "kept");
    assert_int_equal(count_temporary_files(), 1);
    cr_file_writer_abandon(NULL);
}

static void many_pieces_of_all_sizes_arrive_in_order(void **state) {
    (void)state;
    static char text[20 << 20];
    for (size_t i = 0; i < sizeof text - 1; i++)
        text[i] = (char)('a' + i * i % 23);
    cr_file_writer *writer = cr_file_writer_begin(in_folder("pieces"));
    size_t sent = 0;
    for (size_t piece = 0; sent < sizeof text - 1; piece = piece * 3 % 5000011 + 1) {
        const size_t bytes = piece < sizeof text - 1 - sent ? piece : sizeof text - 1 - sent;
        assert_true(cr_file_writer_write(writer, text + sent, bytes));
        sent += bytes;
    }
    assert_true(cr_file_writer_commit(writer));
    assert_file_holds(in_folder("pieces"), text);
    unlink(in_folder("pieces"));
}

static void a_symbolic_link_stays_a_link(void **state) {
    (void)state;
    assert_true(save_text(in_folder("real"), "one"));
    const char *link_path = in_folder("link");
    assert_int_equal(symlink("real", link_path), 0);
    assert_true(save_text(link_path, "two"));
    struct stat status;
    assert_int_equal(lstat(link_path, &status), 0);
    assert_true(S_ISLNK(status.st_mode));
    assert_file_holds(in_folder("real"), "two");
    unlink(link_path);
    unlink(in_folder("real"));
}

static void paths_that_cannot_be_written_are_errors(void **state) {
    (void)state;
    const int64_t before = cr_memory_stats().live_bytes;
    assert_null(cr_file_writer_begin(NULL));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    assert_null(cr_file_writer_begin(""));
    assert_cr_error(CR_ERROR_ARGUMENT, "empty");
    assert_null(cr_file_writer_begin(temporary_folder));
    assert_cr_error(CR_ERROR_IO, "Is a directory");
    assert_null(cr_file_writer_begin("/no/such/folder/file"));
    assert_cr_error(CR_ERROR_IO, "No such file or directory");
    assert_false(cr_file_writer_write(NULL, "x", 1));
    assert_false(cr_file_writer_commit(NULL));
    assert_true(cr_ok()); /* the failed begin has told already */
    assert_int_equal(cr_memory_stats().live_bytes, before);
}

static void a_full_device_is_an_error(void **state) {
    (void)state;
    assert_false(save_text("/dev/full", "x"));
    assert_cr_error(CR_ERROR_IO, "No space left");
    struct stat status;
    assert_int_equal(stat("/dev/full", &status), 0);
    assert_true(S_ISCHR(status.st_mode)); /* written to, not replaced */
}

static void a_full_disk_leaves_the_old_file(void **state) {
    (void)state;
    const char *path = in_folder("a.txt");
    assert_true(save_text(path, "kept"));
    static char large[4 << 20]; /* more than waits to be written */
    struct rlimit old_limit;
    getrlimit(RLIMIT_FSIZE, &old_limit);
    void (*old_handler)(int) = signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit){100 * 1024, old_limit.rlim_max});
    cr_file_writer *writer = cr_file_writer_begin(path);
    assert_false(cr_file_writer_write(writer, large, sizeof large));
    assert_false(cr_file_writer_write(writer, large, 1));
    assert_false(cr_file_writer_commit(writer));
    setrlimit(RLIMIT_FSIZE, &old_limit);
    signal(SIGXFSZ, old_handler);
    assert_cr_error(CR_ERROR_IO, "File too large");
    assert_file_holds(path, "kept");
    assert_int_equal(count_temporary_files(), 1);
}

static void a_failed_allocation_at_any_step_is_an_error(void **state) {
    (void)state;
    const char *path = in_folder("a.txt");
    assert_true(save_text(path, "kept"));
    const int64_t before = cr_memory_stats().live_bytes;
    int failures = 0;
    for (int n = 1;; n++) {
        cr_memory_fail_nth(n);
        const bool saved = save_text(path, "new");
        cr_memory_fail_nth(0);
        if (saved) break;
        failures++;
        assert_cr_error(CR_ERROR_MEMORY, "made to fail");
        assert_file_holds(path, "kept");
        assert_int_equal(count_temporary_files(), 1);
        assert_int_equal(cr_memory_stats().live_bytes, before);
    }
    assert_int_equal(failures, 3);
}

static void reading_refuses_what_is_not_a_file(void **state) {
    (void)state;
    size_t bytes;
    assert_null(cr_file_load(temporary_folder, 0, &bytes));
    assert_cr_error(CR_ERROR_IO, "a folder");
    assert_null(cr_file_load("/dev/zero", 0, &bytes));
    assert_cr_error(CR_ERROR_IO, "device");
    assert_null(cr_file_load(in_folder("absent"), 0, &bytes));
    assert_cr_error(CR_ERROR_IO, "No such file");
    assert_null(cr_file_load(NULL, 0, &bytes));
    assert_cr_error(CR_ERROR_ARGUMENT, "NULL");
    assert_true(save_text(in_folder("a.txt"), "12345"));
    assert_null(cr_file_load(in_folder("a.txt"), 4, &bytes));
    assert_cr_error(CR_ERROR_FORMAT, "at most 4");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_committed_file_replaces_the_old_one),
        cmocka_unit_test(an_abandoned_file_leaves_the_old_one),
        cmocka_unit_test(many_pieces_of_all_sizes_arrive_in_order),
        cmocka_unit_test(a_symbolic_link_stays_a_link),
        cmocka_unit_test(paths_that_cannot_be_written_are_errors),
        cmocka_unit_test(a_full_device_is_an_error),
        cmocka_unit_test(a_full_disk_leaves_the_old_file),
        cmocka_unit_test(a_failed_allocation_at_any_step_is_an_error),
        cmocka_unit_test(reading_refuses_what_is_not_a_file),
    };
    return cmocka_run_group_tests(tests, make_temporary_folder, remove_temporary_folder);
}
