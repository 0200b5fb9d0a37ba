/* What disturbed a run: read before and after it. Each figure is NaN where this machine does not
 * tell it: absent is never zero. */
#ifndef ANEMO_NOISE_H
#define ANEMO_NOISE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct anemo_noise_reading {
    int64_t involuntary_switches; /* getrusage, of all threads of this process; -1: not told */
    double total, idle, steal;    /* ticks of all CPUs since boot, /proc/stat */
    double pressure_us;           /* /proc/pressure/cpu, "some": time in which a task waited */
    double now_us;                /* monotonic */
    double frequency_khz;         /* mean of the CPUs' cpufreq, else of /proc/cpuinfo */
} anemo_noise_reading;

/* Of the whole process and machine, between two readings. */
typedef struct anemo_noise {
    int64_t involuntary_switches; /* -1: not told */
    double steal_fraction;        /* of all CPU time: taken by the hypervisor */
    double busy_fraction;         /* of all CPU time, whoever used it */
    double pressure_fraction;     /* of the time, in which some task waited for a CPU */
    double frequency_khz;         /* at the end; a snapshot */
} anemo_noise;

anemo_noise_reading anemo_noise_read(void);
/* Only that, in half a microsecond; NaN: not told. */
double anemo_noise_involuntary_switches(void);
anemo_noise anemo_noise_between(const anemo_noise_reading *from, const anemo_noise_reading *to);

#endif
