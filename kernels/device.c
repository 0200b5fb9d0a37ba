/* Devices: the part that is the same for every backend, and the account of who holds how much. A
 * device belongs to one thread at a time. */
#include "kernels/device_internal.h"

#include <stdlib.h>

void anemo_device_free(anemo_device *device) {
    if (device) {
        device->ops->destroy(device);
    }
}

anemo_backend anemo_device_backend(const anemo_device *device) {
    return device->backend;
}

int32_t anemo_device_capability(const anemo_device *device) {
    return device->capability;
}

const char *anemo_device_name(const anemo_device *device) {
    return device->name;
}

anemo_gpu_facts anemo_device_gpu(const anemo_device *device) {
    return device->gpu;
}

anemo_exec anemo_device_exec(anemo_device *device) {
    return device->exec;
}

void *anemo_device_alloc(anemo_device *device, anemo_memory_use use, size_t bytes) {
    if ((unsigned)use >= ANEMO_MEM_USES || bytes > SIZE_MAX / 2) {
        return NULL;
    }
    void *memory = device->ops->alloc(device, bytes ? bytes : 1);
    if (!memory) {
        return NULL;
    }
    device->held_bytes[use] += bytes;
    size_t held = 0;
    for (int i = 0; i < ANEMO_MEM_USES; i++) {
        held += device->held_bytes[i];
    }
    device->peak_bytes = held > device->peak_bytes ? held : device->peak_bytes;
    return memory;
}

void anemo_device_dealloc(anemo_device *device, anemo_memory_use use, void *memory, size_t bytes) {
    if (memory) {
        device->ops->dealloc(device, memory, bytes ? bytes : 1);
        device->held_bytes[use] -= bytes;
    }
}

size_t anemo_device_held_bytes(const anemo_device *device, anemo_memory_use use) {
    return (unsigned)use < ANEMO_MEM_USES ? device->held_bytes[use] : 0;
}

size_t anemo_device_peak_bytes(const anemo_device *device) {
    return device->peak_bytes;
}

anemo_status anemo_device_upload(anemo_device *device, void *to, const void *from_host,
                                 size_t bytes) {
    return bytes ? device->ops->upload(device, to, from_host, bytes) : ANEMO_OK;
}

anemo_status anemo_device_download(anemo_device *device, void *to_host, const void *from,
                                   size_t bytes) {
    return bytes ? device->ops->download(device, to_host, from, bytes) : ANEMO_OK;
}

anemo_status anemo_device_copy(anemo_device *device, void *to, const void *from, size_t bytes) {
    return bytes ? device->ops->copy(device, to, from, bytes) : ANEMO_OK;
}

anemo_status anemo_device_synchronise(anemo_device *device, anemo_error *err) {
    return device->ops->synchronise(device, err);
}

anemo_event *anemo_event_create(anemo_device *device) {
    anemo_event *event = calloc(1, sizeof *event);
    if (!event) {
        return NULL;
    }
    event->device = device;
    if (!device->ops->event_init(event)) {
        free(event);
        return NULL;
    }
    return event;
}

void anemo_event_free(anemo_event *event) {
    if (event) {
        event->device->ops->event_destroy(event);
        free(event);
    }
}

anemo_status anemo_event_record(anemo_device *device, anemo_event *event) {
    if (event->device != device) {
        return ANEMO_E_INPUT;
    }
    const anemo_status status = device->ops->event_record(event);
    event->recorded = status == ANEMO_OK;
    return status;
}

anemo_status anemo_event_elapsed_ns(anemo_event *start, anemo_event *stop, double *ns) {
    if (start->device != stop->device || !start->recorded || !stop->recorded) {
        return ANEMO_E_INPUT;
    }
    return stop->device->ops->event_elapsed_ns(start, stop, ns);
}

anemo_status anemo_capture_begin(anemo_device *device) {
    return device->ops->capture_begin ? device->ops->capture_begin(device) : ANEMO_E_UNSUPPORTED;
}

anemo_status anemo_capture_end(anemo_device *device, anemo_graph **out, anemo_error *err) {
    *out = NULL;
    if (!device->ops->capture_end) {
        return anemo_fail(err, ANEMO_E_UNSUPPORTED, "device %s cannot capture graphs",
                          device->name);
    }
    anemo_graph *graph = calloc(1, sizeof *graph);
    if (!graph) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a graph");
    }
    graph->device = device;
    const anemo_status status = device->ops->capture_end(device, &graph->native, err);
    if (status != ANEMO_OK) {
        free(graph);
        return status;
    }
    *out = graph;
    return ANEMO_OK;
}

anemo_status anemo_graph_launch(anemo_device *device, anemo_graph *graph) {
    return graph->device == device ? device->ops->graph_launch(device, graph->native)
                                   : ANEMO_E_INPUT;
}

void anemo_graph_free(anemo_graph *graph) {
    if (graph) {
        graph->device->ops->graph_destroy(graph->device, graph->native);
        free(graph);
    }
}
