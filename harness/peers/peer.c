/* One peer's process: the command line, its environment and CPUs, what it prints.
 *
 * OMP_* and GOMP_* are taken out of its environment: how anemo's threads wait is no business of a
 * peer, which shall run as its authors ship it. Its CPUs are those of this process before anemo
 * bound its threads: a child inherits the mask of the thread that starts it. */
#include "harness/peers/peers.h"

#include "harness/measure/placement.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MOST_ARGUMENTS = 64, MOST_OUTPUT = 1 << 20, MOST_CPUS = 1024 };

extern char **environ;

typedef struct command {
    char *argument[MOST_ARGUMENTS + 1];
    int32_t n;
    char text[4096]; /* the arguments' own bytes, NUL between */
    size_t used;
    bool full;
} command;

static void add(command *c, const char *word) {
    const size_t bytes = strlen(word) + 1;
    if (c->n == MOST_ARGUMENTS || c->used + bytes > sizeof c->text) {
        c->full = true;
        return;
    }
    c->argument[c->n++] = memcpy(c->text + c->used, word, bytes);
    c->argument[c->n] = NULL;
    c->used += bytes;
}

static void add_number(command *c, const char *option, int64_t value) {
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)value);
    add(c, option);
    add(c, text);
}

static void add_words(command *c, const char *words) {
    char copy[256], *place = NULL;
    snprintf(copy, sizeof copy, "%s", words);
    for (char *word = strtok_r(copy, " ", &place); word; word = strtok_r(NULL, " ", &place)) {
        add(c, word);
    }
}

/* ---------------------------------------------------------------- processes */

/* The environment without OpenMP's settings; free the array only. */
static char **plain_environment(void) {
    size_t n = 0, kept = 0;
    while (environ[n]) {
        n++;
    }
    char **out = malloc((n + 1) * sizeof *out);
    for (size_t i = 0; out && i < n; i++) {
        if (strncmp(environ[i], "OMP_", 4) != 0 && strncmp(environ[i], "GOMP_", 5) != 0) {
            out[kept++] = environ[i];
        }
    }
    if (out) {
        out[kept] = NULL;
    }
    return out;
}

/* Gives the calling thread all of the CPUs of anemo's threads; *before is what it had. */
static void widen(cpu_set_t *before, int32_t threads) {
    int32_t cpus[MOST_CPUS], n = 0;
    cpu_set_t wide;
    sched_getaffinity(0, sizeof *before, before);
    if (anemo_machine_placement(threads, cpus, MOST_CPUS, &n, NULL) != ANEMO_OK) {
        return;
    }
    CPU_ZERO(&wide);
    for (int32_t i = 0; i < n; i++) {
        CPU_SET((size_t)cpus[i], &wide);
    }
    sched_setaffinity(0, sizeof wide, &wide);
}

/* Starts it with stdout (and stderr where `both`) into the pipe's writing end, or nowhere. */
static int start(char *const *arguments, int32_t threads, int into, bool both, pid_t *pid) {
    posix_spawn_file_actions_t actions;
    cpu_set_t before;
    char **environment = plain_environment();
    if (!environment) {
        return ENOMEM;
    }
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (into >= 0) {
        posix_spawn_file_actions_adddup2(&actions, into, 1);
    } else {
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    }
    if (both && into >= 0) {
        posix_spawn_file_actions_adddup2(&actions, into, 2);
    } else {
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    }
    widen(&before, threads);
    const int failed = posix_spawn(pid, arguments[0], &actions, NULL, arguments, environment);
    sched_setaffinity(0, sizeof before, &before);
    posix_spawn_file_actions_destroy(&actions);
    free(environment);
    return failed;
}

static anemo_status finish(pid_t pid, const char *program, anemo_error *err) {
    int ended = 0;
    while (waitpid(pid, &ended, 0) < 0 && errno == EINTR) {
    }
    if (WIFEXITED(ended) && WEXITSTATUS(ended) == 0) {
        return ANEMO_OK;
    }
    return anemo_fail(err, ANEMO_E_IO, "%s ended with %s %d", program,
                      WIFSIGNALED(ended) ? "signal" : "exit code",
                      WIFSIGNALED(ended) ? WTERMSIG(ended) : WEXITSTATUS(ended));
}

/* What the command prints; free *text. */
static anemo_status capture(const command *c, int32_t threads, bool both, char **text,
                            anemo_error *err) {
    int ends[2];
    pid_t pid = 0;
    size_t used = 0;
    *text = malloc(MOST_OUTPUT + 1);
    if (!*text || c->full) {
        return anemo_fail(err, ANEMO_E_MEMORY, "%s: no memory, or too many flags", c->argument[0]);
    }
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return anemo_fail(err, ANEMO_E_IO, "no pipe: %s", strerror(errno));
    }
    const int failed = start(c->argument, threads, ends[1], both, &pid);
    close(ends[1]);
    if (failed) {
        close(ends[0]);
        return anemo_fail(err, ANEMO_E_IO, "%s: cannot be started: %s", c->argument[0],
                          strerror(failed));
    }
    char spill[4096];
    for (;;) {
        const bool room = used < MOST_OUTPUT;
        const ssize_t got =
            read(ends[0], room ? *text + used : spill, room ? MOST_OUTPUT - used : sizeof spill);
        if (got == 0 || (got < 0 && errno != EINTR)) {
            break;
        }
        used += room && got > 0 ? (size_t)got : 0;
    }
    close(ends[0]);
    (*text)[used] = '\0';
    return finish(pid, c->argument[0], err);
}

anemo_status anemo_peer_time_process(char *const *arguments, double *ns, anemo_error *err) {
    const anemo_clock clock = anemo_clock_raw();
    pid_t pid = 0;
    const uint64_t before_ns = anemo_clock_now(&clock);
    const int failed = start(arguments, 0, -1, false, &pid);
    if (failed) {
        return anemo_fail(err, ANEMO_E_IO, "%s: cannot be started: %s", arguments[0],
                          strerror(failed));
    }
    const anemo_status status = finish(pid, arguments[0], err);
    *ns = (double)(anemo_clock_now(&clock) - before_ns);
    return status;
}

/* ---------------------------------------------------------------- what they print */

bool anemo_peer_parse_bench(const char *text, double *ns, int32_t most, int32_t *n, char *version,
                            size_t version_bytes) {
    json_t *root = json_loads(text, JSON_DISABLE_EOF_CHECK, NULL);
    const json_t *test = json_array_size(root) == 1 ? json_array_get(root, 0) : NULL;
    const json_t *samples = json_object_get(test, "samples_ns");
    const char *commit = json_string_value(json_object_get(test, "build_commit"));
    *n = 0;
    for (size_t i = 0; i < json_array_size(samples) && *n < most; i++) {
        ns[(*n)++] = json_number_value(json_array_get(samples, i));
    }
    if (commit) {
        snprintf(version, version_bytes, "%.40s (%lld)", commit,
                 (long long)json_integer_value(json_object_get(test, "build_number")));
    }
    bool good = *n > 0 && commit;
    for (int32_t i = 0; i < *n; i++) {
        good = good && ns[i] > 0 && isfinite(ns[i]);
    }
    json_decref(root);
    return good;
}

/* Rows "| PP | TG | B | N_KV | T_PP | S_PP | T_TG | ...": seconds of all steps, and how many. */
bool anemo_peer_parse_batched(const char *text, double *ns, int32_t most, int32_t *n) {
    *n = 0;
    for (const char *line = text; line && *n < most; line = strchr(line, '\n')) {
        line += *line == '\n';
        double pp, tg, batch, kv, t_pp, s_pp, t_tg;
        if (sscanf(line, "| %lf | %lf | %lf | %lf | %lf | %lf | %lf |", &pp, &tg, &batch, &kv,
                   &t_pp, &s_pp, &t_tg) == 7 &&
            tg > 0 && t_tg > 0) {
            ns[(*n)++] = t_tg * 1e9 / tg;
        }
    }
    return *n > 0;
}

bool anemo_peer_parse_version(const char *text, char *version, size_t version_bytes) {
    const char *at = strstr(text, "version: ");
    long long number;
    char commit[41];
    if (!at || sscanf(at, "version: %lld (%40[0-9a-zA-Z.-])", &number, commit) != 2) {
        return false;
    }
    snprintf(version, version_bytes, "%s (%lld)", commit, number);
    return true;
}

/* ---------------------------------------------------------------- command lines */

static int program_of(const anemo_peer_case *what) {
    return what->what == ANEMO_PEER_START;
}

const char *anemo_peer_version(const anemo_peer *peer, const anemo_peer_case *what) {
    const bool common = what->batch > 1 || what->what == ANEMO_PEER_START;
    return common ? peer->common_version[program_of(what)] : peer->version;
}

/* Asks `path` for its version, once; one that does not tell is run all the same. */
static void ask_version(anemo_peer *peer, const anemo_peer_case *what, const char *path) {
    const int program = program_of(what);
    command c = {.n = 0};
    char *text = NULL;
    anemo_error ignored;
    if (!peer->common_asked[program]) {
        peer->common_asked[program] = true;
        add(&c, path);
        add(&c, "--version");
        if (capture(&c, 0, true, &text, &ignored) == ANEMO_OK) {
            anemo_peer_parse_version(text, peer->common_version[program],
                                     sizeof *peer->common_version);
        }
        free(text);
    }
}

/* FOLDER of the peer's llama-bench / one of the names that is there. */
static anemo_status beside(const anemo_peer *peer, const char *const *names, char *path,
                           size_t bytes, anemo_error *err) {
    const char *slash = strrchr(peer->binary, '/');
    const int folder = slash ? (int)(slash - peer->binary) + 1 : 0;
    for (int i = 0; names[i]; i++) {
        snprintf(path, bytes, "%.*s%s%s", folder, peer->binary, folder ? "" : "./", names[i]);
        if (access(path, X_OK) == 0) {
            return ANEMO_OK;
        }
    }
    return anemo_fail(err, ANEMO_E_IO, "there is no %s beside %s", names[0], peer->binary);
}

bool anemo_peer_is_long(const anemo_peer_case *what) {
    return what->what == ANEMO_PEER_PROMPT && what->tokens > 2048;
}

/* Which options its llama-bench has, from its own help. */
static anemo_status probe(anemo_peer *peer, anemo_error *err) {
    command c = {.n = 0};
    char *text = NULL;
    if (peer->probed) {
        return ANEMO_OK;
    }
    add(&c, peer->binary);
    add(&c, "--help");
    const anemo_status status = capture(&c, 0, true, &text, err);
    const bool knows = !status && strstr(text, "--n-gen");
    peer->deep_option = knows && strstr(text, "--n-depth");
    peer->cold_option = knows && strstr(text, "--no-warmup")      ? "--no-warmup"
                        : knows && strstr(text, "--warmup <0|1>") ? "-w 0"
                                                                  : NULL;
    peer->probed = knows;
    free(text);
    return status || knows ? status
                           : anemo_fail(err, ANEMO_E_IO,
                                        "%s is no llama-bench: its help has no "
                                        "--n-gen",
                                        peer->binary);
}

static anemo_status run_bench(anemo_peer *peer, const anemo_peer_job *job, double *ns, int32_t *n,
                              anemo_error *err) {
    const anemo_peer_case *w = job->what;
    const bool prompt = w->what == ANEMO_PEER_PROMPT, deep = !prompt && w->depth > 0;
    command c = {.n = 0};
    char *text = NULL, pair[48];
    add(&c, peer->binary);
    add(&c, "-m");
    add(&c, job->model);
    add_number(&c, "-t", job->threads);
    add_number(&c, "-r", job->repetitions);
    add_number(&c, "-p", prompt ? w->tokens : 0);
    add_number(&c, "-n", prompt || (deep && !peer->deep_option) ? 0 : w->tokens);
    if (deep && peer->deep_option) {
        add_number(&c, "-d", w->depth);
    } else if (deep) {
        snprintf(pair, sizeof pair, "%lld,%lld", (long long)w->depth, (long long)w->tokens);
        add(&c, "-gp");
        add(&c, pair);
    }
    add(&c, "-o");
    add(&c, "json");
    add_words(&c, peer->bench_flags);
    if (anemo_peer_is_long(w) && peer->cold_option) {
        add_words(&c, peer->cold_option);
    }
    anemo_status status = capture(&c, job->threads, false, &text, err);
    if (!status && !anemo_peer_parse_bench(text, ns, job->repetitions, n, peer->version,
                                           sizeof peer->version)) {
        status = anemo_fail(err, ANEMO_E_IO, "%s printed no JSON with samples_ns", peer->binary);
    }
    for (int32_t i = 0; !status && !prompt && i < *n; i++) {
        ns[i] /= (double)w->tokens;
    }
    free(text);
    return status;
}

static anemo_status run_batched(anemo_peer *peer, const anemo_peer_job *job, double *ns, int32_t *n,
                                anemo_error *err) {
    static const char *const names[] = {"llama-batched-bench", NULL};
    const anemo_peer_case *w = job->what;
    command c = {.n = 0};
    char path[4096], *text = NULL, batches[ANEMO_PEER_SAMPLES * 4] = "";
    anemo_status status = beside(peer, names, path, sizeof path, err);
    if (status) {
        return status;
    }
    ask_version(peer, w, path);
    for (int32_t i = 0; i < job->repetitions; i++) {
        const size_t used = strlen(batches);
        snprintf(batches + used, sizeof batches - used, "%s%lld", i ? "," : "",
                 (long long)w->batch);
    }
    add(&c, path);
    add(&c, "-m");
    add(&c, job->model);
    add_number(&c, "-t", job->threads);
    add_number(&c, "-c", (w->depth + w->tokens) * w->batch);
    add_number(&c, "-npp", w->depth);
    add_number(&c, "-ntg", w->tokens);
    add(&c, "-npl");
    add(&c, batches);
    add_words(&c, peer->common_flags);
    status = capture(&c, job->threads, true, &text, err);
    if (!status && !anemo_peer_parse_batched(text, ns, job->repetitions, n)) {
        status = anemo_fail(err, ANEMO_E_IO, "%s printed no table row", path);
    }
    free(text);
    return status;
}

static anemo_status run_start(anemo_peer *peer, const anemo_peer_job *job, double *ns, int32_t *n,
                              anemo_error *err) {
    static const char *const names[] = {"llama-completion", "llama-cli", NULL};
    char path[4096];
    command c = {.n = 0};
    anemo_status status = beside(peer, names, path, sizeof path, err);
    if (!status) {
        ask_version(peer, job->what, path);
    }
    add(&c, path);
    add(&c, "-m");
    add(&c, job->model);
    add_number(&c, "-t", job->threads);
    add_number(&c, "-n", 1);
    add(&c, "-p");
    add(&c, ANEMO_PEER_START_PROMPT);
    add_words(&c, peer->common_flags);
    for (*n = 0; !status && *n < job->repetitions; ++*n) {
        status = anemo_peer_time_process(c.argument, &ns[*n], err);
    }
    return status;
}

anemo_status anemo_peer_run(anemo_peer *peer, const anemo_peer_job *job, double *ns,
                            anemo_error *err) {
    int32_t n = 0;
    anemo_status status = probe(peer, err);
    if (!status) {
        status = job->what->what == ANEMO_PEER_START ? run_start(peer, job, ns, &n, err)
                 : job->what->batch > 1              ? run_batched(peer, job, ns, &n, err)
                                                     : run_bench(peer, job, ns, &n, err);
    }
    if (!status && n != job->repetitions) {
        status = anemo_fail(err, ANEMO_E_IO, "%s gave %d samples instead of %d", peer->binary, n,
                            job->repetitions);
    }
    return status;
}
