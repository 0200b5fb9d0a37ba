/* What tests may ask of the emulated GPU; the rest is anemo_device_create_cuda(). */
#ifndef ANEMO_EMULATED_GPU_H
#define ANEMO_EMULATED_GPU_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Graphs launched so far. */
int32_t emulated_graph_launches(void);

/* The order of streams (streams.cc): 0 .. emulated_stream_orders() - 1, or -1 for one that is drawn
 * each time. */
void emulated_stream_order(int32_t order);
int32_t emulated_stream_orders(void);
/* Calls of cudaStreamWaitEvent so far, and the number of one that is not obeyed; -1: all are. */
int64_t emulated_waits(void);
void emulated_drop_wait(int64_t index);

/* From now on events around a graph tell so many times what the processor at hand took. */
void emulated_graph_rate(double rate);

#ifdef __cplusplus
}
#endif
#endif
