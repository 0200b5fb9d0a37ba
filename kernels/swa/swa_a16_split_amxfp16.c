/* swa in the matrix tiles of AMX on f16 (split_amx.h): pages of f16 are multiplied as they are,
 * with queries and weights rounded to f16 once; few queries, as in a decode, are those of
 * swa_f32_split_avx512. */
#include "kernels/swa/vec_avx512.h"

#define SWA_QUERY_TERMS 1
#include "kernels/swa/split_amx_f16.h"

#include "kernels/swa/split_amx.h"

#include "kernels/swa/swa_split.h"

extern const anemo_variant anemo_swa_a16_split_amxfp16;
const anemo_variant anemo_swa_a16_split_amxfp16 = {
    .size = sizeof(anemo_variant),
    .name = "swa_a16_split_amxfp16",
    .op = ANEMO_OP_SWA,
    .backend = ANEMO_CPU,
    .needs = {.cpu_features = ANEMO_CPU_AVX512 | ANEMO_CPU_AMX_FP16},
    .act = "bf16", /* f16 is finer */
    .m_from = 32,
    .idea = "many queries in f16 matrix tiles, queries and weights rounded once; few in float",
    .accepts = accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
