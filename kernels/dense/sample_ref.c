/* sample, the definition. Per row, with l the logits:
 *
 *   a NaN logit, or no logit above -inf: -1
 *   temperature 0: the largest logit, ties to the lower index
 *   else, in double:
 *
 *   w[i]   exp((l[i] - max) / temperature); 1 where l[i] = max, so that +inf is a number, too
 *   order  tokens by logit, largest first, ties to the lower index
 *   kept   the first top_k of the order (0, or more than the vocabulary: all); with top_p < 1, of
 *          those the shortest beginning whose sum of w reaches top_p times the sum over all of
 *          them, at least one token (so top_p = 0 is the largest logit)
 *   u      philox(seed, counter) in [0, 1)
 *   id     the first kept token, now by index, where the running sum of w exceeds u times the sum
 *          over the kept
 *
 * Drawing by index makes a draw without restriction one pass over the logits, with no sort, on
 * every backend; the order only decides who is kept. A token of weight 0 is never drawn.
 */
#include <math.h>

#include "kernels/dense/common.h"
#include "kernels/dense/dense.h"

/* Does token a come before token b in the order? */
static bool before(const float *logits, int32_t a, int32_t b) {
    return logits[a] > logits[b] || (logits[a] == logits[b] && a < b);
}

/* order[n] = 0 .. n-1 sorted; other[n] is scratch. Bottom-up merge sort: qsort may allocate. */
static void sort_tokens(const float *logits, int32_t n, int32_t *order, int32_t *other) {
    for (int32_t i = 0; i < n; i++)
        order[i] = i;
    for (int64_t width = 1; width < n; width *= 2) {
        for (int64_t begin = 0; begin < n; begin += 2 * width) {
            const int64_t middle = min_i64(begin + width, n), end = min_i64(begin + 2 * width, n);
            int64_t a = begin, b = middle;
            for (int64_t i = begin; i < end; i++)
                other[i] = b == end || (a < middle && before(logits, order[a], order[b]))
                               ? order[a++]
                               : order[b++];
        }
        memcpy(order, other, (size_t)n * sizeof *order);
    }
}

/* How many tokens of the order are kept. */
static int32_t count_kept(const anemo_sample_params *s, const double *w, const int32_t *order,
                          int32_t vocab) {
    const int32_t n = s->top_k > 0 && s->top_k < vocab ? s->top_k : vocab;
    if (s->top_p >= 1)
        return n;
    double all = 0, running = 0;
    for (int32_t i = 0; i < n; i++)
        all += w[order[i]];
    for (int32_t i = 0; i < n; i++) {
        running += w[order[i]];
        if (running >= s->top_p * all)
            return i + 1;
    }
    return n;
}

static int32_t sample_row(const anemo_sample_params *s, const float *logits, int32_t vocab,
                          double *w, int32_t *order, int32_t *other) {
    int32_t best = 0;
    for (int32_t i = 0; i < vocab; i++) {
        if (isnan(logits[i]))
            return -1;
        if (logits[i] > logits[best])
            best = i;
    }
    if (logits[best] == -INFINITY)
        return -1;
    if (s->temperature == 0)
        return best;

    for (int32_t i = 0; i < vocab; i++)
        w[i] = logits[i] == logits[best] ? 1
                                         : exp(((double)logits[i] - logits[best]) / s->temperature);
    sort_tokens(logits, vocab, order, other);
    const int32_t n_kept = count_kept(s, w, order, vocab);
    for (int32_t i = n_kept; i < vocab; i++)
        w[order[i]] = 0;

    double all = 0, running = 0;
    for (int32_t i = 0; i < vocab; i++)
        all += w[i];
    const double target = anemo_philox_uniform(s->seed, s->counter) * all;
    int32_t id = -1;
    for (int32_t i = 0; i < vocab && id < 0; i++) {
        running += w[i];
        if (running > target)
            id = i;
    }
    return id;
}

static size_t workspace_bytes(const void *problem, int32_t n_threads) {
    const anemo_sample_problem *p = problem;
    (void)n_threads;
    return (size_t)p->vocab * (sizeof(double) + 2 * sizeof(int32_t));
}

static anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const anemo_sample_problem *p = problem;
    const anemo_sample_args *a = args;
    const anemo_status status = anemo_sample_check(p, a);
    if (status != ANEMO_OK)
        return status;
    if (exec->workspace_bytes < workspace_bytes(p, exec->n_threads))
        return ANEMO_E_MEMORY;
    double *w = exec->workspace;
    int32_t *order = (int32_t *)(void *)(w + p->vocab), *other = order + p->vocab;
    for (int64_t r = 0; r < a->m; r++)
        a->ids[r] =
            sample_row(&a->params[r], a->logits + r * p->vocab, (int32_t)p->vocab, w, order, other);
    return ANEMO_OK;
}

const anemo_variant anemo_sample_ref = {
    .size = sizeof(anemo_variant),
    .name = "sample_ref",
    .op = ANEMO_OP_SAMPLE,
    .backend = ANEMO_CPU,
    .traits = ANEMO_TRAIT_REFERENCE | ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "the definition: full sort, double weights",
    .accepts = anemo_sample_accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
