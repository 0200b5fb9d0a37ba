#include "harness/measure/bench_case.h"

#include "harness/check/op.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- memory of an arm */

void *bench_arm_alloc(bench_arm *arm, anemo_memory_use use, size_t bytes) {
    if (arm->n_held == arm->held_capacity) {
        const int32_t capacity = 2 * arm->held_capacity + 8;
        bench_held *held = realloc(arm->held, (size_t)capacity * sizeof *held);
        if (!held) {
            return NULL;
        }
        arm->held = held;
        arm->held_capacity = capacity;
    }
    void *memory = anemo_device_alloc(arm->device, use, bytes);
    if (memory) {
        arm->held[arm->n_held++] = (bench_held){.memory = memory, .use = use, .bytes = bytes};
    }
    return memory;
}

static bool is_host(const bench_arm *arm) {
    return anemo_device_backend(arm->device) == ANEMO_CPU;
}

void *bench_arm_put(bench_arm *arm, const void *host, size_t bytes, bool *good) {
    if (!host || is_host(arm)) {
        return (void *)host;
    }
    void *memory = bench_arm_alloc(arm, ANEMO_MEM_STEP, bytes);
    *good = *good && memory && anemo_device_upload(arm->device, memory, host, bytes) == ANEMO_OK &&
            anemo_device_synchronise(arm->device, NULL) == ANEMO_OK;
    return memory;
}

bool bench_arm_output(bench_arm *arm, anemo_memory_use use, size_t bytes, bench_output *out) {
    *out = (bench_output){.device = bench_arm_alloc(arm, use, bytes), .bytes = bytes};
    out->host = out->device;
    if (out->device && !is_host(arm)) {
        out->host = arm->held[arm->n_held - 1].mirror = calloc(1, bytes ? bytes : 1);
    }
    return out->device && out->host;
}

static anemo_status copied(const bench_arm *arm, anemo_status status, anemo_error *err) {
    const anemo_status waited = anemo_device_synchronise(arm->device, err);
    return waited   ? waited
           : status ? anemo_fail(err, status, "%s: a copy to or from %s: %s", arm->variant->name,
                                 anemo_device_name(arm->device), anemo_status_name(status))
                    : ANEMO_OK;
}

anemo_status bench_output_push(const bench_arm *arm, const bench_output *o, anemo_error *err) {
    return is_host(arm)
               ? ANEMO_OK
               : copied(arm, anemo_device_upload(arm->device, o->device, o->host, o->bytes), err);
}

anemo_status bench_output_pull(const bench_arm *arm, const bench_output *o, anemo_error *err) {
    return is_host(arm)
               ? ANEMO_OK
               : copied(arm, anemo_device_download(arm->device, o->host, o->device, o->bytes), err);
}

/* ---------------------------------------------------------------- arms */

static anemo_status take_workspace(bench_arm *arm, const anemo_variant *v, const void *problem,
                                   anemo_exec *exec, anemo_error *err) {
    *exec = anemo_device_exec(arm->device);
    exec->workspace_bytes = v->workspace_bytes ? v->workspace_bytes(problem, exec->n_threads) : 0;
    if (exec->workspace_bytes == 0) {
        return ANEMO_OK;
    }
    exec->workspace = bench_arm_alloc(arm, ANEMO_MEM_WORKSPACE, exec->workspace_bytes);
    return exec->workspace
               ? ANEMO_OK
               : anemo_fail(err, ANEMO_E_MEMORY, "%s: no memory for %zu bytes of workspace",
                            v->name, exec->workspace_bytes);
}

anemo_status bench_arm_begin(bench_arm *arm, bench_case *c, const anemo_variant *variant,
                             anemo_error *err) {
    arm->variant = variant;
    arm->c = c;
    arm->device = variant->backend == ANEMO_CPU ? bench_setup_host(&c->setup) : c->setup.device;
    return take_workspace(arm, variant, c->problem, &arm->exec, err);
}

void bench_arm_release(bench_arm *arm) {
    bench_queue_free(&arm->queue);
    for (int32_t i = 0; i < arm->n_held; i++) {
        const bench_held *held = &arm->held[i];
        anemo_device_dealloc(arm->device, held->use, held->memory, held->bytes);
        free(held->mirror);
    }
    free(arm->held);
    arm->held = NULL;
    arm->n_held = arm->held_capacity = 0;
}

anemo_status bench_arm_quantises(bench_arm *arm, const float *x, void *records, int64_t m,
                                 int64_t k, anemo_error *err) {
    const int32_t capability = anemo_device_capability(arm->device);
    const char *act = arm->variant->act;
    bench_first *first = &arm->first;
    first->problem =
        (anemo_quantize_act_problem){.size = sizeof first->problem, .m_max = m, .k = k};
    first->args = (anemo_quantize_act_args){.size = sizeof first->args, .m = m, .out = records};
    bool good = true;
    first->args.x = bench_arm_put(arm, x, (size_t)(m * k) * sizeof *x, &good);
    if (!good) {
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: no memory for its activations",
                          arm->variant->name);
    }
    for (int32_t i = 0; act && i < anemo_variant_count(); i++) { /* the last is the default */
        const anemo_variant *v = anemo_variant_at(i);
        if (v->op == ANEMO_OP_QUANTIZE_ACT && v->backend == arm->variant->backend &&
            strcmp(v->act, act) == 0 && v->m_from <= m &&
            anemo_variant_supports(v, capability, &first->problem, NULL, 0)) {
            first->variant = v;
        }
    }
    if (!first->variant) {
        return anemo_fail(err, ANEMO_E_UNSUPPORTED, "%s reads activations as %s: no quantize_act",
                          arm->variant->name, act ? act : "f32");
    }
    return take_workspace(arm, first->variant, &first->problem, &first->exec, err);
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

anemo_status bench_run_reference(const bench_setup *setup, anemo_op op, const void *problem,
                                 const void *args, anemo_error *err) {
    const anemo_variant *reference = anemo_variant_reference(op);
    if (!reference) {
        return anemo_fail(err, ANEMO_E_UNSUPPORTED, "%s has no reference in this build",
                          anemo_op_name(op));
    }
    bench_case c = {.setup = *setup, .problem = problem, .name = "the reference problem"};
    bench_arm arm = {.args = args, .n_args = 1};
    anemo_status status = bench_arm_begin(&arm, &c, reference, err);
    if (!status) {
        status = bench_arm_run(&arm, 0, err);
    }
    bench_arm_release(&arm);
    return status;
}

void *bench_arm_records(bench_arm *arm, const float *x, int64_t m, int64_t k) {
    const char *format = arm->variant->act ? arm->variant->act : "f32";
    size_t bytes;
    void *host = check_act_encode(format, x, m, k, &bytes);
    void *records = host ? bench_arm_alloc(arm, ANEMO_MEM_WORKSPACE, bytes) : NULL;
    const bool good = records &&
                      anemo_device_upload(arm->device, records, host, bytes) == ANEMO_OK &&
                      anemo_device_synchronise(arm->device, NULL) == ANEMO_OK;
    free(host);
    return good ? records : NULL;
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
