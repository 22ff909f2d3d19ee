/* Compilers that fail, lie or hang, and cache folders that cannot be used or trusted: the interpreter goes on with the
 * same bits and one warning, and nothing waits for ever. Each case is a process of its own (this program with the word
 * "child"), because what was compiled is kept for a process's life. */
#include "tests/unit/testing.h"
#include "tests/unit/temporary_folder.h"

#include <cresset/jit.h>

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

enum { KERNELS = 3, SECONDS = 30, NOBODY = 65534 };

/* ---------------------------------------------------------------- the child */
/* Another structure for each number: another kernel to compile. */
static bool chain(void *context, cr_tensor *const *in, int in_count, cr_tensor **out, int out_count) {
    const int which = *(const int *)context;
    (void)in_count, (void)out_count;
    cr_tensor *y = cr_mul(cr_add_scalar(in[0], 1), in[0]);
    for (int i = 0; i <= which; i++)
        y = cr_tanh(cr_sub(y, in[0]));
    return (out[0] = y) != NULL;
}

static bool same_bits(cr_tensor *a, cr_tensor *b) {
    return a && b && !memcmp(cr_data(a), cr_data(b), (size_t)cr_numel(a) * sizeof(float));
}

/* Runs plans before and after the compiler had its time; 0 where both give eager's bits. */
static int be_child(void) {
    bool good = true;
    if (getenv("TEST_NO_ROOM")) { /* as on a full disk */
        const struct rlimit none = {0, 0};
        signal(SIGXFSZ, SIG_IGN);
        good = setrlimit(RLIMIT_FSIZE, &none) == 0;
    }
    if (getenv("TEST_NOBODY")) good = setgid(NOBODY) == 0 && setuid(NOBODY) == 0;
    if (getenv("TEST_NO_CHILDREN")) signal(SIGCHLD, SIG_IGN);
    CR_SCOPE {
        cr_graph *graphs[KERNELS];
        cr_tensor *x = cr_randn(CR_F32, CR_SHAPE(40, 50), CR_CPU), *before, *after, *eager;
        static const int numbers[KERNELS] = {0, 1, 2};
        for (int i = 0; i < KERNELS; i++) {
            void *context = (void *)(uintptr_t)&numbers[i];
            graphs[i] = cr_jit_trace_function(chain, context, &x, 1, &eager, 1, NULL, 0);
            good &= cr_jit_run(graphs[i], &x, 1, &before, 1) && same_bits(before, eager);
        }
        cr_jit_wait();
        for (int i = 0; i < KERNELS; i++) {
            void *context = (void *)(uintptr_t)&numbers[i];
            good &=
                chain(context, &x, 1, &eager, 1) && cr_jit_run(graphs[i], &x, 1, &after, 1) && same_bits(after, eager);
            cr_jit_free(graphs[i]);
        }
    }
    return cr_report(stderr) || !good || cr_memory_stats().live_bytes != 0;
}

/* ---------------------------------------------------------------- running it */
typedef struct outcome {
    int status, warnings; /* how often it warned */
    double seconds;
    char text[4096]; /* what it wrote to stderr */
} outcome;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* `more`: "NAME=value" pairs, up to a NULL, beside compiler and folder. */
static outcome run_child(const char *compiler, const char *folder, const char *more) {
    outcome result = {0};
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    const double begin = now();
    const pid_t child = fork();
    if (child == 0) {
        setenv("CR_CC", compiler, 1);
        setenv("CR_CACHE_DIR", folder, 1);
        setenv("CR_CC_SECONDS", "1", 1);
        setenv("OMP_NUM_THREADS", "2", 1);
        if (more) putenv((char *)(uintptr_t)more);
        dup2(ends[1], 2);
        close(ends[0]), close(ends[1]);
        execl("/proc/self/exe", "test_jit_compiler", "child", (char *)NULL);
        _exit(9);
    }
    close(ends[1]);
    size_t used = 0;
    for (ssize_t got; (got = read(ends[0], result.text + used, sizeof result.text - 1 - used)) > 0;)
        used += (size_t)got;
    close(ends[0]);
    waitpid(child, &result.status, 0);
    result.seconds = now() - begin;
    for (const char *at = result.text; (at = strstr(at, "fused kernels are interpreted")); at++)
        result.warnings++;
    return result;
}

static int count_objects(const char *folder) {
    int count = 0;
    DIR *entries = opendir(folder);
    for (struct dirent *entry; entries && (entry = readdir(entries));)
        count += strlen(entry->d_name) == 35 && !strcmp(entry->d_name + 32, ".so");
    if (entries) closedir(entries);
    return count;
}

/* Files of any kind: sources and half-made objects must be gone. */
static int count_files(const char *folder) {
    int count = 0;
    DIR *entries = opendir(folder);
    for (struct dirent *entry; entries && (entry = readdir(entries));)
        count += entry->d_name[0] != '.';
    if (entries) closedir(entries);
    return count;
}

static const char *cache(void) { return in_folder("cache"); }
static int clear_cache(void **state) {
    (void)state;
    char command[256];
    snprintf(command, sizeof command, "rm -rf '%s' '%s'", cache(), in_folder("other"));
    return system(command);
}

static void expect_interpreted(const char *compiler, const char *folder, const char *more, const char *words) {
    const outcome o = run_child(compiler, folder, more);
    if (o.status != 0) fail_msg("%s in %s: status %d: %s", compiler, folder, o.status, o.text);
    if (o.warnings != 1 || !strstr(o.text, words))
        fail_msg("%s in %s: one warning with \"%s\" was expected, got: %s", compiler, folder, words, o.text);
    if (o.seconds > SECONDS) fail_msg("%s in %s took %.0f s", compiler, folder, o.seconds);
}

static const char *script(const char *name, const char *text) {
    const char *path = in_folder(name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fprintf(file, "#!/bin/sh\n%s\n", text);
    fclose(file);
    assert_int_equal(chmod(path, 0755), 0);
    return path;
}

static bool has_compiler(void) { return system("command -v cc >/dev/null 2>&1") == 0; }

/* ---------------------------------------------------------------- compilers */
static void a_good_compiler_makes_objects_without_a_word(void **state) {
    (void)state;
    if (!has_compiler()) skip();
    for (int again = 0; again < 2; again++) {
        const outcome o = run_child("cc", cache(), "CR_CC_SECONDS=60");
        if (o.status || o.text[0]) fail_msg("status %d: %s", o.status, o.text);
        assert_int_equal(count_objects(cache()), KERNELS);
        assert_int_equal(count_files(cache()), KERNELS);
    }
    const outcome o = run_child("cc", in_folder("other"), "TEST_NO_CHILDREN=1"); /* SIGCHLD ignored */
    if (o.status || o.text[0]) fail_msg("status %d: %s", o.status, o.text);
}

static void compilers_that_fail_or_lie_leave_the_interpreter(void **state) {
    (void)state;
    expect_interpreted("/no/such/compiler", cache(), NULL, "is not there");
    expect_interpreted("/", cache(), NULL, "is not there");
    expect_interpreted(script("fails", "exit 1"), cache(), NULL, "it failed");
    expect_interpreted(script("crashes", "kill -SEGV $$"), cache(), NULL, "it failed");
    expect_interpreted(script("talks", "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2; exit 0"), cache(), NULL,
                       "made nothing");
    expect_interpreted(
        script("nonsense", "while [ $# -gt 1 ]; do [ \"$1\" = -o ] && echo 'no object' >\"$2\"; shift; done"), cache(),
        NULL, "cannot be loaded");
    assert_int_equal(count_files(cache()), 0);
}

static bool is_running(int pid) {
    char path[64], text[256] = "";
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "r");
    if (!file) return false;
    if (!fgets(text, sizeof text, file)) text[0] = '\0';
    fclose(file);
    const char *state = strrchr(text, ')');
    return state && state[1] == ' ' && state[2] != 'Z';
}

static void a_compiler_that_hangs_is_killed_with_its_children(void **state) {
    (void)state;
    char text[400];
    snprintf(text, sizeof text, "sleep 1000 &\necho $! >>'%s'\nwait", in_folder("sleepers"));
    expect_interpreted(script("hangs", text), cache(), NULL, "hung");
    FILE *file = fopen(in_folder("sleepers"), "r");
    int pid, count = 0;
    assert_non_null(file);
    for (; fscanf(file, "%d", &pid) == 1; count++) {
        for (int tries = 0; is_running(pid) && tries < 500; tries++) /* it dies at once, but not in no time */
            usleep(10000);
        assert_false(is_running(pid));
    }
    fclose(file);
    assert_int_equal(count, 1); /* it was called for the first kernel only */
    assert_int_equal(count_files(cache()), 0);
}

/* ---------------------------------------------------------------- folders */
static void a_full_disk_leaves_the_interpreter(void **state) {
    (void)state;
    expect_interpreted("cc", cache(), "TEST_NO_ROOM=1", "");
    assert_int_equal(count_objects(cache()), 0);
}

static void folders_that_cannot_be_trusted_are_not_used(void **state) {
    (void)state;
    FILE *file = fopen(cache(), "w"); /* a file in its place */
    fclose(file);
    expect_interpreted("cc", cache(), NULL, "");
    clear_cache(NULL);
    assert_int_equal(mkdir(in_folder("other"), 0700), 0); /* a link to a folder that would do */
    assert_int_equal(symlink(in_folder("other"), cache()), 0);
    expect_interpreted("cc", cache(), NULL, "yours alone");
    assert_int_equal(count_files(in_folder("other")), 0);
    clear_cache(NULL);
    static const mode_t modes[] = {0770, 0707, 0750, 0777};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(mkdir(cache(), 0700) | chmod(cache(), modes[i]), 0);
        expect_interpreted("cc", cache(), NULL, "yours alone");
        assert_int_equal(count_files(cache()), 0);
        clear_cache(NULL);
    }
    expect_interpreted("cc", "/proc/cresset/cache", NULL, "/proc/cresset/cache");
    expect_interpreted("cc", "/dev/null/cache", NULL, "/dev/null/cache");
}

static void folders_of_others_and_read_only_ones_are_not_used(void **state) {
    (void)state;
    if (geteuid() != 0) skip(); /* only root can hand a folder to another user */
    assert_int_equal(mkdir(cache(), 0700) | chown(cache(), NOBODY, NOBODY), 0);
    expect_interpreted("cc", cache(), NULL, "yours alone");
    assert_int_equal(count_files(cache()), 0);
    assert_int_equal(chmod(temporary_folder, 0711) | chmod(cache(), 0500), 0);
    expect_interpreted("cc", cache(), "TEST_NOBODY=1", "denied");
    assert_int_equal(count_files(cache()), 0);
}

static void a_damaged_object_is_made_again(void **state) {
    (void)state;
    if (!has_compiler()) skip();
    assert_int_equal(run_child("cc", cache(), "CR_CC_SECONDS=60").status, 0);
    char command[256];
    snprintf(command, sizeof command, "cd '%s' && for f in *.so; do echo garbage >$f; done", cache());
    assert_int_equal(system(command), 0);
    const outcome o = run_child("cc", cache(), "CR_CC_SECONDS=60");
    if (o.status || o.text[0]) fail_msg("status %d: %s", o.status, o.text);
    snprintf(command, sizeof command, "! grep -l '^garbage' '%s'/*.so", cache());
    assert_int_equal(system(command), 0);
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "child")) return be_child();
#define TEST(name) cmocka_unit_test_teardown(name, clear_cache)
    const struct CMUnitTest tests[] = {
        TEST(a_good_compiler_makes_objects_without_a_word),
        TEST(compilers_that_fail_or_lie_leave_the_interpreter),
        TEST(a_compiler_that_hangs_is_killed_with_its_children),
        TEST(a_full_disk_leaves_the_interpreter),
        TEST(folders_that_cannot_be_trusted_are_not_used),
        TEST(folders_of_others_and_read_only_ones_are_not_used),
        TEST(a_damaged_object_is_made_again),
    };
    return cmocka_run_group_tests(tests, make_temporary_folder, remove_temporary_folder);
}
