/* Memory, streams and threads of one device. The harness makes a device and hands it to a plan;
 * variants see only the anemo_exec. The account says who holds how much; anemo never allocates
 * device memory by another way. */
#ifndef ANEMO_DEVICE_H
#define ANEMO_DEVICE_H

#include "kernels/kernel.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct anemo_device anemo_device;

typedef enum anemo_memory_use {
    ANEMO_MEM_WEIGHTS,
    ANEMO_MEM_KV,
    ANEMO_MEM_WORKSPACE,
    ANEMO_MEM_STEP,
    ANEMO_MEM_USES
} anemo_memory_use;

/* What the processor has, whatever is hidden; and hiding all but `features` (bits of ANEMO_CPU_*)
 * from anemo_cpu_features(), so that variants, layouts and probes are those of a lesser processor:
 * before the first device is made. Libraries (a BLAS) choose for themselves. */
uint32_t anemo_cpu_features_hardware(void);
void anemo_cpu_features_limit(uint32_t features);

/* n_threads <= 0: one per CPU in the process's affinity mask. cpus: n_threads CPU numbers to bind
 * the threads to, or NULL for no binding. CUDA: ordinal of the GPU; ANEMO_E_UNSUPPORTED in a build
 * without CUDA. */
anemo_status anemo_device_create_cpu(int32_t n_threads, const int32_t *cpus, anemo_device **out,
                                     anemo_error *err);
anemo_status anemo_device_create_cuda(int32_t ordinal, anemo_device **out, anemo_error *err);
void anemo_device_free(anemo_device *device);

anemo_backend anemo_device_backend(const anemo_device *device);
int32_t anemo_device_capability(const anemo_device *device); /* CUDA: 10 * major + minor; CPU: 0 */
const char *anemo_device_name(const anemo_device *device);

/* What its driver tells of a GPU; 0 and "": not told. Of a CPU nothing is. */
typedef struct anemo_gpu_facts {
    char bus_id[32]; /* "0000:65:00.0": the name that management libraries know it by */
    int32_t multiprocessors;
    int32_t cuda_version;                /* that the driver serves; 13000: 13.0 */
    int32_t bus_bits;                    /* width of its memory's bus */
    double memory_hz, multiprocessor_hz; /* at most; memory moves data twice in a period */
    size_t l2_bytes, memory_bytes;
} anemo_gpu_facts;
anemo_gpu_facts anemo_device_gpu(const anemo_device *device);

/* 64-byte aligned (CUDA: 256), zeroed. NULL when there is no memory. CPU allocations of 2 MiB and
 * more ask for huge pages. free needs the same use and size, for the account. */
void *anemo_device_alloc(anemo_device *device, anemo_memory_use use, size_t bytes);
void anemo_device_dealloc(anemo_device *device, anemo_memory_use use, void *memory, size_t bytes);
size_t anemo_device_held_bytes(const anemo_device *device, anemo_memory_use use);
size_t anemo_device_peak_bytes(const anemo_device *device);
/* Bytes that could still be allocated without pushing other programs out; 0: unknown (CUDA). */
double anemo_device_available_bytes(const anemo_device *device);

/* Ordered on the device's stream; the host buffer may be reused after anemo_device_synchronise. On
 * the CPU: memcpy. */
anemo_status anemo_device_upload(anemo_device *device, void *to, const void *from_host,
                                 size_t bytes);
anemo_status anemo_device_download(anemo_device *device, void *to_host, const void *from,
                                   size_t bytes);
anemo_status anemo_device_copy(anemo_device *device, void *to, const void *from, size_t bytes);
/* Waits for all of it; the sentence names the first call on this device that failed since the last
 * time. */
anemo_status anemo_device_synchronise(anemo_device *device, anemo_error *err);

/* Events for timing on the device's own clock; on the CPU they read CLOCK_MONOTONIC_RAW. */
typedef struct anemo_event anemo_event;
anemo_event *anemo_event_create(anemo_device *device);
void anemo_event_free(anemo_event *event);
anemo_status anemo_event_record(anemo_device *device, anemo_event *event);
/* Waits for `stop`; nanoseconds between the two. */
anemo_status anemo_event_elapsed_ns(anemo_event *start, anemo_event *stop, double *ns);

/* Capture of what is launched between begin and end into a replayable graph. CPU:
 * ANEMO_E_UNSUPPORTED. */
typedef struct anemo_graph anemo_graph;
anemo_status anemo_capture_begin(anemo_device *device);
anemo_status anemo_capture_end(anemo_device *device, anemo_graph **out, anemo_error *err);
anemo_status anemo_graph_launch(anemo_device *device, anemo_graph *graph);
void anemo_graph_free(anemo_graph *graph);

/* Exercises: work that is there to be timed, so that the harness can ask a GPU what it can do at
 * most. Every run is checked: its results add up to what they must (modulo 2^64). */
#define ANEMO_EXERCISE_RESULTS 16384
#define ANEMO_EXERCISE_GRANULE 16 /* bytes of data are a multiple */
typedef enum anemo_exercise_kind {
    ANEMO_EXERCISE_READ, /* of `data`; the results add up to its 64-bit words */
    ANEMO_EXERCISE_FP32,
    ANEMO_EXERCISE_BF16,
    ANEMO_EXERCISE_INT8
} anemo_exercise_kind;

typedef struct anemo_exercise_args {
    const void *data; /* READ */
    size_t bytes;
    int64_t size; /* else: what `ops` grows with */
    int32_t multiprocessors;
    void *scratch;    /* scratch_bytes(size) */
    uint64_t *result; /* [ANEMO_EXERCISE_RESULTS], zeroed before the first run */
} anemo_exercise_args;

typedef struct anemo_exercise {
    const char *name;
    anemo_exercise_kind kind;
    int32_t min_capability;
    int64_t least, most;                            /* sizes; doubling from the least is fine */
    double (*ops)(const anemo_exercise_args *args); /* of a run; NULL: READ */
    size_t (*scratch_bytes)(int64_t size);          /* NULL: none */
    /* Untimed: before the first run of a size; the run; and after it, when the run itself does not
     * write the results. NULL: nothing to do. */
    anemo_status (*prepare)(const anemo_exec *exec, const anemo_exercise_args *args);
    anemo_status (*run)(const anemo_exec *exec, const anemo_exercise_args *args);
    anemo_status (*verify)(const anemo_exec *exec, const anemo_exercise_args *args);
    uint64_t (*right)(const anemo_exercise_args *args); /* sum of the results; NULL: READ */
} anemo_exercise;
const anemo_exercise *anemo_exercise_at(int32_t index); /* of this build; NULL behind the last */

/* An exec on this device's threads and stream with no workspace; the caller sets workspace and
 * mark. */
anemo_exec anemo_device_exec(anemo_device *device);

#ifdef __cplusplus
}
#endif
#endif
