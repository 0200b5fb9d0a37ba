/* Paged KV memory: see paged.h. Between the page tables of two sequences lies an entry that leads
 * to a page of NaN: reading one page too many shows. */
#include "harness/check/paged.h"
#include "harness/check/number.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SPARE_PAGES = 3 };

static int64_t pages_of(const check_paged *paged, int32_t s) {
    const check_sequence *q = &paged->sequence[s];
    const int64_t page_tokens = paged->shape.page_tokens;
    return (q->length - q->first + page_tokens - 1) / page_tokens;
}

static size_t page_bytes(const anemo_kv_shape *shape) {
    return anemo_kv_page_bytes((anemo_kv_type)shape->type, shape->n_kv_heads, shape->head_dim,
                               shape->page_tokens);
}

bool check_paged_create(check_paged *paged, check_random *random, const anemo_kv_shape *shape,
                        const check_sequence *sequences, int32_t n) {
    *paged = (check_paged){.shape = *shape, .n_sequences = n};
    int64_t used = 0;
    for (int32_t s = 0; s < n; s++) {
        paged->sequence[s] = sequences[s];
        paged->row_start[s + 1] = paged->row_start[s] + (int32_t)sequences[s].rows;
        paged->first[s] = sequences[s].first;
        paged->length[s] = sequences[s].length;
        paged->table_start[s] = (int32_t)used + s;
        used += pages_of(paged, s);
    }
    const int64_t all = used + SPARE_PAGES;
    paged->n_pages = (int32_t)(used + n);
    paged->pages = calloc((size_t)paged->n_pages, sizeof *paged->pages);
    paged->pool_bytes = (size_t)all * page_bytes(shape);
    paged->pool = malloc(paged->pool_bytes);
    int32_t *order = malloc((size_t)all * sizeof *order);
    const bool ok = paged->pages && paged->pool && order;
    for (int64_t i = 0; ok && i < all; i++)
        order[i] = (int32_t)i;
    if (ok) {
        check_random_shuffle(random, order, all);
        check_poison(paged->pool, paged->pool_bytes);
    }
    int64_t next = 1; /* order[0] is the page behind each table */
    for (int32_t s = 0; ok && s < n; s++) {
        int32_t *table = paged->pages + paged->table_start[s];
        const int64_t count = pages_of(paged, s);
        for (int64_t i = 0; i < count; i++)
            table[i] = order[next++];
        table[count] = order[0];
    }
    free(order);
    if (!ok)
        check_paged_free(paged);
    return ok;
}

void check_paged_free(check_paged *paged) {
    free(paged->pages);
    free(paged->pool);
    paged->pages = NULL;
    paged->pool = NULL;
}

int64_t check_paged_rows(const check_paged *paged) {
    return paged->row_start[paged->n_sequences];
}

int32_t check_paged_sequence(const check_paged *paged, int64_t row, int64_t *position) {
    int32_t s = 0;
    while (row >= paged->row_start[s + 1])
        s++;
    *position = paged->length[s] - (paged->row_start[s + 1] - row);
    return s;
}

size_t check_paged_value_offset(const check_paged *paged) {
    return page_bytes(&paged->shape) / 2;
}

size_t check_paged_at(const check_paged *paged, int32_t sequence, int64_t position, int32_t head) {
    const anemo_kv_shape *shape = &paged->shape;
    const int64_t from_first = position - paged->first[sequence];
    const int32_t page =
        paged->pages[paged->table_start[sequence] + from_first / shape->page_tokens];
    const int64_t slot = head * (int64_t)shape->page_tokens + position % shape->page_tokens;
    return (size_t)page * page_bytes(shape) +
           (size_t)slot * anemo_kv_vector_bytes((anemo_kv_type)shape->type, shape->head_dim);
}

void check_paged_encode(const anemo_kv_shape *shape, const float *x, unsigned char *vector) {
    const int32_t n = shape->head_dim;
    float largest = 0;
    for (int32_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(x[i]));
    const float scale = largest / 127;
    if (shape->type == ANEMO_KV_Q8)
        memcpy(vector, &scale, sizeof scale);
    for (int32_t i = 0; i < n; i++) {
        const uint16_t half =
            shape->type == ANEMO_KV_F16 ? check_to_f16(x[i]) : check_to_bf16(x[i]);
        const int8_t code = (int8_t)(largest > 0 ? rint(x[i] * 127.0 / largest) : 0);
        if (shape->type == ANEMO_KV_F32)
            memcpy(vector + 4 * i, &x[i], sizeof x[i]);
        else if (shape->type == ANEMO_KV_Q8)
            memcpy(vector + sizeof scale + i, &code, sizeof code);
        else
            memcpy(vector + 2 * i, &half, sizeof half);
    }
}

void check_paged_decode(const anemo_kv_shape *shape, const unsigned char *vector, double *x) {
    float value;
    uint16_t half;
    for (int32_t i = 0; i < shape->head_dim; i++) {
        switch (shape->type) {
        case ANEMO_KV_F32:
            memcpy(&value, vector + 4 * i, sizeof value);
            x[i] = value;
            break;
        case ANEMO_KV_Q8:
            memcpy(&value, vector, sizeof value);
            x[i] = (double)value * (int8_t)vector[sizeof value + (size_t)i];
            break;
        default:
            memcpy(&half, vector + 2 * i, sizeof half);
            x[i] = shape->type == ANEMO_KV_F16 ? check_from_f16(half) : check_from_bf16(half);
        }
    }
}

anemo_kv_view check_paged_bind(const check_paged *paged, check_trial *trial, int64_t begin,
                               int64_t end, bool written) {
    const int32_t n = paged->n_sequences;
    int32_t row_start[CHECK_SEQUENCES + 1];
    int64_t length[CHECK_SEQUENCES];
    for (int32_t s = 0; s <= n; s++) {
        const int64_t row = paged->row_start[s];
        row_start[s] = (int32_t)((row < begin ? begin : row > end ? end : row) - begin);
    }
    for (int32_t s = 0; s < n; s++) { /* rows at and behind `end` have not come yet */
        const int64_t rest = paged->row_start[s + 1] - end, rows = paged->sequence[s].rows;
        length[s] = paged->length[s] - (rest < 0 ? 0 : rest > rows ? rows : rest);
    }
    const size_t sequences = (size_t)n;
    anemo_kv_view view = {.size = sizeof view, .n_sequences = n};
    view.row_start = check_trial_in(trial, "kv.row_start", row_start, (sequences + 1) * 4);
    view.first = check_trial_in(trial, "kv.first", paged->first, sequences * 8);
    view.length = check_trial_in(trial, "kv.length", length, sequences * 8);
    view.table_start = check_trial_in(trial, "kv.table_start", paged->table_start, sequences * 4);
    view.pages = check_trial_in(trial, "kv.pages", paged->pages, (size_t)paged->n_pages * 4);
    view.pool = written ? check_trial_inout(trial, "kv.pool", paged->pool, paged->pool_bytes)
                        : check_trial_in(trial, "kv.pool", paged->pool, paged->pool_bytes);
    return view;
}
