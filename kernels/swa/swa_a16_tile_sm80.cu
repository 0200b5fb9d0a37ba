/* swa in tiles on the matrix unit (tile.cuh), queries and weights rounded once to the 16-bit type
 * of keys and values: half the products of swa_tile_sm80, and the error of 16-bit activations,
 * which is why it says that it rounds to bf16 and is never chosen where floats are kept. 128 packed
 * rows for a thread block. */
#include "kernels/swa/tile.cuh"

extern "C" {
extern const anemo_variant anemo_swa_a16_tile_sm80;
const anemo_variant anemo_swa_a16_tile_sm80 = {
    .size = sizeof(anemo_variant),
    .name = "swa_a16_tile_sm80",
    .op = ANEMO_OP_SWA,
    .backend = ANEMO_CUDA,
    .needs = {.min_capability = 80},
    .act = "bf16",
    .traits = ANEMO_TRAIT_CAPTURABLE | ANEMO_TRAIT_ROW_INVARIANT,
    .m_from = 256, /* prefill: a sequence with one row would leave most of its tile empty */
    .idea = "key tiles of the window on the matrix unit, queries and weights rounded to 16 bits",
    .accepts = swa_tiles::accepts<false>,
    .workspace_bytes = no_workspace,
    .run = swa_tiles::run<false>,
};
}
