/* Interrupts and the progress line. */
#include "harness/cli/common.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t interrupted;

static void on_interrupt(int number) {
    (void)number;
    interrupted = 1;
}

void anemo_cli_catch_interrupts(void) {
    /* SA_RESETHAND: the second one ends the program. A write that was interrupted goes on. */
    struct sigaction action = {.sa_handler = on_interrupt};
    action.sa_flags = (int)SA_RESETHAND | SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a file-size limit is then an error like a full disk */
}

bool anemo_cli_interrupted(void) {
    return interrupted != 0;
}

const volatile sig_atomic_t *anemo_cli_interrupt_flag(void) {
    return &interrupted;
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

anemo_progress anemo_progress_start(const anemo_cli *cli, const char *label, double total) {
    const char *terminal = getenv("TERM");
    bool dumb = !terminal || strcmp(terminal, "dumb") == 0;
    return (anemo_progress){.shown = !cli->quiet && !dumb && isatty(STDERR_FILENO),
                            .label = label,
                            .total = total,
                            .start_s = now_s()};
}

void anemo_progress_show(anemo_progress *progress, double done, const char *what) {
    static const char full[] = "####################";
    double now = now_s(), share = progress->total > 0 ? done / progress->total : 0;
    if (!progress->shown || now - progress->drawn_s < 0.1)
        return;
    progress->drawn_s = now;
    share = share < 0 ? 0 : share > 1 ? 1 : share;
    double elapsed = now - progress->start_s;
    char left[32] = "";
    if (share > 0.02 && elapsed > 1) {
        double seconds = elapsed * (1 - share) / share;
        if (seconds >= 90)
            snprintf(left, sizeof left, ", %.0f min left", seconds / 60);
        else
            snprintf(left, sizeof left, ", %.0f s left", seconds);
    }
    fprintf(stderr, "\r\033[K%s [%-20.*s] %3.0f %%%s  %.40s", progress->label, (int)(20 * share),
            full, 100 * share, left, what ? what : "");
    fflush(stderr);
}

void anemo_progress_end(anemo_progress *progress) {
    if (progress->shown && progress->drawn_s > 0)
        fputs("\r\033[K", stderr);
    progress->shown = false;
}

bool anemo_progress_packing(void *ctx, double done, double total) {
    anemo_progress *progress = ctx;
    progress->total = total;
    anemo_progress_show(progress, done, "packing weights");
    return !anemo_cli_interrupted();
}
