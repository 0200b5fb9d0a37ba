/* rope_append, the definition. Row r at absolute position p: in every head of q and k, pair i of
 * rotary_dims / 2 is turned by the angle p * inv_freq[i],
 *
 *   a' = a c - b s,  b' = a s + b c,   c = magnitude * cos(angle), s = magnitude * sin(angle)
 *
 * all in double, rounded to float once; of q, times 1 + temperature ln(1 + floor(p / period))
 * before that rounding. Pairs are (i, i + rotary_dims / 2) or (2i, 2i + 1); elements from
 * rotary_dims on stay as they are (magnitude does not touch them). Then the rotated k (the float)
 * and v are converted to the page type and written to the slot of position p (kv_page.h). No other
 * slot is touched. Pages of one step must not be shared between sequences at written positions.
 */
#include "kernels/dense/common.h"
#include "kernels/swa/kv_page.h"
#include "kernels/swa/swa.h"

/* `scale` multiplies all elements. */
static void rotate(const anemo_rope_problem *p, const float *inv_freq, int64_t position,
                   double scale, float *x) {
    const int32_t half = p->rotary_dims / 2;
    for (int32_t i = 0; i < half; i++) {
        const bool interleaved = p->pairing == ANEMO_ROPE_INTERLEAVED;
        float *a = interleaved ? x + 2 * i : x + i;
        float *b = interleaved ? x + 2 * i + 1 : x + i + half;
        const double angle = (double)position * inv_freq[i];
        const double c = p->magnitude * cos(angle), s = p->magnitude * sin(angle);
        const double rotated = *a * c - *b * s;
        *b = (float)((*a * s + *b * c) * scale);
        *a = (float)(rotated * scale);
    }
    for (int32_t i = p->rotary_dims; i < p->kv.head_dim; i++)
        x[i] = (float)(x[i] * scale);
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_rope_problem *p = problem;
    const anemo_rope_args *a = args;
    const anemo_status status = anemo_rope_append_check(p, a);
    (void)exec;
    if (status != ANEMO_OK)
        return status;
    const kv_pages pages = kv_pages_of(&p->kv, &a->kv);
    const int64_t d = p->kv.head_dim, n_heads = p->kv.n_heads, n_kv_heads = p->kv.n_kv_heads;
    for (int64_t r = 0; r < a->rows; r++) {
        const int32_t sequence = kv_sequence_of_row(&a->kv, r);
        const int64_t position = kv_position(&a->kv, sequence, r);
        for (int64_t h = 0; h < n_heads; h++)
            rotate(p, a->inv_freq, position, anemo_rope_temperature(p, position),
                   a->q + (r * n_heads + h) * d);
        for (int64_t h = 0; h < n_kv_heads; h++) {
            float *k = a->k + (r * n_kv_heads + h) * d;
            char *slot = kv_key(&pages, sequence, position, (int32_t)h);
            rotate(p, a->inv_freq, position, 1, k);
            kv_store(&pages, slot, k);
            kv_store(&pages, slot + pages.value_offset, a->v + (r * n_kv_heads + h) * d);
        }
    }
    return ANEMO_OK;
}

const anemo_variant anemo_rope_append_ref = {
    .size = sizeof(anemo_variant),
    .name = "rope_append_ref",
    .op = ANEMO_OP_ROPE_APPEND,
    .backend = ANEMO_CPU,
    .traits = ANEMO_TRAIT_REFERENCE | ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "the definition: angles and rotation in double",
    .accepts = anemo_rope_append_accepts,
    .workspace_bytes = no_workspace,
    .run = run,
};
