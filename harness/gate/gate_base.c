/* The base of a gate: found, or built. A revision is checked out with `git worktree` into a scratch
 * folder outside the source tree and configured with the cache of the build that this program lies
 * in, so that both sides have the same compiler, flags and options. */
#include "harness/gate/gate.h"

#include "harness/record/record.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* ---------------------------------------------------------------- running a program */

static char *read_all(int from) {
    size_t n = 0, room = 4096;
    char *text = malloc(room);
    for (ssize_t got = 1; text && got != 0;) {
        if (n + 1 == room) {
            char *more = realloc(text, room *= 2);
            if (!more) {
                free(text);
                return NULL;
            }
            text = more;
        }
        got = read(from, text + n, room - n - 1);
        if (got < 0 && errno != EINTR) {
            break;
        }
        n += got > 0 ? (size_t)got : 0;
    }
    if (text) {
        text[n] = '\0';
    }
    return text;
}

int anemo_gate_capture(const char *const *arguments, const char *folder, const char *log,
                       char **out) {
    int ends[2] = {-1, -1}, ended = 0;
    pid_t child;
    if (out) {
        *out = NULL;
    }
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return -1;
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    if (folder) {
        posix_spawn_file_actions_addchdir_np(&actions, folder);
    }
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    if (out) {
        posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    } else if (log) {
        posix_spawn_file_actions_addopen(&actions, 1, log, O_WRONLY | O_CREAT | O_APPEND, 0666);
    }
    if (log) {
        posix_spawn_file_actions_addopen(&actions, 2, log, O_WRONLY | O_CREAT | O_APPEND, 0666);
    }
    const int failed =
        posix_spawnp(&child, arguments[0], &actions, NULL, (char *const *)arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (!failed && out) {
        *out = read_all(ends[0]);
    }
    close(ends[0]);
    if (failed) {
        return -1;
    }
    while (waitpid(child, &ended, 0) < 0 && errno == EINTR) {
    }
    return WIFEXITED(ended) ? WEXITSTATUS(ended) : 128 + WTERMSIG(ended);
}

/* ---------------------------------------------------------------- hashes */

const anemo_gate_hash *anemo_gate_hash_of(const anemo_gate_base *base, const char *name) {
    for (int32_t i = 0; i < base->n_hashes; i++) {
        if (strcmp(base->hashes[i].name, name) == 0) {
            return &base->hashes[i];
        }
    }
    return NULL;
}

static bool take_hash(anemo_gate_base *base, const char *name, const char *hash, int64_t bytes) {
    anemo_gate_hash *more =
        realloc(base->hashes, (size_t)(base->n_hashes + 1) * sizeof *base->hashes);
    if (!more) {
        return false;
    }
    base->hashes = more;
    anemo_gate_hash *h = &more[base->n_hashes++];
    *h = (anemo_gate_hash){.code_bytes = bytes};
    snprintf(h->name, sizeof h->name, "%s", name);
    snprintf(h->hash, sizeof h->hash, "%s", hash);
    return true;
}

/* `PROGRAM list code`. A program that does not know it leaves the list empty. */
static void ask_hashes(anemo_gate_base *base) {
    const char *const arguments[] = {base->program, "list", "code", "--format", "json", NULL};
    char *text = NULL;
    if (anemo_gate_capture(arguments, NULL, "/dev/null", &text) == 0 && text) {
        json_t *all = json_loads(text, JSON_REJECT_DUPLICATES, NULL), *entry;
        size_t i;
        json_array_foreach(json_object_get(all, "code"), i, entry) {
            const char *name = json_string_value(json_object_get(entry, "variant"));
            const char *hash = json_string_value(json_object_get(entry, "code_hash"));
            const double bytes = json_number_value(json_object_get(entry, "code_bytes"));
            if (name && hash && strlen(hash) == 64) {
                take_hash(base, name, hash, (int64_t)bytes);
            }
        }
        json_decref(all);
    }
    free(text);
}

static bool record_hash(void *ctx, anemo_record *record) {
    anemo_gate_base *base = ctx;
    const char *kind = anemo_record_get_text(record, NULL, "kind");
    const char *name = kind && strcmp(kind, "model") == 0
                           ? "engine"
                           : anemo_record_get_text(record, "solution", "variant");
    const char *hash = anemo_record_get_text(record, "solution", "code_hash");
    const char *status = anemo_record_get_text(record, NULL, "status");
    const bool usable = name && hash && status && strcmp(status, "passed") == 0;
    const anemo_gate_hash *before = usable ? anemo_gate_hash_of(base, name) : NULL;
    if (before) { /* the newest counts */
        snprintf(base->hashes[before - base->hashes].hash, sizeof before->hash, "%s", hash);
    }
    return !usable || before || take_hash(base, name, hash, -1);
}

/* ---------------------------------------------------------------- a revision */

/* A scratch copy of the settings of the build that `head` lies in. */
static anemo_status copy_cache(const char *head, const char *to, char *generator,
                               size_t generator_bytes, anemo_error *err) {
    static const char *const wanted[] = {"CMAKE_BUILD_TYPE:",
                                         "CMAKE_C_COMPILER:",
                                         "CMAKE_C_FLAGS",
                                         "CMAKE_C_COMPILER_LAUNCHER:",
                                         "CMAKE_TOOLCHAIN_FILE:",
                                         "CMAKE_CUDA_COMPILER:",
                                         "CMAKE_CUDA_ARCHITECTURES:",
                                         "CMAKE_EXE_LINKER_FLAGS",
                                         "ANEMO_WITH_",
                                         "ANEMO_SANITIZE:",
                                         "ANEMO_PTHREADS:",
                                         "ANEMO_TSAN:"};
    char path[PATH_MAX], line[4096];
    snprintf(path, sizeof path, "%.4000s", head);
    char *slash = strrchr(path, '/');
    if (slash) {
        snprintf(slash, sizeof path - (size_t)(slash - path), "/CMakeCache.txt");
    }
    FILE *in = slash ? fopen(path, "r") : NULL;
    FILE *out = fopen(to, "w");
    if (!out) {
        if (in) {
            fclose(in);
        }
        return anemo_fail(err, ANEMO_E_DEVICE, "%s: %s", to, strerror(errno));
    }
    while (in && fgets(line, sizeof line, in)) {
        line[strcspn(line, "\n")] = '\0';
        char *colon = strchr(line, ':'), *equals = colon ? strchr(colon, '=') : NULL;
        bool take = false;
        for (size_t i = 0; equals && i < sizeof wanted / sizeof *wanted; i++) {
            take = take || strncmp(line, wanted[i], strlen(wanted[i])) == 0;
        }
        if (equals && strncmp(line, "CMAKE_GENERATOR:", 16) == 0) {
            snprintf(generator, generator_bytes, "%s", equals + 1);
        }
        if (take) {
            fprintf(out, "set(%.*s [==[%s]==] CACHE STRING \"\")\n", (int)(colon - line), line,
                    equals + 1);
        }
    }
    if (in) {
        fclose(in);
    }
    return fclose(out) == 0 ? ANEMO_OK
                            : anemo_fail(err, ANEMO_E_DEVICE, "%s: %s", to, strerror(errno));
}

static anemo_status build(anemo_gate_base *base, const char *commit, const char *head,
                          anemo_error *err) {
    char source[PATH_MAX], folder[PATH_MAX], cache[PATH_MAX], log[PATH_MAX],
        generator[64] = "Ninja";
    snprintf(source, sizeof source, "%.3900s/source", base->scratch);
    snprintf(folder, sizeof folder, "%.3900s/source/build", base->scratch);
    snprintf(cache, sizeof cache, "%.3900s/cache.cmake", base->scratch);
    snprintf(log, sizeof log, "%.3900s/build.log", base->scratch);
    const anemo_status status = copy_cache(head, cache, generator, sizeof generator, err);
    if (status) {
        return status;
    }
    const char *const steps[][12] = {
        {"git", "-C", base->repository, "worktree", "add", "--detach", source, commit, NULL},
        {"cmake", "-S", source, "-B", folder, "-G", generator, "-C", cache,
         "-DANEMO_BUILD_TESTS=OFF", NULL},
        {"cmake", "--build", folder, "--target", "anemo", NULL}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
        const int code = anemo_gate_capture(steps[i], NULL, log, NULL);
        if (code) {
            base->scratch[0] = '\0'; /* stays, for its log */
            return anemo_fail(err, ANEMO_E_DEVICE,
                              "the base %s could not be built: %s ended with %d, see %s",
                              base->what, steps[i][0], code, log);
        }
    }
    snprintf(base->program, sizeof base->program, "%.4000s/anemo", folder);
    return ANEMO_OK;
}

/* One line of git's, "" when it fails. */
static void git_line(const char *folder, const char *a, const char *b, const char *c, char *out,
                     size_t out_bytes) {
    const char *const arguments[] = {"git", "-C", folder, a, b, c, NULL};
    char *text = NULL;
    out[0] = '\0';
    if (anemo_gate_capture(arguments, NULL, "/dev/null", &text) == 0 && text) {
        text[strcspn(text, "\n")] = '\0';
        snprintf(out, out_bytes, "%s", text);
    }
    free(text);
}

static anemo_status open_revision(const char *what, const char *head, anemo_gate_base *base,
                                  anemo_error *err) {
    char commit[80], object[256];
    git_line(".", "rev-parse", "--show-toplevel", NULL, base->repository, sizeof base->repository);
    snprintf(object, sizeof object, "%.200s^{commit}", what);
    if (base->repository[0] && what[0] != '-') {
        git_line(base->repository, "rev-parse", "--verify", object, commit, sizeof commit);
    } else {
        commit[0] = '\0';
    }
    if (!commit[0]) {
        return anemo_fail(
            err, ANEMO_E_INPUT,
            "--base %s: no program, no folder with an `anemo` in it, no file of "
            "records (*.jsonl), and no revision %s",
            what, base->repository[0] ? "of the repository here" : "(no git repository here)");
    }
    const char *root = getenv("TMPDIR");
    snprintf(base->what, sizeof base->what, "%.80s (%.10s)", what, commit);
    snprintf(base->scratch, sizeof base->scratch, "%.3800s/anemo-gate-XXXXXX",
             root && root[0] ? root : "/tmp");
    if (!mkdtemp(base->scratch)) {
        const int why = errno;
        base->scratch[0] = '\0';
        return anemo_fail(err, ANEMO_E_DEVICE, "no scratch folder for the base in %s: %s",
                          root && root[0] ? root : "/tmp", strerror(why));
    }
    return build(base, commit, head, err);
}

/* ---------------------------------------------------------------- the base */

static bool is_program(const char *path) {
    struct stat there;
    return stat(path, &there) == 0 && S_ISREG(there.st_mode) && access(path, X_OK) == 0;
}

static bool ends_with(const char *text, const char *end) {
    const size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

anemo_status anemo_gate_base_open(const char *what, const char *head, anemo_gate_base *out,
                                  anemo_error *err) {
    char inside[PATH_MAX];
    anemo_status status = ANEMO_OK;
    *out = (anemo_gate_base){{0}};
    snprintf(out->what, sizeof out->what, "%s", what);
    snprintf(inside, sizeof inside, "%.4000s/anemo", what);
    if (ends_with(what, ".jsonl")) {
        return anemo_record_read(what, record_hash, out, NULL, err);
    }
    const char *program = is_program(what) ? what : is_program(inside) ? inside : NULL;
    if (program) {
        if (!realpath(program, out->program)) {
            return anemo_fail(err, ANEMO_E_INPUT, "--base %s: %s", what, strerror(errno));
        }
    } else {
        status = open_revision(what, head, out, err);
    }
    if (!status) {
        ask_hashes(out);
    }
    return status;
}

void anemo_gate_base_close(anemo_gate_base *base) {
    if (base->scratch[0]) {
        char source[PATH_MAX];
        snprintf(source, sizeof source, "%.3900s/source", base->scratch);
        const char *const unlink_tree[] = {"git",    "-C",      base->repository, "worktree",
                                           "remove", "--force", source,           NULL};
        const char *const empty[] = {"rm", "-rf", "--", base->scratch, NULL};
        anemo_gate_capture(unlink_tree, NULL, "/dev/null", NULL);
        anemo_gate_capture(empty, NULL, "/dev/null", NULL);
    }
    free(base->hashes);
    *base = (anemo_gate_base){{0}};
}
