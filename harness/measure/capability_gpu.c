/* The GPU: is one there, does the build use it, does its management library tell power and
 * clocks. */
#include "harness/measure/capability_internal.h"

#include "anemo_config.h"
#include "harness/measure/nvml.h"
#include "kernels/device.h"

#include <dirent.h>
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
                       !on_bus           ? "a machine with an NVIDIA GPU"
                       : ANEMO_HAVE_CUDA ? "install the NVIDIA driver"
                                         : "rebuild with a CUDA toolkit");
    capability_missing(capability_add(list, GROUP, "CUDA in this build", ANEMO_HAVE_CUDA,
                                      ANEMO_HAVE_CUDA
                                          ? "yes; its kernels have run on an emulated GPU, not "
                                            "yet on hardware"
                                          : "built without CUDA"),
                       on_bus ? "the GPU that is here stays unused" : "none without a GPU",
                       "install a CUDA toolkit, then cmake -DANEMO_WITH_CUDA=ON");
}

static void report(capability_list *list, const char *name, bool works, const char *detail,
                   const char *otherwise, const char *costs, const char *remedy) {
    capability_missing(capability_add(list, GROUP, name, works, works ? detail : otherwise), costs,
                       remedy);
}

static void check_power(capability_list *list, const anemo_nvml *nvml) {
    char detail[160];
    double joules, watts, limit, usual;
    report(list, "energy", anemo_nvml_energy(nvml, 0, &joules), "NVML's energy counter",
           "this GPU has no energy counter", "no joules per token on the GPU",
           "a GPU of the Volta generation or newer");
    const bool works = anemo_nvml_power(nvml, 0, &watts, &limit);
    const int at = snprintf(detail, sizeof detail, "%.0f W now, limit %.0f W", watts, limit);
    if (anemo_nvml_default_limit(nvml, 0, &usual))
        snprintf(detail + at, sizeof detail - (size_t)at, "%s of %.0f W by default",
                 limit < usual ? ", lowered:" : "", usual);
    report(list, "power", works, detail, "NVML tells no power",
           "a lowered power limit goes unnoticed", "a newer driver");
}

static void check_clocks(capability_list *list, const anemo_nvml *nvml) {
    char detail[160];
    double sm, memory, sm_max, memory_max;
    const bool has_sm = anemo_nvml_clock(nvml, 0, ANEMO_NVML_MULTIPROCESSORS, &sm);
    const bool works = anemo_nvml_clock(nvml, 0, ANEMO_NVML_MEMORY, &memory) && has_sm;
    if (anemo_nvml_max_clock(nvml, 0, ANEMO_NVML_MULTIPROCESSORS, &sm_max) &&
        anemo_nvml_max_clock(nvml, 0, ANEMO_NVML_MEMORY, &memory_max))
        snprintf(detail, sizeof detail,
                 "multiprocessors %.0f of %.0f MHz, memory %.0f of %.0f MHz now", 1e-6 * sm,
                 1e-6 * sm_max, 1e-6 * memory, 1e-6 * memory_max);
    else
        snprintf(detail, sizeof detail, "multiprocessors %.0f MHz, memory %.0f MHz now", 1e-6 * sm,
                 1e-6 * memory);
    report(list, "clock", works, detail, "NVML tells no clock", "throttling goes unnoticed",
           "a newer driver");
}

static void check_throttle(capability_list *list, const anemo_nvml *nvml) {
    char names[128], detail[160];
    uint64_t bits = 0;
    const bool works = anemo_nvml_throttle(nvml, 0, &bits);
    anemo_nvml_throttle_names(bits, names, sizeof names);
    snprintf(detail, sizeof detail, "throttled now: %s", names);
    report(list, "throttle reasons", works, names[0] ? detail : "none now",
           "NVML tells no throttle reasons", "throttled samples cannot be counted",
           "a newer driver");
}

static void check_modes(capability_list *list, const anemo_nvml *nvml) {
    bool ecc, mig;
    const bool has_ecc = anemo_nvml_ecc(nvml, 0, &ecc), has_mig = anemo_nvml_mig(nvml, 0, &mig);
    report(list, "ECC", has_ecc, ecc ? "on" : "off", "this GPU tells no ECC mode",
           "a part of the bandwidth may go to ECC unnoticed", "a GPU that has ECC");
    report(list, "MIG", has_mig, mig ? "on: the figures are those of a part of the GPU" : "off",
           "this GPU tells no MIG mode", "none where the GPU cannot be divided",
           "a GPU that can be divided");
}

static void check_nvml_device(capability_list *list, const anemo_nvml *nvml) {
    check_power(list, nvml);
    check_clocks(list, nvml);
    check_throttle(list, nvml);
    check_modes(list, nvml);
}

static void check_nvml(capability_list *list) {
    anemo_nvml *nvml = NULL;
    anemo_error err = {{0}};
    char detail[160], name[64] = "";
    const bool works = anemo_nvml_open(NULL, &nvml, &err) == ANEMO_OK;
    const bool named = works && anemo_nvml_name(nvml, 0, name, sizeof name);
    if (works)
        snprintf(detail, sizeof detail, "driver %s%s%s", anemo_nvml_driver(nvml), named ? ", " : "",
                 named ? name : "");
    else
        snprintf(detail, sizeof detail, "%.140s", err.text);
    anemo_capability *c = capability_add(list, GROUP, "NVML", works, detail);
    capability_missing(c, "no energy, power or clock of a GPU",
                       count_pci() ? "install the NVIDIA driver; in a container, start it with "
                                     "--gpus all"
                                   : "a machine with an NVIDIA GPU and its driver");
    if (works && anemo_nvml_device(nvml, 0))
        check_nvml_device(list, nvml);
    anemo_nvml_close(nvml);
}

void capability_gpu(capability_list *list) {
    check_device(list);
    check_nvml(list);
}
