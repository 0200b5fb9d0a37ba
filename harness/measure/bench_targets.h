/* Targets: what the kernels are to reach on any machine, as fractions of its own ceilings and as
 * ratios to each other, or on one machine in absolute figures, in a file that is read, measured and
 * judged.
 *
 *     group NAME [STOP]                                  its arms take turns in one run
 *     arm NAME OP SHAPE m=N WEIGHTS SELECTOR [OPTION..]  the fastest variant that fits
 *     target MEASURE >= NUMBER TEXT                      or <=
 *
 * SHAPE is a name or numbers, as for `bench kernel --shape`; WEIGHTS a type, '-' where the op has
 * none. SELECTOR is any, or patterns with * of the activation format and the name: act=a8_*,
 * name=*_avx2; so that a table survives new and renamed variants. OPTION is quantise (each
 * call also quantises its activations) or routing=LAW (of moe_experts, as --routing). MEASURE is
 *
 *     read ARM, int8 ARM, ...     the fraction of that ceiling
 *     peak ARM                    of the arithmetic ceiling of the variant's own instructions
 *     roof ARM                    of the lower of bandwidth and peak
 *     rate ARM / ARM [+ ARM]      operations per second, over those of the others one after another
 *     time ARM / ARM [+ ARM]      seconds over theirs
 *     us ARM, tops ARM            microseconds of a call, 10^12 operations per second
 *
 * each the median over the rounds of the run, with its 95 % interval. A target is met when the
 * interval's end that is worse for it reaches the bound, missed when the better one does not, else
 * undecided. */
#ifndef ANEMO_BENCH_TARGETS_H
#define ANEMO_BENCH_TARGETS_H

#include "harness/measure/bench_kernel.h"

/* ---------------------------------------------------------------- the file */

enum { ANEMO_TARGET_ARMS = 12, ANEMO_TARGETS_OF_GROUP = 16 };

typedef struct anemo_target_arm {
    char name[16], shape[64], weights[24], act[24], variant[64]; /* the last two are patterns */
    char routing[64];                                            /* "": the shape's own */
    anemo_op op;
    int64_t m;
    bool quantise;
} anemo_target_arm;

typedef enum anemo_target_kind {
    ANEMO_TARGET_CEILING, /* of .ceiling */
    ANEMO_TARGET_PEAK,
    ANEMO_TARGET_ROOF,
    ANEMO_TARGET_RATE,
    ANEMO_TARGET_TIME,
    ANEMO_TARGET_US,
    ANEMO_TARGET_TOPS
} anemo_target_kind;

typedef struct anemo_target {
    anemo_target_kind kind;
    anemo_ceiling ceiling;
    int32_t arm, against[2]; /* indices; -1: none */
    bool at_most;
    double bound;
    char measure[64], text[96]; /* "rate fused / up + down" */
} anemo_target;

typedef struct anemo_target_group {
    char name[32];
    anemo_stop stop; /* count 0 and kind COUNT: the run's own */
    anemo_target_arm arms[ANEMO_TARGET_ARMS];
    anemo_target targets[ANEMO_TARGETS_OF_GROUP];
    int32_t n_arms, n_targets;
} anemo_target_group;

typedef struct anemo_target_file {
    anemo_target_group *groups;
    int32_t n_groups, n_targets;
    char path[256]; /* as given, for records */
} anemo_target_file;

/* ANEMO_E_INPUT "FILE:LINE: ..."; ANEMO_E_IO when it cannot be read. */
anemo_status anemo_target_file_read(const char *path, anemo_target_file *out, anemo_error *err);
void anemo_target_file_free(anemo_target_file *file);

/* ---------------------------------------------------------------- measuring and judging */

typedef enum anemo_target_verdict {
    ANEMO_TARGET_MET,
    ANEMO_TARGET_MISSED,
    ANEMO_TARGET_UNDECIDED,
    ANEMO_TARGET_NOT_MEASURED
} anemo_target_verdict;
const char *anemo_target_verdict_name(anemo_target_verdict verdict); /* "met", "not measured" */

/* Of an estimate without an interval (too few samples) nothing can be said. */
anemo_target_verdict anemo_target_judge(const anemo_target *target, const anemo_estimate *value);

typedef struct anemo_targets_options {
    const char *filter; /* only groups with this in their name; NULL: all */
    anemo_stop stop;
    bool stop_given; /* by the user: then it holds for groups with one of their own, too */
    uint64_t seed;
    bool (*interrupted)(void);
} anemo_targets_options;

typedef struct anemo_target_line {
    const anemo_target_group *group;
    const anemo_target *target;
    const char *case_name, *variant; /* of the target's arm; NULL: there is none */
    anemo_estimate value;            /* NaN: not measured */
    anemo_target_verdict verdict;
    char why[256];       /* not measured, or undecided for another reason than the interval */
    int32_t done, total; /* groups; this one counts as done */
} anemo_target_line;

typedef void (*anemo_target_observer)(void *ctx, const anemo_target_line *line);

/* Measures group after group; a record for each arm and for each target. Wrong variants are never
 * timed: *n_incorrect counts them, and another that fits takes their place. ANEMO_E_CANCELLED:
 * interrupted; what was finished was reported. */
anemo_status anemo_bench_targets(anemo_device *device, const anemo_target_file *file,
                                 const anemo_targets_options *options, anemo_record_sink *sink,
                                 anemo_target_observer observer, void *ctx, int32_t *n_incorrect,
                                 anemo_error *err);

#endif
