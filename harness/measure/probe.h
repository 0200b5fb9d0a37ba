/* Probes: what this machine can do at most, measured here and now.
 *
 * Read bandwidth is the best of several ways to read a buffer that no cache holds; the arithmetic
 * peaks are the best of the multiply-add forms of each instruction set that this CPU has. A probe
 * takes tens of milliseconds, so it can run between batches of samples: shared machines drift, and
 * a ceiling from yesterday judges nothing. Every form's result is compared with what it must be, so
 * that a compiler that drops the work is caught.
 *
 * A ceiling is the best form, not the median: interference only ever lowers it. */
#ifndef ANEMO_PROBE_H
#define ANEMO_PROBE_H

#include "harness/measure/clock.h"
#include "kernels/device.h"

typedef enum anemo_ceiling {
    ANEMO_CEILING_READ, /* bytes/s from memory, all threads */
    ANEMO_CEILING_FP32, /* op/s, a multiply-add counts 2, all threads */
    ANEMO_CEILING_BF16, /* bf16 products, fp32 sums */
    ANEMO_CEILING_INT8, /* 8-bit products, 32-bit sums (16-bit sums of two where there is no better)
                         */
    /* What AVX2 alone can do, for kernels that use no more: */
    ANEMO_CEILING_INT8_AVX2_U4, /* 4-bit times 8-bit codes, 16-bit sums where they cannot overflow
                                 */
    ANEMO_CEILING_INT8_AVX2_U8, /* 8-bit times 8-bit codes, every product exact */
    /* What matrix tiles can do, for kernels that use them: */
    ANEMO_CEILING_INT8_AMX, /* 8-bit products */
    ANEMO_CEILING_BF16_AMX, /* bf16 products, fp32 sums */
    ANEMO_CEILING_COUNT
} anemo_ceiling;
/* "read", "fp32", "bf16", "int8", "int8_avx2_u4", "int8_avx2_u8", "int8_amx", "bf16_amx" */
const char *anemo_ceiling_name(anemo_ceiling ceiling);

typedef struct anemo_probe_value {
    double per_second; /* 0 when no form runs here: then the ceiling is absent, not zero */
    const char *form;  /* the form that won: "read_avx512_streams"; NULL when absent */
} anemo_probe_value;

typedef struct anemo_probe anemo_probe;

/* Probes on the device's threads, or on the GPU by its events. buffer_bytes 0: 512 MiB or 8 times
 * the last cache (a GPU: 16 times its L2), less where memory is short. */
anemo_status anemo_probe_create(anemo_device *device, const anemo_clock *clock, size_t buffer_bytes,
                                anemo_probe **out, anemo_error *err);
void anemo_probe_free(anemo_probe *probe);
size_t anemo_probe_buffer_bytes(const anemo_probe *probe);
size_t
anemo_probe_cache_bytes(const anemo_probe *probe); /* anemo_device_cache_bytes of its device */

/* Runs every form of the ceiling; the best fraction of a millisecond counts. ANEMO_E_NUMERIC: a
 * form computed something else than it must. */
anemo_status anemo_probe_measure(anemo_probe *probe, anemo_ceiling ceiling, anemo_probe_value *out,
                                 anemo_error *err);
/* How near the fastest form of an arithmetic ceiling comes to what the units can do: its vector
 * instructions per cycle of the slowest thread, with cycles counted by additions that wait for each
 * other, in turns with the form. per_cycle 0: no form here counts its instructions. */
typedef struct anemo_probe_pace {
    double hz, per_cycle;
    const char *form;
} anemo_probe_pace;
anemo_status anemo_probe_measure_pace(anemo_probe *probe, anemo_ceiling ceiling,
                                      anemo_probe_pace *out, anemo_error *err);
/* Reads the whole buffer: afterwards the caches hold nothing else. On a GPU it is queued, not
 * waited for. */
anemo_status anemo_probe_evict(anemo_probe *probe, anemo_error *err);

/* The last level of cache, all instances together; 32 MiB when nobody tells. */
size_t anemo_last_cache_bytes(void);
/* That of the device: the above, or a GPU's L2. */
size_t anemo_device_cache_bytes(const anemo_device *device);
/* What this process can still allocate without swapping, within its cgroup; 0 when unknown. */
size_t anemo_available_memory_bytes(void);

#endif
