#include "harness/measure/nvml.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Its handles are opaque pointers, 0 is success. Calls behind `by_index` may be missing in an older
 * library, and then are NULL. */
typedef struct nvml_calls {
    int (*init)(void);
    int (*shutdown)(void);
    int (*driver)(char *text, unsigned bytes);
    int (*by_index)(unsigned index, void **device);
    int (*name)(void *device, char *text, unsigned bytes);
    int (*energy_mj)(void *device, unsigned long long *millijoules);
    int (*power_mw)(void *device, unsigned *milliwatts);
    int (*limit_mw)(void *device, unsigned *milliwatts);
    int (*default_limit_mw)(void *device, unsigned *milliwatts);
    int (*clock_mhz)(void *device, int domain, unsigned *mhz);
    int (*max_clock_mhz)(void *device, int domain, unsigned *mhz);
    int (*ecc)(void *device, int *current, int *pending);
    int (*mig)(void *device, unsigned *current, unsigned *pending);
    int (*throttle)(void *device, unsigned long long *reasons);
    int (*by_bus)(const char *bus_id, void **device);
    int (*index_of)(void *device, unsigned *index);
} nvml_calls;

enum { NEEDED_CALLS = 4 };

struct anemo_nvml {
    nvml_calls call;
    void *library;
    char driver[80];
};

static const char *load(void *library, nvml_calls *call) {
    static const char *const names[] = {
        "nvmlInit_v2",
        "nvmlShutdown",
        "nvmlSystemGetDriverVersion",
        "nvmlDeviceGetHandleByIndex_v2",
        "nvmlDeviceGetName",
        "nvmlDeviceGetTotalEnergyConsumption",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetPowerManagementLimit",
        "nvmlDeviceGetPowerManagementDefaultLimit",
        "nvmlDeviceGetClockInfo",
        "nvmlDeviceGetMaxClockInfo",
        "nvmlDeviceGetEccMode",
        "nvmlDeviceGetMigMode",
        "nvmlDeviceGetCurrentClocksThrottleReasons",
        "nvmlDeviceGetHandleByPciBusId_v2",
        "nvmlDeviceGetIndex",
    };
    void *found[sizeof names / sizeof *names];
    _Static_assert(sizeof found == sizeof *call, "one name for each call");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (!(found[i] = dlsym(library, names[i])) && i < NEEDED_CALLS) {
            return names[i];
        }
    }
    memcpy(call, found, sizeof *call);
    return NULL;
}

anemo_status anemo_nvml_open(const char *library, anemo_nvml **out, anemo_error *err) {
    const char *name = library ? library : "libnvidia-ml.so.1";
    anemo_nvml *nvml = calloc(1, sizeof *nvml);
    anemo_status status = ANEMO_OK;
    *out = NULL;
    if (!nvml) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for NVML");
    }
    nvml->library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    const char *missing = nvml->library ? load(nvml->library, &nvml->call) : NULL;
    if (!nvml->library) {
        status = anemo_fail(err, ANEMO_E_UNSUPPORTED, "%s is not installed", name);
    } else if (missing) {
        status = anemo_fail(err, ANEMO_E_UNSUPPORTED, "%s has no %s", name, missing);
    } else if (nvml->call.init() != 0) {
        status = anemo_fail(err, ANEMO_E_UNSUPPORTED, "%s is there, but finds no driver", name);
    } else if (nvml->call.driver(nvml->driver, sizeof nvml->driver) != 0) {
        nvml->driver[0] = '\0';
    }
    if (status) {
        if (nvml->library) {
            dlclose(nvml->library);
        }
        free(nvml);
        return status;
    }
    *out = nvml;
    return ANEMO_OK;
}

void anemo_nvml_close(anemo_nvml *nvml) {
    if (nvml) {
        nvml->call.shutdown();
        dlclose(nvml->library);
        free(nvml);
    }
}

const char *anemo_nvml_driver(const anemo_nvml *nvml) {
    return nvml->driver;
}

static void *device_of(const anemo_nvml *nvml, int32_t index) {
    void *device = NULL;
    return index >= 0 && nvml->call.by_index((unsigned)index, &device) == 0 ? device : NULL;
}

int32_t anemo_nvml_index(const anemo_nvml *nvml, const char *bus_id) {
    void *device = NULL;
    unsigned index = 0;
    const bool told = bus_id[0] && nvml->call.by_bus && nvml->call.index_of &&
                      nvml->call.by_bus(bus_id, &device) == 0 &&
                      nvml->call.index_of(device, &index) == 0;
    return told ? (int32_t)index : -1;
}

bool anemo_nvml_device(const anemo_nvml *nvml, int32_t index) {
    return device_of(nvml, index) != NULL;
}

bool anemo_nvml_energy(const anemo_nvml *nvml, int32_t index, double *joules) {
    void *device = device_of(nvml, index);
    unsigned long long millijoules = 0;
    const bool told =
        device && nvml->call.energy_mj && nvml->call.energy_mj(device, &millijoules) == 0;
    *joules = 1e-3 * (double)millijoules;
    return told;
}

bool anemo_nvml_power(const anemo_nvml *nvml, int32_t index, double *watts, double *limit_watts) {
    void *device = device_of(nvml, index);
    unsigned power = 0, limit = 0;
    const bool told = device && nvml->call.power_mw && nvml->call.limit_mw &&
                      nvml->call.power_mw(device, &power) == 0 &&
                      nvml->call.limit_mw(device, &limit) == 0;
    *watts = 1e-3 * power;
    *limit_watts = 1e-3 * limit;
    return told;
}

bool anemo_nvml_default_limit(const anemo_nvml *nvml, int32_t index, double *watts) {
    void *device = device_of(nvml, index);
    unsigned limit = 0;
    const bool told =
        device && nvml->call.default_limit_mw && nvml->call.default_limit_mw(device, &limit) == 0;
    *watts = 1e-3 * limit;
    return told;
}

bool anemo_nvml_name(const anemo_nvml *nvml, int32_t index, char *text, size_t bytes) {
    void *device = device_of(nvml, index);
    text[0] = '\0';
    return device && nvml->call.name && nvml->call.name(device, text, (unsigned)bytes) == 0;
}

bool anemo_nvml_ecc(const anemo_nvml *nvml, int32_t index, bool *on) {
    void *device = device_of(nvml, index);
    int current = 0, pending = 0;
    const bool told = device && nvml->call.ecc && nvml->call.ecc(device, &current, &pending) == 0;
    *on = told && current;
    return told;
}

bool anemo_nvml_mig(const anemo_nvml *nvml, int32_t index, bool *on) {
    void *device = device_of(nvml, index);
    unsigned current = 0, pending = 0;
    const bool told = device && nvml->call.mig && nvml->call.mig(device, &current, &pending) == 0;
    *on = told && current;
    return told;
}

bool anemo_nvml_throttle(const anemo_nvml *nvml, int32_t index, uint64_t *reasons) {
    void *device = device_of(nvml, index);
    unsigned long long bits = 0;
    const bool told = device && nvml->call.throttle && nvml->call.throttle(device, &bits) == 0;
    *reasons = bits;
    return told;
}

void anemo_nvml_throttle_names(uint64_t reasons, char *text, size_t bytes) {
    static const struct {
        uint64_t bit;
        const char *name;
    } names[] = {{0x4, "software power cap"},
                 {0x8, "hardware slowdown"},
                 {0x20, "software thermal"},
                 {0x40, "hardware thermal"},
                 {0x80, "power brake"}};
    size_t at = 0;
    text[0] = '\0';
    for (size_t i = 0; i < sizeof names / sizeof *names && at < bytes; i++) {
        if (reasons & names[i].bit) {
            at += (size_t)snprintf(text + at, bytes - at, "%s%s", at ? ", " : "", names[i].name);
        }
    }
}

static bool clock_of(const anemo_nvml *nvml, int32_t index, int (*call)(void *, int, unsigned *),
                     anemo_nvml_domain domain, double *hz) {
    void *device = device_of(nvml, index);
    unsigned mhz = 0;
    const bool told = device && call && call(device, (int)domain, &mhz) == 0;
    *hz = 1e6 * mhz;
    return told;
}

bool anemo_nvml_clock(const anemo_nvml *nvml, int32_t index, anemo_nvml_domain domain, double *hz) {
    return clock_of(nvml, index, nvml->call.clock_mhz, domain, hz);
}

bool anemo_nvml_max_clock(const anemo_nvml *nvml, int32_t index, anemo_nvml_domain domain,
                          double *hz) {
    return clock_of(nvml, index, nvml->call.max_clock_mhz, domain, hz);
}
