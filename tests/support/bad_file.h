/* What the tests of bad files share: a folder for each test, small valid models to damage in it,
 * and what a refusal must be. */
#ifndef ANEMO_TESTS_BAD_FILE_H
#define ANEMO_TESTS_BAD_FILE_H

#include "tests/support/bytes.h"
#include "tests/support/run_program.h"
#include "tests/support/tiny_model.h"

#include <jansson.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))

extern char *folder; /* of the running test */
int bad_file_set_up(void **state);
int bad_file_tear_down(void **state);
#define bad_file_test(function)                                                                    \
    cmocka_unit_test_setup_teardown(function, bad_file_set_up, bad_file_tear_down)

/* A new file each time: truncating an old one and writing it again makes some file systems flush to
 * the disk, which would take minutes over all files here. */
void rewrite(const char *path, const void *data, size_t bytes);

/* Opening `path` must fail with one whole sentence that holds all `words` (NULLs are skipped). */
void check_refusal(const char *path, const char *const *words, size_t n_words);
#define refused(path, ...)                                                                         \
    check_refusal(path, (const char *const[]){__VA_ARGS__},                                        \
                  COUNT(((const char *const[]){__VA_ARGS__})))

/* Opens; if it is a model, reads all of it. */
bool open_and_read(const char *path);

/* The tiny model, as a directory in `folder` or as a GGUF; experts 0: dense. */
void write_model(int64_t experts);
gguf_writer *gguf_model(int64_t experts);
/* A model whose only shard is `file`, listed in the index as it should be. */
json_t *write_sharded(const char *file);
void write_index(json_t *index);

#endif
