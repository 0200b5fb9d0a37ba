/* What a backend must provide for device.h. device.c does the account and the checks that are the
 * same everywhere; device_cpu.c and device_cuda.cu fill this table. */
#ifndef ANEMO_DEVICE_INTERNAL_H
#define ANEMO_DEVICE_INTERNAL_H

#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct anemo_device_ops {
    void (*destroy)(anemo_device *device); /* frees what `create` made, and the device itself */
    void *(*alloc)(anemo_device *device, size_t bytes); /* aligned, zeroed; bytes >= 1 */
    void (*dealloc)(anemo_device *device, void *memory, size_t bytes);
    anemo_status (*upload)(anemo_device *device, void *to, const void *from_host, size_t bytes);
    anemo_status (*download)(anemo_device *device, void *to_host, const void *from, size_t bytes);
    anemo_status (*copy)(anemo_device *device, void *to, const void *from, size_t bytes);
    anemo_status (*synchronise)(anemo_device *device, anemo_error *err);
    bool (*event_init)(anemo_event *event); /* fills native, if the backend needs it */
    void (*event_destroy)(anemo_event *event);
    anemo_status (*event_record)(anemo_event *event);
    anemo_status (*event_elapsed_ns)(anemo_event *start, anemo_event *stop, double *ns);
    /* NULL in a backend that cannot capture. */
    anemo_status (*capture_begin)(anemo_device *device);
    anemo_status (*capture_end)(anemo_device *device, void **native, anemo_error *err);
    anemo_status (*graph_launch)(anemo_device *device, void *native);
    void (*graph_destroy)(anemo_device *device, void *native);
} anemo_device_ops;

/* A backend's device begins with this. */
struct anemo_device {
    const anemo_device_ops *ops;
    anemo_backend backend;
    int32_t capability;
    char name[128];
    anemo_gpu_facts gpu;
    anemo_exec exec; /* template of anemo_device_exec: threads, stream, libraries */
    size_t held_bytes[ANEMO_MEM_USES], peak_bytes;
};

struct anemo_event {
    anemo_device *device;
    void *native;
    double time_ns;
    bool recorded;
};

struct anemo_graph {
    anemo_device *device;
    void *native;
};

#ifdef __cplusplus
}
#endif
#endif
