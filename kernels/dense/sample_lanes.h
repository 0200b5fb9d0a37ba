/* sample over the lanes of lanes.h: rows in parallel; no sort, no heap, and no weight is stored.
 *
 * Greedy is one pass for the largest logit: a maximum per block of 1024, two vectors compared for
 * NaN in one instruction; then the one block that first reached the maximum is read again for the
 * first index. Comparing indices along with values, lane by lane, costs twice the instructions.
 *
 * A draw narrows a *set* of tokens that stays in index order: the row itself, or a compact copy
 * (logits, ids) of what is kept.
 *
 *   top_k    the cut (last kept token of the order) by selection, then the set up to the cut
 *   top_p    the same with mass as the goal, among what top_k left
 *   draw     masses of blocks of 256, the block where the running mass passes u * total, and that
 *            block token by token
 *
 * Selection is quickselect with a pivot aimed at the goal: 64 tokens of the candidates, evenly
 * spaced, are put in order, and the pivot is the one at which this sample reaches the goal's share
 * of the candidates, in count or in mass. Shares, not amounts: in a peaked row the sample misses
 * the few tokens that hold the mass, and one that waits for the amount ends at its last token,
 * round after round (measured: 7 times as long). Top 50 of 131072 is then little more than one pass
 * over the row, where a heap (plain C) first builds itself from all of it. Pivots are tokens, not
 * values: ties are ordered by index, so each round gets smaller.
 *
 * Masses are computed when they are needed, in double like the definition's (vd_exp, 1e-14): that
 * costs less than reading them back from L3. Rejected: weights in float (half the cost; the stream
 * of draws would leave the other backends' about once in 10^6 tokens), and a histogram of the
 * logits (a scalar increment per token, and rows where all lie in one bin).
 *
 * One row is not split over threads: greedy over 32768 takes 2 us. Limit: L2, where the output
 * matrix left the logits. */
#ifndef ANEMO_DENSE_SAMPLE_LANES_H
#define ANEMO_DENSE_SAMPLE_LANES_H

#include <math.h>

#include "kernels/dense/dense.h"
#include "kernels/dense/lanes.h"

enum { MAX_BLOCK = 1024, MASS_BLOCK = 256, PIVOT_SAMPLE = 64 };

/* Tokens in index order. */
typedef struct token_set {
    const float *logit;
    const int32_t *id; /* NULL: 0, 1, 2, ... */
    int64_t n;
} token_set;

/* Room for a set; both arrays have a vector more than the vocabulary. */
typedef struct token_buffer {
    float *logit;
    int32_t *id;
} token_buffer;

typedef struct sampler {
    double largest, inverse_temperature;
    token_buffer buffer[3];
    double *block_mass; /* [ceil(vocab / MASS_BLOCK)] */
} sampler;

typedef struct token {
    float logit;
    int32_t id;
} token;

typedef struct sample_job {
    const anemo_sample_problem *p;
    const anemo_sample_args *a;
    char *memory;
} sample_job;

/* ---------------------------------------------------------------- comparisons */

#if defined(__AVX512F__)
#define BITS_OF(a, b, comparison) ((uint32_t)_mm512_cmp_ps_mask(a, b, comparison))
#else
#define BITS_OF(a, b, comparison) ((uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(a, b, comparison)))
#endif

/* The larger; where a or b is NaN, b. */
static inline vf larger(vf a, vf b) {
#if defined(__AVX512F__)
    return _mm512_max_ps(a, b);
#else
    return _mm256_max_ps(a, b);
#endif
}

static inline float largest_lane(vf v) {
    float lane[LANES], largest = -INFINITY;
    vf_store(lane, v);
    for (int i = 0; i < LANES; i++)
        largest = lane[i] > largest ? lane[i] : largest;
    return largest;
}

static inline uint32_t first_bits(int64_t n) {
    return n >= LANES ? (uint32_t)((1ull << LANES) - 1) : (1u << n) - 1;
}

/* ---------------------------------------------------------------- the largest logit */

/* The largest of n; *has_nan is set where one is NaN. */
static inline float block_largest(const float *logit, int64_t n, bool *has_nan) {
    vf m0 = vf_splat(-INFINITY), m1 = m0, m2 = m0, m3 = m0;
    uint32_t nan = 0;
    int64_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES) {
        const vf a = vf_load(logit + i), b = vf_load(logit + i + LANES);
        const vf c = vf_load(logit + i + 2 * LANES), d = vf_load(logit + i + 3 * LANES);
        m0 = larger(a, m0), m1 = larger(b, m1), m2 = larger(c, m2), m3 = larger(d, m3);
        nan |= BITS_OF(a, b, _CMP_UNORD_Q) | BITS_OF(c, d, _CMP_UNORD_Q);
    }
    float largest = largest_lane(larger(larger(m0, m1), larger(m2, m3)));
    for (; i < n; i++) {
        nan |= logit[i] != logit[i];
        largest = logit[i] > largest ? logit[i] : largest;
    }
    *has_nan = *has_nan || nan;
    return largest;
}

/* The largest logit's lowest index; -1 when there is a NaN or nothing above -infinity. */
static int32_t find_largest(const float *logit, int64_t n) {
    float largest = -INFINITY;
    int64_t at = -1;
    bool has_nan = false;
    for (int64_t i = 0; i < n; i += MAX_BLOCK) {
        const float here = block_largest(logit + i, min_i64(MAX_BLOCK, n - i), &has_nan);
        at = here > largest ? i : at;
        largest = here > largest ? here : largest;
    }
    if (has_nan || at < 0)
        return -1;
    while (logit[at] != largest)
        at++;
    return (int32_t)at;
}

/* ---------------------------------------------------------------- masses */

/* exp((logit - largest) / temperature); 1 where the logit is the largest, so that +infinity is a
 * number, too. */
static inline vd mass_of(const sampler *s, vh logit) {
    const vd x = vd_from_f32(logit), largest = vd_splat(s->largest);
    const vd weight = vd_exp((x - largest) * vd_splat(s->inverse_temperature));
    return vd_if_equal(x, largest, vd_splat(1), weight);
}

static inline double block_mass(const sampler *s, const float *logit, int64_t n) {
    vd m0 = {0}, m1 = {0};
    int64_t i = 0;
    for (; i + 2 * HALF_LANES <= n; i += 2 * HALF_LANES) {
        m0 += mass_of(s, vh_load(logit + i));
        m1 += mass_of(s, vh_load(logit + i + HALF_LANES));
    }
    double mass = vd_sum(m0 + m1);
    for (; i < n; i += HALF_LANES) {
        double lane[HALF_LANES];
        vd_store(lane, mass_of(s, vh_load_part(logit + i, n - i)));
        for (int64_t j = 0; j < min_i64(HALF_LANES, n - i); j++)
            mass += lane[j];
    }
    return mass;
}

/* The set's mass, and that of its blocks. */
static double set_mass(const sampler *s, const token_set *set) {
    double mass = 0;
    for (int64_t i = 0; i < set->n; i += MASS_BLOCK) {
        const double here = block_mass(s, set->logit + i, min_i64(MASS_BLOCK, set->n - i));
        s->block_mass[i / MASS_BLOCK] = here;
        mass += here;
    }
    return mass;
}

/* ---------------------------------------------------------------- subsets */

/* Does a come before b in the order? */
static inline bool before(token a, token b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

static inline token token_at(const token_set *set, int64_t i) {
    return (token){set->logit[i], set->id ? set->id[i] : (int32_t)i};
}

/* Appends the lanes of `bits` at place n of the buffer, which has room for a whole vector there. */
static inline int64_t append(token_buffer into, int64_t n, vf logit, vi id, uint32_t bits) {
#if defined(__AVX512F__)
    vf_store(into.logit + n, _mm512_maskz_compress_ps((__mmask16)bits, logit));
    _mm512_storeu_si512(into.id + n, _mm512_maskz_compress_epi32((__mmask16)bits, (__m512i)id));
    return n + __builtin_popcount(bits);
#else
    for (int i = 0; i < LANES; i++) { /* unrolled; no branch on the bits */
        into.logit[n] = logit[i];
        into.id[n] = id[i];
        n += bits >> i & 1;
    }
    return n;
#endif
}

/* The tokens of `set` before the pivot (or, with `after`, behind it; the pivot in neither), in
 * index order. */
static token_set part_of(const token_set *set, token pivot, bool after, token_buffer into) {
    const vf limit = vf_splat(pivot.logit);
    vi lane, id;
    for (int i = 0; i < LANES; i++)
        lane[i] = i;
    int64_t n = 0;
    for (int64_t i = 0; i < set->n; i += LANES) {
        const int64_t left = set->n - i;
        const vf logit = vf_load_part(set->logit + i, left);
        const uint32_t equal = BITS_OF(logit, limit, _CMP_EQ_OQ);
        uint32_t bits = BITS_OF(logit, limit, _CMP_GT_OQ);
        bits = after ? ~(bits | equal) : bits;
        bits &= first_bits(left);
        if (!(bits | (equal & first_bits(left))))
            continue;
        id = lane + (int32_t)i;
        if (set->id && left >= LANES)
            memcpy(&id, set->id + i, sizeof id);
        else if (set->id)
            memcpy(&id, set->id + i, (size_t)left * sizeof *set->id);
        for (uint32_t rest = equal & first_bits(left); rest; rest &= rest - 1) {
            const int at = __builtin_ctz(rest);
            const int32_t id_at = id[at];
            bits |= (uint32_t)(after ? id_at > pivot.id : id_at < pivot.id) << at;
        }
        n = append(into, n, logit, id, bits);
    }
    return (token_set){into.logit, into.id, n};
}

/* ---------------------------------------------------------------- selection */

/* How far down the order: to the first token at which the count or the mass is reached; the other
 * of the two is infinite. */
typedef struct goal {
    double tokens, mass;
} goal;

static inline bool reached(const goal *g, double tokens, double mass) {
    return tokens >= 1 && (tokens >= g->tokens || mass >= g->mass);
}

/* Ordered sample of the set's tokens and, in mass[], their masses. Returns how many. */
static int64_t take_sample(const sampler *s, const token_set *set, token *sample, double *mass) {
    const int64_t n = min_i64(PIVOT_SAMPLE, set->n);
    float logit[PIVOT_SAMPLE];
    for (int64_t i = 0; i < n; i++) {
        const token t = token_at(set, (2 * i + 1) * set->n / (2 * n));
        int64_t j = i;
        for (; j > 0 && before(t, sample[j - 1]); j--)
            sample[j] = sample[j - 1];
        sample[j] = t;
    }
    for (int64_t i = 0; i < n; i++)
        logit[i] = sample[i].logit;
    for (int64_t i = 0; i < n; i += HALF_LANES)
        vd_store(mass + i, mass_of(s, vh_load_part(logit + i, n - i)));
    return n;
}

/* The token of a sample at which the sample reaches this share of its count or of its mass. */
static token choose_pivot(const sampler *s, const token_set *set, double tokens, double mass) {
    token sample[PIVOT_SAMPLE];
    double each[PIVOT_SAMPLE], all = 0, running = 0;
    const int64_t n = take_sample(s, set, sample, each);
    for (int64_t i = 0; i < n; i++)
        all += each[i];
    int64_t at = 0;
    for (; at < n - 1; at++) {
        running += each[at];
        if ((double)(at + 1) >= tokens * (double)n || running >= mass * all)
            break;
    }
    return sample[at];
}

/* The token at which the goal is reached, going down the order of the set; its last if never. */
static token find_cut(const sampler *s, token_set set, double set_has, const goal *g,
                      const token_buffer free[2]) {
    const bool by_mass = g->mass < INFINITY;
    goal done = {0};
    for (int turn = 0;; turn = !turn) {
        const token pivot = choose_pivot(s, &set, (g->tokens - done.tokens) / (double)set.n,
                                         by_mass ? (g->mass - done.mass) / set_has : INFINITY);
        const token_set alone = {&pivot.logit, &pivot.id, 1};
        token_set part = part_of(&set, pivot, false, free[turn]);
        double part_has = by_mass ? set_mass(s, &part) : 0;
        if (!reached(g, done.tokens + (double)part.n, done.mass + part_has)) {
            part_has += by_mass ? set_mass(s, &alone) : 0;
            done.tokens += (double)part.n + 1;
            done.mass += part_has;
            if (reached(g, done.tokens, done.mass))
                return pivot;
            part = part_of(&set, pivot, true, free[turn]);
            part_has = set_has - part_has;
            if (part.n == 0)
                return pivot;
        }
        set = part;
        set_has = part_has;
    }
}

/* The tokens of the set up to the cut, in index order. */
static token_set kept(const token_set *set, token cut, token_buffer into) {
    const token behind = {cut.logit, cut.id + 1}; /* ids are whole: what comes before it is kept */
    return part_of(set, behind, false, into);
}

/* ---------------------------------------------------------------- the draw */

static int32_t draw(const sampler *s, const token_set *set, double u) {
    const double target = u * set_mass(s, set);
    double running = 0;
    int64_t block = 0;
    while ((block + 1) * MASS_BLOCK < set->n && !(running + s->block_mass[block] > target))
        running += s->block_mass[block++];
    const int64_t begin = block * MASS_BLOCK, end = min_i64(begin + MASS_BLOCK, set->n);
    int64_t last =
        begin; /* with mass: rounding may leave `running` at the block's end below target */
    for (int64_t i = begin; i < end; i += HALF_LANES) {
        double lane[HALF_LANES];
        vd_store(lane, mass_of(s, vh_load_part(set->logit + i, end - i)));
        for (int64_t j = 0; j < min_i64(HALF_LANES, end - i); j++) {
            running += lane[j];
            last = lane[j] > 0 ? i + j : last;
            if (running > target)
                return token_at(set, i + j).id;
        }
    }
    return token_at(set, last).id;
}

static int32_t sample_row(sampler *s, const anemo_sample_params *params, const float *logit,
                          int64_t vocab) {
    const int32_t best = find_largest(logit, vocab);
    if (best < 0 || params->temperature == 0)
        return best;
    s->largest = logit[best];
    s->inverse_temperature = 1 / (double)params->temperature;
    token_set set = {logit, NULL, vocab};
    if (params->top_k > 0 && params->top_k < vocab) {
        const goal g = {params->top_k, INFINITY};
        set = kept(&set, find_cut(s, set, 1, &g, s->buffer + 1), s->buffer[0]);
    }
    if (params->top_p < 1) {
        const double mass = set_mass(s, &set);
        const goal g = {INFINITY, params->top_p * mass};
        set = kept(&set, find_cut(s, set, mass, &g, s->buffer + 1), s->buffer[1]);
    }
    return draw(s, &set, anemo_philox_uniform(params->seed, params->counter));
}

/* ---------------------------------------------------------------- run */

static size_t buffer_bytes(const anemo_sample_problem *p) {
    return align64((size_t)(p->vocab + LANES) * sizeof(float));
}

static size_t thread_bytes(const anemo_sample_problem *p) {
    return 6 * buffer_bytes(p) +
           align64((size_t)anemo_ceil_div(p->vocab, MASS_BLOCK) * sizeof(double));
}

static void sample_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const sample_job *job = ctx;
    const int64_t vocab = job->p->vocab;
    char *memory = job->memory + (size_t)thread * thread_bytes(job->p);
    sampler s = {.block_mass = (double *)(void *)(memory + 6 * buffer_bytes(job->p))};
    for (size_t i = 0; i < 3; i++) {
        s.buffer[i].logit = (float *)(void *)(memory + 2 * i * buffer_bytes(job->p));
        s.buffer[i].id = (int32_t *)(void *)(memory + (2 * i + 1) * buffer_bytes(job->p));
    }
    for (int64_t r = begin; r < end; r++)
        job->a->ids[r] = sample_row(&s, &job->a->params[r], job->a->logits + r * vocab, vocab);
}

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    return (size_t)n_threads * thread_bytes(problem);
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_sample_problem *p = problem;
    const anemo_sample_args *a = args;
    const anemo_status status = anemo_sample_check(p, a);
    if (status != ANEMO_OK)
        return status;
    if (exec->workspace_bytes < workspace_bytes(p, exec->n_threads))
        return ANEMO_E_MEMORY;
    sample_job job = {.p = p, .a = a, .memory = exec->workspace};
    exec->parallel(exec, a->m, lanes_grain(p->vocab), sample_rows, &job);
    return ANEMO_OK;
}

#define SAMPLE_LANES(name, what)                                                                   \
    LANES_VARIANT(name, ANEMO_OP_SAMPLE, anemo_sample_accepts, workspace_bytes, run, what)

#endif
