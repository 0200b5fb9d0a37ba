#include "kernels/swa/swa.h"

#include <math.h>

#include "kernels/dense/common.h"

static bool accepts_kv(const anemo_kv_shape *kv, int64_t rows_max, int32_t sequences_max, char *why,
                       size_t why_bytes) {
    if (kv->n_heads < 1 || kv->n_kv_heads < 1 || kv->n_heads > 65536 ||
        kv->n_heads % kv->n_kv_heads != 0)
        return anemo_refuse(why, why_bytes, "n_heads %d is no multiple of n_kv_heads %d",
                            kv->n_heads, kv->n_kv_heads);
    if (kv->head_dim < 1 || kv->head_dim > 65536)
        return anemo_refuse(why, why_bytes, "head_dim %d is not in 1 .. 65536", kv->head_dim);
    if (kv->page_tokens < 1 || kv->page_tokens > 65536)
        return anemo_refuse(why, why_bytes, "page_tokens %d is not in 1 .. 65536", kv->page_tokens);
    if (kv->type < ANEMO_KV_F32 || kv->type > ANEMO_KV_Q8)
        return anemo_refuse(why, why_bytes, "kv type %d is not f32, f16, bf16 or q8", kv->type);
    if (rows_max < 1 || rows_max > INT32_MAX || sequences_max < 1)
        return anemo_refuse(why, why_bytes, "rows_max %lld or sequences_max %d is not positive",
                            (long long)rows_max, sequences_max);
    return true;
}

bool anemo_swa_accepts(const void *problem, char *why, size_t why_bytes) {
    const anemo_swa_problem *p = problem;
    if (!accepts_kv(&p->kv, p->rows_max, p->sequences_max, why, why_bytes))
        return false;
    if (p->context_max < 1 || p->context_max > INT32_MAX)
        return anemo_refuse(why, why_bytes, "context_max %lld is not in 1 .. 2^31 - 1",
                            (long long)p->context_max);
    if (p->window < 0)
        return anemo_refuse(why, why_bytes, "window %lld is negative; 0 means no window",
                            (long long)p->window);
    if (!isfinite(p->scale))
        return anemo_refuse(why, why_bytes, "scale is not finite");
    return true;
}

bool anemo_rope_append_accepts(const void *problem, char *why, size_t why_bytes) {
    const anemo_rope_problem *p = problem;
    if (!accepts_kv(&p->kv, p->rows_max, p->sequences_max, why, why_bytes))
        return false;
    if (p->rotary_dims < 0 || p->rotary_dims > p->kv.head_dim || p->rotary_dims % 2 != 0)
        return anemo_refuse(why, why_bytes, "rotary_dims %d is not even and within head_dim %d",
                            p->rotary_dims, p->kv.head_dim);
    if (p->pairing != ANEMO_ROPE_HALF && p->pairing != ANEMO_ROPE_INTERLEAVED)
        return anemo_refuse(why, why_bytes, "pairing %d is neither half (0) nor interleaved (1)",
                            p->pairing);
    if (!isfinite(p->magnitude) || !isfinite(p->temperature))
        return anemo_refuse(why, why_bytes, "magnitude or temperature is not finite");
    if (p->temperature != 0 && p->temperature_period < 1)
        return anemo_refuse(why, why_bytes, "temperature_period %lld is not above 0",
                            (long long)p->temperature_period);
    return true;
}

double anemo_rope_temperature(const anemo_rope_problem *p, int64_t position) {
    return p->temperature == 0
               ? 1
               : 1 + p->temperature * log(1 + (double)(position / p->temperature_period));
}

static anemo_status check_view(const anemo_kv_view *view, int32_t page_tokens, int64_t rows,
                               int64_t rows_max, int32_t sequences_max, int64_t length_max) {
    if (rows < 0 || rows > rows_max || view->n_sequences < 0 || view->n_sequences > sequences_max)
        return ANEMO_E_INPUT;
    if (view->n_sequences == 0)
        return rows == 0 ? ANEMO_OK : ANEMO_E_INPUT;
    if (view->row_start[0] != 0 || view->row_start[view->n_sequences] != rows)
        return ANEMO_E_INPUT;
    for (int32_t s = 0; s < view->n_sequences; s++) {
        const int64_t first = view->first[s], n = view->row_start[s + 1] - view->row_start[s];
        if (n < 0 || (n > 0 && (first < 0 || first % page_tokens != 0 ||
                                first > view->length[s] - n || view->length[s] > length_max)))
            return ANEMO_E_INPUT;
    }
    return ANEMO_OK;
}

anemo_status anemo_swa_check(const anemo_swa_problem *p, const anemo_swa_args *a) {
    if (p->has_sinks && !a->sinks)
        return ANEMO_E_INPUT;
    return check_view(&a->kv, p->kv.page_tokens, a->rows, p->rows_max, p->sequences_max,
                      p->context_max);
}

anemo_status anemo_rope_append_check(const anemo_rope_problem *p, const anemo_rope_args *a) {
    if (p->rotary_dims > 0 && !a->inv_freq)
        return ANEMO_E_INPUT;
    return check_view(&a->kv, p->kv.page_tokens, a->rows, p->rows_max, p->sequences_max, INT64_MAX);
}
