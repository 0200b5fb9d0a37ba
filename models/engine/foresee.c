/* Will the weights fit? Asked of the headers alone, before a byte of them is read: packing a model
 * that does not fit would end minutes later in the kernel's out-of-memory killer, which tells
 * nobody why. Packed forms take the bits of the canonical type, within 3 %. */
#include "models/engine/plan.h"

anemo_status anemo_plan_foresee(const anemo_plan *plan, anemo_error *err) {
    const anemo_model_info *info = &plan->model->info;
    const double available = anemo_device_available_bytes(plan->device);
    const double need = plan->model->resident_bytes;
    /* Packed weights that are mapped need no memory of their own. */
    if (plan->cache != NULL && anemo_packed_cache_reads(plan->cache) &&
        plan->chooser.backend == ANEMO_CPU) {
        return ANEMO_OK;
    }
    /* Unknown; or a forced variant, which may read the weights where they lie. */
    if (available <= 0 || plan->chooser.n_rules > 0 || need <= available) {
        return ANEMO_OK;
    }
    return anemo_fail(
        err, ANEMO_E_MEMORY,
        "%s: the weights take %.1f GB of memory, and %.1f GB are available; accepted: "
        "what fits (its %.1f billion parameters would take %.1f GB as q8_0, %.1f GB "
        "as q4_0)",
        info->name, need / 1e9, available / 1e9, info->parameters / 1e9,
        info->parameters * 8.5 / 8e9, info->parameters * 4.5 / 8e9);
}
