/* Asking for a cache line well before it is used, on x86.
 *
 * Which level it should come to depends on how many misses of the first level a core can have under
 * way. Zen 4 has 24 buffers for them. A prefetch into the first level holds one for as long as
 * memory takes, and while all are taken, loads that would hit the second level wait, too: W8A8 at
 * 16 rows then neither computed nor read at full speed. A prefetch into the second level lets its
 * buffer go. Time with it over time without, two cores of Zen 4, weights and KV in memory, all in
 * turns:
 *
 *   attention of a decode, 72, 48 and 24 keys ahead                 0.49
 *   qgemm W8A8, next block fetched by 2 tiles (m = 8)               0.56
 *   the same by 3 tiles (m = 16)                                    0.80 to 0.85
 *   the same by 11 tiles (m = 64)                                   1.01
 *   qgemm W8A8, a single tile, 8 KiB ahead: m = 1, 2, 3, 4, 6       1.00, 1.17, 1.07, 1.09, 1.02
 *
 * So it is for lines that are far away (a block of W, some dozens of keys); what is 8 KiB ahead
 * comes to the first level wherever it is asked for. Granite Rapids has 16 such buffers and three
 * times as many between its second level and memory, which is far away; lines asked for in the
 * second level, and two streams 8 KiB ahead for one or two rows, take of the read bandwidth, where
 * asking in the first level and one stream took
 *
 *   qgemm W4A8 m = 1, 2      80, 75 % instead of 65, 61       W8A8    83, 83 instead of 78, 74
 *   qgemm W4A8 m = 8, 16     51, 48          of 49, 46        W8A8    63, 52          58, 48
 *   moe, one token in q4     78              of 66            attention of a decode   61   57
 *
 * (its single tiles ask 3 KiB ahead, in the second level too: tile_avx512vnni.h). Zen 5, whose core
 * drops prefetches to the second level when too many misses are under way (swa/swa_split.h), and
 * processors that were not measured ask for the first. */
#ifndef ANEMO_PREFETCH_H
#define ANEMO_PREFETCH_H

#include "kernels/internal.h"

#include <immintrin.h>

/* For tests: what anemo_cpu_reads says from now on; -1: as the processor is. Results do not depend
 * on it. */
void anemo_cpu_pretend_reading(int answer);

/* second_level: what anemo_cpu_prefetches_to_second_level says, for lines far away. */
static inline __attribute__((always_inline)) void anemo_prefetch_far(const void *line,
                                                                     bool second_level) {
    if (second_level) {
        _mm_prefetch((const char *)line, _MM_HINT_T1);
    } else {
        _mm_prefetch((const char *)line, _MM_HINT_T0);
    }
}

#endif
