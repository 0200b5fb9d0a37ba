#include "models/engine/with_rule.h"

#include <stdlib.h>
#include <string.h>

static anemo_status malformed(const char *text, const char *what, anemo_error *err) {
    return anemo_fail(
        err, ANEMO_E_INPUT,
        "--with %s: %s; expected OP[@ROLE][:m=LO..HI]=VARIANT or " ANEMO_WITH_BATCH_INVARIANT, text,
        what);
}

/* "m=N", "m=LO..HI" or "m=LO.." in [begin, end). */
static bool parse_range(const char *begin, const char *end, int64_t *lo, int64_t *hi) {
    if (end - begin < 3 || strncmp(begin, "m=", 2) != 0) {
        return false;
    }
    char *stop;
    *lo = strtoll(begin + 2, &stop, 10);
    if (stop == begin + 2 || *lo < 1) {
        return false;
    }
    *hi = *lo;
    if (stop == end) {
        return true;
    }
    if (strncmp(stop, "..", 2) != 0) {
        return false;
    }
    const char *second = stop + 2;
    if (second == end) {
        *hi = INT64_MAX;
        return true;
    }
    *hi = strtoll(second, &stop, 10);
    return stop == end && *hi >= *lo;
}

static anemo_status parse_variant(const char *name, anemo_with_rule *rule, anemo_error *err) {
    rule->variant = anemo_variant_find(name);
    if (rule->variant == NULL) {
        return anemo_fail(
            err, ANEMO_E_INPUT,
            "--with %s: variant is %s, which is not known; `anemo list variants` names "
            "those that are",
            rule->text, name);
    }
    if (rule->variant->op != rule->op) {
        return anemo_fail(err, ANEMO_E_INPUT, "--with %s: %s computes %s, not %s", rule->text, name,
                          anemo_op_name(rule->variant->op), anemo_op_name(rule->op));
    }
    return ANEMO_OK;
}

anemo_status anemo_with_rule_parse(const char *text, anemo_with_rule *rule, anemo_error *err) {
    memset(rule, 0, sizeof *rule);
    rule->text = text;
    rule->m_lo = 1;
    rule->m_hi = INT64_MAX;
    const char *equals = strrchr(text, '=');
    if (equals == NULL || equals[1] == '\0') {
        return malformed(text, "no variant is named", err);
    }
    const char *colon = memchr(text, ':', (size_t)(equals - text));
    const char *head_end = colon != NULL ? colon : equals;
    if (colon != NULL && !parse_range(colon + 1, equals, &rule->m_lo, &rule->m_hi)) {
        return malformed(text, "the row range is not m=LO..HI with 1 <= LO <= HI", err);
    }
    const char *at = memchr(text, '@', (size_t)(head_end - text));
    const char *op_end = at != NULL ? at : head_end;
    char op[32];
    if (op_end == text || (size_t)(op_end - text) >= sizeof op) {
        return malformed(text, "no op is named", err);
    }
    memcpy(op, text, (size_t)(op_end - text));
    op[op_end - text] = '\0';
    if (!anemo_op_from_name(op, &rule->op)) {
        return anemo_fail(
            err, ANEMO_E_INPUT,
            "--with %s: op is %s, which is not known; `anemo list ops` names those that are", text,
            op);
    }
    if (at != NULL) {
        const size_t bytes = (size_t)(head_end - at - 1);
        if (bytes == 0 || bytes >= sizeof rule->role) {
            return malformed(text, "the role is empty or too long", err);
        }
        memcpy(rule->role, at + 1, bytes);
    }
    return parse_variant(equals + 1, rule, err);
}
