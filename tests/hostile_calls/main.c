/* Every public function with senseless arguments: no crash, no hang, nothing left in memory, and no result without the
 * tensors that it needs. A call that goes wrong is named with the arguments that did it, and the others go on. */
#include "hostile.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SECONDS = 20, MEMORY = 256 << 20 };

static sigjmp_buf back;
static hostile h;
static int failed, ran;

static void on_signal(int number) { siglongjmp(back, number); }

/* In sanitizer builds a crash is theirs to report. */
static void catch_signals(void) {
    const int caught[] = {SIGALRM, SIGSEGV, SIGBUS, SIGFPE, SIGABRT};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_NODEFER};
#ifdef __SANITIZE_ADDRESS__
    const size_t count = 1;
#else
    const size_t count = sizeof caught / sizeof caught[0];
#endif
    for (size_t i = 0; i < count; i++)
        sigaction(caught[i], &action, NULL);
}

static void fail(const hostile_call *call, const char *what) {
    printf("FAILED %s, variant %d, NULL in 0x%x: %s\n", call->name, h.variant, h.null, what);
    failed++;
}

static void make_arguments(void) {
    h.tensors[0] = cr_ones(CR_F32, CR_SHAPE(2, 3), CR_CPU);
    h.tensors[1] = cr_zeros(CR_I64, CR_SHAPE(3), CR_CPU);
    h.tensors[2] = cr_ones(CR_F64, CR_SHAPE_0D, CR_CPU);
    h.tensors[3] = cr_ones(CR_BOOL, CR_SHAPE(2, 3), CR_CPU);
    h.tensors[4] = cr_ones(CR_F32, CR_SHAPE(0, 3), CR_CPU);
    h.tensors[5] = cr_full(CR_I64, CR_SHAPE(2, 3), 1e15, CR_CPU);
    h.tensors[6] = cr_ones(CR_F16, CR_SHAPE(1, 2, 3, 4), CR_CPU);
    h.tensors[7] = cr_requires_grad_(cr_ones(CR_F32, CR_SHAPE(2, 3), CR_CPU), true);
    memset(h.rooms, 0, sizeof h.rooms);
    memset(h.options, 0, sizeof h.options);
}

/* Whatever the call switched is as it was. */
static void put_back(void) {
    cr_memory_set_limit(MEMORY);
    cr_set_inference(false);
    cr_set_grad_enabled(true);
    cr_set_anomaly_detection(false);
    cr_set_num_threads(2);
    cr_clear_error();
}

static void try(const hostile_call *call, int variant, unsigned null) {
    const int64_t before = cr_memory_stats().live_bytes;
    h.variant = variant;
    h.null = null;
    h.made = NULL;
    CR_SCOPE {
        make_arguments();
        alarm(SECONDS);
        const int number = sigsetjmp(back, 1);
        if (number == 0)
            call->run(&h);
        else
            fail(call, number == SIGALRM ? "it hangs" : strsignal(number));
        alarm(0);
        if (h.made && (null & call->needed)) fail(call, "a result although an operand is NULL");
        if (!h.made && (null & call->needed) && !number && cr_ok()) fail(call, "neither a result nor an error");
        ran++;
    }
    put_back();
    if (cr_memory_stats().live_bytes != before) fail(call, "memory is left");
}

static void try_all(const hostile_call *call) {
    for (int variant = 0; variant < VARIANTS; variant++) {
        try(call, variant, 0);
        for (int i = 0; i < 31; i++)
            if (call->pointers >> i & 1) try(call, variant, 1u << i);
        if (call->pointers & (call->pointers - 1)) try(call, variant, call->pointers);
    }
}

int main(int argc, char **argv) {
    char folder[] = "/tmp/cresset-test-XXXXXX";
    if (!mkdtemp(folder) || chdir(folder) != 0) return 2;
    setenv("CR_CC", "none", 1);
    h.file = fopen("/dev/null", "r+");
    catch_signals();
    put_back();
    for (int i = 0; i < call_count; i++)
        if (argc < 2 || !strcmp(argv[1], calls[i].name)) try_all(&calls[i]);
    fclose(h.file);
    if (chdir("/") == 0 && strncmp(folder, "/tmp/cresset-test-", 18) == 0) {
        char command[64];
        snprintf(command, sizeof command, "rm -r %s", folder);
        if (system(command) != 0) failed++;
    }
    printf("%d functions\n%d passed, %d failed\n", call_count, ran - failed, failed);
    return failed != 0;
}
