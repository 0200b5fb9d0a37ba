/* Runs the anemo program as a person would and keeps what it printed. */
#ifndef ANEMO_TEST_RUN_PROGRAM_H
#define ANEMO_TEST_RUN_PROGRAM_H

#include <stdbool.h>
#include <stddef.h>

typedef struct program_result {
    int code;  /* exit code; 128 + signal when killed */
    char *out; /* standard output, \0-terminated */
    char *err; /* standard error */
} program_result;

typedef struct program_setting {
    const char *const *environment; /* "NAME=VALUE" or "NAME" (removed), ended by NULL; or NULL */
    const char *folder;             /* working directory, or NULL */
    long file_bytes_max;            /* RLIMIT_FSIZE for the program, 0 = none */
    /* Polled while the program runs; SIGINT as soon as it says true. NULL: never. */
    bool (*interrupt_when)(void *ctx);
    void *ctx;
} program_setting;

/* arguments: without the program's name, ended by NULL. setting may be NULL. Aborts when the
 * program cannot be started. */
program_result program_run_with(const program_setting *setting, const char *const *arguments);
#define program_run(...) program_run_with(NULL, (const char *const[]){__VA_ARGS__, NULL})
void program_result_free(program_result *result);

/* A fresh directory; test_folder_remove deletes it with what is in it. */
char *test_folder_create(void);
void test_folder_remove(char *folder);
/* The whole file, \0-terminated, or NULL. */
char *test_read_file(const char *path, size_t *bytes);
void test_write_file(const char *path, const void *data, size_t bytes);

#endif
