/* anemo verify: a model held against what is published about it. */
#include "harness/cli/common.h"
#include "harness/cli/table.h"
#include "harness/verify/verify.h"

#include <string.h>

typedef struct verify_arguments {
    const char *text, *facts;
} verify_arguments;

enum { KEY_TEXT = ANEMO_CLI_KEY(0), KEY_FACTS };

static bool option(int key, const char *value, void *context) {
    verify_arguments *a = context;
    switch (key) {
    case KEY_TEXT:
        a->text = value;
        return true;
    case KEY_FACTS:
        a->facts = value;
        return true;
    default:
        return false;
    }
}

static int32_t count(const anemo_verify_report *report, anemo_verify_verdict verdict) {
    int32_t n = 0;
    for (int32_t i = 0; i < report->n_lines; i++)
        n += report->lines[i].verdict == verdict;
    return n;
}

static void print_lines(const anemo_cli *cli, const anemo_verify_report *report) {
    static const char *const verdicts[] = {"agrees", "DIFFERS", "not run"};
    anemo_table *t = anemo_table_create("verify", NULL);
    static const char *const columns[] = {"checkpoint", "what",  "verdict", "published",
                                          "here",       "as_of", "source"};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++)
        anemo_table_column(t, columns[i], columns[i]);
    for (int32_t i = 0; i < report->n_lines; i++) {
        const anemo_verify_line *line = &report->lines[i];
        anemo_table_text(t, "%s", line->fact->checkpoint);
        anemo_table_text(t, "%s", anemo_fact_kind_name(line->fact->kind));
        anemo_table_text(t, "%s", verdicts[line->verdict]);
        anemo_table_text(t, "%s", line->published);
        anemo_table_text(t, "%s", line->here);
        anemo_table_text(t, "%s", line->fact->as_of);
        anemo_table_text(t, "%s", line->fact->source);
    }
    const anemo_table *tables[] = {t};
    anemo_table_print(tables, 1, cli->format, cli->out);
    anemo_table_free(t);
}

/* The sentence at the end, and the exit code. A difference proves a wrong reading only where the
 * file is known byte by byte: a fine-tuned model has its base's shape, too. */
static int conclude(const anemo_cli *cli, const anemo_verify_report *report) {
    FILE *to = cli->format == ANEMO_FORMAT_TEXT ? cli->out : stderr;
    const anemo_model_info *m = &report->info;
    const int32_t differ = count(report, ANEMO_VERIFY_DIFFERS);
    const int32_t agree = count(report, ANEMO_VERIFY_AGREES);
    const int32_t left = count(report, ANEMO_VERIFY_NOT_RUN);
    if (!report->checkpoint[0]) {
        fprintf(to,
                "%s: unknown: no published facts for %s with %lld layers of %lld and %lld tokens; "
                "nothing was compared\n",
                m->name, m->architecture, (long long)m->layers, (long long)m->d,
                (long long)m->vocab);
        return ANEMO_EXIT_NOT_MEASURED;
    }
    fprintf(to, "%s: %s %s%s%s%s; %d agree, %d differ, %d not run\n", m->name,
            report->identified ? "is" : "has the shape of", report->checkpoint,
            report->others[0] ? " (and of " : "", report->others, report->others[0] ? ")" : "",
            agree, differ, left);
    if (!differ && agree == 1 && !report->identified) {
        fprintf(to, "nothing but the shape could be compared: that says little\n");
        return ANEMO_EXIT_NOT_MEASURED;
    }
    if (differ && !report->identified)
        fprintf(to, "another model of this shape (fine-tuned?), or it is read wrongly\n");
    return !differ              ? ANEMO_EXIT_OK
           : report->identified ? ANEMO_EXIT_INCORRECT
                                : ANEMO_EXIT_INCONCLUSIVE;
}

static int verify(const anemo_cli *cli, const verify_arguments *a) {
    char path[4096], facts_path[4096];
    bool embedded;
    anemo_error err = {""};
    anemo_facts facts = {0};
    anemo_device *device = NULL;
    anemo_verify_report report = {.n_lines = 0};
    anemo_status status = anemo_cli_find_model(cli->n_arguments ? cli->arguments[0] : NULL, path,
                                               sizeof path, &embedded, &err);
    if (status == ANEMO_OK && !a->facts)
        status = anemo_cli_reference("checkpoints.jsonl", facts_path, sizeof facts_path, &err);
    if (status == ANEMO_OK)
        status = anemo_facts_load(a->facts ? a->facts : facts_path, &facts, &err);
    if (status == ANEMO_OK)
        status = anemo_cli_open_device(cli, &device, &err);
    const anemo_verify_options options = {
        .path = path, .text = a->text, .with = cli->with, .n_with = cli->n_with};
    if (status == ANEMO_OK)
        status = anemo_verify(&options, &facts, device, &report, &err);
    int code;
    if (status == ANEMO_OK) {
        if (report.n_lines || cli->format != ANEMO_FORMAT_TEXT)
            print_lines(cli, &report);
        code = conclude(cli, &report);
    } else {
        code = anemo_cli_fail(status, &err);
    }
    anemo_verify_report_free(&report);
    anemo_device_free(device);
    anemo_facts_free(&facts);
    return code;
}

int anemo_cmd_verify(int argc, char **argv) {
    static const struct argp_option options[] = {
        {"text", KEY_TEXT, "FILE", 0,
         "the text of a published perplexity (wiki.test.raw); without it they are not run", 0},
        {"facts", KEY_FACTS, "FILE", 0,
         "other facts than results/reference/checkpoints.jsonl (JSON Lines of that form)", 0},
        {0}};
    static const anemo_cli_spec spec = {
        .arguments = "[MODEL]",
        .max_arguments = 1,
        .about =
            "Identifies a known checkpoint, by SHA-256 or else by its shape, and compares "
            "token ids, logits, continuations and perplexity with what is published about it. "
            "Exit 0: all that could be compared agrees; 3: a known file is read differently; 4: "
            "one of that shape differs; 5: unknown, or nothing to compare.",
        .example = "  anemo verify ~/models/Mistral-7B-v0.1 --text wiki.test.raw\n"
                   "  anemo verify",
        .shared = ANEMO_CLI_FORMAT | ANEMO_CLI_OUTPUT | ANEMO_CLI_THREADS | ANEMO_CLI_DEVICE |
                  ANEMO_CLI_PLUGIN | ANEMO_CLI_WITH,
        .options = options,
        .option = option};
    verify_arguments a = {NULL, NULL};
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, &a, &cli);
    return anemo_cli_close(&cli, verify(&cli, &a));
}
