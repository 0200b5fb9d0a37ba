/* Paged KV memory for the checker: sequences with their pages in a shuffled order, everything that
 * holds no key filled with NaN (unused slots, spare pages, pages that a window has freed). */
#ifndef ANEMO_CHECK_PAGED_H
#define ANEMO_CHECK_PAGED_H

#include "harness/check/op.h"

enum { CHECK_SEQUENCES = 6 };

typedef struct check_sequence {
    int64_t first;  /* multiple of the page size */
    int64_t length; /* positions, those of this step included */
    int64_t rows;   /* of this step; may be 0 */
} check_sequence;

typedef struct check_paged {
    anemo_kv_shape shape;
    int32_t n_sequences;
    check_sequence sequence[CHECK_SEQUENCES];
    /* the arrays of anemo_kv_view */
    int32_t row_start[CHECK_SEQUENCES + 1], table_start[CHECK_SEQUENCES];
    int64_t first[CHECK_SEQUENCES], length[CHECK_SEQUENCES];
    int32_t *pages;
    int32_t n_pages; /* entries of `pages` */
    unsigned char *pool;
    size_t pool_bytes;
} check_paged;

/* All of the pool is poison at first. False: no memory. */
bool check_paged_create(check_paged *paged, check_random *random, const anemo_kv_shape *shape,
                        const check_sequence *sequences, int32_t n);
void check_paged_free(check_paged *paged);
int64_t check_paged_rows(const check_paged *paged);
/* Sequence and position of a row of the step. */
int32_t check_paged_sequence(const check_paged *paged, int64_t row, int64_t *position);

/* Offset in the pool of the key vector of a position; its value lies check_paged_value_offset
 * bytes further. */
size_t check_paged_at(const check_paged *paged, int32_t sequence, int64_t position, int32_t head);
size_t check_paged_value_offset(const check_paged *paged);

/* Elements to a vector of the page type, rounded once, and back. */
void check_paged_encode(const anemo_kv_shape *shape, const float *x, unsigned char *vector);
void check_paged_decode(const anemo_kv_shape *shape, const unsigned char *vector, double *x);

/* The view that a kernel gets for rows [begin, end) of the step, as if the step ended there; its
 * pool is an input, or one that is written. The check_paged must outlive the trial's run. */
anemo_kv_view check_paged_bind(const check_paged *paged, check_trial *trial, int64_t begin,
                               int64_t end, bool written);

#endif
