/* embed in plain C: rows in parallel, decoded in float. */
#include "kernels/dense/common.h"
#include "kernels/dense/dense.h"

typedef struct embed_job {
    const anemo_embed_problem *p;
    const anemo_embed_args *a;
    char *memory; /* per thread: decode scratch */
} embed_job;

static size_t thread_bytes(const anemo_embed_problem *p) {
    return align64(anemo_weight_scratch_bytes(p->d));
}

static void embed_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const embed_job *job = ctx;
    void *scratch = job->memory + (size_t)thread * thread_bytes(job->p);
    for (int64_t r = begin; r < end; r++)
        anemo_weight_row_f32(job->a->weight, job->a->ids[r], job->a->y + r * job->p->d, scratch);
}

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    return (size_t)n_threads * thread_bytes(problem);
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_embed_problem *p = problem;
    const anemo_embed_args *a = args;
    if (a->m < 0 || a->m > p->m_max)
        return ANEMO_E_INPUT;
    if (exec->workspace_bytes < workspace_bytes(p, exec->n_threads))
        return ANEMO_E_MEMORY;
    embed_job job = {.p = p, .a = a, .memory = exec->workspace};
    exec->parallel(exec, a->m, 16, embed_rows, &job);
    return ANEMO_OK;
}

const anemo_variant anemo_embed_c = {
    .size = sizeof(anemo_variant),
    .name = "embed_c",
    .op = ANEMO_OP_EMBED,
    .backend = ANEMO_CPU,
    .traits = ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "rows in parallel, decoded in float",
    .accepts = anemo_embed_accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
