/* qgemm through OpenBLAS: the yardstick for float activations, and the quick way to prefill.
 *
 * A thread takes a panel of 128 weight rows, dequantises it into its workspace once, and calls a
 * single-threaded sgemm that writes straight into y (beta = 1 for ADD); bias and activation follow
 * while the tile is in cache. The whole of W is never held in float.
 *
 * OpenBLAS' own threads are switched off and the panels are spread over exec's team, rather than
 * one sgemm over OpenBLAS' team: dequantising must be parallel anyway, two teams would fight for
 * the CPUs that ours is bound to, and OpenBLAS splits thin products (small m) badly.
 *
 * Not row-invariant: OpenBLAS picks kernels and blocking by m and by the CPU. */
#include "kernels/qgemm/epilogue.h"
#include "kernels/qgemm/qgemm_internal.h"

#include <cblas.h>
#include <limits.h>

enum { PANEL = 128, STRETCH = 256 /* rows of x per sgemm, so that the up tile stays small */ };

typedef struct job {
    const anemo_qgemm_problem *p;
    const anemo_qgemm_args *a;
    char *workspace;
    size_t thread_bytes;
} job;

static int64_t stretch_rows(const anemo_qgemm_problem *p) {
    return p->m_max < STRETCH ? p->m_max : STRETCH;
}

/* panel[128, k] (with ACT_MUL a second one, and up[stretch, 128]) and the scratch to decode with */
static size_t thread_bytes(const anemo_qgemm_problem *p) {
    const bool act_mul = p->epilogue == ANEMO_EPI_ACT_MUL;
    const int64_t floats =
        (act_mul ? 2 : 1) * PANEL * p->k + (act_mul ? PANEL : 0) * stretch_rows(p);
    return (size_t)anemo_round_up(4 * floats + (int64_t)anemo_weight_scratch_bytes(p->k), 64);
}

static void decode(const anemo_weight *w, anemo_qgemm_block b, float *panel, void *scratch) {
    for (int64_t j = 0; j < b.rows; j++) {
        anemo_weight_row_f32(w, b.row + j, panel + j * w->k, scratch);
    }
}

/* y[rows, columns] = beta y + x[rows, k] panel[columns, k]^T */
static void product(const job *j, int64_t row, int64_t rows, const float *panel, int64_t columns,
                    float beta, float *y, int64_t y_stride) {
    const int k = (int)j->p->k;
    const float *x = (const float *)j->a->x + row * j->p->k;
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, (int)rows, (int)columns, k, 1.0f, x, k,
                panel, k, beta, y, (int)y_stride);
}

static void add_bias(const float *bias, int64_t rows, int64_t columns, float *y, int64_t y_stride) {
    for (int64_t i = 0; i < rows; i++) {
        for (int64_t c = 0; c < columns; c++) {
            y[i * y_stride + c] += bias[c];
        }
    }
}

static void one_panel(const job *j, anemo_qgemm_block b, float *panel) {
    const anemo_qgemm_problem *p = j->p;
    const anemo_qgemm_args *a = j->a;
    const bool act_mul = p->epilogue == ANEMO_EPI_ACT_MUL;
    float *up_panel = panel + PANEL * p->k;
    float *up = act_mul ? up_panel + PANEL * p->k : up_panel;
    void *scratch = act_mul ? up + PANEL * stretch_rows(p) : up;
    decode(a->weight[b.part], b, panel, scratch);
    if (act_mul) {
        decode(a->weight[1], b, up_panel, scratch);
    }
    for (int64_t row = 0; row < a->m; row += STRETCH) {
        const int64_t rows = a->m - row < STRETCH ? a->m - row : STRETCH;
        const int64_t stride = a->y_stride[b.part];
        float *y = a->y[b.part] + row * stride + b.row;
        const float beta = p->epilogue == ANEMO_EPI_ADD ? 1.0f : 0.0f;
        product(j, row, rows, panel, b.rows, beta, y, stride);
        if (act_mul) {
            product(j, row, rows, up_panel, b.rows, 0.0f, up, PANEL);
            for (int64_t i = 0; i < rows; i++) {
                anemo_epilogue_act_mul(p, a, row + i, b.row, b.rows, y + i * stride,
                                       up + i * PANEL);
            }
        } else if (p->has_bias >> b.part & 1) {
            add_bias(a->bias[b.part] + b.row, rows, b.rows, y, stride);
        }
    }
}

static void panels(void *ctx, int64_t begin, int64_t end, int thread) {
    const job *j = ctx;
    float *panel = (float *)(void *)(j->workspace + (size_t)thread * j->thread_bytes);
    for (int64_t i = begin; i < end; i++) {
        one_panel(j, anemo_qgemm_block_at(j->p, PANEL, i), panel);
    }
}

static bool accepts(const void *problem, char *why, size_t why_bytes) {
    const anemo_qgemm_problem *p = problem;
    if (!anemo_qgemm_valid(p, why, why_bytes)) {
        return false;
    }
    if (p->k > INT_MAX) {
        return anemo_refuse(why, why_bytes, "k %lld; up to %d is accepted (BLAS counts in int)",
                            (long long)p->k, INT_MAX);
    }
    return true;
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
    for (int32_t i = 0; i < p->n_parts; i++) {
        if (j.a->y_stride[i] > INT_MAX) {
            return ANEMO_E_INPUT;
        }
    }
    openblas_set_num_threads(1); /* of the process: nothing else here uses OpenBLAS' team */
    exec->parallel(exec, anemo_qgemm_blocks(p, PANEL), 0, panels, &j);
    return ANEMO_OK;
}

extern const anemo_variant anemo_qgemm_openblas;
const anemo_variant anemo_qgemm_openblas = {
    .size = sizeof(anemo_variant),
    .name = "qgemm_openblas",
    .op = ANEMO_OP_QGEMM,
    .backend = ANEMO_CPU,
    .m_from = 32, /* below, qgemm_c's tile is as quick (Zen 4, one core) */
    .idea = "dequantise 128 rows, OpenBLAS sgemm per thread",
    .accepts = accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
