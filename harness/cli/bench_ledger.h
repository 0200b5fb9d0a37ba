/* The tables of `anemo bench model --ledger` and `--what-if`. */
#ifndef ANEMO_CLI_BENCH_LEDGER_H
#define ANEMO_CLI_BENCH_LEDGER_H

#include "harness/cli/common.h"
#include "harness/measure/bench_ledger.h"

/* Measures and prints; *open: a ledger does not close. */
anemo_status anemo_cli_ledger(const anemo_cli *cli, const anemo_bench_model_options *options,
                              const char *rule, anemo_device *device, anemo_record_sink *sink,
                              bool *open, anemo_error *err);

#endif
