/* Energy counters: the joules that a device has spent. CPU: RAPL through Linux's powercap, all
 * packages and the memory beside them (`dram`); what lies inside a package (core, uncore), and
 * `psys`, which holds everything again, are not added. GPU: NVML's counter since boot.
 *
 * A meter that cannot be opened says why and what would help; a joule that was not counted is NaN,
 * never zero. The counters move every millisecond or so (RAPL), or every 20 to 100 (NVML): a
 * reading around a few of them says little, so ask for spans of ANEMO_ENERGY_SPAN_NS at least. */
#ifndef ANEMO_ENERGY_H
#define ANEMO_ENERGY_H

#include "kernels/kernel.h"

#define ANEMO_ENERGY_SPAN_NS 5e7

typedef struct anemo_energy anemo_energy;

/* Why there is no meter. */
typedef struct anemo_energy_lack {
    char reason[200], remedy[200];
} anemo_energy_lack;

/* Where the counters are looked for; NULL: the usual places. */
typedef struct anemo_energy_places {
    const char *powercap; /* a directory: /sys/class/powercap */
    const char *nvml;     /* a library */
} anemo_energy_places;

/* The meter of the CPU, or of the GPU of that number. NULL: there is none, and *lack says why. A
 * counter that does not move within 50 ms is none. */
anemo_energy *anemo_energy_open(anemo_backend backend, int32_t ordinal,
                                const anemo_energy_places *places, anemo_energy_lack *lack);
void anemo_energy_close(anemo_energy *meter); /* NULL is fine */
/* "RAPL package-0, dram", "NVML" */
const char *anemo_energy_source(const anemo_energy *meter);
/* Joules since the meter was opened; NaN when a counter can no longer be read. To be called at
 * least once a minute, because RAPL's counters wrap around. */
double anemo_energy_joules(anemo_energy *meter);

#endif
