/* The last step of every qgemm: bias, then STORE, ADD or ACT_MUL. Variants compute a row of
 * results and hand it over; the arithmetic here is the same for all of them, and does not depend on
 * where a tile ended. */
#ifndef ANEMO_QGEMM_EPILOGUE_H
#define ANEMO_QGEMM_EPILOGUE_H

#include "kernels/kernel.h"

#include <math.h>

static inline double anemo_act_mul_f64(int32_t activation, double g, double u) {
    if (activation == ANEMO_ACT_SILU_CLAMPED) {
        g = g > 7.0 ? 7.0 : g; /* written so that NaN stays NaN */
        u = u > 7.0 ? 7.0 : u < -7.0 ? -7.0 : u;
        return (u + 1.0) * g / (1.0 + exp(-1.702 * g));
    }
    return g / (1.0 + exp(-g)) * u;
}

static inline float anemo_act_mul_f32(int32_t activation, float g, float u) {
    if (activation == ANEMO_ACT_SILU_CLAMPED) {
        g = g > 7.0f ? 7.0f : g;
        u = u > 7.0f ? 7.0f : u < -7.0f ? -7.0f : u;
        return (u + 1.0f) * g / (1.0f + expf(-1.702f * g));
    }
    return g / (1.0f + expf(-g)) * u;
}

/* y_part[row, column .. column + count) from results[count]; not for ACT_MUL. */
static inline void anemo_epilogue_row(const anemo_qgemm_problem *p, const anemo_qgemm_args *a,
                                      int32_t part, int64_t row, int64_t column, int64_t count,
                                      const float *results) {
    float *y = a->y[part] + row * a->y_stride[part] + column;
    const float *bias = p->has_bias >> part & 1 ? a->bias[part] + column : NULL;
    for (int64_t j = 0; j < count; j++) {
        const float r = bias ? results[j] + bias[j] : results[j];
        y[j] = p->epilogue == ANEMO_EPI_ADD ? y[j] + r : r;
    }
}

/* y_0[row, column ..) = act(gate) * up. */
static inline void anemo_epilogue_act_mul(const anemo_qgemm_problem *p, const anemo_qgemm_args *a,
                                          int64_t row, int64_t column, int64_t count,
                                          const float *gate, const float *up) {
    float *y = a->y[0] + row * a->y_stride[0] + column;
    const float *gate_bias = p->has_bias & 1 ? a->bias[0] + column : NULL;
    const float *up_bias = p->has_bias & 2 ? a->bias[1] + column : NULL;
    for (int64_t j = 0; j < count; j++) {
        const float g = gate_bias ? gate[j] + gate_bias[j] : gate[j];
        const float u = up_bias ? up[j] + up_bias[j] : up[j];
        y[j] = anemo_act_mul_f32(p->activation, g, u);
    }
}

#endif
