/* qgemm, very many rows, on the integer matrix unit by way of cuBLASLt: int8 x int8 -> int32.
 *
 * Three steps per part: unpack the weight's fragments to rows of int8 in the workspace; the product
 * by cublasLtMatmul; a kernel that makes results of the sums (int8.cuh), then bias and epilogue.
 * cublasGemmEx takes the same types, but chooses out of sight: Lt says what it has for a problem
 * before anything runs.
 *
 * The library's demands on int8 with plain column order (cuBLAS manual, cublasLtMatmul, "to use
 * IMMA kernels"): "TN", that is A transposed and B not; m, k and leading dimensions multiples of 4;
 * pointers of 4 bytes, better of 16; int32 sums with int32 scalars that are 0 or 1. In its columns
 *
 *     S^T[n, m] = W[k, n]^T X[k, m]
 *
 * so W's rows and X's records are the columns of A and B as they lie, TN by nature. n is padded to
 * 16 and k to 64 as in the layout: no shape is refused. X is read in place: a record's codes come
 * first, its bytes are an odd number of 64-byte lines, which is the leading dimension, and what it
 * has behind k are zeros up to a multiple of 128. Codes of W are stored unsigned; with the upper
 * bit turned over they are c - 128, and 128 A is added to the sums again.
 *
 * The library does not promise products with 16 tokens and fewer: PyTorch's _int_mm refuses them
 * for that reason (its pull request 178469 pads to 32). Below 32 tokens records are copied to the
 * workspace, zeros behind them. Such calls come only by --with, or from a test.
 *
 * Choosing an algorithm is work of the host, "tens of microseconds" by the manual, for each call
 * that the library has not seen: it keeps a cache of what it chose. Descriptions live on the stack
 * (the _Init forms), so nothing allocates, nothing waits, and a captured graph replays without any
 * of it. Sums of integers are exact in any order and in any split of k, so a row's result does not
 * depend on the algorithm.
 *
 * What limits it: beside the product 3 bytes per weight (fragment read, row written, row read; 5
 * with rows of bf16) and 8 bytes per sum, written and read. For k = 4096 on an H100, 8192
 * operations take 4 ps of its 1979 Tera per second, and 8 bytes 2.4 ps of 3.35 TB/s: what the
 * library cannot end itself costs more than half as much again as its product.
 *
 * Rejected: tokens in slabs whose sums stay in the second-level cache (16 MiB of sums for n = 14336
 * are 290 tokens: 33 MB of traffic spared, 58 MB of weights read once more); sums in y itself (not
 * for ADD, and not unless n and y_stride are multiples of 4); int8 results with scales applied by
 * the library (a rounding to 8 bits that nobody asked for); the orders COL32 and COL4_4R2_8C, which
 * Hopper does not have; a product of unsigned weights, which the library does not have. */
#include "kernels/device_cuda.h"
#include "kernels/qgemm/int8.cuh"

namespace {

using gpu::qgemm_call;
using gpu::WARP;

constexpr int UNPACK_WARPS = 8, END_THREADS = 256, END_TOKENS = 8;
constexpr int64_t LEAST_TOKENS = 32;

/* ---------------------------------------------------------------- kernels */

/* rows[16 blocks][k_padded] of c - 128. Grid: x over blocks of 16 rows, y over groups of 8 steps; a
 * warp per step. Four lanes write 32 neighbouring bytes of a row. */
__global__ void __launch_bounds__(WARP *UNPACK_WARPS)
    unpack(const __grid_constant__ qgemm_call c, int part, unsigned char *rows) {
    const anemo_fragment_shape &s = c.shape[part];
    const int lane = threadIdx.x % WARP, g = lane / 4, t = lane % 4;
    const int64_t step = (int64_t)blockIdx.y * UNPACK_WARPS + threadIdx.x / WARP;
    const unsigned char *block = c.weight[part] + blockIdx.x * (int64_t)s.block_bytes;
    if (step * ANEMO_FRAGMENT_K_STEP >= s.k_padded) {
        return;
    }
#pragma unroll
    for (int i = 0; i < 2; i++) { /* chunks of a step: a unit of 8-bit codes each */
        const int64_t chunk = step * 2 + i;
        const uint4 unit = gpu::load_stream(block + chunk * ANEMO_FRAGMENT_UNIT_BYTES +
                                            lane * ANEMO_FRAGMENT_LANE_BYTES);
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const int64_t row = blockIdx.x * (int64_t)ANEMO_FRAGMENT_ROWS + g + 8 * half;
            *reinterpret_cast<uint2 *>(rows + row * s.k_padded + chunk * ANEMO_FRAGMENT_CHUNK +
                                       8 * t) =
                make_uint2(anemo_fragment_four8(unit.x, unit.y, half) ^ 0x80808080u,
                           anemo_fragment_four8(unit.z, unit.w, half) ^ 0x80808080u);
        }
    }
}

/* The codes of m < LEAST_TOKENS records, and zeros for the tokens behind them. A block per token.
 */
__global__ void __launch_bounds__(END_THREADS)
    pad_tokens(const __grid_constant__ qgemm_call c, int64_t k, unsigned char *out) {
    const int64_t token = blockIdx.x;
    for (int64_t i = 16 * (int64_t)threadIdx.x; i < k; i += 16 * END_THREADS) {
        *reinterpret_cast<uint4 *>(out + token * k + i) =
            token < c.m ? *reinterpret_cast<const uint4 *>(c.x + token * c.x_row_bytes + i)
                        : make_uint4(0, 0, 0, 0);
    }
}

/* Results of sums[tokens][stride]; `up` only with ACT_MUL. Grid: x over groups of tokens, y over
 * columns. */
__global__ void __launch_bounds__(END_THREADS)
    end_of_sums(const __grid_constant__ qgemm_call c, int part, const int *sums, const int *up,
                int64_t stride) {
    const int64_t column = (int64_t)blockIdx.y * END_THREADS + threadIdx.x;
    const bool act_mul = c.problem.epilogue == ANEMO_EPI_ACT_MUL;
    if (column >= c.problem.n[part]) {
        return;
    }
    const gpu::int8_row row = gpu::int8_row_of(c.shape[part], c.weight[part], column);
    gpu::int8_row up_row = {};
    if (act_mul) {
        up_row = gpu::int8_row_of(c.shape[1], c.weight[1], column);
    }
    for (int i = 0; i < END_TOKENS; i++) {
        const int64_t token = (int64_t)blockIdx.x * END_TOKENS + i, at = token * stride + column;
        if (token >= c.m) {
            break;
        }
        const gpu::int8_token x = gpu::int8_token_of(c, token);
        const float result = gpu::int8_result(row, x, sums[at] + 128 * x.sum);
        gpu::finish(c, part, token, column, result,
                    act_mul ? gpu::int8_result(up_row, x, up[at] + 128 * x.sum) : 0.0f);
    }
}

/* ---------------------------------------------------------------- the product */

struct product {
    int64_t n, k, tokens;
    const unsigned char *rows, *x;
    int64_t x_stride; /* bytes */
    int *sums;        /* [tokens][n] */
};

bool good(cublasStatus_t status) {
    return status == CUBLAS_STATUS_SUCCESS;
}

anemo_status multiply(const anemo_exec *exec, const product &p) {
    const auto *libraries = static_cast<const anemo_cuda_libraries *>(exec->libraries);
    cublasLtMatmulDescOpaque_t what;
    cublasLtMatrixLayoutOpaque_t w, x, sums;
    cublasLtMatmulPreferenceOpaque_t wish;
    cublasLtMatmulHeuristicResult_t found = {};
    const cublasOperation_t transposed = CUBLAS_OP_T;
    const uint32_t x_alignment = 16; /* the others are the workspace's: 256, as is assumed */
    const int32_t one = 1, zero = 0;
    int n_found = 0;
    const bool chosen =
        good(cublasLtMatmulDescInit(&what, CUBLAS_COMPUTE_32I, CUDA_R_32I)) &&
        good(cublasLtMatmulDescSetAttribute(&what, CUBLASLT_MATMUL_DESC_TRANSA, &transposed,
                                            sizeof transposed)) &&
        good(cublasLtMatrixLayoutInit(&w, CUDA_R_8I, p.k, p.n, p.k)) &&
        good(cublasLtMatrixLayoutInit(&x, CUDA_R_8I, p.k, p.tokens, p.x_stride)) &&
        good(cublasLtMatrixLayoutInit(&sums, CUDA_R_32I, p.n, p.tokens, p.n)) &&
        good(cublasLtMatmulPreferenceInit(&wish)) &&
        good(cublasLtMatmulPreferenceSetAttribute(&wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
                                                  &libraries->workspace_bytes,
                                                  sizeof libraries->workspace_bytes)) &&
        good(cublasLtMatmulPreferenceSetAttribute(&wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
                                                  &x_alignment, sizeof x_alignment)) &&
        good(cublasLtMatmulAlgoGetHeuristic(libraries->cublaslt, &what, &w, &x, &sums, &sums, &wish,
                                            1, &found, &n_found)) &&
        n_found == 1 && good(found.state);
    return chosen && good(cublasLtMatmul(libraries->cublaslt, &what, &one, p.rows, &w, p.x, &x,
                                         &zero, p.sums, &sums, p.sums, &sums, &found.algo,
                                         libraries->workspace, libraries->workspace_bytes,
                                         static_cast<cudaStream_t>(exec->stream)))
               ? ANEMO_OK
               : ANEMO_E_DEVICE;
}

/* ---------------------------------------------------------------- the variant */

struct room {
    size_t rows_bytes, x_bytes, sums_bytes, bytes; /* sums_bytes: of one part, the widest */
    int64_t k, n;                                  /* padded; n: the widest part's */
};

room room_of(const anemo_qgemm_problem *p) {
    room r = {};
    for (int i = 0; i < p->n_parts; i++) {
        const int64_t n = anemo_fragment_up(p->n[i], ANEMO_FRAGMENT_ROWS);
        r.n = n > r.n ? n : r.n;
    }
    const int64_t tokens = p->m_max > LEAST_TOKENS ? p->m_max : LEAST_TOKENS;
    r.k = anemo_fragment_up(p->k, ANEMO_FRAGMENT_K_STEP);
    r.rows_bytes = (size_t)anemo_fragment_up(r.n * r.k, 256);
    r.x_bytes = (size_t)(LEAST_TOKENS * r.k); /* k is a multiple of 64 */
    r.sums_bytes = (size_t)anemo_fragment_up(4 * tokens * r.n, 256);
    r.bytes = r.rows_bytes + r.x_bytes + r.sums_bytes * (p->epilogue == ANEMO_EPI_ACT_MUL ? 2 : 1);
    return r;
}

size_t workspace_bytes(const void *problem, int32_t) {
    return room_of(static_cast<const anemo_qgemm_problem *>(problem)).bytes;
}

/* Sums of one part. */
anemo_status sum_part(const anemo_exec *exec, const qgemm_call &c, int part, product p) {
    const anemo_fragment_shape &s = c.shape[part];
    auto *rows = static_cast<unsigned char *>(exec->workspace);
    const unsigned steps = (unsigned)anemo_up_div(s.k_padded / ANEMO_FRAGMENT_K_STEP, UNPACK_WARPS);
    const anemo_status status = gpu::launch(unpack, dim3((unsigned)s.blocks, steps),
                                            dim3(WARP * UNPACK_WARPS), 0, exec, c, part, rows);
    p.rows = rows;
    p.n = s.blocks * ANEMO_FRAGMENT_ROWS;
    return status == ANEMO_OK ? multiply(exec, p) : status;
}

anemo_status run(const anemo_exec *exec, const void *problem, const void *args) {
    const auto *p = static_cast<const anemo_qgemm_problem *>(problem);
    const auto *a = static_cast<const anemo_qgemm_args *>(args);
    const room r = room_of(p);
    const qgemm_call c = gpu::qgemm_call_of(p, a, anemo_a8_bytes(0, p->k));
    const bool act_mul = p->epilogue == ANEMO_EPI_ACT_MUL, few = a->m < LEAST_TOKENS;
    if (a->m == 0) {
        return ANEMO_OK;
    }
    if (exec->workspace_bytes < r.bytes) {
        return ANEMO_E_MEMORY;
    }
    unsigned char *x = static_cast<unsigned char *>(exec->workspace) + r.rows_bytes;
    int *const sums = reinterpret_cast<int *>(x + r.x_bytes);
    int *const up = sums + r.sums_bytes / sizeof *sums;
    product part = {.n = 0,
                    .k = r.k,
                    .tokens = few ? LEAST_TOKENS : a->m,
                    .rows = nullptr,
                    .x = few ? x : c.x,
                    .x_stride = few ? r.k : c.x_row_bytes,
                    .sums = sums};
    anemo_status status = few ? gpu::launch(pad_tokens, dim3((unsigned)LEAST_TOKENS),
                                            dim3(END_THREADS), 0, exec, c, r.k, x)
                              : ANEMO_OK;
    for (int i = 0; i < p->n_parts && status == ANEMO_OK; i++) {
        part.sums = act_mul && i == 1 ? up : sums;
        status = sum_part(exec, c, i, part);
        if (status == ANEMO_OK && (!act_mul || i == 1)) {
            const dim3 grid((unsigned)anemo_up_div(a->m, END_TOKENS),
                            (unsigned)anemo_up_div(p->n[i], END_THREADS));
            status = gpu::launch(end_of_sums, grid, dim3(END_THREADS), 0, exec, c, act_mul ? 0 : i,
                                 static_cast<const int *>(sums), static_cast<const int *>(up),
                                 c.shape[i].blocks * ANEMO_FRAGMENT_ROWS);
        }
    }
    return status;
}

} // namespace

GPU_INT8_VARIANT(qgemm_w8a8row_cublaslt_sm80, 1024,
                 "unpack to int8 rows, cuBLASLt's integer product, scales behind it",
                 workspace_bytes, run)
