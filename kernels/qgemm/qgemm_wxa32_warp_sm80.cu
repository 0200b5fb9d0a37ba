/* qgemm, the first CUDA variant: one warp per result, lanes stride over k, butterfly sum. Any
 * weight type (layout "rows"), float activations, every epilogue. Obviously right and slow: each
 * weight row is read once per row of x, and 4-bit codes take a byte. It is the GPU's yardstick of
 * correctness, and what the fast variants are compared with. */
#include "kernels/activate.cuh"
#include "kernels/qgemm/layout_rows.h"
#include "kernels/warp.cuh"

namespace {

constexpr int WARPS_PER_BLOCK = 8;

struct part {
    const unsigned char *weight;
    const float *bias;
    float *y;
    int64_t y_stride, n;
    anemo_weight_type type;
    anemo_rows_shape shape;
};

struct launch {
    part parts[ANEMO_QGEMM_PARTS];
    const float *x;
    int64_t k;
    int epilogue, activation;
};

__device__ float weight_value(const part &p, const unsigned char *record, int64_t column) {
    if (p.shape.groups == 0) {
        return reinterpret_cast<const float *>(record)[column];
    }
    const int64_t group = p.type.group > 0 ? column / p.type.group : 0;
    const float scale = reinterpret_cast<const float *>(record + p.shape.scales_at)[group];
    const int code = record[column];
    if (p.type.code == ANEMO_CODE_TABLE) {
        return scale * p.type.table[code];
    }
    if (p.type.offset == ANEMO_OFFSET_NONE) {
        return scale * (code - (1 << (p.type.bits - 1)));
    }
    const float offset = reinterpret_cast<const float *>(record + p.shape.offsets_at)[group];
    return p.type.offset == ANEMO_OFFSET_MINIMUM ? scale * code - offset : scale * (code - offset);
}

/* x[row] . W[column], the same on all lanes, bias added. */
__device__ float warp_dot(const launch &l, const part &p, int64_t row, int64_t column) {
    const unsigned char *record = p.weight + column * p.shape.row_bytes;
    const float *x = l.x + row * l.k;
    float sum = 0.0f;
    for (int64_t j = threadIdx.x; j < l.k; j += WARP) {
        sum = fmaf(x[j], weight_value(p, record, j), sum);
    }
    sum = warp_sum(sum);
    return p.bias != nullptr ? sum + p.bias[column] : sum;
}

/* Grid: x over columns (one per warp), y over rows. */
__global__ void __launch_bounds__(WARP *WARPS_PER_BLOCK)
    one_warp_per_result(const __grid_constant__ launch l, int index) {
    const part &p = l.parts[index];
    const int64_t column = (int64_t)blockIdx.x * WARPS_PER_BLOCK + threadIdx.y, row = blockIdx.y;
    if (column >= p.n) {
        return;
    }
    float result = warp_dot(l, p, row, column);
    if (l.epilogue == ANEMO_EPI_ACT_MUL) {
        result = gpu::activate(l.activation, result, warp_dot(l, l.parts[1], row, column));
    }
    if (threadIdx.x == 0) {
        float *y = p.y + row * p.y_stride + column;
        *y = l.epilogue == ANEMO_EPI_ADD ? *y + result : result;
    }
}

bool accepts(const void *problem, char *why, size_t why_bytes) {
    const auto *p = static_cast<const anemo_qgemm_problem *>(problem);
    (void)why, (void)why_bytes;
    return p->n_parts >= 1 && p->n_parts <= ANEMO_QGEMM_PARTS && p->k >= 1 && p->m_max >= 1 &&
           p->m_max <= 65535;
}

size_t workspace_bytes(const void *, int32_t) {
    return 0;
}

anemo_status run(const anemo_exec *exec, const void *problem, const void *arguments) {
    const auto *p = static_cast<const anemo_qgemm_problem *>(problem);
    const auto *a = static_cast<const anemo_qgemm_args *>(arguments);
    if (a->m == 0) {
        return ANEMO_OK;
    }
    launch l = {};
    l.x = static_cast<const float *>(a->x);
    l.k = p->k;
    l.epilogue = p->epilogue;
    l.activation = p->activation;
    for (int i = 0; i < p->n_parts; i++) {
        l.parts[i] = {static_cast<const unsigned char *>(a->weight[i]),
                      (p->has_bias >> i & 1) != 0 ? a->bias[i] : nullptr,
                      a->y[i],
                      a->y_stride[i],
                      p->n[i],
                      p->type[i],
                      anemo_rows_shape_of(&p->type[i], p->k)};
    }
    const int launches = p->epilogue == ANEMO_EPI_ACT_MUL ? 1 : p->n_parts;
    anemo_status status = ANEMO_OK;
    for (int i = 0; i < launches && status == ANEMO_OK; i++) {
        const dim3 grid((unsigned)((p->n[i] + WARPS_PER_BLOCK - 1) / WARPS_PER_BLOCK),
                        (unsigned)a->m);
        status = gpu::launch(one_warp_per_result, grid, dim3(WARP, WARPS_PER_BLOCK), 0, exec, l, i);
    }
    return status;
}

} // namespace

extern "C" {
extern const anemo_variant anemo_qgemm_wxa32_warp_sm80;
const anemo_variant anemo_qgemm_wxa32_warp_sm80 = {
    .size = sizeof(anemo_variant),
    .name = "qgemm_wxa32_warp_sm80",
    .op = ANEMO_OP_QGEMM,
    .backend = ANEMO_CUDA,
    .needs = {.cpu_features = 0, .min_capability = 80, .exact_capability = 0},
    .layout = "rows",
    .act = nullptr,
    .traits = ANEMO_TRAIT_CAPTURABLE | ANEMO_TRAIT_ROW_INVARIANT,
    .m_from = 0,
    .idea = "one warp per result, any weight: obvious, slow",
    .accepts = accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
}
