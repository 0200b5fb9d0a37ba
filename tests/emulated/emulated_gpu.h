/* What tests may ask of the emulated GPU; the rest is anemo_device_create_cuda(). */
#ifndef ANEMO_EMULATED_GPU_H
#define ANEMO_EMULATED_GPU_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Graphs launched so far. */
int32_t emulated_graph_launches(void);

/* From now on events around a graph tell so many times what the processor at hand took. */
void emulated_graph_rate(double rate);

#ifdef __cplusplus
}
#endif
#endif
