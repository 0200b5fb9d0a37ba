/* tdpbf16ps: sums of 32 products of bf16, in float. */
#include "harness/measure/probe_amx.h"

enum { ONE = 0x3f80 }; /* bf16 of 1 */

AMX_PROBE(bf16_amx, _tile_dpbf16ps, uint16_t, ONE, float)

const anemo_probe_form anemo_probe_forms_amxbf16[] = {
    {.name = "bf16_amx",
     .ceiling = ANEMO_CEILING_BF16_AMX,
     .needs = ANEMO_CPU_AVX512 | ANEMO_CPU_AMX_BF16,
     .compute = bf16_amx,
     .ops_per_iteration = AMX_OPS(uint16_t),
     .vectors_per_iteration = AMX_SUMS},
    {.name = NULL},
};
