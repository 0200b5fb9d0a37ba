/* A kernel case: one op at one named shape and number of rows, with its inputs; and an arm: one
 * variant set up on it, weights packed and rotated. One file case_<op>.c for each op. What is timed
 * is variant->run on ready arguments and nothing else. */
#ifndef ANEMO_BENCH_CASE_H
#define ANEMO_BENCH_CASE_H

#include "harness/measure/bench_queue.h"
#include "harness/measure/bench_weight.h"
#include "harness/measure/routing.h"
#include "harness/record/record.h"

typedef struct bench_setup {
    anemo_device *device;   /* where variants run */
    anemo_device *host;     /* a CPU for references, inputs and packing; NULL: `device` is one */
    const char *weights;    /* "q4_0" */
    anemo_weight_type type; /* of these weights */
    uint64_t seed;
    const bench_routing *routing; /* moe_experts; NULL: the shape's own */
    size_t cold_bytes;            /* one round through an arm's copies reads at least this much */
} bench_setup;

static inline anemo_device *bench_setup_host(const bench_setup *setup) {
    return setup->host ? setup->host : setup->device;
}

typedef struct bench_shape {
    anemo_op op;
    const char *name, *rows, *what;
    bool is_short;
    int64_t number[8]; /* what shapes.inc says, in its order; the case knows */
} bench_shape;

typedef struct bench_case {
    const struct bench_op *ops;
    bench_setup setup;
    const bench_shape *shape;
    char name[192];     /* "qgemm/mistral-7b/gate_up/m=16/w=q4_0" */
    char remark[64];    /* what else a reader of the figures must know, or "" */
    int64_t m, context; /* of anemo_op_work */
    const void *problem;
    anemo_work work;           /* of one call, in canonical bytes */
    double least_weight_bytes; /* of any one call; 0: of all the same */
    bool resident; /* all it touches are activations, warm in the caches: has no roof by bytes */
} bench_case;

/* Bytes that a call's bandwidth is computed from: what comes from memory; of a resident case, all.
 */
static inline double bench_case_bytes(const bench_case *c) {
    const anemo_work *w = &c->work;
    return w->weight_bytes + w->kv_bytes + (c->resident ? w->act_bytes : 0);
}

/* quantize_act, run within every call before the variant, on the activations it reads. */
typedef struct bench_first {
    const anemo_variant *variant;
    anemo_exec exec;
    anemo_quantize_act_problem problem;
    anemo_quantize_act_args args;
} bench_first;

/* Memory that an arm holds. */
typedef struct bench_held {
    void *memory;
    anemo_memory_use use;
    size_t bytes;
    void *mirror; /* the host's, of an output; NULL: none */
} bench_held;

/* What a variant writes: where it does, and what the host sees of that; the same on a CPU. */
typedef struct bench_output {
    void *device, *host;
    size_t bytes;
} bench_output;

typedef struct bench_arm {
    const anemo_variant *variant;
    bench_case *c;
    anemo_device *device; /* of the variant's backend */
    bench_held *held;     /* [n_held] */
    int32_t n_held, held_capacity;
    bench_queue queue;   /* on a GPU */
    double call_ns;      /* of bench_best_call; 0: not asked yet */
    anemo_exec exec;     /* with its workspace */
    const char *args;    /* [n_args] argument structs of args_bytes each, used in turn */
    size_t args_bytes;   /* size of one struct */
    int64_t n_args;      /* copies that are rotated */
    double packed_bytes; /* read by one call, beside work.weight_bytes; 0: nothing is packed */
    bench_first first;   /* .variant NULL: nothing runs before it */
} bench_arm;

/* How a check before timing went. */
typedef struct bench_verdict {
    double error;     /* worst |difference| / bound; passed if it is <= 1, so never with NaN */
    char detail[160]; /* where it was */
} bench_verdict;

typedef struct bench_op {
    anemo_op op;
    anemo_status (*create)(const bench_shape *shape, int64_t m, const bench_setup *setup,
                           bench_case **out, anemo_error *err);
    void (*destroy)(bench_case *c);
    anemo_status (*arm_create)(bench_case *c, const anemo_variant *variant, bench_arm **out,
                               anemo_error *err);
    void (*arm_destroy)(bench_arm *arm);
    /* Runs once on poisoned outputs and compares with the reference. */
    anemo_status (*check)(bench_arm *arm, bench_verdict *out, anemo_error *err);
    void (*record)(const bench_case *c, anemo_record *record); /* its fields of "case" */
    /* From now on the arm quantises its activations in every call; NULL: this op's never does. */
    anemo_status (*quantise)(bench_arm *arm, anemo_error *err);
} bench_op;

extern const bench_op bench_op_qgemm, bench_op_moe, bench_op_swa;
/* case_dense.c */
extern const bench_op bench_op_add_rmsnorm, bench_op_rope_append, bench_op_quantize_act,
    bench_op_embed, bench_op_sample, bench_op_moe_route, bench_op_moe_combine;

/* ---------------------------------------------------------------- shared by the cases */

/* First of all: the arm's device, and the workspace of its variant on this problem. */
anemo_status bench_arm_begin(bench_arm *arm, bench_case *c, const anemo_variant *variant,
                             anemo_error *err);
/* Whatever it holds; the arm itself is its owner's. */
void bench_arm_release(bench_arm *arm);
/* Zeroed memory of the arm's device until its release; NULL: there is none left. */
void *bench_arm_alloc(bench_arm *arm, anemo_memory_use use, size_t bytes);
/* What the host has there, for the arm's device to read: itself on a CPU, else a copy. NULL stays
 * NULL; *good becomes false when there is no memory. */
void *bench_arm_put(bench_arm *arm, const void *host, size_t bytes, bool *good);
/* An output of the arm; false: no memory. push: host to device; pull: device to host, after all
 * calls so far. */
bool bench_arm_output(bench_arm *arm, anemo_memory_use use, size_t bytes, bench_output *out);
anemo_status bench_output_push(const bench_arm *arm, const bench_output *output, anemo_error *err);
anemo_status bench_output_pull(const bench_arm *arm, const bench_output *output, anemo_error *err);
/* Sets arm->first to the default quantize_act of the arm's activation format: x[m, k] to records.
 * ANEMO_E_UNSUPPORTED: it reads floats. */
anemo_status bench_arm_quantises(bench_arm *arm, const float *x, void *records, int64_t m,
                                 int64_t k, anemo_error *err);
/* variant->run with a sentence when it fails. */
anemo_status bench_arm_run(bench_arm *arm, int64_t call, anemo_error *err);
/* The op's reference, once, with a workspace of its own, on the setup's host. */
anemo_status bench_run_reference(const bench_setup *setup, anemo_op op, const void *problem,
                                 const void *args, anemo_error *err);

/* x[m, k] as the arm's activation format wants it; NULL: unknown format or no memory. */
void *bench_arm_records(bench_arm *arm, const float *x, int64_t m, int64_t k);

/* The largest of several errors, and where. */
typedef struct bench_judge {
    double a, b, c, mean; /* of harness/check/tolerance.inc */
    double worst;
    int64_t row, column;
    const char *what;
    double sum_difference, sum_spread;
    int64_t n;
} bench_judge;
bench_judge bench_judge_of(const anemo_variant *variant);
/* One element: its float errors scale with `magnitude` and the root of `terms`, those of coarse
 * inputs with `spread`. */
void bench_judge_take(bench_judge *judge, const char *what, int64_t row, int64_t column, double got,
                      double want, double magnitude, double terms, double spread);
void bench_judge_end(const bench_judge *judge, bench_verdict *out);

#endif
