/* A CUDA grid on the processor at hand, and a device made of it.
 *
 * Every thread of a block is a fibre with its own stack. A fibre runs until it waits: for its warp
 * (shuffles, ballots, matrix instructions) or for its block. When all lanes of a warp wait, their
 * contributions are there and they go on; when all threads of a block wait, so do they. Blocks run
 * one after the other. The orders of blocks, of warps within a block and of lanes within a warp are
 * drawn anew each time, so that a missing barrier shows as a result that changes. Dynamic shared
 * memory is new for every block, begins as a pattern that is NaN and ends with a fence; what
 * cp.async copies arrives with the wait that covers it and no sooner.
 *
 * Faults that hardware may hide end the program: lanes of one warp at different barriers, a thread
 * that has left before a barrier of its warp or block, a vector access that is not aligned, a store
 * behind the dynamic shared memory. A grid, a block or a size of shared memory that no GPU takes is
 * an error of the launch, as it is there.
 *
 * It says nothing about time, nor about the memory model between blocks: those need a GPU. */
#include "emulate.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include <map>
#include <vector>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace emulated {

[[noreturn]] void fault(const char *what) {
    fprintf(stderr, "emulated GPU: %s (block %u,%u,%u)\n", what, blockIdx.x, blockIdx.y,
            blockIdx.z);
    abort();
}

namespace {

/* ---------------------------------------------------------------- fibres */

/* Stacks begin at 32 different lines of the first cache, or the lanes of a warp drive each other
 * out of it at every change. */
constexpr size_t STACK_BYTES = 128 << 10, STACK_SHIFT_BYTES = 18 * 64;
constexpr size_t LAST_FRAMES_BYTES = 4096; /* of fibre_main and what it leaves through */
constexpr unsigned WARP = 32, THREADS_MAX = 1024;
constexpr size_t FENCE_BYTES = 64;
constexpr unsigned char POISON = 0xff;

enum state { READY, AT_WARP, AT_BLOCK, DONE };

struct pending_copy {
    void *to;
    const void *from; /* NULL: zeros */
    size_t bytes;
};

struct fibre {
    void *sp;
    unsigned char *stack;
    enum state state;
    dim3 index;
    size_t bytes; /* handed over at the warp's barrier */
    unsigned lane;
    unsigned side; /* which half of the warp's slots the next exchange uses */
    int value;     /* handed over at the block's barrier */
    std::vector<pending_copy> copies;
    std::vector<size_t> groups; /* copies up to the end of each group that is committed */
};

/* Saves the registers that a call must keep and takes up another stack. */
extern "C" void anemo_emulated_switch(void **save, void *load);
asm(R"(
.text
.globl anemo_emulated_switch
.type anemo_emulated_switch,@function
anemo_emulated_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    popq %rcx
    jmpq *%rcx
.size anemo_emulated_switch,.-anemo_emulated_switch
)");

constexpr size_t SLOT_BYTES = 64;

struct warp_slots {
    unsigned char slot[2][WARP * SLOT_BYTES];
};

std::vector<fibre> fibres(THREADS_MAX);
std::vector<warp_slots> slots(THREADS_MAX / WARP);
std::vector<unsigned char> shared_memory;
size_t shared_size;
int capability = 80;
std::map<const void *, int> allowed_shared;
const std::function<void()> *thread_body;
fibre *current;
void *scheduler_sp;
unsigned n_threads;
int block_sum;
cudaError_t error = cudaSuccess;
uint64_t order_seed = 1;

unsigned draw(unsigned below) {
    order_seed = order_seed * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((order_seed >> 33) % below);
}

/* A warp's turn: its lanes in one of two orders, each until it waits. */
struct turn {
    unsigned begin, end, taken;
    bool backwards;
} turn;

fibre *next_in_turn() {
    while (turn.taken < turn.end - turn.begin) {
        const unsigned i = turn.taken++;
        fibre *f = &fibres[turn.backwards ? turn.end - 1 - i : turn.begin + i];
        if (f->state == READY) {
            return f;
        }
    }
    return nullptr;
}

/* From the scheduler (f NULL) or a fibre that waits or is done to a fibre or the scheduler. */
void change(fibre *f, fibre *to) {
    current = to;
    if (to != nullptr) {
        threadIdx = to->index;
    }
#ifdef __SANITIZE_ADDRESS__
    void *fake;
    __sanitizer_start_switch_fiber(f != nullptr && f->state == DONE ? nullptr : &fake,
                                   to != nullptr ? to->stack : nullptr,
                                   to != nullptr ? STACK_BYTES : 0);
#endif
    anemo_emulated_switch(f != nullptr ? &f->sp : &scheduler_sp,
                          to != nullptr ? to->sp : scheduler_sp);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
}

/* Of the thread that runs: the next lane goes on, or behind the last one the scheduler. */
void leave(enum state state) {
    current->state = state;
    change(current, next_in_turn());
}

void fibre_main() {
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, nullptr, nullptr);
#endif
    (*thread_body)();
    wgmma_end_thread();
    leave(DONE);
    fault("a finished thread was resumed");
}

void prepare(fibre *f, unsigned index) {
    if (f->stack == nullptr) {
        f->stack = static_cast<unsigned char *>(
            mmap(nullptr, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (f->stack == MAP_FAILED) {
            fault("no memory for a stack");
        }
    }
    f->lane = index % WARP;
    void **top = reinterpret_cast<void **>(f->stack + STACK_BYTES - f->lane * STACK_SHIFT_BYTES);
    top[-1] = nullptr; /* the caller of fibre_main, for the alignment of its frame */
    top[-2] = reinterpret_cast<void *>(fibre_main);
#ifdef __SANITIZE_ADDRESS__
    /* The fibre before ended in frames that never returned: their red zones are no longer any. */
    __asan_unpoison_memory_region(reinterpret_cast<char *>(top) - LAST_FRAMES_BYTES,
                                  LAST_FRAMES_BYTES);
#endif
    memset(top - 8, 0, 6 * sizeof *top);
    f->sp = top - 8;
    f->state = READY;
    f->side = 0;
    f->copies.clear();
    f->groups.clear();
    f->index =
        dim3(index % blockDim.x, index / blockDim.x % blockDim.y, index / blockDim.x / blockDim.y);
}

/* ---------------------------------------------------------------- warps and blocks */

unsigned count(unsigned begin, unsigned end, enum state state) {
    unsigned n = 0;
    for (unsigned i = begin; i < end; i++) {
        n += fibres[i].state == state;
    }
    return n;
}

/* Until every lane waits for the block or is done. */
void run_warp(unsigned begin, unsigned end) {
    for (;;) {
        turn = {begin, end, 0, draw(2) != 0};
        fibre *first = next_in_turn();
        if (first != nullptr) {
            change(nullptr, first);
        }
        const unsigned waiting = count(begin, end, AT_WARP);
        if (waiting == 0) {
            return;
        }
        if (waiting != WARP) {
            fault("some lanes of a warp wait at a warp operation, others do not");
        }
        for (unsigned i = begin; i < end; i++) {
            if (fibres[i].bytes != fibres[begin].bytes) {
                fault("lanes of a warp wait at different operations");
            }
            fibres[i].state = READY;
        }
    }
}

/* After the last thread of a block. */
void check_fence() {
    const unsigned char *fence = dynamic_shared() + shared_size;
    for (size_t i = 0; i < FENCE_BYTES; i++) {
        if (fence[i] != POISON) {
            fault("a store behind the dynamic shared memory");
        }
    }
}

constexpr size_t SHARED_ALIGNMENT = 1024;

void run_block() {
    shared_memory.assign(SHARED_ALIGNMENT + shared_size + FENCE_BYTES, POISON);
    wgmma_begin_block(shared_size);
    for (unsigned i = 0; i < n_threads; i++) {
        prepare(&fibres[i], i);
    }
    const unsigned n_warps = (n_threads + WARP - 1) / WARP;
    while (count(0, n_threads, DONE) < n_threads) {
        const unsigned first = draw(n_warps);
        for (unsigned w = 0; w < n_warps; w++) {
            const unsigned begin = (first + w) % n_warps * WARP;
            run_warp(begin, begin + WARP < n_threads ? begin + WARP : n_threads);
        }
        if (count(0, n_threads, AT_BLOCK) > 0 && count(0, n_threads, DONE) > 0) {
            fault("threads of a block wait at a barrier that others have not come to");
        }
        block_sum = 0;
        for (unsigned i = 0; i < n_threads; i++) {
            block_sum += fibres[i].state == AT_BLOCK ? fibres[i].value : 0;
            fibres[i].state = fibres[i].state == AT_BLOCK ? READY : fibres[i].state;
        }
    }
    check_fence();
}

void run_grid(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &thread) {
    const uint64_t blocks = (uint64_t)grid.x * grid.y * grid.z;
    gridDim = grid;
    blockDim = block;
    n_threads = block.x * block.y * block.z;
    thread_body = &thread;
    shared_size = shared_bytes;
    const bool backwards = draw(2) != 0;
    for (uint64_t i = 0; i < blocks; i++) {
        const uint64_t b = backwards ? blocks - 1 - i : i;
        blockIdx = dim3((unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y),
                        (unsigned)(b / grid.x / grid.y));
        run_block();
    }
}

bool launchable(const void *kernel, dim3 grid, dim3 block, size_t shared_bytes) {
    const uint64_t threads = (uint64_t)block.x * block.y * block.z;
    const auto allowed = allowed_shared.find(kernel);
    const size_t most = allowed == allowed_shared.end() ? 48 << 10 : (size_t)allowed->second;
    return threads >= 1 && threads <= THREADS_MAX && block.z <= 64 && grid.x >= 1 &&
           grid.x <= 0x7fffffffu && grid.y >= 1 && grid.y <= 65535 && grid.z >= 1 &&
           grid.z <= 65535 && shared_bytes <= most;
}

} // namespace

void launch(const void *kernel, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
            std::function<void()> thread) {
    if (!launchable(kernel, grid, block, shared_bytes)) {
        error = cudaErrorInvalidConfiguration;
        return;
    }
    in_stream(stream, [=] { run_grid(grid, block, shared_bytes, thread); });
}

void allow_shared(const void *kernel, int bytes) {
    const int most = capability == 90 ? 227 << 10 : 163 << 10; /* CUDA's table of capabilities */
    allowed_shared[kernel] = bytes <= most ? bytes : 0;
}

void use_capability(int its_capability) {
    capability = its_capability;
}

cudaError_t last_error() {
    return error;
}

unsigned char *dynamic_shared() {
    const uintptr_t at = reinterpret_cast<uintptr_t>(shared_memory.data());
    return shared_memory.data() + (SHARED_ALIGNMENT - at % SHARED_ALIGNMENT) % SHARED_ALIGNMENT;
}

size_t shared_bytes() {
    return shared_size;
}

unsigned thread_index() {
    return (unsigned)(current - fibres.data());
}

int block_barrier(int value) {
    current->value = value;
    leave(AT_BLOCK);
    return block_sum;
}

int lane() {
    return (int)current->lane;
}

const unsigned char *exchange(const void *mine, size_t bytes) {
    fibre *f = current;
    unsigned char *slot = slots[(size_t)(f - fibres.data()) / WARP].slot[f->side];
    if (bytes > SLOT_BYTES) {
        fault("an exchange is too wide");
    }
    memcpy(slot + f->lane * bytes, mine, bytes);
    f->side ^= 1; /* a lane ahead must not overwrite what others have yet to read */
    f->bytes = bytes;
    leave(AT_WARP);
    return slot;
}

const void *aligned(const void *at, size_t bytes) {
    if (reinterpret_cast<uintptr_t>(at) % bytes != 0) {
        fault("a vector access is not aligned");
    }
    return at;
}

void copy_later(void *to, const void *from, size_t bytes) {
    aligned(to, bytes);
    if (from != nullptr) {
        aligned(from, bytes);
    }
    if (capability == 90) {
        wgmma_copy_begins(to, bytes);
    }
    current->copies.push_back({to, from, bytes});
}

void commit_copies() {
    current->groups.push_back(current->copies.size());
}

void wait_copies(int newest) {
    std::vector<pending_copy> &copies = current->copies;
    std::vector<size_t> &groups = current->groups;
    if (groups.size() <= (size_t)newest) {
        return;
    }
    const size_t n_groups = groups.size() - newest, n = groups[n_groups - 1];
    for (size_t i = 0; i < n; i++) {
        if (copies[i].from != nullptr) {
            memcpy(copies[i].to, copies[i].from, copies[i].bytes);
        } else {
            memset(copies[i].to, 0, copies[i].bytes);
        }
        if (capability == 90) {
            wgmma_copy_ends(copies[i].to, copies[i].bytes);
        }
    }
    copies.erase(copies.begin(), copies.begin() + n);
    groups.erase(groups.begin(), groups.begin() + n_groups);
    for (size_t &end : groups) {
        end -= n;
    }
}

} // namespace emulated
