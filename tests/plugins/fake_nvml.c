/* Passes for NVIDIA's management library: one GPU whose energy grows by a joule at each reading, at
 * 250 W of 300, at 1.5 GHz. ANEMO_FAKE_NVML=still: it does not grow. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlSystemGetDriverVersion(char *text, unsigned bytes);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules);
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts);
int nvmlDeviceGetPowerManagementLimit(void *device, unsigned *milliwatts);
int nvmlDeviceGetClockInfo(void *device, int domain, unsigned *mhz);

static unsigned long long spent_mj = 1000000;

int nvmlInit_v2(void) {
    return 0;
}

int nvmlShutdown(void) {
    return 0;
}

int nvmlSystemGetDriverVersion(char *text, unsigned bytes) {
    snprintf(text, bytes, "1.2.3");
    return 0;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    *device = &spent_mj;
    return index == 0 ? 0 : 2; /* invalid argument */
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
    const char *how = getenv("ANEMO_FAKE_NVML");
    *millijoules = *(unsigned long long *)device;
    *(unsigned long long *)device += how && strcmp(how, "still") == 0 ? 0 : 1000;
    return 0;
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    (void)device;
    *milliwatts = 250000;
    return 0;
}

int nvmlDeviceGetPowerManagementLimit(void *device, unsigned *milliwatts) {
    (void)device;
    *milliwatts = 300000;
    return 0;
}

int nvmlDeviceGetClockInfo(void *device, int domain, unsigned *mhz) {
    (void)device;
    *mhz = domain == 1 ? 1500 : 0;
    return 0;
}
