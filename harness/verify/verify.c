/* Compares a model with what is published about the checkpoint that it looks like. Quantised forms
 * are held against perplexities of their own form only: published logits are those of the float
 * weights. */
#include "harness/verify/verify.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "harness/eval/suite.h"

#define CHUNK      512       /* tokens of one step */
#define PROMPT_MAX (1 << 24) /* tokens */

typedef struct work {
    const anemo_verify_options *options;
    anemo_device *device;
    anemo_model *model;
    const anemo_model_info *info;
    anemo_error *err;
} work;

/* ---------------------------------------------------------------- facts */

static int64_t integer(const anemo_fact *fact, const char *key) {
    return json_integer_value(json_object_get(fact->json, key));
}

static double number(const anemo_fact *fact, const char *key) {
    return json_number_value(json_object_get(fact->json, key));
}

static const char *text(const anemo_fact *fact, const char *key) {
    return json_string_value(json_object_get(fact->json, key));
}

/* malloc'ed; NULL without memory, or where there is no such list (*n = 0). */
static int32_t *ids(const anemo_fact *fact, const char *key, int64_t *n) {
    const json_t *list = json_object_get(fact->json, key);
    *n = (int64_t)json_array_size(list);
    int32_t *out = *n ? malloc((size_t)*n * sizeof *out) : NULL;
    for (int64_t i = 0; out && i < *n; i++)
        out[i] = (int32_t)json_integer_value(json_array_get(list, (size_t)i));
    return out;
}

/* ---------------------------------------------------------------- which checkpoint */

static bool has_shape(const anemo_fact *fact, const anemo_model_info *m) {
    const struct {
        const char *key;
        int64_t here;
    } fields[] = {{"vocab", m->vocab},       {"d", m->d},
                  {"ffn", m->ffn},           {"layers", m->layers},
                  {"heads", m->heads},       {"kv_heads", m->kv_heads},
                  {"head_dim", m->head_dim}, {"experts", m->experts},
                  {"window", m->window},     {"experts_per_token", m->experts_per_token}};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (json_object_get(fact->json, fields[i].key) &&
            integer(fact, fields[i].key) != fields[i].here)
            return false;
    return !strcmp(text(fact, "architecture"), m->architecture);
}

/* "" where the file is not there, has another length or cannot be read. */
static void hash_file(const char *path, int64_t bytes, char hex[65]) {
    struct stat info;
    hex[0] = 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return;
    if (!fstat(fd, &info) && S_ISREG(info.st_mode) && info.st_size == bytes && bytes > 0) {
        void *data = mmap(NULL, (size_t)bytes, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data != MAP_FAILED) {
            anemo_sha256_of(data, (size_t)bytes, hex);
            munmap(data, (size_t)bytes);
        }
    }
    close(fd);
}

/* The hash of the file that a fact speaks of: the model's own (a .gguf), or one of its directory.
 */
static void hash_of_fact(const anemo_fact *fact, const char *model, char hex[65]) {
    struct stat info;
    char path[4400];
    const bool directory = !stat(model, &info) && S_ISDIR(info.st_mode);
    snprintf(path, sizeof path, "%.4096s%s%.255s", model, directory ? "/" : "",
             directory ? text(fact, "file") : "");
    hash_file(path, integer(fact, "bytes"), hex);
}

static bool is_file_of(const anemo_fact *fact, const char *model) {
    char hex[65];
    hash_of_fact(fact, model, hex);
    return !strcmp(hex, text(fact, "sha256"));
}

/* A hash decides; else the first of those with its shape. */
static void identify(const work *w, const anemo_facts *facts, anemo_verify_report *out) {
    for (int32_t i = 0; i < facts->n && !out->identified; i++) {
        const anemo_fact *fact = &facts->items[i];
        if (fact->kind == ANEMO_FACT_FILE && is_file_of(fact, w->options->path)) {
            snprintf(out->checkpoint, sizeof out->checkpoint, "%s", fact->checkpoint);
            out->identified = true;
        }
    }
    for (int32_t i = 0; i < facts->n && !out->identified; i++) {
        const anemo_fact *fact = &facts->items[i];
        if (fact->kind != ANEMO_FACT_SHAPE || !has_shape(fact, w->info))
            continue;
        const size_t used = strlen(out->others);
        if (!out->checkpoint[0])
            snprintf(out->checkpoint, sizeof out->checkpoint, "%s", fact->checkpoint);
        else if (strcmp(out->checkpoint, fact->checkpoint))
            snprintf(out->others + used, sizeof out->others - used, "%s%s", used ? ", " : "",
                     fact->checkpoint);
    }
}

/* ---------------------------------------------------------------- one comparison each */

static void not_run(anemo_verify_line *line, const char *why) {
    line->verdict = ANEMO_VERIFY_NOT_RUN;
    snprintf(line->here, sizeof line->here, "%.191s", why);
}

static void decide(anemo_verify_line *line, bool agrees) {
    line->verdict = agrees ? ANEMO_VERIFY_AGREES : ANEMO_VERIFY_DIFFERS;
}

static anemo_status compare_shape(const work *w, anemo_verify_line *line) {
    const anemo_model_info *m = w->info;
    snprintf(line->published, sizeof line->published, "%s, %lld layers of %lld",
             text(line->fact, "architecture"), (long long)integer(line->fact, "layers"),
             (long long)integer(line->fact, "d"));
    snprintf(line->here, sizeof line->here, "%s, %lld layers of %lld", m->architecture,
             (long long)m->layers, (long long)m->d);
    decide(line, has_shape(line->fact, m));
    return ANEMO_OK;
}

static anemo_status compare_file(const work *w, anemo_verify_line *line) {
    char hex[65];
    hash_of_fact(line->fact, w->options->path, hex);
    snprintf(line->published, sizeof line->published, "%s %.12s", text(line->fact, "file"),
             text(line->fact, "sha256"));
    if (!hex[0]) {
        not_run(line, "no file of this name and length");
        return ANEMO_OK;
    }
    snprintf(line->here, sizeof line->here, "%.12s", hex);
    decide(line, !strcmp(hex, text(line->fact, "sha256")));
    return ANEMO_OK;
}

static anemo_status compare_tokens(const work *w, anemo_verify_line *line) {
    anemo_error why;
    const anemo_tokenizer *tokenizer = anemo_model_tokenizer(w->model, &why);
    const char *words = text(line->fact, "text");
    int64_t n;
    size_t got;
    int32_t *want = ids(line->fact, "ids", &n), *here = NULL;
    snprintf(line->published, sizeof line->published, "%lld ids of \"%.40s\"", (long long)n, words);
    if (!tokenizer || !want) {
        not_run(line, tokenizer ? "no memory" : why.text);
        free(want);
        return ANEMO_OK;
    }
    const bool bos = json_is_true(json_object_get(line->fact->json, "bos"));
    const anemo_status status =
        anemo_tokenizer_encode(tokenizer, words, strlen(words), bos, &here, &got, w->err);
    if (status == ANEMO_OK) {
        int64_t same = 0;
        while (same < n && same < (int64_t)got && here[same] == want[same])
            same++;
        decide(line, same == n && (int64_t)got == n);
        if (line->verdict == ANEMO_VERIFY_AGREES)
            snprintf(line->here, sizeof line->here, "the same");
        else
            snprintf(line->here, sizeof line->here, "%zu ids, other from position %lld on", got,
                     (long long)same);
    }
    free(want);
    free(here);
    return status;
}

static bool is_float(const char *weights) {
    return !strcmp(weights, "f32") || !strcmp(weights, "f16") || !strcmp(weights, "bf16");
}

/* Feeds tokens in chunks; the rows of `each` come after every token, else only the last one's. */
typedef void (*row_fn)(void *ctx, int64_t position, const float *logits);

static anemo_status feed(const work *w, anemo_plan *plan, anemo_session *session,
                         const int32_t *tokens, int64_t n, bool each, row_fn row, void *ctx) {
    anemo_status status = ANEMO_OK;
    for (int64_t at = 0, size; at < n && status == ANEMO_OK; at += size) {
        size = n - at < CHUNK ? n - at : CHUNK;
        const bool last = at + size == n;
        anemo_step_result result;
        const anemo_step_entry entry = {.session = session,
                                        .tokens = tokens + at,
                                        .n_tokens = (int32_t)size,
                                        .want = each   ? ANEMO_WANT_LOGITS_ALL
                                                : last ? ANEMO_WANT_LOGITS_LAST
                                                       : ANEMO_WANT_NONE};
        status = anemo_step_submit(plan, &entry, 1, w->err);
        if (status == ANEMO_OK)
            status = anemo_step_wait(plan, &result, w->err);
        for (int64_t r = 0; status == ANEMO_OK && r < result.rows; r++)
            row(ctx, each ? at + r : n - 1, result.logits + r * w->info->vocab);
    }
    return status;
}

/* A plan and a session for n positions. */
static anemo_status open_session(const work *w, int64_t n, bool each, anemo_plan **plan,
                                 anemo_session **session) {
    const int64_t rows = n < CHUNK ? n : CHUNK;
    const anemo_plan_options options = {.limits = {.tokens_per_step = rows,
                                                   .sessions = 1,
                                                   .context = n,
                                                   .logits_rows = each ? rows : 1},
                                        .with = w->options->with,
                                        .n_with = w->options->n_with};
    *session = NULL;
    const anemo_status status = anemo_plan_create(w->model, w->device, &options, plan, w->err);
    return status == ANEMO_OK ? anemo_session_create(*plan, session, w->err) : status;
}

static const char too_long[] = "longer than this model's context";

static const char *wrong_ids(const work *w, const int32_t *tokens, int64_t n) {
    for (int64_t i = 0; i < n; i++)
        if (tokens[i] >= w->info->vocab)
            return "a published id is outside this vocabulary";
    return n > w->info->context_max ? too_long : NULL;
}

typedef struct logits_check {
    const json_t *mean, *rows;
    int64_t vocab;
    double worst, where_published, where_here;
} logits_check;

static void see(logits_check *c, double published, double here) {
    const double error = fabs(published - here);
    if (!(error <= c->worst)) { /* NaN is the worst */
        c->worst = isnan(error) ? INFINITY : error;
        c->where_published = published;
        c->where_here = here;
    }
}

static void check_row(void *ctx, int64_t position, const float *logits) {
    logits_check *c = ctx;
    const json_t *mean = json_array_get(c->mean, (size_t)position);
    const json_t *row = json_array_get(c->rows, (size_t)position);
    double sum = 0;
    for (int64_t v = 0; v < c->vocab; v++)
        sum += (double)logits[v];
    if (mean)
        see(c, json_number_value(mean), sum / (double)c->vocab);
    for (size_t v = 0; v < json_array_size(row) && (int64_t)v < c->vocab; v++)
        see(c, json_number_value(json_array_get(row, v)), (double)logits[v]);
}

static anemo_status compare_logits(const work *w, anemo_verify_line *line) {
    int64_t n;
    int32_t *tokens = ids(line->fact, "ids", &n);
    const double tolerance = number(line->fact, "tolerance");
    logits_check c = {.mean = json_object_get(line->fact->json, "mean"),
                      .rows = json_object_get(line->fact->json, "rows"),
                      .vocab = w->info->vocab,
                      .worst = -1};
    snprintf(line->published, sizeof line->published, "%s after %lld ids, +- %g",
             c.mean ? "mean logits" : "first logits", (long long)n, tolerance);
    const char *why = !tokens                       ? "no memory"
                      : !is_float(w->info->weights) ? "published for float weights"
                                                    : wrong_ids(w, tokens, n);
    anemo_plan *plan = NULL;
    anemo_session *session = NULL;
    anemo_status status = ANEMO_OK;
    if (why) {
        not_run(line, why);
    } else {
        status = open_session(w, n, true, &plan, &session);
        if (status == ANEMO_OK)
            status = feed(w, plan, session, tokens, n, true, check_row, &c);
        if (status == ANEMO_OK) {
            snprintf(line->here, sizeof line->here, "at most %.3g apart (%.4f for %.4f)", c.worst,
                     c.where_here, c.where_published);
            decide(line, c.worst >= 0 && c.worst <= tolerance);
        }
    }
    anemo_session_free(session);
    anemo_plan_free(plan);
    free(tokens);
    return status;
}

typedef struct best_id {
    int64_t vocab;
    int32_t id;
} best_id;

static void keep_best(void *ctx, int64_t position, const float *logits) {
    best_id *best = ctx;
    (void)position;
    best->id = 0;
    for (int32_t v = 1; v < best->vocab; v++)
        best->id = logits[v] > logits[best->id] ? v : best->id;
}

/* ids, then `times` times `repeat`: malloc'ed. *n is INT64_MAX where that is out of all reason. */
static int32_t *prompt_of(const anemo_fact *fact, int64_t *n) {
    int64_t head, tail;
    int32_t *a = ids(fact, "ids", &head), *b = ids(fact, "repeat", &tail);
    const int64_t times = b ? integer(fact, "times") : 0;
    const bool reasonable = !b || times <= PROMPT_MAX / tail;
    *n = reasonable ? head + times * tail : INT64_MAX;
    int32_t *out = a && reasonable ? malloc((size_t)*n * sizeof *out) : NULL;
    for (int64_t i = 0; out && i < *n; i++)
        out[i] = i < head ? a[i] : b[(i - head) % tail];
    free(a);
    free(b);
    return out;
}

static anemo_status compare_continuation(const work *w, anemo_verify_line *line) {
    int64_t n, n_next, same = 0;
    int32_t *prompt = prompt_of(line->fact, &n), *next = ids(line->fact, "next", &n_next);
    const bool fits = n <= w->info->context_max && n_next - 1 <= w->info->context_max - n;
    snprintf(line->published, sizeof line->published, "%lld greedy ids after %lld",
             (long long)n_next, (long long)n);
    const char *why = !fits ? too_long : !prompt || !next ? "no memory" : wrong_ids(w, prompt, n);
    anemo_plan *plan = NULL;
    anemo_session *session = NULL;
    anemo_status status = ANEMO_OK;
    if (why) {
        not_run(line, why);
    } else {
        best_id best = {w->info->vocab, -1};
        status = open_session(w, n + n_next - 1, false, &plan, &session);
        if (status == ANEMO_OK)
            status = feed(w, plan, session, prompt, n, false, keep_best, &best);
        while (status == ANEMO_OK && same < n_next && best.id == next[same]) {
            same++;
            const int32_t id = best.id;
            if (same < n_next)
                status = feed(w, plan, session, &id, 1, false, keep_best, &best);
        }
        snprintf(line->here, sizeof line->here, "%lld of %lld the same", (long long)same,
                 (long long)n_next);
        decide(line, same == n_next);
    }
    anemo_session_free(session);
    anemo_plan_free(plan);
    free(prompt);
    free(next);
    return status;
}

static anemo_status compare_perplexity(const work *w, anemo_verify_line *line) {
    const anemo_fact *fact = line->fact;
    const double value = number(fact, "value"), tolerance = number(fact, "tolerance");
    const char *rule = text(fact, "rule");
    snprintf(line->published, sizeof line->published, "%.4f +- %g %%: %s, %s, %s, context %lld",
             value, 100 * tolerance, text(fact, "text"), text(fact, "weights"), rule,
             (long long)integer(fact, "context"));
    const bool llama = !strcmp(rule, anemo_eval_rule_name(ANEMO_EVAL_LLAMA));
    if (!llama && strcmp(rule, anemo_eval_rule_name(ANEMO_EVAL_LM_EVAL))) {
        not_run(line, "by a rule that anemo does not have");
        return ANEMO_OK;
    }
    if (strcmp(text(fact, "weights"), w->info->weights)) {
        not_run(line, "published for other weights");
        return ANEMO_OK;
    }
    if (!w->options->text) {
        not_run(line, "--text FILE was not given");
        return ANEMO_OK;
    }
    const anemo_eval_suite suite = {
        .model = w->options->path,
        .texts = {{w->options->text, llama ? ANEMO_EVAL_LLAMA : ANEMO_EVAL_LM_EVAL,
                   integer(fact, "context")}},
        .n_texts = 1,
        .with = w->options->with,
        .n_with = w->options->n_with};
    anemo_eval_run run;
    const anemo_status status = anemo_eval_suite_run(&suite, w->device, NULL, &run, w->err);
    if (status != ANEMO_OK)
        return status;
    const double here =
        anemo_eval_perplexity(run.texts[0].units, run.texts[0].n_units).perplexity.value;
    if (strcmp(run.texts[0].sha256, text(fact, "text_sha256"))) {
        not_run(line, "--text is another text");
    } else {
        snprintf(line->here, sizeof line->here, "%.4f", here);
        decide(line, fabs(here / value - 1) <= tolerance);
    }
    anemo_eval_run_free(&run);
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- all of it */

static anemo_status compare(const work *w, anemo_verify_line *line) {
    static anemo_status (*const by_kind[ANEMO_FACT_KINDS])(const work *, anemo_verify_line *) = {
        [ANEMO_FACT_SHAPE] = compare_shape,
        [ANEMO_FACT_FILE] = compare_file,
        [ANEMO_FACT_TOKENS] = compare_tokens,
        [ANEMO_FACT_LOGITS] = compare_logits,
        [ANEMO_FACT_CONTINUATION] = compare_continuation,
        [ANEMO_FACT_PERPLEXITY] = compare_perplexity};
    return by_kind[line->fact->kind](w, line);
}

anemo_status anemo_verify(const anemo_verify_options *options, const anemo_facts *facts,
                          anemo_device *device, anemo_verify_report *out, anemo_error *err) {
    work w = {.options = options, .device = device, .err = err};
    memset(out, 0, sizeof *out);
    anemo_status status = anemo_model_open(options->path, NULL, &w.model, err);
    if (status != ANEMO_OK)
        return status;
    w.info = anemo_model_describe(w.model);
    out->info = *w.info;
    if (!w.info->synthetic)
        identify(&w, facts, out);
    out->lines = calloc((size_t)facts->n + 1, sizeof *out->lines);
    if (!out->lines)
        status = anemo_fail(err, ANEMO_E_MEMORY, "no memory for %d facts", facts->n);
    for (int32_t i = 0; i < facts->n && out->checkpoint[0] && status == ANEMO_OK; i++) {
        if (strcmp(facts->items[i].checkpoint, out->checkpoint))
            continue;
        anemo_verify_line *line = &out->lines[out->n_lines++];
        line->fact = &facts->items[i];
        status = compare(&w, line);
        if (status == ANEMO_E_INPUT) { /* of this fact; the others may still be compared */
            not_run(line, err->text);
            status = ANEMO_OK;
        }
    }
    anemo_model_close(w.model);
    if (status != ANEMO_OK)
        anemo_verify_report_free(out);
    return status;
}

void anemo_verify_report_free(anemo_verify_report *report) {
    free(report->lines);
    memset(report, 0, sizeof *report);
}
