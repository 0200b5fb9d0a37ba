/* embed, the definition: y[i] = row ids[i] of the embedding, each weight decoded in double and
 * rounded to float. The caller has checked 0 <= id < vocab. */
#include "kernels/dense/common.h"
#include "kernels/dense/dense.h"

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    const anemo_embed_problem *p = problem;
    (void)n_threads;
    return (size_t)p->d * (2 * sizeof(float) + 1); /* scales, offsets, codes */
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_embed_problem *p = problem;
    const anemo_embed_args *a = args;
    const anemo_weight *w = a->weight;
    const int64_t group = w->type.group ? w->type.group : p->d;
    if (a->m < 0 || a->m > p->m_max)
        return ANEMO_E_INPUT;
    if (exec->workspace_bytes < workspace_bytes(p, exec->n_threads))
        return ANEMO_E_MEMORY;
    float *scales = exec->workspace, *offsets = scales + p->d;
    uint8_t *codes = (uint8_t *)(offsets + p->d);
    for (int64_t r = 0; r < a->m; r++) {
        float *y = a->y + r * p->d;
        w->read_row(w, a->ids[r], y, codes, scales, offsets);
        for (int64_t i = 0; !anemo_code_is_float(&w->type) && i < p->d; i++) {
            const float offset = w->type.offset == ANEMO_OFFSET_NONE ? 0 : offsets[i / group];
            y[i] = (float)anemo_weight_value(&w->type, codes[i], scales[i / group], offset);
        }
    }
    return ANEMO_OK;
}

const anemo_variant anemo_embed_ref = {
    .size = sizeof(anemo_variant),
    .name = "embed_ref",
    .op = ANEMO_OP_EMBED,
    .backend = ANEMO_CPU,
    .traits = ANEMO_TRAIT_REFERENCE | ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "the definition: each weight decoded in double",
    .accepts = anemo_embed_accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
