#include "harness/measure/bench_engine.h"

#include "harness/measure/bench_kernel.h"
#include "harness/measure/bench_weight.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DEFAULT_CHUNK = 512, PAGE_TOKENS = 64 };

/* ---------------------------------------------------------------- steps */

static anemo_status one_step(bench_engine *e, const anemo_step_entry *entries, int32_t n,
                             anemo_step_result *results, anemo_error *err) {
    const anemo_status status = anemo_step_submit(e->plan, entries, n, err);
    return status ? status : anemo_step_wait(e->plan, results, err);
}

/* A prompt in chunks; the last samples the first token greedily. */
static anemo_status prefill(bench_engine *e, anemo_session *session, const int32_t *prompt,
                            int64_t total, anemo_error *err) {
    const int64_t chunk = e->spec.chunk_tokens;
    anemo_status status = ANEMO_OK;
    for (int64_t at = 0; !status && at < total; at += chunk) {
        const int64_t rows = total - at < chunk ? total - at : chunk;
        anemo_step_result result;
        const anemo_step_entry entry = {.session = session,
                                        .tokens = prompt + at,
                                        .n_tokens = (int32_t)rows,
                                        .want = at + rows == total ? ANEMO_WANT_SAMPLE
                                                                   : ANEMO_WANT_NONE};
        status = one_step(e, &entry, 1, &result, err);
    }
    return status;
}

/* ---------------------------------------------------------------- opening */

static int64_t depth_of(const bench_engine_spec *spec) {
    return spec->depth_tokens ? spec->depth_tokens : spec->prompt_tokens;
}

static int64_t longer(int64_t a, int64_t b) {
    return a > b ? a : b;
}

/* Any ids but control tokens: what a prompt says does not change the work of a dense model, and
 * makes routing about uniform. BOS first where the tokenizer (of a model without one: the
 * configuration) has one. */
static bool make_prompts(bench_engine *e) {
    const int64_t total = longer(e->spec.prompt_tokens, depth_of(&e->spec));
    const int64_t vocab = e->info->vocab;
    e->prompt_stride = total;
    e->prompts = malloc((size_t)(e->spec.batch_max * total) * sizeof *e->prompts);
    if (!e->prompts) {
        return false;
    }
    const anemo_tokenizer *tokenizer = anemo_model_tokenizer(e->model, NULL);
    const int32_t bos = tokenizer ? anemo_tokenizer_bos(tokenizer) : e->info->bos;
    const int64_t lowest = vocab > 16 ? 8 : 0; /* control tokens stand first in every vocabulary */
    for (int64_t i = 0; i < e->spec.batch_max * total; i++) {
        const uint64_t bits = bench_hash(bench_hash(e->spec.seed) + (uint64_t)i);
        e->prompts[i] = (int32_t)(lowest + (int64_t)(bits % (uint64_t)(vocab - lowest)));
        if (i % total == 0 && bos >= 0) {
            e->prompts[i] = bos;
        }
    }
    return true;
}

anemo_ceiling bench_engine_arithmetic(const bench_engine *e, int64_t rows) {
    static const anemo_ceiling slow_first[] = {
        ANEMO_CEILING_FP32,         ANEMO_CEILING_BF16, ANEMO_CEILING_INT8_AVX2_U8,
        ANEMO_CEILING_INT8_AVX2_U4, ANEMO_CEILING_INT8, ANEMO_CEILING_BF16_AMX,
        ANEMO_CEILING_INT8_AMX};
    size_t best = 0;
    anemo_plan_call call;
    for (int32_t i = 0; e->plan && anemo_plan_call_at(e->plan, i, &call); i++) {
        const anemo_variant *v =
            anemo_plan_call_variant(e->plan, i, rows < call.m_max ? rows : call.m_max);
        if (!v || (call.op != ANEMO_OP_QGEMM && call.op != ANEMO_OP_MOE_EXPERTS)) {
            continue;
        }
        for (size_t c = best; c < sizeof slow_first / sizeof *slow_first; c++) {
            best = slow_first[c] == bench_arithmetic_of(v) ? c : best;
        }
    }
    return slow_first[best];
}

static int64_t whole_pages(int64_t tokens) {
    return (tokens + PAGE_TOKENS - 1) / PAGE_TOKENS * PAGE_TOKENS;
}

/* Each base holds its prompt; its fork shares all of that but the last page, which it copies, and
 * grows by what it generates. Or one new prompt at a time, less than all forks together. */
int64_t bench_engine_kv_tokens(const bench_engine_spec *spec) {
    const int64_t prompt = whole_pages(longer(spec->prompt_tokens, depth_of(spec)));
    const int64_t grown = PAGE_TOKENS + whole_pages(spec->generated_tokens);
    return spec->batch_max * (prompt + grown) + prompt + grown;
}

double bench_resident_bytes(const anemo_device *device) {
    double bytes = 0;
    for (int use = 0; use < ANEMO_MEM_USES; use++) {
        bytes += (double)anemo_device_held_bytes(device, (anemo_memory_use)use);
    }
    return bytes;
}

static anemo_status make_plan(bench_engine *e, anemo_error *err) {
    const bench_engine_spec *s = &e->spec;
    const int64_t context = longer(s->prompt_tokens, depth_of(s)) + s->generated_tokens;
    const int64_t rows = longer(s->chunk_tokens, s->batch_max);
    anemo_kv_type kv_type;
    if (!anemo_kv_type_from_name(s->kv_type, &kv_type)) {
        return anemo_fail(err, ANEMO_E_INPUT, "KV type '%s': expected f32, f16, bf16 or q8",
                          s->kv_type);
    }
    if (context > e->info->context_max) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: %lld prompt and %lld generated tokens are more than its context of "
                          "%lld",
                          e->info->name, (long long)(context - s->generated_tokens),
                          (long long)s->generated_tokens, (long long)e->info->context_max);
    }
    const char *const *choices;
    int32_t n_choices;
    const anemo_status status =
        anemo_choices_for(s->choices, e->info, s->kv_type, &choices, &n_choices, err);
    if (status) {
        return status;
    }
    const anemo_plan_options options = {.limits = {.tokens_per_step = rows,
                                                   .sessions = 2 * s->batch_max,
                                                   .context = context,
                                                   .kv_tokens = bench_engine_kv_tokens(s),
                                                   .kv_type = kv_type,
                                                   .logits_rows = s->batch_max},
                                        .with = s->with,
                                        .n_with = s->n_with,
                                        .choices = choices,
                                        .n_choices = n_choices};
    return anemo_plan_create(e->model, e->device, &options, &e->plan, err);
}

anemo_status bench_engine_open(anemo_device *device, const bench_engine_spec *spec,
                               bench_engine **out, anemo_error *err) {
    *out = NULL;
    bench_engine *e = calloc(1, sizeof *e);
    if (!e) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a model bench");
    }
    e->spec = *spec;
    e->device = device;
    e->clock = anemo_clock_raw();
    e->spec.kv_type = spec->kv_type ? spec->kv_type : "f16";
    const int64_t longest = longer(spec->prompt_tokens, depth_of(spec));
    if (!e->spec.chunk_tokens || e->spec.chunk_tokens > longest) {
        e->spec.chunk_tokens = longest < DEFAULT_CHUNK ? longest : DEFAULT_CHUNK;
    }
    const anemo_model_options options = {.requantise = spec->requantise,
                                         .window = spec->window_given ? spec->window : -1};
    anemo_status status = anemo_model_open(spec->path, &options, &e->model, err);
    if (!status) {
        e->info = anemo_model_describe(e->model);
        status = make_plan(e, err);
    }
    e->base = calloc((size_t)spec->batch_max, sizeof(anemo_session *));
    e->work = calloc((size_t)spec->batch_max, sizeof(anemo_session *));
    if (!status && (!e->base || !e->work || !make_prompts(e))) {
        status = anemo_fail(err, ANEMO_E_MEMORY, "no memory for %d prompts", spec->batch_max);
    }
    for (int32_t b = 0; !status && b < spec->batch_max; b++) {
        status = anemo_session_create(e->plan, &e->base[b], err);
        status =
            status ? status
                   : prefill(e, e->base[b], e->prompts + b * e->prompt_stride, depth_of(spec), err);
    }
    if (status) {
        bench_engine_close(e);
        return status;
    }
    e->cold = e->info->active_weight_bytes > 2.0 * (double)anemo_device_cache_bytes(device);
    *out = e;
    return ANEMO_OK;
}

/* The sessions of the sample before. */
static void drop_work(bench_engine *e) {
    for (int32_t b = 0; b < e->spec.batch_max; b++) {
        anemo_session_free(e->work[b]);
        e->work[b] = NULL;
    }
}

void bench_engine_close(bench_engine *engine) {
    if (!engine) {
        return;
    }
    if (engine->work) {
        drop_work(engine);
    }
    for (int32_t b = 0; engine->base && b < engine->spec.batch_max; b++) {
        anemo_session_free(engine->base[b]);
    }
    anemo_plan_free(engine->plan);
    anemo_model_close(engine->model);
    free(engine->base);
    free(engine->work);
    free(engine->prompts);
    free(engine);
}

/* ---------------------------------------------------------------- prefill */

static anemo_status prepare_prefill(void *ctx, anemo_error *err) {
    bench_engine *e = ctx;
    drop_work(e);
    return anemo_session_create(e->plan, &e->work[0], err);
}

static anemo_status run_prefill(void *ctx, int64_t call, anemo_error *err) {
    (void)call;
    bench_engine *e = ctx;
    return prefill(e, e->work[0], e->prompts, e->spec.prompt_tokens, err);
}

anemo_arm bench_prefill_arm(bench_engine *engine) {
    return (anemo_arm){.run = run_prefill, .ctx = engine, .prepare = prepare_prefill};
}

/* ---------------------------------------------------------------- decode */

static anemo_status prepare_decode(void *ctx, anemo_error *err) {
    bench_decode *d = ctx;
    bench_engine *e = d->engine;
    anemo_status status = ANEMO_OK;
    drop_work(e);
    for (int32_t b = 0; !status && b < d->batch; b++) {
        status = anemo_session_fork(e->base[b], &e->work[b], err);
        d->entry[b] =
            (anemo_step_entry){.session = e->work[b], .n_tokens = 1, .want = ANEMO_WANT_SAMPLE};
    }
    const int64_t room = d->n_gaps + e->spec.generated_tokens;
    if (!status && room > d->capacity) {
        double *gap_ns = realloc(d->gap_ns, (size_t)(2 * room) * sizeof *gap_ns);
        if (!gap_ns) {
            return anemo_fail(err, ANEMO_E_MEMORY, "no memory for token times");
        }
        d->gap_ns = gap_ns;
        d->capacity = 2 * room;
    }
    return status;
}

static anemo_status run_decode(void *ctx, int64_t call, anemo_error *err) {
    (void)call;
    bench_decode *d = ctx;
    bench_engine *e = d->engine;
    anemo_status status = ANEMO_OK;
    uint64_t before_ns = anemo_clock_now(&e->clock);
    for (int64_t i = 1; !status && i < e->spec.generated_tokens; i++) {
        status = one_step(e, d->entry, d->batch, d->result, err);
        const uint64_t now_ns = anemo_clock_now(&e->clock);
        d->gap_ns[d->n_gaps++] = (double)(now_ns - before_ns);
        before_ns = now_ns;
    }
    return status;
}

anemo_arm bench_decode_arm(bench_decode *decode, bench_engine *engine, int32_t batch) {
    memset(decode, 0, sizeof *decode);
    decode->engine = engine;
    decode->batch = batch;
    return (anemo_arm){.run = run_decode, .ctx = decode, .prepare = prepare_decode};
}

void bench_decode_end(bench_decode *decode) {
    free(decode->gap_ns);
    memset(decode, 0, sizeof *decode);
}

/* ---------------------------------------------------------------- experts */

anemo_status bench_route_load(bench_engine *engine, const anemo_arm *arm, anemo_route_load *load,
                              anemo_error *err) {
    *load = (anemo_route_load){0};
    if (engine->info->experts == 0) {
        return ANEMO_OK;
    }
    if (!anemo_route_load_begin(load, (int32_t)engine->info->experts)) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for the load of experts");
    }
    anemo_status status = arm->prepare(arm->ctx, err);
    anemo_plan_observe(engine->plan, anemo_route_load_see, load);
    status = status ? status : arm->run(arm->ctx, 0, err);
    anemo_plan_observe(engine->plan, NULL, NULL);
    anemo_route_load_end(load);
    return status;
}

/* ---------------------------------------------------------------- roofs */

/* Canonical bytes of the weights that `tokens` tokens touch. A token's share is known; the other
 * experts' bytes follow from the mean bytes of a parameter. */
static double touched_weight_bytes(const anemo_model_info *info, double tokens) {
    if (info->experts == 0) {
        return info->active_weight_bytes;
    }
    const double share = (double)info->experts_per_token / (double)info->experts;
    const double expert_parameters =
        3 * (double)info->d * (double)info->ffn * (double)info->layers * (double)info->experts;
    const double expert_bytes =
        expert_parameters * info->active_weight_bytes / info->active_parameters;
    const double touched = 1 - pow(1 - share, tokens);
    return info->active_weight_bytes + (touched - share) * expert_bytes;
}

/* Keys that a query at `positions` sees, summed over the layers. */
static double keys_seen(const anemo_model_info *info, double positions) {
    const double seen = info->window > 0 ? fmin(positions, (double)info->window) : positions;
    return seen * (double)(info->layers - info->full_layers) +
           positions * (double)info->full_layers;
}

/* K and V of `positions` positions of one session. */
static double kv_bytes(const bench_engine *e, double positions) {
    anemo_kv_type type = ANEMO_KV_F16;
    anemo_kv_type_from_name(e->spec.kv_type, &type);
    return keys_seen(e->info, positions) * 2 * (double)e->info->kv_heads *
           (double)anemo_kv_vector_bytes(type, (int32_t)e->info->head_dim);
}

bench_roof bench_decode_roof(const bench_engine *engine, int32_t batch) {
    const anemo_model_info *info = engine->info;
    const double context =
        (double)depth_of(&engine->spec) + (double)engine->spec.generated_tokens / 2;
    const double attention = 4 * keys_seen(info, context) * (double)(info->heads * info->head_dim);
    return (bench_roof){.bytes =
                            touched_weight_bytes(info, batch) + batch * kv_bytes(engine, context),
                        .certain_bytes = info->active_weight_bytes, /* all may choose the same */
                        .ops = batch * (2 * info->active_parameters + attention),
                        .arithmetic = bench_engine_arithmetic(engine, batch)};
}

/* Operations on one row of a layer behind its keys and values, attention left out: the output of
 * attention and the feed-forward (models/engine/tail.c). */
static double tail_ops(const anemo_model_info *info) {
    const double d = (double)info->d, experts = (double)info->experts;
    const double chosen = experts > 0 ? (double)info->experts_per_token : 1;
    return 2 * d *
           ((double)(info->heads * info->head_dim) + 3 * (double)info->ffn * chosen + experts);
}

/* What has to be done: of the last layer's rows, only the last is needed to its end. */
bench_roof bench_prefill_roof(const bench_engine *engine) {
    const anemo_model_info *info = engine->info;
    const double rows = (double)engine->spec.prompt_tokens;
    const double chunks = ceil(rows / (double)engine->spec.chunk_tokens);
    const int64_t chunk = engine->spec.prompt_tokens < engine->spec.chunk_tokens
                              ? engine->spec.prompt_tokens
                              : engine->spec.chunk_tokens;
    const double head = 2 * (double)info->vocab * (double)info->d; /* for the last row only */
    const double ops = rows * (2 * info->active_parameters - head) + head;
    return (bench_roof){.bytes = chunks * touched_weight_bytes(info, rows / chunks),
                        .certain_bytes = info->active_weight_bytes,
                        .ops = ops - (rows - 1) * tail_ops(info),
                        .arithmetic = bench_engine_arithmetic(engine, chunk)};
}

bench_roof bench_binding_roof(const bench_engine *engine, bench_roof roof) {
    roof.bytes = engine->cold ? roof.bytes : 0;
    roof.certain_bytes = engine->cold ? roof.certain_bytes : 0;
    return roof;
}
