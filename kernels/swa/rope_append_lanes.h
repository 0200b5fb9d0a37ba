/* rope_append over the lanes of lanes.h: rows in parallel; sines and cosines once per row, shared
 * by all heads of q and k.
 *
 * The angle is a double product, up to 10^6 radians at long context, so its reduction decides
 * everything: one in float would be off by whole turns. With FMA two parts of pi/2 suffice:
 *
 *   n = round(angle 2/pi), r = (angle - n P1) - n P2, |r| <= pi/4
 *
 * P1 is pi/2 rounded to double. angle - n P1 is exact: both are multiples of 2^-52 and the
 * difference is below 1, so FMA has nothing to round. P2 = pi/2 - P1 to 53 bits; what is left of pi
 * costs n * 1.5e-33. So |error of r| <= 2^-54 for |angle| < 2^30. Taylor's series to r^11 and r^12
 * then leave 7e-12, a ten thousandth of a float's rounding. Larger angles (and no numbers) go to
 * libm: they cannot come from a context of any model, but the contract has no limit.
 *
 * Sine and cosine are rounded to float once, times the magnitude, and the rotation is in float
 * with FMA: at most 3 u (|a| + |b|). Plain C rotates in double; that is 2.5 times the work in
 * prefill and gains nothing that the checker's bound (5 u) or an f16 page could show.
 *
 * Tables: pairs (i, i + h) read cosine[i], sine[i]. Interleaved pairs read each twice in a row, the
 * sine with signs - +, so that a vector of pairs is x * c + swapped(x) * s without unzipping it.
 *
 * The address of a slot costs two divisions: once per row, heads follow at a fixed distance.
 * Limit: L2 traffic of q and k (read, written) from a dozen rows on; one row is 100 cycles of sines
 * per 8 pairs and the rotation of 20 to 40 heads. */
#ifndef ANEMO_SWA_ROPE_APPEND_LANES_H
#define ANEMO_SWA_ROPE_APPEND_LANES_H

#include "kernels/swa/kv_store_lanes.h"
#include "kernels/swa/swa.h"

typedef struct rope_job {
    const anemo_rope_problem *p;
    const anemo_rope_args *a;
    kv_pages pages;
    char *memory; /* per thread: float cosine[table], sine[table] */
} rope_job;

/* Floats of a table: interleaved pairs need rotary_dims; vectors are stored whole. */
static inline int64_t table_floats(const anemo_rope_problem *p) {
    return anemo_round_up(p->rotary_dims, LANES);
}

static inline size_t thread_bytes(const anemo_rope_problem *p) {
    return align64((size_t)(2 * table_floats(p)) * sizeof(float));
}

/* ---------------------------------------------------------------- sines */

#define LARGEST_ANGLE 0x1p30

/* |x| < LARGEST_ANGLE */
static inline void sine_and_cosine(vd x, vd *sine, vd *cosine) {
    static const double odd[] = {-1.0 / 39916800, 1.0 / 362880, -1.0 / 5040, 1.0 / 120, -1.0 / 6};
    static const double even[] = {1.0 / 479001600, -1.0 / 3628800, 1.0 / 40320,
                                  -1.0 / 720,      1.0 / 24,       -0.5};
    const vd round = vd_splat(0x1.8p52); /* adding it leaves the integer in the low bits */
    const vd shifted = vd_fma(x, vd_splat(0x1.45f306dc9c883p-1), round);
    const vd n = shifted - round;
    const vd r =
        vd_fnma(n, vd_splat(0x1.1a62633145c07p-54), vd_fnma(n, vd_splat(0x1.921fb54442d18p0), x));
    const vd r2 = r * r;
    vd s = vd_splat(odd[0]), c = vd_splat(even[0]);
    for (size_t i = 1; i < sizeof odd / sizeof *odd; i++)
        s = vd_fma(s, r2, vd_splat(odd[i]));
    for (size_t i = 1; i < sizeof even / sizeof *even; i++)
        c = vd_fma(c, r2, vd_splat(even[i]));
    s = vd_fma(s * r2, r, r);
    c = vd_fma(c, r2, vd_splat(1));
    const vl quarter = (vl)shifted, swap = -(quarter & 1);
    const vl sine_sign = (quarter & 2) << 62, cosine_sign = ((quarter + 1) & 2) << 62;
    *sine = (vd)((vl)vd_select(swap, c, s) ^ sine_sign);
    *cosine = (vd)((vl)vd_select(swap, s, c) ^ cosine_sign);
}

static inline bool any_beyond(vd x, double limit) {
    const vl inside = (x < vd_splat(limit)) & (x > vd_splat(-limit));
    bool beyond = false;
    for (int i = 0; i < HALF_LANES; i++)
        beyond = beyond || !inside[i];
    return beyond;
}

static inline void sine_and_cosine_by_libm(vd x, vd *sine, vd *cosine) {
    for (int i = 0; i < HALF_LANES; i++) {
        (*sine)[i] = sin(x[i]);
        (*cosine)[i] = cos(x[i]);
    }
}

/* Both tables, for the row at `position`. */
static void make_tables(const anemo_rope_problem *p, const float *inv_freq, int64_t position,
                        float *cosine, float *sine) {
    const int64_t n_pairs = p->rotary_dims / 2;
    const vd magnitude = vd_splat(p->magnitude), at = vd_splat((double)position);
    const vl minus_plus = (vl){0} + 0x80000000; /* the sign of the first of two floats */
    for (int64_t i = 0; i < n_pairs; i += HALF_LANES) {
        const vd angle = at * vd_from_f32(vh_load_part(inv_freq + i, n_pairs - i));
        vd s, c;
        if (any_beyond(angle, LARGEST_ANGLE))
            sine_and_cosine_by_libm(angle, &s, &c);
        else
            sine_and_cosine(angle, &s, &c);
        const vh sf = vd_to_f32(magnitude * s), cf = vd_to_f32(magnitude * c);
        if (p->pairing == ANEMO_ROPE_HALF) {
            vh_store(cosine + i, cf);
            vh_store(sine + i, sf);
        } else {
            vf_store(cosine + 2 * i, vh_twice(cf));
            vf_store(sine + 2 * i, (vf)((vl)vh_twice(sf) ^ minus_plus));
        }
    }
}

/* ---------------------------------------------------------------- rotation */

static inline void rotate_half(float *x, int64_t n_pairs, const float *cosine, const float *sine) {
    for (int64_t i = 0; i < n_pairs; i += LANES) {
        const int64_t left = n_pairs - i;
        const vf a = vf_load_part(x + i, left), b = vf_load_part(x + n_pairs + i, left);
        const vf c = vf_load(cosine + i), s = vf_load(sine + i);
        vf_store_part(x + i, vf_fnma(b, s, a * c), left);
        vf_store_part(x + n_pairs + i, vf_fma(a, s, b * c), left);
    }
}

static inline void rotate_interleaved(float *x, int64_t n, const float *cosine, const float *sine) {
    for (int64_t i = 0; i < n; i += LANES) {
        const vf v = vf_load_part(x + i, n - i);
        const vf turned = vf_fma(vf_swap_pairs(v), vf_load(sine + i), v * vf_load(cosine + i));
        vf_store_part(x + i, turned, n - i);
    }
}

static inline void rotate(const anemo_rope_problem *p, float *x, const float *cosine,
                          const float *sine) {
    if (p->pairing == ANEMO_ROPE_HALF)
        rotate_half(x, p->rotary_dims / 2, cosine, sine);
    else
        rotate_interleaved(x, p->rotary_dims, cosine, sine);
}

static void rope_row(const rope_job *job, int64_t r, float *cosine, float *sine) {
    const anemo_rope_problem *p = job->p;
    const anemo_rope_args *a = job->a;
    const kv_pages *pages = &job->pages;
    const int64_t d = p->kv.head_dim, n_heads = p->kv.n_heads, n_kv_heads = p->kv.n_kv_heads;
    const int32_t sequence = kv_sequence_of_row(&a->kv, r);
    const int64_t position = kv_position(&a->kv, sequence, r);
    const size_t head_bytes = (size_t)p->kv.page_tokens * pages->vector_bytes;
    char *slot = kv_key(pages, sequence, position, 0);
    make_tables(p, a->inv_freq, position, cosine, sine);
    for (int64_t h = 0; h < n_heads; h++)
        rotate(p, a->q + (r * n_heads + h) * d, cosine, sine);
    for (int64_t h = 0; h < n_kv_heads; h++, slot += head_bytes) {
        float *k = a->k + (r * n_kv_heads + h) * d;
        rotate(p, k, cosine, sine);
        store_lanes(pages, slot, k);
        store_lanes(pages, slot + pages->value_offset, a->v + (r * n_kv_heads + h) * d);
    }
}

static void rope_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const rope_job *job = ctx;
    const size_t offset = (size_t)thread * thread_bytes(job->p);
    float *cosine = (float *)(void *)(job->memory + offset);
    for (int64_t r = begin; r < end; r++)
        rope_row(job, r, cosine, cosine + table_floats(job->p));
}

/* A query temperature is left to plain C: one family has it, and the op is small. */
static bool lanes_accept(const void *problem, char *why, size_t why_bytes) {
    const anemo_rope_problem *p = problem;
    if (p->temperature != 0)
        return anemo_refuse(why, why_bytes, "a query temperature is not computed here");
    return anemo_rope_append_accepts(problem, why, why_bytes);
}

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    return (size_t)n_threads * thread_bytes(problem);
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_rope_problem *p = problem;
    const anemo_rope_args *a = args;
    const anemo_status status = anemo_rope_append_check(p, a);
    if (status != ANEMO_OK)
        return status;
    if (exec->workspace_bytes < workspace_bytes(p, exec->n_threads))
        return ANEMO_E_MEMORY;
    rope_job job = {.p = p, .a = a, .pages = kv_pages_of(&p->kv, &a->kv)};
    job.memory = exec->workspace;
    const int64_t heads = (int64_t)p->kv.n_heads + 3 * (int64_t)p->kv.n_kv_heads;
    exec->parallel(exec, a->rows, lanes_grain(heads * p->kv.head_dim), rope_rows, &job);
    return ANEMO_OK;
}

#define ROPE_APPEND_LANES(name, what)                                                              \
    LANES_VARIANT(name, ANEMO_OP_ROPE_APPEND, lanes_accept, workspace_bytes, run, what)

#endif
