/* Paged KV memory: where the key and the value of a position lie, and what their elements mean. The
 * one place that swa and rope_append share, on every backend.
 *
 *   pool    page, page, ...; page i at pool + i * page_bytes
 *   page    K [n_kv_heads][page_tokens] vectors, then V the same
 *   vector  f32, f16, bf16: head_dim elements
 *           q8: float scale, int8 code[head_dim], padding to 4 bytes
 *
 * Conversions round to nearest even. f16 beyond 65504 becomes infinity (65520 and more); q8 is
 * scale = max|x| / 127, code = round(x * (127 / max|x|)). A vector with a NaN or an infinity cannot
 * be said in q8: its scale becomes NaN, so that it reads back as NaN and is seen. max|x| below
 * 1e-36 counts as 0 (127 / max|x| would overflow).
 */
#ifndef ANEMO_SWA_KV_PAGE_H
#define ANEMO_SWA_KV_PAGE_H

#include <float.h>
#include <math.h>

#include "kernels/internal.h"

/* ---------------------------------------------------------------- addresses */

/* A view with its byte strides worked out. */
typedef struct kv_pages {
    anemo_kv_shape shape;
    anemo_kv_view view;
    size_t vector_bytes;
    size_t value_offset; /* from a page's K to its V */
    size_t page_bytes;
} kv_pages;

static inline kv_pages kv_pages_of(const anemo_kv_shape *shape, const anemo_kv_view *view) {
    kv_pages pages = {.shape = *shape, .view = *view};
    const anemo_kv_type type = (anemo_kv_type)shape->type;
    pages.vector_bytes = anemo_kv_vector_bytes(type, shape->head_dim);
    pages.page_bytes =
        anemo_kv_page_bytes(type, shape->n_kv_heads, shape->head_dim, shape->page_tokens);
    pages.value_offset = pages.page_bytes / 2;
    return pages;
}

/* The sequence that row r of the step belongs to; sequences without rows are passed over. */
static ANEMO_HOST_DEVICE inline int32_t kv_sequence_of_row(const anemo_kv_view *view, int64_t row) {
    int32_t low = 0, high = view->n_sequences - 1; /* the last s with row_start[s] <= row */
    while (low < high) {
        const int32_t middle = low + (high - low + 1) / 2;
        if (view->row_start[middle] <= row)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

/* Absolute position of row r of sequence s. */
static ANEMO_HOST_DEVICE inline int64_t kv_position(const anemo_kv_view *view, int32_t sequence,
                                                    int64_t row) {
    return view->length[sequence] - (view->row_start[sequence + 1] - row);
}

/* First position that the row at `position` sees; it sees all up to itself. */
static ANEMO_HOST_DEVICE inline int64_t
kv_first_visible(const anemo_kv_view *view, int32_t sequence, int64_t position, int64_t window) {
    const int64_t first = view->first[sequence];
    const int64_t begin = window > 0 ? position - window + 1 : first;
    return begin > first ? begin : first;
}

/* The key vector of a position; its value lies value_offset bytes further, the next position's (if
 * kv_positions_left says there is one) vector_bytes further. */
static ANEMO_HOST_DEVICE inline char *kv_key(const kv_pages *pages, int32_t sequence,
                                             int64_t position, int32_t kv_head) {
    const int32_t page_tokens = pages->shape.page_tokens;
    const int64_t slot = position % page_tokens;
    const int64_t index = (position - pages->view.first[sequence]) / page_tokens;
    const int32_t page = pages->view.pages[pages->view.table_start[sequence] + index];
    return (char *)pages->view.pool + (size_t)page * pages->page_bytes +
           (size_t)(kv_head * (int64_t)page_tokens + slot) * pages->vector_bytes;
}

/* How many positions from this one on lie in its page. */
static ANEMO_HOST_DEVICE inline int64_t kv_positions_left(const kv_pages *pages, int64_t position) {
    return pages->shape.page_tokens - position % pages->shape.page_tokens;
}

/* ---------------------------------------------------------------- elements */

static ANEMO_HOST_DEVICE inline void kv_store_q8(char *vector, const float *x, int32_t n) {
    float largest = 0;
    bool finite = true;
    for (int32_t i = 0; i < n; i++) {
        const float magnitude = fabsf(x[i]);
        finite = finite && magnitude <= FLT_MAX;
        largest = magnitude > largest ? magnitude : largest;
    }
    const bool zero = !finite || largest < 1e-36f;
    const float scale = !finite ? NAN
                        : zero  ? 0
                                : largest / 127,
                inverse = zero ? 0 : 127 / largest;
    int8_t *codes = (int8_t *)vector + sizeof scale;
    memcpy(vector, &scale, sizeof scale);
    memset(codes + n, 0, (size_t)(-n & 3));
    for (int32_t i = 0; i < n; i++)
        codes[i] = (int8_t)(zero ? 0 : nearbyintf(x[i] * inverse));
}

/* Writes head_dim floats into a vector of the page type. */
static ANEMO_HOST_DEVICE inline void kv_store(const kv_pages *pages, char *vector, const float *x) {
    const int32_t n = pages->shape.head_dim;
    if (pages->shape.type == ANEMO_KV_F32) {
        memcpy(vector, x, (size_t)n * sizeof *x);
    } else if (pages->shape.type == ANEMO_KV_Q8) {
        kv_store_q8(vector, x, n);
    } else {
        const bool f16 = pages->shape.type == ANEMO_KV_F16;
        for (int32_t i = 0; i < n; i++) {
            const uint16_t half = f16 ? anemo_f16_from_f32(x[i]) : anemo_bf16_from_f32(x[i]);
            memcpy(vector + 2 * i, &half, sizeof half);
        }
    }
}

/* A vector's elements: exact in float for f32, f16 and bf16; q8 is scale * code. `vector` is
 * aligned to its element (pages are, and vectors are whole elements). */
static ANEMO_HOST_DEVICE inline float kv_element_f16(const char *vector, int32_t i) {
    return anemo_f32_from_f16(((const uint16_t *)(const void *)vector)[i]);
}
static ANEMO_HOST_DEVICE inline float kv_element_bf16(const char *vector, int32_t i) {
    return anemo_f32_from_bf16(((const uint16_t *)(const void *)vector)[i]);
}
static ANEMO_HOST_DEVICE inline float kv_q8_scale(const char *vector) {
    return *(const float *)(const void *)vector;
}
static ANEMO_HOST_DEVICE inline int8_t kv_q8_code(const char *vector, int32_t i) {
    return ((const int8_t *)vector)[sizeof(float) + (size_t)i];
}

/* One element of any type. */
static ANEMO_HOST_DEVICE inline float kv_element(int32_t type, const char *vector, int32_t i) {
    switch (type) {
    case ANEMO_KV_F32:
        return ((const float *)(const void *)vector)[i];
    case ANEMO_KV_F16:
        return kv_element_f16(vector, i);
    case ANEMO_KV_BF16:
        return kv_element_bf16(vector, i);
    default:
        return kv_q8_scale(vector) * (float)kv_q8_code(vector, i);
    }
}

/* x[head_dim] = the elements of a vector, in double. */
static inline void kv_read(const kv_pages *pages, const char *vector, double *x) {
    const int32_t n = pages->shape.head_dim;
    switch (pages->shape.type) {
    case ANEMO_KV_F32:
        for (int32_t i = 0; i < n; i++)
            x[i] = ((const float *)(const void *)vector)[i];
        break;
    case ANEMO_KV_F16:
        for (int32_t i = 0; i < n; i++)
            x[i] = kv_element_f16(vector, i);
        break;
    case ANEMO_KV_BF16:
        for (int32_t i = 0; i < n; i++)
            x[i] = kv_element_bf16(vector, i);
        break;
    default:
        for (int32_t i = 0; i < n; i++)
            x[i] = (double)kv_q8_scale(vector) * kv_q8_code(vector, i);
    }
}

#endif
