/* The probe of a GPU, behind probe.h: the exercises of kernels/device.h, timed by events. */
#ifndef ANEMO_PROBE_GPU_H
#define ANEMO_PROBE_GPU_H

#include "harness/measure/probe.h"

typedef struct gpu_probe gpu_probe;

/* buffer_bytes 0: 16 times L2. */
anemo_status gpu_probe_create(anemo_device *device, size_t buffer_bytes, gpu_probe **out,
                              anemo_error *err);
void gpu_probe_free(gpu_probe *probe);
size_t gpu_probe_buffer_bytes(const gpu_probe *probe);
anemo_status gpu_probe_measure(gpu_probe *probe, anemo_ceiling ceiling, anemo_probe_value *out,
                               anemo_error *err);
anemo_status gpu_probe_evict(gpu_probe *probe, anemo_error *err);

#endif
