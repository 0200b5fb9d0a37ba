/* See size.h. */
#include "harness/cost/size.h"

#include "harness/cost/scenario_internal.h"
#include "harness/record/record.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SIMULATED   1000 /* requests of one simulation: p95 needs 59 */
#define PAGE_TOKENS 64
#define Z95         1.6448536269514722

/* ---------------------------------------------------------------- reading */

/* [[x, seconds], ...], x ascending. */
static void read_curve(scenario_reader *r, const json_t *from, const char *where, const char *key,
                       anemo_step_curve *c) {
    const json_t *list = json_object_get(from, key);
    c->n = (int32_t)json_array_size(list);
    if (c->n < 1 || c->n > ANEMO_STEP_POINTS) {
        scenario_refuse(r, "%s.%s is not a list of 1 to %d pairs [number, seconds]", where, key,
                        ANEMO_STEP_POINTS);
        c->n = 0;
        return;
    }
    for (int32_t i = 0; i < c->n; i++) {
        const json_t *pair = json_array_get(list, (size_t)i);
        c->x[i] = json_number_value(json_array_get(pair, 0));
        c->seconds[i] = json_number_value(json_array_get(pair, 1));
        if (json_array_size(pair) != 2 || !(c->x[i] > (i ? c->x[i - 1] : 0)) ||
            !(c->seconds[i] > 0) || !(c->seconds[i] < 1e4))
            scenario_refuse(r,
                            "%s.%s[%d] is not a pair of a number above the one before and seconds "
                            "above 0",
                            where, key, i);
    }
}

static void insert(scenario_reader *r, anemo_step_curve *c, double x, double seconds) {
    int32_t i = 0;
    while (i < c->n && c->x[i] < x)
        i++;
    if (i < c->n && c->x[i] == x) { /* measured twice: the slower one */
        c->seconds[i] = fmax(c->seconds[i], seconds);
        return;
    }
    if (c->n == ANEMO_STEP_POINTS) {
        scenario_refuse(r, "records: more than %d step times", ANEMO_STEP_POINTS);
        return;
    }
    memmove(c->x + i + 1, c->x + i, (size_t)(c->n - i) * sizeof *c->x);
    memmove(c->seconds + i + 1, c->seconds + i, (size_t)(c->n - i) * sizeof *c->seconds);
    c->x[i] = x;
    c->seconds[i] = seconds;
    c->n++;
}

typedef struct taking {
    scenario_reader *r;
    anemo_step_table *table;
} taking;

/* Prefill and decode records of `bench model`, composed ones too. */
static bool take_record(void *context, anemo_record *record) {
    taking *t = context;
    anemo_metric m;
    const char *kind = anemo_record_get_text(record, NULL, "kind");
    const char *status = anemo_record_get_text(record, NULL, "status");
    const char *verdict = anemo_record_get_text(record, "validity", "verdict");
    if (!kind || strcmp(kind, "model") != 0 || !status || strcmp(status, "passed") != 0 ||
        (verdict && strcmp(verdict, "INVALID") == 0))
        return true;
    if (anemo_record_get_flag(record, NULL, "demo") &&
        !anemo_record_get_flag(record, "case", "composed")) {
        scenario_refuse(t->r,
                        "sizing.records: record %s is of the embedded demo model, which nobody "
                        "buys a machine for",
                        anemo_record_get_text(record, NULL, "id"));
        return false;
    }
    double prompt = (double)anemo_record_get_integer(record, "case", "prompt_tokens");
    double batch = (double)anemo_record_get_integer(record, "case", "batch");
    if (anemo_record_find_metric(record, "ttft", &m) && prompt > 0)
        insert(t->r, &t->table->prefill, prompt, m.value);
    else if (anemo_record_find_metric(record, "tpot", &m) && batch > 0)
        insert(t->r, &t->table->decode, batch, m.value);
    return t->r->status == ANEMO_OK;
}

static void read_steps(scenario_reader *r, const json_t *from, const char *where,
                       anemo_size_spec *out) {
    const json_t *records = json_object_get(from, "records");
    char path[4096];
    if (!records) {
        read_curve(r, from, where, "prefill", &out->table.prefill);
        read_curve(r, from, where, "decode", &out->table.decode);
        return;
    }
    taking t = {r, &out->table};
    for (size_t i = 0; i < json_array_size(records) && r->status == ANEMO_OK; i++) {
        const char *name = json_string_value(json_array_get(records, i));
        const char *slash = strrchr(r->path, '/');
        anemo_error err = {0};
        snprintf(path, sizeof path, "%.*s%s",
                 name && name[0] != '/' && slash ? (int)(slash - r->path) + 1 : 0, r->path,
                 name ? name : "");
        if (anemo_record_read(path, take_record, &t, NULL, &err) != ANEMO_OK)
            scenario_refuse(r, "%s.records: %.300s", where, err.text);
    }
    if (r->status == ANEMO_OK && (out->table.prefill.n == 0 || out->table.decode.n == 0))
        scenario_refuse(r,
                        "%s.records: they need at least one prefill and one decode of anemo bench "
                        "model",
                        where);
}

static void read_weights(scenario_reader *r, const json_t *memory, const char *where,
                         anemo_size_spec *out) {
    const json_t *list = json_object_get(memory, "weights");
    out->n_weights = (int32_t)json_array_size(list);
    if (out->n_weights < 1 || out->n_weights > ANEMO_SIZE_WEIGHTS) {
        scenario_refuse(r, "%s.weights is not a list of 1 to %d", where, ANEMO_SIZE_WEIGHTS);
        out->n_weights = 0;
    }
    for (int32_t i = 0; i < out->n_weights; i++) {
        const json_t *w = json_array_get(list, (size_t)i);
        anemo_size_weights *to = &out->weights[i];
        scenario_keys(r, w, where, "name parameters bits");
        scenario_text(r, w, where, "name", to->name, sizeof to->name, true);
        to->parameters = scenario_plain(r, w, where, "parameters", 1, 1e14, NAN);
        to->bits = scenario_plain(r, w, where, "bits", 1, 64, NAN);
        if (isnan(to->parameters) || isnan(to->bits))
            scenario_refuse(r, "%s.weights[%d] needs parameters and bits", where, i);
    }
}

static double needed(scenario_reader *r, const json_t *object, const char *where, const char *key,
                     double least, double most) {
    double x = scenario_plain(r, object, where, key, least, most, NAN);
    if (isnan(x))
        scenario_refuse(r, "%s.%s is missing", where, key);
    return isnan(x) ? least : x;
}

static void read_sizing(scenario_reader *r, const json_t *from, int32_t option,
                        anemo_size_spec *out) {
    char where[80];
    const json_t *memory = json_object_get(from, "memory");
    const anemo_fact *bytes =
        anemo_fact_find(r->reference, r->s->choice[option].machine, "memory", r->s->day);
    snprintf(where, sizeof where, "options.%.40s.sizing", r->s->choice[option].id);
    scenario_keys(r, from, where,
                  "units_per_replica memory step_tokens sessions prefill decode records in_sd_log "
                  "out_sd_log rack_kw lead_days");
    scenario_keys(r, memory, where,
                  "unit_bytes reserve_bytes activation_bytes weights layers kv_heads head_dim "
                  "kv_element_bytes window");
    out->units_per_replica =
        (int32_t)scenario_plain(r, from, where, "units_per_replica", 1, 1024, 1);
    out->unit_bytes =
        scenario_plain(r, memory, where, "unit_bytes", 1e8, 1e15, bytes ? bytes->value : NAN);
    if (isnan(out->unit_bytes))
        scenario_refuse(r, "%s.memory.unit_bytes is missing, and no row of '%s' tells it", where,
                        r->s->choice[option].machine);
    out->reserve_bytes = scenario_plain(r, memory, where, "reserve_bytes", 0, 1e13, 3.5e9);
    out->activation_bytes = scenario_plain(r, memory, where, "activation_bytes", 0, 1e13, 2e9);
    read_weights(r, memory, where, out);
    out->layers = (int64_t)needed(r, memory, where, "layers", 1, 10000);
    out->kv_heads = (int64_t)needed(r, memory, where, "kv_heads", 1, 10000);
    out->head_dim = (int64_t)needed(r, memory, where, "head_dim", 1, 10000);
    out->kv_element_bytes = scenario_plain(r, memory, where, "kv_element_bytes", 0.25, 8, 2);
    out->window = (int64_t)scenario_plain(r, memory, where, "window", 0, 1e9, 0);
    out->limits = (anemo_schedule_limits){
        .step_tokens = (int32_t)needed(r, from, where, "step_tokens", 1, 1e6),
        .sessions = (int32_t)needed(r, from, where, "sessions", 1, 1e6),
        .page_tokens = PAGE_TOKENS,
        .window = out->window};
    out->in_sd_log = scenario_plain(r, from, where, "in_sd_log", 0, 3, 0.6);
    out->out_sd_log = scenario_plain(r, from, where, "out_sd_log", 0, 3, 0.6);
    out->rack_kw = scenario_plain(r, from, where, "rack_kw", 1, 1000, 20);
    out->lead_days = scenario_plain(r, from, where, "lead_days", 0, 3650, 150);
    read_steps(r, from, where, out);
}

anemo_status anemo_size_read(const char *path, const anemo_reference *reference,
                             anemo_cost_scenario *s, int32_t option, bool *present,
                             anemo_size_spec *out, anemo_error *err) {
    scenario_reader r = {.path = path, .reference = reference, .s = s, .err = err};
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, NULL);
    const json_t *from =
        json_object_get(json_array_get(json_object_get(root, "options"), (size_t)option), "sizing");
    *out = (anemo_size_spec){0};
    *present = from != NULL;
    if (from)
        read_sizing(&r, from, option, out);
    json_decref(root);
    return r.status;
}

/* ---------------------------------------------------------------- computing */

static void budget(const anemo_cost_scenario *s, const anemo_size_spec *spec, anemo_size *out) {
    double in95 =
        s->x[ANEMO_G_IN] * exp(Z95 * spec->in_sd_log - spec->in_sd_log * spec->in_sd_log / 2);
    double out95 =
        s->x[ANEMO_G_OUT] * exp(Z95 * spec->out_sd_log - spec->out_sd_log * spec->out_sd_log / 2);
    double kept = in95 + out95;
    if (spec->window > 0)
        kept = fmin(kept, (double)(spec->window + PAGE_TOKENS - 1));
    out->memory = spec->units_per_replica * spec->unit_bytes;
    out->reserve = spec->units_per_replica * spec->reserve_bytes;
    out->activations = spec->activation_bytes;
    for (int32_t i = 0; i < spec->n_weights; i++)
        out->weights += spec->weights[i].parameters * spec->weights[i].bits / 8;
    out->kv_per_token = anemo_kv_bytes_per_token(spec->layers, spec->kv_heads, spec->head_dim,
                                                 spec->kv_element_bytes);
    out->kv_per_session = ceil(kept / PAGE_TOKENS) * PAGE_TOKENS * out->kv_per_token;
    out->kv_free = out->memory - out->reserve - out->weights - out->activations;
    out->sessions_fit = out->kv_free > 0 ? (int64_t)floor(out->kv_free / out->kv_per_session) : 0;
    out->fits = out->sessions_fit >= 1;
}

static void machines(const anemo_cost_scenario *s, int32_t option, const anemo_size_spec *spec,
                     anemo_size *out) {
    const anemo_cost_option *o = &s->model.option[option];
    const double *b = s->x + o->first;
    double usable = out->requests_per_s * (1 - s->x[ANEMO_G_HEADROOM]);
    out->replicas = (int32_t)ceil(out->peak_per_s / usable * (1 - 1e-12));
    out->replicas_per_server = o->units_per_server / spec->units_per_replica;
    out->servers = (out->replicas + out->replicas_per_server - 1) / out->replicas_per_server;
    out->redundant = o->redundant_servers;
    int32_t all = out->servers + out->redundant;
    out->spares = o->role == ANEMO_ROLE_OWNED
                      ? anemo_spares((double)all * o->units_per_server, b[ANEMO_B_FAILURES],
                                     spec->lead_days, 0.05)
                      : 0;
    out->kw = o->role == ANEMO_ROLE_OWNED
                  ? all * anemo_cost_server_watts(&s->model, option, s->x, 1) / 1000
                  : 0;
    out->racks = ceil(out->kw / spec->rack_kw);
    out->lead_days = spec->lead_days;
    double seconds = out->at.ttft_p50_s + out->at.tpot_p50_s * s->x[ANEMO_G_OUT];
    int64_t slots =
        spec->limits.sessions < out->sessions_fit ? spec->limits.sessions : out->sessions_fit;
    out->concurrency = out->requests_per_s * seconds;
    out->waits = anemo_erlang_c((int32_t)fmin((double)slots * out->replicas, 1e6),
                                out->peak_per_s * seconds);
}

static const char *bound_by(const anemo_cost_scenario *s, const anemo_size *out, int64_t sessions) {
    const anemo_simulation *at = &out->at;
    if (out->concurrency > 0.9 * (double)sessions)
        return "memory: sessions";
    if (s->limit_ttft_s > 0 && at->ttft_p95_s > 0.85 * s->limit_ttft_s)
        return "p95 TTFT";
    if (s->limit_tpot_s > 0 && at->tpot_p95_s > 0.85 * s->limit_tpot_s)
        return "p95 TPOT";
    return "machine time";
}

anemo_status anemo_size_compute(const anemo_cost_scenario *s, int32_t option,
                                const anemo_size_spec *spec, uint64_t seed, anemo_size *out,
                                anemo_error *err) {
    const anemo_cost_option *o = &s->model.option[option];
    *out =
        (anemo_size){.peak_per_s = anemo_cost_peak_rate(&s->model, s->x, s->x[ANEMO_G_REQUESTS])};
    if (spec->units_per_replica > o->units_per_server)
        return anemo_fail(
            err, ANEMO_E_INPUT,
            "options.%s: a replica of %d units does not fit a server of %d; nothing is "
            "known of replicas across servers",
            s->choice[option].id, spec->units_per_replica, o->units_per_server);
    budget(s, spec, out);
    if (!out->fits) {
        snprintf(out->binding, sizeof out->binding, "memory: it does not fit");
        return ANEMO_OK;
    }
    anemo_schedule_limits limits = spec->limits;
    /* a measured prefix cache spares the machine time of what it holds, not its pages' room */
    const anemo_cost_capacity *c = &s->choice[option].capacity;
    double cached = c->split.cached_was_measured ? s->x[ANEMO_G_CACHED] : 0;
    limits.kv_pages = (int64_t)(out->kv_free / (out->kv_per_token * PAGE_TOKENS));
    anemo_load load = {.requests = SIMULATED,
                       .in_mean = s->x[ANEMO_G_IN] * (1 - cached),
                       .in_sd_log = spec->in_sd_log,
                       .out_mean = s->x[ANEMO_G_OUT],
                       .out_sd_log = spec->out_sd_log,
                       .seed = seed};
    anemo_status status =
        anemo_simulate_capacity(&limits, &spec->table, &load, s->limit_ttft_s, s->limit_tpot_s,
                                &out->requests_per_s, &out->at, err);
    if (status != ANEMO_OK)
        return status;
    if (!(out->requests_per_s > 0)) {
        snprintf(out->binding, sizeof out->binding,
                 "limits: not even one request alone keeps them");
        return ANEMO_OK;
    }
    machines(s, option, spec, out);
    int64_t slots = limits.sessions < out->sessions_fit ? limits.sessions : out->sessions_fit;
    snprintf(out->binding, sizeof out->binding, "%s", bound_by(s, out, slots));
    return ANEMO_OK;
}
