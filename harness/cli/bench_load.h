/* `anemo bench model --load`: its options, the run, and the simulation of the same load. */
#ifndef ANEMO_CLI_BENCH_LOAD_H
#define ANEMO_CLI_BENCH_LOAD_H

#include "harness/cli/common.h"
#include "harness/measure/bench_load.h"

typedef struct anemo_cli_load {
    anemo_load_options options; /* spec is filled by the caller */
    bool given;                 /* --load */
    bool detail;                /* another option of a load was given */
    const char *simulate;       /* steps file of an earlier run: no engine runs */
    double speed;               /* its step times are divided by this */
} anemo_cli_load;

#define ANEMO_CLI_LOAD_DEFAULTS                                                                    \
    {                                                                                              \
        .options = {.load = {.requests = 200, .in_mean = 128, .out_mean = 32},                     \
                    .sessions = 16,                                                                \
                    .step_tokens = 256,                                                            \
                    .interrupted = anemo_cli_interrupted},                                         \
        .speed = 1                                                                                 \
    }

enum {
    ANEMO_LOAD_KEY_LOAD = ANEMO_CLI_KEY(60),
    ANEMO_LOAD_KEY_REQUESTS,
    ANEMO_LOAD_KEY_IN,
    ANEMO_LOAD_KEY_OUT,
    ANEMO_LOAD_KEY_SESSIONS,
    ANEMO_LOAD_KEY_STEP_TOKENS,
    ANEMO_LOAD_KEY_KV_TOKENS,
    ANEMO_LOAD_KEY_PREFIX,
    ANEMO_LOAD_KEY_COPY_PREFIX,
    ANEMO_LOAD_KEY_TTFT,
    ANEMO_LOAD_KEY_TPOT,
    ANEMO_LOAD_KEY_STEPS,
    ANEMO_LOAD_KEY_REQUESTS_FILE,
    ANEMO_LOAD_KEY_SIMULATE,
    ANEMO_LOAD_KEY_SPEED
};
/* Rows for the argp_option array of the command. */
/* clang-format off */
#define ANEMO_CLI_LOAD_ARGP \
    {NULL, 0, NULL, 0, "An open load:", 1}, \
    {"load", ANEMO_LOAD_KEY_LOAD, "poisson:RATE", 0, "RATE requests/s arrive, whether the engine is ready or not", \
     1}, \
    {"requests", ANEMO_LOAD_KEY_REQUESTS, "N", 0, "so many (default 200)", 1}, \
    {"in-tokens", ANEMO_LOAD_KEY_IN, "MEAN[:SD]", 0, \
     "prompts, lognormal; SD of the logarithm, 0: all alike (default 128)", 1}, \
    {"out-tokens", ANEMO_LOAD_KEY_OUT, "MEAN[:SD]", 0, "outputs (default 32)", 1}, \
    {"sessions", ANEMO_LOAD_KEY_SESSIONS, "N", 0, "at once at most (default 16)", 1}, \
    {"step-tokens", ANEMO_LOAD_KEY_STEP_TOKENS, "N", 0, "rows of one step at most (default 256)", 1}, \
    {"kv-tokens", ANEMO_LOAD_KEY_KV_TOKENS, "N", 0, "positions of all sessions (default: enough)", 1}, \
    {"prefix", ANEMO_LOAD_KEY_PREFIX, "N", 0, "tokens that all requests begin with, computed once", 1}, \
    {"copy-prefix", ANEMO_LOAD_KEY_COPY_PREFIX, NULL, 0, "each request computes the prefix itself", 1}, \
    {"ttft", ANEMO_LOAD_KEY_TTFT, "S", 0, "limit of goodput", 1}, \
    {"tpot", ANEMO_LOAD_KEY_TPOT, "S", 0, "limit of goodput", 1}, \
    {"steps", ANEMO_LOAD_KEY_STEPS, "FILE", 0, "write every step (CSV)", 1}, \
    {"requests-file", ANEMO_LOAD_KEY_REQUESTS_FILE, "FILE", 0, "write every request's times (CSV)", 1}, \
    {"simulate", ANEMO_LOAD_KEY_SIMULATE, "FILE", 0, \
     "no engine: simulate the load with step times fitted to FILE of --steps", 1}, \
    {"speed", ANEMO_LOAD_KEY_SPEED, "F", 0, "of this machine over that of --simulate's file (default 1)", 1},
/* clang-format on */
/* false: no option of a load. */
bool anemo_cli_load_option(int key, const char *value, anemo_cli_load *load);
anemo_status anemo_cli_load_run(const anemo_cli *cli, const anemo_cli_load *load,
                                anemo_device *device, anemo_record_sink *sink, anemo_error *err);

#endif
