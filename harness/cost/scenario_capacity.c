/* How fast a machine option is: from the mixes in the scenario, from records of anemo, from result
 * files of vLLM's benchmark, or as plain seconds per token. See scenario.h.
 *
 * A record of `bench model` is a mix of its own: a prefill of P tokens, or a decode step of B
 * sequences. A vLLM file is one, too: all its tokens in the time that the run took, which
 * overstates the machine time of a run that did not saturate; that is on the careful side. */
#include "harness/cost/scenario_internal.h"

#include "harness/cost/project.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MIXES_MAX       64
#define DEFAULT_SD      0.10 /* of ln speed between occasions, when fewer than three are known */
#define OCCASIONS_LEAST 3

typedef struct gathered {
    scenario_reader *r;
    const char *where, *file;
    anemo_cost_capacity *c;
    anemo_cost_mix mix[MIXES_MAX];
    int32_t n;
    double batch, units;
    char day[MIXES_MAX][11];     /* of each mix */
    anemo_machine_kind from, to; /* valid when c->projected */
} gathered;

static void add_mix(gathered *g, anemo_cost_mix mix, const char *day) {
    if (g->n == MIXES_MAX) {
        scenario_refuse(g->r, "%s: more than %d mixes", g->where, MIXES_MAX);
        return;
    }
    snprintf(g->day[g->n], sizeof *g->day, "%.10s", day ? day : "");
    if (strcmp(g->day[g->n], g->c->last_day) > 0)
        memcpy(g->c->last_day, g->day[g->n], sizeof g->c->last_day);
    g->mix[g->n++] = mix;
}

static void add_engine(anemo_cost_capacity *c, const char *engine) {
    if (!strstr(c->engine, engine))
        snprintf(c->engine + strlen(c->engine), sizeof c->engine - strlen(c->engine), "%s%s",
                 c->engine[0] ? ", " : "", engine);
}

static void read_mixes(gathered *g, const json_t *list) {
    size_t i;
    json_t *m;
    if (!json_is_array(list))
        scenario_refuse(g->r, "%s.mixes is not a list", g->where);
    json_array_foreach((json_t *)list, i, m) {
        char where[128];
        snprintf(where, sizeof where, "%.90s.mixes[%zu]", g->where, i);
        scenario_keys(g->r, m, where, "requests tokens_in tokens_cached tokens_out busy_s");
        double n = scenario_plain(g->r, m, where, "requests", 1, 1e12, 1);
        double in = scenario_plain(g->r, m, where, "tokens_in", 0, 1e9, NAN);
        double cached = scenario_plain(g->r, m, where, "tokens_cached", 0, 1e9, 0);
        double out = scenario_plain(g->r, m, where, "tokens_out", 0, 1e9, NAN);
        double busy = scenario_plain(g->r, m, where, "busy_s", 0, 1e12, NAN);
        if (isnan(in) || isnan(out) || isnan(busy) || cached > in)
            scenario_refuse(g->r,
                            "%s needs tokens_in, tokens_out and busy_s (of units, in all), and "
                            "tokens_cached of at most tokens_in",
                            where);
        g->c->most_in = fmax(g->c->most_in, in);
        g->c->most_out = fmax(g->c->most_out, out);
        add_mix(g, (anemo_cost_mix){n * (in - cached), n * cached, n * out, busy}, NULL);
    }
}

/* ---------------------------------------------------------------- projection */

/* "project_from": the records are of that machine kind, the option is of another one. */
static void read_projection(gathered *g, const json_t *from, const char *to) {
    anemo_error err = {0};
    char kind[64] = "";
    scenario_text(g->r, from, g->where, "project_from", kind, sizeof kind, false);
    if (!kind[0])
        return;
    g->c->projected = true;
    if (json_array_size(json_object_get(from, "records")) == 0 || json_object_get(from, "mixes") ||
        json_object_get(from, "class"))
        scenario_refuse(g->r,
                        "%s.project_from needs records of a %s, and neither mixes nor class beside "
                        "them; on it run: anemo bench model MODEL --ledger --prompt N --batch B "
                        "--record FILE",
                        g->where, kind);
    else if (g->units != 1)
        scenario_refuse(g->r,
                        "%s: units is %g; several units at work on one model are not projected, "
                        "the way between them is in no record",
                        g->where, g->units);
    else if (anemo_project_kind(g->r->reference, kind, g->r->s->day, &g->from, &err) != ANEMO_OK ||
             anemo_project_kind(g->r->reference, to, g->r->s->day, &g->to, &err) != ANEMO_OK ||
             anemo_project_allowed(&g->from, &g->to, &err) != ANEMO_OK)
        scenario_refuse(g->r, "%s.project_from: %.400s", g->where, err.text);
}

/* How much longer the record's step takes on the option's machine; 1 where it was measured. */
static double projected(gathered *g, const anemo_record *record) {
    anemo_error err = {0};
    double factor = 1;
    if (g->c->projected &&
        anemo_project_record(record, &g->from, &g->to, &factor, &err) != ANEMO_OK)
        scenario_refuse(g->r, "%s: %s: %.400s", g->where, g->file, err.text);
    return factor;
}

/* ---------------------------------------------------------------- records of anemo */

static bool take_record(void *context, anemo_record *record) {
    gathered *g = context;
    const char *kind = anemo_record_get_text(record, NULL, "kind");
    const char *id = anemo_record_get_text(record, NULL, "id");
    const char *verdict = anemo_record_get_text(record, "validity", "verdict");
    const char *status = anemo_record_get_text(record, NULL, "status");
    const char *day = anemo_record_get_text(record, NULL, "time");
    const char *machine = anemo_record_get_text(record, "machine", "id");
    if (!kind || strcmp(kind, "model") != 0)
        return true; /* kernels and scores stand in the same files */
    if (anemo_record_get_flag(record, NULL, "demo") &&
        !anemo_record_get_flag(record, "case", "composed")) {
        scenario_refuse(g->r,
                        "%s: %s: record %s is of the embedded demo model, which nobody buys a "
                        "machine for; measure yours: anemo bench model MODEL --record FILE",
                        g->where, g->file, id);
        return false;
    }
    if (!status || strcmp(status, "passed") != 0 || (verdict && strcmp(verdict, "INVALID") == 0))
        return true;
    if (g->c->machine[0] && machine && strcmp(g->c->machine, machine) != 0) {
        scenario_refuse(g->r, "%s: %s: records of two machines, %s and %s", g->where, g->file,
                        g->c->machine, machine);
        return false;
    }
    snprintf(g->c->machine, sizeof g->c->machine, "%s", machine ? machine : "");
    anemo_metric ttft, tpot;
    double prompt = (double)anemo_record_get_integer(record, "case", "prompt_tokens");
    double generated = (double)anemo_record_get_integer(record, "case", "generated_tokens");
    double batch = (double)anemo_record_get_integer(record, "case", "batch");
    double unit_s = g->units * projected(g, record); /* of one second of the record */
    if (anemo_record_find_metric(record, "ttft", &ttft) && prompt > 0) {
        add_mix(g, (anemo_cost_mix){prompt, 0, 0, ttft.value * unit_s}, day);
        g->c->most_in = fmax(g->c->most_in, prompt);
    } else if (anemo_record_find_metric(record, "tpot", &tpot) && batch == g->batch) {
        add_mix(g, (anemo_cost_mix){0, 0, batch, tpot.value * unit_s}, day);
        g->c->most_out = fmax(g->c->most_out, generated);
        g->c->tpot_s = fmax(g->c->tpot_s, tpot.hi * unit_s / g->units);
    } else {
        return true;
    }
    add_engine(g->c, "anemo");
    g->c->valid += verdict && strcmp(verdict, "VALID") == 0;
    g->c->weak += verdict && strcmp(verdict, "WEAK") == 0;
    return g->r->status == ANEMO_OK;
}

/* ---------------------------------------------------------------- files of vLLM */

static void read_vllm(gathered *g, const json_t *root) {
    if (g->c->projected) {
        scenario_refuse(g->r, "%s: %s: only records of anemo are projected", g->where, g->file);
        return;
    }
    double completed = json_number_value(json_object_get(root, "completed"));
    double in = json_number_value(json_object_get(root, "total_input_tokens"));
    double out = json_number_value(json_object_get(root, "total_output_tokens"));
    double duration = json_number_value(json_object_get(root, "duration"));
    const json_t *ttft = json_object_get(root, "p95_ttft_ms");
    const json_t *tpot = json_object_get(root, "p95_tpot_ms");
    if (!(completed >= 1) || !(in > 0) || !(out > 0) || !(duration > 0)) {
        scenario_refuse(g->r,
                        "%s: %s is not a result of vLLM's benchmark: completed, "
                        "total_input_tokens, total_output_tokens and duration must be above 0",
                        g->where, g->file);
        return;
    }
    if (!g->c->machine[0])
        scenario_refuse(g->r, "%s: a vLLM file does not say on what it ran; add machine", g->where);
    g->c->most_in = fmax(g->c->most_in, in / completed);
    g->c->most_out = fmax(g->c->most_out, out / completed);
    if (json_is_number(ttft))
        g->c->ttft_s = fmax(g->c->ttft_s, json_number_value(ttft) / 1000);
    if (json_is_number(tpot))
        g->c->tpot_s = fmax(g->c->tpot_s, json_number_value(tpot) / 1000);
    add_engine(g->c, "vLLM");
    add_mix(g, (anemo_cost_mix){in, 0, out, duration * g->units},
            json_string_value(json_object_get(root, "date")));
}

static void read_file(gathered *g, const char *name) {
    char path[4096];
    const char *slash = strrchr(g->r->path, '/');
    if (name[0] == '/' || !slash)
        snprintf(path, sizeof path, "%s", name);
    else /* beside the scenario */
        snprintf(path, sizeof path, "%.*s/%s", (int)(slash - g->r->path), g->r->path, name);
    size_t n = strlen(name);
    g->file = name;
    if (n > 6 && strcmp(name + n - 6, ".jsonl") == 0) {
        anemo_error err = {0};
        if (anemo_record_read(path, take_record, g, NULL, &err) != ANEMO_OK)
            scenario_refuse(g->r, "%s: %.300s", g->where, err.text);
        return;
    }
    json_error_t at;
    json_t *root = json_load_file(path, JSON_REJECT_DUPLICATES, &at);
    if (!root)
        scenario_refuse(g->r, "%s: %s:%d: %s", g->where, name, at.line, at.text);
    else
        read_vllm(g, root);
    json_decref(root);
}

/* ---------------------------------------------------------------- spread */

static double sd_of_logs(const double *x, int32_t n) {
    double mean = 0, sum = 0;
    for (int32_t i = 0; i < n; i++)
        mean += log(x[i]) / n;
    for (int32_t i = 0; i < n; i++)
        sum += (log(x[i]) - mean) * (log(x[i]) - mean);
    return sqrt(sum / (n - 1));
}

/* Days on which the records were made: how much faster than the fit each was. */
static int32_t speeds_by_day(const gathered *g, double *speed) {
    int32_t n = 0;
    for (int32_t i = 0; i < g->n; i++) {
        double sum = 0, weight = 0;
        bool first = g->day[i][0] != 0;
        for (int32_t k = 0; k < i; k++)
            first &= strcmp(g->day[k], g->day[i]) != 0;
        for (int32_t k = i; first && k < g->n; k++)
            if (strcmp(g->day[k], g->day[i]) == 0) {
                const anemo_cost_mix *m = &g->mix[k];
                sum +=
                    log(anemo_cost_split_busy(&g->c->split, m->in_uncached, m->in_cached, m->out) /
                        m->busy_s);
                weight++;
            }
        if (first)
            speed[n++] = exp(sum / weight);
    }
    return n;
}

static void read_spread(gathered *g, const json_t *from) {
    double speed[MIXES_MAX];
    const json_t *list = json_object_get(from, "occasions");
    anemo_cost_capacity *c = g->c;
    int32_t n = 0;
    if (json_is_array(list))
        for (size_t i = 0; i < json_array_size(list) && n < MIXES_MAX; i++) {
            speed[n] = json_number_value(json_array_get(list, i));
            if (!(speed[n++] > 0))
                scenario_refuse(g->r, "%s.occasions[%zu] is not a rate above 0", g->where, i);
        }
    else if (list)
        scenario_refuse(g->r, "%s.occasions is not a list of rates", g->where);
    else if (g->n)
        n = speeds_by_day(g, speed);
    if (g->r->status != ANEMO_OK)
        return;
    c->occasions = n;
    c->default_sd = n < OCCASIONS_LEAST;
    c->between_sd = c->default_sd ? DEFAULT_SD : sd_of_logs(speed, n);
    c->within_sd = scenario_plain(g->r, from, g->where, "within_sd", 0, 2, 0);
}

static void set_number(scenario_reader *r, int32_t index, double value, const anemo_origin *o) {
    anemo_cost_number *n = &r->s->number[index];
    n->value = n->low = n->high = value;
    n->shape = ANEMO_SHAPE_FIXED;
    n->origin = *o;
    if (!(value >= n->least && value <= n->most))
        scenario_refuse(r, "%s comes out as %g; accepted is %g to %g", n->key, value, n->least,
                        n->most);
}

static void set_speed(scenario_reader *r, int32_t index, const anemo_cost_capacity *c,
                      const anemo_origin *o) {
    anemo_cost_number *n = &r->s->number[index];
    double sd = hypot(hypot(c->between_sd, c->within_sd), c->projected_sd);
    set_number(r, index, 1, o);
    if (sd > 0) {
        n->low = exp(-1.6448536269514722 * sd);
        n->high = 1 / n->low;
        n->shape = ANEMO_SHAPE_LOGNORMAL;
    }
    if (c->default_sd && n->origin.class_ < ANEMO_CLASS_ASSUMED)
        n->origin.class_ = ANEMO_CLASS_ASSUMED;
}

void scenario_capacity(scenario_reader *r, const json_t *option, int32_t index) {
    anemo_cost_scenario *s = r->s;
    anemo_cost_choice *choice = &s->choice[index];
    anemo_cost_capacity *c = &choice->capacity;
    const json_t *from = json_object_get(option, "capacity");
    const json_t *mixes = json_object_get(from, "mixes"),
                 *records = json_object_get(from, "records");
    int32_t first = s->model.option[index].first;
    char where[64];
    snprintf(where, sizeof where, "options.%.40s.capacity", choice->id);
    if (!from)
        return; /* no verdict without it; said later, with the command that measures it */
    scenario_keys(
        r, from, where,
        "machine mixes records project_from batch units occasions within_sd p95_ttft_s p95_tpot_s "
        "s_per_token_in s_per_token_cached s_per_token_out class as_of source");
    anemo_origin origin = scenario_origin(r, from, where);
    gathered g = {.r = r, .where = where, .c = c};
    scenario_text(r, from, where, "machine", c->machine, sizeof c->machine, false);
    g.batch = scenario_plain(r, from, where, "batch", 1, 1e6, 1);
    g.units = scenario_plain(r, from, where, "units", 1, 1e4, 1);
    c->ttft_s = scenario_plain(r, from, where, "p95_ttft_s", 0, 1e4, 0);
    c->tpot_s = scenario_plain(r, from, where, "p95_tpot_s", 0, 1e4, 0);
    read_projection(&g, from, choice->machine);
    if (mixes)
        read_mixes(&g, mixes);
    for (size_t i = 0; i < json_array_size(records) && r->status == ANEMO_OK; i++) {
        const char *name = json_string_value(json_array_get(records, i));
        if (name)
            read_file(&g, name);
        else
            scenario_refuse(r, "%s.records[%zu] is not a file name", where, i);
    }
    c->known = true;
    c->mixes = g.n;
    if (mixes || records) {
        anemo_error err = {0};
        if (r->status == ANEMO_OK && anemo_cost_split_fit(g.mix, g.n, &c->split, &err) != ANEMO_OK)
            scenario_refuse(r, "%s: %.300s", where, err.text);
        if (r->status == ANEMO_OK && !json_object_get(from, "class"))
            origin.class_ = c->projected ? ANEMO_CLASS_PROJECTED : ANEMO_CLASS_MEASURED;
        set_number(r, first + ANEMO_B_S_IN, c->split.in, &origin);
        set_number(r, first + ANEMO_B_S_CACHED, c->split.cached, &origin);
        set_number(r, first + ANEMO_B_S_OUT, c->split.out, &origin);
        if (!c->split.cached_was_measured && s->number[ANEMO_G_CACHED].value > 0)
            scenario_warn(r,
                          "%s: no mix has cached input: a cached token costs as much as any other "
                          "on this machine, while the API gives its discount",
                          where);
    } else {
        static const char *const keys[] = {"s_per_token_in", "s_per_token_cached",
                                           "s_per_token_out"};
        for (int i = 0; i < 3; i++) {
            const json_t *v = json_object_get(from, keys[i]);
            anemo_origin kept = r->origin;
            r->origin = origin;
            if (v)
                scenario_number(r, v, first + ANEMO_B_S_IN + i);
            else if (i == 1)
                set_number(r, first + ANEMO_B_S_CACHED, s->number[first + ANEMO_B_S_IN].value,
                           &origin);
            else
                scenario_refuse(r, "%s needs mixes, records, or s_per_token_in and s_per_token_out",
                                where);
            r->origin = kept;
        }
    }
    read_spread(&g, from);
    if (r->status == ANEMO_OK && c->projected) {
        c->projected_sd = anemo_project_sd(&g.from, &g.to);
        scenario_warn(r,
                      "%s: projected from %s to %s, never measured there: the speed has a "
                      "standard deviation of %.0f %% from that alone (our assumption); no purchase "
                      "rests on it",
                      where, g.from.name, g.to.name, 100 * c->projected_sd);
    }
    set_speed(r, first + ANEMO_B_SPEED, c, &origin);
    if (r->status == ANEMO_OK && c->default_sd)
        scenario_warn(r,
                      "%s: measured on %d occasions; below %d the spread between occasions is our "
                      "assumption, 10 %%",
                      where, c->occasions, OCCASIONS_LEAST);
    c->measured_here = origin.class_ == ANEMO_CLASS_MEASURED && c->machine[0] &&
                       strcmp(c->machine, choice->machine) == 0;
}
