/* qgemm and moe_experts on int8 activations (a8_row) with faults: their tolerances are others than
 * those of float, and must still tell right from wrong. */
#include "tests/plugins/wrong.h"

typedef enum fault {
    NOTHING,
    SCALED,
    SCALED_A_LITTLE,
    ONE_ELEMENT,
    OTHER_ROWS_SCALE,
    /* experts */
    EXPERTS_NOTHING,
    EXPERTS_SCALED,
    EXPERTS_ONE_ELEMENT,
    EXPERTS_SWAPPED
} fault;

/* The a8_row record of one row: int8 codes[padded], float scale, int32 sum. */
static void read_record(const void *x, int64_t row, int64_t k, int64_t scale_row, float *out) {
    const int64_t padded = anemo_a8_padded_k(k), bytes = (padded + 8 + 63) / 64 * 64;
    const int8_t *codes = (const int8_t *)x + row * bytes;
    float scale;
    memcpy(&scale, (const int8_t *)x + scale_row * bytes + padded, sizeof scale);
    for (int64_t i = 0; i < k; i++)
        out[i] = scale * codes[i];
}

static void quantise_in_place(float *h, int64_t n) {
    float largest = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(h[i]));
    for (int64_t i = 0; i < n && largest > 0; i++)
        h[i] = nearbyintf(h[i] * (127 / largest)) * (largest / 127);
}

static anemo_status qgemm(const anemo_qgemm_problem *p, const anemo_qgemm_args *a, fault f) {
    float *x = malloc((size_t)p->k * sizeof *x);
    for (int part = 0; part < p->n_parts; part++) {
        float *w = wrong_matrix(a->weight[part]);
        for (int64_t i = 0; i < a->m; i++) {
            read_record(a->x, i, p->k, f == OTHER_ROWS_SCALE ? (i + 1) % a->m : i, x);
            for (int64_t j = 0; j < p->n[part]; j++) {
                float y = wrong_dot(x, w + j * p->k, p->k, false);
                y *= f == SCALED ? 1.1f : f == SCALED_A_LITTLE ? 1.001f : 1;
                y += p->has_bias >> part & 1 ? a->bias[part][j] : 0;
                a->y[part][i * a->y_stride[part] + j] = y;
            }
        }
        free(w);
    }
    if (f == ONE_ELEMENT)
        a->y[0][0] += 0.25f;
    free(x);
    return ANEMO_OK;
}

static void expert_row(const anemo_moe_experts_problem *p, const anemo_moe_experts_args *a,
                       int32_t e, const float *x, float *w, float *y, fault f) {
    float *h = w + p->d + p->ffn;
    for (int64_t j = 0; j < p->ffn; j++) {
        wrong_row(a->gate[e], j, w);
        const float g = wrong_dot(x, w, p->d, false);
        wrong_row(a->up[e], j, w);
        h[j] = wrong_act_mul(p->activation, g, wrong_dot(x, w, p->d, false));
    }
    quantise_in_place(h, p->ffn);
    for (int64_t i = 0; i < p->d; i++) {
        wrong_row(a->down[e], i, w);
        y[i] = wrong_dot(h, w, p->ffn, false) * (f == EXPERTS_SCALED ? 1.1f : 1);
    }
}

static anemo_status experts(const anemo_moe_experts_problem *p, const anemo_moe_experts_args *a,
                            fault f) {
    float *x = malloc((size_t)(2 * p->d + 2 * p->ffn) * sizeof *x);
    for (int32_t e = p->expert_begin; e < p->expert_end; e++)
        for (int32_t r = a->plan.offset[e]; r < a->plan.offset[e + 1]; r++) {
            const int32_t other = e > p->expert_begin ? e - 1 : p->expert_end - 1;
            read_record(a->x, a->plan.row_token[r], p->d, a->plan.row_token[r], x);
            expert_row(p, a, f == EXPERTS_SWAPPED ? other : e, x, x + p->d, a->rows + r * p->d, f);
            if (f == EXPERTS_ONE_ELEMENT && r == a->plan.offset[e])
                a->rows[r * p->d] += 2; /* one standard deviation and a half */
        }
    free(x);
    return ANEMO_OK;
}

static anemo_status compute(const anemo_exec *exec, const void *problem, const void *args,
                            fault f) {
    (void)exec;
    return f < EXPERTS_NOTHING ? qgemm(problem, args, f) : experts(problem, args, f);
}

/* Less than the ops can: no residual, no activation in qgemm, no biases in moe_experts. */
static bool takes_qgemm(const void *problem, char *why, size_t why_bytes) {
    const anemo_qgemm_problem *p = problem;
    if (p->epilogue == ANEMO_EPI_STORE)
        return true;
    strncpy(why, "only plain stores", why_bytes);
    return false;
}

static bool takes_experts(const void *problem, char *why, size_t why_bytes) {
    const anemo_moe_experts_problem *p = problem;
    if (!p->has_bias)
        return true;
    strncpy(why, "no biases", why_bytes);
    return false;
}

#define VARIANT(op_name, OP, fault_name, fault, takes)                                             \
    static anemo_status run_##fault_name(const anemo_exec *exec, const void *problem,              \
                                         const void *args) {                                       \
        return compute(exec, problem, args, fault);                                                \
    }                                                                                              \
    static const anemo_variant variant_##fault_name = {                                            \
        .size = sizeof(anemo_variant),                                                             \
        .name = #op_name "_a8_wrong_" #fault_name,                                                 \
        .op = ANEMO_OP_##OP,                                                                       \
        .act = "a8_row",                                                                           \
        .idea = "a test: " #fault_name,                                                            \
        .accepts = takes,                                                                          \
        .workspace_bytes = wrong_no_workspace,                                                     \
        .run = run_##fault_name,                                                                   \
    };
VARIANT(qgemm, QGEMM, nothing, NOTHING, takes_qgemm) /* the controls: right */
VARIANT(qgemm, QGEMM, scale, SCALED, takes_qgemm)
VARIANT(qgemm, QGEMM, scale_a_little, SCALED_A_LITTLE, takes_qgemm)
VARIANT(qgemm, QGEMM, one_element, ONE_ELEMENT, takes_qgemm)
VARIANT(qgemm, QGEMM, other_rows_scale, OTHER_ROWS_SCALE, takes_qgemm)
VARIANT(moe_experts, MOE_EXPERTS, experts_nothing, EXPERTS_NOTHING, takes_experts)
VARIANT(moe_experts, MOE_EXPERTS, experts_scale, EXPERTS_SCALED, takes_experts)
VARIANT(moe_experts, MOE_EXPERTS, experts_one_element, EXPERTS_ONE_ELEMENT, takes_experts)
VARIANT(moe_experts, MOE_EXPERTS, experts_swapped, EXPERTS_SWAPPED, takes_experts)

WRONG_PLUGIN("wrong_a8", &variant_nothing, &variant_scale, &variant_scale_a_little,
             &variant_one_element, &variant_other_rows_scale, &variant_experts_nothing,
             &variant_experts_scale, &variant_experts_one_element, &variant_experts_swapped)
