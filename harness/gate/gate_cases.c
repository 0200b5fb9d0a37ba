/* Which cases there are, and which of them are due. Small shapes, warm: a gate looks for changes of
 * code, and a call of some microseconds shows them in seconds; `bench` has the large ones. */
#include "harness/gate/code_hash.h"
#include "harness/gate/gate.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char anemo_gate_usual_cases[] = "qgemm n=1024,k=2048 1,16 warm\n"
                                      "moe_experts default/uniform 16 warm\n"
                                      "swa heads=8,kv_heads=2,context=1024 4 warm\n"
                                      "add_rmsnorm 1b/norm 16 warm\n"
                                      "rope_append 1b/rope 16 warm\n"
                                      "quantize_act 1b/act 16 warm\n"
                                      "embed 1b/embed 16 warm\n"
                                      "sample 1b/greedy 1 warm\n"
                                      "moe_route mixtral-8x7b/route 16 warm\n"
                                      "moe_combine mixtral-8x7b/combine 16 warm\n"
                                      "model default 16 33 1\n";

static const char *const weight_types[] = {
    "q4_0", "q8_0", "q5_0", "q6_k",    "q4_k",    "q5_k",       "iq4_nl",    "mxfp4",
    "bf16", "f16",  "f32",  "q4:g128", "q8:g128", "q4:row:f32", "q8:row:f32"};

typedef struct planner {
    const char *name, *filter;
    int32_t line;
    bool all;
    anemo_device *device;
    uint64_t seed;
    const anemo_gate_base *base;
    anemo_gate_plan *plan;
    anemo_error *err;
} planner;

static anemo_status refuse(planner *p, const char *what, const char *value, const char *accepted) {
    return anemo_fail(p->err, ANEMO_E_INPUT, "%s:%d: %s is '%.80s'; expected %s", p->name, p->line,
                      what, value, accepted);
}

static anemo_status add(planner *p, anemo_gate_case *c, const char *hashed) {
    anemo_gate_plan *plan = p->plan;
    if (p->filter && !strstr(c->name, p->filter)) {
        return ANEMO_OK;
    }
    if (plan->n == ANEMO_GATE_CASES) {
        return anemo_fail(p->err, ANEMO_E_INPUT, "%s:%d: more than %d cases", p->name, p->line,
                          ANEMO_GATE_CASES);
    }
    const anemo_code_entry *here = anemo_code_entry_of(hashed);
    const anemo_gate_hash *there = anemo_gate_hash_of(p->base, hashed);
    if (!there && p->base->n_hashes && c->variant && p->base->program[0]) {
        c->state = ANEMO_GATE_NEW;
        plan->n_new++;
    } else if (!p->all && here && there && strcmp(here->hash, there->hash) == 0) {
        c->state = ANEMO_GATE_UNCHANGED;
        plan->n_unchanged++;
    } else {
        c->state = ANEMO_GATE_DUE;
        plan->n_due++;
    }
    plan->cases[plan->n++] = *c;
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- kernels */

static bool is_wanted(const planner *p, const anemo_variant *v, anemo_op op) {
    return v->op == op && v->backend == ANEMO_CPU && !(v->traits & ANEMO_TRAIT_REFERENCE) &&
           anemo_variant_runs_here(v, anemo_device_capability(p->device), NULL, 0);
}

/* Adds those of the op's variants that take this problem and are not placed yet; *left: how many
 * are still not. */
static anemo_status add_takers(planner *p, const anemo_kernel_problem *problem, anemo_op op,
                               const char *caches, bool *placed, int32_t *left) {
    anemo_kernel_bed *bed;
    anemo_status status = anemo_kernel_bed_open(p->device, problem, &bed, p->err);
    if (status) {
        return status;
    }
    const bench_case *its = anemo_kernel_bed_case(bed);
    *left = 0;
    for (int32_t i = 0; !status && i < anemo_variant_builtin_count(); i++) {
        const anemo_variant *v = anemo_variant_at(i);
        if (placed[i] || !is_wanted(p, v, op)) {
            continue;
        }
        placed[i] =
            anemo_variant_supports(v, anemo_device_capability(p->device), its->problem, NULL, 0);
        *left += !placed[i];
        if (placed[i]) {
            anemo_gate_case c = {.variant = v, .m = problem->m};
            snprintf(c.name, sizeof c.name, "%.150s/%.90s", its->name, v->name);
            snprintf(c.weights, sizeof c.weights, "%s", problem->weights);
            snprintf(c.shape, sizeof c.shape, "%s", problem->shape->name);
            snprintf(c.caches, sizeof c.caches, "%s", caches);
            status = add(p, &c, v->name);
        }
    }
    anemo_kernel_bed_close(bed);
    return status;
}

/* Every variant with the first weight type that it takes; a shape that it refuses with all of them
 * is no case of it. Making a problem is what costs, so each is made once for all variants. */
static anemo_status add_row(planner *p, anemo_op op, const bench_shape *shape, int64_t m,
                            const char *caches) {
    bool *placed = calloc((size_t)anemo_variant_builtin_count(), sizeof *placed);
    int32_t left = 1;
    anemo_status status =
        placed ? ANEMO_OK : anemo_fail(p->err, ANEMO_E_MEMORY, "no memory for the gate's cases");
    for (size_t i = 0; !status && left && i < sizeof weight_types / sizeof *weight_types; i++) {
        const anemo_kernel_problem problem = {.shape = shape,
                                              .m = m,
                                              .weights = weight_types[i],
                                              .caches = ANEMO_CACHES_WARM,
                                              .seed = p->seed};
        status = add_takers(p, &problem, op, caches, placed, &left);
    }
    free(placed);
    return status;
}

static anemo_status find_shape(planner *p, anemo_op op, const char *text,
                               anemo_custom_shape *custom, const bench_shape **out) {
    if (strchr(text, '=')) {
        *out = &custom->shape;
        return anemo_shape_custom(op, text, custom, p->err);
    }
    for (int32_t i = 0; i < anemo_shape_count(); i++) {
        *out = anemo_shape_at(i);
        if ((*out)->op == op && strcmp((*out)->name, text) == 0) {
            return ANEMO_OK;
        }
    }
    return refuse(p, "the shape", text,
                  "a shape of that op (`anemo bench` lists them), or numbers");
}

static anemo_status add_op(planner *p, char *word[5], int n) {
    anemo_op op;
    int64_t rows[ANEMO_SHAPE_ROWS];
    anemo_custom_shape custom;
    const bench_shape *shape = NULL;
    anemo_caches caches;
    if (!anemo_op_from_name(word[0], &op)) {
        return refuse(p, "the first word", word[0], "an op, or 'model'");
    }
    if (n != 4) {
        return refuse(p, "the line of", word[0], "OP SHAPE M[,M...] warm|cold-weights");
    }
    const int32_t n_rows = anemo_shape_rows(word[2], rows, ANEMO_SHAPE_ROWS);
    if (n_rows < 1) {
        return refuse(p, "M", word[2], "numbers from 1 to 65536, apart by commas");
    }
    if (!anemo_caches_from_name(word[3], &caches) || caches == ANEMO_CACHES_COLD) {
        return refuse(p, "the fourth word", word[3], "warm or cold-weights");
    }
    anemo_status status = find_shape(p, op, word[1], &custom, &shape);
    for (int32_t j = 0; !status && j < n_rows; j++) {
        status = add_row(p, op, shape, rows[j], word[3]);
    }
    return status;
}

/* ---------------------------------------------------------------- models, lines */

static bool number(const char *text, int64_t least, int64_t most, int64_t *out) {
    char *end;
    *out = strtoll(text, &end, 10);
    return end != text && !*end && *out >= least && *out <= most;
}

static anemo_status add_model(planner *p, char *word[5], int n) {
    anemo_gate_case c = {0};
    if (n != 5) {
        return refuse(p, "the line of", word[0], "model MODEL PROMPT TOKENS BATCH");
    }
    if (!number(word[2], 1, 1 << 20, &c.prompt) || !number(word[3], 2, 1 << 20, &c.tokens) ||
        !number(word[4], 1, BENCH_BATCH_MAX, &c.batch)) {
        return refuse(p, "the line of", word[1], "PROMPT >= 1, TOKENS >= 2, BATCH 1 to 256");
    }
    if (strcmp(word[1], "default") != 0) {
        snprintf(c.model, sizeof c.model, "%s", word[1]);
    }
    snprintf(c.name, sizeof c.name, "model/%.120s/decode/P=%s/n=%s/batch=%s", word[1], word[2],
             word[3], word[4]);
    return add(p, &c, "engine");
}

static anemo_status read_line(planner *p, char *line) {
    char *word[6], *rest = NULL;
    int n = 0;
    line[strcspn(line, "#")] = '\0';
    for (char *at = strtok_r(line, " \t\r", &rest); at && n < 6;
         at = strtok_r(NULL, " \t\r", &rest)) {
        word[n++] = at;
    }
    return n == 0                          ? ANEMO_OK
           : strcmp(word[0], "model") == 0 ? add_model(p, word, n)
                                           : add_op(p, word, n);
}

anemo_status anemo_gate_plan_make(const char *name, const char *text, const char *filter, bool all,
                                  anemo_device *device, uint64_t seed, const anemo_gate_base *base,
                                  anemo_gate_plan *out, anemo_error *err) {
    planner p = {.name = name,
                 .filter = filter,
                 .all = all,
                 .device = device,
                 .seed = seed,
                 .base = base,
                 .plan = out,
                 .err = err};
    *out = (anemo_gate_plan){.cases = calloc(ANEMO_GATE_CASES, sizeof *out->cases)};
    char *copy = strdup(text);
    anemo_status status = out->cases && copy
                              ? ANEMO_OK
                              : anemo_fail(err, ANEMO_E_MEMORY, "no memory for the gate's cases");
    for (char *line = copy; !status && line;) {
        char *end = strchr(line, '\n');
        if (end) {
            *end = '\0';
        }
        p.line++;
        status = read_line(&p, line);
        line = end ? end + 1 : NULL;
    }
    free(copy);
    if (!status && out->n == 0) {
        status = anemo_fail(err, ANEMO_E_INPUT, "%s: no case%s%s", name,
                            filter ? " has in its name " : "", filter ? filter : "");
    }
    return status;
}

void anemo_gate_plan_free(anemo_gate_plan *plan) {
    free(plan->cases);
    *plan = (anemo_gate_plan){0};
}
