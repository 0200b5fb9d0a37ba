/* What hyper-parameters may be, whatever container they come from. The limits are far above every
 * published model and far below what could overflow a size computation: the largest matrix is
 * 2^24 x 2^24 values, the largest sum of them stays below 2^63 bytes. */
#include "models/formats/internal.h"

#include <inttypes.h>
#include <math.h>

static const char *const arch_names[ANEMO_ARCH_COUNT] = {
    [ANEMO_ARCH_MISTRAL] = "mistral",       [ANEMO_ARCH_MIXTRAL] = "mixtral",
    [ANEMO_ARCH_LLAMA] = "llama",           [ANEMO_ARCH_MINISTRAL] = "ministral",
    [ANEMO_ARCH_MINISTRAL3] = "ministral3", [ANEMO_ARCH_QWEN3MOE] = "qwen3-moe",
    [ANEMO_ARCH_GPTOSS] = "gpt-oss"};

const char *anemo_arch_name(anemo_arch arch) {
    return arch_names[arch];
}

static bool is_full_layer(const anemo_hparams *h, int64_t layer) {
    return h->window == 0 || (h->full_layers[layer / 8] >> layer % 8 & 1);
}

int64_t anemo_layer_window(const anemo_hparams *h, int64_t layer) {
    return is_full_layer(h, layer) ? 0 : h->window;
}

int64_t anemo_full_layers(const anemo_hparams *h) {
    int64_t n = 0;
    for (int64_t layer = 0; layer < h->layers; ++layer)
        n += is_full_layer(h, layer);
    return n;
}

void anemo_set_full_layer(anemo_hparams *h, int64_t layer) {
    h->full_layers[layer / 8] |= (uint8_t)(1u << layer % 8);
}

typedef struct range {
    const char *name;
    int64_t value, low, high;
} range;

static anemo_status check_ranges(const char *path, const range *ranges, size_t n,
                                 anemo_error *err) {
    for (size_t i = 0; i < n; ++i)
        if (ranges[i].value < ranges[i].low || ranges[i].value > ranges[i].high)
            return anemo_fail(err, ANEMO_E_INPUT,
                              "%s: %s is %" PRId64 "; accepted: %" PRId64 " to %" PRId64, path,
                              ranges[i].name, ranges[i].value, ranges[i].low, ranges[i].high);
    return ANEMO_OK;
}

static anemo_status check_relations(const char *path, const anemo_hparam_names *names,
                                    const anemo_hparams *h, anemo_error *err) {
    if (h->heads % h->kv_heads != 0)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: %s is %" PRId64 "; accepted: a divisor of %s = %" PRId64, path,
                          names->kv_heads, h->kv_heads, names->heads, h->heads);
    if (h->head_dim % 2 != 0)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: %s is %" PRId64 "; accepted: even numbers (rotary pairs)", path,
                          names->head_dim, h->head_dim);
    if (!(h->rms_eps > 0 && h->rms_eps <= 0.1))
        return anemo_fail(err, ANEMO_E_INPUT, "%s: %s is %g; accepted: above 0, at most 0.1", path,
                          names->rms_eps, h->rms_eps);
    if (!(h->rope_theta >= 1 && h->rope_theta <= 1e12))
        return anemo_fail(err, ANEMO_E_INPUT, "%s: %s is %g; accepted: 1 to 1e12", path,
                          names->rope_theta, h->rope_theta);
    return ANEMO_OK;
}

/* Numbers that frequencies are computed from: wide limits, and nothing that divides by zero. */
static anemo_status check_rope(const char *path, const anemo_hparams *h, anemo_error *err) {
    const anemo_rope_scaling *r = &h->rope;
    const double magnitude = r->magnitude == 0 ? 1 : r->magnitude;
    const bool ranged = r->kind == ANEMO_ROPE_LLAMA3 || r->kind == ANEMO_ROPE_YARN;
    const struct {
        const char *name;
        double value, low, high;
    } reals[] = {{"factor", ranged ? r->factor : 1, 1, 1e6},
                 {"original context length", ranged ? r->original_context : 1, 1, INT32_MAX},
                 {"lower bound (low_freq_factor, beta_slow)", ranged ? r->low : 1, 1e-6, 1e6},
                 {"upper bound (high_freq_factor, beta_fast)", ranged ? r->high : 1, 1e-6, 1e6},
                 {"attention factor", magnitude, 1e-3, 1e3},
                 {"query temperature (llama_4_scaling_beta)", h->temperature, 0, 1e3},
                 {"query temperature's period",
                  h->temperature != 0 ? (double)h->temperature_period : 1, 1, INT32_MAX}};
    for (size_t i = 0; i < sizeof reals / sizeof *reals; ++i)
        if (!(reals[i].value >= reals[i].low && reals[i].value <= reals[i].high))
            return anemo_fail(err, ANEMO_E_INPUT, "%s: scaled RoPE: %s is %g; accepted: %g to %g",
                              path, reals[i].name, reals[i].value, reals[i].low, reals[i].high);
    if (ranged && !(r->low < r->high))
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: scaled RoPE: low_freq_factor or beta_slow is %g; accepted: below "
                          "high_freq_factor or beta_fast = %g",
                          path, r->low, r->high);
    return ANEMO_OK;
}

static anemo_status check_tokens(const char *path, const anemo_hparam_names *names,
                                 const anemo_hparams *h, anemo_error *err) {
    if (h->bos < -1 || h->bos >= h->vocab)
        return anemo_fail(err, ANEMO_E_INPUT,
                          "%s: %s is %" PRId32 "; accepted: 0 to %" PRId64 " (%s - 1)", path,
                          names->bos, h->bos, h->vocab - 1, names->vocab);
    for (int32_t i = 0; i < h->n_eos; ++i)
        if (h->eos[i] < 0 || h->eos[i] >= h->vocab)
            return anemo_fail(err, ANEMO_E_INPUT,
                              "%s: %s is %" PRId32 "; accepted: 0 to %" PRId64 " (%s - 1)", path,
                              names->eos, h->eos[i], h->vocab - 1, names->vocab);
    return ANEMO_OK;
}

anemo_status anemo_hparams_check(const char *path, const anemo_hparam_names *names,
                                 const anemo_hparams *h, anemo_error *err) {
    const bool moe = h->arch == ANEMO_ARCH_MIXTRAL || h->arch == ANEMO_ARCH_QWEN3MOE ||
                     h->arch == ANEMO_ARCH_GPTOSS;
    const range ranges[] = {
        {names->vocab, h->vocab, 1, 1 << 24},
        {names->d, h->d, 1, 1 << 20},
        {names->ffn, h->ffn, 1, 1 << 24},
        {names->layers, h->layers, 1, ANEMO_LAYERS_MAX},
        {names->heads, h->heads, 1, 1 << 14},
        {names->kv_heads, h->kv_heads, 1, 1 << 14},
        {names->head_dim, h->head_dim, 1, 1 << 10},
        {names->experts, h->experts, moe, moe ? 4096 : 0},
        {names->experts_per_token, h->experts_per_token, moe, h->experts},
        {names->window, h->window, 0, INT32_MAX},
        {names->context_max, h->context_max, 1, INT32_MAX},
    };
    ANEMO_TRY(check_ranges(path, ranges, sizeof ranges / sizeof *ranges, err));
    ANEMO_TRY(check_relations(path, names, h, err));
    ANEMO_TRY(check_rope(path, h, err));
    return check_tokens(path, names, h, err);
}
