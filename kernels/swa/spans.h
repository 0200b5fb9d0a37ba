/* How the CUDA variant that splits keys cuts them. Positions are cut into spans of SWA_SPAN keys at
 * multiples of it, whoever asks: a row's spans, and the order in which they are merged, depend on
 * nothing but the row, and so does its result, whatever runs beside it.
 *
 * With few rows each span is a block's, and a second launch merges them (split); with many, a block
 * walks its row's spans and merges them as it goes. Both merge in the same order with the same
 * arithmetic. */
#ifndef ANEMO_SWA_SPANS_H
#define ANEMO_SWA_SPANS_H

#include "kernels/dense/common.h"

enum {
    SWA_SPAN = 256,
    SWA_SPLIT_ROWS = 64,    /* rows up to which spans are spread over blocks ... */
    SWA_SPLIT_SPANS = 2048, /* ... and spans of all of them, which is what the workspace holds */
};

/* The keys [begin, end) of span number `index` of a row that sees first .. position. */
typedef struct swa_span {
    int64_t begin, end;
} swa_span;

static ANEMO_HOST_DEVICE inline int64_t swa_span_count(int64_t first, int64_t position) {
    return position / SWA_SPAN - first / SWA_SPAN + 1;
}

static ANEMO_HOST_DEVICE inline swa_span swa_span_at(int64_t first, int64_t position,
                                                     int64_t index) {
    const int64_t at = (first / SWA_SPAN + index) * SWA_SPAN;
    const swa_span span = {max_i64(first, at), min_i64(position + 1, at + SWA_SPAN)};
    return span;
}

/* The most spans that a row of this problem has. */
static ANEMO_HOST_DEVICE inline int64_t swa_spans_max(int64_t window, int64_t context_max) {
    const int64_t keys = window > 0 && window < context_max ? window : context_max;
    const int64_t of_keys = (keys + SWA_SPAN - 2) / SWA_SPAN + 1; /* they begin anywhere */
    return min_i64(of_keys, (context_max + SWA_SPAN - 1) / SWA_SPAN);
}

/* Steps of up to so many rows are split. */
static ANEMO_HOST_DEVICE inline int64_t swa_split_rows(int64_t spans_max, int64_t rows_max) {
    return min_i64(rows_max, max_i64(1, min_i64(SWA_SPLIT_ROWS, SWA_SPLIT_SPANS / spans_max)));
}

/* A span's result for one head in the workspace: mixed[head_dim], the largest score, the sum. */
static ANEMO_HOST_DEVICE inline int64_t swa_partial_at(int64_t row, int32_t n_heads, int32_t head,
                                                       int64_t spans_max, int64_t index,
                                                       int32_t head_dim) {
    return ((row * n_heads + head) * spans_max + index) * (head_dim + 2);
}

#endif
