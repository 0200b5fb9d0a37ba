/* moe_experts, fused, on AVX-512 VNNI: what w4a8 and w8a8 share. The arithmetic is in
 * experts_avx512vnni.h; here is the dispatch.
 *
 * Two parallel loops: gate, up, activation and coding of h; then down. A task is one expert times a
 * slice of its columns, for all its rows. So
 *
 * - a weight is read from memory once per call, by one thread, however many rows its expert has; an
 *   expert without rows costs nothing, and no row is padded to a tile;
 * - tasks are taken from a counter, the largest expert's first: what is left when the first thread
 *   runs dry is a slice of the smallest expert. A hot expert is as many tasks as any other, so skew
 *   changes how long a task lasts, not how many threads find one;
 * - one token is the same code: two experts, cut into slices that both stream memory.
 *
 * A slice is up to SLICE blocks of 32 columns. Narrower, neighbouring slices share cache lines of
 * the records of h (16 scales to a line) and each thread's stream breaks off more often; wider, the
 * last task is waited for. Slices shrink, down to one group, until each thread has TASKS of them.
 * No result depends on the cut: each is one tile's sum (ROW_INVARIANT).
 *
 * Rejected: cutting experts by rows as well (weights would be read once per piece); one loop with
 * per-expert counters instead of two loops (the barrier between them costs one task, and the
 * counters cost a place where a thread can wait); float h with a pass of its own to code it (it
 * would write and read 4 bytes per hidden unit where one is kept). */
#ifndef ANEMO_MOE_EXPERTS_FUSED_AVX512VNNI_H
#define ANEMO_MOE_EXPERTS_FUSED_AVX512VNNI_H

#include "kernels/moe/experts_avx512vnni.h"

enum { EXPERTS_SLICE = 16, EXPERTS_TASKS = 32 };

typedef struct experts_fused {
    experts_job job;
    int32_t *active; /* experts of the range that have rows, largest first */
    int64_t n_active;
    int64_t items, per_task, slices; /* of one expert, in the loop under way */
} experts_fused;

/* Larger first; ties to the lower index, so that the order is the plan's alone. */
static inline bool experts_before(const int32_t *count, int32_t a, int32_t b) {
    return count[a] != count[b] ? count[a] > count[b] : a < b;
}

/* Shell's sort: in place, no recursion, quick enough for any number of experts. */
static inline void experts_sort(const int32_t *count, int32_t *active, int64_t n) {
    for (int64_t gap = n / 2; gap > 0; gap /= 2) {
        for (int64_t i = gap; i < n; i++) {
            const int32_t e = active[i];
            int64_t at = i;
            for (; at >= gap && experts_before(count, e, active[at - gap]); at -= gap) {
                active[at] = active[at - gap];
            }
            active[at] = e;
        }
    }
}

/* Cuts `items` of each active expert, `blocks` blocks to an item, into tasks; returns how many. */
static inline int64_t experts_cut(experts_fused *f, int64_t items, int64_t blocks,
                                  int32_t n_threads) {
    const int64_t fair = f->n_active * items / ((int64_t)EXPERTS_TASKS * n_threads);
    f->items = items;
    f->per_task = max_i64(1, min_i64(EXPERTS_SLICE / blocks, fair));
    f->slices = anemo_ceil_div(items, f->per_task);
    return f->n_active * f->slices;
}

static inline void experts_gate_up_task(void *ctx, int64_t begin, int64_t end, int thread) {
    const experts_fused *f = ctx;
    const int32_t *offset = f->job.a->plan.offset;
    (void)thread;
    for (int64_t task = begin; task < end; task++) {
        const int32_t e = f->active[task / f->slices];
        const int64_t from = task % f->slices * f->per_task;
        experts_gate_up(&f->job, e, offset[e], offset[e + 1], from,
                        min_i64(from + f->per_task, f->items));
    }
}

static inline void experts_down_task(void *ctx, int64_t begin, int64_t end, int thread) {
    const experts_fused *f = ctx;
    const int32_t *offset = f->job.a->plan.offset;
    (void)thread;
    for (int64_t task = begin; task < end; task++) {
        const int32_t e = f->active[task / f->slices];
        const int64_t from = task % f->slices * f->per_task;
        experts_down(&f->job, e, offset[e], offset[e + 1], from,
                     min_i64(from + f->per_task, f->items));
    }
}

static inline size_t experts_fused_workspace(const anemo_moe_experts_problem *p,
                                             const anemo_act *act) {
    return experts_hidden_bytes(p, act) + align64((size_t)p->n_experts * sizeof(int32_t));
}

static inline anemo_status experts_fused_run(const anemo_exec *exec,
                                             const anemo_moe_experts_problem *p,
                                             const anemo_moe_experts_args *a, const anemo_act *act,
                                             experts_tile_fn tile) {
    if (a->tokens < 0 || a->tokens > p->tokens_max) {
        return ANEMO_E_INPUT;
    }
    if (exec->workspace_bytes < experts_fused_workspace(p, act)) {
        return ANEMO_E_MEMORY;
    }
    uint8_t *memory = exec->workspace;
    experts_fused f = {.job = experts_job_of(p, a, act, tile, memory),
                       .active = (int32_t *)(void *)(memory + experts_hidden_bytes(p, act))};
    for (int32_t e = p->expert_begin; e < p->expert_end; e++) {
        if (a->plan.offset[e + 1] > a->plan.offset[e]) {
            f.active[f.n_active++] = e;
        }
    }
    experts_sort(a->plan.count, f.active, f.n_active);
    int64_t tasks =
        experts_cut(&f, experts_groups(&f.job), f.job.group / ANEMO_N32_ROWS, exec->n_threads);
    exec->parallel(exec, tasks, 1, experts_gate_up_task, &f);
    tasks = experts_cut(&f, experts_down_blocks(&f.job), 1, exec->n_threads);
    exec->parallel(exec, tasks, 1, experts_down_task, &f);
    return ANEMO_OK;
}

/* Defines the variant `id` for weights of `width` bits, reading a8_gGROUP. */
#define ANEMO_EXPERTS_FUSED(id, width, group_, layout_, idea_)                                     \
    extern const anemo_act anemo_act_a8_g##group_;                                                 \
    static void tile_##group_(int64_t mr, const anemo_vnni_tile *t,                                \
                              float out[][ANEMO_TILE_COLUMNS]) {                                   \
        vnni_tile_rows(width, group_, mr, t, out);                                                 \
    }                                                                                              \
    static bool accepts_##group_(const void *problem, char *why, size_t why_bytes) {               \
        return experts_accepts(problem, group_, why, why_bytes);                                   \
    }                                                                                              \
    static size_t workspace_##group_(const void *problem, int32_t n_threads) {                     \
        (void)n_threads;                                                                           \
        return experts_fused_workspace(problem, &anemo_act_a8_g##group_);                          \
    }                                                                                              \
    static anemo_status run_##group_(const anemo_exec *exec, const void *problem,                  \
                                     const void *args) {                                           \
        return experts_fused_run(exec, problem, args, &anemo_act_a8_g##group_, tile_##group_);     \
    }                                                                                              \
    extern const anemo_variant anemo_##id;                                                         \
    const anemo_variant anemo_##id = {                                                             \
        .size = sizeof(anemo_variant),                                                             \
        .name = #id,                                                                               \
        .op = ANEMO_OP_MOE_EXPERTS,                                                                \
        .backend = ANEMO_CPU,                                                                      \
        .needs = {.cpu_features = ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_VNNI},                       \
        .layout = layout_,                                                                         \
        .act = "a8_g" #group_,                                                                     \
        .traits = ANEMO_TRAIT_ROW_INVARIANT,                                                       \
        .idea = idea_,                                                                             \
        .accepts = accepts_##group_,                                                               \
        .workspace_bytes = workspace_##group_,                                                     \
        .run = run_##group_,                                                                       \
    };

#endif
