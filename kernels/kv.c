/* Sizes of paged KV memory. */
#include "kernels/internal.h"

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
