/* The GPU: is one there, does the build use it, does its management library tell power and clocks.
 *
 * NVML is opened at run time, so that one binary serves machines with and without a driver; only
 * reading calls are used. */
#include "harness/measure/capability_internal.h"

#include "anemo_config.h"
#include "kernels/device.h"

#include <dirent.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#define GROUP "GPU"

/* NVIDIA display and 3D controllers on the PCI bus. */
static int count_pci(void) {
    int n = 0;
    DIR *folder = opendir("/sys/bus/pci/devices");
    for (struct dirent *entry; folder && (entry = readdir(folder));) {
        char path[384];
        unsigned vendor = 0, class = 0;
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%.200s/vendor", entry->d_name);
        FILE *file = fopen(path, "r");
        if (!file)
            continue;
        if (fscanf(file, "%x", &vendor) != 1)
            vendor = 0;
        fclose(file);
        snprintf(path, sizeof path, "/sys/bus/pci/devices/%.200s/class", entry->d_name);
        if (vendor != 0x10de || !(file = fopen(path, "r")))
            continue;
        n += fscanf(file, "%x", &class) == 1 && (class >> 8 == 0x300 || class >> 8 == 0x302);
        fclose(file);
    }
    if (folder)
        closedir(folder);
    return n;
}

static void check_device(capability_list *list) {
    char detail[160];
    anemo_device *device = NULL;
    anemo_error err = {0};
    int on_bus = count_pci();
    anemo_status status = anemo_device_create_cuda(0, &device, &err);
    if (status == ANEMO_OK) {
        int capability = anemo_device_capability(device);
        snprintf(detail, sizeof detail, "%.100s, compute capability %d.%d",
                 anemo_device_name(device), capability / 10, capability % 10);
        capability_add(list, GROUP, "device", true, detail);
        anemo_device_free(device);
        return;
    }
    snprintf(detail, sizeof detail, "%.150s", on_bus ? err.text : "no NVIDIA GPU on the PCI bus");
    capability_missing(capability_add(list, GROUP, "device", false, detail),
                       "no GPU variant is measured here",
                       !on_bus           ? ""
                       : ANEMO_HAVE_CUDA ? "install the NVIDIA driver"
                                         : "rebuild with a CUDA toolkit");
    capability_missing(capability_add(list, GROUP, "CUDA in this build", ANEMO_HAVE_CUDA,
                                      ANEMO_HAVE_CUDA ? "yes" : "built without CUDA"),
                       on_bus ? "the GPU that is here stays unused" : "none without a GPU",
                       "install a CUDA toolkit, then cmake -DANEMO_WITH_CUDA=ON");
}

/* The few calls needed of NVML; its handles are opaque pointers, 0 is success. */
typedef struct nvml {
    int (*init)(void);
    int (*shutdown)(void);
    int (*driver)(char *text, unsigned bytes);
    int (*by_index)(unsigned index, void **device);
    int (*energy_mj)(void *device, unsigned long long *millijoules);
    int (*power_mw)(void *device, unsigned *milliwatts);
    int (*limit_mw)(void *device, unsigned *milliwatts);
    int (*clock_mhz)(void *device, int domain, unsigned *mhz);
} nvml;

static bool nvml_load(void *library, nvml *api) {
    static const char *const names[] = {
        "nvmlInit_v2",
        "nvmlShutdown",
        "nvmlSystemGetDriverVersion",
        "nvmlDeviceGetHandleByIndex_v2",
        "nvmlDeviceGetTotalEnergyConsumption",
        "nvmlDeviceGetPowerUsage",
        "nvmlDeviceGetPowerManagementLimit",
        "nvmlDeviceGetClockInfo",
    };
    void *found[sizeof names / sizeof *names];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!(found[i] = dlsym(library, names[i])))
            return false;
    memcpy(api, found, sizeof *api);
    return true;
}

static void check_nvml_device(capability_list *list, const nvml *api, void *device) {
    char detail[160];
    unsigned long long energy = 0;
    unsigned power = 0, limit = 0, clock = 0;
    bool works = api->energy_mj(device, &energy) == 0;
    snprintf(detail, sizeof detail, "%s",
             works ? "NVML's energy counter" : "this GPU has no energy counter");
    anemo_capability *c = capability_add(list, GROUP, "energy", works, detail);
    if (!works)
        capability_missing(c, "no joules per token on the GPU", "");
    works = api->power_mw(device, &power) == 0 && api->limit_mw(device, &limit) == 0;
    snprintf(detail, sizeof detail, "%.0f W now, limit %.0f W", 1e-3 * power, 1e-3 * limit);
    c = capability_add(list, GROUP, "power", works, works ? detail : "NVML tells no power");
    if (!works)
        capability_missing(c, "a lowered power limit goes unnoticed", "");
    works = api->clock_mhz(device, 1, &clock) == 0; /* 1: streaming multiprocessors */
    snprintf(detail, sizeof detail, "%u MHz now", clock);
    c = capability_add(list, GROUP, "clock", works, works ? detail : "NVML tells no clock");
    if (!works)
        capability_missing(c, "throttling goes unnoticed", "");
}

static void check_nvml(capability_list *list) {
    nvml api;
    void *device = NULL, *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    char driver[80] = "", detail[160];
    bool works = library && nvml_load(library, &api) && api.init() == 0;
    if (works) {
        api.driver(driver, sizeof driver);
        snprintf(detail, sizeof detail, "driver %s", driver);
    }
    anemo_capability *c =
        capability_add(list, GROUP, "NVML", works,
                       works     ? detail
                       : library ? "libnvidia-ml.so.1 is there, but finds no driver"
                                 : "libnvidia-ml.so.1 is not installed");
    if (!works)
        capability_missing(c, "no energy, power or clock of a GPU",
                           count_pci() ? "install the NVIDIA driver" : "");
    if (works) {
        if (api.by_index(0, &device) == 0)
            check_nvml_device(list, &api, device);
        api.shutdown();
    }
    if (library)
        dlclose(library);
}

void capability_gpu(capability_list *list) {
    check_device(list);
    check_nvml(list);
}
