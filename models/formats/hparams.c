/* What hyper-parameters may be, whatever container they come from. The limits are far above every
 * published model and far below what could overflow a size computation: the largest matrix is
 * 2^24 x 2^24 values, the largest sum of them stays below 2^63 bytes. */
#include "models/formats/internal.h"

#include <inttypes.h>
#include <math.h>

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
    const bool moe = h->arch == ANEMO_ARCH_MIXTRAL;
    const range ranges[] = {
        {names->vocab, h->vocab, 1, 1 << 24},
        {names->d, h->d, 1, 1 << 20},
        {names->ffn, h->ffn, 1, 1 << 24},
        {names->layers, h->layers, 1, 4096},
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
    return check_tokens(path, names, h, err);
}
