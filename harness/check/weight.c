/* Planar random weights.
 *
 * Codes are uniform over all their values, so both ends occur. Scales vary by a factor of four from
 * group to group, so that a group that is read with its neighbour's scale shows, and one group in
 * twenty has scale zero. They are rounded to what the type can hold: a layout may store an f16
 * scale in 16 bits and still has to give it back exactly. */
#include "harness/check/weight.h"

#include "harness/check/number.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- types */

anemo_weight_type check_weight_type_float(anemo_code code) {
    return (anemo_weight_type){.code = (uint8_t)code, .bits = code == ANEMO_CODE_F32 ? 32 : 16};
}

anemo_weight_type check_weight_type_linear(int bits, int group, anemo_scale scale,
                                           anemo_offset offset) {
    return (anemo_weight_type){.code = ANEMO_CODE_LINEAR,
                               .bits = (uint8_t)bits,
                               .scale = (uint8_t)scale,
                               .offset = (uint8_t)offset,
                               .group = group};
}

anemo_weight_type check_weight_type_table(int group, anemo_scale scale) {
    static const int8_t wide[16] = {-127, -104, -83, -65, -49, -35, -22, -10, /* IQ4_NL */
                                    1,    13,   25,  38,  53,  69,  89,  113};
    static const int8_t narrow[16] = {0, 1,  2,  3,  4,  6,  8,  12, /* MXFP4 */
                                      0, -1, -2, -3, -4, -6, -8, -12};
    anemo_weight_type type = {
        .code = ANEMO_CODE_TABLE, .bits = 4, .scale = (uint8_t)scale, .group = group};
    memcpy(type.table, scale == ANEMO_SCALE_E8M0 ? narrow : wide, sizeof type.table);
    return type;
}

static const int group_choice[] = {16, 32, 64, 128, 0};
static const int bits_choice[] = {4, 5, 6, 8};
enum {
    GROUPS = 5,
    BITS = 4,
    FLOATS = 3,
    LINEAR = GROUPS * BITS * 3,
    TABLES = GROUPS * 2,
    OTHERS = 6
};

int32_t check_weight_type_count(void) {
    return FLOATS + LINEAR + TABLES + OTHERS;
}

anemo_weight_type check_weight_type_at(int32_t index) {
    static const anemo_code floats[FLOATS] = {ANEMO_CODE_F32, ANEMO_CODE_F16, ANEMO_CODE_BF16};
    if (index < FLOATS)
        return check_weight_type_float(floats[index]);
    index -= FLOATS;
    if (index < LINEAR) { /* zero points with f32 scales, so that both kinds of scale are covered */
        anemo_offset offset = (anemo_offset)(index % 3);
        anemo_scale scale = offset == ANEMO_OFFSET_ZERO_POINT ? ANEMO_SCALE_F32 : ANEMO_SCALE_F16;
        return check_weight_type_linear(bits_choice[index / 3 % BITS],
                                        group_choice[index / 3 / BITS], scale, offset);
    }
    index -= LINEAR;
    if (index < TABLES)
        return check_weight_type_table(group_choice[index / 2],
                                       index % 2 ? ANEMO_SCALE_E8M0 : ANEMO_SCALE_F16);
    switch (index - TABLES) {
    case 0: /* Q4_K */
        return check_weight_type_linear(4, 32, ANEMO_SCALE_TWO_LEVEL, ANEMO_OFFSET_MINIMUM);
    case 1: /* Q5_K */
        return check_weight_type_linear(5, 32, ANEMO_SCALE_TWO_LEVEL, ANEMO_OFFSET_MINIMUM);
    case 2: /* Q6_K */
        return check_weight_type_linear(6, 16, ANEMO_SCALE_TWO_LEVEL, ANEMO_OFFSET_NONE);
    case 3: /* AWQ, GPTQ */
        return check_weight_type_linear(4, 128, ANEMO_SCALE_F16, ANEMO_OFFSET_ZERO_POINT);
    case 4: /* W8A8, one scale per output channel */
        return check_weight_type_linear(8, 0, ANEMO_SCALE_F32, ANEMO_OFFSET_NONE);
    default:
        return check_weight_type_linear(4, 0, ANEMO_SCALE_F32, ANEMO_OFFSET_NONE);
    }
}

/* ---------------------------------------------------------------- weights */

static void read_row(const anemo_weight *weight, int64_t row, float *values, uint8_t *codes,
                     float *scales, float *offsets) {
    const check_weight *planar = weight->reader_data;
    const size_t k = (size_t)planar->k, groups = (size_t)planar->groups, at = (size_t)row;
    if (planar->values) {
        memcpy(values, planar->values + at * k, k * sizeof *values);
        return;
    }
    memcpy(codes, planar->codes + at * k, k);
    memcpy(scales, planar->scales + at * groups, groups * sizeof *scales);
    if (planar->offsets)
        memcpy(offsets, planar->offsets + at * groups, groups * sizeof *offsets);
}

static double round_scale(double s, anemo_scale scale) {
    switch (scale) {
    case ANEMO_SCALE_F16:
        return check_from_f16(check_to_f16(s));
    case ANEMO_SCALE_E8M0:
        return ldexp(1, (int)rint(log2(s)));
    case ANEMO_SCALE_TWO_LEVEL: { /* an f16 for the row times a whole number of 6 bits */
        double unit = check_from_f16(check_to_f16(0x1p-10));
        double steps = rint(s / unit);
        return unit * (steps < 1 ? 1 : steps > 63 ? 63 : steps);
    }
    default:
        return (float)s;
    }
}

/* Standard deviation of code values, the scale being 1. */
static double code_spread(const anemo_weight_type *type) {
    if (type->code == ANEMO_CODE_LINEAR)
        return ldexp(1, type->bits) / sqrt(12);
    double squares = 0;
    for (int i = 0; i < 16; i++)
        squares += type->table[i] * type->table[i];
    return sqrt(squares / 16);
}

static void fill_group(check_weight *w, check_random *random, size_t row, size_t group, double sd) {
    const anemo_weight_type *type = &w->canonical.type;
    const size_t at = row * (size_t)w->groups + group;
    double s = sd / code_spread(type) * exp2(2 * check_random_uniform(random) - 1);
    s = round_scale(s, type->scale);
    /* e8m0 has no zero */
    if (type->scale != ANEMO_SCALE_E8M0 && check_random_below(random, 20) == 0)
        s = 0;
    w->scales[at] = (float)s;
    if (type->offset == ANEMO_OFFSET_ZERO_POINT) {
        w->offsets[at] = (float)check_random_below(random, INT64_C(1) << type->bits);
    } else if (type->offset == ANEMO_OFFSET_MINIMUM) { /* around the middle of the codes */
        double middle = ldexp(1, type->bits - 1) * (0.75 + 0.5 * check_random_uniform(random));
        /* f16; of two levels, where the scales are */
        w->offsets[at] = (float)round_scale(s * middle, type->scale == ANEMO_SCALE_TWO_LEVEL
                                                            ? ANEMO_SCALE_TWO_LEVEL
                                                            : ANEMO_SCALE_F16);
    }
}

static void define_value(check_weight *w, size_t at, double s, double o) {
    const anemo_weight_type *type = &w->canonical.type;
    const double c = w->codes[at];
    double code = c, shift = 0; /* value = code - shift, parts = |code| + |shift| */
    if (type->code == ANEMO_CODE_TABLE) {
        code = s * type->table[w->codes[at]];
    } else {
        const double middle = ldexp(1, type->bits - 1);
        code = s * c;
        shift = type->offset == ANEMO_OFFSET_NONE      ? s * middle
                : type->offset == ANEMO_OFFSET_MINIMUM ? o
                                                       : s * o;
    }
    w->dense[at] = code - shift;
    w->parts[at] = fabs(code) + fabs(shift);
}

static void fill_row(check_weight *w, check_random *random, size_t row, double sd) {
    const anemo_weight_type *type = &w->canonical.type;
    const size_t k = (size_t)w->k, groups = (size_t)w->groups;
    const int64_t code_limit = INT64_C(1) << type->bits;
    for (size_t g = 0; g < groups; g++)
        fill_group(w, random, row, g, sd);
    for (size_t i = 0; i < k; i++) {
        const size_t at = row * k + i;
        if (w->values) {
            double x = sd * check_random_normal(random);
            x = type->code == ANEMO_CODE_F16    ? check_from_f16(check_to_f16(x))
                : type->code == ANEMO_CODE_BF16 ? check_from_bf16(check_to_bf16(x))
                                                : (float)x;
            w->values[at] = (float)x;
            w->dense[at] = x;
            w->parts[at] = fabs(x);
            continue;
        }
        const size_t g = row * groups + (type->group ? i / (size_t)type->group : 0);
        w->codes[at] = (uint8_t)check_random_below(random, code_limit);
        define_value(w, at, w->scales[g], w->offsets ? w->offsets[g] : 0);
    }
}

static bool is_float(const anemo_weight_type *type) {
    return type->code != ANEMO_CODE_LINEAR && type->code != ANEMO_CODE_TABLE;
}

check_weight *check_weight_create(check_random *random, const anemo_weight_type *type, int64_t n,
                                  int64_t k, double sd) {
    check_weight *w = calloc(1, sizeof *w);
    if (!w)
        return NULL;
    const size_t elements = (size_t)(n * k);
    w->n = n;
    w->k = k;
    w->groups = is_float(type) ? 0 : anemo_weight_groups(type, k);
    w->dense = malloc(elements * sizeof *w->dense);
    w->parts = malloc(elements * sizeof *w->parts);
    bool ok = w->dense && w->parts;
    if (is_float(type)) {
        ok = (w->values = malloc(elements * sizeof *w->values)) && ok;
    } else {
        const size_t scales = (size_t)(n * w->groups);
        ok = (w->codes = malloc(elements)) && ok;
        ok = (w->scales = malloc(scales * sizeof *w->scales)) && ok;
        if (type->offset != ANEMO_OFFSET_NONE)
            ok = (w->offsets = malloc(scales * sizeof *w->offsets)) && ok;
    }
    w->canonical = (anemo_weight){
        .size = sizeof(anemo_weight),
        .type = *type,
        .n = n,
        .k = k,
        .data = w->values ? (const void *)w->values : w->codes,
        .canonical_bytes = (size_t)(anemo_weight_type_bits(type, k) * (double)elements / 8),
        .reader_data = w,
        .read_row = read_row,
    };
    if (!ok) {
        check_weight_free(w);
        return NULL;
    }
    for (size_t row = 0; row < (size_t)n; row++)
        fill_row(w, random, row, sd);
    return w;
}

void check_weight_free(check_weight *weight) {
    if (!weight)
        return;
    free(weight->values);
    free(weight->codes);
    free(weight->scales);
    free(weight->offsets);
    free(weight->dense);
    free(weight->parts);
    free(weight);
}
