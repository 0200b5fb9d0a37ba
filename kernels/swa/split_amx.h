/* Many queries against one block of keys in the matrix tiles of AMX, in the place of split_tile.h.
 * split_amx_bf16.h or split_amx_f16.h, included before, say what numbers are multiplied, and what
 * becomes of keys and values that are others.
 *
 *   q       [term][query][dp] numbers: rows of the first operand; a block of 64 keys takes its
 *           tiles of 16. Behind them one float per query, by which its scores are multiplied
 *   keys    [term][16 keys][dp / 32] tiles [16 pairs of elements][16 keys][2]
 *   values  [term][32 keys][dp / 16] tiles [16 pairs of keys][16 columns][2]
 *   s       [32 queries][KEY_BLOCK] scores; then weights, [term][KEY_BLOCK] numbers in the place of
 *           a query's scores. The same for all queries, so that it stays in the first level
 *
 * Scores, sums and the mix are float. Tiles of up to 192 queries share the packing of a block.
 *
 * Granite Rapids, 2 cores, 16/4 heads of 128, f16 pages, 512 rows, ms, in turns:
 * swa_f32_split_avx512 5.0; bf16 2.2; f16 1.7, in two terms 2.4. At 8192 keys 43, 32, in two terms
 * 49. It began with bf16 at 3.1. What was slow: weights of unseen keys, subnormal before they were
 * 0 (v_exp2); the softmax of a query, or of four, waiting for its maximum and its sum (now 16 at a
 * time). In f16 at 512 rows a quarter of the time is the softmax now, two fifths the products,
 * packing a tenth, reading queries and writing results more than that.
 *
 * Where a query sees a key is decided by its weight, which is 0 elsewhere: an infinite or undefined
 * value of a later key of the same block would make it undefined. */
#ifndef ANEMO_SWA_SPLIT_AMX_H
#define ANEMO_SWA_SPLIT_AMX_H

#include "kernels/swa/amx_block.h"
#include "kernels/swa/swa.h"

enum {
    QUERIES = 192, /* of a tile, where the group of heads allows it */
    MANY_PAD = 32,
    AMX_D_MAX = 256,
    STASH_FLOATS = 2 * HALF * AMX_D_MAX,
    AMX_SHAPE = 1 /* there is but one */
};

static bool accepts(const void *problem, char *why, size_t why_bytes) {
    const anemo_swa_problem *p = problem;
    if (!anemo_swa_accepts(problem, why, why_bytes))
        return false;
    if (!pack_keys_of[p->kv.type])
        return anemo_refuse(why, why_bytes, "keys and values in %s; f16 is accepted",
                            anemo_kv_type_name((anemo_kv_type)p->kv.type));
    if (p->kv.head_dim > AMX_D_MAX)
        return anemo_refuse(why, why_bytes, "head_dim %d; up to %d are accepted",
                            (int)p->kv.head_dim, AMX_D_MAX);
    return true;
}

/* Floats of a block of packed keys. */
static int64_t keys_floats(int64_t dq, int64_t dp) {
    (void)dq;
    return KEY_BLOCK * dp; /* two terms of half a float */
}

/* ---------------------------------------------------------------- queries */

/* Floats of the terms of n queries, behind which are the factors of their scores. */
static int64_t terms_floats(int64_t n, int64_t dp) {
    return anemo_round_up(n, HALF) * dp / 2 * QUERY_TERMS;
}
static int64_t packed_floats(int64_t n, int64_t dq, int64_t dp) {
    (void)dq;
    return terms_floats(n, dp) + anemo_round_up(n, HALF);
}

/* A power of two that brings the largest of q[dq] close to 2^LARGEST; 1 where that says nothing. */
static float query_scale(const float *q, int64_t dq) {
    vf most = v_zero();
    int exponent;
    if (LARGEST == 0)
        return 1;
    for (int64_t c = 0; c < dq; c += VL)
        most = v_max(_mm512_abs_ps(v_load(q + c)), most);
    const float largest = v_largest(most);
    if (!(largest > 0 && largest <= FLT_MAX))
        return 1;
    frexpf(largest, &exponent);
    return ldexpf(1, LARGEST - (exponent > -100 ? exponent : -100));
}

/* A term of elements c .. c + 31 of a query; zeros behind dq. */
SWA_INLINE __m512i query_term(const float *q, int64_t dq, int64_t c, float scale, int term) {
    const vf by = v_splat(scale), low = v_mul(v_load(q + c), by);
    const vf high = c + VL < dq ? v_mul(v_load(q + c + VL), by) : v_zero();
    const __m512i row = amx_row(low, high);
    return term == 0 ? row : amx_rest_row(low, high, row);
}

/* n queries to the layout above, with zeros up to 16. */
static void pack_queries(const float *q, int64_t n, int64_t dq, float *packed) {
    const int64_t dp = anemo_round_up(dq, STRIP), padded = anemo_round_up(n, HALF);
    float *factor = packed + terms_floats(n, dp);
    char *to = (char *)packed;
    for (int64_t i = 0; i < padded; i++)
        factor[i] = i < n ? 1 / query_scale(q + i * dq, dq) : 1;
    for (int term = 0; term < QUERY_TERMS; term++)
        for (int64_t i = 0; i < padded; i++)
            for (int64_t c = 0; c < dp; c += STRIP, to += 64)
                _mm512_storeu_si512(to, i < n ? query_term(q + i * dq, dq, c, 1 / factor[i], term)
                                              : _mm512_setzero_si512());
}

/* ---------------------------------------------------------------- tiles */

/* All tiles: 16 rows of 64 bytes. 0 to 3: sums of two times two; 4, 5: the first operand; 6, 7: the
 * second. */
static void configure(void) {
    anemo_amx_config c = {.palette = 1};
    if (anemo_amx_shape == AMX_SHAPE)
        return;
    anemo_amx_shape = AMX_SHAPE;
    for (int i = 0; i < 8; i++) {
        c.row_bytes[i] = 64;
        c.rows[i] = HALF;
    }
    anemo_amx_load_config(&c);
}

/* Slots [*from, *to) are what one of the queries i .. i + n - 1 sees. */
static void seen_by(const many_queries *q, int64_t i, int64_t n, int *from, int *to) {
    *from = q->from[i / q->group];
    *to = q->to[(i + n - 1) / q->group];
}

/* One of the operands of multiply: the first tile, from it to the one below (or beside) it, and
 * from a term to the next; no step: it has one term, for all of the other's. */
typedef struct operand {
    const char *at;
    int64_t apart, term;
} operand;

/* Sums 0 to 3 += 2 tiles of a (rows `stride` bytes apart) times 2 tiles of w, term by term;
 * `lower`: the second of a is wanted. */
SWA_INLINE void multiply(bool lower, operand a, int64_t stride, operand w, int terms) {
    for (int term = 0; term < terms; term++, a.at += a.term, w.at += w.term) {
        if (term == 0 || a.term) {
            _tile_loadd(4, a.at, stride);
            if (lower)
                _tile_loadd(5, a.at + a.apart, stride);
        }
        if (term == 0 || w.term) {
            _tile_loadd(6, w.at, 64);
            _tile_loadd(7, w.at + w.apart, 64);
        }
        AMX_DP(0, 4, 6);
        AMX_DP(1, 4, 7);
        if (lower) {
            AMX_DP(2, 5, 6);
            AMX_DP(3, 5, 7);
        }
    }
}

/* Scores of queries i .. i + 31 (lower: more than 16 of them) with 32 keys from `first` on. */
SWA_INLINE void score_pair(bool lower, const vectors *x, const many_queries *q, int64_t i,
                           int first) {
    const int64_t row_bytes = 2 * q->dp, tiles = q->dp / 32 * AMX_TILE_BYTES; /* of 16 keys */
    const int terms = key_terms(x->type);
    operand a = {(const char *)q->packed + i * row_bytes, HALF * row_bytes,
                 QUERY_TERMS > 1 ? anemo_round_up(q->n, HALF) * row_bytes : 0};
    operand w = {(const char *)q->keys + first / HALF * tiles, tiles,
                 terms > 1 ? KEY_BLOCK / HALF * tiles : 0};
    anemo_amx_stored();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t c = 0; c < q->dp; c += STRIP, a.at += 64, w.at += AMX_TILE_BYTES)
        multiply(lower, a, row_bytes, w, terms * QUERY_TERMS);
    float *s = q->s + first;
    _tile_stored(0, s, 4 * KEY_BLOCK);
    _tile_stored(1, s + HALF, 4 * KEY_BLOCK);
    if (lower) {
        _tile_stored(2, s + HALF * KEY_BLOCK, 4 * KEY_BLOCK);
        _tile_stored(3, s + HALF * KEY_BLOCK + HALF, 4 * KEY_BLOCK);
    }
}

/* out[32][dp] += weights values, of the queries from i on; columns c .. c + 31. */
SWA_INLINE void mix_pair(bool lower, const vectors *x, const many_queries *q, int from, int to,
                         int64_t c, float *upper_out, float *lower_out) {
    const int64_t stride = 4 * q->dp, tiles = q->dp / HALF * AMX_TILE_BYTES; /* of 32 keys */
    const int64_t row = 4 * KEY_BLOCK;
    const int terms = value_terms(x->type);
    anemo_amx_stored();
    _tile_loadd(0, upper_out + c, stride);
    _tile_loadd(1, upper_out + c + HALF, stride);
    if (lower) {
        _tile_loadd(2, lower_out + c, stride);
        _tile_loadd(3, lower_out + c + HALF, stride);
    }
    for (int first = 0; first < KEY_BLOCK; first += 32) {
        const operand a = {(const char *)q->s + 2 * first, HALF * row,
                           QUERY_TERMS > 1 ? 2 * KEY_BLOCK : 0};
        const operand w = {(const char *)q->values + first / 32 * tiles + c / HALF * AMX_TILE_BYTES,
                           AMX_TILE_BYTES, terms > 1 ? KEY_BLOCK / 32 * tiles : 0};
        if (from < first + 32 && to > first)
            multiply(lower, a, row, w, terms * QUERY_TERMS);
    }
    _tile_stored(0, upper_out + c, stride);
    _tile_stored(1, upper_out + c + HALF, stride);
    if (lower) {
        _tile_stored(2, lower_out + c, stride);
        _tile_stored(3, lower_out + c + HALF, stride);
    }
}

/* ---------------------------------------------------------------- the block */

/* Lane r: x[r] joined by `join`, 16 lanes to one. */
#define JOIN_LANES(x, join)                                                                        \
    do {                                                                                           \
        SWA_UNROLL                                                                                 \
        for (int r = 0; r < 8; r++) {                                                              \
            const vf a = (x)[r / 4 * 8 + r % 4], b = (x)[r / 4 * 8 + r % 4 + 4];                   \
            (x)[r] = join(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));     \
        }                                                                                          \
        SWA_UNROLL                                                                                 \
        for (int r = 0; r < 4; r++) {                                                              \
            const vf a = (x)[r], b = (x)[r + 4];                                                   \
            (x)[r] = join(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));     \
        }                                                                                          \
        SWA_UNROLL                                                                                 \
        for (int r = 0; r < 2; r++) {                                                              \
            const __m512d a = _mm512_castps_pd((x)[2 * r]), b = _mm512_castps_pd((x)[2 * r + 1]);  \
            (x)[r] = join(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),                              \
                          _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));                             \
        }                                                                                          \
        (x)[0] = join(_mm512_shuffle_ps((x)[0], (x)[1], 0x88),                                     \
                      _mm512_shuffle_ps((x)[0], (x)[1], 0xdd));                                    \
    } while (0)

enum { BLOCK_VECTORS = KEY_BLOCK / VL };

/* What the softmax of up to 16 queries knows of each, one to a lane or an element. */
typedef struct softmax {
    const float *key_scale; /* q8; or NULL */
    bool part;              /* some query does not see the whole block: */
    int from[HALF], to[HALF];
    float by[HALF], minus[HALF]; /* a weight is 2^(score * by - minus) */
} softmax;

/* 16 scores of query r as they stand, -infinity where it sees no key. */
SWA_INLINE vf seen_scores(const softmax *f, const float *s, int r, int v) {
    vf x = v_load(s + r * KEY_BLOCK + v * VL);
    if (f->key_scale)
        x = v_mul(x, v_load(f->key_scale + v * VL));
    return f->part ? v_within(x, v * VL, f->from[r], f->to[r]) : x;
}

/* The slots that queries i .. i + n - 1 see. */
static void see(softmax *f, const many_queries *q, int64_t i, int64_t n) {
    int64_t row = i / q->group, left = q->group - i % q->group; /* of the row's queries */
    f->part = false;
    for (int64_t r = 0; r < n; r++, left--) {
        if (left == 0) {
            row++;
            left = q->group;
        }
        const bool sees = q->from[row] < q->to[row];
        f->from[r] = sees ? q->from[row] : 0;
        f->to[r] = sees ? q->to[row] : 0;
        f->part |= f->to[r] - f->from[r] < KEY_BLOCK;
    }
}

/* Weights of query r to numbers at the front of its row of scores; returns 16 sums of them. */
SWA_INLINE vf weigh_row(const softmax *f, float *s, int r) {
    const vf by = v_splat(f->by[r]), minus = v_splat(f->minus[r]);
    vf w[BLOCK_VECTORS];
    SWA_UNROLL
    for (int v = 0; v < BLOCK_VECTORS; v++) {
        const vf x = seen_scores(f, s, r, v);
        w[v] = v_exp2(LARGEST > 0 ? _mm512_fmsub_ps(x, by, minus) : v_sub(x, minus));
    }
    SWA_UNROLL
    for (int half = 0; half < 2; half++) {
        const __m512i row = amx_row(w[2 * half], w[2 * half + 1]);
        float *to = s + r * KEY_BLOCK + half * VL;
        _mm512_storeu_si512(to, row);
        if (QUERY_TERMS > 1)
            _mm512_storeu_si512(to + 2 * VL, amx_rest_row(w[2 * half], w[2 * half + 1], row));
    }
    return v_add(v_add(w[0], w[1]), v_add(w[2], w[3]));
}

/* Scores of queries i .. i + n - 1, n <= 16, to weights; their sums and out take in that the
 * largest score has risen. All of them at a time: a query alone would wait for its maximum, and
 * again for its sum. A query's `max` is its largest score less LARGEST. */
static void weigh(const float *key_scale, const many_queries *q, int64_t i, int64_t n) {
    const __mmask16 rows = (__mmask16)((1u << n) - 1);
    float *s = q->s + i % (2 * HALF) * KEY_BLOCK; /* of 32 queries, as in score_pair */
    softmax f = {.key_scale = key_scale};
    vf x[HALF];
    see(&f, q, i, n);
    SWA_UNROLL
    for (int r = 0; r < HALF; r++)
        x[r] = r >= n ? v_splat(-INFINITY)
                      : v_max(v_max(seen_scores(&f, s, r, 0), seen_scores(&f, s, r, 1)),
                              v_max(seen_scores(&f, s, r, 2), seen_scores(&f, s, r, 3)));
    JOIN_LANES(x, v_max);
    const vf by = LARGEST > 0
                      ? _mm512_maskz_loadu_ps(rows, q->packed + terms_floats(q->n, q->dp) + i)
                      : v_splat(1);
    const vf old = _mm512_mask_loadu_ps(v_splat(-INFINITY), rows, q->max + i);
    const vf reach = v_splat(LARGEST), scores = LARGEST > 0 ? v_mul(x[0], by) : x[0];
    const vf max = v_sub(v_max(scores, v_add(old, reach)), reach);
    const vf shrink = v_exp2_or_one(old, max); /* 1 where a query has seen nothing yet */
    const __mmask16 nothing = _mm512_cmp_ps_mask(max, v_splat(-INFINITY), _CMP_EQ_OQ);
    v_store(f.by, by);
    v_store(f.minus, _mm512_mask_mov_ps(max, nothing, v_zero()));
    SWA_UNROLL
    for (int r = 0; r < HALF; r++)
        x[r] = r < n ? weigh_row(&f, s, r) : v_zero();
    JOIN_LANES(x, v_add);
    const vf sum = _mm512_maskz_loadu_ps(rows, q->sum + i);
    _mm512_mask_storeu_ps(q->max + i, rows, max);
    _mm512_mask_storeu_ps(q->sum + i, rows, v_fma(sum, shrink, x[0]));
    _mm512_mask_storeu_ps(q->shrink + i, rows, shrink);
    unsigned risen = rows & _mm512_cmp_ps_mask(shrink, v_splat(1), _CMP_NEQ_UQ);
    for (; risen; risen &= risen - 1) {
        const int64_t r = i + __builtin_ctz(risen);
        const vf less = v_splat(q->shrink[r]);
        for (int64_t c = 0; c < q->dp; c += VL)
            v_store(q->out + r * q->dp + c, v_mul(v_load(q->out + r * q->dp + c), less));
    }
}

/* All columns of queries i .. i + n - 1, n <= 32. Rows that do not fill a tile pass through the
 * stash. */
static void mix_queries(const vectors *x, const many_queries *q, int64_t i, int64_t n) {
    const size_t row_bytes = (size_t)q->dp * sizeof(float);
    float *out = q->out + i * q->dp, *upper = out, *lower = out + HALF * q->dp;
    int from, to;
    seen_by(q, i, n, &from, &to);
    if (from >= to)
        return;
    const int64_t last = n > HALF ? n - HALF : n;
    float *tail = n > HALF ? lower : upper;
    if (last < HALF) {
        memcpy(q->stash, tail, (size_t)last * row_bytes);
        *(n > HALF ? &lower : &upper) = q->stash;
    }
    for (int64_t c = 0; c < q->dp; c += STRIP) {
        if (n > HALF)
            mix_pair(true, x, q, from, to, c, upper, lower);
        else
            mix_pair(false, x, q, from, to, c, upper, lower);
    }
    if (last < HALF)
        memcpy(tail, q->stash, (size_t)last * row_bytes);
}

/* Scores of queries i .. i + n - 1 with packed keys, where one of them sees a key of these. */
static void score_queries(const vectors *x, const many_queries *q, int64_t i, int64_t n) {
    int from, to;
    seen_by(q, i, n, &from, &to);
    for (int first = 0; first < KEY_BLOCK; first += 32) {
        if (from >= first + 32 || to <= first)
            continue;
        if (n > HALF)
            score_pair(true, x, q, i, first);
        else
            score_pair(false, x, q, i, first);
    }
}

/* States take in the block. */
static void attend_many(const vectors *x, const key_block *b, const many_queries *q) {
    pack_keys_of[x->type](x, b, q->dp, (char *)q->keys);
    pack_values_of[x->type](x, b, q->dp, (char *)q->values);
    configure();
    for (int64_t i = 0; i < q->n; i += 2 * HALF) {
        const int64_t n = min_i64(2 * HALF, q->n - i);
        score_queries(x, q, i, n);
        for (int64_t k = 0; k < n; k += HALF)
            weigh(x->type == ANEMO_KV_Q8 ? b->key_scale : NULL, q, i + k, min_i64(HALF, n - k));
        mix_queries(x, q, i, n);
    }
}

static void leave_many(void) {
    anemo_amx_leave();
}

#endif
