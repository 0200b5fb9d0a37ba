/* moe_experts through cuBLAS, for very many rows: an expert's matrix becomes bf16 in rows in the
 * workspace (qgemm/dequantised.cuh, from the one fragment layout), and cuBLAS multiplies it with
 * the expert's rows. It is what one writes first, the yardstick of the grouped kernels, and hard to
 * beat where an expert has a thousand rows. Two ideas share everything but the order:
 *
 * `cublas`   One after the other on the device's stream: gate, up, down of each piece of an
 *            expert's rows (pieces.h).
 *
 * `overlap`  While cuBLAS multiplies matrix i, matrix i + 1 is dequantised on the side stream
 *            (device_cuda.h) into the other of two buffers. Event `filled` of a buffer holds the
 *            product back, `emptied` the next filling. By matrices instead of by experts: two
 *            buffers of one matrix instead of two of three, and only the first filling, which has
 *            the whole GPU, is waited for. Between experts the pipeline does not run dry.
 *
 * Data. x is bf16 and gathered once per piece, so that cuBLAS gets a matrix. Gate's and up's
 * results are float, an extra kernel makes the inner row of both, bf16; down's go where `rows`
 * wants them, since sorted rows of an expert are neighbours. With bf16 weights there are no codes,
 * but the layout is of fragments all the same, and putting them in rows costs as much as writing
 * them does.
 *
 * Not CAPTURABLE. cuBLAS takes the number of rows by value, and it stands in plan.offset on the
 * device: `run` copies the offsets to pinned words and waits. A plan then launches such steps call
 * by call (models/engine/step_graph.c); a capture is refused here before it is spoilt. Not
 * ROW_INVARIANT: cuBLAS chooses its kernel by the number of rows. Repeatable: cuBLAS works on one
 * stream with a workspace of its own, for which NVIDIA promises the same bits again.
 *
 * Workspace at tokens_max 4096, Mixtral 8x7B (d 4096, ffn 14336), where a piece has up to 2048
 * rows: a matrix in bf16 117.4 MB, x 16.8 MB, gate and up 117.4 MB each, the inner rows 58.7 MB:
 * 428 MB for `cublas`, 545 MB with the second buffer. Without pieces all rows may be of one expert:
 * 738 MB.
 *
 * Estimate, H200 (no GPU has run it): 4096 tokens are 8192 rows, 1024 per expert, 2.9 Tflop: 3.65
 * ms at the 790 Tflop/s that cuBLAS reaches on large products. Per expert, gate is 4 x 112 tiles of
 * 256 x 128, 3.4 waves of 132 multiprocessors, so a sixth is lost to the last wave: 4.3 ms. 24
 * dequantisations move 33 + 117 MB each, about 40 us: 1.0 ms. The inner rows move 10 bytes per
 * element, 1.2 GB: 0.3 ms; gather and launches 0.1 ms. `cublas`: 5.7 ms. `overlap` hides up to 0.95
 * of them and pays for it: dequantising needs a quarter of the memory's bandwidth while it has a
 * product's 150 us, for which an eighth of the multiprocessors is set aside (below). Gate and up
 * keep their four waves then (3.9 instead of 3.4), down's 128 tiles were one wave and are two, or
 * smaller tiles. 4.8 to 5.3 ms. Which it is, is the experiment; the aim is 6.5. At 512 rows per
 * expert dequantising costs half of a product, about where a kernel that dequantises in registers
 * at 60 % of cuBLAS's rate is as quick: m_from, for Mixtral's quarter of the tokens per expert.
 *
 * Sharing the GPU. A Hopper product takes a multiprocessor whole (registers, shared memory), and a
 * dequantisation of thousands of small blocks would fill the GPU first and be done before the
 * product begins: one after the other again. So the side kernel has few, large blocks, one to a
 * multiprocessor, whose warps walk over the matrix; its stream has the higher priority, so that
 * they are placed as soon as a multiprocessor is free; and cuBLAS is told to reckon with the others
 * (cublasSetSmCountTarget, made for this).
 *
 * Rejected: cublasGemmGroupedBatchedEx (CUDA 12.5): one call for all experts, but sizes come from
 * the host there, too, all weights have to be dequantised before it begins (0.94 GB for gate alone,
 * and nothing left to overlap), and CUDA 12.0 lacks it; its place is many experts of few rows,
 * where a grouped kernel of our own reads the codes. Gate and up as one product of 2 ffn columns: a
 * buffer twice as large, for half a wave. Results of gate and up in bf16: 0.15 ms less, a rounding
 * more. Waiting only for a count per expert: the host waits for the router either way. */
#ifndef ANEMO_MOE_EXPERTS_CUBLAS_CUH
#define ANEMO_MOE_EXPERTS_CUBLAS_CUH

#include "kernels/moe/moe.h"
#include "kernels/moe/pieces.h"
#include "kernels/qgemm/dequantised.cuh"
#include "kernels/warp.cuh"

namespace gpu::by_cublas {

constexpr int THREADS = 256;
constexpr int WHOLE_WARPS = 8; /* of a block that dequantises with the whole GPU */
constexpr int SIDE_WARPS = 24; /* of one beside a product: with their registers, a multiprocessor */
constexpr int SIDE_SHARE = 8;  /* one of so many multiprocessors is set aside for it */
constexpr int WHOLE_BLOCKS = 132 * 16; /* enough for any GPU, and an even share for each warp */

/* ---------------------------------------------------------------- kernels */

/* Matrix of one expert into rows[n, k_padded]; warps walk over steps of 64 columns, two at a time,
 * so that loads of both are under way together. */
template <int BITS, int WARPS>
__global__ void __launch_bounds__(WARP *WARPS)
    dequantise_expert(const __grid_constant__ anemo_fragment_shape s, const void *const *packed,
                      int expert, uint16_t *rows) {
    const auto *weight = static_cast<const unsigned char *>(packed[expert]);
    const int steps = (int)(s.k_padded / ANEMO_FRAGMENT_K_STEP), all = (int)s.blocks * steps;
    const int warps = (int)gridDim.x * WARPS; /* sides of up to 65536: 2^22 steps */
    for (int i = (int)blockIdx.x * WARPS + threadIdx.x / WARP; i < all; i += 2 * warps) {
        const int at[2] = {i, i + warps};
        dequantised_step<BITS> d[2] = {};
#pragma unroll
        for (int j = 0; j < 2; j++) {
            if (at[j] < all) {
                d[j].load(s, weight + at[j] / steps * (int64_t)s.block_bytes, at[j] % steps);
            }
        }
#pragma unroll
        for (int j = 0; j < 2; j++) {
            if (at[j] < all) {
                d[j].store(s, at[j] / steps, at[j] % steps, rows);
            }
        }
    }
}

/* Records of the tokens of sorted rows [row_begin, row_begin + rows), one behind the other; `words`
 * of 16 bytes in a record. */
static __global__ void __launch_bounds__(THREADS)
    gather_records(const uint4 *x, const int32_t *row_token, int row_begin, int64_t rows,
                   int64_t words, uint4 *to) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < rows * words) {
        to[i] = x[row_token[row_begin + i / words] * words + i % words];
    }
}

/* gate and up: float[rows, stride]; to: bf16[rows, to_stride]; eight columns per thread, and zeros
 * behind the last. */
struct inner_rows {
    const float *gate, *up, *gate_bias, *up_bias; /* biases of the expert, or NULL */
    int64_t rows, ffn, stride, to_stride;
    int activation;
    uint16_t *to;
};

__device__ inline void load_eight(const float *at, float (&out)[8]) {
    const float4 low = reinterpret_cast<const float4 *>(at)[0];
    const float4 high = reinterpret_cast<const float4 *>(at)[1];
    const float all[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
    for (int i = 0; i < 8; i++) {
        out[i] = all[i];
    }
}

/* Of what stands behind the last column nothing is used. */
__device__ inline float inner_value(const inner_rows &h, int64_t column, float g, float u) {
    if (column >= h.ffn) {
        return 0.0f;
    }
    return activate(h.activation, h.gate_bias != nullptr ? g + h.gate_bias[column] : g,
                    h.up_bias != nullptr ? u + h.up_bias[column] : u);
}

static __global__ void __launch_bounds__(THREADS)
    activate_rows(const __grid_constant__ inner_rows h) {
    const int64_t eights = h.to_stride / 8;
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    const int64_t row = i / eights, column = i % eights * 8;
    if (row >= h.rows) {
        return;
    }
    float g[8], u[8];
    load_eight(h.gate + row * h.stride + column, g);
    load_eight(h.up + row * h.stride + column, u);
    uint32_t pair[4];
#pragma unroll
    for (int j = 0; j < 4; j++) {
        pair[j] = pack_bf16x2(inner_value(h, column + 2 * j, g[2 * j], u[2 * j]),
                              inner_value(h, column + 2 * j + 1, g[2 * j + 1], u[2 * j + 1]));
    }
    *reinterpret_cast<uint4 *>(h.to + row * h.to_stride + column) =
        make_uint4(pair[0], pair[1], pair[2], pair[3]);
}

static __global__ void __launch_bounds__(THREADS)
    add_bias(float *rows, const float *bias, int64_t n, int64_t d) {
    const int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i < n * d) {
        rows[i] += bias[i % d];
    }
}

/* ---------------------------------------------------------------- the host's side */

struct room_places {
    int64_t x_words, hidden_stride; /* of a record in 16 bytes; of an inner row */
    size_t weights_bytes, x_at, gate_at, up_at, hidden_at, bytes; /* weights: from 0, per buffer */
};

inline room_places room_of(const anemo_moe_experts_problem *p, int buffers) {
    const int64_t rows = min_i64(p->tokens_max, MOE_PIECE_ROWS); /* an expert has a token once */
    const int64_t d_padded = anemo_fragment_up(p->d, ANEMO_FRAGMENT_K_STEP);
    room_places r = {};
    r.x_words = anemo_fragment_up(2 * p->d, 64) / 16;
    r.hidden_stride = anemo_fragment_up(p->ffn, ANEMO_FRAGMENT_K_STEP);
    r.weights_bytes =
        (size_t)anemo_fragment_up(2 * max_i64(p->ffn * d_padded, p->d * r.hidden_stride), 256);
    r.x_at = (size_t)buffers * r.weights_bytes;
    r.gate_at = r.x_at + (size_t)anemo_fragment_up(16 * rows * r.x_words, 256);
    const size_t results = (size_t)anemo_fragment_up(4 * rows * r.hidden_stride, 256);
    r.up_at = r.gate_at + results;
    r.hidden_at = r.up_at + results;
    r.bytes = r.hidden_at + (size_t)anemo_fragment_up(2 * rows * r.hidden_stride, 256);
    return r;
}

struct expert_matrix {
    anemo_fragment_shape shape;
    const void *const *packed; /* [n_experts], memory of the device */
    const float *bias;         /* [n_experts, n] or NULL */
};

inline expert_matrix matrix_of(const anemo_weight_type *type, int64_t n, int64_t k,
                               const void *const *packed, const float *bias) {
    return {anemo_fragment_shape_of(type, n, k), packed, bias};
}

struct job {
    const anemo_exec *exec;
    const anemo_cuda_libraries *libraries;
    const anemo_moe_experts_problem *p;
    const anemo_moe_experts_args *a;
    expert_matrix matrix[3]; /* by MOE_GATE .. MOE_DOWN */
    room_places room;

    template <class T> T *at(size_t offset) const {
        return reinterpret_cast<T *>(static_cast<unsigned char *>(exec->workspace) + offset);
    }
    uint16_t *weights(int buffer) const {
        return at<uint16_t>((size_t)buffer * room.weights_bytes);
    }
    const float *bias_of(const moe_product &m) const {
        const expert_matrix &x = matrix[m.matrix];
        return x.bias != nullptr ? x.bias + m.expert * x.shape.n : nullptr;
    }
};

inline unsigned blocks_of(int64_t threads) {
    return (unsigned)anemo_up_div(threads, THREADS);
}

inline anemo_status checked(cudaError_t code) {
    return code == cudaSuccess ? ANEMO_OK : ANEMO_E_DEVICE;
}

inline int side_blocks(const anemo_cuda_libraries *l) {
    return (int)max_i64(1, l->multiprocessors / SIDE_SHARE);
}

/* The matrix of a product into a buffer, on the device's stream with the whole GPU. */
template <int BITS> anemo_status fill_buffer(const job &j, const moe_product &m, int buffer) {
    const expert_matrix &x = j.matrix[m.matrix];
    const int64_t steps = x.shape.blocks * (x.shape.k_padded / ANEMO_FRAGMENT_K_STEP);
    const int64_t blocks = min_i64(WHOLE_BLOCKS, anemo_up_div(steps, 2 * WHOLE_WARPS));
    return launch(dequantise_expert<BITS, WHOLE_WARPS>, (unsigned)blocks, WARP * WHOLE_WARPS, 0,
                  j.exec, x.shape, x.packed, m.expert, j.weights(buffer));
}

/* The same beside a product, on the side stream. */
template <int BITS>
anemo_status fill_buffer_beside(const job &j, const moe_product &m, int buffer) {
    const expert_matrix &x = j.matrix[m.matrix];
    anemo_exec beside = *j.exec;
    beside.stream = j.libraries->side;
    const anemo_status status =
        launch(dequantise_expert<BITS, SIDE_WARPS>, (unsigned)side_blocks(j.libraries),
               WARP * SIDE_WARPS, 0, &beside, x.shape, x.packed, m.expert, j.weights(buffer));
    return status == ANEMO_OK
               ? checked(cudaEventRecord(j.libraries->filled[buffer], j.libraries->side))
               : status;
}

/* What a product multiplies its weights with: the gathered records for gate (up finds them), the
 * inner rows for down. */
inline anemo_status prepare_input(const job &j, const moe_product &m) {
    if (m.matrix == MOE_GATE) {
        return launch(gather_records, blocks_of(m.rows * j.room.x_words), THREADS, 0, j.exec,
                      static_cast<const uint4 *>(j.a->x), j.a->plan.row_token, m.row_begin,
                      (int64_t)m.rows, j.room.x_words, j.at<uint4>(j.room.x_at));
    }
    if (m.matrix == MOE_UP) {
        return ANEMO_OK;
    }
    moe_product gate = m, up = m;
    gate.matrix = MOE_GATE;
    up.matrix = MOE_UP;
    const inner_rows h = {j.at<float>(j.room.gate_at),
                          j.at<float>(j.room.up_at),
                          j.bias_of(gate),
                          j.bias_of(up),
                          m.rows,
                          j.p->ffn,
                          j.room.hidden_stride,
                          j.room.hidden_stride,
                          j.p->activation,
                          j.at<uint16_t>(j.room.hidden_at)};
    return launch(activate_rows, blocks_of(m.rows * (j.room.hidden_stride / 8)), THREADS, 0, j.exec,
                  h);
}

inline anemo_status multiply_buffer(const job &j, const moe_product &m, int buffer) {
    const anemo_fragment_shape &s = j.matrix[m.matrix].shape;
    const bool down = m.matrix == MOE_DOWN;
    float *const y = down                   ? j.a->rows + m.row_begin * j.p->d
                     : m.matrix == MOE_GATE ? j.at<float>(j.room.gate_at)
                                            : j.at<float>(j.room.up_at);
    const anemo_status status = cublas_product(
        j.libraries, j.weights(buffer), s, j.at<uint16_t>(down ? j.room.hidden_at : j.room.x_at),
        down ? j.room.hidden_stride : 8 * j.room.x_words, m.rows, y,
        down ? j.p->d : j.room.hidden_stride, 0.0f);
    const float *bias = j.bias_of(m);
    return status != ANEMO_OK || !down || bias == nullptr
               ? status
               : launch(add_bias, blocks_of(m.rows * j.p->d), THREADS, 0, j.exec, y, bias,
                        (int64_t)m.rows, j.p->d);
}

/* ---------------------------------------------------------------- the two orders */

template <int BITS> anemo_status multiply_in_turn(const job &j, const int32_t *offset) {
    anemo_status status = ANEMO_OK;
    for (moe_product m = moe_products_of(j.p->expert_begin);
         status == ANEMO_OK && moe_product_next(offset, j.p->expert_end, &m);) {
        status = fill_buffer<BITS>(j, m, 0);
        if (status == ANEMO_OK) {
            status = prepare_input(j, m);
        }
        if (status == ANEMO_OK) {
            status = multiply_buffer(j, m, 0);
        }
    }
    return status;
}

/* Product i once its buffer is full; then the buffer is emptied. */
inline anemo_status multiply_filled(const job &j, const moe_product &m, int64_t i) {
    const int buffer = (int)(i % 2);
    const auto stream = static_cast<cudaStream_t>(j.exec->stream);
    anemo_status status = prepare_input(j, m);
    if (status == ANEMO_OK && i > 0) {
        status = checked(cudaStreamWaitEvent(stream, j.libraries->filled[buffer], 0));
    }
    if (status == ANEMO_OK) {
        status = multiply_buffer(j, m, buffer);
    }
    return status == ANEMO_OK ? checked(cudaEventRecord(j.libraries->emptied[buffer], stream))
                              : status;
}

/* The first two buffers are the caller's: the host has waited for its stream, and whoever used the
 * side stream before has waited for that. The last product waits for the last filling, so that
 * nothing is left on the side stream. */
template <int BITS> anemo_status multiply_overlapped(const job &j, const int32_t *offset) {
    moe_product m = moe_products_of(j.p->expert_begin), ahead = m;
    bool more = moe_product_next(offset, j.p->expert_end, &ahead);
    if (!more) {
        return ANEMO_OK;
    }
    anemo_status status = fill_buffer<BITS>(j, ahead, 0);
    if (status == ANEMO_OK && moe_product_next(offset, j.p->expert_end, &ahead)) { /* gate, up */
        status = fill_buffer_beside<BITS>(j, ahead, 1);
    }
    for (int64_t i = 0; status == ANEMO_OK && moe_product_next(offset, j.p->expert_end, &m); i++) {
        status = multiply_filled(j, m, i);
        more = more && moe_product_next(offset, j.p->expert_end, &ahead);
        if (status == ANEMO_OK && more) {
            const int buffer = (int)(i % 2);
            status =
                checked(cudaStreamWaitEvent(j.libraries->side, j.libraries->emptied[buffer], 0));
            if (status == ANEMO_OK) {
                status = fill_buffer_beside<BITS>(j, ahead, buffer);
            }
        }
    }
    return status;
}

/* cuBLAS with what the side kernel leaves; its whole GPU again afterwards. After a failure nobody
 * waits for the side stream's work but the host. */
template <int BITS> anemo_status multiply_beside(const job &j, const int32_t *offset) {
    const anemo_cuda_libraries *l = j.libraries;
    const int rest = (int)max_i64(1, l->multiprocessors - side_blocks(l));
    anemo_status status = cublasSetSmCountTarget(l->cublas, rest) == CUBLAS_STATUS_SUCCESS
                              ? multiply_overlapped<BITS>(j, offset)
                              : ANEMO_E_DEVICE;
    if (status != ANEMO_OK) {
        cudaStreamSynchronize(l->side);
    }
    return cublasSetSmCountTarget(l->cublas, 0) == CUBLAS_STATUS_SUCCESS ? status : ANEMO_E_DEVICE;
}

/* ---------------------------------------------------------------- the variant */

inline bool accepts(const void *problem, char *why, size_t why_bytes) {
    const auto *p = static_cast<const anemo_moe_experts_problem *>(problem);
    if (!anemo_moe_experts_accepts(problem, why, why_bytes)) {
        return false;
    }
    if (p->n_experts >= ANEMO_CUDA_HOST_WORDS) {
        return anemo_refuse(why, why_bytes,
                            "n_experts %d; up to %d are accepted: their offsets go "
                            "to a pinned page of the host",
                            p->n_experts, ANEMO_CUDA_HOST_WORDS - 1);
    }
    return true;
}

template <int BUFFERS> size_t workspace_bytes(const void *problem, int32_t) {
    return room_of(static_cast<const anemo_moe_experts_problem *>(problem), BUFFERS).bytes;
}

/* Offsets of the plan, waited for. A wait would spoil a capture, so it is refused before. */
inline anemo_status fetch_offsets(const anemo_exec *exec, const anemo_moe_experts_problem *p,
                                  const anemo_moe_experts_args *a) {
    const auto *l = static_cast<const anemo_cuda_libraries *>(exec->libraries);
    const auto stream = static_cast<cudaStream_t>(exec->stream);
    cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
    if (cudaStreamIsCapturing(stream, &capture) != cudaSuccess) {
        return ANEMO_E_DEVICE;
    }
    if (capture != cudaStreamCaptureStatusNone) {
        return ANEMO_E_UNSUPPORTED;
    }
    const size_t bytes = ((size_t)p->n_experts + 1) * sizeof(int32_t);
    const anemo_status status = checked(
        cudaMemcpyAsync(l->host_words, a->plan.offset, bytes, cudaMemcpyDeviceToHost, stream));
    return status == ANEMO_OK ? checked(cudaStreamSynchronize(stream)) : status;
}

template <int BITS, int BUFFERS>
anemo_status run(const anemo_exec *exec, const void *problem, const void *arguments) {
    const auto *p = static_cast<const anemo_moe_experts_problem *>(problem);
    const auto *a = static_cast<const anemo_moe_experts_args *>(arguments);
    if (a->tokens < 0 || a->tokens > p->tokens_max) {
        return ANEMO_E_INPUT;
    }
    if (exec->workspace_bytes < workspace_bytes<BUFFERS>(problem, 1)) {
        return ANEMO_E_MEMORY;
    }
    if (a->tokens == 0) {
        return ANEMO_OK;
    }
    const anemo_status status = fetch_offsets(exec, p, a);
    if (status != ANEMO_OK) {
        return status;
    }
    const auto *l = static_cast<const anemo_cuda_libraries *>(exec->libraries);
    const float *const gate_bias = (p->has_bias & 1) != 0 ? a->gate_bias : nullptr;
    const float *const up_bias = (p->has_bias & 2) != 0 ? a->up_bias : nullptr;
    const float *const down_bias = (p->has_bias & 4) != 0 ? a->down_bias : nullptr;
    const job j = {exec,
                   l,
                   p,
                   a,
                   {matrix_of(&p->gate, p->ffn, p->d, a->gate, gate_bias),
                    matrix_of(&p->up, p->ffn, p->d, a->up, up_bias),
                    matrix_of(&p->down, p->d, p->ffn, a->down, down_bias)},
                   room_of(p, BUFFERS)};
    if constexpr (BUFFERS == 1) {
        return multiply_in_turn<BITS>(j, l->host_words);
    } else {
        return multiply_beside<BITS>(j, l->host_words);
    }
}

} // namespace gpu::by_cublas

/* All three matrices are of one layout: the registry has asked it about each. */
#define GPU_EXPERTS_CUBLAS_VARIANT(id, its_layout, bits, buffers, least_tokens, what)              \
    extern "C" {                                                                                   \
    extern const anemo_variant anemo_##id;                                                         \
    const anemo_variant anemo_##id = {                                                             \
        .size = sizeof(anemo_variant),                                                             \
        .name = #id,                                                                               \
        .op = ANEMO_OP_MOE_EXPERTS,                                                                \
        .backend = ANEMO_CUDA,                                                                     \
        .needs = {.cpu_features = 0, .min_capability = 80, .exact_capability = 0},                 \
        .layout = its_layout,                                                                      \
        .act = "bf16",                                                                             \
        .m_from = least_tokens,                                                                    \
        .idea = what,                                                                              \
        .accepts = gpu::by_cublas::accepts,                                                        \
        .workspace_bytes = gpu::by_cublas::workspace_bytes<buffers>,                               \
        .run = gpu::by_cublas::run<bits, buffers>,                                                 \
    };                                                                                             \
    }

#endif
