#include "harness/measure/ledger.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static int32_t phase_of_embedding(void) {
    for (int32_t p = 0; p < ANEMO_PHASES; p++) {
        const anemo_phase phase = anemo_phase_describe(p);
        if (p != ANEMO_PHASE_HOST && phase.op == ANEMO_OP_EMBED) {
            return p;
        }
    }
    return ANEMO_PHASE_NONE;
}

static void pass(anemo_ledger *l, int32_t phase, uint64_t now_ns, double *ns) {
    if (l->phase != ANEMO_PHASE_NONE) {
        ns[l->phase] += (double)(now_ns - l->since_ns);
    }
    l->phase = phase;
    l->since_ns = now_ns;
}

static void mark(const anemo_exec *exec, int32_t phase) {
    anemo_ledger *l = exec->mark_ctx;
    l->steps += phase == l->first;
    l->reads++;
    pass(l, phase, anemo_clock_now(&l->clock), l->ns);
}

/* The same for one step in `every`; its last read is the first of the next. */
static void mark_some(const anemo_exec *exec, int32_t phase) {
    anemo_ledger *l = exec->mark_ctx;
    const bool begins = phase == l->first;
    const bool wanted = begins && l->steps++ % l->every == l->every / 2;
    if (!l->watching && !wanted) {
        return;
    }
    l->reads++;
    const uint64_t now_ns = anemo_clock_now(&l->clock);
    if (l->watching && begins) {
        for (int32_t p = 0; p < ANEMO_PHASES; p++) {
            l->ns[p] += l->step_ns[p];
            l->step_ns[p] = 0;
        }
        l->total_ns += (double)(now_ns - l->begin_ns);
        l->seen++;
        l->watching = false;
        l->phase = ANEMO_PHASE_NONE;
    }
    if (wanted) {
        l->watching = true;
        l->begin_ns = now_ns;
    }
    if (l->watching) {
        pass(l, phase, now_ns, l->step_ns);
    }
}

void anemo_ledger_begin(anemo_ledger *ledger, const anemo_clock *clock, anemo_plan *plan,
                        int64_t every) {
    *ledger = (anemo_ledger){
        .clock = *clock, .phase = ANEMO_PHASE_NONE, .every = every, .first = phase_of_embedding()};
    anemo_plan_mark(plan, every > 1 ? mark_some : mark, ledger);
    ledger->begin_ns = anemo_clock_now(clock);
}

void anemo_ledger_end(anemo_ledger *ledger, anemo_plan *plan) {
    if (ledger->every > 1) {
        const double all = (double)ledger->steps / (double)ledger->seen;
        for (int32_t p = 0; p < ANEMO_PHASES; p++) {
            ledger->ns[p] *= all;
        }
        ledger->total_ns *= all;
    } else {
        ledger->total_ns = (double)(anemo_clock_now(&ledger->clock) - ledger->begin_ns);
    }
    anemo_plan_mark(plan, NULL, NULL);
}

int64_t anemo_ledger_every(const anemo_ledger *ledger, double read_ns) {
    const double share = (double)ledger->reads * read_ns / ledger->total_ns;
    const int64_t wanted = (int64_t)ceil(share / ANEMO_LEDGER_COST), most = ledger->steps / 5;
    return wanted < 2 || most < 2 ? 1 : wanted < most ? wanted : most;
}

double anemo_ledger_unattributed(const double *phase_ns, double total_ns) {
    double sum = 0;
    for (int32_t p = 0; p < ANEMO_PHASES; p++) {
        sum += phase_ns[p];
    }
    return (total_ns - sum) / total_ns;
}

const char *anemo_ledger_name(int32_t phase, char *text, size_t text_bytes) {
    const anemo_phase p = anemo_phase_describe(phase);
    if (phase == ANEMO_PHASE_HOST) {
        snprintf(text, text_bytes, "host");
    } else {
        snprintf(text, text_bytes, "%s%s%s%s", p.op == p.consumer ? "" : "quantize_act > ",
                 anemo_op_name(p.consumer), p.role[0] ? "@" : "", p.role);
    }
    return text;
}

bool anemo_ledger_meets(int32_t phase, const char *rule) {
    const anemo_phase p = anemo_phase_describe(phase);
    const size_t op_bytes = strcspn(rule, "@:=");
    const char *role = rule[op_bytes] == '@' ? rule + op_bytes + 1 : "";
    const size_t role_bytes = strcspn(role, ":=");
    if (phase == ANEMO_PHASE_HOST) {
        return false;
    }
    const anemo_op ops[] = {p.op, p.consumer};
    for (int i = 0; i < 2; i++) {
        const char *name = anemo_op_name(ops[i]);
        if (strlen(name) != op_bytes || strncmp(rule, name, op_bytes) != 0) {
            continue;
        }
        if (ops[i] == ANEMO_OP_QUANTIZE_ACT) {
            return true; /* its role is a format, not a consumer */
        }
        return role_bytes == 0 ||
               (strlen(p.role) == role_bytes && strncmp(role, p.role, role_bytes) == 0);
    }
    return false;
}
