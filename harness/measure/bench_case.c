#include "harness/measure/bench_case.h"

#include "harness/check/op.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

anemo_status bench_arm_workspace(bench_arm *arm, anemo_error *err) {
    const anemo_variant *v = arm->variant;
    arm->exec = anemo_device_exec(arm->c->setup.device);
    arm->exec.workspace_bytes =
        v->workspace_bytes ? v->workspace_bytes(arm->c->problem, arm->exec.n_threads) : 0;
    if (arm->exec.workspace_bytes == 0) {
        return ANEMO_OK;
    }
    arm->exec.workspace =
        anemo_device_alloc(arm->c->setup.device, ANEMO_MEM_WORKSPACE, arm->exec.workspace_bytes);
    return arm->exec.workspace ? ANEMO_OK
                               : anemo_fail(err, ANEMO_E_MEMORY,
                                            "%s: no memory for %zu bytes of "
                                            "workspace",
                                            v->name, arm->exec.workspace_bytes);
}

static void release(bench_arm *arm, anemo_exec *exec) {
    if (exec->workspace) {
        anemo_device_dealloc(arm->c->setup.device, ANEMO_MEM_WORKSPACE, exec->workspace,
                             exec->workspace_bytes);
        exec->workspace = NULL;
    }
}

void bench_arm_release_workspace(bench_arm *arm) {
    release(arm, &arm->exec);
    release(arm, &arm->first.exec);
}

anemo_status bench_arm_quantises(bench_arm *arm, const float *x, void *records, int64_t m,
                                 int64_t k, anemo_error *err) {
    anemo_device *device = arm->c->setup.device;
    const char *act = arm->variant->act;
    bench_first *first = &arm->first;
    first->problem =
        (anemo_quantize_act_problem){.size = sizeof first->problem, .m_max = m, .k = k};
    first->args =
        (anemo_quantize_act_args){.size = sizeof first->args, .m = m, .x = x, .out = records};
    for (int32_t i = 0; act && i < anemo_variant_count(); i++) { /* the last is the default */
        const anemo_variant *v = anemo_variant_at(i);
        if (v->op == ANEMO_OP_QUANTIZE_ACT && strcmp(v->act, act) == 0 && v->m_from <= m &&
            anemo_variant_supports(v, anemo_device_capability(device), &first->problem, NULL, 0)) {
            first->variant = v;
        }
    }
    if (!first->variant) {
        return anemo_fail(err, ANEMO_E_UNSUPPORTED, "%s reads activations as %s: no quantize_act",
                          arm->variant->name, act ? act : "f32");
    }
    first->exec = anemo_device_exec(device);
    first->exec.workspace_bytes =
        first->variant->workspace_bytes(&first->problem, first->exec.n_threads);
    if (first->exec.workspace_bytes) {
        first->exec.workspace =
            anemo_device_alloc(device, ANEMO_MEM_WORKSPACE, first->exec.workspace_bytes);
        if (!first->exec.workspace) {
            return anemo_fail(err, ANEMO_E_MEMORY, "%s: no memory for its workspace",
                              first->variant->name);
        }
    }
    return ANEMO_OK;
}

anemo_status bench_arm_run(bench_arm *arm, int64_t call, anemo_error *err) {
    const char *args = arm->args + (size_t)(call % arm->n_args) * arm->args_bytes;
    const bench_first *first = &arm->first;
    const anemo_variant *v = first->variant ? first->variant : arm->variant;
    anemo_status status = ANEMO_OK;
    if (first->variant) {
        status = first->variant->run(&first->exec, &first->problem, &first->args);
    }
    if (!status) {
        v = arm->variant;
        status = v->run(&arm->exec, arm->c->problem, args);
    }
    return status ? anemo_fail(err, status, "%s on %s: %s", v->name, arm->c->name,
                               anemo_status_name(status))
                  : ANEMO_OK;
}

anemo_status bench_run_reference(anemo_device *device, anemo_op op, const void *problem,
                                 const void *args, anemo_error *err) {
    const anemo_variant *reference = anemo_variant_reference(op);
    if (!reference) {
        return anemo_fail(err, ANEMO_E_UNSUPPORTED, "%s has no reference in this build",
                          anemo_op_name(op));
    }
    bench_case c = {.setup.device = device, .problem = problem, .name = "the reference problem"};
    bench_arm arm = {.variant = reference, .c = &c, .args = args, .n_args = 1};
    anemo_status status = bench_arm_workspace(&arm, err);
    if (!status) {
        status = bench_arm_run(&arm, 0, err);
    }
    bench_arm_release_workspace(&arm);
    return status;
}

void *bench_act_records(anemo_device *device, const anemo_variant *variant, const float *x,
                        int64_t m, int64_t k, size_t *bytes) {
    const char *format = variant->act ? variant->act : "f32";
    void *host = check_act_encode(format, x, m, k, bytes);
    void *records = host ? anemo_device_alloc(device, ANEMO_MEM_WORKSPACE, *bytes) : NULL;
    if (records && anemo_device_upload(device, records, host, *bytes) != ANEMO_OK) {
        anemo_device_dealloc(device, ANEMO_MEM_WORKSPACE, records, *bytes);
        records = NULL;
    }
    free(host);
    return records;
}

/* ---------------------------------------------------------------- judging */

bench_judge bench_judge_of(const anemo_variant *variant) {
    const check_tolerance t = check_tolerance_of(variant->op, check_class_of(variant));
    return (bench_judge){.a = t.a, .b = t.b, .c = t.c, .mean = t.mean, .what = ""};
}

void bench_judge_take(bench_judge *judge, const char *what, int64_t row, int64_t column, double got,
                      double want, double magnitude, double terms, double spread) {
    const double difference = fabs(got - want);
    const double bound =
        0x1p-24 * (judge->a + judge->b * sqrt(terms)) * magnitude + judge->c * spread;
    double error = difference / bound;
    if (!(difference <= bound) && !(error > 1)) {
        error = INFINITY; /* NaN, or a bound of zero */
    }
    judge->sum_difference += difference;
    judge->sum_spread += spread;
    judge->n++;
    if (error > judge->worst) {
        judge->worst = error;
        judge->row = row;
        judge->column = column;
        judge->what = what;
    }
}

void bench_judge_end(const bench_judge *judge, bench_verdict *out) {
    out->error = judge->n > 0 ? judge->worst : INFINITY;
    snprintf(out->detail, sizeof out->detail, "%s row %lld, column %lld, of %lld elements",
             judge->what, (long long)judge->row, (long long)judge->column, (long long)judge->n);
    if (judge->mean > 0 && judge->n >= 32) {
        const double mean = judge->sum_difference / judge->sum_spread / judge->mean;
        if (!(mean <= out->error)) {
            out->error = isnan(mean) ? INFINITY : mean;
            snprintf(out->detail, sizeof out->detail, "mean of %lld elements", (long long)judge->n);
        }
    }
}
