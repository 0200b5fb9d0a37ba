/* An NVML of one GPU for test_doctor_gpu.c; FAKE_NVML says which: "healthy", "throttled" (hot, its
 * power limit lowered, cut by MIG) or "silent" (a driver that tells nothing beyond its version). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int is(const char *kind) {
    const char *asked = getenv("FAKE_NVML");
    return asked && strcmp(asked, kind) == 0;
}

/* NVML_SUCCESS 0, NVML_ERROR_NOT_SUPPORTED 3 */
static int told(void) {
    return is("silent") ? 3 : 0;
}

int nvmlInit_v2(void);
int nvmlShutdown(void);
int nvmlSystemGetDriverVersion(char *text, unsigned bytes);
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device);
int nvmlDeviceGetName(void *device, char *text, unsigned bytes);
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules);
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts);
int nvmlDeviceGetPowerManagementLimit(void *device, unsigned *milliwatts);
int nvmlDeviceGetPowerManagementDefaultLimit(void *device, unsigned *milliwatts);
int nvmlDeviceGetClockInfo(void *device, int domain, unsigned *mhz);
int nvmlDeviceGetMaxClockInfo(void *device, int domain, unsigned *mhz);
int nvmlDeviceGetEccMode(void *device, int *current, int *pending);
int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending);
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons);

static int gpu;

int nvmlInit_v2(void) {
    return 0;
}
int nvmlShutdown(void) {
    return 0;
}
int nvmlSystemGetDriverVersion(char *text, unsigned bytes) {
    return snprintf(text, bytes, "580.42") > 0 ? 0 : 3;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    *device = &gpu;
    return index == 0 ? 0 : 2;
}
int nvmlDeviceGetName(void *device, char *text, unsigned bytes) {
    return device == &gpu && snprintf(text, bytes, "Fake H200") > 0 ? told() : 2;
}
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
    *millijoules = device == &gpu ? 123456 : 0;
    return told();
}
int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    *milliwatts = device == &gpu ? 345000 : 0;
    return told();
}
int nvmlDeviceGetPowerManagementLimit(void *device, unsigned *milliwatts) {
    *milliwatts = device == &gpu && is("throttled") ? 500000 : 700000;
    return told();
}
int nvmlDeviceGetPowerManagementDefaultLimit(void *device, unsigned *milliwatts) {
    *milliwatts = device == &gpu ? 700000 : 0;
    return told();
}
int nvmlDeviceGetClockInfo(void *device, int domain, unsigned *mhz) {
    *mhz = device == &gpu && domain == 1 ? 1755 : 3201;
    return told();
}
int nvmlDeviceGetMaxClockInfo(void *device, int domain, unsigned *mhz) {
    *mhz = device == &gpu && domain == 1 ? 1980 : 3201;
    return told();
}
int nvmlDeviceGetEccMode(void *device, int *current, int *pending) {
    *current = *pending = device == &gpu;
    return told();
}
int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
    *current = *pending = device == &gpu && is("throttled");
    return told();
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons) {
    *reasons = device == &gpu && is("throttled") ? 0x4 | 0x40 : 0x1; /* else idle */
    return told();
}
