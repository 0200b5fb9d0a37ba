/* How much memory a device could still give. On the CPU the kernel's own estimate, MemAvailable of
 * /proc/meminfo (free pages and what caches would give back), less where a cgroup allows less. */
#include "kernels/device_internal.h"

#include <stdio.h>
#include <string.h>

/* The number in a file of one number; "max" and a missing file leave `absent`. */
static double number_of(const char *path, double absent) {
    FILE *file = fopen(path, "r");
    double value = absent;
    if (file) {
        if (fscanf(file, "%lf", &value) != 1) {
            value = absent;
        }
        fclose(file);
    }
    return value;
}

static double mem_available(void) {
    FILE *file = fopen("/proc/meminfo", "r");
    char line[128];
    double kib = 0;
    while (file && kib == 0 && fgets(line, sizeof line, file)) {
        if (sscanf(line, "MemAvailable: %lf", &kib) != 1) {
            kib = 0;
        }
    }
    if (file) {
        fclose(file);
    }
    return 1024 * kib;
}

double anemo_device_available_bytes(const anemo_device *device) {
    if (anemo_device_backend(device) != ANEMO_CPU) {
        return 0;
    }
    const double limit = number_of("/sys/fs/cgroup/memory.max", 0);
    const double used = number_of("/sys/fs/cgroup/memory.current", 0);
    const double machine = mem_available();
    return limit > 0 && limit - used < machine ? limit - used : machine;
}
