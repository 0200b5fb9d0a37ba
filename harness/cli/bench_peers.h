/* `anemo bench peers FILE`: the table of anemo beside other engines. */
#ifndef ANEMO_CLI_BENCH_PEERS_H
#define ANEMO_CLI_BENCH_PEERS_H

int anemo_cli_bench_peers(int argc, char **argv);

#endif
