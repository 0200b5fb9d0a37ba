#include "harness/measure/bench_queue.h"

#include "harness/measure/bench_case.h"

#include <stdlib.h>

#define LEAD_IN_BELOW_NS 1e7

/* Round r of the cycle begins with the first call that call * rounds / n_calls makes r. */
int64_t bench_turn(int64_t call, int64_t n_calls, int64_t n_args) {
    const int64_t rounds = (n_calls + n_args - 1) / n_args;
    const int64_t round = call * rounds / n_calls;
    return call - (round * n_calls + rounds - 1) / rounds;
}

void bench_queue_free(bench_queue *queue) {
    for (int64_t i = 0; queue->graph && i < queue->n_graphs; i++) {
        anemo_graph_free(queue->graph[i]);
    }
    free(queue->graph);
    *queue = (bench_queue){0};
}

static bool on_gpu(const bench_arm *arm) {
    return anemo_device_backend(arm->device) == ANEMO_CUDA;
}

static bool captures(const bench_arm *arm) {
    const anemo_variant *first = arm->first.variant;
    return arm->variant->traits & ANEMO_TRAIT_CAPTURABLE &&
           (!first || first->traits & ANEMO_TRAIT_CAPTURABLE);
}

const char *bench_launch_name(const bench_arm *arm) {
    return !on_gpu(arm) ? NULL : captures(arm) ? "graph" : "stream";
}

/* ---------------------------------------------------------------- graphs */

static anemo_status reset(bench_arm *arm, int64_t n, anemo_error *err) {
    bench_queue *q = &arm->queue;
    bench_queue_free(q);
    q->n = n;
    q->n_graphs = (arm->n_args + n - 1) / n;
    q->graph = calloc((size_t)q->n_graphs, sizeof(anemo_graph *));
    return q->graph ? ANEMO_OK : anemo_fail(err, ANEMO_E_MEMORY, "no memory for graphs");
}

static anemo_status record(bench_arm *arm, int64_t index, anemo_error *err) {
    bench_queue *q = &arm->queue;
    anemo_status status = anemo_capture_begin(arm->device);
    if (status) {
        return anemo_fail(err, status, "%s: %s begins no capture", arm->variant->name,
                          anemo_device_name(arm->device));
    }
    for (int64_t i = index * q->n; !status && i < (index + 1) * q->n; i++) {
        status = bench_arm_run(arm, bench_turn(i, q->n * q->n_graphs, arm->n_args), err);
    }
    const anemo_status ended =
        anemo_capture_end(arm->device, &q->graph[index], status ? NULL : err);
    return status ? status : ended;
}

static anemo_status launch(bench_arm *arm, int64_t index, anemo_error *err) {
    const anemo_status status = anemo_graph_launch(arm->device, arm->queue.graph[index]);
    return status ? anemo_fail(err, status, "%s: a graph of %lld calls was not launched",
                               arm->variant->name, (long long)arm->queue.n)
                  : ANEMO_OK;
}

static anemo_status ready_graph(void *ctx, int64_t first, int64_t n, anemo_error *err) {
    bench_arm *arm = ctx;
    bench_queue *q = &arm->queue;
    (void)first;
    anemo_status status = n == q->n ? ANEMO_OK : reset(arm, n, err);
    if (!status && !q->graph[q->at]) {
        status = record(arm, q->at, err);
    }
    const int64_t before = (q->at + q->n_graphs - 1) % q->n_graphs;
    if (!status && (double)n * arm->call_ns < LEAD_IN_BELOW_NS) {
        status = launch(arm, q->graph[before] ? before : q->at, err);
    }
    return status;
}

static anemo_status queue_graph(void *ctx, int64_t first, int64_t n, anemo_error *err) {
    bench_arm *arm = ctx;
    bench_queue *q = &arm->queue;
    const int64_t at = q->at;
    (void)first, (void)n;
    q->at = (at + 1) % q->n_graphs;
    return launch(arm, at, err);
}

/* ---------------------------------------------------------------- plain calls */

static anemo_status ready_calls(void *ctx, int64_t first, int64_t n, anemo_error *err) {
    (void)ctx, (void)first, (void)n, (void)err;
    return ANEMO_OK;
}

static anemo_status queue_calls(void *ctx, int64_t first, int64_t n, anemo_error *err) {
    anemo_status status = ANEMO_OK;
    for (int64_t i = first; !status && i < first + n; i++) {
        status = bench_arm_run(ctx, i, err);
    }
    return status;
}

static anemo_status run_call(void *ctx, int64_t call, anemo_error *err) {
    return bench_arm_run(ctx, call, err);
}

anemo_arm bench_sampled_arm(bench_arm *arm) {
    anemo_arm sampled = {.run = run_call, .ctx = arm};
    if (on_gpu(arm)) {
        sampled.ready = captures(arm) ? ready_graph : ready_calls;
        sampled.queue = captures(arm) ? queue_graph : queue_calls;
    }
    return sampled;
}
