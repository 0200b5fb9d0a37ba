/* Pages and rows of a step as kernel.h describes them, worked out here and not by a kernel: where a
 * vector lies and what its bits mean. For the tests of swa and rope_append. */
#ifndef ANEMO_TEST_KV_STEP_H
#define ANEMO_TEST_KV_STEP_H

#include "harness/check/random.h"
#include "kernels/kernel.h"

enum { KV_STEP_SEQUENCES = 8 };

/* The sequences of a step over a pool of their own. */
typedef struct kv_step {
    anemo_kv_shape shape;
    int32_t n_sequences, n_pages, n_entries;
    int32_t row_start[KV_STEP_SEQUENCES + 1], table_start[KV_STEP_SEQUENCES];
    int64_t first[KV_STEP_SEQUENCES], length[KV_STEP_SEQUENCES];
    int32_t *pages; /* [n_entries], all tables one after the other */
    unsigned char *pool;
} kv_step;

anemo_kv_view kv_step_view(const kv_step *step);
size_t kv_step_vector_bytes(const anemo_kv_shape *shape);
size_t kv_step_page_bytes(const anemo_kv_shape *shape);
/* Puts a sequence of `history` keys and `rows` new rows behind the others: row_start, length, first
 * (a multiple of the page), table_start and n_entries; the pages are the caller's to name. */
void kv_step_add(kv_step *step, int64_t history, int64_t rows, int64_t first);
/* The key or value vector of a position. */
unsigned char *kv_step_vector(const kv_step *step, int32_t sequence, int64_t position,
                              int32_t kv_head, bool value);
/* Writes a random vector that the type holds exactly, |element| <= 3, and says what it is. */
void kv_step_write(check_random *random, const anemo_kv_shape *shape, unsigned char *at,
                   double *truth);

/* A float16 from a number it holds exactly, and back from any bits. */
uint16_t kv_half_bits(double value);
double kv_half_value(uint16_t bits);

#endif
