/* anemo size: workload and limits to machines. */
#include "harness/cli/common.h"
#include "harness/cli/money.h"
#include "harness/cost/size.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct size_options {
    const char *as_of, *folder;
    bool explain;
} size_options;

enum { KEY_AS_OF = ANEMO_CLI_KEY(0), KEY_REFERENCE, KEY_EXPLAIN };

static bool option(int key, const char *value, void *context) {
    size_options *o = context;
    switch (key) {
    case KEY_AS_OF:
        o->as_of = value;
        return true;
    case KEY_REFERENCE:
        o->folder = value;
        return true;
    case KEY_EXPLAIN:
        o->explain = true;
        return true;
    default:
        return false;
    }
}

/* ---------------------------------------------------------------- tables */

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

/* ---------------------------------------------------------------- the command */

typedef struct size_tables {
    anemo_table *budget, *machines, *explain;
    int32_t judged, possible;
} size_tables;

static anemo_status size_options_of(const char *path, const anemo_reference *reference,
                                    anemo_cost_scenario *s, uint64_t seed, size_tables *t,
                                    anemo_error *err) {
    anemo_status status = ANEMO_OK;
    for (int32_t o = 0; o < s->model.n_options && status == ANEMO_OK; o++) {
        anemo_cost_role role = s->model.option[o].role;
        anemo_size_spec spec;
        anemo_size z;
        bool present = false;
        if (role != ANEMO_ROLE_RENTED && role != ANEMO_ROLE_OWNED)
            continue;
        status = anemo_size_read(path, reference, s, o, &present, &spec, err);
        if (status != ANEMO_OK || !present)
            continue;
        status = anemo_size_compute(s, o, &spec, seed, &z, err);
        if (status != ANEMO_OK)
            continue;
        t->judged++;
        t->possible += z.requests_per_s > 0;
        budget_rows(t->budget, s->choice[o].id, &spec, &z);
        machine_row(t->machines, s->choice[o].id, s->choice[o].machine, &z);
        if (z.requests_per_s > 0)
            explain_rows(t->explain, s, o, &spec, &z);
    }
    return status;
}

static size_tables make_tables(void) {
    size_tables t = {anemo_table_create("memory", "Memory of one replica"),
                     anemo_table_create("machines", "Machines"),
                     anemo_table_create("explain", "Every number explained"), 0, 0};
    anemo_money_columns(
        t.budget, (const char *const[]){"id", "option", "what", "what", "bytes", "bytes", NULL});
    anemo_money_columns(t.machines, (const char *const[]){"id",
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
    anemo_money_columns(t.explain, (const char *const[]){"id", "option", "what", "what", "value",
                                                         "value", "formula", "is", NULL});
    return t;
}

int anemo_cmd_size(int argc, char **argv) {
    static const struct argp_option options[] = {
        {"as-of", KEY_AS_OF, "DATE", 0, "facts as on that day (default: today)", 0},
        {"reference", KEY_REFERENCE, "FOLDER", 0, "prices.jsonl, machines.jsonl, site.jsonl", 0},
        {"explain", KEY_EXPLAIN, NULL, 0, "every number with its formula", 0},
        {0}};
    static const anemo_cli_spec spec = {
        .arguments = "SCENARIO.json",
        .min_arguments = 1,
        .max_arguments = 1,
        .about =
            "How many machines a workload needs within its limits: for each machine option with a "
            "\"sizing\", the memory budget, the load that a replica serves (a deterministic queue "
            "simulation around the scheduler, with measured step times), replicas, servers, "
            "redundant ones, spare units, power and racks. Exit code 4: no machine can.",
        .example = "  anemo size results/examples/mixed.json --as-of 2026-11-26 --explain",
        .shared = ANEMO_CLI_FORMAT | ANEMO_CLI_OUTPUT | ANEMO_CLI_SEED,
        .options = options,
        .option = option};
    size_options o = {0};
    anemo_reference reference = {0};
    anemo_error err = {0};
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, &o, &cli);
    anemo_cost_scenario *s = calloc(1, sizeof *s);
    size_tables t = make_tables();
    anemo_status status = s ? anemo_money_reference(o.folder, &reference, &err) : ANEMO_E_MEMORY;
    if (status == ANEMO_OK)
        status = anemo_cost_scenario_read(cli.arguments[0], &reference, anemo_money_day(o.as_of),
                                          90, s, &err);
    if (status == ANEMO_OK)
        status = size_options_of(cli.arguments[0], &reference, s, cli.seed, &t, &err);
    if (status == ANEMO_OK && t.judged == 0)
        status = anemo_fail(&err, ANEMO_E_INPUT,
                            "%s: no machine option has a \"sizing\"; its keys stand in "
                            "harness/cost/README.md",
                            cli.arguments[0]);
    if (status == ANEMO_OK)
        anemo_table_print((const anemo_table *const[]){t.budget, t.machines, t.explain},
                          o.explain ? 3 : 2, cli.format, cli.out);
    int code = status == ANEMO_OK ? ANEMO_EXIT_OK : anemo_cli_fail(status, &err);
    if (status == ANEMO_OK && t.possible == 0) {
        anemo_cli_warn(
            "no machine of the scenario fits the model and meets the limits; see what each "
            "is limited by");
        code = ANEMO_EXIT_INCONCLUSIVE;
    }
    anemo_table_free(t.budget);
    anemo_table_free(t.machines);
    anemo_table_free(t.explain);
    anemo_reference_free(&reference);
    free(s);
    return anemo_cli_close(&cli, code);
}
