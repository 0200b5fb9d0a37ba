/* A plan: resolves every call of the forward pass to variants, packs the weights into the layout
 * those variants read, and sizes all buffers and one workspace. Whatever can be refused is refused
 * here; a step only runs.
 *
 * The order is: limits -> rules -> ops without weights -> layer by layer (load, choose, pack) ->
 * output -> buffers -> pages -> workspace (the largest that any chosen variant asks for). */
#include "models/engine/plan.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/arch/arch.h"
#include "models/engine/rope.h"
#include "models/engine/session.h"

/* ---------------------------------------------------------------- device memory */

struct allocation {
    struct allocation *next;
    anemo_memory_use use;
    void *memory;
    size_t bytes;
};

void *anemo_plan_alloc(anemo_plan *plan, anemo_memory_use use, size_t bytes, const char *what,
                       anemo_error *err) {
    bytes = bytes > 0 ? bytes : 1;
    struct allocation *a = malloc(sizeof *a);
    void *memory = a != NULL ? anemo_device_alloc(plan->device, use, bytes) : NULL;
    if (memory == NULL) {
        free(a);
        anemo_fail(err, ANEMO_E_MEMORY, "no memory for %s (%.1f MiB on %s)", what,
                   (double)bytes / 1048576.0, anemo_device_name(plan->device));
        return NULL;
    }
    *a = (struct allocation){plan->allocations, use, memory, bytes};
    plan->allocations = a;
    return memory;
}

/* ---------------------------------------------------------------- limits and rules */

static anemo_status check_limits(anemo_plan *plan, const anemo_limits *in, anemo_error *err) {
    const anemo_hparams *h = &plan->model->hparams;
    anemo_limits *l = &plan->limits;
    *l = *in;
    if (l->tokens_per_step < 1 || l->tokens_per_step > 1 << 20) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "plan: tokens_per_step is %lld; accepted: 1 to 1048576",
                          (long long)l->tokens_per_step);
    }
    if (l->sessions < 1 || l->sessions > 1 << 16) {
        return anemo_fail(err, ANEMO_E_INPUT, "plan: sessions is %d; accepted: 1 to 65536",
                          l->sessions);
    }
    l->context = l->context == 0 ? h->context_max : l->context;
    if (l->context < 1 || l->context > h->context_max) {
        return anemo_fail(err, ANEMO_E_INPUT, "plan: context is %lld; the model accepts 1 to %lld",
                          (long long)in->context, (long long)h->context_max);
    }
    if (l->kv_type < ANEMO_KV_F32 || l->kv_type > ANEMO_KV_Q8) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "plan: kv_type is %d; accepted: 0 to 3 (f32, f16, bf16, q8)", l->kv_type);
    }
    l->logits_rows = l->logits_rows == 0 ? l->tokens_per_step : l->logits_rows;
    if (l->logits_rows < 1 || l->kv_tokens < 0) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "plan: logits_rows is %lld, kv_tokens %lld; accepted: >= 1, >= 0",
                          (long long)in->logits_rows, (long long)in->kv_tokens);
    }
    return ANEMO_OK;
}

static anemo_status parse_rules(anemo_plan *plan, const anemo_plan_options *options,
                                anemo_error *err) {
    plan->chooser.backend = anemo_device_backend(plan->device);
    plan->chooser.capability = anemo_device_capability(plan->device);
    const int32_t soft = options->n_choices, n = soft + options->n_with;
    plan->chooser.rules = calloc((size_t)n + 1, sizeof *plan->chooser.rules);
    if (plan->chooser.rules == NULL) {
        return anemo_fail(err, ANEMO_E_MEMORY, "plan: no memory for %d rules", n);
    }
    for (int32_t i = 0; i < n; i++) {
        const char *text = i < soft ? options->choices[i] : options->with[i - soft];
        if (strcmp(text, ANEMO_WITH_BATCH_INVARIANT) == 0) {
            plan->chooser.batch_invariant = true;
            continue;
        }
        anemo_with_rule *rule = &plan->chooser.rules[plan->chooser.n_rules];
        const anemo_status status = anemo_with_rule_parse(text, rule, err);
        if (status != ANEMO_OK) {
            return status;
        }
        rule->soft = i < soft;
        plan->chooser.n_rules++;
    }
    return ANEMO_OK;
}

static anemo_status all_rules_used(const anemo_plan *plan, anemo_error *err) {
    for (int32_t i = 0; i < plan->chooser.n_rules; i++) {
        if (!plan->chooser.rules[i].used && !plan->chooser.rules[i].soft) {
            return anemo_fail(
                err, ANEMO_E_INPUT,
                "--with %s: this model has no such call; `anemo bench model` prints its calls",
                plan->chooser.rules[i].text);
        }
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- choosing and packing */

/* A variant for many rows that waits for the device does not take the graph away from steps of few:
 * a step of r rows makes calls of at most r rows each, or of r times as many as a row has heads. */
static void limit_graphs(anemo_plan *plan, const anemo_choice *choice, int64_t m_max) {
    const int64_t tokens = plan->limits.tokens_per_step;
    const int64_t per_row = m_max > tokens ? (m_max + tokens - 1) / tokens : 1;
    for (int32_t i = 0; i < choice->n_ranges; i++) {
        const int64_t below = (choice->range[i].m_lo - 1) / per_row;
        if ((choice->range[i].variant->traits & ANEMO_TRAIT_CAPTURABLE) == 0 &&
            below < plan->graph_rows) {
            plan->graph_rows = below;
        }
    }
}

/* Does the product with a matrix round its activations? */
static bool rounds_activations(const anemo_choice *choice) {
    bool any = false;
    for (int32_t i = 0; i < choice->n_ranges; i++) {
        const char *act = choice->range[i].variant->act;
        any |= act != NULL && strcmp(act, "f32") != 0;
    }
    return any && (choice->op == ANEMO_OP_QGEMM || choice->op == ANEMO_OP_MOE_EXPERTS);
}

static void take(anemo_plan *plan, const anemo_choice *choice, int64_t m_max) {
    plan->rounds_activations |= rounds_activations(choice);
    anemo_plan_note_choice(plan, choice);
    anemo_plan_note_call(plan, choice, m_max);
    limit_graphs(plan, choice, m_max);
}

anemo_status anemo_plan_choose(anemo_plan *plan, anemo_choice *choice, int64_t m_max,
                               anemo_error *err) {
    choice->phase = anemo_phase_of(choice->op, choice->role);
    if (choice->phase == ANEMO_PHASE_NONE) {
        return anemo_fail(err, ANEMO_E_UNSUPPORTED,
                          "plan: %s in role '%s' is not in ANEMO_CALL_LIST",
                          anemo_op_name(choice->op), choice->role);
    }
    const anemo_status status = anemo_choose(&plan->chooser, choice, NULL, m_max, err);
    if (status == ANEMO_OK) {
        take(plan, choice, m_max);
    }
    return status;
}

/* For each row range whose variant reads an activation format: who writes that format. */
static anemo_status choose_quantise(anemo_plan *plan, anemo_gemm_call *call, int64_t k,
                                    int64_t m_max, anemo_error *err) {
    for (int32_t i = 0; i < call->choice.n_ranges; i++) {
        const anemo_act *act = anemo_act_find(call->choice.range[i].variant->act);
        if (call->choice.range[i].variant->act == NULL || strcmp(act->name, "f32") == 0) {
            continue;
        }
        anemo_choice *q = &call->quantise[i];
        q->op = ANEMO_OP_QUANTIZE_ACT;
        q->role = act->name;
        q->phase = anemo_phase_of_quantising(call->choice.phase);
        q->problem.quantize_act = (anemo_quantize_act_problem){
            .size = sizeof q->problem.quantize_act, .m_max = m_max, .k = k};
        const anemo_status status = anemo_choose(&plan->chooser, q, act->name, m_max, err);
        if (status != ANEMO_OK) {
            return status;
        }
        take(plan, q, m_max);
        const size_t bytes = (size_t)m_max * act->row_bytes(k);
        plan->act_bytes = bytes > plan->act_bytes ? bytes : plan->act_bytes;
    }
    return ANEMO_OK;
}

anemo_status anemo_plan_matrix(anemo_plan *plan, anemo_tensor_role role, int64_t layer,
                               int64_t expert, anemo_matrix *out, anemo_error *err) {
    memset(out, 0, sizeof *out);
    return anemo_model_weight(plan->model, role, layer, expert, &out->canonical, err);
}

anemo_status anemo_plan_vector(anemo_plan *plan, anemo_tensor_role role, int64_t layer, float **out,
                               anemo_error *err) {
    const int64_t n = anemo_role_values(&plan->model->hparams, role);
    const size_t bytes = (size_t)n * sizeof **out;
    float *host = malloc(bytes);
    *out = anemo_plan_alloc(plan, ANEMO_MEM_WEIGHTS, bytes, "a norm or a bias", err);
    anemo_status status = host != NULL && *out != NULL ? ANEMO_OK : ANEMO_E_MEMORY;
    if (status == ANEMO_OK) {
        status = anemo_checkpoint_vector(plan->model->checkpoint, role, layer, host, n, err);
    }
    if (status == ANEMO_OK) {
        status = anemo_device_upload(plan->device, *out, host, bytes);
    }
    if (status == ANEMO_OK) {
        status = anemo_device_synchronise(plan->device, err);
    }
    free(host);
    return status;
}

anemo_status anemo_plan_gemm(anemo_plan *plan, const char *role, anemo_matrix *const *parts,
                             int32_t n_parts, anemo_epilogue epilogue, int64_t m_max,
                             anemo_gemm_call *out, anemo_error *err) {
    anemo_choice *choice = &out->choice;
    memset(out, 0, sizeof *out);
    choice->op = ANEMO_OP_QGEMM;
    choice->role = role;
    anemo_qgemm_problem *p = &choice->problem.qgemm;
    p->size = sizeof *p;
    p->n_parts = n_parts;
    p->m_max = m_max;
    p->k = parts[0]->canonical.k;
    p->epilogue = epilogue;
    p->activation = ANEMO_ACT_SILU;
    for (int32_t i = 0; i < n_parts; i++) {
        p->n[i] = parts[i]->canonical.n;
        p->type[i] = parts[i]->canonical.type;
        p->has_bias |= (parts[i]->bias != NULL) << i;
    }
    anemo_status status = anemo_plan_choose(plan, choice, m_max, err);
    if (status == ANEMO_OK) {
        status = choose_quantise(plan, out, p->k, m_max, err);
    }
    for (int32_t i = 0; i < n_parts && status == ANEMO_OK; i++) {
        status = anemo_plan_pack(plan, parts[i], choice->layout, err);
    }
    return status;
}

/* What a variant reads as weight: the packed bytes, or the canonical weight itself. */
static const void *weight_pointer(const anemo_matrix *matrix, const anemo_variant *variant) {
    return variant->layout != NULL ? matrix->packed : (const void *)&matrix->canonical;
}

/* The array of the experts' weights where the variant reads it. */
static anemo_status place_expert_table(anemo_plan *plan, anemo_layer *layer, anemo_error *err) {
    const size_t bytes = 3 * (size_t)layer->n_experts * sizeof *layer->expert_pointers;
    layer->expert_table = layer->expert_pointers;
    if (plan->chooser.backend == ANEMO_CPU) {
        return ANEMO_OK;
    }
    const void **table =
        anemo_plan_alloc(plan, ANEMO_MEM_WEIGHTS, bytes, "a table of experts", err);
    layer->expert_table = table;
    anemo_status status = table != NULL ? ANEMO_OK : ANEMO_E_MEMORY;
    if (status == ANEMO_OK) {
        status = anemo_device_upload(plan->device, table, layer->expert_pointers, bytes);
    }
    return status == ANEMO_OK ? anemo_device_synchronise(plan->device, err) : status;
}

anemo_status anemo_plan_experts(anemo_plan *plan, anemo_layer *layer, anemo_gemm_call *out,
                                anemo_error *err) {
    const anemo_hparams *h = &plan->model->hparams;
    const int64_t m_max = plan->limits.tokens_per_step, n = layer->n_experts;
    anemo_choice *choice = &out->choice;
    memset(out, 0, sizeof *out);
    choice->op = ANEMO_OP_MOE_EXPERTS;
    choice->role = "";
    choice->problem.moe_experts = (anemo_moe_experts_problem){
        .size = sizeof choice->problem.moe_experts,
        .tokens_max = m_max,
        .n_experts = (int32_t)n,
        .top_k = (int32_t)h->experts_per_token,
        .expert_end = (int32_t)n,
        .d = h->d,
        .ffn = h->ffn,
        .gate = layer->gate->canonical.type,
        .up = layer->up->canonical.type,
        .down = layer->down->canonical.type,
        .activation = h->arch == ANEMO_ARCH_GPTOSS ? ANEMO_ACT_SILU_CLAMPED : ANEMO_ACT_SILU,
        .has_bias = (layer->gate_bias != NULL) | (layer->up_bias != NULL) << 1 |
                    (layer->down_bias != NULL) << 2,
    };
    anemo_status status = anemo_plan_choose(plan, choice, m_max, err);
    if (status == ANEMO_OK) {
        status = choose_quantise(plan, out, h->d, m_max, err);
    }
    for (int64_t e = 0; e < n && status == ANEMO_OK; e++) {
        anemo_matrix *const parts[] = {&layer->gate[e], &layer->up[e], &layer->down[e]};
        for (int i = 0; i < 3 && status == ANEMO_OK; i++) {
            const anemo_weight_type *type = &parts[i]->canonical.type,
                                    *first = &layer->gate->canonical.type;
            first = i == 1   ? &layer->up->canonical.type
                    : i == 2 ? &layer->down->canonical.type
                             : first;
            if (memcmp(type, first, sizeof *type) != 0) {
                return anemo_fail(
                    err, ANEMO_E_UNSUPPORTED,
                    "experts of one layer are stored in different types; one type is accepted");
            }
            status = anemo_plan_pack(plan, parts[i], choice->layout, err);
            layer->expert_pointers[i * n + e] = weight_pointer(parts[i], choice->range[0].variant);
        }
    }
    return status == ANEMO_OK ? place_expert_table(plan, layer, err) : status;
}

/* ---------------------------------------------------------------- ops without weights */

/* The norms of q and k: a row is a head. */
static anemo_status choose_head_norms(anemo_plan *plan, anemo_error *err) {
    const anemo_hparams *h = &plan->model->hparams;
    const int64_t rows = plan->limits.tokens_per_step;
    if (!anemo_has_role(h, ANEMO_T_Q_NORM)) {
        return ANEMO_OK;
    }
    plan->q_norm = (anemo_choice){.op = ANEMO_OP_ADD_RMSNORM, .role = "q"};
    plan->q_norm.problem.add_rmsnorm =
        (anemo_add_rmsnorm_problem){.size = sizeof(anemo_add_rmsnorm_problem),
                                    .m_max = rows * h->heads,
                                    .d = h->head_dim,
                                    .eps = (float)h->rms_eps};
    plan->k_norm = plan->q_norm;
    plan->k_norm.role = "k";
    plan->k_norm.problem.add_rmsnorm.m_max = rows * h->kv_heads;
    const anemo_status status = anemo_plan_choose(plan, &plan->q_norm, rows * h->heads, err);
    return status == ANEMO_OK ? anemo_plan_choose(plan, &plan->k_norm, rows * h->kv_heads, err)
                              : status;
}

static anemo_status choose_attention_ops(anemo_plan *plan, anemo_error *err) {
    const anemo_hparams *h = &plan->model->hparams;
    const anemo_limits *l = &plan->limits;
    plan->kv_shape = (anemo_kv_shape){.n_heads = (int32_t)h->heads,
                                      .n_kv_heads = (int32_t)h->kv_heads,
                                      .head_dim = (int32_t)h->head_dim,
                                      .page_tokens = ANEMO_PAGE_TOKENS,
                                      .type = l->kv_type};
    plan->rope = (anemo_choice){.op = ANEMO_OP_ROPE_APPEND, .role = ""};
    plan->rope.problem.rope = (anemo_rope_problem){.size = sizeof(anemo_rope_problem),
                                                   .rows_max = l->tokens_per_step,
                                                   .sequences_max = l->sessions,
                                                   .kv = plan->kv_shape,
                                                   .rotary_dims = (int32_t)h->head_dim,
                                                   .pairing = h->rope_pairing,
                                                   .magnitude = anemo_rope_magnitude(h),
                                                   .temperature = (float)h->temperature,
                                                   .temperature_period = h->temperature_period};
    anemo_status status = anemo_plan_choose(plan, &plan->rope, l->tokens_per_step, err);
    return status == ANEMO_OK ? choose_head_norms(plan, err) : status;
}

static anemo_status choose_dense_ops(anemo_plan *plan, anemo_error *err) {
    const anemo_hparams *h = &plan->model->hparams;
    const anemo_limits *l = &plan->limits;
    plan->norm = (anemo_choice){.op = ANEMO_OP_ADD_RMSNORM, .role = "layer"};
    plan->norm.problem.add_rmsnorm =
        (anemo_add_rmsnorm_problem){.size = sizeof(anemo_add_rmsnorm_problem),
                                    .m_max = l->tokens_per_step,
                                    .d = h->d,
                                    .eps = (float)h->rms_eps};
    plan->head_norm = plan->norm;
    plan->head_norm.role = "output";
    plan->head_norm.problem.add_rmsnorm.m_max = l->logits_rows;
    plan->embed = (anemo_choice){.op = ANEMO_OP_EMBED, .role = ""};
    plan->embed.problem.embed = (anemo_embed_problem){.size = sizeof(anemo_embed_problem),
                                                      .m_max = l->tokens_per_step,
                                                      .vocab = h->vocab,
                                                      .d = h->d,
                                                      .type = plan->embed_matrix.canonical.type};
    plan->sample = (anemo_choice){.op = ANEMO_OP_SAMPLE, .role = ""};
    plan->sample.problem.sample = (anemo_sample_problem){
        .size = sizeof(anemo_sample_problem), .m_max = l->logits_rows, .vocab = h->vocab};
    anemo_status status = anemo_plan_choose(plan, &plan->embed, l->tokens_per_step, err);
    if (status == ANEMO_OK) {
        status = anemo_plan_choose(plan, &plan->norm, l->tokens_per_step, err);
    }
    if (status == ANEMO_OK) {
        status = anemo_plan_choose(plan, &plan->head_norm, l->logits_rows, err);
    }
    return status == ANEMO_OK ? anemo_plan_choose(plan, &plan->sample, l->logits_rows, err)
                              : status;
}

static anemo_status choose_moe_ops(anemo_plan *plan, anemo_error *err) {
    const anemo_hparams *h = &plan->model->hparams;
    const int64_t m_max = plan->limits.tokens_per_step;
    if (h->experts == 0) {
        return ANEMO_OK;
    }
    plan->route = (anemo_choice){.op = ANEMO_OP_MOE_ROUTE, .role = ""};
    plan->route.problem.moe_route =
        (anemo_moe_route_problem){.size = sizeof(anemo_moe_route_problem),
                                  .tokens_max = m_max,
                                  .n_experts = (int32_t)h->experts,
                                  .top_k = (int32_t)h->experts_per_token,
                                  .score = ANEMO_MOE_SOFTMAX,
                                  .renormalise = !h->raw_weights,
                                  .scale = 1.0f};
    plan->combine = (anemo_choice){.op = ANEMO_OP_MOE_COMBINE, .role = ""};
    plan->combine.problem.moe_combine =
        (anemo_moe_combine_problem){.size = sizeof(anemo_moe_combine_problem),
                                    .tokens_max = m_max,
                                    .d = h->d,
                                    .top_k = (int32_t)h->experts_per_token,
                                    .accumulate = 1};
    const anemo_status status = anemo_plan_choose(plan, &plan->route, m_max, err);
    return status == ANEMO_OK ? anemo_plan_choose(plan, &plan->combine, m_max, err) : status;
}

/* ---------------------------------------------------------------- layers, output, buffers */

/* Have some layers a window and some none? */
static bool mixes_windows(const anemo_hparams *h) {
    const int64_t n_full = anemo_full_layers(h);
    return n_full > 0 && n_full < h->layers;
}

static anemo_status resolve_layers(anemo_plan *plan, anemo_error *err) {
    const anemo_hparams *h = &plan->model->hparams;
    plan->layers = calloc((size_t)h->layers, sizeof *plan->layers);
    if (plan->layers == NULL) {
        return anemo_fail(err, ANEMO_E_MEMORY, "plan: no memory for %lld layers",
                          (long long)h->layers);
    }
    const int64_t n = h->experts > 0 ? h->experts : 1;
    for (int64_t i = 0; i < h->layers; i++) {
        anemo_layer *layer = &plan->layers[i];
        layer->n_experts = n;
        layer->swa =
            mixes_windows(h) && anemo_layer_window(h, i) == 0 ? &plan->swa_full : &plan->swa;
        layer->gate = calloc((size_t)n, sizeof *layer->gate);
        layer->up = calloc((size_t)n, sizeof *layer->up);
        layer->down = calloc((size_t)n, sizeof *layer->down);
        layer->expert_pointers = calloc(3 * (size_t)n, sizeof *layer->expert_pointers);
        if (layer->gate == NULL || layer->up == NULL || layer->down == NULL ||
            layer->expert_pointers == NULL) {
            return anemo_fail(err, ANEMO_E_MEMORY, "plan: no memory for %lld experts",
                              (long long)n);
        }
        const anemo_status status = plan->family->resolve_layer(plan, i, err);
        if (status != ANEMO_OK) {
            return status;
        }
    }
    return ANEMO_OK;
}

static anemo_status resolve_rope(anemo_plan *plan, anemo_error *err) {
    const anemo_hparams *h = &plan->model->hparams;
    const int64_t pairs = h->head_dim / 2;
    const size_t bytes = (size_t)pairs * sizeof(float);
    float *inv_freq = malloc(2 * bytes);
    plan->inv_freq = anemo_plan_alloc(plan, ANEMO_MEM_WEIGHTS, bytes, "RoPE", err);
    anemo_status status = inv_freq != NULL && plan->inv_freq != NULL ? ANEMO_OK : ANEMO_E_MEMORY;
    if (status == ANEMO_OK && anemo_has_role(h, ANEMO_T_ROPE_FACTORS)) {
        status = anemo_checkpoint_vector(plan->model->checkpoint, ANEMO_T_ROPE_FACTORS, 0,
                                         inv_freq + pairs, pairs, err);
        for (int64_t i = pairs; i < 2 * pairs && status == ANEMO_OK; i++) {
            if (!(inv_freq[i] >= 1e-6f && inv_freq[i] <= 1e6f)) {
                status = anemo_fail(err, ANEMO_E_INPUT,
                                    "rope_freqs.weight: value %lld is %g; accepted: 1e-6 to 1e6",
                                    (long long)(i - pairs), (double)inv_freq[i]);
            }
        }
    }
    if (status == ANEMO_OK) {
        anemo_rope_frequencies(h, inv_freq + pairs, inv_freq);
        status = anemo_device_upload(plan->device, plan->inv_freq, inv_freq, bytes);
        anemo_device_synchronise(plan->device, NULL);
    }
    free(inv_freq);
    return status;
}

static anemo_status resolve_ends(anemo_plan *plan, anemo_error *err) {
    anemo_status status = resolve_rope(plan, err);
    anemo_matrix *const output[] = {&plan->output_matrix};
    if (status == ANEMO_OK) {
        status = anemo_plan_vector(plan, ANEMO_T_OUTPUT_NORM, 0, &plan->output_norm, err);
    }
    if (status == ANEMO_OK) {
        status = anemo_plan_matrix(plan, ANEMO_T_OUTPUT, 0, 0, &plan->output_matrix, err);
    }
    return status == ANEMO_OK ? anemo_plan_gemm(plan, "output", output, 1, ANEMO_EPI_STORE,
                                                plan->limits.logits_rows, &plan->output, err)
                              : status;
}

/* One choice for the layers with a window and one for those without: both only where they mix. */
static anemo_status choose_swa(anemo_plan *plan, anemo_error *err) {
    const anemo_hparams *h = &plan->model->hparams;
    const anemo_limits *l = &plan->limits;
    const bool mixed = mixes_windows(h);
    anemo_status status = ANEMO_OK;
    plan->chooser.keeps_floats = !plan->rounds_activations;
    plan->swa = (anemo_choice){.op = ANEMO_OP_SWA, .role = mixed ? "window" : ""};
    plan->swa.problem.swa = (anemo_swa_problem){.size = sizeof(anemo_swa_problem),
                                                .rows_max = l->tokens_per_step,
                                                .sequences_max = l->sessions,
                                                .context_max = l->context,
                                                .kv = plan->kv_shape,
                                                .window = h->window,
                                                .scale = 1.0f / sqrtf((float)h->head_dim),
                                                .has_sinks = anemo_has_role(h, ANEMO_T_SINKS)};
    if (mixed) {
        plan->swa_full = plan->swa;
        plan->swa_full.role = "full";
        plan->swa_full.problem.swa.window = 0;
        status = anemo_plan_choose(plan, &plan->swa_full, l->tokens_per_step, err);
    }
    return status == ANEMO_OK ? anemo_plan_choose(plan, &plan->swa, l->tokens_per_step, err)
                              : status;
}

/* One line per buffer: where the pointer goes and how many bytes. */
static anemo_status allocate_buffers(anemo_plan *plan, anemo_error *err) {
    const anemo_hparams *h = &plan->model->hparams;
    const size_t t = (size_t)plan->limits.tokens_per_step, s = (size_t)plan->limits.sessions;
    const size_t logits = (size_t)plan->limits.logits_rows, f = sizeof(float), i = sizeof(int32_t);
    const size_t d = (size_t)h->d, kv = (size_t)(h->kv_heads * h->head_dim);
    const size_t q = (size_t)(h->heads * h->head_dim), e = (size_t)h->experts;
    const size_t chosen = t * (size_t)h->experts_per_token, moe = e > 0;
    anemo_buffers *b = &plan->buf;
    const struct {
        void **pointer;
        size_t bytes;
    } wanted[] = {
        {(void **)&b->x, t * d * f},
        {(void **)&b->h, t * d * f},
        {(void **)&b->q, t * q * f},
        {(void **)&b->k, t * kv * f},
        {(void **)&b->v, t * kv * f},
        {(void **)&b->k_normed, plan->k_norm.n_ranges > 0 ? t * kv * f : 0},
        {(void **)&b->att, t * q * f},
        {(void **)&b->ffn, moe ? 0 : t * (size_t)h->ffn * f},
        {(void **)&b->router, t * e * f},
        {(void **)&b->rows, chosen * d * f},
        {(void **)&b->act, plan->act_bytes},
        {(void **)&b->moe.expert, chosen * i},
        {(void **)&b->moe.weight, chosen * f},
        {(void **)&b->moe.count, e * i},
        {(void **)&b->moe.offset, (e + 1) * i},
        {(void **)&b->moe.row_token, chosen * i},
        {(void **)&b->moe.row_of, chosen * i},
        {(void **)&b->head, logits * d * f},
        {(void **)&b->logits, logits * (size_t)h->vocab * f},
        {(void **)&b->ids, t * i},
        {(void **)&b->row_start, (s + 1) * i},
        {(void **)&b->tail_start, (s + 1) * i},
        {(void **)&b->table_start, s * i},
        {(void **)&b->pages, (size_t)plan->table_capacity * i},
        {(void **)&b->logit_rows, logits * i},
        {(void **)&b->sampled, logits * i},
        {(void **)&b->first, s * sizeof(int64_t)},
        {(void **)&b->length, s * sizeof(int64_t)},
        {(void **)&b->params, logits * sizeof(anemo_sample_params)},
    };
    b->moe.size = sizeof b->moe;
    for (size_t n = 0; n < sizeof wanted / sizeof *wanted; n++) {
        *wanted[n].pointer = anemo_plan_alloc(plan, ANEMO_MEM_STEP, wanted[n].bytes,
                                              "the activations of a step", err);
        if (*wanted[n].pointer == NULL) {
            return ANEMO_E_MEMORY;
        }
    }
    return ANEMO_OK;
}

/* Pages that one session can hold: its whole context, or what its window and one step can touch. */
static int64_t session_pages(const anemo_plan *plan) {
    const anemo_hparams *h = &plan->model->hparams;
    const int64_t window = anemo_full_layers(h) > 0 ? 0 : h->window;
    int64_t tokens = plan->limits.context;
    if (window > 0 && window + plan->limits.tokens_per_step < tokens) {
        tokens = window + plan->limits.tokens_per_step;
    }
    return (tokens + ANEMO_PAGE_TOKENS - 1) / ANEMO_PAGE_TOKENS + 1;
}

static anemo_status create_pages(anemo_plan *plan, anemo_error *err) {
    const anemo_hparams *h = &plan->model->hparams;
    const int64_t per_session = session_pages(plan);
    int64_t n_pages = per_session * plan->limits.sessions;
    if (plan->limits.kv_tokens > 0) {
        n_pages = (plan->limits.kv_tokens + ANEMO_PAGE_TOKENS - 1) / ANEMO_PAGE_TOKENS;
    }
    if (n_pages > INT32_MAX) {
        return anemo_fail(err, ANEMO_E_INPUT, "plan: %lld KV pages; at most %d are accepted",
                          (long long)n_pages, INT32_MAX);
    }
    plan->table_capacity = per_session * plan->limits.sessions;
    const size_t page_bytes = anemo_kv_page_bytes(plan->limits.kv_type, (int32_t)h->kv_heads,
                                                  (int32_t)h->head_dim, ANEMO_PAGE_TOKENS);
    return anemo_pages_create(plan->device, h->layers, (int32_t)n_pages, page_bytes, &plan->pages,
                              err);
}

static size_t call_workspace(const anemo_gemm_call *call, int32_t n_threads, size_t most) {
    size_t bytes = anemo_choice_workspace_bytes(&call->choice, n_threads);
    for (int32_t i = 0; i < ANEMO_CHOICE_RANGES; i++) {
        const size_t q = anemo_choice_workspace_bytes(&call->quantise[i], n_threads);
        bytes = q > bytes ? q : bytes;
    }
    return bytes > most ? bytes : most;
}

static anemo_status allocate_workspace(anemo_plan *plan, anemo_error *err) {
    const int32_t threads = plan->exec.n_threads;
    const anemo_choice *ops[] = {&plan->embed,   &plan->rope,      &plan->swa,    &plan->swa_full,
                                 &plan->norm,    &plan->q_norm,    &plan->k_norm, &plan->route,
                                 &plan->combine, &plan->head_norm, &plan->sample};
    size_t most = call_workspace(&plan->output, threads, 0);
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++) {
        const size_t bytes = anemo_choice_workspace_bytes(ops[i], threads);
        most = bytes > most ? bytes : most;
    }
    for (int64_t i = 0; i < plan->model->hparams.layers; i++) {
        const anemo_layer *l = &plan->layers[i];
        const anemo_gemm_call *calls[] = {&l->qkv[0],  &l->qkv[1],    &l->qkv[2],      &l->o_proj,
                                          &l->gate_up, &l->down_proj, &l->router_proj, &l->experts};
        for (size_t c = 0; c < sizeof calls / sizeof *calls; c++) {
            most = call_workspace(calls[c], threads, most);
        }
    }
    plan->exec.workspace_bytes = most;
    plan->exec.workspace = anemo_plan_alloc(plan, ANEMO_MEM_WORKSPACE, most, "the workspace", err);
    return plan->exec.workspace != NULL ? ANEMO_OK : ANEMO_E_MEMORY;
}

/* anew: a packed cache that is there already is not read. */
static anemo_status build(anemo_plan *plan, const anemo_plan_options *options, bool anew,
                          anemo_error *err) {
    anemo_status status = check_limits(plan, &options->limits, err);
    if (status == ANEMO_OK) {
        status = parse_rules(plan, options, err);
    }
    if (status == ANEMO_OK && options->packed_cache != NULL) {
        status =
            anemo_packed_cache_open(options->packed_cache, plan->model, anew, &plan->cache, err);
        anemo_checkpoint_expect(plan->model->checkpoint,
                                plan->cache == NULL || !anemo_packed_cache_reads(plan->cache));
    }
    if (status == ANEMO_OK && plan->chooser.backend != ANEMO_CPU) {
        status = anemo_device_create_cpu(0, NULL, &plan->packers, err);
    }
    if (status == ANEMO_OK) {
        status = anemo_plan_foresee(plan, err);
    }
    if (status == ANEMO_OK) {
        status = anemo_plan_matrix(plan, ANEMO_T_EMBED, 0, 0, &plan->embed_matrix, err);
    }
    anemo_status (*const stages[])(anemo_plan *, anemo_error *) = {
        choose_attention_ops,   choose_dense_ops, choose_moe_ops,
        resolve_layers,         resolve_ends,     choose_swa,
        create_pages,           allocate_buffers, allocate_workspace,
        anemo_plan_create_host,
    };
    for (size_t i = 0; i < sizeof stages / sizeof *stages && status == ANEMO_OK; i++) {
        status = stages[i](plan, err);
    }
    if (status == ANEMO_OK) {
        status = anemo_plan_pack(plan, &plan->embed_matrix, plan->embed.layout, err);
    }
    anemo_device_free(plan->packers);
    plan->packers = NULL;
    if (status == ANEMO_OK) {
        status = all_rules_used(plan, err);
    }
    return status == ANEMO_OK && plan->cache != NULL ? anemo_packed_cache_finish(plan->cache, err)
                                                     : status;
}

static anemo_plan *new_plan(anemo_model *model, anemo_device *device,
                            const anemo_plan_options *options) {
    anemo_plan *plan = calloc(1, sizeof *plan);
    if (plan == NULL) {
        return NULL;
    }
    plan->model = model;
    plan->device = device;
    plan->exec = anemo_device_exec(device);
    plan->graph_rows = INT64_MAX;
    plan->on_route = options->on_route;
    plan->on_route_ctx = options->on_route_ctx;
    plan->on_pack = options->on_pack;
    plan->on_pack_ctx = options->on_pack_ctx;
    plan->family = anemo_arch_family_of(model->hparams.arch);
    return plan;
}

/* A packed cache can turn out to be another's in the middle of a plan; then the plan is made once
 * more, without reading it. */
anemo_status anemo_plan_create(anemo_model *model, anemo_device *device,
                               const anemo_plan_options *options, anemo_plan **out,
                               anemo_error *err) {
    char refused[sizeof(((anemo_plan *)NULL)->cache_note)] = "";
    *out = NULL;
    for (bool anew = false;; anew = true) {
        anemo_plan *plan = new_plan(model, device, options);
        if (plan == NULL) {
            return anemo_fail(err, ANEMO_E_MEMORY, "plan: no memory");
        }
        const anemo_status status = build(plan, options, anew, err);
        anemo_checkpoint_expect(model->checkpoint, true);
        if (status == ANEMO_OK) {
            anemo_plan_note_cache(plan, refused);
            *out = plan;
            return ANEMO_OK;
        }
        const bool again = !anew && plan->cache != NULL && anemo_packed_cache_reads(plan->cache) &&
                           anemo_packed_cache_refused(plan->cache)[0] != '\0';
        if (again) {
            snprintf(refused, sizeof refused, "%s", anemo_packed_cache_refused(plan->cache));
        }
        anemo_plan_free(plan);
        if (!again) {
            return status;
        }
    }
}

void anemo_plan_free(anemo_plan *plan) {
    if (plan == NULL) {
        return;
    }
    anemo_plan_free_graphs(plan);
    for (struct allocation *a = plan->allocations; a != NULL;) {
        struct allocation *next = a->next;
        anemo_device_dealloc(plan->device, a->use, a->memory, a->bytes);
        free(a);
        a = next;
    }
    for (int64_t i = 0; plan->layers != NULL && i < plan->model->hparams.layers; i++) {
        free(plan->layers[i].gate);
        free(plan->layers[i].up);
        free(plan->layers[i].down);
        free(plan->layers[i].expert_pointers);
    }
    free(plan->layers);
    free(plan->chooser.rules);
    free(plan->choice_text);
    free(plan->calls);
    anemo_plan_free_host(plan);
    anemo_pages_free(&plan->pages);
    anemo_packed_cache_close(plan->cache);
    free(plan);
}
