#include "emulator.h"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <vector>

#include <ucontext.h>

namespace emulator {

thread_local position *here;
thread_local grid_shape running;
thread_local std::vector<std::function<void()>> *recorder;

namespace {

constexpr size_t STACK_BYTES = 64 << 10, FENCE_BYTES = 64;
constexpr uint32_t POISON = 0xffa5ffa5u;

struct copy {
    void *to;
    const void *from;
    size_t bytes;
};

/* Threads that wait for each other: a warp, or the block. */
struct meeting {
    int members = 0, arrived = 0;
    unsigned generation = 0;
};

} // namespace

struct fiber {
    position at;
    ucontext_t context;
    jmp_buf state;
    bool begun = false, done = false;
    bool said[2] = {false, false}; /* at the last two barriers that ask */
    int turn = 0;
    const void *waits_for = nullptr; /* a meeting that is not complete */
    std::deque<std::vector<copy>> groups;
    std::vector<copy> open_group;
    std::unique_ptr<unsigned char[]> stack;
};

namespace {

struct warp {
    meeting all;
    slot slots[2][WARP];
};

struct block {
    std::vector<fiber> fibers;
    std::vector<warp> warps;
    meeting all;
    std::vector<unsigned char> shared;
    size_t shared_bytes;
    const std::function<void()> *thread;
    size_t current = 0;
    int alive = 0;
    jmp_buf scheduler;
};

thread_local block *now;

[[noreturn]] void die(const char *what) {
    std::fprintf(stderr, "emulator: %s\n", what);
    std::abort();
}

void enter() {
    (*now->thread)();
    fiber &f = now->fibers[now->current];
    f.done = true;
    now->alive--;
    _longjmp(now->scheduler, 1);
}

/* Back to the scheduler until the meeting is complete. */
void wait_for(meeting &m) {
    fiber &f = now->fibers[now->current];
    const unsigned generation = m.generation;
    if (++m.arrived == m.members) {
        m.arrived = 0;
        m.generation++;
        return;
    }
    while (m.generation == generation) {
        f.waits_for = &m;
        if (_setjmp(f.state) == 0) {
            _longjmp(now->scheduler, 1);
        }
    }
    f.waits_for = nullptr;
}

void resume(fiber &f) {
    here = &f.at;
    if (_setjmp(now->scheduler) != 0) {
        return;
    }
    if (f.begun) {
        _longjmp(f.state, 1);
    }
    f.begun = true;
    setcontext(&f.context);
    die("setcontext failed");
}

void create(block &b, unsigned index, dim3 at) {
    fiber &f = b.fibers[index];
    const dim3 &d = running.block;
    f.at.thread = dim3(index % d.x, index / d.x % d.y, index / d.x / d.y);
    f.at.block_at = at;
    f.at.lane = (int)(index % WARP);
    f.begun = f.done = f.said[0] = f.said[1] = false;
    f.turn = 0;
    f.waits_for = nullptr;
    f.groups.clear();
    f.open_group.clear();
    if (!f.stack) {
        f.stack.reset(new unsigned char[STACK_BYTES]);
    }
    if (getcontext(&f.context) != 0) {
        die("getcontext failed");
    }
    f.context.uc_stack.ss_sp = f.stack.get();
    f.context.uc_stack.ss_size = STACK_BYTES;
    f.context.uc_link = nullptr;
    makecontext(&f.context, enter, 0);
}

void fill(std::vector<unsigned char> &memory) {
    for (size_t i = 0; i < memory.size(); i++) {
        memory[i] = (unsigned char)(POISON >> i % 4 * 8);
    }
}

void check_fence(const block &b) {
    for (size_t i = b.shared_bytes; i < b.shared.size(); i++) {
        if (b.shared[i] != (unsigned char)(POISON >> i % 4 * 8)) {
            die("a kernel wrote past its shared memory");
        }
    }
}

/* The order of the next turn. */
bool draw_order() {
    static thread_local uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (state >> 40 & 1) != 0;
}

void run_block(block &b, dim3 at) {
    const unsigned n = (unsigned)b.fibers.size();
    fill(b.shared);
    for (unsigned i = 0; i < n; i++) {
        create(b, i, at);
    }
    for (unsigned w = 0; w < b.warps.size(); w++) {
        b.warps[w].all = meeting();
        b.warps[w].all.members = (int)(n - w * WARP < WARP ? n - w * WARP : WARP);
    }
    b.all = meeting();
    b.all.members = b.alive = (int)n;
    while (b.alive > 0) {
        const int before = b.alive;
        const unsigned generation = b.all.generation;
        unsigned collectives = 0;
        for (const warp &w : b.warps) {
            collectives += w.all.generation;
        }
        const bool backwards = draw_order();
        for (unsigned i = 0; i < n; i++) {
            b.current = backwards ? n - 1 - i : i;
            if (!b.fibers[b.current].done) {
                resume(b.fibers[b.current]);
            }
        }
        for (const warp &w : b.warps) {
            collectives -= w.all.generation;
        }
        if (b.alive == before && b.all.generation == generation && collectives == 0) {
            die("threads wait for threads that have returned or wait elsewhere");
        }
    }
    check_fence(b);
}

} // namespace

const slot *exchange(const void *mine, size_t bytes) {
    const fiber &f = now->fibers[now->current];
    warp &w = now->warps[now->current / WARP];
    slot *slots = w.slots[w.all.generation & 1];
    if (bytes > SLOT_BYTES) {
        die("an exchange of more than a slot");
    }
    if (bytes > 0) {
        std::memcpy(slots[f.at.lane].bytes, mine, bytes);
    }
    wait_for(w.all);
    return slots;
}

void block_barrier() {
    wait_for(now->all);
}

bool block_any(bool mine) {
    fiber &f = now->fibers[now->current];
    const int turn = f.turn;
    f.said[turn] = mine;
    f.turn = 1 - turn; /* a thread ahead must not overwrite what others have yet to read */
    wait_for(now->all);
    bool any = false;
    for (const fiber &other : now->fibers) {
        any = any || other.said[turn];
    }
    return any;
}

void *shared_memory() {
    return now->shared.data();
}

void copy_later(void *to, const void *from, size_t bytes) {
    now->fibers[now->current].open_group.push_back({to, from, bytes});
}

void commit_copies() {
    fiber &f = now->fibers[now->current];
    f.groups.push_back(std::move(f.open_group));
    f.open_group.clear();
}

void wait_copies(int newest) {
    fiber &f = now->fibers[now->current];
    while ((int)f.groups.size() > newest) {
        for (const copy &c : f.groups.front()) {
            std::memcpy(c.to, c.from, c.bytes);
        }
        f.groups.pop_front();
    }
}

void launch(dim3 grid, dim3 block_shape, size_t shared_bytes, const std::function<void()> &thread) {
    const unsigned n = block_shape.x * block_shape.y * block_shape.z;
    if (n == 0 || n > 1024 || grid.x == 0 || grid.y == 0 || grid.y > 65535 || grid.z == 0 ||
        grid.z > 65535 || shared_bytes > 227u << 10) {
        die("a launch that no GPU accepts");
    }
    if (recorder != nullptr) {
        recorder->push_back([=] { launch(grid, block_shape, shared_bytes, thread); });
        return;
    }
    block b;
    b.fibers = std::vector<fiber>(n);
    b.warps.resize((n + WARP - 1) / WARP);
    b.shared_bytes = shared_bytes;
    b.shared.resize(shared_bytes + FENCE_BYTES);
    b.thread = &thread;
    running = {grid, block_shape};
    now = &b;
    for (unsigned z = 0; z < grid.z; z++) {
        for (unsigned y = 0; y < grid.y; y++) {
            for (unsigned x = 0; x < grid.x; x++) {
                run_block(b, dim3(x, y, z));
            }
        }
    }
    now = nullptr;
}

} // namespace emulator
