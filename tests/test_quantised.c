/* Quantised Hugging Face checkpoints: GPTQ, AWQ, compressed-tensors, FP8, MXFP4. Every matrix of
 * tests/data/quantised has, bit by bit, the values that an independent reader gave it
 * (tests/oracle/make_quantised_goldens.py), and the kernels take it as it is. Then the same files,
 * broken: each is refused with one sentence. */
#include "models/formats/packed.h"
#include "tests/support/bad_file.h"
#include "tests/support/run_model.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>

#define FORMS ANEMO_TEST_DIR "/data/quantised/"

static anemo_error error;

static const struct {
    const char *name, *type; /* type: of its matrices */
} forms[] = {
    {"gptq-v1", "q4:g32:zp"},
    {"gptq-v1-symmetric", "q4:g32"},
    {"gptq-v2-act-order", "f32"},
    {"gptq-8bit", "q8:g32:zp"},
    {"awq", "q4:g32:zp"},
    {"ct-w4a16", "q4:g32:f32"},
    {"ct-w4a16-act-order", "f32"},
    {"ct-w4a16-asymmetric", "q4:row:zp"},
    {"ct-w8a8", "q8:row:f32"},
    {"ct-w8a8-asymmetric", "q8:row:f32:zp"},
    {"ct-fp8", "f32"},
    {"ct-fp8-channel", "f32"},
    {"fp8-blocks", "f32"},
};

/* ---------------------------------------------------------------- values */

static void digest(const anemo_weight *weight, char hex[65]) {
    float *row = malloc((size_t)weight->k * sizeof *row);
    void *scratch = malloc(anemo_weight_scratch_bytes(weight->k));
    anemo_sha256 sha;
    anemo_sha256_init(&sha);
    for (int64_t r = 0; r < weight->n; ++r) {
        anemo_weight_row_f32(weight, r, row, scratch);
        anemo_sha256_update(&sha, row, (size_t)weight->k * sizeof *row); /* little-endian hosts */
    }
    anemo_sha256_hex(&sha, hex);
    free(row);
    free(scratch);
}

static json_t *golden_of(const char *form) {
    char path[600];
    snprintf(path, sizeof path, FORMS "%s/golden.json", form);
    json_t *golden = json_load_file(path, 0, NULL);
    if (!golden)
        fail_msg("cannot read %s", path);
    return golden;
}

static void check_digest(const char *form, const char *name, const json_t *want,
                         const anemo_weight *weight) {
    char hex[65];
    digest(weight, hex);
    if (!json_is_string(want) || strcmp(json_string_value(want), hex) != 0)
        fail_msg("%s: %s has other values than the golden", form, name);
}

static void values_are_bit_equal(void **state) {
    (void)state;
    for (size_t f = 0; f < COUNT(forms); ++f) {
        char path[600];
        anemo_checkpoint *checkpoint = NULL;
        json_t *golden = golden_of(forms[f].name);
        const json_t *digests = json_object_get(golden, "sha256");
        int matrices = 0;
        snprintf(path, sizeof path, FORMS "%s", forms[f].name);
        if (anemo_checkpoint_open(path, &checkpoint, &error) != ANEMO_OK)
            fail_msg("%s", error.text);
        for (int role = 0; role < ANEMO_T_COUNT; ++role) {
            char name[ANEMO_ROLE_NAME_BYTES], type[32];
            anemo_weight weight;
            anemo_role_name(ANEMO_NAMING_HF, (anemo_tensor_role)role, 0, 0, name);
            const json_t *want = json_object_get(digests, name);
            if (!want)
                continue;
            assert_int_equal(
                anemo_checkpoint_weight(checkpoint, (anemo_tensor_role)role, 0, 0, &weight, &error),
                ANEMO_OK);
            anemo_weight_type_name(&weight.type, type, sizeof type);
            if (weight.k > 32) /* one group has no order */
                assert_string_equal(type, forms[f].type);
            check_digest(forms[f].name, name, want, &weight);
            ++matrices;
        }
        assert_int_equal(matrices, json_object_size(digests));
        assert_int_equal(matrices, 7);
        anemo_checkpoint_close(checkpoint);
        json_decref(golden);
    }
}

/* The experts of a gpt-oss layer, by name: blocks and scales, gate and up in turns. */
static void mxfp4_experts(void **state) {
    (void)state;
    const anemo_quantisation q = {.packing = ANEMO_PACKING_MXFP4, .bits = 4};
    anemo_mapped_file file;
    anemo_tensors tensors = {0};
    anemo_packed *list = NULL;
    size_t header;
    json_t *golden = golden_of("mxfp4");
    const json_t *digests = json_object_get(golden, "sha256");
    assert_int_equal(anemo_map_open(FORMS "mxfp4/model.safetensors", &file, &error), ANEMO_OK);
    assert_int_equal(anemo_safetensors_parse(&file, &tensors, &header, &error), ANEMO_OK);
    assert_int_equal(anemo_tensors_index(&tensors, &error), ANEMO_OK);
    if (anemo_packed_find(&q, &tensors, &list, &error) != ANEMO_OK)
        fail_msg("%s", error.text);
    const anemo_tensor *gate_up = anemo_tensors_find(&tensors, "experts.gate_up_proj");
    const anemo_tensor *down = anemo_tensors_find(&tensors, "experts.down_proj");
    assert_true(gate_up && down && gate_up->packed && down->packed);
    assert_true(gate_up->rank == 3 && gate_up->shape[0] == 3 && gate_up->shape[1] == 64 &&
                gate_up->shape[2] == 48);
    for (int e = 0; e < 3; ++e)
        for (int part = 0; part < 3; ++part) {
            static const char *const parts[] = {"gate", "up", "down"};
            char name[16];
            anemo_weight weight;
            snprintf(name, sizeof name, "%s %d", parts[part], e);
            anemo_packed_weight(part == 2 ? down->packed : gate_up->packed, e, part == 1, &weight);
            assert_true(weight.n == (part == 2 ? 20 : 24) && weight.k == 64);
            assert_true((double)weight.canonical_bytes ==
                        (double)(weight.n * 64) * anemo_weight_type_bits(&weight.type, 64) / 8);
            check_digest("mxfp4", name, json_object_get(digests, name), &weight);
        }
    for (size_t i = 0; i < tensors.n; ++i)
        assert_true(tensors.items[i].used || tensors.items[i].packed);
    anemo_packed_free(list);
    anemo_tensors_free(&tensors);
    anemo_map_close(&file);
    json_decref(golden);
}

/* What a plan chooses runs on each form and is near the reference. */
static void plans_take_them(void **state) {
    (void)state;
    const int32_t tokens[] = {1, 5, 9, 15, 0, 7, 3, 2};
    const int64_t n = (int64_t)COUNT(tokens);
    for (size_t f = 0; f < COUNT(forms); ++f) {
        char path[600];
        snprintf(path, sizeof path, FORMS "%s", forms[f].name);
        run_case c = {.path = path, .window = -1, .reference = true};
        run_result want = run_model(&c, tokens, n);
        c.reference = false;
        run_result got = run_model(&c, tokens, n);
        double squares = 0;
        for (int64_t i = 0; i < n * want.vocab; ++i)
            squares += pow((double)want.logits[i] - (double)got.logits[i], 2);
        const double sd = standard_deviation(want.logits, n * want.vocab);
        const double rms = sqrt(squares / (double)(n * want.vocab)) / sd;
        print_message("%-20s %-14s logits' sd %.2f, plan against reference %.2g of it\n",
                      forms[f].name, forms[f].type, sd, rms);
        assert_true(rms <= 0.1);
        run_result_free(&want);
        run_result_free(&got);
    }
}

/* ---------------------------------------------------------------- broken */

typedef enum change { NOTHING, DROP, TYPE, SHAPE, WORD, HALF_FILE } change;
typedef struct broken {
    const char *form, *config; /* merged into quantization_config, "" for nothing */
    change change;
    const char *tensor; /* of layer 0's q_proj, unless it begins with a dot */
    const char *text;   /* TYPE: its dtype; SHAPE: "[a, b]" */
    int64_t word;       /* WORD: the first 4 bytes */
    const char *words[3];
} broken;

/* The form with its change, in the test's folder. */
static void write_broken(const broken *b) {
    char path[600], name[128];
    size_t bytes;
    snprintf(path, sizeof path, FORMS "%s/config.json", b->form);
    json_t *config = json_load_file(path, 0, NULL), *edit = json_loads(b->config, 0, NULL);
    assert_non_null(config);
    if (edit)
        json_object_update_recursive(json_object_get(config, "quantization_config"), edit);
    remove(tiny_path(folder, "config.json"));
    assert_int_equal(json_dump_file(config, tiny_path(folder, "config.json"), 0), 0);
    snprintf(path, sizeof path, FORMS "%s/model.safetensors", b->form);
    char *file = test_read_file(path, &bytes);
    const size_t header_bytes = (size_t)anemo_load_u64((const uint8_t *)file);
    json_t *header = json_loadb(file + 8, header_bytes, 0, NULL), *tensor;
    snprintf(name, sizeof name, "model.layers.0.self_attn.q_proj.%s", b->tensor ? b->tensor : "");
    safetensors_writer *writer = safetensors_writer_create();
    const char *key;
    bool met = b->change == NOTHING || b->change == HALF_FILE;
    json_object_foreach(header, key, tensor) {
        const bool this = strcmp(key, name) == 0;
        const char *dtype = json_string_value(json_object_get(tensor, "dtype"));
        json_t *shape = json_object_get(tensor, "shape"), *at;
        int64_t sizes[4] = {0}, begin;
        if (strcmp(key, "__metadata__") == 0)
            continue;
        met |= this;
        if (this && b->change == DROP)
            continue;
        json_t *other = this && b->change == SHAPE ? json_loads(b->text, 0, NULL) : NULL;
        shape = other ? other : shape;
        for (size_t i = 0; i < json_array_size(shape); ++i)
            sizes[i] = json_integer_value(json_array_get(shape, i));
        at = json_object_get(tensor, "data_offsets");
        begin = json_integer_value(json_array_get(at, 0));
        char *data = file + 8 + header_bytes + begin;
        if (this && b->change == WORD)
            memcpy(data, &(int32_t){(int32_t)b->word}, 4);
        safetensors_add(writer, key, this && b->change == TYPE ? b->text : dtype,
                        (int)json_array_size(shape), sizes, data,
                        (size_t)(json_integer_value(json_array_get(at, 1)) - begin));
        json_decref(other);
    }
    assert_true(met);
    remove(tiny_path(folder, "model.safetensors"));
    safetensors_write(writer, tiny_path(folder, "model.safetensors"));
    if (b->change == HALF_FILE)
        rewrite(tiny_path(folder, "model.safetensors"), file, bytes / 2);
    safetensors_writer_free(writer);
    free(file);
    json_decref(header);
    json_decref(edit);
    json_decref(config);
}

static void broken_checkpoints(void **state) {
    (void)state;
#define CT "{\"config_groups\":{\"group_0\":{\"weights\":"
    static const broken cases[] = {
        /* configuration */
        {"gptq-v1",
         "{\"quant_method\":\"bitsandbytes\"}",
         NOTHING,
         NULL,
         NULL,
         0,
         {"quant_method is \"bitsandbytes\"", "\"gptq\""}},
        {"gptq-v1", "{\"quant_method\":5}", NOTHING, NULL, NULL, 0, {"quant_method is 5"}},
        {"gptq-v1", "{\"bits\":3}", NOTHING, NULL, NULL, 0, {"bits is 3", "4 or 8"}},
        {"gptq-v1", "{\"bits\":\"4\"}", NOTHING, NULL, NULL, 0, {"bits is \"4\""}},
        {"gptq-v1", "{\"bits\":8}", NOTHING, NULL, NULL, 0, {"qzeros has type I32 and shape"}},
        {"gptq-v1", "{\"group_size\":48}", NOTHING, NULL, NULL, 0, {"group_size is 48", "128"}},
        {"gptq-v1",
         "{\"group_size\":64}",
         NOTHING,
         NULL,
         NULL,
         0,
         {"scales has type F16 and shape [2, 32]", "[1, 32]"}},
        {"gptq-v1", "{\"group_size\":-1}", NOTHING, NULL, NULL, 0, {"scales has", "[1, 32]"}},
        {"gptq-v1", "{\"desc_act\":1}", NOTHING, NULL, NULL, 0, {"desc_act is 1", "true or"}},
        {"gptq-v1",
         "{\"checkpoint_format\":\"marlin\"}",
         NOTHING,
         NULL,
         NULL,
         0,
         {"checkpoint_format is \"marlin\"", "gptq_v2"}},
        {"awq", "{\"bits\":8}", NOTHING, NULL, NULL, 0, {"bits is 8", "accepted: 4"}},
        {"awq", "{\"version\":\"gemv\"}", NOTHING, NULL, NULL, 0, {"version is \"gemv\""}},
        {"awq", "{\"zero_point\":false}", NOTHING, NULL, NULL, 0, {"zero_point is false"}},
        {"ct-w4a16",
         "{\"format\":\"marlin-24\"}",
         NOTHING,
         NULL,
         NULL,
         0,
         {"format is \"marlin-24\"", "pack-quantized"}},
        {"ct-w4a16",
         "{\"config_groups\":{\"group_1\":{}}}",
         NOTHING,
         NULL,
         NULL,
         0,
         {"config_groups is", "one group"}},
        {"ct-w4a16", CT "{\"num_bits\":2}}}}", NOTHING, NULL, NULL, 0, {"num_bits is 2"}},
        {"ct-w4a16", CT "{\"type\":\"float\"}}}}", NOTHING, NULL, NULL, 0, {"type is \"float\""}},
        {"ct-w4a16",
         CT "{\"strategy\":\"block\"}}}}",
         NOTHING,
         NULL,
         NULL,
         0,
         {"strategy is \"block\""}},
        {"ct-w4a16", CT "{\"group_size\":null}}}}", NOTHING, NULL, NULL, 0, {"group_size is null"}},
        {"ct-w8a8", CT "{\"num_bits\":4}}}}", NOTHING, NULL, NULL, 0, {"num_bits is 4", "8"}},
        {"ct-fp8", CT "{\"type\":\"int\"}}}}", NOTHING, NULL, NULL, 0, {"type is \"int\""}},
        {"fp8-blocks",
         "{\"weight_block_size\":[128]}",
         NOTHING,
         NULL,
         NULL,
         0,
         {"weight_block_size is [128]"}},
        {"fp8-blocks",
         "{\"weight_block_size\":[0,128]}",
         NOTHING,
         NULL,
         NULL,
         0,
         {"weight_block_size is [0,128]"}},
        {"fp8-blocks",
         "{\"weight_block_size\":[128,128]}",
         NOTHING,
         NULL,
         NULL,
         0,
         {"weight_scale_inv has", "[1, 1]"}},
        /* parts that are missing */
        {"gptq-v1", "", DROP, "qweight", NULL, 0, {"q_proj.weight is missing"}},
        {"gptq-v1", "", DROP, "qzeros", NULL, 0, {"q_proj.qzeros is missing", "zero points"}},
        {"gptq-v1", "", DROP, "scales", NULL, 0, {"q_proj.scales is missing"}},
        {"gptq-v2-act-order",
         "",
         DROP,
         "g_idx",
         NULL,
         0,
         {"q_proj.g_idx is missing", "desc_act is true"}},
        {"awq", "", DROP, "qzeros", NULL, 0, {"q_proj.qzeros is missing"}},
        {"ct-w4a16", "", DROP, "weight_scale", NULL, 0, {"q_proj.weight_scale is missing"}},
        {"ct-w4a16", "", DROP, "weight_shape", NULL, 0, {"q_proj.weight_shape is missing"}},
        {"ct-w8a8", "", DROP, "weight_scale", NULL, 0, {"q_proj.weight_scale is missing"}},
        {"ct-fp8", "", DROP, "weight_scale", NULL, 0, {"q_proj.weight_scale is missing"}},
        /* parts that do not fit */
        {"gptq-v1", "", TYPE, "qweight", "U32", 0, {"q_proj.qweight has type U32", "I32"}},
        {"gptq-v1", "", TYPE, "scales", "I16", 0, {"q_proj.scales has I16", "F16"}},
        {"gptq-v1", "", SHAPE, "qweight", "[512]", 0, {"q_proj.qweight has type I32 and shape"}},
        {"gptq-v1", "", SHAPE, "qweight", "[16, 32]", 0, {"q_proj.scales has"}},
        {"gptq-v1", "", SHAPE, "qzeros", "[8, 2]", 0, {"q_proj.qzeros has", "[2, 8]"}},
        {"gptq-v1", "", SHAPE, "g_idx", "[2, 32]", 0, {"q_proj.g_idx has", "[64]"}},
        {"awq", "", SHAPE, "qweight", "[128, 4]", 0, {"q_proj.scales has"}},
        {"ct-w4a16", "", SHAPE, "weight_packed", "[32, 16]", 0, {"weight_shape holds [64, 64]"}},
        {"ct-w4a16", "", SHAPE, "weight_scale", "[32, 4]", 0, {"weight_scale has", "[64, 2]"}},
        {"ct-w8a8", "", SHAPE, "weight", "[32, 128]", 0, {"weight_scale has", "[32, 1]"}},
        {"ct-w8a8", "", TYPE, "weight", "U8", 0, {"weight has type U8", "not supported"}},
        {"ct-fp8", "", TYPE, "weight", "F8_E5M2", 0, {"weight has type F8_E5M2"}},
        /* values that do not fit */
        {"gptq-v1", "", WORD, "qzeros", NULL, -1, {"holds the zero point 15", "stands for 16"}},
        {"gptq-8bit", "", WORD, "qzeros", NULL, -1, {"holds the zero point 255"}},
        {"gptq-v2-act-order", "", WORD, "g_idx", NULL, 2, {"g_idx[0] is 2", "0 to 1"}},
        {"gptq-v2-act-order", "", WORD, "g_idx", NULL, -1, {"g_idx[0] is -1", "0 to 1"}},
        {"ct-w4a16-act-order", "", WORD, "weight_g_idx", NULL, 7, {"g_idx[0] is 7"}},
        {"ct-w4a16", "", WORD, "weight_shape", NULL, 63, {"weight_shape holds [63, 64]"}},
        /* the file */
        {"gptq-v1", "", HALF_FILE, NULL, NULL, 0, {"model.safetensors"}},
    };
    for (size_t i = 0; i < COUNT(cases); ++i) {
        write_broken(&cases[i]);
        check_refusal(folder, cases[i].words, 3);
    }
}

/* An index that names a shard which is not there, and a config whose entry is no object. */
static void other_faults(void **state) {
    (void)state;
    write_broken(&(broken){"gptq-v1", ""});
    rename(tiny_path(folder, "model.safetensors"),
           tiny_path(folder, "model-00001-of-00002.safetensors"));
    const char index[] =
        "{\"weight_map\":{\"model.norm.weight\":\"model-00002-of-00002.safetensors\"}}";
    test_write_file(tiny_path(folder, "model.safetensors.index.json"), index, sizeof index - 1);
    refused(folder, "model-00002-of-00002.safetensors", "No such file");
    json_t *config = json_load_file(tiny_path(folder, "config.json"), 0, NULL);
    json_object_set_new(config, "quantization_config", json_string("gptq"));
    json_dump_file(config, tiny_path(folder, "config.json"), 0);
    json_decref(config);
    refused(folder, "quantization_config is \"gptq\"", "an object");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_are_bit_equal),
        cmocka_unit_test(mxfp4_experts),
        cmocka_unit_test(plans_take_them),
        bad_file_test(broken_checkpoints),
        bad_file_test(other_faults),
    };
    return cmocka_run_group_tests_name("quantised checkpoints", tests, NULL, NULL);
}
