/* Parallel-for over the library's own threads (or OpenMP's, where that was asked for), and the number of threads. */
#define _GNU_SOURCE
#include "core/parallel.h"
#include "core/pool.h"
#include "core/thread.h"

#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif

enum { PARTS_PER_THREAD = 4 }; /* so that who is done first can take from the others */

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
    int64_t count;
    int parts;
} range_job;

/* The index-th of `parts` near-equal ranges. */
static void run_part(void *context, int index) {
    const range_job *job = context;
    cr_thread *thread = cr_thread_self();
    const bool outer = thread->in_parallel;
    thread->in_parallel = true;
    job->body(job->context, index * job->count / job->parts, (index + 1) * job->count / job->parts);
    thread->in_parallel = outer;
}

#ifdef _OPENMP
static void run_parts(range_job *job, int threads) {
    if (threads > job->parts) threads = job->parts;
#pragma omp parallel for num_threads(threads) schedule(static)
    for (int index = 0; index < job->parts; index++)
        run_part(job, index);
}
#else
static void run_parts(range_job *job, int threads) { cr_pool_run(job->parts, threads, run_part, job); }
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
    const int64_t wanted = (int64_t)threads * PARTS_PER_THREAD, most = wanted < CR_POOL_PARTS ? wanted : CR_POOL_PARTS;
    range_job job = {body, context, count, (int)(useful < most ? useful : most)};
    run_parts(&job, threads);
}
