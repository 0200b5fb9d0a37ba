/* Measuring what is due: two programs for each case, canaries and the swap beside. */
#include "harness/gate/gate.h"

#include "harness/measure/machine.h"
#include "harness/measure/placement.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_WORDS = 32 };
#define CANARY_LEVEL 0.99

/* Two programs on one case. */
typedef struct pairing {
    const anemo_gate_setting *setting;
    const anemo_gate_case *c;
    const char *program[2];
    anemo_side_pair pair;
} pairing;

/* ---------------------------------------------------------------- opening a pair */

static void words_of(const pairing *p, const char *program, const char **word, char (*text)[32]) {
    const anemo_gate_case *c = p->c;
    int n = 0, t = 0;
#define WORD(option, value)                                                                        \
    do {                                                                                           \
        word[n++] = (option);                                                                      \
        word[n++] = (value);                                                                       \
    } while (0)
#define NUMBER(option, value)                                                                      \
    do {                                                                                           \
        snprintf(text[t], sizeof *text, "%lld", (long long)(value));                               \
        WORD(option, text[t++]);                                                                   \
    } while (0)
    WORD(program, "compare");
    WORD("--serve", c->variant    ? c->variant->name
                    : c->model[0] ? c->model
                                  : p->setting->default_model);
    NUMBER("--seed", p->setting->seed);
    if (p->setting->threads) {
        NUMBER("--threads", p->setting->threads);
    }
    if (strcmp(anemo_isa_level(), "native") != 0) {
        WORD("--isa", anemo_isa_level());
    }
    if (strcmp(anemo_placement_chosen(), anemo_placement_names[0]) != 0) {
        WORD("--placement", anemo_placement_chosen());
    }
    if (c->variant) {
        WORD("--shape", c->shape);
        NUMBER("--m", c->m);
        WORD("--weights", c->weights);
        WORD("--caches", c->caches);
    } else {
        NUMBER("--prompt", c->prompt);
        NUMBER("--tokens", c->tokens);
        NUMBER("--batch", c->batch);
    }
    word[n] = NULL;
#undef NUMBER
#undef WORD
}

static void close_pair(void *ctx) {
    anemo_side_pair_close(&((pairing *)ctx)->pair);
}

static anemo_status open_pair(void *ctx, anemo_error *err) {
    pairing *p = ctx;
    anemo_status status = ANEMO_OK;
    p->pair = (anemo_side_pair){.sample_ns = p->setting->sample_ns};
    for (int side = 0; !status && side < 2; side++) {
        const char *word[MOST_WORDS];
        char text[8][32];
        words_of(p, p->program[side], word, text);
        status = anemo_child_side_open(word, &p->pair.side[side], err);
    }
    if (!status && strcmp(anemo_child_side_what(p->pair.side[0]),
                          anemo_child_side_what(p->pair.side[1])) != 0) {
        status = anemo_fail(
            err, ANEMO_E_INPUT, "%s: the builds measure different things, %s and %s", p->c->name,
            anemo_child_side_what(p->pair.side[0]), anemo_child_side_what(p->pair.side[1]));
    }
    status = status ? status : anemo_side_pair_warm_up(&p->pair, err);
    if (status) {
        close_pair(p);
    }
    return status;
}

static anemo_status sample_pair(void *ctx, int32_t side, double *ns, anemo_error *err) {
    return anemo_side_pair_sample(&((pairing *)ctx)->pair, side, ns, err);
}

static anemo_compare_case case_of(pairing *p) {
    return (anemo_compare_case){.name = p->c->name,
                                .sample = sample_pair,
                                .open = open_pair,
                                .close = close_pair,
                                .ctx = p,
                                .turns = &p->pair.turns};
}

/* ---------------------------------------------------------------- canaries and the swap */

bool anemo_gate_canary_good(const anemo_estimate *ratio, double delta) {
    return ratio->hi >= 1 / (1 + delta) && ratio->lo <= 1 + delta;
}

bool anemo_gate_swap_good(const anemo_estimate *direct, const anemo_estimate *inverted,
                          double delta) {
    return direct->lo <= inverted->hi * (1 + delta) && inverted->lo <= direct->hi * (1 + delta);
}

static anemo_estimate inverse(anemo_estimate e) {
    const double lo = e.lo;
    e.value = 1 / e.value;
    e.lo = 1 / e.hi;
    e.hi = 1 / lo;
    return e;
}

static anemo_status run_check(const anemo_gate_setting *setting, const anemo_gate_case *c,
                              anemo_gate_trial trial, const anemo_compare_result *direct,
                              anemo_gate_check *out) {
    pairing p = {.setting = setting, .c = c, .program = {setting->head, setting->head}};
    if (trial == ANEMO_GATE_RELINKED) {
        p.program[1] = setting->relinked;
    } else if (trial == ANEMO_GATE_SWAPPED) {
        p.program[1] = setting->base->program;
    }
    const anemo_compare_case one = case_of(&p);
    anemo_compare_rule rule = anemo_compare_rule_fixed(setting->rule.delta, setting->rule.look[0]);
    rule.openings = setting->rule.openings;
    const anemo_compare_hooks hooks = {.interrupted = setting->hooks.interrupted};
    anemo_compare_result r = {0};
    *out = (anemo_gate_check){.trial = trial, .c = c};
    const anemo_status status = anemo_compare_run(&one, 1, &rule, &hooks, &r, &out->error);
    out->status = status ? status : r.status;
    if (!out->status) {
        out->ratio = anemo_stats_paired_ratio(r.ns[0], r.ns[1], r.pairs, CANARY_LEVEL);
        out->good = anemo_gate_canary_good(&out->ratio, setting->rule.delta);
    } else if (r.status) {
        out->error = r.error;
    }
    if (!out->status && trial == ANEMO_GATE_SWAPPED) {
        out->ratio = inverse(out->ratio);
        out->direct =
            anemo_stats_paired_ratio(direct->ns[0], direct->ns[1], direct->pairs, CANARY_LEVEL);
        out->good = anemo_gate_swap_good(&out->direct, &out->ratio, setting->rule.delta);
    }
    anemo_compare_results_free(&r, 1);
    return status;
}

/* On the first kernel and the first model that are due. */
static anemo_status run_checks(const anemo_gate_setting *setting, anemo_gate_outcome *out) {
    bool kernel = false, model = false;
    for (int32_t i = 0; i < out->n_due; i++) {
        const anemo_gate_case *c = out->due[i];
        bool *seen = c->variant ? &kernel : &model;
        if (*seen || out->results[i].status || out->results[i].pairs < 6) {
            continue;
        }
        *seen = true;
        for (int trial = ANEMO_GATE_SAME; trial <= ANEMO_GATE_SWAPPED; trial++) {
            if (trial == ANEMO_GATE_RELINKED && !setting->relinked) {
                continue;
            }
            const anemo_status status = run_check(setting, c, (anemo_gate_trial)trial,
                                                  &out->results[i], &out->checks[out->n_checks++]);
            if (status == ANEMO_E_CANCELLED) {
                return status;
            }
        }
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- the run */

static anemo_status run_due(const anemo_gate_setting *setting, anemo_gate_outcome *out,
                            anemo_error *err) {
    pairing *pairs = calloc((size_t)out->n_due, sizeof *pairs);
    anemo_compare_case *cases = calloc((size_t)out->n_due, sizeof *cases);
    anemo_status status =
        pairs && cases ? ANEMO_OK
                       : anemo_fail(err, ANEMO_E_MEMORY, "no memory for %d cases", out->n_due);
    for (int32_t i = 0; !status && i < out->n_due; i++) {
        pairs[i] = (pairing){.setting = setting,
                             .c = out->due[i],
                             .program = {setting->base->program, setting->head}};
        cases[i] = case_of(&pairs[i]);
    }
    if (!status) {
        status = anemo_compare_run(cases, out->n_due, &setting->rule, &setting->hooks, out->results,
                                   err);
    }
    free(cases);
    free(pairs);
    return status;
}

anemo_status anemo_gate_measure(const anemo_gate_plan *plan, const anemo_gate_setting *setting,
                                anemo_gate_outcome *out, anemo_error *err) {
    *out = (anemo_gate_outcome){0};
    if (plan->n_due == 0) {
        return ANEMO_OK;
    }
    out->results = calloc((size_t)plan->n_due, sizeof *out->results);
    out->due = calloc((size_t)plan->n_due, sizeof *out->due);
    if (!out->results || !out->due) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for %d cases", plan->n_due);
    }
    for (int32_t i = 0; i < plan->n; i++) {
        if (plan->cases[i].state == ANEMO_GATE_DUE) {
            out->due[out->n_due++] = &plan->cases[i];
        }
    }
    for (int32_t i = 0; i < out->n_due; i++) {
        out->results[i].look = -1; /* not measured, and a base of records never is */
    }
    if (!setting->base->program[0]) {
        return ANEMO_OK;
    }
    const anemo_status status = run_due(setting, out, err);
    return status ? status : run_checks(setting, out);
}

void anemo_gate_outcome_free(anemo_gate_outcome *outcome) {
    if (outcome->results) {
        anemo_compare_results_free(outcome->results, outcome->n_due);
    }
    free(outcome->results);
    free(outcome->due);
    *outcome = (anemo_gate_outcome){0};
}
