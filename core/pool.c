/* A pool of threads that share out the parts of jobs.
 *
 * Whoever asks for a job works on it too, and takes every part that nobody else has begun: a helper that the system does
 * not run holds nothing up. Who waits spins for SPIN_NANOSECONDS, then offers the processor to others for
 * YIELD_NANOSECONDS, then sleeps: to wake takes 50 µs and more on a virtual machine. (A team of GNU OpenMP waits at its
 * barrier for every member, spinning: on processors that other programs use too, each operation then takes as long as the
 * system's time slice. docs/performance.md, "Threads beside other work".) */
#define _GNU_SOURCE
#include "core/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>

enum { MOST_WORKERS = 255, SPIN_NANOSECONDS = 50000, YIELD_NANOSECONDS = 1000000, PAUSES = 32, LOOK_PAUSES = 8 };

typedef struct job {
    void (*part)(void *context, int index);
    void *context;
    int parts, most_helpers;
    int joined;         /* helpers that ever were; under the lock */
    atomic_int helpers; /* that are at work on it now */
    atomic_int begun;   /* parts */
    atomic_uchar taken[CR_POOL_PARTS];
    struct job *following;
} job;

static struct pool {
    pthread_mutex_t lock;
    pthread_cond_t work; /* helpers sleep on it */
    job *jobs;           /* with parts left to begin, perhaps */
    atomic_uint posted;  /* counts jobs: what spinning helpers look at */
    int sleeping, workers;
    bool ends;
    pthread_t threads[MOST_WORKERS];
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER};

static inline void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---------------------------------------------------------------- working */
/* Each begins at a place of its own, so that a thread meets the same memory from job to job, and helps with the rest. */
static void work_on(job *j, int who) {
    const int first = who * j->parts / (j->most_helpers + 1);
    for (int i = 0; i < j->parts; i++) {
        const int index = first + i < j->parts ? first + i : first + i - j->parts;
        if (atomic_load_explicit(&j->taken[index], memory_order_relaxed) ||
            atomic_exchange_explicit(&j->taken[index], 1, memory_order_relaxed))
            continue;
        atomic_fetch_add_explicit(&j->begun, 1, memory_order_relaxed);
        j->part(j->context, index);
    }
}

/* Under the lock: a job that wants another helper, joined; or NULL. */
static job *join_job(int *who) {
    for (job *j = pool.jobs; j; j = j->following)
        if (j->joined < j->most_helpers && atomic_load_explicit(&j->begun, memory_order_relaxed) < j->parts) {
            *who = ++j->joined;
            atomic_fetch_add_explicit(&j->helpers, 1, memory_order_relaxed);
            return j;
        }
    return NULL;
}

/* Until a job was posted since `seen`, or for a while. */
static void watch(unsigned seen) {
    const int64_t begin = now();
    for (int64_t waited = 0; waited < YIELD_NANOSECONDS; waited = now() - begin) {
        for (int i = 0; i < PAUSES; i++) {
            if (atomic_load_explicit(&pool.posted, memory_order_relaxed) != seen) return;
            pause_briefly();
        }
        if (waited > SPIN_NANOSECONDS) sched_yield();
    }
}

static void *run_worker(void *unused) {
    (void)unused;
    pthread_mutex_lock(&pool.lock);
    for (bool watched = false; !pool.ends;) {
        int who;
        job *j = join_job(&who);
        if (j) {
            pthread_mutex_unlock(&pool.lock);
            work_on(j, who);
            atomic_fetch_sub_explicit(&j->helpers, 1, memory_order_release); /* the job is gone from here on */
            pthread_mutex_lock(&pool.lock);
            watched = false;
        } else if (!watched) {
            const unsigned seen = atomic_load_explicit(&pool.posted, memory_order_relaxed);
            pthread_mutex_unlock(&pool.lock);
            watch(seen);
            pthread_mutex_lock(&pool.lock);
            watched = true;
        } else {
            pool.sleeping++;
            pthread_cond_wait(&pool.work, &pool.lock);
            pool.sleeping--;
            watched = false;
        }
    }
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

/* ---------------------------------------------------------------- the threads */
/* A child of fork has none of them: it begins anew. */
static void begin_anew(void) {
    pool.jobs = NULL;
    pool.sleeping = pool.workers = 0;
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.work, NULL);
}
static void before_fork(void) { pthread_mutex_lock(&pool.lock); }
static void after_fork(void) { pthread_mutex_unlock(&pool.lock); }
static void watch_forks(void) { pthread_atfork(before_fork, after_fork, begin_anew); }

/* Under the lock. Fewer than wanted where the system gives no more: the work is done all the same. */
static void start_workers(int wanted) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    if (wanted > MOST_WORKERS) wanted = MOST_WORKERS;
    while (pool.workers < wanted && pthread_create(&pool.threads[pool.workers], NULL, run_worker, NULL) == 0)
        pool.workers++;
}

static void post(job *j) {
    pthread_mutex_lock(&pool.lock);
    if (!pool.ends) start_workers(j->most_helpers);
    j->following = pool.jobs;
    pool.jobs = j;
    atomic_fetch_add_explicit(&pool.posted, 1, memory_order_relaxed);
    for (int i = 0; i < j->most_helpers && i < pool.sleeping; i++)
        pthread_cond_signal(&pool.work);
    pthread_mutex_unlock(&pool.lock);
}

void cr_pool_wait(int64_t *until) {
    for (int i = 0; i < LOOK_PAUSES; i++)
        pause_briefly();
    const int64_t time = now();
    if (*until == 0) *until = time + SPIN_NANOSECONDS;
    if (time > *until) sched_yield();
    if (time > *until + YIELD_NANOSECONDS) nanosleep(&(struct timespec){.tv_nsec = SPIN_NANOSECONDS}, NULL);
}

/* All parts are begun: takes the job back and waits for those who still work on it. */
static void finish(job *j) {
    pthread_mutex_lock(&pool.lock);
    job **at = &pool.jobs;
    while (*at != j)
        at = &(*at)->following;
    *at = j->following;
    pthread_mutex_unlock(&pool.lock);
    for (int64_t until = 0; atomic_load_explicit(&j->helpers, memory_order_acquire) > 0;)
        cr_pool_wait(&until);
}

void cr_pool_run(int parts, int threads, void (*part)(void *context, int index), void *context) {
    job j;
    j.part = part;
    j.context = context;
    j.parts = parts;
    j.most_helpers = (parts < threads ? parts : threads) - 1;
    j.joined = 0;
    atomic_init(&j.helpers, 0);
    atomic_init(&j.begun, 0);
    for (int i = 0; i < parts; i++)
        atomic_init(&j.taken[i], 0);
    if (j.most_helpers > 0) post(&j);
    work_on(&j, 0);
    if (j.most_helpers > 0) finish(&j);
}

void cr_pool_shutdown(void) {
    pthread_mutex_lock(&pool.lock);
    const int workers = pool.workers;
    pool.ends = true;
    pthread_cond_broadcast(&pool.work);
    atomic_fetch_add_explicit(&pool.posted, 1, memory_order_relaxed);
    pthread_mutex_unlock(&pool.lock);
    for (int i = 0; i < workers; i++)
        pthread_join(pool.threads[i], NULL);
    pthread_mutex_lock(&pool.lock);
    pool.workers = 0;
    pool.ends = false;
    pthread_mutex_unlock(&pool.lock);
}
