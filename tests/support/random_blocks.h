/* Random values of any GGML type with a given spread, as the bytes of a file. */
#ifndef ANEMO_TEST_RANDOM_BLOCKS_H
#define ANEMO_TEST_RANDOM_BLOCKS_H

#include "models/formats/internal.h"
#include "tests/support/bytes.h"

/* Every type that anemo reads, and how many there are. */
extern const uint32_t random_block_types[];
extern const int random_block_type_count;

/* Appends `n` values (whole blocks) of mean near 0 and standard deviation near `sd`. */
void random_blocks(byte_string *out, uint32_t ggml_type, int64_t n, double sd, uint64_t seed);

#endif
