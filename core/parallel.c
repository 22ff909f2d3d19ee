/* Parallel-for over OpenMP (or POSIX threads where OpenMP is left out), and the number of threads. */
#define _GNU_SOURCE
#include "core/parallel.h"
#include "core/thread.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif

static atomic_int thread_count; /* 0: not yet found out */

/* ---------------------------------------------------------------- how many */
/* Processors that a cgroup's quota is worth, rounded up; 0 where there is none. */
static int cgroup_processors(void) {
    long long quota = -1, period = 0;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (file) {
        if (fscanf(file, "%lld %lld", &quota, &period) != 2) quota = -1;
        fclose(file);
    } else if ((file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "re"))) {
        if (fscanf(file, "%lld", &quota) != 1) quota = -1;
        fclose(file);
        if ((file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "re"))) {
            if (fscanf(file, "%lld", &period) != 1) period = 0;
            fclose(file);
        }
    }
    return quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

static int default_threads(void) {
    const char *wanted = getenv("OMP_NUM_THREADS");
    if (wanted && atoi(wanted) > 0) return atoi(wanted);
    cpu_set_t allowed;
    int count = sched_getaffinity(0, sizeof allowed, &allowed) == 0
                    ? CPU_COUNT(&allowed)
                    : (int)sysconf(_SC_NPROCESSORS_ONLN); /* over 1024 */
    const int quota = cgroup_processors();
    if (quota > 0 && quota < count) count = quota;
    return count > 0 ? count : 1;
}

int cr_num_threads(void) {
    const cr_thread *thread = cr_thread_self();
    if (thread->num_threads > 0) return thread->num_threads;
    int count = atomic_load_explicit(&thread_count, memory_order_relaxed);
    if (count == 0) {
        count = default_threads();
        atomic_store(&thread_count, count);
    }
    return count;
}

bool cr_set_num_threads(int count) {
    if (count < 1 || count > 1024)
        return cr_fail(CR_ERROR_ARGUMENT, "set_num_threads: %d; 1 to 1024 can be had", count);
    atomic_store(&thread_count, count);
    return true;
}

void cr_thread_set_num_threads(int count) { cr_thread_self()->num_threads = count; }

/* ---------------------------------------------------------------- parallel-for */
typedef struct range_job {
    void (*body)(void *context, int64_t begin, int64_t end);
    void *context;
    int64_t begin, end;
} range_job;

static void run_range(const range_job *job) {
    cr_thread *thread = cr_thread_self();
    const bool outer = thread->in_parallel;
    thread->in_parallel = true;
    job->body(job->context, job->begin, job->end);
    thread->in_parallel = outer;
}

/* The index-th of `parts` near-equal ranges. */
static range_job part_of(const range_job *whole, int64_t index, int64_t parts) {
    const int64_t count = whole->end, base = count / parts, extra = count % parts;
    range_job part = *whole;
    part.begin = index * base + (index < extra ? index : extra);
    part.end = part.begin + base + (index < extra ? 1 : 0);
    return part;
}

#ifdef _OPENMP
static void run_parts(const range_job *whole, int parts) {
#pragma omp parallel num_threads(parts)
    {
        const int team = omp_get_num_threads(); /* may be fewer than asked for */
        for (int index = omp_get_thread_num(); index < parts; index += team) {
            const range_job part = part_of(whole, index, parts);
            run_range(&part);
        }
    }
}
#else
static void *run_on_thread(void *job) {
    run_range(job);
    return NULL;
}

static void run_parts(const range_job *whole, int parts) {
    enum { MOST = 64 };
    pthread_t threads[MOST];
    range_job jobs[MOST];
    bool started[MOST] = {false};
    if (parts > MOST) parts = MOST;
    for (int i = 0; i < parts; i++) {
        jobs[i] = part_of(whole, i, parts);
        if (i > 0) started[i] = pthread_create(&threads[i], NULL, run_on_thread, &jobs[i]) == 0;
    }
    for (int i = 0; i < parts; i++)
        if (!started[i]) run_range(&jobs[i]);
    for (int i = 1; i < parts; i++)
        if (started[i]) pthread_join(threads[i], NULL);
}
#endif

void cr_parallel_for(int64_t count, int64_t grain, void (*body)(void *context, int64_t begin, int64_t end),
                     void *context) {
    if (count <= 0) return;
    if (grain < 1) grain = 1;
    const int threads = count > grain && !cr_thread_self()->in_parallel ? cr_num_threads() : 1;
    if (threads == 1) {
        body(context, 0, count);
        return;
    }
    const int64_t useful = (count + grain - 1) / grain;
    const range_job whole = {body, context, 0, count};
    run_parts(&whole, useful < threads ? (int)useful : threads);
}
