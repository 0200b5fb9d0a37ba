/* `--with OP[@ROLE][:m=LO..HI]=VARIANT`: which variant a person forces on which calls of a plan. */
#ifndef ANEMO_WITH_RULE_H
#define ANEMO_WITH_RULE_H

#include "kernels/kernel.h"

/* Stands where rules stand, and forces no variant: anemo_chooser.batch_invariant. */
#define ANEMO_WITH_BATCH_INVARIANT "batch-invariant"

typedef struct anemo_with_rule {
    const char *text; /* as given, for error sentences */
    anemo_op op;
    char role[24]; /* "" = every role of the op */
    int64_t m_lo, m_hi;
    const anemo_variant *variant;
    /* From a file of choices: need not meet a call, and gives way to what a person forces. */
    bool soft;
    bool used; /* set when it met at least one call */
} anemo_with_rule;

/* The option that a rule came from, for sentences. */
static inline const char *anemo_with_rule_option(const anemo_with_rule *rule) {
    return rule->soft ? "--choices" : "--with";
}

/* ANEMO_E_INPUT: malformed, unknown op or variant, a variant of another op. `text` must outlive the
 * rule. */
anemo_status anemo_with_rule_parse(const char *text, anemo_with_rule *rule, anemo_error *err);

#endif
