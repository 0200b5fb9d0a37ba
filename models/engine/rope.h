/* Rotary frequencies of a model. */
#ifndef ANEMO_ROPE_H
#define ANEMO_ROPE_H

#include "models/formats/checkpoint.h"

/* inv_freq[head_dim / 2]; `factors` [head_dim / 2] for ANEMO_ROPE_FACTORS, else NULL. */
void anemo_rope_frequencies(const anemo_hparams *hparams, const float *factors, float *inv_freq);
/* What multiplies cos and sin. */
float anemo_rope_magnitude(const anemo_hparams *hparams);

#endif
