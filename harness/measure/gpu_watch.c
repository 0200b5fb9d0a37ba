#include "harness/measure/gpu_watch.h"

#include "harness/measure/nvml.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

struct anemo_gpu_watch {
    anemo_nvml *nvml;
    int32_t index;
};

anemo_gpu_watch *anemo_gpu_watch_open(const anemo_device *device, const char *library, char *lack,
                                      size_t lack_bytes) {
    const anemo_gpu_facts facts = anemo_device_gpu(device);
    anemo_error err = {{0}};
    anemo_nvml *nvml = NULL;
    lack[0] = '\0';
    if (anemo_nvml_open(library, &nvml, &err) != ANEMO_OK) {
        snprintf(lack, lack_bytes, "%s", err.text);
        return NULL;
    }
    const int32_t index = anemo_nvml_index(nvml, facts.bus_id);
    anemo_gpu_watch *watch = index >= 0 ? calloc(1, sizeof *watch) : NULL;
    if (!watch) {
        snprintf(lack, lack_bytes, "NVML does not know the GPU at %s", facts.bus_id);
        anemo_nvml_close(nvml);
        return NULL;
    }
    *watch = (anemo_gpu_watch){.nvml = nvml, .index = index};
    return watch;
}

void anemo_gpu_watch_close(anemo_gpu_watch *watch) {
    if (watch) {
        anemo_nvml_close(watch->nvml);
        free(watch);
    }
}

anemo_gpu_state anemo_gpu_watch_read(anemo_gpu_watch *watch) {
    const anemo_nvml *nvml = watch->nvml;
    anemo_gpu_state s = {0};
    double limit;
    uint64_t bits = 0;
    if (!anemo_nvml_clock(nvml, watch->index, ANEMO_NVML_MULTIPROCESSORS, &s.multiprocessor_hz)) {
        s.multiprocessor_hz = NAN;
    }
    if (!anemo_nvml_clock(nvml, watch->index, ANEMO_NVML_MEMORY, &s.memory_hz)) {
        s.memory_hz = NAN;
    }
    if (!anemo_nvml_power(nvml, watch->index, &s.watts, &limit)) {
        s.watts = NAN;
    }
    s.throttle_told = anemo_nvml_throttle(nvml, watch->index, &bits);
    s.throttle = bits & ANEMO_NVML_SLOWED;
    return s;
}

const char *anemo_gpu_watch_driver(const anemo_gpu_watch *watch) {
    return anemo_nvml_driver(watch->nvml);
}

double anemo_gpu_watch_limit_watts(const anemo_gpu_watch *watch) {
    double watts, limit;
    return anemo_nvml_power(watch->nvml, watch->index, &watts, &limit) ? limit : NAN;
}

double anemo_gpu_watch_max_hz(const anemo_gpu_watch *watch, bool of_memory) {
    double hz;
    const anemo_nvml_domain domain = of_memory ? ANEMO_NVML_MEMORY : ANEMO_NVML_MULTIPROCESSORS;
    return anemo_nvml_max_clock(watch->nvml, watch->index, domain, &hz) ? hz : NAN;
}
