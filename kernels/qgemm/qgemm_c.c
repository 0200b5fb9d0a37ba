/* qgemm in plain C, float: portable, and quick enough for a small model.
 *
 * A thread takes 16 weight rows, decodes them once into its workspace, and multiplies them with all
 * m rows of x, so decoding is paid once per weight however large m is. The inner tile is 4 weight
 * rows by 2 rows of x with 4 lanes along k (GNU vector types: SSE2 and NEON registers alike,
 * without asking the compiler for fast-math): 8 independent chains hide the add latency, 6 loads
 * feed 16 operations. Each result is the same four lane sums in the same order in every tile, so a
 * row's result depends on nothing but the row.
 *
 * Rejected: transposing the decoded rows for an outer product. It saves the horizontal sums and
 * loses more in the scattered stores when m is small. */
#include "kernels/qgemm/epilogue.h"
#include "kernels/qgemm/qgemm_internal.h"

enum { BLOCK = 16, TILE_N = 4, TILE_M = 2, LANES = 4 };
typedef float lanes __attribute__((vector_size(16), aligned(4), may_alias));

typedef struct job {
    const anemo_qgemm_problem *p;
    const anemo_qgemm_args *a;
    char *workspace;
    size_t thread_bytes;
} job;

/* Decoded rows of a block, for gate and up with ACT_MUL, and the scratch to decode with. */
static size_t thread_bytes(const anemo_qgemm_problem *p) {
    const int64_t blocks = p->epilogue == ANEMO_EPI_ACT_MUL ? 2 : 1;
    return (size_t)anemo_round_up(
        blocks * BLOCK * p->k * 4 + (int64_t)anemo_weight_scratch_bytes(p->k), 64);
}

static float lane_sum(const lanes *s) {
    return ((*s)[0] + (*s)[2]) + ((*s)[1] + (*s)[3]);
}

/* out[i][j] = x row i . w row j for mr x nr rows; both strides are k. mr and nr are constants at
 * every call, so that the loops over them unroll. */
static inline __attribute__((always_inline)) void tile(const float *x, const float *w, int64_t k,
                                                       int mr, int nr, float out[][BLOCK]) {
    lanes sum[TILE_M][TILE_N] = {{{0}}};
    int64_t kk = 0;
    for (; kk + LANES <= k; kk += LANES) {
        for (int j = 0; j < nr; j++) {
            const lanes wv = *(const lanes *)(w + j * k + kk);
            for (int i = 0; i < mr; i++) {
                sum[i][j] += wv * *(const lanes *)(x + i * k + kk);
            }
        }
    }
    for (int i = 0; i < mr; i++) {
        for (int j = 0; j < nr; j++) {
            float s = lane_sum(&sum[i][j]);
            for (int64_t t = kk; t < k; t++) {
                s += x[i * k + t] * w[j * k + t];
            }
            out[i][j] = s;
        }
    }
}

/* out[mr][rows] = x[mr, k] w[rows, k]^T */
static void strip(const float *x, const float *w, int64_t k, int mr, int64_t rows,
                  float out[][BLOCK]) {
    int64_t j = 0;
    for (; j + TILE_N <= rows; j += TILE_N) {
        float(*at)[BLOCK] = (float(*)[BLOCK])(&out[0][j]);
        if (mr == TILE_M) {
            tile(x, w + j * k, k, TILE_M, TILE_N, at);
        } else {
            tile(x, w + j * k, k, 1, TILE_N, at);
        }
    }
    for (; j < rows; j++) {
        float(*at)[BLOCK] = (float(*)[BLOCK])(&out[0][j]);
        if (mr == TILE_M) {
            tile(x, w + j * k, k, TILE_M, 1, at);
        } else {
            tile(x, w + j * k, k, 1, 1, at);
        }
    }
}

static void decode_block(const anemo_weight *w, anemo_qgemm_block b, float *rows, void *scratch) {
    for (int64_t j = 0; j < b.rows; j++) {
        anemo_weight_row_f32(w, b.row + j, rows + j * w->k, scratch);
    }
}

static void one_block(const job *j, anemo_qgemm_block b, float *rows) {
    const anemo_qgemm_problem *p = j->p;
    const anemo_qgemm_args *a = j->a;
    const int64_t k = p->k;
    const bool act_mul = p->epilogue == ANEMO_EPI_ACT_MUL;
    float *up_rows = rows + BLOCK * k;
    void *scratch = act_mul ? up_rows + BLOCK * k : up_rows;
    decode_block(a->weight[b.part], b, rows, scratch);
    if (act_mul) {
        decode_block(a->weight[1], b, up_rows, scratch);
    }
    for (int64_t i = 0; i < a->m; i += TILE_M) {
        const int mr = a->m - i < TILE_M ? 1 : TILE_M;
        const float *x = (const float *)a->x + i * k;
        float out[TILE_M][BLOCK], up[TILE_M][BLOCK];
        strip(x, rows, k, mr, b.rows, out);
        if (act_mul) {
            strip(x, up_rows, k, mr, b.rows, up);
        }
        for (int r = 0; r < mr; r++) {
            if (act_mul) {
                anemo_epilogue_act_mul(p, a, i + r, b.row, b.rows, out[r], up[r]);
            } else {
                anemo_epilogue_row(p, a, b.part, i + r, b.row, b.rows, out[r]);
            }
        }
    }
}

static void blocks(void *ctx, int64_t begin, int64_t end, int thread) {
    const job *j = ctx;
    float *rows = (float *)(void *)(j->workspace + (size_t)thread * j->thread_bytes);
    for (int64_t i = begin; i < end; i++) {
        one_block(j, anemo_qgemm_block_at(j->p, BLOCK, i), rows);
    }
}

static bool accepts(const void *problem, char *why, size_t why_bytes) {
    return anemo_qgemm_valid(problem, why, why_bytes);
}

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    return (size_t)n_threads * thread_bytes(problem);
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_qgemm_problem *p = problem;
    job j = {p, args, exec->workspace, thread_bytes(p)};
    if (exec->workspace_bytes < workspace_bytes(problem, exec->n_threads)) {
        return ANEMO_E_MEMORY;
    }
    exec->parallel(exec, anemo_qgemm_blocks(p, BLOCK), 0, blocks, &j);
    return ANEMO_OK;
}

extern const anemo_variant anemo_qgemm_c;
const anemo_variant anemo_qgemm_c = {
    .size = sizeof(anemo_variant),
    .name = "qgemm_c",
    .op = ANEMO_OP_QGEMM,
    .backend = ANEMO_CPU,
    .traits = ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "decode 16 rows once, 4x2 tile of 4 lanes",
    .accepts = accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
