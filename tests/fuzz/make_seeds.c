/* make_seeds DIR VOCABULARIES: writes the seeds in tests/fuzz/corpus that are not files of
 * tests/data: tiny GGUF models in several types and with several kinds of experts, and a vocabulary
 * with every key that `anemo quantize` writes. */
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

/* <unk>, <s>, 256 bytes, U+2581, two letters, their joint, an added token, an unused one. */
static void write_vocabulary(const char *folder) {
    enum { FIRST = 2, BYTES = 256, WORDS = 6, TOKENS = FIRST + BYTES + WORDS };
    static const char *const words[WORDS] = {"\xe2\x96\x81", "a", "b", "ab", "<tool>", "[PAD263]"};
    static const int32_t word_types[WORDS] = {1, 1, 1, 1, 4, 5};
    static char names[BYTES][8];
    const char *tokens[TOKENS] = {"<unk>", "<s>"};
    int32_t types[TOKENS] = {2, 3};
    float scores[TOKENS] = {0};
    char path[600];
    for (int i = 0; i < BYTES; ++i) {
        snprintf(names[i], sizeof names[i], "<0x%02X>", (unsigned)i);
        tokens[FIRST + i] = names[i];
        types[FIRST + i] = 6;
    }
    for (int i = 0; i < WORDS; ++i) {
        tokens[FIRST + BYTES + i] = words[i];
        types[FIRST + BYTES + i] = word_types[i];
        scores[FIRST + BYTES + i] = (float)-i;
    }
    gguf_writer *writer = gguf_writer_create();
    gguf_add_string(writer, "tokenizer.ggml.model", "llama");
    gguf_add_strings(writer, "tokenizer.ggml.tokens", tokens, TOKENS);
    gguf_add_i32s(writer, "tokenizer.ggml.token_type", types, TOKENS);
    gguf_add_f32s(writer, "tokenizer.ggml.scores", scores, TOKENS);
    gguf_add_bool(writer, "tokenizer.ggml.add_space_prefix", true);
    gguf_add_bool(writer, "tokenizer.ggml.remove_extra_whitespaces", false);
    gguf_add_bool(writer, "tokenizer.ggml.add_bos_token", true);
    gguf_add_u32(writer, "tokenizer.ggml.bos_token_id", 1);
    gguf_add_string(writer, "anemo.tokenizer.prefix", "segment");
    gguf_add_string(writer, "anemo.tokenizer.unknown_surface", "<unk>");
    gguf_add_string(writer, "anemo.tokenizer.version", "v3");
    gguf_add_string(writer, "anemo.tokenizer.efforts", "none, high");
    gguf_add_string(writer, "anemo.tokenizer.effort", "high");
    snprintf(path, sizeof path, "%s/points.gguf", folder);
    gguf_write(writer, path);
    gguf_writer_free(writer);
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    anemo_hparams dense = tiny_hparams(0), experts = tiny_hparams(2);
    dense.tied = true;
    write_seed(argv[1], "dense-q4_0", &dense, ANEMO_NAMING_GGUF, ANEMO_GGML_Q4_0);
    write_seed(argv[1], "merged-q4_0", &experts, ANEMO_NAMING_GGUF_MERGED, ANEMO_GGML_Q4_0);
    write_seed(argv[1], "experts-q4_0", &experts, ANEMO_NAMING_GGUF_EXPERTS, ANEMO_GGML_Q4_0);
    write_all_types(argv[1]);
    write_vocabulary(argv[2]);
    return 0;
}
