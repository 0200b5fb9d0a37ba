#include "harness/measure/bench_kernel.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { UNIFORM = BENCH_ROUTING_UNIFORM, ZIPF = BENCH_ROUTING_ZIPF, SINGLE = BENCH_ROUTING_SINGLE };

static const bench_shape shapes[] = {
#define ANEMO_SHAPE_QGEMM(name, is_short, rows, k, n0, n1, n2, epilogue, what)                     \
    {ANEMO_OP_QGEMM, name, rows, what, is_short, {k, n0, n1, n2, epilogue}},
#define ANEMO_SHAPE_MOE(name, is_short, rows, d, ffn, experts, top_k, routing, what)               \
    {ANEMO_OP_MOE_EXPERTS, name, rows, what, is_short, {d, ffn, experts, top_k, routing}},
#define ANEMO_SHAPE_MOE_CLAMPED(name, rows, d, ffn, experts, top_k, what)                          \
    {ANEMO_OP_MOE_EXPERTS, name, rows, what, false, {d, ffn, experts, top_k, UNIFORM, 1}},
#define ANEMO_SHAPE_SWA(name, is_short, rows, heads, kv_heads, head_dim, window, context, decode,  \
                        kv, what)                                                                  \
    {ANEMO_OP_SWA, name,     rows,                                                                 \
     what,         is_short, {heads, kv_heads, head_dim, window, context, decode, kv}},
#include "harness/measure/shapes.inc"
#define ANEMO_SHAPE_DENSE(op, name, rows, what, ...)                                               \
    {ANEMO_OP_##op, name, rows, what, false, {__VA_ARGS__}},
#include "harness/measure/shapes_dense.inc"
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
    if (strcmp(name, "all") == 0) {
        return true;
    }
    return strncmp(shape->name, name, bytes) == 0 &&
           (shape->name[bytes] == '\0' || shape->name[bytes] == '/');
}

/* ---------------------------------------------------------------- shapes given as numbers */

enum { MOST_KEYS = 7 };
#define REQUIRED (-1)

/* Which numbers of bench_shape may be given, in the order in which names spell them. */
static const struct {
    anemo_op op;
    const char *rows;
    struct {
        const char *key;
        int at; /* in bench_shape.number */
        int64_t otherwise, least, most;
    } keys[MOST_KEYS];
} forms[] = {
    {ANEMO_OP_QGEMM,
     ANEMO_ROWS_BATCHES,
     {{"n", 1, REQUIRED, 1, 1 << 20}, {"k", 0, REQUIRED, 2, 1 << 20}}},
    {ANEMO_OP_MOE_EXPERTS,
     ANEMO_ROWS_BATCHES,
     {{"d", 0, REQUIRED, 2, 1 << 17},
      {"ffn", 1, REQUIRED, 2, 1 << 17},
      {"experts", 2, 8, 1, 64},
      {"top_k", 3, 2, 1, 64}}},
    {ANEMO_OP_SWA,
     "1",
     {{"heads", 0, REQUIRED, 1, 1024},
      {"kv_heads", 1, REQUIRED, 1, 1024},
      {"head_dim", 2, 128, 2, 256},
      {"window", 3, 0, 0, 1 << 24},
      {"context", 4, 0, 0, 1 << 20},
      {"decode", 5, 0, 0, 1}}},
};

static const char *const form_texts[] = {
    "n= and k=", "d=, ffn= and, if wanted, experts= (8), top_k= (2)",
    "heads=, kv_heads= and, if wanted, head_dim= (128), window=, context= (0: m), decode=1"};

/* "KEY=NUMBER" at *text, up to a comma or the end, which *text then stands behind. */
static bool next_number(const char **text, char *key, size_t key_bytes, int64_t *value) {
    const size_t bytes = strcspn(*text, "=,");
    char *end;
    if (bytes == 0 || bytes >= key_bytes || (*text)[bytes] != '=') {
        return false;
    }
    memcpy(key, *text, bytes);
    key[bytes] = '\0';
    errno = 0;
    const char *digits = *text + bytes + 1;
    *value = strtoll(digits, &end, 10);
    if (*digits < '0' || *digits > '9' || errno || (*end != '\0' && *end != ',')) {
        return false;
    }
    *text = *end == ',' ? end + 1 : end;
    return *end == '\0' || end[1] != '\0';
}

static bool consistent(const bench_shape *shape) {
    const int64_t *number = shape->number;
    switch (shape->op) {
    case ANEMO_OP_QGEMM: /* bench weights hold two codes in a byte */
        return number[0] % 2 == 0;
    case ANEMO_OP_MOE_EXPERTS:
        return number[0] % 2 == 0 && number[1] % 2 == 0 && number[3] <= number[2];
    default:
        return number[0] % number[1] == 0 && number[2] % 2 == 0;
    }
}

anemo_status anemo_shape_custom(anemo_op op, const char *text, anemo_custom_shape *out,
                                anemo_error *err) {
    const size_t n_forms = sizeof forms / sizeof *forms;
    size_t f = 0;
    while (f < n_forms && forms[f].op != op) {
        f++;
    }
    if (f == n_forms) {
        return anemo_fail(err, ANEMO_E_INPUT, "--shape %s: %s takes named shapes only", text,
                          anemo_op_name(op));
    }
    *out = (anemo_custom_shape){.shape = {.op = op, .what = "given on the command line"}};
    for (int i = 0; i < MOST_KEYS && forms[f].keys[i].key; i++) {
        out->shape.number[forms[f].keys[i].at] = forms[f].keys[i].otherwise;
    }
    if (op == ANEMO_OP_SWA) {
        out->shape.number[6] = ANEMO_KV_F16; /* as the named shapes */
    }
    bool good = text[0] != '\0';
    for (const char *at = text; good && *at;) {
        char key[16];
        int64_t value;
        good = next_number(&at, key, sizeof key, &value);
        bool known = good && strcmp(key, "m") == 0 && value >= 1 && value <= 65536;
        if (known) {
            snprintf(out->rows, sizeof out->rows, "%lld", (long long)value);
        }
        for (int i = 0; good && i < MOST_KEYS && forms[f].keys[i].key; i++) {
            if (strcmp(key, forms[f].keys[i].key) == 0) {
                known = value >= forms[f].keys[i].least && value <= forms[f].keys[i].most;
                out->shape.number[forms[f].keys[i].at] = value;
            }
        }
        good = good && known;
    }
    int length = 0;
    for (int i = 0; good && i < MOST_KEYS && forms[f].keys[i].key; i++) {
        const int64_t value = out->shape.number[forms[f].keys[i].at];
        good = value != REQUIRED;
        length += snprintf(out->name + length, sizeof out->name - (size_t)length, "%s%s=%lld",
                           length ? "," : "", forms[f].keys[i].key, (long long)value);
    }
    if (!good || !consistent(&out->shape)) {
        return anemo_fail(err, ANEMO_E_INPUT,
                          "--shape %s: expected numbers apart by commas, of %s: %s; m= if wanted; "
                          "widths even, kv_heads a divisor of heads, top_k at most experts",
                          text, anemo_op_name(op), form_texts[f]);
    }
    if (!out->rows[0]) {
        snprintf(out->rows, sizeof out->rows, "%s", forms[f].rows);
    }
    out->shape.name = out->name;
    out->shape.rows = out->rows;
    return ANEMO_OK;
}
