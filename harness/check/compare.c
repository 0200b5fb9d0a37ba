/* Comparing results. One rule: an error is a fraction of its bound, and what is not a number is
 * infinitely wrong. */
#include "harness/check/compare.h"

#include <math.h>
#include <string.h>

static uint32_t bits_at(const check_field *field, int64_t i) {
    uint32_t bits;
    memcpy(&bits, (const unsigned char *)field->data + 4 * i, sizeof bits);
    return bits;
}

/* Exact fields: equal bits; two NaN are equal, but the poison is nobody's result. */
static bool same_float(const check_field *got, const check_field *want, int64_t i) {
    const float a = ((const float *)got->data)[i], b = ((const float *)want->data)[i];
    const uint32_t bits = bits_at(got, i);
    return bits == bits_at(want, i) || (isnan(a) && isnan(b) && bits != CHECK_POISON_WORD);
}

static void compare_exact(const check_field *got, const check_field *want, const char *label,
                          check_outcome *outcome) {
    for (int64_t i = 0; i < want->rows * want->columns; i++) {
        const long long row = i / want->columns, column = i % want->columns;
        if (want->kind == CHECK_FLOAT) {
            if (!same_float(got, want, i))
                check_outcome_fail(outcome, INFINITY,
                                   "%s%s[%lld, %lld] = %.9g, must be %.9g exactly", label,
                                   got->name, row, column, ((const float *)got->data)[i],
                                   ((const float *)want->data)[i]);
        } else {
            const int a = want->kind == CHECK_INT32 ? ((const int32_t *)got->data)[i]
                                                    : ((const int8_t *)got->data)[i];
            const int b = want->kind == CHECK_INT32 ? ((const int32_t *)want->data)[i]
                                                    : ((const int8_t *)want->data)[i];
            if (a != b)
                check_outcome_fail(outcome, INFINITY, "%s%s[%lld, %lld] = %d, must be %d", label,
                                   got->name, row, column, a, b);
        }
    }
}

/* What lies below the normal range (2^-126) may be flushed to zero on the way; an element that is
 * copied (no magnitude) may not. */
static double bound_of(const check_scale *scale, check_tolerance t) {
    const double floor = scale->magnitude > 0 ? 0x1p-120 : 0;
    return floor + 0x1p-24 * (t.a + t.b * sqrt(scale->terms)) * scale->magnitude +
           t.c * scale->spread;
}

static void compare_numbers(const check_field *got, const check_field *want,
                            const check_scale *scales, check_tolerance tolerance, const char *label,
                            check_outcome *outcome) {
    const float *a = got->data, *b = want->data;
    double worst = 0;
    int64_t worst_at = -1;
    for (int64_t i = 0; i < want->rows * want->columns; i++) {
        const double bound = bound_of(&scales[i], tolerance), d = fabs((double)a[i] - b[i]);
        const double error = d == 0 ? 0 : d / bound;
        if (!(error <= worst)) {
            worst = error;
            worst_at = i;
            if (isnan(error))
                break;
        }
    }
    if (worst_at < 0)
        return;
    const long long row = worst_at / want->columns, column = worst_at % want->columns;
    const double bound = bound_of(&scales[worst_at], tolerance);
    if (worst <= 1) {
        if (worst > outcome->error)
            outcome->error = worst;
    } else if (bits_at(got, worst_at) == CHECK_POISON_WORD) {
        check_outcome_fail(outcome, INFINITY, "%s%s[%lld, %lld] was not written", label, got->name,
                           row, column);
    } else {
        check_outcome_fail(outcome, worst, "%s%s[%lld, %lld] = %.9g, must be %.9g +- %.2g", label,
                           got->name, row, column, a[worst_at], b[worst_at], bound);
    }
}

void check_compare(const check_result *got, const check_result *want, const check_result *scales,
                   check_tolerance tolerance, const char *label, check_outcome *outcome) {
    for (int32_t f = 0; f < want->n_fields; f++) {
        const check_scale *scale = scales->fields[f].scale;
        if (scale && want->fields[f].kind == CHECK_FLOAT)
            compare_numbers(&got->fields[f], &want->fields[f], scale, tolerance, label, outcome);
        else
            compare_exact(&got->fields[f], &want->fields[f], label, outcome);
    }
}

void check_compare_mean(const check_result *got, const check_result *want,
                        const check_result *scales, double limit, const char *label,
                        check_outcome *outcome) {
    double wrong = 0, spread = 0;
    int64_t n = 0;
    for (int32_t f = 0; f < want->n_fields; f++) {
        const check_field *field = &want->fields[f];
        const check_scale *scale = scales->fields[f].scale;
        for (int64_t i = 0; scale && i < field->rows * field->columns; i++) {
            wrong += fabs((double)((const float *)got->fields[f].data)[i] -
                          ((const float *)field->data)[i]);
            spread += scale[i].spread;
            n += scale[i].spread > 0; /* not those that nothing was computed for */
        }
    }
    if (n < 32)
        return;
    const double error = wrong / spread / limit;
    if (!(error <= 1))
        check_outcome_fail(outcome, error, "%smean error %.3g of the spread, at most %.3g", label,
                           wrong / spread, limit);
    else if (error > outcome->error)
        outcome->error = error;
}

void check_compare_gain(const check_result *got, const check_result *want,
                        const check_result *scales, check_tolerance tolerance, const char *label,
                        check_outcome *outcome) {
    double along = 0, squares = 0, noise = 0;
    int64_t n = 0;
    for (int32_t f = 0; tolerance.c > 0 && f < want->n_fields; f++) {
        const check_field *field = &want->fields[f];
        const check_scale *scale = scales->fields[f].scale;
        for (int64_t i = 0; scale && i < field->rows * field->columns; i++) {
            const double y = ((const float *)field->data)[i];
            along += (((const float *)got->fields[f].data)[i] - y) * y;
            squares += y * y;
            noise += scale[i].spread * y * scale[i].spread * y;
            n += scale[i].spread > 0;
        }
    }
    if (n < 32)
        return;
    const double limit = 2 * tolerance.c * sqrt(noise) / squares;
    const double error = fabs(along / squares) / limit;
    if (!(error <= 1))
        check_outcome_fail(outcome, error,
                           "%sall elements together are off by a factor %.4g +- %.2g", label,
                           1 + along / squares, limit);
    else if (error > outcome->error)
        outcome->error = error;
}

void check_compare_bits(const check_result *part, const check_result *whole, int64_t begin,
                        const char *label, const char *but, check_outcome *outcome) {
    for (int32_t f = 0; f < part->n_fields; f++) {
        const check_field *a = &part->fields[f], *b = &whole->fields[f];
        if (!a->per_row)
            continue;
        const size_t row_bytes = (size_t)a->columns * (a->kind == CHECK_BYTES ? 1 : 4);
        for (int64_t r = 0; r < a->rows; r++) {
            const unsigned char *x = (const unsigned char *)a->data + (size_t)r * row_bytes;
            const unsigned char *y =
                (const unsigned char *)b->data + (size_t)(begin + r) * row_bytes;
            if (memcmp(x, y, row_bytes) != 0) {
                check_outcome_fail(outcome, INFINITY, "%srow %lld of %s has other bits, but %s",
                                   label, (long long)(begin + r), a->name, but);
                return;
            }
        }
    }
}
