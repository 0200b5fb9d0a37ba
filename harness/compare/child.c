/* Two builds side by side: each a process that measures itself and waits in between. A process and
 * not two plug-ins, because two builds have the same names in them; lines of text on a socket,
 * because the samples are timed on the far side of it. */
#include "harness/compare/side.h"

#include <errno.h>
#include <math.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define GREETING "anemo-samples 1 "

extern char **environ;

typedef struct child_side {
    anemo_side base;
    const char *program; /* the caller's */
    char what[256];
    pid_t pid;
    int socket;
    char line[512]; /* the last one read */
    size_t held;    /* bytes behind it that belong to the next */
    char ahead[512];
} child_side;

/* ---------------------------------------------------------------- lines */

/* Into side->line, without its end; false: the child has gone, or the line is too long. */
static bool read_line(child_side *side) {
    for (;;) {
        char *end = memchr(side->ahead, '\n', side->held);
        if (end) {
            const size_t bytes = (size_t)(end - side->ahead);
            memcpy(side->line, side->ahead, bytes);
            side->line[bytes] = '\0';
            side->held -= bytes + 1;
            memmove(side->ahead, end + 1, side->held);
            return true;
        }
        if (side->held == sizeof side->ahead) {
            return false;
        }
        const ssize_t got =
            recv(side->socket, side->ahead + side->held, sizeof side->ahead - side->held, 0);
        if (got > 0) {
            side->held += (size_t)got;
        } else if (got == 0 || errno != EINTR) {
            return false;
        }
    }
}

static bool write_line(child_side *side, const char *text) {
    size_t left = strlen(text);
    while (left > 0) {
        const ssize_t sent = send(side->socket, text, left, MSG_NOSIGNAL);
        if (sent < 0 && errno != EINTR) {
            return false;
        }
        text += sent > 0 ? sent : 0;
        left -= sent > 0 ? (size_t)sent : 0;
    }
    return true;
}

/* ---------------------------------------------------------------- our end */

static anemo_status child_sample(anemo_side *base, int64_t calls, double *ns, anemo_error *err) {
    child_side *side = (child_side *)base;
    char request[32], *end;
    snprintf(request, sizeof request, "%lld\n", (long long)calls);
    if (!write_line(side, request) || !read_line(side)) {
        return anemo_fail(err, ANEMO_E_IO, "%s ended while it was measured", side->program);
    }
    if (strncmp(side->line, "error ", 6) == 0) {
        return anemo_fail(err, ANEMO_E_IO, "%s: %s", side->program, side->line + 6);
    }
    *ns = strtod(side->line, &end);
    if (end == side->line || *end || !(*ns > 0) || !isfinite(*ns)) {
        return anemo_fail(err, ANEMO_E_IO, "%s: '%.80s' instead of nanoseconds", side->program,
                          side->line);
    }
    return ANEMO_OK;
}

static void child_close(anemo_side *base) {
    child_side *side = (child_side *)base;
    close(side->socket); /* its input ends, so it does */
    while (side->pid > 0 && waitpid(side->pid, NULL, 0) < 0 && errno == EINTR) {
    }
    free(side);
}

/* Identical programs differed by up to a tenth for as long as both lived: where stack and buffers
 * lie, drawn at random for each process. Returns what to give to personality() afterwards. */
static int keep_addresses(void) {
    const int before = personality(0xffffffff);
    if (before >= 0) {
        personality((unsigned long)before | ADDR_NO_RANDOMIZE);
    }
    return before;
}

/* libgomp's spin count is a number of pauses: 500 are 10 us, after which threads sleep; with none
 * a kernel of 11 us on two threads took 47 us. Other OpenMPs know the policy only. */
static const char *const waiting[] = {"OMP_WAIT_POLICY=passive", "GOMP_SPINCOUNT=500"};
enum { WAITING = sizeof waiting / sizeof *waiting };

static bool is_waiting(const char *entry) {
    for (int i = 0; i < WAITING; i++) {
        if (strncmp(entry, waiting[i], strcspn(waiting[i], "=") + 1) == 0) {
            return true;
        }
    }
    return false;
}

/* The environment with how threads wait; NULL: no memory. Free the array only. */
static char **waiting_environment(void) {
    size_t n = 0, kept = 0;
    while (environ[n]) {
        n++;
    }
    char **out = malloc((n + WAITING + 1) * sizeof *out);
    for (size_t i = 0; out && i < n; i++) {
        if (!is_waiting(environ[i])) {
            out[kept++] = environ[i];
        }
    }
    for (int i = 0; out && i < WAITING; i++) {
        out[kept++] = (char *)waiting[i];
    }
    if (out) {
        out[kept] = NULL;
    }
    return out;
}

static anemo_status start(child_side *side, const char *const *arguments, anemo_error *err) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return anemo_fail(err, ANEMO_E_IO, "no socket: %s", strerror(errno));
    }
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    char **environment = waiting_environment();
    const int before = keep_addresses();
    const int failed = environment ? posix_spawn(&side->pid, arguments[0], &actions, NULL,
                                                 (char *const *)arguments, environment)
                                   : ENOMEM;
    if (before >= 0) {
        personality((unsigned long)before);
    }
    free(environment);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    side->socket = ends[0];
    if (failed) {
        side->pid = 0;
        return anemo_fail(err, ANEMO_E_INPUT, "%s: cannot be started: %s", arguments[0],
                          strerror(failed));
    }
    return ANEMO_OK;
}

anemo_status anemo_child_side_open(const char *const *arguments, anemo_side **out,
                                   anemo_error *err) {
    *out = NULL;
    child_side *side = calloc(1, sizeof *side);
    if (!side) {
        return anemo_fail(err, ANEMO_E_MEMORY, "no memory for a side");
    }
    side->base = (anemo_side){child_sample, child_close};
    side->program = arguments[0];
    side->socket = -1;
    anemo_status status = start(side, arguments, err);
    if (!status && !read_line(side)) {
        int ended = 0;
        close(side->socket);
        side->socket = -1;
        while (waitpid(side->pid, &ended, 0) < 0 && errno == EINTR) {
        }
        side->pid = 0;
        status = anemo_fail(err, ANEMO_E_INPUT,
                            "%s serves no samples: it ended with %s %d; expected an anemo that "
                            "knows `compare --serve` and this case",
                            side->program, WIFSIGNALED(ended) ? "signal" : "exit code",
                            WIFSIGNALED(ended) ? WTERMSIG(ended) : WEXITSTATUS(ended));
    } else if (!status && strncmp(side->line, GREETING, strlen(GREETING)) != 0) {
        status = anemo_fail(err, ANEMO_E_INPUT, "%s serves no samples: it said '%.80s'",
                            side->program, side->line);
    }
    if (status) {
        child_close(&side->base);
        return status;
    }
    snprintf(side->what, sizeof side->what, "%.250s", side->line + strlen(GREETING));
    *out = &side->base;
    return ANEMO_OK;
}

const char *anemo_child_side_what(const anemo_side *side) {
    return ((const child_side *)side)->what;
}

/* ---------------------------------------------------------------- the child's end */

anemo_status anemo_side_serve(anemo_side *side, const char *what, FILE *in, FILE *out,
                              anemo_error *err) {
    char line[64];
    fprintf(out, GREETING "%s\n", what);
    fflush(out);
    while (fgets(line, sizeof line, in)) {
        char *end;
        const long long calls = strtoll(line, &end, 10);
        if (end == line || *end != '\n' || calls < 1) {
            return anemo_fail(err, ANEMO_E_INPUT, "--serve: '%.40s' instead of a number of calls",
                              line);
        }
        double ns = NAN;
        anemo_error why = {{0}};
        const anemo_status status = side->sample(side, calls, &ns, &why);
        if (status) {
            fprintf(out, "error %s\n", why.text);
        } else {
            fprintf(out, "%.17g\n", ns);
        }
        if (fflush(out) != 0) {
            return anemo_fail(err, ANEMO_E_IO, "--serve: %s", strerror(errno));
        }
    }
    return ANEMO_OK;
}
