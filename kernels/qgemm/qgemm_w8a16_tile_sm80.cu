/* qgemm, many rows: 8-bit weights from the fragment layout, bf16 activations (tile.cuh). */
#include "kernels/qgemm/tile.cuh"
#include "kernels/qgemm/variant.cuh"

GPU_QGEMM_VARIANT(qgemm_w8a16_tile_sm80, "w8_fragment", 0, 9, "mma.sync tiles, stream-K",
                  gpu::tile_workspace, gpu::tile_run<8>)
