/* rope_append in plain C: rows in parallel, sines and cosines once per row instead of once per
 * head.
 *
 * Angles and rotation stay in double as in the definition: beside the matrices around it the op
 * costs nothing, and so the KV pages come out as the reference's to the last bit, which matters
 * most for q8, where a last-bit difference before rounding could become a whole step after it.
 */
#include "kernels/dense/common.h"
#include "kernels/swa/kv_page.h"
#include "kernels/swa/swa.h"

typedef struct rope_job {
    const anemo_rope_problem *p;
    const anemo_rope_args *a;
    kv_pages pages;
    char *memory; /* per thread: double cosine[rotary_dims / 2], sine[rotary_dims / 2] */
} rope_job;

static size_t thread_bytes(const anemo_rope_problem *p) {
    return align64((size_t)p->rotary_dims * sizeof(double));
}

/* Pair i is (first[i * step], second[i * step]). `scale` is 1 for k. */
static void rotate(float *first, float *second, int64_t step, int64_t n_pairs, const double *cosine,
                   const double *sine, double scale) {
    for (int64_t i = 0; i < n_pairs; i++) {
        const double a = first[i * step], b = second[i * step];
        first[i * step] = (float)((a * cosine[i] - b * sine[i]) * scale);
        second[i * step] = (float)((a * sine[i] + b * cosine[i]) * scale);
    }
}

static void rope_row(const rope_job *job, int64_t r, double *cosine, double *sine) {
    const anemo_rope_problem *p = job->p;
    const anemo_rope_args *a = job->a;
    const int64_t d = p->kv.head_dim, n_heads = p->kv.n_heads, n_kv_heads = p->kv.n_kv_heads;
    const int64_t n_pairs = p->rotary_dims / 2;
    const int64_t step = p->pairing == ANEMO_ROPE_INTERLEAVED ? 2 : 1;
    const int64_t partner = p->pairing == ANEMO_ROPE_INTERLEAVED ? 1 : n_pairs;
    const int32_t sequence = kv_sequence_of_row(&a->kv, r);
    const int64_t position = kv_position(&a->kv, sequence, r);
    const double temperature = anemo_rope_temperature(p, position);
    for (int64_t i = 0; i < n_pairs; i++) {
        const double angle = (double)position * a->inv_freq[i];
        cosine[i] = p->magnitude * cos(angle);
        sine[i] = p->magnitude * sin(angle);
    }
    for (int64_t h = 0; h < n_heads; h++) {
        float *q = a->q + (r * n_heads + h) * d;
        rotate(q, q + partner, step, n_pairs, cosine, sine, temperature);
        for (int64_t i = p->rotary_dims; i < d; i++)
            q[i] = (float)(q[i] * temperature);
    }
    for (int64_t h = 0; h < n_kv_heads; h++) {
        float *k = a->k + (r * n_kv_heads + h) * d;
        char *slot = kv_key(&job->pages, sequence, position, (int32_t)h);
        rotate(k, k + partner, step, n_pairs, cosine, sine, 1);
        kv_store(&job->pages, slot, k);
        kv_store(&job->pages, slot + job->pages.value_offset, a->v + (r * n_kv_heads + h) * d);
    }
}

static void rope_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const rope_job *job = ctx;
    const size_t offset = (size_t)thread * thread_bytes(job->p);
    double *cosine = (double *)(void *)(job->memory + offset);
    for (int64_t r = begin; r < end; r++)
        rope_row(job, r, cosine, cosine + job->p->rotary_dims / 2);
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
    exec->parallel(exec, a->rows, 4, rope_rows, &job);
    return ANEMO_OK;
}

const anemo_variant anemo_rope_append_c = {
    .size = sizeof(anemo_variant),
    .name = "rope_append_c",
    .op = ANEMO_OP_ROPE_APPEND,
    .backend = ANEMO_CPU,
    .traits = ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "rows in parallel, one sine and cosine per row and pair",
    .accepts = anemo_rope_append_accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
