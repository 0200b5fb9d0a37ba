/* Shared by the qgemm variants: validation, and cutting the parts into blocks of rows. */
#include "kernels/qgemm/qgemm_internal.h"

bool anemo_qgemm_valid(const anemo_qgemm_problem *p, char *why, size_t why_bytes) {
    if (p->size < sizeof *p || p->n_parts < 1 || p->n_parts > ANEMO_QGEMM_PARTS) {
        return anemo_refuse(why, why_bytes, "qgemm: short problem, or %d parts; 1 to %d",
                            p->n_parts, ANEMO_QGEMM_PARTS);
    }
    if (p->m_max < 1 || p->k < 1) {
        return anemo_refuse(why, why_bytes, "qgemm: m_max %lld, k %lld; at least 1 is accepted",
                            (long long)p->m_max, (long long)p->k);
    }
    for (int32_t i = 0; i < p->n_parts; i++) {
        if (p->n[i] < 1) {
            return anemo_refuse(why, why_bytes, "qgemm: n[%d] is %lld; at least 1 is accepted", i,
                                (long long)p->n[i]);
        }
        if (!anemo_weight_type_valid(&p->type[i], p->k, why, why_bytes)) {
            return false;
        }
    }
    if (p->epilogue < ANEMO_EPI_STORE || p->epilogue > ANEMO_EPI_ACT_MUL ||
        p->has_bias >> p->n_parts) {
        return anemo_refuse(why, why_bytes,
                            "qgemm: epilogue %d (0 to 2 accepted) or a bias bit without its part "
                            "(has_bias %d)",
                            p->epilogue, p->has_bias);
    }
    if (p->epilogue == ANEMO_EPI_ACT_MUL &&
        (p->n_parts != 2 || p->n[0] != p->n[1] || p->activation < ANEMO_ACT_SILU ||
         p->activation > ANEMO_ACT_SILU_CLAMPED)) {
        return anemo_refuse(why, why_bytes,
                            "qgemm: ACT_MUL takes two parts of equal n and a known activation");
    }
    return true;
}

static int32_t counted_parts(const anemo_qgemm_problem *p) {
    return p->epilogue == ANEMO_EPI_ACT_MUL ? 1 : p->n_parts;
}

int64_t anemo_qgemm_blocks(const anemo_qgemm_problem *p, int64_t rows) {
    int64_t blocks = 0;
    for (int32_t i = 0; i < counted_parts(p); i++) {
        blocks += anemo_ceil_div(p->n[i], rows);
    }
    return blocks;
}

anemo_qgemm_block anemo_qgemm_block_at(const anemo_qgemm_problem *p, int64_t rows, int64_t index) {
    int32_t part = 0;
    for (; part + 1 < counted_parts(p); part++) {
        const int64_t blocks = anemo_ceil_div(p->n[part], rows);
        if (index < blocks) {
            break;
        }
        index -= blocks;
    }
    const int64_t row = index * rows, rest = p->n[part] - row;
    return (anemo_qgemm_block){part, row, rest < rows ? rest : rows};
}
