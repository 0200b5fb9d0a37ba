/* What tests may ask of the emulated GPU; the rest is anemo_device_create_cuda(). */
#ifndef ANEMO_EMULATED_GPU_H
#define ANEMO_EMULATED_GPU_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Graphs launched so far. */
int32_t emulated_graph_launches(void);

#ifdef __cplusplus
}
#endif
#endif
