#include "tests/support/kv_step.h"

#include <math.h>
#include <string.h>

size_t kv_step_vector_bytes(const anemo_kv_shape *s) {
    const size_t d = (size_t)s->head_dim;
    return s->type == ANEMO_KV_F32 ? 4 * d : s->type == ANEMO_KV_Q8 ? 4 + (d + 3) / 4 * 4 : 2 * d;
}

size_t kv_step_page_bytes(const anemo_kv_shape *s) {
    return 2 * (size_t)s->n_kv_heads * (size_t)s->page_tokens * kv_step_vector_bytes(s);
}

anemo_kv_view kv_step_view(const kv_step *s) {
    return (anemo_kv_view){.size = sizeof(anemo_kv_view),
                           .n_sequences = s->n_sequences,
                           .row_start = s->row_start,
                           .first = s->first,
                           .length = s->length,
                           .table_start = s->table_start,
                           .pages = s->pages,
                           .pool = s->pool};
}

unsigned char *kv_step_vector(const kv_step *s, int32_t sequence, int64_t position, int32_t head,
                              bool value) {
    const int64_t tokens = s->shape.page_tokens;
    const int64_t entry = position / tokens - s->first[sequence] / tokens;
    const int64_t page = s->pages[s->table_start[sequence] + entry];
    const int64_t row = ((value ? s->shape.n_kv_heads : 0) + head) * tokens + position % tokens;
    return s->pool + (size_t)page * kv_step_page_bytes(&s->shape) +
           (size_t)row * kv_step_vector_bytes(&s->shape);
}

uint16_t kv_half_bits(double value) {
    int exponent;
    const double m = frexp(fabs(value), &exponent);
    if (m == 0)
        return 0;
    return (uint16_t)((value < 0 ? 0x8000 : 0) | (exponent + 14) << 10 | (int)((2 * m - 1) * 1024));
}

double kv_half_value(uint16_t bits) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const double sign = bits & 0x8000 ? -1 : 1;
    if (exponent == 31)
        return mantissa ? NAN : sign * INFINITY;
    return sign * (exponent ? ldexp(1024 + mantissa, exponent - 25) : ldexp(mantissa, -24));
}

void kv_step_write(check_random *random, const anemo_kv_shape *s, unsigned char *at,
                   double *truth) {
    const float scale = (float)(0.5 + check_random_uniform(random)) / 64;
    if (s->type == ANEMO_KV_Q8)
        memcpy(at, &scale, sizeof scale);
    for (int32_t i = 0; i < s->head_dim; i++) {
        const float x = (float)(check_random_below(random, 97) - 48) / 16;
        const int8_t code = (int8_t)(check_random_below(random, 255) - 127);
        uint32_t bits;
        memcpy(&bits, &x, sizeof bits);
        const uint16_t half = s->type == ANEMO_KV_BF16 ? (uint16_t)(bits >> 16) : kv_half_bits(x);
        truth[i] = s->type == ANEMO_KV_Q8 ? (double)scale * code : x;
        if (s->type == ANEMO_KV_Q8)
            memcpy(at + 4 + i, &code, 1);
        else if (s->type == ANEMO_KV_F32)
            memcpy(at + 4 * i, &x, 4);
        else
            memcpy(at + 2 * i, &half, 2);
    }
}

void kv_step_add(kv_step *s, int64_t history, int64_t rows, int64_t first) {
    const int32_t i = s->n_sequences++;
    const int64_t tokens = s->shape.page_tokens;
    s->row_start[i + 1] = s->row_start[i] + (int32_t)rows;
    s->length[i] = history + rows;
    s->first[i] = first;
    s->table_start[i] = s->n_entries;
    s->n_entries += (int32_t)((s->length[i] - first + tokens - 1) / tokens);
}
