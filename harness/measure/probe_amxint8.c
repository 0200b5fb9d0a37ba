/* tdpbssd: sums of 64 products of 8 bits. */
#include "harness/measure/probe_amx.h"

AMX_PROBE(int8_amx, _tile_dpbssd, int8_t, 1, int32_t)

const anemo_probe_form anemo_probe_forms_amxint8[] = {
    {.name = "int8_amx",
     .ceiling = ANEMO_CEILING_INT8_AMX,
     .needs = ANEMO_CPU_AVX512 | ANEMO_CPU_AMX_INT8,
     .compute = int8_amx,
     .ops_per_iteration = AMX_OPS(int8_t),
     .vectors_per_iteration = AMX_SUMS},
    {.name = NULL},
};
