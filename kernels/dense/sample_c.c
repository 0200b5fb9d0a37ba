/* sample in plain C: rows in parallel, no full sort.
 *
 * The definition (sample_ref.c) needs the order of the tokens only up to the last one it keeps. So
 * a binary heap over token numbers is built in O(vocab), and tokens are popped from it until top_k
 * or top_p is met; the last one popped is the cut: a token is kept exactly if it does not come
 * after the cut, which one comparison tells, so no set needs to be stored. Without top_k and top_p
 * there is no heap; with temperature 0 there are no exponentials.
 *
 * Weights are double as in the definition: 30 to 130 thousand exponentials per row are little
 * beside the output matrix, and draws then agree with the definition but for the order of two sums.
 */
#include <math.h>

#include "kernels/dense/common.h"
#include "kernels/dense/dense.h"

typedef struct sample_job {
    const anemo_sample_problem *p;
    const anemo_sample_args *a;
    char *memory; /* per thread: double w[vocab], int32 heap[vocab] */
} sample_job;

/* The largest logit's lowest index; -1 when there is a NaN or nothing above -inf. */
static int32_t find_largest(const float *logits, int32_t vocab) {
    float largest = -INFINITY;
    int32_t best = -1, nans = 0;
    for (int32_t i = 0; i < vocab; i++) {
        nans += logits[i] != logits[i];
        if (logits[i] > largest) {
            largest = logits[i];
            best = i;
        }
    }
    return nans ? -1 : best;
}

static bool before(const float *logits, int32_t a, int32_t b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

/* Moves heap[at] down until no child comes before it. */
static void sift_down(const float *logits, int32_t *heap, int32_t n, int32_t at) {
    const int32_t token = heap[at];
    for (;;) {
        int64_t child = 2 * (int64_t)at + 1;
        if (child >= n)
            break;
        if (child + 1 < n && before(logits, heap[child + 1], heap[child]))
            child++;
        if (!before(logits, heap[child], token))
            break;
        heap[at] = heap[child];
        at = (int32_t)child;
    }
    heap[at] = token;
}

static int32_t pop(const float *logits, int32_t *heap, int32_t *n) {
    const int32_t first = heap[0];
    heap[0] = heap[--*n];
    sift_down(logits, heap, *n, 0);
    return first;
}

/* The last kept token of the order; top_k or top_p restricts. all = sum of w over the vocabulary.
 */
static int32_t find_cut(const anemo_sample_params *s, const float *logits, int32_t vocab,
                        double all, double *w, int32_t *heap) {
    int32_t n = vocab;
    for (int32_t i = 0; i < vocab; i++)
        heap[i] = i;
    for (int32_t i = vocab / 2 - 1; i >= 0; i--)
        sift_down(logits, heap, n, i);

    const int32_t top_k = s->top_k > 0 && s->top_k < vocab ? s->top_k : vocab;
    int32_t cut = 0;
    if (top_k < vocab) { /* popped tokens go behind the shrinking heap: the last is at vocab - 1 */
        all = 0;
        while (n > vocab - top_k) {
            cut = pop(logits, heap, &n);
            heap[n] = cut;
            all += w[cut];
        }
    }
    double running = 0;
    for (int32_t i = 0; s->top_p < 1 && i < top_k; i++) {
        cut = top_k < vocab ? heap[vocab - 1 - i] : pop(logits, heap, &n);
        running += w[cut];
        if (running >= s->top_p * all)
            break;
    }
    return cut;
}

static int32_t sample_row(const anemo_sample_params *s, const float *logits, int32_t vocab,
                          double *w, int32_t *heap) {
    const int32_t best = find_largest(logits, vocab);
    if (best < 0 || s->temperature == 0)
        return best;
    const double largest = logits[best], temperature = s->temperature;
    double all = 0;
    for (int32_t i = 0; i < vocab; i++) {
        w[i] = logits[i] == logits[best] ? 1 : exp((logits[i] - largest) / temperature);
        all += w[i];
    }
    if (s->top_p < 1 || (s->top_k > 0 && s->top_k < vocab)) {
        const int32_t cut = find_cut(s, logits, vocab, all, w, heap);
        all = 0;
        for (int32_t i = 0; i < vocab; i++) {
            if (before(logits, cut, i))
                w[i] = 0;
            all += w[i];
        }
    }
    const double target = anemo_philox_uniform(s->seed, s->counter) * all;
    double running = w[0];
    int32_t id = 0;
    while (!(running > target))
        running += w[++id];
    return id;
}

static size_t thread_bytes(const anemo_sample_problem *p) {
    return align64((size_t)p->vocab * (sizeof(double) + sizeof(int32_t)));
}

static void sample_rows(void *ctx, int64_t begin, int64_t end, int thread) {
    const sample_job *job = ctx;
    const int64_t vocab = job->p->vocab;
    double *w = (double *)(void *)(job->memory + (size_t)thread * thread_bytes(job->p));
    int32_t *heap = (int32_t *)(void *)(w + vocab);
    for (int64_t r = begin; r < end; r++)
        job->a->ids[r] =
            sample_row(&job->a->params[r], job->a->logits + r * vocab, (int32_t)vocab, w, heap);
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
    exec->parallel(exec, a->m, 1, sample_rows, &job);
    return ANEMO_OK;
}

const anemo_variant anemo_sample_c = {
    .size = sizeof(anemo_variant),
    .name = "sample_c",
    .op = ANEMO_OP_SAMPLE,
    .backend = ANEMO_CPU,
    .traits = ANEMO_TRAIT_ROW_INVARIANT,
    .idea =
        "rows in parallel; a heap instead of a sort, popped only as far as top_k or top_p needs",
    .accepts = anemo_sample_accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
