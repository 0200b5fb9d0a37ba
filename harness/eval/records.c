/* Records of an eval: one per rule, kind and level, one per text, and one per paired difference
 * from the first form of the weights. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "harness/eval/suite.h"
#include "harness/gate/code_hash.h"

typedef struct writer {
    const anemo_eval_suite *suite;
    const anemo_eval_run *run;
    const anemo_eval_record_info *info;
    anemo_record_sink *sink;
} writer;

/* What every record of this run says; `name` is completed by the caller's pattern. */
static anemo_record *begin(const writer *w, const char *task, const char *name,
                           const char *data_sha256, const char *interval) {
    const anemo_model_info *m = &w->run->info;
    anemo_record *r = anemo_record_create(ANEMO_RECORD_EVAL);
    anemo_record_text(r, NULL, "status", "passed");
    anemo_record_text(r, NULL, "suite", "eval");
    anemo_record_text(r, NULL, "repro", w->info->repro);
    if (w->info->demo)
        anemo_record_flag(r, NULL, "demo", true);
    anemo_record_text(r, "case", "name", name);
    anemo_record_text(r, "case", "task", task);
    anemo_record_text(r, "case", "data_sha256", data_sha256);
    anemo_record_text(r, "case", "model", m->name);
    anemo_record_text(r, "case", "model_sha256", m->source_sha256);
    anemo_record_text(r, "case", "architecture", m->architecture);
    anemo_record_number(r, "case", "parameters", m->parameters);
    anemo_record_integer(r, "case", "window", m->window);
    anemo_record_text(r, "case", "kv_type",
                      anemo_kv_type_name((anemo_kv_type)w->run->limits.kv_type));
    anemo_record_text(r, "solution", "weights", w->run->weights);
    anemo_record_text(r, "solution", "choices", w->run->choices);
    anemo_choices_record(w->suite->choices, r);
    const anemo_code_entry *engine_code = anemo_code_entry_of("engine");
    anemo_record_text(r, "solution", "code_hash", engine_code ? engine_code->hash : NULL);
    anemo_record_number(r, "solution", "resident_bytes", w->run->resident_bytes);
    anemo_record_text(r, "sampling", "interval", interval);
    anemo_record_device(r, w->info->device);
    return r;
}

static void metric(anemo_record *r, const char *name, const char *unit, bool lower_is_better,
                   const anemo_interval *i, int64_t n) {
    const bool open = isnan(i->lo) || isnan(i->hi);
    anemo_record_metric(r, name, unit, lower_is_better, i->value, open ? i->value : i->lo,
                        open ? i->value : i->hi, n);
}

static anemo_status finish(const writer *w, anemo_record *r, anemo_error *err) {
    const anemo_status status = anemo_record_write(w->sink, r, err);
    anemo_record_free(r);
    return status;
}

static anemo_status write_score(const writer *w, const anemo_eval_score *s, const char *task,
                                anemo_error *err) {
    char name[160];
    snprintf(name, sizeof name, "eval/%s/%s/level=%d", task, s->kind, s->level);
    anemo_record *r = begin(w, task, name, w->suite->cases->sha256, "95 % Wilson");
    anemo_record_text(r, "case", "task_kind", s->kind);
    anemo_record_integer(r, "case", "level", s->level);
    if (!strcmp(task, "exact")) {
        metric(r, "exact", "1", false, &s->exact, s->n);
    } else {
        const anemo_interval nll = {s->answer_nll, s->answer_nll, s->answer_nll};
        metric(r, "acc", "1", false, &s->choice, s->n_choice);
        metric(r, "acc_norm", "1", false, &s->choice_norm, s->n_choice);
        metric(r, "answer_nll", "nat", true, &nll, s->n_choice);
    }
    return finish(w, r, err);
}

static anemo_status write_text(const writer *w, int32_t index, anemo_error *err) {
    const anemo_eval_text_source *source = &w->suite->texts[index];
    const char *slash = strrchr(source->path, '/');
    const anemo_perplexity p =
        anemo_eval_perplexity(w->run->texts[index].units, w->run->texts[index].n_units);
    char name[256];
    snprintf(name, sizeof name, "eval/perplexity/%s/%s/context=%lld",
             slash ? slash + 1 : source->path, anemo_eval_rule_name(source->rule),
             (long long)w->run->texts[index].context);
    anemo_record *r = begin(w, "perplexity", name, w->run->texts[index].sha256,
                            "95 % t over chunks or documents");
    anemo_record_text(r, "case", "scorer", anemo_eval_rule_name(source->rule));
    anemo_record_integer(r, "case", "context", w->run->texts[index].context);
    anemo_record_integer(r, "case", "tokens", p.tokens);
    metric(r, "perplexity", "1", true, &p.perplexity, p.units);
    metric(r, "nll", "nat/token", true, &p.nll, p.units);
    if (w->run->texts[index].divergence) {
        const anemo_divergence d =
            anemo_eval_divergence(w->run->texts[index].divergence, w->run->texts[index].n_units);
        anemo_record_text(r, "case", "baseline", w->suite->reference_label);
        metric(r, "kl", "nat/token", true, &d.kl, d.units);
        metric(r, "same_top", "1", false, &d.same_top, d.units);
    }
    return finish(w, r, err);
}

static anemo_status write_difference(const writer *w, const anemo_eval_comparison *c, int32_t index,
                                     const anemo_eval_run *baseline, anemo_error *err) {
    char name[160];
    const bool shares = c->only_a >= 0;
    snprintf(name, sizeof name, "eval/difference/%d/%s", index, c->metric);
    const char *data = w->suite->cases ? w->suite->cases->sha256 : w->run->texts[0].sha256;
    anemo_record *r =
        begin(w, "difference", name, data, shares ? "95 % exact sign" : "95 % paired t");
    anemo_record_text(r, "case", "baseline", baseline->label);
    metric(r, "difference", shares ? "1" : "nat", !shares, &c->difference, c->n);
    if (!isnan(c->p_holm))
        anemo_record_metric(r, "p_holm", "1", false, c->p_holm, c->p_holm, c->p_holm, c->n);
    return finish(w, r, err);
}

static anemo_status write_scores(const writer *w, anemo_error *err) {
    anemo_eval_score scores[ANEMO_EVAL_SCORES];
    anemo_status status = ANEMO_OK;
    const int32_t n =
        anemo_eval_scores(w->suite->cases, w->run->results, scores, ANEMO_EVAL_SCORES);
    for (int32_t i = 0; i < n && status == ANEMO_OK; i++) {
        if (w->suite->rules.exact)
            status = write_score(w, &scores[i], "exact", err);
        if (w->suite->rules.choice && scores[i].n_choice && status == ANEMO_OK)
            status = write_score(w, &scores[i], "choice", err);
    }
    return status;
}

anemo_status anemo_eval_suite_record(const anemo_eval_suite *suite, const anemo_eval_run *run,
                                     const anemo_eval_run *baseline,
                                     const anemo_eval_record_info *info, anemo_record_sink *sink,
                                     anemo_error *err) {
    const writer w = {.suite = suite, .run = run, .info = info, .sink = sink};
    anemo_status status = suite->cases ? write_scores(&w, err) : ANEMO_OK;
    for (int32_t i = 0; i < suite->n_texts && status == ANEMO_OK; i++)
        status = write_text(&w, i, err);
    if (!baseline || status != ANEMO_OK)
        return status;
    anemo_eval_comparison c[ANEMO_EVAL_COMPARISONS + ANEMO_EVAL_TEXTS];
    const int32_t n = anemo_eval_suite_compare(suite, baseline, run, c);
    if (n < 0)
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the comparison");
    for (int32_t i = 0; i < n && status == ANEMO_OK; i++)
        status = write_difference(&w, &c[i], i, baseline, err);
    return status;
}
