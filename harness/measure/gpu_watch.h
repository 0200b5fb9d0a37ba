/* How a GPU fared during a sample: clock of its multiprocessors, what holds it back, power. Read
 * from NVML while the sample's work is under way (10 to 100 us, which the host has then). */
#ifndef ANEMO_GPU_WATCH_H
#define ANEMO_GPU_WATCH_H

#include "kernels/device.h"

typedef struct anemo_gpu_state {
    double multiprocessor_hz, memory_hz, watts; /* NaN: not told */
    uint64_t throttle;                          /* bits of ANEMO_NVML_SLOWED that are set */
    bool throttle_told;
} anemo_gpu_state;

typedef struct anemo_gpu_watch anemo_gpu_watch;

/* Of the GPU that `device` is. NULL, and `lack` says why: no NVML here, or one that does not know
 * this GPU. library: where NVML is; NULL: the usual place. */
anemo_gpu_watch *anemo_gpu_watch_open(const anemo_device *device, const char *library, char *lack,
                                      size_t lack_bytes);
void anemo_gpu_watch_close(anemo_gpu_watch *watch); /* NULL is fine */
anemo_gpu_state anemo_gpu_watch_read(anemo_gpu_watch *watch);

/* What does not change during a run; NaN and "": not told. */
const char *anemo_gpu_watch_driver(const anemo_gpu_watch *watch);
double anemo_gpu_watch_limit_watts(const anemo_gpu_watch *watch);
/* The highest clocks that this GPU can be given. */
double anemo_gpu_watch_max_hz(const anemo_gpu_watch *watch, bool of_memory);

#endif
