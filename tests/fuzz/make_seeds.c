/* make_seeds DIR: writes the seeds in tests/fuzz/corpus that are not files of tests/data: tiny GGUF
 * models in several types and with several kinds of experts. */
#include "tests/support/random_blocks.h"
#include "tests/support/run_program.h"
#include "tests/support/tiny_model.h"

#include <stdio.h>

static void write_seed(const char *folder, const char *name, const anemo_hparams *h,
                       anemo_naming naming, uint32_t type) {
    char path[600];
    gguf_writer *writer = tiny_gguf(h, naming, type);
    snprintf(path, sizeof path, "%s/%s.gguf", folder, name);
    gguf_write(writer, path);
    gguf_writer_free(writer);
}

/* One block of every type, in tensors that no model has: what the container must cope with. */
static void write_all_types(const char *folder) {
    char path[600], name[16];
    gguf_writer *writer = gguf_writer_create();
    const anemo_hparams h = tiny_hparams(0);
    tiny_gguf_keys(writer, &h);
    for (int i = 0; i < random_block_type_count; ++i) {
        byte_string data = {0};
        const uint64_t size = 256;
        random_blocks(&data, random_block_types[i], 256, 1, 1);
        snprintf(name, sizeof name, "t%d", i);
        gguf_add_tensor(writer, name, random_block_types[i], 1, &size, data.bytes, data.n);
        free(data.bytes);
    }
    snprintf(path, sizeof path, "%s/types.gguf", folder);
    gguf_write(writer, path);
    gguf_writer_free(writer);
}

int main(int argc, char **argv) {
    if (argc != 2)
        return 2;
    anemo_hparams dense = tiny_hparams(0), experts = tiny_hparams(2);
    dense.tied = true;
    write_seed(argv[1], "dense-q4_0", &dense, ANEMO_NAMING_GGUF, ANEMO_GGML_Q4_0);
    write_seed(argv[1], "merged-q4_0", &experts, ANEMO_NAMING_GGUF_MERGED, ANEMO_GGML_Q4_0);
    write_seed(argv[1], "experts-q4_0", &experts, ANEMO_NAMING_GGUF_EXPERTS, ANEMO_GGML_Q4_0);
    write_all_types(argv[1]);
    return 0;
}
