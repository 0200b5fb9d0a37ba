/* A recording run of the program that is killed with SIGKILL at random moments: every finished
 * record stays readable and no line is half there. $ANEMO_KILLS says how often (4; `ci/test
 * --full`: 200). And places that cannot be written: one sentence, and not exit code 0. */
#include "harness/record/record.h"
#include "tests/support/run_program.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static char *folder;
static char file[600];

static int set_up(void **state) {
    (void)state;
    folder = test_folder_create();
    snprintf(file, sizeof file, "%s/records.jsonl", folder);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_folder_remove(folder);
    return 0;
}

/* ---------------------------------------------------------------- kill -9 */

static pid_t start(void) {
    char *argv[32] = {ANEMO_RUN_PREFIX ANEMO_BINARY};
    static const char *const words[] = {"bench",   "kernel",    "add_rmsnorm", "--shape",
                                        "1b/norm", "--m",       "1,2",         "--stop",
                                        "n:6",     "--threads", "1",           "--record"};
    size_t n = 0;
    while (argv[n]) {
        n++;
    }
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        argv[n++] = (char *)words[i];
    }
    argv[n++] = file;
    pid_t child;
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
    assert_int_equal(posix_spawn(&child, argv[0], &actions, NULL, argv, environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    return child;
}

static int end_of(pid_t child) {
    int ended;
    while (waitpid(child, &ended, 0) < 0) {
        assert_int_equal(errno, EINTR);
    }
    return ended;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool visit(void *ctx, anemo_record *record) {
    (void)ctx;
    assert_non_null(anemo_record_get_text(record, "case", "name"));
    return true;
}

/* Whole lines only, all of them records; how many. */
static int64_t readable(void) {
    anemo_record_read_report report = {0};
    anemo_error err = {{0}};
    size_t bytes;
    if (access(file, F_OK) != 0) {
        return 0; /* killed before it was made */
    }
    if (anemo_record_read(file, visit, NULL, &report, &err)) {
        print_error("%s\n", err.text);
        fail();
    }
    assert_int_equal(report.torn_line, 0);
    char *text = test_read_file(file, &bytes);
    assert_non_null(text);
    assert_true(bytes == 0 || text[bytes - 1] == '\n');
    free(text);
    return report.records;
}

static void killed_runs_leave_whole_records(void **state) {
    (void)state;
    const char *asked = getenv("ANEMO_KILLS");
    const long kills = asked ? strtol(asked, NULL, 10) : 4;
    assert_true(kills > 0);
    double whole_s = 1e9;
    for (int i = 0; i < 2; i++) { /* the shorter: another process may have slowed one */
        const double begin = now();
        const int ended = end_of(start());
        assert_true(WIFEXITED(ended) && WEXITSTATUS(ended) == 0);
        whole_s = now() - begin < whole_s ? now() - begin : whole_s;
    }
    int64_t records = readable(), killed = 0;
    assert_true(records >= 4);
    srand(20261126);
    for (long i = 0; i < kills; i++) {
        const double wait_s = whole_s * ((double)rand() / RAND_MAX);
        const struct timespec wait = {(time_t)wait_s,
                                      (long)((wait_s - (double)(time_t)wait_s) * 1e9)};
        const pid_t child = start();
        nanosleep(&wait, NULL);
        kill(child, SIGKILL);
        killed += WIFSIGNALED(end_of(child));
        const int64_t after = readable();
        assert_true(after >= records); /* what was finished stays */
        records = after;
    }
    assert_true(killed > 0); /* the others had ended before */
}

/* ---------------------------------------------------------------- no place to write */

/* One line on stderr that names the place, and an exit code for it. */
static void refused_at(const char *path, const char *option, int code) {
    program_result r = program_run("bench", "kernel", "add_rmsnorm_c", "--shape", "1b/norm", "--m",
                                   "1", "--stop", "n:6", "--threads", "1", option, path);
    if (r.code != code) {
        print_error("%s %s: exit code %d\n%s\n", option, path, r.code, r.err);
    }
    assert_int_equal(r.code, code);
    assert_non_null(strstr(r.err, path));
    const char *end = strchr(r.err, '\n');
    assert_true(end && end[1] == '\0');
    program_result_free(&r);
}

static void places_that_cannot_be_written_are_named(void **state) {
    (void)state;
    refused_at("/proc/records.jsonl", "--record", 6); /* no one may write there, not even root */
    if (access("/dev/full", W_OK) == 0) {
        refused_at("/dev/full", "--record", 6);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(killed_runs_leave_whole_records, set_up, tear_down),
        cmocka_unit_test_setup_teardown(places_that_cannot_be_written_are_named, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
