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
                                      ANEMO_HAVE_CUDA ? "yes" : "built without CUDA"),
                       on_bus ? "the GPU that is here stays unused" : "none without a GPU",
                       "install a CUDA toolkit, then cmake -DANEMO_WITH_CUDA=ON");
}

static void check_nvml_device(capability_list *list, const anemo_nvml *nvml) {
    char detail[160];
    double joules, watts, limit, hz;
    bool works = anemo_nvml_energy(nvml, 0, &joules);
    anemo_capability *c =
        capability_add(list, GROUP, "energy", works,
                       works ? "NVML's energy counter" : "this GPU has no energy counter");
    capability_missing(c, "no joules per token on the GPU",
                       "a GPU of the Volta generation or newer");
    works = anemo_nvml_power(nvml, 0, &watts, &limit);
    snprintf(detail, sizeof detail, "%.0f W now, limit %.0f W", watts, limit);
    c = capability_add(list, GROUP, "power", works, works ? detail : "NVML tells no power");
    capability_missing(c, "a lowered power limit goes unnoticed", "a newer driver");
    works = anemo_nvml_clock(nvml, 0, &hz);
    snprintf(detail, sizeof detail, "%.0f MHz now", 1e-6 * hz);
    c = capability_add(list, GROUP, "clock", works, works ? detail : "NVML tells no clock");
    capability_missing(c, "throttling goes unnoticed", "a newer driver");
}

static void check_nvml(capability_list *list) {
    anemo_nvml *nvml = NULL;
    anemo_error err = {{0}};
    char detail[160];
    const bool works = anemo_nvml_open(NULL, &nvml, &err) == ANEMO_OK;
    snprintf(detail, sizeof detail, "%s%.140s", works ? "driver " : "",
             works ? anemo_nvml_driver(nvml) : err.text);
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
