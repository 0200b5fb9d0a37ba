#include "harness/measure/noise.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

enum { MOST_CPUS = 4096 };

static void read_stat(anemo_noise_reading *r) {
    FILE *file = fopen("/proc/stat", "re");
    if (!file) {
        return;
    }
    double t[8]; /* cpu user nice system idle iowait irq softirq steal */
    if (fscanf(file, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &t[0], &t[1], &t[2], &t[3], &t[4],
               &t[5], &t[6], &t[7]) == 8) {
        r->total = t[0] + t[1] + t[2] + t[3] + t[4] + t[5] + t[6] + t[7];
        r->idle = t[3] + t[4];
        r->steal = t[7];
    }
    fclose(file);
}

static void read_pressure(anemo_noise_reading *r) {
    FILE *file = fopen("/proc/pressure/cpu", "re");
    double total_us;
    if (!file) {
        return;
    }
    if (fscanf(file, "some avg10=%*f avg60=%*f avg300=%*f total=%lf", &total_us) == 1) {
        r->pressure_us = total_us;
    }
    fclose(file);
}

/* Mean over the CPUs that say something. */
static void read_frequency(anemo_noise_reading *r) {
    double sum = 0, khz;
    int n = 0;
    for (int cpu = 0; cpu < MOST_CPUS; cpu++) {
        char path[96];
        snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq", cpu);
        FILE *file = fopen(path, "re");
        if (!file) {
            break;
        }
        if (fscanf(file, "%lf", &khz) == 1 && khz > 0) {
            sum += khz;
            n++;
        }
        fclose(file);
    }
    FILE *file = n ? NULL : fopen("/proc/cpuinfo", "re");
    char line[256];
    while (file && fgets(line, sizeof line, file)) {
        double mhz;
        if (sscanf(line, "cpu MHz : %lf", &mhz) == 1 && mhz > 0) {
            sum += mhz * 1e3;
            n++;
        }
    }
    if (file) {
        fclose(file);
    }
    r->frequency_khz = n ? sum / n : NAN;
}

double anemo_noise_involuntary_switches(void) {
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (double)usage.ru_nivcsw : NAN;
}

anemo_noise_reading anemo_noise_read(void) {
    anemo_noise_reading r = {.involuntary_switches = -1,
                             .total = NAN,
                             .idle = NAN,
                             .steal = NAN,
                             .pressure_us = NAN,
                             .frequency_khz = NAN};
    struct rusage usage;
    struct timespec now;
    if (getrusage(RUSAGE_SELF, &usage) == 0) {
        r.involuntary_switches = usage.ru_nivcsw;
    }
    clock_gettime(CLOCK_MONOTONIC_RAW, &now);
    r.now_us = (double)now.tv_sec * 1e6 + (double)now.tv_nsec * 1e-3;
    read_stat(&r);
    read_pressure(&r);
    read_frequency(&r);
    return r;
}

anemo_noise anemo_noise_between(const anemo_noise_reading *from, const anemo_noise_reading *to) {
    const double total = to->total - from->total; /* 0 in runs shorter than a tick: no fraction */
    const double us = to->now_us - from->now_us;
    const bool told = from->involuntary_switches >= 0 && to->involuntary_switches >= 0;
    return (anemo_noise){
        .involuntary_switches = told ? to->involuntary_switches - from->involuntary_switches : -1,
        .steal_fraction = total > 0 ? (to->steal - from->steal) / total : NAN,
        .busy_fraction = total > 0 ? 1 - (to->idle - from->idle) / total : NAN,
        .pressure_fraction = us > 0 ? (to->pressure_us - from->pressure_us) / us : NAN,
        .frequency_khz = to->frequency_khz,
    };
}
