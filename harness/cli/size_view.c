/* See size_view.h. */
#include "harness/cli/size_view.h"

#include <math.h>
#include <stdlib.h>

static void budget_line(anemo_table *t, const char *id, const char *what, double bytes) {
    anemo_table_text(t, "%s", id);
    anemo_table_text(t, "%s", what);
    anemo_table_both(t, bytes, "%.2f GB", bytes / 1e9);
}

static void budget_rows(anemo_table *t, const char *id, const anemo_size_spec *spec,
                        const anemo_size *z) {
    char what[96];
    snprintf(what, sizeof what, "memory of %d units", spec->units_per_replica);
    budget_line(t, id, what, z->memory);
    budget_line(t, id, "less the reserve (context, libraries, fragments)", -z->reserve);
    for (int32_t i = 0; i < spec->n_weights; i++) {
        const anemo_size_weights *w = &spec->weights[i];
        snprintf(what, sizeof what, "less weights: %s, %.3g at %.4g bits", w->name, w->parameters,
                 w->bits);
        budget_line(t, id, what, -w->parameters * w->bits / 8);
    }
    budget_line(t, id, "less activations", -z->activations);
    budget_line(t, id, "left for keys and values", z->kv_free);
    snprintf(what, sizeof what, "one session at the 95 %% length%s (%.0f bytes a token)",
             spec->window > 0 ? ", within the window" : "", z->kv_per_token);
    budget_line(t, id, what, z->kv_per_session);
}

static void machine_row(anemo_table *t, const char *id, const char *machine, const anemo_size *z) {
    bool ok = z->requests_per_s > 0;
    anemo_table_text(t, "%s", id);
    anemo_table_text(t, "%s", machine);
    anemo_table_number(t, (double)z->sessions_fit, "%.0f");
    anemo_table_number(t, ok ? z->requests_per_s : NAN, "%.3f");
    anemo_table_number(t, ok ? z->at.ttft_p95_s : NAN, "%.3f");
    anemo_table_number(t, ok ? z->at.tpot_p95_s : NAN, "%.4f");
    anemo_table_text(t, "%s", z->binding);
    anemo_table_number(t, z->peak_per_s, "%.3f");
    const double rest[] = {z->replicas, z->servers, z->redundant, z->spares,
                           z->waits,    z->kw,      z->racks,     z->lead_days};
    static const char *const shown[] = {"%.0f", "%.0f", "%.0f", "%.0f",
                                        "%.4f", "%.2f", "%.0f", "%.0f"};
    for (int i = 0; i < 8; i++)
        anemo_table_number(t, ok ? rest[i] : NAN, shown[i]);
}

static void explain_line(anemo_table *t, const char *id, const char *what, double value,
                         const char *is) {
    anemo_table_text(t, "%s", id);
    anemo_table_text(t, "%s", what);
    anemo_table_number(t, value, "%.5g");
    anemo_table_text(t, "%s", is);
}

static void explain_rows(anemo_table *t, const anemo_cost_scenario *s, int32_t o,
                         const anemo_size_spec *spec, const anemo_size *z) {
    const char *id = s->choice[o].id;
    char text[300];
    snprintf(text, sizeof text,
             "%g a month / 2,628,000 s x max((1 - batchable %g) x busiest hour %.3g, 1) x burst %g",
             s->x[ANEMO_G_REQUESTS], s->x[ANEMO_G_BATCHABLE],
             s->model.profile[ANEMO_COST_HOURS_OF_WEEK - 1], s->x[ANEMO_G_BURST]);
    explain_line(t, id, "requests per second at the peak", z->peak_per_s, text);
    explain_line(t, id, "bytes of a token's keys and values", z->kv_per_token,
                 "2 x layers x KV heads x head width x bytes of an element");
    explain_line(t, id, "sessions that fit", (double)z->sessions_fit,
                 "left for keys and values / one session, rounded down");
    snprintf(
        text, sizeof text,
        "largest load of 1000 simulated requests with p95 TTFT <= %g s and p95 TPOT <= %g s (0: "
        "no limit); %d tokens a step, %d sessions; busy %.0f %% of the time, %.0f %% of the "
        "requests waited, %lld preemptions",
        s->limit_ttft_s, s->limit_tpot_s, spec->limits.step_tokens, spec->limits.sessions,
        100 * z->at.busy_share, 100 * z->at.waited_share, (long long)z->at.preemptions);
    explain_line(t, id, "requests per second of a replica", z->requests_per_s, text);
    snprintf(text, sizeof text, "lengths lognormal with sd of the logarithm %g in and %g out",
             spec->in_sd_log, spec->out_sd_log);
    explain_line(t, id, "sessions at once at that load", z->concurrency, text);
    snprintf(text, sizeof text, "peak / (replica x (1 - headroom %g)), rounded up",
             s->x[ANEMO_G_HEADROOM]);
    explain_line(t, id, "replicas", z->replicas, text);
    snprintf(text, sizeof text, "replicas / %d on a server, rounded up; %d more are redundant",
             z->replicas_per_server, z->redundant);
    explain_line(t, id, "servers", z->servers, text);
    explain_line(t, id, "spare units", z->spares,
                 "so few that more fail within the lead time with at most 5 % (Poisson)");
    explain_line(t, id, "probability of waiting", z->waits, "Erlang C over all session slots");
}

/* ---------------------------------------------------------------- all options */

anemo_status size_view_open(const char *path, const anemo_reference *reference,
                            anemo_cost_scenario *s, uint64_t seed, size_view **out,
                            anemo_error *err) {
    size_view *v = calloc(1, sizeof *v);
    anemo_status status = ANEMO_OK;
    *out = v;
    if (!v)
        return ANEMO_E_MEMORY;
    v->s = s;
    for (int32_t o = 0; o < s->model.n_options && status == ANEMO_OK; o++) {
        anemo_cost_role role = s->model.option[o].role;
        if (role != ANEMO_ROLE_RENTED && role != ANEMO_ROLE_OWNED)
            continue;
        status =
            anemo_size_read(path, reference, s, o, &v->option[o].present, &v->option[o].spec, err);
        if (status != ANEMO_OK || !v->option[o].present)
            continue;
        status = anemo_size_compute(s, o, &v->option[o].spec, seed, &v->option[o].size, err);
        v->judged++;
        v->possible += v->option[o].size.requests_per_s > 0;
    }
    return status;
}

void size_view_free(size_view *view) {
    free(view);
}

anemo_table *size_table_memory(const size_view *v) {
    anemo_table *t = anemo_table_create("memory", "Memory of one replica");
    anemo_money_columns(
        t, (const char *const[]){"id", "option", "what", "what", "bytes", "bytes", NULL});
    for (int32_t o = 0; o < v->s->model.n_options; o++)
        if (v->option[o].present)
            budget_rows(t, v->s->choice[o].id, &v->option[o].spec, &v->option[o].size);
    return t;
}

anemo_table *size_table_machines(const size_view *v) {
    anemo_table *t = anemo_table_create("machines", "Machines");
    anemo_money_columns(t, (const char *const[]){"id",
                                                 "option",
                                                 "machine",
                                                 "machine",
                                                 "sessions_fit",
                                                 "sessions fit",
                                                 "requests_per_s",
                                                 "replica, req/s",
                                                 "p95_ttft_s",
                                                 "p95 TTFT, s",
                                                 "p95_tpot_s",
                                                 "p95 TPOT, s",
                                                 "binding",
                                                 "limited by",
                                                 "peak_per_s",
                                                 "peak, req/s",
                                                 "replicas",
                                                 "replicas",
                                                 "servers",
                                                 "servers",
                                                 "redundant",
                                                 "redundant",
                                                 "spares",
                                                 "spare units",
                                                 "waits",
                                                 "P(wait)",
                                                 "kw",
                                                 "kW",
                                                 "racks",
                                                 "racks",
                                                 "lead_days",
                                                 "lead time, days",
                                                 NULL});
    for (int32_t o = 0; o < v->s->model.n_options; o++)
        if (v->option[o].present)
            machine_row(t, v->s->choice[o].id, v->s->choice[o].machine, &v->option[o].size);
    return t;
}

anemo_table *size_table_explain(const size_view *v) {
    anemo_table *t = anemo_table_create("explain", "Every number explained");
    anemo_money_columns(t, (const char *const[]){"id", "option", "what", "what", "value", "value",
                                                 "formula", "is", NULL});
    for (int32_t o = 0; o < v->s->model.n_options; o++)
        if (v->option[o].present && v->option[o].size.requests_per_s > 0)
            explain_rows(t, v->s, o, &v->option[o].spec, &v->option[o].size);
    return t;
}
