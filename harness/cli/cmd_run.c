/* anemo run: a prompt in, text out, as it is generated. Text goes to stdout, figures to stderr. */
#include "harness/cli/common.h"
#include "harness/cli/run_prompt.h"
#include "harness/cli/run_routing.h"
#include "harness/measure/clock.h"
#include "models/engine.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_TOKENS 512 /* prompt tokens of one step */

enum {
    KEY_PROMPT,
    KEY_TOKENS,
    KEY_TEMPERATURE,
    KEY_TOP_K,
    KEY_TOP_P,
    KEY_WEIGHTS,
    KEY_WINDOW,
    KEY_CHAT,
    KEY_MESSAGES,
    KEY_SYSTEM,
    KEY_TEMPLATE,
    KEY_DATE,
    KEY_EFFORT,
    KEY_SUFFIX,
    KEY_KV,
    KEY_ROUTING
};

typedef struct run_options {
    anemo_run_prompt prompt;
    int64_t tokens;
    anemo_sample_params sample;
    anemo_model_options model;
    anemo_kv_type kv_type;
    const char *routing; /* where the experts of each token go; NULL: nowhere */
} run_options;

static bool run_option(int key, const char *value, void *context) {
    static const char *const weights[] = {"q8_0", "q4_0", NULL};
    run_options *o = context;
    switch (key - ANEMO_CLI_KEY(0)) {
    case KEY_PROMPT:
        o->prompt.text = value;
        return true;
    case KEY_CHAT:
        o->prompt.chat = true;
        return true;
    case KEY_MESSAGES:
        o->prompt.messages = value;
        return true;
    case KEY_SYSTEM:
        o->prompt.system = value;
        return true;
    case KEY_TEMPLATE:
        o->prompt.template_name = value;
        return true;
    case KEY_DATE:
        o->prompt.date = value;
        return true;
    case KEY_EFFORT:
        o->prompt.effort = value;
        return true;
    case KEY_SUFFIX:
        o->prompt.suffix = value;
        return true;
    case KEY_TOKENS:
        o->tokens = anemo_cli_integer("--tokens", value, 1, 1 << 20);
        return true;
    case KEY_TEMPERATURE:
        o->sample.temperature = (float)anemo_cli_real("--temperature", value, 0, 100);
        return true;
    case KEY_TOP_K:
        o->sample.top_k = (int32_t)anemo_cli_integer("--top-k", value, 0, 1 << 24);
        return true;
    case KEY_TOP_P:
        o->sample.top_p = (float)anemo_cli_real("--top-p", value, 0, 1);
        return true;
    case KEY_WEIGHTS:
        o->model.requantise = weights[anemo_cli_choice("--weights", value, weights)];
        return true;
    case KEY_WINDOW:
        o->model.window = anemo_cli_window("--window", value);
        return true;
    case KEY_KV:
        anemo_kv_type_from_name(anemo_cli_kv_type("--kv", value), &o->kv_type);
        return true;
    case KEY_ROUTING:
        o->routing = value;
        return true;
    default:
        return false;
    }
}

/* ---------------------------------------------------------------- text as it comes */

/* Ids become text a few at a time: what a piece looks like may depend on the one before it, and a
 * character may need several pieces. ids[from, shown) are printed; they give the context in which
 * the rest is decoded, and nothing is printed that ends inside a UTF-8 character. */
typedef struct text_stream {
    const anemo_tokenizer *tokenizer;
    FILE *out;
    int32_t *ids;
    size_t n, from, shown;
} text_stream;

/* Does the text end in the middle of a UTF-8 sequence? */
static bool ends_inside_character(const char *text, size_t bytes) {
    for (size_t back = 1; back <= 3 && back <= bytes; back++) {
        unsigned char c = (unsigned char)text[bytes - back];
        if (c >= 0xC0)
            return back < (size_t)(c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : 2);
        if (c < 0x80)
            return false;
    }
    return false;
}

static anemo_status show_new_text(text_stream *s, bool last, anemo_error *err) {
    char *before = NULL, *after = NULL;
    size_t before_bytes = 0, after_bytes = 0;
    anemo_status status = anemo_tokenizer_decode(s->tokenizer, s->ids + s->from, s->shown - s->from,
                                                 &before, &before_bytes, err);
    if (status == ANEMO_OK)
        status = anemo_tokenizer_decode(s->tokenizer, s->ids + s->from, s->n - s->from, &after,
                                        &after_bytes, err);
    if (status == ANEMO_OK && after_bytes > before_bytes &&
        (last || !ends_inside_character(after, after_bytes))) {
        fwrite(after + before_bytes, 1, after_bytes - before_bytes, s->out);
        fflush(s->out);
        s->from = s->shown;
        s->shown = s->n;
    }
    free(before);
    free(after);
    return status;
}

/* ---------------------------------------------------------------- the run */

typedef struct run_state {
    anemo_model *model;
    anemo_device *device;
    anemo_plan *plan;
    anemo_session *session;
    text_stream text;
    size_t n_prompt;
    int32_t end; /* the token that ends an answer in a chat; -1: none */
    anemo_run_routing routing;
    anemo_choices *choices;
    double load_s;               /* opening and packing, before the first step */
    double prompt_s, generate_s; /* to the first id; from there to the last */
} run_state;

static anemo_status read_prompt(const run_options *o, run_state *run, anemo_error *err) {
    const anemo_tokenizer *tokenizer = anemo_model_tokenizer(run->model, err);
    const anemo_model_info *info = anemo_model_describe(run->model);
    if (!tokenizer)
        return anemo_model_tokenizer_status(run->model);
    int32_t *ids = NULL;
    size_t n = 0;
    anemo_status status = anemo_run_prompt_encode(tokenizer, &o->prompt, &ids, &n, &run->end, err);
    if (status == ANEMO_OK && n == 0)
        status = anemo_fail(err, ANEMO_E_INPUT,
                            "--prompt '': the model has no beginning-of-text token, so at least "
                            "one character is needed");
    if (status == ANEMO_OK && (int64_t)n + o->tokens > info->context_max)
        status = anemo_fail(err, ANEMO_E_INPUT,
                            "%s: a prompt of %zu tokens and --tokens %" PRId64
                            " exceed the model's context of %" PRId64,
                            info->name, n, o->tokens, info->context_max);
    int32_t *all = status == ANEMO_OK ? realloc(ids, (n + (size_t)o->tokens) * sizeof *ids) : NULL;
    if (status == ANEMO_OK && !all)
        status = anemo_fail(err, ANEMO_E_MEMORY, "no memory for %" PRId64 " tokens", o->tokens);
    if (status != ANEMO_OK) {
        free(ids);
        return status;
    }
    run->n_prompt = n;
    run->text = (text_stream){.tokenizer = tokenizer, .ids = all, .n = n, .shown = n};
    return ANEMO_OK;
}

static anemo_status open_everything(const anemo_cli *cli, const run_options *o, const char *path,
                                    run_state *run, anemo_error *err) {
    anemo_status status = anemo_model_open(path, &o->model, &run->model, err);
    const anemo_model_info *info = status == ANEMO_OK ? anemo_model_describe(run->model) : NULL;
    if (info && info->skipped[0])
        anemo_cli_warn("%s: only the text path is run; left out: %s", info->name, info->skipped);
    if (status == ANEMO_OK)
        status = read_prompt(o, run, err);
    if (status == ANEMO_OK && o->routing)
        status = anemo_run_routing_open(&run->routing, o->routing, info, err);
    const char *const *choices = NULL;
    int32_t n_choices = 0;
    if (status == ANEMO_OK)
        status = anemo_cli_open_device(cli, &run->device, err);
    if (status == ANEMO_OK)
        status = anemo_cli_open_choices(cli, run->device, anemo_kv_type_name(o->kv_type),
                                        &run->choices, err);
    if (status == ANEMO_OK)
        status = anemo_choices_for(run->choices, info, anemo_kv_type_name(o->kv_type), &choices,
                                   &n_choices, err);
    if (status != ANEMO_OK)
        return status;
    anemo_progress progress = anemo_progress_start(cli, "load", 1);
    const anemo_plan_options options = {
        .limits = {.tokens_per_step =
                       run->n_prompt < CHUNK_TOKENS ? (int64_t)run->n_prompt : CHUNK_TOKENS,
                   .sessions = 1,
                   .context = (int64_t)run->n_prompt + o->tokens,
                   .kv_type = o->kv_type,
                   .logits_rows = 1},
        .with = cli->with,
        .n_with = cli->n_with,
        .choices = choices,
        .n_choices = n_choices,
        .on_route = run->routing.trace ? anemo_route_trace_see : NULL,
        .on_route_ctx = run->routing.trace,
        .on_pack = anemo_progress_packing,
        .on_pack_ctx = &progress,
        .packed_cache = cli->packed_cache,
    };
    status = anemo_plan_create(run->model, run->device, &options, &run->plan, err);
    anemo_progress_end(&progress);
    if (status == ANEMO_OK && cli->packed_cache && !cli->quiet)
        fprintf(stderr, "%s\n", anemo_plan_cache_note(run->plan));
    return status == ANEMO_OK ? anemo_session_create(run->plan, &run->session, err) : status;
}

static void close_everything(run_state *run) {
    anemo_session_free(run->session);
    anemo_plan_free(run->plan);
    anemo_choices_free(run->choices);
    anemo_device_free(run->device);
    free(run->text.ids);
    anemo_model_close(run->model);
}

static bool is_end(const run_state *run, const anemo_model_info *info, int32_t id) {
    if (id >= 0 && id == run->end)
        return true;
    for (int32_t i = 0; i < info->n_eos; i++)
        if (info->eos[i] == id)
            return true;
    return false;
}

/* One step; *id is what was sampled, or -1. */
static anemo_status step(run_state *run, const run_options *o, const int32_t *tokens, int32_t n,
                         bool sample, int32_t *id, anemo_error *err) {
    anemo_step_entry entry = {.session = run->session,
                              .tokens = tokens,
                              .n_tokens = n,
                              .want = sample ? ANEMO_WANT_SAMPLE : ANEMO_WANT_NONE,
                              .sample = o->sample};
    anemo_step_result result;
    entry.sample.counter = run->text.n; /* the position that is drawn */
    anemo_status status = anemo_step_submit(run->plan, &entry, 1, err);
    if (status == ANEMO_OK)
        status = anemo_step_wait(run->plan, &result, err);
    *id = status == ANEMO_OK ? result.id : -1;
    return status;
}

static anemo_status generate(run_state *run, const run_options *o, anemo_error *err) {
    const anemo_model_info *info = anemo_model_describe(run->model);
    const anemo_clock clock = anemo_clock_raw();
    uint64_t start = anemo_clock_now(&clock), first = 0;
    anemo_status status = ANEMO_OK;
    int32_t id = -1;
    for (size_t at = 0; at < run->n_prompt && status == ANEMO_OK;) {
        size_t n = run->n_prompt - at < CHUNK_TOKENS ? run->n_prompt - at : CHUNK_TOKENS;
        status = step(run, o, run->text.ids + at, (int32_t)n, at + n == run->n_prompt, &id, err);
        at += n;
        if (status == ANEMO_OK && anemo_cli_interrupted())
            status = ANEMO_E_CANCELLED;
    }
    first = anemo_clock_now(&clock);
    run->prompt_s = 1e-9 * (double)(first - start);
    for (int64_t i = 0; status == ANEMO_OK && !is_end(run, info, id); i++) {
        run->text.ids[run->text.n++] = id;
        status = show_new_text(&run->text, false, err);
        if (status == ANEMO_OK && i + 1 == o->tokens)
            break;
        if (status == ANEMO_OK && anemo_cli_interrupted())
            status = ANEMO_E_CANCELLED;
        if (status == ANEMO_OK)
            status = step(run, o, NULL, 1, true, &id, err);
    }
    run->generate_s = 1e-9 * (double)(anemo_clock_now(&clock) - first);
    if (status == ANEMO_OK || status == ANEMO_E_CANCELLED) {
        anemo_status shown = show_new_text(&run->text, true, err);
        status = shown == ANEMO_OK ? status : shown;
    }
    return status;
}

static void print_figures(const run_state *run) {
    size_t made = run->text.n - run->n_prompt;
    fprintf(stderr, "loaded in %.3f s; prompt: %zu tokens in %.3f s (%.1f token/s)", run->load_s,
            run->n_prompt, run->prompt_s, (double)run->n_prompt / run->prompt_s);
    if (made > 1)
        fprintf(stderr, "; then %zu tokens, %.2f ms each (%.1f token/s)", made - 1,
                1e3 * run->generate_s / (double)(made - 1), (double)(made - 1) / run->generate_s);
    fprintf(stderr, "\n'anemo bench model' measures; this is one run.\n");
}

int anemo_cmd_run(int argc, char **argv) {
    static const struct argp_option options[] = {
        {"prompt", ANEMO_CLI_KEY(KEY_PROMPT), "TEXT", 0, "the text to go on from", 0},
        {"chat", ANEMO_CLI_KEY(KEY_CHAT), NULL, 0,
         "--prompt is the user's message, in the form "
         "of the model's chats",
         0},
        {"messages", ANEMO_CLI_KEY(KEY_MESSAGES), "FILE", 0,
         "a whole chat: [{\"role\": \"user\", \"content\": \"...\"}, ...]", 0},
        {"system", ANEMO_CLI_KEY(KEY_SYSTEM), "TEXT", 0, "the system message of --chat --prompt",
         0},
        {"chat-template", ANEMO_CLI_KEY(KEY_TEMPLATE), "NAME", 0,
         "the form of a chat (as the model's files tell); a wrong name lists them", 0},
        {"chat-date", ANEMO_CLI_KEY(KEY_DATE), "YYYY-MM-DD", 0,
         "the date that gpt-oss is told (none)", 0},
        {"chat-effort", ANEMO_CLI_KEY(KEY_EFFORT), "WORD", 0,
         "of reasoning, for gpt-oss and Mistral v15 (as the model's files have it)", 0},
        {"suffix", ANEMO_CLI_KEY(KEY_SUFFIX), "TEXT", 0,
         "fill in what stands between --prompt and TEXT", 0},
        {"tokens", ANEMO_CLI_KEY(KEY_TOKENS), "N", 0, "at most so many new tokens (64)", 0},
        {"temperature", ANEMO_CLI_KEY(KEY_TEMPERATURE), "T", 0, "0 = always the likeliest (0)", 0},
        {"top-k", ANEMO_CLI_KEY(KEY_TOP_K), "N", 0, "draw from the N likeliest; 0 = all (0)", 0},
        {"top-p", ANEMO_CLI_KEY(KEY_TOP_P), "P", 0, "draw from the mass P of the likeliest (1)", 0},
        {"weights", ANEMO_CLI_KEY(KEY_WEIGHTS), "TYPE", 0,
         "requantise every matrix but the router to q8_0 or q4_0", 0},
        {"window", ANEMO_CLI_KEY(KEY_WINDOW), "N", 0,
         "keys that attention sees: model (default), none, or N", 0},
        {"kv", ANEMO_CLI_KEY(KEY_KV), "TYPE", 0,
         "keys and values in f32 (default), f16, bf16 or q8", 0},
        {"routing", ANEMO_CLI_KEY(KEY_ROUTING), "FILE", 0,
         "write the experts of each token, for bench kernel --routing trace:FILE", 0},
        {0}};
    static const anemo_cli_spec spec = {
        .arguments = "[MODEL]",
        .max_arguments = 1,
        .about = "Generates text with MODEL: a directory (safetensors, config.json), a .gguf file, "
                 "or by default the embedded model.",
        .example = "  anemo run --prompt 'sort 6075983='\n"
                   "  anemo run ~/models/Mistral-7B-v0.3 --weights q4_0 --prompt 'The sea' "
                   "--tokens 200 --temperature 0.7\n"
                   "  anemo run ~/models/Mistral-7B-Instruct-v0.3 --chat --prompt 'Who are you?'\n"
                   "  anemo run ~/models/Mixtral-8x7B-v0.1 --weights q4_0 --prompt 'The sea' "
                   "--routing sea.trace\n"
                   "  anemo run ~/models/Codestral-22B --prompt 'def f(' --suffix 'return x'",
        .shared = ANEMO_CLI_OUTPUT | ANEMO_CLI_SEED | ANEMO_CLI_THREADS | ANEMO_CLI_ISA |
                  ANEMO_CLI_DEVICE | ANEMO_CLI_PLUGIN | ANEMO_CLI_WITH | ANEMO_CLI_QUIET |
                  ANEMO_CLI_PACKED | ANEMO_CLI_CHOICES,
        .options = options,
        .option = run_option,
    };
    run_options o = {.tokens = 64, .sample = {.top_p = 1}, .model = {.window = -1}};
    run_state run = {.end = -1};
    anemo_error err = {0};
    anemo_cli cli;
    char path[4096];
    anemo_cli_parse(&spec, argc, argv, &o, &cli);
    const char *wrong = anemo_run_prompt_check(&o.prompt);
    if (wrong)
        anemo_cli_usage("%s", wrong);
    o.sample.seed = cli.seed;
    bool embedded;
    anemo_status status = anemo_cli_find_model(cli.n_arguments ? cli.arguments[0] : NULL, path,
                                               sizeof path, &embedded, &err);
    const anemo_clock clock = anemo_clock_raw();
    const uint64_t start = anemo_clock_now(&clock);
    if (status == ANEMO_OK)
        status = open_everything(&cli, &o, path, &run, &err);
    run.load_s = 1e-9 * (double)(anemo_clock_now(&clock) - start);
    if (status == ANEMO_OK) {
        run.text.out = cli.out;
        status = generate(&run, &o, &err);
        fputc('\n', cli.out);
        if (!cli.quiet && (status == ANEMO_OK || status == ANEMO_E_CANCELLED))
            print_figures(&run);
    }
    const bool whole = status == ANEMO_OK || status == ANEMO_E_CANCELLED;
    anemo_error routing_err = {0};
    const anemo_status written = anemo_run_routing_close(
        &run.routing, whole, run.model ? anemo_model_describe(run.model)->name : "", &routing_err);
    if (status == ANEMO_OK && written != ANEMO_OK) {
        status = written;
        err = routing_err;
    }
    close_everything(&run);
    int code = status == ANEMO_OK            ? ANEMO_EXIT_OK
               : status == ANEMO_E_CANCELLED ? ANEMO_EXIT_INTERRUPTED
                                             : anemo_cli_fail(status, &err);
    return anemo_cli_close(&cli, code);
}
