/* The built-in activation formats, from the words of kernel.h ("The a8 record"): one column at a
 * time, rounding by rint() in double on the float product that the definition names. */
#include "harness/check/number.h"
#include "harness/check/op.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* -1: not an a8 format. */
static int32_t a8_group(const char *format) {
    const anemo_act *act = anemo_act_find(format);
    return act && strncmp(format, "a8_", 3) == 0 ? act->group : -1;
}

/* Where the pieces of an a8 record lie. */
typedef struct a8_record {
    int64_t padded_k, groups, columns; /* columns per group */
    size_t scales_at, sums_at;
} a8_record;

static a8_record a8_shape(int32_t group, int64_t k) {
    a8_record r;
    r.padded_k = (k + 127) / 128 * 128;
    r.columns = group > 0 ? group : r.padded_k;
    r.groups = r.padded_k / r.columns;
    r.scales_at = (size_t)r.padded_k;
    r.sums_at = r.scales_at + (size_t)r.groups * sizeof(float);
    return r;
}

/* One group of one row; columns at and behind k count as zeros. */
static void a8_encode_group(const float *x, int64_t begin, int64_t end, int8_t *codes, float *scale,
                            int32_t *sum) {
    float largest = 0;
    for (int64_t i = begin; i < end; i++)
        if (!isfinite(x[i]))
            largest = NAN;
        else if (fabsf(x[i]) > largest)
            largest = fabsf(x[i]);
    const float per_unit = 127.0f / largest;
    if (isnan(largest)) {
        *scale = NAN;
    } else if (isfinite(per_unit)) {
        *scale = largest / 127.0f;
        for (int64_t i = begin; i < end; i++) {
            const float product = x[i] * per_unit;
            codes[i] = (int8_t)rint(product);
            *sum += codes[i];
        }
    }
}

static void a8_encode_row(const float *x, int64_t k, int32_t group, unsigned char *record) {
    const a8_record shape = a8_shape(group, k);
    for (int64_t g = 0; g < shape.groups; g++) {
        const int64_t begin = g * shape.columns, end = begin + shape.columns;
        float scale = 0;
        int32_t sum = 0;
        a8_encode_group(x, begin < k ? begin : k, end < k ? end : k, (int8_t *)record, &scale,
                        &sum);
        memcpy(record + shape.scales_at + (size_t)g * 4, &scale, sizeof scale);
        memcpy(record + shape.sums_at + (size_t)g * 4, &sum, sizeof sum);
    }
}

static size_t f16_row_scale_at(int64_t k) {
    return (size_t)((2 * k + 63) / 64 * 64);
}

static void f16_row_encode(const float *x, int64_t k, unsigned char *record) {
    double largest = 0;
    for (int64_t i = 0; i < k; i++)
        largest = isfinite(x[i]) ? fmax(largest, fabs((double)x[i])) : INFINITY;
    float scale = NAN;
    if (isfinite(largest)) {
        int exponent; /* largest = [1/2, 1) 2^exponent */
        frexp(largest, &exponent);
        scale = (float)ldexp(1, exponent - 15 < -126 || largest == 0 ? -126 : exponent - 15);
        for (int64_t i = 0; i < k; i++) {
            const uint16_t bits = check_to_f16((float)((double)x[i] / (double)scale));
            memcpy(record + 2 * i, &bits, sizeof bits);
        }
    }
    memcpy(record + f16_row_scale_at(k), &scale, sizeof scale);
}

void *check_act_encode(const char *format, const float *x, int64_t rows, int64_t k, size_t *bytes) {
    const anemo_act *act = anemo_act_find(format);
    if (!act)
        return NULL;
    const size_t row_bytes = act->row_bytes(k);
    *bytes = row_bytes * (size_t)rows;
    unsigned char *out = calloc(*bytes ? *bytes : 1, 1);
    const int32_t group = a8_group(format);
    for (int64_t r = 0; out && r < rows; r++) {
        const float *row = x + r * k;
        unsigned char *record = out + (size_t)r * row_bytes;
        if (strcmp(format, "f32") == 0) {
            memcpy(record, row, (size_t)k * sizeof *row);
        } else if (strcmp(format, "bf16") == 0) {
            for (int64_t i = 0; i < k; i++) {
                const uint16_t bits = check_to_bf16(row[i]);
                memcpy(record + 2 * i, &bits, sizeof bits);
            }
        } else if (strcmp(format, "f16_row") == 0) {
            f16_row_encode(row, k, record);
        } else if (group >= 0) {
            a8_encode_row(row, k, group, record);
        } else {
            free(out);
            return NULL;
        }
    }
    return out;
}

bool check_act_decode(const char *format, const void *records, int64_t rows, int64_t k, float *x) {
    const anemo_act *act = anemo_act_find(format);
    if (!act)
        return false;
    const int32_t group = a8_group(format);
    const bool f32 = strcmp(format, "f32") == 0, bf16 = strcmp(format, "bf16") == 0;
    const bool f16 = strcmp(format, "f16_row") == 0;
    if (!f32 && !bf16 && !f16 && group < 0)
        return false;
    for (int64_t r = 0; r < rows; r++) {
        const unsigned char *record =
            (const unsigned char *)records + (size_t)r * act->row_bytes(k);
        const a8_record shape = a8_shape(group, k);
        for (int64_t i = 0; i < k; i++) {
            float value;
            uint16_t bits;
            if (f32) {
                memcpy(&value, record + 4 * i, sizeof value);
            } else if (bf16) {
                memcpy(&bits, record + 2 * i, sizeof bits);
                value = (float)check_from_bf16(bits);
            } else if (f16) {
                memcpy(&bits, record + 2 * i, sizeof bits);
                memcpy(&value, record + f16_row_scale_at(k), sizeof value);
                value *= (float)check_from_f16(bits);
            } else {
                memcpy(&value, record + shape.scales_at + (size_t)(i / shape.columns) * 4,
                       sizeof value);
                value *= (float)((const int8_t *)record)[i];
            }
            x[r * k + i] = value;
        }
    }
    return true;
}

float *check_act_through(const char *format, const float *x, int64_t rows, int64_t k) {
    size_t bytes;
    void *records = check_act_encode(format, x, rows, k, &bytes);
    float *seen = malloc((size_t)(rows * k) * sizeof *seen + 1);
    if (!records || !seen || !check_act_decode(format, records, rows, k, seen)) {
        free(seen);
        seen = NULL;
    }
    free(records);
    return seen;
}

void *check_act_input(const check_run *run, const float *x, int64_t rows, int64_t k,
                      size_t *bytes) {
    const char *reads = run->variant->act ? run->variant->act : "f32";
    if (strcmp(reads, run->feed) == 0)
        return check_act_encode(reads, x, rows, k, bytes);
    *bytes = (size_t)(rows * k) * sizeof(float);
    return check_act_through(run->feed, x, rows, k);
}
