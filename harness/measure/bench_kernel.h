/* `bench kernel`: variants of an op on named shapes, checked on that very problem first, then timed
 * in turns with each other and with the probes of this machine's ceilings. */
#ifndef ANEMO_BENCH_KERNEL_H
#define ANEMO_BENCH_KERNEL_H

#include "harness/measure/bench_case.h"
#include "harness/measure/bench_gpu.h"
#include "harness/measure/bench_roof.h"

/* ---------------------------------------------------------------- shapes */

int32_t anemo_shape_count(void);
const bench_shape *anemo_shape_at(int32_t index);
/* Is `name` the shape's name, or the part of it before '/', or "all"? */
bool anemo_shape_matches(const bench_shape *shape, const char *name);
/* "1,4,16" -> m; how many, or -1 when the text is no list of 1 .. `most` numbers in 1 .. 65536. */
int32_t anemo_shape_rows(const char *text, int64_t *m, int32_t most);
#define ANEMO_SHAPE_ROWS 16

/* A shape given as numbers: "n=14336,k=4096,m=64". Its name spells them without m, so that it names
 * the same shape again. shape points into the struct: do not copy it. */
typedef struct anemo_custom_shape {
    bench_shape shape;
    char name[96], rows[16];
} anemo_custom_shape;
/* ANEMO_E_INPUT: what `text` may hold for this op (one of those with shapes). */
anemo_status anemo_shape_custom(anemo_op op, const char *text, anemo_custom_shape *out,
                                anemo_error *err);

/* ---------------------------------------------------------------- measuring */

typedef struct anemo_bench_kernel_options {
    const char *const *names; /* n_names ops (all their variants) or single variants; none: all */
    int32_t n_names;
    bool all; /* leave out no variant but references: plain C and what is far too slow run, too */
    const char *shape;    /* a name, the part of it before '/', "all", or numbers as above; NULL:
                             the short shapes of the ops */
    const char *baseline; /* a variant that always runs too and that speed-ups are over; or NULL */
    const int64_t *m;     /* n_m numbers of rows; none: those of the shape */
    int32_t n_m;
    const char *weights; /* BENCH_WEIGHT_TYPES */
    const char *routing; /* BENCH_ROUTINGS, of moe_experts; NULL: that of the shape */
    anemo_stop stop;
    anemo_caches caches;
    uint64_t seed;
    const char *nvml; /* its library; NULL: the usual place */
    bool (*interrupted)(void);
} anemo_bench_kernel_options;

typedef enum anemo_bench_fate {
    ANEMO_BENCH_MEASURED,
    ANEMO_BENCH_INCORRECT, /* not timed */
    ANEMO_BENCH_REFUSED,   /* does not take this problem */
    ANEMO_BENCH_LEFT_OUT,  /* far slower than the rest, or plain C beside better: name it */
    ANEMO_BENCH_IMPOSSIBLE /* samples faster than the hardware can be: no figure is given */
} anemo_bench_fate;

/* One variant in one case. */
typedef struct anemo_bench_line {
    const anemo_variant *variant;
    anemo_bench_fate fate;
    char why[256];       /* of a fate other than MEASURED; or what the check found */
    double error;        /* of the check, as a fraction of its bound */
    bench_result result; /* MEASURED only, as is all below */
    double bytes_per_s;  /* of bench_case_bytes */
    double ops_per_s;
    double packed_bytes;    /* per call; 0: the op packs nothing */
    anemo_estimate ratio;   /* time over the best line's, paired; 1 for the best itself */
    anemo_estimate speedup; /* the baseline's time over this one's, paired; NaN without */
    bool best, yardstick;   /* yardstick: an ordinary BLAS */
    int32_t arm;            /* in the run; -1: was not in it */
} anemo_bench_line;

typedef struct anemo_bench_table {
    const bench_case *c;
    const bench_gpu *gpu; /* .host NULL: a CPU */
    const anemo_bench_line *lines;
    int32_t n_lines;
    int32_t done, total; /* cases */
} anemo_bench_table;

/* Called after each case. */
typedef void (*anemo_bench_observer)(void *ctx, const anemo_bench_table *table);

/* ANEMO_E_INPUT: an unknown name or shape, or a named variant that cannot run here or refuses every
 * case. ANEMO_E_CANCELLED: interrupted; what was finished was recorded. *n_incorrect counts lines
 * whose check failed. */
anemo_status anemo_bench_kernel(anemo_device *device, const anemo_bench_kernel_options *options,
                                anemo_record_sink *sink, anemo_bench_observer observer, void *ctx,
                                int32_t *n_incorrect, anemo_error *err);

/* ---------------------------------------------------------------- shared with bench_targets.c */

/* Bytes of an arm's copies together. Cold, for shares of a ceiling: a round through them leaves
 * next to nothing in the last cache, as the read probe's buffer does (of 2 caches 8-bit weights
 * showed 102 to 105 % of it, of 16 caches 93 %); less where memory is short. On a GPU, whose
 * L2 is no LRU cache either, half of that lies between two uses of a copy (bench_queue.h). Cool: 2
 * caches, for comparisons, which open many pairs. */
size_t bench_cold_bytes(const anemo_device *device);
size_t bench_cool_bytes(const anemo_device *device);

const bench_op *bench_op_find(anemo_op op); /* NULL: an op without bench shapes */
/* The peak that a variant's operations are held against. */
anemo_ceiling bench_arithmetic_of(const anemo_variant *v);
bench_roof bench_roof_of(const bench_case *c, const anemo_variant *v, anemo_caches caches);
/* The shortest of three calls, or samples of some calls by the timer (NULL: the clock). */
anemo_status bench_best_call(const anemo_clock *clock, const anemo_timer *timer, bench_arm *arm,
                             double *best_ns, anemo_error *err);
/* The fields of "case" and "solution"; error NaN and packed_bytes 0: none. */
void bench_record_arm(anemo_record *record, const bench_case *c, const anemo_variant *variant,
                      anemo_caches caches, double error, double packed_bytes);
void bench_record_rates(anemo_record *record, const bench_case *c, const anemo_estimate *time_s);

#endif
