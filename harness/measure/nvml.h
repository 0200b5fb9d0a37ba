/* The few reading calls needed of NVIDIA's management library. It is opened at run time, so that
 * one binary serves machines with and without a driver. */
#ifndef ANEMO_NVML_H
#define ANEMO_NVML_H

#include "kernels/kernel.h"

typedef struct anemo_nvml anemo_nvml;

/* library NULL: libnvidia-ml.so.1. ANEMO_E_UNSUPPORTED says what is missing: the library, one of
 * the calls that every one has, or the driver behind it. */
anemo_status anemo_nvml_open(const char *library, anemo_nvml **out, anemo_error *err);
void anemo_nvml_close(anemo_nvml *nvml); /* NULL is fine */
const char *anemo_nvml_driver(const anemo_nvml *nvml);

/* Its number of the GPU with this address on the PCI bus: CUDA's numbers follow speed and what
 * CUDA_VISIBLE_DEVICES leaves, NVML's the bus. -1: it knows none there, or is too old to tell. */
int32_t anemo_nvml_index(const anemo_nvml *nvml, const char *bus_id);

/* Of a GPU by its number in NVML's order; false: it does not tell. */
bool anemo_nvml_device(const anemo_nvml *nvml, int32_t index);
bool anemo_nvml_energy(const anemo_nvml *nvml, int32_t index, double *joules); /* since boot */
bool anemo_nvml_power(const anemo_nvml *nvml, int32_t index, double *watts, double *limit_watts);
bool anemo_nvml_default_limit(const anemo_nvml *nvml, int32_t index, double *watts);
bool anemo_nvml_name(const anemo_nvml *nvml, int32_t index, char *text, size_t bytes);
bool anemo_nvml_ecc(const anemo_nvml *nvml, int32_t index, bool *on);
bool anemo_nvml_mig(const anemo_nvml *nvml, int32_t index, bool *on);
/* Bits of nvmlClocksThrottleReasons. */
bool anemo_nvml_throttle(const anemo_nvml *nvml, int32_t index, uint64_t *reasons);
/* Those that slow a GPU down against its will (an idle one, and clocks set on purpose, do not), by
 * name: "software power cap, hardware thermal"; "": none. */
#define ANEMO_NVML_SLOWED 0xecull
void anemo_nvml_throttle_names(uint64_t reasons, char *text, size_t bytes);

typedef enum anemo_nvml_domain {
    ANEMO_NVML_MULTIPROCESSORS = 1,
    ANEMO_NVML_MEMORY = 2
} anemo_nvml_domain;
bool anemo_nvml_clock(const anemo_nvml *nvml, int32_t index, anemo_nvml_domain domain, double *hz);
bool anemo_nvml_max_clock(const anemo_nvml *nvml, int32_t index, anemo_nvml_domain domain,
                          double *hz);

#endif
