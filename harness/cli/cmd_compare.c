/* anemo compare: is B slower than A? Two variants or two models in this process, two builds or
 * plug-ins as children of it, in turns; or two files of records, which are shown but not judged. */
#include "harness/cli/compare.h"
#include "harness/cli/plugin.h"
#include "harness/compare/side.h"
#include "harness/measure/machine.h"
#include "harness/measure/placement.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---------------------------------------------------------------- cases */

enum { MOST_CASES = 256, MOST_WORDS = 48 };

typedef struct comparison {
    const anemo_cli *cli;
    const compare_choices *own;
    compare_kind kind;
    anemo_device *device; /* of sides in this process */
    char model_path[2][4096];
    bool embedded[2];
    anemo_custom_shape custom;
    anemo_progress progress;
    int32_t n;
    bool keep_open; /* one case in this process: what is set up once serves all looks */
    bool steady[MOST_CASES];
    char name[MOST_CASES][256];
    struct pair_case *cases;
    char self[4096]; /* of plug-ins: this program */
} comparison;

typedef struct pair_case {
    comparison *run;
    int32_t index;
    const anemo_variant *variant[2];
    const char *variant_name; /* of children */
    const bench_shape *shape; /* NULL: a model */
    int64_t m;
    anemo_kernel_bed *bed;
    anemo_side_pair pair;
} pair_case;

static anemo_kernel_problem problem_of(const pair_case *c) {
    const compare_choices *own = c->run->own;
    return (anemo_kernel_problem){.shape = c->shape,
                                  .m = c->m,
                                  .weights = own->weights ? own->weights : "q4_0",
                                  .routing = own->routing,
                                  .caches = own->caches,
                                  .seed = c->run->cli->seed};
}

static anemo_status open_variants(pair_case *c, anemo_error *err) {
    const anemo_kernel_problem problem = problem_of(c);
    anemo_status status = anemo_kernel_bed_open(c->run->device, &problem, &c->bed, err);
    for (int side = 0; !status && side < 2; side++) {
        status = anemo_kernel_side_open(c->bed, c->variant[side], &c->pair.side[side], err);
    }
    if (c->bed) {
        snprintf(c->run->name[c->index], sizeof *c->run->name, "%s",
                 anemo_kernel_bed_case(c->bed)->name);
    }
    return status;
}

static bench_engine_spec spec_of(const comparison *run, int side) {
    const compare_choices *own = run->own;
    static const char *with[2][32];
    bench_engine_spec spec = own->spec;
    spec.path = run->model_path[side];
    spec.requantise = own->requantise;
    spec.seed = run->cli->seed;
    spec.with = with[side];
    for (int32_t i = 0; i < run->cli->n_with && spec.n_with < 16; i++) {
        with[side][spec.n_with++] = run->cli->with[i];
    }
    for (int32_t i = 0; side == 1 && i < own->n_with_b; i++) {
        with[side][spec.n_with++] = own->with_b[i];
    }
    return spec;
}

static anemo_status open_models(pair_case *c, anemo_error *err) {
    anemo_status status = ANEMO_OK;
    for (int side = 0; !status && side < 2; side++) {
        const bench_engine_spec spec = spec_of(c->run, side);
        status = anemo_model_side_open(c->run->device, &spec, &c->pair.side[side], err);
    }
    if (!status) {
        const bench_engine_spec *spec = &c->run->own->spec;
        snprintf(
            c->run->name[c->index], sizeof *c->run->name, "%.100s/decode/P=%lld/n=%lld/batch=%d",
            anemo_model_side_engine(c->pair.side[0])->info->name, (long long)spec->prompt_tokens,
            (long long)spec->generated_tokens, spec->batch_max);
    }
    return status;
}

/* Are the sides processes of their own? */
static bool as_children(compare_kind kind) {
    return kind == COMPARE_BUILDS || kind == COMPARE_PLUGINS;
}

/* The command line that makes a build, or this one with a plug-in, serve its side of the case. text
 * holds the numbers. */
static void child_words(const pair_case *c, const char *argument, const char **word,
                        char (*text)[32]) {
    const compare_choices *own = c->run->own;
    const anemo_cli *cli = c->run->cli;
    int n = 0, t = 0;
#define WORD(option, value)                                                                        \
    do {                                                                                           \
        word[n++] = (option);                                                                      \
        word[n++] = (value);                                                                       \
    } while (0)
#define NUMBER(option, value)                                                                      \
    do {                                                                                           \
        snprintf(text[t], sizeof *text, "%lld", (long long)(value));                               \
        WORD(option, text[t++]);                                                                   \
    } while (0)
    WORD(c->run->kind == COMPARE_PLUGINS ? c->run->self : argument, "compare");
    if (c->run->kind == COMPARE_PLUGINS) {
        WORD("--plugin", argument);
    }
    WORD("--serve", c->shape ? c->variant_name : c->run->model_path[0]);
    NUMBER("--seed", cli->seed);
    if (cli->threads) {
        NUMBER("--threads", cli->threads);
    }
    if (own->weights) {
        WORD("--weights", own->weights);
    }
    if (strcmp(anemo_isa_level(), "native") != 0) {
        WORD("--isa", anemo_isa_level());
    }
    if (strcmp(anemo_placement_chosen(), anemo_placement_names[0]) != 0) {
        WORD("--placement", anemo_placement_chosen());
    }
    if (c->shape) {
        WORD("--shape", c->shape->name);
        NUMBER("--m", c->m);
        WORD("--caches", anemo_caches_name(own->caches));
        if (own->routing) {
            WORD("--routing", own->routing);
        }
    } else {
        NUMBER("--prompt", own->spec.prompt_tokens);
        NUMBER("--tokens", own->spec.generated_tokens);
        NUMBER("--batch", own->spec.batch_max);
        for (int32_t i = 0; i < cli->n_with && n < MOST_WORDS - 4; i++) {
            WORD("--with", cli->with[i]);
        }
    }
    word[n] = NULL;
#undef NUMBER
#undef WORD
}

static anemo_status open_builds(pair_case *c, anemo_error *err) {
    anemo_status status = ANEMO_OK;
    for (int side = 0; !status && side < 2; side++) {
        const char *word[MOST_WORDS];
        char text[8][32];
        child_words(c, c->run->cli->arguments[side], word, text);
        status = anemo_child_side_open(word, &c->pair.side[side], err);
    }
    if (!status) {
        const char *a = anemo_child_side_what(c->pair.side[0]);
        const char *b = anemo_child_side_what(c->pair.side[1]);
        snprintf(c->run->name[c->index], sizeof *c->run->name, "%s", a);
        if (strcmp(a, b) != 0) {
            status = anemo_fail(err, ANEMO_E_INPUT, "the sides measure different things: %s and %s",
                                a, b);
        }
    }
    return status;
}

static void close_case(void *ctx) {
    pair_case *c = ctx;
    anemo_side_pair_close(&c->pair);
    anemo_kernel_bed_close(c->bed);
    c->bed = NULL;
}

static anemo_status open_case(void *ctx, anemo_error *err) {
    pair_case *c = ctx;
    comparison *run = c->run;
    c->pair = (anemo_side_pair){.sample_ns = run->own->sample_ns};
    anemo_status status = run->kind == COMPARE_VARIANTS ? open_variants(c, err)
                          : as_children(run->kind)      ? open_builds(c, err)
                                                        : open_models(c, err);
    status = status ? status : anemo_side_pair_warm_up(&c->pair, err);
    run->steady[c->index] = run->steady[c->index] && c->pair.steady;
    if (status) {
        close_case(c);
    }
    return status;
}

static anemo_status sample_case(void *ctx, int32_t side, double *ns, anemo_error *err) {
    return anemo_side_pair_sample(&((pair_case *)ctx)->pair, side, ns, err);
}

static bool add_case(comparison *run, pair_case c) {
    if (run->n == MOST_CASES) {
        return false;
    }
    c.run = run;
    c.index = run->n;
    run->steady[run->n] = true;
    snprintf(run->name[run->n], sizeof *run->name, "%s/%s/m=%lld",
             c.shape ? anemo_op_name(c.shape->op) : "decode", c.shape ? c.shape->name : "model",
             (long long)c.m);
    run->cases[run->n++] = c;
    return true;
}

/* All wanted shapes and rows of one variant, or of two of the same op. */
static anemo_status add_kernels(comparison *run, const anemo_variant *a, const anemo_variant *b,
                                anemo_error *err) {
    const compare_choices *own = run->own;
    const bool numbers = own->shape && strchr(own->shape, '=');
    const int32_t before = run->n;
    anemo_status status =
        numbers ? anemo_shape_custom(a->op, own->shape, &run->custom, err) : ANEMO_OK;
    bool any_short = false, room = true;
    for (int32_t i = 0; i < anemo_shape_count(); i++) {
        any_short = any_short || (anemo_shape_at(i)->op == a->op && anemo_shape_at(i)->is_short);
    }
    for (int32_t i = 0; !status && i < (numbers ? 1 : anemo_shape_count()); i++) {
        const bench_shape *shape = numbers ? &run->custom.shape : anemo_shape_at(i);
        int64_t rows[ANEMO_SHAPE_ROWS];
        const int32_t n = anemo_shape_rows(shape->rows, rows, ANEMO_SHAPE_ROWS);
        const bool wanted = own->shape ? numbers || anemo_shape_matches(shape, own->shape)
                                       : shape->is_short || !any_short;
        for (int32_t j = 0; shape->op == a->op && wanted && j < (own->n_m ? own->n_m : n); j++) {
            const pair_case c = {.variant = {a, b},
                                 .variant_name = a->name,
                                 .shape = shape,
                                 .m = own->n_m ? own->m[j] : rows[j]};
            room = room && add_case(run, c);
        }
    }
    if (!status && !room) {
        return anemo_fail(err, ANEMO_E_INPUT, "more than %d cases: choose with --shape and --m",
                          MOST_CASES);
    }
    if (!status && run->n == before) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "no bench shape '%s' for %s; `anemo bench` lists them",
                          own->shape ? own->shape : "", anemo_op_name(a->op));
    }
    return status;
}

static anemo_status known_variant(const char *name, const anemo_variant **out, anemo_error *err) {
    *out = anemo_variant_find(name);
    return *out ? ANEMO_OK
                : anemo_fail(err, ANEMO_E_INPUT,
                             "'%s' is no variant; `anemo list variants` shows them", name);
}

/* ---------------------------------------------------------------- what is compared */

static anemo_status find_models(comparison *run, const char *a, const char *b, anemo_error *err) {
    const char *asked[2] = {a, b};
    anemo_status status = ANEMO_OK;
    for (int i = 0; !status && i < 2; i++) {
        status = anemo_cli_find_model(
            asked[i] && strcmp(asked[i], "default") == 0 ? NULL : asked[i], run->model_path[i],
            sizeof *run->model_path, &run->embedded[i], err);
    }
    return status;
}

/* What A brings, loaded into this process, too: B, with the same names, could not be. */
static anemo_status plugin_cases(comparison *run, anemo_error *err) {
    const compare_choices *own = run->own;
    const int32_t before = anemo_variant_count();
    const ssize_t n = readlink("/proc/self/exe", run->self, sizeof run->self - 1);
    anemo_status status = anemo_plugin_load(run->cli->arguments[0], err);
    if (!status && n <= 0) {
        status = anemo_fail(err, ANEMO_E_DEVICE, "/proc/self/exe: %s", strerror(errno));
    }
    for (int32_t i = 0; !status && i < own->n_variants; i++) {
        const anemo_variant *v;
        status = known_variant(own->variant[i], &v, err);
        status = status ? status : add_kernels(run, v, NULL, err);
    }
    for (int32_t i = before; !status && !own->n_variants && i < anemo_variant_count(); i++) {
        status = add_kernels(run, anemo_variant_at(i), NULL, err);
    }
    if (!status && run->n == 0) {
        status =
            anemo_fail(err, ANEMO_E_INPUT, "plug-in %s brings no variant", run->cli->arguments[0]);
    }
    return status;
}

static anemo_status make_cases(comparison *run, anemo_error *err) {
    const char *const *argument = run->cli->arguments;
    const compare_choices *own = run->own;
    anemo_status status = ANEMO_OK;
    if (run->kind == COMPARE_VARIANTS) {
        const anemo_variant *v[2] = {NULL, NULL};
        for (int i = 0; !status && i < run->cli->n_arguments; i++) {
            status = known_variant(argument[i], &v[i], err);
        }
        if (!status && v[1] && v[0]->op != v[1]->op) {
            return anemo_fail(err, ANEMO_E_INPUT, "%s is of %s and %s of %s: not comparable",
                              v[0]->name, anemo_op_name(v[0]->op), v[1]->name,
                              anemo_op_name(v[1]->op));
        }
        return status ? status : add_kernels(run, v[0], v[1], err);
    }
    if (run->kind == COMPARE_PLUGINS) {
        return plugin_cases(run, err);
    }
    if (run->kind == COMPARE_BUILDS && own->n_variants) {
        for (int32_t i = 0; !status && i < own->n_variants; i++) {
            const anemo_variant *v;
            status = known_variant(own->variant[i], &v, err);
            status = status ? status : add_kernels(run, v, NULL, err);
        }
        return status;
    }
    const bool builds = run->kind == COMPARE_BUILDS;
    const char *a = builds ? own->model : argument[0];
    const char *b = builds || run->cli->n_arguments < 2 ? a : argument[1];
    status = find_models(run, a, b, err);
    if (!status) {
        add_case(run, (pair_case){.m = own->spec.batch_max});
    }
    return status;
}

/* ---------------------------------------------------------------- records */

static void record_side(anemo_record *record, const anemo_compare_result *r, int side,
                        const char *name) {
    const anemo_estimate *t = &r->time_ns[side];
    double *raw = malloc((size_t)r->pairs * sizeof *raw);
    anemo_record_metric(record, name, "s", true, t->value * 1e-9, t->lo * 1e-9, t->hi * 1e-9, t->n);
    for (int64_t i = 0; raw && i < r->pairs; i++) {
        raw[i] = r->ns[side][i] * 1e-9;
    }
    if (raw) {
        anemo_record_samples(record, raw, (size_t)r->pairs);
    }
    free(raw);
}

static void record_solution(anemo_record *record, const comparison *run, const pair_case *c) {
    const char *const *argument = run->cli->arguments;
    const bool builds = as_children(run->kind);
    anemo_record_text(record, "sampling", "baseline", argument[0]);
    anemo_record_text(record, "solution", "variant",
                      !builds    ? argument[1]
                      : c->shape ? c->variant_name
                                 : argument[1]);
    if (c->shape) {
        anemo_record_text(record, "case", "op", anemo_op_name(c->shape->op));
        anemo_record_text(record, "case", "shape", c->shape->name);
        anemo_record_integer(record, "case", "m", c->m);
        anemo_record_text(record, "case", "cache", anemo_caches_name(run->own->caches));
    } else {
        anemo_record_text(record, "case", "model", run->model_path[1]);
        anemo_record_integer(record, "case", "batch", run->own->spec.batch_max);
        anemo_record_integer(record, "case", "prompt_tokens", run->own->spec.prompt_tokens);
        anemo_record_integer(record, "case", "generated_tokens", run->own->spec.generated_tokens);
    }
}

static void record_repro(anemo_record *record, const comparison *run, const pair_case *c,
                         const char *looks) {
    const compare_choices *own = run->own;
    const char *const *argument = run->cli->arguments;
    char text[1536], what[512];
    if (c->shape) {
        const bool builds = as_children(run->kind);
        snprintf(what, sizeof what, "%s%.100s --shape %.100s --m %lld --caches %s --weights %.40s",
                 builds ? " --variant " : "", builds ? c->variant_name : "", c->shape->name,
                 (long long)c->m, anemo_caches_name(own->caches),
                 own->weights ? own->weights : "q4_0");
    } else {
        snprintf(what, sizeof what, " --prompt %lld --tokens %lld --batch %d%s%.40s",
                 (long long)own->spec.prompt_tokens, (long long)own->spec.generated_tokens,
                 own->spec.batch_max, own->weights ? " --weights " : "",
                 own->weights ? own->weights : "");
    }
    int at = snprintf(text, sizeof text, "anemo compare %.300s %.300s%s", argument[0], argument[1],
                      what);
    for (int32_t i = 0; i < own->n_with_b && at < (int)sizeof text - 200; i++) {
        at += snprintf(text + at, sizeof text - (size_t)at, " --with-b %.80s", own->with_b[i]);
    }
    snprintf(text + at, sizeof text - (size_t)at, " --looks %s --delta %g --seed %llu%s", looks,
             100 * own->rule.delta, (unsigned long long)run->cli->seed, anemo_machine_option());
    anemo_record_text(record, NULL, "repro", text);
}

static anemo_status write_record(anemo_record_sink *sink, const comparison *run, const pair_case *c,
                                 const anemo_compare_result *r, const anemo_noise *noise,
                                 anemo_error *err) {
    const anemo_compare_rule *rule = &run->own->rule;
    char looks[128] = "";
    for (int32_t i = 0, at = 0; i < rule->n_looks; i++) {
        at += snprintf(looks + at, sizeof looks - (size_t)at, "%s%lld", i ? "," : "",
                       (long long)rule->look[i]);
    }
    anemo_record *record = anemo_record_create(c->shape ? ANEMO_RECORD_KERNEL : ANEMO_RECORD_MODEL);
    anemo_record_text(record, NULL, "suite", "compare");
    anemo_record_text(record, NULL, "status", "passed");
    anemo_record_text(record, NULL, "verdict", anemo_compare_verdict_name(r->verdict));
    anemo_record_text(record, "case", "name", run->name[c->index]);
    anemo_record_integer(record, "case", "seed", (int64_t)run->cli->seed);
    record_solution(record, run, c);
    record_repro(record, run, c, looks);
    anemo_record_number(record, "sampling", "delta", rule->delta);
    anemo_record_text(record, "sampling", "looks", looks);
    anemo_record_flag(record, "sampling", "interleaved", true);
    anemo_record_integer(record, "sampling", "calls_per_sample", c->pair.calls * c->pair.turns);
    anemo_record_text(record, "sampling", "interval",
                      "paired ratio: exact sign test, level over all looks together");
    bench_record_noise(record, noise);
    if (run->device) {
        anemo_record_device(record, run->device);
    }
    anemo_record_metric(record, "ratio", "1", true, r->ratio.value, r->ratio.lo, r->ratio.hi,
                        r->ratio.n);
    record_side(record, r, 1, "time");
    record_side(record, r, 0, "baseline_time");
    anemo_record_reason(record, "one-occasion", false);
    if (!run->steady[c->index]) {
        anemo_record_reason(record, "not-steady", false);
    }
    const anemo_status status = anemo_record_write(sink, record, err);
    anemo_record_free(record);
    return status;
}

/* ---------------------------------------------------------------- the run */

static void show(void *ctx, int32_t index, int64_t pairs, int64_t most) {
    comparison *run = ctx;
    anemo_progress_show(&run->progress, (index + (double)pairs / (double)most) / run->n,
                        run->name[index]);
}

static anemo_status run_cases(comparison *run, anemo_compare_result *results, anemo_error *err) {
    anemo_compare_case cases[MOST_CASES];
    const anemo_compare_hooks hooks = {
        .progress = show, .interrupted = anemo_cli_interrupted, .ctx = run};
    anemo_compare_rule rule = run->own->rule;
    rule.openings = as_children(run->kind) ? ANEMO_CHILD_OPENINGS : 1;
    run->keep_open = run->n == 1 && rule.openings == 1;
    for (int32_t i = 0; i < run->n; i++) {
        cases[i] = (anemo_compare_case){.name = run->name[i],
                                        .sample = sample_case,
                                        .open = run->keep_open ? NULL : open_case,
                                        .close = run->keep_open ? NULL : close_case,
                                        .ctx = &run->cases[i],
                                        .turns = &run->cases[i].pair.turns};
    }
    anemo_status status = run->keep_open ? open_case(&run->cases[0], err) : ANEMO_OK;
    status = status ? status : anemo_compare_run(cases, run->n, &rule, &hooks, results, err);
    if (run->keep_open) {
        close_case(&run->cases[0]);
    }
    return status;
}

/* Exit code of what was measured; the first failure of each kind is told. */
static int report(comparison *run, const anemo_compare_result *results, const anemo_noise *noise,
                  anemo_record_sink *sink) {
    const char *const *argument = run->cli->arguments;
    char b[600];
    snprintf(b, sizeof b, "%.200s", argument[1]);
    for (int32_t i = 0; i < run->own->n_with_b; i++) {
        const size_t at = strlen(b);
        snprintf(b + at, sizeof b - at, " --with %s", run->own->with_b[i]);
    }
    compare_print(run->cli, &run->own->rule, argument[0], b, run->name, run->steady, run->n,
                  results, noise);
    int code = ANEMO_EXIT_OK, told = ANEMO_EXIT_OK;
    for (int32_t i = 0; i < run->n; i++) {
        anemo_error err = {{0}};
        const anemo_compare_result *r = &results[i];
        if (r->status && told != anemo_cli_exit_code(r->status)) {
            told = anemo_cli_fail(r->status, &r->error);
            code = anemo_cli_worse(code, told);
        }
        if (!r->status && r->pairs > 0) {
            const anemo_status status = write_record(sink, run, &run->cases[i], r, noise, &err);
            code = status ? anemo_cli_worse(code, anemo_cli_fail(status, &err)) : code;
        }
    }
    return code;
}

static int compare(comparison *run) {
    anemo_error err = {{0}};
    anemo_record_sink *sink = NULL;
    anemo_compare_result results[MOST_CASES] = {{0}};
    anemo_status status = make_cases(run, &err);
    if (!status && !as_children(run->kind)) {
        status = anemo_cli_open_device(run->cli, &run->device, &err);
    }
    status = status ? status : anemo_cli_open_sink(run->cli, "compare", &sink, &err);
    int code = ANEMO_EXIT_OK;
    if (!status) {
        run->progress = anemo_progress_start(run->cli, "compare", 1);
        const anemo_noise_reading before = anemo_noise_read();
        status = run_cases(run, results, &err);
        const anemo_noise_reading after = anemo_noise_read();
        const anemo_noise noise = anemo_noise_between(&before, &after);
        anemo_progress_end(&run->progress);
        if (!status || status == ANEMO_E_CANCELLED) {
            code = report(run, results, &noise, sink);
        }
    }
    code = status ? anemo_cli_worse(code, anemo_cli_fail(status, &err)) : code;
    if (sink && (status = anemo_record_sink_close(sink, &err))) {
        code = anemo_cli_worse(code, anemo_cli_fail(status, &err));
    }
    anemo_compare_results_free(results, run->n);
    anemo_device_free(run->device);
    return code;
}

/* --serve: one side, on standard input and output, until the input ends. */
static int serve(comparison *run) {
    anemo_error err = {{0}};
    anemo_side *side = NULL;
    anemo_status status = make_cases(run, &err);
    if (!status && run->n != 1) {
        status = anemo_fail(&err, ANEMO_E_INPUT, "--serve: %d cases; expected one", run->n);
    }
    status = status ? status : anemo_cli_open_device(run->cli, &run->device, &err);
    pair_case *c = &run->cases[0];
    if (!status && c->shape) {
        const anemo_kernel_problem problem = problem_of(c);
        status = anemo_kernel_bed_open(run->device, &problem, &c->bed, &err);
        status = status ? status : anemo_kernel_side_open(c->bed, c->variant[0], &side, &err);
        if (!status) {
            snprintf(run->name[0], sizeof *run->name, "%.150s/%.100s",
                     anemo_kernel_bed_case(c->bed)->name, c->variant[0]->name);
        }
    } else if (!status) {
        const bench_engine_spec spec = spec_of(run, 0);
        status = anemo_model_side_open(run->device, &spec, &side, &err);
        if (!status) {
            snprintf(run->name[0], sizeof *run->name, "%.100s/decode/P=%lld/n=%lld/batch=%d",
                     anemo_model_side_engine(side)->info->name, (long long)spec.prompt_tokens,
                     (long long)spec.generated_tokens, spec.batch_max);
        }
    }
    status = status ? status : anemo_side_serve(side, run->name[0], stdin, stdout, &err);
    if (side) {
        side->close(side);
    }
    close_case(c);
    anemo_device_free(run->device);
    return status ? anemo_cli_fail(status, &err) : ANEMO_EXIT_OK;
}

int anemo_cmd_compare(int argc, char **argv) {
    static const anemo_cli_spec spec = {
        .arguments = "A B",
        .min_arguments = 1,
        .max_arguments = 2,
        .about = "Is B slower than A? Two variants of an op, two models (decode), two builds (two "
                 "anemo programs) or two plug-ins (*.so, with variants of the same names) are "
                 "sampled in turns, pair by pair, and judged by exact sign "
                 "tests at looks fixed beforehand: REGRESSION, PASS or INCONCLUSIVE against a "
                 "threshold, and apart from it whether they differ at all. Two files of records "
                 "(*.jsonl) are shown side by side, not judged: they were not measured together. "
                 "Exit code 0 whatever the verdict, if it measured; `anemo gate` makes a policy of "
                 "it.",
        .example = "anemo compare qgemm_c qgemm_ref --shape n=256,k=256 --m 1\n"
                   "anemo compare default default --with-b qgemm=qgemm_c\n"
                   "anemo compare ./model-a ./model-b --tokens 33\n"
                   "anemo compare ../old/build/anemo build/anemo\n"
                   "anemo compare ../old/build/anemo build/anemo --variant add_rmsnorm_c --m 1,16\n"
                   "anemo compare ./before.so ./after.so --shape mistral-7b --m 1\n"
                   "anemo compare monday.jsonl tuesday.jsonl",
        .shared = ANEMO_CLI_FORMAT | ANEMO_CLI_OUTPUT | ANEMO_CLI_SEED | ANEMO_CLI_THREADS |
                  ANEMO_CLI_ISA | ANEMO_CLI_DEVICE | ANEMO_CLI_PLUGIN | ANEMO_CLI_WITH |
                  ANEMO_CLI_RECORD | ANEMO_CLI_QUIET,
        .options = compare_argp,
        .option = compare_option};
    compare_choices own = {.rule = anemo_compare_rule_usual(),
                           .sample_ns = 1e6,
                           .caches = ANEMO_CACHES_COLD_WEIGHTS,
                           .spec = {.prompt_tokens = 32, .generated_tokens = 17, .batch_max = 1}};
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, &own, &cli);
    const compare_kind kind = compare_choose_kind(&cli, &own);
    if (kind == COMPARE_RECORDS) {
        if (own.kernel_given || own.model_given || own.weights || cli.n_with || cli.record) {
            anemo_cli_usage("files of records take no options of a measurement");
        }
        return anemo_cli_close(&cli, compare_records(&cli, cli.arguments[0], cli.arguments[1]));
    }
    compare_check_options(kind, &cli, &own);
    if (kind == COMPARE_MODELS || (kind == COMPARE_BUILDS && !own.n_variants)) {
        own.requantise = compare_requantise(own.weights);
    }
    comparison *run = calloc(1, sizeof *run);
    pair_case *cases = calloc(MOST_CASES, sizeof *cases);
    int code;
    if (!run || !cases) {
        anemo_error err = {"no memory for a comparison"};
        code = anemo_cli_fail(ANEMO_E_MEMORY, &err);
    } else {
        run->cli = &cli;
        run->own = &own;
        run->kind = kind;
        run->cases = cases;
        code = own.serve ? serve(run) : compare(run);
    }
    free(cases);
    free(run);
    return anemo_cli_close(&cli, code);
}
