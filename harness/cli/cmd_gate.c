/* anemo gate: may this change be merged? Policy and exit code around harness/gate. */
#include "harness/cli/gate.h"
#include "harness/measure/machine.h"

#include "anemo_config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    KEY_BASE = ANEMO_CLI_KEY(0),
    KEY_DELTA,
    KEY_LOOKS,
    KEY_SAMPLE,
    KEY_CASES,
    KEY_ALL,
    KEY_INCONCLUSIVE,
    KEY_JUNIT,
    KEY_SUMMARY,
    KEY_NO_STATIC
};

/* Two looks more than `anemo compare` takes: of 27 cases of the same speed, one was still open at
 * 208 pairs in every third gate, and a look more is paid by the open ones alone. */
#define GATE_LOOKS "52,104,208,416,832"

static const struct argp_option own_options[] = {
    {"base", KEY_BASE, "REV|BUILD|FILE", 0,
     "what to compare with: a git revision (built in a scratch folder), an anemo program or its "
     "folder, or a file of records (*.jsonl: proves what is unchanged, judges nothing)",
     0},
    {"delta", KEY_DELTA, "PERCENT", 0, "how much slower it may be (default 3)", 0},
    {"looks", KEY_LOOKS, "LIST", 0, "pairs at which it is judged (default " GATE_LOOKS ")", 0},
    {"sample", KEY_SAMPLE, "MS", 0, "a sample lasts at least this long (default 2 ms)", 0},
    {"cases", KEY_CASES, "FILE", 0,
     "lines OP SHAPE M[,M...] warm|cold-weights, or model MODEL PROMPT TOKENS BATCH", 0},
    {"all", KEY_ALL, NULL, 0, "measure what is unchanged, too", 0},
    {"no-static", KEY_NO_STATIC, NULL, 0,
     "leave out the static figures (code size, signature, memory, instructions, registers)", 0},
    {"on-inconclusive", KEY_INCONCLUSIVE, "fail|warn", 0, "exit code 4 (default) or 0", 0},
    {"junit", KEY_JUNIT, "FILE", 0, "write JUnit XML", 0},
    {"summary", KEY_SUMMARY, "FILE", 0,
     "append a Markdown summary (also to $GITHUB_STEP_SUMMARY when that is set)", 0},
    {0}};

typedef struct gate_choices {
    const char *base, *cases, *junit, *summary;
    anemo_compare_rule rule;
    double sample_ns;
    bool all, warn, no_static;
} gate_choices;

static bool option(int key, const char *value, void *context) {
    static const char *const policies[] = {"fail", "warn", NULL};
    gate_choices *c = context;
    anemo_error err = {{0}};
    switch (key) {
    case KEY_BASE:
        c->base = value;
        return true;
    case KEY_DELTA:
        c->rule.delta = anemo_cli_real("--delta", value, 0, 1000) / 100;
        return true;
    case KEY_LOOKS:
        if (anemo_compare_looks_parse(value, &c->rule, &err)) {
            anemo_cli_usage("--looks: %s", err.text);
        }
        return true;
    case KEY_SAMPLE:
        c->sample_ns = anemo_cli_real("--sample", value, 0.001, 60000) * 1e6;
        return true;
    case KEY_CASES:
        c->cases = value;
        return true;
    case KEY_ALL:
        c->all = true;
        return true;
    case KEY_NO_STATIC:
        c->no_static = true;
        return true;
    case KEY_INCONCLUSIVE:
        c->warn = anemo_cli_choice("--on-inconclusive", value, policies) == 1;
        return true;
    case KEY_JUNIT:
        c->junit = value;
        return true;
    case KEY_SUMMARY:
        c->summary = value;
        return true;
    default:
        return false;
    }
}

/* ---------------------------------------------------------------- the run */

typedef struct gate_run {
    const anemo_cli *cli;
    const gate_choices *own;
    char head[PATH_MAX], relinked[PATH_MAX], model[PATH_MAX];
    anemo_gate_base base;
    anemo_gate_plan plan;
    anemo_gate_outcome outcome;
    anemo_gate_figures figures;
    anemo_progress progress;
} gate_run;

static anemo_status read_cases(const char *path, char **text, anemo_error *err) {
    enum { MOST = 1 << 16 };
    FILE *file = fopen(path, "r");
    *text = calloc(1, MOST + 1);
    if (!file || !*text) {
        const int why = errno;
        if (file) {
            fclose(file);
        }
        return anemo_fail(err, ANEMO_E_INPUT, "--cases %s: %s", path, strerror(why));
    }
    const size_t n = fread(*text, 1, MOST, file);
    const bool whole = feof(file) && !ferror(file) && strlen(*text) == n;
    fclose(file);
    return whole ? ANEMO_OK
                 : anemo_fail(err, ANEMO_E_INPUT,
                              "--cases %s: expected a text file of at most %d bytes", path, MOST);
}

static anemo_status make_plan(gate_run *run, anemo_error *err) {
    const gate_choices *own = run->own;
    char *text = NULL;
    anemo_device *device = NULL;
    anemo_status status = own->cases ? read_cases(own->cases, &text, err) : ANEMO_OK;
    status = status ? status : anemo_cli_open_device(run->cli, &device, err);
    if (!status) {
        status = anemo_gate_plan_make(
            own->cases ? own->cases : "the usual cases", text ? text : anemo_gate_usual_cases,
            run->cli->filter, own->all, device, run->cli->seed, &run->base, &run->plan, err);
    }
    anemo_device_free(device);
    free(text);
    return status;
}

static void show(void *ctx, int32_t index, int64_t pairs, int64_t most) {
    gate_run *run = ctx;
    anemo_progress_show(&run->progress, (index + (double)pairs / (double)most) / run->plan.n_due,
                        "");
}

static anemo_status measure(gate_run *run, anemo_error *err) {
    bool embedded;
    const anemo_gate_setting setting = {
        .head = run->head,
        .relinked = run->relinked[0] ? run->relinked : NULL,
        .base = &run->base,
        .default_model = run->model,
        .callgrind_isa = strncmp(anemo_machine_get()->arch, "x86", 3) == 0 ? "avx2" : "baseline",
        .has_cuda = ANEMO_HAVE_CUDA,
        .rule = run->own->rule,
        .sample_ns = run->own->sample_ns,
        .threads = run->cli->threads,
        .seed = run->cli->seed,
        .hooks = {.progress = show, .interrupted = anemo_cli_interrupted, .ctx = run}};
    const anemo_status status =
        anemo_cli_find_model(NULL, run->model, sizeof run->model, &embedded, err);
    if (status) {
        return status;
    }
    run->progress = anemo_progress_start(run->cli, "gate", 1);
    anemo_status measured = anemo_gate_measure(&run->plan, &setting, &run->outcome, err);
    anemo_progress_end(&run->progress);
    if (!measured && run->plan.n_due > 0 && run->base.program[0] && !run->own->no_static) {
        measured = anemo_gate_figures_take(&setting, &run->figures, err);
    }
    return measured;
}

/* This program, and its twin of another link order where there is one. */
static anemo_status find_head(gate_run *run, anemo_error *err) {
    const ssize_t n = readlink("/proc/self/exe", run->head, sizeof run->head - 1);
    if (n <= 0) {
        return anemo_fail(err, ANEMO_E_DEVICE, "/proc/self/exe: %s", strerror(errno));
    }
    run->head[n] = '\0';
    snprintf(run->relinked, sizeof run->relinked, "%.4000s_relinked", run->head);
    if (access(run->relinked, X_OK) != 0) {
        run->relinked[0] = '\0';
    }
    return ANEMO_OK;
}

static int report_files(const gate_report *report, const gate_choices *own, int code) {
    const char *github = getenv("GITHUB_STEP_SUMMARY");
    anemo_error err = {{0}};
    int out = ANEMO_EXIT_OK;
    if (own->junit && gate_write_junit(report, own->junit, &err)) {
        out = anemo_cli_worse(out, anemo_cli_fail(ANEMO_E_IO, &err));
    }
    if (own->summary && gate_write_summary(report, code, own->summary, &err)) {
        out = anemo_cli_worse(out, anemo_cli_fail(ANEMO_E_IO, &err));
    }
    if (github && github[0] && gate_write_summary(report, code, github, &err)) {
        out = anemo_cli_worse(out, anemo_cli_fail(ANEMO_E_IO, &err));
    }
    return out;
}

static int gate(gate_run *run) {
    anemo_error err = {{0}};
    anemo_status status = find_head(run, &err);
    status = status ? status : anemo_gate_base_open(run->own->base, run->head, &run->base, &err);
    status = status ? status : make_plan(run, &err);
    int code = ANEMO_EXIT_OK;
    if (!status) {
        status = measure(run, &err);
        if (!status || status == ANEMO_E_CANCELLED) {
            gate_report report = {.cli = run->cli,
                                  .base = &run->base,
                                  .plan = &run->plan,
                                  .outcome = &run->outcome,
                                  .figures = &run->figures,
                                  .rule = &run->own->rule,
                                  .warn = run->own->warn,
                                  .no_relinked = !run->relinked[0]};
            code = gate_judge(&report);
            gate_print(&report);
            code = anemo_cli_worse(code, report_files(&report, run->own, code));
        }
    }
    if (status) {
        code = anemo_cli_worse(code, anemo_cli_fail(status, &err));
    }
    anemo_gate_figures_free(&run->figures);
    anemo_gate_outcome_free(&run->outcome);
    anemo_gate_plan_free(&run->plan);
    anemo_gate_base_close(&run->base);
    return code;
}

int anemo_cmd_gate(int argc, char **argv) {
    static const anemo_cli_spec spec = {
        .about =
            "Did this change make anything slower? Compares this program with a base: cases whose "
            "machine code, with all that it calls, is the same in both are not measured; all "
            "others "
            "run in both builds in turns and are judged as by `anemo compare`. Canaries of the "
            "same "
            "code, and the two builds with places changed, run beside; if those differ, the job "
            "says nothing (exit code 6). Model cases are measured unless nothing in the engine and "
            "no kernel changed. Exit code 1: something is slower, and it is named.",
        .example = "anemo gate --base main\n"
                   "anemo gate --base ../main/build --filter swa --junit gate.xml\n"
                   "anemo gate --base main --cases my.cases --on-inconclusive warn",
        .shared = ANEMO_CLI_FORMAT | ANEMO_CLI_OUTPUT | ANEMO_CLI_SEED | ANEMO_CLI_THREADS |
                  ANEMO_CLI_ISA | ANEMO_CLI_FILTER | ANEMO_CLI_QUIET,
        .options = own_options,
        .option = option};
    gate_choices own = {.rule = anemo_compare_rule_usual(), .sample_ns = 2e6};
    own.rule.openings = ANEMO_CHILD_OPENINGS;
    anemo_error err = {{0}};
    if (anemo_compare_looks_parse(GATE_LOOKS, &own.rule, &err)) {
        return anemo_cli_fail(ANEMO_E_INPUT, &err);
    }
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, &own, &cli);
    if (!own.base) {
        anemo_cli_usage("--base is missing: a revision, a build, or a file of records");
    }
    gate_run *run = calloc(1, sizeof *run);
    if (!run) {
        anemo_fail(&err, ANEMO_E_MEMORY, "no memory for a gate");
        return anemo_cli_close(&cli, anemo_cli_fail(ANEMO_E_MEMORY, &err));
    }
    run->cli = &cli;
    run->own = &own;
    const int code = gate(run);
    free(run);
    return anemo_cli_close(&cli, code);
}
