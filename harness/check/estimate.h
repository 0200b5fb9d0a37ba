/* A value in double together with what its errors scale with: the second formulation of the ops
 * that multiply by weights (qgemm, moe_experts). */
#ifndef ANEMO_CHECK_ESTIMATE_H
#define ANEMO_CHECK_ESTIMATE_H

#include "harness/check/weight.h"

typedef struct check_estimate {
    double value;
    double magnitude; /* of float rounding errors: check_scale */
    double spread;    /* of errors of narrow inputs: check_scale */
} check_estimate;

/* x[k] . W[row] + bias, from the last column to the first, over the dense double weights. With
 * independent signs the terms have the standard deviation sqrt(sum x^2 w^2), which is the spread;
 * for the magnitude w is replaced by the parts it is made of (weight.h), and what x itself is off
 * by (x_magnitude[k], NULL: nothing) comes on top. */
check_estimate check_dot(const check_weight *weight, int64_t row, const double *x,
                         const double *x_magnitude, double bias);

/* act(g) u: errors travel with the slopes of the two factors. */
check_estimate check_act_mul(anemo_activation activation, check_estimate g, check_estimate u);

#endif
