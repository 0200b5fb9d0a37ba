/* swa, the definition. Row r of a sequence, at absolute position i, query head h, KV head
 * g = h / (n_heads / n_kv_heads):
 *
 *   visible   = positions j with first <= j <= i and, where window > 0, i - j < window
 *   score[j]  = scale * (q[r,h] . k[j,g])
 *   weight[j] = exp(score[j] - max) / (sum of exp(score - max) over visible + exp(sink[h] - max))
 *   out[r,h]  = sum over visible of weight[j] v[j,g]
 *
 * in double. The window counts W keys including the row's own; the sink term is there with
 * has_sinks only, and takes part in max. Positions below `first` hold no keys and are not seen: a
 * caller that frees pages behind a window keeps those that a row of this step still sees.
 */
#include "kernels/dense/common.h"
#include "kernels/swa/kv_page.h"
#include "kernels/swa/swa.h"

typedef struct swa_job {
    const anemo_swa_problem *p;
    const anemo_swa_args *a;
    kv_pages pages;
    char *memory; /* per thread: double score[context_max], vector[head_dim], mixed[head_dim] */
} swa_job;

static size_t thread_bytes(const anemo_swa_problem *p) {
    return align64(((size_t)p->context_max + 2 * (size_t)p->kv.head_dim) * sizeof(double));
}

static void attend(const swa_job *job, int64_t row, int32_t head, double *score) {
    const anemo_swa_problem *p = job->p;
    const kv_pages *pages = &job->pages;
    const int32_t d = p->kv.head_dim, kv_head = head / (p->kv.n_heads / p->kv.n_kv_heads);
    const int32_t sequence = kv_sequence_of_row(&pages->view, row);
    const int64_t position = kv_position(&pages->view, sequence, row);
    const int64_t begin = kv_first_visible(&pages->view, sequence, position, p->window);
    const int64_t n = position + 1 - begin;
    const float *q = job->a->q + (row * p->kv.n_heads + head) * d;
    float *out = job->a->out + (row * p->kv.n_heads + head) * d;
    double *vector = score + p->context_max, *mixed = vector + d;

    double max = p->has_sinks ? job->a->sinks[head] : -INFINITY;
    for (int64_t j = 0; j < n; j++) {
        kv_read(pages, kv_key(pages, sequence, begin + j, kv_head), vector);
        double dot = 0;
        for (int32_t i = 0; i < d; i++)
            dot += q[i] * vector[i];
        score[j] = p->scale * dot;
        max = fmax(max, score[j]);
    }
    double sum = p->has_sinks ? exp(job->a->sinks[head] - max) : 0;
    for (int32_t i = 0; i < d; i++)
        mixed[i] = 0;
    for (int64_t j = 0; j < n; j++) {
        const char *key = kv_key(pages, sequence, begin + j, kv_head);
        const double weight = exp(score[j] - max);
        sum += weight;
        kv_read(pages, key + pages->value_offset, vector);
        for (int32_t i = 0; i < d; i++)
            mixed[i] += weight * vector[i];
    }
    for (int32_t i = 0; i < d; i++)
        out[i] = (float)(mixed[i] / sum);
}

static void attend_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const swa_job *job = ctx;
    const size_t offset = (size_t)thread * thread_bytes(job->p);
    for (int64_t row = begin; row < end; row++)
        for (int32_t head = 0; head < job->p->kv.n_heads; head++)
            attend(job, row, head, (double *)(void *)(job->memory + offset));
}

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    return (size_t)n_threads * thread_bytes(problem);
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_swa_problem *p = problem;
    const anemo_swa_args *a = args;
    const anemo_status status = anemo_swa_check(p, a);
    if (status != ANEMO_OK)
        return status;
    if (exec->workspace_bytes < workspace_bytes(p, exec->n_threads))
        return ANEMO_E_MEMORY;
    swa_job job = {.p = p, .a = a, .pages = kv_pages_of(&p->kv, &a->kv)};
    job.memory = exec->workspace;
    exec->parallel(exec, a->rows, 1, attend_rows, &job);
    return ANEMO_OK;
}

const anemo_variant anemo_swa_ref = {
    .size = sizeof(anemo_variant),
    .name = "swa_ref",
    .op = ANEMO_OP_SWA,
    .backend = ANEMO_CPU,
    .traits = ANEMO_TRAIT_REFERENCE | ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "the definition: all scores, one softmax, in double",
    .accepts = anemo_swa_accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
