/* See run_program.h. Output goes through unlinked temporary files: no pipe can fill up. */
#include "tests/support/run_program.h"

#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_ARGUMENTS 64

static void *must(void *memory) {
    if (!memory) {
        perror("test support");
        abort();
    }
    return memory;
}

static char *read_stream(FILE *file, size_t *bytes) {
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *text = must(malloc((size_t)size + 1));
    size_t read = fread(text, 1, (size_t)size, file);
    text[read] = 0;
    if (bytes)
        *bytes = read;
    fclose(file);
    return text;
}

static void become(const program_setting *setting, const char *const *arguments, FILE *out,
                   FILE *err) {
    char *argv[MAX_ARGUMENTS] = {ANEMO_RUN_PREFIX ANEMO_BINARY};
    int n = 0;
    while (argv[n])
        n++;
    for (int i = 0; arguments[i] && n + 1 < MAX_ARGUMENTS; i++)
        argv[n++] = must(strdup(arguments[i]));
    dup2(fileno(out), STDOUT_FILENO);
    dup2(fileno(err), STDERR_FILENO);
    if (setting && setting->folder && chdir(setting->folder) != 0)
        _exit(127);
    if (setting && setting->file_bytes_max) {
        struct rlimit limit = {(rlim_t)setting->file_bytes_max, (rlim_t)setting->file_bytes_max};
        setrlimit(RLIMIT_FSIZE, &limit);
    }
    for (const char *const *e = setting ? setting->environment : NULL; e && *e; e++) {
        if (strchr(*e, '='))
            putenv(must(strdup(*e)));
        else
            unsetenv(*e);
    }
    execvp(argv[0], argv);
    _exit(127);
}

program_result program_run_with(const program_setting *setting, const char *const *arguments) {
    FILE *out = must(tmpfile()), *err = must(tmpfile());
    fflush(NULL);
    pid_t child = fork();
    if (child < 0)
        must(NULL);
    if (child == 0)
        become(setting, arguments, out, err);
    int status = 0;
    const struct timespec pause = {0, 20000000};
    bool interrupted = !setting || !setting->interrupt_when;
    while (!interrupted && waitpid(child, &status, WNOHANG) == 0) {
        interrupted = setting->interrupt_when(setting->ctx);
        if (interrupted)
            kill(child, SIGINT);
        else
            nanosleep(&pause, NULL);
    }
    if (interrupted)
        waitpid(child, &status, 0);
    program_result result;
    result.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    result.out = read_stream(out, NULL);
    result.err = read_stream(err, NULL);
    return result;
}

void program_result_free(program_result *result) {
    free(result->out);
    free(result->err);
}

char *test_folder_create(void) {
    const char *base = getenv("TMPDIR");
    char path[512];
    snprintf(path, sizeof path, "%s/anemo-test-XXXXXX", base && *base ? base : "/tmp");
    must(mkdtemp(path));
    return must(strdup(path));
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where) {
    (void)info, (void)kind, (void)where;
    return remove(path);
}

void test_folder_remove(char *folder) {
    nftw(folder, remove_one, 16, FTW_DEPTH | FTW_PHYS);
    free(folder);
}

char *test_read_file(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    return file ? read_stream(file, bytes) : NULL;
}

void test_write_file(const char *path, const void *data, size_t bytes) {
    FILE *file = must(fopen(path, "wb"));
    if (fwrite(data, 1, bytes, file) != bytes || fclose(file) != 0)
        must(NULL);
}
