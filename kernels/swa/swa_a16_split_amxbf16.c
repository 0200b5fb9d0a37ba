/* swa in the matrix tiles of AMX (split_amx.h), where a tile has queries for them; few queries, as
 * in a decode, are those of swa_f32_split_avx512. */
#include "kernels/swa/vec_avx512.h"

#include "kernels/swa/split_amx_bf16.h"

#include "kernels/swa/split_amx.h"

#include "kernels/swa/swa_split.h"

extern const anemo_variant anemo_swa_a16_split_amxbf16;
const anemo_variant anemo_swa_a16_split_amxbf16 = {
    .size = sizeof(anemo_variant),
    .name = "swa_a16_split_amxbf16",
    .op = ANEMO_OP_SWA,
    .backend = ANEMO_CPU,
    .needs = {.cpu_features = ANEMO_CPU_AVX512 | ANEMO_CPU_AVX512_BF16 | ANEMO_CPU_AMX_BF16},
    .act = "bf16",
    .m_from = 32,
    .idea = "many queries in bf16 matrix tiles, queries and weights rounded once; few in float",
    .accepts = accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
