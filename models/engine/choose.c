#include "models/engine/choose.h"

#include <stdio.h>
#include <string.h>

static bool same_text(const char *a, const char *b) {
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static const char *layout_name(const anemo_variant *variant) {
    return variant->layout != NULL ? variant->layout : "canonical";
}

static const char *act_name(const anemo_variant *variant) {
    return variant->act != NULL ? variant->act : "f32";
}

/* What one decision looks at; `act` as in anemo_choose. */
typedef struct search {
    const anemo_chooser *chooser;
    anemo_choice *choice;
    const char *act;
    int64_t m_max;
    const anemo_variant *first; /* batch-invariant: what serves one row, once it is known */
    char label[64];             /* "qgemm@gate_up" */
} search;

static bool usable(const search *s, const anemo_variant *variant, char *why, size_t why_bytes) {
    if (variant->op != s->choice->op || variant->backend != s->chooser->backend) {
        snprintf(why, why_bytes, "it runs on %s",
                 variant->backend == ANEMO_CPU ? "the CPU" : "CUDA");
        return false;
    }
    if (s->act != NULL && !same_text(variant->act, s->act)) {
        snprintf(why, why_bytes, "it writes %s, the consumer reads %s", act_name(variant), s->act);
        return false;
    }
    return anemo_variant_supports(variant, s->chooser->capability, &s->choice->problem, why,
                                  why_bytes);
}

/* Do both give a row the same bits? By their traits and the activations that they read; that they
 * do is what tests/test_scale.c checks. */
static bool same_bits(const anemo_variant *a, const anemo_variant *b) {
    return a == b ||
           ((a->traits & b->traits & ANEMO_TRAIT_ROW_INVARIANT) != 0 && same_text(a->act, b->act));
}

/* Does it take activations without rounding them? */
static bool exact(const anemo_variant *v) {
    return v->act == NULL || strcmp(v->act, "f32") == 0;
}

/* The fewest rows of a step for which a plan takes it: those of experts are shared out. */
static int64_t rows_from(const search *s, const anemo_variant *v) {
    const anemo_moe_experts_problem *p = &s->choice->problem.moe_experts;
    if (v->op != ANEMO_OP_MOE_EXPERTS || v->m_from == INT32_MAX) {
        return v->m_from;
    }
    return ((int64_t)v->m_from * p->n_experts + p->top_k - 1) / p->top_k;
}

/* The last supporting built-in of the ladder with rows_from <= m; `fixed` restricts it to one
 * layout.
 */
static const anemo_variant *pick(const search *s, int64_t m, bool fixed, const char *layout) {
    const anemo_variant *best = NULL;
    for (int32_t i = 0; i < anemo_variant_builtin_count(); i++) {
        const anemo_variant *v = anemo_variant_at(i);
        char why[256];
        if (v->op == s->choice->op && (v->traits & ANEMO_TRAIT_REFERENCE) == 0 &&
            rows_from(s, v) <= m && (!fixed || same_text(v->layout, layout)) &&
            (!s->chooser->keeps_floats || exact(v)) &&
            (s->first == NULL || same_bits(v, s->first)) && usable(s, v, why, sizeof why)) {
            best = v;
        }
    }
    return best;
}

/* quantize_act has one call per format: an unnamed role means the call whose format the variant
 * writes. */
static bool meets(const search *s, const anemo_with_rule *rule) {
    return rule->op == s->choice->op && rule->m_lo <= s->m_max &&
           (rule->role[0] != '\0' ? strcmp(rule->role, s->choice->role) == 0
                                  : s->act == NULL || same_text(rule->variant->act, s->act));
}

/* The last rule that covers m wins, as on any command line; those of a file of choices come first,
 * and do not count where what a person forces has fixed another layout. */
static anemo_with_rule *rule_for(const search *s, int64_t m, const char *layout) {
    for (int32_t i = s->chooser->n_rules - 1; i >= 0; i--) {
        anemo_with_rule *rule = &s->chooser->rules[i];
        if (meets(s, rule) && rule->m_lo <= m && m <= rule->m_hi &&
            !(rule->soft && !same_text(rule->variant->layout, layout))) {
            return rule;
        }
    }
    return NULL;
}

/* The next row count after m at which another variant could begin. */
static int64_t next_border(const search *s, int64_t m) {
    int64_t next = s->m_max + 1;
    for (int32_t i = 0; i < anemo_variant_builtin_count(); i++) {
        const anemo_variant *v = anemo_variant_at(i);
        const int64_t from = v->op == s->choice->op ? rows_from(s, v) : 0;
        if (from > m && from < next) {
            next = from;
        }
    }
    for (int32_t i = 0; i < s->chooser->n_rules; i++) {
        const anemo_with_rule *rule = &s->chooser->rules[i];
        if (!meets(s, rule)) {
            continue;
        }
        if (rule->m_lo > m && rule->m_lo < next) {
            next = rule->m_lo;
        }
        if (rule->m_hi >= m && rule->m_hi < next - 1) {
            next = rule->m_hi + 1;
        }
    }
    return next;
}

/* The layout of this call's weights: that of the rules that meet it (which must agree), else of the
 * variant picked for one row. */
static anemo_status fix_layout(const search *s, const char **layout, anemo_error *err) {
    const anemo_with_rule *first = NULL;
    for (int32_t i = s->chooser->n_rules - 1; i >= 0; i--) { /* what a person forces comes last */
        anemo_with_rule *rule = &s->chooser->rules[i];
        if (!meets(s, rule) || (rule->soft && first != NULL && !first->soft)) {
            continue;
        }
        rule->used = true;
        if (first != NULL && !same_text(first->variant->layout, rule->variant->layout)) {
            const char *option = anemo_with_rule_option(rule);
            return anemo_fail(
                err, ANEMO_E_INPUT,
                "%s %s and %s %s read different weight layouts (%s, %s); a weight has "
                "one resident layout",
                option, rule->text, option, first->text, layout_name(rule->variant),
                layout_name(first->variant));
        }
        first = rule;
    }
    const anemo_variant *v = first != NULL ? first->variant : pick(s, 1, false, NULL);
    if (v == NULL) {
        return anemo_fail(err, ANEMO_E_UNSUPPORTED,
                          "%s: no variant supports this problem on this machine", s->label);
    }
    *layout = v->layout;
    return ANEMO_OK;
}

/* Batch-invariant: is `v`, for m rows, what a row alone would get? */
static anemo_status keep_bits(search *s, const anemo_variant *v, int64_t m, anemo_error *err) {
    if (!s->chooser->batch_invariant) {
        return ANEMO_OK;
    }
    if ((v->traits & ANEMO_TRAIT_ROW_INVARIANT) == 0) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "--with %s: %s of %s gives a row other bits with other rows beside it",
                          ANEMO_WITH_BATCH_INVARIANT, v->name, s->label);
    }
    s->first = s->first != NULL ? s->first : v;
    if (!same_bits(v, s->first)) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "--with %s: %s serves 1 row of %s and %s %lld; they read %s and %s",
                          ANEMO_WITH_BATCH_INVARIANT, s->first->name, s->label, v->name,
                          (long long)m, act_name(s->first), act_name(v));
    }
    return ANEMO_OK;
}

static anemo_status add_range(anemo_choice *choice, int64_t lo, int64_t hi, const anemo_variant *v,
                              anemo_error *err) {
    if (choice->n_ranges > 0 && choice->range[choice->n_ranges - 1].variant == v) {
        choice->range[choice->n_ranges - 1].m_hi = hi;
        return ANEMO_OK;
    }
    if (choice->n_ranges == ANEMO_CHOICE_RANGES) {
        return anemo_fail(err, ANEMO_E_INPUT, "%s: more than %d row ranges with different variants",
                          anemo_op_name(choice->op), ANEMO_CHOICE_RANGES);
    }
    choice->range[choice->n_ranges].m_lo = lo;
    choice->range[choice->n_ranges].m_hi = hi;
    choice->range[choice->n_ranges].variant = v;
    choice->n_ranges++;
    return ANEMO_OK;
}

anemo_status anemo_choose(const anemo_chooser *chooser, anemo_choice *choice, const char *act,
                          int64_t m_max, anemo_error *err) {
    search s = {.chooser = chooser, .choice = choice, .act = act, .m_max = m_max};
    snprintf(s.label, sizeof s.label, "%s%s%s", anemo_op_name(choice->op),
             choice->role[0] != '\0' ? "@" : "", choice->role);
    const char *layout = NULL;
    choice->n_ranges = 0;
    anemo_status status = fix_layout(&s, &layout, err);
    for (int64_t m = 1, next; status == ANEMO_OK && m <= m_max; m = next) {
        next = next_border(&s, m);
        const anemo_with_rule *rule = rule_for(&s, m, layout);
        const anemo_variant *v = rule != NULL ? rule->variant : pick(&s, m, true, layout);
        char why[256];
        if (v == NULL) {
            return anemo_fail(
                err, ANEMO_E_INPUT,
                "%s: no variant reads layout %s for %lld rows; force one for all rows", s.label,
                layout != NULL ? layout : "canonical", (long long)m);
        }
        if (rule != NULL && !usable(&s, v, why, sizeof why)) {
            return anemo_fail(err, ANEMO_E_INPUT, "%s %s: %s cannot run %s here: %s",
                              anemo_with_rule_option(rule), rule->text, v->name, s.label, why);
        }
        status = keep_bits(&s, v, m, err);
        status = status == ANEMO_OK ? add_range(choice, m, next - 1, v, err) : status;
    }
    choice->layout = layout != NULL ? anemo_layout_find(layout) : NULL;
    return status;
}

const anemo_variant *anemo_choice_variant(const anemo_choice *choice, int64_t m) {
    for (int32_t i = 0; i < choice->n_ranges; i++) {
        if (m <= choice->range[i].m_hi) {
            return choice->range[i].variant;
        }
    }
    return NULL;
}

size_t anemo_choice_workspace_bytes(const anemo_choice *choice, int32_t n_threads) {
    size_t most = 0;
    for (int32_t i = 0; i < choice->n_ranges; i++) {
        const anemo_variant *v = choice->range[i].variant;
        const size_t bytes =
            v->workspace_bytes != NULL ? v->workspace_bytes(&choice->problem, n_threads) : 0;
        most = bytes > most ? bytes : most;
    }
    return most;
}
