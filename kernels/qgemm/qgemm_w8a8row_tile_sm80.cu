/* qgemm, many rows, 8-bit weights with a scale per row times int8 activations with a scale per
 * token: stream-K tiles on the integer matrix unit (tile_int8.cuh). */
#include "kernels/qgemm/tile_int8.cuh"

GPU_INT8_VARIANT(qgemm_w8a8row_tile_sm80, 9, "integer matrix unit, stream-K tiles",
                 gpu::tile_workspace, gpu::tile_run<gpu::INT8>)
