/* The built-in activation formats. */
#include "kernels/internal.h"

int64_t anemo_a8_padded_k(int64_t k) {
    return anemo_round_up(k, 128);
}

int64_t anemo_a8_groups(int32_t group, int64_t k) {
    return group > 0 ? anemo_a8_padded_k(k) / group : 1;
}

size_t anemo_a8_bytes(int32_t group, int64_t k) {
    const int64_t lines = anemo_ceil_div(anemo_a8_padded_k(k) + 8 * anemo_a8_groups(group, k), 64);
    return (size_t)(64 * (lines | 1));
}

static size_t f32_row_bytes(int64_t k) {
    return (size_t)k * sizeof(float);
}

static size_t bf16_row_bytes(int64_t k) {
    return (size_t)anemo_round_up(2 * k, 64);
}

size_t anemo_f16_row_scale_at(int64_t k) {
    return (size_t)anemo_round_up(2 * k, 64);
}

static size_t f16_row_row_bytes(int64_t k) {
    return anemo_f16_row_scale_at(k) + 64;
}

static size_t a8_row_row_bytes(int64_t k) {
    return anemo_a8_bytes(0, k);
}

static size_t a8_g32_row_bytes(int64_t k) {
    return anemo_a8_bytes(32, k);
}

static size_t a8_g128_row_bytes(int64_t k) {
    return anemo_a8_bytes(128, k);
}

#define ANEMO_ACT(id, columns, bits)                                                               \
    extern const anemo_act anemo_act_##id;                                                         \
    const anemo_act anemo_act_##id = {sizeof(anemo_act), #id, columns, bits, id##_row_bytes};
#include "kernels/acts.inc"
#undef ANEMO_ACT
