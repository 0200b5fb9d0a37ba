/* The blocks that model families share: attention, dense feed-forward, mixture of experts. Shapes:
 * m rows of the step, d = hidden size; each block reads and adds to the residual stream x [m, d].
 */
#include "models/arch/arch.h"

#include <string.h>

const anemo_arch_family *anemo_arch_family_of(anemo_arch arch) {
    static const anemo_arch_family *const families[ANEMO_ARCH_COUNT] = {
        [ANEMO_ARCH_MISTRAL] = &anemo_family_mistral,
        [ANEMO_ARCH_MIXTRAL] = &anemo_family_mixtral,
        [ANEMO_ARCH_LLAMA] = &anemo_family_llama,
        [ANEMO_ARCH_MINISTRAL] = &anemo_family_ministral,
        [ANEMO_ARCH_MINISTRAL3] = &anemo_family_ministral3,
        [ANEMO_ARCH_QWEN3MOE] = &anemo_family_qwen3_moe,
        [ANEMO_ARCH_GPTOSS] = &anemo_family_gpt_oss};
    return families[arch];
}

/* A vector that only some families have; *out stays NULL in the others. */
static anemo_status optional_vector(anemo_plan *plan, anemo_tensor_role role, int64_t index,
                                    float **out, anemo_error *err) {
    return anemo_has_role(&plan->model->hparams, role)
               ? anemo_plan_vector(plan, role, index, out, err)
               : ANEMO_OK;
}

/* h = rmsnorm(x) * weight over m rows. */
static anemo_status norm_forward(const anemo_plan *plan, const float *weight, int64_t m) {
    const anemo_add_rmsnorm_args args = {
        .size = sizeof args, .m = m, .x = plan->buf.x, .weight = weight, .y = plan->buf.h};
    return anemo_plan_run(plan, &plan->norm, m, &args);
}

/* ---------------------------------------------------------------- attention */

/* Files mix types (Q4_K_M: v in Q6_K), and a fast variant reads one: neighbours of one type share a
 * call. */
static anemo_status qkv_resolve(anemo_plan *plan, anemo_layer *layer, anemo_matrix *const qkv[3],
                                anemo_error *err) {
    anemo_status status = ANEMO_OK;
    for (int32_t i = 0, n; i < 3 && status == ANEMO_OK; i += n) {
        n = 1;
        while (i + n < 3 && memcmp(&qkv[i]->canonical.type, &qkv[i + n]->canonical.type,
                                   sizeof qkv[i]->canonical.type) == 0) {
            n++;
        }
        status = anemo_plan_gemm(plan, "qkv", qkv + i, n, ANEMO_EPI_STORE,
                                 plan->limits.tokens_per_step, &layer->qkv[layer->n_qkv++], err);
    }
    return status;
}

anemo_status anemo_attention_resolve(anemo_plan *plan, int64_t index, anemo_error *err) {
    anemo_layer *layer = &plan->layers[index];
    const int64_t m_max = plan->limits.tokens_per_step;
    anemo_matrix *const qkv[] = {&layer->q, &layer->k, &layer->v};
    anemo_matrix *const o[] = {&layer->o};
    anemo_status status = anemo_plan_vector(plan, ANEMO_T_ATTN_NORM, index, &layer->attn_norm, err);
    for (int i = 0; i < 3 && status == ANEMO_OK; i++) {
        status = anemo_plan_matrix(plan, ANEMO_T_Q + i, index, 0, qkv[i], err);
    }
    if (status == ANEMO_OK) {
        status = anemo_plan_matrix(plan, ANEMO_T_O, index, 0, &layer->o, err);
    }
    const struct {
        anemo_tensor_role role;
        float **vector;
    } extras[] = {{ANEMO_T_Q_NORM, &layer->q_norm}, {ANEMO_T_K_NORM, &layer->k_norm},
                  {ANEMO_T_Q_BIAS, &layer->q.bias}, {ANEMO_T_K_BIAS, &layer->k.bias},
                  {ANEMO_T_V_BIAS, &layer->v.bias}, {ANEMO_T_O_BIAS, &layer->o.bias},
                  {ANEMO_T_SINKS, &layer->sinks}};
    for (size_t i = 0; i < sizeof extras / sizeof *extras && status == ANEMO_OK; i++) {
        status = optional_vector(plan, extras[i].role, index, extras[i].vector, err);
    }
    if (status == ANEMO_OK) {
        status = qkv_resolve(plan, layer, qkv, err);
    }
    if (status == ANEMO_OK) {
        status = anemo_plan_gemm(plan, "o", o, 1, ANEMO_EPI_ADD, m_max, &layer->o_proj, err);
    }
    return status;
}

static anemo_status qkv_forward(const anemo_plan *plan, const anemo_layer *layer) {
    const anemo_buffers *b = &plan->buf;
    const anemo_matrix *const parts[] = {&layer->q, &layer->k, &layer->v};
    float *const y[] = {b->q, b->k, b->v};
    const int64_t y_stride[] = {layer->q.canonical.n, layer->k.canonical.n, layer->v.canonical.n};
    anemo_status status = ANEMO_OK;
    for (int32_t c = 0, i = 0; c < layer->n_qkv && status == ANEMO_OK; c++) {
        status = anemo_plan_run_gemm(plan, &layer->qkv[c], plan->rows, b->h, parts + i, y + i,
                                     y_stride + i);
        i += layer->qkv[c].choice.problem.qgemm.n_parts;
    }
    return status;
}

/* RMSNorm of each head of q and k. The op does not write in place: *q becomes b->att, which nobody
 * needs before attention is done, and *k a buffer of its own. */
static anemo_status head_norms_forward(const anemo_plan *plan, const anemo_layer *layer, float **q,
                                       float **k) {
    const anemo_buffers *b = &plan->buf;
    const int64_t q_rows = plan->rows * plan->kv_shape.n_heads;
    const int64_t k_rows = plan->rows * plan->kv_shape.n_kv_heads;
    const anemo_add_rmsnorm_args q_args = {
        .size = sizeof q_args, .m = q_rows, .x = b->q, .weight = layer->q_norm, .y = b->att};
    const anemo_add_rmsnorm_args k_args = {
        .size = sizeof k_args, .m = k_rows, .x = b->k, .weight = layer->k_norm, .y = b->k_normed};
    *q = b->att;
    *k = b->k_normed;
    const anemo_status status = anemo_plan_run(plan, &plan->q_norm, q_rows, &q_args);
    return status == ANEMO_OK ? anemo_plan_run(plan, &plan->k_norm, k_rows, &k_args) : status;
}

/* Attention of m rows behind their projections, and its product with the output matrix. */
static anemo_status attend_forward(const anemo_plan *plan, const anemo_layer *layer, int64_t m,
                                   const anemo_kv_view *view, const float *q, float *out) {
    const anemo_buffers *b = &plan->buf;
    const anemo_swa_args args = {
        .size = sizeof args, .rows = m, .q = q, .kv = *view, .sinks = layer->sinks, .out = out};
    const anemo_status status = anemo_plan_run(plan, layer->swa, m, &args);
    return status == ANEMO_OK ? anemo_plan_run_gemm(plan, &layer->o_proj, m, out,
                                                    (const anemo_matrix *const[]){&layer->o},
                                                    (float *const[]){b->x},
                                                    (const int64_t[]){layer->o.canonical.n})
                              : status;
}

anemo_status anemo_attention_forward(const anemo_plan *plan, int64_t index) {
    const anemo_layer *layer = &plan->layers[index];
    const anemo_buffers *b = &plan->buf;
    const int64_t m = anemo_layer_rows(plan, index);
    float *q = b->q, *k = b->k;
    anemo_kv_view view = plan->view;
    view.pool = anemo_pages_layer(&plan->pages, index);

    anemo_status status = norm_forward(plan, layer->attn_norm, plan->rows);
    if (status == ANEMO_OK) {
        status = qkv_forward(plan, layer);
    }
    if (status == ANEMO_OK && layer->q_norm != NULL) {
        status = head_norms_forward(plan, layer, &q, &k);
    }
    if (status == ANEMO_OK) {
        const anemo_rope_args args = {.size = sizeof args,
                                      .rows = plan->rows,
                                      .q = q,
                                      .k = k,
                                      .v = b->v,
                                      .inv_freq = plan->inv_freq,
                                      .kv = view};
        status = anemo_plan_run(plan, &plan->rope, plan->rows, &args);
    }
    float *other = q == b->q ? b->att : b->q; /* [m, heads, head_dim] */
    if (status == ANEMO_OK && m < plan->rows) {
        float *const all = q;
        status = anemo_tail_take(plan, all, other);
        q = other;
        other = all;
        view.row_start = b->tail_start;
    }
    return status == ANEMO_OK && m > 0 ? attend_forward(plan, layer, m, &view, q, other) : status;
}

/* ---------------------------------------------------------------- feed-forward */

/* Norm and the gate, up and down matrices of `n` experts (1 when dense). */
static anemo_status ffn_load(anemo_plan *plan, int64_t index, anemo_error *err) {
    anemo_layer *layer = &plan->layers[index];
    anemo_status status = anemo_plan_vector(plan, ANEMO_T_FFN_NORM, index, &layer->ffn_norm, err);
    for (int64_t e = 0; e < layer->n_experts && status == ANEMO_OK; e++) {
        status = anemo_plan_matrix(plan, ANEMO_T_GATE, index, e, &layer->gate[e], err);
        if (status == ANEMO_OK) {
            status = anemo_plan_matrix(plan, ANEMO_T_UP, index, e, &layer->up[e], err);
        }
        if (status == ANEMO_OK) {
            status = anemo_plan_matrix(plan, ANEMO_T_DOWN, index, e, &layer->down[e], err);
        }
    }
    return status;
}

anemo_status anemo_dense_ffn_resolve(anemo_plan *plan, int64_t index, anemo_error *err) {
    anemo_layer *layer = &plan->layers[index];
    const int64_t m_max = plan->limits.tokens_per_step;
    anemo_matrix *const gate_up[] = {layer->gate, layer->up};
    anemo_matrix *const down[] = {layer->down};
    anemo_status status = ffn_load(plan, index, err);
    if (status == ANEMO_OK) {
        status = anemo_plan_gemm(plan, "gate_up", gate_up, 2, ANEMO_EPI_ACT_MUL, m_max,
                                 &layer->gate_up, err);
    }
    if (status == ANEMO_OK) {
        status =
            anemo_plan_gemm(plan, "down", down, 1, ANEMO_EPI_ADD, m_max, &layer->down_proj, err);
    }
    return status;
}

anemo_status anemo_dense_ffn_forward(const anemo_plan *plan, int64_t index) {
    const anemo_layer *layer = &plan->layers[index];
    const anemo_buffers *b = &plan->buf;
    const int64_t m = anemo_layer_rows(plan, index);
    const int64_t ffn = layer->gate->canonical.n, d = layer->down->canonical.n;
    if (m == 0) {
        return ANEMO_OK;
    }
    anemo_status status = norm_forward(plan, layer->ffn_norm, m);
    if (status == ANEMO_OK) {
        status = anemo_plan_run_gemm(plan, &layer->gate_up, m, b->h,
                                     (const anemo_matrix *const[]){layer->gate, layer->up},
                                     (float *const[]){b->ffn, NULL}, (const int64_t[]){ffn, ffn});
    }
    if (status == ANEMO_OK) {
        status = anemo_plan_run_gemm(plan, &layer->down_proj, m, b->ffn,
                                     (const anemo_matrix *const[]){layer->down},
                                     (float *const[]){b->x}, (const int64_t[]){d});
    }
    return status;
}

/* ---------------------------------------------------------------- mixture of experts */

anemo_status anemo_moe_resolve(anemo_plan *plan, int64_t index, anemo_error *err) {
    anemo_layer *layer = &plan->layers[index];
    anemo_matrix *const router[] = {&layer->router};
    anemo_status status = ffn_load(plan, index, err);
    if (status == ANEMO_OK) {
        status = anemo_plan_matrix(plan, ANEMO_T_ROUTER, index, 0, &layer->router, err);
    }
    const struct {
        anemo_tensor_role role;
        float **vector;
    } extras[] = {{ANEMO_T_ROUTER_BIAS, &layer->router.bias},
                  {ANEMO_T_GATE_BIAS, &layer->gate_bias},
                  {ANEMO_T_UP_BIAS, &layer->up_bias},
                  {ANEMO_T_DOWN_BIAS, &layer->down_bias}};
    for (size_t i = 0; i < sizeof extras / sizeof *extras && status == ANEMO_OK; i++) {
        status = optional_vector(plan, extras[i].role, index, extras[i].vector, err);
    }
    if (status == ANEMO_OK) {
        status = anemo_plan_gemm(plan, "router", router, 1, ANEMO_EPI_STORE,
                                 plan->limits.tokens_per_step, &layer->router_proj, err);
    }
    return status == ANEMO_OK ? anemo_plan_experts(plan, layer, &layer->experts, err) : status;
}

static anemo_status route_forward(const anemo_plan *plan, const anemo_layer *layer, int64_t index,
                                  int64_t m) {
    const anemo_buffers *b = &plan->buf;
    const int64_t n_experts = layer->n_experts;
    anemo_status status = anemo_plan_run_gemm(
        plan, &layer->router_proj, m, b->h, (const anemo_matrix *const[]){&layer->router},
        (float *const[]){b->router}, (const int64_t[]){n_experts});
    if (status == ANEMO_OK) {
        const anemo_moe_route_args args = {
            .size = sizeof args, .tokens = m, .logits = b->router, .plan = b->moe};
        status = anemo_plan_run(plan, &plan->route, m, &args);
    }
    if (status == ANEMO_OK && plan->on_route != NULL) {
        status = anemo_plan_observe_route(plan, index);
    }
    return status;
}

anemo_status anemo_moe_forward(const anemo_plan *plan, int64_t index) {
    const anemo_layer *layer = &plan->layers[index];
    const anemo_buffers *b = &plan->buf;
    const int64_t m = anemo_layer_rows(plan, index), n_experts = layer->n_experts;
    const void *input = NULL;
    if (m == 0) {
        return ANEMO_OK;
    }
    anemo_status status = norm_forward(plan, layer->ffn_norm, m);
    if (status == ANEMO_OK) {
        status = route_forward(plan, layer, index, m);
    }
    if (status == ANEMO_OK) {
        status = anemo_plan_activations(plan, &layer->experts, m, b->h, &input);
    }
    if (status == ANEMO_OK) {
        const anemo_moe_experts_args args = {.size = sizeof args,
                                             .tokens = m,
                                             .x = input,
                                             .plan = b->moe,
                                             .gate = layer->expert_table,
                                             .up = layer->expert_table + n_experts,
                                             .down = layer->expert_table + 2 * n_experts,
                                             .gate_bias = layer->gate_bias,
                                             .up_bias = layer->up_bias,
                                             .down_bias = layer->down_bias,
                                             .rows = b->rows};
        status = anemo_plan_run(plan, &layer->experts.choice, m, &args);
    }
    if (status == ANEMO_OK) {
        const anemo_moe_combine_args args = {
            .size = sizeof args, .tokens = m, .rows = b->rows, .plan = b->moe, .y = b->x};
        status = anemo_plan_run(plan, &plan->combine, m, &args);
    }
    return status;
}
