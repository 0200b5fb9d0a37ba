/* swa in tiles on the matrix unit (tile.cuh), queries and weights as sums of two f16 or three
 * bf16 numbers: as exact as float kernels have to be, at so many times the products. 64 packed rows
 * for a thread block. */
#include "kernels/swa/tile.cuh"

extern "C" {
extern const anemo_variant anemo_swa_tile_sm80;
const anemo_variant anemo_swa_tile_sm80 = {
    .size = sizeof(anemo_variant),
    .name = "swa_tile_sm80",
    .op = ANEMO_OP_SWA,
    .backend = ANEMO_CUDA,
    .needs = {.min_capability = 80},
    .traits = ANEMO_TRAIT_CAPTURABLE | ANEMO_TRAIT_ROW_INVARIANT,
    .m_from = 256, /* prefill: a sequence with one row would leave most of its tile empty */
    .idea =
        "key tiles of the window on the matrix unit, queries and weights as sums of 16-bit terms",
    .accepts = swa_tiles::accepts<true>,
    .workspace_bytes = no_workspace,
    .run = swa_tiles::run<true>,
};
}
