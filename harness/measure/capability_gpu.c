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
                                      ANEMO_HAVE_CUDA
                                          ? "yes; its kernels have run in an emulator, not yet on "
                                            "hardware"
                                          : "built without CUDA"),
                       on_bus ? "the GPU that is here stays unused" : "none without a GPU",
                       "install a CUDA toolkit, then cmake -DANEMO_WITH_CUDA=ON");
}

/* The few calls needed of NVML; its handles are opaque pointers, 0 is success. Those behind
 * `by_index` may be missing in an older library, and then are NULL. */
typedef struct nvml {
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
} nvml;

enum { NVML_NEEDED = 4, CLOCK_SM = 1, CLOCK_MEMORY = 2 };

static bool nvml_load(void *library, nvml *api) {
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
    };
    void *found[sizeof names / sizeof *names];
    _Static_assert(sizeof found == sizeof *api, "one name for each call");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        found[i] = dlsym(library, names[i]);
        if (!found[i] && i < NVML_NEEDED)
            return false;
    }
    memcpy(api, found, sizeof *api);
    return true;
}

static void report(capability_list *list, const char *name, bool works, const char *detail,
                   const char *otherwise, const char *costs) {
    anemo_capability *c = capability_add(list, GROUP, name, works, works ? detail : otherwise);
    if (!works)
        capability_missing(c, costs, "");
}

static void check_power(capability_list *list, const nvml *api, void *device) {
    char detail[160];
    unsigned long long energy = 0;
    unsigned power = 0, limit = 0, usual = 0;
    report(list, "energy", api->energy_mj && api->energy_mj(device, &energy) == 0,
           "NVML's energy counter", "this GPU has no energy counter",
           "no joules per token on the GPU");
    const bool works = api->power_mw && api->limit_mw && api->power_mw(device, &power) == 0 &&
                       api->limit_mw(device, &limit) == 0;
    const bool known = api->default_limit_mw && api->default_limit_mw(device, &usual) == 0;
    int at =
        snprintf(detail, sizeof detail, "%.0f W now, limit %.0f W", 1e-3 * power, 1e-3 * limit);
    if (known)
        snprintf(detail + at, sizeof detail - (size_t)at, "%s of %.0f W by default",
                 limit < usual ? ", lowered:" : "", 1e-3 * usual);
    report(list, "power", works, detail, "NVML tells no power",
           "a lowered power limit goes unnoticed");
}

static void check_clocks(capability_list *list, const nvml *api, void *device) {
    char detail[160];
    unsigned sm = 0, memory = 0, sm_max = 0, memory_max = 0;
    const bool works = api->clock_mhz && api->clock_mhz(device, CLOCK_SM, &sm) == 0 &&
                       api->clock_mhz(device, CLOCK_MEMORY, &memory) == 0;
    const bool most = api->max_clock_mhz && api->max_clock_mhz(device, CLOCK_SM, &sm_max) == 0 &&
                      api->max_clock_mhz(device, CLOCK_MEMORY, &memory_max) == 0;
    if (most)
        snprintf(detail, sizeof detail, "multiprocessors %u of %u MHz, memory %u of %u MHz now", sm,
                 sm_max, memory, memory_max);
    else
        snprintf(detail, sizeof detail, "multiprocessors %u MHz, memory %u MHz now", sm, memory);
    report(list, "clock", works, detail, "NVML tells no clock", "throttling goes unnoticed");
}

/* Bits of nvmlClocksThrottleReasons; an idle GPU and clocks set on purpose slow nothing down. */
static void check_throttle(capability_list *list, const nvml *api, void *device) {
    static const struct {
        unsigned long long bit;
        const char *name;
    } reasons[] = {{0x4, "software power cap"},
                   {0x8, "hardware slowdown"},
                   {0x20, "software thermal"},
                   {0x40, "hardware thermal"},
                   {0x80, "power brake"}};
    char detail[160] = "";
    unsigned long long bits = 0;
    const bool works = api->throttle && api->throttle(device, &bits) == 0;
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
        const size_t at = strlen(detail);
        if (bits & reasons[i].bit)
            snprintf(detail + at, sizeof detail - at, "%s%s",
                     at ? ", " : "throttled now: ", reasons[i].name);
    }
    report(list, "throttle reasons", works, detail[0] ? detail : "none now",
           "NVML tells no throttle reasons", "throttled samples cannot be counted");
}

static void check_modes(capability_list *list, const nvml *api, void *device) {
    char detail[160];
    int ecc = 0, ecc_next = 0;
    unsigned mig = 0, mig_next = 0;
    const bool has_ecc = api->ecc && api->ecc(device, &ecc, &ecc_next) == 0;
    report(list, "ECC", has_ecc, ecc ? "on" : "off", "this GPU tells no ECC mode",
           "a part of the bandwidth may go to ECC unnoticed");
    const bool has_mig = api->mig && api->mig(device, &mig, &mig_next) == 0;
    snprintf(detail, sizeof detail, "%s",
             mig ? "on: the figures are those of a part of the GPU" : "off");
    report(list, "MIG", has_mig, detail, "this GPU tells no MIG mode",
           "none where the GPU cannot be divided");
}

static void check_nvml_device(capability_list *list, const nvml *api, void *device) {
    check_power(list, api, device);
    check_clocks(list, api, device);
    check_throttle(list, api, device);
    check_modes(list, api, device);
}

static void check_nvml(capability_list *list) {
    nvml api;
    void *device = NULL, *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    char driver[80] = "", detail[160];
    bool works = library && nvml_load(library, &api) && api.init() == 0;
    if (works) {
        char name[64] = "";
        api.driver(driver, sizeof driver);
        const bool found = api.by_index(0, &device) == 0;
        if (found && api.name)
            api.name(device, name, sizeof name);
        snprintf(detail, sizeof detail, "driver %s%s%s", driver, name[0] ? ", " : "", name);
        device = found ? device : NULL;
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
        if (device)
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
