/* Files that are right: every container, type and architecture is read to the last value.
 *
 * Three witnesses that know nothing of the readers: the writers in support/, whose values are
 * known; files made by transformers and the `gguf` package (tests/data/models); and that package's
 * quantisers (tests/data/requantise.bin). */
#include "tests/support/asserts.h"
#include "tests/support/run_program.h"
#include "tests/support/tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define COUNT(array) (sizeof(array) / sizeof *(array))
#define MODELS       ANEMO_TEST_DIR "/data/models/"

static char *folder;
static anemo_error error;

static int set_up(void **state) {
    (void)state;
    folder = test_folder_create();
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    test_folder_remove(folder);
    return 0;
}

static anemo_checkpoint *open_model(const char *path) {
    anemo_checkpoint *checkpoint = NULL;
    error.text[0] = '\0';
    if (anemo_checkpoint_open(path, &checkpoint, &error) != ANEMO_OK)
        fail_msg("%s", error.text);
    return checkpoint;
}

/* A matrix as floats, malloc'ed: vectors too. */
static float *read_matrix(const anemo_checkpoint *checkpoint, anemo_tensor_role role, int64_t layer,
                          int64_t expert, int64_t *n, int64_t *k) {
    anemo_role_shape(anemo_checkpoint_hparams(checkpoint), role, n, k);
    float *values = malloc((size_t)(*n * *k) * sizeof *values);
    void *scratch = malloc(anemo_weight_scratch_bytes(*k));
    anemo_weight weight;
    if (anemo_roles[role].vector) {
        assert_int_equal(anemo_checkpoint_vector(checkpoint, role, layer, values, *k, &error), 0);
    } else {
        assert_int_equal(anemo_checkpoint_weight(checkpoint, role, layer, expert, &weight, &error),
                         0);
        assert_int_equal(weight.size, sizeof weight);
        assert_true(weight.n == *n && weight.k == *k);
        assert_true((double)weight.canonical_bytes ==
                    (double)*n * (double)*k * anemo_weight_type_bits(&weight.type, *k) / 8);
        for (int64_t row = 0; row < *n; ++row)
            anemo_weight_row_f32(&weight, row, values + row * *k, scratch);
    }
    free(scratch);
    return values;
}

typedef void visit(const anemo_checkpoint *checkpoint, anemo_tensor_role role, int64_t layer,
                   int64_t expert, void *context);

/* Every tensor that the architecture has. */
static void for_each_role(const anemo_checkpoint *checkpoint, visit *each, void *context) {
    const anemo_hparams *h = anemo_checkpoint_hparams(checkpoint);
    for (int role = 0; role < ANEMO_T_COUNT; ++role)
        for (int64_t layer = 0; layer < (anemo_roles[role].per_layer ? h->layers : 1); ++layer)
            for (int64_t e = 0; e < (anemo_roles[role].per_expert && h->experts ? h->experts : 1);
                 ++e)
                if (role == ANEMO_T_OUTPUT || anemo_has_role(h, (anemo_tensor_role)role))
                    each(checkpoint, role, layer, e, context);
}

/* ---------------------------------------------------------------- round trips */

typedef struct expected_file {
    uint32_t type;
    bool gguf;
} expected_file;

static void check_known_values(const anemo_checkpoint *checkpoint, anemo_tensor_role role,
                               int64_t layer, int64_t expert, void *context) {
    const expected_file *file = context;
    const bool tied = role == ANEMO_T_OUTPUT && anemo_checkpoint_hparams(checkpoint)->tied;
    const anemo_tensor_role source = tied ? ANEMO_T_EMBED : role;
    const uint32_t type = file->gguf ? tiny_gguf_type(file->type, source) : file->type;
    int64_t n, k;
    float *values = read_matrix(checkpoint, role, layer, expert, &n, &k);
    for (int64_t row = 0; row < n; ++row)
        for (int64_t column = 0; column < k; ++column) {
            const float known = tiny_value(type, source, layer, expert, row, column);
            if (values[row * k + column] != known)
                fail_msg("type %u role %d layer %d expert %d [%d, %d]: %g, not %g", type, role,
                         (int)layer, (int)expert, (int)row, (int)column,
                         (double)values[row * k + column], (double)known);
        }
    free(values);
}

static void assert_same_hparams(const anemo_hparams *a, const anemo_hparams *b) {
    assert_int_equal(a->arch, b->arch);
    assert_memory_equal(&a->vocab, &b->vocab,
                        offsetof(anemo_hparams, rms_eps) - offsetof(anemo_hparams, vocab));
    assert_true(fabs(a->rms_eps / b->rms_eps - 1) < 1e-6); /* GGUF keeps a float */
    assert_true(a->rope_theta == b->rope_theta);
    assert_int_equal(a->tied, b->tied);
    assert_int_equal(a->bos, b->bos);
    assert_int_equal(a->n_eos, b->n_eos);
    assert_memory_equal(a->eos, b->eos, (size_t)a->n_eos * sizeof *a->eos);
}

static void check_model(const char *path, const anemo_hparams *h, uint32_t type, bool gguf) {
    anemo_checkpoint *checkpoint = open_model(path);
    expected_file file = {type, gguf};
    assert_same_hparams(anemo_checkpoint_hparams(checkpoint), h);
    assert_int_equal(anemo_checkpoint_hparams(checkpoint)->rope_pairing,
                     gguf ? ANEMO_ROPE_INTERLEAVED : ANEMO_ROPE_HALF);
    assert_string_equal(anemo_checkpoint_path(checkpoint), path);
    assert_null(anemo_checkpoint_synthetic(checkpoint));
    assert_int_equal(strlen(anemo_checkpoint_identity(checkpoint)), 64);
    for_each_role(checkpoint, check_known_values, &file);
    anemo_checkpoint_close(checkpoint);
}

static void safetensors_round_trip(void **state) {
    (void)state;
    const uint32_t types[] = {ANEMO_GGML_F32, ANEMO_GGML_F16, ANEMO_GGML_BF16};
    for (size_t t = 0; t < COUNT(types); ++t)
        for (int experts = 0; experts <= 3; experts += 3)
            for (int tied = 0; tied < 2; ++tied) {
                anemo_hparams h = tiny_hparams(experts);
                h.layers = 2;
                h.tied = tied;
                h.window = tied ? 100 : 0;
                tiny_write_directory(folder, &h, types[t]);
                check_model(folder, &h, types[t], false);
            }
}

static void gguf_round_trip(void **state) {
    (void)state;
    const uint32_t types[] = {ANEMO_GGML_F32, ANEMO_GGML_F16, ANEMO_GGML_BF16, ANEMO_GGML_Q8_0,
                              ANEMO_GGML_Q4_0};
    const anemo_naming namings[] = {ANEMO_NAMING_GGUF, ANEMO_NAMING_GGUF_EXPERTS,
                                    ANEMO_NAMING_GGUF_MERGED};
    const char *path = tiny_path(folder, "tiny.gguf");
    for (size_t t = 0; t < COUNT(types); ++t)
        for (size_t n = 0; n < COUNT(namings); ++n)
            for (int tied = 0; tied < 2; ++tied) {
                anemo_hparams h = tiny_hparams(n ? 3 : 0);
                h.layers = 2;
                h.tied = tied;
                h.window = tied ? 100 : 0;
                gguf_writer *writer = tiny_gguf(&h, namings[n], types[t]);
                gguf_write(writer, path);
                gguf_writer_free(writer);
                check_model(path, &h, types[t], true);
            }
}

/* Two shards, each with every second tensor, and an index. */
static void sharded_round_trip(void **state) {
    (void)state;
    const anemo_hparams h = tiny_hparams(3);
    safetensors_writer *whole = tiny_safetensors(&h, ANEMO_GGML_BF16);
    json_t *header = json_loads(safetensors_header(whole), 0, NULL), *tensor, *map = json_object();
    safetensors_writer *shards[2] = {safetensors_writer_create(), safetensors_writer_create()};
    const char *files[2] = {"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"};
    const char *name;
    int i = 0;
    json_object_foreach(header, name, tensor) {
        size_t bytes;
        const uint8_t *data = safetensors_data(whole, &bytes);
        const json_t *shape = json_object_get(tensor, "shape");
        const json_t *at = json_object_get(tensor, "data_offsets");
        const size_t begin = (size_t)json_integer_value(json_array_get(at, 0));
        const size_t end = (size_t)json_integer_value(json_array_get(at, 1));
        const int64_t sizes[2] = {json_integer_value(json_array_get(shape, 0)),
                                  json_integer_value(json_array_get(shape, 1))};
        safetensors_add(shards[i], name, "BF16", (int)json_array_size(shape), sizes, data + begin,
                        end - begin);
        json_object_set_new(map, name, json_string(files[i]));
        i = !i;
    }
    tiny_write_directory(folder, &h, ANEMO_GGML_BF16);
    remove(tiny_path(folder, "model.safetensors"));
    for (i = 0; i < 2; ++i) {
        safetensors_write(shards[i], tiny_path(folder, files[i]));
        safetensors_writer_free(shards[i]);
    }
    json_t *index = json_pack("{s:{s:i},s:o}", "metadata", "total_size", 12345, "weight_map", map);
    json_dump_file(index, tiny_path(folder, "model.safetensors.index.json"), 0);
    json_decref(index);
    json_decref(header);
    safetensors_writer_free(whole);
    check_model(folder, &h, ANEMO_GGML_BF16, false);
}

/* ---------------------------------------------------------------- files of other programs */

/* Row of a q or k matrix in GGUF order -> its row in the Hugging Face file: pairs (2i, 2i + 1) of a
 * head become (i, i + half). */
static int64_t half_split_row(anemo_tensor_role role, int64_t row, int64_t head_dim) {
    if (role != ANEMO_T_Q && role != ANEMO_T_K)
        return row;
    const int64_t i = row % head_dim;
    return row - i + i / 2 + i % 2 * (head_dim / 2);
}

static void check_against_directory(const anemo_checkpoint *gguf, anemo_tensor_role role,
                                    int64_t layer, int64_t expert, void *context) {
    int64_t n, k;
    float *a = read_matrix(gguf, role, layer, expert, &n, &k);
    float *b = read_matrix(context, role, layer, expert, &n, &k);
    const int64_t head_dim = anemo_checkpoint_hparams(gguf)->head_dim;
    for (int64_t row = 0; row < n; ++row)
        assert_memory_equal(a + row * k, b + half_split_row(role, row, head_dim) * k,
                            (size_t)k * sizeof *a);
    free(a);
    free(b);
}

static void check_requantised(const anemo_checkpoint *gguf, anemo_tensor_role role, int64_t layer,
                              int64_t expert, void *context) {
    anemo_weight stored, original, made;
    void *storage;
    if (anemo_roles[role].vector || role == ANEMO_T_ROUTER)
        return;
    assert_int_equal(anemo_checkpoint_weight(gguf, role, layer, expert, &stored, &error), 0);
    assert_int_equal(anemo_checkpoint_weight(context, role, layer, expert, &original, &error), 0);
    const char *type = stored.type.bits == 8 ? "q8_0" : "q4_0";
    assert_int_equal(anemo_requantise(&original, type, &made, &storage, &error), 0);
    assert_memory_equal(&made.type, &stored.type, sizeof made.type);
    assert_int_equal(made.canonical_bytes, stored.canonical_bytes);
    const size_t row_bytes = made.canonical_bytes / (size_t)made.n;
    const int64_t head_dim = anemo_checkpoint_hparams(gguf)->head_dim;
    for (int64_t row = 0; row < made.n; ++row)
        assert_memory_equal((const uint8_t *)stored.data + (size_t)row * row_bytes,
                            (uint8_t *)storage +
                                (size_t)half_split_row(role, row, head_dim) * row_bytes,
                            row_bytes);
    free(storage);
}

/* Directory (transformers) and GGUF (gguf package) hold the same model, and requantising the
 * directory gives the quantised GGUF bit by bit. */
static void files_of_other_programs(void **state) {
    (void)state;
    static const char *const models[][4] = {
        {MODELS "mistral-full", "/model-f32.gguf", "/model-q8_0.gguf", "/model-q4_0.gguf"},
        {MODELS "mistral-window", "/model-f16.gguf", "/model-q8_0.gguf", "/model-q4_0.gguf"},
        {MODELS "mixtral-window", "/model-bf16.gguf", "/model-q8_0.gguf", "/model-q4_0.gguf"},
    };
    for (size_t m = 0; m < COUNT(models); ++m) {
        anemo_checkpoint *directory = open_model(models[m][0]);
        for (int form = 1; form < 4; ++form) {
            char path[600];
            snprintf(path, sizeof path, "%s%s", models[m][0], models[m][form]);
            anemo_checkpoint *gguf = open_model(path);
            assert_same_hparams(anemo_checkpoint_hparams(gguf),
                                anemo_checkpoint_hparams(directory));
            for_each_role(gguf, form == 1 ? check_against_directory : check_requantised, directory);
            anemo_checkpoint_close(gguf);
        }
        anemo_checkpoint_close(directory);
    }
}

/* ---------------------------------------------------------------- config.json */

typedef struct config_case {
    const char *edits; /* JSON object merged into the tiny config */
    const char *drop;  /* then a key to remove, or NULL */
    int64_t window, kv_heads, head_dim;
    double theta;
    int32_t bos, n_eos, last_eos;
} config_case;

static void config_forms(void **state) {
    (void)state;
    static const config_case cases[] = {
        {"{}", NULL, 0, 2, 16, 1e4, 1, 1, 2},
        {"{\"sliding_window\":null}", NULL, 0, 2, 16, 1e4, 1, 1, 2},
        {"{\"sliding_window\":7}", NULL, 7, 2, 16, 1e4, 1, 1, 2},
        {"{}", "sliding_window", 4096, 2, 16, 1e4, 1, 1, 2}, /* MistralConfig's default */
        {"{\"model_type\":\"llama\"}", "sliding_window", 0, 2, 16, 1e4, 1, 1, 2},
        {"{\"model_type\":\"llama\",\"num_key_value_heads\":2}", NULL, 0, 2, 16, 1e4, 1, 1, 2},
        {"{\"rope_theta\":1000000}", NULL, 0, 2, 16, 1e6, 1, 1, 2},
        {"{\"rope_parameters\":{\"rope_theta\":5e5,\"rope_type\":\"default\"}}", "rope_theta", 0, 2,
         16, 5e5, 1, 1, 2},
        {"{\"rope_scaling\":null}", NULL, 0, 2, 16, 1e4, 1, 1, 2},
        {"{\"rope_scaling\":{\"type\":\"default\"}}", NULL, 0, 2, 16, 1e4, 1, 1, 2},
        {"{\"head_dim\":null,\"hidden_size\":64}", NULL, 0, 2, 16, 1e4, 1, 1, 2},
        {"{\"hidden_size\":64}", "head_dim", 0, 2, 16, 1e4, 1, 1, 2},
        {"{\"eos_token_id\":[2,5,7]}", NULL, 0, 2, 16, 1e4, 1, 3, 7},
        {"{\"eos_token_id\":null,\"bos_token_id\":null}", NULL, 0, 2, 16, 1e4, -1, 0, 0},
        {"{\"layer_types\":[\"full_attention\"]}", NULL, 0, 2, 16, 1e4, 1, 1, 2},
        {"{\"layer_types\":[\"sliding_attention\"],\"sliding_window\":9}", NULL, 9, 2, 16, 1e4, 1,
         1, 2},
        {"{\"hidden_act\":\"silu\",\"quantization_config\":null}", NULL, 0, 2, 16, 1e4, 1, 1, 2},
    };
    const anemo_hparams tiny = tiny_hparams(0);
    for (size_t i = 0; i < COUNT(cases); ++i) {
        const config_case *c = &cases[i];
        char *text = tiny_config(&tiny);
        json_t *config = json_loads(text, 0, NULL), *edits = json_loads(c->edits, 0, NULL);
        json_object_update(config, edits);
        if (c->drop)
            assert_int_equal(json_object_del(config, c->drop), 0);
        char *edited = json_dumps(config, 0);
        anemo_hparams h;
        if (anemo_hf_config("config.json", edited, strlen(edited), &h, &error) != ANEMO_OK)
            fail_msg("case %zu: %s", i, error.text);
        assert_int_equal(h.window, c->window);
        assert_int_equal(h.kv_heads, c->kv_heads);
        assert_int_equal(h.head_dim, c->head_dim);
        assert_true(h.rope_theta == c->theta);
        assert_int_equal(h.bos, c->bos);
        assert_int_equal(h.n_eos, c->n_eos);
        if (h.n_eos)
            assert_int_equal(h.eos[h.n_eos - 1], c->last_eos);
        free(edited);
        json_decref(edits);
        json_decref(config);
        free(text);
    }
}

/* The real config and index of Mistral 7B Instruct v0.3, where the test data is. */
static void published_config(void **state) {
    (void)state;
    const char *data = getenv("ANEMO_TEST_DATA");
    char path[700];
    snprintf(path, sizeof path, "%s/checkpoints/mistral-7b-instruct-v0.3/config.json",
             data ? data : ANEMO_TEST_DIR "/../../shared/data");
    size_t bytes;
    char *text = test_read_file(path, &bytes);
    if (!text)
        skip();
    anemo_hparams h;
    assert_int_equal(anemo_hf_config(path, text, bytes, &h, &error), ANEMO_OK);
    assert_true(h.vocab == 32768 && h.d == 4096 && h.ffn == 14336 && h.layers == 32);
    assert_true(h.heads == 32 && h.kv_heads == 8 && h.head_dim == 128 && h.window == 0);
    assert_true(h.rope_theta == 1e6 && h.rms_eps == 1e-5 && h.context_max == 32768 && !h.tied);
    free(text);
    anemo_shard_index index;
    strcpy(strrchr(path, '/'), "/model.safetensors.index.json");
    text = test_read_file(path, &bytes);
    assert_non_null(text);
    assert_int_equal(anemo_shard_index_parse(path, text, bytes, &index, &error), ANEMO_OK);
    assert_int_equal(index.n, 3);
    assert_string_equal(index.names[2], "model-00003-of-00003.safetensors");
    anemo_shard_index_free(&index);
    free(text);
}

/* ---------------------------------------------------------------- GGUF keys */

static anemo_checkpoint *open_gguf(gguf_writer *writer) {
    const char *path = tiny_path(folder, "keys.gguf");
    gguf_write(writer, path);
    gguf_writer_free(writer);
    return open_model(path);
}

static gguf_writer *plain_gguf(void) {
    const anemo_hparams h = tiny_hparams(0);
    return tiny_gguf(&h, ANEMO_NAMING_GGUF, ANEMO_GGML_F32);
}

static void gguf_key_forms(void **state) {
    (void)state;
    const int32_t kv[1] = {2};
    gguf_writer *writer = plain_gguf();
    gguf_drop(writer, "llama.attention.head_count_kv");
    gguf_add_i32s(writer, "llama.attention.head_count_kv", kv, 1); /* one per layer */
    gguf_drop(writer, "llama.rope.freq_base");
    gguf_drop(writer, "llama.vocab_size");
    gguf_drop(writer, "llama.block_count");
    gguf_add_raw(writer, "llama.block_count", 10, "\1\0\0\0\0\0\0\0", 8); /* u64 */
    gguf_add_u32(writer, "tokenizer.ggml.eot_token_id", 5);
    gguf_add_u32(writer, "split.count", 0);
    gguf_add_string(writer, "llama.rope.scaling.type", "none");
    /* nested arrays that nobody asked for: [[1, 2], ["a"]] */
    gguf_add_raw(writer, "anemo.nested", 9,
                 "\11\0\0\0\2\0\0\0\0\0\0\0"
                 "\0\0\0\0\2\0\0\0\0\0\0\0\1\2"
                 "\10\0\0\0\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0a",
                 47);
    anemo_checkpoint *checkpoint = open_gguf(writer);
    const anemo_hparams *h = anemo_checkpoint_hparams(checkpoint);
    assert_int_equal(h->kv_heads, 2);
    assert_true(h->rope_theta == 10000);
    assert_int_equal(h->vocab, 8);
    assert_int_equal(h->layers, 1);
    assert_int_equal(h->n_eos, 2);
    assert_int_equal(h->eos[1], 5);
    anemo_checkpoint_close(checkpoint);
}

/* Arrays with one number per layer, in the element types that writers use: read as that number. */
static void gguf_even_layers(void **state) {
    (void)state;
    anemo_hparams h = tiny_hparams(0);
    h.layers = 3;
    gguf_writer *writer = tiny_gguf(&h, ANEMO_NAMING_GGUF, ANEMO_GGML_F32);
    gguf_drop(writer, "llama.attention.head_count");
    gguf_add_i32s(writer, "llama.attention.head_count", (const int32_t[]){4, 4, 4}, 3);
    gguf_drop(writer, "llama.attention.head_count_kv");
    gguf_add_raw(writer, "llama.attention.head_count_kv", 9, /* u8 */
                 "\0\0\0\0\3\0\0\0\0\0\0\0\2\2\2", 15);
    gguf_drop(writer, "llama.feed_forward_length");
    gguf_add_raw(writer, "llama.feed_forward_length", 9, /* u64 */
                 "\12\0\0\0\3\0\0\0\0\0\0\0\100\0\0\0\0\0\0\0\100\0\0\0\0\0\0\0\100\0\0\0"
                 "\0\0\0\0",
                 36);
    gguf_add_u32(writer, "llama.attention.sliding_window", 4);
    gguf_add_raw(writer, "llama.attention.sliding_window_pattern", 9, /* bools: all windowed */
                 "\7\0\0\0\3\0\0\0\0\0\0\0\1\1\1", 15);
    anemo_checkpoint *checkpoint = open_gguf(writer);
    const anemo_hparams *read = anemo_checkpoint_hparams(checkpoint);
    assert_true(read->heads == 4 && read->kv_heads == 2 && read->ffn == 64);
    assert_true(read->arch == ANEMO_ARCH_MISTRAL && read->window == 4);
    assert_int_equal(anemo_full_layers(read), 0);
    anemo_checkpoint_close(checkpoint);
}

/* ---------------------------------------------------------------- tokenizer, identity, requests */

static void tokenizer_is_found(void **state) {
    (void)state;
    const anemo_hparams h = tiny_hparams(0);
    tiny_write_directory(folder, &h, ANEMO_GGML_F32);
    anemo_checkpoint *checkpoint = open_model(folder);
    assert_null(anemo_checkpoint_tokenizer_path(checkpoint, &error));
    assert_contains(error.text, folder);
    assert_contains(error.text, "tokenizer.json");
    anemo_checkpoint_close(checkpoint);

    const char *const names[] = {"tokenizer.model", "tokenizer.json"}; /* the second is preferred */
    for (size_t i = 0; i < COUNT(names); ++i) {
        test_write_file(tiny_path(folder, names[i]), "x", 1);
        checkpoint = open_model(folder);
        assert_string_equal(anemo_checkpoint_tokenizer_path(checkpoint, &error),
                            tiny_path(folder, names[i]));
        anemo_checkpoint_close(checkpoint);
    }

    checkpoint = open_gguf(plain_gguf()); /* without a vocabulary: beside it */
    assert_string_equal(anemo_checkpoint_tokenizer_path(checkpoint, &error),
                        tiny_path(folder, "tokenizer.json"));
    anemo_checkpoint_close(checkpoint);
    for (size_t i = 0; i < COUNT(names); ++i)
        remove(tiny_path(folder, names[i]));
    checkpoint = open_gguf(plain_gguf());
    assert_null(anemo_checkpoint_tokenizer_path(checkpoint, &error));
    assert_contains(error.text, "tokenizer.ggml.tokens");
    anemo_checkpoint_close(checkpoint);
    gguf_writer *writer = plain_gguf();
    gguf_add_strings(writer, "tokenizer.ggml.tokens", (const char *const[]){"a", "b"}, 2);
    checkpoint = open_gguf(writer);
    assert_string_equal(anemo_checkpoint_tokenizer_path(checkpoint, &error),
                        anemo_checkpoint_path(checkpoint));
    anemo_checkpoint_close(checkpoint);
}

static void identity_follows_headers(void **state) {
    (void)state;
    anemo_hparams h = tiny_hparams(0);
    char before[65], same[65], other[65];
    const double thetas[3] = {1e4, 1e4, 2e4};
    char *const identities[3] = {before, same, other};
    for (int i = 0; i < 3; ++i) {
        h.rope_theta = thetas[i];
        tiny_write_directory(folder, &h, ANEMO_GGML_F32);
        anemo_checkpoint *checkpoint = open_model(folder);
        strcpy(identities[i], anemo_checkpoint_identity(checkpoint));
        anemo_checkpoint_close(checkpoint);
    }
    assert_string_equal(before, same);
    assert_string_not_equal(before, other);
}

static void sha256_vectors(void **state) {
    (void)state;
    static const struct {
        const char *text;
        int times;
        const char *hex;
    } vectors[] = {
        /* FIPS 180-4 examples and the empty string */
        {"", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"aaaaaaaaaa", 100000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
    };
    for (size_t i = 0; i < COUNT(vectors); ++i) {
        anemo_sha256 sha;
        char hex[65];
        anemo_sha256_init(&sha);
        for (int t = 0; t < vectors[i].times; ++t)
            anemo_sha256_update(&sha, vectors[i].text, strlen(vectors[i].text));
        anemo_sha256_hex(&sha, hex);
        assert_string_equal(hex, vectors[i].hex);
    }
}

static void wrong_requests_are_refused(void **state) {
    (void)state;
    static const struct {
        anemo_tensor_role role;
        int64_t layer, expert;
    } wrong[] = {{ANEMO_T_COUNT, 0, 0},        {ANEMO_T_Q, -1, 0},    {ANEMO_T_Q, 2, 0},
                 {ANEMO_T_GATE, 0, 4},         {ANEMO_T_GATE, 0, -1}, {ANEMO_T_ATTN_NORM, 0, 0},
                 {(anemo_tensor_role)-1, 0, 0}};
    anemo_checkpoint *checkpoint = open_model("synth:tiny-moe:f32");
    anemo_weight weight;
    float vector[256];
    for (size_t i = 0; i < COUNT(wrong); ++i)
        assert_int_equal(anemo_checkpoint_weight(checkpoint, wrong[i].role, wrong[i].layer,
                                                 wrong[i].expert, &weight, &error),
                         ANEMO_E_INPUT);
    assert_int_equal(anemo_checkpoint_vector(checkpoint, ANEMO_T_ATTN_NORM, 0, vector, 255, &error),
                     ANEMO_E_INPUT);
    assert_int_equal(anemo_checkpoint_vector(checkpoint, ANEMO_T_Q, 0, vector, 256, &error),
                     ANEMO_E_INPUT);
    anemo_checkpoint_close(checkpoint);
    checkpoint = open_model("synth:tiny:f32");
    assert_int_equal(anemo_checkpoint_weight(checkpoint, ANEMO_T_ROUTER, 0, 0, &weight, &error),
                     ANEMO_E_INPUT);
    anemo_checkpoint_close(checkpoint);
}

/* ---------------------------------------------------------------- numbers */

static void half_precision(void **state) {
    (void)state;
    for (uint32_t bits = 0; bits < 65536; ++bits) {
        const int exponent = (int)(bits >> 10 & 31), mantissa = (int)(bits & 1023);
        const double magnitude = exponent == 0    ? ldexp(mantissa, -24)
                                 : exponent == 31 ? (mantissa ? (double)NAN : (double)INFINITY)
                                                  : ldexp(1024 + mantissa, exponent - 25);
        const float value = anemo_f16_f32((uint16_t)bits);
        if (isnan(magnitude)) {
            assert_true(isnan(value));
            assert_true(isnan(anemo_f16_f32(anemo_f32_f16(value))));
        } else {
            assert_true(value == (bits & 0x8000 ? -magnitude : magnitude));
            assert_int_equal(anemo_f32_f16(value), bits);
        }
        /* between this number and the next: below, at and above the middle */
        if (exponent == 31 || (bits & 0x7fff) == 0x7bff)
            continue;
        const float next = anemo_f16_f32((uint16_t)(bits + 1)), middle = (value + next) / 2;
        const uint16_t even = (uint16_t)(bits + (bits & 1));
        assert_int_equal(anemo_f32_f16(middle), even);
        assert_int_equal(anemo_f32_f16(nextafterf(middle, value)), bits);
        assert_int_equal(anemo_f32_f16(nextafterf(middle, next)), bits + 1);
    }
    assert_int_equal(anemo_f32_f16(65519.99f), 0x7bff);
    assert_int_equal(anemo_f32_f16(65520.0f), 0x7c00);
    assert_int_equal(anemo_f32_f16(-1e30f), 0xfc00);
}

static void requantise_golden(void **state) {
    (void)state;
    enum { ROWS = 40, K = 64 };
    size_t bytes;
    char *golden = test_read_file(ANEMO_TEST_DIR "/data/requantise.bin", &bytes);
    const size_t float_bytes = ROWS * K * sizeof(float), q8 = ROWS * 2 * 34, q4 = ROWS * 2 * 18;
    assert_non_null(golden);
    assert_int_equal(bytes, float_bytes + q8 + q4);
    anemo_weight weight, made;
    void *storage;
    anemo_ggml_weight(ANEMO_GGML_F32, golden, ROWS, K, &weight);
    assert_int_equal(anemo_requantise(&weight, "q8_0", &made, &storage, &error), ANEMO_OK);
    assert_memory_equal(storage, golden + float_bytes, q8);
    free(storage);
    assert_int_equal(anemo_requantise(&weight, "q4_0", &made, &storage, &error), ANEMO_OK);
    assert_memory_equal(storage, golden + float_bytes + q8, q4);
    free(storage);
    free(golden);
}

static void requantise_refusals(void **state) {
    (void)state;
    float values[64] = {0};
    anemo_weight weight, made;
    void *storage;
    anemo_ggml_weight(ANEMO_GGML_F32, values, 2, 32, &weight);
    assert_int_equal(anemo_requantise(&weight, "q5_0", &made, &storage, &error), ANEMO_E_INPUT);
    assert_contains(error.text, "q5_0");
    const float wrong[] = {NAN, INFINITY, -1e9f};
    for (size_t i = 0; i < COUNT(wrong); ++i) {
        values[40] = wrong[i];
        assert_int_equal(anemo_requantise(&weight, "q8_0", &made, &storage, &error), ANEMO_E_INPUT);
        assert_contains(error.text, "row 1");
        assert_int_equal(anemo_requantise(&weight, "q4_0", &made, &storage, &error), ANEMO_E_INPUT);
        assert_null(storage);
    }
    anemo_ggml_weight(ANEMO_GGML_F32, values, 1, 40, &weight);
    assert_int_equal(anemo_requantise(&weight, "q8_0", &made, &storage, &error), ANEMO_E_INPUT);
    assert_contains(error.text, "40");
}

/* ---------------------------------------------------------------- synthetic models */

/* Sums of a matrix, and that reading a row twice gives the same. */
static void synth_statistics(const anemo_weight *weight, double *mean, double *deviation) {
    const int64_t k = weight->k;
    float *row = malloc((size_t)k * sizeof *row), *again = malloc((size_t)k * sizeof *again);
    void *scratch = malloc(anemo_weight_scratch_bytes(k));
    double sum = 0, squares = 0;
    for (int64_t r = 0; r < weight->n; ++r) {
        anemo_weight_row_f32(weight, r, row, scratch);
        anemo_weight_row_f32(weight, r, again, scratch);
        assert_memory_equal(row, again, (size_t)k * sizeof *row);
        for (int64_t i = 0; i < k; ++i) {
            sum += row[i];
            squares += (double)row[i] * row[i];
        }
    }
    *mean = sum / (double)(weight->n * k);
    *deviation = sqrt(squares / (double)(weight->n * k));
    free(row);
    free(again);
    free(scratch);
}

static void synth_values(void **state) {
    (void)state;
    static const char *const types[] = {"q4_0", "q4_g128", "q8_0", "bf16", "f16", "f32"};
    for (size_t t = 0; t < COUNT(types); ++t) {
        char uri[64];
        anemo_weight weight;
        double mean, deviation;
        snprintf(uri, sizeof uri, "synth:tiny-moe:%s", types[t]);
        anemo_checkpoint *checkpoint = open_model(uri);
        assert_non_null(anemo_checkpoint_synthetic(checkpoint));
        assert_string_equal(anemo_checkpoint_identity(checkpoint), "");
        assert_null(anemo_checkpoint_tokenizer_path(checkpoint, &error));
        for (int role = 0; role < ANEMO_T_COUNT; ++role) {
            if (anemo_roles[role].vector)
                continue;
            assert_int_equal(anemo_checkpoint_weight(checkpoint, role, 1, 3, &weight, &error),
                             ANEMO_OK);
            synth_statistics(&weight, &mean, &deviation);
            const double expected = role == ANEMO_T_EMBED ? 1 : 1 / sqrt((double)weight.k);
            const double standard_error = expected / sqrt((double)(weight.n * weight.k));
            assert_true(fabs(mean) < 5 * standard_error);
            assert_true(deviation > 0.7 * expected && deviation < 1.42 * expected);
            if (weight.type.bits <= 8)
                assert_true(fabs(deviation / expected - 1) < 0.02);
        }
        anemo_checkpoint_close(checkpoint);
    }
}

/* Every (role, layer, expert, row) is another stream; the same in another checkpoint. */
static void synth_streams_differ(void **state) {
    (void)state;
    anemo_checkpoint *a = open_model("synth:tiny-moe:q4_0"), *b = open_model("synth:tiny-moe:q4_0");
    static const struct {
        anemo_tensor_role role;
        int64_t layer, expert, row;
    } places[] = {{ANEMO_T_GATE, 0, 0, 0}, {ANEMO_T_GATE, 0, 0, 1}, {ANEMO_T_GATE, 0, 1, 0},
                  {ANEMO_T_GATE, 1, 0, 0}, {ANEMO_T_UP, 0, 0, 0},   {ANEMO_T_Q, 0, 0, 0}};
    uint8_t codes[COUNT(places)][256], again[256];
    float scales[8];
    for (size_t i = 0; i < COUNT(places); ++i) {
        anemo_weight weight;
        anemo_checkpoint_weight(a, places[i].role, places[i].layer, places[i].expert, &weight,
                                &error);
        weight.read_row(&weight, places[i].row, NULL, codes[i], scales, NULL);
        anemo_checkpoint_weight(b, places[i].role, places[i].layer, places[i].expert, &weight,
                                &error);
        weight.read_row(&weight, places[i].row, NULL, again, scales, NULL);
        assert_memory_equal(codes[i], again, sizeof again);
        for (size_t j = 0; j < i; ++j) {
            int equal = 0;
            for (int c = 0; c < 256; ++c)
                equal += codes[i][c] == codes[j][c];
            assert_in_range(equal, 1, 50); /* 1/16 of 256 by chance */
        }
        for (int c = 0; c < 256; ++c)
            assert_in_range(codes[i][c], 1, 15);
    }
    anemo_checkpoint_close(a);
    anemo_checkpoint_close(b);
}

static void synth_presets(void **state) {
    (void)state;
    static const struct {
        const char *uri;
        int64_t d, layers, experts;
        double billions; /* published parameter count */
    } presets[] = {{"synth:mistral-7b:q4_0", 4096, 32, 0, 7.25},
                   {"synth:codestral-22b:q8_0", 6144, 56, 0, 22.2},
                   {"synth:mixtral-8x7b:q4_g128", 4096, 32, 8, 46.7},
                   {"synth:mixtral-8x22b:bf16", 6144, 56, 8, 140.6},
                   {"synth:mixtral-8x22b:bf16:layers=3", 6144, 3, 8, 7.9},
                   {"synth:dense-1b:q4_0", 2048, 16, 0, 0.8526},
                   {"synth:moe-mini:q4_0", 2048, 8, 8, 1.624},
                   {"synth:ministral-8b:q4_0", 4096, 36, 0, 8.02},
                   {"synth:llama-3.1-8b:q4_0", 4096, 32, 0, 8.03},
                   {"synth:qwen3-30b-a3b:q4_0", 2048, 48, 128, 30.53},
                   {"synth:gpt-oss-20b:q4_0", 2880, 24, 32, 20.91}};
    for (size_t i = 0; i < COUNT(presets); ++i) {
        anemo_checkpoint *checkpoint = open_model(presets[i].uri);
        const anemo_hparams *h = anemo_checkpoint_hparams(checkpoint);
        assert_int_equal(h->d, presets[i].d);
        assert_int_equal(h->layers, presets[i].layers);
        assert_int_equal(h->experts, presets[i].experts);
        const int64_t n_full = strstr(presets[i].uri, "ministral") ? 9
                               : strstr(presets[i].uri, "gpt-oss") ? 12
                                                                   : h->layers;
        assert_int_equal(anemo_full_layers(h), n_full);
        double parameters = 0;
        for (int role = 0; role < ANEMO_T_COUNT; ++role) {
            int64_t n, k;
            if (role != ANEMO_T_OUTPUT && !anemo_has_role(h, (anemo_tensor_role)role))
                continue;
            anemo_role_shape(h, role, &n, &k);
            parameters += (double)n * (double)k *
                          (double)(anemo_roles[role].per_layer ? h->layers : 1) *
                          (double)(anemo_roles[role].per_expert && h->experts ? h->experts : 1);
        }
        assert_true(fabs(parameters / (presets[i].billions * 1e9) - 1) < 0.01);
        anemo_checkpoint_close(checkpoint);
    }
}

static void synth_refusals(void **state) {
    (void)state;
    static const struct {
        const char *uri, *field, *value, *accepted;
    } cases[] = {
        {"synth:", "preset", "\"\"", "mixtral-8x22b"},
        {"synth:mistral-8b:q4_0", "preset", "\"mistral-8b\"", "mistral-7b"},
        {"synth:tiny", "type", "\"\"", "q4_g128"},
        {"synth:gpt-oss-20b:q4_g128", "type", "\"q4_g128\"", "groups divide"},
        {"synth:tiny:q4", "type", "\"q4\"", "q4_0"},
        {"synth:tiny:f32:layers", "option", "\"layers\"", "layers=N"},
        {"synth:tiny:f32:layers=", "layers", "\"\"", "1 to 4096"},
        {"synth:tiny:f32:layers=0", "layers", "\"0\"", "1 to 4096"},
        {"synth:tiny:f32:layers=-1", "layers", "\"-1\"", "1 to 4096"},
        {"synth:tiny:f32:layers=4097", "layers", "\"4097\"", "1 to 4096"},
        {"synth:tiny:f32:layers=99999999999999999999", "layers", "99999", "1 to 4096"},
        {"synth:tiny:f32:layers=2x", "layers", "\"2x\"", "1 to 4096"},
        {"synth:tiny:f32:layers=2:", "option", "\"\"", "layers=N"},
    };
    for (size_t i = 0; i < COUNT(cases); ++i) {
        anemo_checkpoint *checkpoint = (anemo_checkpoint *)&error;
        assert_int_equal(anemo_checkpoint_open(cases[i].uri, &checkpoint, &error), ANEMO_E_INPUT);
        assert_null(checkpoint);
        assert_contains(error.text, cases[i].uri);
        assert_contains(error.text, cases[i].field);
        assert_contains(error.text, cases[i].value);
        assert_contains(error.text, cases[i].accepted);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(safetensors_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(gguf_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(sharded_round_trip, set_up, tear_down),
        cmocka_unit_test(files_of_other_programs),
        cmocka_unit_test(config_forms),
        cmocka_unit_test(published_config),
        cmocka_unit_test_setup_teardown(gguf_key_forms, set_up, tear_down),
        cmocka_unit_test_setup_teardown(gguf_even_layers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(tokenizer_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(identity_follows_headers, set_up, tear_down),
        cmocka_unit_test(sha256_vectors),
        cmocka_unit_test(wrong_requests_are_refused),
        cmocka_unit_test(half_precision),
        cmocka_unit_test(requantise_golden),
        cmocka_unit_test(requantise_refusals),
        cmocka_unit_test(synth_values),
        cmocka_unit_test(synth_streams_differ),
        cmocka_unit_test(synth_presets),
        cmocka_unit_test(synth_refusals),
    };
    return cmocka_run_group_tests_name("formats", tests, NULL, NULL);
}
