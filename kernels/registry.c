/* The registry: what this build knows, and what plug-ins add.
 *
 * Built-in things come from the X-macro lists (variants.inc of each op family, layouts.inc,
 * acts.inc); a variant is one line there. Plug-ins are appended behind them, all or nothing: what
 * they bring is checked completely before the first pointer is taken. Tables are static, because
 * this room never allocates. */
#include "anemo_config.h"
#include "kernels/device.h"
#include "kernels/internal.h"

#define ANEMO_VARIANT(name)            extern const anemo_variant anemo_##name;
#define ANEMO_LAYOUT(name)             extern const anemo_layout anemo_layout_##name;
#define ANEMO_ACT(name, columns, bits) extern const anemo_act anemo_act_##name;
#include "kernels/acts.inc"
#include "kernels/dense/variants.inc"
#include "kernels/layouts.inc"
#include "kernels/moe/variants.inc"
#include "kernels/qgemm/variants.inc"
#include "kernels/swa/variants.inc"
#undef ANEMO_VARIANT
#undef ANEMO_LAYOUT
#undef ANEMO_ACT

#define ANEMO_VARIANT(name)            &anemo_##name,
#define ANEMO_LAYOUT(name)             &anemo_layout_##name,
#define ANEMO_ACT(name, columns, bits) &anemo_act_##name,
static const anemo_variant *const built_in_variants[] = {
#include "kernels/qgemm/variants.inc"

#include "kernels/moe/variants.inc"

#include "kernels/swa/variants.inc"

#include "kernels/dense/variants.inc"
    NULL};
static const anemo_layout *const built_in_layouts[] = {
#include "kernels/layouts.inc"
    NULL};
static const anemo_act *const built_in_acts[] = {
#include "kernels/acts.inc"
    NULL};

enum {
    BUILT_IN_VARIANTS = sizeof built_in_variants / sizeof *built_in_variants - 1,
    BUILT_IN_LAYOUTS = sizeof built_in_layouts / sizeof *built_in_layouts - 1,
    BUILT_IN_ACTS = sizeof built_in_acts / sizeof *built_in_acts - 1,
    ADDED_MAX = 256 /* of each kind, from all plug-ins */
};

static const anemo_variant *added_variants[ADDED_MAX];
static const anemo_layout *added_layouts[ADDED_MAX];
static const anemo_act *added_acts[ADDED_MAX];
static int32_t n_added_variants, n_added_layouts, n_added_acts;

/* ---------------------------------------------------------------- looking up */

int32_t anemo_variant_count(void) {
    return BUILT_IN_VARIANTS + n_added_variants;
}

int32_t anemo_variant_builtin_count(void) {
    return BUILT_IN_VARIANTS;
}

const anemo_variant *anemo_variant_at(int32_t index) {
    if (index < 0 || index >= anemo_variant_count()) {
        return NULL;
    }
    return index < BUILT_IN_VARIANTS ? built_in_variants[index]
                                     : added_variants[index - BUILT_IN_VARIANTS];
}

const anemo_variant *anemo_variant_find(const char *name) {
    for (int32_t i = 0; name && i < anemo_variant_count(); i++) {
        if (strcmp(anemo_variant_at(i)->name, name) == 0) {
            return anemo_variant_at(i);
        }
    }
    return NULL;
}

const anemo_variant *anemo_variant_reference(anemo_op op) {
    for (int32_t i = 0; i < BUILT_IN_VARIANTS; i++) {
        const anemo_variant *v = built_in_variants[i];
        if (v->op == op && v->traits & ANEMO_TRAIT_REFERENCE) {
            return v;
        }
    }
    return NULL;
}

int32_t anemo_layout_count(void) {
    return BUILT_IN_LAYOUTS + n_added_layouts;
}

const anemo_layout *anemo_layout_at(int32_t index) {
    if (index < 0 || index >= anemo_layout_count()) {
        return NULL;
    }
    return index < BUILT_IN_LAYOUTS ? built_in_layouts[index]
                                    : added_layouts[index - BUILT_IN_LAYOUTS];
}

const anemo_layout *anemo_layout_find(const char *name) {
    for (int32_t i = 0; name && i < anemo_layout_count(); i++) {
        if (strcmp(anemo_layout_at(i)->name, name) == 0) {
            return anemo_layout_at(i);
        }
    }
    return NULL;
}

int32_t anemo_act_count(void) {
    return BUILT_IN_ACTS + n_added_acts;
}

const anemo_act *anemo_act_at(int32_t index) {
    if (index < 0 || index >= anemo_act_count()) {
        return NULL;
    }
    return index < BUILT_IN_ACTS ? built_in_acts[index] : added_acts[index - BUILT_IN_ACTS];
}

const anemo_act *anemo_act_find(const char *name) {
    const char *wanted = name ? name : "f32";
    for (int32_t i = 0; i < anemo_act_count(); i++) {
        if (strcmp(anemo_act_at(i)->name, wanted) == 0) {
            return anemo_act_at(i);
        }
    }
    return NULL;
}

#define ANEMO_EXERCISE(name) extern const anemo_exercise anemo_exercise_##name;
#include "kernels/probe/exercises.inc"
#undef ANEMO_EXERCISE
#define ANEMO_EXERCISE(name) &anemo_exercise_##name,
static const anemo_exercise *const exercises[] = {
#include "kernels/probe/exercises.inc"
    NULL};

const anemo_exercise *anemo_exercise_at(int32_t index) {
    const int32_t n = sizeof exercises / sizeof *exercises;
    return index >= 0 && index < n ? exercises[index] : NULL;
}

/* ---------------------------------------------------------------- plug-ins */

/* Names go into records, command lines and file names. */
static bool good_name(const char *name) {
    const size_t length = name ? strlen(name) : 0;
    return length >= 1 && length <= 64 &&
           strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_") == length;
}

static anemo_status check_acts(const anemo_plugin *p, anemo_error *err) {
    for (int32_t i = 0; i < p->n_acts; i++) {
        const anemo_act *a = p->acts[i];
        if (!a || a->size < sizeof *a || !good_name(a->name) || !a->row_bytes) {
            return anemo_fail(err, ANEMO_E_INPUT,
                              "plug-in %s: activation format %d has a short struct (%u bytes, at "
                              "least %zu), a bad name ([a-z0-9_], 1 to 64) or no row_bytes",
                              p->name, i, a ? a->size : 0, sizeof *a);
        }
        bool taken = anemo_act_find(a->name) != NULL;
        for (int32_t j = 0; j < i; j++) {
            taken = taken || strcmp(p->acts[j]->name, a->name) == 0;
        }
        if (taken) {
            return anemo_fail(err, ANEMO_E_INPUT, "plug-in %s: activation format %s exists already",
                              p->name, a->name);
        }
    }
    return ANEMO_OK;
}

static anemo_status check_layouts(const anemo_plugin *p, anemo_error *err) {
    for (int32_t i = 0; i < p->n_layouts; i++) {
        const anemo_layout *l = p->layouts[i];
        if (!l || l->size < sizeof *l || !good_name(l->name) || l->row_block < 1) {
            return anemo_fail(err, ANEMO_E_INPUT,
                              "plug-in %s: layout %d has a short struct (%u bytes, at least %zu), "
                              "a bad name ([a-z0-9_], 1 to 64) or a row_block below 1",
                              p->name, i, l ? l->size : 0, sizeof *l);
        }
        if (!l->accepts || !l->packed_bytes || !l->pack || !l->unpack) {
            return anemo_fail(err, ANEMO_E_INPUT,
                              "plug-in %s: layout %s lacks one of accepts, packed_bytes, pack, "
                              "unpack",
                              p->name, l->name);
        }
        bool taken = anemo_layout_find(l->name) != NULL;
        for (int32_t j = 0; j < i; j++) {
            taken = taken || strcmp(p->layouts[j]->name, l->name) == 0;
        }
        if (taken) {
            return anemo_fail(err, ANEMO_E_INPUT, "plug-in %s: layout %s exists already", p->name,
                              l->name);
        }
    }
    return ANEMO_OK;
}

static bool layout_known(const anemo_plugin *p, const char *name) {
    bool known = anemo_layout_find(name) != NULL;
    for (int32_t i = 0; i < p->n_layouts; i++) {
        known = known || strcmp(p->layouts[i]->name, name) == 0;
    }
    return known;
}

static bool act_known(const anemo_plugin *p, const char *name) {
    bool known = anemo_act_find(name) != NULL;
    for (int32_t i = 0; i < p->n_acts; i++) {
        known = known || strcmp(p->acts[i]->name, name) == 0;
    }
    return known;
}

static anemo_status check_variant(const anemo_plugin *p, int32_t index, anemo_error *err) {
    const anemo_variant *v = p->variants[index];
    if (!v || v->size < sizeof *v || !good_name(v->name)) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "plug-in %s: variant %d has a short struct (%u bytes, at least %zu) or "
                          "a bad name ([a-z0-9_], 1 to 64)",
                          p->name, index, v ? v->size : 0, sizeof *v);
    }
    if (!v->accepts || !v->workspace_bytes || !v->run || !v->idea) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "plug-in %s: variant %s lacks one of accepts, workspace_bytes, run, idea",
                          p->name, v->name);
    }
    if ((unsigned)v->op >= ANEMO_OP_COUNT ||
        (v->backend != ANEMO_CPU && v->backend != ANEMO_CUDA)) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "plug-in %s: variant %s has op %d, backend %d; op below %d, backend 0 "
                          "(cpu) or 1 (cuda) are accepted",
                          p->name, v->name, (int)v->op, (int)v->backend, ANEMO_OP_COUNT);
    }
    if (v->layout && !layout_known(p, v->layout)) {
        return anemo_fail(err, ANEMO_E_INPUT, "plug-in %s: variant %s reads unknown layout %s",
                          p->name, v->name, v->layout);
    }
    if (v->act && !act_known(p, v->act)) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "plug-in %s: variant %s names unknown activation format %s", p->name,
                          v->name, v->act);
    }
    if (v->op == ANEMO_OP_QUANTIZE_ACT && !v->act) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "plug-in %s: variant %s must name the activation format it writes",
                          p->name, v->name);
    }
    bool taken = anemo_variant_find(v->name) != NULL;
    for (int32_t j = 0; j < index; j++) {
        taken = taken || strcmp(p->variants[j]->name, v->name) == 0;
    }
    if (taken) {
        return anemo_fail(err, ANEMO_E_INPUT, "plug-in %s: variant %s exists already", p->name,
                          v->name);
    }
    return ANEMO_OK;
}

static anemo_status check_plugin(const anemo_plugin *p, anemo_error *err) {
    if (!p || p->size < sizeof *p || !p->name) {
        return anemo_fail(
            err, ANEMO_E_INPUT,
            "plug-in: no description, a short one (%u bytes, at least %zu) or no name",
            p ? p->size : 0, sizeof *p);
    }
    if (p->abi_major != ANEMO_ABI_MAJOR) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "plug-in %s: built for kernel ABI %u.%u; this anemo accepts %d.x",
                          p->name, p->abi_major, p->abi_minor, ANEMO_ABI_MAJOR);
    }
    if (p->n_variants < 0 || p->n_layouts < 0 || p->n_acts < 0 || (p->n_variants && !p->variants) ||
        (p->n_layouts && !p->layouts) || (p->n_acts && !p->acts)) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "plug-in %s: a negative count, or a count without its array", p->name);
    }
    if (p->n_variants > ADDED_MAX - n_added_variants ||
        p->n_layouts > ADDED_MAX - n_added_layouts || p->n_acts > ADDED_MAX - n_added_acts) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "plug-in %s: more than %d variants, layouts or activation formats in all "
                          "plug-ins",
                          p->name, (int)ADDED_MAX);
    }
    return ANEMO_OK;
}

anemo_status anemo_registry_add(const anemo_plugin *plugin, anemo_error *err) {
    anemo_status status = check_plugin(plugin, err);
    if (status == ANEMO_OK) {
        status = check_acts(plugin, err);
    }
    if (status == ANEMO_OK) {
        status = check_layouts(plugin, err);
    }
    for (int32_t i = 0; status == ANEMO_OK && i < plugin->n_variants; i++) {
        status = check_variant(plugin, i, err);
    }
    if (status != ANEMO_OK) {
        return status;
    }
    for (int32_t i = 0; i < plugin->n_acts; i++) {
        added_acts[n_added_acts++] = plugin->acts[i];
    }
    for (int32_t i = 0; i < plugin->n_layouts; i++) {
        added_layouts[n_added_layouts++] = plugin->layouts[i];
    }
    for (int32_t i = 0; i < plugin->n_variants; i++) {
        added_variants[n_added_variants++] = plugin->variants[i];
    }
    return ANEMO_OK;
}

/* ---------------------------------------------------------------- may it run? */

bool anemo_variant_runs_here(const anemo_variant *variant, int32_t capability, char *why,
                             size_t why_bytes) {
    const anemo_needs *needs = &variant->needs;
    const uint32_t missing = needs->cpu_features & ~anemo_cpu_features();
    if (missing) {
        const uint32_t one = missing & -missing;
        return anemo_refuse(why, why_bytes, "%s %s",
                            anemo_cpu_features_hardware() & one ? "by request without"
                                                                : "this processor has no",
                            anemo_cpu_feature_name(one));
    }
    if (variant->backend != ANEMO_CUDA) {
        return true;
    }
    if (capability <= 0) {
        return anemo_refuse(why, why_bytes, "needs an NVIDIA GPU, and none is in use");
    }
    if (needs->exact_capability && capability != needs->exact_capability) {
        return anemo_refuse(why, why_bytes,
                            "is made for compute capability %d.%d alone; this GPU has %d.%d",
                            needs->exact_capability / 10, needs->exact_capability % 10,
                            capability / 10, capability % 10);
    }
    if (capability < needs->min_capability) {
        return anemo_refuse(why, why_bytes, "needs compute capability %d.%d; this GPU has %d.%d",
                            needs->min_capability / 10, needs->min_capability % 10, capability / 10,
                            capability % 10);
    }
    return true;
}

bool anemo_variant_supports(const anemo_variant *variant, int32_t capability, const void *problem,
                            char *why, size_t why_bytes) {
    if (!anemo_variant_runs_here(variant, capability, why, why_bytes)) {
        return false;
    }
    anemo_problem_weight weights[3];
    const int32_t n_weights = anemo_problem_weights(variant->op, problem, weights);
    if (n_weights < 0) {
        return anemo_refuse(why, why_bytes, "the problem has a wrong number of parts; 1 to %d",
                            ANEMO_QGEMM_PARTS);
    }
    const anemo_layout *layout = variant->layout ? anemo_layout_find(variant->layout) : NULL;
    if (variant->layout && !layout) {
        return anemo_refuse(why, why_bytes, "its layout %s is not registered", variant->layout);
    }
    for (int32_t i = 0; i < n_weights; i++) {
        const anemo_problem_weight *w = &weights[i];
        if (!anemo_weight_type_valid(w->type, w->k, why, why_bytes) ||
            (layout && !layout->accepts(w->type, w->n, w->k, why, why_bytes))) {
            return false;
        }
    }
    return variant->accepts(problem, why, why_bytes);
}
