#include "kernels/moe/dispatch.h"

#include "kernels/dense/common.h"

enum { SLICE = 16, TASKS = 16 };

/* Larger first; ties to the lower index, so that the order is the plan's alone. */
static bool before(const int32_t *count, int32_t a, int32_t b) {
    return count[a] != count[b] ? count[a] > count[b] : a < b;
}

/* Shell's sort: in place, no recursion, quick enough for any number of experts. */
static void sort(const int32_t *count, int32_t *active, int64_t n) {
    for (int64_t gap = n / 2; gap > 0; gap /= 2) {
        for (int64_t i = gap; i < n; i++) {
            const int32_t e = active[i];
            int64_t at = i;
            for (; at >= gap && before(count, e, active[at - gap]); at -= gap) {
                active[at] = active[at - gap];
            }
            active[at] = e;
        }
    }
}

size_t moe_dispatch_bytes(const anemo_moe_experts_problem *p) {
    return align64((size_t)p->n_experts * sizeof(int32_t));
}

moe_dispatch moe_dispatch_of(const anemo_moe_experts_problem *p, const anemo_moe_plan *plan,
                             void *memory) {
    int32_t *active = memory;
    moe_dispatch d = {.offset = plan->offset, .active = active};
    for (int32_t e = p->expert_begin; e < p->expert_end; e++) {
        if (plan->count[e] > 0) {
            active[d.n_active++] = e;
        }
    }
    sort(plan->count, active, d.n_active);
    return d;
}

static void tasks(void *ctx, int64_t begin, int64_t end, int thread) {
    const moe_dispatch *d = ctx;
    for (int64_t task = begin; task < end; task++) {
        const int32_t e = d->active[task / d->slices];
        const int64_t from = task % d->slices * d->per_task;
        d->half(d->job, e, d->offset[e], d->offset[e + 1], from,
                min_i64(from + d->per_task, d->items), thread);
    }
}

void moe_dispatch_run(const anemo_exec *exec, moe_dispatch *d, moe_half half, const void *job,
                      int64_t items, int64_t blocks) {
    const int64_t fair = d->n_active * items / ((int64_t)TASKS * exec->n_threads);
    d->half = half;
    d->job = job;
    d->items = items;
    d->per_task = max_i64(1, min_i64(SLICE / blocks, fair));
    d->slices = anemo_ceil_div(items, d->per_task);
    exec->parallel(exec, d->n_active * d->slices, 1, tasks, d);
}
