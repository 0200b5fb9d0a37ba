#include "anemo_config.h"
#include "harness/measure/probe_form.h"

#include <immintrin.h>

#define VECTOR_BYTES    64
#define READ_NAME(form) read_avx512_##form
#include "harness/measure/probe_read.inc"

enum { CHAINS = 12 };

static bool fp32_avx512(int64_t iterations) {
    __m512 one = _mm512_set1_ps(1), s[CHAINS];
    for (int c = 0; c < CHAINS; c++) {
        s[c] = _mm512_set1_ps((float)c);
    }
    for (int64_t i = 0; i < iterations; i++) {
        ANEMO_OPAQUE(one);
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) {
            s[c] = _mm512_fmadd_ps(one, one, s[c]);
        }
    }
    bool right = true;
    for (int c = 0; c < CHAINS; c++) {
        const __m512 must = _mm512_set1_ps((float)(c + iterations));
        right = right && _mm512_cmp_ps_mask(s[c], must, _CMP_EQ_OQ) == 0xffff;
    }
    return right;
}

const anemo_probe_form anemo_probe_forms_avx512[] = {
    READ_FORMS("avx512", ANEMO_CPU_AVX512),
    {.name = "fp32_avx512",
     .ceiling = ANEMO_CEILING_FP32,
     .needs = ANEMO_CPU_AVX512,
     .compute = fp32_avx512,
     .ops_per_iteration = 2 * 16 * CHAINS,
     .vectors_per_iteration = CHAINS},
    {.name = NULL},
};
