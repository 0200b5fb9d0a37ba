/* Packing: a canonical weight becomes the one form that the chosen variants read, on all threads,
 * once; or it comes from a packed cache (packed_cache.c), in which case nothing is allocated for it
 * on the CPU and the mapping is what the kernels read. */
#include <stdio.h>
#include <stdlib.h>

#include "models/engine/plan.h"

typedef struct pack_job {
    const anemo_weight *weight;
    const anemo_layout *layout;
    void *packed;
    anemo_status status;
} pack_job;

/* Items are blocks of row_block rows. */
static void pack_task(void *ctx, int64_t begin, int64_t end, int thread) {
    (void)thread;
    pack_job *job = ctx;
    const int64_t n = job->weight->n, block = job->layout->row_block, last = end * block;
    const anemo_status status =
        job->layout->pack(job->weight, begin * block, last < n ? last : n, job->packed);
    if (status != ANEMO_OK) {
        __atomic_store_n(&job->status, status, __ATOMIC_RELAXED);
    }
}

/* Packs on the host's threads. */
static anemo_status pack(const anemo_plan *plan, const anemo_weight *weight,
                         const anemo_layout *layout, void *packed, anemo_error *err) {
    pack_job job = {.weight = weight, .layout = layout, .packed = packed};
    const int64_t blocks = (weight->n + layout->row_block - 1) / layout->row_block;
    const anemo_exec team = plan->packers != NULL ? anemo_device_exec(plan->packers) : plan->exec;
    team.parallel(&team, blocks, 1, pack_task, &job);
    return job.status == ANEMO_OK
               ? ANEMO_OK
               : anemo_fail(err, job.status, "packing a weight into layout %s failed",
                            layout->name);
}

/* The packed bytes on the host: of the cache, or packed into `target` (and written to the cache).
 */
static anemo_status packed_on_host(anemo_plan *plan, const anemo_matrix *matrix, void *target,
                                   const void **out, anemo_error *err) {
    const anemo_weight *weight = &matrix->canonical;
    if (plan->cache != NULL && anemo_packed_cache_reads(plan->cache)) {
        *out = anemo_packed_cache_next(plan->cache, weight, matrix->layout, matrix->packed_bytes);
        return *out != NULL
                   ? ANEMO_OK
                   : anemo_fail(err, ANEMO_E_INPUT, "%s: %s", anemo_packed_cache_path(plan->cache),
                                anemo_packed_cache_refused(plan->cache));
    }
    const anemo_status status = pack(plan, weight, matrix->layout, target, err);
    *out = target;
    return status == ANEMO_OK && plan->cache != NULL
               ? anemo_packed_cache_put(plan->cache, weight, matrix->layout, target,
                                        matrix->packed_bytes, err)
               : status;
}

static anemo_status pack_for_cpu(anemo_plan *plan, anemo_matrix *matrix, anemo_error *err) {
    const bool mapped = plan->cache != NULL && anemo_packed_cache_reads(plan->cache);
    void *target = NULL;
    if (mapped) {
        plan->mapped_bytes += (double)matrix->packed_bytes;
    } else {
        target =
            anemo_plan_alloc(plan, ANEMO_MEM_WEIGHTS, matrix->packed_bytes, "a packed weight", err);
        if (target == NULL) {
            return ANEMO_E_MEMORY;
        }
    }
    return packed_on_host(plan, matrix, target, &matrix->packed, err);
}

static anemo_status pack_for_device(anemo_plan *plan, anemo_matrix *matrix, anemo_error *err) {
    void *memory =
        anemo_plan_alloc(plan, ANEMO_MEM_WEIGHTS, matrix->packed_bytes, "a packed weight", err);
    void *host = malloc(matrix->packed_bytes);
    const void *packed = NULL;
    matrix->packed = memory;
    anemo_status status = memory != NULL && host != NULL ? ANEMO_OK : ANEMO_E_MEMORY;
    if (status == ANEMO_OK) {
        status = packed_on_host(plan, matrix, host, &packed, err);
    }
    if (status == ANEMO_OK) {
        status = anemo_device_upload(plan->device, memory, packed, matrix->packed_bytes);
        const anemo_status done = anemo_device_synchronise(plan->device, NULL);
        status = status == ANEMO_OK ? done : status;
    }
    free(host);
    return status;
}

anemo_status anemo_plan_pack(anemo_plan *plan, anemo_matrix *matrix, const anemo_layout *layout,
                             anemo_error *err) {
    if (layout == NULL || matrix->layout == layout) {
        return ANEMO_OK;
    }
    const anemo_weight *w = &matrix->canonical;
    matrix->layout = layout;
    matrix->packed_bytes = layout->packed_bytes(&w->type, w->n, w->k);
    const anemo_status status = plan->chooser.backend == ANEMO_CPU
                                    ? pack_for_cpu(plan, matrix, err)
                                    : pack_for_device(plan, matrix, err);
    if (status != ANEMO_OK || plan->on_pack == NULL) {
        return status;
    }
    plan->packed_so_far += (double)w->canonical_bytes;
    return plan->on_pack(plan->on_pack_ctx, plan->packed_so_far, plan->model->resident_bytes)
               ? ANEMO_OK
               : anemo_fail(err, ANEMO_E_CANCELLED, "%s: loading was interrupted",
                            plan->model->info.name);
}

void anemo_plan_note_cache(anemo_plan *plan, const char *refused) {
    if (plan->cache == NULL) {
        return;
    }
    const char *why = refused[0] != '\0' ? refused : anemo_packed_cache_refused(plan->cache);
    snprintf(plan->cache_note, sizeof plan->cache_note, "%s: %s%s%s",
             anemo_packed_cache_path(plan->cache),
             anemo_packed_cache_reads(plan->cache) ? "packed weights read"
                                                   : "packed weights written",
             why[0] != '\0' ? "; the file that was there was refused: " : "", why);
}

const char *anemo_plan_cache_note(const anemo_plan *plan) {
    return plan->cache_note;
}
