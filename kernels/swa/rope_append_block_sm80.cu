/* rope_append on a GPU: a block per row. Thread i turns pair i of every head, so that sine and
 * cosine are computed once per row and pair; then a thread per key and value vector writes it into
 * its page with the same functions as the CPU (kv_page.h), and pages come out alike on both.
 *
 * Angles and rotation stay in double as in the definition: a position of 10^5 times a frequency
 * leaves float no correct digit behind the comma, and beside the matrices the op costs nothing. */
#include "kernels/dense/common.h"
#include "kernels/swa/kv_page.h"
#include "kernels/swa/swa.h"
#include "kernels/warp.cuh"

namespace {

constexpr int THREADS = 128;

struct launch {
    anemo_rope_problem p;
    anemo_rope_args a;
    kv_pages pages;
};

__device__ double temperature_at(const anemo_rope_problem &p, int64_t position) {
    return p.temperature == 0
               ? 1
               : 1 + p.temperature * log(1 + (double)(position / p.temperature_period));
}

/* Pair `pair` of every head of one row; `scale` is 1 for k. */
__device__ void rotate(const anemo_rope_problem &p, float *x, int heads, int pair, double cosine,
                       double sine, double scale) {
    const bool interleaved = p.pairing == ANEMO_ROPE_INTERLEAVED;
    const int first = interleaved ? 2 * pair : pair;
    const int second = interleaved ? first + 1 : pair + p.rotary_dims / 2;
    for (int h = 0; h < heads; h++, x += p.kv.head_dim) {
        const double a = x[first], b = x[second];
        x[first] = (float)((a * cosine - b * sine) * scale);
        x[second] = (float)((a * sine + b * cosine) * scale);
    }
}

__device__ void rotate_row(const launch &l, int64_t row, int64_t position) {
    const anemo_rope_problem &p = l.p;
    const int64_t d = p.kv.head_dim;
    float *q = l.a.q + row * p.kv.n_heads * d, *k = l.a.k + row * p.kv.n_kv_heads * d;
    const double temperature = temperature_at(p, position);
    for (int pair = threadIdx.x; pair < p.rotary_dims / 2; pair += THREADS) {
        const double angle = (double)position * l.a.inv_freq[pair];
        const double cosine = p.magnitude * cos(angle), sine = p.magnitude * sin(angle);
        rotate(p, q, p.kv.n_heads, pair, cosine, sine, temperature);
        rotate(p, k, p.kv.n_kv_heads, pair, cosine, sine, 1);
    }
    for (int i = p.rotary_dims + threadIdx.x; i < d; i += THREADS) {
        for (int h = 0; h < p.kv.n_heads; h++) {
            q[h * d + i] = (float)(q[h * d + i] * temperature);
        }
    }
}

__global__ void __launch_bounds__(THREADS) rope_row(const __grid_constant__ launch l) {
    const int64_t row = blockIdx.x, d = l.p.kv.head_dim;
    const int32_t sequence = kv_sequence_of_row(&l.a.kv, row);
    const int64_t position = kv_position(&l.a.kv, sequence, row);
    rotate_row(l, row, position);
    __syncthreads();
    const int n_kv_heads = l.p.kv.n_kv_heads;
    for (int i = threadIdx.x; i < 2 * n_kv_heads; i += THREADS) {
        const int head = i / 2, value = i % 2;
        const float *from = (value ? l.a.v : l.a.k) + (row * n_kv_heads + head) * d;
        char *slot = kv_key(&l.pages, sequence, position, head);
        kv_store(&l.pages, slot + value * l.pages.value_offset, from);
    }
}

anemo_status run(const anemo_exec *exec, const void *problem, const void *arguments) {
    const auto *p = static_cast<const anemo_rope_problem *>(problem);
    const auto *a = static_cast<const anemo_rope_args *>(arguments);
    if (a->rows < 0 || a->rows > p->rows_max) {
        return ANEMO_E_INPUT;
    }
    if (a->rows == 0) {
        return ANEMO_OK;
    }
    return gpu::launch(rope_row, (unsigned)a->rows, THREADS, 0, exec,
                       launch{*p, *a, kv_pages_of(&p->kv, &a->kv)});
}

} // namespace

extern "C" {
extern const anemo_variant anemo_rope_append_block_sm80;
const anemo_variant anemo_rope_append_block_sm80 = {
    .size = sizeof(anemo_variant),
    .name = "rope_append_block_sm80",
    .op = ANEMO_OP_ROPE_APPEND,
    .backend = ANEMO_CUDA,
    .needs = {.min_capability = 80},
    .traits = ANEMO_TRAIT_CAPTURABLE | ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "a block per row, a thread per pair of all heads",
    .accepts = anemo_rope_append_accepts,
    .workspace_bytes = no_workspace,
    .run = run,
};
}
