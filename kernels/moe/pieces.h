/* What a grouped product through a library does one after the other, from the offsets of the plan
 * on the host: the rows of each expert, in pieces of at most MOE_PIECE_ROWS, and for each piece its
 * three matrices.
 *
 * A piece bounds the workspace, whatever share of the tokens one expert draws; its weights are
 * dequantised anew. That costs a skewed plan no more than an even one: there are at most rows /
 * MOE_PIECE_ROWS pieces more than experts. Pieces of one expert are equally long within a row,
 * since a last one of few rows would cost as much as a full one. */
#ifndef ANEMO_MOE_PIECES_H
#define ANEMO_MOE_PIECES_H

#include "kernels/dense/common.h"

enum { MOE_PIECE_ROWS = 2048, MOE_GATE = 0, MOE_UP = 1, MOE_DOWN = 2 };

/* A product under way, or moe_products_of(): before the first. */
typedef struct moe_product {
    int32_t expert;
    int32_t piece; /* of the expert */
    int32_t matrix;
    int32_t row_begin, rows; /* sorted rows */
} moe_product;

static ANEMO_HOST_DEVICE inline moe_product moe_products_of(int32_t expert_begin) {
    const moe_product before = {expert_begin, -1, MOE_DOWN, 0, 0};
    return before;
}

/* The next product; false: that was the last. */
static ANEMO_HOST_DEVICE inline bool moe_product_next(const int32_t *offset, int32_t expert_end,
                                                      moe_product *p) {
    if (p->matrix != MOE_DOWN) {
        p->matrix++;
        return true;
    }
    p->matrix = MOE_GATE;
    p->piece++;
    for (; p->expert < expert_end; p->expert++, p->piece = 0) {
        const int64_t rows = offset[p->expert + 1] - offset[p->expert];
        const int64_t pieces = anemo_ceil_div(rows, MOE_PIECE_ROWS);
        if (p->piece < pieces) {
            const int64_t begin = rows * p->piece / pieces, end = rows * (p->piece + 1) / pieces;
            p->row_begin = offset[p->expert] + (int32_t)begin;
            p->rows = (int32_t)(end - begin);
            return true;
        }
    }
    return false;
}

#endif
