/* Random weights of every canonical type in planar form (codes, scales and offsets in arrays of
 * their own), with a read_row that is not the one of any file format. */
#ifndef ANEMO_CHECK_WEIGHT_H
#define ANEMO_CHECK_WEIGHT_H

#include "harness/check/random.h"
#include "kernels/kernel.h"

typedef struct check_weight {
    anemo_weight canonical; /* what kernels see; reader_data is this struct */
    int64_t n, k, groups;
    float *values;  /* float codes: [n, k] */
    uint8_t *codes; /* else [n, k] */
    float *scales;  /* [n, groups] */
    float *offsets; /* [n, groups], if the type has offsets */
    double *dense;  /* [n, k] the values by the definition in kernel.h */
    double *parts;  /* [n, k] sum of the magnitudes a value is put together from, e.g. |s c| + |o|:
                       what rounding errors scale with */
} check_weight;

/* Values with standard deviation about `sd`, a scale of zero now and then. NULL: no memory. */
check_weight *check_weight_create(check_random *random, const anemo_weight_type *type, int64_t n,
                                  int64_t k, double sd);
void check_weight_free(check_weight *weight);

/* Every kind of type that kernel.h describes: bits x group x scale x offset, float and table. */
int32_t check_weight_type_count(void);
anemo_weight_type check_weight_type_at(int32_t index);
anemo_weight_type check_weight_type_float(anemo_code code);
anemo_weight_type check_weight_type_linear(int bits, int group, anemo_scale scale,
                                           anemo_offset offset);
/* Sixteen uneven steps (those of IQ4_NL): no arithmetic on the code gives them. */
anemo_weight_type check_weight_type_table(int group, anemo_scale scale);

#endif
