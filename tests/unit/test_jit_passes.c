/* Passes by example: tests/jit/NAME.txt holds cases for the pass NAME, each a graph before and the graph after:
 *
 *     == a chain that nobody reads goes
 *     cresset graph 1
 *     …
 *     -- changed (or "-- unchanged" and no graph)
 *     cresset graph 1
 *     …
 *
 * States get ones for values, so that folding has something to fold; "== frozen, …" marks the graph as frozen. Where
 * both graphs run, their results are compared too. With CRESSET_UPDATE set, the graphs after are written to standard
 * output. */
#include "tests/unit/testing.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "jit/pass.h"

static int cases, runs;

static char *read_text(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    char *text = calloc(1, 1 << 17);
    fread(text, 1, (1 << 17) - 1, file);
    fclose(file);
    return text;
}

static void give_states(cr_graph *graph) {
    for (int i = 0; i < graph->state_count; i++)
        if (!graph->states[i].tensor)
            graph->states[i].tensor =
                cr_retain(cr_ones(graph->states[i].value->dtype, graph->states[i].value->shape, CR_CPU));
}

static bool run_graph(cr_graph *graph, cr_tensor **outputs) {
    cr_tensor *inputs[8];
    for (int i = 0; i < graph->body.input_count; i++) {
        cr_manual_seed((uint64_t)i);
        inputs[i] = cr_cast(cr_mul_scalar(cr_rand(CR_F32, graph->body.inputs[i]->shape, CR_CPU), 3),
                            graph->body.inputs[i]->dtype);
    }
    cr_manual_seed(1);
    return cr_jit_run(graph, inputs, graph->body.input_count, outputs, graph->body.output_count);
}

static void compare_runs(const char *where, cr_graph *before, cr_graph *after) {
    cr_tensor *a[8], *b[8];
    if (before->body.output_count > 8 || !run_graph(before, a)) {
        fail_msg("%s: the graph before does not run: %s", where, cr_last_error()->message);
    }
    if (!run_graph(after, b)) fail_msg("%s: the graph after does not run: %s", where, cr_last_error()->message);
    for (int i = 0; i < before->body.output_count; i++) {
        const double most =
            cr_numel(a[i]) ? cr_item(cr_amax(cr_abs(cr_sub(cr_cast(a[i], CR_F64), cr_cast(b[i], CR_F64))))) : 0;
        if (!(most <= 1e-5)) fail_msg("%s: result %d differs by %g", where, i, most);
    }
    runs++;
}

static void check_case(const char *pass, const char *name, const char *before, const char *after, bool is_unchanged) {
    char where[512];
    bool changed = false;
    snprintf(where, sizeof where, "%s: %.100s", pass, name);
    CR_SCOPE {
        cr_graph *graph = cr_jit_parse(before), *original = cr_jit_parse(before);
        if (!graph) fail_msg("%s: before: %s", where, cr_last_error()->message);
        graph->is_frozen = original->is_frozen = !strncmp(name, "frozen", 6);
        give_states(graph);
        give_states(original);
        if (!cr_graph_run_pass(graph, pass, &changed)) fail_msg("%s: %s", where, cr_last_error()->message);
        if (!cr_graph_verify(graph)) fail_msg("%s: what is left is no graph: %s", where, cr_last_error()->message);
        char *text = cr_jit_text(graph);
        if (getenv("CRESSET_UPDATE")) {
            printf("== %s\n%s-- %s\n%s", name, before, changed ? "changed" : "unchanged", changed ? text : "");
        } else {
            if (changed == is_unchanged)
                fail_msg("%s: the pass says that it changed %s", where, changed ? "the graph" : "nothing");
            char *same = cr_jit_text(original);
            if (strcmp(text, is_unchanged ? same : after) != 0)
                fail_msg("%s: expected\n%s\ngot\n%s", where, is_unchanged ? same : after, text);
            cr_free(same);
            compare_runs(where, original, graph);
        }
        cr_free(text);
        cr_jit_free(graph);
        cr_jit_free(original);
    }
    assert_int_equal(cr_memory_stats().live_bytes, 0);
    cases++;
}

static void check_file(const char *pass, char *text) {
    for (char *at = strstr(text, "== "); at;) {
        char *name = at + 3, *next = strstr(name, "\n== "), *before = strchr(name, '\n') + 1,
             *middle = strstr(before, "\n-- ");
        if (next) *next++ = '\0';
        if (!middle) fail_msg("%s: a case without \"-- \": %.60s", pass, name);
        before[-1] = '\0';
        char *verdict = middle + 4, *after = strchr(verdict, '\n'), whole[8192];
        const bool is_unchanged = !strncmp(verdict, "unchanged", 9);
        after = after ? after + 1 : verdict + strlen(verdict);
        middle[1] = '\0'; /* graphs end in a line's end */
        snprintf(whole, sizeof whole, "%s%s", after, next ? "\n" : "");
        check_case(pass, name, before, whole, is_unchanged);
        at = next;
    }
}

static void passes_do_what_their_cases_say(void **state) {
    (void)state;
    char folder[512], path[1024];
    const char *source = getenv("CRESSET_SOURCE");
    if (!source) skip();
    snprintf(folder, sizeof folder, "%s/tests/jit", source);
    DIR *entries = opendir(folder);
    assert_non_null(entries);
    for (struct dirent *entry; (entry = readdir(entries));) {
        char pass[256];
        snprintf(pass, sizeof pass, "%s", entry->d_name);
        char *dot = strstr(pass, ".txt");
        if (!dot) continue;
        *dot = '\0';
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        char *text = read_text(path);
        assert_non_null(text);
        check_file(pass, text);
        free(text);
    }
    closedir(entries);
    if (!getenv("CRESSET_UPDATE")) assert_in_range(cases, 15, 10000);
    print_message("%d cases, %d pairs of runs\n", cases, runs);
}

static void a_pass_that_is_not_there_is_an_error(void **state) {
    (void)state;
    bool changed;
    cr_graph *graph = cr_jit_parse("cresset graph 1\n");
    assert_false(cr_graph_run_pass(graph, "no_pass", &changed));
    assert_cr_error(CR_ERROR_ARGUMENT, "no_pass");
    cr_jit_free(graph);
}

int main(void) {
    setenv("CR_CC", "none", 1);
    const struct CMUnitTest tests[] = {cmocka_unit_test(passes_do_what_their_cases_say),
                                       cmocka_unit_test(a_pass_that_is_not_there_is_an_error)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
