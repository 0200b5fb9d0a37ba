/* How fast can this GPU read its memory? Every lane loads 16 bytes, a warp's loads are neighbours,
 * and a grid that fills the GPU once strides over the buffer, which is many times L2. The words are
 * added up, so that no load can be left out and the harness sees that each was made.
 *
 * By Little's law the memory is busy only while enough bytes are under way (latency times
 * bandwidth: on an H100 some 600 ns times 3.3 TB/s, 15 KB for each multiprocessor), so the forms
 * differ in how they keep them under way, and the best counts:
 *
 *   lanes    4 loads of each thread before the first is used, 2048 threads per multiprocessor
 *   stream   8 loads past L1, 1024 threads
 *   async    a ring of 8 copies per thread into shared memory (cp.async), which holds no registers
 *            while it waits; a thread reads its own slots only, so there is no barrier
 *
 * Rejected: writing what was read (a copy): a write costs more than a read, and inference reads. */
#include "kernels/probe/probe.cuh"

namespace {

using probe::THREADS;

__device__ inline uint64_t words_of(const uint4 &v) {
    return ((uint64_t)v.y << 32 | v.x) + ((uint64_t)v.w << 32 | v.z);
}

__device__ inline void store_sum(uint64_t sum, uint64_t *result) {
    __shared__ uint64_t room[THREADS / WARP];
    sum = block_sum<THREADS>(sum, room);
    if (threadIdx.x == 0) {
        result[blockIdx.x] = sum;
    }
}

/* Blocks that a multiprocessor of this target holds. */
#if defined __CUDA_ARCH__ && (__CUDA_ARCH__ == 860 || __CUDA_ARCH__ == 890)
constexpr int HOLDS = 1536 / THREADS;
#else
constexpr int HOLDS = 2048 / THREADS;
#endif

/* BLOCKS of them on a multiprocessor: told, or the compiler saves registers and has four of eight
 * loads under way. */
template <int LOADS, bool STREAM, int BLOCKS>
__global__ void __launch_bounds__(THREADS, BLOCKS < HOLDS ? BLOCKS : HOLDS)
    read_words(const uint4 *data, int64_t n, uint64_t *result) {
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    uint64_t sum = 0;
    for (; i + (LOADS - 1) * stride < n; i += LOADS * stride) {
        uint4 v[LOADS];
#pragma unroll
        for (int l = 0; l < LOADS; l++) {
            v[l] = STREAM ? gpu::load_stream(data + i + l * stride) : data[i + l * stride];
        }
#pragma unroll
        for (int l = 0; l < LOADS; l++) {
            sum += words_of(v[l]);
        }
    }
    for (; i < n; i += stride) {
        sum += words_of(data[i]);
    }
    store_sum(sum, result);
}

constexpr int RING = 8;

__global__ void __launch_bounds__(THREADS)
    read_async(const uint4 *data, int64_t n, uint64_t *result) {
    GPU_SHARED(uint4, ring); /* [RING][THREADS] */
    const int64_t stride = (int64_t)gridDim.x * THREADS;
    const int64_t first = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    const int64_t mine = first < n ? (n - first + stride - 1) / stride : 0;
    uint4 *own = ring + threadIdx.x;
    uint64_t sum = 0;
    for (int64_t i = 0; i < mine + RING - 1; i++) {
        if (i < mine) {
            gpu::copy_async(own + i % RING * THREADS, data + first + i * stride);
        }
        gpu::commit_copies(); /* of nothing at the end, so that the count goes on */
        if (i >= RING - 1) {
            gpu::wait_copies<RING - 1>();
            sum += words_of(own[(i - (RING - 1)) % RING * THREADS]);
        }
    }
    store_sum(sum, result);
}

int64_t units(const anemo_exercise_args *args) {
    return (int64_t)(args->bytes / sizeof(uint4));
}

/* BLOCKS of them on a multiprocessor: told, or the compiler saves registers and has four of eight
 * loads under way. */
template <int LOADS, bool STREAM, int BLOCKS>
anemo_status run_words(const anemo_exec *exec, const anemo_exercise_args *args) {
    return gpu::launch(read_words<LOADS, STREAM, BLOCKS>,
                       dim3((unsigned)args->multiprocessors * BLOCKS), dim3(THREADS), 0, exec,
                       static_cast<const uint4 *>(args->data), units(args), args->result);
}

anemo_status run_async(const anemo_exec *exec, const anemo_exercise_args *args) {
    return gpu::launch(read_async, dim3((unsigned)args->multiprocessors * 4), dim3(THREADS),
                       sizeof(uint4) * RING * THREADS, exec, static_cast<const uint4 *>(args->data),
                       units(args), args->result);
}

} // namespace

#define READ_EXERCISE(its_name, its_run)                                                           \
    extern "C" const anemo_exercise anemo_exercise_##its_name;                                     \
    const anemo_exercise anemo_exercise_##its_name = {.name = #its_name,                           \
                                                      .kind = ANEMO_EXERCISE_READ,                 \
                                                      .min_capability = 80,                        \
                                                      .least = 0,                                  \
                                                      .most = 0,                                   \
                                                      .ops = nullptr,                              \
                                                      .scratch_bytes = nullptr,                    \
                                                      .prepare = nullptr,                          \
                                                      .run = its_run,                              \
                                                      .verify = nullptr,                           \
                                                      .right = nullptr};

READ_EXERCISE(read_lanes_sm80, (run_words<4, false, 8>))
READ_EXERCISE(read_stream_sm80, (run_words<8, true, 4>))
READ_EXERCISE(read_async_sm80, run_async)
