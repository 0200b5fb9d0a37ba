#include "harness/compare/side.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW = 5, MOST_CALLS = 1 << 24 };
#define STEADY     0.02
#define WARM_UP_NS 5e8

anemo_status anemo_side_pair_sample(void *ctx, int32_t side, double *ns, anemo_error *err) {
    const anemo_side_pair *pair = ctx;
    const anemo_status status = pair->side[side]->sample(pair->side[side], pair->calls, ns, err);
    *ns /= (double)pair->calls;
    return status;
}

/* One call of each side, then of two more calls the faster, decides how many make a pair. */
static anemo_status choose_calls(anemo_side_pair *pair, anemo_error *err) {
    pair->calls = pair->turns = 1;
    double fastest_ns = INFINITY;
    for (int i = 0; i < 6; i++) {
        double ns;
        const anemo_status status = anemo_side_pair_sample(pair, i % 2, &ns, err);
        if (status) {
            return status;
        }
        fastest_ns = fmin(fastest_ns, i < 2 ? INFINITY : ns);
    }
    if (!(fastest_ns > 0)) {
        return anemo_fail(err, ANEMO_E_NUMERIC, "a call took %g ns", fastest_ns);
    }
    const double calls = fmin(MOST_CALLS, fmax(1, ceil(pair->sample_ns / fastest_ns)));
    pair->turns = (int32_t)fmin(ANEMO_PAIR_TURNS, calls);
    pair->calls = (int64_t)ceil(calls / pair->turns);
    return ANEMO_OK;
}

static double middle(const double *window) {
    double sorted[WINDOW];
    memcpy(sorted, window, sizeof sorted);
    anemo_stats_sort(sorted, WINDOW);
    return sorted[WINDOW / 2];
}

anemo_status anemo_side_pair_warm_up(anemo_side_pair *pair, anemo_error *err) {
    double window[2][WINDOW], before = INFINITY, spent_ns = 0;
    anemo_status status = choose_calls(pair, err);
    pair->steady = false;
    pair->warm_up_rounds = 0;
    while (!status && !pair->steady && spent_ns < WARM_UP_NS) {
        const int64_t place = pair->warm_up_rounds++ % WINDOW;
        for (int side = 0; !status && side < 2; side++) {
            status = anemo_side_pair_sample(pair, side, &window[side][place], err);
            spent_ns += window[side][place] * (double)pair->calls;
        }
        if (place == WINDOW - 1) {
            const double now = middle(window[0]) + middle(window[1]);
            pair->steady = fabs(now / before - 1) <= STEADY;
            before = now;
        }
    }
    return status;
}

void anemo_side_pair_close(anemo_side_pair *pair) {
    for (int i = 0; i < 2; i++) {
        if (pair->side[i]) {
            pair->side[i]->close(pair->side[i]);
            pair->side[i] = NULL;
        }
    }
}

/* ---------------------------------------------------------------- kernels */

struct anemo_kernel_bed {
    bench_gpu gpu;
    bench_setup setup;
    bench_routing routing;
    bench_case *c;
    anemo_clock clock;
};

typedef struct kernel_side {
    anemo_side base;
    anemo_kernel_bed *bed;
    bench_arm *arm;
    int64_t calls; /* made so far */
} kernel_side;

anemo_status anemo_kernel_bed_open(anemo_device *device, const anemo_kernel_problem *problem,
                                   anemo_kernel_bed **out, anemo_error *err) {
    *out = NULL;
    anemo_kernel_bed *bed = calloc(1, sizeof *bed);
    if (!bed) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a case");
    }
    bed->clock = anemo_clock_raw();
    bed->setup = (bench_setup){
        .device = device,
        .weights = problem->weights,
        .seed = problem->seed,
        .cold_bytes = problem->caches == ANEMO_CACHES_COLD_WEIGHTS ? bench_cool_bytes(device) : 0};
    anemo_status status = bench_gpu_open(device, NULL, &bed->gpu, err);
    bed->setup.host = bed->gpu.host;
    if (!status && !bench_weight_type(problem->weights, &bed->setup.type)) {
        status = anemo_fail(err, ANEMO_E_INPUT, "weights '%s': expected " BENCH_WEIGHT_TYPES,
                            problem->weights);
    }
    if (!status && problem->routing) {
        status = bench_routing_create(problem->routing, &bed->routing, err);
        bed->setup.routing = &bed->routing;
    }
    const bench_op *op = bench_op_find(problem->shape->op);
    if (!status) {
        status = op->create(problem->shape, problem->m, &bed->setup, &bed->c, err);
    }
    if (status) {
        anemo_kernel_bed_close(bed);
        return status;
    }
    *out = bed;
    return ANEMO_OK;
}

void anemo_kernel_bed_close(anemo_kernel_bed *bed) {
    if (bed && bed->c) {
        bed->c->ops->destroy(bed->c);
    }
    if (bed) {
        bench_routing_free(&bed->routing);
        bench_gpu_close(&bed->gpu);
    }
    free(bed);
}

const bench_case *anemo_kernel_bed_case(const anemo_kernel_bed *bed) {
    return bed->c;
}

static anemo_status kernel_sample(anemo_side *base, int64_t calls, double *ns, anemo_error *err) {
    kernel_side *side = (kernel_side *)base;
    const anemo_timer *timer = bench_gpu_timer(&side->bed->gpu);
    anemo_status status = ANEMO_OK;
    if (timer) {
        const anemo_arm arm = bench_sampled_arm(side->arm);
        status = arm.ready(arm.ctx, side->calls, calls, err);
        status = status ? status : timer->begin(timer->ctx, err);
        status = status ? status : arm.queue(arm.ctx, side->calls, calls, err);
        side->calls += calls;
        return status ? status : timer->end(timer->ctx, ns, err);
    }
    const uint64_t start = anemo_clock_now(&side->bed->clock);
    for (int64_t i = 0; !status && i < calls; i++) {
        status = bench_arm_run(side->arm, side->calls++, err);
    }
    *ns = (double)(anemo_clock_now(&side->bed->clock) - start);
    return status;
}

static void kernel_close(anemo_side *base) {
    kernel_side *side = (kernel_side *)base;
    if (side->arm) {
        side->bed->c->ops->arm_destroy(side->arm);
    }
    free(side);
}

anemo_status anemo_kernel_side_open(anemo_kernel_bed *bed, const anemo_variant *variant,
                                    anemo_side **out, anemo_error *err) {
    char why[256];
    const int32_t capability = anemo_device_capability(bed->setup.device);
    *out = NULL;
    if (variant->backend != anemo_device_backend(bed->setup.device)) {
        return anemo_fail(err, ANEMO_E_INPUT, "%s: not for %s", variant->name,
                          anemo_device_name(bed->setup.device));
    }
    if (!anemo_variant_runs_here(variant, capability, why, sizeof why) ||
        !anemo_variant_supports(variant, capability, bed->c->problem, why, sizeof why)) {
        return anemo_fail(err, ANEMO_E_INPUT, "%s on %s: %s", variant->name, bed->c->name, why);
    }
    kernel_side *side = calloc(1, sizeof *side);
    if (!side) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a side");
    }
    side->base = (anemo_side){kernel_sample, kernel_close};
    side->bed = bed;
    bench_verdict verdict = {0};
    anemo_status status = bed->c->ops->arm_create(bed->c, variant, &side->arm, err);
    status = status ? status : bed->c->ops->check(side->arm, &verdict, err);
    if (!status && !(verdict.error <= 1)) {
        status =
            anemo_fail(err, ANEMO_E_NUMERIC, "%s is wrong on %s: error %.3g times its bound at %s",
                       variant->name, bed->c->name, verdict.error, verdict.detail);
    }
    if (status) {
        kernel_close(&side->base);
        return status;
    }
    *out = &side->base;
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- models */

typedef struct model_side {
    anemo_side base;
    bench_engine *engine;
    bench_decode decode;
    anemo_arm arm;
} model_side;

static anemo_status model_sample(anemo_side *base, int64_t calls, double *ns, anemo_error *err) {
    model_side *side = (model_side *)base;
    anemo_status status = ANEMO_OK;
    *ns = 0;
    for (int64_t i = 0; !status && i < calls; i++) {
        side->decode.n_gaps = 0; /* of this sample only */
        status = side->arm.prepare(side->arm.ctx, err);
        const uint64_t start = anemo_clock_now(&side->engine->clock);
        status = status ? status : side->arm.run(side->arm.ctx, i, err);
        *ns += (double)(anemo_clock_now(&side->engine->clock) - start);
    }
    return status;
}

static void model_close(anemo_side *base) {
    model_side *side = (model_side *)base;
    bench_decode_end(&side->decode);
    bench_engine_close(side->engine);
    free(side);
}

anemo_status anemo_model_side_open(anemo_device *device, const bench_engine_spec *spec,
                                   anemo_side **out, anemo_error *err) {
    *out = NULL;
    model_side *side = calloc(1, sizeof *side);
    if (!side) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a side");
    }
    side->base = (anemo_side){model_sample, model_close};
    const anemo_status status = bench_engine_open(device, spec, &side->engine, err);
    if (status) {
        free(side);
        return status;
    }
    side->arm = bench_decode_arm(&side->decode, side->engine, spec->batch_max);
    *out = &side->base;
    return ANEMO_OK;
}

const bench_engine *anemo_model_side_engine(const anemo_side *side) {
    return ((const model_side *)side)->engine;
}
