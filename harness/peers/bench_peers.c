/* Rounds over anemo and its peers, and what came of them. The engine stays open over all rounds of
 * a case, with its weights packed and its threads asleep while a peer runs; peers load the file
 * anew in every round, which is not in their samples. */
#include "harness/peers/peers.h"

#include "harness/measure/bench_model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { OWN = 0, ARMS = 1 + ANEMO_PEERS };

typedef struct session {
    anemo_device *device;
    anemo_peer_file *file;
    const anemo_peers_options *options;
    anemo_record_sink *sink;
    anemo_target_observer observer;
    void *ctx;
    anemo_probe *probe;
    bench_ceilings ceilings;
    int32_t done, total;
    anemo_error *err;
} session;

/* One case under way: arm 0 is anemo, arm 1 + i peer i. */
typedef struct trial {
    const anemo_peer_case *what;
    char model[4096];
    bench_engine *engine; /* NULL for start */
    bench_decode decode;
    char *choices;
    anemo_arm arm;
    anemo_samples samples;
    double ns[ARMS][ANEMO_PEER_SAMPLES];
    double *rows[ARMS];
    int32_t batch[ANEMO_PEER_SAMPLES];
    char why[ARMS][256]; /* an arm without figures */
    bench_result result[ARMS];
} trial;

/* ---------------------------------------------------------------- samples */

static anemo_status open_engine(session *s, trial *t) {
    const anemo_peer_case *w = t->what;
    const bool prompt = w->what == ANEMO_PEER_PROMPT;
    const char *const with[] = {w->with};
    const bench_engine_spec spec = {.path = t->model,
                                    .with = with,
                                    .n_with = w->with[0] != '\0',
                                    .prompt_tokens = prompt     ? w->tokens
                                                     : w->depth ? w->depth
                                                                : 1,
                                    .generated_tokens = prompt ? 2 : w->tokens + 1,
                                    .batch_max = (int32_t)w->batch,
                                    .seed = s->options->seed};
    anemo_status status = bench_engine_open(s->device, &spec, &t->engine, s->err);
    if (!status) {
        t->arm = prompt ? bench_prefill_arm(t->engine)
                        : bench_decode_arm(&t->decode, t->engine, (int32_t)w->batch);
        t->choices = anemo_plan_choices(t->engine->plan);
    }
    return status;
}

/* One call of the engine's arm; a decode's time is per step. */
static anemo_status sample_engine(trial *t, int64_t call, double *ns, anemo_error *err) {
    const anemo_clock *clock = &t->engine->clock;
    anemo_status status = t->arm.prepare ? t->arm.prepare(t->arm.ctx, err) : ANEMO_OK;
    const uint64_t before_ns = anemo_clock_now(clock);
    status = status ? status : t->arm.run(t->arm.ctx, call, err);
    *ns = (double)(anemo_clock_now(clock) - before_ns);
    if (t->what->what == ANEMO_PEER_DECODE) {
        *ns /= (double)t->what->tokens;
    }
    return status;
}

static anemo_status sample_start(session *s, const trial *t, double *ns) {
    char self[4096], model[4096], threads[16];
    char run[] = "run", prompt[] = "--prompt", text[] = ANEMO_PEER_START_PROMPT, n[] = "--tokens",
         one[] = "1", t_option[] = "--threads";
    snprintf(self, sizeof self, "%s", s->options->self);
    snprintf(model, sizeof model, "%s", t->model);
    snprintf(threads, sizeof threads, "%d", anemo_device_exec(s->device).n_threads);
    char *const arguments[] = {self, run, model, prompt, text, n, one, t_option, threads, NULL};
    return anemo_peer_time_process(arguments, ns, s->err);
}

static anemo_status sample_own(session *s, trial *t, int64_t first) {
    anemo_status status = ANEMO_OK;
    for (int32_t i = 0; !status && i < s->options->repetitions; i++) {
        double *ns = &t->ns[OWN][first + i];
        status = t->engine ? sample_engine(t, first + i, ns, s->err) : sample_start(s, t, ns);
    }
    return status;
}

/* A peer that fails is left out from then on; the run goes on without it. */
static void sample_peer(session *s, trial *t, int32_t i, int64_t first) {
    anemo_error err = {{0}};
    const anemo_peer_job job = {.what = t->what,
                                .model = t->model,
                                .threads = anemo_device_exec(s->device).n_threads,
                                .repetitions = s->options->repetitions};
    if (anemo_peer_run(&s->file->peers[i], &job, &t->ns[1 + i][first], &err) != ANEMO_OK) {
        snprintf(t->why[1 + i], sizeof *t->why, "%.250s", err.text);
    }
}

static bool wanted(const trial *t, int32_t peer) {
    for (int32_t i = 0; i < t->what->n_targets; i++) {
        for (int32_t k = 0; k < t->what->targets[i].n_terms; k++) {
            if (t->what->targets[i].term[k].peer == peer) {
                return true;
            }
        }
    }
    return false;
}

static anemo_status sample_round(session *s, trial *t, int64_t round) {
    int32_t order[ARMS];
    const int32_t n_arms = 1 + s->file->n_peers;
    const int64_t first = round * s->options->repetitions;
    anemo_status status = bench_ceilings_measure(&s->ceilings, round, s->err);
    anemo_sample_order(round, n_arms, order);
    for (int32_t i = 0; !status && i < n_arms; i++) {
        if (order[i] == OWN) {
            status = sample_own(s, t, first);
        } else if (!t->why[order[i]][0]) {
            sample_peer(s, t, order[i] - 1, first);
        }
    }
    for (int32_t i = 0; i < s->options->repetitions; i++) {
        t->batch[first + i] = (int32_t)round;
    }
    return status;
}

static anemo_status sample(session *s, trial *t) {
    anemo_status status = ANEMO_OK;
    double warm_up_ns;
    bench_ceilings_reset(&s->ceilings);
    if (t->engine) {
        bench_ceilings_want(&s->ceilings, t->what->what == ANEMO_PEER_PROMPT
                                              ? bench_prefill_roof(t->engine).arithmetic
                                              : bench_engine_arithmetic(t->engine, t->what->batch));
    }
    for (int32_t i = 0; i < t->what->n_targets; i++) {
        for (int32_t k = 0; k < t->what->targets[i].n_terms; k++) {
            if (t->what->targets[i].term[k].peer < 0) {
                bench_ceilings_want(&s->ceilings, t->what->targets[i].term[k].ceiling);
            }
        }
    }
    if (t->engine && !anemo_peer_is_long(t->what)) {
        status = sample_engine(t, 0, &warm_up_ns, s->err);
        t->decode.n_gaps = 0;
    }
    t->samples = (anemo_samples){.n_arms = 1 + s->file->n_peers,
                                 .ns = t->rows,
                                 .batch = t->batch,
                                 .calls_per_sample = 1,
                                 .warm_up_rounds = 1,
                                 .steady = true,
                                 .rule_met = true};
    for (int32_t i = 0; i < ARMS; i++) {
        t->rows[i] = t->ns[i];
    }
    for (int64_t r = 0; !status && r < s->options->rounds; r++) {
        if (s->options->interrupted && s->options->interrupted()) {
            status = ANEMO_E_CANCELLED;
        }
        status = status ? status : sample_round(s, t, r);
        t->samples.n = (r + 1) * s->options->repetitions;
    }
    return status ? status : bench_ceilings_measure(&s->ceilings, s->options->rounds, s->err);
}

/* ---------------------------------------------------------------- figures */

static bench_roof own_roof(const trial *t) {
    return !t->engine                           ? (bench_roof){.bytes = 0}
           : t->what->what == ANEMO_PEER_PROMPT ? bench_prefill_roof(t->engine)
                                                : bench_decode_roof(t->engine, t->decode.batch);
}

static anemo_status share_of(session *s, const trial *t, anemo_ceiling ceiling,
                             anemo_estimate *out) {
    bench_roof roof = own_roof(t);
    bench_result result;
    if (ceiling == ANEMO_CEILING_READ) {
        roof.ops = 0;
    } else {
        roof.bytes = 0;
        roof.arithmetic = ceiling;
    }
    const anemo_status status =
        bench_evaluate(&t->samples, OWN, &s->ceilings, &roof, &result, s->err);
    *out = result.roof;
    return status;
}

/* One term as a target of its own, so that one rule judges everything. */
static anemo_status evaluate_term(session *s, const trial *t, const anemo_peer_target *target,
                                  int32_t k, anemo_target *out, anemo_target_line *line) {
    const int32_t peer = target->term[k].peer;
    anemo_status status = ANEMO_OK;
    *out = (anemo_target){.kind = peer < 0 ? ANEMO_TARGET_CEILING : ANEMO_TARGET_RATE,
                          .ceiling = target->term[k].ceiling,
                          .bound = target->term[k].bound};
    snprintf(out->text, sizeof out->text, "%s", t->what->name);
    line->value = (anemo_estimate){.value = NAN, .lo = NAN, .hi = NAN};
    line->verdict = ANEMO_TARGET_NOT_MEASURED;
    if (peer < 0) {
        snprintf(out->measure, sizeof out->measure, "share of %s",
                 anemo_ceiling_name(target->term[k].ceiling));
        status = share_of(s, t, target->term[k].ceiling, &line->value);
    } else {
        snprintf(out->measure, sizeof out->measure, "speed / %s", s->file->peers[peer].name);
        if (t->why[1 + peer][0]) {
            snprintf(line->why, sizeof line->why, "%s: %.200s", s->file->peers[peer].name,
                     t->why[1 + peer]);
            return ANEMO_OK;
        }
        line->value = anemo_stats_paired_ratio(t->ns[OWN], t->ns[1 + peer], t->samples.n, 0.95);
    }
    if (!status && isfinite(line->value.value)) {
        line->verdict = anemo_target_judge(out, &line->value);
    }
    if (!status && line->value.needs) {
        snprintf(line->why, sizeof line->why, "%lld samples, an interval needs %lld",
                 (long long)line->value.n, (long long)line->value.needs);
    }
    return status;
}

/* MET < UNDECIDED < MISSED < NOT_MEASURED: the better of two alternatives counts. */
static int rank(anemo_target_verdict verdict) {
    return verdict == ANEMO_TARGET_MET         ? 0
           : verdict == ANEMO_TARGET_UNDECIDED ? 1
           : verdict == ANEMO_TARGET_MISSED    ? 2
                                               : 3;
}

/* ---------------------------------------------------------------- records */

static void record_repro(const session *s, const trial *t, anemo_record *record) {
    char text[1024];
    int at = snprintf(text, sizeof text,
                      "anemo bench peers %s --models DIR --case %s --rounds %d --repetitions %d "
                      "--seed %llu --threads %d",
                      s->file->path, t->what->name, s->options->rounds, s->options->repetitions,
                      (unsigned long long)s->options->seed, anemo_device_exec(s->device).n_threads);
    for (int32_t i = 0; i < s->file->n_peers && at < (int)sizeof text - 64; i++) {
        if (s->file->peers[i].binary) {
            at += snprintf(text + at, sizeof text - (size_t)at, " --peer %s=BINARY",
                           s->file->peers[i].name);
        }
    }
    anemo_record_text(record, NULL, "repro", text);
}

static anemo_status record_arm(session *s, trial *t, int32_t arm) {
    const anemo_peer *peer = arm ? &s->file->peers[arm - 1] : NULL;
    const anemo_stop stop = {.kind = ANEMO_STOP_COUNT, .count = t->samples.n};
    const anemo_sampling how = {.clock = anemo_clock_raw(), .stop = stop};
    char name[128];
    anemo_record *record = anemo_record_create(ANEMO_RECORD_MODEL);
    snprintf(name, sizeof name, "peers/%s/%s", t->what->name, peer ? peer->name : "anemo");
    anemo_record_text(record, NULL, "suite", "bench peers");
    anemo_record_text(record, NULL, "status", t->why[arm][0] ? "failed" : "passed");
    record_repro(s, t, record);
    anemo_record_text(record, "case", "name", name);
    anemo_record_integer(record, "case", "batch", t->what->batch);
    if (peer) {
        const bool common = t->what->batch > 1 || t->what->what == ANEMO_PEER_START;
        const char *version = anemo_peer_version(peer, t->what);
        snprintf(name, sizeof name, "%s %s", peer->name,
                 version[0] ? version : "(no version told)");
        anemo_record_text(record, "case", "model", s->file->models[t->what->model].name);
        anemo_record_text(record, "solution", "program", name);
        anemo_record_text(record, "solution", "flags",
                          common ? peer->common_flags : peer->bench_flags);
    } else if (t->engine) {
        bench_record_model(record, t->engine, t->choices, bench_resident_bytes(s->device));
    }
    if (t->why[arm][0]) {
        anemo_record_text(record, NULL, "why", t->why[arm]);
    } else {
        bench_record_result(record, &t->samples, arm, &how, &t->result[arm]);
    }
    const anemo_status status = anemo_record_write(s->sink, record, s->err);
    anemo_record_free(record);
    return status;
}

static anemo_status record_target(session *s, const trial *t, const anemo_target_line *line) {
    char text[256];
    anemo_record *record = anemo_record_create(ANEMO_RECORD_MODEL);
    anemo_record_text(record, NULL, "suite", "model targets");
    record_repro(s, t, record);
    snprintf(text, sizeof text, "target/%s/%s", t->what->name, line->target->measure);
    anemo_record_text(record, "case", "name", text);
    anemo_record_text(record, "case", "model", s->file->models[t->what->model].name);
    anemo_record_number(record, "case", "at_least", line->target->bound);
    anemo_record_device(record, s->device);
    const bool there = line->verdict != ANEMO_TARGET_NOT_MEASURED;
    anemo_record_text(record, NULL, "status", there ? "passed" : "skipped");
    if (there) {
        const anemo_estimate *v = &line->value;
        anemo_record_text(record, NULL, "judged", anemo_target_verdict_name(line->verdict));
        anemo_record_metric(record, "measured", "1", false, v->value, v->lo, v->hi, v->n);
        anemo_record_reason(record, "one-occasion", false);
    } else {
        anemo_record_text(record, NULL, "why", line->why);
    }
    const anemo_status status = anemo_record_write(s->sink, record, s->err);
    anemo_record_free(record);
    return status;
}

/* ---------------------------------------------------------------- reporting */

static anemo_status report_target(session *s, const trial *t, const anemo_peer_target *target) {
    anemo_target term[2];
    anemo_target_line line[2];
    anemo_target_group group = {.n_arms = 0};
    int best = 0;
    snprintf(group.name, sizeof group.name, "%s", s->file->models[t->what->model].name);
    for (int32_t k = 0; k < target->n_terms; k++) {
        line[k] = (anemo_target_line){.group = &group,
                                      .target = &term[k],
                                      .case_name = t->what->name,
                                      .variant = NULL,
                                      .done = s->done,
                                      .total = s->total};
        const anemo_status status = evaluate_term(s, t, target, k, &term[k], &line[k]);
        if (status) {
            return status;
        }
        best = rank(line[k].verdict) < rank(line[best].verdict) ? k : best;
    }
    anemo_status status = ANEMO_OK;
    for (int32_t k = 0; !status && k < target->n_terms; k++) {
        status = record_target(s, t, &line[k]);
    }
    if (target->n_terms > 1) {
        const anemo_target_line *other = &line[1 - best];
        snprintf(line[best].why, sizeof line[best].why, "or %s %.3f [%.3f, %.3f] >= %.2f: %s",
                 other->target->measure, other->value.value, other->value.lo, other->value.hi,
                 other->target->bound, anemo_target_verdict_name(other->verdict));
    }
    s->observer(s->ctx, &line[best]);
    return status;
}

static anemo_status report(session *s, trial *t) {
    anemo_status status = ANEMO_OK;
    for (int32_t arm = 0; !status && arm < t->samples.n_arms; arm++) {
        if (t->why[arm][0]) {
            continue;
        }
        const bench_roof roof = own_roof(t);
        status = bench_evaluate(&t->samples, arm, &s->ceilings, &roof, &t->result[arm], s->err);
    }
    for (int32_t arm = 0; !status && arm < t->samples.n_arms; arm++) {
        const bool named = arm == OWN || (s->file->peers[arm - 1].binary && wanted(t, arm - 1));
        status = named ? record_arm(s, t, arm) : ANEMO_OK;
    }
    for (int32_t i = 0; !status && i < t->what->n_targets; i++) {
        status = report_target(s, t, &t->what->targets[i]);
    }
    return status;
}

/* ---------------------------------------------------------------- cases */

static bool find_peers(session *s, trial *t) {
    for (int32_t i = 0; i < s->file->n_peers; i++) {
        if (!s->file->peers[i].binary) {
            snprintf(t->why[1 + i], sizeof *t->why, "no binary was given (--peer %s=BINARY)",
                     s->file->peers[i].name);
        } else if (!wanted(t, i)) {
            snprintf(t->why[1 + i], sizeof *t->why, "no target asks for it");
        }
    }
    const anemo_peer_model *model = &s->file->models[t->what->model];
    snprintf(t->model, sizeof t->model, "%s/%s.gguf", s->options->models, model->name);
    return access(t->model, R_OK) == 0;
}

/* All targets of a case that was not run, and why. */
static anemo_status report_unmeasured(session *s, const trial *t, const char *why) {
    anemo_status status = ANEMO_OK;
    for (int32_t i = 0; !status && i < t->what->n_targets; i++) {
        const anemo_peer_target *target = &t->what->targets[i];
        const int32_t peer = target->term[0].peer;
        anemo_target term = {.kind = peer < 0 ? ANEMO_TARGET_CEILING : ANEMO_TARGET_RATE,
                             .ceiling = target->term[0].ceiling,
                             .bound = target->term[0].bound};
        anemo_target_group group = {.n_arms = 0};
        anemo_target_line line = {.group = &group,
                                  .target = &term,
                                  .case_name = t->what->name,
                                  .value = {.value = NAN, .lo = NAN, .hi = NAN},
                                  .verdict = ANEMO_TARGET_NOT_MEASURED,
                                  .done = s->done,
                                  .total = s->total};
        snprintf(group.name, sizeof group.name, "%s", s->file->models[t->what->model].name);
        snprintf(term.text, sizeof term.text, "%s", t->what->name);
        snprintf(term.measure, sizeof term.measure, "%s%s", peer < 0 ? "share of " : "speed / ",
                 peer < 0 ? anemo_ceiling_name(term.ceiling) : s->file->peers[peer].name);
        snprintf(line.why, sizeof line.why, "%.250s", why);
        status = record_target(s, t, &line);
        s->observer(s->ctx, &line);
    }
    return status;
}

static anemo_status report_absent(session *s, const trial *t) {
    const anemo_peer_model *model = &s->file->models[t->what->model];
    char why[320];
    snprintf(why, sizeof why, "%.80s/%.32s.gguf is not there; it is made from: %.120s",
             s->options->models, model->name, model->source);
    return report_unmeasured(s, t, why);
}

/* anemo cannot run this case here; the others may. */
static anemo_status report_refused(session *s, trial *t) {
    snprintf(t->why[OWN], sizeof *t->why, "%.250s", s->err->text);
    *s->err = (anemo_error){{0}};
    const anemo_status status = record_arm(s, t, OWN);
    return status ? status : report_unmeasured(s, t, t->why[OWN]);
}

static anemo_status run_case(session *s, const anemo_peer_case *what) {
    trial *t = calloc(1, sizeof *t);
    if (!t) {
        return anemo_fail(s->err, ANEMO_E_MEMORY, "no memory for a case");
    }
    t->what = what;
    const bool there = find_peers(s, t);
    anemo_status status = ANEMO_OK;
    if (there) {
        status = what->what == ANEMO_PEER_START ? ANEMO_OK : open_engine(s, t);
        status = status ? status : sample(s, t);
    }
    s->done++;
    if (status && status != ANEMO_E_CANCELLED) {
        status = report_refused(s, t);
    } else if (!status) {
        status = there ? report(s, t) : report_absent(s, t);
    }
    bench_decode_end(&t->decode);
    bench_engine_close(t->engine);
    free(t->choices);
    free(t);
    return status;
}

static bool case_wanted(const session *s, int32_t i) {
    return !s->options->filter || strstr(s->file->cases[i].name, s->options->filter);
}

anemo_status anemo_bench_peers(anemo_device *device, anemo_peer_file *file,
                               const anemo_peers_options *options, anemo_record_sink *sink,
                               anemo_target_observer observer, void *ctx, anemo_error *err) {
    session s = {.device = device,
                 .file = file,
                 .options = options,
                 .sink = sink,
                 .observer = observer,
                 .ctx = ctx,
                 .err = err};
    const anemo_clock clock = anemo_clock_raw();
    if (options->rounds < 1 || options->repetitions < 1 ||
        options->rounds * options->repetitions > ANEMO_PEER_SAMPLES) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%d rounds of %d repetitions; accepted: 1 to %d samples together",
                          options->rounds, options->repetitions, ANEMO_PEER_SAMPLES);
    }
    for (int32_t i = 0; i < file->n_cases; i++) {
        s.total += case_wanted(&s, i);
    }
    if (s.total == 0) {
        return anemo_fail(err, ANEMO_E_INPUT, "no case of %s has '%s' in its name", file->path,
                          options->filter);
    }
    anemo_status status = anemo_probe_create(device, &clock, 0, &s.probe, err);
    if (status) {
        return status;
    }
    s.ceilings = bench_ceilings_of(s.probe);
    for (int32_t i = 0; !status && i < file->n_cases; i++) {
        status = case_wanted(&s, i) ? run_case(&s, &file->cases[i]) : ANEMO_OK;
    }
    bench_ceilings_free(&s.ceilings);
    anemo_probe_free(s.probe);
    return status;
}
