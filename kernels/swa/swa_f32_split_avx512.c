/* swa in float on AVX-512: sixteen lanes (vec_avx512.h) of the one text in swa_split.h. */
#include "kernels/swa/vec_avx512.h"

#include "kernels/swa/split_tile.h"

#include "kernels/swa/swa_split.h"

extern const anemo_variant anemo_swa_f32_split_avx512;
const anemo_variant anemo_swa_f32_split_avx512 = {
    .size = sizeof(anemo_variant),
    .name = "swa_f32_split_avx512",
    .op = ANEMO_OP_SWA,
    .backend = ANEMO_CPU,
    .needs = {.cpu_features = ANEMO_CPU_AVX512},
    .traits = ANEMO_TRAIT_ROW_INVARIANT,
    .idea = "spans of keys over the cores; few rows from the pages, many in register tiles",
    .accepts = anemo_swa_accepts,
    .workspace_bytes = workspace_bytes,
    .run = run,
};
