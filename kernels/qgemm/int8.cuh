/* 8-bit weights with one scale per row times 8-bit activations with one scale per token: what the
 * integer kernels share.
 *
 * Weight codes c are unsigned, activation codes a signed. With S = sum of c a over k and A = sum of
 * a, which the record holds, the three forms of a weight (kernel.h) are
 *
 *     none, zero point z   y = t s (S - z A)         z = 128 where there is none
 *     minimum o            y = t (s S - o A)
 *
 * for a weight row's scale s and a token's t. S, z A and their difference are sums of at most k
 * products of at most 255 x 127, so 32 bits hold them for k up to 66311; they are exact, whatever
 * the order of adding, and a result depends on its token alone.
 *
 * Scales per group of columns have no place here. S would have to end at each group and be scaled
 * into a float: an m16n8k32 instruction, one clock of an H100's multiprocessor, has 128 sums, and
 * for groups of 32 columns each of them would cost a conversion and a multiply-add, of which the
 * multiprocessor does 128 in a clock: longer than the product itself, and twice the registers. A
 * library's product cannot do it at all: its sums end at k. */
#ifndef ANEMO_INT8_CUH
#define ANEMO_INT8_CUH

#include "kernels/qgemm/fragment.cuh"
#include "kernels/qgemm/qgemm_internal.h"

namespace gpu {

constexpr int64_t INT8_K_MOST = INT32_MAX / (255 * 127);

/* ---------------------------------------------------------------- a token's numbers */

struct int8_token {
    float scale;
    int sum;
};

/* Behind the codes of an a8_row record. */
__device__ inline int8_token int8_token_of(const qgemm_call &c, int64_t token) {
    const unsigned char *at =
        c.x + token * c.x_row_bytes + anemo_fragment_up(c.problem.k, 128); /* anemo_a8_padded_k */
    return {*reinterpret_cast<const float *>(at), *reinterpret_cast<const int *>(at + 4)};
}

/* ---------------------------------------------------------------- a weight row's numbers */

struct int8_row {
    float scale, minimum;
    int zero;
};

__device__ inline float int8_number(const unsigned char *numbers, int bytes, int at) {
    return bytes == 2 ? float_of_half(reinterpret_cast<const uint16_t *>(numbers)[at])
                      : reinterpret_cast<const float *>(numbers)[at];
}

__device__ inline int8_row int8_row_of(const anemo_fragment_shape &s, const unsigned char *weight,
                                       int64_t row) {
    const unsigned char *block = weight + row / ANEMO_FRAGMENT_ROWS * (int64_t)s.block_bytes;
    const int at = anemo_fragment_number(static_cast<int>(row % ANEMO_FRAGMENT_ROWS));
    int8_row r = {int8_number(block + s.scales_at, s.scale_bytes, at), 0.0f, 128};
    if (s.has_minimum) {
        r.minimum = int8_number(block + s.minima_at, s.scale_bytes, at);
        r.zero = 0;
    } else if (s.has_zero) {
        r.zero = block[s.zeros_at + at];
    }
    return r;
}

/* `sum` is S above. */
__device__ inline float int8_result(const int8_row &row, const int8_token &token, int sum) {
    const float product = static_cast<float>(sum - row.zero * token.sum);
    const float less = row.minimum * static_cast<float>(token.sum);
    return token.scale * fmaf(row.scale, product, -less);
}

/* ---------------------------------------------------------------- the host's side */

inline bool int8_accepts(const void *problem, char *why, size_t why_bytes) {
    const auto *p = static_cast<const anemo_qgemm_problem *>(problem);
    if (!anemo_qgemm_valid(p, why, why_bytes)) {
        return false;
    }
    for (int i = 0; i < p->n_parts; i++) {
        if (p->type[i].group > 0) {
            return anemo_refuse(why, why_bytes,
                                "part %d has a scale for each %d columns; one per row is accepted, "
                                "since integer sums go over all of k",
                                i, p->type[i].group);
        }
    }
    return p->k <= INT8_K_MOST ||
           anemo_refuse(why, why_bytes, "k %lld; up to %lld is accepted, or sums leave 32 bits",
                        (long long)p->k, (long long)INT8_K_MOST);
}

} // namespace gpu

/* The description of a variant that reads 8-bit fragments and a8_row records. */
#define GPU_INT8_VARIANT(id, least_rows, what, workspace, runs)                                    \
    extern "C" {                                                                                   \
    extern const anemo_variant anemo_##id;                                                         \
    const anemo_variant anemo_##id = {                                                             \
        .size = sizeof(anemo_variant),                                                             \
        .name = #id,                                                                               \
        .op = ANEMO_OP_QGEMM,                                                                      \
        .backend = ANEMO_CUDA,                                                                     \
        .needs = {.cpu_features = 0, .min_capability = 80, .exact_capability = 0},                 \
        .layout = "w8_fragment",                                                                   \
        .act = "a8_row",                                                                           \
        .traits = ANEMO_TRAIT_CAPTURABLE | ANEMO_TRAIT_ROW_INVARIANT,                              \
        .m_from = least_rows,                                                                      \
        .idea = what,                                                                              \
        .accepts = gpu::int8_accepts,                                                              \
        .workspace_bytes = workspace,                                                              \
        .run = runs,                                                                               \
    };                                                                                             \
    }

#endif
