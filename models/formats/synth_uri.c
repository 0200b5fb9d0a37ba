/* The name of a synthetic model -> its shape and weight type.
 *
 *     synth:mistral-7b:q4_0                            a preset
 *     synth:mixtral-8x7b:q4_0:layers=4                 with fewer layers
 *     synth:mistral-7b:q8_0:d=2048:ffn=5632:heads=16:kv_heads=4:layers=16
 *     synth:some/config.json:f16                       any shape that a config.json describes
 *
 * A shape that is not one of the presets is either a config.json or a preset with some numbers
 * replaced; both pass the checks that every file's hyper-parameters pass. Options are part of the
 * name, not of a command line, so that records, repro lines and composed runs carry them. */
#include "models/engine.h"
#include "models/formats/internal.h"

#include <stdio.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- presets and types */

/* arch, vocab, d, ffn, layers, heads, kv_heads, head_dim, experts, experts_per_token, window,
 * context_max, rms_eps, rope_theta. Sources: the published config.json of each model. */
static const struct preset {
    const char *name;
    anemo_hparams h;
    int64_t full_period, full_from; /* layers full_from, + period, ... have no window; 0: all do */
} presets[] = {
    {"mistral-7b",
     {ANEMO_ARCH_MISTRAL, 32768, 4096, 14336, 32, 32, 8, 128, 0, 0, 0, 32768, 1e-5, 1e6}},
    {"codestral-22b",
     {ANEMO_ARCH_MISTRAL, 32768, 6144, 16384, 56, 48, 8, 128, 0, 0, 0, 32768, 1e-5, 1e6}},
    {"mixtral-8x7b",
     {ANEMO_ARCH_MIXTRAL, 32000, 4096, 14336, 32, 32, 8, 128, 8, 2, 0, 32768, 1e-5, 1e6}},
    {"mixtral-8x22b",
     {ANEMO_ARCH_MIXTRAL, 32768, 6144, 16384, 56, 48, 8, 128, 8, 2, 0, 65536, 1e-5, 1e6}},
    {"ministral-8b",
     {ANEMO_ARCH_MINISTRAL, 131072, 4096, 12288, 36, 32, 8, 128, 0, 0, 32768, 131072, 1e-5, 1e8},
     .full_period = 4},
    {"llama-3.1-8b",
     {ANEMO_ARCH_LLAMA, 128256, 4096, 14336, 32, 32, 8, 128, 0, 0, 0, 131072, 1e-5, 5e5,
      .rope =
          {.kind = ANEMO_ROPE_LLAMA3, .factor = 8, .low = 1, .high = 4, .original_context = 8192}}},
    {"qwen3-30b-a3b",
     {ANEMO_ARCH_QWEN3MOE, 151936, 2048, 768, 48, 32, 4, 128, 128, 8, 0, 40960, 1e-6, 1e6}},
    {"gpt-oss-20b",
     {ANEMO_ARCH_GPTOSS, 201088, 2880, 2880, 24, 64, 8, 64, 32, 4, 128, 131072, 1e-5, 1.5e5,
      .rope = {.kind = ANEMO_ROPE_YARN,
               .factor = 32,
               .low = 1,
               .high = 32,
               .original_context = 4096,
               .magnitude = 1.3465735902799727}},
     .full_period = 2,
     .full_from = 1},
    /* Not published: the shapes in which engines are compared (ci/bench model). */
    {"dense-1b",
     {ANEMO_ARCH_MISTRAL, 32000, 2048, 5632, 16, 16, 4, 128, 0, 0, 0, 32768, 1e-5, 1e4}},
    {"moe-mini", {ANEMO_ARCH_MIXTRAL, 32000, 2048, 3584, 8, 16, 4, 128, 8, 2, 0, 32768, 1e-5, 1e6}},
    {"tiny", {ANEMO_ARCH_MISTRAL, 512, 256, 512, 2, 4, 2, 64, 0, 0, 0, 2048, 1e-5, 1e4}},
    {"tiny-moe", {ANEMO_ARCH_MIXTRAL, 512, 256, 384, 2, 4, 2, 64, 4, 2, 64, 2048, 1e-5, 1e4}},
};

static const anemo_synth_type types[] = {
    {"q4_0", {ANEMO_CODE_LINEAR, 4, ANEMO_SCALE_F16, ANEMO_OFFSET_NONE, 32}, ANEMO_GGML_Q4_0},
    {"q4_g128", {ANEMO_CODE_LINEAR, 4, ANEMO_SCALE_F16, ANEMO_OFFSET_NONE, 128}, ANEMO_GGML_NONE},
    {"q8_0", {ANEMO_CODE_LINEAR, 8, ANEMO_SCALE_F16, ANEMO_OFFSET_NONE, 32}, ANEMO_GGML_Q8_0},
    {"bf16", {ANEMO_CODE_BF16, 16}, ANEMO_GGML_BF16},
    {"f16", {ANEMO_CODE_F16, 16}, ANEMO_GGML_F16},
    {"f32", {ANEMO_CODE_F32, 32}, ANEMO_GGML_F32},
};

#define N_PRESETS (sizeof presets / sizeof *presets)
#define N_TYPES   (sizeof types / sizeof *types)

const char *anemo_model_preset(int32_t index) {
    return index >= 0 && (size_t)index < N_PRESETS ? presets[index].name : NULL;
}

/* ---------------------------------------------------------------- one part at a time */

/* Does text[0 .. bytes) equal `word`? */
static bool is_word(const char *text, size_t bytes, const char *word) {
    return strlen(word) == bytes && memcmp(text, word, bytes) == 0;
}

static anemo_status refuse(const char *uri, const char *field, const char *value, size_t bytes,
                           const char *accepted, anemo_error *err) {
    return anemo_fail(err, ANEMO_E_INPUT, "%s: %s is \"%s\"; accepted: %s, in " ANEMO_SYNTH_FORM,
                      anemo_show(uri).text, field, anemo_show_bytes(value, bytes).text, accepted);
}

/* The shape of a config.json; its tokens are nobody's. */
static anemo_status read_config(const char *path, size_t path_bytes, anemo_hparams *out,
                                anemo_error *err) {
    anemo_mapped_file file;
    char *name = strndup(path, path_bytes);
    if (!name)
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: out of memory", path);
    anemo_status status = anemo_map_open(name, &file, err);
    free(name);
    if (status != ANEMO_OK)
        return status;
    status = anemo_hf_config(file.path, file.data, file.bytes, out, err);
    anemo_map_close(&file);
    return status;
}

static anemo_status read_shape(const char *uri, const char *text, size_t bytes, anemo_hparams *out,
                               const struct preset **preset, anemo_error *err) {
    char accepted[512] = "";
    *preset = NULL;
    if (bytes > 5 && memcmp(text + bytes - 5, ".json", 5) == 0)
        return read_config(text, bytes, out, err);
    for (size_t i = 0; i < N_PRESETS; ++i) {
        strcat(strcat(accepted, presets[i].name), ", ");
        if (is_word(text, bytes, presets[i].name))
            *preset = &presets[i];
    }
    if (!*preset)
        return refuse(uri, "the preset", text, bytes, strcat(accepted, "a config.json"), err);
    *out = (*preset)->h;
    return ANEMO_OK;
}

static anemo_status read_type(const char *uri, const char *text, size_t bytes,
                              const anemo_synth_type **type, anemo_error *err) {
    char accepted[128] = "";
    *type = NULL;
    for (size_t i = 0; i < N_TYPES; ++i) {
        strcat(strcat(accepted, i ? ", " : ""), types[i].name);
        if (is_word(text, bytes, types[i].name))
            *type = &types[i];
    }
    return *type ? ANEMO_OK : refuse(uri, "the type", text, bytes, accepted, err);
}

/* One "NAME=N", without the colon before it. */
static anemo_status read_option(const char *uri, const char *text, size_t bytes, anemo_hparams *h,
                                anemo_error *err) {
    const struct {
        const char *name;
        int64_t *field;
        long long high;
    } options[] = {
        {"layers", &h->layers, ANEMO_LAYERS_MAX},
        {"d", &h->d, 1 << 20},
        {"ffn", &h->ffn, 1 << 24},
        {"heads", &h->heads, 1 << 14},
        {"kv_heads", &h->kv_heads, 1 << 14},
        {"head_dim", &h->head_dim, 1 << 10},
        {"vocab", &h->vocab, 1 << 24},
        {"experts", &h->experts, 4096},
        {"top_k", &h->experts_per_token, 4096},
        {"window", &h->window, INT32_MAX},
        {"context", &h->context_max, INT32_MAX},
    };
    const char *equals = memchr(text, '=', bytes);
    const size_t name_bytes = equals ? (size_t)(equals - text) : bytes;
    for (size_t i = 0; i < sizeof options / sizeof *options; ++i) {
        if (!equals || !is_word(text, name_bytes, options[i].name))
            continue;
        char *end, accepted[32];
        const long long value = strtoll(equals + 1, &end, 10);
        snprintf(accepted, sizeof accepted, "1 to %lld", options[i].high);
        if (equals[1] < '0' || equals[1] > '9' || end != text + bytes || value < 1 ||
            value > options[i].high)
            return refuse(uri, options[i].name, equals + 1, bytes - name_bytes - 1, accepted, err);
        *options[i].field = value;
        return ANEMO_OK;
    }
    return refuse(uri, "the option", text, bytes,
                  "layers=N, d=N, ffn=N, heads=N, kv_heads=N, head_dim=N, vocab=N, experts=N, "
                  "top_k=N, window=N, context=N",
                  err);
}

/* ---------------------------------------------------------------- the whole */

static anemo_status check(const char *uri, const anemo_hparams *h, const anemo_synth_type *type,
                          anemo_error *err) {
    static const anemo_hparam_names words = {.vocab = "vocab",
                                             .d = "d",
                                             .ffn = "ffn",
                                             .layers = "layers",
                                             .heads = "heads",
                                             .kv_heads = "kv_heads",
                                             .head_dim = "head_dim",
                                             .experts = "experts",
                                             .experts_per_token = "top_k",
                                             .window = "window",
                                             .context_max = "context",
                                             .rms_eps = "rms_eps",
                                             .rope_theta = "rope_theta",
                                             .bos = "bos",
                                             .eos = "eos"};
    const int64_t group = type->type.group;
    if (group && (h->d % group || h->ffn % group || h->heads * h->head_dim % group))
        return refuse(uri, "the type", type->name, strlen(type->name),
                      "one whose groups divide the rows (d, ffn, heads x head_dim); q4_0 and q8_0 "
                      "have groups of 32, bf16, f16 and f32 have none",
                      err);
    return anemo_hparams_check(anemo_show(uri).text, &words, h, err);
}

anemo_status anemo_synth_parse(const char *uri, anemo_hparams *out, const anemo_synth_type **type,
                               anemo_error *err) {
    const struct preset *preset;
    const char *at = uri + sizeof ANEMO_SYNTH_PREFIX - 1;
    size_t bytes = strcspn(at, ":");
    ANEMO_TRY(read_shape(uri, at, bytes, out, &preset, err));
    at += bytes + (at[bytes] == ':');
    bytes = strcspn(at, ":");
    ANEMO_TRY(read_type(uri, at, bytes, type, err));
    for (at += bytes; *at == ':'; at += bytes) {
        bytes = strcspn(++at, ":");
        ANEMO_TRY(read_option(uri, at, bytes, out, err));
    }
    out->rope_pairing = ANEMO_ROPE_HALF;
    out->bos = -1;
    out->n_eos = 0;
    for (int64_t layer = preset ? preset->full_from : 0;
         preset && preset->full_period && layer < out->layers; layer += preset->full_period)
        anemo_set_full_layer(out, layer);
    return check(uri, out, *type, err);
}
