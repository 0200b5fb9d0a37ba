/* anemo beside other engines, on the same file: `anemo bench peers`.
 *
 * A peer is a binary named on the command line, the llama-bench of llama.cpp or of a fork of it;
 * llama-batched-bench and llama-completion (or llama-cli) are looked for beside it. A file of
 * targets says what is compared and what is to be reached:
 *
 *     peer NAME FLAGS...        flags of its llama-bench: the best ones for this peer
 *     common NAME FLAGS...      the same for its other programs
 *     model NAME SOURCE         DIR/NAME.gguf; SOURCE is a synth: name that makes it, or words that
 *                               say where it comes from
 *     case NAME MODEL WHAT...   prompt=N | tokens=N depth=N [batch=N] | start; [with=RULE]
 *     target WHO >= N [or WHO >= N]     of the case above; WHO a peer (N times its speed) or a
 *                                       ceiling (the share of what is probed beside the run)
 *
 * prompt=N times one prompt of N random ids, as llama-bench -p N: no tokenising, logits of the last
 * row. tokens=N depth=D times N decode steps after D tokens, as -n N -d D; depth 0 is one token
 * here, because a first step needs one. batch=B are B sessions in one step, as llama-batched-bench
 * -npp D -ntg N -npl B. start is the time of a process that generates one token, from exec to exit.
 *
 * Rounds alternate ABC CBA; in each, every program gives `repetitions` samples, and sample i of one
 * is paired with sample i of the others. Everybody warms up, but for prompts of more than 2048 ids.
 * Peers run in processes of their own with their default OpenMP settings, on the CPUs that anemo's
 * threads are bound to. */
#ifndef ANEMO_PEERS_H
#define ANEMO_PEERS_H

#include "harness/measure/bench_engine.h"
#include "harness/measure/bench_targets.h"

enum {
    ANEMO_PEERS = 4,
    ANEMO_PEER_MODELS = 16,
    ANEMO_PEER_CASES = 48,
    ANEMO_PEER_TARGETS = 6,
    ANEMO_PEER_SAMPLES = 64 /* of one program in one run */
};

/* ---------------------------------------------------------------- the file */

typedef struct anemo_peer {
    char name[24];
    char bench_flags[160], common_flags[160];
    const char *binary; /* NULL: not given */
    char version[96];   /* of its llama-bench, as it told; "" before it ran */
    /* Of the programs beside it, one for batches and one for starts; "": not told. */
    char common_version[2][96];
    bool common_asked[2];
    bool deep_option;        /* its llama-bench knows --n-depth, else -gp */
    const char *cold_option; /* how its llama-bench is told not to warm up; NULL: it cannot be */
    bool probed;
} anemo_peer;

typedef struct anemo_peer_model {
    char name[32], source[160];
} anemo_peer_model;

typedef enum anemo_peer_what {
    ANEMO_PEER_PROMPT,
    ANEMO_PEER_DECODE,
    ANEMO_PEER_START
} anemo_peer_what;

typedef struct anemo_peer_target {
    struct {
        int32_t peer;          /* index, or -1: the ceiling */
        anemo_ceiling ceiling; /* its share */
        double bound;
    } term[2];
    int32_t n_terms; /* the target is met when one is */
} anemo_peer_target;

typedef struct anemo_peer_case {
    char name[48], with[96];
    int32_t model;
    anemo_peer_what what;
    int64_t tokens; /* of the prompt, or decode steps */
    int64_t depth, batch;
    anemo_peer_target targets[ANEMO_PEER_TARGETS];
    int32_t n_targets;
} anemo_peer_case;

typedef struct anemo_peer_file {
    char path[256];
    anemo_peer peers[ANEMO_PEERS];
    anemo_peer_model models[ANEMO_PEER_MODELS];
    anemo_peer_case cases[ANEMO_PEER_CASES];
    int32_t n_peers, n_models, n_cases;
} anemo_peer_file;

/* ANEMO_E_INPUT "FILE:LINE: ..."; ANEMO_E_IO when it cannot be read. */
anemo_status anemo_peer_file_read(const char *path, anemo_peer_file *out, anemo_error *err);

/* ---------------------------------------------------------------- a peer's process */

/* The prompt of `start`, of every program. */
#define ANEMO_PEER_START_PROMPT "the wind blows"

typedef struct anemo_peer_job {
    const anemo_peer_case *what;
    const char *model; /* path */
    int32_t threads;
    int32_t repetitions;
} anemo_peer_job;

/* Is the case so long that it is its own warm-up? Of nobody then. */
bool anemo_peer_is_long(const anemo_peer_case *what);

/* Runs the peer once; ns[repetitions] per prompt, per decode step, or per start. Fills version and
 * dialect at the first run. ANEMO_E_IO: it cannot be started, fails, or says something else. */
anemo_status anemo_peer_run(anemo_peer *peer, const anemo_peer_job *job, double *ns,
                            anemo_error *err);
/* The time of `program`'s process with these arguments (NULL at the end), its output dropped. */
anemo_status anemo_peer_time_process(char *const *arguments, double *ns, anemo_error *err);

/* What the programs print, for tests: samples_ns of llama-bench's JSON, T_TG of
 * llama-batched-bench's table; *n <= most. */
bool anemo_peer_parse_bench(const char *text, double *ns, int32_t most, int32_t *n, char *version,
                            size_t version_bytes);
/* "version: 10470 (34af94cd9)" -> "34af94cd9 (10470)", as llama-bench's JSON has it. */
bool anemo_peer_parse_version(const char *text, char *version, size_t version_bytes);
bool anemo_peer_parse_batched(const char *text, double *ns, int32_t most, int32_t *n);

/* ---------------------------------------------------------------- the run */

typedef struct anemo_peers_options {
    const char *models; /* directory */
    const char *filter; /* only cases with this in their name; NULL: all */
    const char *self;   /* this program, for start */
    int32_t rounds, repetitions;
    uint64_t seed;
    bool (*interrupted)(void);
} anemo_peers_options;

/* The version of the program that runs this case; "": not told. */
const char *anemo_peer_version(const anemo_peer *peer, const anemo_peer_case *what);

/* Case by case; the observer gets each target when its case is done. A case that is refused here (a
 * rule that this machine cannot meet, no memory, a broken file) leaves its targets unmeasured, with
 * the reason. Records: one for each program and case, one for each target. */
anemo_status anemo_bench_peers(anemo_device *device, anemo_peer_file *file,
                               const anemo_peers_options *options, anemo_record_sink *sink,
                               anemo_target_observer observer, void *ctx, anemo_error *err);

#endif
