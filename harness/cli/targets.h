/* `anemo bench kernel --targets FILE`: the table of targets. */
#ifndef ANEMO_CLI_TARGETS_H
#define ANEMO_CLI_TARGETS_H

#include "harness/cli/common.h"
#include "harness/measure/bench_targets.h"

/* Measures, prints the table and returns the exit code: TARGET when one is missed, NOT_MEASURED
 * when one has no figure, INCONCLUSIVE when one is undecided, INCORRECT when a variant was wrong.
 */
int anemo_cli_targets(const anemo_cli *cli, const char *path, const anemo_targets_options *options);

#endif
