/* swa and rope_append with faults, over f32 pages. */
#include "tests/plugins/wrong.h"

typedef enum fault {
    NOTHING,
    WINDOW_LESS,
    WINDOW_MORE,
    NO_WINDOW,
    SEES_NEXT,
    NO_SINKS,
    HEADS_INTERLEAVED,
    FIRST_IGNORED,
    NO_MAX,
    NO_SCALE,
    ROUNDS_TO_BF16, /* right where the variant says so */
    ROUNDS_TO_4_BITS,
    /* rope */
    ROPE_NOTHING,
    OTHER_PAIRING,
    FLOAT_ANGLE,
    STORES_UNROTATED,
    SWAPS_K_V,
    NEXT_SLOT,
    NO_MAGNITUDE,
    ROTATES_ALL,
    NO_TEMPERATURE,
    TEMPERATURE_FROM_NEXT, /* ceil for floor */
    HEATS_K
} fault;

static bool accepts(const void *problem, char *why, size_t why_bytes) {
    const anemo_swa_problem *swa = problem;
    const anemo_rope_problem *rope = problem;
    const int32_t type = swa->size == sizeof *swa ? swa->kv.type : rope->kv.type;
    if (type == ANEMO_KV_F32)
        return true;
    strncpy(why, "only f32 pages", why_bytes);
    return false;
}

static int32_t sequence_of(const anemo_kv_view *view, int64_t row, int64_t *position) {
    int32_t s = 0;
    while (row >= view->row_start[s + 1])
        s++;
    *position = view->length[s] - (view->row_start[s + 1] - row);
    return s;
}

static float *vector_at(const anemo_kv_shape *kv, const anemo_kv_view *view, int32_t s,
                        int64_t position, int32_t head, bool value, fault f) {
    const int64_t first = f == FIRST_IGNORED ? 0 : view->first[s];
    int64_t index = (position - first) / kv->page_tokens;
    const int64_t pages =
        (view->length[s] - view->first[s] + kv->page_tokens - 1) / kv->page_tokens;
    index = index < pages ? index : pages - 1; /* a test must not crash */
    const size_t page = (size_t)view->pages[view->table_start[s] + index];
    const size_t vectors = (size_t)kv->n_kv_heads * (size_t)kv->page_tokens;
    const size_t at = (size_t)head * (size_t)kv->page_tokens +
                      (size_t)(position % kv->page_tokens) + (value ? vectors : 0);
    return (float *)view->pool + (page * 2 * vectors + at) * (size_t)kv->head_dim;
}

/* ---------------------------------------------------------------- swa */

static bool sees(const anemo_swa_problem *p, int64_t i, int64_t j, fault f) {
    const int64_t w = p->window - (f == WINDOW_LESS && p->window > 1) + (f == WINDOW_MORE);
    if (j > i + (f == SEES_NEXT))
        return false;
    return p->window == 0 || f == NO_WINDOW || i - j < w;
}

static bool rounds(fault f) {
    return f == ROUNDS_TO_BF16 || f == ROUNDS_TO_4_BITS;
}

/* Queries and weights, to so many bits of the significand. */
static float rounded(float x, fault f) {
    const int bits = f == ROUNDS_TO_BF16 ? 8 : 4;
    int exponent;
    const float significand = frexpf(x, &exponent);
    return rounds(f) ? ldexpf(rintf(ldexpf(significand, bits)), exponent - bits) : x;
}

static void attend(const anemo_swa_problem *p, const anemo_swa_args *a, int64_t row, int32_t head,
                   fault f) {
    const anemo_kv_shape *kv = &p->kv;
    const int32_t dim = kv->head_dim, group = kv->n_heads / kv->n_kv_heads;
    const int32_t kv_head = f == HEADS_INTERLEAVED ? head % kv->n_kv_heads : head / group;
    float q[256], *out = a->out + (row * kv->n_heads + head) * dim;
    int64_t position;
    const int32_t s = sequence_of(&a->kv, row, &position);
    const int64_t end = position + 1 + (f == SEES_NEXT);
    const float scale = f == NO_SCALE ? 1 : p->scale;
    const bool sinks = p->has_sinks && f != NO_SINKS;
    for (int32_t i = 0; i < dim; i++)
        q[i] = rounded(a->q[(row * kv->n_heads + head) * dim + i], f);
    /* in the maximum, a sink would make equal weights have one rounding error in common */
    float max = sinks && !rounds(f) ? a->sinks[head] : -INFINITY;
    for (int pass = 0; pass < 2; pass++) {
        float total = sinks ? expf(a->sinks[head] - (f == NO_MAX ? 0 : max)) : 0;
        memset(out, 0, (size_t)dim * sizeof *out);
        for (int64_t j = a->kv.first[s]; j < end; j++) {
            if (!sees(p, position, j, f))
                continue;
            const float *k = vector_at(kv, &a->kv, s, j, kv_head, false, f);
            const float *v = vector_at(kv, &a->kv, s, j, kv_head, true, f);
            const float score = scale * wrong_dot(q, k, dim, false);
            if (pass == 0) {
                max = fmaxf(max, score);
                continue;
            }
            const float weight = expf(score - (f == NO_MAX ? 0 : max));
            total += weight;
            for (int32_t i = 0; i < dim; i++)
                out[i] += rounded(weight, f) * v[i];
        }
        for (int32_t i = 0; pass == 1 && i < dim; i++)
            out[i] /= total;
    }
}

static anemo_status swa(const anemo_swa_problem *p, const anemo_swa_args *a, fault f) {
    for (int64_t row = 0; row < a->rows; row++)
        for (int32_t head = 0; head < p->kv.n_heads; head++)
            attend(p, a, row, head, f);
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- rope_append */

static void rotate(const anemo_rope_problem *p, const anemo_rope_args *a, int64_t position,
                   float *x, fault f) {
    const int32_t dims = f == ROTATES_ALL ? p->kv.head_dim : p->rotary_dims;
    const bool half = (p->pairing == ANEMO_ROPE_HALF) != (f == OTHER_PAIRING);
    for (int32_t i = 0; i < dims / 2; i++) {
        const float inv_freq = a->inv_freq[i % (p->rotary_dims / 2)];
        float *x0 = half ? x + i : x + 2 * i, *x1 = half ? x + i + dims / 2 : x + 2 * i + 1;
        const float rounded = (float)position * inv_freq;
        const double angle = f == FLOAT_ANGLE ? rounded : (double)position * inv_freq;
        const float magnitude = f == NO_MAGNITUDE ? 1 : p->magnitude;
        const float c = (float)cos(angle) * magnitude, s = (float)sin(angle) * magnitude;
        const float turned = *x0 * c - *x1 * s;
        *x1 = *x0 * s + *x1 * c;
        *x0 = turned;
    }
}

/* The query temperature, times all of a head. */
static void heat(const anemo_rope_problem *p, int64_t position, float *x, fault f) {
    if (p->temperature == 0 || f == NO_TEMPERATURE)
        return;
    const int64_t period = p->temperature_period;
    const int64_t turns = (position + (f == TEMPERATURE_FROM_NEXT ? period - 1 : 0)) / period;
    const float factor = (float)(1 + p->temperature * log(1 + (double)turns));
    for (int32_t i = 0; i < p->kv.head_dim; i++)
        x[i] *= factor;
}

static void append(const anemo_rope_problem *p, const anemo_rope_args *a, int64_t row, int32_t head,
                   fault f) {
    const anemo_kv_shape *kv = &p->kv;
    const size_t bytes = (size_t)kv->head_dim * sizeof(float);
    float *k = a->k + (row * kv->n_kv_heads + head) * kv->head_dim;
    const float *v = a->v + (row * kv->n_kv_heads + head) * kv->head_dim;
    int64_t position;
    const int32_t s = sequence_of(&a->kv, row, &position);
    float *k_slot = vector_at(kv, &a->kv, s, position, head, f == SWAPS_K_V, f);
    float *v_slot = vector_at(kv, &a->kv, s, position, head, f != SWAPS_K_V, f);
    if (f == STORES_UNROTATED)
        memcpy(k_slot, k, bytes);
    rotate(p, a, position, k, f);
    if (f == HEATS_K)
        heat(p, position, k, f);
    if (f != STORES_UNROTATED)
        memcpy(k_slot, k, bytes);
    memcpy(v_slot, v, bytes);
    if (f == NEXT_SLOT && position % kv->page_tokens + 1 < kv->page_tokens)
        memset(v_slot + kv->head_dim, 0, bytes);
}

static anemo_status rope(const anemo_rope_problem *p, const anemo_rope_args *a, fault f) {
    for (int64_t row = 0; row < a->rows; row++) {
        int64_t position;
        sequence_of(&a->kv, row, &position);
        for (int32_t head = 0; head < p->kv.n_heads; head++) {
            float *q = a->q + (row * p->kv.n_heads + head) * p->kv.head_dim;
            rotate(p, a, position, q, f);
            heat(p, position, q, f);
        }
        for (int32_t head = 0; head < p->kv.n_kv_heads; head++)
            append(p, a, row, head, f);
    }
    return ANEMO_OK;
}

static anemo_status compute(const anemo_exec *exec, const void *problem, const void *args,
                            fault f) {
    (void)exec;
    return f < ROPE_NOTHING ? swa(problem, args, f) : rope(problem, args, f);
}

#define wrong_accepts    accepts
#define SWA(name, fault) WRONG_VARIANT(swa, SWA, name, fault, 0, wrong_no_workspace)
#define ROPE(name, fault)                                                                          \
    WRONG_VARIANT(rope_append, ROPE_APPEND, name, fault, 0, wrong_no_workspace)
SWA(nothing, NOTHING) /* the control: right */
SWA(window_less, WINDOW_LESS)
SWA(window_more, WINDOW_MORE)
SWA(no_window, NO_WINDOW)
SWA(sees_next, SEES_NEXT)
SWA(no_sinks, NO_SINKS)
SWA(heads_interleaved, HEADS_INTERLEAVED)
SWA(first_ignored, FIRST_IGNORED)
SWA(no_max, NO_MAX)
SWA(no_scale, NO_SCALE)
SWA(rounds_to_bf16, ROUNDS_TO_BF16)
/* what is let pass where queries and weights are rounded to bf16 */
#define SWA_BF16(name, fault)                                                                      \
    WRONG_VARIANT_ACT(swa, SWA, name, fault, 0, wrong_no_workspace, "bf16")
SWA_BF16(nothing_in_bf16, ROUNDS_TO_BF16)
SWA_BF16(window_less_in_bf16, WINDOW_LESS)
SWA_BF16(window_more_in_bf16, WINDOW_MORE)
SWA_BF16(no_sinks_in_bf16, NO_SINKS)
SWA_BF16(heads_interleaved_in_bf16, HEADS_INTERLEAVED)
SWA_BF16(no_max_in_bf16, NO_MAX)
SWA_BF16(no_scale_in_bf16, NO_SCALE)
SWA_BF16(rounds_to_4_bits_in_bf16, ROUNDS_TO_4_BITS)
ROPE(rope_nothing, ROPE_NOTHING)
ROPE(other_pairing, OTHER_PAIRING)
ROPE(float_angle, FLOAT_ANGLE)
ROPE(stores_unrotated, STORES_UNROTATED)
ROPE(swaps_k_v, SWAPS_K_V)
ROPE(next_slot, NEXT_SLOT)
ROPE(no_magnitude, NO_MAGNITUDE)
ROPE(rotates_all, ROTATES_ALL)
ROPE(no_temperature, NO_TEMPERATURE)
ROPE(temperature_from_next, TEMPERATURE_FROM_NEXT)
ROPE(heats_k, HEATS_K)

WRONG_PLUGIN("wrong_swa", &variant_nothing, &variant_window_less, &variant_window_more,
             &variant_no_window, &variant_sees_next, &variant_no_sinks, &variant_heads_interleaved,
             &variant_first_ignored, &variant_no_max, &variant_no_scale, &variant_rounds_to_bf16,
             &variant_nothing_in_bf16, &variant_window_less_in_bf16, &variant_window_more_in_bf16,
             &variant_no_sinks_in_bf16, &variant_heads_interleaved_in_bf16, &variant_no_max_in_bf16,
             &variant_no_scale_in_bf16, &variant_rounds_to_4_bits_in_bf16, &variant_rope_nothing,
             &variant_other_pairing, &variant_float_angle, &variant_stores_unrotated,
             &variant_swaps_k_v, &variant_next_slot, &variant_no_magnitude, &variant_rotates_all,
             &variant_no_temperature, &variant_temperature_from_next, &variant_heats_k)
