#include "harness/check/signature.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROMPT = 24, GENERATED = 32, MOST_DECISIONS = 1 << 18 };

typedef struct decisions {
    int32_t *id; /* [MOST_DECISIONS] */
    int64_t n, experts;
} decisions;

static void take(decisions *d, int32_t id) {
    if (d->n < MOST_DECISIONS) {
        d->id[d->n] = id;
    }
    d->n++;
}

static void take_experts(void *ctx, int32_t layer, int64_t tokens, int32_t top_k,
                         const int32_t *experts, const float *weights) {
    decisions *d = ctx;
    (void)weights;
    take(d, layer);
    for (int64_t i = 0; i < tokens * top_k; i++) {
        take(d, experts[i]);
    }
    d->experts += tokens * top_k;
}

/* The definition of each op that a model runs. */
static int32_t reference_rules(char (*text)[96], const char **rule) {
    static const anemo_op ops[] = {ANEMO_OP_QGEMM,       ANEMO_OP_MOE_ROUTE, ANEMO_OP_MOE_EXPERTS,
                                   ANEMO_OP_MOE_COMBINE, ANEMO_OP_SWA,       ANEMO_OP_ADD_RMSNORM,
                                   ANEMO_OP_ROPE_APPEND, ANEMO_OP_EMBED,     ANEMO_OP_SAMPLE};
    int32_t n = 0;
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        const anemo_variant *v = anemo_variant_reference(ops[i]);
        snprintf(text[n], sizeof *text, "%s=%s", anemo_op_name(ops[i]), v ? v->name : "missing");
        rule[n] = text[n];
        n++;
    }
    return n;
}

static anemo_status decode(anemo_plan *plan, int32_t vocab, decisions *d, anemo_error *err) {
    anemo_session *session;
    int32_t prompt[PROMPT];
    for (int32_t i = 0; i < PROMPT; i++) {
        prompt[i] = (7 + 131 * i + 17 * i * i) % vocab;
    }
    anemo_status status = anemo_session_create(plan, &session, err);
    if (status) {
        return status;
    }
    for (int32_t i = 0; !status && i < GENERATED; i++) {
        const anemo_step_entry entry = {.session = session,
                                        .tokens = i ? NULL : prompt,
                                        .n_tokens = i ? 1 : PROMPT,
                                        .want = ANEMO_WANT_SAMPLE};
        anemo_step_result result;
        status = anemo_step_submit(plan, &entry, 1, err);
        status = status ? status : anemo_step_wait(plan, &result, err);
        if (!status) {
            take(d, result.id);
        }
    }
    anemo_session_free(session);
    return status;
}

anemo_status anemo_signature_make(anemo_device *device, const char *path, anemo_signature *out,
                                  anemo_error *err) {
    char text[16][96];
    const char *rule[16];
    decisions d = {.id = calloc(MOST_DECISIONS, sizeof *d.id)};
    anemo_model *model = NULL;
    anemo_plan *plan = NULL;
    anemo_plan_options options = {
        .limits = {.tokens_per_step = PROMPT, .sessions = 1, .context = PROMPT + GENERATED},
        .with = rule,
        .n_with = reference_rules(text, rule),
        .on_route = take_experts,
        .on_route_ctx = &d};
    anemo_status status =
        d.id ? ANEMO_OK : anemo_fail(err, ANEMO_E_MEMORY, "no memory for a signature");
    status = status ? status : anemo_model_open(path, NULL, &model, err);
    status = status ? status : anemo_plan_create(model, device, &options, &plan, err);
    status = status ? status : decode(plan, (int32_t)anemo_model_describe(model)->vocab, &d, err);
    if (!status && d.n > MOST_DECISIONS) {
        status = anemo_fail(err, ANEMO_E_INPUT, "%s: more than %d decisions", path, MOST_DECISIONS);
    }
    if (!status) {
        anemo_sha256_of(d.id, (size_t)d.n * sizeof *d.id, out->hex);
        out->decisions = d.n;
        out->experts = d.experts;
    }
    anemo_plan_free(plan);
    anemo_model_close(model);
    free(d.id);
    return status;
}
