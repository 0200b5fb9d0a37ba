/* anemo prices: the reference prices, their age, and more of them from public lists. */
#include "harness/cli/common.h"
#include "harness/cli/money.h"
#include "harness/cli/table.h"
#include "harness/cost/date.h"
#include "harness/cost/price_import.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct prices_options {
    const char *folder, *as_of, *source;
    int32_t max_age;
} prices_options;

enum { KEY_AS_OF = ANEMO_CLI_KEY(0), KEY_MAX_AGE, KEY_REFERENCE, KEY_SOURCE };

static bool option(int key, const char *value, void *context) {
    prices_options *o = context;
    switch (key) {
    case KEY_AS_OF:
        o->as_of = value;
        return true;
    case KEY_MAX_AGE:
        o->max_age = (int32_t)anemo_cli_integer("--max-age", value, 1, 36500);
        return true;
    case KEY_REFERENCE:
        o->folder = value;
        return true;
    case KEY_SOURCE:
        o->source = value;
        return true;
    default:
        return false;
    }
}

static void price_or_absent(anemo_table *table, double value) {
    anemo_table_number(table, value, "%.4g");
}

static void day_cell(anemo_table *table, int32_t day, int32_t absent) {
    char text[16];
    if (day == absent) {
        anemo_table_absent(table);
        return;
    }
    anemo_date_text(day, text, sizeof text);
    anemo_table_text(table, "%s", text);
}

static bool wanted(const anemo_cli *cli, const anemo_price *p) {
    return !cli->filter || strstr(p->model, cli->filter) || strstr(p->provider, cli->filter);
}

/* A row that is not in force today is listed, too: its dates say so. */
static int list(const anemo_cli *cli, const anemo_reference *r, int32_t today) {
    anemo_table *t = anemo_table_create("prices", "Prices per million tokens");
    anemo_money_columns(t, (const char *const[]){"provider",
                                                 "provider",
                                                 "model",
                                                 "model",
                                                 "currency",
                                                 "currency",
                                                 "over_tokens",
                                                 "over tokens",
                                                 "input",
                                                 "input",
                                                 "cached_input",
                                                 "cached",
                                                 "cache_write",
                                                 "cache write",
                                                 "output",
                                                 "output",
                                                 "from",
                                                 "from",
                                                 "to",
                                                 "before",
                                                 "as_of",
                                                 "as of",
                                                 "age_days",
                                                 "age, days",
                                                 "class",
                                                 "class",
                                                 "conflicts",
                                                 "other sources say",
                                                 "source",
                                                 "source",
                                                 NULL});
    for (int32_t i = 0; i < r->n_prices; i++) {
        const anemo_price *p = &r->price[i];
        if (!wanted(cli, p))
            continue;
        anemo_table_text(t, "%s", p->provider);
        anemo_table_text(t, "%s", p->model);
        anemo_table_text(t, "%s", p->currency);
        if (p->bracket > 0)
            anemo_table_number(t, p->bracket, "%.0f");
        else
            anemo_table_absent(t);
        price_or_absent(t, p->input);
        price_or_absent(t, p->cached);
        price_or_absent(t, p->write);
        price_or_absent(t, p->output);
        day_cell(t, p->origin.from, INT32_MIN);
        day_cell(t, p->origin.to, INT32_MAX);
        day_cell(t, p->origin.as_of, INT32_MIN);
        anemo_table_number(t, today - p->origin.as_of, "%.0f");
        anemo_table_text(t, "%s", anemo_class_name(p->origin.class_));
        if (p->n_others)
            anemo_table_text(t, "%.4g / %.4g", p->other[0].input, p->other[0].output);
        else
            anemo_table_absent(t);
        anemo_table_text(t, "%s", p->origin.source);
    }
    anemo_table_print((const anemo_table *const[]){t}, 1, cli->format, cli->out);
    anemo_table_free(t);
    return ANEMO_EXIT_OK;
}

/* Prices and facts older than allowed, and sources that disagree. Only age fails. */
static int check(const anemo_cli *cli, const anemo_reference *r, int32_t today, int32_t max_age) {
    anemo_table *t = anemo_table_create("findings", "Findings");
    anemo_money_columns(t, (const char *const[]){"what", "what", "row", "row", "age_days",
                                                 "age, days", "detail", "detail", NULL});
    int32_t stale = 0;
    for (int32_t i = 0; i < r->n_prices; i++) {
        const anemo_price *p = &r->price[i];
        int32_t age = today - p->origin.as_of;
        if (!wanted(cli, p) || p->origin.to <= today)
            continue;
        if (age > max_age) {
            stale++;
            anemo_table_text(t, "stale");
            anemo_table_text(t, "%s %s", p->provider, p->model);
            anemo_table_number(t, age, "%.0f");
            anemo_table_text(t, "%.80s", p->origin.source);
        }
        for (int32_t k = 0; k < p->n_others; k++) {
            anemo_table_text(t, "conflict");
            anemo_table_text(t, "%s %s", p->provider, p->model);
            anemo_table_number(t, today - p->other[k].as_of, "%.0f");
            anemo_table_text(t, "here %.4g in, %.4g out; there %.4g, %.4g: %.80s", p->input,
                             p->output, p->other[k].input, p->other[k].output, p->other[k].source);
        }
    }
    for (int32_t i = 0; i < r->n_facts && !cli->filter; i++) {
        const anemo_fact *f = &r->fact[i];
        int32_t age = today - f->origin.as_of;
        if (f->origin.class_ == ANEMO_CLASS_ASSUMED || age <= max_age)
            continue; /* an assumption does not age, it is to be replaced */
        stale++;
        anemo_table_text(t, "stale");
        anemo_table_text(t, "%s %s", f->subject, f->what);
        anemo_table_number(t, age, "%.0f");
        anemo_table_text(t, "%.80s", f->origin.source);
    }
    anemo_table_print((const anemo_table *const[]){t}, 1, cli->format, cli->out);
    anemo_table_free(t);
    if (stale)
        anemo_cli_warn("%d rows are older than %d days; check them and change as_of", stale,
                       max_age);
    return stale ? ANEMO_EXIT_TARGET : ANEMO_EXIT_OK;
}

static int import(const anemo_cli *cli, const prices_options *o, int32_t today) {
    const char *names[ANEMO_PRICES_FORMAT_COUNT + 1] = {0};
    anemo_reference r = {0};
    anemo_price_import_report report;
    anemo_error err = {0};
    for (int i = 0; i < ANEMO_PRICES_FORMAT_COUNT; i++)
        names[i] = anemo_price_format_name((anemo_price_format)i);
    if (cli->n_arguments != 3)
        anemo_cli_usage("expected import FORMAT FILE");
    int format = anemo_cli_choice("FORMAT", cli->arguments[1], names);
    const char *source = o->source ? o->source : names[format];
    anemo_status status = anemo_price_import(cli->arguments[2], (anemo_price_format)format, today,
                                             source, &r, &report, &err);
    int code = status == ANEMO_OK ? ANEMO_EXIT_OK : anemo_cli_fail(status, &err);
    for (int32_t i = 0; i < r.n_prices && status == ANEMO_OK; i++) {
        char *line = anemo_price_json(&r.price[i]);
        fprintf(cli->out, "%s\n", line ? line : "");
        free(line);
    }
    if (status == ANEMO_OK && (report.aliases || report.without_price))
        anemo_cli_warn("%d rows taken; left out: %d aliases that move from model to model, %d "
                       "entries without a price",
                       report.taken, report.aliases, report.without_price);
    anemo_reference_free(&r);
    return code;
}

int anemo_cmd_prices(int argc, char **argv) {
    static const struct argp_option options[] = {
        {"as-of", KEY_AS_OF, "DATE", 0, "judge ages as on that day (default: today)", 0},
        {"max-age", KEY_MAX_AGE, "DAYS", 0, "check: what is older fails (default 90)", 0},
        {"reference", KEY_REFERENCE, "FOLDER", 0, "prices.jsonl, machines.jsonl, site.jsonl", 0},
        {"source", KEY_SOURCE, "TEXT", 0, "import: where the list is from, for its rows", 0},
        {0}};
    static const anemo_cli_spec spec = {
        .arguments = "list | check | import FORMAT FILE",
        .min_arguments = 1,
        .max_arguments = 3,
        .about = "Prices of APIs with source, date and class. list: all of them; check: fails (1) "
                 "when a row is older than --max-age, and shows where sources disagree; import: "
                 "rows from your own copy of a public list (litellm, genai-prices, models-dev, "
                 "llm-prices, openrouter), to be put into a prices.jsonl of yours.",
        .example = "  anemo prices list --filter mixtral\n"
                   "  anemo prices check --max-age 90\n"
                   "  anemo prices import llm-prices openai.json --output more.jsonl",
        .shared = ANEMO_CLI_FORMAT | ANEMO_CLI_OUTPUT | ANEMO_CLI_FILTER,
        .options = options,
        .option = option};
    static const char *const verbs[] = {"list", "check", "import", NULL};
    prices_options o = {.max_age = 90};
    anemo_reference reference = {0};
    anemo_error err = {0};
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, &o, &cli);
    int32_t today = anemo_money_day(o.as_of);
    int verb = anemo_cli_choice("command", cli.arguments[0], verbs), code;
    if (verb == 2)
        return anemo_cli_close(&cli, import(&cli, &o, today));
    if (cli.n_arguments != 1)
        anemo_cli_usage("'%s' is one argument too many", cli.arguments[1]);
    anemo_status status = anemo_money_reference(o.folder, &reference, &err);
    if (status != ANEMO_OK)
        code = anemo_cli_fail(status, &err);
    else
        code =
            verb == 0 ? list(&cli, &reference, today) : check(&cli, &reference, today, o.max_age);
    anemo_reference_free(&reference);
    return anemo_cli_close(&cli, code);
}
