/* Passes for NVIDIA's management library: one GPU whose energy grows by a joule at each reading, at
 * 250 W of 300, at 1.5 GHz. ANEMO_FAKE_NVML=still: it does not grow; throttled: hot, its power
 * limit lowered, cut by MIG; silent: a driver that tells nothing beyond its version; elsewhere: it
 * knows no GPU by its place on the bus. */
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
int nvmlDeviceGetName(void *device, char *text, unsigned bytes);
int nvmlDeviceGetPowerManagementDefaultLimit(void *device, unsigned *milliwatts);
int nvmlDeviceGetClockInfo(void *device, int domain, unsigned *mhz);
int nvmlDeviceGetMaxClockInfo(void *device, int domain, unsigned *mhz);
int nvmlDeviceGetEccMode(void *device, int *current, int *pending);
int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending);
int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons);
int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **device);
int nvmlDeviceGetIndex(void *device, unsigned *index);

static unsigned long long spent_mj = 1000000;

static int is(const char *kind) {
    const char *asked = getenv("ANEMO_FAKE_NVML");
    return asked && strcmp(asked, kind) == 0;
}

/* NVML_SUCCESS 0, NVML_ERROR_INVALID_ARGUMENT 2, NVML_ERROR_NOT_SUPPORTED 3 */
static int answer(const void *device) {
    return device != &spent_mj ? 2 : is("silent") ? 3 : 0;
}

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
    return index == 0 ? 0 : 2;
}

int nvmlDeviceGetName(void *device, char *text, unsigned bytes) {
    snprintf(text, bytes, "Fake H200");
    return answer(device);
}

int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *millijoules) {
    *millijoules = spent_mj;
    spent_mj += is("still") ? 0 : 1000;
    return answer(device);
}

int nvmlDeviceGetPowerUsage(void *device, unsigned *milliwatts) {
    *milliwatts = 250000;
    return answer(device);
}

int nvmlDeviceGetPowerManagementLimit(void *device, unsigned *milliwatts) {
    *milliwatts = is("throttled") ? 200000 : 300000;
    return answer(device);
}

int nvmlDeviceGetPowerManagementDefaultLimit(void *device, unsigned *milliwatts) {
    *milliwatts = 300000;
    return answer(device);
}

int nvmlDeviceGetClockInfo(void *device, int domain, unsigned *mhz) {
    *mhz = domain == 1 ? 1500 : 3201;
    return answer(device);
}

int nvmlDeviceGetMaxClockInfo(void *device, int domain, unsigned *mhz) {
    *mhz = domain == 1 ? 1980 : 3201;
    return answer(device);
}

int nvmlDeviceGetEccMode(void *device, int *current, int *pending) {
    *current = *pending = 1;
    return answer(device);
}

int nvmlDeviceGetMigMode(void *device, unsigned *current, unsigned *pending) {
    *current = *pending = (unsigned)is("throttled");
    return answer(device);
}

int nvmlDeviceGetCurrentClocksThrottleReasons(void *device, unsigned long long *reasons) {
    *reasons = is("throttled") ? 0x4 | 0x40 : 0x1; /* else idle */
    return answer(device);
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, void **device) {
    *device = &spent_mj;
    return bus_id[0] && !is("elsewhere") ? 0 : 2;
}

int nvmlDeviceGetIndex(void *device, unsigned *index) {
    *index = 0;
    return answer(device) == 2 ? 2 : 0;
}
