/* Quantisers for tests, of every GGML type with blocks of 32 or none: the scale from the block's
 * range, then the nearest code by the type's definition. Not those of anemo or of GGML. */
#ifndef ANEMO_TEST_GGML_QUANTISE_H
#define ANEMO_TEST_GGML_QUANTISE_H

#include "models/formats/internal.h"
#include "tests/support/bytes.h"

/* Are rows of k values whole blocks of a type that ggml_quantise makes? */
bool ggml_quantise_fits(uint32_t type, int64_t k);
void ggml_quantise(byte_string *out, uint32_t type, const float *values, int64_t n);

#endif
