/* GGUF files that are wrong, fault by fault: each is refused with one sentence that names file,
 * field and value and says what is accepted. */
#include "tests/support/bad_file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>
#include <unistd.h>

static void gguf_keys(void **state) {
    (void)state;
    static const struct {
        int64_t experts;
        const char *drop;
        char kind; /* u u32, f f32, s string, b bool, - nothing */
        const char *key;
        double number;
        const char *text, *words[3];
    } cases[] = {
        {0, "general.architecture", '-', "", 0, "", {"general.architecture is missing", "llama"}},
        {0, "general.architecture", 's', "general.architecture", 0, "gpt2", {"is gpt2", "llama"}},
        {0, "general.architecture", 'u', "general.architecture", 3, "", {"architecture is 3"}},
        {0,
         "general.architecture",
         's',
         "general.architecture",
         0,
         "gpt-oss",
         {"gpt-oss.embedding_length is missing"}},
        {0, NULL, 'f', "llama.attention.temperature_scale", 0.1, "", {"absent", "mistral3"}},
        {0, NULL, 's', "general.type", 0, "adapter", {"general.type is adapter", "model"}},
        {0, NULL, 'u', "split.count", 3, "", {"split.count is 3", "-00001-of-00003.gguf"}},
        {0, NULL, 's', "split.count", 0, "3", {"split.count has value type 8", "an integer"}},
        {0, "llama.embedding_length", '-', "", 0, "", {"llama.embedding_length is missing"}},
        {0,
         "llama.embedding_length",
         'f',
         "llama.embedding_length",
         32,
         "",
         {"length is 32", "int"}},
        {0,
         "llama.embedding_length",
         'u',
         "llama.embedding_length",
         0,
         "",
         {"length is 0", "1 to"}},
        {0,
         "llama.embedding_length",
         'u',
         "llama.embedding_length",
         4294967295,
         "",
         {"4294967295"}},
        {0, "llama.feed_forward_length", '-', "", 0, "", {"llama.feed_forward_length is missing"}},
        {0, "llama.feed_forward_length", 'u', "llama.feed_forward_length", 0, "", {"length is 0"}},
        {0, "llama.block_count", '-', "", 0, "", {"llama.block_count is missing"}},
        {0, "llama.block_count", 'u', "llama.block_count", 0, "", {"block_count is 0"}},
        {0, "llama.block_count", 'u', "llama.block_count", 5000, "", {"block_count is 5000"}},
        {0,
         "llama.block_count",
         'u',
         "llama.block_count",
         2,
         "",
         {"blk.1.attn_norm.weight is mis"}},
        {0, "llama.context_length", '-', "", 0, "", {"llama.context_length is missing"}},
        {0,
         "llama.attention.head_count",
         '-',
         "",
         0,
         "",
         {"llama.attention.head_count is missing"}},
        {0, "llama.attention.head_count", 'u', "llama.attention.head_count", 0, "", {"count is 0"}},
        {0,
         "llama.attention.head_count",
         'u',
         "llama.attention.head_count",
         3,
         "",
         {"kv is 2", "3"}},
        {0, "llama.attention.head_count_kv", 'u', "llama.attention.head_count_kv", 0, "", {"is 0"}},
        {0, "llama.attention.head_count_kv", '-', "", 0, "", {"attn_k.weight has shape [32, 32]"}},
        {0, "llama.attention.key_length", 'u', "llama.attention.key_length", 15, "", {"is 15"}},
        {0, "llama.attention.key_length", '-', "", 0, "", {"attn_q.weight has shape", "[32, 32]"}},
        {0, NULL, 'u', "llama.attention.value_length", 8, "", {"value_length is 8"}},
        {0, NULL, 'u', "llama.rope.dimension_count", 8, "", {"dimension_count is 8", "partial"}},
        {0, NULL, 's', "llama.rope.scaling.type", 0, "yarn", {"scaling.type is yarn", "none"}},
        {0, NULL, 'f', "llama.rope.scaling.factor", 4, "", {"scaling.factor is 4"}},
        {0, NULL, 'f', "llama.rope.scale_linear", 4, "", {"scale_linear is 4"}},
        {0, NULL, 's', "llama.rope.scale_linear", 4, "1", {"scale_linear is 1"}},
        {0, NULL, 'f', "llama.rope.scaling.attn_factor", 2, "", {"scaling.attn_factor is 2"}},
        {0, NULL, 'f', "llama.rope.freq_base_swa", 9, "", {"freq_base_swa is 9", "absent"}},
        {0, "llama.rope.freq_base", 'f', "llama.rope.freq_base", 0, "", {"freq_base is 0"}},
        {0, "llama.rope.freq_base", 'f', "llama.rope.freq_base", -1, "", {"freq_base is -1"}},
        {0,
         "llama.rope.freq_base",
         'u',
         "llama.rope.freq_base",
         9,
         "",
         {"freq_base is 9", "float"}},
        {0, "llama.attention.layer_norm_rms_epsilon", '-', "", 0, "", {"rms_epsilon is missing"}},
        {0,
         "llama.attention.layer_norm_rms_epsilon",
         'f',
         "llama.attention.layer_norm_rms_epsilon",
         2,
         "",
         {"rms_epsilon is 2"}},
        {0, NULL, 's', "llama.attention.sliding_window", 0, "4096", {"sliding_window is 4096"}},
        {0, NULL, 'u', "llama.attention.sliding_window", 4294967295, "", {"window is 4294967295"}},
        {0, NULL, 'u', "llama.attention.sliding_window_pattern", 4, "", {"pattern is 4", "mixed"}},
        {0, NULL, 'b', "llama.attention.causal", 0, "", {"causal is false", "true"}},
        {0, NULL, 'f', "llama.attention.scale", 0.5, "", {"attention.scale is 0.5"}},
        {0, NULL, 'f', "llama.logit_scale", 0.5, "", {"logit_scale is 0.5"}},
        {0, NULL, 'u', "llama.expert_count", 4, "", {"llama.expert_used_count is missing"}},
        {3, "llama.expert_used_count", '-', "", 0, "", {"llama.expert_used_count is missing"}},
        {3, "llama.expert_used_count", 'u', "llama.expert_used_count", 4, "", {"is 4", "1 to 3"}},
        {3, "llama.expert_used_count", 'u', "llama.expert_used_count", 0, "", {"is 0"}},
        {3, "llama.expert_count", 'u', "llama.expert_count", 4, "", {"[3, 32]", "[4, 32]"}},
        {3, "llama.expert_count", 'u', "llama.expert_count", 99999, "", {"expert_count is 99999"}},
        {3, "llama.expert_count", '-', "", 0, "", {"blk.0.ffn_gate.weight is missing"}},
        {3, NULL, 'u', "llama.expert_shared_count", 1, "", {"expert_shared_count is 1"}},
        {3, NULL, 'u', "llama.expert_gating_func", 2, "", {"expert_gating_func is 2", "softmax"}},
        {3, NULL, 'f', "llama.expert_weights_scale", 2.5, "", {"expert_weights_scale is 2.5"}},
        {3, NULL, 'b', "llama.expert_weights_norm", 0, "", {"expert_weights_norm is false"}},
        {0, "llama.vocab_size", 'u', "llama.vocab_size", 0, "", {"llama.vocab_size is 0"}},
        {0, "llama.vocab_size", 'u', "llama.vocab_size", 9, "", {"[8, 32]", "[9, 32]"}},
        {0,
         "tokenizer.ggml.bos_token_id",
         'u',
         "tokenizer.ggml.bos_token_id",
         8,
         "",
         {"is 8", "7"}},
        {0,
         "tokenizer.ggml.eos_token_id",
         'u',
         "tokenizer.ggml.eos_token_id",
         8,
         "",
         {"is 8", "7"}},
        {0, NULL, 'u', "tokenizer.ggml.eot_token_id", 4294967295, "", {"eot_token_id is 429496"}},
        {0, NULL, 'u', "llama.block_count", 1, "", {"key llama.block_count is there twice"}},
        {0, NULL, 'u', "general.alignment", 0, "", {"general.alignment is 0", "power of two"}},
        {0, NULL, 'u', "general.alignment", 24, "", {"general.alignment is 24", "power of two"}},
        {0, NULL, 'u', "general.alignment", 2147483648, "", {"alignment is 2147483648"}},
        {0, NULL, 's', "general.alignment", 0, "32", {"general.alignment is 0 (value type 8)"}},
        {0, NULL, 's', "general.name", 0, "\xff\xfe", {"general.name is not UTF-8"}},
        {0, NULL, 's', "llama.\xc3\xa9", 0, "x", {"a key holds byte 0xc3", "printable ASCII"}},
        {0, NULL, 's', "llama.\n", 0, "x", {"a key holds byte 0x0a"}},
        {0, NULL, 's', "", 0, "x", {"a key has 0 bytes"}},
    };
    const char *path = tiny_path(folder, "bad.gguf");
    for (size_t i = 0; i < COUNT(cases); ++i) {
        gguf_writer *writer = gguf_model(cases[i].experts);
        if (cases[i].drop)
            gguf_drop(writer, cases[i].drop);
        if (cases[i].kind == 'u')
            gguf_add_u32(writer, cases[i].key, (uint32_t)cases[i].number);
        else if (cases[i].kind == 'f')
            gguf_add_f32(writer, cases[i].key, (float)cases[i].number);
        else if (cases[i].kind == 'b')
            gguf_add_bool(writer, cases[i].key, cases[i].number != 0);
        else if (cases[i].kind == 's')
            gguf_add_string(writer, cases[i].key, cases[i].text);
        gguf_write(writer, path);
        gguf_writer_free(writer);
        check_refusal(path, cases[i].words, COUNT(cases[i].words));
        refused(path, "bad.gguf: ");
    }
}

/* Values whose bytes are wrong: unknown types, arrays too long, too deep, of unknown things. */
static void gguf_values(void **state) {
    (void)state;
#define ARRAY_OF(type, count) type "\0\0\0" count
#define COUNT_1               "\1\0\0\0\0\0\0\0"
#define NESTED                ARRAY_OF("\11", COUNT_1)
    static const struct {
        uint32_t type;
        const char *bytes;
        size_t n;
        const char *words[3];
    } cases[] = {
        {13, "\0", 1, {"key x has value type 13", "0 to 12"}},
        {0xffffffff, "\0", 1, {"value type 4294967295"}},
        {7, "\2", 1, {"key x is bool 2", "0 or 1"}},
        {8, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, {"key x", "18446744073709551615 bytes", "ends"}},
        {8, "\0\0\0\0\0\0\0\x80", 8, {"9223372036854775808 bytes"}},
        {8, "\0\0\0\0\1\0\0\0", 8, {"4294967296 bytes"}},
        {9, ARRAY_OF("\15", COUNT_1), 12, {"key x has value type 13"}},
        {9, ARRAY_OF("\0", "\xff\xff\xff\xff\xff\xff\xff\xff"), 12, {"18446744073709551615 bytes"}},
        {9, ARRAY_OF("\4", "\1\0\0\0\0\0\0\x40"), 12, {"key x at byte", "18446744073709551615"}},
        {9, ARRAY_OF("\14", "\0\0\0\0\0\0\0\x20"), 12, {"key x at byte", "18446744073709551615"}},
        {9, ARRAY_OF("\10", "\xff\xff\xff\xff\xff\xff\xff\x7f"), 12, {"key x at byte", "ends"}},
        {9, NESTED NESTED NESTED NESTED NESTED, 60, {"key x nests arrays 5 deep", "at most 4"}},
    };
    const char *path = tiny_path(folder, "bad.gguf");
    for (size_t i = 0; i < COUNT(cases); ++i) {
        gguf_writer *writer = gguf_model(0);
        gguf_add_raw(writer, "x", cases[i].type, cases[i].bytes, cases[i].n);
        gguf_write(writer, path);
        gguf_writer_free(writer);
        check_refusal(path, cases[i].words, COUNT(cases[i].words));
    }
    /* arrays where numbers are wanted */
    gguf_writer *writer = gguf_model(0);
    gguf_drop(writer, "llama.attention.head_count_kv");
    gguf_add_i32s(writer, "llama.attention.head_count_kv", (const int32_t[]){2, 2}, 2);
    gguf_write(writer, path);
    refused(path, "head_count_kv is an array of 2 values", "block_count is 1");
    gguf_drop(writer, "llama.attention.head_count_kv");
    gguf_add_i32s(writer, "llama.attention.head_count_kv", (const int32_t[]){0}, 0);
    gguf_write(writer, path);
    refused(path, "head_count_kv is an array of 0 values");
    gguf_drop(writer, "llama.attention.head_count_kv");
    gguf_add_f32s(writer, "llama.attention.head_count_kv", (const float[]){2}, 1);
    gguf_write(writer, path);
    refused(path, "head_count_kv is an array of 1 values", "array of integers");
    gguf_drop(writer, "llama.attention.head_count_kv");
    gguf_add_raw(writer, "llama.attention.head_count_kv", 10, "\0\0\0\0\0\0\0\x80", 8);
    gguf_write(writer, path);
    refused(path, "head_count_kv is 9223372036854775808", "an integer");
    gguf_drop(writer, "llama.attention.head_count_kv");
    gguf_add_raw(writer, "llama.attention.head_count_kv", 11, "\xff\xff\xff\xff\xff\xff\xff\xff",
                 8);
    gguf_write(writer, path);
    refused(path, "head_count_kv is -1", "1 to");
    gguf_writer_free(writer);
}

/* Layers that differ: the key, the first layer that does, and both values; a file of three layers
 * whose arrays repeat one number is the model that the number says (test_formats). */
static void gguf_uneven_layers(void **state) {
    (void)state;
    static const struct {
        const char *key;
        int32_t values[3];
        const char *words[3];
    } cases[] = {
        {"llama.attention.head_count", {4, 4, 2}, {"head_count is 4 in layer 0 and 2 in layer 2"}},
        {"llama.attention.head_count_kv",
         {2, 4, 4},
         {"head_count_kv is 2 in layer 0 and 4 in layer 1", "the same number in every layer"}},
        {"llama.attention.head_count_kv",
         {2, 0, 2},
         {"head_count_kv is 2 in layer 0 and 0 in layer 1"}},
        {"llama.feed_forward_length",
         {64, 64, 96},
         {"feed_forward_length is 64 in layer 0 and 96 in layer 2"}},
        {"llama.attention.head_count_kv",
         {-1, -1, -1},
         {"llama.attention.head_count_kv is -1", "1 to"}},
    };
    const char *path = tiny_path(folder, "bad.gguf");
    anemo_hparams h = tiny_hparams(0);
    h.layers = 3;
    for (size_t i = 0; i < COUNT(cases); ++i) {
        gguf_writer *writer = tiny_gguf(&h, ANEMO_NAMING_GGUF, ANEMO_GGML_F32);
        gguf_drop(writer, cases[i].key);
        gguf_add_i32s(writer, cases[i].key, cases[i].values, 3);
        gguf_write(writer, path);
        gguf_writer_free(writer);
        check_refusal(path, cases[i].words, COUNT(cases[i].words));
        refused(path, "bad.gguf: ");
    }
}

static void gguf_tensors(void **state) {
    (void)state;
    enum { NAME, RANK, TYPE, SIZE, OFFSET };
    static const struct {
        int field, index;
        uint64_t value;
        const char *words[3];
    } cases[] = {
        {RANK, 0, 0, {"tensor output_norm.weight has 0 dimensions", "1 to 4"}},
        {RANK, 0, 5, {"has 5 dimensions"}},
        {RANK, 0, 4294967295, {"has 4294967295 dimensions"}},
        {TYPE, 0, 1000, {"element type 1000, which is unknown", "Q4_0"}},
        {TYPE, 0, 4, {"element type 4"}},
        {TYPE, 0, 24, {"has type I8, which is not supported", "F32, F16, BF16"}},
        {TYPE, 0, 8, {"has type Q8_0, which is not supported"}},
        {TYPE, 0, 14, {"rows of 32 values", "multiples of 256 in Q6_K"}},
        {TYPE, 0, 28, {"overlaps tensor"}},
        {SIZE, 0, 31, {"has shape [31]", "[32] (hidden size)"}},
        {SIZE, 0, 0, {"has size 0 in dimension 0"}},
        {SIZE, 0, UINT64_MAX, {"has size 18446744073709551615"}},
        {SIZE, 0, UINT64_C(1) << 62, {"offset", "accepted: an end within"}},
        {SIZE, 0, 1 << 20, {"4194304 bytes", "data bytes of the file"}},
        {OFFSET, 0, 1, {"offset 1;", "multiples of general.alignment = 32"}},
        {OFFSET, 0, 0, {"overlaps tensor"}},
        {OFFSET, 0, UINT64_MAX - 31, {"has offset 18446744073709551584"}},
        {OFFSET, 0, UINT64_C(1) << 40, {"has offset 1099511627776 and 128 bytes"}},
    };
    const char *path = tiny_path(folder, "bad.gguf");
    for (size_t i = 0; i < COUNT(cases); ++i) {
        gguf_writer *writer = gguf_model(0);
        gguf_tensor_fields *fields = gguf_tensor(writer, "output_norm.weight");
        if (cases[i].field == RANK)
            fields->rank = (uint32_t)cases[i].value;
        else if (cases[i].field == TYPE)
            fields->type = (uint32_t)cases[i].value;
        else if (cases[i].field == SIZE)
            fields->sizes[cases[i].index] = cases[i].value;
        else
            fields->offset = cases[i].value;
        gguf_write(writer, path);
        gguf_writer_free(writer);
        check_refusal(path, cases[i].words, COUNT(cases[i].words));
        refused(path, "bad.gguf: ");
    }
    /* sizes whose product overflows */
    gguf_writer *writer = gguf_model(0);
    gguf_tensor_fields *fields = gguf_tensor(writer, "blk.0.attn_q.weight");
    fields->sizes[0] = fields->sizes[1] = UINT64_C(1) << 32;
    gguf_write(writer, path);
    refused(path, "blk.0.attn_q.weight has size 4294967296 in dimension 1", "below 2^63");
    fields->sizes[0] = 64;
    fields->sizes[1] = 32; /* [64, 32] in GGUF order is [32, 64] */
    gguf_write(writer, path);
    refused(path, "blk.0.attn_q.weight has shape [32, 64]; accepted: [64, 32]");
    fields->sizes[0] = 32;
    fields->sizes[1] = 64;
    /* names */
    strcpy(fields->name, "output_norm.weight");
    gguf_write(writer, path);
    refused(path, "tensor output_norm.weight is there twice");
    strcpy(fields->name, "");
    gguf_write(writer, path);
    refused(path, "a tensor name has 0 bytes", "1 to 64");
    memset(fields->name, 'x', 65);
    fields->name[65] = '\0';
    gguf_write(writer, path);
    refused(path, "a tensor name has 65 bytes");
    strcpy(fields->name, "blk.0.attn_\xff");
    gguf_write(writer, path);
    refused(path, "a tensor name holds byte 0xff");
    strcpy(fields->name, "rope_freqs.weight");
    gguf_write(writer, path);
    refused(path, "tensor blk.0.attn_q.weight is missing");
    strcpy(fields->name, "blk.0.attn_q.weight");
    gguf_add_tensor(writer, "rope_freqs.weight", 0, 1, (const uint64_t[]){1}, "\0\0\0", 4);
    gguf_write(writer, path);
    refused(path, "tensor rope_freqs.weight has shape [1]; accepted: [8] (head_dim / 2)");
    gguf_writer_free(writer);
}

static void gguf_heads(void **state) {
    (void)state;
    static const struct {
        size_t at;
        const char *bytes;
        size_t n;
        const char *words[2];
    } cases[] = {
        {0, "GGML", 4, {"magic is 47 47 4d 4c", "47 47 55 46"}},
        {0, "FUGG", 4, {"magic is 46 55 47 47"}},
        {4, "\1\0\0\0", 4, {"version is 1;", "2 and 3"}},
        {4, "\4\0\0\0", 4, {"version is 4;"}},
        {4, "\0\0\0\0", 4, {"version is 0;"}},
        {4, "\0\0\0\3", 4, {"version is 50331648 (a big-endian file)"}},
        {8, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, {"number of tensors is 18446744073709551615"}},
        {8, "\0\0\0\1\0\0\0\0", 8, {"number of tensors is 16777216", "the rest of the file"}},
        {8, "\0\0\0\0\0\0\0\0", 8, {"tensor token_embd.weight is missing"}},
        {16, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, {"number of keys is 18446744073709551615"}},
        {16, "\0\0\0\0\1\0\0\0", 8, {"number of keys is 4294967296"}},
        {24, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, {"key at byte 32 takes 18446744073709551615"}},
    };
    const char *path = tiny_path(folder, "bad.gguf");
    gguf_writer *writer = gguf_model(0);
    size_t bytes;
    uint8_t *right = gguf_image(writer, &bytes);
    gguf_writer_free(writer);
    for (size_t i = 0; i < COUNT(cases); ++i) {
        uint8_t *wrong = malloc(bytes);
        memcpy(wrong, right, bytes);
        memcpy(wrong + cases[i].at, cases[i].bytes, cases[i].n);
        rewrite(path, wrong, bytes);
        check_refusal(path, cases[i].words, COUNT(cases[i].words));
        refused(path, "bad.gguf: ");
        free(wrong);
    }
    /* a file that is long enough (sparse), so that only the absolute limit speaks */
    rewrite(path, "GGUF\3\0\0\0\1\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0", 24);
    assert_int_equal(truncate(path, (off_t)1 << 36), 0);
    refused(path, "number of keys is 16777216", "at most 1000000");
    right[4] = 2; /* the same widths: read */
    rewrite(path, right, bytes);
    assert_true(open_and_read(path));
    for (size_t n = 0; n < bytes; n += n < 4096 ? 1 : 97) {
        rewrite(path, right, n);
        refused(path, "bad.gguf: ");
    }
    free(right);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        bad_file_test(gguf_keys),    bad_file_test(gguf_values), bad_file_test(gguf_uneven_layers),
        bad_file_test(gguf_tensors), bad_file_test(gguf_heads),
    };
    return cmocka_run_group_tests_name("bad GGUF files", tests, NULL, NULL);
}
