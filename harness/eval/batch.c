/* Steps that are as full as the limits allow: each takes the next piece of every unfinished
 * sequence, in turn, until the rows or the logits rows of the step are used up. Sequences of
 * unequal length therefore cost what their tokens cost. */
#include "harness/eval/internal.h"

#include <math.h>
#include <stdlib.h>

#define KV_BYTES 2147483648.0

static int64_t least(int64_t a, int64_t b) {
    return a < b ? a : b;
}

anemo_limits anemo_eval_limits(const anemo_model_info *info, int64_t context,
                               int64_t tokens_per_step) {
    /* Logits in host memory are rows x vocab floats: at most 64 MiB, at least 16 rows. */
    int64_t rows = (int64_t)(64 << 20) / ((int64_t)sizeof(float) * info->vocab);
    rows = least(rows < 16 ? 16 : rows, tokens_per_step);
    /* More sessions than a step has rows are of no use; multiple choice needs two. */
    const double session_bytes = (double)context * (double)(info->layers * info->kv_heads) *
                                 (double)info->head_dim * 2 * sizeof(float);
    const int64_t fitting = (int64_t)(KV_BYTES / session_bytes);
    const int64_t sessions = least(fitting < 2 ? 2 : fitting, least(128, tokens_per_step));
    return (anemo_limits){.tokens_per_step = tokens_per_step,
                          .sessions = (int32_t)sessions,
                          .context = context,
                          .kv_type = ANEMO_KV_F32,
                          .logits_rows = rows};
}

anemo_status eval_cancelled(anemo_error *err) {
    return anemo_fail(err, ANEMO_E_CANCELLED, "interrupted");
}

double eval_log_sum(const float *logits, int64_t vocab) {
    double largest = logits[0], sum = 0;
    for (int64_t i = 1; i < vocab; i++)
        largest = logits[i] > largest ? logits[i] : largest;
    for (int64_t i = 0; i < vocab; i++)
        sum += exp((double)logits[i] - largest);
    return largest + log(sum);
}

/* How much of a line fits into what is left of a step; never across rows_from. */
static int32_t piece(const eval_line *line, int64_t rows_left, int64_t logits_left) {
    if (line->done < line->rows_from)
        return (int32_t)least(line->rows_from - line->done, rows_left);
    return (int32_t)least(line->n - line->done, least(rows_left, logits_left));
}

typedef struct step_memory {
    anemo_step_entry *entries;
    anemo_step_result *results;
    int64_t *line; /* of each entry */
} step_memory;

/* Fills one step with pieces of lines [first, n); returns the number of entries. */
static int32_t fill_step(const anemo_limits *limits, const eval_line *lines, int64_t first,
                         int64_t n, const step_memory *m) {
    int64_t rows_left = limits->tokens_per_step;
    int64_t logits_left = limits->logits_rows ? limits->logits_rows : rows_left;
    int32_t n_entries = 0;
    for (int64_t i = first; i < n && rows_left > 0; i++) {
        const eval_line *line = &lines[i];
        const int32_t size = line->done < line->n ? piece(line, rows_left, logits_left) : 0;
        if (!size)
            continue;
        const bool logits = line->done >= line->rows_from;
        m->entries[n_entries] =
            (anemo_step_entry){.session = line->session,
                               .tokens = line->tokens + line->done,
                               .n_tokens = size,
                               .want = logits ? ANEMO_WANT_LOGITS_ALL : ANEMO_WANT_NONE};
        m->line[n_entries++] = i;
        rows_left -= size;
        logits_left -= logits ? size : 0;
    }
    return n_entries;
}

static anemo_status run_step(const anemo_eval_engine *engine, eval_line *lines, int32_t n_entries,
                             const step_memory *m, eval_row row, void *ctx, anemo_error *err) {
    anemo_status status = anemo_step_submit(engine->plan, m->entries, n_entries, err);
    if (status == ANEMO_OK)
        status = anemo_step_wait(engine->plan, m->results, err);
    for (int32_t e = 0; status == ANEMO_OK && e < n_entries; e++) {
        eval_line *line = &lines[m->line[e]];
        if (m->entries[e].want == ANEMO_WANT_LOGITS_ALL)
            for (int32_t r = 0; r < m->entries[e].n_tokens; r++)
                row(ctx, m->line[e], line->done + r,
                    m->results[e].logits + r * engine->info->vocab);
        line->done += m->entries[e].n_tokens;
    }
    return status;
}

anemo_status eval_run_lines(const anemo_eval_engine *engine, eval_line *lines, int64_t n,
                            eval_row row, void *ctx, anemo_error *err) {
    const size_t room = (size_t)n + 1;
    step_memory m = {malloc(room * sizeof *m.entries), malloc(room * sizeof *m.results),
                     malloc(room * sizeof *m.line)};
    anemo_status status = m.entries && m.results && m.line
                              ? ANEMO_OK
                              : anemo_fail(err, ANEMO_E_MEMORY, "no memory for a step");
    for (int64_t first = 0; status == ANEMO_OK;) {
        while (first < n && lines[first].done == lines[first].n)
            first++;
        if (first == n)
            break;
        status = run_step(engine, lines, fill_step(&engine->limits, lines, first, n, &m), &m, row,
                          ctx, err);
    }
    free(m.entries);
    free(m.results);
    free(m.line);
    return status;
}
