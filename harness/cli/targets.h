/* The table of targets: of `anemo bench kernel --targets FILE` and `anemo bench peers FILE`. */
#ifndef ANEMO_CLI_TARGETS_H
#define ANEMO_CLI_TARGETS_H

#include "harness/cli/common.h"
#include "harness/measure/bench_targets.h"

/* Measures, prints the table and returns the exit code: TARGET when one is missed, NOT_MEASURED
 * when one has no figure, INCONCLUSIVE when one is undecided, INCORRECT when a variant was wrong.
 */
int anemo_cli_targets(const anemo_cli *cli, const char *path, const anemo_targets_options *options);

/* What measures; reports each target to the observer. */
typedef anemo_status (*anemo_cli_measure)(anemo_device *device, anemo_record_sink *sink,
                                          anemo_target_observer observer, void *ctx, void *what,
                                          int32_t *n_incorrect, anemo_error *err);
/* The same for any source of targets; records go to `suite`. */
int anemo_cli_judge(const anemo_cli *cli, const char *suite, anemo_cli_measure measure, void *what);

#endif
