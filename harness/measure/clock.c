#include "harness/measure/clock.h"

#include <math.h>
#include <time.h>

#include "harness/measure/stats.h"

enum { BATCHES = 51, READS_PER_BATCH = 200 };

static uint64_t raw_now_ns(void *ctx) {
    (void)ctx;
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_RAW, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

anemo_clock anemo_clock_raw(void) {
    return (anemo_clock){.name = "CLOCK_MONOTONIC_RAW", .now_ns = raw_now_ns};
}

anemo_clock_quality anemo_clock_measure(const anemo_clock *clock) {
    double per_read_ns[BATCHES];
    double step_ns = INFINITY;
    for (int b = 0; b < BATCHES; b++) {
        const uint64_t start = anemo_clock_now(clock);
        uint64_t last = start;
        for (int i = 0; i < READS_PER_BATCH; i++) {
            const uint64_t now = anemo_clock_now(clock);
            if (now > last && (double)(now - last) < step_ns) {
                step_ns = (double)(now - last);
            }
            last = now;
        }
        per_read_ns[b] = (double)(last - start) / READS_PER_BATCH;
    }
    anemo_stats_sort(per_read_ns, BATCHES);
    const double overhead_ns = anemo_stats_quantile(per_read_ns, BATCHES, 0.5);
    return (anemo_clock_quality){.overhead_ns = overhead_ns,
                                 .resolution_ns = isfinite(step_ns) ? step_ns : overhead_ns};
}
