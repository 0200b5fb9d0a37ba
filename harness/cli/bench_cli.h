/* What the commands under `anemo bench` and `anemo tune` share. */
#ifndef ANEMO_CLI_BENCH_CLI_H
#define ANEMO_CLI_BENCH_CLI_H

#include "harness/cli/common.h"
#include "harness/measure/bench_kernel.h"
#include "harness/measure/sample.h"

/* Below six samples the interval is only what was seen. */
#define ANEMO_CLI_NEEDS_SIX ", needs 6 samples"

/* --stop; wrong values end in usage. */
static inline void anemo_cli_stop(const char *value, anemo_stop *stop) {
    anemo_error err = {{0}};
    if (anemo_stop_parse(value, stop, &err) != ANEMO_OK) {
        anemo_cli_usage("--stop: %s", err.text);
    }
}

/* --m into m[ANEMO_SHAPE_ROWS]; returns how many there are. Wrong values end in usage. */
static inline int32_t anemo_cli_rows(const char *value, int64_t *m) {
    const int32_t n = anemo_shape_rows(value, m, ANEMO_SHAPE_ROWS);
    if (n < 1) {
        anemo_cli_usage("--m %s: expected up to %d numbers from 1 to 65536, apart by commas", value,
                        ANEMO_SHAPE_ROWS);
    }
    return n;
}

/* Tables with text around them, not JSON or CSV. */
static inline bool anemo_cli_for_people(const anemo_cli *cli) {
    return cli->format == ANEMO_FORMAT_TEXT || cli->format == ANEMO_FORMAT_MD;
}

#endif
