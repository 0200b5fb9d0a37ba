/* The few reading calls needed of NVIDIA's management library. It is opened at run time, so that
 * one binary serves machines with and without a driver. */
#ifndef ANEMO_NVML_H
#define ANEMO_NVML_H

#include "kernels/kernel.h"

typedef struct anemo_nvml anemo_nvml;

/* library NULL: libnvidia-ml.so.1. ANEMO_E_UNSUPPORTED says what is missing: the library, one of
 * its calls, or the driver behind it. */
anemo_status anemo_nvml_open(const char *library, anemo_nvml **out, anemo_error *err);
void anemo_nvml_close(anemo_nvml *nvml); /* NULL is fine */
const char *anemo_nvml_driver(const anemo_nvml *nvml);

/* Of a GPU by its number in NVML's order; false: it does not tell. */
bool anemo_nvml_device(const anemo_nvml *nvml, int32_t index);
bool anemo_nvml_energy(const anemo_nvml *nvml, int32_t index, double *joules); /* since boot */
bool anemo_nvml_power(const anemo_nvml *nvml, int32_t index, double *watts, double *limit_watts);
bool anemo_nvml_clock(const anemo_nvml *nvml, int32_t index, double *hz); /* multiprocessors */

#endif
