/* quantization_config of a config.json: which packing a checkpoint's matrices have.
 *
 * Only what decides how bytes become values is read. Which modules are quantised is not: that is
 * seen from the tensors (packed.c), which cannot disagree with themselves. How activations were to
 * be quantised (input_activations, activation_scheme) is ignored: a variant quantises activations
 * in its own way or not at all, whatever the checkpoint. */
#include "models/formats/json.h"
#include "models/formats/packed.h"

#include <stdio.h>

typedef struct reader {
    const char *path;
    json_t *object; /* where fields are looked up */
    const char *prefix;
    anemo_error *err;
} reader;

static anemo_status refuse(const reader *r, const char *field, const char *accepted) {
    return anemo_fail(r->err, ANEMO_E_INPUT, "%s: %s%s is %s; accepted: %s", r->path, r->prefix,
                      field, anemo_show_json(json_object_get(r->object, field)).text, accepted);
}

static json_t *present(const reader *r, const char *field) {
    json_t *value = json_object_get(r->object, field);
    return json_is_null(value) ? NULL : value;
}

static const char *text_of(const reader *r, const char *field) {
    const char *text = json_string_value(json_object_get(r->object, field));
    return text ? text : "";
}

static bool is_text(const reader *r, const char *field, const char *text) {
    return strcmp(text_of(r, field), text) == 0;
}

static anemo_status read_bits(const reader *r, const char *field, bool four_only, int32_t *out) {
    const json_t *value = json_object_get(r->object, field);
    const json_int_t bits = json_integer_value(value);
    if (!json_is_integer(value) || (bits != 4 && (four_only || bits != 8)))
        return refuse(r, field, four_only ? "4" : "4 or 8");
    *out = (int32_t)bits;
    return ANEMO_OK;
}

static anemo_status read_group(const reader *r, int64_t *out) {
    const json_t *value = json_object_get(r->object, "group_size");
    const json_int_t group = json_integer_value(value);
    if (!json_is_integer(value) ||
        (group != -1 && group != 16 && group != 32 && group != 64 && group != 128))
        return refuse(r, "group_size", "-1 (one group per row), 16, 32, 64 or 128");
    *out = group == -1 ? 0 : group;
    return ANEMO_OK;
}

/* false when absent */
static anemo_status read_flag(const reader *r, const char *field, bool *out) {
    const json_t *value = present(r, field);
    *out = json_is_true(value);
    return !value || json_is_boolean(value) ? ANEMO_OK : refuse(r, field, "true or false");
}

/* ---------------------------------------------------------------- methods */

static anemo_status parse_gptq(const reader *r, anemo_quantisation *q) {
    const json_t *format = present(r, "checkpoint_format");
    q->packing = ANEMO_PACKING_GPTQ;
    ANEMO_TRY(read_bits(r, "bits", false, &q->bits));
    ANEMO_TRY(read_group(r, &q->group));
    ANEMO_TRY(read_flag(r, "desc_act", &q->act_order));
    q->zero_minus_1 = !format || is_text(r, "checkpoint_format", "gptq");
    if (!q->zero_minus_1 && !is_text(r, "checkpoint_format", "gptq_v2"))
        return refuse(r, "checkpoint_format", "absent, \"gptq\" or \"gptq_v2\"");
    return ANEMO_OK;
}

static anemo_status parse_awq(const reader *r, anemo_quantisation *q) {
    bool zero_point;
    q->packing = ANEMO_PACKING_AWQ;
    ANEMO_TRY(read_bits(r, "bits", true, &q->bits));
    ANEMO_TRY(read_group(r, &q->group));
    ANEMO_TRY(read_flag(r, "zero_point", &zero_point));
    if (!zero_point)
        return refuse(r, "zero_point", "true");
    if (!is_text(r, "version", "gemm") && !is_text(r, "version", "GEMM"))
        return refuse(r, "version", "\"gemm\"");
    return ANEMO_OK;
}

static anemo_status parse_fp8(const reader *r, anemo_quantisation *q) {
    json_t *block = present(r, "weight_block_size");
    q->packing = ANEMO_PACKING_FP8;
    q->bits = 8;
    for (size_t i = 0; block && i < 2; ++i) {
        q->block[i] = json_integer_value(json_array_get(block, i));
        if (json_array_size(block) != 2 || q->block[i] < 1 || q->block[i] > 65536)
            return refuse(r, "weight_block_size", "[rows, columns], each 1 to 65536, or null");
    }
    return ANEMO_OK;
}

/* How a group of compressed-tensors modules is packed; r->object is its `weights`. */
static anemo_status parse_weights(const reader *r, const char *format, anemo_quantisation *q) {
    const bool is_float = is_text(r, "type", "float");
    if (strcmp(format, "float-quantized") == 0) {
        int32_t bits = 0;
        q->packing = ANEMO_PACKING_FP8;
        ANEMO_TRY(read_bits(r, "num_bits", false, &bits));
        q->bits = 8;
        if (bits != 8)
            return refuse(r, "num_bits", "8 in format float-quantized");
        if (!is_float)
            return refuse(r, "type", "\"float\" in format float-quantized");
        if (is_text(r, "strategy", "block"))
            return refuse(r, "strategy", "\"tensor\" or \"channel\"");
        return ANEMO_OK;
    }
    if (present(r, "type") && !is_text(r, "type", "int"))
        return refuse(r, "type", "\"int\"");
    q->packing = strcmp(format, "pack-quantized") == 0 ? ANEMO_PACKING_PACKED : ANEMO_PACKING_INT8;
    ANEMO_TRY(read_bits(r, "num_bits", false, &q->bits));
    if (q->packing == ANEMO_PACKING_INT8 && q->bits != 8)
        return refuse(r, "num_bits", "8 in format int-quantized");
    if (is_text(r, "strategy", "group"))
        return read_group(r, &q->group);
    if (!is_text(r, "strategy", "channel") && !is_text(r, "strategy", "tensor"))
        return refuse(r, "strategy", "\"group\", \"channel\" or \"tensor\"");
    return ANEMO_OK;
}

static anemo_status parse_compressed(const reader *r, anemo_quantisation *q) {
    static const char *const formats[] = {"pack-quantized", "int-quantized", "float-quantized",
                                          "naive-quantized"};
    json_t *groups = json_object_get(r->object, "config_groups"), *group = NULL;
    const char *format = text_of(r, "format");
    bool known = false;
    for (size_t i = 0; i < sizeof formats / sizeof *formats; ++i)
        known |= strcmp(format, formats[i]) == 0;
    if (!known)
        return refuse(r, "format", "\"pack-quantized\", \"int-quantized\" or \"float-quantized\"");
    if (json_object_size(groups) == 1)
        group = json_object_iter_value(json_object_iter(groups));
    json_t *weights = json_object_get(group, "weights");
    if (!json_is_object(weights))
        return refuse(r, "config_groups", "one group, with an object `weights`");
    const reader inner = {r->path, weights, "quantization_config.config_groups.*.weights.", r->err};
    if (strcmp(format, "naive-quantized") == 0)
        format = is_text(&inner, "type", "float") ? "float-quantized" : "int-quantized";
    return parse_weights(&inner, format, q);
}

static anemo_status parse_method(const reader *r, anemo_quantisation *q) {
    if (is_text(r, "quant_method", "gptq"))
        return parse_gptq(r, q);
    if (is_text(r, "quant_method", "awq"))
        return parse_awq(r, q);
    if (is_text(r, "quant_method", "compressed-tensors"))
        return parse_compressed(r, q);
    if (is_text(r, "quant_method", "fp8"))
        return parse_fp8(r, q);
    if (is_text(r, "quant_method", "mxfp4")) {
        q->packing = ANEMO_PACKING_MXFP4;
        q->bits = 4;
        return ANEMO_OK;
    }
    return refuse(r, "quant_method",
                  "\"gptq\", \"awq\", \"compressed-tensors\", \"fp8\" or \"mxfp4\"");
}

anemo_status anemo_quantisation_parse(const char *path, const void *json, size_t bytes,
                                      anemo_quantisation *out, anemo_error *err) {
    memset(out, 0, sizeof *out);
    json_t *root = anemo_json_object(path, "", json, bytes, err);
    if (!root)
        return ANEMO_E_INPUT;
    json_t *object = json_object_get(root, "quantization_config");
    if (!object)
        object = json_object_get(json_object_get(root, "text_config"), "quantization_config");
    const reader r = {path, object, "quantization_config.", err};
    anemo_status status = ANEMO_OK;
    if (object && !json_is_null(object))
        status = json_is_object(object)
                     ? parse_method(&r, out)
                     : anemo_fail(err, ANEMO_E_INPUT,
                                  "%s: quantization_config is %s; accepted: an object or null",
                                  path, anemo_show_json(object).text);
    json_decref(root);
    return status;
}
