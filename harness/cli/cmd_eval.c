/* anemo eval: how right a model is, in one or several stored forms of its weights, with intervals,
 * and whether the forms differ. Every form answers the same cases, so forms are compared in pairs
 * against the first one. */
#include "harness/cli/command.h"
#include "harness/cli/common.h"
#include "harness/cli/table.h"
#include "harness/eval/suite.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MAX_FORMS  4 /* of each model */
#define MAX_MODELS 12
#define MAX_RUNS   16 /* models x forms, and the reference */

typedef struct arguments {
    const char *tasks, *weights, *against;
    anemo_eval_filter filter;
    anemo_eval_options rules;
    anemo_eval_rule rule;
    int64_t context;
    const char *texts[ANEMO_EVAL_TEXTS];
    int32_t n_texts;
    const char *kv_type;
    bool window_given;
    int64_t window;
} arguments;

/* ---------------------------------------------------------------- options */

enum {
    KEY_TASKS = ANEMO_CLI_KEY(0),
    KEY_KINDS,
    KEY_LEVEL,
    KEY_LIMIT,
    KEY_EXACT,
    KEY_CHOICE,
    KEY_STOP,
    KEY_WEIGHTS,
    KEY_TEXT,
    KEY_RULE,
    KEY_CONTEXT,
    KEY_KV,
    KEY_WINDOW,
    KEY_AGAINST
};

static const struct argp_option options[] = {
    {"tasks", KEY_TASKS, "DIR|FILE", 0,
     "cases as JSON Lines: kind, level, prompt, answer, choices, gold", 0},
    {"kinds", KEY_KINDS, "A,B", 0, "only these kinds", 0},
    {"level", KEY_LEVEL, "N|LO..HI", 0, "only these levels", 0},
    {"limit", KEY_LIMIT, "N", 0, "only the first N cases of each kind and level", 0},
    {"exact", KEY_EXACT, NULL, 0, "only exact match", 0},
    {"choice", KEY_CHOICE, NULL, 0, "only multiple choice", 0},
    {"stop", KEY_STOP, "TEXT", 0, "exact match: an answer also ends where TEXT begins", 0},
    {"weights", KEY_WEIGHTS, "A,B", 0,
     "stored (default), q8_0, q4_0; several are compared with the first", 0},
    {"text", KEY_TEXT, "FILE", 0, "perplexity of this text; may be repeated", 0},
    {"rule", KEY_RULE, "RULE", 0,
     "of a perplexity: lm-eval (default): each line a document with its own BOS; "
     "llama-perplexity: chunks of the whole text",
     0},
    {"context", KEY_CONTEXT, "N", 0, "of a text (default 512, or the model's if that is less)", 0},
    {"kv", KEY_KV, "TYPE", 0, "keys and values in f32 (default), f16, bf16 or q8", 0},
    {"window", KEY_WINDOW, "N", 0, "keys that attention sees: model (default), none, or N", 0},
    {"against", KEY_AGAINST, "FORM|MODEL", 0,
     "the run that all others are compared with: stored, q8_0 or q4_0 of the first MODEL, or "
     "another "
     "model; with --text also KL divergence and top-1 agreement",
     0},
    {0}};

static void parse_level(const char *value, anemo_eval_filter *filter) {
    char first[16];
    const char *dots = strstr(value, "..");
    const size_t n = dots ? (size_t)(dots - value) : strlen(value);
    snprintf(first, sizeof first, "%.*s", (int)(n < 15 ? n : 15), value);
    filter->level_least = (int32_t)anemo_cli_integer("--level", first, 1, 99);
    filter->level_most = filter->level_least;
    if (dots)
        filter->level_most =
            (int32_t)anemo_cli_integer("--level", dots + 2, filter->level_least, 99);
}

static bool option(int key, const char *value, void *own) {
    static const char *const rules[] = {"llama-perplexity", "lm-eval", NULL};
    arguments *a = own;
    switch (key) {
    case KEY_TASKS:
        a->tasks = value;
        return true;
    case KEY_KINDS:
        a->filter.kinds = value;
        return true;
    case KEY_LEVEL:
        parse_level(value, &a->filter);
        return true;
    case KEY_LIMIT:
        a->filter.limit = anemo_cli_integer("--limit", value, 1, INT32_MAX);
        return true;
    case KEY_EXACT:
        a->rules.exact = true;
        return true;
    case KEY_CHOICE:
        a->rules.choice = true;
        return true;
    case KEY_STOP:
        if (!*value)
            anemo_cli_usage("--stop '': expected a text that is not empty");
        a->rules.stop = value;
        return true;
    case KEY_WEIGHTS:
        a->weights = value;
        return true;
    case KEY_TEXT:
        if (a->n_texts == ANEMO_EVAL_TEXTS)
            anemo_cli_usage("--text may be given %d times at most", ANEMO_EVAL_TEXTS);
        a->texts[a->n_texts++] = value;
        return true;
    case KEY_RULE:
        a->rule = anemo_cli_choice("--rule", value, rules) ? ANEMO_EVAL_LM_EVAL : ANEMO_EVAL_LLAMA;
        return true;
    case KEY_AGAINST:
        a->against = value;
        return true;
    case KEY_CONTEXT:
        a->context = anemo_cli_integer("--context", value, 4, 1 << 20);
        return true;
    case KEY_KV:
        a->kv_type = anemo_cli_kv_type("--kv", value);
        return true;
    case KEY_WINDOW:
        a->window_given = true;
        a->window = anemo_cli_window("--window", value);
        return true;
    default:
        return false;
    }
}

/* What is run: a model in a form. */
typedef struct form {
    const char *model;
    const char *requantise; /* NULL: as stored */
} form;

static const char *const form_names[] = {"stored", "q8_0", "q4_0", NULL};

/* "stored,q8_0": NULL stands for stored. */
static int32_t parse_weights(const char *list, const char *forms[MAX_FORMS]) {
    int32_t n = 0;
    for (const char *at = list; at; n++) {
        char name[32];
        const size_t bytes = strcspn(at, ",");
        if (n == MAX_FORMS)
            anemo_cli_usage("--weights takes %d forms at most", MAX_FORMS);
        snprintf(name, sizeof name, "%.*s", (int)(bytes < 31 ? bytes : 31), at);
        const int which = anemo_cli_choice("--weights", name, form_names);
        forms[n] = which ? form_names[which] : NULL;
        at = at[bytes] ? at + bytes + 1 : NULL;
    }
    return n;
}

static bool same_form(const form *a, const form *b) {
    return !strcmp(a->model, b->model) &&
           (a->requantise ? a->requantise : "stored") == (b->requantise ? b->requantise : "stored");
}

/* --against: a form of the first model, or another model as it is stored. */
static form parse_against(const char *value, const char *first_model) {
    for (int i = 0; form_names[i]; i++)
        if (!strcmp(value, form_names[i]))
            return (form){first_model, i ? form_names[i] : NULL};
    return (form){value, NULL};
}

/* The reference first, then each model in each form. */
static int32_t list_runs(const arguments *a, const char *const *models, int32_t n_models,
                         form runs[MAX_RUNS]) {
    const char *forms[MAX_FORMS];
    const int32_t n_forms = parse_weights(a->weights, forms);
    int32_t n = 0;
    if (a->against)
        runs[n++] = parse_against(a->against, models[0]);
    for (int32_t m = 0; m < n_models; m++)
        for (int32_t f = 0; f < n_forms; f++) {
            const form one = {models[m], forms[f]};
            if (a->against && same_form(&one, &runs[0]))
                continue;
            if (n == MAX_RUNS)
                anemo_cli_usage("%d models in %d forms: %d runs at most", n_models, n_forms,
                                MAX_RUNS);
            runs[n++] = one;
        }
    return n;
}

/* The command line again, quoted for a shell; argv[0] is "anemo eval". */
static char *command_line(int argc, char **argv) {
    static const char safe[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789./-_=,:@%+";
    char *line = NULL;
    size_t bytes;
    FILE *f = open_memstream(&line, &bytes);
    if (!f)
        abort();
    fputs(argv[0], f);
    for (int i = 1; i < argc; i++) {
        if (*argv[i] && !argv[i][strspn(argv[i], safe)]) {
            fprintf(f, " %s", argv[i]);
            continue;
        }
        fputs(" '", f);
        for (const char *c = argv[i]; *c; c++)
            if (*c == '\'')
                fputs("'\\''", f);
            else
                fputc(*c, f);
        fputc('\'', f);
    }
    if (fclose(f))
        abort();
    return line;
}

/* ---------------------------------------------------------------- tables */

static void share_columns(anemo_table *t, const char *key, const char *heading) {
    char name[64];
    anemo_table_column(t, key, heading);
    snprintf(name, sizeof name, "%s_lo", key);
    anemo_table_column(t, name, "95 %");
    snprintf(name, sizeof name, "%s_hi", key);
    anemo_table_column(t, name, "");
}

/* Shares as percent for people, as fractions for machines. */
static void share_cells(anemo_table *t, const anemo_interval *i, bool known) {
    const double v[] = {i->value, i->lo, i->hi};
    for (int k = 0; k < 3; k++)
        if (known)
            anemo_table_both(t, v[k], "%.1f", 100 * v[k]);
        else
            anemo_table_absent(t);
}

static void share_value(anemo_table *t, double share) {
    if (isnan(share))
        anemo_table_absent(t);
    else
        anemo_table_both(t, share, "%.1f", 100 * share);
}

static void score_row(anemo_table *t, const anemo_eval_suite *suite, const anemo_eval_score *s,
                      const char *weights) {
    const bool choice = suite->rules.choice && s->n_choice;
    anemo_table_text(t, "%s", s->kind);
    if (s->level)
        anemo_table_number(t, s->level, "%.0f");
    else
        anemo_table_absent(t);
    anemo_table_text(t, "%s", weights);
    anemo_table_number(t, (double)s->n, "%.0f");
    if (suite->rules.exact)
        share_cells(t, &s->exact, true);
    if (!suite->rules.choice)
        return;
    share_cells(t, &s->choice, choice);
    if (choice)
        anemo_table_both(t, s->choice_norm.value, "%.1f", 100 * s->choice_norm.value);
    else
        anemo_table_absent(t);
    anemo_table_number(t, choice ? s->answer_nll : NAN, "%.3f");
}

/* What was scored on what. */
static anemo_table *run_table(const anemo_eval_suite *suite, const anemo_eval_run *runs,
                              int32_t n_runs) {
    anemo_table *t = anemo_table_create("runs", NULL);
    static const char *const columns[][2] = {
        {"model", "model"},        {"model_sha256", "sha256"},         {"weights", "weights"},
        {"weight_bytes", "MB"},    {"resident_bytes", "resident MiB"}, {"cases", "cases"},
        {"cases_sha256", "sha256"}};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        anemo_table_column(t, columns[i][0], columns[i][1]);
    for (int32_t r = 0; r < n_runs; r++) {
        anemo_table_text(t, "%s", runs[r].info.name);
        anemo_table_text(t, "%.12s", runs[r].info.source_sha256);
        anemo_table_text(t, "%s", runs[r].weights);
        anemo_table_both(t, runs[r].info.weight_bytes, "%.3f", runs[r].info.weight_bytes / 1e6);
        anemo_table_both(t, runs[r].resident_bytes, "%.1f", runs[r].resident_bytes / (1 << 20));
        anemo_table_number(t, suite->cases ? (double)suite->cases->n : 0, "%.0f");
        if (suite->cases)
            anemo_table_text(t, "%.12s", suite->cases->sha256);
        else
            anemo_table_absent(t);
    }
    return t;
}

/* Kind by kind and level by level, the forms below each other. */
static anemo_table *score_table(const anemo_eval_suite *suite, const anemo_eval_run *runs,
                                int32_t n_runs) {
    anemo_table *t = anemo_table_create("scores", "right answers, %");
    anemo_table_column(t, "kind", "kind");
    anemo_table_column(t, "level", "level");
    anemo_table_column(t, "weights", "weights");
    anemo_table_column(t, "n", "n");
    if (suite->rules.exact)
        share_columns(t, "exact", "exact");
    if (suite->rules.choice) {
        share_columns(t, "acc", "choice");
        anemo_table_column(t, "acc_norm", "norm");
        anemo_table_column(t, "answer_nll", "nats/answer");
    }
    anemo_eval_score(*scores)[ANEMO_EVAL_SCORES] = malloc((size_t)n_runs * sizeof *scores);
    int32_t n = 0;
    for (int32_t r = 0; r < n_runs && scores; r++)
        n = anemo_eval_scores(suite->cases, runs[r].results, scores[r], ANEMO_EVAL_SCORES);
    for (int32_t i = 0; i < n; i++)
        for (int32_t r = 0; r < n_runs; r++)
            score_row(t, suite, &scores[r][i], runs[r].label);
    free(scores);
    return t;
}

static anemo_table *text_table(const anemo_eval_suite *suite, const anemo_eval_run *runs,
                               int32_t n_runs) {
    anemo_table *t = anemo_table_create("perplexity", "perplexity");
    static const char *const columns[][2] = {{"text", "text"},
                                             {"text_sha256", "sha256"},
                                             {"rule", "rule"},
                                             {"context", "context"},
                                             {"weights", "weights"},
                                             {"units", "units"},
                                             {"tokens", "tokens"},
                                             {"perplexity", "ppl"},
                                             {"perplexity_lo", "95 %"},
                                             {"perplexity_hi", ""},
                                             {"nll", "nats/token"},
                                             {"word_perplexity", "ppl/word"},
                                             {"bits_per_byte", "bits/byte"}};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        anemo_table_column(t, columns[i][0], columns[i][1]);
    for (int32_t i = 0; i < suite->n_texts; i++)
        for (int32_t r = 0; r < n_runs; r++) {
            const anemo_perplexity p =
                anemo_eval_perplexity(runs[r].texts[i].units, runs[r].texts[i].n_units);
            const char *slash = strrchr(suite->texts[i].path, '/');
            anemo_table_text(t, "%s", slash ? slash + 1 : suite->texts[i].path);
            anemo_table_text(t, "%.12s", runs[r].texts[i].sha256);
            anemo_table_text(t, "%s", anemo_eval_rule_name(suite->texts[i].rule));
            anemo_table_number(t, (double)runs[r].texts[i].context, "%.0f");
            anemo_table_text(t, "%s", runs[r].label);
            anemo_table_number(t, (double)p.units, "%.0f");
            anemo_table_number(t, (double)p.tokens, "%.0f");
            anemo_table_number(t, p.perplexity.value, "%.4f");
            anemo_table_number(t, p.perplexity.lo, "%.4f");
            anemo_table_number(t, p.perplexity.hi, "%.4f");
            anemo_table_number(t, p.nll.value, "%.4f");
            const double nats = p.nll.value * (double)p.tokens; /* NaN below: absent */
            const int64_t words = runs[r].texts[i].words, bytes = runs[r].texts[i].bytes;
            anemo_table_number(t, words ? exp(nats / (double)words) : NAN, "%.4f");
            anemo_table_number(t, bytes ? nats / (double)bytes / log(2) : NAN, "%.4f");
        }
    return t;
}

static anemo_table *divergence_table(const anemo_eval_suite *suite, const anemo_eval_run *runs,
                                     int32_t n_runs) {
    char title[256];
    snprintf(title, sizeof title, "divergence from %s on the same tokens", runs[0].label);
    anemo_table *t = anemo_table_create("divergence", title);
    anemo_table_column(t, "text", "text");
    anemo_table_column(t, "weights", "weights");
    anemo_table_column(t, "tokens", "tokens");
    anemo_table_column(t, "kl", "KL, nats/token");
    anemo_table_column(t, "kl_lo", "95 %");
    anemo_table_column(t, "kl_hi", "");
    anemo_table_column(t, "kl_max", "largest");
    share_columns(t, "same_top", "same top-1, %");
    for (int32_t i = 0; i < suite->n_texts; i++)
        for (int32_t r = 1; r < n_runs; r++) {
            const anemo_divergence d =
                anemo_eval_divergence(runs[r].texts[i].divergence, runs[r].texts[i].n_units);
            const char *slash = strrchr(suite->texts[i].path, '/');
            anemo_table_text(t, "%s", slash ? slash + 1 : suite->texts[i].path);
            anemo_table_text(t, "%s", runs[r].label);
            anemo_table_number(t, (double)d.tokens, "%.0f");
            anemo_table_number(t, d.kl.value, "%.3g");
            anemo_table_number(t, d.kl.lo, "%.3g");
            anemo_table_number(t, d.kl.hi, "%.3g");
            anemo_table_number(t, d.kl_max, "%.3g");
            share_cells(t, &d.same_top, true);
        }
    return t;
}

/* One line per run: size, and every kind of score over everything. */
static anemo_table *summary_table(const anemo_eval_suite *suite, const anemo_eval_run *runs,
                                  int32_t n_runs) {
    anemo_table *t = anemo_table_create("summary", "all of it, a line each");
    static const char *const columns[][2] = {{"weights", "weights"},       {"weight_bytes", "MB"},
                                             {"perplexity", "ppl"},        {"exact", "exact, %"},
                                             {"acc", "choice, %"},         {"kl", "KL, nats/token"},
                                             {"same_top", "same top-1, %"}};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        anemo_table_column(t, columns[i][0], columns[i][1]);
    for (int32_t r = 0; r < n_runs; r++) {
        static anemo_eval_score scores[ANEMO_EVAL_SCORES];
        const anemo_eval_score *all = NULL; /* the last line is over everything */
        if (suite->cases)
            all = &scores[anemo_eval_scores(suite->cases, runs[r].results, scores,
                                            ANEMO_EVAL_SCORES) -
                          1];
        double ppl = NAN, kl = NAN, same = NAN;
        if (suite->n_texts)
            ppl = anemo_eval_perplexity(runs[r].texts[0].units, runs[r].texts[0].n_units)
                      .perplexity.value;
        if (suite->n_texts && runs[r].texts[0].divergence) {
            const anemo_divergence d =
                anemo_eval_divergence(runs[r].texts[0].divergence, runs[r].texts[0].n_units);
            kl = d.kl.value, same = d.same_top.value;
        }
        const double exact = all && suite->rules.exact ? all->exact.value : NAN;
        const double choice = all && suite->rules.choice && all->n_choice ? all->choice.value : NAN;
        anemo_table_text(t, "%s", runs[r].label);
        anemo_table_both(t, runs[r].info.weight_bytes, "%.3f", runs[r].info.weight_bytes / 1e6);
        anemo_table_number(t, ppl, "%.4f");
        share_value(t, exact);
        share_value(t, choice);
        anemo_table_number(t, kl, "%.3g");
        share_value(t, same);
    }
    return t;
}

/* A difference: for people shares in points and nats with more digits, for machines as it is. */
static void difference_cell(anemo_table *t, double value, bool share) {
    if (share)
        anemo_table_both(t, value, "%+.2f", 100 * value);
    else
        anemo_table_number(t, value, "%+.4f"); /* NaN: absent */
}

static void comparison_row(anemo_table *t, const anemo_eval_comparison *c, const char *first,
                           const char *second) {
    const bool share = c->only_a >= 0;
    anemo_table_text(t, "%s - %s", second, first);
    anemo_table_text(t, "%s", c->metric);
    anemo_table_number(t, (double)c->n, "%.0f");
    difference_cell(t, c->difference.value, share);
    difference_cell(t, c->difference.lo, share);
    difference_cell(t, c->difference.hi, share);
    anemo_table_number(t, share ? (double)c->only_a : NAN, "%.0f");
    anemo_table_number(t, share ? (double)c->only_b : NAN, "%.0f");
    if (share)
        anemo_table_both(t, c->detectable, "%.2f", 100 * c->detectable);
    else
        anemo_table_number(t, c->detectable, "%.4f");
    anemo_table_number(t, c->p_holm, "%.2g");
    anemo_table_text(t, "%s", c->different ? "different" : "no difference seen");
}

/* Each form against the first. NULL without memory. */
static anemo_table *comparison_table(const anemo_eval_suite *suite, const anemo_eval_run *runs,
                                     int32_t n_runs) {
    anemo_table *t = anemo_table_create(
        "differences", "paired differences from the first form (exact and choice: points)");
    static const char *const columns[][2] = {{"pair", "pair"},
                                             {"metric", "metric"},
                                             {"n", "pairs"},
                                             {"difference", "difference"},
                                             {"lo", "95 %"},
                                             {"hi", ""},
                                             {"only_first", "only 1st"},
                                             {"only_second", "only 2nd"},
                                             {"detectable", "detectable"},
                                             {"p_holm", "p (Holm)"},
                                             {"verdict", "verdict"}};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        anemo_table_column(t, columns[i][0], columns[i][1]);
    for (int32_t r = 1; r < n_runs; r++) {
        anemo_eval_comparison c[ANEMO_EVAL_COMPARISONS + ANEMO_EVAL_TEXTS];
        const int32_t n = anemo_eval_suite_compare(suite, &runs[0], &runs[r], c);
        if (n < 0) {
            anemo_table_free(t);
            return NULL;
        }
        for (int32_t i = 0; i < n; i++)
            comparison_row(t, &c[i], runs[0].label, runs[r].label);
    }
    return t;
}

static void print_tables(const anemo_cli *cli, const anemo_eval_suite *suite,
                         const anemo_eval_run *runs, int32_t n_runs) {
    anemo_table *tables[6];
    int32_t n = 0;
    tables[n++] = run_table(suite, runs, n_runs);
    if (suite->cases)
        tables[n++] = score_table(suite, runs, n_runs);
    if (suite->n_texts)
        tables[n++] = text_table(suite, runs, n_runs);
    if (n_runs > 1 && suite->n_texts && runs[1].texts[0].divergence)
        tables[n++] = divergence_table(suite, runs, n_runs);
    if (n_runs > 1 && (tables[n] = comparison_table(suite, runs, n_runs)))
        n++;
    if (n_runs > 1)
        tables[n++] = summary_table(suite, runs, n_runs);
    anemo_table_print((const anemo_table *const *)tables, n, cli->format, cli->out);
    for (int32_t i = 0; i < n; i++)
        anemo_table_free(tables[i]);
}

/* ---------------------------------------------------------------- running */

typedef struct progress {
    anemo_progress bar;
    int32_t form;
    const char *label;
} progress;

static bool show_progress(void *ctx, double share) {
    progress *p = ctx;
    anemo_progress_show(&p->bar, p->form + share, p->label);
    return !anemo_cli_interrupted();
}

/* Several models: their names tell runs apart. */
static void label_run(const form *forms, int32_t n_forms, anemo_eval_run *run) {
    for (int32_t i = 0; i < n_forms; i++)
        if (strcmp(forms[i].model, forms[0].model)) {
            snprintf(run->label, sizeof run->label, "%.127s %.31s", run->info.name, run->weights);
            return;
        }
}

/* One run, its records, and the paired differences from the first. */
static anemo_status run_form(anemo_eval_suite *suite, const form *forms, int32_t n_forms, int32_t i,
                             anemo_eval_run *runs, const anemo_eval_record_info *info,
                             anemo_record_sink *sink, bool *kept, anemo_error *err) {
    suite->model = forms[i].model;
    anemo_status status =
        anemo_eval_suite_run(suite, info->device, forms[i].requantise, &runs[i], err);
    if (status != ANEMO_OK)
        return status;
    if (i && !anemo_eval_suite_comparable(suite, &runs[0], &runs[i])) {
        anemo_eval_run_free(&runs[i]);
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s cuts the texts into other tokens than %s; accepted: models with one "
                          "tokenizer",
                          forms[i].model, forms[0].model);
    }
    *kept = true;
    label_run(forms, n_forms, &runs[i]);
    return anemo_eval_suite_record(suite, &runs[i], i ? &runs[0] : NULL, info, sink, err);
}

/* Runs every form; what is finished before an error or an interrupt is recorded and printed. */
static int run_forms(const anemo_cli *cli, anemo_eval_suite *suite, const form *forms,
                     int32_t n_forms, bool divergence, const anemo_eval_record_info *info,
                     anemo_record_sink *sink) {
    static anemo_eval_run runs[MAX_RUNS];
    anemo_error err = {""};
    anemo_status status = ANEMO_OK;
    int32_t n = 0;
    progress p = {.bar = anemo_progress_start(cli, "eval", n_forms)};
    suite->progress = show_progress;
    suite->progress_ctx = &p;
    for (int32_t i = 0; i < n_forms && status == ANEMO_OK; i++) {
        bool kept = false;
        p.form = i;
        p.label = forms[i].requantise ? forms[i].requantise : "stored";
        suite->reference = divergence && i ? forms[0].model : NULL;
        suite->reference_requantise = forms[0].requantise;
        suite->reference_label = runs[0].label;
        status = run_form(suite, forms, n_forms, i, runs, info, sink, &kept, &err);
        n += kept;
    }
    anemo_progress_end(&p.bar);
    if (n)
        print_tables(cli, suite, runs, n);
    for (int32_t i = 0; i < n; i++)
        anemo_eval_run_free(&runs[i]);
    return status == ANEMO_OK ? ANEMO_EXIT_OK : anemo_cli_fail(status, &err);
}

/* What one call works with; opened in this order. */
typedef struct job {
    char model[4096], tasks[4200];
    anemo_eval_cases cases;
    anemo_eval_suite suite;
    anemo_choices *choices;
    anemo_record_sink *sink;
    anemo_eval_record_info info;
} job;

/* Fills the suite from the options; the embedded model brings tasks of its own. */
static anemo_status plan_suite(const arguments *a, job *j, anemo_error *err) {
    const char *tasks = a->tasks;
    anemo_eval_suite *suite = &j->suite;
    if (!tasks && !a->n_texts) {
        if (!j->info.demo)
            anemo_cli_usage("say what to score: --tasks DIR|FILE, --text FILE, or both");
        snprintf(j->tasks, sizeof j->tasks, "%s/tasks", j->model);
        tasks = j->tasks;
    }
    suite->rules = a->rules;
    if (!suite->rules.exact && !suite->rules.choice)
        suite->rules.exact = suite->rules.choice = true;
    if (a->kv_type)
        anemo_kv_type_from_name(a->kv_type, &suite->kv_type);
    suite->window_given = a->window_given;
    suite->window = a->window;
    suite->n_texts = a->n_texts;
    for (int32_t i = 0; i < a->n_texts; i++)
        suite->texts[i] = (anemo_eval_text_source){a->texts[i], a->rule, a->context};
    if (!tasks)
        return ANEMO_OK;
    suite->cases = &j->cases;
    return anemo_eval_cases_load(tasks, &a->filter, &j->cases, err);
}

static int run_job(const anemo_cli *cli, const arguments *a, job *j) {
    const char *models[MAX_MODELS] = {j->model};
    form runs[MAX_RUNS];
    const int32_t n_models = cli->n_arguments ? cli->n_arguments : 1;
    anemo_error err = {""};
    anemo_status status = anemo_cli_find_model(cli->n_arguments ? cli->arguments[0] : NULL,
                                               j->model, sizeof j->model, &j->info.demo, &err);
    for (int32_t i = 1; i < n_models; i++)
        models[i] = cli->arguments[i];
    const int32_t n_runs = list_runs(a, models, n_models, runs);
    if (status == ANEMO_OK)
        status = plan_suite(a, j, &err);
    if (status == ANEMO_OK)
        status = anemo_cli_open_sink(cli, "eval", &j->sink, &err);
    if (status == ANEMO_OK)
        status = anemo_cli_open_device(cli, &j->info.device, &err);
    if (status == ANEMO_OK)
        status = anemo_cli_open_choices(cli, j->info.device, anemo_kv_type_name(j->suite.kv_type),
                                        &j->choices, &err);
    j->suite.choices = j->choices;
    if (status != ANEMO_OK)
        return anemo_cli_fail(status, &err);
    anemo_cli_catch_interrupts();
    return run_forms(cli, &j->suite, runs, n_runs, a->against != NULL, &j->info, j->sink);
}

int anemo_cmd_eval(int argc, char **argv) {
    static const anemo_cli_spec spec = {
        .arguments = "[MODEL...]",
        .max_arguments = MAX_MODELS,
        .about =
            "How right a model is: exact match, multiple choice, perplexity, each with its "
            "95 % interval. Several models or forms of the weights answer the same cases and are "
            "compared in pairs with the first, or with --against. Without MODEL: the embedded "
            "default model. Without --tasks and "
            "--text: that model's own held-out tasks.",
        .example =
            "anemo eval --weights stored,q8_0,q4_0 --limit 100\n"
            "anemo eval ./mistral-7b --text wiki.test.raw --rule llama-perplexity --context 512\n"
            "anemo eval ./mistral-7b-q4.gguf --against ./mistral-7b --text wiki.test.raw",
        .shared = ANEMO_CLI_FORMAT | ANEMO_CLI_OUTPUT | ANEMO_CLI_THREADS | ANEMO_CLI_DEVICE |
                  ANEMO_CLI_PLUGIN | ANEMO_CLI_WITH | ANEMO_CLI_RECORD | ANEMO_CLI_QUIET |
                  ANEMO_CLI_PACKED | ANEMO_CLI_CHOICES,
        .options = options,
        .option = option};
    arguments a = {.weights = "stored", .rule = ANEMO_EVAL_LM_EVAL};
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, &a, &cli);
    char *repro = command_line(argc, argv);
    job j = {.info = {.repro = repro},
             .suite = {.with = cli.with, .n_with = cli.n_with, .packed_cache = cli.packed_cache}};
    int code = run_job(&cli, &a, &j);
    anemo_error err = {""};
    const anemo_status status = j.sink ? anemo_record_sink_close(j.sink, &err) : ANEMO_OK;
    if (status != ANEMO_OK)
        code = anemo_cli_worse(code, anemo_cli_fail(status, &err));
    anemo_choices_free(j.choices);
    anemo_device_free(j.info.device);
    anemo_eval_cases_free(&j.cases);
    free(repro);
    return anemo_cli_close(&cli, code);
}
