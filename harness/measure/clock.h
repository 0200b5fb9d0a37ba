/* The clock of every measurement: CLOCK_MONOTONIC_RAW, which no time daemon slews. It is passed as
 * a value so that tests run the samplers on a clock of their own. */
#ifndef ANEMO_CLOCK_H
#define ANEMO_CLOCK_H

#include <stdint.h>

typedef struct anemo_clock {
    const char *name;
    uint64_t (*now_ns)(void *ctx); /* never goes back */
    void *ctx;
} anemo_clock;

anemo_clock anemo_clock_raw(void);

static inline uint64_t anemo_clock_now(const anemo_clock *clock) {
    return clock->now_ns(clock->ctx);
}

typedef struct anemo_clock_quality {
    double overhead_ns;   /* of one read: the median of many batches of back-to-back reads */
    double resolution_ns; /* smallest step seen between two reads */
} anemo_clock_quality;

/* Takes a millisecond or so. */
anemo_clock_quality anemo_clock_measure(const anemo_clock *clock);

#endif
