/* Looking up tolerance.inc. */
#include "harness/check/check.h"
#include "harness/check/op.h"

#include <stdio.h>
#include <string.h>

typedef struct row {
    anemo_op op;
    check_class class;
    const char *class_name;
    check_tolerance tolerance;
    const char *why;
} row;

static const row rows[] = {
#define CHECK_TOLERANCE(op, class, a, b, c, mean, end_to_end, why)                                 \
    {ANEMO_OP_##op, CHECK_CLASS_##class, #class, {a, b, c, mean, end_to_end}, why},
#include "harness/check/tolerance.inc"
#undef CHECK_TOLERANCE
};
enum { ROWS = sizeof rows / sizeof *rows };

check_class check_class_of(const anemo_variant *variant) {
    if (variant->traits & ANEMO_TRAIT_REFERENCE)
        return CHECK_CLASS_REFERENCE;
    if (!variant->act || strcmp(variant->act, "f32") == 0)
        return CHECK_CLASS_F32;
    if (strcmp(variant->act, "f16_row") == 0)
        return CHECK_CLASS_F16;
    return strcmp(variant->act, "bf16") == 0 ? CHECK_CLASS_BF16 : CHECK_CLASS_A8;
}

check_tolerance check_tolerance_of(anemo_op op, check_class class) {
    for (int i = 0; i < ROWS; i++)
        if (rows[i].op == op && rows[i].class == class)
            return rows[i].tolerance;
    return (check_tolerance){0};
}

int32_t anemo_check_tolerance_count(void) {
    return ROWS;
}

anemo_check_tolerance anemo_check_tolerance_at(int32_t index) {
    const row *r = &rows[index];
    return (anemo_check_tolerance){
        r->op,          r->class_name,     r->tolerance.a,          r->tolerance.b,
        r->tolerance.c, r->tolerance.mean, r->tolerance.end_to_end, r->why};
}
