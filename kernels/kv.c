/* Types and sizes of paged KV memory. */
#include "kernels/internal.h"

#include <string.h>

static const char *const names[] = {
    [ANEMO_KV_F32] = "f32", [ANEMO_KV_F16] = "f16", [ANEMO_KV_BF16] = "bf16", [ANEMO_KV_Q8] = "q8"};

const char *anemo_kv_type_name(anemo_kv_type type) {
    return names[type];
}

bool anemo_kv_type_from_name(const char *name, anemo_kv_type *type) {
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strcmp(name, names[i]) == 0) {
            *type = (anemo_kv_type)i;
            return true;
        }
    }
    return false;
}

size_t anemo_kv_vector_bytes(anemo_kv_type type, int32_t head_dim) {
    const size_t d = (size_t)head_dim;
    switch (type) {
    case ANEMO_KV_F32:
        return 4 * d;
    case ANEMO_KV_F16:
    case ANEMO_KV_BF16:
        return 2 * d;
    case ANEMO_KV_Q8:
        return sizeof(float) + (d + 3) / 4 * 4;
    }
    return 0;
}

size_t anemo_kv_page_bytes(anemo_kv_type type, int32_t n_kv_heads, int32_t head_dim,
                           int32_t page_tokens) {
    return 2 * (size_t)n_kv_heads * (size_t)page_tokens * anemo_kv_vector_bytes(type, head_dim);
}
