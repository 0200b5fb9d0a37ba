#include "harness/measure/ledger.h"

#include <stdio.h>
#include <string.h>

static void mark(const anemo_exec *exec, int32_t phase) {
    anemo_ledger *l = exec->mark_ctx;
    const uint64_t now_ns = anemo_clock_now(&l->clock);
    if (l->phase != ANEMO_PHASE_NONE) {
        l->ns[l->phase] += (double)(now_ns - l->since_ns);
    }
    l->phase = phase;
    l->since_ns = now_ns;
}

void anemo_ledger_begin(anemo_ledger *ledger, const anemo_clock *clock, anemo_plan *plan) {
    *ledger = (anemo_ledger){.clock = *clock, .phase = ANEMO_PHASE_NONE};
    anemo_plan_mark(plan, mark, ledger);
    ledger->begin_ns = anemo_clock_now(clock);
}

void anemo_ledger_end(anemo_ledger *ledger, anemo_plan *plan) {
    ledger->total_ns = (double)(anemo_clock_now(&ledger->clock) - ledger->begin_ns);
    anemo_plan_mark(plan, NULL, NULL);
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
