/* A GPU of the smallest kind, on a CPU: it runs the project's own kernels, unchanged, so that
 * index arithmetic, barriers and fragments are checked where no GPU is. It says nothing about
 * speed, and it is no proof of a missing barrier's absence: threads of a block take turns, upwards
 * or downwards as is drawn anew each turn, and change only at collectives.
 *
 * A block's threads are fibers. Warp collectives (shuffles, products) and __syncthreads wait until
 * all have come. What cp.async copies arrives no sooner than the wait that covers it; dynamic
 * shared memory begins as a pattern that is NaN, ends with a fence, and is new for every block.
 * A thread that returns while others wait for it ends the process with a sentence. */
#ifndef ANEMO_EMULATOR_H
#define ANEMO_EMULATOR_H

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <vector>

namespace emulator {

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {
    }
};

enum { WARP = 32, SLOT_BYTES = 64 };

struct slot {
    alignas(16) unsigned char bytes[SLOT_BYTES];
};

/* One thread of the block that runs. */
struct fiber;
struct position {
    dim3 thread, block_at;
    int lane;
};
struct grid_shape {
    dim3 grid, block;
};

extern thread_local position *here;
extern thread_local grid_shape running;

/* Hands `bytes` of this lane to its warp; the slots of all 32 lanes, until the next but one. */
const slot *exchange(const void *mine, size_t bytes);
template <class T> T get(const slot *all, int lane) {
    T value;
    std::memcpy(&value, all[lane].bytes, sizeof value);
    return value;
}
void block_barrier();
bool block_any(bool mine); /* a barrier; did any thread say so? */
void *shared_memory();

void copy_later(void *to, const void *from, size_t bytes);
void commit_copies();
void wait_copies(int newest);

/* Launches of this thread are kept in `recorder` from now on, and not run; NULL: run again. */
extern thread_local std::vector<std::function<void()>> *recorder;

/* Runs the grid, or has it recorded; then `thread` is copied. */
void launch(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &thread);

} // namespace emulator

#endif
