#include "harness/cli/bench_load.h"

#include "harness/cli/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* "MEAN[:SD]" */
static void parse_lengths(const char *option, const char *value, double *mean, double *sd) {
    char first[32];
    const size_t bytes = strcspn(value, ":");
    snprintf(first, sizeof first, "%.*s", (int)(bytes < 31 ? bytes : 31), value);
    *mean = anemo_cli_real(option, first, 1, 1 << 20);
    *sd = value[bytes] ? anemo_cli_real(option, value + bytes + 1, 0, 4) : 0;
}

bool anemo_cli_load_option(int key, const char *value, anemo_cli_load *c) {
    anemo_load_options *o = &c->options;
    if (key < ANEMO_LOAD_KEY_LOAD || key > ANEMO_LOAD_KEY_SPEED) {
        return false;
    }
    c->detail = true;
    if (key == ANEMO_LOAD_KEY_LOAD) {
        if (strncmp(value, "poisson:", 8) != 0) {
            anemo_cli_usage("--load '%s': expected poisson:RATE", value);
        }
        o->load.requests_per_s = anemo_cli_real("--load poisson", value + 8, 1e-6, 1e6);
        c->given = true;
    } else if (key == ANEMO_LOAD_KEY_REQUESTS) {
        o->load.requests = (int32_t)anemo_cli_integer("--requests", value, 1, 1 << 20);
    } else if (key == ANEMO_LOAD_KEY_IN) {
        parse_lengths("--in-tokens", value, &o->load.in_mean, &o->load.in_sd_log);
    } else if (key == ANEMO_LOAD_KEY_OUT) {
        parse_lengths("--out-tokens", value, &o->load.out_mean, &o->load.out_sd_log);
    } else if (key == ANEMO_LOAD_KEY_SESSIONS) {
        o->sessions = (int32_t)anemo_cli_integer("--sessions", value, 1, 4096);
    } else if (key == ANEMO_LOAD_KEY_STEP_TOKENS) {
        o->step_tokens = (int32_t)anemo_cli_integer("--step-tokens", value, 1, 1 << 16);
    } else if (key == ANEMO_LOAD_KEY_KV_TOKENS) {
        o->kv_tokens = anemo_cli_integer("--kv-tokens", value, 1, 1 << 30);
    } else if (key == ANEMO_LOAD_KEY_PREFIX) {
        o->prefix_tokens = anemo_cli_integer("--prefix", value, 1, 1 << 20);
    } else if (key == ANEMO_LOAD_KEY_COPY_PREFIX) {
        o->prefix_copied = true;
    } else if (key == ANEMO_LOAD_KEY_TTFT) {
        o->ttft_s = anemo_cli_real("--ttft", value, 1e-6, 1e6);
    } else if (key == ANEMO_LOAD_KEY_TPOT) {
        o->tpot_s = anemo_cli_real("--tpot", value, 1e-6, 1e6);
    } else if (key == ANEMO_LOAD_KEY_STEPS) {
        o->steps_path = value;
    } else if (key == ANEMO_LOAD_KEY_REQUESTS_FILE) {
        o->requests_path = value;
    } else if (key == ANEMO_LOAD_KEY_SIMULATE) {
        c->simulate = value;
    } else {
        c->speed = anemo_cli_real("--speed", value, 0.01, 100);
    }
    return true;
}

/* ---------------------------------------------------------------- tables */

static void percentile_row(anemo_table *table, const char *what, const anemo_load_percentile *p) {
    anemo_table_text(table, "%s", what);
    for (int i = 0; i < ANEMO_LOAD_PERCENTILES; i++) {
        if (p[i].bounded) {
            anemo_table_both(table, p[i].value, "%.2f (< %.2f)", p[i].value * 1e3,
                             p[i].upper * 1e3);
        } else if (p[i].known) {
            anemo_table_both(table, p[i].value, "%.2f (bound needs %lld)", p[i].value * 1e3,
                             (long long)p[i].needs);
        } else {
            anemo_table_text(table, "needs %lld", (long long)p[i].needs);
        }
    }
}

static anemo_table *latency_table(const anemo_load_report *r, const anemo_load *load) {
    char title[384];
    snprintf(title, sizeof title,
             "%s under %g requests/s: %d requests of %g in and %g out, seed %llu; ms", r->info.name,
             load->requests_per_s, load->requests, load->in_mean, load->out_mean,
             (unsigned long long)load->seed);
    anemo_table *table = anemo_table_create("latency", title);
    anemo_table_column(table, "what", "what");
    anemo_table_column(table, "p50_s", "p50");
    anemo_table_column(table, "p95_s", "p95");
    anemo_table_column(table, "p99_s", "p99");
    percentile_row(table, "TTFT", r->ttft);
    percentile_row(table, "TTFT, service", r->service);
    percentile_row(table, "TPOT", r->tpot);
    percentile_row(table, "ITL", r->itl);
    percentile_row(table, "E2E", r->e2e);
    return table;
}

static anemo_table *rate_table(const anemo_load_report *r) {
    const struct {
        const char *what, *shown;
        double value;
    } rows[] = {{"requests/s", "%.4g", r->requests_per_s},
                {"goodput, requests/s", "%.4g", r->goodput_per_s},
                {"share within the limits", "%.3f", r->good_share},
                {"output tokens/s", "%.5g", r->output_tokens_per_s},
                {"input tokens/s", "%.5g", r->input_tokens_per_s},
                {"busy share", "%.3f", r->busy_share},
                {"share of requests that waited", "%.3f", r->waited_share},
                {"seconds in steps", "%.4g", r->totals.busy_s},
                {"steps", "%.0f", (double)r->totals.steps},
                {"preemptions", "%.0f", (double)r->totals.preemptions},
                {"KV pages held at most", "%.0f", (double)r->kv_pages_most},
                {"KV pages of the pool", "%.0f", (double)r->kv_pages},
                {"read probe, GB/s", "%.4g", r->probe_bytes_per_s * 1e-9},
                {"resident, MB", "%.5g", r->resident_bytes * 1e-6}};
    anemo_table *table = anemo_table_create("rates", "Rates and shares");
    anemo_table_column(table, "what", "what");
    anemo_table_column(table, "value", "value");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        anemo_table_text(table, "%s", rows[i].what);
        anemo_table_number(table, rows[i].value, rows[i].shown);
    }
    return table;
}

static void print_report(const anemo_cli *cli, const anemo_load_report *r, const anemo_load *load) {
    anemo_table *tables[] = {latency_table(r, load), rate_table(r)};
    anemo_table_print((const anemo_table *const *)tables, 2, cli->format, cli->out);
    if (cli->format == ANEMO_FORMAT_TEXT || cli->format == ANEMO_FORMAT_MD) {
        fprintf(cli->out, "\n%s\n", ANEMO_LOAD_DEFINITIONS);
    }
    for (int i = 0; i < 2; i++) {
        anemo_table_free(tables[i]);
    }
}

/* ---------------------------------------------------------------- the simulation */

static void scale(anemo_step_table *t, double speed) {
    for (int32_t i = 0; i < ANEMO_STEP_POINTS; i++) {
        t->prefill.seconds[i] /= speed;
        t->decode.seconds[i] /= speed;
    }
    t->shared_s /= speed;
}

static void print_simulation(const anemo_cli *cli, const anemo_simulation *s, double ratio) {
    const struct {
        const char *what, *shown;
        double value;
    } rows[] = {{"TTFT p50, ms", "%.2f", s->ttft_p50_s * 1e3},
                {"TTFT p95, ms", "%.2f", s->ttft_p95_s * 1e3},
                {"TPOT p50, ms", "%.2f", s->tpot_p50_s * 1e3},
                {"TPOT p95, ms", "%.2f", s->tpot_p95_s * 1e3},
                {"busy share", "%.3f", s->busy_share},
                {"share of requests that waited", "%.3f", s->waited_share},
                {"seconds in steps", "%.4g", s->busy_share * s->duration_s},
                {"steps", "%.0f", (double)s->steps},
                {"fitted / measured time of the file's steps", "%.4f", ratio}};
    anemo_table *table = anemo_table_create("simulation", "Simulated");
    anemo_table_column(table, "what", "what");
    anemo_table_column(table, "value", "value");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        anemo_table_text(table, "%s", rows[i].what);
        anemo_table_number(table, rows[i].value, rows[i].shown);
    }
    const anemo_table *tables[] = {table};
    anemo_table_print(tables, 1, cli->format, cli->out);
    anemo_table_free(table);
}

static anemo_status simulate(const anemo_cli *cli, const anemo_cli_load *c, anemo_error *err) {
    const anemo_load_options *o = &c->options;
    const anemo_schedule_limits limits = {.step_tokens = o->step_tokens,
                                          .sessions = o->sessions,
                                          .kv_pages = o->kv_tokens / anemo_plan_page_tokens(),
                                          .page_tokens = anemo_plan_page_tokens()};
    anemo_steps steps;
    anemo_step_table table;
    anemo_simulation s;
    anemo_status status = anemo_steps_read(c->simulate, &steps, err);
    if (status) {
        return status;
    }
    status = anemo_steps_fit(&steps, &table, err);
    const double ratio = status ? NAN : anemo_steps_ratio(&steps, &table);
    scale(&table, c->speed);
    status = status ? status : anemo_simulate(&limits, &table, &o->load, &s, err);
    if (!status) {
        print_simulation(cli, &s, ratio);
    }
    anemo_steps_free(&steps);
    return status;
}

anemo_status anemo_cli_load_run(const anemo_cli *cli, const anemo_cli_load *c, anemo_device *device,
                                anemo_record_sink *sink, anemo_error *err) {
    if (!c->given) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "options of a load without --load poisson:RATE have no effect");
    }
    if (c->simulate) {
        return simulate(cli, c, err);
    }
    anemo_load_report report;
    const anemo_status status = anemo_bench_load(device, &c->options, sink, &report, err);
    if (!status) {
        print_report(cli, &report, &c->options.load);
    }
    anemo_load_report_free(&report);
    return status;
}
