/* What a bench needs beside its device when that is a GPU: a timer on its events, a CPU for
 * references and packing, NVML, and what no kernel can pass. On a CPU it is empty. */
#ifndef ANEMO_BENCH_GPU_H
#define ANEMO_BENCH_GPU_H

#include "harness/measure/bench_roof.h"
#include "harness/measure/event_timer.h"
#include "harness/record/record.h"

typedef struct bench_gpu {
    anemo_device *device;
    anemo_device *host; /* NULL: device is a CPU */
    anemo_timer timer;
    anemo_gpu_watch *watch; /* NULL: no NVML, see lack */
    char lack[200];
} bench_gpu;

/* nvml: its library; NULL: the usual place. */
anemo_status bench_gpu_open(anemo_device *device, const char *nvml, bench_gpu *out,
                            anemo_error *err);
void bench_gpu_close(bench_gpu *gpu);
const anemo_timer *bench_gpu_timer(const bench_gpu *gpu); /* NULL: a CPU */

/* Bytes or operations per second by the data sheet, which nothing can pass: of reading the memory's
 * clock twice times the width of its bus; of arithmetic what a multiprocessor of this compute
 * capability starts in a cycle (dense), at the highest clock. 0: not known. A kernel with float
 * activations may split them for the matrix units, so its arithmetic has the peak of bf16. */
double bench_gpu_peak(const bench_gpu *gpu, anemo_ceiling ceiling);
/* All of them into ceilings->peak. */
void bench_gpu_limit(const bench_gpu *gpu, bench_ceilings *ceilings);

/* For commands to repeat: " --threads 8 --isa avx2", or " --device cuda". */
void bench_device_option(anemo_device *device, char *text, size_t text_bytes);

/* The GPU's fields of "machine". */
void bench_gpu_record(anemo_record *record, const bench_gpu *gpu);

#endif
