/* wgmma on the emulated GPU, as late and as strict as the PTX ISA allows.
 *
 * An instruction is done only when wgmma_wait covers it: until then its sums are NaN, and it reads
 * shared memory then, so that a stage that was overwritten too early shows as a wrong result.
 * Faults that hardware would hide: registers of A that were not fenced as they are, or were written
 * before the wait; sums that were touched before it; a descriptor that is misaligned, points
 * outside the block's memory, or is not the same for the whole warpgroup; shared memory that
 * cp.async wrote and no fence_async_proxy of the writing thread has covered; a thread that ends, or
 * reads its sums, with work under way. (Plain stores are not seen: write what wgmma reads by
 * cp.async.) */
#include "emulate.h"
#include "kernels/internal.h"
#include "wgmma_descriptor.h"

#include <map>

namespace emulated {
namespace {

constexpr unsigned LANES = 32, GROUP = 128;
constexpr uint32_t SHARED_BEGINS = 1024;    /* addresses below are the system's, as on hardware */
constexpr uint32_t UNTOUCHED = 0xffbadbadu; /* a NaN */

struct registers {
    uint32_t a[4];
};

struct instruction {
    float *d;
    int tokens;
    const uint32_t *a; /* where the registers are */
    registers issued;
    registers quad[4]; /* A of the four lanes that share the thread's rows */
    uint64_t descriptor;
};

struct thread_state {
    std::vector<instruction> pending;
    std::vector<size_t> groups; /* instructions up to the end of each committed group */
    std::map<float *, std::vector<float>> sums; /* of instructions under way */
    std::map<const uint32_t *, registers> fenced;
    std::vector<uint32_t> written; /* words of shared memory since the last proxy fence */
    size_t issued;
    bool used;
};

std::vector<thread_state> threads(1024);
std::vector<unsigned> used; /* those of the block that have a state */
/* What each warpgroup has issued, for comparison among its warps. */
std::vector<std::vector<std::pair<uint64_t, int>>> issued(1024 / GROUP);
/* Per word of shared memory: 1 + the thread that wrote it, and copies that have not arrived. */
std::vector<uint16_t> unfenced;
std::vector<uint8_t> on_the_way;

thread_state &mine() {
    thread_state &s = threads[thread_index()];
    if (!s.used) {
        s.used = true;
        used.push_back(thread_index());
    }
    return s;
}

size_t word_of(const void *shared) {
    return (size_t)(static_cast<const unsigned char *>(shared) - dynamic_shared()) / 4;
}

bool same(const registers &r, const uint32_t *a) {
    return memcmp(r.a, a, sizeof r.a) == 0;
}

/* A 16-byte piece of the second operand: eight bf16 numbers. */
void read_piece(const wgmma_matrix &b, uint32_t row, uint32_t k, float (&out)[8]) {
    const uint32_t at = wgmma_element_at(&b, row, k) - SHARED_BEGINS;
    if (at + 16 > shared_bytes()) {
        fault("wgmma reads outside the block's shared memory");
    }
    for (uint32_t word = at / 4; word < at / 4 + 4; word++) {
        if (unfenced[word] != 0) {
            fault("wgmma reads what a copy wrote without fence_async_proxy()");
        }
        if (on_the_way[word] != 0) {
            fault("wgmma reads where a copy is on the way");
        }
    }
    uint16_t halves[8];
    memcpy(halves, dynamic_shared() + at, sizeof halves);
    for (int i = 0; i < 8; i++) {
        out[i] = anemo_f32_from_bf16(halves[i]);
    }
}

/* Rows g and g + 8 of the warp's 16, tokens 2 t and 2 t + 1 of each 8. */
void multiply(const instruction &op, std::vector<float> &sums) {
    const int t = lane() % 4;
    float a[2][16];
    for (int k = 0; k < 16; k++) {
        for (int row = 0; row < 2; row++) {
            const uint32_t pair = op.quad[k % 8 / 2].a[row + k / 8 * 2];
            a[row][k] = anemo_f32_from_bf16((uint16_t)(pair >> k % 2 * 16));
        }
    }
    wgmma_matrix matrix;
    wgmma_descriptor_read(op.descriptor, &matrix);
    for (int j = 0; j < op.tokens / 8; j++) {
        for (int i = 0; i < 2; i++) {
            float b[2][8], sum[2] = {0, 0};
            read_piece(matrix, 8 * j + 2 * t + i, 0, b[0]);
            read_piece(matrix, 8 * j + 2 * t + i, 8, b[1]);
            for (int k = 0; k < 16; k++) {
                sum[0] += a[0][k] * b[k / 8][k % 8];
                sum[1] += a[1][k] * b[k / 8][k % 8];
            }
            sums[4 * j + i] += sum[0];
            sums[4 * j + 2 + i] += sum[1];
        }
    }
}

/* Writes the sums back when nothing under way adds to them any more. */
void deliver(thread_state &s, float *d) {
    for (const instruction &op : s.pending) {
        if (op.d == d) {
            return;
        }
    }
    const std::vector<float> &sums = s.sums[d];
    for (size_t i = 0; i < sums.size(); i++) {
        if (__float_as_uint(d[i]) != UNTOUCHED) {
            fault("sums were written while wgmma adds to them");
        }
        d[i] = sums[i];
    }
    s.sums.erase(d);
}

} // namespace

void wgmma_begin_block(size_t shared_bytes) {
    for (const unsigned i : used) {
        threads[i] = {};
    }
    used.clear();
    for (auto &group : issued) {
        group.clear();
    }
    unfenced.assign(shared_bytes / 4 + 1, 0);
    on_the_way.assign(shared_bytes / 4 + 1, 0);
}

void wgmma_end_thread() {
    if (!threads[thread_index()].pending.empty()) {
        fault("a thread ends before its wgmma is done");
    }
}

void wgmma_copy_begins(const void *to, size_t bytes) {
    const size_t first = word_of(to);
    for (size_t word = first; word < first + bytes / 4 && word < on_the_way.size(); word++) {
        on_the_way[word]++;
    }
}

void wgmma_copy_ends(const void *to, size_t bytes) {
    const size_t first = word_of(to);
    for (size_t word = first; word < first + bytes / 4 && word < unfenced.size(); word++) {
        on_the_way[word]--;
        if (unfenced[word] != thread_index() + 1) {
            unfenced[word] = (uint16_t)(thread_index() + 1);
            mine().written.push_back((uint32_t)word);
        }
    }
}

void fence_async_proxy() {
    for (const uint32_t word : mine().written) {
        if (unfenced[word] == thread_index() + 1) {
            unfenced[word] = 0;
        }
    }
    mine().written.clear();
}

uint32_t shared_address(const void *shared) {
    return SHARED_BEGINS +
           (uint32_t)(static_cast<const unsigned char *>(shared) - dynamic_shared());
}

void wgmma_fence(const uint32_t *a) {
    registers now;
    memcpy(now.a, a, sizeof now.a);
    exchange(&now, sizeof now); /* a warp's instruction */
    mine().fenced[a] = now;
}

void wgmma(float *d, int tokens, const uint32_t *a, uint64_t descriptor) {
    struct operands {
        registers a;
        uint64_t descriptor;
    } op, of[LANES];
    memcpy(op.a.a, a, sizeof op.a.a);
    op.descriptor = descriptor;
    memcpy(of, exchange(&op, sizeof op), sizeof of);
    thread_state &s = mine();
    wgmma_matrix matrix;
    const char *wrong = wgmma_descriptor_read(descriptor, &matrix);
    if (wrong != nullptr) {
        fault(wrong);
    }
    std::vector<std::pair<uint64_t, int>> &group = issued[thread_index() / GROUP];
    if (group.size() == s.issued) {
        group.push_back({descriptor, tokens});
    }
    if (group[s.issued++] != std::make_pair(descriptor, tokens)) {
        fault("warps of a warpgroup issue different wgmma");
    }
    const auto fenced = s.fenced.find(a);
    if (fenced == s.fenced.end() || !same(fenced->second, a)) {
        fault("wgmma with registers that were written behind the last wgmma_fence()");
    }
    instruction i = {d, tokens, a, op.a, {}, descriptor};
    for (int t = 0; t < 4; t++) {
        i.quad[t] = of[lane() / 4 * 4 + t].a;
    }
    std::vector<float> &sums = s.sums[d];
    if (sums.empty()) {
        sums.assign(d, d + tokens / 2);
        for (int n = 0; n < tokens / 2; n++) {
            d[n] = __uint_as_float(UNTOUCHED);
        }
    }
    s.pending.push_back(i);
}

void wgmma_commit() {
    mine().groups.push_back(mine().pending.size());
}

void wgmma_wait(int newest) {
    thread_state &s = mine();
    if (s.groups.size() <= (size_t)newest) {
        return;
    }
    const size_t n_groups = s.groups.size() - newest, n = s.groups[n_groups - 1];
    const std::vector<instruction> done(s.pending.begin(), s.pending.begin() + n);
    for (const instruction &op : done) {
        if (!same(op.issued, op.a)) {
            fault("registers were written while wgmma reads them");
        }
        multiply(op, s.sums[op.d]);
    }
    s.pending.erase(s.pending.begin(), s.pending.begin() + n);
    s.groups.erase(s.groups.begin(), s.groups.begin() + n_groups);
    for (size_t &end : s.groups) {
        end -= n;
    }
    for (const instruction &op : done) {
        if (s.sums.count(op.d) != 0) {
            deliver(s, op.d);
        }
    }
}

void wgmma_settle(const float *d) {
    if (mine().sums.count(const_cast<float *>(d)) != 0) {
        fault("sums are read before wgmma is done");
    }
}

} // namespace emulated
