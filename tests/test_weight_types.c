/* Every GGML type: its values are those of the `gguf` package, bit by bit
 * (tests/data/dequantised.bin), and a whole model in it gives the logits of a float32 model with
 * the same values, within the golden logits' bound: by the reference kernels, which compute with
 * unquantised activations, and roughly by those that a plan chooses.
 *
 * The models have rows of 256 values, because K-quants need as many. Mixed types, merged and
 * separate experts, and split files go through the same comparison. */
#include "tests/support/random_blocks.h"
#include "tests/support/run_model.h"
#include "tests/support/run_program.h"
#include "tests/support/tiny_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>

#define BOUND  1e-4 /* of the logits' standard deviation, as in test_golden_logits.c */
#define TOKENS 12

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

/* ---------------------------------------------------------------- values */

static uint32_t read_u32(const char **at) {
    const uint32_t value = anemo_load_u32((const uint8_t *)*at);
    *at += 4;
    return value;
}

static void values_are_bit_equal(void **state) {
    (void)state;
    size_t bytes;
    char *golden = test_read_file(ANEMO_TEST_DIR "/data/dequantised.bin", &bytes);
    assert_non_null(golden);
    const char *at = golden;
    int types = 0;
    for (; at < golden + bytes; ++types) {
        const uint32_t id = read_u32(&at), n = read_u32(&at), raw = read_u32(&at);
        const uint8_t *want = (const uint8_t *)at + raw;
        anemo_weight weight;
        float *values = malloc(n * sizeof *values);
        void *scratch = malloc(anemo_weight_scratch_bytes(n));
        assert_int_equal(id, random_block_types[types] == id ? id : 0);
        anemo_ggml_weight(id, at, 1, n, &weight);
        assert_int_equal(weight.canonical_bytes, raw);
        anemo_weight_row_f32(&weight, 0, values, scratch);
        for (uint32_t i = 0; i < n; ++i)
            if (anemo_f32_bits(values[i]) != anemo_load_u32(want + 4 * i))
                fail_msg("type %u value %u: %a, not %a", id, i, (double)values[i],
                         (double)anemo_bits_f32(anemo_load_u32(want + 4 * i)));
        at += raw + 4 * n;
        free(values);
        free(scratch);
    }
    assert_int_equal(types, random_block_type_count);
    assert_ptr_equal(at, golden + bytes);
    free(golden);
}

/* ---------------------------------------------------------------- models */

typedef struct form {
    uint32_t type;  /* of every matrix, unless */
    uint32_t other; /* v, down and embedding have another (0: no) */
    anemo_naming naming;
    int files;
} form;

static anemo_hparams sizes(int64_t experts) {
    anemo_hparams h = tiny_hparams(experts);
    h.vocab = 64, h.d = 256, h.ffn = 256, h.layers = 2, h.heads = 4, h.kv_heads = 2,
    h.head_dim = 64, h.window = 7;
    return h;
}

static uint32_t type_of(const form *f, anemo_tensor_role role) {
    if (anemo_roles[role].vector || role == ANEMO_T_ROUTER)
        return ANEMO_GGML_F32;
    const bool other = role == ANEMO_T_V || role == ANEMO_T_DOWN || role == ANEMO_T_EMBED;
    return other && f->other ? f->other : f->type;
}

/* Random bytes of a role; norms are about 1. */
static void tensor_bytes(byte_string *out, const anemo_hparams *h, const form *f,
                         anemo_tensor_role role, int64_t layer, int64_t expert) {
    int64_t n, k;
    const uint64_t seed = (uint64_t)(role * 1000 + layer * 100 + expert);
    anemo_role_shape(h, role, &n, &k);
    if (anemo_roles[role].vector)
        for (int64_t i = 0; i < k; ++i)
            bytes_append_number(
                out, anemo_f32_bits((float)(0.6 + 0.8 * anemo_philox_uniform(seed, (uint64_t)i))),
                4);
    else
        random_blocks(out, type_of(f, role), n * k, (role == ANEMO_T_OUTPUT ? 2 : 1.4) / 16, seed);
}

/* As float32, by the reader that values_are_bit_equal checks. */
static void to_floats(byte_string *data, uint32_t type, int64_t n, int64_t k) {
    byte_string floats = {0};
    float *values = malloc((size_t)k * sizeof *values);
    void *scratch = malloc(anemo_weight_scratch_bytes(k));
    anemo_weight weight;
    anemo_ggml_weight(type, data->bytes, n, k, &weight);
    for (int64_t row = 0; row < n; ++row) {
        anemo_weight_row_f32(&weight, row, values, scratch);
        bytes_append(&floats, values, (size_t)k * sizeof *values);
    }
    free(values);
    free(scratch);
    free(data->bytes);
    *data = floats;
}

/* Adds every tensor, in turn to each of f->files writers; as_floats: dequantised. */
static void add_tensors(gguf_writer **writers, const anemo_hparams *h, const form *f,
                        bool as_floats) {
    int next = 0;
    for (int role = 0; role < ANEMO_T_COUNT; ++role) {
        const bool merged = anemo_roles[role].per_expert && f->naming == ANEMO_NAMING_GGUF_MERGED;
        const int64_t experts = anemo_roles[role].per_expert && h->experts ? h->experts : 1;
        if (!anemo_has_role(h, (anemo_tensor_role)role))
            continue;
        for (int64_t layer = 0; layer < (anemo_roles[role].per_layer ? h->layers : 1); ++layer)
            for (int64_t first = 0; first < (merged ? 1 : experts); ++first) {
                const int64_t end = merged ? experts : first + 1;
                byte_string data = {0};
                char name[ANEMO_ROLE_NAME_BYTES];
                int64_t n, k;
                anemo_role_shape(h, role, &n, &k);
                for (int64_t e = first; e < end; ++e)
                    tensor_bytes(&data, h, f, role, layer, e);
                if (as_floats)
                    to_floats(&data, type_of(f, role), n * (end - first), k);
                const uint64_t shape[] = {(uint64_t)k, (uint64_t)n, (uint64_t)experts};
                anemo_role_name(f->naming, role, layer, first, name);
                gguf_add_tensor(writers[next++ % f->files], name,
                                as_floats ? ANEMO_GGML_F32 : type_of(f, role),
                                anemo_roles[role].vector ? 1
                                : merged                 ? 3
                                                         : 2,
                                shape, data.bytes, data.n);
                free(data.bytes);
            }
    }
}

static void add_split_keys(gguf_writer *w, int no, int files) {
    gguf_add_raw(w, "split.no", 2, (const uint8_t[]){(uint8_t)no, 0}, 2);
    gguf_add_raw(w, "split.count", 2, (const uint8_t[]){(uint8_t)files, 0}, 2);
}

static const char *part_path(const char *name, int no, int files) {
    char part[64];
    snprintf(part, sizeof part, files > 1 ? "%s-%05d-of-%05d.gguf" : "%s.gguf", name, no + 1,
             files);
    return tiny_path(folder, part);
}

/* Writes the model; returns the path to open. */
static const char *write_model(const char *name, const anemo_hparams *h, const form *f,
                               bool as_floats) {
    gguf_writer *writers[4];
    for (int i = 0; i < f->files; ++i) {
        writers[i] = gguf_writer_create();
        if (i == 0)
            tiny_gguf_keys(writers[0], h);
        if (f->files > 1)
            add_split_keys(writers[i], i, f->files);
    }
    add_tensors(writers, h, f, as_floats);
    for (int i = 0; i < f->files; ++i) {
        gguf_write(writers[i], part_path(name, i, f->files));
        gguf_writer_free(writers[i]);
    }
    return part_path(name, 0, f->files);
}

static double rms_difference(const float *a, const float *b, int64_t n) {
    double squares = 0;
    for (int64_t i = 0; i < n; ++i)
        squares += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
    return sqrt(squares / (double)n); /* NaN stays, and fails */
}

static void check_form(const char *what, int64_t experts, const form *f) {
    const anemo_hparams h = sizes(experts);
    const form plain = {f->type, f->other, f->naming, 1};
    const int32_t tokens[TOKENS] = {1, 5, 9, 63, 0, 17, 33, 2, 5, 9, 41, 7};
    const run_case floats = {
        .path = write_model("floats", &h, &plain, true), .window = -1, .reference = true};
    run_case c = {.path = write_model("typed", &h, f, false), .window = -1, .reference = true};
    run_result want = run_model(&floats, tokens, TOKENS), exact = run_model(&c, tokens, TOKENS);
    c.reference = false;
    run_result chosen = run_model(&c, tokens, TOKENS);
    const int64_t n = want.n * want.vocab;
    const double sd = standard_deviation(want.logits, n);
    const double reference = largest_difference(want.logits, exact.logits, n) / sd;
    const double plan = rms_difference(want.logits, chosen.logits, n) / sd;
    print_message("%-22s sd %.2f, reference %.2g of it at most, plan %.2g rms\n", what, sd,
                  reference, plan);
    assert_true(sd >= 1 && sd < 10);
    assert_true(reference <= BOUND);
    if (!experts) /* another expert for one token is another logit */
        assert_true(plan <= 0.1);
    run_result_free(&want);
    run_result_free(&exact);
    run_result_free(&chosen);
}

static void whole_models(void **state) {
    (void)state;
    for (int i = 0; i < random_block_type_count; ++i) {
        anemo_weight_type type;
        int64_t block, block_bytes;
        const char *name;
        anemo_ggml_type(random_block_types[i], &type, &block, &block_bytes, &name);
        check_form(name, 0, &(form){random_block_types[i], 0, ANEMO_NAMING_GGUF, 1});
    }
}

static void mixed_merged_and_split(void **state) {
    (void)state;
    check_form("Q4_K with Q6_K", 0,
               &(form){ANEMO_GGML_Q4_K, ANEMO_GGML_Q6_K, ANEMO_NAMING_GGUF, 1});
    check_form("the same in 3 files", 0,
               &(form){ANEMO_GGML_Q4_K, ANEMO_GGML_Q6_K, ANEMO_NAMING_GGUF, 3});
    check_form("merged experts", 3,
               &(form){ANEMO_GGML_Q4_K, ANEMO_GGML_Q6_K, ANEMO_NAMING_GGUF_MERGED, 2});
    check_form("an expert a tensor", 3,
               &(form){ANEMO_GGML_Q5_K, ANEMO_GGML_Q5_0, ANEMO_NAMING_GGUF_EXPERTS, 2});
}

/* The variants of the role qkv, each in a line of *text. */
static void qkv_choices(const char *path, char *text, size_t room) {
    const anemo_plan_options options = {
        .limits = {.tokens_per_step = 8, .sessions = 1, .context = 64}};
    anemo_device *device = NULL;
    anemo_model *model = NULL;
    anemo_plan *plan = NULL;
    const char *choice;
    assert_int_equal(anemo_device_create_cpu(1, NULL, &device, &error), ANEMO_OK);
    assert_int_equal(anemo_model_open(path, NULL, &model, &error), ANEMO_OK);
    assert_int_equal(anemo_plan_create(model, device, &options, &plan, &error), ANEMO_OK);
    for (int32_t i = 0; (choice = anemo_plan_choice(plan, i)); ++i)
        if (strncmp(choice, "qgemm@qkv:", 10) == 0) {
            const size_t used = strlen(text);
            snprintf(text + used, room - used, "%s\n", choice);
        }
    anemo_plan_free(plan);
    anemo_model_close(model);
    anemo_device_free(device);
}

/* v in another type than q and k: each gets what it would get alone. */
static void mixed_qkv_keep_their_variants(void **state) {
    (void)state;
    const anemo_hparams h = sizes(0);
    char q4[1024] = "", q6[1024] = "", mixed[1024] = "", expected[2048];
    const form forms[] = {{ANEMO_GGML_Q4_K, 0, ANEMO_NAMING_GGUF, 1},
                          {ANEMO_GGML_Q6_K, 0, ANEMO_NAMING_GGUF, 1},
                          {ANEMO_GGML_Q4_K, ANEMO_GGML_Q6_K, ANEMO_NAMING_GGUF, 1}};
    qkv_choices(write_model("q4", &h, &forms[0], false), q4, sizeof q4);
    qkv_choices(write_model("q6", &h, &forms[1], false), q6, sizeof q6);
    qkv_choices(write_model("mixed", &h, &forms[2], false), mixed, sizeof mixed);
    assert_true(q4[0] && q6[0]);
    snprintf(expected, sizeof expected, "%s%s", q4, strcmp(q4, q6) != 0 ? q6 : "");
    assert_string_equal(mixed, expected);
}

/* ---------------------------------------------------------------- split files that are wrong */

static void check_split_refusal(const char *path, const char *first, const char *second) {
    anemo_checkpoint *checkpoint = NULL;
    assert_int_equal(anemo_checkpoint_open(path, &checkpoint, &error), ANEMO_E_INPUT);
    assert_null(checkpoint);
    if (!strstr(error.text, first) || !strstr(error.text, second))
        fail_msg("%s", error.text);
}

static void wrong_splits(void **state) {
    (void)state;
    const anemo_hparams h = sizes(0);
    const form f = {ANEMO_GGML_Q8_0, 0, ANEMO_NAMING_GGUF, 2};
    char path[600], second[600];
    snprintf(path, sizeof path, "%s", write_model("split", &h, &f, false));
    snprintf(second, sizeof second, "%s", part_path("split", 1, 2));
    check_split_refusal(second, "split.no is 1", "open that one");
    remove(second);
    check_split_refusal(path, "split-00002-of-00002.gguf", "No such file");
    test_write_file(second, "GGUF", 4);
    check_split_refusal(path, "split-00002-of-00002.gguf", "where the file ends");
    const struct {
        int no, count;
        const char *words[2];
    } wrong[] = {{0, 2, {"split.no is 0", "1 and 2"}}, {1, 3, {"split.count 3", "1 and 2"}}};
    for (int i = 0; i < 2; ++i) {
        gguf_writer *w = gguf_writer_create();
        add_split_keys(w, wrong[i].no, wrong[i].count);
        remove(second);
        gguf_write(w, second);
        gguf_writer_free(w);
        check_split_refusal(path, wrong[i].words[0], wrong[i].words[1]);
    }
    gguf_writer *w = gguf_writer_create(); /* right, but without its tensors */
    add_split_keys(w, 1, 2);
    remove(second);
    gguf_write(w, second);
    gguf_writer_free(w);
    check_split_refusal(path, "is missing", "every tensor");
    rename(path, tiny_path(folder, "renamed.gguf"));
    check_split_refusal(tiny_path(folder, "renamed.gguf"), "split.count is 2",
                        "-00001-of-00002.gguf");
}

/* ---------------------------------------------------------------- models that do not fit */

/* 560 GB are refused from the headers alone; a few megabytes are not. */
static void memory_is_foreseen(void **state) {
    (void)state;
    const anemo_plan_options options = {
        .limits = {.tokens_per_step = 8, .sessions = 1, .context = 64}};
    anemo_device *device = NULL;
    anemo_model *model = NULL;
    anemo_plan *plan = NULL;
    assert_int_equal(anemo_device_create_cpu(1, NULL, &device, &error), ANEMO_OK);
    const double available = anemo_device_available_bytes(device);
    assert_true(available > 1e6);
    if (available > 500e9) {
        anemo_device_free(device);
        print_message("this machine has room for 560 GB\n");
        skip();
    }
    assert_int_equal(anemo_model_open("synth:mixtral-8x22b:f32", NULL, &model, &error), ANEMO_OK);
    assert_int_equal(anemo_plan_create(model, device, &options, &plan, &error), ANEMO_E_MEMORY);
    assert_null(plan);
    assert_non_null(strstr(error.text, "the weights take 56"));
    assert_non_null(strstr(error.text, "as q4_0"));
    assert_true(anemo_device_peak_bytes(device) < 1000000);
    anemo_model_close(model);
    assert_int_equal(anemo_model_open("synth:tiny:f32", NULL, &model, &error), ANEMO_OK);
    if (anemo_plan_create(model, device, &options, &plan, &error) != ANEMO_OK)
        fail_msg("%s", error.text);
    anemo_plan_free(plan);
    anemo_model_close(model);
    anemo_device_free(device);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_bit_equal),
        cmocka_unit_test_setup_teardown(whole_models, set_up, tear_down),
        cmocka_unit_test_setup_teardown(mixed_merged_and_split, set_up, tear_down),
        cmocka_unit_test_setup_teardown(mixed_qkv_keep_their_variants, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_splits, set_up, tear_down),
        cmocka_unit_test(memory_is_foreseen),
    };
    return cmocka_run_group_tests_name("weight types", tests, NULL, NULL);
}
