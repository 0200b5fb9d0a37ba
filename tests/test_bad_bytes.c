/* Files damaged byte by byte: every truncation, every bit of every header byte, random damage. A
 * file may still be valid by chance, and is then read to its last value. */
#include "models/formats/gguf.h"
#include "tests/support/bad_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

/* Every bit of every byte before `header_bytes`, and random damage: overwritten, removed and
 * doubled stretches. `opened` is what anemo opens, `file` what is damaged. Returns how many were
 * refused. */
static int sweep(const char *opened, const char *file, size_t header_bytes, int n_random) {
    size_t bytes;
    uint8_t *right = (uint8_t *)test_read_file(file, &bytes);
    uint8_t *wrong = malloc(2 * bytes);
    uint64_t seed = 88172645463325252u;
    int n_refused = 0;
    assert_true(open_and_read(opened));
    const int fd = open(file, O_WRONLY);
    for (size_t i = 0; i < header_bytes; ++i) {
        for (int bit = 0; bit < 8; ++bit) {
            const uint8_t flipped = right[i] ^ (uint8_t)(1 << bit);
            assert_int_equal(pwrite(fd, &flipped, 1, (off_t)i), 1);
            n_refused += !open_and_read(opened);
        }
        assert_int_equal(pwrite(fd, &right[i], 1, (off_t)i), 1);
    }
    close(fd);
    for (int i = 0; i < n_random; ++i) {
        size_t n = bytes;
        memcpy(wrong, right, bytes);
        const size_t at = next_random(&seed) % header_bytes;
        const size_t stretch = 1 + next_random(&seed) % 16;
        const uint64_t kind = next_random(&seed) % 4;
        const size_t from = next_random(&seed) % header_bytes;
        if (kind == 0) {
            for (size_t j = at; j < at + stretch && j < n; ++j)
                wrong[j] = (uint8_t)next_random(&seed);
        } else if (kind == 1) {
            memset(wrong + at, next_random(&seed) % 2 ? 0xff : 0,
                   stretch < n - at ? stretch : n - at);
        } else if (kind == 2 && at + stretch < n) {
            memmove(wrong + at, wrong + at + stretch, n - at - stretch);
            n -= stretch;
        } else {
            memmove(wrong + at + stretch, wrong + at, n - at);
            memcpy(wrong + at, right + from, from + stretch < bytes ? stretch : bytes - from);
            n += stretch;
        }
        rewrite(file, wrong, n);
        n_refused += !open_and_read(opened);
    }
    free(right);
    free(wrong);
    return n_refused;
}

/* Every beginning of a file, laid against a page that may not be touched: reading one byte past the
 * end is a crash here, where a mapped file would have hidden it in the rest of its last page. */
static void no_byte_past_the_end(void **state) {
    (void)state;
    const anemo_hparams h = tiny_hparams(3);
    gguf_writer *writer = tiny_gguf(&h, ANEMO_NAMING_GGUF_MERGED, ANEMO_GGML_Q4_0);
    gguf_add_strings(writer, "tokenizer.ggml.tokens", (const char *const[]){"a", "bc"}, 2);
    size_t bytes[2];
    uint8_t *files[2] = {gguf_image(writer, &bytes[0]), NULL};
    gguf_writer_free(writer);
    tiny_write_directory(folder, &h, ANEMO_GGML_BF16);
    files[1] = (uint8_t *)test_read_file(tiny_path(folder, "model.safetensors"), &bytes[1]);

    const size_t page = (size_t)sysconf(_SC_PAGESIZE), room = 64 * page;
    assert_true(bytes[0] < room && bytes[1] < room);
    uint8_t *memory =
        mmap(NULL, room + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    assert_int_equal(mprotect(memory + room, page, PROT_NONE), 0);
    for (int kind = 0; kind < 2; ++kind)
        for (size_t n = 0; n <= bytes[kind]; ++n) {
            anemo_mapped_file file = {"guarded", memory + room - n, n};
            anemo_tensors tensors = {0};
            gguf_file gguf = {0};
            size_t header_bytes;
            memcpy(memory + room - n, files[kind], n);
            const anemo_status status =
                kind == 0 ? gguf_parse(&file, &gguf, &tensors, NULL)
                          : anemo_safetensors_parse(&file, &tensors, &header_bytes, NULL);
            assert_int_equal(status, n == bytes[kind] ? ANEMO_OK : ANEMO_E_INPUT);
            gguf_free(&gguf);
            anemo_tensors_free(&tensors);
        }
    munmap(memory, room + page);
    free(files[0]);
    free(files[1]);
}

static void sweep_safetensors(void **state) {
    (void)state;
    const anemo_hparams h = tiny_hparams(0);
    tiny_write_directory(folder, &h, ANEMO_GGML_BF16);
    safetensors_writer *model = tiny_safetensors(&h, ANEMO_GGML_BF16);
    const size_t header = 8 + strlen(safetensors_header(model));
    safetensors_writer_free(model);
    char *weights = strdup(tiny_path(folder, "model.safetensors"));
    char *config = strdup(tiny_path(folder, "config.json"));
    char *text = tiny_config(&h);
    /* nearly every bit of a header matters; in a config most values must still fit the weights */
    assert_true(sweep(folder, weights, header, 3000) > (int)(header * 8 * 95 / 100));
    tiny_write_directory(folder, &h, ANEMO_GGML_BF16);
    assert_true(sweep(folder, config, strlen(text), 2000) > (int)(strlen(text) * 8 * 7 / 10));
    free(text);
    free(config);
    free(weights);
}

static void sweep_index(void **state) {
    (void)state;
    json_t *index = write_sharded("a.safetensors");
    write_index(index);
    char *text = json_dumps(index, 0);
    json_decref(index);
    char *file = strdup(tiny_path(folder, "model.safetensors.index.json"));
    assert_true(sweep(folder, file, strlen(text), 1000) > (int)(strlen(text) * 8 * 9 / 10));
    free(file);
    free(text);
}

static void sweep_gguf(void **state) {
    (void)state;
    for (int experts = 0; experts <= 3; experts += 3) {
        const anemo_hparams h = tiny_hparams(experts);
        gguf_writer *writer =
            tiny_gguf(&h, experts ? ANEMO_NAMING_GGUF_MERGED : ANEMO_NAMING_GGUF, ANEMO_GGML_Q4_0);
        gguf_add_strings(writer, "tokenizer.ggml.tokens", (const char *const[]){"a", "bc"}, 2);
        char *path = strdup(tiny_path(folder, "sweep.gguf"));
        size_t bytes;
        free(gguf_image(writer, &bytes));
        gguf_write(writer, path);
        gguf_writer_free(writer);
        const size_t header = bytes < 2000 ? bytes : 2000; /* and the first of the data */
        assert_true(sweep(path, path, header, 3000) > (int)(header * 8 / 2));
        free(path);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        bad_file_test(no_byte_past_the_end),
        bad_file_test(sweep_safetensors),
        bad_file_test(sweep_index),
        bad_file_test(sweep_gguf),
    };
    return cmocka_run_group_tests_name("damaged files", tests, NULL, NULL);
}
