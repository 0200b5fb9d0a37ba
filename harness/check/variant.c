/* One variant in one case.
 *
 *     result on one thread (or the GPU)  against the reference (which is held against the oracle)
 *     ... on several threads             against the same, and bit for bit if ROW_INVARIANT; else
 *                                        bit for bit from one run to the next
 *     ... some rows alone                bit for bit if ROW_INVARIANT
 *     ... on the GPU once more           bit for bit
 *     ... once more, end to end          against the reference on unquantised input
 *
 * What is expected depends on the activation format that the variant reads, and is computed once
 * for all variants that read the same. */
#include "harness/check/compare.h"
#include "harness/check/internal.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLAIM "the variant claims ROW_INVARIANT"

/* ---------------------------------------------------------------- expectations */

typedef struct expectation {
    const char *feed;    /* the variant's own string */
    bool has_oracle;     /* the second formulation is there */
    anemo_status status; /* of both */
    char fault[224];
    check_result oracle, reference;
} expectation;

enum { FEEDS = 8 };
struct check_expectations {
    int32_t n;
    expectation of[FEEDS];
};

check_expectations *check_expectations_create(void) {
    return calloc(1, sizeof(check_expectations));
}

void check_expectations_free(check_expectations *expectations) {
    for (int32_t i = 0; expectations && i < expectations->n; i++) {
        check_result_free(&expectations->of[i].oracle);
        check_result_free(&expectations->of[i].reference);
    }
    free(expectations);
}

static const char *feed_of(const anemo_variant *variant) {
    return variant->act ? variant->act : "f32";
}

/* The reference that defines what `feed` gives: quantize_act has one per format it writes. */
static const anemo_variant *reference_for(anemo_op op, const char *feed) {
    if (op != ANEMO_OP_QUANTIZE_ACT)
        return anemo_variant_reference(op);
    for (int32_t i = 0; i < anemo_variant_count(); i++) {
        const anemo_variant *v = anemo_variant_at(i);
        if (v->op == op && v->traits & ANEMO_TRAIT_REFERENCE && strcmp(feed_of(v), feed) == 0)
            return v;
    }
    return NULL;
}

static void compute(check_session *session, const check_op *op, void *fixture, expectation *e) {
    const anemo_variant *reference = reference_for(op->op, e->feed);
    e->status = op->oracle(fixture, e->feed, &e->oracle);
    if (e->status != ANEMO_OK) {
        snprintf(e->fault, sizeof e->fault,
                 "activation format %s is not one the checker knows, or memory is short", e->feed);
        return;
    }
    e->has_oracle = true;
    if (!reference) {
        e->status = ANEMO_E_UNSUPPORTED;
        snprintf(e->fault, sizeof e->fault, "there is no reference for %s %s",
                 anemo_op_name(op->op), e->feed);
        return;
    }
    const check_run run = {reference, session->one, e->feed, 0, op->rows(fixture), NULL};
    e->status = op->execute(fixture, &run, &e->reference, e->fault, sizeof e->fault);
}

static const expectation *expect(check_session *session, const check_op *op, void *fixture,
                                 check_expectations *all, const char *feed) {
    for (int32_t i = 0; i < all->n; i++)
        if (strcmp(all->of[i].feed, feed) == 0)
            return &all->of[i];
    if (all->n == FEEDS)
        return NULL;
    expectation *e = &all->of[all->n++];
    e->feed = feed;
    compute(session, op, fixture, e);
    return e;
}

/* ---------------------------------------------------------------- one variant */

/* What the steps below share. */
typedef struct examination {
    check_session *session;
    const check_op *op;
    void *fixture;
    const anemo_variant *variant;
    const expectation *expected;
    const check_result *want; /* the oracle's or the reference's */
    check_tolerance tolerance;
    check_result got; /* all rows, on session->device */
    check_outcome *outcome;
} examination;

static bool execute(examination *x, anemo_device *device, int64_t begin, int64_t end,
                    void (*mark)(const anemo_exec *, int32_t), const char *label,
                    check_result *result) {
    char fault[224] = "";
    const check_run run = {x->variant, device, x->expected->feed, begin, end, mark};
    const anemo_status status = x->op->execute(x->fixture, &run, result, fault, sizeof fault);
    if (status != ANEMO_OK)
        check_outcome_fail(x->outcome, INFINITY, "%s%s", label,
                           fault[0] ? fault : anemo_status_name(status));
    return status == ANEMO_OK;
}

static bool whole(examination *x) {
    if (!execute(x, x->session->device, 0, x->op->rows(x->fixture), NULL, "", &x->got))
        return false;
    check_compare(&x->got, x->want, &x->expected->oracle, x->tolerance, "", x->outcome);
    if (x->tolerance.mean > 0)
        check_compare_mean(&x->got, x->want, &x->expected->oracle, x->tolerance.mean, "",
                           x->outcome);
    check_compare_gain(&x->got, x->want, &x->expected->oracle, x->tolerance, "", x->outcome);
    return true;
}

/* The time ledger calls back from inside a kernel; a variant must be able to bear it. */
static void take_no_note(const anemo_exec *exec, int32_t phase) {
    (void)exec, (void)phase;
}

/* From run to run nothing may change, not even where the result depends on the team. */
static void again(examination *x, anemo_device *device, const check_result *first) {
    check_result got = {0};
    if (execute(x, device, 0, x->op->rows(x->fixture), NULL, "once more: ", &got))
        check_compare_bits(&got, first, 0, "once more: ", "nothing was changed between",
                           x->outcome);
    check_result_free(&got);
}

static void on_a_team(examination *x) {
    check_result got = {0};
    char label[40];
    snprintf(label, sizeof label, "on %d threads: ", anemo_device_exec(x->session->team).n_threads);
    if (execute(x, x->session->team, 0, x->op->rows(x->fixture), take_no_note, label, &got)) {
        check_compare(&got, x->want, &x->expected->oracle, x->tolerance, label, x->outcome);
        if (x->variant->traits & ANEMO_TRAIT_ROW_INVARIANT)
            check_compare_bits(&got, &x->got, 0, label, CLAIM, x->outcome);
        else
            again(x, x->session->team, &got);
    }
    check_result_free(&got);
}

static void rows_alone(examination *x, int64_t begin, int64_t end) {
    check_result got = {0};
    char label[64];
    snprintf(label, sizeof label, "rows %lld..%lld alone: ", (long long)begin, (long long)end - 1);
    if (execute(x, x->session->device, begin, end, NULL, label, &got))
        check_compare_bits(&got, &x->got, begin, label, CLAIM, x->outcome);
    check_result_free(&got);
}

static void row_invariance(examination *x) {
    const int64_t rows = x->op->rows(x->fixture);
    if (!(x->variant->traits & ANEMO_TRAIT_ROW_INVARIANT) || rows < 2)
        return;
    rows_alone(x, 0, 1);
    rows_alone(x, rows - 1, rows);
    if (rows > 3)
        rows_alone(x, rows / 3, rows - 1);
}

static void end_to_end(examination *x, check_expectations *all) {
    if (!(x->tolerance.end_to_end > 0))
        return;
    const expectation *exact = expect(x->session, x->op, x->fixture, all, "f32");
    if (!exact || exact->status != ANEMO_OK)
        check_outcome_fail(x->outcome, INFINITY, "end to end: the reference failed");
    else
        check_compare_mean(&x->got, &exact->reference, &exact->oracle, x->tolerance.end_to_end,
                           "end to end: ", x->outcome);
}

static bool holds_nan(const check_result *result) {
    for (int32_t i = 0; i < result->n_fields; i++) {
        const check_field *field = &result->fields[i];
        const float *value = field->data;
        for (int64_t j = 0; field->kind == CHECK_FLOAT && j < field->rows * field->columns; j++)
            if (isnan(value[j]))
                return true;
    }
    return false;
}

/* Inputs that say nothing: the reference, too, is only asked for its refusal. A GPU's comes as a
 * NaN in the results (kernel.h, moe_route), which its check of the fences has then passed. */
static void refusal(check_session *session, const check_op *op, void *fixture,
                    const anemo_variant *variant, check_outcome *outcome) {
    anemo_device *const devices[] = {session->device, session->team};
    for (int i = 0; i < 2; i++) {
        check_result result = {0};
        char fault[224] = "";
        const check_run run = {variant, devices[i], feed_of(variant), 0, op->rows(fixture), NULL};
        const anemo_status status =
            devices[i] ? op->execute(fixture, &run, &result, fault, sizeof fault) : ANEMO_E_NUMERIC;
        const bool shown =
            variant->backend == ANEMO_CUDA && status == ANEMO_OK && holds_nan(&result);
        if (status != ANEMO_E_NUMERIC && !shown)
            check_outcome_fail(outcome, INFINITY, "must return %s%s: %s",
                               anemo_status_name(ANEMO_E_NUMERIC),
                               variant->backend == ANEMO_CUDA ? " or a NaN" : "",
                               fault[0] ? fault : "run returned ok");
        check_result_free(&result);
    }
}

void check_variant(check_session *session, const check_op *op, void *fixture,
                   check_expectations *expectations, const anemo_variant *variant,
                   check_outcome *outcome) {
    if (op->must_refuse && op->must_refuse(fixture)) {
        refusal(session, op, fixture, variant, outcome);
        return;
    }
    const check_class class = check_class_of(variant);
    const expectation *expected = expect(session, op, fixture, expectations, feed_of(variant));
    const bool is_reference = class == CHECK_CLASS_REFERENCE;
    /* A reference that fails is reported under its own name as well. */
    if (!expected || !expected->has_oracle || (expected->status != ANEMO_OK && !is_reference)) {
        check_outcome_fail(outcome, INFINITY, "nothing to compare with: %s",
                           expected ? expected->fault : "too many activation formats");
        return;
    }
    examination x = {.session = session,
                     .op = op,
                     .fixture = fixture,
                     .variant = variant,
                     .expected = expected,
                     .want = is_reference ? &expected->oracle : &expected->reference,
                     .tolerance = check_tolerance_of(op->op, class),
                     .outcome = outcome};
    if (whole(&x)) {
        if (session->team)
            on_a_team(&x);
        else
            again(&x, session->device, &x.got);
        row_invariance(&x);
        end_to_end(&x, expectations);
    }
    check_result_free(&x.got);
}
