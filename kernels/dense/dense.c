#include "kernels/dense/dense.h"

#include <math.h>

#include "kernels/dense/common.h"

static bool accepts_rows(int64_t m_max, const char *name, int64_t width, char *why,
                         size_t why_bytes) {
    if (m_max < 1 || m_max > INT32_MAX)
        return anemo_refuse(why, why_bytes, "m_max %lld is not in 1 .. 2^31 - 1", (long long)m_max);
    if (width < 1 || width > ANEMO_DIM_MAX)
        return anemo_refuse(why, why_bytes, "%s %lld is not in 1 .. 2^24", name, (long long)width);
    return true;
}

bool anemo_add_rmsnorm_accepts(const void *problem, char *why, size_t why_bytes) {
    const anemo_add_rmsnorm_problem *p = problem;
    if (!accepts_rows(p->m_max, "d", p->d, why, why_bytes))
        return false;
    if (!(p->eps >= 0) || !isfinite(p->eps))
        return anemo_refuse(why, why_bytes, "eps %g is not a finite number >= 0", (double)p->eps);
    return true;
}

bool anemo_embed_accepts(const void *problem, char *why, size_t why_bytes) {
    const anemo_embed_problem *p = problem;
    return accepts_rows(p->m_max, "d", p->d, why, why_bytes) &&
           accepts_rows(p->m_max, "vocab", p->vocab, why, why_bytes) &&
           anemo_weight_type_valid(&p->type, p->d, why, why_bytes);
}

bool anemo_sample_accepts(const void *problem, char *why, size_t why_bytes) {
    const anemo_sample_problem *p = problem;
    return accepts_rows(p->m_max, "vocab", p->vocab, why, why_bytes);
}

anemo_status anemo_add_rmsnorm_check(const anemo_add_rmsnorm_problem *p,
                                     const anemo_add_rmsnorm_args *a) {
    if (a->m < 0 || a->m > p->m_max)
        return ANEMO_E_INPUT;
    if (p->add && (!a->delta || a->rows))
        return ANEMO_E_INPUT;
    return ANEMO_OK;
}

anemo_status anemo_sample_check(const anemo_sample_problem *p, const anemo_sample_args *a) {
    if (a->m < 0 || a->m > p->m_max)
        return ANEMO_E_INPUT;
    for (int64_t i = 0; i < a->m; i++) {
        const anemo_sample_params *s = &a->params[i];
        if (!(s->temperature >= 0) || !isfinite(s->temperature) || s->top_k < 0 ||
            !(s->top_p >= 0 && s->top_p <= 1))
            return ANEMO_E_INPUT;
    }
    return ANEMO_OK;
}
