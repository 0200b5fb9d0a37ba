/* Running the calls of a plan, and telling what was chosen. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/engine/plan.h"

void anemo_plan_mark(anemo_plan *plan, void (*mark)(const anemo_exec *exec, int32_t phase),
                     void *ctx) {
    plan->exec.mark = mark;
    plan->exec.mark_ctx = ctx;
}

void anemo_plan_observe(anemo_plan *plan, anemo_route_observer on_route, void *ctx) {
    plan->on_route = on_route;
    plan->on_route_ctx = ctx;
}

anemo_status anemo_plan_run(const anemo_plan *plan, const anemo_choice *choice, int64_t m,
                            const void *args) {
    anemo_plan_enter(plan, choice->phase);
    const anemo_status status =
        anemo_choice_variant(choice, m)->run(&plan->exec, &choice->problem, args);
    anemo_plan_enter(plan, ANEMO_PHASE_NONE);
    return status;
}

anemo_status anemo_plan_activations(const anemo_plan *plan, const anemo_gemm_call *call, int64_t m,
                                    const float *x, const void **out) {
    int32_t i = 0;
    while (m > call->choice.range[i].m_hi) {
        i++;
    }
    const anemo_choice *quantise = &call->quantise[i];
    *out = x;
    if (quantise->n_ranges == 0) {
        return ANEMO_OK;
    }
    const anemo_quantize_act_args args = {
        .size = sizeof args, .m = m, .x = x, .out = plan->buf.act};
    *out = plan->buf.act;
    return anemo_plan_run(plan, quantise, m, &args);
}

anemo_status anemo_plan_run_gemm(const anemo_plan *plan, const anemo_gemm_call *call, int64_t m,
                                 const float *x, const anemo_matrix *const *parts, float *const *y,
                                 const int64_t *y_stride) {
    const anemo_variant *variant = anemo_choice_variant(&call->choice, m);
    anemo_qgemm_args args = {.size = sizeof args, .m = m};
    const anemo_status status = anemo_plan_activations(plan, call, m, x, &args.x);
    for (int32_t i = 0; i < call->choice.problem.qgemm.n_parts; i++) {
        args.weight[i] =
            variant->layout != NULL ? parts[i]->packed : (const void *)&parts[i]->canonical;
        args.bias[i] = parts[i]->bias;
        args.y[i] = y[i];
        args.y_stride[i] = y_stride[i];
    }
    return status == ANEMO_OK ? anemo_plan_run(plan, &call->choice, m, &args) : status;
}

anemo_status anemo_plan_observe_route(const anemo_plan *plan, int64_t layer) {
    const anemo_moe_plan *moe = &plan->buf.moe;
    const int32_t top_k = (int32_t)plan->model->hparams.experts_per_token;
    const size_t n = (size_t)plan->rows * (size_t)top_k;
    int32_t *experts = malloc(n * sizeof *experts);
    float *weights = malloc(n * sizeof *weights);
    anemo_status status = experts != NULL && weights != NULL ? ANEMO_OK : ANEMO_E_MEMORY;
    if (status == ANEMO_OK) {
        status = anemo_device_download(plan->device, experts, moe->expert, n * sizeof *experts);
    }
    if (status == ANEMO_OK) {
        status = anemo_device_download(plan->device, weights, moe->weight, n * sizeof *weights);
    }
    if (status == ANEMO_OK) {
        status = anemo_device_synchronise(plan->device, NULL);
    }
    if (status == ANEMO_OK) {
        plan->on_route(plan->on_route_ctx, (int32_t)layer, plan->rows, top_k, experts, weights);
    }
    free(experts);
    free(weights);
    return status;
}

/* "qgemm@gate_up:m=1..64=qgemm_c", each different line once: layers mostly agree. Losing a line for
 * want of memory loses only information. */
static void note(anemo_plan *plan, const char *text) {
    for (int32_t i = 0; i < plan->n_choice_texts; i++) {
        if (strcmp(plan->choice_text[i], text) == 0) {
            return;
        }
    }
    void *grown =
        realloc(plan->choice_text, ((size_t)plan->n_choice_texts + 1) * sizeof *plan->choice_text);
    if (grown != NULL) {
        plan->choice_text = grown;
        snprintf(plan->choice_text[plan->n_choice_texts++], sizeof *plan->choice_text, "%s", text);
    }
}

void anemo_plan_note_choice(anemo_plan *plan, const anemo_choice *choice) {
    for (int32_t i = 0; i < choice->n_ranges; i++) {
        char text[sizeof *plan->choice_text];
        snprintf(text, sizeof text, "%s%s%s:m=%lld..%lld=%s", anemo_op_name(choice->op),
                 choice->role[0] != '\0' ? "@" : "", choice->role, (long long)choice->range[i].m_lo,
                 (long long)choice->range[i].m_hi, choice->range[i].variant->name);
        note(plan, text);
    }
}

const char *anemo_plan_choice(const anemo_plan *plan, int32_t index) {
    return index >= 0 && index < plan->n_choice_texts ? plan->choice_text[index] : NULL;
}

/* ---------------------------------------------------------------- calls */

struct anemo_call_note {
    anemo_choice choice;
    int64_t m_max;
};

void anemo_plan_note_call(anemo_plan *plan, const anemo_choice *choice, int64_t m_max) {
    for (int32_t i = 0; i < plan->n_calls; i++) {
        const anemo_choice *known = &plan->calls[i].choice;
        if (known->op == choice->op && strcmp(known->role, choice->role) == 0 &&
            memcmp(&known->problem, &choice->problem, choice->problem.size) == 0) {
            return;
        }
    }
    void *grown = realloc(plan->calls, ((size_t)plan->n_calls + 1) * sizeof *plan->calls);
    if (grown != NULL) {
        plan->calls = grown;
        plan->calls[plan->n_calls++] = (struct anemo_call_note){*choice, m_max};
    }
}

bool anemo_plan_call_at(const anemo_plan *plan, int32_t index, anemo_plan_call *out) {
    if (index < 0 || index >= plan->n_calls) {
        return false;
    }
    const struct anemo_call_note *note = &plan->calls[index];
    *out = (anemo_plan_call){.op = note->choice.op,
                             .role = note->choice.role,
                             .problem = &note->choice.problem,
                             .problem_bytes = note->choice.problem.size,
                             .m_max = note->m_max};
    return true;
}

const anemo_variant *anemo_plan_call_variant(const anemo_plan *plan, int32_t index, int64_t m) {
    return index >= 0 && index < plan->n_calls ? anemo_choice_variant(&plan->calls[index].choice, m)
                                               : NULL;
}

int64_t anemo_plan_kv_pages(const anemo_plan *plan, int64_t *held) {
    *held = plan->pages.n_pages - plan->pages.n_free;
    return plan->pages.n_pages;
}

int32_t anemo_plan_page_tokens(void) {
    return ANEMO_PAGE_TOKENS;
}

double anemo_plan_resident_bytes(const anemo_plan *plan) {
    double bytes = plan->mapped_bytes;
    for (int use = 0; use < ANEMO_MEM_USES; use++) {
        bytes += (double)anemo_device_held_bytes(plan->device, (anemo_memory_use)use);
    }
    return bytes;
}
