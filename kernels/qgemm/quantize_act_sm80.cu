/* quantize_act on the GPU: one thread block per row and one warp per group at a time, or for
 * formats of one scale per row the whole block on it. Bit-exact by definition: magnitudes are
 * compared as integers (quantize_act_c.c), division and products are rounded once each, never
 * fused. */
#include "kernels/warp.cuh"

namespace {

constexpr int WARPS = 8, THREADS = WARP * WARPS;
constexpr uint32_t INFINITY_BITS = 0x7f800000u, NAN_BITS = 0x7fc00000u;

/* Is a group of this largest magnitude scaled, and by what? */
__device__ bool scale_of(uint32_t largest_bits, float *scale, float *inverse) {
    *inverse = __fdiv_rn(127.0f, __uint_as_float(largest_bits));
    const bool finite = largest_bits < INFINITY_BITS;
    const bool scaled = finite && __float_as_uint(*inverse) < INFINITY_BITS;
    *scale = scaled   ? __fdiv_rn(__uint_as_float(largest_bits), 127.0f)
             : finite ? 0.0f
                      : __uint_as_float(NAN_BITS);
    return scaled;
}

/* The row's largest magnitude and sum over the block, when the row is one group. */
struct row_state {
    uint32_t largest[WARPS];
    int sum[WARPS];
};

/* A record: codes[kp], scales[groups], sums[groups], padding to `bytes`. */
__global__ void __launch_bounds__(THREADS)
    a8_record(const float *x, int64_t k, int group, int64_t kp, int64_t groups, int64_t bytes,
              signed char *out) {
    __shared__ row_state state;
    const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
    const bool whole_row = group == 0;
    x += blockIdx.x * k;
    signed char *codes = out + blockIdx.x * bytes;
    auto *scales = reinterpret_cast<float *>(codes + kp);
    auto *sums = reinterpret_cast<int *>(scales + groups);
    const int64_t columns = whole_row ? kp : group;
    /* Lanes of a warp stride over their group, threads of the block over a row. */
    const int first = whole_row ? static_cast<int>(threadIdx.x) : lane;
    const int stride = whole_row ? THREADS : WARP;
    for (int64_t g = whole_row ? 0 : warp; g < groups; g += whole_row ? 1 : WARPS) {
        const int64_t begin = g * columns, end = begin + columns;
        uint32_t largest = 0;
        for (int64_t i = begin + first; i < end && i < k; i += stride) {
            largest = max(largest, __float_as_uint(x[i]) & 0x7fffffffu);
        }
        largest = warp_max(largest);
        if (whole_row) {
            state.largest[warp] = largest;
            __syncthreads();
            for (int w = 0; w < WARPS; w++) {
                largest = max(largest, state.largest[w]);
            }
        }
        float scale, inverse;
        const bool scaled = scale_of(largest, &scale, &inverse);
        int sum = 0;
        for (int64_t i = begin + first; i < end; i += stride) {
            const int code = scaled && i < k ? __float2int_rn(__fmul_rn(x[i], inverse)) : 0;
            codes[i] = static_cast<signed char>(code);
            sum += code;
        }
        sum = warp_sum(sum);
        if (whole_row) {
            state.sum[warp] = sum;
            __syncthreads();
            sum = 0;
            for (int w = 0; w < WARPS; w++) {
                sum += state.sum[w];
            }
        }
        if (first == 0) {
            scales[g] = scale;
            sums[g] = sum;
        }
    }
    for (int64_t i = kp + 8 * groups + threadIdx.x; i < bytes; i += THREADS) {
        codes[i] = 0;
    }
}

/* A record: bf16[k], zeros up to 64 bytes. A NaN keeps its upper bits and becomes quiet. */
__global__ void __launch_bounds__(THREADS)
    bf16_record(const float *x, int64_t k, int64_t padded_k, uint16_t *out) {
    x += blockIdx.x * k;
    out += blockIdx.x * padded_k;
    for (int64_t i = threadIdx.x; i < padded_k; i += THREADS) {
        const uint32_t bits = i < k ? __float_as_uint(x[i]) : 0;
        const bool nan = (bits & 0x7fffffffu) > INFINITY_BITS;
        out[i] = static_cast<uint16_t>(nan ? bits >> 16 | 0x40u
                                           : (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
    }
}

bool accepts(const void *problem, char *why, size_t why_bytes) {
    const auto *p = static_cast<const anemo_quantize_act_problem *>(problem);
    return (p->size >= sizeof *p && p->m_max >= 1 && p->k >= 1) ||
           anemo_refuse(why, why_bytes,
                        "quantize_act: short problem, or m_max %lld, k %lld; at least 1 each",
                        static_cast<long long>(p->m_max), static_cast<long long>(p->k));
}

size_t workspace_bytes(const void *, int32_t) {
    return 0;
}

template <int GROUP> /* columns per scale, 0: one per row */
anemo_status run_a8(const anemo_exec *exec, const void *problem, const void *args) {
    const auto *p = static_cast<const anemo_quantize_act_problem *>(problem);
    const auto *a = static_cast<const anemo_quantize_act_args *>(args);
    if (a->m == 0) {
        return ANEMO_OK;
    }
    return gpu::launch(a8_record, dim3(static_cast<unsigned>(a->m)), dim3(THREADS), 0, exec, a->x,
                       p->k, GROUP, anemo_a8_padded_k(p->k), anemo_a8_groups(GROUP, p->k),
                       static_cast<int64_t>(anemo_a8_bytes(GROUP, p->k)),
                       static_cast<signed char *>(a->out));
}

anemo_status run_bf16(const anemo_exec *exec, const void *problem, const void *args) {
    const auto *p = static_cast<const anemo_quantize_act_problem *>(problem);
    const auto *a = static_cast<const anemo_quantize_act_args *>(args);
    if (a->m == 0) {
        return ANEMO_OK;
    }
    return gpu::launch(bf16_record, dim3(static_cast<unsigned>(a->m)), dim3(THREADS), 0, exec, a->x,
                       p->k, anemo_round_up(p->k, 32), static_cast<uint16_t *>(a->out));
}

} // namespace

#define GPU_QUANTIZE_ACT(format, its_run)                                                          \
    extern "C" {                                                                                   \
    extern const anemo_variant anemo_quantize_act_##format##_sm80;                                 \
    const anemo_variant anemo_quantize_act_##format##_sm80 = {                                     \
        .size = sizeof(anemo_variant),                                                             \
        .name = "quantize_act_" #format "_sm80",                                                   \
        .op = ANEMO_OP_QUANTIZE_ACT,                                                               \
        .backend = ANEMO_CUDA,                                                                     \
        .needs = {.cpu_features = 0, .min_capability = 80, .exact_capability = 0},                 \
        .layout = nullptr,                                                                         \
        .act = #format,                                                                            \
        .traits = ANEMO_TRAIT_CAPTURABLE | ANEMO_TRAIT_ROW_INVARIANT,                              \
        .m_from = 0,                                                                               \
        .idea = "a thread block per row",                                                          \
        .accepts = accepts,                                                                        \
        .workspace_bytes = workspace_bytes,                                                        \
        .run = its_run,                                                                            \
    };                                                                                             \
    }
GPU_QUANTIZE_ACT(bf16, run_bf16)
GPU_QUANTIZE_ACT(a8_row, run_a8<0>)
GPU_QUANTIZE_ACT(a8_g32, run_a8<32>)
GPU_QUANTIZE_ACT(a8_g128, run_a8<128>)
