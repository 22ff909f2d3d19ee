/* Sources to functions: by the system's C compiler, in the background, once for each source on this machine.
 *
 * Compiled objects are kept in a folder that only the user may enter ($CR_CACHE_DIR, else $XDG_CACHE_HOME/cresset, else
 * ~/.cache/cresset), under a hash of source, flags and compiler, and get their names by rename. CR_CC names the
 * compiler (default cc); CR_CC=none turns compiling off. Where anything fails, fused nodes go on being interpreted,
 * with one warning. A compiler that has not ended after CR_CC_SECONDS (default 60) is killed with all that it started, and
 * is not called again. */
#include "jit/fused.h"

#include "core/text.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PATH_BYTES = 1024, SECONDS_TO_COMPILE = 60, MOST_SECONDS = 3600 };
extern char **environ;

/* As the library's own loops are compiled, so that both round alike; the last word names the chosen instruction
 * set's. */
static const char *const flags[] = {"-x",
                                    "c",
                                    "-std=gnu17",
                                    "-O3",
                                    "-fPIC",
                                    "-shared",
                                    "-w",
                                    "-ffp-contract=off",
                                    "-fno-math-errno",
                                    "-fno-trapping-math",
                                    "-fno-thread-jumps",
                                    "-fwrapv"};
static const char *const flags_avx2[] = {"-mavx2", "-mfma", "-mf16c", "-mbmi2"};
static const char *const flags_avx512[] = {"-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl",
                                           "-mfma",     "-mf16c",     "-mbmi2",     "-mprefer-vector-width=512"};
enum { FLAGS_MOST = 32 };

/* The compiler's flags in this process; returns their number. */
static int list_flags(const char *list[FLAGS_MOST]) {
    const char *chosen = cr_cpu_capability(), *const *more = NULL;
    int count = (int)(sizeof flags / sizeof flags[0]), extra = 0;
    memcpy(list, flags, sizeof flags);
    if (!strcmp(chosen, "avx2")) more = flags_avx2, extra = (int)(sizeof flags_avx2 / sizeof flags_avx2[0]);
    if (!strcmp(chosen, "avx512")) more = flags_avx512, extra = (int)(sizeof flags_avx512 / sizeof flags_avx512[0]);
    for (int i = 0; i < extra; i++)
        list[count++] = more[i];
    return count;
}

typedef struct job {
    uint64_t hash[2];
    char *source; /* until it is compiled */
    cr_fused_function _Atomic function;
    bool done;
    struct job *next, *next_waiting;
} job;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    job *jobs;         /* all that were asked for; they live as long as the process */
    job *first, *last; /* that wait for the compiler */
    int pending;
    bool working;
    atomic_bool given_up; /* it hung: what is left is interpreted */
} compiler = {.lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

static void warn_once(const char *what, const char *detail) {
    static atomic_bool warned;
    if (!atomic_exchange(&warned, true))
        fprintf(stderr, "cresset: fused kernels are interpreted, not compiled: %s%s%s\n", what, detail ? ": " : "",
                detail ? detail : "");
}

/* ---------------------------------------------------------------- hashes */
/* Two hashes of different factors, eight bytes at a time: a source is 28 KB, and a network has a hundred. */
static void hash_text(uint64_t hash[2], const char *text) {
    static const uint64_t factors[2] = {0x9e3779b97f4a7c15u, 0xc2b2ae3d27d4eb4fu};
    for (size_t length = strlen(text) + 1, at = 0; at < length;
         at += sizeof(uint64_t)) { /* with the zero that ends it */
        uint64_t word = 0;
        memcpy(&word, text + at, length - at < sizeof word ? length - at : sizeof word);
        for (int i = 0; i < 2; i++) {
            hash[i] = (hash[i] ^ word) * factors[i];
            hash[i] ^= hash[i] >> 32;
        }
    }
}

static const char *compiler_name(void) {
    const char *name = getenv("CR_CC");
    return name && *name ? name : "cc";
}

static void hash_source(uint64_t hash[2], const char *source) {
    const char *list[FLAGS_MOST];
    const int count = list_flags(list);
    hash[0] = 0xcbf29ce484222325u;
    hash[1] = 0x84222325cbf29ce4u;
    for (int i = 0; i < count; i++)
        hash_text(hash, list[i]);
    hash_text(hash, compiler_name());
    hash_text(hash, source);
}

/* ---------------------------------------------------------------- the folder */
/* Where the folder is to be; false where nothing names one, or its name is too long. */
static bool name_folder(char path[PATH_BYTES]) {
    const char *own = getenv("CR_CACHE_DIR"), *shared = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int length = -1;
    if (own && *own)
        length = snprintf(path, PATH_BYTES, "%s", own);
    else if (shared && *shared)
        length = snprintf(path, PATH_BYTES, "%s/cresset", shared);
    else if (home && *home)
        length = snprintf(path, PATH_BYTES, "%s/.cache/cresset", home);
    return length >= 0 && length <= PATH_BYTES - 128;
}

static bool make_folder(char path[PATH_BYTES]) {
    if (!name_folder(path)) return warn_once("there is no folder to keep them in; set CR_CACHE_DIR", NULL), false;
    for (char *slash = path + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = '\0';
        mkdir(path, 0700);
    }
    struct stat is;
    if (mkdir(path, 0700) != 0 && errno != EEXIST) return warn_once(path, strerror(errno)), false;
    if (lstat(path, &is) != 0) return warn_once(path, strerror(errno)), false;
    if (!S_ISDIR(is.st_mode) || is.st_uid != geteuid() || (is.st_mode & 077))
        return warn_once(path, "not a folder that is yours alone (chmod 700 it, or set CR_CACHE_DIR)"), false;
    return true;
}

/* ---------------------------------------------------------------- running the compiler */
static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double seconds_to_compile(void) {
    const char *text = getenv("CR_CC_SECONDS");
    const double seconds = text ? strtod(text, NULL) : 0;
    return seconds > 0 && seconds < MOST_SECONDS ? seconds : SECONDS_TO_COMPILE;
}

/* Its exit status; one that hangs is ended, with its group: the compiler proper is a child of the driver. Where the
 * process lets children go unseen (SIGCHLD ignored), what was made must tell. */
static int wait_for(pid_t child) {
    const double limit = now() + seconds_to_compile();
    const struct timespec pause = {0, 2000000};
    int status;
    for (;;) {
        const pid_t ended = waitpid(child, &status, WNOHANG);
        if (ended == child) return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
        if (ended < 0 && errno != EINTR) return errno == ECHILD ? 0 : -1;
        if (now() > limit) {
            kill(-child, SIGKILL);
            waitpid(child, &status, 0);
            atomic_store(&compiler.given_up, true);
            warn_once(compiler_name(), "it hung and was killed (CR_CC_SECONDS gives it more time)");
            return -1;
        }
        nanosleep(&pause, NULL);
    }
}

static bool write_source(const char *path, const char *source) {
    unlink(path); /* of a process that was killed */
    const int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (file < 0) return false;
    size_t left = strlen(source);
    while (left) {
        const ssize_t written = write(file, source, left);
        if (written <= 0) break;
        source += written;
        left -= (size_t)written;
    }
    return close(file) == 0 && left == 0;
}

static bool run_compiler(const char *source, const char *object) {
    char *arguments[FLAGS_MOST + 6];
    const char *list[FLAGS_MOST];
    const int flag_count = list_flags(list);
    int count = 0;
    pid_t child;
    posix_spawn_file_actions_t quiet;
    posix_spawnattr_t alone;
    arguments[count++] = (char *)(uintptr_t)compiler_name();
    for (int i = 0; i < flag_count; i++)
        arguments[count++] = (char *)(uintptr_t)list[i];
    arguments[count++] = "-o";
    arguments[count++] = (char *)(uintptr_t)object;
    arguments[count++] = (char *)(uintptr_t)source;
    arguments[count++] = "-lm";
    arguments[count] = NULL;
    posix_spawn_file_actions_init(&quiet);
    posix_spawn_file_actions_addopen(&quiet, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&quiet, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&quiet, 2, "/dev/null", O_WRONLY, 0);
    posix_spawnattr_init(&alone);
    posix_spawnattr_setflags(&alone, POSIX_SPAWN_SETPGROUP); /* a group of its own, to be killed whole */
    const int failed = posix_spawnp(&child, arguments[0], &quiet, &alone, arguments, environ);
    posix_spawnattr_destroy(&alone);
    posix_spawn_file_actions_destroy(&quiet);
    return !failed && wait_for(child) == 0;
}

/* Makes `object` from the job's source: under another name first, so that nobody sees half of it. */
static bool build_object(const job *j, const char *folder, const char *object) {
    char source[PATH_BYTES + 64], fresh[PATH_BYTES + 64];
    snprintf(source, sizeof source, "%s/%d-%p.c", folder, (int)getpid(), (const void *)j);
    snprintf(fresh, sizeof fresh, "%s/%d-%p.so", folder, (int)getpid(), (const void *)j);
    if (!write_source(source, j->source)) {
        warn_once(source, strerror(errno));
        unlink(source);
        return false;
    }
    const bool made = run_compiler(source, fresh);
    if (!made) warn_once(compiler_name(), "it failed, or is not there (CR_CC names another)");
    const bool named = made && rename(fresh, object) == 0;
    if (made && !named) warn_once(compiler_name(), "it says that all is well, but made nothing");
    unlink(source);
    if (!named) unlink(fresh);
    return named;
}

static cr_fused_function load_object(const char *object) {
    struct stat is;
    if (lstat(object, &is) != 0 || !S_ISREG(is.st_mode) || is.st_uid != geteuid()) return NULL;
    void *library = dlopen(object, RTLD_NOW | RTLD_LOCAL);
    cr_fused_function function = NULL;
    void *symbol = library ? dlsym(library, "kernel") : NULL;
    memcpy(&function, &symbol, sizeof function);
    if (library && !function) dlclose(library);
    return function;
}

static cr_fused_function compile_job(const job *j) {
    char folder[PATH_BYTES], object[PATH_BYTES + 64];
    if (!make_folder(folder)) return NULL;
    snprintf(object, sizeof object, "%s/%016llx%016llx.so", folder, (unsigned long long)j->hash[0],
             (unsigned long long)j->hash[1]);
    cr_fused_function function = load_object(object);
    if (function || !build_object(j, folder, object)) return function;
    if (!(function = load_object(object))) {
        warn_once(compiler_name(), "what it made cannot be loaded");
        unlink(object);
    }
    return function;
}

/* ---------------------------------------------------------------- the thread */
static void *work(void *unused) {
    (void)unused;
    pthread_mutex_lock(&compiler.lock);
    while (compiler.first) {
        job *j = compiler.first;
        compiler.first = j->next_waiting;
        if (!compiler.first) compiler.last = NULL;
        pthread_mutex_unlock(&compiler.lock);
        cr_fused_function function = atomic_load(&compiler.given_up) ? NULL : compile_job(j);
        pthread_mutex_lock(&compiler.lock);
        atomic_store_explicit(&j->function, function, memory_order_release);
        free(j->source);
        j->source = NULL;
        j->done = true;
        compiler.pending--;
        pthread_cond_broadcast(&compiler.changed);
    }
    compiler.working = false;
    pthread_cond_broadcast(&compiler.changed);
    pthread_mutex_unlock(&compiler.lock);
    return NULL;
}

/* Lock held. */
static bool start_worker(void) {
    pthread_t thread;
    pthread_attr_t attributes;
    if (compiler.working) return true;
    if (pthread_attr_init(&attributes) != 0) return false;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    compiler.working = pthread_create(&thread, &attributes, work, NULL) == 0;
    pthread_attr_destroy(&attributes);
    return compiler.working;
}

/* Lock held. Jobs are of the process, not counted memory: they outlive every graph. */
static job *find_or_add(const char *source) {
    uint64_t hash[2];
    hash_source(hash, source);
    for (job *j = compiler.jobs; j; j = j->next)
        if (j->hash[0] == hash[0] && j->hash[1] == hash[1]) return j;
    job *j = calloc(1, sizeof *j);
    char *copy = j ? strdup(source) : NULL;
    if (!copy) {
        free(j);
        return NULL;
    }
    memcpy(j->hash, hash, sizeof hash);
    j->source = copy;
    j->next = compiler.jobs;
    compiler.jobs = j;
    *(compiler.last ? &compiler.last->next_waiting : &compiler.first) = j;
    compiler.last = j;
    compiler.pending++;
    return j;
}

cr_fused_function _Atomic *cr_compile(char *source) {
    job *j = NULL;
    if (strcmp(compiler_name(), "none") != 0) {
        pthread_mutex_lock(&compiler.lock);
        j = find_or_add(source);
        if (j && !j->done) start_worker();
        pthread_mutex_unlock(&compiler.lock);
    }
    cr_free(source);
    return j ? &j->function : NULL;
}

void cr_jit_wait(void) {
    pthread_mutex_lock(&compiler.lock);
    while (compiler.pending && compiler.working)
        pthread_cond_wait(&compiler.changed, &compiler.lock);
    pthread_mutex_unlock(&compiler.lock);
}

/* ---------------------------------------------------------------- asking */
char *cr_jit_cache_folder(void) {
    char path[PATH_BYTES];
    if (name_folder(path)) return cr_strdup(path);
    cr_record_error(CR_ERROR_STATE, "jit_cache_folder: none of CR_CACHE_DIR, XDG_CACHE_HOME and HOME names a folder");
    return NULL;
}

const char *cr_jit_compiler(void) { return strcmp(compiler_name(), "none") != 0 ? compiler_name() : NULL; }
