#include "harness/measure/bench_kernel.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { UNIFORM = BENCH_ROUTING_UNIFORM, ZIPF = BENCH_ROUTING_ZIPF, ONE = BENCH_ROUTING_ONE };

static const bench_shape shapes[] = {
#define ANEMO_SHAPE_QGEMM(name, is_short, rows, k, n0, n1, n2, epilogue, what)                     \
    {ANEMO_OP_QGEMM, name, rows, what, is_short, {k, n0, n1, n2, epilogue}},
#define ANEMO_SHAPE_MOE(name, is_short, rows, d, ffn, experts, top_k, routing, what)               \
    {ANEMO_OP_MOE_EXPERTS, name, rows, what, is_short, {d, ffn, experts, top_k, routing}},
#define ANEMO_SHAPE_SWA(name, is_short, rows, heads, kv_heads, head_dim, window, context, decode,  \
                        kv, what)                                                                  \
    {ANEMO_OP_SWA, name,     rows,                                                                 \
     what,         is_short, {heads, kv_heads, head_dim, window, context, decode, kv}},
#include "harness/measure/shapes.inc"
};

int32_t anemo_shape_count(void) {
    return (int32_t)(sizeof shapes / sizeof *shapes);
}

const bench_shape *anemo_shape_at(int32_t index) {
    return &shapes[index];
}

int32_t anemo_shape_rows(const char *text, int64_t *m, int32_t most) {
    int32_t n = 0;
    for (const char *at = text;; at++) {
        char *end;
        errno = 0;
        const long long value = strtoll(at, &end, 10);
        if (end == at || errno || value < 1 || value > 65536 || n == most) {
            return -1;
        }
        m[n++] = value;
        at = end;
        if (*at == '\0') {
            return n;
        }
        if (*at != ',') {
            return -1;
        }
    }
}

bool anemo_shape_matches(const bench_shape *shape, const char *name) {
    const size_t bytes = strlen(name);
    return strncmp(shape->name, name, bytes) == 0 &&
           (shape->name[bytes] == '\0' || shape->name[bytes] == '/');
}
