#include "harness/cli/bench_peers.h"

#include "harness/cli/targets.h"
#include "harness/peers/peers.h"

#include <string.h>
#include <unistd.h>

typedef struct peer_choices {
    const char *models, *filter;
    const char *peer[ANEMO_PEERS]; /* NAME=BINARY */
    int32_t n_peers, rounds, repetitions;
} peer_choices;

enum { KEY_PEER = ANEMO_CLI_KEY(40), KEY_MODELS, KEY_CASE, KEY_ROUNDS, KEY_REPETITIONS };

static const struct argp_option peer_argp[] = {
    {"peer", KEY_PEER, "NAME=BINARY", 0, "a peer of FILE and its llama-bench; repeatable", 0},
    {"models", KEY_MODELS, "DIR", 0, "where the models of FILE lie as NAME.gguf (default .)", 0},
    {"case", KEY_CASE, "TEXT", 0, "only cases with TEXT in their name", 0},
    {"rounds", KEY_ROUNDS, "N", 0, "in which all programs take turns (default 3)", 0},
    {"repetitions", KEY_REPETITIONS, "N", 0, "samples of each program in a round (default 2)", 0},
    {0}};

static bool peer_option(int key, const char *value, void *context) {
    peer_choices *c = context;
    if (key == KEY_PEER) {
        if (c->n_peers == ANEMO_PEERS || !strchr(value, '=')) {
            anemo_cli_usage("--peer %s: expected NAME=BINARY, at most %d times", value,
                            ANEMO_PEERS);
        }
        c->peer[c->n_peers++] = value;
    } else if (key == KEY_MODELS) {
        c->models = value;
    } else if (key == KEY_CASE) {
        c->filter = value;
    } else if (key == KEY_ROUNDS) {
        c->rounds = (int32_t)anemo_cli_integer("--rounds", value, 1, ANEMO_PEER_SAMPLES);
    } else if (key == KEY_REPETITIONS) {
        c->repetitions = (int32_t)anemo_cli_integer("--repetitions", value, 1, ANEMO_PEER_SAMPLES);
    } else {
        return false;
    }
    return true;
}

static anemo_status give_binaries(const peer_choices *own, anemo_peer_file *file,
                                  anemo_error *err) {
    for (int32_t i = 0; i < own->n_peers; i++) {
        const char *equals = strchr(own->peer[i], '=');
        const size_t bytes = (size_t)(equals - own->peer[i]);
        anemo_peer *found = NULL;
        for (int32_t p = 0; p < file->n_peers; p++) {
            if (strlen(file->peers[p].name) == bytes &&
                memcmp(file->peers[p].name, own->peer[i], bytes) == 0) {
                found = &file->peers[p];
            }
        }
        if (!found) {
            return anemo_fail(err, ANEMO_E_INPUT, "--peer %s: %s has no peer of this name",
                              own->peer[i], file->path);
        }
        if (access(equals + 1, X_OK) != 0) {
            return anemo_fail(err, ANEMO_E_INPUT, "--peer %s: no such program", own->peer[i]);
        }
        found->binary = equals + 1;
    }
    return ANEMO_OK;
}

/* Of whichever of its programs told one. */
static const char *version_of(const anemo_peer *p) {
    return p->version[0]             ? p->version
           : p->common_version[0][0] ? p->common_version[0]
           : p->common_version[1][0] ? p->common_version[1]
                                     : "version not told";
}

/* What ran beside anemo, with which flags; or that it was absent. */
static void print_peers(const anemo_cli *cli, const anemo_peer_file *file) {
    if (cli->format != ANEMO_FORMAT_TEXT && cli->format != ANEMO_FORMAT_MD) {
        return;
    }
    for (int32_t i = 0; i < file->n_peers; i++) {
        const anemo_peer *p = &file->peers[i];
        if (p->binary) {
            fprintf(cli->out, "%s%s: %s; llama-bench %s; other programs %s\n", i ? "" : "\n",
                    p->name, version_of(p), p->bench_flags, p->common_flags);
        } else {
            fprintf(cli->out, "%s%s: absent (--peer %s=BINARY)\n", i ? "" : "\n", p->name, p->name);
        }
    }
}

typedef struct peer_run {
    anemo_peer_file *file;
    const anemo_peers_options *options;
} peer_run;

static anemo_status run(anemo_device *device, anemo_record_sink *sink,
                        anemo_target_observer observer, void *ctx, void *what, int32_t *n_incorrect,
                        anemo_error *err) {
    const peer_run *r = what;
    *n_incorrect = 0;
    return anemo_bench_peers(device, r->file, r->options, sink, observer, ctx, err);
}

int anemo_cli_bench_peers(int argc, char **argv) {
    static const anemo_cli_spec spec = {
        .arguments = "FILE",
        .min_arguments = 1,
        .max_arguments = 1,
        .about =
            "Times anemo and other engines on the same model files, in turns, and judges the "
            "targets of FILE (ci/model.targets). Peers are binaries given with --peer; without "
            "one its targets are not measured, and that is said.",
        .example = "anemo bench peers ci/model.targets --models . --peer llama.cpp=./llama-bench",
        .shared = ANEMO_CLI_FORMAT | ANEMO_CLI_OUTPUT | ANEMO_CLI_SEED | ANEMO_CLI_THREADS |
                  ANEMO_CLI_RECORD | ANEMO_CLI_QUIET,
        .options = peer_argp,
        .option = peer_option};
    peer_choices own = {.models = ".", .rounds = 3, .repetitions = 2};
    anemo_cli cli;
    anemo_cli_parse(&spec, argc, argv, &own, &cli);
    anemo_cli_catch_interrupts();
    anemo_error err = {{0}};
    anemo_peer_file file;
    char self[4096] = "";
    anemo_status status = anemo_peer_file_read(cli.arguments[0], &file, &err);
    status = status ? status : give_binaries(&own, &file, &err);
    if (!status && readlink("/proc/self/exe", self, sizeof self - 1) < 0) {
        status = anemo_fail(&err, ANEMO_E_IO, "the path of this program cannot be read");
    }
    if (status) {
        return anemo_cli_close(&cli, anemo_cli_fail(status, &err));
    }
    const anemo_peers_options options = {.models = own.models,
                                         .filter = own.filter,
                                         .self = self,
                                         .rounds = own.rounds,
                                         .repetitions = own.repetitions,
                                         .seed = cli.seed,
                                         .interrupted = anemo_cli_interrupted};
    peer_run what = {.file = &file, .options = &options};
    const int code = anemo_cli_judge(&cli, "model-targets", run, &what);
    print_peers(&cli, &file);
    return anemo_cli_close(&cli, code);
}
