/* embed on a GPU: a block per row, any weight (layout "rows"), decoded in float. A gather of a few
 * rows: launch latency is all it costs. */
#include "kernels/dense/common.h"
#include "kernels/dense/dense.h"
#include "kernels/qgemm/layout_rows.h"
#include "kernels/warp.cuh"

namespace {

constexpr int THREADS = 256;

struct launch {
    anemo_embed_args a;
    int64_t d;
    anemo_weight_type type;
    anemo_rows_shape shape;
};

__global__ void __launch_bounds__(THREADS) embed_row(const __grid_constant__ launch l) {
    const int64_t row = blockIdx.x;
    const unsigned char *record =
        static_cast<const unsigned char *>(l.a.weight) + l.a.ids[row] * l.shape.row_bytes;
    for (int64_t i = threadIdx.x; i < l.d; i += THREADS) {
        l.a.y[row * l.d + i] = anemo_rows_value(&l.type, &l.shape, record, i);
    }
}

anemo_status run(const anemo_exec *exec, const void *problem, const void *arguments) {
    const auto *p = static_cast<const anemo_embed_problem *>(problem);
    const auto *a = static_cast<const anemo_embed_args *>(arguments);
    if (a->m < 0 || a->m > p->m_max) {
        return ANEMO_E_INPUT;
    }
    if (a->m == 0) {
        return ANEMO_OK;
    }
    const launch l = {*a, p->d, p->type, anemo_rows_shape_of(&p->type, p->d)};
    return gpu::launch(embed_row, (unsigned)a->m, THREADS, 0, exec, l);
}

} // namespace

extern "C" {
extern const anemo_variant anemo_embed_block_sm80;
const anemo_variant anemo_embed_block_sm80 = {
    .size = sizeof(anemo_variant),
    .name = "embed_block_sm80",
    .op = ANEMO_OP_EMBED,
    .backend = ANEMO_CUDA,
    .needs = {.min_capability = 80},
    .layout = "rows",
    .traits = ANEMO_TRAIT_CAPTURABLE | ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "a block per row, any weight, decoded in float",
    .accepts = anemo_embed_accepts,
    .workspace_bytes = no_workspace,
    .run = run,
};
}
