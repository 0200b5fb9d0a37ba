/* Mistral's consolidated checkpoints. The Hugging Face checkpoints of tests/data/models are
 * rewritten with Mistral's names, params.json, and the rows of q and k in interleaved pairs, and
 * must then give the same golden logits of transformers; with the rows left in their old order they
 * must miss them by far. Then every form of the window, FP8, and files that are wrong. */
#include "models/formats/packed.h"
#include "tests/support/bad_file.h"
#include "tests/support/run_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#define MODELS ANEMO_TEST_DIR "/data/models/"
#define BOUND  1e-4

static anemo_error error;

/* ---------------------------------------------------------------- conversion */

/* Row of the consolidated q or k -> its row in the Hugging Face file. */
static int64_t hf_row(anemo_tensor_role role, int64_t row, int64_t head_dim) {
    if (role != ANEMO_T_Q && role != ANEMO_T_K)
        return row;
    const int64_t i = row % head_dim;
    return row - i + i / 2 + i % 2 * (head_dim / 2);
}

/* One tensor as F32 under Mistral's name. */
static void convert(safetensors_writer *out, const anemo_checkpoint *from, anemo_tensor_role role,
                    int64_t layer, int64_t expert, bool interleave) {
    const anemo_hparams *h = anemo_checkpoint_hparams(from);
    char name[ANEMO_ROLE_NAME_BYTES];
    int64_t shape[2];
    anemo_role_shape(h, role, &shape[0], &shape[1]);
    float *values = malloc((size_t)(shape[0] * shape[1]) * sizeof *values);
    void *scratch = malloc(anemo_weight_scratch_bytes(shape[1]));
    anemo_weight weight;
    if (anemo_roles[role].vector)
        assert_int_equal(anemo_checkpoint_vector(from, role, layer, values, shape[1], &error),
                         ANEMO_OK);
    else
        assert_int_equal(anemo_checkpoint_weight(from, role, layer, expert, &weight, &error),
                         ANEMO_OK);
    for (int64_t row = 0; row < shape[0] && !anemo_roles[role].vector; ++row)
        anemo_weight_row_f32(&weight, interleave ? hf_row(role, row, h->head_dim) : row,
                             values + row * shape[1], scratch);
    anemo_role_name(h->experts ? ANEMO_NAMING_MISTRAL_MOE : ANEMO_NAMING_MISTRAL, role, layer,
                    expert, name);
    safetensors_add(out, name, "F32", anemo_roles[role].vector ? 1 : 2,
                    shape + anemo_roles[role].vector, values,
                    (size_t)(shape[0] * shape[1]) * sizeof *values);
    free(values);
    free(scratch);
}

/* The text of params.json; window: JSON of the entry, with its key and a comma behind, or "". */
static void write_params(const anemo_hparams *h, const char *window) {
    char text[1024], moe[96] = "";
    if (h->experts)
        snprintf(moe, sizeof moe,
                 "\"moe\": {\"num_experts\": %" PRId64 ", \"num_experts_per_tok\": %" PRId64 "},",
                 h->experts, h->experts_per_token);
    const int n =
        snprintf(text, sizeof text,
                 "{\"dim\": %" PRId64 ", \"n_layers\": %" PRId64 ", \"head_dim\": %" PRId64
                 ", \"hidden_dim\": %" PRId64 ", \"n_heads\": %" PRId64 ", \"n_kv_heads\": %" PRId64
                 ", \"norm_eps\": %g, \"vocab_size\": %" PRId64
                 ", %s %s \"tied_embeddings\": %s, \"rope_theta\": %.1f}",
                 h->d, h->layers, h->head_dim, h->ffn, h->heads, h->kv_heads, h->rms_eps, h->vocab,
                 moe, window, h->tied ? "true" : "false", h->rope_theta);
    rewrite(tiny_path(folder, "params.json"), text, (size_t)n);
}

static void write_consolidated(const char *model, bool interleave, const char *window) {
    char path[600];
    anemo_checkpoint *from = NULL;
    safetensors_writer *out = safetensors_writer_create();
    snprintf(path, sizeof path, MODELS "%s", model);
    assert_int_equal(anemo_checkpoint_open(path, &from, &error), ANEMO_OK);
    const anemo_hparams *h = anemo_checkpoint_hparams(from);
    for (int role = 0; role < ANEMO_T_COUNT; ++role) {
        const int64_t experts = anemo_roles[role].per_expert && h->experts ? h->experts : 1;
        if (!anemo_has_role(h, (anemo_tensor_role)role))
            continue;
        for (int64_t layer = 0; layer < (anemo_roles[role].per_layer ? h->layers : 1); ++layer)
            for (int64_t e = 0; e < experts; ++e)
                convert(out, from, (anemo_tensor_role)role, layer, e, interleave);
    }
    remove(tiny_path(folder, "consolidated.safetensors"));
    safetensors_write(out, tiny_path(folder, "consolidated.safetensors"));
    safetensors_writer_free(out);
    write_params(h, window);
    anemo_checkpoint_close(from);
}

/* The largest error against the golden logits, in their standard deviations. */
static double golden_error(const char *model) {
    char path[600];
    size_t bytes, i;
    int32_t tokens[256];
    json_t *id;
    snprintf(path, sizeof path, MODELS "%s/golden.json", model);
    json_t *golden = json_load_file(path, 0, NULL);
    assert_non_null(golden);
    json_t *ids = json_object_get(golden, "tokens");
    assert_in_range(json_array_size(ids), 1, 256);
    json_array_foreach(ids, i, id) tokens[i] = (int32_t)json_integer_value(id);
    const double sd = json_number_value(json_object_get(golden, "sd"));
    snprintf(path, sizeof path, MODELS "%s/logits.f32", model);
    float *want = (float *)(void *)test_read_file(path, &bytes);
    const run_case c = {.path = folder, .window = -1};
    run_result got = run_model(&c, tokens, (int64_t)json_array_size(ids));
    assert_int_equal(bytes, (size_t)(got.n * got.vocab) * sizeof *want);
    const double worst = largest_difference(got.logits, want, got.n * got.vocab) / sd;
    print_message("%s: error %.3g of the sd\n", model, worst);
    run_result_free(&got);
    free(want);
    json_decref(golden);
    return worst;
}

static void golden_logits(void **state) {
    (void)state;
    static const struct {
        const char *model, *window;
    } cases[] = {
        {"mistral-full", ""},
        {"mistral-full", "\"sliding_window\": null,"},
        {"mistral-window", "\"sliding_window\": 8,"},
        {"mistral-window", "\"sliding_window\": \"8\","},
        {"mistral-window", "\"_sliding_window\": [8],"},
        {"mistral-window", "\"sliding_window\": [8, \"8\", 8],"},
        {"mixtral-window", "\"sliding_window\": 8,"},
    };
    for (size_t i = 0; i < COUNT(cases); ++i) {
        write_consolidated(cases[i].model, true, cases[i].window);
        assert_true(golden_error(cases[i].model) <= BOUND);
    }
    write_consolidated("mistral-window", false, "\"sliding_window\": 8,");
    assert_true(golden_error("mistral-window") >= 10 * BOUND);
    write_consolidated("mistral-window", true, "\"sliding_window\": 7,");
    assert_true(golden_error("mistral-window") >= 10 * BOUND);
}

/* With a Hugging Face checkpoint beside it, that one is read; tokens' ids are the tokenizers'. */
static void beside_hugging_face(void **state) {
    (void)state;
    anemo_checkpoint *checkpoint = NULL;
    write_consolidated("mistral-window", true, "\"sliding_window\": 8,");
    assert_int_equal(anemo_checkpoint_open(folder, &checkpoint, &error), ANEMO_OK);
    const anemo_hparams *h = anemo_checkpoint_hparams(checkpoint);
    assert_int_equal(h->rope_pairing, ANEMO_ROPE_INTERLEAVED);
    assert_true(h->bos == 1 && h->n_eos == 1 && h->eos[0] == 2 && h->context_max == 32768);
    anemo_checkpoint_close(checkpoint);
    write_model(0);
    assert_int_equal(anemo_checkpoint_open(folder, &checkpoint, &error), ANEMO_OK);
    assert_int_equal(anemo_checkpoint_hparams(checkpoint)->rope_pairing, ANEMO_ROPE_HALF);
    anemo_checkpoint_close(checkpoint);
}

/* ---------------------------------------------------------------- FP8 and faults */

static safetensors_writer *tiny_consolidated(const anemo_hparams *h, const char *fp8) {
    safetensors_writer *out = safetensors_writer_create();
    for (int role = 0; role < ANEMO_T_COUNT; ++role) {
        char name[ANEMO_ROLE_NAME_BYTES];
        int64_t shape[2];
        if (!anemo_has_role(h, (anemo_tensor_role)role))
            continue;
        anemo_role_name(ANEMO_NAMING_MISTRAL, (anemo_tensor_role)role, 0, 0, name);
        anemo_role_shape(h, (anemo_tensor_role)role, &shape[0], &shape[1]);
        const size_t n = (size_t)(shape[0] * shape[1]);
        uint8_t *data = calloc(n, 4);
        const bool coded = fp8 && strcmp(name, fp8) == 0;
        for (size_t i = 0; i < n && coded; ++i)
            data[i] = (uint8_t)(i % 0x7f); /* every number, and no NaN */
        safetensors_add(out, name, coded ? "F8_E4M3" : "F32", anemo_roles[role].vector ? 1 : 2,
                        shape + anemo_roles[role].vector, data, coded ? n : 4 * n);
        free(data);
    }
    return out;
}

static void fp8_with_one_scale(void **state) {
    (void)state;
    const anemo_hparams h = tiny_hparams(0);
    const float scale = 0.75f;
    const int64_t none = 0;
    const char *wq = "layers.0.attention.wq.weight";
    safetensors_writer *out = tiny_consolidated(&h, wq);
    safetensors_add(out, "layers.0.attention.wq.qscale_weight", "F32", 0, &none, &scale, 4);
    safetensors_add(out, "layers.0.attention.wq.qscale_act", "F32", 0, &none, &scale, 4);
    safetensors_write(out, tiny_path(folder, "consolidated.safetensors"));
    safetensors_writer_free(out);
    write_params(&h, "\"quantization\": {\"qformat_weight\": \"fp8_e4m3\", \"qscheme_act\": "
                     "\"TENSOR\"},");
    anemo_checkpoint *checkpoint = NULL;
    anemo_weight weight;
    float row[64];
    char scratch[4096];
    if (anemo_checkpoint_open(folder, &checkpoint, &error) != ANEMO_OK)
        fail_msg("%s", error.text);
    assert_int_equal(anemo_checkpoint_weight(checkpoint, ANEMO_T_Q, 0, 0, &weight, &error), 0);
    assert_true(anemo_weight_scratch_bytes(weight.k) <= sizeof scratch);
    for (int64_t r = 0; r < weight.n; ++r) {
        anemo_weight_row_f32(&weight, r, row, scratch);
        for (int64_t i = 0; i < weight.k; ++i) {
            const int code = (int)((r * weight.k + i) % 0x7f), e = code >> 3, m = code & 7;
            assert_true(row[i] == scale * (float)(e ? ldexp(8 + m, e - 10) : ldexp(m, -9)));
        }
    }
    anemo_checkpoint_close(checkpoint);
}

static void broken_params(void **state) {
    (void)state;
    static const struct {
        const char *edit, *drop, *words[2];
    } cases[] = {
        {"{}", "dim", {"dim is missing", "an integer"}},
        {"{}", "rope_theta", {"rope_theta is missing", "1000000"}},
        {"{}", "norm_eps", {"norm_eps is missing"}},
        {"{}", "head_dim", {"head_dim is missing"}},
        {"{\"dim\": \"32\"}", NULL, {"dim is \"32\"", "an integer"}},
        {"{\"dim\": 0}", NULL, {"dim is 0", "1 to"}},
        {"{\"n_layers\": 2}", NULL, {"layers.1.attention_norm.weight is missing"}},
        {"{\"n_kv_heads\": 3}", NULL, {"n_kv_heads is 3", "divisor"}},
        {"{\"sliding_window\": \"4k\"}", NULL, {"sliding_window is \"4k\"", "digits"}},
        {"{\"sliding_window\": -5}", NULL, {"sliding_window is -5", "0 to"}},
        {"{\"sliding_window\": []}", NULL, {"sliding_window is []"}},
        {"{\"sliding_window\": [4, 4]}", NULL, {"sliding_window is [4,4]", "multiple"}},
        {"{\"sliding_window\": [true]}", NULL, {"sliding_window is [true]"}},
        {"{\"sliding_window\": {}}", NULL, {"sliding_window is {}"}},
        {"{\"yarn\": {\"factor\": 16}}", NULL, {"yarn is {\"factor\":16}", "not supported"}},
        {"{\"llama_4_scaling\": {\"beta\": 0.1}}", NULL, {"llama_4_scaling is"}},
        {"{\"q_lora_rank\": 1024}", NULL, {"q_lora_rank is 1024"}},
        {"{\"vision_encoder\": {}}", NULL, {"vision_encoder is {}"}},
        {"{\"moe\": 8}", NULL, {"moe is 8", "num_experts"}},
        {"{\"moe\": {\"num_experts\": 8}}", NULL, {"moe is {\"num_experts\":8}"}},
        {"{\"moe\": {\"num_experts\": 8, \"num_experts_per_tok\": 9}}",
         NULL,
         {"num_experts_per_tok is 9"}},
        {"{\"tied_embeddings\": 1}", NULL, {"tied_embeddings is 1", "true or false"}},
        {"{\"quantization\": {\"qformat_weight\": \"int4\"}}", NULL, {"quantization is", "fp8"}},
        {"{\"max_seq_len\": 0}", NULL, {"max_position_embeddings is 0"}},
        {"{\"max_seq_len\": \"8\"}", NULL, {"max_seq_len is \"8\"", "an integer"}},
    };
    const anemo_hparams h = tiny_hparams(0);
    safetensors_writer *out = tiny_consolidated(&h, NULL);
    safetensors_write(out, tiny_path(folder, "consolidated.safetensors"));
    safetensors_writer_free(out);
    write_params(&h, "");
    json_t *right = json_load_file(tiny_path(folder, "params.json"), 0, NULL);
    for (size_t i = 0; i < COUNT(cases); ++i) {
        json_t *params = json_copy(right), *edit = json_loads(cases[i].edit, 0, NULL);
        json_object_update(params, edit);
        if (cases[i].drop)
            json_object_del(params, cases[i].drop);
        char *text = json_dumps(params, 0);
        rewrite(tiny_path(folder, "params.json"), text, strlen(text));
        check_refusal(folder, cases[i].words, 2);
        free(text);
        json_decref(edit);
        json_decref(params);
    }
    json_decref(right);
    rewrite(tiny_path(folder, "params.json"), "[1]", 3);
    refused(folder, "params.json", "is [1]", "one JSON object");
    rewrite(tiny_path(folder, "params.json"), "{\"dim\"", 6);
    refused(folder, "params.json", "line 1");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        bad_file_test(golden_logits),
        bad_file_test(beside_hugging_face),
        bad_file_test(fp8_with_one_scale),
        bad_file_test(broken_params),
    };
    return cmocka_run_group_tests_name("consolidated", tests, NULL, NULL);
}
