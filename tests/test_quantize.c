/* anemo quantize: what it writes can be opened, holds what it should, and is there whole or not at
 * all. Golden models of tests/data go through both containers and back; the bytes of Q4_0 and Q8_0
 * are those of anemo_requantise (which are GGML's), those of Q4_K and Q6_K are near the source. */
#include "tests/support/bad_file.h"
#include "tests/support/run_model.h"

#include "models/engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <math.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODELS ANEMO_TEST_DIR "/data/models/"

static anemo_error error;

static const anemo_exec *threads; /* that make rows; NULL: this one */

/* fallbacks -1: however many there are. */
static void quantise(const char *in, const char *out, const char *to, int64_t fallbacks) {
    anemo_quantise_report report;
    error.text[0] = '\0';
    if (anemo_quantise_model(in, out, to, threads, NULL, NULL, &report, &error) != ANEMO_OK)
        fail_msg("%s", error.text);
    assert_true(fallbacks < 0 || report.fallbacks == fallbacks);
}

static anemo_checkpoint *open_model(const char *path) {
    anemo_checkpoint *checkpoint = NULL;
    if (anemo_checkpoint_open(path, &checkpoint, &error) != ANEMO_OK)
        fail_msg("%s", error.text);
    return checkpoint;
}

static void check_same_file(const char *a, const char *b) {
    size_t n, m;
    char *x = test_read_file(a, &n), *y = test_read_file(b, &m);
    assert_non_null(x);
    assert_non_null(y);
    assert_int_equal(n, m);
    assert_memory_equal(x, y, n);
    free(x);
    free(y);
}

static int entries(const char *path) {
    DIR *directory = opendir(path);
    int n = 0;
    assert_non_null(directory);
    for (const struct dirent *e; (e = readdir(directory));)
        n += e->d_name[0] != '.';
    closedir(directory);
    return n;
}

/* ---------------------------------------------------------------- values */

/* Row of `role` in a container of this pairing -> the half-split row. */
static int64_t hf_row(const anemo_hparams *h, anemo_tensor_role role, int64_t row) {
    if ((role != ANEMO_T_Q && role != ANEMO_T_K) || h->rope_pairing == ANEMO_ROPE_HALF)
        return row;
    const int64_t i = row % h->head_dim;
    return row - i + i / 2 + i % 2 * (h->head_dim / 2);
}

typedef struct comparison {
    const anemo_checkpoint *from, *to;
    double squares, errors; /* of all matrices that were quantised */
} comparison;

static void compare_matrix(comparison *c, anemo_tensor_role role, int64_t layer, int64_t expert) {
    const anemo_hparams *h = anemo_checkpoint_hparams(c->to);
    const anemo_hparams *hf = anemo_checkpoint_hparams(c->from);
    anemo_weight a, b;
    assert_int_equal(anemo_checkpoint_weight(c->from, role, layer, expert, &a, &error), ANEMO_OK);
    assert_int_equal(anemo_checkpoint_weight(c->to, role, layer, expert, &b, &error), ANEMO_OK);
    assert_true(a.n == b.n && a.k == b.k);
    float *x = malloc((size_t)a.k * 4), *y = malloc((size_t)a.k * 4);
    void *scratch = malloc(anemo_weight_scratch_bytes(a.k));
    const bool same_order = h->rope_pairing == hf->rope_pairing;
    for (int64_t row = 0; row < a.n; ++row) {
        anemo_weight_row_f32(&a, same_order ? row : hf_row(h, role, row), x, scratch);
        anemo_weight_row_f32(&b, row, y, scratch);
        for (int64_t i = 0; i < a.k; ++i) {
            if (role == ANEMO_T_ROUTER)
                assert_true(x[i] == y[i]);
            c->squares += role == ANEMO_T_ROUTER ? 0 : (double)x[i] * x[i];
            c->errors += ((double)x[i] - y[i]) * ((double)x[i] - y[i]);
        }
    }
    free(x);
    free(y);
    free(scratch);
}

/* Relative root mean square error of all matrices; norms must be the same. */
static double relative_error(const char *from, const char *to) {
    comparison c = {.from = open_model(from), .to = open_model(to)};
    const anemo_hparams *h = anemo_checkpoint_hparams(c.from);
    for (int role = 0; role < ANEMO_T_COUNT; ++role)
        for (int64_t layer = 0; layer < (anemo_roles[role].per_layer ? h->layers : 1); ++layer) {
            const int64_t experts = anemo_roles[role].per_expert && h->experts ? h->experts : 1;
            if (!anemo_has_role(h, (anemo_tensor_role)role))
                continue;
            if (anemo_roles[role].vector) {
                float x[1024], y[1024];
                const int64_t n = anemo_role_values(h, (anemo_tensor_role)role);
                assert_true(n <= 1024);
                anemo_checkpoint_vector(c.from, (anemo_tensor_role)role, layer, x, n, &error);
                anemo_checkpoint_vector(c.to, (anemo_tensor_role)role, layer, y, n, &error);
                assert_memory_equal(x, y, (size_t)n * 4);
                continue;
            }
            for (int64_t e = 0; e < experts; ++e)
                compare_matrix(&c, (anemo_tensor_role)role, layer, e);
        }
    anemo_checkpoint_close((anemo_checkpoint *)c.from);
    anemo_checkpoint_close((anemo_checkpoint *)c.to);
    return sqrt(c.errors / c.squares);
}

/* Three threads write the bytes that one writes. */
static void check_threads(const char *from, const char *out, const char *to) {
    char again[640];
    anemo_device *device = NULL;
    assert_int_equal(anemo_device_create_cpu(3, NULL, &device, &error), ANEMO_OK);
    const anemo_exec exec = anemo_device_exec(device);
    snprintf(again, sizeof again, "%s.again.gguf", out);
    threads = &exec;
    quantise(from, again, to, 0);
    threads = NULL;
    check_same_file(out, again);
    anemo_device_free(device);
}

/* Every target of a model with rows of 256 values: known errors, from both sides. */
static void every_target(void **state) {
    (void)state;
    static const struct {
        const char *to, *out;
        double least, most;
    } cases[] = {{"q4:g32", "a", 0.04, 0.09},     {"q4:g128", "b", 0.04, 0.1},
                 {"q8:g32", "c", 0.001, 0.006},   {"q8:row", "d", 0.001, 0.007},
                 {"q4_0", "e.gguf", 0.04, 0.09},  {"q4_k", "f.gguf", 0.03, 0.08},
                 {"q6_k", "g.gguf", 0.005, 0.02}, {"q8:g32", "h.gguf", 0.001, 0.006},
                 {"q4:g32", "i.gguf", 0.04, 0.09}};
    for (int experts = 0; experts <= 3; experts += 3) {
        anemo_hparams h = tiny_hparams(experts);
        h.d = 256, h.ffn = 256, h.heads = 4, h.head_dim = 64;
        char *folder_was = folder, from[600];
        snprintf(from, sizeof from, "%s/from%d", folder, experts);
        mkdir(from, 0777);
        tiny_write_directory(from, &h, ANEMO_GGML_F32);
        for (size_t i = 0; i < COUNT(cases); ++i) {
            char out[600];
            snprintf(out, sizeof out, "%s/%d%s", folder_was, experts, cases[i].out);
            quantise(from, out, cases[i].to, 0);
            if (strstr(out, ".gguf"))
                check_threads(from, out, cases[i].to);
            const double relative = relative_error(from, out);
            print_message("%-8s %-7s relative error %.4f\n", cases[i].to, cases[i].out, relative);
            assert_true(relative >= cases[i].least && relative <= cases[i].most);
        }
    }
}

static void compare_with_requantised(const anemo_checkpoint *from, const anemo_checkpoint *to,
                                     const char *type, anemo_tensor_role role, int64_t layer) {
    const anemo_hparams *h = anemo_checkpoint_hparams(to);
    anemo_weight original, made, stored;
    void *storage;
    assert_int_equal(anemo_checkpoint_weight(from, role, layer, 0, &original, &error), ANEMO_OK);
    assert_int_equal(anemo_checkpoint_weight(to, role, layer, 0, &stored, &error), ANEMO_OK);
    assert_int_equal(anemo_requantise(&original, type, &made, &storage, &error), ANEMO_OK);
    const size_t row_bytes = made.canonical_bytes / (size_t)made.n;
    for (int64_t row = 0; row < made.n; ++row)
        assert_memory_equal((const uint8_t *)stored.data + (size_t)row * row_bytes,
                            (const uint8_t *)made.data + (size_t)hf_row(h, role, row) * row_bytes,
                            row_bytes);
    free(storage);
}

static void ggml_bytes(void **state) {
    (void)state;
    static const struct {
        const char *to, *type, *out;
    } cases[] = {{"q4_0", "q4_0", "a.gguf"}, {"q8:g32", "q8_0", "b.gguf"}};
    for (size_t i = 0; i < COUNT(cases); ++i) {
        const char *out = tiny_path(folder, cases[i].out);
        quantise(MODELS "mistral-full", out, cases[i].to, 0);
        anemo_checkpoint *from = open_model(MODELS "mistral-full"), *to = open_model(out);
        static const anemo_tensor_role roles[] = {ANEMO_T_EMBED, ANEMO_T_OUTPUT, ANEMO_T_Q,
                                                  ANEMO_T_K,     ANEMO_T_V,      ANEMO_T_O,
                                                  ANEMO_T_GATE,  ANEMO_T_UP,     ANEMO_T_DOWN};
        for (size_t r = 0; r < COUNT(roles); ++r)
            compare_with_requantised(from, to, cases[i].type, roles[r], 0);
        anemo_checkpoint_close(from);
        anemo_checkpoint_close(to);
    }
}

/* Safetensors -> GGUF -> safetensors -> GGUF: the same bytes, code by code. The embedding is floats
 * in the first safetensors and what GGUF made of them in the second; from there nothing changes. */
static void round_trips(void **state) {
    (void)state;
    static const char *const models[] = {"mistral-full", "mistral-window", "mixtral-window"};
    static const char *const forms[][2] = {{"q4:g32", "q4_0"}, {"q8:g32", "q8:g32"}};
    for (size_t m = 0; m < COUNT(models); ++m)
        for (size_t f = 0; f < COUNT(forms); ++f) {
            char paths[5][600], files[2][650];
            for (int i = 0; i < 5; ++i)
                snprintf(paths[i], sizeof paths[i], "%s/%zu-%zu-%d%s", folder, m, f, i,
                         i % 2 ? ".gguf" : "");
            char from[600];
            snprintf(from, sizeof from, MODELS "%s", models[m]);
            quantise(from, paths[0], forms[f][0], 0);
            quantise(paths[0], paths[1], forms[f][1], 0);
            quantise(paths[1], paths[2], forms[f][0], 0);
            quantise(paths[2], paths[3], forms[f][1], 0);
            quantise(paths[3], paths[4], forms[f][0], 0);
            check_same_file(paths[1], paths[3]);
            static const char *const names[] = {"model.safetensors", "config.json"};
            for (int i = 0; i < 2; ++i) {
                snprintf(files[0], sizeof files[0], "%s/%s", paths[2], names[i]);
                snprintf(files[1], sizeof files[1], "%s/%s", paths[4], names[i]);
                check_same_file(files[0], files[1]);
            }
        }
}

/* What was made gives the logits of the requantised source. */
static void logits_are_those_of_requantising(void **state) {
    (void)state;
    const int32_t tokens[] = {1, 5, 9, 63, 0, 17, 33, 2, 5, 9, 41, 7};
    const char *out = tiny_path(folder, "out.gguf"), *back = tiny_path(folder, "back");
    quantise(MODELS "mixtral-window", out, "q4_0", 0);
    quantise(out, back, "q4:g32", 0);
    const run_case want_case = {
        .path = MODELS "mixtral-window", .requantise = "q4_0", .window = -1, .reference = true};
    run_result want = run_model(&want_case, tokens, (int64_t)COUNT(tokens));
    const char *const made[] = {out, back};
    for (int i = 0; i < 2; ++i) {
        const run_case c = {.path = made[i], .window = -1, .reference = true};
        run_result got = run_model(&c, tokens, (int64_t)COUNT(tokens));
        const int64_t n = want.n * want.vocab;
        assert_true(largest_difference(want.logits, got.logits, n) <=
                    1e-4 * standard_deviation(want.logits, n));
        run_result_free(&got);
    }
    run_result_free(&want);
}

/* Every family, from its directory (keys are made) and from its GGUF file (keys are copied, made by
 * another program): the same logits either way; vectors are the source's, matrices near them. */
static void every_family(void **state) {
    (void)state;
    static const char *const families[] = {"llama3",    "ministral", "ministral3",
                                           "qwen3-moe", "gpt-oss",   "gpt-oss-mxfp4"};
    int32_t tokens[40];
    for (int i = 0; i < 40; ++i)
        tokens[i] = 1 + i * 7 % 40;
    for (size_t f = 0; f < COUNT(families); ++f) {
        char from[600], file[700], made[600], copied[600];
        snprintf(from, sizeof from, MODELS "%s", families[f]);
        snprintf(file, sizeof file, "%s/model-bf16.gguf", from);
        snprintf(made, sizeof made, "%s/%s.gguf", folder, families[f]);
        snprintf(copied, sizeof copied, "%s/%s-copied.gguf", folder, families[f]);
        quantise(from, made, "q8:g32", -1);
        quantise(file, copied, "q8:g32", -1);
        const double relative = relative_error(from, made);
        print_message("%-15s relative error %.5f\n", families[f], relative);
        assert_true(relative < 0.006);
        const run_case of_made = {.path = made, .window = -1, .reference = true},
                       of_copied = {.path = copied, .window = -1, .reference = true};
        run_result a = run_model(&of_made, tokens, 40), b = run_model(&of_copied, tokens, 40);
        const int64_t n = a.n * a.vocab;
        assert_true(largest_difference(a.logits, b.logits, n) <=
                    1e-4 * standard_deviation(a.logits, n));
        run_result_free(&a);
        run_result_free(&b);
    }
}

/* What both say of the mathematics; GGUF has a float where config.json has digits. */
static void check_same_hparams(const char *one, const char *other) {
    anemo_checkpoint *x = open_model(one), *y = open_model(other);
    const anemo_hparams *a = anemo_checkpoint_hparams(x), *b = anemo_checkpoint_hparams(y);
    assert_int_equal(a->arch, b->arch);
    assert_memory_equal(&a->vocab, &b->vocab,
                        offsetof(anemo_hparams, rms_eps) - offsetof(anemo_hparams, vocab));
    assert_true(fabs(a->rms_eps / b->rms_eps - 1) < 1e-6 && a->rope_theta == b->rope_theta);
    assert_true(a->tied == b->tied && a->bos == b->bos && a->n_eos == b->n_eos);
    assert_memory_equal(a->eos, b->eos, (size_t)a->n_eos * sizeof *a->eos);
    assert_true(a->rope.kind == b->rope.kind && a->rope.truncate == b->rope.truncate);
    assert_true(a->rope.factor == b->rope.factor && a->rope.low == b->rope.low);
    assert_true(a->rope.high == b->rope.high);
    assert_true(a->rope.original_context == b->rope.original_context);
    assert_true(fabs(a->rope.magnitude - b->rope.magnitude) < 1e-6);
    assert_true(fabs(a->temperature - b->temperature) < 1e-7);
    assert_int_equal(a->temperature_period, b->temperature_period);
    assert_int_equal(a->raw_weights, b->raw_weights);
    assert_memory_equal(a->full_layers, b->full_layers, sizeof a->full_layers);
    anemo_checkpoint_close(x);
    anemo_checkpoint_close(y);
}

/* Largest difference of logits, in standard deviations of the first model's. */
static double logit_difference(const char *one, const char *other) {
    int32_t tokens[40];
    for (int i = 0; i < 40; ++i)
        tokens[i] = 1 + i * 7 % 40;
    const run_case x = {.path = one, .window = -1, .reference = true},
                   y = {.path = other, .window = -1, .reference = true};
    run_result a = run_model(&x, tokens, 40), b = run_model(&y, tokens, 40);
    const int64_t n = a.n * a.vocab;
    const double difference =
        largest_difference(a.logits, b.logits, n) / standard_deviation(a.logits, n);
    run_result_free(&a);
    run_result_free(&b);
    return difference;
}

static void check_holds(const char *path, const char *words) {
    size_t bytes;
    char *text = test_read_file(path, &bytes);
    assert_non_null(text);
    assert_non_null(memmem(text, bytes, words, strlen(words)));
    free(text);
}

static void check_same_folder(const char *a, const char *b, bool config) {
    static const char *const names[] = {"model.safetensors", "config.json"};
    char files[2][700];
    for (int i = 0; i < (config ? 2 : 1); ++i) {
        snprintf(files[0], sizeof files[0], "%s/%s", a, names[i]);
        snprintf(files[1], sizeof files[1], "%s/%s", b, names[i]);
        check_same_file(files[0], files[1]);
    }
}

/* Safetensors keep it, bit by bit. */
static void check_same_embedding(const char *one, const char *other) {
    anemo_checkpoint *x = open_model(one), *y = open_model(other);
    anemo_weight a, b;
    assert_int_equal(anemo_checkpoint_weight(x, ANEMO_T_EMBED, 0, 0, &a, &error), ANEMO_OK);
    assert_int_equal(anemo_checkpoint_weight(y, ANEMO_T_EMBED, 0, 0, &b, &error), ANEMO_OK);
    assert_true(a.n == b.n && a.k == b.k && a.n > 0);
    assert_memory_equal(&a.type, &b.type, sizeof a.type);
    assert_true(a.canonical_bytes == b.canonical_bytes);
    assert_memory_equal(a.data, b.data, a.canonical_bytes);
    anemo_checkpoint_close(x);
    anemo_checkpoint_close(y);
}

/* Every other family as safetensors, from its directory and from its GGUF file: the same weights
 * and the same mathematics; and safetensors -> GGUF -> safetensors: the same bytes once the
 * embedding has been through GGUF. */
static void every_family_in_safetensors(void **state) {
    (void)state;
    static const char *const families[] = {"llama3", "ministral", "ministral3", "qwen3-moe"};
    static const char *const targets[] = {"q4:g32", "q8:g32", "q8:row"};
    for (size_t f = 0; f < COUNT(families); ++f)
        for (size_t t = 0; t < COUNT(targets); ++t) {
            char from[600], file[700], made[600], copied[650], gguf[650], back[650];
            snprintf(from, sizeof from, MODELS "%s", families[f]);
            snprintf(file, sizeof file, "%s/model-bf16.gguf", from);
            snprintf(made, sizeof made, "%s/%s-%zu", folder, families[f], t);
            snprintf(copied, sizeof copied, "%s-copied", made);
            snprintf(gguf, sizeof gguf, "%s.gguf", made);
            snprintf(back, sizeof back, "%s-back", made);
            quantise(from, made, targets[t], -1);
            quantise(file, copied, targets[t], -1);
            const double relative = relative_error(from, made);
            print_message("%-11s %-7s relative error %.5f\n", families[f], targets[t], relative);
            assert_true(relative < (t == 0 ? 0.1 : 0.007));
            assert_true(logit_difference(made, copied) <= 1e-4);
            check_same_embedding(from, made);
            check_same_hparams(from, made);
            check_same_hparams(from, copied);
            check_same_folder(made, copied, false);
            snprintf(file, sizeof file, "%s/config.json", made);
            check_holds(file, "\"pack-quantized\""); /* as others read it, whatever the bits */
            check_holds(file, "\"Linear\"");
            snprintf(file, sizeof file, "%s/model.safetensors", made);
            check_holds(file, "model.layers.0.self_attn.q_proj.weight_packed");
            if (t == 2)
                continue; /* GGUF has no rows of one scale */
            quantise(made, gguf, targets[t], -1);
            quantise(gguf, back, targets[t], -1);
            remove(gguf);
            quantise(back, gguf, targets[t], -1);
            snprintf(made, sizeof made, "%s/%s-%zu-again", folder, families[f], t);
            quantise(gguf, made, targets[t], -1);
            check_same_folder(back, made, true);
        }
}

/* Quotients of rotation that no published scaling gives have no word in config.json. */
static void factors_of_nobody(void **state) {
    (void)state;
    const anemo_hparams h = tiny_hparams(0);
    const float factors[8] = {1, 1, 1, 3, 2, 8, 8, 8};
    gguf_writer *w = tiny_gguf(&h, ANEMO_NAMING_GGUF, ANEMO_GGML_F32);
    const char *from = tiny_path(folder, "from.gguf"), *out = tiny_path(folder, "out");
    anemo_quantise_report report;
    gguf_add_tensor(w, "rope_freqs.weight", ANEMO_GGML_F32, 1, (const uint64_t[]){8}, factors,
                    sizeof factors);
    gguf_write(w, from);
    gguf_writer_free(w);
    assert_int_equal(anemo_quantise_model(from, out, "q8:row", NULL, NULL, NULL, &report, &error),
                     ANEMO_E_UNSUPPORTED);
    assert_non_null(strstr(error.text, "from.gguf: rope_freqs.weight holds no scaling"));
    assert_int_equal(access(out, F_OK), -1);
    quantise(from, tiny_path(folder, "out.gguf"), "q8:g32", 0);
}

/* Keys of a GGUF source, the vocabulary among them, are kept; a file without one has it beside. */
static void keys_and_tokenizers(void **state) {
    (void)state;
    gguf_writer *w = gguf_model(0);
    gguf_add_strings(w, "tokenizer.ggml.tokens", (const char *const[]){"a", "b"}, 2);
    gguf_add_u32(w, "general.file_type", 0);
    gguf_add_string(w, "general.name", "kept");
    const char *from = tiny_path(folder, "from.gguf"), *out = tiny_path(folder, "out.gguf");
    gguf_write(w, from);
    gguf_writer_free(w);
    quantise(from, out, "q4_k", 9); /* rows of 32 and 64: all of them Q5_0 */
    anemo_checkpoint *checkpoint = open_model(out);
    assert_string_equal(anemo_checkpoint_tokenizer_path(checkpoint, &error), out);
    anemo_checkpoint_close(checkpoint);
    size_t bytes;
    char *text = test_read_file(out, &bytes);
    assert_non_null(memmem(text, bytes, "general.name", 12));
    assert_non_null(memmem(text, bytes, "kept", 4));
    free(text);
    write_model(0);
    test_write_file(tiny_path(folder, "tokenizer.json"), "{}", 2);
    char sub[600], *beside = NULL;
    snprintf(sub, sizeof sub, "%s/sub", folder);
    mkdir(sub, 0777);
    out = tiny_path(sub, "out.gguf");
    quantise(folder, out, "q4_0", 0);
    checkpoint = open_model(out);
    beside = strdup(tiny_path(sub, "tokenizer.json"));
    assert_string_equal(anemo_checkpoint_tokenizer_path(checkpoint, &error), beside);
    free(beside);
    anemo_checkpoint_close(checkpoint);
}

/* ---------------------------------------------------------------- whole or not at all */

static bool stop_at_the_second(void *context, double done, double total, const char *tensor) {
    assert_true(done > 0 && done <= total && tensor[0]);
    return ++*(int *)context < 2;
}

static void interrupted(void **state) {
    (void)state;
    static const char *const cases[][2] = {{"a.gguf", "q4_0"}, {"a", "q8:row"}};
    for (size_t i = 0; i < COUNT(cases); ++i) {
        int calls = 0;
        anemo_quantise_report report;
        assert_int_equal(anemo_quantise_model(MODELS "mistral-full", tiny_path(folder, cases[i][0]),
                                              cases[i][1], NULL, stop_at_the_second, &calls,
                                              &report, &error),
                         ANEMO_E_CANCELLED);
        assert_int_equal(calls, 2);
        assert_int_equal(entries(folder), 0);
    }
}

static void full_disk(void **state) {
    (void)state;
    const program_setting small = {.file_bytes_max = 20000};
    static const char *const cases[][2] = {{"a.gguf", "q4_0"}, {"a", "q4:g128"}};
    for (size_t i = 0; i < COUNT(cases); ++i) {
        program_result r =
            program_run_with(&small, (const char *const[]){"quantize", MODELS "mistral-full",
                                                           tiny_path(folder, cases[i][0]), "--to",
                                                           cases[i][1], NULL});
        assert_int_equal(r.code, 6);
        assert_non_null(strstr(r.err, "cannot write"));
        assert_int_equal(entries(folder), 0);
        program_result_free(&r);
    }
}

static void command_line(void **state) {
    (void)state;
    const char *out = tiny_path(folder, "a.gguf");
    program_result r = program_run("quantize", MODELS "mistral-full", out, "--to", "q4_0");
    if (r.code != 0)
        fail_msg("%s", r.err);
    assert_non_null(strstr(r.out, "q4:g32"));
    assert_non_null(strstr(r.out, "bits per parameter"));
    assert_int_equal(r.err[0], '\0'); /* no progress but on a terminal */
    program_result_free(&r);
    const struct {
        const char *in, *out, *to, *words;
    } wrong[] = {
        {MODELS "mistral-full", out, "q4_0", "it is there already"},
        {MODELS "mistral-full", "b.gguf", "q3_k", "--to is \"q3_k\""},
        {MODELS "mistral-full", "b.gguf", "q8:row", "no q8:row in GGUF"},
        {MODELS "mistral-full", "b", "q6_k", "no q6_k in safetensors"},
        {MODELS "nothing", "b", "q8:row", "there is no such model"},
        {"synth:tiny:f32", "b", "q8:row", "it is synthetic"},
        {MODELS "gpt-oss", "b", "q8:row", "gpt-oss cannot be written as safetensors"},
        {MODELS "gpt-oss-mxfp4/model-bf16.gguf", "b", "q4:g32", "accepted: a name that ends in"},
    };
    for (size_t i = 0; i < COUNT(wrong); ++i) {
        r = program_run("quantize", wrong[i].in, wrong[i].out, "--to", wrong[i].to);
        assert_int_equal(r.code, 2);
        if (!strstr(r.err, wrong[i].words))
            fail_msg("%s", r.err);
        program_result_free(&r);
        assert_true(access(wrong[i].out, F_OK) != 0 || i == 0);
    }
    r = program_run("quantize", MODELS "mistral-full", "b");
    assert_int_equal(r.code, 2);
    assert_non_null(strstr(r.err, "--to is missing"));
    program_result_free(&r);
}

/* A value that no half-precision scale can hold. */
static void values_out_of_range(void **state) {
    (void)state;
    const anemo_hparams h = tiny_hparams(0);
    safetensors_writer *whole = tiny_safetensors(&h, ANEMO_GGML_F32);
    size_t bytes;
    safetensors_header(whole);
    float *values = (float *)(uintptr_t)safetensors_data(whole, &bytes);
    write_model(0);
    anemo_device *device = NULL;
    assert_int_equal(anemo_device_create_cpu(3, NULL, &device, &error), ANEMO_OK);
    const anemo_exec exec = anemo_device_exec(device);
    const float wrong[] = {NAN, INFINITY, 1e30f};
    for (size_t i = 0; i < COUNT(wrong); ++i) {
        anemo_quantise_report report;
        values[3] = wrong[i];
        remove(tiny_path(folder, "model.safetensors"));
        safetensors_write(whole, tiny_path(folder, "model.safetensors"));
        assert_int_equal(anemo_quantise_model(folder, tiny_path(folder, "out.gguf"), "q4_0",
                                              i ? &exec : NULL, NULL, NULL, &report, &error),
                         ANEMO_E_INPUT);
        assert_non_null(strstr(error.text, "token_embd.weight holds in row 0"));
        assert_int_equal(access(tiny_path(folder, "out.gguf"), F_OK), -1);
    }
    safetensors_writer_free(whole);
    anemo_device_free(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        bad_file_test(every_target),      bad_file_test(ggml_bytes),
        bad_file_test(round_trips),       bad_file_test(logits_are_those_of_requantising),
        bad_file_test(every_family),      bad_file_test(every_family_in_safetensors),
        bad_file_test(factors_of_nobody), bad_file_test(keys_and_tokenizers),
        bad_file_test(interrupted),       bad_file_test(full_disk),
        bad_file_test(command_line),      bad_file_test(values_out_of_range),
    };
    return cmocka_run_group_tests_name("quantize", tests, NULL, NULL);
}
