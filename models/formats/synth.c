/* Synthetic models: the shape of a real one, weights from a counter hash.
 *
 *     synth:mixtral-8x7b:q4_0:layers=4
 *
 * Latency and throughput of a model depend on shapes and types, not on what it learned, so a row
 * is generated when it is read and nothing is stored. Bits come from splitmix64 over (seed, role,
 * layer, expert, row, counter): any row in any order by any thread gives the same bits, at about
 * one hash per 8 to 16 codes, so that packing a 7B layer takes a fraction of a second.
 *
 * Values have mean 0 and a standard deviation of 1/sqrt(k) (embedding: 1), so that a row product
 * with a normalised input has deviation about 1 and the residual stream grows like the square root
 * of the depth: finite through any number of layers. The zero mean is not a nicety: codes 0..15
 * with offset 8 average -1/2, which makes every output share one component that grows with each
 * layer until the router sends every token to the same expert. Code 0 is therefore replaced by the
 * middle code. Norms are 1. In quantised types the router stays F32, as in published files. */
#include "models/engine.h"
#include "models/formats/internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define SEED UINT64_C(0x616e656d6f) /* "anemo" */

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
    {"tiny", {ANEMO_ARCH_MISTRAL, 512, 256, 512, 2, 4, 2, 64, 0, 0, 0, 2048, 1e-5, 1e4}},
    {"tiny-moe", {ANEMO_ARCH_MIXTRAL, 512, 256, 384, 2, 4, 2, 64, 4, 2, 64, 2048, 1e-5, 1e4}},
};

struct anemo_synth_type {
    const char *name;
    anemo_weight_type type;
};

static const anemo_synth_type types[] = {
    {"q4_0", {ANEMO_CODE_LINEAR, 4, ANEMO_SCALE_F16, ANEMO_OFFSET_NONE, 32}},
    {"q4_g128", {ANEMO_CODE_LINEAR, 4, ANEMO_SCALE_F16, ANEMO_OFFSET_NONE, 128}},
    {"q8_0", {ANEMO_CODE_LINEAR, 8, ANEMO_SCALE_F16, ANEMO_OFFSET_NONE, 32}},
    {"bf16", {ANEMO_CODE_BF16, 16}},
    {"f16", {ANEMO_CODE_F16, 16}},
    {"f32", {ANEMO_CODE_F32, 32}},
};

#define N_PRESETS (sizeof presets / sizeof *presets)
#define N_TYPES   (sizeof types / sizeof *types)

const char *anemo_model_preset(int32_t index) {
    return index >= 0 && (size_t)index < N_PRESETS ? presets[index].name : NULL;
}

/* ---------------------------------------------------------------- the URI */

/* Does text[0 .. bytes) equal `word`? */
static bool is_word(const char *text, size_t bytes, const char *word) {
    return strlen(word) == bytes && memcmp(text, word, bytes) == 0;
}

static anemo_status refuse(const char *uri, const char *field, const char *value, size_t bytes,
                           const char *accepted, anemo_error *err) {
    return anemo_fail(err, ANEMO_E_INPUT,
                      "%s: %s is \"%s\"; accepted: %s, in synth:PRESET:TYPE[:layers=N]",
                      anemo_show(uri).text, field, anemo_show_bytes(value, bytes).text, accepted);
}

/* ":layers=N" or nothing. */
static anemo_status parse_layers(const char *uri, const char *text, int64_t *layers,
                                 anemo_error *err) {
    static const char option[] = ":layers=";
    const size_t bytes = strlen(text);
    char *end;
    if (bytes == 0)
        return ANEMO_OK;
    if (strncmp(text, option, sizeof option - 1) != 0)
        return refuse(uri, "the option", text + 1, bytes - 1, "layers=N", err);
    const char *digits = text + sizeof option - 1;
    const long long value = strtoll(digits, &end, 10);
    if (*digits < '0' || *digits > '9' || *end != '\0' || value < 1 || value > 4096)
        return refuse(uri, "layers", digits, strlen(digits), "1 to 4096", err);
    *layers = value;
    return ANEMO_OK;
}

anemo_status anemo_synth_parse(const char *uri, anemo_hparams *out, const anemo_synth_type **type,
                               anemo_error *err) {
    const char *preset = uri + sizeof ANEMO_SYNTH_PREFIX - 1;
    const size_t preset_bytes = strcspn(preset, ":");
    const char *name = preset + preset_bytes + (preset[preset_bytes] == ':');
    const size_t name_bytes = strcspn(name, ":");
    char accepted[256] = "";
    const struct preset *found = NULL;
    *type = NULL;
    for (size_t i = 0; i < N_PRESETS; ++i) {
        strcat(strcat(accepted, i ? ", " : ""), presets[i].name);
        if (is_word(preset, preset_bytes, presets[i].name))
            found = &presets[i];
    }
    if (!found)
        return refuse(uri, "the preset", preset, preset_bytes, accepted, err);
    accepted[0] = '\0';
    for (size_t i = 0; i < N_TYPES; ++i) {
        strcat(strcat(accepted, i ? ", " : ""), types[i].name);
        if (is_word(name, name_bytes, types[i].name))
            *type = &types[i];
    }
    if (!*type)
        return refuse(uri, "the type", name, name_bytes, accepted, err);
    *out = found->h;
    out->rope_pairing = ANEMO_ROPE_HALF;
    out->bos = -1;
    const int64_t group = (*type)->type.group;
    if (group && (out->d % group || out->ffn % group || out->heads * out->head_dim % group))
        return refuse(uri, "the type", name, name_bytes,
                      "one whose groups divide the preset's rows (q4_0, q8_0, bf16, f16, f32)",
                      err);
    ANEMO_TRY(parse_layers(uri, name + name_bytes, &out->layers, err));
    for (int64_t layer = found->full_from; found->full_period && layer < out->layers;
         layer += found->full_period)
        anemo_set_full_layer(out, layer);
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- bits */

/* splitmix64 (Steele, Lea, Flood 2014): a bijection whose output over a counter passes BigCrush. */
static inline uint64_t mix(uint64_t x) {
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* The tensor's key travels in the weight itself, so that a weight needs no storage. Its lowest bit
 * says that the values have deviation 1 (the embedding). */
static uint64_t tensor_key(anemo_tensor_role role, int64_t layer, int64_t expert) {
    const uint64_t key = mix(mix(mix(SEED + (uint64_t)role) + (uint64_t)layer) + (uint64_t)expert);
    return (key & ~UINT64_C(1)) | (role == ANEMO_T_EMBED);
}

static uint64_t row_key(const anemo_weight *weight, int64_t row) {
    return mix((uintptr_t)weight->reader_data + (uint64_t)row);
}

static double deviation(const anemo_weight *weight) {
    return (uintptr_t)weight->reader_data & 1 ? 1.0 : 1.0 / sqrt((double)weight->k);
}

/* Bytes of x that are 0 become `middle`; every byte of x is below 2^bits. */
static inline uint64_t no_zero(uint64_t x, int bits, uint64_t middle) {
    const uint64_t ones = UINT64_C(0x0101010101010101);
    const uint64_t low = x & (ones * ((1u << (bits - 1)) - 1)), high = x >> (bits - 1) & ones;
    const uint64_t some = (low + ones * ((1u << (bits - 1)) - 1)) >> (bits - 1) & ones;
    return x + ((ones ^ (some | high)) * middle);
}

/* ---------------------------------------------------------------- rows */

/* Odd integers -255 .. 255 times a power of two: 8 significant bits, exact in BF16 and F16. */
static void read_float(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                       float *scales, float *offsets) {
    (void)codes, (void)scales, (void)offsets;
    const double unit_deviation = 147.8; /* sqrt((256^2 - 1) / 3) */
    const uint64_t key = row_key(weight, row);
    const float unit = (float)exp2(round(log2(deviation(weight) / unit_deviation)));
    uint8_t bytes[64];
    for (int64_t begin = 0; begin < weight->k; begin += 64) {
        const int64_t n = weight->k - begin < 64 ? weight->k - begin : 64;
        for (int i = 0; i < 8; ++i) {
            const uint64_t bits = mix(key + (uint64_t)(begin / 8 + i));
            memcpy(bytes + 8 * i, &bits, 8);
        }
        for (int64_t i = 0; i < n; ++i)
            values[begin + i] = (float)(2 * bytes[i] - 255) * unit;
    }
}

/* One scale per group: the base in half precision, its bits moved by up to 1/8 of an octave's. */
static void make_scales(const anemo_weight *weight, uint64_t key, double code_deviation,
                        float *scales) {
    const int64_t groups = weight->k / weight->type.group;
    const uint16_t base = anemo_f32_f16((float)(deviation(weight) / code_deviation));
    for (int64_t g = 0; g < groups; ++g) {
        const uint64_t bits = mix(~key + (uint64_t)g);
        scales[g] = anemo_f16_f32((uint16_t)(base - 128 + (int)(bits & 255)));
    }
}

static void read_q4(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                    float *scales, float *offsets) {
    (void)values, (void)offsets;
    const double code_deviation = 4.18; /* -7..7, 0 twice: sqrt(280 / 16) */
    const uint64_t key = row_key(weight, row), nibbles = UINT64_C(0x0f0f0f0f0f0f0f0f);
    make_scales(weight, key, code_deviation, scales);
    for (int64_t i = 0; i < weight->k / 16; ++i) {
        const uint64_t bits = mix(key + (uint64_t)i);
        const uint64_t low = no_zero(bits & nibbles, 4, 8);
        const uint64_t high = no_zero(bits >> 4 & nibbles, 4, 8);
        memcpy(codes + 16 * i, &low, 8);
        memcpy(codes + 16 * i + 8, &high, 8);
    }
}

static void read_q8(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                    float *scales, float *offsets) {
    (void)values, (void)offsets;
    const double code_deviation = 73.5; /* -127..127, 0 twice */
    const uint64_t key = row_key(weight, row);
    make_scales(weight, key, code_deviation, scales);
    for (int64_t i = 0; i < weight->k / 8; ++i) {
        const uint64_t bits = no_zero(mix(key + (uint64_t)i), 8, 128);
        memcpy(codes + 8 * i, &bits, 8);
    }
}

void anemo_synth_weight(const anemo_synth_type *type, anemo_tensor_role role, int64_t layer,
                        int64_t expert, int64_t n, int64_t k, anemo_weight *out) {
    const anemo_weight_type f32 = {ANEMO_CODE_F32, 32};
    memset(out, 0, sizeof *out);
    out->size = sizeof *out;
    out->type = role == ANEMO_T_ROUTER && type->type.group ? f32 : type->type;
    out->n = n;
    out->k = k;
    out->canonical_bytes =
        (size_t)((double)n * (double)k * anemo_weight_type_bits(&out->type, k) / 8);
    out->reader_data = (const void *)(uintptr_t)tensor_key(role, layer, expert);
    out->read_row = out->type.bits == 4 ? read_q4 : out->type.bits == 8 ? read_q8 : read_float;
}
