/* vdpbf16ps: two bf16 products added to each float lane. */
#include "anemo_config.h"
#include "harness/measure/probe_form.h"

#include <immintrin.h>

enum { CHAINS = 12 };

static bool bf16_avx512(int64_t iterations) {
    __m512bh x = _mm512_cvtne2ps_pbh(_mm512_set1_ps(1), _mm512_set1_ps(1));
    __m512 s[CHAINS];
    for (int c = 0; c < CHAINS; c++) {
        s[c] = _mm512_set1_ps((float)c);
    }
    for (int64_t i = 0; i < iterations; i++) {
        ANEMO_OPAQUE(x);
#pragma GCC unroll 12
        for (int c = 0; c < CHAINS; c++) {
            s[c] = _mm512_dpbf16_ps(s[c], x, x);
        }
    }
    bool right = true;
    for (int c = 0; c < CHAINS; c++) {
        const __m512 must = _mm512_set1_ps((float)(c + 2 * iterations));
        right = right && _mm512_cmp_ps_mask(s[c], must, _CMP_EQ_OQ) == 0xffff;
    }
    return right;
}

const anemo_probe_form anemo_probe_forms_avx512bf16[] = {
    {.name = "bf16_avx512",
     .ceiling = ANEMO_CEILING_BF16,
     .needs = ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_BF16,
     .compute = bf16_avx512,
     .ops_per_iteration = 2 * 32 * CHAINS,
     .vectors_per_iteration = CHAINS},
    {.name = NULL},
};
