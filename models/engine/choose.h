/* Which variant serves which call of a plan.
 *
 * A call is an op in a role with one problem ("qgemm@gate_up" of one layer). By itself a plan
 * takes, of the built-in variants that support the problem here, the last of the ladder
 * (variants.inc runs from obvious to fastest) that is meant for a single row; others join for
 * larger m (anemo_variant.m_from) when they read the same layout, because a weight has exactly one
 * resident layout. Those may read other activations than the one for a single row, so that a row's
 * bits depend on how many come with it, unless the chooser is batch-invariant. References and
 * plug-ins are never picked, only forced. */
#ifndef ANEMO_CHOOSE_H
#define ANEMO_CHOOSE_H

#include "models/engine/with_rule.h"

typedef union anemo_any_problem {
    uint32_t size;
    anemo_qgemm_problem qgemm;
    anemo_quantize_act_problem quantize_act;
    anemo_moe_route_problem moe_route;
    anemo_moe_experts_problem moe_experts;
    anemo_moe_combine_problem moe_combine;
    anemo_swa_problem swa;
    anemo_add_rmsnorm_problem add_rmsnorm;
    anemo_rope_problem rope;
    anemo_embed_problem embed;
    anemo_sample_problem sample;
} anemo_any_problem;

#define ANEMO_CHOICE_RANGES 10

typedef struct anemo_choice {
    anemo_op op;
    const char *role; /* "" where an op has one role */
    int32_t phase;    /* see anemo_plan_mark() */
    anemo_any_problem problem;
    const anemo_layout *layout; /* what its weights are packed into; NULL = canonical */
    int32_t n_ranges;           /* ascending, without gap, from 1 to m_max */
    struct {
        int64_t m_lo, m_hi;
        const anemo_variant *variant;
    } range[ANEMO_CHOICE_RANGES];
} anemo_choice;

typedef struct anemo_chooser {
    anemo_backend backend;
    int32_t capability; /* of the device */
    anemo_with_rule *rules;
    int32_t n_rules;
    /* A row's result is to be the same, to the bit, whatever rows it is computed with: all ranges
     * of a call are row-invariant and read one activation format. */
    bool batch_invariant;
    /* Only variants that read floats as they are: for ops without weights in a model whose matrix
     * products do not round their activations either. What a rule names is taken all the same. */
    bool keeps_floats;
} anemo_chooser;

/* Fills ranges and layout from op, role and problem. `act` (for quantize_act) restricts the
 * variants to those that write this format; NULL otherwise. m_max: most rows of a step.
 * ANEMO_E_INPUT: a rule that cannot be met, alone or batch-invariantly; ANEMO_E_UNSUPPORTED: no
 * variant at all. */
anemo_status anemo_choose(const anemo_chooser *chooser, anemo_choice *choice, const char *act,
                          int64_t m_max, anemo_error *err);

const anemo_variant *anemo_choice_variant(const anemo_choice *choice, int64_t m);
size_t anemo_choice_workspace_bytes(const anemo_choice *choice, int32_t n_threads);

#endif
