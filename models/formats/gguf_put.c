/* The parts of a GGUF header as bytes: numbers, strings, and keys with their values.
 * Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md */
#include "models/formats/convert.h"
#include "models/formats/gguf.h"

#include <stdio.h>

anemo_status anemo_gguf_put_number(anemo_conversion *c, uint64_t value, int bytes) {
    uint8_t little[8];
    for (int i = 0; i < 8; ++i)
        little[i] = (uint8_t)(value >> 8 * i);
    return anemo_conversion_put(c, little, (size_t)bytes);
}

anemo_status anemo_gguf_put_string(anemo_conversion *c, const char *text) {
    ANEMO_TRY(anemo_gguf_put_number(c, strlen(text), 8));
    return anemo_conversion_put(c, text, strlen(text));
}

/* ---------------------------------------------------------------- keys */

/* Key and type; false: no value is to follow. */
static bool begin(anemo_gguf_keys *keys, const char *key, uint32_t type) {
    char full[96];
    ++keys->n;
    if (!keys->c || keys->status != ANEMO_OK)
        return false;
    snprintf(full, sizeof full, "%s%s", key[0] == '.' ? keys->arch : "", key);
    keys->status = anemo_gguf_put_string(keys->c, full);
    if (keys->status == ANEMO_OK)
        keys->status = anemo_gguf_put_number(keys->c, type, 4);
    return keys->status == ANEMO_OK;
}

void anemo_gguf_key_u32(anemo_gguf_keys *keys, const char *key, int64_t value) {
    if (begin(keys, key, GGUF_U32))
        keys->status = anemo_gguf_put_number(keys->c, (uint64_t)value, 4);
}

void anemo_gguf_key_f32(anemo_gguf_keys *keys, const char *key, double value) {
    if (begin(keys, key, GGUF_F32))
        keys->status = anemo_gguf_put_number(keys->c, anemo_f32_bits((float)value), 4);
}

void anemo_gguf_key_bool(anemo_gguf_keys *keys, const char *key, bool value) {
    if (begin(keys, key, GGUF_BOOL))
        keys->status = anemo_gguf_put_number(keys->c, value, 1);
}

void anemo_gguf_key_text(anemo_gguf_keys *keys, const char *key, const char *value) {
    if (begin(keys, key, GGUF_STRING))
        keys->status = anemo_gguf_put_string(keys->c, value);
}

bool anemo_gguf_key_array(anemo_gguf_keys *keys, const char *key, uint32_t element, int64_t n) {
    if (!begin(keys, key, GGUF_ARRAY))
        return false;
    anemo_gguf_element(keys, element, 4);
    anemo_gguf_element(keys, (uint64_t)n, 8);
    return keys->status == ANEMO_OK;
}

void anemo_gguf_element(anemo_gguf_keys *keys, uint64_t value, int bytes) {
    if (keys->status == ANEMO_OK)
        keys->status = anemo_gguf_put_number(keys->c, value, bytes);
}

void anemo_gguf_element_text(anemo_gguf_keys *keys, const char *text, size_t bytes) {
    anemo_gguf_element(keys, bytes, 8);
    if (keys->status == ANEMO_OK)
        keys->status = anemo_conversion_put(keys->c, text, bytes);
}
