/* Rotary frequencies, plain and scaled. Pair i of d/2 turns by position * f_i, f_i = theta^(-2i/d);
 * a model that was trained longer than it was pretrained has slower ones:
 *
 *   Llama 3   by wavelength w = 2 pi / f against the pretraining context C: below C / high as it
 *             is, above C / low divided by the factor, between them blended linearly in C / w.
 *   YaRN      (Peng et al. 2023) the same idea by pair number: below the pair that turns beta_fast
 *             times in C as it is, above the one that turns beta_slow times divided by the factor,
 *             a linear ramp between them, whose ends are rounded outwards to whole pairs unless
 *             the file says otherwise; and cos and sin are scaled by a magnitude.
 *   factors   GGUF's form of Llama 3: the quotients themselves.
 */
#include "models/engine/rope.h"

#include <math.h>

static const double TWO_PI = 6.283185307179586476925;

static double clamp01(double x) {
    return x < 0 ? 0 : x > 1 ? 1 : x;
}

static double llama3(const anemo_rope_scaling *r, double f) {
    const double turns = r->original_context * f / TWO_PI; /* C / w */
    const double kept = clamp01((turns - r->low) / (r->high - r->low));
    return kept * f + (1 - kept) * f / r->factor;
}

/* The (fractional) pair that turns `turns` times within the pretraining context. */
static double pair_that_turns(const anemo_hparams *h, double turns) {
    return (double)h->head_dim * log(h->rope.original_context / (turns * TWO_PI)) /
           (2 * log(h->rope_theta));
}

static double yarn(const anemo_hparams *h, int64_t pair, double f) {
    const anemo_rope_scaling *r = &h->rope;
    double first = pair_that_turns(h, r->high), last = pair_that_turns(h, r->low);
    if (r->truncate) {
        first = floor(first);
        last = ceil(last);
    }
    first = fmax(first, 0);
    last = fmin(last, (double)h->head_dim - 1);
    if (first == last)
        last += 0.001; /* as transformers: a step, not a division by zero */
    const double slowed = clamp01(((double)pair - first) / (last - first));
    return slowed * f / r->factor + (1 - slowed) * f;
}

void anemo_rope_frequencies(const anemo_hparams *h, const float *factors, float *inv_freq) {
    for (int64_t i = 0; i < h->head_dim / 2; i++) {
        double f = pow(h->rope_theta, -2.0 * (double)i / (double)h->head_dim);
        if (h->rope.kind == ANEMO_ROPE_LLAMA3)
            f = llama3(&h->rope, f);
        else if (h->rope.kind == ANEMO_ROPE_YARN)
            f = yarn(h, i, f);
        else if (h->rope.kind == ANEMO_ROPE_FACTORS)
            f /= factors[i];
        inv_freq[i] = (float)f;
    }
}

float anemo_rope_magnitude(const anemo_hparams *h) {
    return h->rope.magnitude != 0 ? (float)h->rope.magnitude : 1.0f;
}
