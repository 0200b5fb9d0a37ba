/* One way to reach a ceiling. Each instruction set's file brings a table of these. */
#ifndef ANEMO_PROBE_FORM_H
#define ANEMO_PROBE_FORM_H

#include "harness/measure/probe.h"

typedef struct anemo_probe_form {
    const char *name;
    anemo_ceiling ceiling;
    uint32_t needs; /* ANEMO_CPU_* bits */
    /* READ: sum of the 64-bit words of [data, data + bytes), modulo 2^64; bytes is a multiple of
     * ANEMO_PROBE_BLOCK_BYTES, data aligned to 64. */
    uint64_t (*read)(const void *data, size_t bytes);
    /* Else: `iterations` rounds; true if every accumulator holds what it must. */
    bool (*compute)(int64_t iterations);
    double ops_per_iteration;
    double vectors_per_iteration; /* multiply-add instructions; 0: not of interest */
} anemo_probe_form;

#define ANEMO_PROBE_BLOCK_BYTES 4096
#define ANEMO_PROBE_ITERATIONS  (1 << 20) /* at most: sums stay exact in every format */

/* Ended by a form without name. */
extern const anemo_probe_form anemo_probe_forms_c[];
#if ANEMO_X86
extern const anemo_probe_form anemo_probe_forms_avx2[];
extern const anemo_probe_form anemo_probe_forms_avx512[];
extern const anemo_probe_form anemo_probe_forms_avx512vnni[];
extern const anemo_probe_form anemo_probe_forms_avx512bf16[];
extern const anemo_probe_form anemo_probe_forms_amxint8[];
extern const anemo_probe_form anemo_probe_forms_amxbf16[];
#elif ANEMO_AARCH64
extern const anemo_probe_form anemo_probe_forms_neon[];
extern const anemo_probe_form anemo_probe_forms_neondot[];
extern const anemo_probe_form anemo_probe_forms_neoni8mm[];
#endif

/* Additions of which each waits for the one before: one a cycle on any processor of interest. */
extern const anemo_probe_form anemo_probe_adds;

/* One turn of one thread at a form. */
typedef struct anemo_probe_turn {
    uint64_t begin_ns, end_ns;
    bool right; /* its result was what it must be */
} anemo_probe_turn;

/* A quantile (0 to 1) of the rates of all threads together within one turn of one of them:
 * turns[n_threads][stride], n_turns of each used, `amount` done in each, evenly over its time. */
double anemo_probe_rate(const anemo_probe_turn *turns, int32_t n_threads, size_t n_turns,
                        size_t stride, double amount, double quantile);

/* Hides a value from the optimiser and keeps it in a register: nothing that depends on it can be
 * moved out of a loop. */
#if ANEMO_X86
#define ANEMO_OPAQUE(v) __asm__ volatile("" : "+x"(v))
#elif ANEMO_AARCH64
#define ANEMO_OPAQUE(v) __asm__ volatile("" : "+w"(v))
#else
#define ANEMO_OPAQUE(v) __asm__ volatile("" : "+m"(v))
#endif

#endif
