#include "tests/support/op_fixture.h"

#include "kernels/device.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GUARD = 256, THREADS_MAX = 4 };

op_variants op_variants_of(anemo_op op) {
    op_variants found = {0};
    for (int32_t i = 0; i < anemo_variant_count(); i++) {
        const anemo_variant *v = anemo_variant_at(i);
        if (v->op == op && v->backend == ANEMO_CPU && !v->layout && !v->act &&
            anemo_variant_runs_here(v, 0, NULL, 0)) {
            assert_true(found.n < 32);
            found.at[found.n++] = v;
        }
    }
    assert_true(found.n >= 2);
    assert_true(found.at[0]->traits & ANEMO_TRAIT_REFERENCE);
    return found;
}

/* One team per thread count for the whole program: tests run thousands of small ops. */
static anemo_exec exec_of(int32_t n_threads) {
    static anemo_device *devices[THREADS_MAX + 1];
    anemo_error err;
    assert_true(n_threads >= 1 && n_threads <= THREADS_MAX);
    if (!devices[n_threads] &&
        anemo_device_create_cpu(n_threads, NULL, &devices[n_threads], &err) != ANEMO_OK)
        fail_msg("%s", err.text);
    return anemo_device_exec(devices[n_threads]);
}

static anemo_status run(const anemo_variant *variant, int32_t n_threads, const void *problem,
                        const void *args, size_t missing) {
    char why[256] = "";
    if (!variant->accepts(problem, why, sizeof why))
        fail_msg("%s refuses: %s", variant->name, why);
    anemo_exec exec = exec_of(n_threads);
    const size_t asked = variant->workspace_bytes(problem, n_threads);
    assert_true(missing <= asked);
    const size_t bytes = asked - missing, fenced = (bytes + GUARD + 63) / 64 * 64;
    unsigned char *workspace = aligned_alloc(64, fenced);
    assert_non_null(workspace);
    memset(workspace, 0xff, fenced);
    exec.workspace = workspace;
    exec.workspace_bytes = bytes;
    const anemo_status status = variant->run(&exec, problem, args);
    for (size_t i = bytes; i < fenced; i++)
        if (workspace[i] != 0xff)
            fail_msg("%s wrote %zu bytes behind its workspace", variant->name, i - bytes);
    free(workspace);
    return status;
}

anemo_status op_run(const anemo_variant *variant, int32_t n_threads, const void *problem,
                    const void *args) {
    return run(variant, n_threads, problem, args, 0);
}

anemo_status op_run_short(const anemo_variant *variant, const void *problem, const void *args,
                          size_t bytes) {
    return run(variant, 1, problem, args, bytes);
}

bool op_refuses(const anemo_variant *variant, const void *problem) {
    char why[256] = "";
    const bool accepted = variant->accepts(problem, why, sizeof why);
    assert_true(accepted == (why[0] == '\0')); /* a refusal has a sentence */
    return !accepted;
}

void *op_poisoned(size_t bytes) {
    void *memory = malloc(bytes ? bytes : 1);
    assert_non_null(memory);
    return memset(memory, 0xff, bytes);
}

float *op_random_floats(check_random *random, size_t n, double sd) {
    float *x = op_poisoned(n * sizeof *x);
    check_random_fill(random, x, n, sd);
    return x;
}

double op_distance(const float *got, const double *want, size_t n) {
    double largest = 0;
    for (size_t i = 0; i < n; i++) {
        const double distance = fabs(got[i] - want[i]);
        if (!(distance <= largest))
            largest = distance;
        if (isnan(distance))
            return NAN;
    }
    return largest;
}

void op_assert_near(const char *what, const float *got, const double *want, size_t n,
                    double bound) {
    for (size_t i = 0; i < n; i++)
        if (!(fabs(got[i] - want[i]) <= bound))
            fail_msg("%s: element %zu is %.9g, want %.9g, bound %.2g", what, i, (double)got[i],
                     want[i], bound);
}
