/* `anemo bench model`. */
#ifndef ANEMO_CLI_BENCH_MODEL_H
#define ANEMO_CLI_BENCH_MODEL_H

int anemo_cli_bench_model(int argc, char **argv);

#endif
