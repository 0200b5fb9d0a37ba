/* add_rmsnorm, embed, sample and quantize_act with faults. */
#include "tests/plugins/wrong.h"

typedef enum fault {
    RMSNORM_NOTHING,
    NO_EPS,
    SUM_NOT_MEAN,
    X_NOT_UPDATED,
    GATHER_IGNORED,
    /* embed */
    EMBED_NOTHING,
    NEXT_ID,
    /* sample */
    SAMPLE_NOTHING,
    TOP_P_IGNORED,
    LAST_OF_TIES,
    NAN_IGNORED,
    TOP_K_IGNORED,
    COUNTER_IGNORED,
    /* quantize_act, a8_row */
    QUANTIZE_NOTHING,
    HALF_UP,
    SUM_FORGOTTEN,
    NAN_HIDDEN
} fault;

static anemo_status rmsnorm(const anemo_add_rmsnorm_problem *p, const anemo_add_rmsnorm_args *a,
                            fault f) {
    for (int64_t i = 0; i < a->m; i++) {
        const int64_t from = a->rows && f != GATHER_IGNORED ? a->rows[i] : i;
        float *x = a->x + from * p->d, *y = a->y + i * p->d;
        double squares = 0;
        for (int64_t j = 0; j < p->d; j++) {
            y[j] = p->add ? x[j] + a->delta[i * p->d + j] : x[j];
            squares += (double)y[j] * y[j];
            if (p->add && f != X_NOT_UPDATED)
                x[j] = y[j];
        }
        const double mean = f == SUM_NOT_MEAN ? squares : squares / (double)p->d;
        const double inverse = 1 / sqrt(mean + (f == NO_EPS ? 0 : p->eps));
        for (int64_t j = 0; j < p->d; j++)
            y[j] = (float)(y[j] * inverse * a->weight[j]);
    }
    return ANEMO_OK;
}

static anemo_status embed(const anemo_embed_problem *p, const anemo_embed_args *a, fault f) {
    for (int64_t i = 0; i < a->m; i++)
        wrong_row(a->weight, (a->ids[i] + (f == NEXT_ID)) % p->vocab, a->y + i * p->d);
    return ANEMO_OK;
}

/* Rank by rank: token i is kept if fewer than top_k come before it, with less than top_p of the
 * mass of those. */
static int32_t sample_row(const anemo_sample_params *s, const float *l, int64_t n, fault f) {
    double most = -INFINITY, all = 0, running = 0;
    int32_t best = 0;
    for (int64_t i = 0; i < n; i++) {
        if (isnan(l[i]) && f != NAN_IGNORED)
            return -1;
        most = l[i] > most ? l[i] : most;
        if (l[i] > l[best] || (f == LAST_OF_TIES && l[i] == l[best]) || isnan(l[best]))
            best = (int32_t)i;
    }
    if (most == -INFINITY)
        return -1;
    if (s->temperature == 0)
        return best;
    double w[1024] = {0}, ahead[1024] = {0}, kept = 0; /* the checker's vocabularies are smaller */
    for (int64_t i = 0; i < n && n <= 1024; i++) {
        int64_t rank = 0;
        for (int64_t j = 0; j < n; j++)
            if (l[j] > l[i] || (l[j] == l[i] && j < i)) {
                rank++;
                ahead[i] += exp((l[j] - most) / s->temperature);
            }
        if (s->top_k == 0 || rank < s->top_k || f == TOP_K_IGNORED)
            w[i] = isnan(l[i]) ? 0 : exp((l[i] - most) / s->temperature);
        all += w[i];
    }
    for (int64_t i = 0; i < n && n <= 1024; i++) {
        if (s->top_p < 1 && ahead[i] > 0 && ahead[i] >= s->top_p * all && f != TOP_P_IGNORED)
            w[i] = 0;
        kept += w[i];
    }
    const double u = anemo_philox_uniform(s->seed, f == COUNTER_IGNORED ? 0 : s->counter) * kept;
    int32_t id = -1;
    for (int64_t i = 0; i < n && id < 0; i++)
        if ((running += w[i]) > u)
            id = (int32_t)i;
    return id;
}

static anemo_status sample(const anemo_sample_problem *p, const anemo_sample_args *a, fault f) {
    for (int64_t r = 0; r < a->m; r++)
        a->ids[r] = sample_row(&a->params[r], a->logits + r * p->vocab, p->vocab, f);
    return ANEMO_OK;
}

static anemo_status quantize(const anemo_quantize_act_problem *p, const anemo_quantize_act_args *a,
                             fault f) {
    const int64_t padded = anemo_a8_padded_k(p->k);
    const size_t bytes = ((size_t)padded + 8 + 63) / 64 * 64;
    for (int64_t r = 0; r < a->m; r++) {
        int8_t *record = (int8_t *)a->out + (size_t)r * bytes;
        const float *x = a->x + r * p->k;
        float largest = 0, scale;
        int32_t sum = 0;
        memset(record, 0, bytes);
        for (int64_t i = 0; i < p->k; i++)
            if (!isnan(largest) &&
                (f == NAN_HIDDEN ? fabsf(x[i]) > largest : !(fabsf(x[i]) <= largest)))
                largest = fabsf(x[i]);
        const float inverse = 127 / largest;
        const bool broken = !isfinite(largest), zero = broken || !isfinite(inverse);
        scale = broken ? NAN : zero ? 0 : largest / 127;
        for (int64_t i = 0; !zero && i < p->k; i++) {
            const float y = x[i] * inverse;
            record[i] = (int8_t)(f == HALF_UP ? roundf(y) : isfinite(y) ? nearbyintf(y) : 0);
            sum += record[i];
        }
        sum = f == SUM_FORGOTTEN ? 0 : sum;
        memcpy(record + padded, &scale, sizeof scale);
        memcpy(record + padded + 4, &sum, sizeof sum);
    }
    return ANEMO_OK;
}

static anemo_status compute(const anemo_exec *exec, const void *problem, const void *args,
                            fault f) {
    (void)exec;
    if (f < EMBED_NOTHING)
        return rmsnorm(problem, args, f);
    if (f < SAMPLE_NOTHING)
        return embed(problem, args, f);
    return f < QUANTIZE_NOTHING ? sample(problem, args, f) : quantize(problem, args, f);
}

#define RMSNORM(name, fault)                                                                       \
    WRONG_VARIANT(add_rmsnorm, ADD_RMSNORM, name, fault, 0, wrong_no_workspace)
#define SAMPLE(name, fault) WRONG_VARIANT(sample, SAMPLE, name, fault, 0, wrong_no_workspace)
#define QUANTIZE(fault_name, fault)                                                                \
    static anemo_status run_##fault_name(const anemo_exec *exec, const void *problem,              \
                                         const void *args) {                                       \
        return compute(exec, problem, args, fault);                                                \
    }                                                                                              \
    static const anemo_variant variant_##fault_name = {                                            \
        .size = sizeof(anemo_variant),                                                             \
        .name = "quantize_act_wrong_" #fault_name,                                                 \
        .op = ANEMO_OP_QUANTIZE_ACT,                                                               \
        .idea = "a test: " #fault_name,                                                            \
        .act = "a8_row",                                                                           \
        .accepts = wrong_accepts,                                                                  \
        .workspace_bytes = wrong_no_workspace,                                                     \
        .run = run_##fault_name,                                                                   \
    };
RMSNORM(rmsnorm_nothing, RMSNORM_NOTHING) /* the controls: right */
RMSNORM(no_eps, NO_EPS)
RMSNORM(sum_not_mean, SUM_NOT_MEAN)
RMSNORM(x_not_updated, X_NOT_UPDATED)
RMSNORM(gather_ignored, GATHER_IGNORED)
WRONG_VARIANT(embed, EMBED, embed_nothing, EMBED_NOTHING, 0, wrong_no_workspace)
WRONG_VARIANT(embed, EMBED, next_id, NEXT_ID, 0, wrong_no_workspace)
SAMPLE(sample_nothing, SAMPLE_NOTHING)
SAMPLE(top_p_ignored, TOP_P_IGNORED)
SAMPLE(last_of_ties, LAST_OF_TIES)
SAMPLE(nan_ignored, NAN_IGNORED)
SAMPLE(top_k_ignored, TOP_K_IGNORED)
SAMPLE(counter_ignored, COUNTER_IGNORED)
QUANTIZE(quantize_nothing, QUANTIZE_NOTHING)
QUANTIZE(half_up, HALF_UP)
QUANTIZE(sum_forgotten, SUM_FORGOTTEN)
QUANTIZE(nan_hidden, NAN_HIDDEN)

WRONG_PLUGIN("wrong_dense", &variant_rmsnorm_nothing, &variant_embed_nothing,
             &variant_sample_nothing, &variant_quantize_nothing, &variant_top_p_ignored,
             &variant_no_eps, &variant_sum_not_mean, &variant_x_not_updated,
             &variant_gather_ignored, &variant_next_id, &variant_last_of_ties, &variant_nan_ignored,
             &variant_top_k_ignored, &variant_counter_ignored, &variant_half_up,
             &variant_sum_forgotten, &variant_nan_hidden)
